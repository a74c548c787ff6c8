//! An ICMP error about a packet of ours, made one about the packet that its sender knows.
//!
//! ```text
//!                 who sends errors sees the flow as it left us          its sender sees it as it came to us
//!   outside       router or end  -> source of the packet inside          ...          -> its sender
//!   inside        source         -> destination                          its sender   -> whom it sent to
//! ```
//!
//! The flow is found by the packet inside, turned round: that is what an answer to it looks like, and answers have an entry.
//! All of addresses, ports and protocol must be those of a flow that lives, and the error must go to whom the packet inside
//! came from. Nothing else is believed, and nothing else is touched.

use super::{Control, forget, unwanted, vip};
use crate::balance::{Pass, Tables, Verdict};
use crate::checksum::{Delta, ports};
use crate::config::Direction;
use crate::flow::{Flow, Tuple, Way};
use crate::forward::{Ask, Routed};
use crate::packet::{Fragment, Network, Packet, SCTP, TCP, UDP, fix_header};
use crate::reason::DropReason;
use crate::service::Dispatch;
use crate::track;

/// Octets of an ICMP header; the packet inside begins there.
const INSIDE: usize = 8;

/// An ICMP error, its IP header at `at`: to an address of ours (ingress), or from one (egress).
#[inline(always)]
pub fn translate<A: Control, P: Packet, T: Tables<A>>(
    packet: &mut P,
    at: usize,
    direction: Direction,
    tables: &mut T,
) -> Verdict {
    if let Some(verdict) = about_ours(packet, at, direction, tables) {
        return verdict;
    }
    let vip = A::addresses(packet, at).and_then(|(_, destination)| vip(direction, destination, tables));
    unwanted(vip, DropReason::NoService)
}

/// `None`, and nothing is written: it is about no flow of ours.
#[inline(always)]
fn about_ours<A: Control, P: Packet, T: Tables<A>>(
    packet: &mut P,
    at: usize,
    direction: Direction,
    tables: &mut T,
) -> Option<Verdict> {
    // In the order in which it lies in the packet: the compiler leaves out looks at the end that others make needless, and
    // the verifier follows only where they come first.
    let (_, destination) = A::addresses(packet, at)?;
    let outer = A::network(packet, at).ok()?;
    let end = at + usize::try_from(outer.length).ok()?;
    // One place for the verifier, by whatever headers it was reached.
    let icmp = forget(packet, outer.transport)?;
    let (part, key) = look_inside(packet, icmp + INSIDE, end)?;
    if destination != key.destination {
        return None;
    }
    let flow = tables.flow(&key).filter(|flow| {
        !track::is_expired(tables.now(), flow.expires)
            && tables.live_frontend(flow.frontend.index()) == Some(flow.frontend)
    })?;
    let verdict = match (direction, flow.way()) {
        (Direction::Egress, Way::Forward) | (Direction::Socket, _) => return None,
        (Direction::Egress, Way::Reply) => Verdict::Reply,
        // A client that is seen as itself is served here, unless answers do not come back here.
        (Direction::Ingress, Way::Forward)
            if flow.source == key.source && flow.dispatch == Dispatch::Snat.number() =>
        {
            Verdict::Local
        }
        (Direction::Ingress, Way::Forward | Way::Reply) => {
            match onward(packet, at, &outer, &key, &flow, tables) {
                Ok(()) => Verdict::Forward,
                Err(verdict) => return Some(verdict),
            }
        }
    };
    let hops = if verdict == Verdict::Forward {
        outer.hops.wrapping_sub(1)
    } else {
        outer.hops
    };
    let done = rewrite_inside(packet, &part, &key, &flow)
        .and_then(|change| rewrite_outside(packet, at, icmp, hops, change, &key, &flow));
    Some(done.map_or(Verdict::Drop(DropReason::WriteError), |()| verdict))
}

/// Behind every packet.
const NOWHERE: usize = 1 << 16;

/// The packet inside.
struct Part {
    /// Its IP header.
    at: usize,
    transport: usize,
    protocol: u8,
    /// Its transport checksum, which may lie beyond the end.
    field: usize,
    end: usize,
}

/// The packet inside, its IP header at `at`, and what an answer to it would be.
#[inline(always)]
fn look_inside<A: Control, P: Packet>(packet: &P, at: usize, end: usize) -> Option<(Part, Tuple<A>)> {
    let (source, destination) = A::addresses_inside(packet, at)?;
    let at = forget(packet, at)?;
    let network = A::network(packet, at).ok()?;
    match network.fragment {
        Fragment::Whole | Fragment::First(_) => {}
        Fragment::Later(_) => return None,
    }
    let field = match network.protocol {
        TCP => 16,
        UDP => 6,
        // Nothing of it changes that its checksum is over.
        SCTP => NOWHERE,
        _ => return None,
    };
    let transport = forget(packet, network.transport)?;
    // RFC 792: at least this much is there.
    let [a, b, c, d, ..] = packet.read::<8>(transport)?;
    if transport + 8 > end {
        return None;
    }
    let part = Part {
        at,
        transport,
        protocol: network.protocol,
        field: transport + field,
        end,
    };
    let key = Tuple {
        source: destination,
        destination: source,
        source_port: u16::from_ne_bytes([c, d]),
        destination_port: u16::from_ne_bytes([a, b]),
        protocol: network.protocol,
        pad: 0,
        pad_word: 0,
    };
    Some((part, key))
}

/// The way out for the translated error.
#[inline(always)]
fn onward<A: Control, P: Packet, T: Tables<A>>(
    packet: &P,
    at: usize,
    outer: &Network,
    key: &Tuple<A>,
    flow: &Flow<A>,
    tables: &mut T,
) -> Result<(), Verdict> {
    // Never an error about an error.
    if outer.hops <= 1 {
        return Err(Verdict::Drop(DropReason::TtlExceeded));
    }
    let (source, _) = A::addresses(packet, at).ok_or(Verdict::Drop(DropReason::InvalidHeader))?;
    let ask = Ask {
        source: speaker(source, key, flow),
        destination: flow.destination,
        length: u16::try_from(outer.length).unwrap_or(u16::MAX),
    };
    match tables.route(&ask) {
        Routed::Found => Ok(()),
        Routed::TooBig(_) => Err(Verdict::Drop(DropReason::FragmentationNeeded)),
        Routed::Nowhere => Err(Verdict::Drop(DropReason::NoRoute)),
        Routed::Elsewhere => Err(Verdict::Pass(Pass::Later)),
    }
}

/// Makes the packet inside, to which an answer would be `key`, the one whose answer is what that answer becomes. Returns the
/// change as the checksum of an ICMP message sees it.
#[inline(always)]
fn rewrite_inside<A: Control, P: Packet>(
    packet: &mut P,
    part: &Part,
    key: &Tuple<A>,
    flow: &Flow<A>,
) -> Option<Delta> {
    let addresses = Delta::default()
        .address(&key.source, &flow.source)
        .address(&key.destination, &flow.destination);
    let numbers = Delta::of(
        ports(key.source_port, key.destination_port),
        ports(flow.source_port, flow.destination_port),
    );
    A::address(packet, part.at, addresses, &flow.destination, &flow.source)?;
    let ([a, b], [c, d]) = (
        flow.destination_port.to_ne_bytes(),
        flow.source_port.to_ne_bytes(),
    );
    packet.write(part.transport, [a, b, c, d])?;
    let change = A::seen(addresses).plus(numbers);
    // RFC 792 gives eight octets, in which TCP has no checksum. What follows the message is padding.
    let Some(sum) = packet
        .read::<2>(part.field)
        .filter(|_| part.field + 2 <= part.end)
    else {
        return Some(change);
    };
    let sum = u16::from_ne_bytes(sum);
    let all = addresses.plus(numbers);
    let after = if part.protocol == TCP {
        all.apply(sum)
    } else {
        all.apply_udp(sum)
    };
    packet.write(part.field, after.to_ne_bytes())?;
    Some(change.and(sum.into(), after.into()))
}

/// Translates the IP header, and brings the checksum of the message up to date.
#[inline(always)]
fn rewrite_outside<A: Control, P: Packet>(
    packet: &mut P,
    at: usize,
    icmp: usize,
    hops: u8,
    inside: Delta,
    key: &Tuple<A>,
    flow: &Flow<A>,
) -> Option<()> {
    let (before, _) = A::addresses(packet, at)?;
    let source = speaker(before, key, flow);
    let addresses = Delta::default()
        .address(&before, &source)
        .address(&key.destination, &flow.destination);
    A::address(packet, at, addresses, &source, &flow.destination)?;
    A::live(packet, at, hops)?;
    fix_header(packet, icmp + 2, A::seen(addresses).plus(inside))
}

/// Who says so. Routers behind a translated address are not known, nor perhaps allowed, where the error goes: it comes from
/// that address, as from Linux.
#[inline(always)]
fn speaker<A: Control>(source: A, key: &Tuple<A>, flow: &Flow<A>) -> A {
    if flow.source == key.source {
        source
    } else {
        flow.source
    }
}
