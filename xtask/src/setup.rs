//! `cargo xtask setup`: brings a machine to where everything else works.
//!
//! A part is one file with one table: what is needed, why, how to see that it is there, how it comes. Setting up for a
//! goal takes the parts of that goal: first all Debian packages in one go, then what is made, in the table's order.
//!
//! ```text
//!   goal              parts            file
//!   lab up, test  --> lab              setup/lab.rs
//!   test, setup   --> lab, test        setup/test.rs
//!                     ebpf             setup/ebpf.rs
//!                     kubernetes       setup/kubernetes.rs
//!                     nodes            setup/nodes.rs
//!                     conformance      setup/conformance.rs
//!   lab up --kubernetes   all but test and conformance
//!   conformance           all but test
//!   manifests, test   go, chart        setup/go.rs, setup/chart.rs
//! ```

mod chart;
pub(crate) mod conformance;
mod debian;
mod ebpf;
pub(crate) mod go;
mod kubernetes;
mod lab;
pub(crate) mod nodes;
mod test;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::step;

/// What the machine is set up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Goal {
    /// Building the agent and running labs.
    Lab,
    /// The same, and building the kernel programs: for labs whose nodes balance.
    Balance,
    /// The same, and a real Kubernetes cluster: for labs with kubelets.
    Kubernetes,
    /// The same, and Kubernetes' own end-to-end tests.
    Conformance,
    /// Rendering the Helm chart.
    Chart,
    /// Everything: all of the above, and all that `cargo xtask test` runs.
    Test,
}

impl Goal {
    fn parts(self) -> Vec<Part> {
        /// A cluster with Stentor in it.
        const CLUSTER: [Part; 5] = [ebpf::PART, go::PART, kubernetes::PART, nodes::PART, chart::PART];
        match self {
            Self::Lab => vec![lab::PART],
            Self::Balance => vec![lab::PART, ebpf::PART],
            Self::Kubernetes => [&[lab::PART], &CLUSTER[..]].concat(),
            Self::Conformance => [&[lab::PART], &CLUSTER[..], &[conformance::PART]].concat(),
            Self::Chart => vec![go::PART, chart::PART],
            Self::Test => [&[lab::PART, test::PART], &CLUSTER[..], &[conformance::PART]].concat(),
        }
    }
}

/// Things that are needed for the same reason.
#[derive(Clone, Copy, Debug)]
struct Part {
    name: &'static str,
    needs: &'static [Need],
}

/// One thing that has to be on the machine.
#[derive(Debug)]
struct Need {
    what: &'static str,
    why: &'static str,
    found: Found,
    from: From,
}

/// How to see that it is there.
#[derive(Clone, Copy, Debug)]
enum Found {
    /// A program on the path, or a file by its whole path.
    At(&'static str),
    /// A function that looks.
    Asked(fn() -> bool),
}

/// How it comes.
#[derive(Clone, Copy, Debug)]
enum From {
    /// The Debian package `what`.
    Debian,
    /// The Debian package `what`, and the unit of the daemon it brings, which must not run.
    DebianDaemon { unit: &'static str },
    /// A function that makes it. It may use what the packages bring and what stands above it in the table.
    Made(fn() -> Result<()>),
    /// The same. Where it fails, whatever needs it is skipped and says so.
    Tried(fn() -> Result<()>),
}

/// Installs what is missing for a goal; says what is there, what is missing, what it does. Changes nothing the second
/// time.
pub(crate) fn run(goal: Goal) -> Result<()> {
    let mut missing = Vec::new();
    for part in goal.parts() {
        let (there, absent): (Vec<&Need>, Vec<&Need>) = part.needs.iter().partition(|need| need.is_there());
        let names: Vec<&str> = there.iter().map(|need| need.what).collect();
        if !names.is_empty() {
            println!("setup: {}: present: {}", part.name, names.join(" "));
        }
        for need in absent {
            println!("setup: {}: missing: {} ({})", part.name, need.what, need.why);
            missing.push(need);
        }
    }
    debian::install(&missing)?;
    for need in &missing {
        let start = Instant::now();
        match need.from {
            From::Debian | From::DebianDaemon { .. } => {}
            From::Made(make) => make().with_context(|| format!("make {}", need.what))?,
            From::Tried(make) => {
                if let Err(error) = make() {
                    println!("setup: note: no {}: {error:#}", need.what);
                    continue;
                }
            }
        }
        if let From::Made(_) | From::Tried(_) = need.from {
            println!("setup: {} took {}", need.what, step::seconds(start));
        }
        if !need.is_there() {
            anyhow::bail!("{} was installed but is still not there", need.what);
        }
    }
    if !is_root() {
        println!("setup: note: labs and interop tests need root");
    }
    println!("setup: done");
    Ok(())
}

impl Need {
    fn is_there(&self) -> bool {
        match self.found {
            Found::At(place) => step::find(place).is_some(),
            Found::Asked(ask) => ask(),
        }
    }
}

/// A Debian package and one program or file of it.
const fn package(what: &'static str, at: &'static str, why: &'static str) -> Need {
    Need {
        what,
        why,
        found: Found::At(at),
        from: From::Debian,
    }
}

/// The same for a package that brings a daemon.
const fn daemon(what: &'static str, at: &'static str, unit: &'static str, why: &'static str) -> Need {
    Need {
        what,
        why,
        found: Found::At(at),
        from: From::DebianDaemon { unit },
    }
}

/// A program from the registry, just good enough: release profiles of their own ask for fat link-time optimisation, which
/// is minutes more for programs that run a second.
fn cargo_install() -> Command {
    let mut cargo = step::cargo();
    cargo
        .args(["install", "--quiet", "--locked"])
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1");
    cargo
}

pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn names(goal: Goal) -> Vec<&'static str> {
        let needs = goal.parts().into_iter().flat_map(|part| part.needs);
        needs.map(|need| need.what).collect()
    }

    #[test]
    fn a_lab_needs_nothing_that_takes_minutes() {
        let needs = Goal::Lab.parts().into_iter().flat_map(|part| part.needs);
        for need in needs {
            let made = matches!(need.from, From::Made(_) | From::Tried(_));
            assert!(!made, "{} is made", need.what);
        }
    }

    #[test]
    fn whoever_can_test_can_run_labs() {
        let test = names(Goal::Test);
        assert!(names(Goal::Lab).iter().all(|need| test.contains(need)));
    }

    #[test]
    fn nothing_is_listed_twice() {
        let all = names(Goal::Test);
        let once: BTreeSet<_> = all.iter().collect();
        assert_eq!(all.len(), once.len());
    }
}
