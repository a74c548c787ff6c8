//! Where a packet leaves that does not go to the stack: found by the kernel's routes and neighbours.
//!
//! ```text
//!            remembered (XDP only)? ---yes--------> frame out by the device
//!              |
//!            route?  ----none-----------------> dropped: NoRoute
//!              |  \---packet too big---------> dropped: FragmentationNeeded, and the verdict says what would fit
//!              |
//!            neighbour known?  --no, in XDP--> untouched to tc, which does all of it again and lets the kernel ask
//!              |
//!            XDP: frame out by the device      tc: out by the device, the kernel writes the Ethernet header
//! ```
//!
//! Nothing is written to the packet before its way is known, so what cannot go on is still as it came, for an answer.
//!
//! In XDP each processor remembers ways to nodes and backends for [`LIFETIME`]: there are few of them, each is asked for by
//! many packets, and asking is most of what such a packet costs. Only what was found is remembered, never that there is no
//! way or no neighbour, and it serves packets that surely fit. Ways to clients are asked for each packet anew: there are
//! many, and rules may look at the source.

use crate::packet::{Fragment, Network, Packet, TCP};

/// The way out, and what comes next on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// Interface index.
    pub device: u32,
    pub gateway: Gateway,
    /// Destination and source address of the Ethernet header, where the neighbour is known; else zero.
    pub ethernet: [u8; 12],
}

/// Who is next: a router or the destination itself. An IPv4 route may lead over an IPv6 router. Laid out as the kernel's
/// `bpf_redir_neigh`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gateway {
    /// The kernel's number of the address family: 2 or 10.
    pub family: u32,
    /// In network order; of IPv4 only the first word.
    pub address: [u32; 4],
}

/// What a packet wants to know of the routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask<A> {
    /// Where rules look at the source, it is this one.
    pub source: A,
    pub destination: A,
    /// What must fit through, in octets from the IP header on.
    pub length: u16,
}

/// What they say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routed {
    Found,
    /// The packet is larger than this.
    TooBig(u16),
    /// No way, or a route that says so.
    Nowhere,
    /// There is a way, but not from this hook: it has no neighbour yet, or its device takes nothing from here.
    Elsewhere,
}

/// For how long a way serves without being asked for again, in nanoseconds. So long may packets follow a route, a neighbour or
/// a device that has changed, and one tick of the kernel more, as the clock is a coarse one: 20 ms at most.
pub const LIFETIME: u64 = 10_000_000;

/// Ways that each processor remembers.
pub const WAYS: u32 = 1024;

/// For whom a way serves that was found: all that decided about it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Serves {
    /// Nanoseconds of the coarse clock; from then on nobody.
    pub until: u64,
    /// Of IPv4 only the first word.
    pub destination: [u32; 4],
    /// The kernel's number of the address family.
    pub family: u32,
    /// Where packets came in.
    pub came: u32,
    /// The longest packet that it was found to take.
    pub fits: u32,
    pub pad: u32,
}

impl Serves {
    /// Whether it serves a packet like this.
    #[inline(always)]
    pub fn serves(&self, now: u64, family: u32, came: u32, destination: &[u32; 4], length: u16) -> bool {
        now < self.until
            && self.destination == *destination
            && self.family == family
            && self.came == came
            && u32::from(length) <= self.fits
    }
}

/// Where ways to a destination are remembered, below [`WAYS`].
#[inline(always)]
pub fn place(destination: &[u32; 4]) -> u32 {
    let [a, b, c, d] = destination;
    (a ^ b ^ c ^ d).wrapping_mul(0x9e37_79b1) >> (u32::BITS - WAYS.trailing_zeros())
}

/// What must fit through the way out: the whole packet, or the largest of those that the device will cut it into.
#[inline(always)]
pub fn length<P: Packet>(packet: &P, at: usize, network: &Network) -> u16 {
    let data = packet.segment();
    if data == 0 {
        return u16::try_from(network.length).unwrap_or(u16::MAX);
    }
    let transport = match (network.protocol, network.fragment) {
        (TCP, Fragment::Whole | Fragment::First(_)) => {
            let words = packet
                .read::<2>(network.transport + 12)
                .map_or(5, |[words, _]| words >> 4);
            u32::from(words) * 4
        }
        _ => 8,
    };
    let before = u32::try_from(network.transport - at).unwrap_or(0);
    u16::try_from(before + transport + data).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: [u32; 4] = [0x0200_000a, 0, 0, 0];

    fn known() -> Serves {
        Serves {
            until: 50 + LIFETIME,
            destination: NODE,
            family: 2,
            came: 3,
            fits: 1500,
            pad: 0,
        }
    }

    #[test]
    fn a_way_serves_what_it_was_asked_for_and_nothing_else() {
        let known = known();
        assert!(known.serves(50, 2, 3, &NODE, 1500));
        assert!(!known.serves(50, 10, 3, &NODE, 1500), "another family");
        assert!(!known.serves(50, 2, 4, &NODE, 1500), "from another device");
        for word in 0..4 {
            let mut other = NODE;
            other[word] ^= 1 << 31;
            assert!(!known.serves(50, 2, 3, &other, 1500), "another destination");
        }
    }

    #[test]
    fn a_way_that_is_too_narrow_for_a_packet_is_asked_for_again() {
        assert!(!known().serves(50, 2, 3, &NODE, 1501));
        assert!(known().serves(50, 2, 3, &NODE, 0));
    }

    #[test]
    fn a_way_ends_with_its_lifetime() {
        let known = known();
        assert!(known.serves(49 + LIFETIME, 2, 3, &NODE, 60));
        assert!(!known.serves(50 + LIFETIME, 2, 3, &NODE, 60));
        assert!(
            !Serves::default().serves(0, 0, 0, &[0; 4], 0),
            "what nobody wrote"
        );
    }

    #[test]
    fn neighbouring_addresses_do_not_share_places() {
        let mut places: Vec<u32> = (0..256_u32)
            .map(|n| place(&[(0x0a00_0000 + n).to_be(), 0, 0, 0]))
            .collect();
        assert!(places.iter().all(|place| *place < WAYS));
        places.sort_unstable();
        places.dedup();
        assert!(places.len() > 200, "{}", places.len());
    }
}
