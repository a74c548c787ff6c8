//! Direct server return, on the backend's node: packets that come from the node that their client sent them to.
//!
//! ```text
//!  IP in IP        headers off, then balanced among the backends here, as if the client had sent it here
//!  Geneve          headers off, and the VIP remembered
//!  option          the VIP remembered
//! ```
//!
//! What is remembered are two entries without a backend's id: the forward one translates nothing, the reply makes answers
//! come from the VIP. Wrapped packets are taken from other nodes only. An option cannot say who wrote it: it is taken where
//! the VIP is a frontend of direct return, so it gives nobody an address that is not given here already.

use super::{
    Balanced, Inserted, Met, Tables, Verdict, carry_on, frontend_of_any, is_this_node, settings,
    source_is_refused,
};
use crate::BackendId;
use crate::config::RangeKey;
use crate::dsr::tunnel::{self, Envelope, look};
use crate::dsr::{Room, Vip};
use crate::flow::{Flow, FragmentKey, Way};
use crate::icmp::{Control, forget};
use crate::packet::{ETHERNET, Fragment, Packet};
use crate::reason::DropReason;
use crate::service::Dispatch;
use crate::track::{self, State};

/// What a packet of another node turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// Nothing of ours: untouched, and the stack's.
    Nothing,
    /// Its headers are off; [`super::inside`] decides.
    Inside,
    /// Its headers are off, and the VIP was written down; [`super::brought`] decides.
    Brought,
    Drop(DropReason),
}

/// Takes the headers of another node off a packet whose outer IP header follows Ethernet. Only those that are around a packet
/// for a service: tunnels between nodes may be others' too.
#[inline(always)]
pub fn unwrap<A: Control, P: Room, T: Tables<A>>(packet: &mut P, tables: &T, vip: &mut Vip<A>) -> Opened {
    let Some((source, destination)) = A::addresses(packet, ETHERNET) else {
        return Opened::Nothing;
    };
    let Ok(network) = A::network(packet, ETHERNET) else {
        return Opened::Nothing;
    };
    if !is_this_node(&destination, tables) {
        return Opened::Nothing;
    }
    let (kind, octets, opened) = match look(packet, &network) {
        Envelope::None => return Opened::Nothing,
        Envelope::Ipip { kind, octets } => (kind, octets, Opened::Inside),
        Envelope::Geneve {
            kind,
            octets,
            vip: at,
        } => {
            *vip = forget(packet, at)
                .and_then(|at| A::read_vip(packet, at))
                .unwrap_or_default();
            (kind, octets, Opened::Brought)
        }
    };
    // What is inside lies anywhere.
    let inner = forget(packet, ETHERNET + octets).filter(|_| kind == A::ETHERTYPE);
    let served = inner.is_some_and(|inner| match opened {
        Opened::Brought => is_frontend(vip, packet, inner, tables),
        Opened::Nothing | Opened::Inside | Opened::Drop(_) => is_served(packet, inner, tables),
    });
    if !served {
        return Opened::Nothing;
    }
    if !tables.in_range(RangeKey::<A>::PEERS, &source) {
        return Opened::Drop(DropReason::UnknownSender);
    }
    match tunnel::unwrap(packet, octets, kind) {
        Ok(()) => opened,
        Err(reason) => Opened::Drop(reason),
    }
}

/// Whether the packet inside, its IP header at `at`, is for a service.
#[inline(always)]
fn is_served<A: Control, P: Packet, T: Tables<A>>(packet: &P, at: usize, tables: &T) -> bool {
    let Some((source, destination)) = A::addresses_inside(packet, at) else {
        return false;
    };
    let Some(Ok(network)) = forget(packet, at).map(|at| A::network(packet, at)) else {
        return false;
    };
    let port = match network.fragment {
        Fragment::Later(id) => {
            let key = FragmentKey::new(source, destination, id, network.protocol);
            tables.fragment(&key).map(|ports| ports.destination_port)
        }
        Fragment::Whole | Fragment::First(_) => forget(packet, network.transport)
            .and_then(|transport| packet.read::<4>(transport))
            .map(|[_, _, a, b]| u16::from_ne_bytes([a, b])),
    };
    port.is_some_and(|port| frontend_of_any(&destination, port, network.protocol, tables).is_some())
}

/// Whether the packet inside may have been sent to this VIP.
#[inline(always)]
fn is_frontend<A: Balanced, P: Packet, T: Tables<A>>(
    vip: &Vip<A>,
    packet: &P,
    at: usize,
    tables: &T,
) -> bool {
    A::network(packet, at)
        .is_ok_and(|network| frontend_of_any(&vip.address, vip.port, network.protocol, tables).is_some())
}

/// A packet brings along which VIP it was sent to.
#[inline(always)]
pub(super) fn remember<A: Balanced, T: Tables<A>>(
    met: &Met<A>,
    vip: &Vip<A>,
    tables: &mut T,
) -> Result<Verdict, Verdict> {
    let Some(frontend) = frontend_of_any(&vip.address, vip.port, met.tuple.protocol, tables) else {
        return Err(Verdict::Drop(DropReason::NoService));
    };
    match Dispatch::from_number(frontend.dispatch) {
        Dispatch::DsrOption | Dispatch::DsrGeneve => {}
        Dispatch::Snat | Dispatch::DsrIpip => {
            return Err(Verdict::Drop(DropReason::EncapsulationProhibited));
        }
    }
    if source_is_refused(&met.tuple.source, &frontend, tables) {
        return Err(Verdict::Drop(DropReason::SourceRange));
    }
    let lifetimes = &settings(tables).lifetimes;
    // Where there is none, one without frontend stands for it: the kernel refuses to see nothing copied.
    let known = tables.flow(&met.tuple).unwrap_or_default();
    let same = known.frontend == frontend.id && is(&known);
    if same
        && !met.seen().opens()
        && !track::is_expired(met.now, known.expires)
        && let Some(step) = track::step(met.now, known.state, known.expires, met.seen(), lifetimes)
    {
        carry_on(met, &known, step, tables);
        return Ok(Verdict::Local);
    }
    let step = track::begin(met.now, met.seen(), lifetimes);
    let tuple = &met.tuple;
    let flow = Flow {
        source: tuple.source,
        destination: tuple.destination,
        source_port: tuple.source_port,
        destination_port: tuple.destination_port,
        frontend: frontend.id,
        backend: BackendId::NONE,
        expires: step.expires,
        state: step.state,
        way: Way::Forward.number(),
        dispatch: 0,
        pad: 0,
    };
    let reply = Flow {
        source: vip.address,
        destination: tuple.source,
        source_port: vip.port,
        destination_port: tuple.source_port,
        way: Way::Reply.number(),
        ..flow
    };
    let full = Verdict::Drop(DropReason::FlowTableFull);
    let key = tuple.reversed();
    match tables.insert_flow(&key, &reply) {
        Inserted::New => {}
        Inserted::Full => return Err(full),
        Inserted::Exists => {
            // One that a flow of another VIP still uses would mix answers up.
            let taken = tables.flow(&key).is_some_and(|other| {
                (other.source, other.source_port) != (reply.source, reply.source_port)
                    && !track::is_expired(met.now, other.expires)
                    && !other.state.is_closed()
                    && (known.frontend.is_none() || !is(&known))
                    && tables.live_frontend(other.frontend.index()) == Some(other.frontend)
            });
            if taken {
                return Err(Verdict::Drop(DropReason::NoNatMapping));
            }
            tables.set_flow(&key, &reply).ok_or(full)?;
        }
    }
    tables.set_flow(tuple, &flow).ok_or(full)?;
    Ok(Verdict::Local)
}

/// Whether it is the entry of packets that come here by direct return.
#[inline(always)]
pub(super) fn is<A: Balanced>(flow: &Flow<A>) -> bool {
    flow.dispatch == 0 && flow.backend.is_none() && flow.way() == Way::Forward
}

/// Whether a packet that brings nothing along is a new connection, straight to the backend. What was only begun may be the
/// very packet that began it, on its way from XDP to tc.
#[inline(always)]
pub(super) fn ends<A: Balanced>(met: &Met<A>, flow: &Flow<A>) -> bool {
    met.seen().opens() && flow.state != State::default()
}

#[inline(always)]
pub(super) fn unlearn<A: Balanced, T: Tables<A>>(met: &Met<A>, tables: &mut T) {
    tables.delete_flow(&met.tuple);
    tables.delete_flow(&met.tuple.reversed());
}
