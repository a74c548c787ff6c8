//! The agent of a node: its files, its process, and the moment from which it serves.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ebpf_abi::service::{Backend, Frontend, FrontendKey};
use ebpf_abi::{V4, V6, maps};
use ebpf_loader::Pinned;
use lab::hooks::modes;
use lab::{Handle, Process, until};
use nix::sys::signal::Signal;
use serde_json::Value;
use stentor::cli::client::{self, Endpoint};

use crate::mode::Config;

const MANIFESTS: &str = "/run/stentor/manifests";
const CONFIG: &str = "/run/stentor/config.yaml";
const STATE: &str = "/run/stentor/state";
const SOCKET: &str = "/run/stentor/agent.sock";
/// Each node has a BPF file system of its own.
const PINS: &str = "/sys/fs/bpf";
const OURS: &str = "/sys/fs/bpf/stentor";
const LIMIT: Duration = Duration::from_mins(2);

pub(crate) struct Agent {
    process: Process,
    node: Handle,
    name: &'static str,
    program: PathBuf,
}

impl Agent {
    /// Starts it with nothing of an earlier one.
    pub(crate) fn begin(node: &Handle, name: &'static str, config: &Config, objects: &str) -> Result<Self> {
        node.sh(&format!(
            "rm -rf {OURS} {STATE} {MANIFESTS}; mkdir -p {MANIFESTS}"
        ))?;
        fs::write(node.path(CONFIG), serde_json::to_string(config)?)?;
        write(node, objects)?;
        let program = program()?;
        Ok(Self {
            process: spawn(node, name, &program)?,
            node: node.clone(),
            name,
            program,
        })
    }

    /// Puts other manifests in place of those before, at once. They are looked at without waiting for more news.
    pub(crate) fn follow(&mut self, objects: &str) -> Result<()> {
        write(&self.node, objects)?;
        Ok(self.process.signal(Signal::SIGHUP)?)
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
        self.process = spawn(&self.node, self.name, &self.program)?;
        self.wait_until_ready()
    }

    /// From the next start on, another program.
    pub(crate) fn upgrade(&mut self, program: PathBuf) {
        self.program = program;
    }

    /// Until it has written everything that it read at its start, and its programs hang where they should.
    pub(crate) fn wait_until_ready(&mut self) -> Result<()> {
        let process = &mut self.process;
        let node = &self.node;
        until(LIMIT, "the agent to serve", || {
            if let Some(status) = process.status() {
                return Ok(Err(format!("ended with {status}: {}", process.log())));
            }
            match ask(node, "status") {
                Ok(status) if is_ready(&status) => Ok(Ok(())),
                Ok(status) => Err(format!("{status:#}\n{}", process.log())),
                Err(error) => Err(format!("{error:#}\n{}", process.log())),
            }
        })?
        .map_err(anyhow::Error::msg)
    }

    /// An answer of its API.
    pub(crate) fn ask(&self, what: &str) -> Result<Value> {
        ask(&self.node, what)
    }

    /// What the command prints as JSON, of the maps of this node.
    pub(crate) fn lb(&self, what: &str) -> Result<Value> {
        let program = self.program.to_str().context("the program's path is no text")?;
        let words = [program, "lb", what, "list", "--bpf-root", PINS, "-o", "json"];
        Ok(serde_json::from_str(&self.node.exec(&words)?)?)
    }

    /// Where the maps of this node say that packets of services go.
    pub(crate) fn backends(&self) -> Result<BTreeSet<SocketAddr>> {
        let pinned = Pinned::open(&self.node.path(OURS))?;
        let mut found = BTreeSet::new();
        for (place, backend) in pinned.map(maps::BACKENDS4)?.all::<u32, Backend<V4>>()? {
            if backend.id.lives_at(place) {
                let address = Ipv4Addr::from(backend.address).into();
                found.insert(SocketAddr::new(address, u16::from_be(backend.port)));
            }
        }
        for (place, backend) in pinned.map(maps::BACKENDS6)?.all::<u32, Backend<V6>>()? {
            if backend.id.lives_at(place) {
                let address = Ipv6Addr::from(backend.address).into();
                found.insert(SocketAddr::new(address, u16::from_be(backend.port)));
            }
        }
        Ok(found)
    }

    /// Where the maps of this node take packets for services.
    pub(crate) fn frontends(&self) -> Result<BTreeSet<SocketAddr>> {
        let pinned = Pinned::open(&self.node.path(OURS))?;
        let mut found = BTreeSet::new();
        for (key, _) in pinned.map(maps::FRONTENDS4)?.all::<FrontendKey<V4>, Frontend>()? {
            found.insert(SocketAddr::new(
                Ipv4Addr::from(key.address).into(),
                u16::from_be(key.port),
            ));
        }
        for (key, _) in pinned.map(maps::FRONTENDS6)?.all::<FrontendKey<V6>, Frontend>()? {
            found.insert(SocketAddr::new(
                Ipv6Addr::from(key.address).into(),
                u16::from_be(key.port),
            ));
        }
        Ok(found)
    }

    /// The programs behind the pinned links: numbers, and the kernel's digest of each one's instructions.
    pub(crate) fn programs(&self) -> Result<BTreeMap<u64, String>> {
        let pins = self.node.sh(&format!("ls -d {OURS}/v*/links/*"))?;
        let mut programs = BTreeMap::new();
        for pin in pins.lines() {
            let link = self.bpftool(&["link", "show", "pinned", pin])?;
            let id = link["prog_id"]
                .as_u64()
                .with_context(|| format!("{pin}: {link}"))?;
            let program = self.bpftool(&["prog", "show", "id", &id.to_string()])?;
            let tag = program["tag"].as_str().context("a program has a tag")?;
            programs.insert(id, tag.to_owned());
        }
        ensure!(!programs.is_empty(), "links are pinned");
        Ok(programs)
    }

    fn bpftool(&self, words: &[&str]) -> Result<Value> {
        let mut command = vec!["bpftool", "-j"];
        command.extend(words);
        Ok(serde_json::from_str(&self.node.exec(&command)?)?)
    }

    pub(crate) fn log(&self) -> String {
        self.process.log()
    }
}

/// Whether nothing is left to be done, and nothing went wrong.
fn is_ready(status: &Value) -> bool {
    let hang = |modes: Vec<&str>| {
        modes
            .iter()
            .all(|mode| matches!(*mode, "native" | "tcx" | "filter"))
    };
    modes(status).is_some_and(hang)
}

fn ask(node: &Handle, what: &str) -> Result<Value> {
    let endpoint = Endpoint::Unix(node.path(SOCKET));
    Ok(client::get(&endpoint, &format!("/v1/stentor/{what}"))?.json(&endpoint)?)
}

/// The agent's program; built once, where nobody did it before.
pub(crate) fn program() -> Result<PathBuf> {
    static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| {
        let program = stentor_tests::agent::program().map_err(|error| format!("{error:#}"))?;
        fs::canonicalize(&program).map_err(|error| format!("{}: {error}", program.display()))
    });
    program.clone().map_err(anyhow::Error::msg)
}

/// Whole or not at all.
fn write(node: &Handle, objects: &str) -> Result<()> {
    let place = node.path(&format!("{MANIFESTS}/objects.yaml"));
    let fresh = place.with_extension("new");
    fs::write(&fresh, objects)?;
    fs::rename(&fresh, &place).with_context(|| format!("write {}", place.display()))
}

fn spawn(node: &Handle, name: &str, program: &std::path::Path) -> Result<Process> {
    let program = program.to_str().context("the program's path is no text")?;
    let words = [
        program,
        "agent",
        "--manifests",
        MANIFESTS,
        "--node",
        name,
        "--state",
        STATE,
        "--socket",
        SOCKET,
        "--config",
        CONFIG,
        "--bpf-root",
        PINS,
        "--cgroup-root",
        "/sys/fs/cgroup",
    ];
    Ok(node.spawn(&words)?)
}
