//! What goes into a [`Speaker`](super::Speaker) and what comes out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::config::SpeakerConfig;
use crate::speaker::Event;
use crate::types::{Name, Prefix, Secret};

/// A TCP connection. The speaker numbers those it dials, the shell those it accepts: they can't collide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConnId {
    Dialled(u64),
    Accepted(u64),
}

/// Addresses of the interface that has a connection's local address: next hops of routes of the family that the
/// connection is not of. No loopback and no link-local ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Companions {
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
}

/// News, in the past tense.
#[derive(Debug, Clone)]
pub enum Input {
    /// A whole new wish.
    Configured(Arc<SpeakerConfig>),
    /// An order to listen was carried out, or failed (the error's text is shown to people).
    Listened {
        instance: Name,
        result: Result<(), Arc<str>>,
    },
    Connected {
        conn: ConnId,
        local: SocketAddr,
        remote: SocketAddr,
        companions: Companions,
    },
    ConnectFailed {
        conn: ConnId,
        error: Arc<str>,
    },
    /// A peer dialled the listener of `instance`.
    Accepted {
        conn: ConnId,
        instance: Name,
        local: SocketAddr,
        remote: SocketAddr,
        companions: Companions,
    },
    Received {
        conn: ConnId,
        bytes: Bytes,
    },
    /// So many octets of what [`Output::Send`] gave were taken by the kernel: credit to send more.
    Sent {
        conn: ConnId,
        bytes: usize,
    },
    Closed {
        conn: ConnId,
        error: Option<Arc<str>>,
    },
    /// The interface that reaches these peers went down: their sessions end now, not at hold time.
    LinkDown {
        interface: Name,
        peers: Vec<IpAddr>,
    },
    /// A person's order.
    Asked(Request),
    /// `next_timeout` passed.
    TimedOut,
}

/// What an operator can ask of a running speaker. `peer: None` = every peer of the instance.
/// [`Speaker::check`](super::Speaker::check) tells whether there is whom it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Cease / Administrative Reset with the text (RFC 9003).
    Reset {
        instance: Name,
        peer: Option<Name>,
        text: Arc<str>,
    },
    /// ROUTE-REFRESH to the peer (soft reset in).
    RefreshIn { instance: Name, peer: Option<Name> },
    /// Send everything again (soft reset out).
    RefreshOut { instance: Name, peer: Option<Name> },
    /// The process ends. `Restart`: sockets close without NOTIFICATION where graceful restart was
    /// negotiated, so peers keep the routes; others get Cease. `Stop`: Cease / Peer De-configured to all
    /// (hard reset, RFC 8538).
    Shutdown(Shutdown),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    Restart,
    Stop,
}

/// Orders, carried out in the order given.
#[derive(Debug, Clone)]
pub enum Output {
    /// (Re)place the listener of `instance`: port on both families, with a key per peer address or prefix.
    Listen {
        instance: Name,
        port: u16,
        keys: Vec<ListenKey>,
    },
    Unlisten {
        instance: Name,
    },
    Dial {
        conn: ConnId,
        to: Dial,
    },
    /// Applies to an open connection (accepted ones before the first octet is sent).
    SetTtl {
        conn: ConnId,
        ttl: TtlOption,
    },
    Send {
        conn: ConnId,
        bytes: Bytes,
    },
    Close {
        conn: ConnId,
        how: Close,
    },
    Tell(Event),
}

/// A TCP-MD5 key of a listener, scoped to the sources it is for (TCP_MD5SIG_EXT).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenKey {
    pub from: Prefix,
    pub key: Secret,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dial {
    pub remote: SocketAddr,
    pub local: Option<IpAddr>,
    pub interface: Option<Name>,
    pub md5: Option<Secret>,
    pub ttl: TtlOption,
    /// Give up after this.
    pub timeout: Duration,
}

/// IP_TTL/IPV6_UNICAST_HOPS and IP_MINTTL/IPV6_MINHOPCOUNT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TtlOption {
    /// `None`: the system's default.
    pub send: Option<u8>,
    /// `None`: any.
    pub minimum: Option<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// What was sent before goes out first, within a short limit.
    Flush,
    /// At once.
    Abort,
}

/// Whether a speaker begins from nothing or after a restart of its process whose routes the peers may
/// still hold (RFC 4724 4.1: the R bit, and F where the kernel kept forwarding).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    Cold,
    Restarted,
}
