//! Making a packet its own answer: a TCP reset, or an ICMP error that holds it.
//!
//! ```text
//!  reset:  Ethernet | IP | TCP ...          ->  Ethernet | IP | TCP                      all written anew, the rest cut off
//!  error:  Ethernet | IP | transport ...    ->  Ethernet | IP | ICMP | IP | transport ...   room made, what is too much cut off
//! ```
//!
//! The answer goes to whom the packet came from, by the way it came.

use super::{Answer, Answers, Control, Header, forget, may_answer, take, turn_link};
use crate::balance::Verdict;
use crate::checksum::Delta;
use crate::packet::{Fragment, Packet, SCTP, TCP, UDP};
use crate::reason::DropReason;
use crate::resize::{Owed, Resize};
use crate::track::tcp;

const STEP: usize = 16;
/// Of the longest packet inside an ICMP error.
const STEPS: usize = 1232 / STEP;

/// Makes the untouched packet, its IP header at `at`, the answer to it, or drops it.
#[inline(always)]
pub fn answer<A: Control, P: Resize, T: Answers<A>>(
    packet: &mut P,
    at: usize,
    answer: Answer,
    tables: &mut T,
) -> Verdict {
    match make(packet, at, answer, tables) {
        Ok(()) => Verdict::Answered,
        Err(reason) => Verdict::Drop(reason),
    }
}

/// What must be known of a packet to answer it.
struct Asked<A> {
    source: A,
    destination: A,
    transport: usize,
    protocol: u8,
    /// Octets from the IP header on, as it says.
    total: usize,
}

#[inline(always)]
fn make<A: Control, P: Resize, T: Answers<A>>(
    packet: &mut P,
    at: usize,
    answer: Answer,
    tables: &mut T,
) -> Result<(), DropReason> {
    // Where there is to be no answer, the packet goes as it would have gone.
    let silent = answer.reason();
    let (source, destination) = A::addresses(packet, at).ok_or(silent)?;
    let network = A::network(packet, at).map_err(|_| silent)?;
    let rate = tables.config().map_or(0, |config| config.answer_rate);
    if rate == 0 || !may_answer(packet, &source, &destination) {
        return Err(silent);
    }
    match network.fragment {
        Fragment::Whole | Fragment::First(_) => {}
        Fragment::Later(_) => return Err(silent),
    }
    // One place for the verifier, by whatever headers it was reached.
    let transport = forget(packet, network.transport).ok_or(silent)?;
    let total = usize::try_from(network.length).map_err(|_| silent)?;
    if at + total > packet.length() || transport + 8 > at + total || !A::is_intact(packet, at) {
        return Err(DropReason::InvalidHeader);
    }
    let asked = Asked {
        source,
        destination,
        transport,
        protocol: network.protocol,
        total,
    };
    match network.protocol {
        TCP if answer == Answer::Refused => reset(packet, at, rate, &asked, tables),
        TCP | UDP | SCTP => error(packet, at, rate, answer, &asked, tables),
        // Above all never an error about an error.
        _ => Err(silent),
    }
}

/// RFC 9293 3.5.2, the first group: the connection does not exist.
#[inline(always)]
fn reset<A: Control, P: Resize, T: Answers<A>>(
    packet: &mut P,
    at: usize,
    rate: u32,
    asked: &Asked<A>,
    tables: &mut T,
) -> Result<(), DropReason> {
    let transport = forget(packet, asked.transport).ok_or(DropReason::InvalidHeader)?;
    let header = packet.read::<20>(transport).ok_or(DropReason::InvalidHeader)?;
    let [a, b, c, d, s0, s1, s2, s3, k0, k1, k2, k3, offset, flags, ..] = header;
    if flags & tcp::RST != 0 {
        return Err(DropReason::NoService);
    }
    let length = usize::from(offset >> 4) * 4;
    let data = (at + asked.total)
        .checked_sub(transport + length)
        .filter(|_| length >= 20)
        .ok_or(DropReason::InvalidHeader)?;
    let (sequence, acknowledged, flags) = if flags & tcp::ACK != 0 {
        ([k0, k1, k2, k3], [0; 4], tcp::RST)
    } else {
        let opens = u32::from(flags & tcp::SYN != 0) + u32::from(flags & tcp::FIN != 0);
        let length = u32::try_from(data).map_err(|_| DropReason::InvalidHeader)? + opens;
        let next = u32::from_be_bytes([s0, s1, s2, s3]).wrapping_add(length);
        ([0; 4], next.to_be_bytes(), tcp::RST | tcp::ACK)
    };
    let owed = packet.owed(transport + 16).ok_or(DropReason::WriteError)?;
    // The device makes the sum where the header was.
    if owed == Owed::ByDevice && transport != at + A::HEADER {
        return Err(DropReason::NoService);
    }
    if !take(rate, tables) {
        return Err(DropReason::RateLimited);
    }
    let header = Header {
        source: asked.destination,
        destination: asked.source,
        protocol: TCP,
        payload: 20,
    };
    let pseudo = header.pseudo();
    let words = [
        u32::from_ne_bytes([c, d, a, b]),
        u32::from_ne_bytes(sequence),
        u32::from_ne_bytes(acknowledged),
        u32::from_ne_bytes([0x50, flags, 0, 0]),
    ];
    let sum = match owed {
        Owed::Nothing => words.into_iter().fold(pseudo, Delta::with).apply(u16::MAX),
        Owed::ByDevice => !pseudo.apply(u16::MAX),
    };
    let at_tcp = at + A::HEADER;
    let [sum0, sum1] = sum.to_ne_bytes();
    let [s0, s1, s2, s3] = sequence;
    let [k0, k1, k2, k3] = acknowledged;
    packet
        .cut(at_tcp + 20)
        .and_then(|()| turn_link(packet))
        .and_then(|()| A::compose(packet, at, &header))
        .and_then(|()| packet.write(at_tcp, [c, d, a, b, s0, s1, s2, s3]))
        .and_then(|()| packet.write(at_tcp + 8, [k0, k1, k2, k3, 0x50, flags, 0, 0]))
        .and_then(|()| packet.write(at_tcp + 16, [sum0, sum1, 0, 0]))
        .ok_or(DropReason::WriteError)
}

#[inline(always)]
fn error<A: Control, P: Resize, T: Answers<A>>(
    packet: &mut P,
    at: usize,
    rate: u32,
    answer: Answer,
    asked: &Asked<A>,
    tables: &mut T,
) -> Result<(), DropReason> {
    let transport = forget(packet, asked.transport).ok_or(DropReason::InvalidHeader)?;
    let field = match asked.protocol {
        TCP => transport + 16,
        _ => transport + 6,
    };
    // Whole words: the rest of an odd one is nobody's loss.
    let inside = asked.total.min(A::LONGEST) & !3;
    if field + 2 > at + inside {
        return Err(answer.reason());
    }
    let owed = packet.owed(field).ok_or(DropReason::WriteError)?;
    // What the device would make of SCTP is no sum of words.
    if asked.protocol == SCTP && owed == Owed::ByDevice {
        return Err(answer.reason());
    }
    if !take(rate, tables) {
        return Err(DropReason::RateLimited);
    }
    let body = match owed {
        Owed::Nothing => sum(packet, at, inside),
        // What the device sums up and then writes makes this part the negative of what is in the field now.
        Owed::ByDevice => sum(packet, at, transport - at)
            .zip(packet.read::<2>(field))
            .map(|(sum, now)| sum.with((!u16::from_ne_bytes(now)).into())),
    };
    let body = body.ok_or(DropReason::InvalidHeader)?;
    let header = Header {
        source: speaker(answer, asked.destination, tables),
        destination: asked.source,
        protocol: A::ICMP,
        payload: u16::try_from(inside + 8).map_err(|_| DropReason::WriteError)?,
    };
    let (kind, code, [a, b, c, d]) = A::describe(answer);
    let sum = A::pseudo_icmp(&header)
        .plus(body)
        .with(u32::from_ne_bytes([kind, code, 0, 0]))
        .with(u32::from_ne_bytes([a, b, c, d]))
        .apply(u16::MAX);
    let [sum0, sum1] = sum.to_ne_bytes();
    packet
        .cut(at + inside)
        .and_then(|()| A::open(packet))
        .and_then(|()| turn_link(packet))
        .and_then(|()| A::compose(packet, at, &header))
        .and_then(|()| packet.write(at + A::HEADER, [kind, code, sum0, sum1, a, b, c, d]))
        .ok_or(DropReason::WriteError)
}

/// Whose address an error comes from. A hop of a path is known by the address of its device (RFC 1812 4.3.2.4). All others
/// come from the address that was asked: it is known to get through to whoever asked.
#[inline(always)]
fn speaker<A: Control, T: Answers<A>>(answer: Answer, asked: A, tables: &T) -> A {
    match answer {
        Answer::Refused | Answer::TooBig(_) => asked,
        Answer::TimeExceeded => tables
            .arrived()
            .map(|device| A::own(&device))
            .filter(|own| *own != A::default())
            .unwrap_or(asked),
    }
}

/// The sum of `length` octets from `at` on; whole words.
#[inline(always)]
pub(super) fn sum<P: Packet>(packet: &P, at: usize, length: usize) -> Option<Delta> {
    let end = at + length;
    let mut sum = Delta::default();
    let mut at = at;
    for _ in 0..STEPS {
        if at + STEP > end {
            break;
        }
        // The compiler must not know how far it is: it would look at the end of the packet once, before the loop, and the
        // verifier would not believe it.
        at = forget(packet, at)?;
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = packet.read::<STEP>(at)?;
        sum = sum
            .with(u32::from_ne_bytes([a, b, c, d]))
            .with(u32::from_ne_bytes([e, f, g, h]))
            .with(u32::from_ne_bytes([i, j, k, l]))
            .with(u32::from_ne_bytes([m, n, o, p]));
        at += STEP;
    }
    for _ in 0..STEP / 4 - 1 {
        if at + 4 > end {
            break;
        }
        at = forget(packet, at)?;
        sum = sum.with(u32::from_ne_bytes(packet.read(at)?));
        at += 4;
    }
    (at == end).then_some(sum)
}
