//! What programs tell about single packets and system calls: what was refused, and what went on, to whoever listens.
//!
//! ```text
//!  a program --answer--> anybody listening? --no--> done: one look at a word
//!                             | yes
//!                        BUDGETS: room for one more of its kind? --no--> missed + 1
//!                             | yes
//!                        for each listener that wants it: EVENTS[place], a ring of its own
//! ```
//!
//! A listener takes a place, puts a ring there, and says in `LISTENERS` until when it wants what. It must say so again and
//! again: one that was killed is forgotten by itself. Any number up to [`PLACES`] listen at once and take nothing from each
//! other. Nobody listens: a packet that goes on costs one look, a drop costs one look.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::address::{V4, V6};
use crate::config::Direction;
use crate::id::{BackendId, FrontendId};
use crate::plain::{from_octets, plain};
use crate::reason::DropReason;

/// How many may listen at once.
pub const PLACES: u32 = 4;
/// Elements of `LISTENERS` and `EVENTS`: element 0 is for everybody together, the others are places.
pub const ELEMENTS: u32 = PLACES + 1;
/// Octets of a listener's ring.
pub const RING: u32 = 1 << 18;
/// Octets of the packet that an event has at most: Ethernet, IPv6, TCP, and the beginning of what is inside.
pub const OCTETS: usize = 96;

/// Element of `LISTENERS`: seconds of the boot clock until which somebody listens.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listener {
    /// For drops.
    pub drops: u32,
    /// For packets that went on.
    pub traces: u32,
}

plain!(Listener, 8, traces = 4);

impl Listener {
    /// Whether it wants events of this kind now.
    #[inline(always)]
    pub fn wants(&self, now: u32, kind: Kind) -> bool {
        now < match kind {
            Kind::Drop => self.drops,
            Kind::Trace => self.traces,
        }
    }
}

/// What an event tells. The numbers are those of Cilium's events.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Drop = 1,
    /// The packet was translated and went on.
    Trace = 4,
}

impl Kind {
    #[inline(always)]
    pub const fn number(self) -> u8 {
        match self {
            Self::Drop => 1,
            Self::Trace => 4,
        }
    }

    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Drop),
            4 => Some(Self::Trace),
            _ => None,
        }
    }
}

/// One packet, or one system call of a socket, as the rings have it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Nanoseconds of the boot clock.
    pub time: u64,
    /// As the packet came; an IPv4 address is the first word. A socket's source is what it is bound to.
    pub source: [u32; 4],
    pub destination: [u32; 4],
    /// In network order.
    pub source_port: u16,
    pub destination_port: u16,
    /// Of the packet, in octets.
    pub length: u32,
    /// Index of the device; 0 where a program does not know it.
    pub device: u32,
    /// Nobody where none was found.
    pub frontend: FrontendId,
    pub backend: BackendId,
    /// So many of the same kind were not told since the last one on this processor.
    pub missed: u32,
    /// A [`Kind`] as number.
    pub kind: u8,
    /// A [`Direction`] as number.
    pub direction: u8,
    /// Number of the [`DropReason`]; 0 where nothing was dropped.
    pub reason: u8,
    /// 4 or 6.
    pub family: u8,
    /// IANA number.
    pub protocol: u8,
    /// A [`crate::flow::Way`] as number.
    pub way: u8,
    /// How many of `octets` are the packet's.
    pub captured: u8,
    pub pad: u8,
    /// The packet as it leaves, from the Ethernet header on. Of a system call: a [`Caller`].
    pub octets: [u8; OCTETS],
}

plain!(
    Event,
    168,
    source = 8,
    destination = 24,
    source_port = 40,
    length = 44,
    device = 48,
    frontend = 52,
    backend = 56,
    missed = 60,
    kind = 64,
    direction = 65,
    reason = 66,
    family = 67,
    protocol = 68,
    way = 69,
    captured = 70,
    octets = 72
);

impl Event {
    /// All zero: nothing known.
    pub const EMPTY: Self = Self {
        time: 0,
        source: [0; 4],
        destination: [0; 4],
        source_port: 0,
        destination_port: 0,
        length: 0,
        device: 0,
        frontend: FrontendId::NONE,
        backend: BackendId::NONE,
        missed: 0,
        kind: 0,
        direction: 0,
        reason: 0,
        family: 0,
        protocol: 0,
        way: 0,
        captured: 0,
        pad: 0,
        octets: [0; OCTETS],
    };

    /// Why the packet was dropped, if it was.
    pub fn dropped(&self) -> Option<DropReason> {
        DropReason::from_number(self.reason)
    }

    /// Source and destination; `None` where the packet had none that could be read.
    pub fn addresses(&self) -> Option<(IpAddr, IpAddr)> {
        let address = |words: [u32; 4]| match (self.family, words) {
            (4, [first, ..]) => Some(IpAddr::V4(Ipv4Addr::from(V4(first)))),
            (6, words) => Some(IpAddr::V6(Ipv6Addr::from(V6(words)))),
            _ => None,
        };
        Some((address(self.source)?, address(self.destination)?))
    }

    /// What there is of the packet; nothing where there was none.
    pub fn packet(&self) -> &[u8] {
        self.octets
            .get(..usize::from(self.captured))
            .unwrap_or(&self.octets)
    }

    /// Who made the system call, if it was one.
    pub fn caller(&self) -> Option<Caller> {
        if direction(self.direction) != Some(Direction::Socket) {
            return None;
        }
        from_octets(self.octets.get(..size_of::<Caller>())?)
    }
}

/// Who asked for a connection, or sent a datagram.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// Number of the process, as the machine's first PID namespace has it.
    pub process: u32,
    /// Name of the thread, up to the first octet that is zero.
    pub name: [u8; 16],
}

plain!(Caller, 20, name = 4);

/// Element of `BUDGETS`, for each processor, at the place of the counter: how many events there may be.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// When all tokens are there again, in nanoseconds of the boot clock.
    pub full: u64,
    /// Events since the last one that was told.
    pub missed: u64,
}

plain!(Budget, 16, missed = 8);

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Nanoseconds from one event to the next, in the long run.
    pub interval: u64,
    /// So many at once.
    pub burst: u64,
}

impl Rate {
    /// Of each reason, direction and processor: a hundred a second, so that a flood of one kind hides no other.
    pub const DROPS: Self = Self {
        interval: 10_000_000,
        burst: 100,
    };
    /// Of each direction and processor: a thousand a second.
    pub const TRACES: Self = Self {
        interval: 1_000_000,
        burst: 1000,
    };

    pub const fn of(kind: Kind) -> Self {
        match kind {
            Kind::Drop => Self::DROPS,
            Kind::Trace => Self::TRACES,
        }
    }
}

/// Whether there may be one more event, and what becomes of the budget. The answer is how many were missed before it.
#[inline(always)]
pub fn spend(now: u64, budget: Budget, rate: Rate) -> (Budget, Option<u64>) {
    let full = if budget.full > now { budget.full } else { now };
    // Each token taken takes an interval to come back.
    let full = full.wrapping_add(rate.interval);
    if full.wrapping_sub(now) > rate.interval.wrapping_mul(rate.burst) {
        let missed = budget.missed.wrapping_add(1);
        return (Budget { missed, ..budget }, None);
    }
    (Budget { full, missed: 0 }, Some(budget.missed))
}

/// What a program's answer says beside the verdict of its hook: what became of the packet. It is counted and told where the
/// stack is nearly empty.
///
/// ```text
/// bits 7..0   the hook's verdict
/// bits 15..8  number of the drop reason, or `FORWARDED` of `config`
/// bit 16      it is to be counted
/// ```
pub mod answer {
    use super::DropReason;

    const COUNTED: u32 = 1 << 16;

    /// The packet went on. Nothing but the number 0 stands for it.
    pub const FORWARDED: u32 = COUNTED;

    /// The packet was dropped.
    #[inline(always)]
    pub const fn dropped(reason: DropReason) -> u32 {
        COUNTED | low(reason.number())
    }

    /// What is to be counted, if anything: a reason's number, or 0.
    #[inline(always)]
    pub const fn counted(answer: u32) -> Option<u8> {
        if answer & COUNTED == 0 {
            return None;
        }
        let [_, what, _, _] = answer.to_le_bytes();
        Some(what)
    }

    /// The verdict of the hook.
    #[inline(always)]
    pub const fn verdict(answer: u32) -> u32 {
        answer & 0xff
    }

    #[expect(clippy::as_conversions, reason = "to a wider type, in a constant")]
    const fn low(number: u8) -> u32 {
        (number as u32) << 8
    }
}

/// The direction with this number.
pub const fn direction(number: u8) -> Option<Direction> {
    match number {
        0 => Some(Direction::Ingress),
        1 => Some(Direction::Egress),
        2 => Some(Direction::Socket),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
