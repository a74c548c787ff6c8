//! New flows: who may come, which backend serves, and what the two entries are.
//!
//! A flow to a backend elsewhere goes out with an address and a port of this node, so that answers come back here. The pair
//! of entries is the mapping: the key of the reply's entry is the address and port taken, and it is written only if nobody
//! has it. There is no other record of ports.

use super::{Balanced, From, Inserted, Met, Pass, Path, Tables, Verdict, View, choose, route, settings};
use crate::config::{Config, setting};
use crate::flow::{Flow, Tuple, Way};
use crate::icmp::refuse;
use crate::packet::{Packet, SCTP};
use crate::reason::DropReason;
use crate::service::{Backend, Dispatch, Frontend, flag};
use crate::track;

/// How many ports are tried for a flow. When three quarters of them are taken, one flow in a hundred finds none.
pub const PROBES: u32 = 16;

/// Whether a client may come, and who serves it.
#[inline(always)]
pub(super) fn admit<A: Balanced, T: Tables<A>>(
    met: &Met<A>,
    frontend: &Frontend,
    from: From,
    view: View,
    tables: &mut T,
) -> Result<Backend<A>, Verdict> {
    let tuple = &met.tuple;
    if source_is_refused(&tuple.source, frontend, tables) {
        return Err(Verdict::Drop(DropReason::SourceRange));
    }
    let set = match (from, view) {
        (From::Outside | From::Node, View::Outside) if frontend.flags & flag::ROUTABLE == 0 => {
            return Err(Verdict::Drop(DropReason::ClusterIp));
        }
        (From::Outside, View::Outside) => frontend.set,
        (From::Outside, View::Inside) => frontend.inner_set,
        (From::Node, View::Outside | View::Inside) => frontend.local_set,
    };
    let config = settings(tables);
    let Some(backend) = choose(met.now, tuple, frontend, set, &config, tables) else {
        // Of two sets, the one for the outside is the local one.
        return Err(if frontend.flags & flag::LOCAL_ONLY != 0 && set == frontend.set {
            Verdict::Drop(DropReason::NoService)
        } else if config.settings & setting::PASS_NO_BACKEND != 0 {
            Verdict::Pass(Pass::NoBackend)
        } else {
            refuse(tables)
        });
    };
    Ok(backend)
}

/// Whether the source ranges of a frontend keep this client out.
#[inline(always)]
pub(super) fn source_is_refused<A: Balanced, T: Tables<A>>(
    source: &A,
    frontend: &Frontend,
    tables: &T,
) -> bool {
    frontend.ranges != 0
        && tables.in_range(frontend.ranges, source) == (frontend.flags & flag::DENY_RANGES != 0)
}

/// The two entries of a new flow, and its way.
#[inline(always)]
pub(super) fn open<A: Balanced, P: Packet, T: Tables<A>>(
    packet: &P,
    at: usize,
    met: &Met<A>,
    frontend: &Frontend,
    backend: &Backend<A>,
    view: View,
    tables: &mut T,
) -> Result<(Flow<A>, Path), Verdict> {
    let tuple = &met.tuple;
    let destination_port = if backend.port == 0 {
        tuple.destination_port
    } else {
        backend.port
    };
    // Its checksum is over all of the packet and over no address: ports must stay, addresses may change.
    if tuple.protocol == SCTP && destination_port != tuple.destination_port {
        return Err(Verdict::Drop(DropReason::L4Checksum));
    }
    let (source, path) = leave(packet, at, met, backend, view, tables)?;
    let step = track::begin(met.now, met.seen(), &settings(tables).lifetimes);
    let flow = Flow {
        source,
        destination: backend.address,
        source_port: tuple.source_port,
        destination_port,
        frontend: frontend.id,
        backend: backend.id,
        expires: step.expires,
        state: step.state,
        way: Way::Forward.number(),
        dispatch: Dispatch::Snat.number(),
        pad: 0,
    };
    // The way back first: an answer must not overtake it.
    let source_port = reserve(packet, met, &flow, tables).map_err(Verdict::Drop)?;
    let flow = Flow { source_port, ..flow };
    if tables.begin_flow(tuple, &flow).is_none() {
        tables.delete_flow(&flow.twin(tuple.protocol));
        return Err(Verdict::Drop(DropReason::FlowTableFull));
    }
    Ok((flow, path))
}

/// The flow's source on the way to its backend, and that way.
#[inline(always)]
fn leave<A: Balanced, P: Packet, T: Tables<A>>(
    packet: &P,
    at: usize,
    met: &Met<A>,
    backend: &Backend<A>,
    view: View,
    tables: &mut T,
) -> Result<(A, Path), Verdict> {
    let hairpin = backend.address == met.tuple.source;
    // Answers to a pod come back through here from wherever they are.
    if (backend.is_local() || view == View::Inside) && !hairpin {
        return Ok((met.tuple.source, Path::Stack));
    }
    route(packet, at, met, A::default(), backend.address, tables)?;
    let source = if backend.is_local() {
        A::LOOPBACK
    } else {
        tables.device().map_or(A::default(), |device| A::own(&device))
    };
    if source == A::default() {
        return Err(Verdict::Drop(DropReason::NoNatMapping));
    }
    Ok((source, Path::Routed))
}

/// Writes the entry of the answers to a flow, and returns the port that the flow got: its own where that is free.
#[inline(always)]
fn reserve<A: Balanced, P: Packet, T: Tables<A>>(
    packet: &P,
    met: &Met<A>,
    flow: &Flow<A>,
    tables: &mut T,
) -> Result<u16, DropReason> {
    let tuple = &met.tuple;
    let reply = flow.back(tuple);
    let holds = if flow.source == tuple.source {
        Holds::UntilClosed
    } else {
        Holds::UntilExpired
    };
    // A client that is seen as itself keeps its port, and so does SCTP.
    let keeps = flow.source == tuple.source || tuple.protocol == SCTP;
    let own = u16::from_be(tuple.source_port);
    let config = settings(tables);
    let within = config.nat_first <= own && own <= config.nat_last;
    let mut port = if keeps || within {
        tuple.source_port
    } else {
        draw(&config, tables.random())
    };
    let mut taken = NONE;
    for _ in 0..PROBES {
        let flow = Flow {
            source_port: port,
            ..*flow
        };
        let key = flow.twin(tuple.protocol);
        match tables.insert_flow(&key, &reply) {
            Inserted::New => taken = port.into(),
            Inserted::Full => return Err(DropReason::FlowTableFull),
            Inserted::Exists => {
                // What comparing tells the verifier of the clock, it is not to know the next time round.
                let now = packet.forget(met.now);
                if is_free(now, &key, &reply, holds, tables) {
                    tables.set_flow(&key, &reply).ok_or(DropReason::FlowTableFull)?;
                    taken = port.into();
                }
            }
        }
        if keeps || taken != NONE {
            break;
        }
        port = draw(&config, tables.random());
    }
    // Whichever it was, the verifier walks what follows once.
    u16::try_from(packet.forget(taken)).map_err(|_| DropReason::NoNatMapping)
}

/// No port.
const NONE: u32 = 1 << 16;

/// How long a mapping is its owner's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    /// The client itself uses its port again.
    UntilClosed,
    /// Another client would get what still trickles in.
    UntilExpired,
}

/// Whether an entry that is there may be written over: nobody's any more, or this very flow's, whose other entry was lost.
#[inline(always)]
fn is_free<A: Balanced, T: Tables<A>>(
    now: u32,
    key: &Tuple<A>,
    reply: &Flow<A>,
    holds: Holds,
    tables: &T,
) -> bool {
    let Some(other) = tables.flow(key) else {
        return true;
    };
    let same = (
        other.source,
        other.source_port,
        other.destination,
        other.destination_port,
    ) == (
        reply.source,
        reply.source_port,
        reply.destination,
        reply.destination_port,
    );
    same || track::is_expired(now, other.expires)
        || (holds == Holds::UntilClosed && other.state.is_closed())
        || tables.live_frontend(other.frontend.index()) != Some(other.frontend)
}

/// A port of the range, in network order; each is as likely as the others, whatever was drawn before.
#[inline(always)]
fn draw(config: &Config, random: u32) -> u16 {
    let ports = u32::from(config.nat_last.saturating_sub(config.nat_first)) + 1;
    let place = crate::low16(((random >> 16) * ports) >> 16);
    config.nat_first.wrapping_add(place).to_be()
}
