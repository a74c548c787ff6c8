//! What happens to a packet: the decision of every program, over tables that are maps in the kernel and plain maps in tests.
//!
//! ```text
//!  ingress                                               egress
//!    |                                                     |
//!  FILTER says "not ours"? ---> pass                     FILTER of the source says "not ours"? ---> pass
//!    |                                                     |
//!  FLOWS has the tuple, alive? --------+                 FLOWS has the tuple, alive? --> translate back
//!    | no                              |                   | no
//!  FRONTENDS? no: wildcard --> refuse, |                 pass
//!    |             else pass           |
//!  may come? choose a backend          |
//!    |                                 |
//!    +---> backend here: two entries   +---> backend here: translate, to the stack
//!    |     in FLOWS, translate         |
//!    +---> elsewhere: route, an        +---> elsewhere, or an answer from there: route, translate,
//!          address and port of this          out by its device
//!          node, the same
//! ```
//!
//! An established flow costs one lookup in `FLOWS`; the service is not looked up again. Its frontend and its backend are
//! held against two arrays, so it ends with them. Changed source ranges hold for new flows.
//! A SYN by direct return that would not be remembered, because more come than are, goes where Maglev says without that lookup.

mod choose;
mod direct;
mod family;
pub(crate) mod held;
mod meet;
mod open;
mod returned;
mod tables;

use crate::config::{Device, RangeKey, device_flag};
use crate::dsr::{Opens, Room, Vip, tunnel};
use crate::flow::{Flow, Tuple, Way};
use crate::forward::{Ask, Routed, length};
use crate::icmp::{Answer, refuse};
use crate::id::BackendId;
use crate::packet::{ETHERNET, Hop, Malformed, Packet, UDP, rewrite};
use crate::reason::DropReason;
use crate::service::{Dispatch, Frontend, FrontendKey, flag};
use crate::track::{self, State, Tell};

pub use choose::{ATTEMPTS, choose};
pub use family::Balanced;
pub use held::{come, has_come, wait};
use meet::{Concerns, Met, meet, settings};
pub use open::PROBES;
use open::{admit, open, source_is_refused};
pub use returned::{Opened, unwrap};
pub use tables::{Found, Inserted, Tables};

/// The end of a packet's way through a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Untouched, to the stack.
    Pass(Pass),
    /// Translated to a backend on this node; the stack delivers.
    Local,
    /// Translated back to what the client knows; the stack goes on with it.
    Reply,
    /// Translated, and leaves past the stack, by the way that [`Tables::route`] found.
    Forward,
    Drop(DropReason),
    /// Untouched, and ICMP: [`crate::icmp::message`] decides.
    Message,
    /// Untouched, and an ICMP error: [`crate::icmp::translate`] decides.
    Error,
    /// Untouched, and to be answered by [`crate::icmp::answer`].
    Answer(Answer),
    /// The packet has become the answer to itself: back to where it came from.
    Answered,
    /// Untouched, for a frontend, and of no flow that goes on: [`begin`] decides.
    New(Found),
    /// Untouched, of a flow that returns directly, to this backend, and to bring its VIP along: [`send_on`] decides.
    Direct(Opens, BackendId),
    /// Untouched, and it brings its VIP along: [`remember`] decides.
    Returned,
    /// Untouched, and perhaps wrapped by another node: [`unwrap`] decides.
    Wrapped,
    /// Untouched, and to be kept until the first fragment of its datagram comes: [`wait`].
    Hold,
    /// Untouched, and to come anew, and after it all that waited for it: [`come`].
    Release,
}

/// Why a packet was not touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pass {
    /// Its address is none of ours.
    NotOurs,
    /// The agent has not written its settings yet.
    Disabled,
    /// Neither a flow nor a frontend.
    NoService,
    /// A protocol that is not balanced.
    Protocol,
    /// The stack drops it, and counts it as its own.
    Malformed(Malformed),
    /// A service without backend, and the settings say to let it pass.
    NoBackend,
    /// XDP cannot send it on its way: tc can, and begins anew.
    Later,
}

/// From where a packet comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// The network.
    Outside,
    /// A pod of this node, whose sockets nobody translated.
    Inside,
}

impl View {
    /// Of what comes in by this device; `None`: a device that nobody described.
    #[inline(always)]
    pub fn by(device: Option<Device>) -> Self {
        match device {
            Some(device) if device.flags & device_flag::POD != 0 => Self::Inside,
            Some(_) | None => Self::Outside,
        }
    }
}

/// A packet from the network, its IP header at `at`: [`arrive`], and [`begin`] where that goes on.
#[inline(always)]
pub fn ingress<A: Balanced, P: Room, T: Tables<A>>(packet: &mut P, at: usize, tables: &mut T) -> Verdict {
    match arrive(packet, at, tables) {
        Verdict::New(_) => begin(packet, at, tables),
        verdict => verdict,
    }
}

/// A packet from the network, its IP header at `at`: whether it concerns the programs, and what becomes of it if its flow is
/// known.
#[inline(always)]
pub fn arrive<A: Balanced, P: Room, T: Tables<A>>(packet: &mut P, at: usize, tables: &mut T) -> Verdict {
    known(packet, at, From::Outside, tables).unwrap_or_else(|verdict| verdict)
}

/// After [`Verdict::New`]: who may come, who serves, and the entries of the flow.
#[inline(always)]
pub fn begin<A: Balanced, P: Room, T: Tables<A>>(packet: &mut P, at: usize, tables: &mut T) -> Verdict {
    new(packet, at, From::Outside, tables).unwrap_or_else(|verdict| verdict)
}

/// After [`Opened::Inside`]: the packet that another node wrapped. It has chosen this node, so no other one is tried, and
/// nobody is answered: that would go to the other node.
#[inline(always)]
pub fn inside<A: Balanced, P: Room, T: Tables<A>>(packet: &mut P, at: usize, tables: &mut T) -> Verdict {
    let verdict = match known(packet, at, From::Node, tables) {
        Err(Verdict::New(_)) => new(packet, at, From::Node, tables),
        done => done,
    };
    only_here(verdict.unwrap_or_else(|verdict| verdict))
}

/// What becomes of a packet of another node, which is delivered here or not at all.
#[inline(always)]
fn only_here(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::Local | Verdict::Drop(_) => verdict,
        Verdict::Answer(answer) => Verdict::Drop(answer.reason()),
        Verdict::Pass(_) => Verdict::Drop(DropReason::NoService),
        Verdict::Reply
        | Verdict::Forward
        | Verdict::Message
        | Verdict::Error
        | Verdict::Answered
        | Verdict::New(_)
        | Verdict::Direct(..)
        | Verdict::Returned
        | Verdict::Wrapped => Verdict::Drop(DropReason::EncapsulationProhibited),
        Verdict::Hold | Verdict::Release => in_order(verdict),
    }
}

/// Where nothing is held. The stage before this one has met the packet and found what it needs; it went meanwhile.
#[inline(always)]
fn in_order(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::Hold | Verdict::Release => Verdict::Drop(DropReason::FirstFragmentMissing),
        verdict => verdict,
    }
}

/// A packet to the network, its IP header at `at`: only flows that are known are translated back.
#[inline(always)]
pub fn egress<A: Balanced, P: Packet, T: Tables<A>>(packet: &mut P, at: usize, tables: &mut T) -> Verdict {
    outbound(packet, at, tables).unwrap_or_else(|verdict| verdict)
}

/// Who sent a packet here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Outside,
    /// Another node, which a client sent it to.
    Node,
}

impl From {
    #[inline(always)]
    const fn concerns(self) -> Concerns {
        match self {
            Self::Outside => Concerns::Destination,
            Self::Node => Concerns::Anyway,
        }
    }

    /// The frontend that a packet is for.
    #[inline(always)]
    fn frontend<A: Balanced, T: Tables<A>>(self, tuple: &Tuple<A>, tables: &T) -> Option<Frontend> {
        let (address, port) = (tuple.destination, tuple.destination_port);
        match self {
            Self::Outside => tables.frontend(&FrontendKey::new(address, port, tuple.protocol)),
            Self::Node => frontend_of_any(&address, port, tuple.protocol, tables),
        }
    }
}

/// A frontend of this node or of another one: node ports are the same everywhere.
#[inline(always)]
fn frontend_of_any<A: Balanced, T: Tables<A>>(
    address: &A,
    port: u16,
    protocol: u8,
    tables: &T,
) -> Option<Frontend> {
    if tables.in_range(RangeKey::<A>::PEERS, address) {
        let here = A::known_as(&settings(tables).node);
        return tables.frontend(&FrontendKey::new(here, port, protocol));
    }
    tables.frontend(&FrontendKey::new(*address, port, protocol))
}

/// `Err` where the packet goes no further through here; it is the verdict.
#[inline(always)]
fn known<A: Balanced, P: Room, T: Tables<A>>(
    packet: &mut P,
    at: usize,
    from: From,
    tables: &mut T,
) -> Result<Verdict, Verdict> {
    let met = meet(packet, at, from.concerns(), tables)?;
    if from == From::Outside
        && let Some(backend) = direct::unremembered(&met, tables)
    {
        return direct::pass_by(packet, &met, &backend, tables);
    }
    let mut found = Found::Nothing;
    if let Some(flow) = tables.flow(&met.tuple) {
        found = Found::Ended;
        if flow.dispatch != Dispatch::Snat.number() {
            if from == From::Outside
                && let Some(backend) = direct::usable(&met, &flow, tables)
            {
                return direct::follow(packet, at, &met, &flow, &backend, tables);
            }
        } else if from == From::Outside
            && returned::is(&flow)
            && (brings_vip::<A, P>(packet, at, &met) || returned::ends(&met, &flow))
        {
            return Err(Verdict::Returned);
        } else if let Some((step, place)) = alive(&met, &flow, tables)
            && (place == Place::Here || from == From::Outside)
        {
            let path = match place {
                Place::Here => Path::Stack,
                Place::Elsewhere => {
                    // Answers leave as from the VIP. To backends, all flows ask alike, as the first packet of each did.
                    let source = match flow.way() {
                        Way::Forward => A::default(),
                        Way::Reply => flow.source,
                    };
                    route(packet, at, &met, source, flow.destination, tables)?;
                    Path::Routed
                }
            };
            carry_on(&met, &flow, step, tables);
            return translate(packet, at, &met, &flow, path);
        }
    }
    if from == From::Outside
        && (met.tuple.protocol, met.tuple.destination_port) == (UDP, tunnel::PORT)
        && is_this_node(&met.tuple.destination, tables)
    {
        return Err(Verdict::Wrapped);
    }
    if from.frontend(&met.tuple, tables).is_some() {
        return Err(Verdict::New(found));
    }
    // A router would send the packet back, and it would go round until its TTL ends.
    let wildcard = FrontendKey::wildcard(met.tuple.destination);
    let vip = tables.frontend(&wildcard);
    if vip.is_none() && from == From::Outside && brings_vip::<A, P>(packet, at, &met) {
        return Err(Verdict::Returned);
    }
    Err(match vip {
        Some(vip) if vip.flags & flag::ROUTABLE != 0 || tables.view() == View::Inside => refuse(tables),
        Some(_) => Verdict::Drop(DropReason::NoService),
        None => Verdict::Pass(Pass::NoService),
    })
}

/// The same for a packet that a flow begins with.
#[inline(always)]
fn new<A: Balanced, P: Room, T: Tables<A>>(
    packet: &mut P,
    at: usize,
    from: From,
    tables: &mut T,
) -> Result<Verdict, Verdict> {
    let met = meet(packet, at, from.concerns(), tables)?;
    // It was there just now.
    let frontend = from
        .frontend(&met.tuple, tables)
        .ok_or(Verdict::Drop(DropReason::NoService))?;
    // Another node has looked at who asks.
    let view = match from {
        From::Outside => tables.view(),
        From::Node => View::Outside,
    };
    let chosen = admit(&met, &frontend, from, view, tables)?;
    // However it was chosen, the verifier walks what follows once.
    let place = packet.forget(chosen.id.index());
    let backend = tables.backend(place).filter(|backend| backend.id.lives_at(place));
    let backend = backend.ok_or(Verdict::Drop(DropReason::NoService))?;
    if (from, view) == (From::Outside, View::Outside)
        && direct::applies(&met.tuple.source, &frontend, &backend, tables)
    {
        return direct::open(packet, &met, &frontend, &backend, tables);
    }
    let (flow, path) = open(packet, at, &met, &frontend, &backend, view, tables)?;
    translate(packet, at, &met, &flow, path)
}

/// Whether a packet says which VIP it was sent to. Without options or extension headers it does not.
#[inline(always)]
fn brings_vip<A: Balanced, P: Packet>(packet: &P, at: usize, met: &Met<A>) -> bool {
    met.network.transport != at + A::HEADER && A::has(packet, at)
}

/// Whether it is the address that other nodes send wrapped packets to.
#[inline(always)]
fn is_this_node<A: Balanced, T: Tables<A>>(address: &A, tables: &T) -> bool {
    *address != A::default() && *address == A::known_as(&settings(tables).node)
}

/// After [`Verdict::Direct`]: sends the packet on to the node of its backend, which is at this place.
#[inline(always)]
pub fn send_on<A: Balanced, P: Room, T: Tables<A>>(
    packet: &mut P,
    opens: Opens,
    place: u32,
    tables: &mut T,
) -> Verdict {
    let done = meet(packet, ETHERNET, Concerns::Destination, tables)
        .and_then(|met| direct::send(packet, &met, opens, place, tables));
    done.unwrap_or_else(|verdict| verdict)
}

/// After [`Verdict::Returned`]: remembers the VIP for answers.
#[inline(always)]
pub fn remember<A: Balanced, P: Packet, T: Tables<A>>(packet: &mut P, tables: &mut T) -> Verdict {
    let done = meet(packet, ETHERNET, Concerns::Destination, tables).and_then(|met| {
        match A::find(packet, ETHERNET) {
            Some(vip) => returned::remember(&met, &vip, tables),
            None => {
                returned::unlearn(&met, tables);
                Err(Verdict::Pass(Pass::NoService))
            }
        }
    });
    in_order(done.unwrap_or_else(|verdict| verdict))
}

/// The same after [`Opened::Brought`], which said the VIP.
#[inline(always)]
pub fn brought<A: Balanced, P: Packet, T: Tables<A>>(
    packet: &mut P,
    vip: &Vip<A>,
    tables: &mut T,
) -> Verdict {
    let done = meet(packet, ETHERNET, Concerns::Destination, tables)
        .and_then(|met| returned::remember(&met, vip, tables));
    only_here(done.unwrap_or_else(|verdict| verdict))
}

#[inline(always)]
fn outbound<A: Balanced, P: Packet, T: Tables<A>>(
    packet: &mut P,
    at: usize,
    tables: &mut T,
) -> Result<Verdict, Verdict> {
    let met = meet(packet, at, Concerns::Source, tables)?;
    let stranger = Verdict::Pass(Pass::NoService);
    let flow = tables
        .flow(&met.tuple)
        .filter(|flow| flow.way() == Way::Reply)
        .ok_or(stranger)?;
    let step = answer(&met, &flow, tables).ok_or(stranger)?;
    carry_on(&met, &flow, step, tables);
    translate(packet, at, &met, &flow, Path::Stack)
}

/// Where a flow leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Here,
    Elsewhere,
}

/// How a packet goes on once it is translated.
#[derive(Clone, Copy, Debug)]
enum Path {
    Stack,
    Routed,
}

/// What the packet does to its flow, and where the flow leads; `None` if the flow is not to be used any more.
#[inline(always)]
fn alive<A: Balanced, T: Tables<A>>(
    met: &Met<A>,
    flow: &Flow<A>,
    tables: &T,
) -> Option<(track::Step, Place)> {
    if flow.way() == Way::Reply {
        return Some((answer(met, flow, tables)?, Place::Elsewhere));
    }
    if track::is_expired(met.now, flow.expires)
        || tables.live_frontend(flow.frontend.index()) != Some(flow.frontend)
    {
        return None;
    }
    // What came here by direct return belongs to nobody but its VIP.
    if !flow.backend.is_none() {
        let backend = tables
            .backend(flow.backend.index())
            .filter(|backend| backend.id == flow.backend)?;
        // A backend that is leaving keeps what it has, and gets nothing new.
        if met.seen().opens() && !backend.is_active() {
            return None;
        }
    }
    let lifetimes = settings(tables).lifetimes;
    let step = track::step(met.now, flow.state, flow.expires, met.seen(), &lifetimes)?;
    // Whoever keeps its address is served here.
    let place = if flow.source == met.tuple.source {
        Place::Here
    } else {
        Place::Elsewhere
    };
    Some((step, place))
}

/// What an answer does to its flow. The client must hear even from a backend that just left: the packet may be the last of
/// its connection.
#[inline(always)]
fn answer<A: Balanced, T: Tables<A>>(met: &Met<A>, flow: &Flow<A>, tables: &T) -> Option<track::Step> {
    let lifetimes = settings(tables).lifetimes;
    track::step(met.now, flow.state, flow.expires, met.seen(), &lifetimes)
        .filter(|_| !track::is_expired(met.now, flow.expires))
}

/// The way out for a packet to `destination`.
#[inline(always)]
fn route<A: Balanced, P: Packet, T: Tables<A>>(
    packet: &P,
    at: usize,
    met: &Met<A>,
    source: A,
    destination: A,
    tables: &mut T,
) -> Result<(), Verdict> {
    if met.network.hops <= 1 {
        return Err(Verdict::Answer(Answer::TimeExceeded));
    }
    let ask = Ask {
        source,
        destination,
        length: length(packet, at, &met.network),
    };
    match tables.route(&ask) {
        Routed::Found => Ok(()),
        other => Err(refused(other)),
    }
}

/// What becomes of a packet that no way was found for.
#[inline(always)]
fn refused(routed: Routed) -> Verdict {
    match routed {
        Routed::TooBig(fits) => Verdict::Answer(Answer::TooBig(fits)),
        Routed::Found | Routed::Nowhere => Verdict::Drop(DropReason::NoRoute),
        Routed::Elsewhere => Verdict::Pass(Pass::Later),
    }
}

/// A packet of a known flow: both entries hear of it, and one that was lost is written anew.
#[inline(always)]
fn carry_on<A: Balanced, T: Tables<A>>(met: &Met<A>, flow: &Flow<A>, step: track::Step, tables: &mut T) {
    if (step.state, step.expires) != (flow.state, flow.expires) {
        // What vanishes meanwhile is as if it had expired.
        let _ = tables.refresh_flow(&met.tuple, |_, _| (step.state, step.expires));
    }
    if step.tell == Tell::Nothing {
        return;
    }
    let lifetimes = settings(tables).lifetimes;
    // A flow that came here by direct return is answered from an address that its packets do not have.
    let key = if flow.backend.is_none() {
        met.tuple.reversed()
    } else {
        flow.twin(met.tuple.protocol)
    };
    let told = tables.refresh_flow(&key, |state, expires| {
        track::told(met.now, state, expires, step.tell, met.seen(), &lifetimes)
    });
    if told.is_none() && !flow.backend.is_none() {
        let (state, expires) = track::told(
            met.now,
            State::default(),
            met.now,
            step.tell,
            met.seen(),
            &lifetimes,
        );
        let twin = Flow {
            state,
            expires,
            ..flow.back(&met.tuple)
        };
        // Whoever took its place meanwhile keeps it.
        let _ = tables.insert_flow(&key, &twin);
    }
}

#[inline(always)]
fn translate<A: Balanced, P: Packet>(
    packet: &mut P,
    at: usize,
    met: &Met<A>,
    flow: &Flow<A>,
    path: Path,
) -> Result<Verdict, Verdict> {
    let new = flow.becomes(met.tuple.protocol);
    let (hop, verdict) = match path {
        Path::Routed => (Hop::Counted, Verdict::Forward),
        Path::Stack if flow.way() == Way::Reply => (Hop::None, Verdict::Reply),
        Path::Stack => (Hop::None, Verdict::Local),
    };
    rewrite(packet, at, &met.network, &met.tuple, &new, hop).map_err(Verdict::Drop)?;
    Ok(verdict)
}

#[cfg(test)]
mod remote_tests;
#[cfg(test)]
mod tests;
