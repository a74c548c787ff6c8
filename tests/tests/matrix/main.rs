//! Real traffic through real programs: clients, a router, two nodes with pods, and every way to a service. Needs root, and
//! the programs that `cargo xtask build` makes.
//!
//! ```text
//!   bed      the namespaces, and a program in each (worker) that serves and asks; on nodes also the agent
//!   plan     the services: one for each place of a backend and each traffic policy
//!   cells    who asks whom, and what must come of it
//!   matrix   all of that in one mode, a test each; table says what was run
//!   stage    services with several pods, and clients that ask without a pause
//!   faults   what goes wrong meanwhile
//! ```
//!
//! Nothing here waits for time to pass: what must come has one long deadline, and what must not come is looked for after
//! everything else has come.

mod agent;
mod bed;
mod build;
mod cells;
mod faults;
mod load;
mod matrix;
mod mode;
mod plan;
mod reversed;
mod stage;
mod table;
mod words;
mod worker;

use std::env;
use std::process::ExitCode;

use anyhow::Result;
use libtest_mimic::{Arguments, Trial};

use crate::mode::{Forwarding, Hook, Mode};

/// First word of a command line that is not a test's.
const WORKER: &str = "worker";

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    if words.first().is_some_and(|first| first == WORKER) {
        return ended(worker::run());
    }
    let mut arguments = Arguments::from_args();
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: network namespaces and kernel programs need root\n0 passed, 0 failed, 1 skipped");
        return ExitCode::SUCCESS;
    }
    arguments.test_threads = arguments.test_threads.or(Some(1));
    let mut trials = Vec::new();
    for mode in Mode::all() {
        trials.push(trial(format!("matrix::{}", mode.name()), move || {
            matrix::run(mode)
        }));
    }
    for (name, work) in faults::all() {
        let mode = Mode {
            forwarding: Forwarding::Snat,
            hook: Hook::Tc,
        };
        trials.push(trial(format!("faults::{name}"), move || work(mode)));
    }
    let listing = arguments.list;
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !listing {
        println!("\n{}", table::render());
    }
    conclusion.exit_code()
}

fn trial(name: String, work: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    Trial::test(name, move || work().map_err(|error| format!("{error:#}").into()))
}

fn ended(done: Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
