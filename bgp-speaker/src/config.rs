//! What a speaker is asked to be. A whole new wish replaces the old one; the speaker finds the difference
//! (`change` says what each difference costs).

pub mod change;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::policy::{ExportPolicy, ImportPolicy};
use crate::types::{Asn, Family, HoldTime, Name, Prefix, RouterId, Secret};
use crate::wire::attrs::Attrs;

/// Every instance of this node. Instances share nothing: each has its own RIB.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SpeakerConfig {
    pub instances: BTreeMap<Name, InstanceConfig>,
}

/// One BGP instance: an ASN, a router ID, a RIB.
#[derive(Debug, Clone, PartialEq)]
pub struct InstanceConfig {
    pub asn: Asn,
    pub router_id: RouterId,
    /// TCP port to listen on, both families. `None`: only dial.
    pub listen: Option<u16>,
    pub peers: BTreeMap<Name, PeerConfig>,
    /// Routes this node originates. The speaker diffs them against what it originated before.
    pub routes: Arc<BTreeMap<Prefix, LocalRoute>>,
    /// How many equal paths of a prefix the Loc-RIB marks as used (multipath); 1 = only the best.
    pub maximum_paths: u16,
}

/// A route originated here. Per-peer attributes come from export policy; these are the common ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalRoute {
    /// `next_hop` unspecified (0.0.0.0 or ::) = the session's local address on export.
    pub attrs: Arc<Attrs>,
}

/// Whom a peer entry stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerAddress {
    One(IpAddr),
    /// Dynamic neighbours: any source inside the prefix, at most `limit` at once. Never dialled.
    Prefix {
        prefix: Prefix,
        limit: u32,
    },
}

/// The ASN a peer must show in its OPEN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoteAsn {
    /// Whatever the OPEN carries (never 0).
    Any,
    Is(Asn),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connect {
    /// Dial, and accept if the instance listens.
    ActiveAndPassive,
    /// Never dial.
    Passive,
}

/// Authentication of the TCP connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    None,
    /// TCP-MD5 (RFC 2385).
    Md5(Secret),
    /// A key is wished for but can't be had: the session stays down and says `reason`. It never runs
    /// without the key.
    Missing {
        reason: Name,
    },
}

/// TTL of the packets sent, and what is required of those received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ttl {
    /// eBGP: sent with TTL 1. iBGP: the system's default.
    Direct,
    /// eBGP multihop: sent with this TTL.
    Multihop(u8),
    /// GTSM (RFC 5082): sent with 255, accepted from 255 - hops + 1 up. `hops` = 1 is the direct neighbour.
    Security { hops: u8 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timers {
    pub connect_retry: Duration,
    pub hold: HoldTime,
    /// Wished interval; the effective one is at most a third of the negotiated hold time.
    pub keepalive: Duration,
    /// First delay in Idle after a failure; doubles up to [`Timers::IDLE_HOLD_MAX`], with jitter.
    pub idle_hold: Duration,
}

impl Timers {
    pub const IDLE_HOLD_MAX: Duration = Duration::from_secs(60);
}

impl Default for Timers {
    /// 120 s, 90 s, 30 s; idle hold 1 s.
    fn default() -> Self {
        Self {
            connect_retry: Duration::from_secs(120),
            hold: HoldTime::new(90).unwrap_or_else(|_| unreachable!("90 is acceptable")),
            keepalive: Duration::from_secs(30),
            idle_hold: Duration::from_secs(1),
        }
    }
}

/// Graceful restart as this side offers it (RFC 4724, RFC 8538).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GracefulRestart {
    /// Seconds, 1..=4095: how long the peer should keep our routes.
    pub restart_time: u16,
}

/// What happens above the limit of prefixes accepted from a peer, per family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxPrefixes {
    pub limit: u32,
    /// Percent of the limit at which an event warns.
    pub warning_percent: u8,
    pub action: MaxPrefixesAction,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxPrefixesAction {
    /// Only the event.
    Warn,
    /// Keep the session, refuse the prefixes above the limit.
    Refuse,
    /// Cease / Maximum Number of Prefixes Reached (RFC 4486), retried after `restart` (`None`: only when
    /// an operator or a change of the limit says so).
    Teardown { restart: Option<Duration> },
}

/// One negotiated family of a peer. By default no route goes out and none comes in.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FamilyConfig {
    /// Default deny: what no statement accepts is not announced (RFC 8212).
    pub export: Arc<ExportPolicy>,
    /// Default deny: what no statement accepts stays in the Adj-RIB-In, marked as refused.
    pub import: Arc<ImportPolicy>,
    pub max_prefixes: Option<MaxPrefixes>,
}

/// One peer of an instance.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerConfig {
    pub address: PeerAddress,
    /// TCP port dialled.
    pub port: u16,
    pub remote_asn: RemoteAsn,
    /// Source address of dialled connections; accepted ones must arrive there.
    pub local_address: Option<IpAddr>,
    /// SO_BINDTODEVICE.
    pub interface: Option<Name>,
    pub connect: Connect,
    pub auth: Auth,
    pub ttl: Ttl,
    pub timers: Timers,
    pub graceful_restart: Option<GracefulRestart>,
    /// In the order the OPEN lists them.
    pub families: Vec<(Family, FamilyConfig)>,
    /// Administratively down, with the reason shown (RFC 8203 shutdown communication).
    pub shutdown: Option<Name>,
    /// Route reflection client (RFC 4456), iBGP only.
    pub reflector_client: ReflectorClient,
}

impl PeerConfig {
    /// A peer with nothing asked for: port 179, dialled and accepted, no key, usual timers, no family. Take the
    /// rest from it: `PeerConfig { ttl, families, ..PeerConfig::new(address, asn) }`.
    #[must_use]
    pub fn new(address: PeerAddress, remote_asn: RemoteAsn) -> Self {
        Self {
            address,
            port: 179,
            remote_asn,
            local_address: None,
            interface: None,
            connect: Connect::ActiveAndPassive,
            auth: Auth::None,
            ttl: Ttl::Direct,
            timers: Timers::default(),
            graceful_restart: None,
            families: Vec::new(),
            shutdown: None,
            reflector_client: ReflectorClient::No,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReflectorClient {
    No,
    Yes,
}
