//! The nodes of a lab as containers. containerlab makes those of the topology, the container engine those of the
//! cluster, which kind would make: containerlab only joins them (`network-mode: container:NAME`).
//!
//! ```text
//!   docker run ... service-worker          the cluster's nodes, by their own names
//!   containerlab deploy -t topo.clab.yml   clab-service-router0, ...: nodes, cables, exec lines
//!   docker inspect                         the pid of each: from here on a node like any other
//! ```
//!
//! Unlike namespaces, containers outlive whoever made them: somebody has to [`Containers::remove`] them.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::clab::Network;
use crate::process::{run_here, shown};
use crate::spec::Spec;
use crate::{Error, Handle};

/// What the cluster's nodes are made of, unless [`IMAGE_VARIABLE`] says otherwise: a shell and a C library that is
/// no older than the one the agent was built with.
const IMAGE: &str = "debian:bookworm-slim";

/// Environment variable with the image of the cluster's nodes.
pub const IMAGE_VARIABLE: &str = "STENTOR_LAB_IMAGE";

/// What runs a topology.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runner {
    /// Namespaces of this machine.
    Namespaces,
    /// containerlab, with a container engine.
    Containerlab(Engine),
}

/// A container engine that containerlab knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    Docker,
    Podman,
}

impl Engine {
    /// In order of preference, which is containerlab's own.
    pub const ALL: [Self; 2] = [Self::Docker, Self::Podman];

    /// Its program, and containerlab's word for it.
    #[must_use]
    pub fn program(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
        }
    }
}

/// The containers of one lab, running or not.
#[derive(Clone, Debug)]
pub struct Containers {
    engine: Engine,
    topology: PathBuf,
    /// Names of the containers of the cluster.
    cluster: Vec<String>,
}

impl Containers {
    #[must_use]
    pub fn of(spec: &Spec, engine: Engine) -> Self {
        Self {
            engine,
            topology: spec.file.clone(),
            cluster: spec.cluster_nodes(),
        }
    }

    /// Makes all containers and finds the ways into them, by the nodes' names in the cluster and in the topology.
    ///
    /// # Errors
    /// The engine or containerlab refuses; what was made until then is there.
    pub fn deploy(
        &self,
        spec: &Spec,
        agent: &Path,
        say: &dyn Fn(&str),
    ) -> Result<BTreeMap<String, Handle>, Error> {
        let image = env::var(IMAGE_VARIABLE).unwrap_or_else(|_| IMAGE.to_owned());
        let mut nodes = BTreeMap::new();
        for name in &self.cluster {
            // The agent is at the same place inside as outside.
            let agent = format!("{0}:{0}:ro", agent.display());
            let mut command = Command::new(self.engine.program());
            command.args(["run", "--detach", "--name", name, "--hostname", name]);
            command.args(["--network", "none", "--privileged", "--volume", &agent]);
            for setting in [
                "net.ipv6.conf.all.disable_ipv6=0",
                "net.ipv4.ip_forward=1",
                "net.ipv6.conf.all.forwarding=1",
            ] {
                command.args(["--sysctl", setting]);
            }
            run(command.args([&image, "sleep", "infinity"]), say)?;
            nodes.insert(name.clone(), self.handle(name)?);
        }
        run(&mut self.containerlab("deploy"), say)?;
        for (name, node) in &spec.topology.nodes {
            match &node.network {
                Network::Own => {
                    let container = format!("clab-{}-{name}", spec.topology.name);
                    nodes.insert(name.clone(), self.handle(&container)?);
                }
                // One network, one node: the cluster's.
                Network::Of(_) => {}
            }
        }
        Ok(nodes)
    }

    /// Removes all containers, also after a deployment that failed half-way.
    ///
    /// # Errors
    /// The engine or containerlab refuses; the rest is removed all the same.
    pub fn remove(&self, say: &dyn Fn(&str)) -> Result<(), Error> {
        let destroyed = run(self.containerlab("destroy").arg("--cleanup"), say).map(drop);
        if self.cluster.is_empty() {
            return destroyed;
        }
        let mut command = Command::new(self.engine.program());
        let removed = run(command.args(["rm", "--force"]).args(&self.cluster), say);
        destroyed.and(removed.map(drop))
    }

    fn containerlab(&self, verb: &str) -> Command {
        let mut command = Command::new("containerlab");
        command.args([verb, "--runtime", self.engine.program(), "-t"]);
        command.arg(&self.topology);
        command
    }

    /// The way into a container that runs.
    fn handle(&self, container: &str) -> Result<Handle, Error> {
        let mut command = Command::new(self.engine.program());
        command.args(["inspect", "--format", "{{.State.Pid}}", container]);
        let answer = run(&mut command, &|_| {})?;
        match answer.trim().parse() {
            Ok(pid) if pid > 0 => Ok(Handle::new(container.to_owned(), pid)),
            Ok(_) | Err(_) => Err(Error::Strange {
                who: self.engine.program().into(),
                what: format!("{container} has process `{}`", answer.trim()),
            }),
        }
    }
}

/// Tells what is done, and does it.
fn run(command: &mut Command, say: &dyn Fn(&str)) -> Result<String, Error> {
    say(&shown(command));
    run_here(command)
}
