//! What a speaker tells: state changes and their reasons.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::types::{Asn, Family, Name};

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
    #[error("too many connections from this address opened no session")]
    HalfOpen,
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

/// Why a session is not, or no longer, established. `Display` is the sentence a person reads.
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
