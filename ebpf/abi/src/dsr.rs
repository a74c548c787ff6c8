//! Direct server return: a packet for a backend of another node keeps its client's address, and brings along where the client
//! sent it, so that the backend's node can answer the client itself.
//!
//! ```text
//!             option                           Geneve                             IP in IP
//!  client --> VIP                   client --> VIP                     client --> VIP
//!  this node: destination = backend this node: destination = backend   this node: nothing is changed
//!   +----+-----------+-----+---+     +-----+-----+--------+----+---+    +-----+----+-----+---+
//!   | IP | VIP, port | TCP |...|     | IP  | UDP | Geneve | IP |...|    | IP  | IP | TCP |...|
//!   +----+-----------+-----+---+     |node |     |VIP,port|    |   |    |node |    |     |   |
//!                                    +-----+-----+--------+----+---+    +-----+----+-----+---+
//!  its node: remembers the VIP for answers        |                     takes the outer header off, and balances anew,
//!            takes nothing off             takes all outer headers off  among its own backends only
//! ```
//!
//! With the option and with Geneve only packets that open a connection bring the VIP along, and every packet of what has no
//! connections; the rest of TCP travels as it is to the backend. With IP in IP all packets are wrapped. The octets are those
//! of Cilium, so nodes of both understand each other.
//!
//! [`option`] and [`tunnel`] write and read headers, over packets that can make [`Room`]. What is decided is in
//! [`crate::balance`].

pub mod option;
pub mod tunnel;

use crate::config::Node;
use crate::packet::{ETHERNET, Family, Packet};
use crate::service::Dispatch;
use crate::track::{Lifetimes, Seen, State, tcp};
use crate::{V4, V6};

/// IPv4 and IPv6 in Ethernet.
pub const ETHERTYPE_V4: u16 = 0x0800;
pub const ETHERTYPE_V6: u16 = 0x86dd;

/// A packet that can get longer and shorter at its front.
pub trait Room: Packet {
    /// Opens a gap: what is before [`Gap::at`] moves to the front. What the gap holds then is anything.
    fn open(&mut self, gap: Gap) -> Option<()>;
    /// Takes this many octets out behind the Ethernet header. What follows is of this Ethernet type then; the caller writes
    /// it into the header.
    fn close(&mut self, octets: usize, inside: u16) -> Option<()>;
}

/// What a gap is opened for. The kernel wants to know, so that it can cut large packets into pieces that all have the headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// Behind the base header of IPv4.
    Option4,
    /// Behind the header of IPv6.
    Option6,
    /// Behind Ethernet, for IPv4 around an IP packet.
    Ipip4,
    /// The same for IPv6 around one.
    Ipip6,
    /// Behind Ethernet: IPv4, UDP, Geneve with an IPv4 address, and Ethernet.
    Geneve4V4,
    /// With an IPv6 address.
    Geneve4V6,
    /// Over IPv6, with an IPv4 address.
    Geneve6V4,
    /// Over IPv6, with an IPv6 address.
    Geneve6V6,
}

impl Gap {
    /// How long it is.
    #[inline(always)]
    pub const fn octets(self) -> usize {
        match self {
            Self::Option4 => option::LENGTH4,
            Self::Option6 => option::LENGTH6,
            Self::Ipip4 => 20,
            Self::Ipip6 => 40,
            Self::Geneve4V4 => 20 + tunnel::GENEVE + 12 + ETHERNET,
            Self::Geneve4V6 => 20 + tunnel::GENEVE + 24 + ETHERNET,
            Self::Geneve6V4 => 40 + tunnel::GENEVE + 12 + ETHERNET,
            Self::Geneve6V6 => 40 + tunnel::GENEVE + 24 + ETHERNET,
        }
    }

    /// The same, as packets count.
    #[inline(always)]
    pub const fn length(self) -> u16 {
        let [low, high, ..] = self.octets().to_le_bytes();
        u16::from_le_bytes([low, high])
    }

    /// Where it begins.
    #[inline(always)]
    pub const fn at(self) -> usize {
        match self {
            Self::Option4 => ETHERNET + 20,
            Self::Option6 => ETHERNET + 40,
            Self::Ipip4
            | Self::Ipip6
            | Self::Geneve4V4
            | Self::Geneve4V6
            | Self::Geneve6V4
            | Self::Geneve6V6 => ETHERNET,
        }
    }
}

/// Where a client sent its packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vip<A> {
    pub address: A,
    /// In network order.
    pub port: u16,
}

/// What the family of the client's packet means for headers around it or in it, over the same family.
pub trait Carried: Family + option::Optional + tunnel::Inside {
    /// Octets of the header without options.
    const HEADER: usize;
    const OPTION_GAP: Gap;
    const IPIP_GAP: Gap;
    const GENEVE_GAP: Gap;
    /// Zero if the node has no address of the family.
    fn known_as(node: &Node) -> Self;
    fn underlay(source: Self, destination: Self) -> Underlay;
}

impl Carried for V4 {
    const HEADER: usize = 20;
    const OPTION_GAP: Gap = Gap::Option4;
    const IPIP_GAP: Gap = Gap::Ipip4;
    const GENEVE_GAP: Gap = Gap::Geneve4V4;

    #[inline(always)]
    fn known_as(node: &Node) -> Self {
        node.v4
    }

    #[inline(always)]
    fn underlay(source: Self, destination: Self) -> Underlay {
        Underlay::V4 { source, destination }
    }
}

impl Carried for V6 {
    const HEADER: usize = 40;
    const OPTION_GAP: Gap = Gap::Option6;
    const IPIP_GAP: Gap = Gap::Ipip6;
    const GENEVE_GAP: Gap = Gap::Geneve6V6;

    #[inline(always)]
    fn known_as(node: &Node) -> Self {
        node.v6
    }

    #[inline(always)]
    fn underlay(source: Self, destination: Self) -> Underlay {
        Underlay::V6 { source, destination }
    }
}

/// How the packet of a flow travels to the backend's node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carriage {
    /// As it is.
    Plain,
    Option,
    Ipip,
    Geneve,
}

/// Which packets bring the VIP along. `opens`: this node has not seen the flow before, so perhaps another node began it, and
/// perhaps the backend's node has forgotten it.
#[inline(always)]
pub fn carriage(dispatch: Dispatch, seen: Seen, opens: Opens) -> Carriage {
    let tells = match (opens, seen) {
        (Opens::Flow, _) | (Opens::Nothing, Seen::Other) => true,
        (Opens::Nothing, Seen::Tcp(flags)) => flags & tcp::SYN != 0,
        // Only the first fragment could.
        (Opens::Nothing, Seen::TcpFragment) => false,
    };
    match (dispatch, tells) {
        (Dispatch::DsrIpip, _) => Carriage::Ipip,
        (Dispatch::DsrOption, true) => Carriage::Option,
        (Dispatch::DsrGeneve, true) => Carriage::Geneve,
        (Dispatch::Snat | Dispatch::DsrOption | Dispatch::DsrGeneve, _) => Carriage::Plain,
    }
}

/// What a packet is to the flows of the node it comes to first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opens {
    Flow,
    Nothing,
}

/// Headers around a packet from node to node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Underlay {
    V4 { source: V4, destination: V4 },
    V6 { source: V6, destination: V6 },
}

/// The outer addresses towards a node: of the packet's own family where both nodes have it. `None`: they have none in common.
#[inline(always)]
pub fn underlay(prefer: u16, this: &Node, other: &Node) -> Option<Underlay> {
    let v4 = (this.v4 != V4::default() && other.v4 != V4::default()).then_some(Underlay::V4 {
        source: this.v4,
        destination: other.v4,
    });
    let v6 = (this.v6 != V6::default() && other.v6 != V6::default()).then_some(Underlay::V6 {
        source: this.v6,
        destination: other.v6,
    });
    if prefer == ETHERTYPE_V4 {
        v4.or(v6)
    } else {
        v6.or(v4)
    }
}

/// What a packet does to a flow of which only one way is seen: answers do not come back here, so nobody says that both ways
/// are finished. `None`: a new connection, where the old one was closing.
///
/// Refreshed lazily, as [`crate::track::step`].
#[inline(always)]
pub fn step(now: u32, state: State, expires: u32, seen: Seen, lifetimes: &Lifetimes) -> Option<(State, u32)> {
    if seen.opens() && state.is_closing() {
        return None;
    }
    let bits = match seen {
        // A reset is perhaps forged, and a half-closed connection may go on: neither ends the entry at once.
        Seen::Tcp(flags) if flags & (tcp::FIN | tcp::RST) != 0 => State::OPEN | State::CLOSED_HERE,
        Seen::Tcp(_) if seen.opens() => 0,
        Seen::Tcp(_) | Seen::TcpFragment | Seen::Other => State::OPEN,
    };
    let next = State(state.0 | bits);
    let lifetime = match seen {
        Seen::Other => lifetimes.other,
        Seen::Tcp(_) | Seen::TcpFragment if next.is_closing() || !next.is_open() => lifetimes.opening,
        Seen::Tcp(_) | Seen::TcpFragment => lifetimes.open,
    };
    let left = expires.saturating_sub(now);
    let longest = lifetime.saturating_add(lifetime / 8);
    if next == state && left > lifetime && left <= longest {
        return Some((state, expires));
    }
    Some((next, now.saturating_add(longest)))
}

#[cfg(test)]
mod tests;
