//! The maps by name: what they hold and who writes them. One table for the programs, the planner and the loader.
//!
//! ```text
//! name             kind            key             value           written by
//! CONFIG           array           0               Config          agent, last of all at the first start
//! FILTER           array           word            u64             agent
//! FRONTENDS4/6     hash            FrontendKey     Frontend        agent
//! LIVE_FRONTENDS   array           id's index      FrontendId      agent
//! SETS             array           set             Set             agent, by one store
//! SLOTS            array           slot            BackendId       agent, only where no set points
//! MAGLEV           array of maps   set             pairs of ids    agent, a new inner map each time
//! BACKENDS4/6      array           id's index      Backend         agent
//! MEMBERS          hash            Member          PRESENT         agent
//! RANGES4/6        prefix tree     RangeKey        PRESENT         agent
//! DEVICES          hash            ifindex         Device          agent
//! NODES            array           node            Node            agent
//! FLOWS4/6         LRU hash        Tuple           Flow            programs; agent sweeps
//! OPENING4/6       LRU hash        Tuple           Flow            programs, until it lies in FLOWS; agent sweeps
//! AFFINITY4/6      LRU hash        AffinityKey     Affinity        programs; agent sweeps
//! FRAGMENTS4/6     LRU hash        FragmentKey     FragmentPorts   programs
//! HELD             LRU hash        HeldKey         Held            programs
//! SOCKETS          array           0               Sockets         agent
//! NAMESPACES       hash            netns cookie    Namespace       agent
//! NODE_ADDRESSES   hash            address         owner           agent
//! SOCKET_PEERS     socket storage  (the socket)    Peer            programs
//! DATAGRAMS        LRU hash        DatagramKey     Datagram        programs
//! BUCKETS          per-CPU array   Limited         Bucket          programs
//! COUNTERS         per-CPU array   counter()       Counter         programs
//! BUDGETS          per-CPU array   counter()       Budget          programs
//! LISTENERS        array           place           Listener        whoever listens
//! EVENTS           array of maps   place           ring of Events  whoever listens puts it there; programs fill it
//! ```
//!
//! Beside them, and not kept over a start, are `ROUTES`, `HANDOVER` and `HOLDING`, which are the processor's own, and the arrays of
//! [`crate::stage`].
//!
//! Order of writes, so that no reader ever meets a dangling id. A line is complete before the next begins; `~` is an RCU
//! grace period, after which what was in use is free.
//!
//! ```text
//! add:     FILTER bits | BACKENDS, NODES, RANGES | SLOTS, MAGLEV, MEMBERS | SETS | LIVE_FRONTENDS | FRONTENDS
//! remove:  FRONTENDS | LIVE_FRONTENDS | ~ | SETS, MAGLEV, MEMBERS, RANGES | BACKENDS (tombstone) | ~ | FILTER, places free
//! change:  all adds, then all removes
//! ```
//!
//! Places (indices of backends, frontends, sets, ranges of slots) are stable: a start reads them back from the maps. Set 0
//! and list 0 are never given: 0 means none.
//!
//! Not here yet, with their place kept: encapsulation targets of the SYN guard, and
//! everything of policy and identities, which will be looked up beside `FLOWS` and have maps of their own.

use crate::bucket::{Bucket, Limited};
use crate::config::{
    Affinity, AffinityKey, COUNTERS as COUNTER_PLACES, Config, Counter, Device, Member, Node, RangeKey,
};
use crate::event::{Budget, ELEMENTS, Listener};
use crate::flow::{Flow, FragmentKey, FragmentPorts, Held, HeldKey, Tuple};
use crate::service::{Backend, Frontend, FrontendKey, Set};
use crate::socket::{Datagram, DatagramKey, Namespace, Peer, Sockets};
use crate::{Address, BackendId, FrontendId, V4, V6, filter};

/// What kind of map it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Array,
    PerCpuArray,
    Hash,
    LruHash,
    PrefixTree,
    /// An array whose values are arrays of [`crate::BackendId`].
    ArrayOfArrays,
    /// Values lie in sockets; as many as there are sockets.
    SocketStorage,
    /// An array whose values are ring buffers of [`crate::event::Event`].
    ArrayOfRings,
}

/// A map of the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Map {
    pub name: &'static str,
    pub kind: Kind,
    pub key_size: u32,
    pub value_size: u32,
    /// Elements unless configured otherwise.
    pub entries: u32,
}

macro_rules! maps {
    ($($name:ident: $kind:ident, $key:ty => $value:ty, $entries:expr;)*) => {
        /// All maps, by name.
        pub const ALL: &[Map] = &[$($name),*];
        $(
            /// See the table above.
            pub const $name: Map = Map {
                name: stringify!($name),
                kind: Kind::$kind,
                key_size: size(size_of::<$key>()),
                value_size: size(size_of::<$value>()),
                entries: $entries,
            };
        )*
    };
}

#[expect(clippy::as_conversions, reason = "sizes of small types, in a constant")]
const fn size(size: usize) -> u32 {
    size as u32
}

maps! {
    AFFINITY4: LruHash, AffinityKey<V4> => Affinity, 65_536;
    AFFINITY6: LruHash, AffinityKey<V6> => Affinity, 65_536;
    BACKENDS4: Array, u32 => Backend<V4>, 65_536;
    BACKENDS6: Array, u32 => Backend<V6>, 65_536;
    BUCKETS: PerCpuArray, u32 => Bucket, Limited::COUNT;
    BUDGETS: PerCpuArray, u32 => Budget, COUNTER_PLACES;
    CONFIG: Array, u32 => Config, 1;
    COUNTERS: PerCpuArray, u32 => Counter, COUNTER_PLACES;
    DATAGRAMS: LruHash, DatagramKey => Datagram, 65_536;
    DEVICES: Hash, u32 => Device, 1024;
    EVENTS: ArrayOfRings, u32 => u32, ELEMENTS;
    FILTER: Array, u32 => u64, filter::WORDS;
    FLOWS4: LruHash, Tuple<V4> => Flow<V4>, 524_288;
    FLOWS6: LruHash, Tuple<V6> => Flow<V6>, 262_144;
    FRAGMENTS4: LruHash, FragmentKey<V4> => FragmentPorts, 8192;
    FRAGMENTS6: LruHash, FragmentKey<V6> => FragmentPorts, 8192;
    FRONTENDS4: Hash, FrontendKey<V4> => Frontend, 65_536;
    FRONTENDS6: Hash, FrontendKey<V6> => Frontend, 65_536;
    HELD: LruHash, HeldKey => Held, 512;
    LISTENERS: Array, u32 => Listener, ELEMENTS;
    LIVE_FRONTENDS: Array, u32 => FrontendId, 131_072;
    MAGLEV: ArrayOfArrays, u32 => u32, 65_536;
    MEMBERS: Hash, Member => u32, 65_536;
    NAMESPACES: Hash, u64 => Namespace, 16_384;
    NODES: Array, u32 => Node, 16_384;
    NODE_ADDRESSES: Hash, V6 => u32, 65_536;
    OPENING4: LruHash, Tuple<V4> => Flow<V4>, 32_768;
    OPENING6: LruHash, Tuple<V6> => Flow<V6>, 32_768;
    RANGES4: PrefixTree, RangeKey<V4> => u32, 65_536;
    RANGES6: PrefixTree, RangeKey<V6> => u32, 65_536;
    SETS: Array, u32 => Set, 65_536;
    SLOTS: Array, u32 => BackendId, 1_048_576;
    SOCKETS: Array, u32 => Sockets, 1;
    SOCKET_PEERS: SocketStorage, u32 => Peer, 0;
}

/// The maps that a family has for itself.
pub trait Maps: Address {
    const FRONTENDS: Map;
    const BACKENDS: Map;
    const RANGES: Map;
    const FLOWS: Map;
    const OPENING: Map;
    const AFFINITY: Map;
    const FRAGMENTS: Map;
}

impl Maps for V4 {
    const FRONTENDS: Map = FRONTENDS4;
    const BACKENDS: Map = BACKENDS4;
    const RANGES: Map = RANGES4;
    const FLOWS: Map = FLOWS4;
    const OPENING: Map = OPENING4;
    const AFFINITY: Map = AFFINITY4;
    const FRAGMENTS: Map = FRAGMENTS4;
}

impl Maps for V6 {
    const FRONTENDS: Map = FRONTENDS6;
    const BACKENDS: Map = BACKENDS6;
    const RANGES: Map = RANGES6;
    const FLOWS: Map = FLOWS6;
    const OPENING: Map = OPENING6;
    const AFFINITY: Map = AFFINITY6;
    const FRAGMENTS: Map = FRAGMENTS6;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_listed_by_name_and_names_fit_the_kernel() {
        assert!(ALL.is_sorted_by_key(|map| map.name));
        for map in ALL {
            assert!(map.name.len() <= 15, "{}", map.name);
            assert_eq!(map.entries == 0, map.kind == Kind::SocketStorage, "{}", map.name);
        }
    }
}
