//! Speakers over TCP on loopback, against each other and against a peer written by hand.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod keys;
mod peer;
mod rude;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bgp_speaker::config::{
    Auth, Connect, FamilyConfig, GracefulRestart, InstanceConfig, LocalRoute, PeerAddress, PeerConfig,
    RemoteAsn, SpeakerConfig,
};
use bgp_speaker::net::{self, AskError, Handle, Options, RouteQuery};
use bgp_speaker::policy::{ExportPolicy, ImportPolicy, SetAttrs, SetNextHop, Statement, Verdict};
use bgp_speaker::speaker::{Event, PeerStatus, Request, RequestError, Shutdown, Start, StateName, Table};
use bgp_speaker::types::{Asn, Family, Prefix, RouterId, Secret};
use bgp_speaker::wire::Notification;
use bgp_speaker::wire::attrs::{Attrs, NextHop, Origin};
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
        let running = Self { handle, events, task };
        running.configure(config);
        running
    }

    fn configure(&self, config: InstanceConfig) {
        let instances = BTreeMap::from([("main".into(), config)]);
        self.handle.configure(Arc::new(SpeakerConfig { instances }));
    }

    async fn peer(&self, name: &str) -> PeerStatus {
        let peers = self.handle.peers().await.unwrap();
        peers.into_iter().find(|peer| &*peer.name == name).unwrap()
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

/// The peer at 127.0.0.`n`, AS 65000 + `n`, which accepts and announces every IPv4 route and waits for a call.
fn neighbour(n: u8, port: u16) -> PeerConfig {
    let family = FamilyConfig {
        export: Arc::new(ExportPolicy { statements: all() }),
        import: Arc::new(ImportPolicy { statements: all() }),
        max_prefixes: None,
    };
    let address = PeerAddress::One([127, 0, 0, n].into());
    PeerConfig {
        port,
        connect: Connect::Passive,
        families: vec![(Family::IPV4_UNICAST, family)],
        ..PeerConfig::new(address, RemoteAsn::Is(asn(65000 + u32::from(n))))
    }
}

/// AS 65000 + `n`, with `routes` host routes.
fn instance(n: u8, listen: Option<u16>, routes: u32, peers: Vec<(&str, PeerConfig)>) -> InstanceConfig {
    let local = NextHop::Ip(Ipv4Addr::UNSPECIFIED.into());
    let attrs = Arc::new(Attrs::originated(Origin::Igp, local));
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
    assert!(one.peer("two").await.md5);
    one.end(Shutdown::Stop).await;
    two.until("one", StateName::Idle).await;
    two.end(Shutdown::Stop).await;
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

#[tokio::test]
async fn an_order_to_whom_is_not_there_is_answered_with_the_name() {
    let speaker = Running::start(instance(1, None, 0, vec![("two", neighbour(2, 179))]));
    let refresh = |instance: &str, peer: &str| Request::RefreshOut {
        instance: instance.into(),
        peer: Some(peer.into()),
    };
    let instance = speaker.handle.ask(refresh("red", "two")).await.unwrap_err();
    assert_eq!(
        instance,
        AskError::Request(RequestError::UnknownInstance("red".into()))
    );
    let peer = speaker.handle.ask(refresh("main", "three")).await.unwrap_err();
    assert_eq!(peer.to_string(), "the BGP instance main has no peer named three");
    speaker.handle.ask(refresh("main", "two")).await.unwrap();
    speaker.end(Shutdown::Stop).await;
}
