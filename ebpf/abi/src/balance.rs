//! What happens to a packet: the decision of every program, over tables that are maps in the kernel and plain maps in tests.
//!
//! ```text
//!  ingress                                               egress
//!    |                                                     |
//!  FILTER says "not ours"? ---> pass                     FILTER of the source says "not ours"? ---> pass
//!    |                                                     |
//!  FLOWS has the tuple, alive? --> translate             FLOWS has the tuple, alive? --> translate back
//!    | no                                                  | no
//!  FRONTENDS? no: wildcard --> drop, else pass           pass
//!    |
//!  may come? choose a backend, write two FLOWS entries, translate
//! ```
//!
//! An established flow costs one lookup in `FLOWS`; the service is not looked up again. Its frontend and its backend are
//! held against two arrays, so it ends with them. Changed source ranges hold for new flows.

use crate::config::{Affinity, AffinityKey, Config, Member, setting};
use crate::flow::{FRAGMENT_LIFETIME, Flow, FragmentKey, FragmentPorts, Tuple, Way};
use crate::hash::{jhash_3words, jhash_v6};
use crate::id::{BackendId, FrontendId};
use crate::packet::{Family, Fragment, Malformed, Network, Packet, SCTP, TCP, UDP, rewrite, transport};
use crate::reason::DropReason;
use crate::service::{Backend, Frontend, FrontendKey, Selection, Set, flag};
use crate::track::{self, Seen, Tell};
use crate::{V4, V6};

/// How many places are tried before a set counts as having no backend.
pub const ATTEMPTS: u32 = 4;

/// The end of a packet's way through a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Untouched, to the stack.
    Pass(Pass),
    /// Translated to a backend on this node; the stack delivers.
    Local,
    /// Translated back to what the client knows.
    Reply,
    Drop(DropReason),
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
}

/// What the decision reads and writes. A `None` is a missing element.
pub trait Tables<A> {
    fn config(&self) -> Option<Config>;
    /// Whether the bit of the address is set in `FILTER`.
    fn may_be_ours(&self, address: &A) -> bool;
    fn frontend(&self, key: &FrontendKey<A>) -> Option<Frontend>;
    /// The id at this place of `LIVE_FRONTENDS`.
    fn live_frontend(&self, index: u32) -> Option<FrontendId>;
    fn set(&self, set: u32) -> Option<Set>;
    fn slot(&self, slot: u32) -> Option<BackendId>;
    fn maglev(&self, set: u32, place: u32) -> Option<BackendId>;
    fn backend(&self, index: u32) -> Option<Backend<A>>;
    fn affinity(&self, key: &AffinityKey<A>) -> Option<Affinity>;
    fn set_affinity(&mut self, key: &AffinityKey<A>, affinity: &Affinity);
    fn is_member(&self, member: &Member) -> bool;
    /// Whether a prefix of the list has the address.
    fn in_range(&self, list: u32, address: &A) -> bool;
    fn flow(&self, tuple: &Tuple<A>) -> Option<Flow<A>>;
    /// Writes the entry, whether there is one or not. `None`: the table is full.
    fn set_flow(&mut self, tuple: &Tuple<A>, flow: &Flow<A>) -> Option<()>;
    fn fragment(&self, key: &FragmentKey<A>) -> Option<FragmentPorts>;
    fn set_fragment(&mut self, key: &FragmentKey<A>, ports: &FragmentPorts);
    fn random(&mut self) -> u32;
}

/// What differs between the families when backends are chosen.
pub trait Balanced: Family {
    /// The number that picks a place of a Maglev table.
    fn hash(tuple: &Tuple<Self>, source_port: u16, config: &Config) -> u32;
}

impl Balanced for V4 {
    #[inline(always)]
    fn hash(tuple: &Tuple<Self>, source_port: u16, config: &Config) -> u32 {
        let ports = u32::from(tuple.destination_port) << 16 | u32::from(source_port);
        jhash_3words(tuple.source.0, ports, u32::from(tuple.protocol), config.seed4)
    }
}

impl Balanced for V6 {
    #[inline(always)]
    fn hash(tuple: &Tuple<Self>, source_port: u16, config: &Config) -> u32 {
        let ports = u32::from(tuple.destination_port) << 16 | u32::from(source_port);
        jhash_v6(tuple.source.0, ports, u32::from(tuple.protocol), config.seed6)
    }
}

/// A packet from the network, its IP header at `at`.
#[inline(always)]
pub fn ingress<A: Balanced, P: Packet, T: Tables<A>>(
    now: u32,
    packet: &mut P,
    at: usize,
    tables: &mut T,
) -> Verdict {
    let Some((source, destination)) = A::addresses(packet, at) else {
        return Verdict::Pass(Pass::Malformed(Malformed::Network));
    };
    if !tables.may_be_ours(&destination) {
        return Verdict::Pass(Pass::NotOurs);
    }
    let Some(config) = tables
        .config()
        .filter(|config| config.settings & setting::ENABLED != 0)
    else {
        return Verdict::Pass(Pass::Disabled);
    };
    let (network, tuple, seen) = match read(now, packet, at, source, destination, tables) {
        Ok(read) => read,
        Err(verdict) => return verdict,
    };
    if let Some(flow) = tables.flow(&tuple)
        && let Some(step) = alive(now, &flow, seen, &config, tables)
    {
        return carry_on(
            now, packet, at, &network, &tuple, seen, flow, step, &config, tables,
        );
    }
    let key = FrontendKey::new(tuple.destination, tuple.destination_port, tuple.protocol);
    let Some(frontend) = tables.frontend(&key) else {
        // A router would send the packet back, and it would go round until its TTL ends.
        return if tables
            .frontend(&FrontendKey::wildcard(tuple.destination))
            .is_some()
        {
            Verdict::Drop(DropReason::NoService)
        } else {
            Verdict::Pass(Pass::NoService)
        };
    };
    match open(now, &tuple, seen, &frontend, &config, tables) {
        Ok(flow) => translate(packet, at, &network, &tuple, &flow),
        Err(verdict) => verdict,
    }
}

/// A packet to the network, its IP header at `at`: only flows that are known are translated back.
#[inline(always)]
pub fn egress<A: Balanced, P: Packet, T: Tables<A>>(
    now: u32,
    packet: &mut P,
    at: usize,
    tables: &mut T,
) -> Verdict {
    let Some((source, destination)) = A::addresses(packet, at) else {
        return Verdict::Pass(Pass::Malformed(Malformed::Network));
    };
    if !tables.may_be_ours(&source) {
        return Verdict::Pass(Pass::NotOurs);
    }
    let Some(config) = tables
        .config()
        .filter(|config| config.settings & setting::ENABLED != 0)
    else {
        return Verdict::Pass(Pass::Disabled);
    };
    let (network, tuple, seen) = match read(now, packet, at, source, destination, tables) {
        Ok(read) => read,
        Err(verdict) => return verdict,
    };
    let Some(flow) = tables.flow(&tuple).filter(|flow| flow.way == Way::Reply.number()) else {
        return Verdict::Pass(Pass::NoService);
    };
    // The client must hear even from a backend that just left: the packet may be the last of its connection.
    let Some(step) = track::step(now, flow.state, flow.expires, seen, &config.lifetimes)
        .filter(|_| !track::is_expired(now, flow.expires))
    else {
        return Verdict::Pass(Pass::NoService);
    };
    carry_on(
        now, packet, at, &network, &tuple, seen, flow, step, &config, tables,
    )
}

/// Everything about the packet that decisions need.
#[inline(always)]
fn read<A: Balanced, P: Packet, T: Tables<A>>(
    now: u32,
    packet: &P,
    at: usize,
    source: A,
    destination: A,
    tables: &mut T,
) -> Result<(Network, Tuple<A>, Seen), Verdict> {
    let network = match A::network(packet, at) {
        Ok(network) => network,
        Err(Malformed::Extensions) => return Err(Verdict::Drop(DropReason::InvalidExtensionHeader)),
        Err(malformed) => return Err(Verdict::Pass(Pass::Malformed(malformed))),
    };
    match network.protocol {
        TCP | UDP => {}
        // SCTP has its place here; its checksum is over everything, so ports stay as they are.
        SCTP => return Err(Verdict::Pass(Pass::Protocol)),
        _ => return Err(Verdict::Pass(Pass::Protocol)),
    }
    let key = |id| FragmentKey {
        source,
        destination,
        id,
        protocol: network.protocol,
        pad: 0,
        pad_word: 0,
    };
    let (source_port, destination_port, seen) = match network.fragment {
        Fragment::Later(id) => {
            let ports = tables
                .fragment(&key(id))
                .filter(|ports| !track::is_expired(now, ports.expires));
            let Some(ports) = ports else {
                return Err(Verdict::Drop(DropReason::FirstFragmentMissing));
            };
            let seen = if network.protocol == TCP {
                Seen::TcpFragment
            } else {
                Seen::Other
            };
            (ports.source_port, ports.destination_port, seen)
        }
        Fragment::Whole | Fragment::First(_) => {
            let Ok(read) = transport(packet, &network) else {
                return Err(Verdict::Drop(DropReason::InvalidHeader));
            };
            read
        }
    };
    if let Fragment::First(id) = network.fragment {
        let ports = FragmentPorts {
            source_port,
            destination_port,
            expires: now.saturating_add(FRAGMENT_LIFETIME),
        };
        tables.set_fragment(&key(id), &ports);
    }
    let tuple = Tuple {
        source,
        destination,
        source_port,
        destination_port,
        protocol: network.protocol,
        pad: 0,
        pad_word: 0,
    };
    Ok((network, tuple, seen))
}

/// What the packet does to its flow; `None` if the flow is not to be used any more.
#[inline(always)]
fn alive<A: Balanced, T: Tables<A>>(
    now: u32,
    flow: &Flow<A>,
    seen: Seen,
    config: &Config,
    tables: &T,
) -> Option<track::Step> {
    if track::is_expired(now, flow.expires)
        || tables.live_frontend(flow.frontend.index()) != Some(flow.frontend)
    {
        return None;
    }
    let backend = tables
        .backend(flow.backend.index())
        .filter(|backend| backend.id == flow.backend)?;
    // A backend that is leaving keeps what it has, and gets nothing new.
    if seen.opens() && !backend.is_active() {
        return None;
    }
    track::step(now, flow.state, flow.expires, seen, &config.lifetimes)
}

/// A packet of a known flow.
#[inline(always)]
#[expect(
    clippy::too_many_arguments,
    reason = "a struct of them would live on a stack of 512 octets"
)]
fn carry_on<A: Balanced, P: Packet, T: Tables<A>>(
    now: u32,
    packet: &mut P,
    at: usize,
    network: &Network,
    tuple: &Tuple<A>,
    seen: Seen,
    flow: Flow<A>,
    step: track::Step,
    config: &Config,
    tables: &mut T,
) -> Verdict {
    if (step.state, step.expires) != (flow.state, flow.expires) {
        let flow = Flow {
            state: step.state,
            expires: step.expires,
            ..flow
        };
        // An entry that is there is replaced, so the table cannot be full.
        let _ = tables.set_flow(tuple, &flow);
    }
    if step.tell != Tell::Nothing {
        let key = flow.twin(tuple.protocol);
        if let Some(twin) = tables.flow(&key) {
            let (state, expires) =
                track::told(now, twin.state, twin.expires, step.tell, seen, &config.lifetimes);
            let twin = Flow {
                state,
                expires,
                ..twin
            };
            let _ = tables.set_flow(&key, &twin);
        }
    }
    translate(packet, at, network, tuple, &flow)
}

#[inline(always)]
fn translate<A: Balanced, P: Packet>(
    packet: &mut P,
    at: usize,
    network: &Network,
    tuple: &Tuple<A>,
    flow: &Flow<A>,
) -> Verdict {
    let new = Tuple {
        source: flow.source,
        destination: flow.destination,
        source_port: flow.source_port,
        destination_port: flow.destination_port,
        protocol: tuple.protocol,
        pad: 0,
        pad_word: 0,
    };
    match rewrite(packet, at, network, tuple, &new) {
        Ok(()) if flow.way == Way::Reply.number() => Verdict::Reply,
        Ok(()) => Verdict::Local,
        Err(reason) => Verdict::Drop(reason),
    }
}

/// A new flow: who may serve it, and its two entries.
#[inline(always)]
fn open<A: Balanced, T: Tables<A>>(
    now: u32,
    tuple: &Tuple<A>,
    seen: Seen,
    frontend: &Frontend,
    config: &Config,
    tables: &mut T,
) -> Result<Flow<A>, Verdict> {
    if frontend.ranges != 0 {
        let listed = tables.in_range(frontend.ranges, &tuple.source);
        let denies = frontend.flags & flag::DENY_RANGES != 0;
        if listed == denies {
            return Err(Verdict::Drop(DropReason::SourceRange));
        }
    }
    if frontend.flags & flag::ROUTABLE == 0 {
        return Err(Verdict::Drop(DropReason::ClusterIp));
    }
    let Some(backend) = choose(now, tuple, frontend, frontend.set, config, tables) else {
        let passes =
            config.settings & setting::PASS_NO_BACKEND != 0 && frontend.flags & flag::LOCAL_ONLY == 0;
        return Err(if passes {
            Verdict::Pass(Pass::NoBackend)
        } else {
            Verdict::Drop(DropReason::NoService)
        });
    };
    if !backend.is_local() {
        return Err(Verdict::Drop(DropReason::NoTunnelEndpoint));
    }
    let step = track::begin(now, seen, &config.lifetimes);
    let flow = Flow {
        source: tuple.source,
        destination: backend.address,
        source_port: tuple.source_port,
        destination_port: if backend.port == 0 {
            tuple.destination_port
        } else {
            backend.port
        },
        frontend: frontend.id,
        backend: backend.id,
        expires: step.expires,
        state: step.state,
        way: Way::Forward.number(),
        dispatch: frontend.dispatch,
        pad: 0,
    };
    let reply = Flow {
        source: tuple.destination,
        destination: tuple.source,
        source_port: tuple.destination_port,
        destination_port: tuple.source_port,
        way: Way::Reply.number(),
        ..flow
    };
    let key = flow.twin(tuple.protocol);
    // A client may use one port towards two frontends with the same backend. Answers would be mixed up.
    if let Some(other) = tables.flow(&key)
        && !track::is_expired(now, other.expires)
        && !other.state.is_closed()
        && (other.source, other.source_port) != (reply.source, reply.source_port)
        && tables.live_frontend(other.frontend.index()) == Some(other.frontend)
    {
        return Err(Verdict::Drop(DropReason::NoNatMapping));
    }
    // The way back first: an answer must not overtake it.
    let full = Verdict::Drop(DropReason::FlowTableFull);
    tables.set_flow(&key, &reply).ok_or(full)?;
    tables.set_flow(tuple, &flow).ok_or(full)?;
    Ok(flow)
}

/// The backend of a new flow.
#[inline(always)]
pub fn choose<A: Balanced, T: Tables<A>>(
    now: u32,
    tuple: &Tuple<A>,
    frontend: &Frontend,
    set_index: u32,
    config: &Config,
    tables: &mut T,
) -> Option<Backend<A>> {
    let set = tables.set(set_index)?;
    if set.count() == 0 {
        return None;
    }
    if frontend.affinity == 0 {
        return select(tuple, tuple.source_port, frontend, set_index, set, config, tables);
    }
    let key = AffinityKey {
        client: tuple.source,
        service: frontend.service,
    };
    let known = tables.affinity(&key).filter(|known| {
        let member = Member {
            set: set_index,
            backend: known.backend,
        };
        known.used.saturating_add(frontend.affinity) > now && tables.is_member(&member)
    });
    let known = known.and_then(|known| {
        tables
            .backend(known.backend.index())
            .filter(|backend| backend.id == known.backend)
    });
    // Without the port in the hash, all connections of a client choose alike on every node.
    let backend = known.or_else(|| select(tuple, 0, frontend, set_index, set, config, tables))?;
    let affinity = Affinity {
        backend: backend.id,
        used: now,
    };
    tables.set_affinity(&key, &affinity);
    Some(backend)
}

#[inline(always)]
fn select<A: Balanced, T: Tables<A>>(
    tuple: &Tuple<A>,
    source_port: u16,
    frontend: &Frontend,
    set_index: u32,
    set: Set,
    config: &Config,
    tables: &mut T,
) -> Option<Backend<A>> {
    if Selection::from_number(frontend.selection) == Selection::Maglev {
        let hash = A::hash(tuple, source_port, config);
        for attempt in 0..ATTEMPTS {
            let place = hash.wrapping_add(attempt).checked_rem(config.maglev_size)?;
            if let Some(backend) = tables.maglev(set_index, place).and_then(|id| live(id, tables)) {
                return Some(backend);
            }
        }
    }
    let start = tables.random();
    for attempt in 0..ATTEMPTS {
        let place = start.wrapping_add(attempt).checked_rem(set.count())?;
        let slot = tables.slot(set.first().wrapping_add(place));
        if let Some(backend) = slot.and_then(|id| live(id, tables)) {
            return Some(backend);
        }
    }
    None
}

/// The backend with this id, if it is still this one.
#[inline(always)]
fn live<A: Balanced, T: Tables<A>>(id: BackendId, tables: &T) -> Option<Backend<A>> {
    tables
        .backend(id.index())
        .filter(|backend| !id.is_none() && backend.id == id)
}

#[cfg(test)]
mod tests;
