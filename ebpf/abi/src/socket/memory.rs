//! What the maps hold for sockets.

use crate::flow::Way;
use crate::id::{BackendId, FrontendId};
use crate::plain::plain;
use crate::{V4, V6};

/// The only element of `SOCKETS`: what is the same for all sockets of this node. All zero: no namespace is the host's, and
/// node ports work only at the addresses that have frontends.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sockets {
    /// Cookie of the network namespace that is the host's.
    pub host: u64,
    /// One of the addresses with node ports, for those who ask at another address of a node.
    pub node4: V4,
    pub node6: V6,
    /// First and last node port, in host order.
    pub first_port: u16,
    pub last_port: u16,
    /// Bits of [`choice`].
    pub choices: u32,
    pub pad: u32,
}

plain!(
    Sockets,
    40,
    node4 = 8,
    node6 = 12,
    first_port = 28,
    last_port = 30,
    choices = 32,
    pad = 36
);

/// Bits of [`Sockets::choices`].
pub mod choice {
    /// Only sockets of the host: pods have a mesh of their own that wants to see the VIP.
    pub const HOST_ONLY: u32 = 1;
    /// The host must not bind what is a frontend's.
    pub const PROTECT_PORTS: u32 = 2;
    /// An external IP that is no address of this node stays untouched, as anybody who may write Services could otherwise
    /// take any address of the world from the pods here.
    pub const EXTERNAL_IPS_OUTSIDE: u32 = 4;
}

/// Value of `NAMESPACES`, by the cookie of a network namespace: who its sockets are. Zero: no such address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    pub v4: V4,
    pub v6: V6,
}

plain!(Namespace, 20, v6 = 4);

/// Values of `NODE_ADDRESSES`, by address (IPv4 as `::ffff:a.b.c.d`).
pub mod owner {
    pub const THIS_NODE: u32 = 1;
    pub const OTHER_NODE: u32 = 2;
}

/// Value of `SOCKET_PEERS`: what a socket was promised last. IPv4 addresses are `::ffff:a.b.c.d` here.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// What the program asked for, and sees.
    pub asked: V6,
    /// Where its packets go.
    pub real: V6,
    pub asked_port: u16,
    pub real_port: u16,
    pub frontend: FrontendId,
    /// Of the family of `real`.
    pub backend: BackendId,
    /// A [`Bond`] as number.
    pub bond: u8,
    pub protocol: u8,
    pub pad: u16,
}

plain!(
    Peer,
    48,
    real = 16,
    asked_port = 32,
    real_port = 34,
    frontend = 36,
    backend = 40,
    bond = 44,
    protocol = 45,
    pad = 46
);

/// How a socket holds on to its peer.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bond {
    /// By `connect`.
    Connection = 1,
    /// By the address of one datagram: there are entries in `DATAGRAMS`.
    Datagram = 2,
}

impl Bond {
    #[inline(always)]
    pub const fn number(self) -> u8 {
        match self {
            Self::Connection => 1,
            Self::Datagram => 2,
        }
    }
}

/// Key of `DATAGRAMS`: a socket without connection, and the address on one end of the translation.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DatagramKey {
    pub cookie: u64,
    /// Asked for ([`Way::Forward`]) or real ([`Way::Reply`]).
    pub address: V6,
    pub port: u16,
    /// A [`Way`] as number.
    pub way: u8,
    pub pad: u8,
    pub pad_word: u32,
}

plain!(
    DatagramKey,
    32,
    address = 8,
    port = 24,
    way = 26,
    pad = 27,
    pad_word = 28
);

impl DatagramKey {
    #[inline(always)]
    pub(super) fn new(cookie: u64, address: V6, port: u16, way: Way) -> Self {
        Self {
            cookie,
            address,
            port,
            way: way.number(),
            pad: 0,
            pad_word: 0,
        }
    }
}

/// Value of `DATAGRAMS`: the other end.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Datagram {
    pub address: V6,
    pub port: u16,
    pub pad: u16,
    pub frontend: FrontendId,
    pub backend: BackendId,
}

plain!(Datagram, 28, port = 16, pad = 18, frontend = 20, backend = 24);
