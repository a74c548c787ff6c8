//! Addresses as packets and map keys hold them: in network order, as words, so that kernel code moves whole words.

use core::fmt::Debug;
use core::net::{Ipv4Addr, Ipv6Addr};

use crate::plain::{Plain, plain};

/// An IPv4 address; the word holds the octets in the order of the wire.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct V4(pub u32);

/// An IPv6 address; each word holds its octets in the order of the wire.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct V6(pub [u32; 4]);

plain!(V4, 4);
plain!(V6, 16);

mod sealed {
    /// There are two address types, and layouts are nailed for both.
    pub trait Sealed {}
    impl Sealed for super::V4 {}
    impl Sealed for super::V6 {}
}

/// One of the two address families.
pub trait Address: sealed::Sealed + Plain + Copy + Default + Debug + Eq + Ord {
    /// Folds the address to one word, for hashes.
    fn fold(&self) -> u32;
    /// Goes over the 32-bit words of both addresses, pair by pair, for checksums. Not by an iterator: that one would live on
    /// the stack, which has 512 octets.
    fn pairs<S>(&self, other: &Self, start: S, step: impl Fn(S, u32, u32) -> S) -> S;
}

impl Address for V4 {
    #[inline(always)]
    fn fold(&self) -> u32 {
        self.0
    }

    #[inline(always)]
    fn pairs<S>(&self, other: &Self, start: S, step: impl Fn(S, u32, u32) -> S) -> S {
        step(start, self.0, other.0)
    }
}

impl Address for V6 {
    #[inline(always)]
    fn fold(&self) -> u32 {
        // Subnets and hosts count up alike: each word must reach all bits before the next one comes.
        let mut hash = 0_u32;
        for word in self.0 {
            hash = (hash ^ word).wrapping_mul(0x85eb_ca6b);
            hash ^= hash >> 15;
        }
        hash
    }

    #[inline(always)]
    fn pairs<S>(&self, other: &Self, start: S, step: impl Fn(S, u32, u32) -> S) -> S {
        let ([a, b, c, d], [e, f, g, h]) = (self.0, other.0);
        step(step(step(step(start, a, e), b, f), c, g), d, h)
    }
}

impl V6 {
    #[inline(always)]
    pub fn from_octets(octets: [u8; 16]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = octets;
        Self([
            u32::from_ne_bytes([a, b, c, d]),
            u32::from_ne_bytes([e, f, g, h]),
            u32::from_ne_bytes([i, j, k, l]),
            u32::from_ne_bytes([m, n, o, p]),
        ])
    }

    #[inline(always)]
    pub fn octets(&self) -> [u8; 16] {
        let [first, second, third, fourth] = self.0.map(u32::to_ne_bytes);
        let [a, b, c, d] = first;
        let [e, f, g, h] = second;
        let [i, j, k, l] = third;
        let [m, n, o, p] = fourth;
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }
}

impl From<Ipv4Addr> for V4 {
    fn from(address: Ipv4Addr) -> Self {
        Self(u32::from_ne_bytes(address.octets()))
    }
}

impl From<V4> for Ipv4Addr {
    fn from(address: V4) -> Self {
        address.0.to_ne_bytes().into()
    }
}

impl From<Ipv6Addr> for V6 {
    fn from(address: Ipv6Addr) -> Self {
        Self::from_octets(address.octets())
    }
}

impl From<V6> for Ipv6Addr {
    fn from(address: V6) -> Self {
        address.octets().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_keep_their_octets_in_the_order_of_the_wire() {
        let v4 = Ipv4Addr::new(10, 0, 0, 1);
        assert_eq!(V4::from(v4).0.to_ne_bytes(), [10, 0, 0, 1]);
        assert_eq!(Ipv4Addr::from(V4::from(v4)), v4);
        let v6: Ipv6Addr = "2001:db8::1:2:3".parse().expect("an address");
        assert_eq!(V6::from(v6).octets(), v6.octets());
        assert_eq!(Ipv6Addr::from(V6::from(v6)), v6);
    }
}
