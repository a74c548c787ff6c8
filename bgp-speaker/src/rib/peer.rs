//! What the RIB must know of a peer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crate::config::{MaxPrefixes, ReflectorClient};
use crate::policy::{ExportPolicy, ImportPolicy};
use crate::types::{Asn, AsnWidth, Family, RouterId, SessionKind};

/// A peer of one RIB. The number is an index: give small ones, and use them again when a peer is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub u16);

/// What OPEN and the connection settled. A change of any of these takes a new session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerInfo {
    pub session: SessionKind,
    pub asn: Asn,
    pub router_id: RouterId,
    pub address: IpAddr,
    /// The session's local address: the next hop of what is announced with "self".
    pub local_address: IpAddr,
    /// An IPv4 address of the same interface, for IPv4 routes over an IPv6 session whose peer does not speak
    /// RFC 8950. Without one they are not sent.
    pub local_ipv4: Option<Ipv4Addr>,
    /// A global IPv6 address of the same interface, for IPv6 routes over an IPv4 session. Without one their
    /// next hop is the IPv4-mapped form of `local_address`.
    pub local_ipv6: Option<Ipv6Addr>,
    pub asn_width: AsnWidth,
    /// 4096, or 65535 (RFC 8654).
    pub max_message: usize,
    pub reflector_client: ReflectorClient,
    pub end_of_rib: EndOfRib,
    pub refresh: Refresh,
    /// The negotiated families.
    pub families: Vec<(Family, FamilyInfo)>,
}

/// End-of-RIB goes to peers that showed the graceful restart capability (RFC 4724 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndOfRib {
    Send,
    Omit,
}

/// How ROUTE-REFRESH is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refresh {
    /// RFC 2918: the routes again.
    Plain,
    /// RFC 7313: the routes again between BoRR and EoRR.
    Enhanced,
}

/// One negotiated family of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FamilyInfo {
    pub export: Arc<ExportPolicy>,
    pub import: Arc<ImportPolicy>,
    pub max_prefixes: Option<MaxPrefixes>,
    pub extended_next_hop: ExtendedNextHop,
}

/// RFC 8950, for IPv4 routes: whether an IPv6 next hop was agreed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExtendedNextHop {
    Agreed,
    No,
}

/// What becomes of a peer's routes when its session ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Down {
    /// They go.
    Flush,
    /// RFC 4724 4.2: those of these families stay, marked stale, until replaced or swept; the others go.
    KeepStale(Vec<Family>),
}
