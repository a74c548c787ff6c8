//! What queries give: peers and routes.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::config::Ttl;
use crate::speaker::{DownReason, StateName};
use crate::types::{Asn, Family, Name, Prefix, RouterId};

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
