//! Direct server return, on the node that a client's packet comes to: it goes on to the backend's node as [`crate::dsr`] says,
//! and answers never come back here. One entry remembers the backend; it is all there is to know.

use super::{Balanced, Met, Tables, Verdict, refused, settings};
use crate::bucket::Limited;
use crate::config::{Node, RangeKey};
use crate::dsr::tunnel::{Inside, wrap_geneve, wrap_ipip};
use crate::dsr::{self, Carriage, Opens, Room, Vip, carriage};
use crate::flow::{Flow, Tuple, Way};
use crate::forward::{Ask, Routed, length};
use crate::icmp::Answer;
use crate::packet::{ETHERNET, Hop, SCTP, rewrite};
use crate::reason::DropReason;
use crate::service::{Backend, Dispatch, Frontend, FrontendKey, Selection};
use crate::track;

/// Whether packets for this backend leave without coming back. What is outside of the cluster could not answer directly, and
/// what a node asks may be answered on that very node, where nobody makes the answer come from the VIP.
#[inline(always)]
pub(super) fn applies<A: Balanced, T: Tables<A>>(
    source: &A,
    frontend: &Frontend,
    backend: &Backend<A>,
    tables: &T,
) -> bool {
    Dispatch::from_number(frontend.dispatch) != Dispatch::Snat
        && !backend.is_local()
        && backend.is_in_cluster()
        && !tables.in_range(RangeKey::<A>::PEERS, source)
}

/// Whether a packet may follow its flow's entry.
#[inline(always)]
pub(super) fn is_usable<A: Balanced, T: Tables<A>>(met: &Met<A>, flow: &Flow<A>, tables: &T) -> bool {
    if track::is_expired(met.now, flow.expires)
        || tables.live_frontend(flow.frontend.index()) != Some(flow.frontend)
        || (met.seen().opens() && flow.state.is_closing())
    {
        return false;
    }
    let backend = tables.backend(flow.backend.index());
    let backend = backend.filter(|backend| backend.id == flow.backend);
    // A backend that is leaving keeps what it has, and gets nothing new.
    backend.is_some_and(|backend| backend.is_active() || !met.seen().opens())
}

/// Sends a packet on to the node of the backend that was found for it.
#[inline(always)]
pub(super) fn send<A: Balanced, P: Room, T: Tables<A>>(
    packet: &mut P,
    met: &Met<A>,
    opens: Opens,
    place: u32,
    tables: &mut T,
) -> Result<Verdict, Verdict> {
    // It was there just now.
    let gone = Verdict::Drop(DropReason::NoService);
    let backend = tables.backend(place).filter(|backend| backend.id.lives_at(place));
    let backend = backend.ok_or(gone)?;
    let dispatch = Dispatch::from_number(match opens {
        Opens::Flow => begin(met, &backend, tables).ok_or(gone)?,
        Opens::Nothing => go_on(met, tables).ok_or(gone)?,
    });
    let carriage = carriage(dispatch, met.seen(), opens);
    let (destination, added) = match carriage {
        Carriage::Plain => (backend.address, 0),
        Carriage::Option => (backend.address, A::OPTION_GAP.length()),
        Carriage::Ipip => (node(&backend, tables)?, A::IPIP_GAP.length()),
        Carriage::Geneve => (node(&backend, tables)?, A::GENEVE_GAP.length()),
    };
    if met.network.hops <= 1 {
        return Err(Verdict::Answer(Answer::TimeExceeded));
    }
    let ask = Ask {
        source: A::default(),
        destination,
        length: length(packet, ETHERNET, &met.network).saturating_add(added),
    };
    match tables.route(&ask) {
        Routed::Found => {}
        Routed::TooBig(fits) => return Err(refused(Routed::TooBig(fits.saturating_sub(added)))),
        other => return Err(refused(other)),
    }
    // Its checksum is over ports, and over no address.
    if met.tuple.protocol == SCTP
        && carriage != Carriage::Ipip
        && port(met, &backend) != met.tuple.destination_port
    {
        return Err(Verdict::Drop(DropReason::L4Checksum));
    }
    let vip = Vip {
        address: met.tuple.destination,
        port: met.tuple.destination_port,
    };
    let underlay = A::underlay(A::known_as(&settings(tables).node), destination);
    if carriage == Carriage::Ipip {
        wrap_ipip::<A, _>(packet, &underlay, spread(met)).map_err(Verdict::Drop)?;
        return Ok(Verdict::Forward);
    }
    let new = Tuple {
        destination: backend.address,
        destination_port: port(met, &backend),
        ..met.tuple
    };
    rewrite(packet, ETHERNET, &met.network, &met.tuple, &new, Hop::Counted).map_err(Verdict::Drop)?;
    let done = match carriage {
        Carriage::Option => A::insert(packet, &vip),
        Carriage::Geneve => wrap_geneve(packet, &underlay, &vip, spread(met)),
        Carriage::Plain | Carriage::Ipip => Ok(()),
    };
    done.map_err(Verdict::Drop)?;
    Ok(Verdict::Forward)
}

/// Writes the entry of a new flow. A table that cannot take it costs the memory, not the packet, and so does a flood: what
/// Maglev alone decides goes the same way with the next packet, whether it is remembered or not.
#[inline(always)]
fn begin<A: Balanced, T: Tables<A>>(met: &Met<A>, backend: &Backend<A>, tables: &mut T) -> Option<u8> {
    let tuple = &met.tuple;
    let key = FrontendKey::new(tuple.destination, tuple.destination_port, tuple.protocol);
    let frontend = tables.frontend(&key)?;
    let config = settings(tables);
    if config.flow_rate != 0
        && is_repeatable(&frontend, tables)
        && tables.take(Limited::Flows, met.now, config.flow_rate).is_none()
    {
        tables.count_forgone();
        return Some(frontend.dispatch);
    }
    let step = track::begin(met.now, met.seen(), &config.lifetimes);
    let flow = Flow {
        source: tuple.source,
        destination: backend.address,
        source_port: tuple.source_port,
        destination_port: port(met, backend),
        frontend: frontend.id,
        backend: backend.id,
        expires: step.expires,
        state: step.state,
        way: Way::Forward.number(),
        dispatch: frontend.dispatch,
        pad: 0,
    };
    let _ = tables.set_flow(tuple, &flow);
    Some(frontend.dispatch)
}

/// Whether the same client is always given the same backend, as long as the set stays as it is.
#[inline(always)]
fn is_repeatable<A: Balanced, T: Tables<A>>(frontend: &Frontend, tables: &T) -> bool {
    frontend.affinity == 0
        && Selection::from_number(frontend.selection) == Selection::Maglev
        && tables.maglev(frontend.set, 0).is_some()
}

/// Brings the entry up to date.
#[inline(always)]
fn go_on<A: Balanced, T: Tables<A>>(met: &Met<A>, tables: &mut T) -> Option<u8> {
    let flow = tables.flow(&met.tuple)?;
    let lifetimes = &settings(tables).lifetimes;
    let (state, expires) = dsr::step(met.now, flow.state, flow.expires, met.seen(), lifetimes)?;
    if (state, expires) != (flow.state, flow.expires) {
        let _ = tables.refresh_flow(&met.tuple, |_, _| (state, expires));
    }
    Some(flow.dispatch)
}

#[inline(always)]
fn port<A: Balanced>(met: &Met<A>, backend: &Backend<A>) -> u16 {
    if backend.port == 0 {
        met.tuple.destination_port
    } else {
        backend.port
    }
}

/// Where packets for the backend's node go.
#[inline(always)]
fn node<A: Balanced, T: Tables<A>>(backend: &Backend<A>, tables: &T) -> Result<A, Verdict> {
    let node = tables
        .node(backend.node)
        .map_or(A::default(), |node: Node| A::known_as(&node));
    if node == A::default() {
        return Err(Verdict::Drop(DropReason::NoTunnelEndpoint));
    }
    Ok(node)
}

/// A number that is the same for all packets of a flow.
#[inline(always)]
fn spread<A: Balanced>(met: &Met<A>) -> u32 {
    let ports = u32::from(met.tuple.source_port) << 16 | u32::from(met.tuple.destination_port);
    let mixed = (met.tuple.source.fold() ^ ports).wrapping_mul(0x9e37_79b1);
    mixed ^ mixed >> 15 ^ u32::from(<A as Inside>::PROTOCOL)
}
