//! Whatever happens to a speaker, in any order, some things stay true.
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bgp_speaker::config::{
    Connect, GracefulRestart, MaxPrefixes, MaxPrefixesAction, PeerAddress, RemoteAsn, SpeakerConfig,
};
use bgp_speaker::speaker::{Companions, ConnId, Input, Output, Request, Speaker, Start, StateName};
use bgp_speaker::types::{Family, HoldTime, Prefix, RouterId};
use bgp_speaker::wire::capability::{
    Capability, Forwarding, GracefulRestart as GracefulCapability, NotificationSupport, RestartState,
};
use bgp_speaker::wire::route_refresh::Subtype;
use bgp_speaker::wire::{Cease, Framer, MessageType, Notification, Open, RouteRefresh, keepalive, update};
use bytes::Bytes;
use proptest::prelude::*;

use crate::cable::{asn, hosts, instance, peer, speaker};

/// What can happen. Numbers choose among what is there.
#[derive(Debug, Clone)]
enum Step {
    Configure(u8),
    Connected(u8),
    Refused(u8),
    Accepted(u8),
    Closed(u8),
    /// On which connection, and what.
    Heard(u8, u8),
    Acked(u8, u32),
    Passed(u32),
    Asked(u8),
    LinkDown(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => (0..6_u8).prop_map(Step::Configure),
        4 => any::<u8>().prop_map(Step::Connected),
        1 => any::<u8>().prop_map(Step::Refused),
        3 => (2..6_u8).prop_map(Step::Accepted),
        2 => any::<u8>().prop_map(Step::Closed),
        12 => (any::<u8>(), 0..14_u8).prop_map(|(conn, what)| Step::Heard(conn, what)),
        3 => (any::<u8>(), 0..300_000_u32).prop_map(|(conn, n)| Step::Acked(conn, n)),
        3 => (0..100_000_u32).prop_map(Step::Passed),
        1 => (0..4_u8).prop_map(Step::Asked),
        1 => (2..6_u8).prop_map(Step::LinkDown),
    ]
}

/// A conn as this side of the test sees it.
struct Conn {
    peer: IpAddr,
    connected: bool,
    in_flight: usize,
    framer: Framer,
    updates: bool,
}

struct World {
    speaker: Speaker,
    now: Instant,
    conns: BTreeMap<ConnId, Conn>,
    closed: BTreeSet<ConnId>,
    next_accept: u64,
}

impl World {
    fn new(start: Start) -> Self {
        let now = Instant::now();
        Self {
            speaker: Speaker::new(7, start),
            now,
            conns: BTreeMap::new(),
            closed: BTreeSet::new(),
            next_accept: 0,
        }
    }

    fn play(&mut self, step: &Step) {
        match *step {
            Step::Configure(which) => self.give(Input::Configured(Arc::new(config(which)))),
            Step::Connected(n) => {
                if let Some((conn, remote)) = self.pick(n, |c| !c.connected) {
                    self.conns.get_mut(&conn).unwrap().connected = true;
                    let (local, remote) = (socket(1, 40000), SocketAddr::new(remote, 179));
                    self.give(Input::Connected {
                        conn,
                        local,
                        remote,
                        companions: Companions::default(),
                    });
                }
            }
            Step::Refused(n) => {
                if let Some((conn, _)) = self.pick(n, |c| !c.connected) {
                    self.conns.remove(&conn);
                    self.closed.insert(conn);
                    let error = "connection refused".into();
                    self.give(Input::ConnectFailed { conn, error });
                }
            }
            Step::Accepted(node) => {
                let conn = ConnId::Accepted(self.next_accept);
                self.next_accept += 1;
                let remote = socket(node, 50000);
                self.conns.insert(conn, Conn::new(remote.ip(), true));
                self.give(Input::Accepted {
                    conn,
                    instance: "main".into(),
                    local: socket(1, 179),
                    remote,
                    companions: Companions::default(),
                });
            }
            Step::Closed(n) => {
                if let Some((conn, _)) = self.pick(n, |c| c.connected) {
                    self.conns.remove(&conn);
                    self.closed.insert(conn);
                    self.give(Input::Closed { conn, error: None });
                }
            }
            Step::Heard(n, what) => {
                if let Some((conn, peer)) = self.pick(n, |c| c.connected) {
                    let bytes = message(what, peer);
                    self.give(Input::Received { conn, bytes });
                }
            }
            Step::Acked(n, bytes) => {
                if let Some((conn, _)) = self.pick(n, |c| c.in_flight > 0) {
                    let known = self.conns.get_mut(&conn).unwrap();
                    let bytes = (bytes as usize).min(known.in_flight);
                    known.in_flight -= bytes;
                    self.give(Input::Sent { conn, bytes });
                }
            }
            Step::Passed(millis) => self.pass(Duration::from_millis(u64::from(millis))),
            Step::Asked(what) => {
                let (instance, peer) = ("main".into(), None);
                self.give(Input::Asked(match what {
                    0 => Request::RefreshIn { instance, peer },
                    1 => Request::RefreshOut { instance, peer },
                    _ => Request::Reset {
                        instance,
                        peer,
                        text: "test".into(),
                    },
                }));
            }
            Step::LinkDown(node) => self.give(Input::LinkDown {
                interface: "eth0".into(),
                peers: vec![socket(node, 0).ip()],
            }),
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        let mut still = 0;
        while let Some(at) = self.speaker.next_timeout().filter(|at| *at <= end) {
            still = if at <= self.now { still + 1 } else { 0 };
            assert!(still < 20, "a timer stays due");
            self.now = self.now.max(at);
            self.give(Input::TimedOut);
        }
        self.now = end;
    }

    fn give(&mut self, input: Input) {
        let mut out = Vec::new();
        self.speaker.handle(self.now, input, &mut out);
        for output in out {
            self.check_output(output);
        }
        self.check_state();
    }

    fn check_output(&mut self, output: Output) {
        match output {
            Output::Dial { conn, to } => {
                let fresh = self.conns.insert(conn, Conn::new(to.remote.ip(), false));
                assert!(fresh.is_none() && !self.closed.contains(&conn), "{conn:?} twice");
            }
            Output::Send { conn, bytes } => {
                let known = self
                    .conns
                    .get_mut(&conn)
                    .expect("sends only where a connection is");
                assert!(known.connected, "sends only after it is connected");
                known.in_flight += bytes.len();
                known.framer.push(bytes);
                while let Some(frame) = known.framer.next().expect("sends only well-formed messages") {
                    known.updates |= frame.kind == MessageType::Update;
                }
                // The credit, one buffer over it, and short messages.
                assert!(
                    known.in_flight < (256 + 80) * 1024,
                    "{} octets wait",
                    known.in_flight
                );
            }
            Output::SetTtl { conn, .. } => {
                assert!(
                    self.conns.contains_key(&conn),
                    "sets options only where a connection is"
                );
            }
            Output::Close { conn, .. } => {
                assert!(self.conns.remove(&conn).is_some(), "closes once: {conn:?}");
                self.closed.insert(conn);
            }
            Output::Listen { .. } | Output::Unlisten { .. } | Output::Tell(_) => {}
        }
    }

    fn check_state(&self) {
        let mut speaking: BTreeMap<IpAddr, u32> = BTreeMap::new();
        let mut all: BTreeMap<IpAddr, u32> = BTreeMap::new();
        for conn in self.conns.values() {
            *all.entry(conn.peer).or_default() += 1;
            *speaking.entry(conn.peer).or_default() += u32::from(conn.updates);
        }
        assert!(
            all.values().all(|n| *n <= 2),
            "at most two connections per peer: {all:?}"
        );
        assert!(
            speaking.values().all(|n| *n <= 1),
            "one established session per peer"
        );
        for peer in self.speaker.peers() {
            let up = peer.state == StateName::Established;
            assert_eq!(peer.established_since.is_some(), up, "{}", peer.name);
            let agreed = peer.state >= StateName::OpenConfirm;
            assert_eq!(peer.applied_hold.is_some(), agreed, "{}", peer.name);
            assert!(
                up || peer.families.iter().all(|f| f.advertised == 0),
                "nothing is advertised without a session"
            );
            let conns = all.get(&peer.address).copied().unwrap_or(0);
            assert!(
                conns > 0 || matches!(peer.state, StateName::Idle | StateName::Active),
                "{} is {:?} without a connection",
                peer.name,
                peer.state
            );
        }
    }

    fn pick(&self, n: u8, wanted: impl Fn(&Conn) -> bool) -> Option<(ConnId, IpAddr)> {
        let found: Vec<_> = self.conns.iter().filter(|(_, c)| wanted(c)).collect();
        let (conn, known) = found.get(usize::from(n) % found.len().max(1))?;
        Some((**conn, known.peer))
    }
}

impl Conn {
    fn new(peer: IpAddr, connected: bool) -> Self {
        let mut framer = Framer::new();
        framer.set_limit(65535);
        Self {
            peer,
            connected,
            in_flight: 0,
            framer,
            updates: false,
        }
    }
}

fn socket(node: u8, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::from([10, 0, 0, node]), port)
}

fn config(which: u8) -> SpeakerConfig {
    let mut active = peer(2);
    let mut passive = peer(3);
    passive.connect = Connect::Passive;
    passive.graceful_restart = Some(GracefulRestart { restart_time: 60 });
    let mut dynamic = peer(4);
    dynamic.address = PeerAddress::Prefix {
        prefix: Prefix::new(IpAddr::from([10, 0, 0, 4]), 31).unwrap(),
        limit: 2,
    };
    dynamic.remote_asn = RemoteAsn::Any;
    let mut routes = hosts(10);
    match which {
        0 => {}
        // More than the credit of a connection.
        1 => routes = hosts(60_000),
        2 => active.timers.hold = HoldTime::new(9).unwrap(),
        3 => {
            passive.families[0].1.max_prefixes = Some(MaxPrefixes {
                limit: 1,
                warning_percent: 50,
                action: MaxPrefixesAction::Teardown { restart: None },
            });
        }
        4 => passive.shutdown = Some("rest".into()),
        _ => return speaker(instance(1, hosts(3), vec![("a", active)])),
    }
    let peers = vec![("a", active), ("p", passive), ("d", dynamic)];
    speaker(instance(1, routes, peers))
}

fn message(what: u8, peer: IpAddr) -> Bytes {
    let IpAddr::V4(address) = peer else {
        unreachable!("IPv4 only")
    };
    let number = 65000 + u32::from(address.octets()[3]);
    let open = |capabilities| {
        Open {
            asn: asn(number),
            hold_time: HoldTime::new(90).unwrap(),
            router_id: RouterId::new(address).unwrap(),
            capabilities,
        }
        .encode()
    };
    let graceful = |state| {
        Capability::GracefulRestart(GracefulCapability {
            state,
            notification: NotificationSupport::Yes,
            restart_time: 60,
            families: vec![(Family::IPV4_UNICAST, Forwarding::Preserved)],
        })
    };
    let refresh = |subtype| {
        RouteRefresh {
            family: Family::IPV4_UNICAST,
            subtype,
        }
        .encode()
    };
    match what {
        0 | 1 => open(vec![Capability::RouteRefresh, Capability::FourOctetAsn(number)]),
        2 | 3 => open(vec![
            Capability::RouteRefresh,
            Capability::EnhancedRouteRefresh,
            Capability::ExtendedMessage,
            graceful(RestartState::Restarted),
        ]),
        4..=6 => keepalive::encode(),
        7 => update::encode_end_of_rib(Family::IPV4_UNICAST),
        8 => Bytes::from_static(&[
            // 30.0.0.0/24 and 30.0.1.0/24 from AS 65003, next hop 10.0.0.9.
            255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0, 51, 2, 0, 0, 0,
            20, 0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 253, 235, 0x40, 3, 4, 10, 0, 0, 9, 24, 30, 0, 0, 24,
            30, 0, 1,
        ]),
        9 => refresh(Subtype::Request),
        10 => refresh(Subtype::Begin),
        11 => refresh(Subtype::End),
        12 => Notification::cease(Cease::AdministrativeReset).encode(),
        _ => Bytes::from_static(&[0; 40]),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_invariants_hold(steps in prop::collection::vec(step(), 1..120), restarted: bool) {
        let start = if restarted { Start::Restarted } else { Start::Cold };
        let mut world = World::new(start);
        world.play(&Step::Configure(0));
        for step in &steps {
            world.play(step);
        }
        // Left alone for a day it neither spins nor keeps stale routes.
        for conn in world.conns.values_mut() {
            conn.in_flight = 0;
        }
        let open: Vec<ConnId> = world.conns.keys().copied().collect();
        for conn in open {
            if world.conns.remove(&conn).is_some_and(|c| c.connected) {
                world.closed.insert(conn);
                world.give(Input::Closed { conn, error: None });
            } else {
                world.closed.insert(conn);
                world.give(Input::ConnectFailed { conn, error: "gone".into() });
            }
        }
        world.play(&Step::Configure(5));
        world.pass(Duration::from_secs(3600));
        for peer in world.speaker.peers() {
            prop_assert!(peer.families.iter().all(|f| f.stale == 0));
        }
    }

    #[test]
    fn the_same_inputs_and_seed_give_the_same_outputs(steps in prop::collection::vec(step(), 1..60)) {
        let run = || {
            let mut world = World::new(Start::Cold);
            let began = world.now;
            world.play(&Step::Configure(0));
            let mut timeouts = Vec::new();
            for step in &steps {
                world.play(step);
                timeouts.push(world.speaker.next_timeout().map(|at| at.saturating_duration_since(began)));
            }
            (timeouts, world.closed)
        };
        prop_assert_eq!(run(), run());
    }
}
