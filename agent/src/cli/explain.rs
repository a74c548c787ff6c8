//! `stentor explain`: the agent says how far the address comes on its way to the routers, the maps say whether it is served.

use std::fmt::Write as _;
use std::net::IpAddr;

use ebpf_abi::model::Model;
use ebpf_abi::service::flag;
use ebpf_loader::tables::Pins;
use ebpf_loader::{Error, Pinned};

use super::args::ExplainCommand;
use super::client::{self, Endpoint};
use super::commands::{Done, Exit, escape, print_one};
use super::lb::look::{self, Look};
use super::lb::rows;
use crate::api::explain::{Answer, Explanation};
use crate::api::view::Why;

pub(super) fn run(command: &ExplainCommand) -> Done {
    let (question, how) = match command {
        ExplainCommand::Vip { address, how } => (format!("address={}", escape(&address.to_string())), how),
        ExplainCommand::Svc { name, how } => (format!("service={}", escape(name)), how),
    };
    let endpoint = Endpoint::Unix(how.at.socket.clone());
    let path = format!("/v1/stentor/explain?{question}");
    let mut said: Vec<Explanation> = client::get(&endpoint, &path)?.json(&endpoint)?;
    let looked = look::pinned(&how.maps).and_then(|pinned: Pinned| Look::read(&pinned, &how.at));
    for one in &mut said {
        entries(one, &looked);
    }
    print_one(&said, how.output, |said| said.iter().map(text).collect())?;
    Ok(if said.iter().any(|one| one.no.is_some()) {
        Exit::Problems
    } else {
        Exit::Good
    })
}

/// The last step: whether the kernel of this node serves the address.
pub fn entries(said: &mut Explanation, looked: &Result<Look, Error>) {
    let Some(address) = said.address.as_ref().and_then(|text| text.parse().ok()) else {
        return;
    };
    match looked {
        Err(Error::NotPinned { .. }) => said.note(
            "kernel",
            "no load balancer of ours: whoever proxies here serves it",
        ),
        Err(error) => said.note("kernel", format!("its maps can not be read: {error}")),
        Ok(look) => match address {
            IpAddr::V4(_) => entry(said, &look.v4, address),
            IpAddr::V6(_) => entry(said, &look.v6, address),
        },
    }
}

fn entry<A: Pins>(said: &mut Explanation, model: &Model<A>, address: IpAddr) {
    let mut ports = 0;
    let mut without = Vec::new();
    for (key, frontend) in &model.frontends {
        if key.address.ip() != address || frontend.flags & flag::WILDCARD != 0 {
            continue;
        }
        ports += 1;
        if rows::members(model, frontend.set).0.is_empty() {
            without.push(u16::from_be(key.port).to_string());
        }
    }
    if ports == 0 {
        let why = Why {
            reason: "not-in-maps".to_owned(),
            message: format!(
                "the maps of this node have no entry for {address}: packets for it are not balanced"
            ),
        };
        said.no("kernel", why);
    } else if without.is_empty() {
        said.yes(
            "kernel",
            format!(
                "{ports} {}, each with a backend",
                if ports == 1 { "entry" } else { "entries" }
            ),
        );
    } else {
        let list = without.join(", ");
        said.note(
            "kernel",
            format!("{ports} entries; without a backend for clients from outside: port {list}"),
        );
    }
}

/// A line for each step, and the cause.
#[must_use]
pub fn text(said: &Explanation) -> String {
    let mut text = match &said.address {
        Some(address) => format!("{address} {}", said.service),
        None => said.service.clone(),
    };
    text = text.trim_end().to_owned() + "\n";
    for step in &said.steps {
        let mark = match step.answer {
            Answer::Yes => "yes ",
            Answer::No => "NO  ",
            Answer::Note => "    ",
        };
        let _ = writeln!(text, "  {mark} {}: {}", step.step, step.text);
    }
    match &said.no {
        None => text.push_str("It is announced, as far as this node can tell.\n"),
        Some(no) => {
            let _ = writeln!(text, "First no: {} [{}]", no.why.message, no.why.reason);
            let _ = writeln!(text, "To change it: {}", no.remedy);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unselected() -> Explanation {
        let mut said = Explanation {
            service: "web/front".into(),
            address: Some("192.0.2.1".into()),
            steps: Vec::new(),
            no: None,
        };
        said.yes("service", "web/front is known to this node");
        said.no(
            "advertisement",
            Why {
                reason: "no-peers".into(),
                message: "this node has no BGP peer".into(),
            },
        );
        said
    }

    #[test]
    fn an_address_the_maps_do_not_have_is_a_no() {
        let mut said = unselected();
        said.no = None;
        entries(&mut said, &Ok(Look::default()));
        let no = said.no.expect("a no");
        assert_eq!(
            (no.step.as_str(), no.why.reason.as_str()),
            ("kernel", "not-in-maps")
        );
    }

    #[test]
    fn the_first_no_stands_at_the_end_with_its_remedy() {
        let mut said = unselected();
        entries(&mut said, &Ok(Look::default()));
        assert_eq!(
            text(&said),
            "192.0.2.1 web/front\n  \
               yes  service: web/front is known to this node\n  \
               NO   advertisement: this node has no BGP peer\n  \
               NO   kernel: the maps of this node have no entry for 192.0.2.1: packets for it are not balanced\n\
             First no: this node has no BGP peer [no-peers]\n\
             To change it: make a CiliumBGPClusterConfig whose nodeSelector matches this node, with a peer\n"
        );
    }
}
