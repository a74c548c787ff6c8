//! Paths as `/v1/stentor/bgp/routes` and the table of `stentor bgp routes` show them.

use std::time::Instant;

use bgp_speaker::speaker::PathView;
use bgp_speaker::wire::attrs::{AsPath, AsSegment, NextHop, Origin};

use super::view::Route;
use crate::render::attrs as text;

/// One path.
#[must_use]
pub fn route(path: &PathView, now: Instant) -> Route {
    let attrs = &path.attrs;
    Route {
        instance: path.instance.to_string(),
        prefix: path.prefix.to_string(),
        peer: path.peer.as_ref().map(|(name, _)| name.to_string()),
        peer_address: path.peer.as_ref().map(|(_, address)| address.to_string()),
        next_hop: next_hop(&attrs.next_hop),
        age_seconds: now.saturating_duration_since(path.since).as_secs(),
        best: path.best,
        stale: path.stale,
        origin: origin(attrs.origin).to_owned(),
        as_path: as_path(&attrs.as_path),
        med: attrs.med,
        local_preference: attrs.local_pref,
        communities: attrs.communities.iter().map(|c| text::community(*c)).collect(),
        large_communities: attrs
            .large_communities
            .iter()
            .map(|c| format!("{}:{}:{}", c.0, c.1, c.2))
            .collect(),
        extended_communities: attrs
            .ext_communities
            .iter()
            .map(|c| text::ext_community(c.0))
            .collect(),
        reason: path.reason.as_ref().map(|reason| reason.to_string()),
    }
}

/// Global address; the link-local one beside it is not shown.
#[must_use]
pub fn next_hop(hop: &NextHop) -> String {
    match hop {
        NextHop::Ip(address) => address.to_string(),
        NextHop::V6WithLinkLocal(global, _) => global.to_string(),
    }
}

#[must_use]
pub fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Igp => "igp",
        Origin::Egp => "egp",
        Origin::Incomplete => "incomplete",
    }
}

/// `65001 65002 {1,2}`.
#[must_use]
pub fn as_path(path: &AsPath) -> String {
    let join = |asns: &[bgp_speaker::types::Asn], with: &str| {
        asns.iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(with)
    };
    let segments: Vec<String> = path
        .0
        .iter()
        .map(|segment| match segment {
            AsSegment::Sequence(asns) => join(asns, " "),
            AsSegment::Set(asns) => format!("{{{}}}", join(asns, ",")),
            AsSegment::ConfedSequence(asns) => format!("({})", join(asns, " ")),
            AsSegment::ConfedSet(asns) => format!("[{}]", join(asns, ",")),
        })
        .collect();
    segments.join(" ")
}
