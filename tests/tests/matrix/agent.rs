//! The agent of a node: its files, its process, and the moment from which it serves.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::{Handle, Process, until};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::mode::Mode;

const MANIFESTS: &str = "/run/stentor/manifests";
const CONFIG: &str = "/run/stentor/config.yaml";
const STATE: &str = "/run/stentor/state";
const PINS: &str = "/sys/fs/bpf";
/// What the process says when it serves.
pub(crate) const READY: &str = "READY";
const LIMIT: Duration = Duration::from_mins(2);

pub(crate) struct Agent {
    process: Process,
    node: Handle,
    name: &'static str,
}

impl Agent {
    /// Starts it with nothing of an earlier one.
    pub(crate) fn begin(node: &Handle, name: &'static str, mode: Mode, objects: &str) -> Result<Self> {
        node.sh(&format!(
            "rm -rf {PINS}/v* {PINS}/stentor {STATE} {MANIFESTS}; mkdir -p {MANIFESTS}"
        ))?;
        let config: BTreeMap<&str, &str> = mode.config().into_iter().collect();
        fs::write(node.path(CONFIG), serde_json::to_string(&config)?)?;
        write(node, objects)?;
        Ok(Self {
            process: spawn(node, name)?,
            node: node.clone(),
            name,
        })
    }

    /// Puts other manifests in place of those before, at once.
    pub(crate) fn follow(&self, objects: &str) -> Result<()> {
        write(&self.node, objects)
    }

    /// SIGKILL: nothing is said, and nothing is cleaned up.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// As a service manager ends it.
    pub(crate) fn end(&mut self) -> Result<()> {
        self.process.signal(Signal::SIGTERM)?;
        self.process.wait(LIMIT)?;
        Ok(())
    }

    /// Starts it again over what is pinned.
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.process = spawn(&self.node, self.name)?;
        self.wait_until_ready()
    }

    /// Until everything that was written is in the maps.
    pub(crate) fn wait_until_ready(&mut self) -> Result<()> {
        let process = &mut self.process;
        until(LIMIT, "the agent to serve", || {
            if let Some(status) = process.status() {
                return Ok(Err(format!("ended with {status}: {}", process.log())));
            }
            let log = process.log();
            if log.contains(READY) { Ok(Ok(())) } else { Err(log) }
        })?
        .map_err(anyhow::Error::msg)
    }

    /// Numbers of the programs behind the pinned links.
    pub(crate) fn programs(&self) -> Result<BTreeSet<u64>> {
        let pins = self.node.sh(&format!(
            "ls -d {PINS}/stentor/v*/links/* {PINS}/v*/links/* 2>/dev/null || :"
        ))?;
        let mut programs = BTreeSet::new();
        for pin in pins.lines() {
            let text = self
                .node
                .exec(&["bpftool", "-j", "link", "show", "pinned", pin])?;
            let link: Value = serde_json::from_str(&text)?;
            programs.insert(
                link["prog_id"]
                    .as_u64()
                    .with_context(|| format!("{pin}: {text}"))?,
            );
        }
        ensure!(!programs.is_empty(), "links are pinned");
        Ok(programs)
    }

    pub(crate) fn log(&self) -> String {
        self.process.log()
    }
}

/// Whole or not at all.
fn write(node: &Handle, objects: &str) -> Result<()> {
    let place = node.path(&format!("{MANIFESTS}/objects.yaml"));
    let fresh = place.with_extension("new");
    fs::write(&fresh, objects)?;
    fs::rename(&fresh, &place).with_context(|| format!("write {}", place.display()))
}

fn spawn(node: &Handle, name: &str) -> Result<Process> {
    let own = std::env::current_exe()?;
    let own = own.to_str().context("the test's path is no text")?;
    Ok(node.spawn(&[own, crate::NODE, name, MANIFESTS, CONFIG])?)
}
