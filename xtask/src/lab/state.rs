//! What is written down about a lab that is up: one small file per lab.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lab::{Containers, Handle, Lab, Runner, Spec};
use serde_json::{Value, json};

use super::runner;

const FOLDER: &str = "/run/stentor-lab";

/// A lab that is up, as other processes know it.
#[derive(Clone, Debug)]
pub(crate) struct State {
    /// Process that owns the lab, and its start time: a pid alone may be somebody else's by now.
    server: (u32, u64),
    pub(crate) topology: PathBuf,
    agent: PathBuf,
    runner: Runner,
    nodes: BTreeMap<String, Handle>,
    name: String,
}

impl State {
    /// Of this very process, to be written.
    pub(crate) fn of(lab: &Lab, topology: &Path, agent: &Path, runner: Runner) -> Result<Self> {
        let own = std::process::id();
        Ok(Self {
            server: (own, start_time(own).context("this process has a start time")?),
            topology: topology.to_owned(),
            agent: agent.to_owned(),
            runner,
            nodes: lab.handles(),
            name: lab.spec().topology.name.clone(),
        })
    }

    /// Reads about a lab that is up. What a lab that died left behind is removed.
    pub(crate) fn read(name: &str) -> Result<Self> {
        let file = path(name);
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => bail!("lab {name} is not up"),
            Err(error) => return Err(error).with_context(|| format!("read {}", file.display())),
        };
        let state =
            Self::parse(&text, name).with_context(|| format!("{} is not readable", file.display()))?;
        if state.is_alive() {
            return Ok(state);
        }
        state.remove_containers()?;
        remove(name);
        bail!("lab {name} is not up");
    }

    fn parse(text: &str, name: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        let number = |key: &str| value[key].as_u64();
        let node = |(name, node): (&String, &Value)| {
            let pid = u32::try_from(node["pid"].as_u64()?).ok()?;
            Some((name.clone(), Handle::new(node["name"].as_str()?.to_owned(), pid)))
        };
        Some(Self {
            server: (u32::try_from(number("server")?).ok()?, number("started")?),
            topology: value["topology"].as_str()?.into(),
            agent: value["agent"].as_str()?.into(),
            runner: runner::parse(value["runner"].as_str()?).ok()?,
            nodes: value["nodes"]
                .as_object()?
                .iter()
                .map(node)
                .collect::<Option<_>>()?,
            name: name.to_owned(),
        })
    }

    pub(crate) fn write(&self) -> Result<()> {
        fs::create_dir_all(FOLDER)?;
        let node = |node: &Handle| json!({"name": node.name(), "pid": node.pid()});
        let nodes: BTreeMap<&String, Value> = self
            .nodes
            .iter()
            .map(|(name, handle)| (name, node(handle)))
            .collect();
        let value = json!({
            "server": self.server.0,
            "started": self.server.1,
            "topology": self.topology,
            "agent": self.agent,
            "runner": runner::word(self.runner),
            "nodes": nodes,
        });
        let file = path(&self.name);
        let fresh = file.with_extension("new");
        fs::write(&fresh, serde_json::to_string_pretty(&value)?)?;
        fs::rename(&fresh, &file)?;
        Ok(())
    }

    /// Ends the lab and waits until nothing of it runs.
    pub(crate) fn end(&self) -> Result<()> {
        let (pid, _) = self.server;
        lab::process::terminate(pid)?;
        self.remove_containers()?;
        lab::until(Duration::from_mins(1), "the lab to end", || {
            let left: Vec<u32> = self
                .nodes
                .values()
                .map(Handle::pid)
                .filter(|pid| start_time(*pid).is_some())
                .collect();
            if self.is_alive() || !left.is_empty() {
                Err(format!("process {pid} and nodes {left:?}"))
            } else {
                Ok(())
            }
        })?;
        remove(&self.name);
        Ok(())
    }

    pub(crate) fn handles(&self) -> BTreeMap<String, Handle> {
        self.nodes.clone()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.nodes.keys().cloned().collect()
    }

    pub(crate) fn agent(&self) -> &Path {
        &self.agent
    }

    pub(crate) fn agent_folder(&self) -> &Path {
        self.agent.parent().unwrap_or(Path::new("/"))
    }

    /// Containers outlive the process that owns the lab.
    fn remove_containers(&self) -> Result<()> {
        match self.runner {
            Runner::Namespaces => Ok(()),
            Runner::Containerlab(engine) => {
                let spec = Spec::read(&self.topology, None)?;
                Ok(Containers::of(&spec, engine).remove(&|line| println!("lab: {line}"))?)
            }
        }
    }

    fn is_alive(&self) -> bool {
        start_time(self.server.0) == Some(self.server.1)
    }
}

/// Removes what is written down about a lab, and the folder with the last one.
pub(crate) fn remove(name: &str) {
    let _ = fs::remove_file(path(name));
    let _ = fs::remove_dir(FOLDER);
}

fn path(name: &str) -> PathBuf {
    Path::new(FOLDER).join(format!("{name}.json"))
}

/// Field 22 of `/proc/PID/stat`, clock ticks since boot.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let is_zombie = fields.next()? == "Z";
    fields.nth(18)?.parse().ok().filter(|_| !is_zombie)
}
