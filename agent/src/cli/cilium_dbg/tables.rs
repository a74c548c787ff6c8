//! The tables of `cilium-dbg bgp ...`, byte for byte.

use std::fmt::Write as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::api::model::{BgpFamily, BgpPath, BgpPeer, BgpRoute, BgpRoutePolicy, BgpRoutePolicyStatement};
use crate::render::{attrs, capabilities, duration, tabwriter};

const MIN_WIDTH: usize = 5;
const PADDING: usize = 3;

/// Whether routes carry the column of the peer they are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerColumn {
    Shown,
    Hidden,
}

/// `bgp peers`.
#[must_use]
pub fn peers(peers: &[BgpPeer]) -> String {
    let mut sorted: Vec<&BgpPeer> = peers.iter().collect();
    sorted.sort_by(|a, b| (a.local_asn, &a.peer_address).cmp(&(b.local_asn, &b.peer_address)));
    let mut text =
        String::from("Local AS\tPeer AS\tPeer Address\tSession\tUptime\tFamily\tReceived\tAdvertised\n");
    for peer in sorted {
        let uptime = nanoseconds(peer.uptime_nanoseconds);
        let _ = write!(
            text,
            "{}\t{}\t{}:{}\t{}\t{}\t",
            peer.local_asn, peer.peer_asn, peer.peer_address, peer.peer_port, peer.session_state, uptime
        );
        for (n, family) in peer.families.iter().enumerate() {
            if n > 0 {
                text.push_str("\t\t\t\t\t");
            }
            let _ = writeln!(
                text,
                "{}/{}\t{}\t{}",
                family.afi, family.safi, family.received, family.advertised
            );
        }
        // The imitated tool leaves this line open and so prints the next peer on it: that is no table.
        if peer.families.is_empty() {
            text.push('\n');
        }
    }
    tabwriter::align(&text, MIN_WIDTH, PADDING)
}

/// `bgp peers --capabilities`, and one line for standard error per capability that can't be read.
#[must_use]
pub fn peer_capabilities(peers: &[BgpPeer]) -> (String, Vec<String>) {
    if peers.is_empty() {
        return ("No BGP peer sessions found on this node\n".to_owned(), Vec::new());
    }
    let mut text = String::new();
    let mut unreadable = Vec::new();
    for peer in peers {
        let octets = |list: &[crate::api::model::BgpCapability]| -> Vec<Vec<u8>> {
            list.iter()
                .map(|c| STANDARD.decode(&c.capabilities).unwrap_or_default())
                .collect()
        };
        let (lines, errors) = capabilities::text(
            &octets(&peer.local_capabilities),
            &octets(&peer.remote_capabilities),
        );
        let _ = writeln!(
            text,
            "BGP neighbor is {}, remote AS {}\nNeighbor capabilities:",
            peer.peer_address, peer.peer_asn
        );
        text.push_str(&lines);
        unreadable.extend(errors);
    }
    (tabwriter::align(&text, MIN_WIDTH, PADDING), unreadable)
}

/// `bgp routes`: one row a path.
#[must_use]
pub fn routes(routes: &[BgpRoute], peer_column: PeerColumn) -> String {
    let mut sorted: Vec<&BgpRoute> = routes.iter().collect();
    sorted
        .sort_by(|a, b| (a.router_asn, &a.neighbor, &a.prefix).cmp(&(b.router_asn, &b.neighbor, &b.prefix)));
    let mut text = String::from("VRouter\t");
    if peer_column == PeerColumn::Shown {
        text.push_str("Peer\t");
    }
    text.push_str("Prefix\tNextHop\tAge\tAttrs\n");
    for route in sorted {
        for path in &route.paths {
            let _ = write!(text, "{}\t", route.router_asn);
            if peer_column == PeerColumn::Shown {
                let _ = write!(text, "{}\t", route.neighbor);
            }
            let (next_hop, list) = attributes(path);
            let age = nanoseconds(path.age_nanoseconds);
            let _ = writeln!(text, "{}\t{next_hop}\t{age}\t{list}", route.prefix);
        }
    }
    tabwriter::align(&text, MIN_WIDTH, PADDING)
}

/// `bgp route-policies`.
#[must_use]
pub fn route_policies(policies: &[BgpRoutePolicy]) -> String {
    let mut sorted: Vec<&BgpRoutePolicy> = policies.iter().collect();
    sorted.sort_by(|a, b| (a.router_asn, &a.name).cmp(&(b.router_asn, &b.name)));
    let mut text = String::from(
        "VRouter\tPolicy Name\tType\tMatch Peers\tMatch Families\tMatch Prefixes (Min..Max Len)\tRIB Action\tPath Actions\n",
    );
    for policy in sorted {
        let _ = write!(
            text,
            "{}\t{}\t{}\t",
            policy.router_asn, policy.name, policy.r#type
        );
        for (n, statement) in policy.statements.iter().enumerate() {
            if n > 0 {
                text.push_str("\t\t\t");
            }
            let _ = writeln!(
                text,
                "{}\t{}\t{}\t{}\t{}",
                braced(&statement.match_neighbors),
                braced(&statement.match_families.iter().map(family).collect::<Vec<_>>()),
                braced(&prefixes(statement)),
                statement.route_action,
                braced(&path_actions(statement))
            );
        }
        if policy.statements.is_empty() {
            text.push('\n');
        }
    }
    tabwriter::align(&text, MIN_WIDTH, PADDING)
}

/// Next hop and attribute list of a path.
#[must_use]
pub fn attributes(path: &BgpPath) -> (String, String) {
    let octets: Vec<Vec<u8>> = path
        .path_attributes
        .iter()
        .map(|a| STANDARD.decode(&a.base64).unwrap_or_default())
        .collect();
    let list = || octets.iter().map(Vec::as_slice);
    (attrs::next_hop(list()).to_string(), attrs::list(list()))
}

/// Nothing, the one, or `{a} {b}`.
fn braced(list: &[String]) -> String {
    match list {
        [] => String::new(),
        [one] => one.clone(),
        several => several
            .iter()
            .map(|one| format!("{{{one}}}"))
            .collect::<Vec<_>>()
            .join(" "),
    }
}

fn family(family: &BgpFamily) -> String {
    format!("{}/{}", family.afi, family.safi)
}

fn prefixes(statement: &BgpRoutePolicyStatement) -> Vec<String> {
    statement
        .match_prefixes
        .iter()
        .map(|p| format!("{} ({}..{})", p.cidr, p.prefix_len_min, p.prefix_len_max))
        .collect()
}

fn path_actions(statement: &BgpRoutePolicyStatement) -> Vec<String> {
    let mut out = Vec::new();
    if statement.set_local_preference >= 0 {
        out.push(format!("SetLocalPreference: {}", statement.set_local_preference));
    }
    if !statement.add_communities.is_empty() {
        out.push(format!(
            "AddCommunities: [{}]",
            statement.add_communities.join(" ")
        ));
    }
    if !statement.add_large_communities.is_empty() {
        out.push(format!(
            "AddLargeCommunities: [{}]",
            statement.add_large_communities.join(" ")
        ));
    }
    out
}

fn nanoseconds(nanoseconds: i64) -> String {
    duration::go(Duration::from_nanos(nanoseconds.unsigned_abs()))
}

#[cfg(test)]
#[path = "tables_tests.rs"]
mod tests;
