//! Peers without manners. While they misbehave, the session with a real BIRD stays up and is served on time, and
//! memory stays bounded.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ipnet::IpNet;
use lab::router::{Dials, Families, Kind, Neighbor, Origination, TtlSecurity};
use lab::{LinkEnd, Netns, until, veth};
use stentor_tests::raw_peer::{self, KEEPALIVE, RawPeer};
use stentor_tests::subject::Happening;

use crate::bed::{Bed, Plan, SOON};
use crate::table::Row;

/// The rude one's own cable and ASN.
const RUDE: Ipv4Addr = Ipv4Addr::new(10, 9, 1, 2);
const DOOR: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 9, 1, 1)), 179);
const RUDE_ASN: u16 = 65003;

/// A change must reach the well-behaved peer within this. It takes milliseconds; the rest is for a busy machine.
/// Whoever waited for the rude peer would wait for its hold time, or for ever.
const ON_TIME: Duration = Duration::from_secs(20);

/// Longer than a busy machine keeps BIRD or us from running.
const HOLD: u16 = 90;

/// Growth of memory that is not worth a question.
const SMALL_CHANGE: u64 = 32 << 20;

/// BIRD on one cable, a rude peer on another.
struct Party {
    bed: Bed,
    rude: Netns,
}

impl Party {
    fn new(many: u32) -> Result<Self> {
        let row = Row {
            kind: Kind::Bird,
            families: Families::Ipv4,
        };
        let plan = Plan {
            hold: HOLD,
            ..Plan::PLAIN
        };
        let mut bed = Bed::new(row, plan)?;
        let rude = Netns::new("rude")?;
        let ours = LinkEnd::new(&bed.our_node, "eth1", &["10.9.1.1/24"]);
        veth(ours, LinkEnd::new(&rude, "eth0", &["10.9.1.2/24"]), None)?;
        bed.wish.router.neighbors.push(Neighbor {
            address: IpAddr::V4(RUDE),
            local: DOOR.ip(),
            asn: RUDE_ASN.into(),
            families: Families::Ipv4,
            dials: Dials::Never,
            password: None,
            ttl_security: TtlSecurity::Off,
            hold: HOLD,
            graceful_restart: None,
            ipv6_next_hop: None,
        });
        bed.wish.many = many;
        bed.up()?;
        bed.router
            .announce(Origination::plain("198.51.100.0/24".parse()?))?;
        let theirs = bed.theirs;
        bed.subject()?
            .receives(theirs, "BIRD's route", SOON, |seen| seen.len() == 1)?;
        Ok(Self { bed, rude })
    }

    fn establish(&self) -> Result<RawPeer> {
        RawPeer::establish(&self.rude, DOOR, RUDE_ASN, RUDE)
    }

    /// How many routes BIRD has from us.
    fn at_bird(&self) -> Result<u32> {
        let birdc = "birdc -s /run/router/bird.ctl show route count protocol peer0";
        let text = self.bed.their_node.sh(birdc)?;
        // `1 of 2 routes for 1 networks in table master4`
        let line = text.lines().find(|line| line.contains("in table master4"));
        let count = line.and_then(|line| line.split(' ').next());
        count.context("no count")?.parse().context(text)
    }

    /// A new route of ours reaches BIRD, and its withdrawal too, on time.
    fn serves_bird(&mut self, round: u8) -> Result<()> {
        let prefix: IpNet = format!("192.0.2.{round}/32").parse()?;
        self.bed.wish.routes.push(Origination::plain(prefix));
        self.bed.configure()?;
        self.bird_sees(&prefix, "via 10.9.0.1")?;
        self.bed.wish.routes.retain(|route| route.prefix != prefix);
        self.bed.configure()?;
        self.bird_sees(&prefix, "Network not found")
    }

    fn bird_sees(&self, prefix: &IpNet, words: &str) -> Result<()> {
        // It also fails when there is no such route.
        let birdc = format!("birdc -s /run/router/bird.ctl show route {prefix} || true");
        let found = until(ON_TIME, format!("BIRD to say `{words}` of {prefix}"), || {
            let text = self
                .bed
                .their_node
                .sh(&birdc)
                .map_err(|error| error.to_string())?;
            match text.contains(words) {
                true => Ok(()),
                false => Err(text),
            }
        });
        Ok(found?)
    }

    /// BIRD's session was never lost, and its route is still here.
    fn bird_noticed_nothing(&mut self) -> Result<()> {
        let theirs = self.bed.theirs;
        let subject = self.bed.subject()?;
        let peer = subject.peer(theirs)?;
        ensure!(
            peer.state == "Established" && peer.times_established == 1,
            "{peer:?}"
        );
        ensure!(subject.received(theirs)?.len() == 1, "BIRD's route is gone");
        Ok(())
    }
}

/// UPDATEs and KEEPALIVEs as fast as the wire takes them.
pub(crate) fn flood() -> Result<()> {
    let mut party = Party::new(0)?;
    let peer = party.establish()?;
    let mut reader = peer.try_clone()?;
    let mut writer = peer;
    let stop = AtomicBool::new(false);
    let sent = AtomicU64::new(0);
    let before = party.bed.subject()?.resident()?;
    thread::scope(|scope| {
        // It reads, so that only the flood is the trouble.
        scope.spawn(|| while let Ok(Some(_)) = reader.receive() {});
        scope.spawn(|| {
            let first = Ipv4Addr::new(20, 0, 0, 0);
            let mut chunk = raw_peer::announce(RUDE_ASN, RUDE, first, 700);
            chunk.extend(raw_peer::keepalive().repeat(100));
            chunk.extend(raw_peer::withdraw(first, 700));
            while !stop.load(Ordering::Relaxed) && writer.send(&chunk).is_ok() {
                sent.fetch_add(102, Ordering::Relaxed);
            }
            drop(writer.shut());
        });
        let served = until(SOON, "the flood to rise", || match sent.load(Ordering::Relaxed) {
            0..5000 => Err("a trickle".to_owned()),
            _ => Ok(()),
        })
        .map_err(anyhow::Error::from)
        .and_then(|()| (1..=10).try_for_each(|round| party.serves_bird(round)));
        stop.store(true, Ordering::Relaxed);
        served
    })?;
    let grown = party.bed.subject()?.resident()?.saturating_sub(before);
    ensure!(grown < SMALL_CHANGE, "grew by {grown} octets under the flood");
    party.bird_noticed_nothing()
}

/// A peer that takes nothing while 200 000 routes are for it.
pub(crate) fn stall() -> Result<()> {
    const MANY: u32 = 200_000;
    let mut party = Party::new(MANY)?;
    until(SOON, "the table at BIRD", || match party.at_bird() {
        Ok(MANY) => Ok(()),
        other => Err(format!("{other:?}")),
    })?;
    let before = party.bed.subject()?.resident()?;
    let mut peer = party.establish()?;
    // From here on it reads nothing. That it still lives keeps its session up.
    for round in 1..=10 {
        peer.send(&raw_peer::keepalive())?;
        party.serves_bird(round)?;
    }
    let rude = party.bed.subject()?.peer(RUDE.into())?;
    ensure!(rude.state == "Established", "{rude:?}");
    let grown = party.bed.subject()?.resident()?.saturating_sub(before);
    ensure!(
        grown < SMALL_CHANGE * 2,
        "grew by {grown} octets for a peer that takes nothing"
    );
    party.bird_noticed_nothing()?;
    // Once it reads, it gets all there is.
    let mut routes = 0;
    while routes < MANY {
        let message = peer.receive()?.context("the session ended")?;
        if let (raw_peer::UPDATE, [0, 0, high, low, rest @ ..]) = (message.kind, message.body.as_slice()) {
            let attributes = usize::from(u16::from_be_bytes([*high, *low]));
            routes += u32::try_from(rest.len().saturating_sub(attributes) / 5)?;
        }
    }
    Ok(())
}

/// Connections that say nothing, from a known peer and from a stranger.
pub(crate) fn half_open() -> Result<()> {
    let mut party = Party::new(0)?;
    party.rude.sh("ip addr add 10.9.1.77/24 dev eth0")?;
    let descriptors = |party: &mut Party| -> Result<usize> {
        let pid = party.bed.subject()?.pid();
        Ok(std::fs::read_dir(format!("/proc/{pid}/fd"))?.count())
    };
    let before = descriptors(&mut party)?;
    let mut idle = Vec::new();
    let mut most = 0;
    for round in 1..=5 {
        for _ in 0..100 {
            // Refusing at once is as good as letting it wait.
            idle.extend(RawPeer::connect(&party.rude, DOOR));
        }
        most = most.max(descriptors(&mut party)?);
        party.serves_bird(round)?;
    }
    ensure!(most < before + 300, "{most} descriptors, {before} before");
    drop(idle);
    party.bird_noticed_nothing()?;
    // The door is open again for one with manners.
    until(SOON, "a session after the crowd has left", || {
        party.establish().map_err(|error| format!("{error:#}"))
    })?;
    Ok(())
}

/// Bytes that are no BGP, in every state; each gets the answer RFC 4271 6.1 has for it.
pub(crate) fn garbage() -> Result<()> {
    let noise: Vec<u8> = (0..4096_u32)
        .map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0])
        .collect();
    let mut too_long = raw_peer::keepalive();
    too_long[16..18].copy_from_slice(&65535_u16.to_be_bytes());
    let unknown_type = raw_peer::message(99, &[]);
    // Not synchronized, bad length, bad type.
    for (bytes, answer) in [(noise, (1, 1)), (too_long, (1, 2)), (unknown_type, (1, 3))] {
        // Each failure doubles the time for which the peer is turned away: a new party is a short wait.
        let mut party = Party::new(0)?;
        for (round, state) in (1..).zip(["OpenSent", "OpenConfirm", "Established"]) {
            let mut peer = until(SOON, format!("a connection to spoil in {state}"), || {
                reach(&party, state).map_err(|error| format!("{error:#}"))
            })?;
            peer.send(&bytes)?;
            let told = peer
                .farewell()
                .with_context(|| format!("{answer:?} in {state}"))?;
            ensure!(told == answer, "{told:?} instead of {answer:?} in {state}");
            party.serves_bird(round)?;
        }
        party.bird_noticed_nothing()?;
    }
    Ok(())
}

/// A connection on which the speaker is in this state.
fn reach(party: &Party, state: &str) -> Result<RawPeer> {
    let mut peer = RawPeer::connect(&party.rude, DOOR)?;
    // It speaks first when it lets us in.
    peer.expect(raw_peer::OPEN)?;
    if state != "OpenSent" {
        peer.send(&raw_peer::open(RUDE_ASN, RUDE))?;
        peer.expect(KEEPALIVE)?;
    }
    if state == "Established" {
        peer.send(&raw_peer::keepalive())?;
    }
    Ok(peer)
}

/// An OPEN that comes one octet at a time and never to its end.
pub(crate) fn slow_open() -> Result<()> {
    let mut party = Party::new(0)?;
    let mut peer = RawPeer::connect(&party.rude, DOOR)?;
    let open = raw_peer::open(RUDE_ASN, RUDE);
    for (round, octet) in (1..).zip(open.iter().take(20)) {
        peer.send(&[*octet])?;
        party.serves_bird(round)?;
    }
    let theirs = party.bed.theirs;
    let lost = |event: &Happening| matches!(event, Happening::State { peer, from, .. } if *peer == theirs && from == "Established");
    let beginning = stentor_tests::subject::Moment::BEGINNING;
    ensure!(
        !party.bed.subject()?.happened(beginning, lost),
        "BIRD's session was lost"
    );
    // The rest at once: it is a session like any other.
    peer.send(open.get(20..).unwrap_or_default())?;
    peer.expect(raw_peer::OPEN)?;
    peer.expect(KEEPALIVE)?;
    party.bird_noticed_nothing()
}
