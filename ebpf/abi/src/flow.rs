//! A flow has two entries in `FLOWS4`/`FLOWS6`, one for each way, under the tuple that packets of that way have when they
//! arrive. So a packet needs one lookup, and the entry says everything: what the packet becomes, and who is served.
//!
//! Entries of TCP of which nothing but the first packet was seen lie in `OPENING4`/`OPENING6` instead, and move when the
//! connection goes on. So whoever sends nothing but first packets, from however many addresses, pushes out what others of
//! his kind left there, and never a connection that goes on.

use crate::address::{Address, V4, V6};
use crate::id::{BackendId, FrontendId};
use crate::plain::{layout, plain, plain_over_addresses};
use crate::track::State;

plain_over_addresses!(Tuple, Flow, FragmentKey);

/// Key of `FLOWS4` and `FLOWS6`: addresses, ports and protocol as the packet has them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tuple<A> {
    pub source: A,
    pub destination: A,
    /// In network order, as all ports here.
    pub source_port: u16,
    pub destination_port: u16,
    pub protocol: u8,
    /// In two parts: three octets would be zeroed by a call, on every packet.
    pub pad: u8,
    pub pad_word: u16,
}

layout!(
    Tuple<V4>,
    16,
    destination = 4,
    source_port = 8,
    destination_port = 10,
    protocol = 12,
    pad = 13,
    pad_word = 14
);
layout!(
    Tuple<V6>,
    40,
    destination = 16,
    source_port = 32,
    destination_port = 34,
    protocol = 36,
    pad = 37,
    pad_word = 38
);

impl<A: Address> Tuple<A> {
    /// The tuple of an answer to this packet.
    #[inline(always)]
    pub fn reversed(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            ..*self
        }
    }
}

/// Which way an entry translates.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// From the client to a backend.
    Forward = 0,
    /// From the backend to the client.
    Reply = 1,
}

/// Which of the maps an entry lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// `OPENING4`, `OPENING6`.
    Opening,
    /// `FLOWS4`, `FLOWS6`.
    Kept,
}

impl Way {
    #[inline(always)]
    pub const fn number(self) -> u8 {
        match self {
            Self::Forward => 0,
            Self::Reply => 1,
        }
    }
}

/// Value of `FLOWS4` and `FLOWS6`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow<A> {
    /// What the packet becomes. With the reversed tuple of it one finds the entry of the other way.
    pub source: A,
    pub destination: A,
    pub source_port: u16,
    pub destination_port: u16,
    /// The flow is worth nothing unless this one is alive.
    pub frontend: FrontendId,
    pub backend: BackendId,
    /// Seconds of the boot clock; from then on the entry counts as absent.
    pub expires: u32,
    pub state: State,
    /// A [`Way`] as number.
    pub way: u8,
    /// A [`crate::service::Dispatch`] as number. With encapsulation the packet inside is not translated.
    pub dispatch: u8,
    pub pad: u8,
}

layout!(
    Flow<V4>,
    28,
    destination = 4,
    source_port = 8,
    destination_port = 10,
    frontend = 12,
    backend = 16,
    expires = 20,
    state = 24,
    way = 25,
    dispatch = 26,
    pad = 27
);
layout!(
    Flow<V6>,
    52,
    destination = 16,
    source_port = 32,
    destination_port = 34,
    frontend = 36,
    backend = 40,
    expires = 44,
    state = 48,
    way = 49,
    dispatch = 50,
    pad = 51
);

impl<A: Address> Flow<A> {
    #[inline(always)]
    pub fn way(&self) -> Way {
        if self.way == Way::Reply.number() {
            Way::Reply
        } else {
            Way::Forward
        }
    }

    /// The entry of the other way, for packets that have this tuple now.
    #[inline(always)]
    pub fn back(&self, tuple: &Tuple<A>) -> Self {
        let way = match self.way() {
            Way::Forward => Way::Reply,
            Way::Reply => Way::Forward,
        };
        Self {
            source: tuple.destination,
            destination: tuple.source,
            source_port: tuple.destination_port,
            destination_port: tuple.source_port,
            way: way.number(),
            ..*self
        }
    }

    /// Where it lies.
    #[inline(always)]
    pub fn table(&self) -> Table {
        if self.state.is_open() {
            Table::Kept
        } else {
            Table::Opening
        }
    }

    /// What a packet with `protocol` becomes.
    #[inline(always)]
    pub fn becomes(&self, protocol: u8) -> Tuple<A> {
        Tuple {
            source: self.source,
            destination: self.destination,
            source_port: self.source_port,
            destination_port: self.destination_port,
            protocol,
            pad: 0,
            pad_word: 0,
        }
    }

    /// The key of the entry for the other way, for an entry of packets with `protocol`.
    #[inline(always)]
    pub fn twin(&self, protocol: u8) -> Tuple<A> {
        Tuple {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            protocol,
            pad: 0,
            pad_word: 0,
        }
    }
}

/// Key of `FRAGMENTS4` and `FRAGMENTS6`: what the fragments of one datagram have in common.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FragmentKey<A> {
    pub source: A,
    pub destination: A,
    /// As on the wire; IPv4's 16 bits in the low half.
    pub id: u32,
    pub protocol: u8,
    pub pad: u8,
    pub pad_word: u16,
}

layout!(
    FragmentKey<V4>,
    16,
    destination = 4,
    id = 8,
    protocol = 12,
    pad = 13,
    pad_word = 14
);
layout!(
    FragmentKey<V6>,
    40,
    destination = 16,
    id = 32,
    protocol = 36,
    pad = 37,
    pad_word = 38
);

impl<A> FragmentKey<A> {
    #[inline(always)]
    pub fn new(source: A, destination: A, id: u32, protocol: u8) -> Self {
        Self {
            source,
            destination,
            id,
            protocol,
            pad: 0,
            pad_word: 0,
        }
    }
}

/// Value of `FRAGMENTS4` and `FRAGMENTS6`: the ports that only the first fragment tells.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FragmentPorts {
    pub source_port: u16,
    pub destination_port: u16,
    /// Seconds of the boot clock. Ids are used again; ports of an old datagram must not translate a new one.
    pub expires: u32,
}

plain!(FragmentPorts, 8, destination_port = 2, expires = 4);

impl FragmentPorts {
    /// What stands for a first fragment that is not here yet. No flow is without ports.
    #[inline(always)]
    pub const fn awaited(expires: u32) -> Self {
        Self {
            source_port: 0,
            destination_port: 0,
            expires,
        }
    }

    #[inline(always)]
    pub const fn is_awaited(&self) -> bool {
        self.source_port == 0 && self.destination_port == 0
    }
}

/// How long fragments of a datagram may lie apart, in seconds. The kernel's own limit is 30.
pub const FRAGMENT_LIFETIME: u32 = 15;

/// Key of `HELD`: a later fragment that came before its first.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeldKey {
    /// IPv4's as `::ffff:a.b.c.d`.
    pub source: V6,
    pub destination: V6,
    /// As in [`FragmentKey`].
    pub id: u32,
    pub protocol: u8,
    pub pad: u8,
    /// Which of its datagram: less than [`HELD_PLACES`].
    pub place: u16,
}

plain!(
    HeldKey,
    40,
    destination = 16,
    id = 32,
    protocol = 36,
    pad = 37,
    place = 38
);

/// How many fragments of a datagram are held at most.
pub const HELD_PLACES: u16 = 16;
/// Octets of the longest that is held, its Ethernet header among them.
pub const HELD_OCTETS: usize = 2048;
/// How many are held in a second by each processor at most.
pub const HELD_RATE: u32 = 4096;

/// Value of `HELD`: the packet as it came.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Seconds of the boot clock.
    pub expires: u32,
    pub length: u32,
    /// Interface index of where it came in.
    pub device: u32,
    pub octets: [u8; HELD_OCTETS],
}

plain!(Held, 2060, length = 4, device = 8, octets = 12);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_twin_of_an_entry_is_the_answer_to_what_the_packet_becomes() {
        let flow = Flow::<V4> {
            source: V4(1),
            destination: V4(2),
            source_port: 3,
            destination_port: 4,
            ..Flow::default()
        };
        let twin = flow.twin(6);
        let becomes = Tuple {
            source: flow.source,
            destination: flow.destination,
            source_port: flow.source_port,
            destination_port: flow.destination_port,
            protocol: 6,
            pad: 0,
            pad_word: 0,
        };
        assert_eq!(twin, becomes.reversed());
        assert_eq!(twin.reversed(), becomes);
    }
}
