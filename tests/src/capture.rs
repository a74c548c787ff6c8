//! What went over a node's wire: tcpdump writes it, tshark judges it.

use std::env;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lab::{Netns, Process, until};
use nix::sys::signal::Signal;

/// Set in the environment, it makes captures stay where nothing was found.
const KEEP: &str = "STENTOR_KEEP_CAPTURES";

const LIMIT: Duration = Duration::from_mins(1);

/// A capture of BGP, on one interface of a node. Dropping it ends tcpdump and keeps the file.
#[derive(Debug)]
pub struct Capture {
    tcpdump: Process,
    file: PathBuf,
}

impl Capture {
    /// Starts to capture and returns when tcpdump listens.
    ///
    /// # Errors
    /// tcpdump can't be started.
    pub fn start(node: &Netns, interface: &str, file: PathBuf) -> Result<Self> {
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        let name = file.to_str().context("the path of the capture is no text")?;
        let tcpdump = node.spawn(&[
            "tcpdump",
            "--immediate-mode",
            "-U",
            "-Z",
            "root",
            "-i",
            interface,
            "-w",
            name,
            "tcp port 179",
        ])?;
        until(LIMIT, "tcpdump to listen", || {
            let log = tcpdump.log();
            match log.contains("listening on") {
                true => Ok(()),
                false => Err(log),
            }
        })?;
        Ok(Self { tcpdump, file })
    }

    /// How many packets so far a display filter of tshark picks.
    ///
    /// # Errors
    /// tshark does not know the filter.
    pub fn count(&self, filter: &str) -> Result<usize> {
        Ok(tshark(&self.file, filter, &[])?.lines().count())
    }

    /// Fields, by tshark's names, of each packet so far that a display filter of tshark picks. Of a field that a packet
    /// has more than once: the values with commas between.
    ///
    /// # Errors
    /// tshark does not know the filter or a field.
    pub fn fields(&self, filter: &str, names: &[&str]) -> Result<Vec<Vec<String>>> {
        let text = tshark(&self.file, filter, names)?;
        let row = |line: &str| line.split('\t').map(str::to_owned).collect();
        Ok(text.lines().map(row).collect())
    }

    /// Ends the capture and asserts that nothing `speaker` sent is malformed in tshark's eyes.
    ///
    /// # Errors
    /// Something is; the error carries tshark's lines.
    pub fn judge(mut self, speaker: IpAddr) -> Result<()> {
        self.tcpdump.signal(Signal::SIGINT)?;
        self.tcpdump.wait(LIMIT)?;
        let from = match speaker {
            IpAddr::V4(address) => format!("ip.src == {address}"),
            IpAddr::V6(address) => format!("ipv6.src == {address}"),
        };
        let bad = format!(
            "bgp && {from} && (_ws.malformed || _ws.expert.severity == \"Error\" || _ws.unreassembled)"
        );
        let lines = tshark(&self.file, &bad, &[])?;
        if !lines.is_empty() {
            bail!("malformed in {}:\n{lines}", self.file.display());
        }
        if env::var_os(KEEP).is_none() {
            fs::remove_file(&self.file)?;
        }
        Ok(())
    }
}

/// Without fields: a line of its own choice for each packet.
fn tshark(file: &Path, filter: &str, fields: &[&str]) -> Result<String> {
    let mut command = Command::new("tshark");
    if !fields.is_empty() {
        command.args(["-T", "fields"]);
    }
    for field in fields {
        command.args(["-e", field]);
    }
    let output = command
        .args(["-n", "-r"])
        .arg(file)
        .args(["-d", "tcp.port==179,bgp", "-Y", filter])
        .args(["-o", "tcp.desegment_tcp_streams:TRUE", "-o", "bgp.desegment:TRUE"])
        .output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    // A file that is still being written may end in the middle of a packet.
    let cut_short = complaint.contains("cut short");
    if !output.status.success() && !cut_short {
        bail!("tshark: {complaint}");
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
