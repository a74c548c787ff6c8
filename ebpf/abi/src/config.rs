//! What the agent tells the programs that is no service: settings, addresses, lists, and where they count.

use crate::address::{V4, V6};
use crate::id::BackendId;
use crate::plain::{layout, plain, plain_over_addresses};
use crate::reason::DropReason;
use crate::track::Lifetimes;

plain_over_addresses!(AffinityKey, RangeKey);

/// The only element of `CONFIG`. All zero (nothing written yet) means: let every packet pass.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Length of every table in `MAGLEV`; 0 until the agent has written everything once.
    pub maglev_size: u32,
    /// Seeds of the hash that picks an element of a Maglev table, for the two families.
    pub seed4: u32,
    pub seed6: u32,
    /// Bits of [`setting`].
    pub settings: u32,
    pub lifetimes: Lifetimes,
    /// First and last source port of translated flows, in host order.
    pub nat_first: u16,
    pub nat_last: u16,
    /// Answers that each processor may make in a second: echo replies, resets, ICMP errors. 0: none.
    pub answer_rate: u32,
    /// Flows by direct return that each processor may remember in a second, where the next packet finds its backend also without
    /// an entry; those above go on without. 0: all are remembered.
    pub flow_rate: u32,
    /// The addresses that other nodes know this one by: from there and to there go packets that are wrapped.
    pub node: Node,
}

plain!(
    Config,
    64,
    seed4 = 4,
    seed6 = 8,
    settings = 12,
    lifetimes = 16,
    nat_first = 32,
    nat_last = 34,
    answer_rate = 36,
    flow_rate = 40,
    node = 44
);

/// Bits of [`Config::settings`].
pub mod setting {
    /// The programs work. Without it every packet passes untouched.
    pub const ENABLED: u32 = 1;
    /// A service without backend: drop silently instead of answering with an ICMP error.
    pub const SILENT_NO_BACKEND: u32 = 2;
    /// A service without backend: let the packet pass to the stack (frontends that are local only still drop).
    pub const PASS_NO_BACKEND: u32 = 4;
    /// Addresses of services do not answer echo requests.
    pub const SILENT_ECHO: u32 = 8;
}

/// Key of `AFFINITY4` and `AFFINITY6`. Sockets and packets use the same: the client's address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AffinityKey<A> {
    pub client: A,
    /// [`crate::service::Frontend::service`].
    pub service: u32,
}

layout!(AffinityKey<V4>, 8, service = 4);
layout!(AffinityKey<V6>, 20, service = 16);

/// Value of `AFFINITY4` and `AFFINITY6`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Affinity {
    pub backend: BackendId,
    /// Seconds of the boot clock of the last packet.
    pub used: u32,
}

plain!(Affinity, 8, used = 4);

/// Key of `MEMBERS`, which says who may serve a client that comes back. Written only for sets of frontends with session
/// affinity, for the members that new connections may choose; the value is [`PRESENT`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member {
    /// Index into `SETS`.
    pub set: u32,
    pub backend: BackendId,
}

plain!(Member, 8, backend = 4);

/// Value of maps that are sets.
pub const PRESENT: u32 = 1;

/// Key of the prefix trees `RANGES4` and `RANGES6`; the value is [`PRESENT`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RangeKey<A> {
    /// [`RangeKey::LIST_BITS`] and the length of the prefix.
    pub bits: u32,
    /// [`crate::service::Frontend::ranges`].
    pub list: u32,
    pub address: A,
}

layout!(RangeKey<V4>, 12, list = 4, address = 8);
layout!(RangeKey<V6>, 24, list = 4, address = 8);

impl<A> RangeKey<A> {
    /// The list is always matched as a whole.
    pub const LIST_BITS: u32 = 32;
    /// The list of the other nodes' addresses: only from them are wrapped packets taken.
    pub const PEERS: u32 = u32::MAX - 1;
}

/// Value of `DEVICES`, by interface index: what leaves by it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Source of translated flows; zero = this device has none.
    pub v4: V4,
    pub v6: V6,
    pub mac: [u8; 6],
    pub mtu: u16,
    /// Bits of [`device_flag`].
    pub flags: u32,
}

plain!(Device, 32, v6 = 4, mac = 20, mtu = 26, flags = 28);

/// Bits of [`Device::flags`].
pub mod device_flag {
    /// Takes frames that XDP programs redirect to it, from itself and from others. One that does not would lose them without a
    /// word, so packets for it go through tc.
    pub const TAKES_FRAMES: u32 = 1;
    /// Sends a frame back that came in by it when its XDP program says so (`XDP_TX`): cheaper than redirecting it.
    pub const RETURNS_FRAMES: u32 = 2;
    /// Leads to a pod of this node. What comes in by it is judged as from inside: cluster addresses are open to it, and it keeps
    /// its address on the way to every backend, because answers come back through here.
    pub const POD: u32 = 4;
}

/// Element of `NODES`: where encapsulated packets for backends of a node go.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Node {
    pub v4: V4,
    pub v6: V6,
}

plain!(Node, 20, v6 = 4);

/// Element of `COUNTERS`, for each processor.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    pub packets: u64,
    pub bytes: u64,
}

plain!(Counter, 16, bytes = 8);

/// Where in `COUNTERS` something is counted. Drops are counted under the reason's number.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    Ingress = 0,
    Egress = 1,
    /// What programs ask for, before there is a packet.
    Socket = 2,
}

impl Direction {
    #[inline(always)]
    const fn offset(self) -> u32 {
        match self {
            Self::Ingress => 0,
            Self::Egress => 256,
            Self::Socket => 512,
        }
    }
}

/// Elements of `COUNTERS`.
pub const COUNTERS: u32 = 768;

/// Packets that were translated and went on.
pub const FORWARDED: u8 = 0;
/// Packets that were answered: echo replies, resets, ICMP errors.
pub const ANSWERED: u8 = 1;
/// Packets of flows that have no entry, because more began than [`Config::flow_rate`].
pub const FORGONE: u8 = 2;
/// Later fragments that came before their first, and wait for it.
pub const HELD: u8 = 3;
/// Those of them that went on after it.
pub const RELEASED: u8 = 4;

/// The element for what happened in this direction; `what` is [`FORWARDED`], [`ANSWERED`], [`FORGONE`], [`HELD`],
/// [`RELEASED`] or the
/// number of a [`DropReason`].
#[inline(always)]
pub fn counter(direction: Direction, what: u8) -> u32 {
    direction.offset() + u32::from(what)
}

/// The element for a drop.
#[inline(always)]
pub fn drop_counter(direction: Direction, reason: DropReason) -> u32 {
    counter(direction, reason.number())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_has_its_own_place() {
        let mut places: Vec<u32> = DropReason::ALL
            .iter()
            .flat_map(|reason| {
                [
                    drop_counter(Direction::Ingress, *reason),
                    drop_counter(Direction::Egress, *reason),
                    drop_counter(Direction::Socket, *reason),
                ]
            })
            .collect();
        places.push(counter(Direction::Ingress, FORWARDED));
        places.push(counter(Direction::Egress, FORWARDED));
        places.push(counter(Direction::Socket, FORWARDED));
        places.push(counter(Direction::Ingress, ANSWERED));
        places.push(counter(Direction::Egress, ANSWERED));
        places.push(counter(Direction::Ingress, FORGONE));
        places.push(counter(Direction::Ingress, HELD));
        places.push(counter(Direction::Ingress, RELEASED));
        assert!(places.iter().all(|place| *place < COUNTERS));
        let count = places.len();
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), count);
    }
}
