//! The top machine: every instance and peer of a node. See [`Speaker`].

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::config::{SpeakerConfig, Ttl};
use crate::types::{Asn, Family, Name, Prefix, RouterId, Secret};

/// A TCP connection. The speaker numbers those it dials, the shell those it accepts: they can't collide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConnId {
    Dialled(u64),
    Accepted(u64),
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

/// What happened, for people and for the status: rendered by the agent.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    State {
        instance: Name,
        peer: Name,
        address: IpAddr,
        from: StateName,
        to: StateName,
        why: Option<Arc<DownReason>>,
    },
    EndOfRib {
        instance: Name,
        peer: Name,
        address: IpAddr,
        family: Family,
    },
    MaxPrefixes {
        instance: Name,
        peer: Name,
        address: IpAddr,
        family: Family,
        count: u32,
        limit: u32,
        what: LimitEvent,
    },
    /// A malformed attribute was answered as RFC 7606 says (rate-limited by the speaker).
    Malformed {
        instance: Name,
        peer: Name,
        address: IpAddr,
        what: Arc<str>,
    },
    /// A connection was refused before it was a session: unknown source, limit of dynamic peers, ...
    Refused {
        instance: Name,
        remote: SocketAddr,
        why: Refusal,
    },
    ListenFailed {
        instance: Name,
        port: u16,
        error: Arc<str>,
    },
    /// Adj-RIB-Out or counters of a peer changed: status may want a new look. Coalesced.
    Changed { instance: Name },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitEvent {
    Warning,
    Refusing,
    TornDown,
}

/// Why a connection was turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("no peer is configured for this address")]
    UnknownPeer,
    #[error("the limit of dynamic peers is reached")]
    DynamicLimit,
    #[error("the peer has a session already")]
    Duplicate,
    #[error("the peer is not ready: it is held in Idle")]
    Idle,
    #[error("the connection came to another local address than the configured one")]
    WrongLocalAddress,
}

/// RFC 4271 8.2.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StateName {
    Idle,
    Connect,
    Active,
    OpenSent,
    OpenConfirm,
    Established,
}

/// Why a session is not, or no longer, established. `Display` is the sentence a person reads, `name` the
/// stable word for metrics and JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DownReason {
    #[error("not configured any more")]
    Deconfigured,
    #[error("shut down by configuration: {0}")]
    Shutdown(Name),
    #[error("reset by an operator: {0}")]
    OperatorReset(Arc<str>),
    #[error("configuration changed: {0}")]
    ConfigurationChanged(Arc<str>),
    #[error("the password can not be had: {0}")]
    MissingSecret(Name),
    #[error("connection failed: {0}")]
    ConnectFailed(Arc<str>),
    #[error("connection closed by the peer{}", .0.as_ref().map(|e| format!(": {e}")).unwrap_or_default())]
    ConnectionClosed(Option<Arc<str>>),
    #[error("hold timer expired: nothing was heard for {0} s")]
    HoldTimerExpired(u16),
    #[error("send hold timer expired: the peer took nothing for {0} s (RFC 9687)")]
    SendHoldTimerExpired(u16),
    #[error("interface {0} went down")]
    LinkDown(Name),
    #[error("too many prefixes in {family}: {count}, limit {limit}")]
    MaxPrefixes { family: Family, count: u32, limit: u32 },
    #[error("the peer's AS is {got}, {expected} was configured: are local and remote AS swapped?")]
    BadPeerAs { expected: Asn, got: u32 },
    #[error("sent NOTIFICATION {code}/{subcode} {text}")]
    NotificationSent { code: u8, subcode: u8, text: Arc<str> },
    #[error("received NOTIFICATION {code}/{subcode} {text}")]
    NotificationReceived { code: u8, subcode: u8, text: Arc<str> },
    #[error("lost the collision with the other connection")]
    Collision,
    #[error("this node is stopping")]
    Stopping,
}

/// A peer, as the API shows it. One per configured peer, one per live dynamic neighbour.
#[derive(Debug, Clone)]
pub struct PeerStatus {
    pub instance: Name,
    pub name: Name,
    pub local_asn: Asn,
    /// Configured, or learned where `Any` was configured (`None` until then).
    pub remote_asn: Option<Asn>,
    pub remote_router_id: Option<RouterId>,
    pub address: IpAddr,
    pub port: u16,
    pub local_address: Option<IpAddr>,
    pub state: StateName,
    /// Since when it is Established.
    pub established_since: Option<Instant>,
    pub times_established: u64,
    /// Why it is not established, or why it last went down.
    pub last_down: Option<(Instant, Arc<DownReason>)>,
    pub md5: bool,
    pub ttl: Ttl,
    /// Our offer: restart time in seconds.
    pub graceful_restart: Option<u16>,
    pub connect_retry: Duration,
    pub configured_hold: u16,
    pub applied_hold: Option<u16>,
    pub configured_keepalive: Duration,
    pub applied_keepalive: Option<Duration>,
    pub families: Vec<FamilyStatus>,
    /// Capability TLVs of the last OPENs (code, length, value).
    pub local_capabilities: Vec<Bytes>,
    pub remote_capabilities: Vec<Bytes>,
    pub messages_received: u64,
    pub messages_sent: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FamilyStatus {
    pub family: Family,
    /// Configured and also offered by the peer.
    pub negotiated: bool,
    pub received: u32,
    pub accepted: u32,
    pub advertised: u32,
    /// Routes kept from before the peer's restart.
    pub stale: u32,
    pub end_of_rib_received: bool,
    pub end_of_rib_sent: bool,
}

/// Which table a query reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    LocRib,
    AdjRibIn,
    /// After export policy: what the peer really gets.
    AdjRibOut,
}

/// One path of a prefix as a table holds it.
#[derive(Debug, Clone)]
pub struct PathView {
    pub instance: Name,
    pub local_asn: Asn,
    /// Name and address of the peer: the table's owner (adj-RIBs), or whom it was learned from (Loc-RIB).
    /// `None`: originated here.
    pub peer: Option<(Name, IpAddr)>,
    pub prefix: Prefix,
    pub attrs: Arc<crate::wire::attrs::Attrs>,
    pub since: Instant,
    pub best: bool,
    pub stale: bool,
    /// Why it is not best, or was refused (import policy, loop, max-prefix, unreachable next hop ...).
    pub reason: Option<Arc<str>>,
}

/// Whether a speaker begins from nothing or after a restart of its process whose routes the peers may
/// still hold (RFC 4724 4.1: the R bit, and F where the kernel kept forwarding).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    Cold,
    Restarted,
}
