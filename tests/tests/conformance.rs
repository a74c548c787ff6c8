//! Cilium's own BGP scripts (`bgp/*.txtar` of the conformance data), read in place, played twice: once against
//! the planner alone, with a model of the router, and once with a real agent and real GoBGP daemons.
//!
//! Their data is not part of this repository: `STENTOR_CONFORMANCE` says where it is, else `../shared/conformance`
//! beside the repository. Without it only our own scripts in `conformance/` are played, and the tests say so.

#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

#[path = "conformance/live.rs"]
mod live;
#[path = "conformance/model.rs"]
mod model;
#[path = "conformance/script.rs"]
mod script;
#[path = "conformance/table.rs"]
mod table;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use script::{Script, Stage, play};
use stentor_tests::txtar::Archive;

#[test]
fn planner_announces_what_the_scripts_expect() {
    each("planner", |script| Ok(Box::new(model::Model::new(script)?)));
}

#[test]
fn agent_and_gobgp_come_to_what_the_scripts_expect() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: network namespaces need root");
        return;
    }
    each("agent", |script| Ok(Box::new(live::Live::new(script)?)));
}

/// Plays every script there is; says all that failed, not only the first.
fn each(what: &str, stage: impl Fn(&Script) -> anyhow::Result<Box<dyn Stage>>) {
    let only = std::env::var("ONLY").unwrap_or_default();
    let mut failed = Vec::new();
    for path in folders().iter().flat_map(|folder| scripts(folder).unwrap()) {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if !name.contains(&only) {
            continue;
        }
        let played = std::fs::read_to_string(&path)
            .context("reading it")
            .and_then(|text| Script::parse(&Archive::parse(&text)))
            .and_then(|script| play(&script, &mut *stage(&script)?));
        match played {
            Ok(compared) => eprintln!("{what} {name}: {compared} tables as expected"),
            Err(error) => failed.push(format!("{name}: {error:#}")),
        }
    }
    assert!(failed.is_empty(), "{what}:\n{}", failed.join("\n\n"));
}

/// Ours, and Cilium's where they are.
fn folders() -> Vec<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let beside = here.join("../../shared/conformance");
    let theirs = std::env::var_os("STENTOR_CONFORMANCE")
        .map_or(beside, PathBuf::from)
        .join("bgp");
    let mut folders = vec![here.join("conformance")];
    if theirs.is_dir() {
        folders.push(theirs);
    } else {
        eprintln!(
            "Cilium's scripts are skipped: {} is not there; set STENTOR_CONFORMANCE",
            theirs.display()
        );
    }
    folders
}

fn scripts(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)?
        .map(|e| e.map(|e| e.path()))
        .collect::<Result<_, _>>()?;
    paths.retain(|path| path.extension().is_some_and(|e| e == "txtar"));
    paths.sort();
    Ok(paths)
}
