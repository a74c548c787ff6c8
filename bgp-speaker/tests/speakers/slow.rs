//! A peer that reads slowly: its KEEPALIVEs leave on time while a whole table waits for it.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bgp_speaker::config::Connect;
use bgp_speaker::speaker::{Companions, ConnId, Input, Output, Speaker, Start, StateName};
use bgp_speaker::types::{AsnWidth, Family, HoldTime, RouterId, SessionKind};
use bgp_speaker::wire::update::{self, Context, FirstAs};
use bgp_speaker::wire::{Capability, Framer, MessageType, Open, keepalive};
use bytes::Bytes;

use crate::cable::{asn, hosts, instance, peer, speaker};

const ROUTES: u32 = 1_000_000;

/// The shortest there is; KEEPALIVEs a second apart at most.
const HOLD: u16 = 3;
const INTERVAL: Duration = Duration::from_secs(1);

/// What the peer reads: 64 KiB a second, so that the table takes more than a minute.
const STEP: Duration = Duration::from_millis(250);
const TAKEN: usize = 16 * 1024;

/// The credit of a connection, and the buffer that may go over it.
const IN_FRONT: usize = (256 + 80) * 1024;

const CONN: ConnId = ConnId::Accepted(0);

struct Slow {
    speaker: Speaker,
    now: Instant,
    /// Octets given to the shell that the peer did not take yet, buffer by buffer.
    waiting: VecDeque<usize>,
    framer: Framer,
    context: Context,
    last_keepalive: Option<Instant>,
    keepalives: u32,
    routes: u32,
}

impl Slow {
    fn give(&mut self, input: Input) {
        let mut out = Vec::new();
        self.speaker.handle(self.now, input, &mut out);
        for output in out {
            match output {
                Output::Send { bytes, .. } => self.sent(bytes),
                Output::Close { .. } => panic!("the session ends"),
                Output::Listen { .. }
                | Output::Unlisten { .. }
                | Output::Dial { .. }
                | Output::SetTtl { .. }
                | Output::Tell(_) => {}
            }
        }
    }

    fn sent(&mut self, bytes: Bytes) {
        let in_front: usize = self.waiting.iter().sum();
        self.waiting.push_back(bytes.len());
        self.framer.push(bytes);
        while let Some(frame) = self.framer.next().unwrap() {
            match frame.kind {
                MessageType::Keepalive => {
                    assert!(in_front < IN_FRONT, "{in_front} octets in front of a KEEPALIVE");
                    if let Some(last) = self.last_keepalive.replace(self.now) {
                        let apart = self.now - last;
                        assert!(apart <= INTERVAL, "KEEPALIVEs {apart:?} apart");
                    }
                    self.keepalives += 1;
                }
                MessageType::Update => {
                    let update = update::decode(&frame.body, &self.context).unwrap();
                    let announced = update.announced.iter().map(|one| one.prefixes.len());
                    self.routes += u32::try_from(announced.sum::<usize>()).unwrap();
                }
                MessageType::Open | MessageType::Notification | MessageType::RouteRefresh => {}
            }
        }
    }

    /// Lets time pass up to the next read, with every timer on its time; then the peer reads.
    fn read(&mut self) {
        let end = self.now + STEP;
        while let Some(at) = self.speaker.next_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.give(Input::TimedOut);
        }
        self.now = end;
        let mut taken = 0;
        while taken < TAKEN
            && let Some(front) = self.waiting.front_mut()
        {
            let part = (*front).min(TAKEN - taken);
            *front -= part;
            taken += part;
            if *front == 0 {
                self.waiting.pop_front();
            }
        }
        if taken > 0 {
            self.give(Input::Sent {
                conn: CONN,
                bytes: taken,
            });
        }
        self.hear(keepalive::encode());
    }

    fn hear(&mut self, bytes: Bytes) {
        self.give(Input::Received { conn: CONN, bytes });
    }
}

#[test]
fn keepalives_leave_on_time_while_a_million_routes_wait_for_a_peer_that_reads_slowly() {
    let mut config = peer(2);
    config.connect = Connect::Passive;
    config.timers.hold = HoldTime::new(HOLD).unwrap();
    let mut slow = Slow {
        speaker: Speaker::new(1, Start::Cold),
        now: Instant::now(),
        waiting: VecDeque::new(),
        framer: Framer::new(),
        context: Context {
            asn_width: AsnWidth::Four,
            session: SessionKind::External,
            peer_asn: asn(65001),
            first_as: FirstAs::Peer,
            local_address: None,
            families: vec![Family::IPV4_UNICAST],
            ipv6_next_hop: vec![],
        },
        last_keepalive: None,
        keepalives: 0,
        routes: 0,
    };
    let config = speaker(instance(1, hosts(ROUTES), vec![("slow", config)]));
    slow.give(Input::Configured(Arc::new(config)));
    let socket = |node, port| SocketAddr::new(IpAddr::from([10, 0, 0, node]), port);
    slow.give(Input::Accepted {
        conn: CONN,
        instance: "main".into(),
        local: socket(1, 179),
        remote: socket(2, 50000),
        companions: Companions::default(),
    });
    let open = Open {
        asn: asn(65002),
        hold_time: HoldTime::new(HOLD).unwrap(),
        router_id: RouterId::new([10, 0, 0, 2].into()).unwrap(),
        capabilities: vec![Capability::FourOctetAsn(65002)],
    };
    slow.hear(open.encode());
    slow.hear(keepalive::encode());
    let began = slow.now;
    while slow.routes < ROUTES || !slow.waiting.is_empty() {
        slow.read();
    }
    assert_eq!(slow.routes, ROUTES);
    let seconds = (slow.now - began).as_secs();
    assert!(seconds > 60, "the table was there after {seconds} s");
    assert!(
        u64::from(slow.keepalives) >= seconds,
        "{} in {seconds} s",
        slow.keepalives
    );
    assert_eq!(slow.speaker.peers()[0].state, StateName::Established);
}
