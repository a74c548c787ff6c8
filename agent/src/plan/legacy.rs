//! The legacy `CiliumBGPPeeringPolicy` (v2alpha1, Cilium up to 1.18), brought into the shape of the newer kinds.
//!
//! A virtual router becomes an instance named after its ASN, a neighbour a peer named after its address. What the
//! router exports goes to each of its neighbours. `advertisedPathAttributes` only add attributes: those for
//! `PodCIDR` to every pod prefix, those for the two kinds of pool to the prefixes of the pools they select.
//! Router ID and port may come from the node's annotation `cilium.io/bgp-virtual-router.<asn>`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use crds::Severity;
use crds::bgp::cluster_config::Whereabouts;
use crds::bgp::peering_policy::{self, CiliumBGPPeeringPolicy, SelectorType, VirtualRouter};

use super::advertise::{Entry, What, Which, address_kind};
use super::attributes::RouteAttributes;
use super::node::NodeFacts;
use super::node_config::{Instance, Peer, Place, Settings, senior};
use super::router_id::{self, NoRouterId};
use super::vips;
use crate::problem::Problem;
use crate::world::{Objects, Stored, World};

/// A neighbour and the router it belongs to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Neighbor<'a> {
    pub(crate) policy: &'a str,
    pub(crate) router: &'a VirtualRouter,
    pub(crate) neighbor: &'a peering_policy::Neighbor,
}

/// The policy that has this node; others that select it are named in problems.
pub(crate) fn policy_for<'a>(
    objects: &'a Objects,
    me: &NodeFacts<'_>,
    problems: &mut Vec<Problem>,
) -> Option<Stored<'a, CiliumBGPPeeringPolicy>> {
    let policies = objects.peering_policies();
    senior(
        policies,
        |policy| policy.spec.node_selector.as_ref(),
        me,
        problems,
    )
}

/// Its virtual routers as instances.
pub(crate) fn instances<'a>(
    policy: Stored<'a, CiliumBGPPeeringPolicy>,
    world: &'a World,
    me: &NodeFacts<'_>,
    problems: &mut Vec<Problem>,
) -> Vec<Instance<'a>> {
    let routers = policy.object.spec.virtual_routers.iter().enumerate();
    routers
        .map(|(at, router)| {
            let annotation = annotation(world, me.name, router.local_asn, problems);
            let peers = router.neighbors.iter().enumerate().map(|(peer_at, neighbor)| {
                let address = neighbor.peer_address.split('/').next().unwrap_or_default();
                Peer {
                    name: address.to_owned(),
                    whereabouts: Cow::Owned(Whereabouts {
                        peer_address: Some(address.to_owned()),
                        ..Whereabouts::default()
                    }),
                    asn: Some(neighbor.peer_asn),
                    local_address: None,
                    settings: Settings::Legacy(Neighbor {
                        policy: policy.name(),
                        router,
                        neighbor,
                    }),
                    place: Place {
                        parsed: policy.parsed,
                        field: format!("spec.virtualRouters[{at}].neighbors[{peer_at}]"),
                    },
                }
            });
            Instance {
                name: router.local_asn.to_string(),
                local_asn: Some(router.local_asn),
                router_id: match annotation.router_id {
                    Some(id) => bgp_speaker::types::RouterId::new(id).map_err(|_| NoRouterId::Zero),
                    None => router_id::of_node(me.name, me.ipv4, world.observed.cilium_host_mac),
                },
                local_port: annotation.local_port,
                multipath: None,
                peers: peers.collect(),
                place: Place {
                    parsed: policy.parsed,
                    field: format!("spec.virtualRouters[{at}]"),
                },
            }
        })
        .collect()
}

/// What a router exports to one of its neighbours.
pub(crate) fn entries(neighbor: Neighbor<'_>, objects: &Objects) -> Vec<Entry> {
    let Neighbor {
        policy,
        router,
        neighbor,
    } = neighbor;
    let rules = |kind: SelectorType| {
        neighbor
            .advertised_path_attributes
            .iter()
            .filter(move |r| r.selector_type == kind)
    };
    let entry = |what, attributes, also| Entry {
        source: policy.into(),
        labels: BTreeMap::new(),
        what,
        attributes: Arc::new(attributes),
        also,
    };
    let mut entries = Vec::new();
    if router.export_pod_cidr == Some(true) {
        let all = rules(SelectorType::PodCidr).fold(RouteAttributes::default(), |all, rule| {
            all.join(&attributes(rule))
        });
        entries.push(entry(What::PodCidr, all, Vec::new()));
    }
    if let Some(selector) = &router.pod_ip_pool_selector {
        let also = rules(SelectorType::PodIpPool)
            .map(|rule| (Which::PodPools(rule.selector.clone()), attributes(rule)))
            .collect();
        entries.push(entry(
            What::PodIpPool(Some(selector.clone())),
            RouteAttributes::default(),
            also,
        ));
    }
    if let Some(selector) = &router.service_selector {
        let also = rules(SelectorType::LoadBalancerIpPool)
            .map(|rule| {
                let pools = objects
                    .lb_pools()
                    .filter(|pool| !pool.object.spec.disabled)
                    .filter(|pool| rule.selector.as_ref().is_none_or(|s| s.matches(pool.labels())));
                let ranges = pools.flat_map(|pool| vips::ranges(&pool.object.spec)).collect();
                (Which::Addresses(ranges), attributes(rule))
            })
            .collect();
        let what = What::Service {
            selector: Some(selector.clone()),
            kinds: router
                .service_advertisements
                .iter()
                .map(|kind| address_kind(*kind))
                .collect(),
            aggregate_v4: None,
            aggregate_v6: None,
        };
        entries.push(entry(what, RouteAttributes::default(), also));
    }
    entries
}

fn attributes(rule: &peering_policy::PathAttributes) -> RouteAttributes {
    let communities = rule.communities.as_ref().map(RouteAttributes::of_communities);
    RouteAttributes {
        local_pref: rule.local_preference,
        ..communities.unwrap_or_default()
    }
}

#[derive(Debug, Default)]
struct Annotation {
    router_id: Option<std::net::Ipv4Addr>,
    local_port: Option<u16>,
}

/// `router-id=<ip>,local-port=<n>`; the last of a kind wins.
fn annotation(world: &World, node: &str, asn: u32, problems: &mut Vec<Problem>) -> Annotation {
    let key = format!("cilium.io/bgp-virtual-router.{asn}");
    let of = |parsed: &'_ Arc<crds::Parsed>| {
        let metadata = parsed.object.metadata();
        let annotations = metadata.annotations.as_ref();
        annotations.and_then(|a| a.get(&key)).cloned()
    };
    let objects = &world.objects;
    let cilium = objects.cilium_node(node).map(|n| n.parsed);
    let core = objects.node(node).map(|n| n.parsed);
    let Some((parsed, text)) = cilium
        .into_iter()
        .chain(core)
        .find_map(|parsed| Some((parsed, of(parsed)?)))
    else {
        return Annotation::default();
    };
    let mut found = Annotation::default();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let understood = match part.split_once('=') {
            Some(("router-id", id)) => id.trim().parse().map(|id| found.router_id = Some(id)).is_ok(),
            Some(("local-port", port)) => match port.trim().parse::<u16>() {
                Ok(port) if port != 0 => {
                    found.local_port = Some(port);
                    true
                }
                Ok(_) | Err(_) => false,
            },
            Some(_) | None => false,
        };
        if !understood {
            problems.push(Problem::at(
                parsed,
                format!("metadata.annotations[{key}]"),
                Severity::Error,
                "bad-annotation",
                format!(
                    "{part:?} is neither router-id=<IPv4 address> nor local-port=<1 to 65535>; it is left out"
                ),
            ));
        }
    }
    found
}
