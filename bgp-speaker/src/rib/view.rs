//! What queries and callers are told.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::PeerId;
use crate::types::{Family, Prefix};
use crate::wire::attrs::Attrs;

/// One path of a prefix as a table holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteView {
    pub prefix: Prefix,
    /// Whom it was learned from; `None`: originated here.
    pub source: Option<PeerId>,
    pub attrs: Arc<Attrs>,
    pub since: Instant,
    pub standing: Standing,
    pub stale: bool,
}

/// How a path fared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Best,
    /// Not best but as good up to the IGP cost, and within `maximum_paths`.
    Multipath,
    Lost(WhyNotBest),
    Refused(WhyRefused),
}

/// The step of the decision process (RFC 4271 9.1.2) at which a path lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WhyNotBest {
    NotLocal,
    LocalPref,
    AsPathLength,
    Origin,
    Med,
    External,
    IgpCost,
    ExistingExternal,
    RouterId,
    ClusterListLength,
    PeerAddress,
}

impl fmt::Display for WhyNotBest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotLocal => "another path originates here",
            Self::LocalPref => "lower local preference",
            Self::AsPathLength => "longer AS path",
            Self::Origin => "higher origin",
            Self::Med => "higher MED from the same AS",
            Self::External => "internal, another path is external",
            Self::IgpCost => "higher IGP cost to the next hop",
            Self::ExistingExternal => "an equal external path was best before (RFC 5004)",
            Self::RouterId => "higher router ID",
            Self::ClusterListLength => "longer cluster list",
            Self::PeerAddress => "higher peer address",
        })
    }
}

/// Why a route stays in the Adj-RIB-In and is no candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WhyRefused {
    ImportPolicy,
    AsLoop,
    OriginatorLoop,
    ClusterLoop,
    NextHop,
    MaxPrefixes,
}

impl fmt::Display for WhyRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ImportPolicy => "refused by import policy",
            Self::AsLoop => "the AS path holds the local AS",
            Self::OriginatorLoop => "the originator ID is the local router ID",
            Self::ClusterLoop => "the cluster list holds the local cluster ID",
            Self::NextHop => "the next hop can not be used",
            Self::MaxPrefixes => "above the limit of prefixes",
        })
    }
}

/// Numbers of one peer and family, kept as they change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// In the Adj-RIB-In, before policy.
    pub received: u32,
    /// Of these, candidates for the Loc-RIB.
    pub accepted: u32,
    /// In the Adj-RIB-Out.
    pub advertised: u32,
    /// Of those received, kept from before a restart or not yet refreshed.
    pub stale: u32,
    /// Above the limit of prefixes, and not stored.
    pub dropped: u32,
    pub end_of_rib_sent: bool,
}

/// The limit of prefixes was touched (each verdict is given once, when it begins to hold).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitReached {
    pub family: Family,
    pub count: u32,
    pub limit: u32,
    pub verdict: LimitVerdict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitVerdict {
    Warn,
    /// Prefixes above the limit are refused.
    Refuse,
    /// Cease / Maximum Number of Prefixes Reached; try again after `restart`.
    Teardown {
        restart: Option<Duration>,
    },
}

/// What an UPDATE did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Received {
    pub announced: u32,
    pub withdrawn: u32,
    pub limits: Vec<LimitReached>,
}

/// What [`Rib::pull`](super::Rib::pull) gave.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pulled {
    pub bytes: usize,
    pub messages: u64,
}
