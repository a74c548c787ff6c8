//! Speakers joined by a cable that exists only in memory: no sockets, and time passes when told to.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bgp_speaker::config::{
    FamilyConfig, InstanceConfig, LocalRoute, PeerAddress, PeerConfig, RemoteAsn, SpeakerConfig,
};
use bgp_speaker::policy::{ExportPolicy, ImportPolicy, SetAttrs, Statement, Verdict};
use bgp_speaker::speaker::{
    Companions, ConnId, Event, Input, Output, PathView, PeerStatus, Speaker, Start, StateName, Table,
};
use bgp_speaker::types::{Asn, Family, Prefix, RouterId};
use bgp_speaker::wire::attrs::{Attrs, NextHop, Origin};

/// A speaker, its address and what it told.
pub(crate) struct Node {
    pub(crate) speaker: Speaker,
    pub(crate) address: IpAddr,
    pub(crate) events: Vec<Event>,
    listens: BTreeMap<u16, Arc<str>>,
    /// The other end of each connection.
    ends: BTreeMap<ConnId, (usize, ConnId)>,
}

pub(crate) struct Cable {
    pub(crate) now: Instant,
    pub(crate) nodes: Vec<Node>,
    queue: VecDeque<(usize, Input)>,
    next_accept: u64,
    /// What a node that takes nothing leaves with its peers' kernels: octets per node.
    pub(crate) stalled: BTreeMap<usize, usize>,
    /// Octets carried, all nodes together.
    pub(crate) carried: usize,
}

impl Cable {
    /// Nodes 10.0.0.1, 10.0.0.2 ... that are configured with nothing yet.
    pub(crate) fn new(nodes: usize) -> Self {
        let now = Instant::now();
        Self {
            now,
            nodes: (0..nodes).map(|n| fresh(n, Start::Cold)).collect(),
            queue: VecDeque::new(),
            next_accept: 0,
            stalled: BTreeMap::new(),
            carried: 0,
        }
    }

    pub(crate) fn configure(&mut self, node: usize, config: SpeakerConfig) {
        self.give(node, Input::Configured(Arc::new(config)));
    }

    /// One input, and everything that follows from it on all nodes.
    pub(crate) fn give(&mut self, node: usize, input: Input) {
        self.queue.push_back((node, input));
        while let Some((node, input)) = self.queue.pop_front() {
            let mut out = Vec::new();
            self.nodes[node].speaker.handle(self.now, input, &mut out);
            for output in out {
                self.carry_out(node, output);
            }
        }
    }

    /// Lets time pass, with every timer on the way.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let next = self
                .nodes
                .iter()
                .enumerate()
                .filter_map(|(n, node)| Some((node.speaker.next_timeout()?, n)))
                .min();
            match next {
                Some((at, node)) if at <= end => {
                    self.now = self.now.max(at);
                    self.give(node, Input::TimedOut);
                }
                Some(_) | None => break,
            }
        }
        self.now = end;
    }

    /// The process of a node dies without a word and starts anew; the kernel closes its connections.
    pub(crate) fn kill(&mut self, node: usize, start: Start) {
        let ends: Vec<(usize, ConnId)> = self.nodes[node].ends.values().copied().collect();
        let address = self.nodes[node].address;
        self.nodes[node] = fresh(node, start);
        self.nodes[node].address = address;
        for (other, conn) in ends {
            self.nodes[other].ends.remove(&conn);
            self.give(other, Input::Closed { conn, error: None });
        }
    }

    pub(crate) fn peer(&self, node: usize, name: &str) -> PeerStatus {
        let peers = self.nodes[node].speaker.peers();
        peers
            .into_iter()
            .find(|p| &*p.name == name)
            .expect("a peer of this name")
    }

    pub(crate) fn is_up(&self, node: usize, name: &str) -> bool {
        self.peer(node, name).state == StateName::Established
    }

    pub(crate) fn table(&self, node: usize, table: Table) -> Vec<PathView> {
        self.nodes[node]
            .speaker
            .routes(None, table, Family::IPV4_UNICAST, None)
            .expect("a table")
    }

    fn carry_out(&mut self, node: usize, output: Output) {
        match output {
            Output::Listen { instance, port, .. } => {
                self.nodes[node].listens.insert(port, instance.clone());
                self.queue.push_back((
                    node,
                    Input::Listened {
                        instance,
                        result: Ok(()),
                    },
                ));
            }
            Output::Unlisten { instance } => self.nodes[node].listens.retain(|_, i| *i != instance),
            Output::Dial { conn, to } => {
                let local = SocketAddr::new(self.nodes[node].address, 40000);
                let found = self.nodes.iter().enumerate().find_map(|(n, other)| {
                    let instance = other.listens.get(&to.remote.port())?;
                    (other.address == to.remote.ip()).then(|| (n, instance.clone()))
                });
                let Some((other, instance)) = found else {
                    let error = "connection refused".into();
                    self.queue.push_back((node, Input::ConnectFailed { conn, error }));
                    return;
                };
                let accepted = ConnId::Accepted(self.next_accept);
                self.next_accept += 1;
                self.nodes[node].ends.insert(conn, (other, accepted));
                self.nodes[other].ends.insert(accepted, (node, conn));
                let remote = to.remote;
                self.queue.push_back((
                    node,
                    Input::Connected {
                        conn,
                        local,
                        remote,
                        companions: Companions::default(),
                    },
                ));
                self.queue.push_back((
                    other,
                    Input::Accepted {
                        conn: accepted,
                        instance,
                        local: remote,
                        remote: local,
                        companions: Companions::default(),
                    },
                ));
            }
            Output::SetTtl { .. } => {}
            Output::Send { conn, bytes } => {
                let sent = Input::Sent {
                    conn,
                    bytes: bytes.len(),
                };
                self.carried += bytes.len();
                if let Some((other, conn)) = self.nodes[node].ends.get(&conn).copied() {
                    if let Some(waiting) = self.stalled.get_mut(&other) {
                        *waiting += bytes.len();
                        return;
                    }
                    self.queue.push_back((other, Input::Received { conn, bytes }));
                    self.queue.push_back((node, sent));
                }
            }
            Output::Close { conn, .. } => {
                if let Some((other, end)) = self.nodes[node].ends.remove(&conn) {
                    self.nodes[other].ends.remove(&end);
                    self.queue.push_back((
                        other,
                        Input::Closed {
                            conn: end,
                            error: None,
                        },
                    ));
                }
            }
            Output::Tell(event) => self.nodes[node].events.push(event),
        }
    }
}

fn fresh(node: usize, start: Start) -> Node {
    let last = u8::try_from(node + 1).expect("few nodes");
    Node {
        speaker: Speaker::new(node as u64, start),
        address: IpAddr::from([10, 0, 0, last]),
        events: Vec::new(),
        listens: BTreeMap::new(),
        ends: BTreeMap::new(),
    }
}

pub(crate) fn asn(number: u32) -> Asn {
    Asn::new(number).expect("not 0")
}

/// An instance of AS 65000 + n that listens on 179 and originates `routes`.
pub(crate) fn instance(
    node: u8,
    routes: BTreeMap<Prefix, LocalRoute>,
    peers: Vec<(&str, PeerConfig)>,
) -> InstanceConfig {
    InstanceConfig {
        asn: asn(65000 + u32::from(node)),
        router_id: RouterId::new([10, 0, 0, node].into()).expect("not 0.0.0.0"),
        listen: Some(179),
        peers: peers
            .into_iter()
            .map(|(name, peer)| (name.into(), peer))
            .collect(),
        routes: Arc::new(routes),
        maximum_paths: 1,
    }
}

pub(crate) fn speaker(instance: InstanceConfig) -> SpeakerConfig {
    SpeakerConfig {
        instances: BTreeMap::from([("main".into(), instance)]),
    }
}

/// A peer at 10.0.0.`node` in AS 65000 + `node` that accepts and announces every IPv4 route.
pub(crate) fn peer(node: u8) -> PeerConfig {
    let family = FamilyConfig {
        export: Arc::new(ExportPolicy { statements: all() }),
        import: Arc::new(ImportPolicy { statements: all() }),
        max_prefixes: None,
    };
    let address = PeerAddress::One(IpAddr::from([10, 0, 0, node]));
    PeerConfig {
        families: vec![(Family::IPV4_UNICAST, family)],
        ..PeerConfig::new(address, RemoteAsn::Is(asn(65000 + u32::from(node))))
    }
}

pub(crate) fn all() -> Vec<Statement> {
    vec![Statement {
        policy: "all".into(),
        prefixes: vec![],
        verdict: Verdict::Accept(SetAttrs::default()),
    }]
}

/// `count` host routes from 20.0.0.0 on.
pub(crate) fn hosts(count: u32) -> BTreeMap<Prefix, LocalRoute> {
    let local = NextHop::Ip(IpAddr::from([0, 0, 0, 0]));
    let attrs = Arc::new(Attrs::originated(Origin::Igp, local));
    let base = u32::from_be_bytes([20, 0, 0, 0]);
    (0..count)
        .map(|n| {
            let prefix = Prefix::V4 {
                bits: base + n,
                len: 32,
            };
            (
                prefix,
                LocalRoute {
                    attrs: Arc::clone(&attrs),
                },
            )
        })
        .collect()
}
