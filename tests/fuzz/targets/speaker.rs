//! A whole speaker: octets choose what happens, in what order, and what peers say.
#![no_main]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bgp_speaker::config::{
    FamilyConfig, GracefulRestart, InstanceConfig, LocalRoute, MaxPrefixes, MaxPrefixesAction, PeerAddress,
    PeerConfig, RemoteAsn, SpeakerConfig, Timers,
};
use bgp_speaker::policy::{ExportPolicy, ImportPolicy, SetAttrs, Statement, Verdict};
use bgp_speaker::speaker::{Companions, ConnId, Input, Output, Request, Shutdown, Speaker, Start, Table};
use bgp_speaker::types::{Asn, Family, HoldTime, Prefix, RouterId};
use bgp_speaker::wire::attrs::{Attrs, NextHop, Origin};
use bgp_speaker::wire::capability::{self, Capability, ExtendedNextHop};
use bgp_speaker::wire::{Open, keepalive};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

const HERE: u32 = 65001;

/// Sources a connection can come from: two peers, two dynamic neighbours, a stranger.
const SOURCES: [[u8; 4]; 5] = [
    [10, 0, 0, 2],
    [10, 0, 0, 3],
    [10, 1, 0, 1],
    [10, 1, 0, 2],
    [192, 0, 2, 9],
];

struct World {
    speaker: Speaker,
    now: Instant,
    /// What the shell knows of, with the octets it was given and did not report as sent.
    connections: BTreeMap<ConnId, usize>,
    dialling: Vec<(ConnId, SocketAddr)>,
    accepted: u64,
}

fn asn(number: u32) -> Asn {
    Asn::new(number).expect("not 0")
}

fn families(limit: Option<u32>) -> Vec<(Family, FamilyConfig)> {
    let all = Statement {
        policy: "all".into(),
        prefixes: vec![],
        verdict: Verdict::Accept(SetAttrs::default()),
    };
    [Family::IPV4_UNICAST, Family::IPV6_UNICAST]
        .map(|family| {
            let config = FamilyConfig {
                export: Arc::new(ExportPolicy {
                    statements: vec![all.clone()],
                }),
                import: Arc::new(ImportPolicy {
                    statements: vec![all.clone()],
                }),
                max_prefixes: limit.map(|limit| MaxPrefixes {
                    limit,
                    warning_percent: 75,
                    action: MaxPrefixesAction::Teardown {
                        restart: Some(Duration::from_secs(5)),
                    },
                }),
            };
            (family, config)
        })
        .into()
}

fn peer(address: PeerAddress, remote_asn: RemoteAsn, limit: Option<u32>) -> PeerConfig {
    PeerConfig {
        timers: Timers {
            connect_retry: Duration::from_secs(5),
            hold: HoldTime::new(9).expect("over 2"),
            keepalive: Duration::from_secs(3),
            ..Timers::default()
        },
        graceful_restart: Some(GracefulRestart { restart_time: 30 }),
        families: families(limit),
        ..PeerConfig::new(address, remote_asn)
    }
}

fn config(variant: u8) -> SpeakerConfig {
    if variant % 4 == 3 {
        return SpeakerConfig::default();
    }
    let one = |n: usize| PeerAddress::One(IpAddr::from(SOURCES[n]));
    let dynamic = PeerAddress::Prefix {
        prefix: Prefix::new([10, 1, 0, 0].into(), 24).expect("at most 32"),
        limit: 1,
    };
    let limit = (variant % 4 == 1).then_some(3);
    let peers = [
        ("external", peer(one(0), RemoteAsn::Is(asn(65002)), limit)),
        ("internal", peer(one(1), RemoteAsn::Is(asn(HERE)), None)),
        ("dynamic", peer(dynamic, RemoteAsn::Any, limit)),
    ];
    let local = NextHop::Ip(Ipv4Addr::UNSPECIFIED.into());
    let attrs = Arc::new(Attrs::originated(Origin::Igp, local));
    let routes = (0..variant % 4)
        .map(|n| {
            (
                Prefix::host([192, 0, 2, n].into()),
                LocalRoute {
                    attrs: Arc::clone(&attrs),
                },
            )
        })
        .collect();
    let instance = InstanceConfig {
        asn: asn(HERE),
        router_id: RouterId::new([10, 0, 0, 1].into()).expect("not 0"),
        listen: Some(179),
        peers: peers
            .into_iter()
            .map(|(name, peer)| (name.into(), peer))
            .collect(),
        routes: Arc::new(routes),
        maximum_paths: 2,
    };
    SpeakerConfig {
        instances: BTreeMap::from([("a".into(), instance)]),
    }
}

/// An OPEN that the peers of [`config`] accept, and KEEPALIVE.
fn hello(kind: u8) -> Bytes {
    let number = if kind & 1 == 0 { 65002 } else { HERE };
    let mut capabilities = vec![
        Capability::Multiprotocol(Family::IPV4_UNICAST),
        Capability::Multiprotocol(Family::IPV6_UNICAST),
        Capability::RouteRefresh,
    ];
    if kind & 2 == 0 {
        capabilities.push(Capability::FourOctetAsn(number));
    }
    if kind & 4 == 0 {
        capabilities.push(Capability::EnhancedRouteRefresh);
        capabilities.push(Capability::ExtendedMessage);
        capabilities.push(Capability::ExtendedNextHop(vec![ExtendedNextHop {
            family: Family::IPV4_UNICAST,
            next_hop_afi: 2,
        }]));
    }
    if kind & 8 == 0 {
        capabilities.push(Capability::GracefulRestart(capability::GracefulRestart {
            state: capability::RestartState::Restarted,
            notification: capability::NotificationSupport::Yes,
            restart_time: 10,
            families: vec![
                (Family::IPV4_UNICAST, capability::Forwarding::Preserved),
                (Family::IPV6_UNICAST, capability::Forwarding::Lost),
            ],
        }));
    }
    let open = Open {
        asn: asn(number),
        hold_time: HoldTime::new(if kind & 16 == 0 { 9 } else { 0 }).expect("acceptable"),
        router_id: RouterId::new([10, 9, kind, 1].into()).expect("not 0"),
        capabilities,
    };
    [open.encode(), keepalive::encode()].concat().into()
}

/// A message with a sound header.
fn framed(kind: u8, body: &[u8]) -> Bytes {
    let mut out = vec![0xff; 16];
    out.extend(u16::try_from(body.len() + 19).expect("short").to_be_bytes());
    out.push(kind);
    out.extend(body);
    out.into()
}

impl World {
    fn give(&mut self, input: Input) {
        let mut out = Vec::new();
        self.speaker.handle(self.now, input, &mut out);
        assert!(out.len() < 10_000, "one input led to {} orders", out.len());
        for output in out {
            match output {
                Output::Listen { instance, .. } => self.give(Input::Listened {
                    instance,
                    result: Ok(()),
                }),
                Output::Dial { conn, to } => self.dialling.push((conn, to.remote)),
                Output::Send { conn, bytes } => {
                    let in_flight = self
                        .connections
                        .get_mut(&conn)
                        .expect("sent on a closed connection");
                    *in_flight += bytes.len();
                    assert!(*in_flight < 1 << 20, "{in_flight} octets wait");
                }
                Output::SetTtl { conn, .. } => {
                    assert!(
                        self.connections.contains_key(&conn),
                        "an option of a closed connection"
                    );
                }
                Output::Close { conn, .. } => {
                    let dialled = self.dialling.iter().position(|(dialled, _)| *dialled == conn);
                    if let Some(at) = dialled {
                        self.dialling.remove(at);
                    } else {
                        assert!(self.connections.remove(&conn).is_some(), "closed twice");
                    }
                }
                Output::Unlisten { .. } | Output::Tell(_) => {}
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        let mut times = 0;
        while self.speaker.next_timeout().is_some_and(|due| due <= self.now) {
            self.give(Input::TimedOut);
            times += 1;
            assert!(times < 1000, "timers that are always due");
        }
    }

    fn pick(&self, byte: u8) -> Option<ConnId> {
        let count = self.connections.len();
        self.connections
            .keys()
            .copied()
            .nth(usize::from(byte).checked_rem(count)?)
    }

    fn receive(&mut self, which: u8, bytes: Bytes) {
        if let Some(conn) = self.pick(which) {
            self.give(Input::Received { conn, bytes });
        }
    }
}

fn take<'a>(data: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (head, tail) = data.split_at(count.min(data.len()));
    *data = tail;
    head
}

fuzz_target!(|data: &[u8]| {
    let mut data = data;
    let now = Instant::now();
    let [first, ..] = *data else { return };
    let start = if first & 1 == 0 {
        Start::Cold
    } else {
        Start::Restarted
    };
    let mut world = World {
        speaker: Speaker::new(1, start),
        now,
        connections: BTreeMap::new(),
        dialling: Vec::new(),
        accepted: 0,
    };
    world.give(Input::Configured(Arc::new(config(first))));
    while let [op, arg, ..] = *data {
        take(&mut data, 2);
        match op % 16 {
            0 => world.pass(Duration::from_millis(u64::from(arg) * 100)),
            1 => {
                if let Some((conn, remote)) = world.dialling.pop() {
                    world.connections.insert(conn, 0);
                    let local = SocketAddr::from(([10, 0, 0, 1], 40000));
                    world.give(Input::Connected {
                        conn,
                        local,
                        remote,
                        companions: Companions::default(),
                    });
                }
            }
            2 => {
                if let Some((conn, _)) = world.dialling.pop() {
                    let error = "refused".into();
                    world.give(Input::ConnectFailed { conn, error });
                }
            }
            3 => {
                let conn = ConnId::Accepted(world.accepted);
                world.accepted += 1;
                world.connections.insert(conn, 0);
                let source = SOURCES[usize::from(arg) % SOURCES.len()];
                world.give(Input::Accepted {
                    conn,
                    instance: "a".into(),
                    local: SocketAddr::from(([10, 0, 0, 1], 179)),
                    remote: SocketAddr::from((source, 50000)),
                    companions: Companions::default(),
                });
            }
            4 => {
                let octets = take(&mut data, usize::from(arg));
                world.receive(op >> 4, Bytes::copy_from_slice(octets));
            }
            5 => {
                let body = take(&mut data, usize::from(arg));
                world.receive(op >> 4, framed(arg % 6, body));
            }
            6 | 13 => world.receive(op >> 4, hello(arg)),
            7 | 14 => {
                let body = take(&mut data, usize::from(arg) * 4);
                world.receive(op >> 4, framed(2, body));
            }
            8 => {
                if let Some(conn) = world.pick(arg) {
                    let bytes = world.connections.insert(conn, 0).unwrap_or(0);
                    world.give(Input::Sent { conn, bytes });
                }
            }
            9 => {
                if let Some(conn) = world.pick(arg) {
                    world.connections.remove(&conn);
                    world.give(Input::Closed { conn, error: None });
                }
            }
            10 => {
                let instance: Arc<str> = "a".into();
                let request = match arg % 3 {
                    0 => Request::Reset {
                        instance,
                        peer: None,
                        text: "fuzz".into(),
                    },
                    1 => Request::RefreshIn { instance, peer: None },
                    _ => Request::RefreshOut { instance, peer: None },
                };
                world.give(Input::Asked(request));
            }
            11 => world.give(Input::Configured(Arc::new(config(arg)))),
            12 => world.give(Input::LinkDown {
                interface: "eth0".into(),
                peers: vec![IpAddr::from(SOURCES[usize::from(arg) % SOURCES.len()])],
            }),
            _ => world.receive(op >> 4, keepalive::encode()),
        }
    }
    let peers = world.speaker.peers();
    assert!(peers.len() <= 4, "more peers than configured");
    for table in [Table::LocRib, Table::AdjRibIn, Table::AdjRibOut] {
        let _ = world.speaker.routes(None, table, Family::IPV4_UNICAST, None);
    }
    let how = if first & 2 == 0 {
        Shutdown::Restart
    } else {
        Shutdown::Stop
    };
    world.give(Input::Asked(Request::Shutdown(how)));
    assert!(world.connections.is_empty(), "connections outlive the speaker");
});
