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
/// The line that tells this process to try the faults of the topology.
pub(crate) const FAULTS: &str = "faults";
/// The lines that tell `up` how that went.
pub(crate) const DONE: &str = "DONE";
pub(crate) const FAILED: &str = "FAILED";
/// The line that tells this process to outlive `up`.
pub(crate) const KEEP: &str = "keep";

/// Runs until its pipe closes without the word, or until it is killed. Namespaces end with this process, however it
/// ends; containers are removed here, or by `down`.
pub(crate) fn run(topology: &Path, manifests: &Path, agent: &Path, runner: Runner) -> Result<()> {
    let spec = Spec::read(topology, Some(manifests))?;
    let name = spec.topology.name.clone();
    let orders = listen(&name, runner);
    let watch = Watch::new(manifests)?;
    let mut lab = Lab::up(spec, runner, agent, &say)?;
    State::of(&lab, topology, agent, runner)?.write()?;
    say(READY);
    while !orders.end.load(Ordering::Relaxed) {
        if lab::watch::wait(&watch)? == News::Files {
            watch.take()?;
            // A file half written by an editor is no reason to end; the next event brings the whole one.
            if let Err(error) = lab.sync_manifests() {
                say(&format!("manifests: {error}"));
            }
        }
        if orders.faults.swap(false, Ordering::Relaxed) {
            try_faults(&mut lab, agent);
        }
        for name in lab.ended_agents() {
            say(&format!("agent on {name} ended; starting it again"));
            lab.start_agent(&name, agent)?;
        }
    }
    state::remove(&name);
    Ok(())
}

/// The same for a lab that is a real cluster: kubelets keep what runs on it, and who changes something asks its API server.
pub(crate) fn run_kubernetes(topology: &Path, manifests: &Path, agent: &Path, runner: Runner) -> Result<()> {
    let spec = Spec::read(topology, Some(manifests))?;
    let name = spec.topology.name.clone();
    let orders = listen(&name, runner);
    let lab = super::kubernetes::up(spec, &say)?;
    State::of(&lab, topology, agent, runner)?.write()?;
    say(READY);
    while !orders.end.load(Ordering::Relaxed) {
        thread::park();
    }
    state::remove(&name);
    Ok(())
}

/// From now on `up` is listened to.
fn listen(name: &str, runner: Runner) -> Arc<Orders> {
    let orders = Arc::new(Orders::default());
    thread::spawn({
        let (name, orders) = (name.to_owned(), Arc::clone(&orders));
        move || hold_leash(&name, runner, &orders)
    });
    orders
}

/// Says a line for each thing that clients must not have noticed, and how it went.
fn try_faults(lab: &mut Lab, agent: &Path) {
    let expectations = lab.spec().expectations.clone();
    let Some((faults, expectations)) = expectations
        .as_ref()
        .and_then(|all| Some((all.faults.as_ref()?, all)))
    else {
        return say(DONE);
    };
    match lab::faults::run(lab, faults, expectations, agent, super::PATIENCE, &say) {
        Ok(wrong) if wrong.is_empty() => say(DONE),
        Ok(wrong) => {
            wrong.iter().for_each(|line| say(line));
            say(FAILED);
        }
        Err(error) => {
            say(&error.to_string());
            say(FAILED);
        }
    }
}

/// What `up` asked for.
#[derive(Debug, Default)]
struct Orders {
    end: AtomicBool,
    faults: AtomicBool,
}

/// Ends this process when `up` goes away before it said the last word. Nobody waits for this thread: it ends with the word
/// or with the process.
fn hold_leash(name: &str, runner: Runner, orders: &Orders) {
    let mut line = String::new();
    while io::stdin().read_line(&mut line).is_ok_and(|length| length > 0) {
        match line.trim() {
            KEEP => return,
            FAULTS => orders.faults.store(true, Ordering::Relaxed),
            _ => break,
        }
        line.clear();
    }
    match runner {
        // Whatever else is being done here.
        Runner::Namespaces => {
            state::remove(name);
            std::process::exit(1);
        }
        // Containers that are being made must be removed when they are made.
        Runner::Containerlab(_) => orders.end.store(true, Ordering::Relaxed),
    }
}

/// Tells `up`, if it still listens.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}
