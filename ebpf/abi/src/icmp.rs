//! ICMP and refusals: what is answered instead of forwarded, and errors about flows of ours.
//!
//! ```text
//!  balance::ingress, egress
//!    |-- Verdict::Message: ICMP --> message --+-- echo request to a VIP --> the reply, in place
//!    |                                        +-- error: Verdict::Error --> translate ---> of a flow of ours, inside and out
//!    |                                        +-- else: dropped at a VIP, elsewhere the stack's
//!    `-- Verdict::Answer(what) ---> answer -----> the packet is made a TCP reset or an ICMP error
//! ```
//!
//! None of this is on the way of a packet that finds its flow: `balance` only says that it is to be done, and each program
//! does it in functions of their own. What is made goes back out where the packet came in ([`Verdict::Answered`]).
//!
//! RFC 792 and 4443 (messages), 1122 3.2.2 and 1812 4.3.2 (what must not be answered), 9293 3.5.2 (resets), 5508 (errors
//! through translation), 1624 (checksums).

use crate::address::{V4, V6};
use crate::balance::{Balanced, Pass, Tables, Verdict, held};
use crate::bucket::Limited;
use crate::checksum::Delta;
use crate::config::{Device, Direction, setting};
use crate::flow::FragmentKey;
use crate::packet::{Family as _, Fragment, Packet, fix_header};
use crate::reason::DropReason;
use crate::resize::Resize;
use crate::service::{FrontendKey, flag};

mod answer;
mod translate;

pub use answer::answer;
pub use translate::translate;

/// Hop limit of what is made here.
const FRESH: u8 = 64;

/// What a packet is to be answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    /// Nobody serves this port: a reset for TCP, port unreachable for everything else.
    Refused,
    /// It would have to live longer to go on.
    TimeExceeded,
    /// It does not fit where it must go; packets up to this many octets do.
    TooBig(u16),
}

impl Answer {
    /// Why the packet does not go on. Counted whether an answer could be made or not.
    #[inline(always)]
    pub const fn reason(self) -> DropReason {
        match self {
            Self::Refused => DropReason::NoService,
            Self::TimeExceeded => DropReason::TtlExceeded,
            Self::TooBig(_) => DropReason::FragmentationNeeded,
        }
    }
}

/// What answers need besides the tables of decisions.
pub trait Answers<A>: Tables<A> {
    /// The device that the packet came in by.
    fn arrived(&self) -> Option<Device>;
}

/// What kind of message it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Echo,
    /// Holds the packet it is about.
    Error,
    /// Between neighbours, never forwarded.
    Neighbour,
    Other,
}

/// The address family as ICMP has it.
pub trait Control: Balanced {
    /// Octets of the packet inside an error, at most: the whole must get through anywhere.
    const LONGEST: usize;
    const ECHO_REPLY: u8;
    /// Octets of the header that only fragments have.
    const FRAGMENT: usize;
    const UNKNOWN: DropReason;

    fn kind(number: u8, code: u8) -> Kind;
    /// Type, code and the second word.
    fn describe(answer: Answer) -> (u8, u8, [u8; 4]);
    /// A host that can be answered: one that is not a group, not this very machine, and not nobody.
    fn is_host(&self) -> bool;
    /// Source and destination of the packet inside an error. In one piece: that one lies anywhere, and the compiler leaves out
    /// the first of two looks at the end, which the verifier wants to see both.
    fn addresses_inside<P: Packet>(packet: &P, at: usize) -> Option<(Self, Self)>;
    /// Writes addresses; `delta` is the change of both.
    fn address<P: Packet>(
        packet: &mut P,
        at: usize,
        delta: Delta,
        source: &Self,
        destination: &Self,
    ) -> Option<()>;
    /// Writes how many routers the packet may still pass.
    fn live<P: Packet>(packet: &mut P, at: usize, hops: u8) -> Option<()>;
    /// Whether the checksum of the IP header is right, where there is one.
    fn is_intact<P: Packet>(packet: &P, at: usize) -> bool;
    /// Makes room for an IP header and that of ICMP.
    fn open<P: Resize>(packet: &mut P) -> Option<()>;
    /// Writes a whole header.
    fn compose<P: Packet>(packet: &mut P, at: usize, header: &Header<Self>) -> Option<()>;
    /// What the checksum of an ICMP message sees of changed addresses, outside or in the header inside.
    fn seen(addresses: Delta) -> Delta;
    /// The pseudo header in front of an ICMP message, where there is one.
    fn pseudo_icmp(header: &Header<Self>) -> Delta;
}

/// What an IP header of ours says.
#[derive(Clone, Copy, Debug)]
pub struct Header<A> {
    pub source: A,
    pub destination: A,
    pub protocol: u8,
    /// Octets after the header.
    pub payload: u16,
}

impl<A: Control> Header<A> {
    /// The pseudo header of TCP.
    #[inline(always)]
    fn pseudo(&self) -> Delta {
        let [a, b] = self.payload.to_be_bytes();
        Delta::default()
            .address(&A::default(), &self.source)
            .address(&A::default(), &self.destination)
            .with(u32::from_ne_bytes([0, self.protocol, a, b]))
    }
}

impl Control for V4 {
    /// RFC 1812 4.3.2.3: 576 in all.
    const LONGEST: usize = 576 - 28;
    const ECHO_REPLY: u8 = 0;
    const FRAGMENT: usize = 0;
    const UNKNOWN: DropReason = DropReason::UnknownIcmp4Type;

    #[inline(always)]
    fn kind(number: u8, code: u8) -> Kind {
        match (number, code) {
            (8, 0) => Kind::Echo,
            // Unreachable, time exceeded, parameter problem. Source quench (4) is dead by RFC 6633.
            (3, 0..=15) | (11, 0..=1) | (12, 0..=2) => Kind::Error,
            _ => Kind::Other,
        }
    }

    #[inline(always)]
    fn describe(answer: Answer) -> (u8, u8, [u8; 4]) {
        match answer {
            Answer::Refused => (3, 3, [0; 4]),
            Answer::TimeExceeded => (11, 0, [0; 4]),
            Answer::TooBig(mtu) => {
                let [a, b] = mtu.to_be_bytes();
                (3, 4, [0, 0, a, b])
            }
        }
    }

    #[inline(always)]
    fn is_host(&self) -> bool {
        let [first, ..] = self.0.to_ne_bytes();
        first != 0 && first != 127 && first < 224
    }

    #[inline(always)]
    fn addresses_inside<P: Packet>(packet: &P, at: usize) -> Option<(Self, Self)> {
        Self::addresses(packet, at)
    }

    #[inline(always)]
    fn address<P: Packet>(
        packet: &mut P,
        at: usize,
        delta: Delta,
        source: &Self,
        destination: &Self,
    ) -> Option<()> {
        let ([a, b, c, d], [e, f, g, h]) = (source.0.to_ne_bytes(), destination.0.to_ne_bytes());
        packet.write(at + 12, [a, b, c, d, e, f, g, h])?;
        fix_header(packet, at + 10, delta)
    }

    #[inline(always)]
    fn live<P: Packet>(packet: &mut P, at: usize, hops: u8) -> Option<()> {
        let [before, protocol] = packet.read::<2>(at + 8)?;
        packet.write(at + 8, [hops])?;
        let word = |hops| u32::from(u16::from_ne_bytes([hops, protocol]));
        fix_header(packet, at + 10, Delta::of(word(before), word(hops)))
    }

    #[inline(always)]
    fn is_intact<P: Packet>(packet: &P, at: usize) -> bool {
        let sum = packet
            .read::<1>(at)
            .and_then(|[first]| answer::sum(packet, at, usize::from(first & 0xf) * 4));
        sum.is_some_and(|sum| sum.apply(u16::MAX) == 0)
    }

    #[inline(always)]
    fn open<P: Resize>(packet: &mut P) -> Option<()> {
        packet.open::<28>()
    }

    #[inline(always)]
    fn compose<P: Packet>(packet: &mut P, at: usize, header: &Header<Self>) -> Option<()> {
        let [length0, length1] = header.payload.checked_add(20)?.to_be_bytes();
        // Never fragmented, so its id says nothing (RFC 6864 4.1).
        let first = [0x45, 0, length0, length1, 0, 0, 0x40, 0];
        let words = [
            u32::from_ne_bytes([0x45, 0, length0, length1]),
            u32::from_ne_bytes([0, 0, 0x40, 0]),
            u32::from_ne_bytes([FRESH, header.protocol, 0, 0]),
            header.source.0,
            header.destination.0,
        ];
        let sum = words.into_iter().fold(Delta::default(), Delta::with);
        let [sum0, sum1] = sum.apply(u16::MAX).to_ne_bytes();
        packet.write(at, first)?;
        packet.write(at + 8, [FRESH, header.protocol, sum0, sum1])?;
        packet.write(at + 12, header.source.0.to_ne_bytes())?;
        packet.write(at + 16, header.destination.0.to_ne_bytes())
    }

    /// New addresses inside come with a new checksum of the header there, so the sum stays.
    #[inline(always)]
    fn seen(_: Delta) -> Delta {
        Delta::default()
    }

    #[inline(always)]
    fn pseudo_icmp(_: &Header<Self>) -> Delta {
        Delta::default()
    }
}

impl Control for V6 {
    /// RFC 4443 2.4: 1280 in all.
    const LONGEST: usize = 1280 - 48;
    const ECHO_REPLY: u8 = 129;
    const FRAGMENT: usize = 8;
    const UNKNOWN: DropReason = DropReason::UnknownIcmp6Type;

    #[inline(always)]
    fn kind(number: u8, code: u8) -> Kind {
        match (number, code) {
            (128, 0) => Kind::Echo,
            // Unreachable, too big (whose code is ignored, RFC 4443 3.2), time exceeded, parameter problem.
            (1, 0..=8) | (2, _) | (3, 0..=1) | (4, 0..=10) => Kind::Error,
            // Multicast listeners, and routers and neighbours asked for.
            (130..=137, _) => Kind::Neighbour,
            _ => Kind::Other,
        }
    }

    #[inline(always)]
    fn describe(answer: Answer) -> (u8, u8, [u8; 4]) {
        match answer {
            Answer::Refused => (1, 4, [0; 4]),
            Answer::TimeExceeded => (3, 0, [0; 4]),
            Answer::TooBig(mtu) => (2, 0, u32::from(mtu).to_be_bytes()),
        }
    }

    #[inline(always)]
    fn is_host(&self) -> bool {
        let [first, second, third, fourth] = self.0;
        let [octet, ..] = first.to_ne_bytes();
        let low = first | second | third == 0 && u32::from_be(fourth) <= 1;
        octet != 0xff && !low
    }

    #[inline(always)]
    fn addresses_inside<P: Packet>(packet: &P, at: usize) -> Option<(Self, Self)> {
        let octets = packet.read::<32>(at + 8)?;
        let ([source, destination], _) = octets.as_chunks::<16>() else {
            return None;
        };
        Some((Self::from_octets(*source), Self::from_octets(*destination)))
    }

    #[inline(always)]
    fn address<P: Packet>(
        packet: &mut P,
        at: usize,
        _: Delta,
        source: &Self,
        destination: &Self,
    ) -> Option<()> {
        packet.write(at + 8, source.octets())?;
        packet.write(at + 24, destination.octets())
    }

    #[inline(always)]
    fn live<P: Packet>(packet: &mut P, at: usize, hops: u8) -> Option<()> {
        packet.write(at + 7, [hops])
    }

    #[inline(always)]
    fn is_intact<P: Packet>(_: &P, _: usize) -> bool {
        true
    }

    #[inline(always)]
    fn open<P: Resize>(packet: &mut P) -> Option<()> {
        packet.open::<48>()
    }

    #[inline(always)]
    fn compose<P: Packet>(packet: &mut P, at: usize, header: &Header<Self>) -> Option<()> {
        let [length0, length1] = header.payload.to_be_bytes();
        packet.write(at, [0x60, 0, 0, 0, length0, length1, header.protocol, FRESH])?;
        packet.write(at + 8, header.source.octets())?;
        packet.write(at + 24, header.destination.octets())
    }

    #[inline(always)]
    fn seen(addresses: Delta) -> Delta {
        addresses
    }

    #[inline(always)]
    fn pseudo_icmp(header: &Header<Self>) -> Delta {
        header.pseudo()
    }
}

/// What becomes of a packet that nobody serves. Not where another node may have a backend: that is dropped without a word.
#[inline(always)]
pub(crate) fn refuse<A, T: Tables<A>>(tables: &T) -> Verdict {
    let answers = tables
        .config()
        .is_some_and(|config| config.settings & setting::SILENT_NO_BACKEND == 0 && config.answer_rate != 0);
    if answers {
        Verdict::Answer(Answer::Refused)
    } else {
        Verdict::Drop(DropReason::NoService)
    }
}

/// An ICMP message, its IP header at `at`: to an address of ours (ingress), or from one (egress).
#[inline(always)]
pub fn message<A: Control, P: Packet, T: Answers<A>>(
    packet: &mut P,
    at: usize,
    direction: Direction,
    tables: &mut T,
) -> Verdict {
    let Some((source, destination)) = A::addresses(packet, at) else {
        return Verdict::Pass(Pass::Protocol);
    };
    let Ok(network) = A::network(packet, at) else {
        return Verdict::Pass(Pass::Protocol);
    };
    let vip = vip(direction, destination, tables);
    let elsewhere = |reason| unwanted(vip, reason);
    if !network.is_all_in(packet, at) {
        return elsewhere(DropReason::InvalidHeader);
    }
    let key = |id| FragmentKey::new(source, destination, id, network.protocol);
    if let Fragment::Later(id) = network.fragment {
        let Some(rate) = echoes(packet, vip, &source, &destination, tables) else {
            return elsewhere(DropReason::FragmentsUnsupported);
        };
        let now = tables.now();
        // Only of echo requests it is noted that their first fragment was here.
        if held::ports(&key(id), now, tables).is_none() {
            return Verdict::Hold;
        }
        if !take(rate, tables) {
            return Verdict::Drop(DropReason::RateLimited);
        }
        return turned(turn(packet, at, &source, &destination));
    }
    let Some([number, code, a, b, ..]) = packet.read::<8>(network.transport) else {
        return elsewhere(DropReason::InvalidHeader);
    };
    match A::kind(number, code) {
        Kind::Echo => {
            let header = match network.fragment {
                Fragment::Whole => A::HEADER,
                Fragment::First(_) | Fragment::Later(_) => A::HEADER + A::FRAGMENT,
            };
            // Options would have to be answered too (RFC 1122 3.2.2.6): nobody needs them here.
            let plain = network.transport == at + header;
            let rate = echoes(packet, vip, &source, &destination, tables).filter(|_| plain);
            let Some(rate) = rate else {
                return elsewhere(DropReason::NoService);
            };
            if let Fragment::First(id) = network.fragment {
                let now = tables.now();
                // What lies where others have ports is never zero: there is the type.
                let ports = held::noted(
                    u16::from_ne_bytes([number, code]),
                    u16::from_ne_bytes([a, b]),
                    now,
                );
                if let Err(release) = held::first(&key(id), &ports, now, tables) {
                    return release;
                }
            }
            if !take(rate, tables) {
                return Verdict::Drop(DropReason::RateLimited);
            }
            let word = |number| u32::from(u16::from_ne_bytes([number, 0]));
            let delta = Delta::of(word(number), word(A::ECHO_REPLY));
            let done = packet
                .write(network.transport, [A::ECHO_REPLY])
                .and_then(|()| fix_header(packet, network.transport + 2, delta))
                .and_then(|()| turn(packet, at, &source, &destination));
            turned(done)
        }
        _ if network.fragment != Fragment::Whole => elsewhere(DropReason::FragmentsUnsupported),
        Kind::Error => Verdict::Error,
        Kind::Neighbour => Verdict::Pass(Pass::Protocol),
        Kind::Other => elsewhere(A::UNKNOWN),
    }
}

/// Whether echo requests to this address are answered, and how many in a second.
#[inline(always)]
fn echoes<A: Control, P: Packet, T: Tables<A>>(
    packet: &P,
    vip: Option<u16>,
    source: &A,
    destination: &A,
    tables: &T,
) -> Option<u32> {
    let open = vip.is_some_and(|flags| flags & flag::ROUTABLE != 0);
    let config = tables.config().filter(|_| open)?;
    let answers = config.settings & setting::SILENT_ECHO == 0 && may_answer(packet, source, destination);
    answers.then_some(config.answer_rate)
}

/// Back to whom it came from, with a hop limit as if it began here.
#[inline(always)]
fn turn<A: Control, P: Packet>(packet: &mut P, at: usize, source: &A, destination: &A) -> Option<()> {
    A::address(packet, at, Delta::default(), destination, source)?;
    A::live(packet, at, FRESH)?;
    turn_link(packet)
}

#[inline(always)]
fn turned(done: Option<()>) -> Verdict {
    match done {
        Some(()) => Verdict::Answered,
        None => Verdict::Drop(DropReason::WriteError),
    }
}

/// The flags of the wildcard, where the packet came to an address of services.
#[inline(always)]
fn vip<A: Control, T: Tables<A>>(direction: Direction, destination: A, tables: &T) -> Option<u16> {
    match direction {
        Direction::Ingress => tables
            .frontend(&FrontendKey::wildcard(destination))
            .map(|vip| vip.flags),
        Direction::Egress | Direction::Socket => None,
    }
}

/// The stack does not know a VIP: it would send the message back to the router, and it would go round.
#[inline(always)]
fn unwanted(vip: Option<u16>, reason: DropReason) -> Verdict {
    match vip {
        Some(_) => Verdict::Drop(reason),
        None => Verdict::Pass(Pass::Protocol),
    }
}

/// RFC 1122 3.2.2, RFC 4443 2.4 (e): nothing that came to a group, or whose source is none, is ever answered.
#[inline(always)]
fn may_answer<A: Control, P: Packet>(packet: &P, source: &A, destination: &A) -> bool {
    let one = packet.read::<6>(0).is_some_and(|[first, ..]| first & 1 == 0);
    one && source.is_host() && destination.is_host() && source != destination
}

/// Whether one more answer may be made now.
#[inline(always)]
fn take<A, T: Answers<A>>(rate: u32, tables: &mut T) -> bool {
    let now = tables.now();
    tables.take(Limited::Answers, now, rate).is_some()
}

/// The same place, of which the compiler then knows nothing. Else it leaves out looks at the end of the packet that others
/// make needless, or takes them out of loops, and the verifier does not follow.
#[inline(always)]
pub(crate) fn forget<P: Packet>(packet: &P, at: usize) -> Option<usize> {
    usize::try_from(packet.forget(u32::try_from(at).ok()?)).ok()
}

/// Back to whom it came from: swaps the addresses of the Ethernet header.
#[inline(always)]
fn turn_link<P: Packet>(packet: &mut P) -> Option<()> {
    let to = packet.read::<6>(0)?;
    let from = packet.read::<6>(6)?;
    packet.write(0, from)?;
    packet.write(6, to)
}

#[cfg(test)]
mod tests;
