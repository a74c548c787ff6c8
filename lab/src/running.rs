//! A lab that runs: its nodes, cables, routers, pods and agents.

mod power;
mod real;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};

pub use self::real::expected;
use crate::clab::{Bind, Network, Node};
use crate::cluster::{self, Plan, Pod};
use crate::echo::Echo;
use crate::manifests::{self, Document};
use crate::process::Process;
use crate::spec::Spec;
use crate::{Containers, Error, Handle, LinkEnd, Netns, Runner, kubernetes, substitute, system, veth, words};

/// Where an agent finds what concerns it, inside its node.
pub const MANIFESTS: &str = "/run/stentor/manifests";
pub const CONFIG: &str = "/run/stentor/config.yaml";
pub const STATE: &str = "/run/stentor/state";
pub const SOCKET: &str = "/run/stentor/agent.sock";
pub const LOG: &str = "/var/log/stentor.log";
const METRICS: &str = "127.0.0.1:9962";
/// Runs a program with other variables than one's own.
const ENV: &str = "env";

/// The kernel's multicast address for a pod's way out: one that no network uses.
const POD_GATEWAY: [&str; 2] = ["169.254.1.1", "fe80::1"];

/// A running lab. Dropping it ends all of it; so does the end of the process.
#[derive(Debug)]
pub struct Lab {
    // Ends in this order: first who talks, last who is talked about.
    agents: BTreeMap<String, Process>,
    pods: Vec<RunningPod>,
    daemons: Vec<Process>,
    nodes: BTreeMap<String, Lodging>,
    /// Nodes of the topology that live in the network of another container.
    aliases: BTreeMap<String, String>,
    spec: Spec,
    /// Nodes of the cluster that are dead now.
    dead: BTreeSet<String>,
    /// To be removed in the end.
    containers: Option<Containers>,
    /// Where nodes have kubelets.
    kubernetes: Option<kubernetes::Cluster>,
}

/// Where a node lives.
#[derive(Debug)]
enum Lodging {
    Netns(Netns),
    /// In a container of [`Lab::containers`].
    Container(Handle),
}

impl Deref for Lodging {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        match self {
            Self::Netns(netns) => netns,
            Self::Container(handle) => handle,
        }
    }
}

/// A pod and its server.
#[derive(Debug)]
struct RunningPod {
    _echo: Echo,
    _netns: Netns,
}

/// What a node's image stands for here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image {
    Frr,
    Bird,
    Gobgp,
    /// A host: the machine's own tools.
    Host,
}

impl Image {
    /// By its name: FRR's, BIRD's and GoBGP's images run those; all others are hosts.
    #[must_use]
    pub fn of(name: &str) -> Self {
        let base = name
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .split([':', '@'])
            .next()
            .unwrap_or_default();
        match base {
            _ if base.contains("frr") => Self::Frr,
            _ if base.contains("bird") => Self::Bird,
            _ if base.contains("gobgp") => Self::Gobgp,
            _ => Self::Host,
        }
    }

    /// A file of the daemon, and what the image runs when the topology says nothing.
    fn daemon(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Frr => Some(("/usr/lib/frr/bgpd", "/usr/lib/frr/frrinit.sh start")),
            Self::Bird => Some((
                "/usr/sbin/bird",
                "bird -c /etc/bird/bird.conf -s /run/bird/bird.ctl",
            )),
            Self::Gobgp => Some(("/usr/bin/gobgpd", "gobgpd -f /etc/gobgp/gobgp.toml")),
            Self::Host => None,
        }
    }
}

impl Lab {
    /// Starts everything: nodes, cables, the topology's `exec` lines, the cluster's pods, and one agent per
    /// cluster node. Returns when all is started, not when sessions are up.
    ///
    /// `agent`: the program to run as `stentor agent`. `say` is told what happens, a line at a time.
    ///
    /// # Errors
    /// Something is missing on this machine or wrong in the files. An `exec` line that fails is told and passed
    /// over, as containerlab does.
    pub fn up(spec: Spec, runner: Runner, agent: &Path, say: &dyn Fn(&str)) -> Result<Self, Error> {
        let mut lab = Self::nothing_of(spec);
        match runner {
            Runner::Namespaces => lab.make_namespaces(say)?,
            Runner::Containerlab(engine) => {
                let containers = lab.containers.insert(Containers::of(&lab.spec, engine)).clone();
                let handles = containers.deploy(&lab.spec, agent, say)?;
                let lodged = |(name, handle)| (name, Lodging::Container(handle));
                lab.nodes = handles.into_iter().map(lodged).collect();
                lab.name_aliases()?;
                say(&lab.roll());
            }
        }
        let plan = lab.write_manifests()?;
        for pod in plan {
            let running = lab.start_pod(&pod)?;
            lab.pods.push(running);
            let ports: Vec<String> = pod.ports.iter().map(u16::to_string).collect();
            let addresses: Vec<String> = pod.addresses.iter().map(ToString::to_string).collect();
            say(&format!(
                "pod {}/{} on {}: {} port {}",
                pod.namespace,
                pod.name,
                pod.node,
                addresses.join(" "),
                if ports.is_empty() {
                    "none".to_owned()
                } else {
                    ports.join(" ")
                }
            ));
        }
        for name in lab.cluster_nodes() {
            lab.start_agent(&name, agent)?;
            say(&format!("agent on {name}"));
        }
        Ok(lab)
    }

    #[must_use]
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// A node by its name in the topology or in the cluster.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn node(&self, name: &str) -> Result<&Handle, Error> {
        let name = self.aliases.get(name).map_or(name, String::as_str);
        self.nodes
            .get(name)
            .map(Deref::deref)
            .ok_or_else(|| Error::NoNode {
                name: name.to_owned(),
                have: self
                    .nodes
                    .keys()
                    .chain(self.aliases.keys())
                    .cloned()
                    .collect::<Vec<_>>()
                    .join(" "),
            })
    }

    /// Ways into all nodes, by all their names: in the topology and in the cluster.
    #[must_use]
    pub fn handles(&self) -> BTreeMap<String, Handle> {
        let own = self
            .nodes
            .iter()
            .map(|(name, node)| (name.clone(), Handle::clone(node)));
        let alias =
            |(alias, name): (&String, &String)| Some((alias.clone(), Handle::clone(self.nodes.get(name)?)));
        own.chain(self.aliases.iter().filter_map(alias)).collect()
    }

    /// Names of the nodes that run an agent.
    #[must_use]
    pub fn cluster_nodes(&self) -> Vec<String> {
        self.spec.cluster_nodes()
    }

    /// Reads the folder of manifests again and hands the agents what came of it. Pods stay as they are.
    ///
    /// # Errors
    /// The folder cannot be read, or no cluster comes of it.
    pub fn sync_manifests(&self) -> Result<(), Error> {
        self.write_manifests().map(drop)
    }

    /// Names of the nodes whose agent has ended.
    pub fn ended_agents(&mut self) -> Vec<String> {
        let ended = self
            .agents
            .iter_mut()
            .filter_map(|(name, agent)| agent.status().map(|_| name.clone()));
        ended.collect()
    }

    /// All that the agents of a node said so far.
    #[must_use]
    pub fn agent_log(&self, name: &str) -> String {
        let text = self
            .node(name)
            .ok()
            .map(|node| fs::read_to_string(node.path(LOG)));
        text.map_or_else(String::new, |text| {
            text.unwrap_or_else(|error| format!("({LOG}: {error})"))
        })
    }

    /// The agent's process on a node, to be signalled.
    pub fn agent(&mut self, name: &str) -> Option<&mut Process> {
        self.agents.get_mut(name)
    }

    /// Starts the agent of a cluster node, again if it has ended.
    ///
    /// # Errors
    /// It cannot be started, or there is no such node.
    pub fn start_agent(&mut self, name: &str, agent: &Path) -> Result<(), Error> {
        let node = self.node(name)?;
        fs::write(node.path(CONFIG), self.spec.values.to_yaml())
            .map_err(system(format!("write {CONFIG}")))?;
        let script = format!("exec \"$@\" >>{LOG} 2>&1");
        let path = agent.to_string_lossy();
        let process = node.spawn(&[
            "sh",
            "-c",
            &script,
            "agent",
            &path,
            "agent",
            "--manifests",
            MANIFESTS,
            "--node",
            name,
            "--state",
            STATE,
            "--socket",
            SOCKET,
            "--metrics",
            METRICS,
            "--config",
            CONFIG,
        ])?;
        self.agents.insert(name.to_owned(), process);
        Ok(())
    }

    /// Nothing runs yet.
    fn nothing_of(spec: Spec) -> Self {
        Self {
            agents: BTreeMap::new(),
            pods: Vec::new(),
            daemons: Vec::new(),
            nodes: BTreeMap::new(),
            aliases: BTreeMap::new(),
            spec,
            dead: BTreeSet::new(),
            containers: None,
            kubernetes: None,
        }
    }

    /// Nodes, cables, and the topology's `exec` lines.
    fn make_namespaces(&mut self, say: &dyn Fn(&str)) -> Result<(), Error> {
        self.make_nodes()?;
        say(&self.roll());
        self.lay_cables()?;
        self.run_commands(say)
    }

    fn make_nodes(&mut self) -> Result<(), Error> {
        for name in self.cluster_nodes() {
            let netns = Netns::new(&name)?;
            substitute::install(&netns)?;
            self.nodes.insert(name.clone(), Lodging::Netns(netns));
        }
        let folder = &self.spec.folder;
        for (name, node) in &self.spec.topology.nodes {
            if let Some((program, _)) = Image::of(&node.image).daemon()
                && !Path::new(program).exists()
            {
                return Err(Error::NoProgram {
                    image: node.image.clone(),
                    program: program.into(),
                });
            }
            match &node.network {
                Network::Of(_) => {}
                Network::Own => {
                    let binds: Vec<Bind> = node.binds.iter().map(|bind| absolute(bind, folder)).collect();
                    let netns = Netns::with_binds(name, &binds)?;
                    substitute::install(&netns)?;
                    self.nodes.insert(name.clone(), Lodging::Netns(netns));
                }
            }
        }
        self.name_aliases()
    }

    fn roll(&self) -> String {
        let names = self.nodes.keys().cloned().collect::<Vec<_>>();
        format!("nodes: {}", names.join(" "))
    }

    /// Nodes of the topology that live in another's network are that other.
    fn name_aliases(&mut self) -> Result<(), Error> {
        for (name, node) in &self.spec.topology.nodes {
            let Network::Of(other) = &node.network else {
                continue;
            };
            if !self.nodes.contains_key(other) {
                let have = self.nodes.keys().cloned().collect::<Vec<_>>().join(" ");
                return Err(Error::NoNode {
                    name: other.clone(),
                    have,
                });
            }
            self.aliases.insert(name.clone(), other.clone());
        }
        Ok(())
    }

    fn lay_cables(&self) -> Result<(), Error> {
        for link in &self.spec.topology.links {
            let [a, b] = &link.ends;
            let a = LinkEnd::new(self.node(&a.node)?, &a.interface, &[]);
            let b = LinkEnd::new(self.node(&b.node)?, &b.interface, &[]);
            veth(a, b, Some(link.mtu))?;
        }
        Ok(())
    }

    fn run_commands(&mut self, say: &dyn Fn(&str)) -> Result<(), Error> {
        let mut daemons = Vec::new();
        for (name, node) in &self.spec.topology.nodes {
            if let Some(command) = start_of(node) {
                let argv = words::split(&command).map_err(|error| Error::Words {
                    line: command.clone(),
                    error,
                })?;
                let words = in_environment(node, &argv);
                let argv: Vec<&str> = std::iter::once(ENV)
                    .chain(words.iter().map(String::as_str))
                    .collect();
                daemons.push(self.node(name)?.spawn(&argv)?);
            }
            for line in &node.exec {
                let argv = words::split(line).map_err(|error| Error::Words {
                    line: line.clone(),
                    error,
                })?;
                let Some(program) = argv.first() else {
                    continue;
                };
                let words = in_environment(node, &argv);
                let output = self.node(name)?.command(ENV).args(words).output();
                let output = output.map_err(|source| Error::Start {
                    program: program.clone(),
                    source,
                })?;
                for said in String::from_utf8_lossy(&output.stderr).lines() {
                    say(&format!("{name}: {said}"));
                }
                if !output.status.success() {
                    say(&format!(
                        "{name}: `{}` ended with {}; passed over",
                        shorten(line),
                        output.status
                    ));
                }
            }
        }
        self.daemons.extend(daemons);
        Ok(())
    }

    /// Fills every cluster node's folder of manifests and returns the pods that belong to it.
    fn write_manifests(&self) -> Result<Vec<Pod>, Error> {
        let Some(cluster) = &self.spec.cluster else {
            return Ok(Vec::new());
        };
        let folder = &self.spec.manifests;
        let mut documents = manifests::read(folder).map_err(system(format!("read {}", folder.display())))?;
        manifests::admit(&mut documents, &cluster.service_subnets);
        let mut plan = cluster::plan(cluster, self.spec.values.ipam, &documents)?;
        plan.objects.iter_mut().for_each(|object| self.bury(object));
        let mut files = by_file(&documents);
        let objects = plan
            .objects
            .iter()
            .map(|object| serde_saphyr::to_string(object).unwrap_or_default());
        files.insert(
            "cluster/objects.yaml".into(),
            objects.collect::<Vec<_>>().join("---\n"),
        );
        for name in self.cluster_nodes() {
            let into = self.node(&name)?.path(MANIFESTS);
            sync(&into, &files).map_err(system(format!("write the manifests of {name}")))?;
        }
        Ok(plan.pods)
    }

    /// A namespace behind a veth, its addresses, the routes both ways, and its server.
    fn start_pod(&self, pod: &Pod) -> Result<RunningPod, Error> {
        let node = self.node(&pod.node)?;
        let own: Vec<IpAddr> = self
            .spec
            .cluster
            .iter()
            .flat_map(|cluster| cluster.addresses(&pod.node))
            .collect();
        let netns = Netns::pod_of(node, &pod.name)?;
        let outside = format!("lxc{}", self.pods.len());
        veth(
            LinkEnd::new(&netns, "eth0", &[]),
            LinkEnd::new(node, &outside, &[]),
            None,
        )?;
        for address in &pod.addresses {
            let (family, length, gateway, flags) = match address {
                IpAddr::V4(_) => ("-4", 32, POD_GATEWAY[0], ""),
                // Even with DAD off, an address is tentative for a moment, and cannot be bound.
                IpAddr::V6(_) => ("-6", 128, POD_GATEWAY[1], "nodad"),
            };
            netns.sh(&format!(
                "ip addr add {address}/{length} dev eth0 {flags}; ip {family} route replace {gateway} dev eth0; \
                 ip {family} route add default via {gateway} dev eth0"
            ))?;
            // The node talks to its pods as itself, not as their gateway.
            let source = own.iter().find(|own| own.is_ipv4() == address.is_ipv4());
            let source = source.map(|source| format!("src {source}")).unwrap_or_default();
            node.sh_in_network(&format!(
                "ip addr add {gateway}/{length} dev {outside} {flags}; \
                 ip {family} route add {address} dev {outside} {source}"
            ))?;
        }
        let ports: Vec<u16> = pod.ports.iter().copied().collect();
        let greeting = format!("pod={} namespace={} node={}", pod.name, pod.namespace, pod.node);
        let echo = Echo::start(&netns, &pod.addresses, &ports, greeting)?;
        Ok(RunningPod {
            _echo: echo,
            _netns: netns,
        })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(containers) = self.containers.take()
            && let Err(error) = containers.remove(&|_| {})
        {
            // Who gave up may have closed it.
            let _ = writeln!(io::stderr(), "{error}");
        }
    }
}

/// The pods that a lab would run.
///
/// # Errors
/// The manifests cannot be read, or no cluster comes of them.
pub fn pods(spec: &Spec) -> Result<Vec<Pod>, Error> {
    Ok(planned(spec)?.map(|(_, plan)| plan.pods).unwrap_or_default())
}

/// The documents as an API server would have them, and what follows from them and the cluster.
fn planned(spec: &Spec) -> Result<Option<(Vec<Document>, Plan)>, Error> {
    let Some(cluster) = &spec.cluster else {
        return Ok(None);
    };
    let folder = &spec.manifests;
    let mut documents = manifests::read(folder).map_err(system(format!("read {}", folder.display())))?;
    manifests::admit(&mut documents, &cluster.service_subnets);
    let plan = cluster::plan(cluster, spec.values.ipam, &documents)?;
    Ok(Some((documents, plan)))
}

/// The daemon a container would run: what the topology says, else what the image does. A shell is nothing to run.
fn start_of(node: &Node) -> Option<String> {
    const IDLE: [&str; 6] = [
        "bash",
        "sh",
        "/bin/sh",
        "/bin/bash",
        "sleep infinity",
        "tail -f /dev/null",
    ];
    match &node.command {
        Some(command) if IDLE.contains(&command.as_str()) => None,
        Some(command) => Some(command.clone()),
        None => Image::of(&node.image).daemon().map(|(_, start)| start.to_owned()),
    }
}

/// What follows [`ENV`] to run a command line with the node's environment variables.
fn in_environment(node: &Node, argv: &[String]) -> Vec<String> {
    let variables = node.env.iter().map(|(key, value)| format!("{key}={value}"));
    variables.chain(argv.iter().cloned()).collect()
}

fn absolute(bind: &Bind, folder: &Path) -> Bind {
    Bind {
        source: folder.join(&bind.source).to_string_lossy().into_owned(),
        ..bind.clone()
    }
}

fn shorten(line: &str) -> String {
    let short: String = line.chars().take(100).collect();
    if short.len() < line.len() {
        short + "..."
    } else {
        short
    }
}

fn by_file(documents: &[Document]) -> BTreeMap<PathBuf, String> {
    let mut files: BTreeMap<PathBuf, String> = BTreeMap::new();
    for document in documents {
        let text = files.entry(document.file.clone()).or_default();
        if !text.is_empty() {
            text.push_str("---\n");
        }
        text.push_str(&document.text);
    }
    files
}

/// Makes a folder hold exactly these files. Each appears whole or not at all; what is the same is left alone.
fn sync(folder: &Path, files: &BTreeMap<PathBuf, String>) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut stale = Vec::new();
    list(folder, folder, &mut stale)?;
    for (path, text) in files {
        stale.retain(|old| old != path);
        let target = folder.join(path);
        if fs::read_to_string(&target).is_ok_and(|old| old == *text) {
            continue;
        }
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        // A name that no reader of YAML looks at.
        let fresh = target.with_extension("new");
        fs::write(&fresh, text)?;
        fs::rename(&fresh, &target)?;
    }
    stale
        .iter()
        .try_for_each(|path| fs::remove_file(folder.join(path)))
}

fn list(root: &Path, folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            list(root, &path, files)?;
        } else if let Ok(relative) = path.strip_prefix(root) {
            files.push(relative.to_owned());
        }
    }
    Ok(())
}
