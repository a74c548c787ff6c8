//! Where a packet leaves that does not go to the stack: found by the kernel's routes and neighbours, for each packet anew.
//!
//! ```text
//!            route?  ----none-----------------> dropped: NoRoute
//!              |  \---packet too big---------> dropped: FragmentationNeeded, and the verdict says what would fit
//!              |
//!            neighbour known?  --no, in XDP--> untouched to tc, which does all of it again and lets the kernel ask
//!              |
//!            XDP: frame out by the device      tc: out by the device, the kernel writes the Ethernet header
//! ```
//!
//! Nothing is written to the packet before its way is known, so what cannot go on is still as it came, for an answer.

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
