//! What `lab up` shows: each node's peers and routes, and each router's own view.

use anyhow::Result;
use lab::running::SOCKET;
use lab::{Spec, frr};

use super::state::State;

pub(crate) fn print(spec: &Spec, state: &State) -> Result<()> {
    let handles = state.handles();
    let agent = state.agent().to_string_lossy();
    for name in spec.cluster_nodes() {
        let Some(node) = handles.get(&name) else { continue };
        for question in [["bgp", "peers"], ["bgp", "routes"]] {
            println!("\n## {name}: stentor {}", question.join(" "));
            let [noun, list] = question;
            match node.exec(&[&agent, noun, list, "--socket", SOCKET]) {
                Ok(text) => print!("{text}"),
                Err(error) => println!("{error}"),
            }
        }
    }
    for name in spec.routers() {
        let Some(node) = handles.get(&name) else { continue };
        println!("\n## {name}\n{}", frr::view(node)?);
    }
    Ok(())
}
