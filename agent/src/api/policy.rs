//! Route policies as the API shows them: in Cilium's form, and in ours with what that form has no place for.

use bgp_speaker::policy::PrefixMatch;

use super::bgp;
use super::model::{BgpFamily, BgpRoutePolicy, BgpRoutePolicyPrefixMatch, BgpRoutePolicyStatement};
use super::view;
use crate::plan::{PolicyKind, RoutePolicy};

/// Cilium's form.
#[must_use]
pub fn policy(policy: &RoutePolicy) -> BgpRoutePolicy {
    BgpRoutePolicy {
        name: policy.name.clone(),
        router_asn: i64::from(policy.router_asn),
        statements: policy
            .statements
            .iter()
            .map(|statement| BgpRoutePolicyStatement {
                add_communities: statement.add_communities.clone(),
                add_large_communities: statement.add_large_communities.clone(),
                match_families: statement
                    .match_families
                    .iter()
                    .map(|family| {
                        let (afi, safi) = bgp::words(*family);
                        BgpFamily { afi, safi }
                    })
                    .collect(),
                match_neighbors: statement.match_neighbors.clone(),
                match_prefixes: statement
                    .match_prefixes
                    .iter()
                    .map(|m| BgpRoutePolicyPrefixMatch {
                        cidr: m.prefix.to_string(),
                        prefix_len_max: i64::from(m.max),
                        prefix_len_min: i64::from(m.min),
                    })
                    .collect(),
                nexthop: None,
                route_action: "accept".to_owned(),
                set_local_preference: statement.set_local_preference.map_or(-1, i64::from),
            })
            .collect(),
        r#type: policy_type(policy.kind).to_owned(),
    }
}

/// Our form.
#[must_use]
pub fn own_policy(policy: &RoutePolicy) -> view::Policy {
    let statements = policy.statements.iter().map(|statement| view::PolicyStatement {
        peers: statement.match_neighbors.clone(),
        prefixes: statement.match_prefixes.iter().map(lengths).collect(),
        communities: statement.add_communities.clone(),
        large_communities: statement.add_large_communities.clone(),
        extended_communities: statement.add_extended_communities.clone(),
        local_preference: statement.set_local_preference,
        med: statement.set_med,
        as_path_prepend: statement.as_path_prepend,
    });
    view::Policy {
        router_asn: policy.router_asn,
        name: policy.name.clone(),
        r#type: policy_type(policy.kind).to_owned(),
        statements: statements.collect(),
    }
}

fn policy_type(kind: PolicyKind) -> &'static str {
    match kind {
        PolicyKind::Export => "export",
        PolicyKind::Import => "import",
    }
}

/// A prefix and the lengths inside it, in the words of router configurations.
fn lengths(wanted: &PrefixMatch) -> String {
    let PrefixMatch { prefix, min, max } = *wanted;
    let mut text = prefix.to_string();
    if min > prefix.len() {
        text.push_str(&format!(" ge {min}"));
    }
    if max > prefix.len() {
        text.push_str(&format!(" le {max}"));
    }
    text
}
