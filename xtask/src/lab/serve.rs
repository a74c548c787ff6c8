//! The process that owns a lab: it keeps the agents running and their manifests fresh.

use std::io::{self, Write};
use std::path::Path;
use std::thread;

use anyhow::Result;
use lab::watch::{News, Watch};
use lab::{Lab, Spec};

use super::state::{self, State};

/// The line that tells `up` that all is started.
pub(crate) const READY: &str = "READY";
/// The line that tells this process to outlive `up`.
pub(crate) const KEEP: &str = "keep";

/// Runs until its pipe closes without the word, or until it is killed. The namespaces end with this process,
/// however it ends.
pub(crate) fn run(topology: &Path, manifests: &Path, agent: &Path) -> Result<()> {
    let spec = Spec::read(topology, Some(manifests))?;
    let name = spec.topology.name.clone();
    thread::spawn(move || hold_leash(&name));
    let watch = Watch::new(manifests)?;
    let mut lab = Lab::up(spec, agent, &say)?;
    State::of(&lab, topology, agent)?.write()?;
    say(READY);
    loop {
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
}

/// Ends this process when `up` goes away before it said the word, whatever else is being done here. Nobody
/// waits for this thread: it ends with the word or with the process.
fn hold_leash(name: &str) {
    let mut line = String::new();
    if io::stdin().read_line(&mut line).is_err() || line.trim() != KEEP {
        state::remove(name);
        std::process::exit(1);
    }
}

/// Tells `up`, if it still listens.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}
