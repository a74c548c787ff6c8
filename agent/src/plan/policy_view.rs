//! Route policies under the names Cilium gives them, for `bgp route-policies`. The speaker does not run on these:
//! it gets one merged policy per peer and family. They are kept compact and spelled out only when asked for.

use std::net::IpAddr;
use std::sync::Arc;

use bgp_speaker::policy::PrefixMatch;
use bgp_speaker::types::{Family, Name, Prefix};

use super::attributes::RouteAttributes;
use super::desired::AddressKind;
use crate::shared_map::SharedMap;
use crate::world::ServiceRef;

/// The policies of every instance.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Policies {
    pub(crate) instances: Vec<InstancePolicies>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct InstancePolicies {
    pub(crate) name: Name,
    pub(crate) asn: u32,
    pub(crate) peers: Vec<PeerPolicies>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PeerPolicies {
    pub(crate) peer: Name,
    pub(crate) neighbor: Neighbor,
    pub(crate) families: Vec<(Family, Arc<FamilyPolicies>)>,
}

/// Whom a policy is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Neighbor {
    One(IpAddr),
    Any(Prefix),
}

/// The policies of a family, the same for every peer that selects the same advertisements.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct FamilyPolicies(pub(crate) SharedMap<Subject, Vec<PolicyStatement>>);

/// What a policy is about: the second half of its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    PodCidr,
    PodIpPool(Arc<str>),
    Service(ServiceRef, AddressKind),
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PolicyStatement {
    pub(crate) prefixes: Vec<PrefixMatch>,
    pub(crate) attributes: Arc<RouteAttributes>,
}

/// A policy as the API shows it (spec 7.1 `BgpRoutePolicy`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutePolicy {
    pub router_asn: u32,
    pub name: String,
    pub kind: PolicyKind,
    pub statements: Vec<RouteStatement>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyKind {
    Export,
    Import,
}

/// A statement as the API shows it. Every statement here accepts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteStatement {
    pub match_neighbors: Vec<String>,
    pub match_families: Vec<Family>,
    pub match_prefixes: Vec<PrefixMatch>,
    pub add_communities: Vec<String>,
    pub add_large_communities: Vec<String>,
    pub set_local_preference: Option<u32>,
    /// Ours: shown under `/v1/stentor/` only.
    pub set_med: Option<u32>,
    /// Ours.
    pub as_path_prepend: Option<u8>,
    /// Ours.
    pub add_extended_communities: Vec<String>,
}

impl Policies {
    /// Every policy of the instances with this ASN (of all, for `None`), by ASN and name.
    #[must_use]
    pub fn view(&self, asn: Option<u32>) -> Vec<RoutePolicy> {
        let mut view: Vec<RoutePolicy> = self
            .instances
            .iter()
            .filter(|instance| asn.is_none_or(|asn| instance.asn == asn))
            .flat_map(view_instance)
            .collect();
        view.sort_by(|a, b| (a.router_asn, &a.name).cmp(&(b.router_asn, &b.name)));
        view
    }

    /// ASNs of the instances, to tell an unknown one from one without policies.
    pub fn asns(&self) -> impl Iterator<Item = u32> {
        self.instances.iter().map(|instance| instance.asn)
    }
}

fn view_instance(instance: &InstancePolicies) -> Vec<RoutePolicy> {
    // What every instance does on import: its own routes are in, everything received is refused.
    let mut view = vec![RoutePolicy {
        router_asn: instance.asn,
        name: "allow-local".to_owned(),
        kind: PolicyKind::Import,
        statements: vec![RouteStatement::default()],
    }];
    for peer in &instance.peers {
        for (family, policies) in &peer.families {
            for (subject, statements) in policies.0.iter() {
                view.push(RoutePolicy {
                    router_asn: instance.asn,
                    name: name(&peer.peer, *family, subject),
                    kind: PolicyKind::Export,
                    statements: statements
                        .iter()
                        .map(|s| view_statement(s, peer.neighbor))
                        .collect(),
                });
            }
        }
    }
    view
}

fn name(peer: &str, family: Family, subject: &Subject) -> String {
    let afi = if family == Family::IPV4_UNICAST {
        "ipv4"
    } else {
        "ipv6"
    };
    match subject {
        Subject::PodCidr => format!("{peer}-{afi}-PodCIDR"),
        Subject::PodIpPool(pool) => format!("{peer}-{afi}-CiliumPodIPPool-{pool}"),
        Subject::Service(service, kind) => {
            let ServiceRef { namespace, name } = service;
            format!("{peer}-{afi}-Service-{name}-{namespace}-{}", kind.as_str())
        }
    }
}

fn view_statement(statement: &PolicyStatement, neighbor: Neighbor) -> RouteStatement {
    let PolicyStatement { prefixes, attributes } = statement;
    RouteStatement {
        match_neighbors: vec![match neighbor {
            Neighbor::One(address) => address.to_string(),
            Neighbor::Any(prefix) => prefix.to_string(),
        }],
        match_families: Vec::new(),
        match_prefixes: prefixes.clone(),
        add_communities: attributes
            .communities
            .iter()
            .map(|c| c.text.to_string())
            .collect(),
        add_large_communities: attributes.large.iter().map(|c| c.text.to_string()).collect(),
        set_local_preference: attributes.local_pref,
        set_med: attributes.med,
        as_path_prepend: attributes.prepend,
        add_extended_communities: attributes.extended.iter().map(|c| c.text.to_string()).collect(),
    }
}
