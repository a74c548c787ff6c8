//! The path attributes of a route, decoded. The codec table is in `attr`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::Bytes;

use crate::types::Asn;

/// ORIGIN (RFC 4271 5.1.1), lowest preferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    Igp,
    Egp,
    Incomplete,
}

/// One segment of AS_PATH (RFC 4271 4.3, RFC 5065 for confederations). ASNs may be 0 only in what a peer
/// sent, and such a path is malformed (RFC 7607), so [`Asn`] it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AsSegment {
    Sequence(Vec<Asn>),
    Set(Vec<Asn>),
    ConfedSequence(Vec<Asn>),
    ConfedSet(Vec<Asn>),
}

/// AS_PATH, with AS4_PATH already merged in (RFC 6793 4.2.3).
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AsPath(pub Vec<AsSegment>);

/// The next hop of a route, from NEXT_HOP or MP_REACH_NLRI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NextHop {
    Ip(IpAddr),
    /// Global and link-local address of one IPv6 router (RFC 2545 3).
    V6WithLinkLocal(Ipv6Addr, Ipv6Addr),
}

/// AGGREGATOR, with AS4_AGGREGATOR merged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Aggregator {
    pub asn: Asn,
    pub address: Ipv4Addr,
}

/// A large community (RFC 8092): global administrator and two local parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LargeCommunity(pub u32, pub u32, pub u32);

/// An extended community (RFC 4360) as its eight octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExtCommunity(pub [u8; 8]);

/// An optional transitive attribute this speaker does not know: passed on with Partial set (RFC 4271 5).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnknownAttr {
    pub flags: u8,
    pub code: u8,
    pub value: Bytes,
}

/// Everything a route carries beside its prefix. Equal values are one entry in the RIB's intern table, so
/// `Eq` and `Hash` are over the whole.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attrs {
    pub origin: Origin,
    pub as_path: AsPath,
    pub next_hop: NextHop,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// LOCAL_PREF; only ever present on internal sessions.
    pub local_pref: Option<u32>,
    pub atomic_aggregate: bool,
    pub aggregator: Option<Aggregator>,
    /// Standard communities (RFC 1997), in the order they were given.
    pub communities: Vec<u32>,
    pub ext_communities: Vec<ExtCommunity>,
    pub large_communities: Vec<LargeCommunity>,
    /// ORIGINATOR_ID (RFC 4456 8).
    pub originator_id: Option<Ipv4Addr>,
    /// CLUSTER_LIST (RFC 4456 8).
    pub cluster_list: Vec<Ipv4Addr>,
    pub unknown: Vec<UnknownAttr>,
}
