//! Real BGP daemons of the machine, each run inside a node: FRR, BIRD, GoBGP, OpenBGPD, ExaBGP.
//!
//! One [`RouterConfig`] says what a router should be, in words all five understand. A module per daemon turns
//! it into that daemon's configuration and commands, and turns what the daemon tells back into [`Seen`] routes
//! and [`Session`]s. [`Kind`] says what a daemon lacks, so that a test can say so too.
//!
//! ```text
//!   RouterConfig --render--> /run/router/{bgpd.conf, bird.conf, ...} --spawn--> daemon
//!   Origination  --vtysh, birdc, gobgp, bgpctl, a FIFO-->                       daemon
//!   Seen, Session <--parse-- JSON or text                                 <--   daemon
//! ```
//!
//! All files live in the node's own `/run`, so that any number of the same daemon run side by side.

mod bird;
mod exabgp;
mod frr;
mod gobgp;
mod lacks;
mod openbgpd;
mod seen;

pub use lacks::Feature;
pub use seen::{Ext, Seen};

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::{Error, Netns, Process, system, until};

/// Where a router keeps its files and sockets, inside its node.
pub const DIR: &str = "/run/router";

/// How long a daemon may take to answer its control socket after it was started. GoBGP's first start on a cold
/// page cache takes seconds, ExaBGP's on a starved machine half a minute.
const START_LIMIT: Duration = Duration::from_mins(1);

/// The daemons this machine can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Frr,
    Bird,
    GoBgp,
    OpenBgpd,
    ExaBgp,
}

impl Kind {
    pub const ALL: [Self; 5] = [Self::Frr, Self::Bird, Self::GoBgp, Self::OpenBgpd, Self::ExaBgp];

    /// As its makers write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Frr => "FRR",
            Self::Bird => "BIRD",
            Self::GoBgp => "GoBGP",
            Self::OpenBgpd => "OpenBGPD",
            Self::ExaBgp => "ExaBGP",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a router should be.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RouterConfig {
    pub asn: u32,
    pub router_id: Ipv4Addr,
    pub neighbors: Vec<Neighbor>,
}

/// One session of a router.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Neighbor {
    /// The other side.
    pub address: IpAddr,
    /// This side.
    pub local: IpAddr,
    pub asn: u32,
    pub families: Families,
    pub dials: Dials,
    /// TCP-MD5 key.
    pub password: Option<String>,
    pub ttl_security: TtlSecurity,
    /// Seconds. The keepalive interval is a third of it.
    pub hold: u16,
    /// Seconds the peer should keep our routes over a restart; `None` = no graceful restart.
    pub graceful_restart: Option<u16>,
    /// Next hop for IPv6 routes over a session between IPv4 addresses: daemons differ in what they make up.
    pub ipv6_next_hop: Option<IpAddr>,
}

/// The address families of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Families {
    Ipv4,
    Ipv6,
    Both,
    /// IPv4 unicast with IPv6 next hops (RFC 8950).
    Ipv4OverIpv6,
}

impl Families {
    #[must_use]
    pub fn has_ipv4(self) -> bool {
        match self {
            Self::Ipv4 | Self::Both | Self::Ipv4OverIpv6 => true,
            Self::Ipv6 => false,
        }
    }

    #[must_use]
    pub fn has_ipv6(self) -> bool {
        match self {
            Self::Ipv6 | Self::Both => true,
            Self::Ipv4 | Self::Ipv4OverIpv6 => false,
        }
    }

    /// The families whose routes are exchanged, as daemons call them.
    fn names(self) -> impl Iterator<Item = &'static str> {
        let all = [(self.has_ipv4(), "ipv4"), (self.has_ipv6(), "ipv6")];
        all.into_iter().filter_map(|(is_on, name)| is_on.then_some(name))
    }
}

/// The family of a prefix, as daemons call it.
fn family_of(prefix: IpNet) -> &'static str {
    match prefix {
        IpNet::V4(_) => "ipv4",
        IpNet::V6(_) => "ipv6",
    }
}

/// Who opens the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Dials {
    /// This router dials, and accepts too.
    Yes,
    /// It only accepts.
    Never,
}

/// GTSM (RFC 5082) for a direct neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TtlSecurity {
    Off,
    On,
}

/// A route for a router to originate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origination {
    pub prefix: IpNet,
    pub communities: Vec<(u16, u16)>,
    pub large: Vec<(u32, u32, u32)>,
    pub ext: Vec<Ext>,
    pub med: Option<u32>,
}

impl Origination {
    /// A route with no more than it needs.
    #[must_use]
    pub fn plain(prefix: IpNet) -> Self {
        Self {
            prefix,
            communities: Vec::new(),
            large: Vec::new(),
            ext: Vec::new(),
            med: None,
        }
    }
}

/// How a router sees one of its sessions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Session {
    Established,
    /// The daemon's own word for any other state.
    Down(String),
}

/// A daemon that runs (or ran) in a node. Dropping it kills it.
#[derive(Debug)]
pub struct Router {
    kind: Kind,
    node: Arc<Netns>,
    config: RouterConfig,
    originated: BTreeMap<IpNet, Origination>,
    start: Start,
    processes: Vec<Process>,
}

/// Whether a daemon runs for the first time in its node: a later time it says that it restarted (RFC 4724).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    First,
    Again,
}

impl Router {
    /// Starts a daemon and waits until it takes commands. One router per node.
    ///
    /// # Errors
    /// It is not installed, refuses its configuration, or does not answer in time.
    pub fn start(kind: Kind, node: &Arc<Netns>, config: RouterConfig) -> Result<Self, Error> {
        let mut router = Self {
            kind,
            node: Arc::clone(node),
            config,
            originated: BTreeMap::new(),
            start: Start::First,
            processes: Vec::new(),
        };
        // FRR and OpenBGPD drop privileges and then make sockets here.
        router.node.sh(&format!("mkdir -p -m 777 {DIR}"))?;
        router.run()?;
        Ok(router)
    }

    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    #[must_use]
    pub fn node(&self) -> &Netns {
        &self.node
    }

    #[must_use]
    pub fn config(&self) -> &RouterConfig {
        &self.config
    }

    /// What the next [`Router::run`] will make of it.
    pub fn config_mut(&mut self) -> &mut RouterConfig {
        &mut self.config
    }

    /// Starts the daemon again after [`Router::kill`] or [`Router::stop`], with the routes it originated before.
    ///
    /// # Errors
    /// As [`Router::start`].
    pub fn run(&mut self) -> Result<(), Error> {
        match self.kind {
            Kind::Frr => frr::run(self)?,
            Kind::Bird => bird::run(self)?,
            Kind::GoBgp => gobgp::run(self)?,
            Kind::OpenBgpd => openbgpd::run(self)?,
            Kind::ExaBgp => exabgp::run(self)?,
        }
        let probe = || match self.kind {
            Kind::Frr => frr::ready(self),
            Kind::Bird => bird::ready(self),
            Kind::GoBgp | Kind::OpenBgpd => self.knows_its_neighbors(),
            Kind::ExaBgp => exabgp::ready(self),
        };
        until(START_LIMIT, format!("{} to answer", self.kind), || {
            probe().map_err(|error| format!("{error}\n{}", self.log()))
        })?;
        self.start = Start::Again;
        match self.kind {
            // These take routes by command only, and have forgotten them.
            Kind::GoBgp | Kind::ExaBgp => {
                for route in self.originated.values() {
                    self.tell_route(route)?;
                }
            }
            Kind::Frr | Kind::Bird | Kind::OpenBgpd => {}
        }
        Ok(())
    }

    /// What shows that a daemon has read its configuration which takes commands before that.
    fn knows_its_neighbors(&self) -> Result<(), Error> {
        let mut neighbors = self.config.neighbors.iter();
        neighbors.try_for_each(|neighbor| self.session(neighbor.address).map(drop))
    }

    /// The state of the session with a neighbour.
    ///
    /// # Errors
    /// The daemon does not answer, or not in the words known here.
    pub fn session(&self, neighbor: IpAddr) -> Result<Session, Error> {
        match self.kind {
            Kind::Frr => frr::session(self, neighbor),
            Kind::Bird => bird::session(self, neighbor),
            Kind::GoBgp => gobgp::session(self, neighbor),
            Kind::OpenBgpd => openbgpd::session(self, neighbor),
            Kind::ExaBgp => exabgp::session(self, neighbor),
        }
    }

    /// Waits until the session with a neighbour is established.
    ///
    /// # Errors
    /// It is not after `limit`; the error carries the daemon's state and log.
    pub fn established(&self, neighbor: IpAddr, limit: Duration) -> Result<(), Error> {
        let what = format!("{} to establish with {neighbor}", self.kind);
        until(limit, what, || match self.session(neighbor) {
            Ok(Session::Established) => Ok(()),
            Ok(Session::Down(state)) => Err(format!("{state}\n{}", self.log())),
            Err(error) => Err(error.to_string()),
        })?;
        Ok(())
    }

    /// The routes received from a neighbour and not refused, in order of prefix.
    ///
    /// # Errors
    /// As [`Router::session`].
    pub fn received(&self, neighbor: IpAddr) -> Result<Vec<Seen>, Error> {
        let mut seen = match self.kind {
            Kind::Frr => frr::received(self, neighbor)?,
            Kind::Bird => bird::received(self, neighbor)?,
            Kind::GoBgp => gobgp::received(self, neighbor)?,
            Kind::OpenBgpd => openbgpd::received(self, neighbor)?,
            Kind::ExaBgp => exabgp::received(self, neighbor)?,
        };
        seen.sort_by_key(|route| route.prefix);
        Ok(seen)
    }

    /// Originates a route, or changes the attributes of one. A router that does not run will do so when it does.
    ///
    /// # Errors
    /// The daemon refuses it.
    pub fn announce(&mut self, route: Origination) -> Result<(), Error> {
        self.originated.insert(route.prefix, route.clone());
        if self.processes.is_empty() {
            return Ok(());
        }
        match self.kind {
            Kind::Frr => frr::announce(self, &route),
            Kind::Bird => bird::reload(self),
            Kind::OpenBgpd => openbgpd::reload(self),
            Kind::GoBgp | Kind::ExaBgp => self.tell_route(&route),
        }
    }

    /// Announces by command, for daemons whose configuration does not hold routes.
    fn tell_route(&self, route: &Origination) -> Result<(), Error> {
        match self.kind {
            Kind::GoBgp => gobgp::announce(self, route),
            Kind::ExaBgp => exabgp::announce(self, route),
            Kind::Frr | Kind::Bird | Kind::OpenBgpd => Ok(()),
        }
    }

    /// Withdraws a route it originated.
    ///
    /// # Errors
    /// The daemon refuses.
    pub fn withdraw(&mut self, prefix: IpNet) -> Result<(), Error> {
        let Some(route) = self.originated.remove(&prefix) else {
            return Ok(());
        };
        if self.processes.is_empty() {
            return Ok(());
        }
        match self.kind {
            Kind::Frr => frr::withdraw(self, &route),
            Kind::Bird => bird::reload(self),
            Kind::GoBgp => gobgp::withdraw(self, prefix),
            Kind::OpenBgpd => openbgpd::reload(self),
            Kind::ExaBgp => exabgp::withdraw(self, &route),
        }
    }

    /// Makes the daemon send ROUTE-REFRESH to a neighbour, for each family.
    ///
    /// # Errors
    /// The daemon refuses.
    pub fn ask_refresh(&self, neighbor: IpAddr) -> Result<(), Error> {
        match self.kind {
            Kind::Frr => frr::ask_refresh(self, neighbor),
            Kind::Bird => bird::ask_refresh(self, neighbor),
            Kind::GoBgp => gobgp::ask_refresh(self, neighbor),
            Kind::OpenBgpd => openbgpd::ask_refresh(self, neighbor),
            Kind::ExaBgp => exabgp::ask_refresh(self, neighbor),
        }
    }

    /// Stops every process of the router with SIGSTOP: its sockets stay open and silent.
    ///
    /// # Errors
    /// One has ended.
    pub fn freeze(&mut self) -> Result<(), Error> {
        self.signal_all(Signal::SIGSTOP)
    }

    /// Undoes [`Router::freeze`].
    ///
    /// # Errors
    /// One has ended.
    pub fn thaw(&mut self) -> Result<(), Error> {
        self.signal_all(Signal::SIGCONT)
    }

    /// Kills the router at once (SIGKILL): the kernel closes its sockets, it says nothing.
    pub fn kill(&mut self) {
        for pid in self.family() {
            let _ = kill(pid, Signal::SIGKILL);
        }
        for process in &mut self.processes {
            process.kill();
        }
        self.processes.clear();
    }

    /// Asks the daemon to end (SIGTERM) and waits for it: it says goodbye as it is used to.
    ///
    /// # Errors
    /// It does not end in time.
    pub fn stop(&mut self) -> Result<(), Error> {
        for process in &mut self.processes {
            process.signal(Signal::SIGTERM)?;
            process.wait(START_LIMIT)?;
        }
        self.processes.clear();
        Ok(())
    }

    /// All that the daemon wrote to its stdout, stderr or log.
    #[must_use]
    pub fn log(&self) -> String {
        let logs = self.processes.iter().map(|process| process.log());
        logs.collect::<Vec<_>>().join("\n")
    }

    fn signal_all(&mut self, signal: Signal) -> Result<(), Error> {
        let children = self.family();
        for process in &mut self.processes {
            process.signal(signal)?;
        }
        for pid in children.into_iter().skip(self.processes.len()) {
            kill(pid, signal)
                .map_err(std::io::Error::from)
                .map_err(system(format!("{signal} to {pid}")))?;
        }
        Ok(())
    }

    /// Pids of the daemon's processes and all that descend from them, parents first.
    fn family(&self) -> Vec<Pid> {
        let mut pids: Vec<_> = self.processes.iter().map(Process::pid).collect();
        let mut next = 0;
        while let Some(pid) = pids.get(next).copied() {
            // A process that has ended has no children to find.
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            pids.extend(
                children
                    .split_whitespace()
                    .filter_map(|pid| pid.parse().ok())
                    .map(Pid::from_raw),
            );
            next += 1;
        }
        pids
    }

    /// Starts a program of this router.
    fn spawn(&mut self, argv: &[&str]) -> Result<(), Error> {
        let process = self.node.spawn(argv)?;
        self.processes.push(process);
        Ok(())
    }

    /// Writes a file of this router. `name` is relative to [`DIR`].
    fn write(&self, name: &str, text: &str) -> Result<(), Error> {
        let path = format!("{DIR}/{name}");
        let mut tee = self.node.command("tee");
        tee.arg(&path).stdin(Stdio::piped()).stdout(Stdio::null());
        let written = tee.spawn().and_then(|mut child| {
            if let Some(mut stdin) = child.stdin.take() {
                stdin.write_all(text.as_bytes())?;
            }
            child.wait()
        });
        written.map(drop).map_err(system(format!("write {path}")))
    }

    fn neighbor(&self, address: IpAddr) -> Result<&Neighbor, Error> {
        let mut neighbors = self.config.neighbors.iter();
        neighbors
            .find(|neighbor| neighbor.address == address)
            .ok_or_else(|| self.strange(format!("{address} is not a neighbour")))
    }

    /// An answer that is not in the words known here.
    fn strange(&self, what: impl Into<String>) -> Error {
        Error::Strange {
            who: self.kind.name().into(),
            what: what.into(),
        }
    }
}
