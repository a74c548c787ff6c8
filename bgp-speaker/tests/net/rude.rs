//! Peers without manners: one floods, one takes nothing, some say nothing. Beside each, a peer with manners keeps its
//! session and is served, and memory stays bounded.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bgp_speaker::config::{FamilyConfig, InstanceConfig, LocalRoute, PeerConfig, Timers};
use bgp_speaker::speaker::{Event, Refusal, Shutdown, StateName};
use bgp_speaker::types::{AsnWidth, Family, HoldTime, Prefix, SessionKind};
use bgp_speaker::wire::attr::{self, EncodeContext};
use bgp_speaker::wire::attrs::{AsPath, AsSegment, Attrs, NextHop, Origin};
use bgp_speaker::wire::update::{self, Announce, Carrier};
use bgp_speaker::wire::{MAX_MESSAGE, MessageType, keepalive};
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{Mutex, mpsc};

use crate::peer::Peer;
use crate::{LIMIT, Running, asn, free_port, instance, neighbour};

/// The tests here weigh the process they all run in: one at a time.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Growth of memory that is not worth a question.
const SMALL_CHANGE: u64 = 32 << 20;

/// A speaker with a peer that has manners (AS 65003) and one that has none (AS 65002).
struct Party {
    speaker: Running,
    good: Peer,
    config: InstanceConfig,
    door: SocketAddr,
}

impl Party {
    async fn new(rude: impl FnOnce(PeerConfig) -> PeerConfig) -> Self {
        let port = free_port();
        let peers = vec![("rude", rude(neighbour(2, port))), ("good", neighbour(3, port))];
        let config = instance(1, Some(port), 10, peers);
        let mut speaker = Running::start(config.clone());
        let door = SocketAddr::from(([127, 0, 0, 1], port));
        let mut good = Peer::dial(3, door, 90).await;
        speaker.until("good", StateName::Established).await;
        assert_eq!(good.take_routes(10).await, 10);
        Self {
            speaker,
            good,
            config,
            door,
        }
    }

    /// A route that comes and goes reaches the peer with manners.
    async fn serves(&mut self, round: u8) {
        let prefix = Prefix::host([192, 0, 2, round].into());
        let before = Arc::clone(&self.config.routes);
        let local = NextHop::Ip([0, 0, 0, 0].into());
        let attrs = Arc::new(Attrs::originated(Origin::Igp, local));
        Arc::make_mut(&mut self.config.routes).insert(prefix, LocalRoute { attrs });
        self.speaker.configure(self.config.clone());
        self.good.sees(prefix).await;
        self.config.routes = before;
        self.speaker.configure(self.config.clone());
        self.good.loses(prefix).await;
        self.good.send(keepalive::encode()).await;
    }

    /// The session of the peer with manners was never lost.
    async fn end(self) {
        let good = self.speaker.peer("good").await;
        assert_eq!(
            (good.state, good.times_established),
            (StateName::Established, 1),
            "{:?}",
            good.last_down
        );
        self.speaker.end(Shutdown::Stop).await;
    }
}

#[tokio::test]
async fn a_flood_of_updates_delays_no_other_and_takes_no_memory() {
    let _alone = ALONE.lock().await;
    // What it sends stays in its Adj-RIB-In: the others are not for it to flood.
    let mut party = Party::new(|rude| PeerConfig {
        families: vec![(Family::IPV4_UNICAST, FamilyConfig::default())],
        ..rude
    })
    .await;
    let rude = Peer::dial(2, party.door, 90).await;
    party.speaker.until("rude", StateName::Established).await;
    let (mut reader, mut writer) = rude.into_stream().into_split();
    // It reads, so that only the flood is the trouble.
    let reading = tokio::spawn(async move {
        let mut buffer = vec![0; 64 * 1024];
        while !matches!(reader.read(&mut buffer).await, Ok(0) | Err(_)) {}
    });
    let sent = Arc::new(AtomicU64::new(0));
    let flooding = tokio::spawn({
        let (sent, chunk) = (Arc::clone(&sent), churn());
        async move {
            while writer.write_all(&chunk).await.is_ok() {
                sent.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            }
        }
    });
    party.serves(1).await;
    let (before, sent_before) = (resident(), sent.load(Ordering::Relaxed));
    for round in 2..=9 {
        party.serves(round).await;
    }
    let flooded = sent.load(Ordering::Relaxed) - sent_before;
    assert!(flooded > 0, "the flood was over");
    let grown = resident().saturating_sub(before);
    assert!(grown < SMALL_CHANGE, "grew by {grown} octets under {flooded}");
    assert_eq!(party.speaker.peer("rude").await.state, StateName::Established);
    flooding.abort();
    reading.abort();
    party.end().await;
}

#[tokio::test]
async fn a_flood_of_nonsense_is_answered_and_closed_and_nobody_else_is_touched() {
    let _alone = ALONE.lock().await;
    let mut party = Party::new(|rude| rude).await;
    let mut rude = Peer::dial(2, party.door, 90).await;
    party.speaker.until("rude", StateName::Established).await;
    rude.send(vec![0x5a; 100_000].into()).await;
    let answer = rude.notification().await.unwrap();
    assert_eq!((answer.code, answer.subcode), (1, 1));
    party.serves(1).await;
    party.end().await;
}

#[tokio::test]
async fn a_peer_that_takes_nothing_delays_no_other_and_gets_all_routes_in_the_end() {
    const ROUTES: usize = 300_000;
    let _alone = ALONE.lock().await;
    let port = free_port();
    let timers = |hold| Timers {
        hold: HoldTime::new(hold).unwrap(),
        ..Timers::default()
    };
    let slow = PeerConfig {
        timers: timers(0),
        ..neighbour(2, port)
    };
    let quick = PeerConfig {
        timers: timers(9),
        families: vec![(Family::IPV4_UNICAST, FamilyConfig::default())],
        ..neighbour(3, port)
    };
    let peers = vec![("stalled", slow), ("quick", quick)];
    let routes = u32::try_from(ROUTES).unwrap();
    let mut speaker = Running::start(instance(1, Some(port), routes, peers));
    let door = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stalled = Peer::dial(2, door, 0).await;
    speaker.until("stalled", StateName::Established).await;
    // From here on it reads nothing; the table does not fit the kernel's buffers.
    let mut quick = Peer::dial(3, door, 9).await;
    speaker.until("quick", StateName::Established).await;
    let before = resident();
    let mut keepalives = 0;
    while keepalives < 2 {
        let frame = quick.next().await.expect("the quick session lives");
        if frame.kind == MessageType::Keepalive {
            keepalives += 1;
            quick.send(keepalive::encode()).await;
        }
        assert_ne!(frame.kind, MessageType::Notification);
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < SMALL_CHANGE, "grew by {grown} octets for it");
    assert_eq!(speaker.peer("quick").await.times_established, 1);
    assert_eq!(stalled.take_routes(ROUTES).await, ROUTES);
    speaker.end(Shutdown::Stop).await;
}

#[tokio::test]
async fn connections_that_say_nothing_are_closed_and_told_of_ten_times_and_the_door_stays_open() {
    const CALLS: usize = 100;
    /// `Options::half_open_per_source`.
    const LET_IN: usize = 4;
    let _alone = ALONE.lock().await;
    let mut party = Party::new(|rude| rude).await;
    let (closed, mut closes) = mpsc::channel(CALLS);
    let mut idle = Vec::new();
    let began = Instant::now();
    // From a peer that is known, and from nobody's address.
    for from in [2, 9] {
        for _ in 0..CALLS {
            let mut stream = Peer::connect(from, party.door).await.into_stream();
            let closed = closed.clone();
            idle.push(tokio::spawn(async move {
                let mut buffer = [0; 64];
                // Who is let in hears an OPEN first.
                while !matches!(stream.read(&mut buffer).await, Ok(0) | Err(_)) {}
                let _ = closed.send(from).await;
            }));
        }
        party.serves(from).await;
    }
    let mut strangers = 0;
    let mut known = 0;
    while strangers < CALLS || known < CALLS - LET_IN {
        match tokio::time::timeout(LIMIT, closes.recv()).await.unwrap().unwrap() {
            2 => known += 1,
            _ => strangers += 1,
        }
    }
    // All is over with those that are left.
    for call in idle {
        call.abort();
    }
    let mut told = 0;
    while let Ok(event) = party.speaker.events.try_recv() {
        if let Event::Refused { why, .. } = event {
            assert!(
                [Refusal::HalfOpen, Refusal::UnknownPeer, Refusal::Duplicate].contains(&why),
                "{why}"
            );
            told += 1;
        }
    }
    // By the shell and by the speaker; a busy machine may take more than a minute for it.
    let most = 20 * (1 + began.elapsed().as_secs() / 60);
    assert!((1..=most).contains(&told), "told {told} times");
    let door = party.door;
    let polite = async {
        loop {
            let mut peer = Peer::connect(2, door).await;
            // Turned away as long as the speaker has not seen that the crowd is gone.
            if peer.next().await.is_some() {
                break peer;
            }
        }
    };
    tokio::time::timeout(LIMIT, polite).await.unwrap();
    party.end().await;
}

/// 700 routes that come and go, and KEEPALIVEs.
fn churn() -> Bytes {
    let prefixes: Vec<Prefix> = (0..700_u32)
        .map(|n| Prefix::V4 {
            bits: 0x1e00_0000 + n,
            len: 32,
        })
        .collect();
    let next_hop = NextHop::Ip([192, 0, 2, 2].into());
    let attrs = Attrs {
        as_path: AsPath(vec![AsSegment::Sequence(vec![asn(65002)])]),
        ..Attrs::originated(Origin::Igp, next_hop)
    };
    let context = EncodeContext {
        asn_width: AsnWidth::Four,
        session: SessionKind::External,
        carrier: Carrier::Fields,
    };
    let mut attributes = BytesMut::new();
    attr::encode(&attrs, &context, &mut attributes);
    let announce = Announce {
        family: Family::IPV4_UNICAST,
        attributes: &attributes,
        next_hop: &next_hop,
        max_message: MAX_MESSAGE,
    };
    let mut out = BytesMut::new();
    assert_eq!(update::encode_announce(&announce, &prefixes, &mut out), Ok(700));
    for _ in 0..100 {
        out.extend_from_slice(&keepalive::encode());
    }
    let family = Family::IPV4_UNICAST;
    let withdrawn = update::encode_withdraw(family, Carrier::Fields, MAX_MESSAGE, &prefixes, &mut out);
    assert_eq!(withdrawn, 700);
    out.freeze()
}

/// Resident memory of this process in octets.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes: u64 = line.unwrap().trim().trim_end_matches(" kB").parse().unwrap();
    kilobytes * 1024
}
