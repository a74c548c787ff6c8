//! The process that owns a lab: it keeps the agents running and their manifests fresh.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::Result;
use lab::watch::{News, Watch};
use lab::{Lab, Runner, Spec};

use super::state::{self, State};

/// The line that tells `up` that all is started.
pub(crate) const READY: &str = "READY";
/// The line that tells this process to outlive `up`.
pub(crate) const KEEP: &str = "keep";

/// Runs until its pipe closes without the word, or until it is killed. Namespaces end with this process, however it
/// ends; containers are removed here, or by `down`.
pub(crate) fn run(topology: &Path, manifests: &Path, agent: &Path, runner: Runner) -> Result<()> {
    let spec = Spec::read(topology, Some(manifests))?;
    let name = spec.topology.name.clone();
    let is_given_up = Arc::new(AtomicBool::new(false));
    thread::spawn({
        let (name, is_given_up) = (name.clone(), Arc::clone(&is_given_up));
        move || hold_leash(&name, runner, &is_given_up)
    });
    let watch = Watch::new(manifests)?;
    let mut lab = Lab::up(spec, runner, agent, &say)?;
    State::of(&lab, topology, agent, runner)?.write()?;
    say(READY);
    while !is_given_up.load(Ordering::Relaxed) {
        if lab::watch::wait(&watch)? == News::Files {
            watch.take()?;
            // A file half written by an editor is no reason to end; the next event brings the whole one.
            if let Err(error) = lab.sync_manifests() {
                say(&format!("manifests: {error}"));
            }
        }
        for name in lab.ended_agents() {
            say(&format!("agent on {name} ended; starting it again"));
            lab.start_agent(&name, agent)?;
        }
    }
    state::remove(&name);
    Ok(())
}

/// Ends this process when `up` goes away before it said the word. Nobody waits for this thread: it ends with the word
/// or with the process.
fn hold_leash(name: &str, runner: Runner, is_given_up: &AtomicBool) {
    let mut line = String::new();
    if io::stdin().read_line(&mut line).is_ok() && line.trim() == KEEP {
        return;
    }
    match runner {
        // Whatever else is being done here.
        Runner::Namespaces => {
            state::remove(name);
            std::process::exit(1);
        }
        // Containers that are being made must be removed when they are made.
        Runner::Containerlab(_) => is_given_up.store(true, Ordering::Relaxed),
    }
}

/// Tells `up`, if it still listens.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}
