//! Direct server return, on the node that a client's packet comes to: it goes on to the backend's node as [`crate::dsr`] says,
//! and answers never come back here. One entry remembers the backend; it is all there is to know.

use super::choose::live;
use super::{Balanced, Met, Path, Tables, Verdict, View, refused, route, settings, translate};
use crate::bucket::Limited;
use crate::config::{Node, RangeKey};
use crate::dsr::tunnel::{Inside, wrap_geneve, wrap_ipip};
use crate::dsr::{self, Carriage, Opens, Room, Underlay, Vip, carriage};
use crate::flow::{Flow, Tuple, Way};
use crate::forward::{Ask, Routed, length};
use crate::icmp::Answer;
use crate::packet::{ETHERNET, Hop, SCTP, rewrite};
use crate::reason::DropReason;
use crate::service::{Backend, Dispatch, Frontend, FrontendKey, Selection, flag};
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

/// The backend of a flow that is known, where a packet may follow the entry.
#[inline(always)]
pub(super) fn usable<A: Balanced, T: Tables<A>>(
    met: &Met<A>,
    flow: &Flow<A>,
    tables: &T,
) -> Option<Backend<A>> {
    if track::is_expired(met.now, flow.expires)
        || tables.live_frontend(flow.frontend.index()) != Some(flow.frontend)
        || (met.seen().opens() && flow.state.is_closing())
    {
        return None;
    }
    let backend = tables.backend(flow.backend.index());
    let backend = backend.filter(|backend| backend.id == flow.backend);
    // A backend that is leaving keeps what it has, and gets nothing new.
    backend.filter(|backend| backend.is_active() || !met.seen().opens())
}

/// A packet of a flow that is known goes on, here and now unless it must bring its VIP along: headers for that are written
/// by a stage.
#[inline(always)]
pub(super) fn follow<A: Balanced, P: Room, T: Tables<A>>(
    packet: &mut P,
    at: usize,
    met: &Met<A>,
    flow: &Flow<A>,
    backend: &Backend<A>,
    tables: &mut T,
) -> Result<Verdict, Verdict> {
    match carriage(Dispatch::from_number(flow.dispatch), met.seen(), Opens::Nothing) {
        Carriage::Option | Carriage::Geneve => Err(Verdict::Direct(Opens::Nothing, flow.backend)),
        Carriage::Ipip => {
            go_on(met, flow, tables).ok_or(GONE)?;
            wrap(packet, met, backend, tables)
        }
        Carriage::Plain => {
            go_on(met, flow, tables).ok_or(GONE)?;
            route(packet, at, met, A::default(), flow.destination, tables)?;
            translate(packet, at, met, flow, Path::Routed)
        }
    }
}

/// The backend of a packet that opens a connection while more of them begin than are remembered. Looking for an entry is most
/// of what such a packet would cost, and it tells nothing that Maglev does not tell, unless the set has changed since. What is
/// not plain is `None`, and goes the long way.
#[inline(always)]
pub(super) fn unremembered<A: Balanced, T: Tables<A>>(met: &Met<A>, tables: &T) -> Option<Backend<A>> {
    let config = settings(tables);
    let tuple = &met.tuple;
    if !met.seen().opens()
        || config.flow_rate == 0
        || !tables.is_spent(Limited::Flows, met.now, config.flow_rate)
    {
        return None;
    }
    let key = FrontendKey::new(tuple.destination, tuple.destination_port, tuple.protocol);
    let frontend = tables.frontend(&key)?;
    if Dispatch::from_number(frontend.dispatch) != Dispatch::DsrIpip
        || !is_repeatable(&frontend)
        || frontend.ranges != 0
        || frontend.flags & flag::ROUTABLE == 0
        || tables.set(frontend.set)?.count() == 0
        || tables.view() == View::Inside
    {
        return None;
    }
    let place = A::hash(tuple, tuple.source_port, &config).checked_rem(config.maglev_size)?;
    let id = tables.maglev(frontend.set, place)?;
    let backend = live(id, tables)?;
    applies(&tuple.source, &frontend, &backend, tables).then_some(backend)
}

/// A packet of [`unremembered`] goes on.
#[inline(always)]
pub(super) fn pass_by<A: Balanced, P: Room, T: Tables<A>>(
    packet: &mut P,
    met: &Met<A>,
    backend: &Backend<A>,
    tables: &mut T,
) -> Result<Verdict, Verdict> {
    tables.count_forgone();
    wrap(packet, met, backend, tables)
}

/// The first packet of a flow. By IP in IP it goes on here and now, else by a stage.
#[inline(always)]
pub(super) fn open<A: Balanced, P: Room, T: Tables<A>>(
    packet: &mut P,
    met: &Met<A>,
    frontend: &Frontend,
    backend: &Backend<A>,
    tables: &mut T,
) -> Result<Verdict, Verdict> {
    match Dispatch::from_number(frontend.dispatch) {
        Dispatch::DsrIpip => {
            begin(met, frontend, backend, tables);
            wrap(packet, met, backend, tables)
        }
        Dispatch::DsrOption | Dispatch::DsrGeneve | Dispatch::Snat => {
            Err(Verdict::Direct(Opens::Flow, backend.id))
        }
    }
}

/// What was there a moment before.
const GONE: Verdict = Verdict::Drop(DropReason::NoService);

/// In a stage: sends a packet on to the node of the backend that was found for it.
#[inline(always)]
pub(super) fn send<A: Balanced, P: Room, T: Tables<A>>(
    packet: &mut P,
    met: &Met<A>,
    opens: Opens,
    place: u32,
    tables: &mut T,
) -> Result<Verdict, Verdict> {
    let backend = tables.backend(place).filter(|backend| backend.id.lives_at(place));
    let backend = backend.ok_or(GONE)?;
    let dispatch = match opens {
        Opens::Flow => {
            let tuple = &met.tuple;
            let key = FrontendKey::new(tuple.destination, tuple.destination_port, tuple.protocol);
            let frontend = tables.frontend(&key).ok_or(GONE)?;
            begin(met, &frontend, &backend, tables);
            frontend.dispatch
        }
        Opens::Nothing => {
            let flow = tables.flow(&met.tuple).ok_or(GONE)?;
            go_on(met, &flow, tables).ok_or(GONE)?;
            flow.dispatch
        }
    };
    let carriage = carriage(Dispatch::from_number(dispatch), met.seen(), opens);
    let (destination, added) = match carriage {
        // Its service was of another kind when the packet began its way.
        Carriage::Ipip => return wrap(packet, met, &backend, tables),
        Carriage::Plain => (backend.address, 0),
        Carriage::Option => (backend.address, A::OPTION_GAP.length()),
        Carriage::Geneve => (node(&backend, tables)?, A::GENEVE_GAP.length()),
    };
    way(packet, met, destination, added, tables)?;
    // Its checksum is over ports, and over no address.
    if met.tuple.protocol == SCTP && port(met, &backend) != met.tuple.destination_port {
        return Err(Verdict::Drop(DropReason::L4Checksum));
    }
    let vip = Vip {
        address: met.tuple.destination,
        port: met.tuple.destination_port,
    };
    let new = Tuple {
        destination: backend.address,
        destination_port: port(met, &backend),
        ..met.tuple
    };
    rewrite(packet, ETHERNET, &met.network, &met.tuple, &new, Hop::Counted).map_err(Verdict::Drop)?;
    let done = match carriage {
        Carriage::Option => A::insert(packet, &vip),
        Carriage::Geneve => wrap_geneve(packet, &underlay(destination, tables), &vip, spread(met)),
        Carriage::Plain | Carriage::Ipip => Ok(()),
    };
    done.map_err(Verdict::Drop)?;
    Ok(Verdict::Forward)
}

/// By IP in IP to the node of the backend, or an answer.
#[inline(always)]
fn wrap<A: Balanced, P: Room, T: Tables<A>>(
    packet: &mut P,
    met: &Met<A>,
    backend: &Backend<A>,
    tables: &mut T,
) -> Result<Verdict, Verdict> {
    let node = node(backend, tables)?;
    way(packet, met, node, A::IPIP_GAP.length(), tables)?;
    wrap_ipip::<A, _>(packet, &underlay(node, tables), spread(met)).map_err(Verdict::Drop)?;
    Ok(Verdict::Forward)
}

/// The way out for a packet that gets longer by so many octets.
#[inline(always)]
fn way<A: Balanced, P: Room, T: Tables<A>>(
    packet: &P,
    met: &Met<A>,
    destination: A,
    added: u16,
    tables: &mut T,
) -> Result<(), Verdict> {
    if met.network.hops <= 1 {
        return Err(Verdict::Answer(Answer::TimeExceeded));
    }
    let ask = Ask {
        source: A::default(),
        destination,
        length: length(packet, ETHERNET, &met.network).saturating_add(added),
    };
    match tables.route(&ask) {
        Routed::Found => Ok(()),
        Routed::TooBig(fits) => Err(refused(Routed::TooBig(fits.saturating_sub(added)))),
        other => Err(refused(other)),
    }
}

/// Outer headers from this node to that one.
#[inline(always)]
fn underlay<A: Balanced, T: Tables<A>>(node: A, tables: &T) -> Underlay {
    A::underlay(A::known_as(&settings(tables).node), node)
}

/// Writes the entry of a new flow. A table that cannot take it costs the memory, not the packet, and so does a flood: what
/// Maglev alone decides goes the same way with the next packet, whether it is remembered or not.
#[inline(always)]
fn begin<A: Balanced, T: Tables<A>>(met: &Met<A>, frontend: &Frontend, backend: &Backend<A>, tables: &mut T) {
    let config = settings(tables);
    if config.flow_rate != 0
        && is_repeatable(frontend)
        && tables.maglev(frontend.set, 0).is_some()
        && tables.take(Limited::Flows, met.now, config.flow_rate).is_none()
    {
        tables.count_forgone();
        return;
    }
    let step = track::begin(met.now, met.seen(), &config.lifetimes);
    let flow = Flow {
        source: met.tuple.source,
        destination: backend.address,
        source_port: met.tuple.source_port,
        destination_port: port(met, backend),
        frontend: frontend.id,
        backend: backend.id,
        expires: step.expires,
        state: step.state,
        way: Way::Forward.number(),
        dispatch: frontend.dispatch,
        pad: 0,
    };
    let _ = tables.begin_flow(&met.tuple, &flow);
}

/// Whether the same client is always given the same backend, as long as the set stays as it is and has a table.
#[inline(always)]
fn is_repeatable(frontend: &Frontend) -> bool {
    frontend.affinity == 0 && Selection::from_number(frontend.selection) == Selection::Maglev
}

/// Brings the entry up to date. `None`: its connection was closing, and this is another one.
#[inline(always)]
fn go_on<A: Balanced, T: Tables<A>>(met: &Met<A>, flow: &Flow<A>, tables: &mut T) -> Option<()> {
    let lifetimes = &settings(tables).lifetimes;
    let (state, expires) = dsr::step(met.now, flow.state, flow.expires, met.seen(), lifetimes)?;
    if (state, expires) != (flow.state, flow.expires) {
        // What vanishes meanwhile is as if it had expired.
        let _ = tables.refresh_flow(&met.tuple, |_, _| (state, expires));
    }
    Some(())
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
