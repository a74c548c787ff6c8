//! The process that owns a lab: it keeps the agents running and their manifests fresh.

use std::io::{self, BufRead, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use lab::watch::Watch;
use lab::{Lab, Spec};

use super::state::State;

/// The line that tells `up` that all is started.
pub(crate) const READY: &str = "READY";
/// The line that tells this process to outlive `up`.
pub(crate) const KEEP: &str = "keep";

/// Runs until its pipe closes without the word, or until it is killed. The namespaces end with this process,
/// however it ends.
pub(crate) fn run(topology: &Path, manifests: &Path, agent: &Path) -> Result<()> {
    let spec = Spec::read(topology, Some(manifests))?;
    let watch = Watch::new(manifests)?;
    let mut lab = Lab::up(spec, agent, &say)?;
    let state = State::of(&lab, topology, agent)?;
    state.write()?;
    say(READY);
    let ended = keep(&mut lab, &watch, agent);
    state.forget();
    ended
}

fn keep(lab: &mut Lab, watch: &Watch, agent: &Path) -> Result<()> {
    let stdin = io::stdin();
    let mut is_leashed = true;
    loop {
        let news = lab::watch::wait(is_leashed.then(|| stdin.as_fd()), watch)?;
        if news.leash {
            let mut line = String::new();
            stdin.lock().read_line(&mut line)?;
            if line.trim() != KEEP {
                return Ok(());
            }
            KEPT.store(true, Ordering::Relaxed);
            is_leashed = false;
        }
        if news.files {
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

/// Set when this process is to outlive `up`.
static KEPT: AtomicBool = AtomicBool::new(false);

/// Tells `up`. One that has gone before all was started takes this process with it.
fn say(line: &str) {
    if writeln!(io::stdout(), "{line}").is_err() && !KEPT.load(Ordering::Relaxed) {
        std::process::exit(1);
    }
}
