//! Speakers over TCP on loopback, against each other and against a peer written by hand.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod peer;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bgp_speaker::config::{
    Auth, Connect, FamilyConfig, GracefulRestart, InstanceConfig, LocalRoute, PeerAddress, PeerConfig,
    ReflectorClient, RemoteAsn, SpeakerConfig, Timers, Ttl,
};
use bgp_speaker::net::{self, Handle, Options, RouteQuery};
use bgp_speaker::policy::{ExportPolicy, ImportPolicy, SetAttrs, SetNextHop, Statement, Verdict};
use bgp_speaker::speaker::{Event, Shutdown, Start, StateName, Table};
use bgp_speaker::types::{Asn, Family, HoldTime, Prefix, RouterId, Secret};
use bgp_speaker::wire::attrs::{AsPath, Attrs, NextHop, Origin};
use bgp_speaker::wire::{MessageType, Notification, keepalive};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use peer::Peer;

/// Longer than anything here takes, on a machine that does much else.
const LIMIT: Duration = Duration::from_secs(120);

struct Running {
    handle: Handle,
    events: mpsc::Receiver<Event>,
    task: JoinHandle<()>,
}

impl Running {
    fn start(config: InstanceConfig) -> Self {
        let (handle, events, task) = net::start(Start::Cold, 1, Options::default());
        let instances = BTreeMap::from([("main".into(), config)]);
        handle.configure(Arc::new(SpeakerConfig { instances }));
        Self { handle, events, task }
    }

    /// Waits until the peer of this name is in this state.
    async fn until(&mut self, name: &str, wanted: StateName) {
        let reached = async {
            loop {
                match self.events.recv().await.unwrap() {
                    Event::State { peer, to, .. } if &*peer == name && to == wanted => break,
                    _ => {}
                }
            }
        };
        tokio::time::timeout(LIMIT, reached).await.unwrap();
    }

    async fn end(self, how: Shutdown) {
        self.handle.shutdown(how).await.unwrap();
        tokio::time::timeout(LIMIT, self.task).await.unwrap().unwrap();
    }
}

fn asn(number: u32) -> Asn {
    Asn::new(number).unwrap()
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("0.0.0.0:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

fn all() -> Vec<Statement> {
    vec![Statement {
        policy: "all".into(),
        prefixes: vec![],
        // The addresses of the sessions are loopback ones, which are no next hop.
        verdict: Verdict::Accept(SetAttrs {
            next_hop: SetNextHop::Is(NextHop::Ip([192, 0, 2, 1].into())),
            ..SetAttrs::default()
        }),
    }]
}

/// The peer at 127.0.0.`n`, AS 65000 + `n`.
fn neighbour(n: u8, port: u16) -> PeerConfig {
    PeerConfig {
        address: PeerAddress::One([127, 0, 0, n].into()),
        port,
        remote_asn: RemoteAsn::Is(asn(65000 + u32::from(n))),
        local_address: None,
        interface: None,
        connect: Connect::Passive,
        auth: Auth::None,
        ttl: Ttl::Direct,
        timers: Timers::default(),
        graceful_restart: None,
        families: vec![(
            Family::IPV4_UNICAST,
            FamilyConfig {
                export: Arc::new(ExportPolicy { statements: all() }),
                import: Arc::new(ImportPolicy { statements: all() }),
                max_prefixes: None,
            },
        )],
        shutdown: None,
        reflector_client: ReflectorClient::No,
    }
}

/// AS 65000 + `n`, with `routes` host routes.
fn instance(n: u8, listen: Option<u16>, routes: u32, peers: Vec<(&str, PeerConfig)>) -> InstanceConfig {
    let attrs = Arc::new(Attrs {
        origin: Origin::Igp,
        as_path: AsPath::default(),
        next_hop: NextHop::Ip(Ipv4Addr::UNSPECIFIED.into()),
        med: None,
        local_pref: None,
        atomic_aggregate: false,
        aggregator: None,
        communities: vec![],
        ext_communities: vec![],
        large_communities: vec![],
        originator_id: None,
        cluster_list: vec![],
        unknown: vec![],
    });
    let routes = (0..routes)
        .map(|n| {
            let prefix = Prefix::host(IpAddr::from((0x1400_0000 + n).to_be_bytes()));
            (
                prefix,
                LocalRoute {
                    attrs: Arc::clone(&attrs),
                },
            )
        })
        .collect();
    InstanceConfig {
        asn: asn(65000 + u32::from(n)),
        router_id: RouterId::new([10, 0, 0, n].into()).unwrap(),
        listen,
        peers: peers
            .into_iter()
            .map(|(name, peer)| (name.into(), peer))
            .collect(),
        routes: Arc::new(routes),
        maximum_paths: 1,
    }
}

#[tokio::test]
async fn two_speakers_with_a_password_exchange_routes_over_tcp() {
    let port = free_port();
    let md5 = || Auth::Md5(Secret::new(b"s3cret").unwrap());
    // Both are 127.0.0.x: the one dials from .2 to .1.
    let listens = PeerConfig {
        auth: md5(),
        ..neighbour(2, port)
    };
    let dials = PeerConfig {
        auth: md5(),
        connect: Connect::ActiveAndPassive,
        local_address: Some([127, 0, 0, 2].into()),
        ..neighbour(1, port)
    };
    let mut one = Running::start(instance(1, Some(port), 1000, vec![("two", listens)]));
    let mut two = Running::start(instance(2, None, 0, vec![("one", dials)]));
    one.until("two", StateName::Established).await;
    two.until("one", StateName::Established).await;
    let learned = async {
        loop {
            let event = two.events.recv().await.unwrap();
            if let Event::EndOfRib { .. } | Event::Changed { .. } = event {
                let query = RouteQuery {
                    instance: None,
                    table: Table::LocRib,
                    family: Family::IPV4_UNICAST,
                    peer: None,
                };
                if two.handle.routes(query).await.unwrap().len() == 1000 {
                    break;
                }
            }
        }
    };
    tokio::time::timeout(LIMIT, learned).await.unwrap();
    assert!(one.handle.peers().await.unwrap()[0].md5);
    one.end(Shutdown::Stop).await;
    two.until("one", StateName::Idle).await;
    two.end(Shutdown::Stop).await;
}

#[tokio::test]
async fn a_peer_that_takes_nothing_delays_no_keepalive_of_another_and_gets_all_routes_in_the_end() {
    const ROUTES: usize = 300_000;
    let port = free_port();
    let quick = Timers {
        hold: HoldTime::new(3).unwrap(),
        ..Timers::default()
    };
    let slow = PeerConfig {
        timers: Timers {
            hold: HoldTime::new(0).unwrap(),
            ..Timers::default()
        },
        ..neighbour(2, port)
    };
    let fast = PeerConfig {
        timers: quick,
        families: vec![(
            Family::IPV4_UNICAST,
            FamilyConfig {
                export: Arc::default(),
                import: Arc::default(),
                max_prefixes: None,
            },
        )],
        ..neighbour(3, port)
    };
    let routes = u32::try_from(ROUTES).unwrap();
    let peers = vec![("stalled", slow), ("quick", fast)];
    let mut speaker = Running::start(instance(1, Some(port), routes, peers));
    let mut stalled = Peer::dial(2, SocketAddr::from(([127, 0, 0, 1], port)), 0).await;
    speaker.until("stalled", StateName::Established).await;
    // From here on it reads nothing; the table does not fit the kernel's buffers.
    let mut quick = Peer::dial(3, SocketAddr::from(([127, 0, 0, 1], port)), 3).await;
    speaker.until("quick", StateName::Established).await;
    let mut keepalives = 0;
    while keepalives < 4 {
        let frame = quick.next().await.expect("the quick session lives");
        if frame.kind == MessageType::Keepalive {
            keepalives += 1;
            quick.send(keepalive::encode()).await;
        }
        assert_ne!(frame.kind, MessageType::Notification);
    }
    assert_eq!(stalled.take_routes(ROUTES).await, ROUTES);
    speaker.end(Shutdown::Stop).await;
}

#[tokio::test]
async fn a_flood_of_nonsense_is_answered_and_closed_and_nobody_else_is_touched() {
    let port = free_port();
    let peers = vec![("bad", neighbour(2, port)), ("good", neighbour(3, port))];
    let mut speaker = Running::start(instance(1, Some(port), 10, peers));
    let to = SocketAddr::from(([127, 0, 0, 1], port));
    let mut good = Peer::dial(3, to, 90).await;
    speaker.until("good", StateName::Established).await;
    let mut bad = Peer::dial(2, to, 90).await;
    speaker.until("bad", StateName::Established).await;
    bad.send(vec![0x5a; 100_000].into()).await;
    let answer = bad.notification().await.unwrap();
    assert_eq!((answer.code, answer.subcode), (1, 1));
    assert_eq!(good.take_routes(10).await, 10);
    speaker.end(Shutdown::Stop).await;
}

#[tokio::test]
async fn a_restart_closes_without_a_word_and_a_stop_says_so() {
    for (how, said) in [(Shutdown::Restart, None), (Shutdown::Stop, Some(6))] {
        let port = free_port();
        let graceful = PeerConfig {
            graceful_restart: Some(GracefulRestart { restart_time: 60 }),
            ..neighbour(2, port)
        };
        let mut speaker = Running::start(instance(1, Some(port), 1, vec![("two", graceful)]));
        let mut two = Peer::dial(2, SocketAddr::from(([127, 0, 0, 1], port)), 90).await;
        speaker.until("two", StateName::Established).await;
        speaker.end(how).await;
        let heard: Option<Notification> = two.notification().await;
        assert_eq!(heard.map(|notification| notification.code), said);
    }
}

#[tokio::test]
async fn a_stranger_is_refused_by_name() {
    let port = free_port();
    let mut speaker = Running::start(instance(1, Some(port), 0, vec![("two", neighbour(2, port))]));
    let mut stranger = Peer::connect(9, SocketAddr::from(([127, 0, 0, 1], port))).await;
    assert!(stranger.notification().await.is_none_or(|told| told.code == 6));
    let refused = async {
        loop {
            if let Event::Refused { remote, .. } = speaker.events.recv().await.unwrap() {
                break remote.ip();
            }
        }
    };
    let refused = tokio::time::timeout(LIMIT, refused).await.unwrap();
    assert_eq!(refused, IpAddr::from([127, 0, 0, 9]));
    speaker.end(Shutdown::Stop).await;
}

#[tokio::test]
async fn a_port_in_use_is_told_and_taken_once_it_is_free() {
    let port = free_port();
    let taken = std::net::TcpListener::bind(("0.0.0.0", port)).unwrap();
    let mut speaker = Running::start(instance(1, Some(port), 0, vec![("two", neighbour(2, port))]));
    let failed = async {
        loop {
            if let Event::ListenFailed { port, error, .. } = speaker.events.recv().await.unwrap() {
                break (port, error);
            }
        }
    };
    let (told, error) = tokio::time::timeout(LIMIT, failed).await.unwrap();
    assert_eq!(told, port);
    assert!(error.contains("in use"), "{error}");
    drop(taken);
    let _two = Peer::dial(2, SocketAddr::from(([127, 0, 0, 1], port)), 90).await;
    speaker.until("two", StateName::Established).await;
    speaker.end(Shutdown::Stop).await;
}
