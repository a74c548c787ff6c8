//! A cluster under test, from outside: its API server, and our programs as processes beside it.

mod agent;
mod api;
mod clock;
mod operator;

pub use agent::Agent;
pub use api::{Api, Verdict, documents, values};
pub use clock::Clock;
pub use operator::Operator;

use std::collections::BTreeSet;
use std::fs;
use std::process::Child;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A watch that was refused for a while waits for up to a minute before it asks again.
pub const LIMIT: Duration = Duration::from_secs(150);

/// Asks a process to end, and waits until it has.
fn ends_well(child: &mut Child, what: &str) -> Result<()> {
    kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGTERM)?;
    let ended = lab::until(LIMIT, format!("{what} to end"), || match child.try_wait() {
        Ok(Some(status)) => Ok(status),
        Ok(None) => Err("it runs".to_owned()),
        Err(error) => Err(error.to_string()),
    })?;
    ensure!(ended.success(), "{what} ended with {ended}");
    Ok(())
}

/// How many TCP connections a process has to a server on loopback.
///
/// # Errors
/// The process is gone, or the URL names no port.
pub fn connections(pid: u32, url: &str) -> Result<usize> {
    let port: u16 = url.rsplit(':').next().context("no port")?.parse()?;
    let remote = format!(":{port:04X}");
    let own: BTreeSet<String> = fs::read_dir(format!("/proc/{pid}/fd"))?
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|target| {
            let inode = target.to_str()?.strip_prefix("socket:[")?;
            Some(inode.strip_suffix(']')?.to_owned())
        })
        .collect();
    // Address and port of the other end, in hexadecimal, are the third column; the inode is the tenth.
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp"))?;
    let to_server = table.lines().filter(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        columns.get(2).is_some_and(|end| end.ends_with(&remote))
            && columns.get(9).is_some_and(|inode| own.contains(*inode))
    });
    Ok(to_server.count())
}
