//! How sockets see the two families.

use super::memory::{Namespace, Sockets};
use crate::balance::Balanced;
use crate::{V4, V6};

/// What differs between the families at sockets.
pub trait Reached: Balanced {
    /// As `SOCKET_PEERS` and `DATAGRAMS` hold it.
    fn wide(&self) -> V6;
    /// Back from there.
    fn narrow(wide: V6) -> Self;
    fn is_loopback(&self) -> bool;
    fn of_namespace(namespace: &Namespace) -> Self;
    fn of_node(sockets: &Sockets) -> Self;
    /// An address that nobody has, for a namespace whose addresses are not known.
    fn stand_in(namespace: u64) -> Self;
}

impl Reached for V4 {
    #[inline(always)]
    fn wide(&self) -> V6 {
        V6([0, 0, MAPPED, self.0])
    }

    #[inline(always)]
    fn narrow(wide: V6) -> Self {
        let [_, _, _, address] = wide.0;
        Self(address)
    }

    #[inline(always)]
    fn is_loopback(&self) -> bool {
        let [first, _, _, _] = self.0.to_ne_bytes();
        first == 127
    }

    #[inline(always)]
    fn of_namespace(namespace: &Namespace) -> Self {
        namespace.v4
    }

    #[inline(always)]
    fn of_node(sockets: &Sockets) -> Self {
        sockets.node4
    }

    /// In 0.0.0.0/8.
    #[inline(always)]
    fn stand_in(namespace: u64) -> Self {
        let [_, b, c, d] = fold(namespace).to_be_bytes();
        Self(u32::from_ne_bytes([0, b, c, d]))
    }
}

impl Reached for V6 {
    #[inline(always)]
    fn wide(&self) -> V6 {
        *self
    }

    #[inline(always)]
    fn narrow(wide: V6) -> Self {
        wide
    }

    #[inline(always)]
    fn is_loopback(&self) -> bool {
        *self == Self([0, 0, 0, u32::from_ne_bytes([0, 0, 0, 1])])
    }

    #[inline(always)]
    fn of_namespace(namespace: &Namespace) -> Self {
        namespace.v6
    }

    #[inline(always)]
    fn of_node(sockets: &Sockets) -> Self {
        sockets.node6
    }

    /// In 100::/64 (RFC 6666), which goes nowhere.
    #[inline(always)]
    fn stand_in(namespace: u64) -> Self {
        let prefix = u32::from_ne_bytes([1, 0, 0, 0]);
        Self([prefix, 0, crate::low32(namespace >> 32), crate::low32(namespace)])
    }
}

/// The third word of an IPv4 address written as an IPv6 one (RFC 4291 2.5.5.2).
const MAPPED: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);

/// The IPv4 address inside, if there is one.
#[inline(always)]
pub fn mapped(address: V6) -> Option<V4> {
    let [first, second, third, fourth] = address.0;
    (first == 0 && second == 0 && third == MAPPED).then_some(V4(fourth))
}

/// Every bit of a cookie reaches every bit of the result.
#[inline(always)]
pub(super) fn fold(cookie: u64) -> u32 {
    crate::low32(cookie.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32)
}
