//! What user space tells the kernel about services: frontends, backend sets and backends.
//!
//! ```text
//!  FRONTENDS4/6 {addr, port, proto} -> Frontend ----set, inner_set----> SETS[set] -> first, count
//!       |  id                                   \                           |
//!       v                                        \                          v
//!  LIVE_FRONTENDS[id.index] == id                 MAGLEV[set][hash]     SLOTS[first + n]
//!                                                        \                 /
//!                                                         v               v
//!                                                    BACKENDS4/6[id.index].id == id
//! ```
//!
//! Several frontends of a service (cluster address, node ports, load balancer addresses) share one set. An endpoint that
//! changes costs one range of slots and one word, however many frontends there are.

use crate::address::{Address, V4, V6};
use crate::id::{BackendId, FrontendId};
use crate::plain::{layout, plain, plain_over_addresses};

plain_over_addresses!(FrontendKey, Backend);

/// Key of `FRONTENDS4` and `FRONTENDS6`.
///
/// Port 0 and protocol 0 is the *wildcard*: "this address is a service's, whatever the port". It exists once for each
/// cluster and load balancer address and is looked up when the exact key is not there. A packet that finds only the
/// wildcard is refused, else an unknown port of a VIP loops between the router and this node.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrontendKey<A> {
    pub address: A,
    /// In network order.
    pub port: u16,
    /// IANA number: 6, 17 or 132.
    pub protocol: u8,
    pub pad: u8,
}

layout!(FrontendKey<V4>, 8, port = 4, protocol = 6, pad = 7);
layout!(FrontendKey<V6>, 20, port = 16, protocol = 18, pad = 19);

impl<A: Address> FrontendKey<A> {
    #[inline(always)]
    pub fn new(address: A, port: u16, protocol: u8) -> Self {
        Self {
            address,
            port,
            protocol,
            pad: 0,
        }
    }

    /// The key that says "this address is a service's".
    #[inline(always)]
    pub fn wildcard(address: A) -> Self {
        Self::new(address, 0, 0)
    }
}

/// Value of `FRONTENDS4` and `FRONTENDS6`. A hash map replaces it as a whole: readers see the old one or the new one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frontend {
    /// Must stand in `LIVE_FRONTENDS` before this entry is written, and is erased there before this entry is deleted.
    pub id: FrontendId,
    /// Index into `SETS` for clients from outside.
    pub set: u32,
    /// Index into `SETS` for pods and sockets. Equals `set` unless the two traffic policies differ.
    pub inner_set: u32,
    /// The same number for all frontends of one Service: key of session affinity, so that it holds across them.
    pub service: u32,
    /// Seconds a client stays with its backend after its last packet; 0 = no session affinity.
    pub affinity: u32,
    /// List id in `RANGES4`/`RANGES6` that the client's address is held against; 0 = all may come.
    pub ranges: u32,
    /// Bits of [`flag`].
    pub flags: u16,
    /// A [`Selection`] as number.
    pub selection: u8,
    /// A [`Dispatch`] as number.
    pub dispatch: u8,
    /// Index into `SETS`: those of `set` on this node, for packets that other nodes send here by [`Dispatch::DsrIpip`]; 0
    /// with any other dispatch.
    pub local_set: u32,
}

plain!(
    Frontend,
    32,
    set = 4,
    inner_set = 8,
    service = 12,
    affinity = 16,
    ranges = 20,
    flags = 24,
    selection = 26,
    dispatch = 27,
    local_set = 28
);

impl Frontend {
    /// All sets it names.
    pub fn sets(&self) -> impl Iterator<Item = u32> {
        [self.set, self.inner_set, self.local_set]
            .into_iter()
            .filter(|set| *set != 0)
    }
}

/// Bits of [`Frontend::flags`].
pub mod flag {
    /// Only says that the address is a service's; see [`super::FrontendKey`]. Has no set.
    pub const WILDCARD: u16 = 1;
    /// May be reached from outside this cluster. A cluster address has it only if that was allowed.
    pub const ROUTABLE: u16 = 2;
    /// The list in `ranges` says who may *not* come, instead of who may.
    pub const DENY_RANGES: u16 = 4;
    /// `externalTrafficPolicy: Local` or `internalTrafficPolicy: Local` made `set` local: without a backend the packet is
    /// dropped silently, never rejected, as another node may have one.
    pub const LOCAL_ONLY: u16 = 8;
    pub const NODE_PORT: u16 = 16;
    pub const HOST_PORT: u16 = 32;
    pub const EXTERNAL_IP: u16 = 64;
    pub const LOAD_BALANCER: u16 = 128;
    /// A host port on a loopback address: only for sockets of the host itself.
    pub const LOOPBACK: u16 = 256;
    /// A user-space proxy on this node takes the packet when the chosen backend is local.
    pub const DELEGATE: u16 = 512;
}

/// How a backend is chosen. An unknown number counts as [`Selection::Random`].
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Selection {
    Random = 1,
    /// By `MAGLEV`; falls back to random while the set has no table.
    Maglev = 2,
}

impl Selection {
    #[inline(always)]
    pub const fn number(self) -> u8 {
        match self {
            Self::Random => 1,
            Self::Maglev => 2,
        }
    }

    #[inline(always)]
    pub const fn from_number(number: u8) -> Self {
        if number == 2 { Self::Maglev } else { Self::Random }
    }
}

/// How a packet gets to a backend on another node. An unknown number counts as [`Dispatch::Snat`].
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dispatch {
    /// With an address of this node as its source, so that replies come back here.
    Snat = 0,
    /// Direct server return: the backend's node learns the VIP from an IP option.
    DsrOption = 1,
    /// Direct server return: untouched inside an outer IP header.
    DsrIpip = 2,
    /// Direct server return: inside Geneve, the VIP in an option of it.
    DsrGeneve = 3,
}

impl Dispatch {
    #[inline(always)]
    pub const fn number(self) -> u8 {
        match self {
            Self::Snat => 0,
            Self::DsrOption => 1,
            Self::DsrIpip => 2,
            Self::DsrGeneve => 3,
        }
    }

    #[inline(always)]
    pub const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::DsrOption,
            2 => Self::DsrIpip,
            3 => Self::DsrGeneve,
            _ => Self::Snat,
        }
    }
}

/// Element of `SETS`: a range of `SLOTS`, in one word, so that one store replaces it.
///
/// A set changes thus: write the new range into free slots, store the word, wait until no program runs that may have
/// read the old word (an RCU grace period), then the old range is free. Slots of a range in use are never written.
///
/// ```text
/// bits 31..0   first slot
/// bits 47..32  count: slots that new connections may choose
/// bits 63..48  total: count and those that only drain (terminating ones while others are active)
/// ```
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Set(pub u64);

plain!(Set, 8);

impl Set {
    /// A set cannot have more members; what is left out is the planner's to name.
    pub const MAX_MEMBERS: u16 = u16::MAX;

    pub fn new(first: u32, count: u16, total: u16) -> Self {
        Self(u64::from(first) | u64::from(count) << 32 | u64::from(total) << 48)
    }

    #[inline(always)]
    pub fn first(self) -> u32 {
        crate::low32(self.0)
    }

    #[inline(always)]
    pub fn count(self) -> u32 {
        crate::low32(self.0 >> 32) & 0xffff
    }

    #[inline(always)]
    pub fn total(self) -> u32 {
        crate::low32(self.0 >> 48)
    }
}

/// Element of `BACKENDS4` and `BACKENDS6`, at the index of its id.
///
/// A backend goes thus: out of all sets, then, after a grace period, `id` becomes a [`BackendId::tombstone`] here, then,
/// after another one, the place may be given away. Flows that remember the old id find another one here and choose anew.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backend<A> {
    pub id: BackendId,
    pub address: A,
    /// In network order; 0 = the port stays as it is.
    pub port: u16,
    pub protocol: u8,
    /// A [`BackendState`] as number.
    pub state: u8,
    /// Index into `NODES`: who decapsulates for it. Not read for local backends.
    pub node: u32,
    /// Bits of [`backend_flag`].
    pub flags: u8,
    /// Number of the zone, 0 = none; for counters only.
    pub zone: u8,
    pub pad: u16,
}

layout!(
    Backend<V4>,
    20,
    address = 4,
    port = 8,
    protocol = 10,
    state = 11,
    node = 12,
    flags = 16,
    zone = 17,
    pad = 18
);
layout!(
    Backend<V6>,
    32,
    address = 4,
    port = 20,
    protocol = 22,
    state = 23,
    node = 24,
    flags = 28,
    zone = 29,
    pad = 30
);

/// Bits of [`Backend::flags`].
pub mod backend_flag {
    /// On this node: the stack delivers after the destination is rewritten.
    pub const LOCAL: u8 = 1;
    /// On a node of the cluster, which can return answers directly. Not so what is outside of it.
    pub const CLUSTER: u8 = 2;
}

/// What may be sent to a backend.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BackendState {
    /// Everything.
    Active = 0,
    /// Flows it has, and new ones only when the planner puts it among the `count` of a set.
    Terminating = 1,
    /// As terminating: a health check failed.
    Quarantined = 2,
    /// As terminating: not ready.
    Maintenance = 3,
}

impl BackendState {
    #[inline(always)]
    pub const fn number(self) -> u8 {
        match self {
            Self::Active => 0,
            Self::Terminating => 1,
            Self::Quarantined => 2,
            Self::Maintenance => 3,
        }
    }
}

impl<A> Backend<A> {
    #[inline(always)]
    pub fn is_active(&self) -> bool {
        self.state == BackendState::Active.number()
    }

    #[inline(always)]
    pub fn is_local(&self) -> bool {
        self.flags & backend_flag::LOCAL != 0
    }

    #[inline(always)]
    pub fn is_in_cluster(&self) -> bool {
        self.flags & backend_flag::CLUSTER != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_one_word() {
        let set = Set::new(u32::MAX, 3, u16::MAX);
        assert_eq!((set.first(), set.count(), set.total()), (u32::MAX, 3, 65535));
        assert_eq!(Set::default().count(), 0);
    }

    #[test]
    fn numbers_of_selection_and_dispatch_go_there_and_back() {
        for selection in [Selection::Random, Selection::Maglev] {
            assert_eq!(Selection::from_number(selection.number()), selection);
        }
        for dispatch in [
            Dispatch::Snat,
            Dispatch::DsrOption,
            Dispatch::DsrIpip,
            Dispatch::DsrGeneve,
        ] {
            assert_eq!(Dispatch::from_number(dispatch.number()), dispatch);
        }
        assert_eq!(Selection::from_number(77), Selection::Random);
        assert_eq!(Dispatch::from_number(77), Dispatch::Snat);
    }
}
