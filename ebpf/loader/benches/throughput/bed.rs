//! The three namespaces of a way, with what runs in them.

use std::fs;
use std::io::{Read as _, Seek as _};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use ebpf_abi::V4;
use ebpf_abi::flow::{Flow, Tuple};
use ebpf_abi::maps::{self, Map};
use ebpf_loader::{MapFd, Pinned};
use lab::hooks::modes;
use lab::{Handle, LinkEnd, Netns, Process, until, veth};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::way::{Forwarding, Way};
use crate::{datagrams, objects, peers, streams};

pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// Where backends' node finds the router.
pub(crate) const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 1);
pub(crate) const FAR: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 2);
pub(crate) const BACKENDS: [Ipv4Addr; 3] = [
    Ipv4Addr::new(10, 20, 2, 11),
    Ipv4Addr::new(10, 20, 2, 12),
    Ipv4Addr::new(10, 20, 2, 13),
];
pub(crate) const PORT: u16 = 80;
pub(crate) const TARGET: u16 = 8080;

/// Ethernet addresses, by the last octet.
const MAC_CLIENT: u8 = 1;
const MAC_ROUTER: u8 = 2;
const MAC_ROUTER_BACK: u8 = 3;
const MAC_FAR: u8 = 4;
const MAC_FAR_DIRECT: u8 = 5;
const MAC_CLIENT_DIRECT: u8 = 6;

const LIMIT: Duration = Duration::from_mins(5);
const RUN: &str = "/run/stentor";
const PINS: &str = "/sys/fs/bpf";

pub(crate) struct Bed {
    pub(crate) way: Way,
    pub(crate) client: Netns,
    pub(crate) far: Netns,
    router: Netns,
    agents: Vec<Process>,
}

/// The address of a service.
pub(crate) fn vip(n: u32) -> Ipv4Addr {
    let [_, _, third, fourth] = n.to_be_bytes();
    Ipv4Addr::new(100, 64, third, fourth)
}

pub(crate) fn mac(last: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0, last]
}

impl Bed {
    /// Everything but agents that are ready.
    pub(crate) fn new(way: Way) -> Result<Self> {
        let (client, router, far) = (Netns::new("client")?, Netns::new("router")?, Netns::new("far")?);
        cable((&client, "eth0", MAC_CLIENT), (&router, "eth0", MAC_ROUTER))?;
        cable((&router, "eth1", MAC_ROUTER_BACK), (&far, "eth0", MAC_FAR))?;
        cable(
            (&far, "eth1", MAC_FAR_DIRECT),
            (&client, "eth1", MAC_CLIENT_DIRECT),
        )?;
        for node in [&client, &router, &far] {
            node.sh_in_network(
                "sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
                 for device in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 > $device; done",
            )?;
        }
        // Nobody ever asks for a neighbour.
        let front = Ipv4Addr::new(198, 51, 100, 1);
        client.sh_in_network(&format!(
            "ip addr add {CLIENT}/24 dev eth0; ip addr add {CLIENT}/32 dev eth1
             {}; ip route add default via {front}",
            neighbour(front, MAC_ROUTER, "eth0"),
        ))?;
        let answers = match way.forwarding() {
            Forwarding::Snat => format!("ip route add default via {ROUTER}"),
            Forwarding::Ipip => format!(
                "ip route add default via {ROUTER}; ip route add {CLIENT} dev eth1 src {FAR}; {}",
                neighbour(CLIENT, MAC_CLIENT_DIRECT, "eth1")
            ),
        };
        router.sh_in_network(&format!(
            "ip addr add {front}/24 dev eth0; ip addr add {ROUTER}/24 dev eth1; {}; {}
             ip route add 10.20.2.0/24 via {FAR}",
            neighbour(CLIENT, MAC_CLIENT, "eth0"),
            neighbour(FAR, MAC_FAR, "eth1"),
        ))?;
        let backends = BACKENDS.map(|backend| format!("ip addr add {backend}/32 dev lo"));
        far.sh_in_network(&format!(
            "ip addr add {FAR}/24 dev eth0; ip addr add 10.3.0.1/24 dev eth1; {}; {}\n{answers}",
            neighbour(ROUTER, MAC_ROUTER_BACK, "eth0"),
            backends.join("; "),
        ))?;
        let mut bed = Self {
            way,
            client,
            far,
            router,
            agents: Vec::new(),
        };
        peers::feed(
            &bed.far,
            "nft -f",
            &peers::sink(bed.asked().0, datagrams::PAYLOAD),
        )?;
        match way {
            Way::Plain => {}
            Way::Map { services } => peers::feed(&bed.router, "nft -f", &peers::map(services))?,
            Way::Linear { services } => peers::feed(&bed.router, "nft -f", &peers::linear(services))?,
            Way::Ipvs { services } => peers::ipvs(&bed.router, services)?,
            Way::Stentor { .. } => bed.begin(Site::Router)?,
        }
        Ok(bed)
    }

    /// Whom the client asks.
    pub(crate) fn asked(&self) -> (Ipv4Addr, u16) {
        match self.way.services() {
            Some(services) => (vip(services / 2), PORT),
            None => (BACKENDS[0], TARGET),
        }
    }

    /// Where answers may come from in the end.
    pub(crate) fn backends(&self) -> &'static [Ipv4Addr] {
        match self.way.services() {
            Some(_) => &BACKENDS,
            None => &BACKENDS[..1],
        }
    }

    /// Until the router does what it shall.
    pub(crate) fn wait_for_router(&mut self) -> Result<()> {
        match self.way {
            Way::Plain | Way::Map { .. } | Way::Linear { .. } | Way::Ipvs { .. } => Ok(()),
            Way::Stentor { services, .. } => {
                let agent = self.agents.last_mut().context("the router has an agent")?;
                ready(agent, &self.router, services).with_context(|| self.way.title())
            }
        }
    }

    /// From now on backends answer.
    pub(crate) fn serve(&mut self) -> Result<()> {
        self.far.sh_in_network("nft delete table netdev sink")?;
        // As at a network card, who sends waits where the cable is full.
        for host in [&self.client, &self.far] {
            host.sh_in_network(
                "for device in eth0 eth1; do tc qdisc replace dev $device root pfifo limit 2000; done",
            )?;
        }
        match self.way {
            Way::Stentor {
                forwarding: Forwarding::Ipip,
                services,
                ..
            } => {
                self.begin(Site::Far)?;
                let agent = self.agents.last_mut().context("just begun")?;
                ready(agent, &self.far, services)?;
            }
            Way::Plain | Way::Map { .. } | Way::Linear { .. } | Way::Ipvs { .. } | Way::Stentor { .. } => {}
        }
        streams::serve(&self.far)
    }

    fn begin(&mut self, site: Site) -> Result<()> {
        let Way::Stentor {
            hook,
            forwarding,
            services,
        } = self.way
        else {
            return Ok(());
        };
        let (node, name) = match site {
            Site::Router => (&self.router, "router"),
            Site::Far => (&self.far, "far"),
        };
        node.sh(&format!("mkdir -p {RUN}/manifests"))?;
        fs::write(
            node.path(&format!("{RUN}/config.yaml")),
            objects::config(hook, forwarding),
        )?;
        fs::write(
            node.path(&format!("{RUN}/manifests/all.yaml")),
            objects::all(services),
        )?;
        let program = program()?;
        let program = program.to_str().context("the program's path is no text")?;
        let words = format!(
            "chrt --other 0 {program} agent --manifests {RUN}/manifests --node {name} --state {RUN}/state --socket {RUN}/agent.sock \
             --config {RUN}/config.yaml --bpf-root {PINS} --cgroup-root /sys/fs/cgroup"
        );
        let words: Vec<&str> = words.split(' ').collect();
        self.agents.push(node.spawn(&words)?);
        Ok(())
    }

    /// What the router remembers of flows; `None` where it remembers none.
    pub(crate) fn memory(&self) -> Result<Option<Memory>> {
        Ok(match self.way {
            Way::Plain => None,
            Way::Map { .. } | Way::Linear { .. } | Way::Ipvs { .. } => {
                let tracked = self.router.run(datagrams::Tracked::open)??;
                Some(Memory::Tracked(tracked))
            }
            Way::Stentor { .. } => {
                let pinned = Pinned::open(&self.router.path(&format!("{PINS}/stentor")))?;
                let map = |map: Map| pinned.map(map);
                Some(Memory::Maps([map(maps::FLOWS4)?, map(maps::OPENING4)?]))
            }
        })
    }

    /// Counts what came to the far node by the router.
    pub(crate) fn arrivals(&self) -> Result<Arrivals> {
        let file = fs::File::open(format!("/proc/{}/net/dev", self.far.pid()))?;
        Ok(Arrivals { file })
    }

    /// What agents said.
    pub(crate) fn log(&self) -> String {
        let logs: Vec<String> = self.agents.iter().map(Process::log).collect();
        logs.join("\n")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Site {
    Router,
    Far,
}

/// Flows of the past.
pub(crate) enum Memory {
    /// The kernel's connection tracking.
    Tracked(datagrams::Tracked),
    Maps([MapFd; 2]),
}

impl Memory {
    pub(crate) fn forget(&self) -> Result<()> {
        match self {
            Self::Tracked(tracked) => tracked.forget(),
            Self::Maps(maps) => maps.iter().try_for_each(|map| {
                let all = map.all::<Tuple<V4>, Flow<V4>>()?.into_iter();
                let keys: Vec<_> = all.map(|(key, _)| key).collect();
                Ok(map.remove_all(&keys)?)
            }),
        }
    }
}

/// The kernel's counters of the far node's devices.
pub(crate) struct Arrivals {
    file: fs::File,
}

impl Arrivals {
    pub(crate) fn now(&mut self) -> Result<u64> {
        let mut text = String::new();
        self.file.rewind()?;
        self.file.read_to_string(&mut text)?;
        let line = text.lines().find_map(|line| line.trim().strip_prefix("eth0:"));
        let packets = line.and_then(|line| line.split_whitespace().nth(1));
        Ok(packets.context("the device's counters")?.parse()?)
    }
}

fn neighbour(address: Ipv4Addr, last: u8, device: &str) -> String {
    format!("ip neigh replace {address} lladdr 02:00:00:00:00:{last:02x} dev {device} nud permanent")
}

type End<'a> = (&'a Netns, &'static str, u8);

/// Both ends make checksums, and put segments together.
fn cable(one: End<'_>, other: End<'_>) -> Result<()> {
    veth(
        LinkEnd::new(one.0, one.1, &[]),
        LinkEnd::new(other.0, other.1, &[]),
        None,
    )?;
    for (node, device, last) in [one, other] {
        node.sh_in_network(&format!(
            "ip link set {device} down; ip link set {device} address 02:00:00:00:00:{last:02x}; \
             ip link set {device} up; ethtool -K {device} tx off gro on"
        ))?;
    }
    Ok(())
}

/// The agent as users run it.
fn program() -> Result<PathBuf> {
    let given = std::env::var_os("STENTOR_BINARY").context("STENTOR_BINARY names the agent's program")?;
    fs::canonicalize(&given).with_context(|| format!("STENTOR_BINARY: {}", given.display()))
}

/// Until all is written, and all programs hang where they shall.
fn ready(agent: &mut Process, node: &Handle, services: u32) -> Result<()> {
    let program = program()?;
    let program = program.to_str().context("the program's path is no text")?;
    let socket = format!("{RUN}/agent.sock");
    until(LIMIT, "the agent to serve", || {
        if let Some(status) = agent.status() {
            return Ok(Err(format!("ended with {status}: {}", agent.log())));
        }
        let asked = node.exec(&[program, "status", "--socket", &socket, "-o", "json"]);
        let said = asked.map_err(|error| format!("{error}\n{}", agent.log()))?;
        let status: Value = serde_json::from_str(&said).map_err(|error| error.to_string())?;
        if is_ready(&status, services) {
            Ok(Ok(()))
        } else {
            Err(status["datapath"].to_string())
        }
    })?
    .map_err(anyhow::Error::msg)?;
    // The kernel serves on without it. What it does meanwhile would be measured too.
    Ok(agent.signal(Signal::SIGSTOP)?)
}

/// As many services as there are, and programs at all devices.
fn is_ready(status: &Value, services: u32) -> bool {
    let datapath = &status["datapath"];
    let hang = |modes: Vec<&str>| modes.iter().all(|mode| matches!(*mode, "native" | "tcx"));
    datapath["services"].as_u64() >= Some(services.into())
        && datapath["devices"].as_array().is_some_and(|all| all.len() == 2)
        && modes(status).is_some_and(hang)
}
