//! What became of a packet: counted, and told to whoever listens, by [`ebpf_abi::event`]. Telling is off the path.

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use aya_ebpf::helpers::generated::{bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_ktime_get_ns};
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use ebpf_abi::balance::Tables;
use ebpf_abi::config::{Direction, FORWARDED, counter};
use ebpf_abi::event::{Caller, Event, Kind, OCTETS, PLACES, Rate, answer, spend};
use ebpf_abi::flow::{Tuple, Way};
use ebpf_abi::packet::{ETHERNET, Family, Fragment, Packet, transport};
use ebpf_abi::service::FrontendKey;
use ebpf_abi::socket::{Promise, mapped};
use ebpf_abi::stage::{TcStage, XdpStage};
use ebpf_abi::{V4, V6};

use crate::maps::{BUDGETS, EVENTS, LISTENERS, Maps4, Maps6, Ring, count};
use crate::packet::{Frame, Skb};
use crate::route::Nowhere;
use crate::{IPV4, IPV6, stage};

/// Octets are copied so many at once.
const STEP: usize = 8;

/// The verdict of an answer in XDP, after what became of the packet was counted. The end of every program: where somebody
/// listens, a stage tells.
#[inline(always)]
pub fn xdp(ctx: &XdpContext, answer: u32) -> u32 {
    let Some(what) = answer::counted(answer) else {
        return answer;
    };
    count(counter(Direction::Ingress, what), Frame(ctx.ctx).len());
    if is_asked(what) {
        // Not to be told about is no reason to be dropped.
        let _ = stage::xdp(ctx, XdpStage::Tell, answer);
    }
    answer::verdict(answer)
}

/// The same in tc.
#[inline(always)]
pub fn tc(ctx: &TcContext, direction: Direction, answer: i32) -> i32 {
    let Some(what) = answer::counted(answer as u32) else {
        return answer;
    };
    count(counter(direction, what), Skb(ctx.skb.skb).len());
    if is_asked(what) {
        // As above.
        let _ = stage::tc(ctx, TcStage::Tell, direction, answer as u32);
    }
    answer::verdict(answer as u32) as i32
}

/// Tells what became of a packet, and ends as the program before would have.
#[xdp]
pub fn xdp_tell(ctx: XdpContext) -> u32 {
    let answer = stage::answer();
    tell_xdp(ctx.ctx, answer::counted(answer).unwrap_or(FORWARDED).into());
    answer::verdict(answer)
}

/// The same in tc.
#[classifier]
pub fn tc_tell(ctx: TcContext) -> i32 {
    let answer = stage::answer();
    tell_tc(
        ctx.skb.skb,
        stage::direction(),
        answer::counted(answer).unwrap_or(FORWARDED).into(),
    );
    answer::verdict(answer) as i32
}

/// Whether somebody may want to hear of it. Whether his time is over is seen where it is told: here even a clock would cost.
#[inline(always)]
fn is_asked(what: u8) -> bool {
    let Some(all) = LISTENERS.get(0) else { return false };
    match what {
        FORWARDED => all.traces != 0,
        _ => all.drops != 0,
    }
}

#[inline(never)]
fn tell_xdp(ctx: *mut xdp_md, reason: u32) -> u32 {
    let frame = Frame(ctx);
    let Some(kind) = frame.read::<2>(12) else { return 0 };
    // SAFETY: the kernel hands a valid context to the program.
    let device = unsafe { (*ctx).ingress_ifindex };
    let length = frame.len() as u32;
    let about = About {
        kind: u16::from_be_bytes(kind),
        device,
        length,
        direction: Direction::Ingress,
        reason,
    };
    tell(&frame, &about)
}

#[inline(never)]
fn tell_tc(ctx: *mut __sk_buff, direction: Direction, reason: u32) -> u32 {
    let skb = Skb(ctx);
    // SAFETY: as above.
    let device = unsafe { (*ctx).ifindex };
    let about = About {
        kind: skb.protocol(),
        device,
        length: skb.len() as u32,
        direction,
        reason,
    };
    tell(&skb, &about)
}

/// What a hook knows of its packet.
struct About {
    /// Ethernet's.
    kind: u16,
    device: u32,
    length: u32,
    direction: Direction,
    reason: u32,
}

#[inline(always)]
fn tell<P: Packet>(packet: &P, about: &About) -> u32 {
    // The verifier need not walk this once for every reason.
    let reason = packet.forget(about.reason) as u8;
    let kind = if reason == FORWARDED {
        Kind::Trace
    } else {
        Kind::Drop
    };
    let Some((time, missed)) = leave(about.direction, reason, kind) else {
        return 0;
    };
    let mut event = Event {
        time,
        length: about.length,
        device: about.device,
        missed,
        kind: kind.number(),
        direction: about.direction as u8,
        reason,
        ..Event::EMPTY
    };
    match about.kind {
        IPV4 => describe::<V4, P, _>(packet, kind, &mut event, &Maps4(Nowhere)),
        IPV6 => describe::<V6, P, _>(packet, kind, &mut event, &Maps6(Nowhere)),
        _ => {}
    }
    capture(packet, &mut event);
    send(time, about.direction, reason, kind, |ring| {
        ring.output_untyped::<Event>(&event, 0).is_ok()
    });
    0
}

/// The same of a system call. `tell` is called with what is to be told where somebody may listen.
#[inline(always)]
pub fn socket(answer: u32, tell: impl FnOnce(u32) -> u32) -> i32 {
    if let Some(what) = answer::counted(answer) {
        count(counter(Direction::Socket, what), 0);
        if is_asked(what) {
            tell(what.into());
        }
    }
    answer::verdict(answer) as i32
}

/// What a socket asked for, and what became of it. Addresses of IPv4 are `::ffff:a.b.c.d`.
pub struct Call {
    /// Address and port that it is bound to.
    pub bound: (V6, u16),
    pub asked: Promise,
    pub protocol: u8,
    /// Number of the reason it was refused for, or [`FORWARDED`].
    pub what: u8,
}

/// Tells of a system call.
#[inline(always)]
pub fn tell_call(call: &Call) -> u32 {
    let kind = if call.what == FORWARDED {
        Kind::Trace
    } else {
        Kind::Drop
    };
    let Some((time, missed)) = leave(Direction::Socket, call.what, kind) else {
        return 0;
    };
    let (family, asked, bound) = match mapped(call.asked.asked) {
        // What is bound to no address has none of IPv4's either.
        Some(asked) => (
            V4::NUMBER,
            asked.all(),
            mapped(call.bound.0).unwrap_or_default().all(),
        ),
        None => (V6::NUMBER, call.asked.asked.all(), call.bound.0.all()),
    };
    // SAFETY: a function of the kernel, which says for whom it runs.
    let process = (unsafe { bpf_get_current_pid_tgid() } >> 32) as u32;
    send(time, Direction::Socket, call.what, kind, |ring| {
        let Some(mut entry) = ring.reserve_untyped::<Event>(0) else {
            return false;
        };
        let event = entry.as_mut_ptr();
        // The stack of a socket's program has no room for an event.
        // SAFETY: the ring's own memory, which is an event's, and no field has a wrong value.
        unsafe {
            event.write_bytes(0, 1);
            (*event).time = time;
            (*event).source = bound;
            (*event).destination = asked;
            (*event).source_port = call.bound.1;
            (*event).destination_port = call.asked.port;
            (*event).frontend = call.asked.frontend;
            (*event).backend = call.asked.backend;
            (*event).missed = missed;
            (*event).kind = kind.number();
            (*event).direction = Direction::Socket as u8;
            (*event).reason = call.what;
            (*event).family = family;
            (*event).protocol = call.protocol;
            (*event).way = Way::Forward.number();
            let caller = (&raw mut (*event).octets).cast::<Caller>();
            (*caller).process = process;
            let name = &raw mut (*caller).name;
            // Without a name it is still an event.
            let _ = bpf_get_current_comm(name.cast(), size_of::<[u8; 16]>() as u32);
        }
        entry.submit(0);
        true
    });
    0
}

/// The time, and how many of the same kind were not told since the last one. `None`: nobody listens, or this is one too many.
#[inline(always)]
fn leave(direction: Direction, reason: u8, kind: Kind) -> Option<(u64, u32)> {
    // SAFETY: a function of the kernel without arguments.
    let time = unsafe { bpf_ktime_get_ns() };
    let now = seconds(time);
    let all = LISTENERS.get_ptr_mut(0)?;
    // SAFETY: words of an array, which others write too; an older one is as good.
    let everybody = unsafe { *all };
    if !everybody.wants(now, kind) {
        if everybody.traces != 0 && everybody.traces <= now {
            // Whoever traced was killed: the next packets need not come here. Where somebody begins at this very moment,
            // he says so again.
            // SAFETY: as above.
            unsafe { (*all).traces = 0 };
        }
        return None;
    }
    let budget = BUDGETS.get_ptr_mut(counter(direction, reason))?;
    // SAFETY: the element is this processor's own; where one program interrupts another, an event more or less is told.
    let (next, missed) = unsafe { spend(time, *budget, Rate::of(kind)) };
    // SAFETY: as above.
    unsafe { *budget = next };
    missed.map(|missed| (time, missed as u32))
}

#[inline(always)]
fn seconds(time: u64) -> u32 {
    (time / 1_000_000_000) as u32
}

/// To each listener that wants it: `put` says whether its ring had room.
#[inline(always)]
fn send(time: u64, direction: Direction, reason: u8, kind: Kind, put: impl Fn(&Ring) -> bool) {
    let now = seconds(time);
    for place in 1..=PLACES {
        let wants = LISTENERS.get(place).is_some_and(|one| one.wants(now, kind));
        if wants
            && let Some(ring) = EVENTS.get(place)
            && !put(ring)
            && let Some(budget) = BUDGETS.get_ptr_mut(counter(direction, reason))
        {
            // Its ring is full. The next event says so.
            // SAFETY: as in `leave`.
            unsafe { (*budget).missed += 1 };
        }
    }
}

/// Who sent the packet to whom, as it came, and which service it is of.
#[inline(always)]
fn describe<A: Words, P: Packet, T: Tables<A>>(packet: &P, kind: Kind, event: &mut Event, tables: &T) {
    let Some((source, destination)) = A::addresses(packet, ETHERNET) else {
        return;
    };
    event.family = A::NUMBER;
    event.source = source.all();
    event.destination = destination.all();
    let Ok(network) = A::network(packet, ETHERNET) else {
        return;
    };
    event.protocol = network.protocol;
    if let Fragment::Later(_) = network.fragment {
        return;
    }
    let Ok((source_port, destination_port, _)) = transport(packet, &network) else {
        return;
    };
    event.source_port = source_port;
    event.destination_port = destination_port;
    match kind {
        Kind::Drop => {
            let key = FrontendKey::new(destination, destination_port, network.protocol);
            if let Some(frontend) = tables.frontend(&key) {
                event.frontend = frontend.id;
            }
        }
        Kind::Trace => {
            let answer = Tuple {
                source: destination,
                destination: source,
                source_port: destination_port,
                destination_port: source_port,
                protocol: network.protocol,
                pad: 0,
                pad_word: 0,
            };
            // What an answer to this packet becomes says what this packet was.
            let Some(twin) = tables.flow(&answer) else { return };
            event.source = twin.destination.all();
            event.destination = twin.source.all();
            event.source_port = twin.destination_port;
            event.destination_port = twin.source_port;
            event.frontend = twin.frontend;
            event.backend = twin.backend;
            let is_forward = twin.way == Way::Reply.number();
            event.way = if is_forward { Way::Forward } else { Way::Reply }.number();
        }
    }
}

/// The beginning of the packet.
#[inline(always)]
fn capture<P: Packet>(packet: &P, event: &mut Event) {
    for step in 0..OCTETS / STEP {
        let at = step * STEP;
        let Some(octets) = packet.read::<STEP>(at) else {
            return;
        };
        event.octets[at..at + STEP].copy_from_slice(&octets);
        event.captured = (at + STEP) as u8;
    }
}

/// An address as events have it.
trait Words: Family {
    const NUMBER: u8;
    fn all(self) -> [u32; 4];
}

impl Words for V4 {
    const NUMBER: u8 = 4;

    #[inline(always)]
    fn all(self) -> [u32; 4] {
        [self.0, 0, 0, 0]
    }
}

impl Words for V6 {
    const NUMBER: u8 = 6;

    #[inline(always)]
    fn all(self) -> [u32; 4] {
        self.0
    }
}
