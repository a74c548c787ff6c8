//! Addresses of nodes for Services (node IPAM): clients reach a Service at the nodes themselves.
//!
//! A Service says so by its class, `io.cilium/node`, or has no class where that is the default. Candidates are the nodes
//! that its annotation selects, less those that leave. With traffic policy `Local` only those with an endpoint count.
//! Of each family the external addresses are taken, or the internal ones where no candidate has any external.
//!
//! A node that is not ready is left out, as long as another one is ready: when none is, the fault is likely to be elsewhere.
//!
//! A Service that was served here carries the condition [`SERVED`]. When it is not to be served any more, addresses of
//! nodes go from its status, and nothing else.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crds::condition::{Condition, ConditionStatus};
use crds::k8s_openapi::api::core::v1::{LoadBalancerIngress, Node, Service, ServiceSpec};
use crds::k8s_openapi::jiff::Timestamp;
use crds::selector::LabelSelector;
use crds::{EndpointState, NotReady};
use serde_json::{Value, json};

use super::conditions::{Conditions, Wanted, of_service};
use super::write::{Basis, Note, Order, Target, Weight, Write};
use crate::config::operator::NodeIpam;
use crate::plan::vips;
use crate::world::{Fetched, OF_SERVICE, Objects, Stored, World};

const CLASS: &str = "io.cilium/node";
const NODES: &str = "io.cilium.nodeipam/match-node-labels";
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
const SCALED_DOWN: &str = "ToBeDeletedByClusterAutoscaler";
/// Ours: whether the Service has addresses of nodes, or why not.
const SERVED: &str = "stentor.io/NodeAddresses";

/// Why a Service has no address of a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Refusal {
    #[error("the annotation {NODES} can not be read: {0}")]
    BadSelector(String),
    #[error("no node matches the annotation {NODES}, or all that do are excluded or leave")]
    NoNode,
    #[error("externalTrafficPolicy is Local, and no candidate has a ready endpoint")]
    NoEndpoint,
    #[error("no candidate has an address of the families of the Service")]
    NoAddress,
}

impl Refusal {
    fn reason(&self) -> &'static str {
        match self {
            Self::BadSelector(_) => "bad_selector",
            Self::NoNode => "no_node",
            Self::NoEndpoint => "no_endpoint",
            Self::NoAddress => "no_address",
        }
    }
}

pub(crate) fn node_addresses(world: &World, ipam: NodeIpam, now: Timestamp) -> Vec<Write> {
    let objects = &world.objects;
    let write = |service: Fetched<'_, Service>| {
        let service = service.stored();
        let spec = service.object.spec.as_ref()?;
        let is_served = is_served(service.object, spec, ipam);
        let conditions = service
            .object
            .status
            .iter()
            .flat_map(|status| status.conditions.iter());
        let was_served = conditions.flatten().any(|condition| condition.type_ == SERVED);
        // Most Services are nothing to nodes; to them they should cost nothing.
        if !is_served && !was_served {
            return None;
        }
        let seen = of_service(service.object);
        if is_served {
            serve(objects, service, spec, &seen, now)
        } else if seen.iter().any(|condition| condition.kind == SERVED) {
            let_go(objects, service, &seen, now)
        } else {
            None
        }
    };
    objects.services().filter_map(write).collect()
}

fn is_served(service: &Service, spec: &ServiceSpec, ipam: NodeIpam) -> bool {
    let is_balancer = spec.type_.as_deref() == Some("LoadBalancer");
    let class = match (ipam, spec.load_balancer_class.as_deref()) {
        (NodeIpam::Off, _) => false,
        (NodeIpam::OnlyNamedClass | NodeIpam::Default, Some(class)) => class == CLASS,
        (NodeIpam::OnlyNamedClass, None) => false,
        (NodeIpam::Default, None) => true,
    };
    is_balancer && class && service.metadata.deletion_timestamp.is_none()
}

fn serve(
    objects: &Objects,
    service: Stored<'_, Service>,
    spec: &ServiceSpec,
    seen: &[Condition],
    now: Timestamp,
) -> Option<Write> {
    let found = addresses(objects, service, spec);
    let (wanted, wished) = match &found {
        // What can not be read changes nothing.
        Err(refusal @ Refusal::BadSelector(_)) => (of_refusal(refusal), None),
        Err(refusal) => (of_refusal(refusal), Some(BTreeSet::new())),
        Ok(addresses) => {
            let wanted = Wanted {
                kind: SERVED,
                status: ConditionStatus::True,
                reason: "assigned",
                message: String::new(),
            };
            (wanted, Some(addresses.clone()))
        }
    };
    let before: BTreeSet<IpAddr> = vips::entries(service.object).iter().filter_map(address).collect();
    let ingress = wished.filter(|wished| *wished != before);
    let notes = match (&found, &ingress) {
        (Ok(_), Some(wished)) => {
            let text = format!("addresses of nodes: {}", list(wished));
            vec![note(service, Weight::Normal, "AddressAllocated", text)]
        }
        (Err(refusal), _) => vec![note(
            service,
            Weight::Warning,
            "AddressRefused",
            refusal.to_string(),
        )],
        (Ok(_), None) => Vec::new(),
    };
    let entries = ingress.map(|wished| list_of(&wished));
    status(service, seen, &[wanted], entries, notes, now)
}

fn of_refusal(refusal: &Refusal) -> Wanted {
    Wanted {
        kind: SERVED,
        status: ConditionStatus::False,
        reason: refusal.reason(),
        message: refusal.to_string(),
    }
}

fn let_go(
    objects: &Objects,
    service: Stored<'_, Service>,
    seen: &[Condition],
    now: Timestamp,
) -> Option<Write> {
    let of_nodes: BTreeSet<IpAddr> = objects
        .nodes()
        .flat_map(|node| of_node(node.object).into_iter().map(|(_, address)| address))
        .collect();
    let there = vips::entries(service.object);
    let stays =
        |entry: &&LoadBalancerIngress| address(entry).is_none_or(|address| !of_nodes.contains(&address));
    let left: Vec<Value> = there.iter().filter(stays).map(|entry| json!(entry)).collect();
    let changed = match (left.len() == there.len(), left.is_empty()) {
        (true, _) => None,
        (false, true) => Some(Value::Null),
        (false, false) => Some(Value::Array(left)),
    };
    let text = "nodes do not serve this Service any more (its type or class changed)".to_owned();
    let notes = vec![note(service, Weight::Normal, "AddressReleased", text)];
    status(service, seen, &[], changed, notes, now)
}

/// `ingress`: the new entries; `None`: they stay.
fn status(
    service: Stored<'_, Service>,
    seen: &[Condition],
    wanted: &[Wanted],
    ingress: Option<Value>,
    notes: Vec<Note>,
    now: Timestamp,
) -> Option<Write> {
    let conditions = Conditions {
        seen,
        ours: &[SERVED],
        wanted,
        generation: service.object.metadata.generation,
        now,
    };
    let entries = conditions.entries();
    if entries.is_empty() && ingress.is_none() {
        return None;
    }
    let mut status = json!({ "conditions": entries });
    if let Some(ingress) = ingress {
        status["loadBalancer"] = json!({ "ingress": ingress });
    }
    Some(Write {
        target: Target::status(service.parsed),
        basis: Basis::of(service.parsed)?,
        order: Order::Strategic(json!({ "status": status }).into()),
        notes,
    })
}

fn addresses(
    objects: &Objects,
    service: Stored<'_, Service>,
    spec: &ServiceSpec,
) -> Result<BTreeSet<IpAddr>, Refusal> {
    let annotations = service.object.metadata.annotations.as_ref();
    let text = annotations
        .and_then(|annotations| annotations.get(NODES))
        .map_or("", String::as_str);
    let selector: LabelSelector = text.parse().map_err(|_| Refusal::BadSelector(text.to_owned()))?;
    let nodes: Vec<Stored<'_, Node>> = objects
        .nodes()
        .filter(|node| selector.matches(node.labels()) && is_candidate(node.object))
        .collect();
    let mut candidates: Vec<Stored<'_, Node>> = nodes
        .iter()
        .copied()
        .filter(|node| is_ready(node.object))
        .collect();
    if candidates.is_empty() {
        candidates = nodes;
    }
    if candidates.is_empty() {
        return Err(Refusal::NoNode);
    }
    if spec.external_traffic_policy.as_deref() == Some("Local") {
        let having = nodes_with_endpoints(objects, service);
        candidates.retain(|node| having.contains(node.name()));
        if candidates.is_empty() {
            return Err(Refusal::NoEndpoint);
        }
    }
    let all: Vec<(Kind, IpAddr)> = candidates.iter().flat_map(|node| of_node(node.object)).collect();
    let families = spec.ip_families.iter().flatten();
    let mut chosen = BTreeSet::new();
    for family in families {
        let of_family = |address: &IpAddr| match family.as_str() {
            "IPv4" => address.is_ipv4(),
            "IPv6" => address.is_ipv6(),
            _ => false,
        };
        let of_kind = |kind: Kind| {
            all.iter()
                .filter(move |(is, _)| *is == kind)
                .map(|(_, address)| *address)
        };
        let mut external = of_kind(Kind::External).filter(of_family).peekable();
        if external.peek().is_some() {
            chosen.extend(external);
        } else {
            chosen.extend(of_kind(Kind::Internal).filter(of_family));
        }
    }
    if chosen.is_empty() {
        return Err(Refusal::NoAddress);
    }
    Ok(chosen)
}

fn is_candidate(node: &Node) -> bool {
    let labels = node.metadata.labels.as_ref();
    let excluded = labels.is_some_and(|labels| labels.contains_key(EXCLUDED));
    let mut taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let leaves = node.metadata.deletion_timestamp.is_some() || taints.any(|taint| taint.key == SCALED_DOWN);
    !excluded && !leaves
}

/// One that says nothing is not known to be unwell.
fn is_ready(node: &Node) -> bool {
    let conditions = node
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let mut ready = conditions.filter(|condition| condition.type_ == "Ready");
    ready.all(|condition| condition.status == "True")
}

fn nodes_with_endpoints(objects: &Objects, service: Stored<'_, Service>) -> BTreeSet<String> {
    let slices = objects.endpoint_slices().filter(|slice| {
        let slice = slice.stored();
        let of = slice.labels().get(OF_SERVICE);
        slice.namespace() == service.namespace() && of.is_some_and(|of| of == service.name())
    });
    let publish = service
        .object
        .spec
        .as_ref()
        .and_then(|spec| spec.publish_not_ready_addresses);
    let not_ready = NotReady::of(publish);
    let mut names = BTreeSet::new();
    for slice in slices {
        let endpoints = slice.stored().object.endpoints.iter().flatten();
        let ready =
            endpoints.filter(|endpoint| EndpointState::of(endpoint, not_ready) == EndpointState::Active);
        names.extend(ready.filter_map(|endpoint| endpoint.node_name.clone()));
    }
    names
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    External,
    Internal,
}

fn of_node(node: &Node) -> Vec<(Kind, IpAddr)> {
    let addresses = node
        .status
        .iter()
        .flat_map(|status| status.addresses.iter().flatten());
    let known = addresses.filter_map(|address| {
        let kind = match address.type_.as_str() {
            "ExternalIP" => Kind::External,
            "InternalIP" => Kind::Internal,
            _ => return None,
        };
        Some((kind, address.address.parse().ok()?))
    });
    known.collect()
}

fn address(entry: &LoadBalancerIngress) -> Option<IpAddr> {
    entry.ip.as_deref()?.parse().ok()
}

/// Sorted as texts, as Cilium does.
fn list_of(addresses: &BTreeSet<IpAddr>) -> Value {
    let texts: BTreeSet<String> = addresses.iter().map(ToString::to_string).collect();
    match texts.is_empty() {
        true => Value::Null,
        false => texts.into_iter().map(|ip| json!({ "ip": ip })).collect(),
    }
}

fn list(addresses: &BTreeSet<IpAddr>) -> String {
    let texts: Vec<String> = addresses.iter().take(10).map(ToString::to_string).collect();
    match addresses.len().saturating_sub(10) {
        0 => texts.join(", "),
        more => format!("{} and {more} more", texts.join(", ")),
    }
}

fn note(service: Stored<'_, Service>, weight: Weight, reason: &'static str, text: String) -> Note {
    Note::of(service.parsed, weight, "Assign", reason, text)
}

#[cfg(test)]
mod tests {
    use super::super::bench::Cluster;
    use super::*;

    fn node(name: &str, addresses: &[(&str, &str)]) -> Value {
        let addresses: Vec<Value> = addresses
            .iter()
            .map(|(kind, ip)| json!({ "type": kind, "address": ip }))
            .collect();
        json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": { "name": name, "labels": { "name": name } },
            "status": { "addresses": addresses },
        })
    }

    fn service(families: &[&str], policy: &str) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": "s", "namespace": "ns" },
            "spec": {
                "type": "LoadBalancer",
                "loadBalancerClass": CLASS,
                "ipFamilies": families,
                "externalTrafficPolicy": policy,
                "ports": [{ "port": 80, "name": "http" }],
            },
        })
    }

    fn settle(cluster: &mut Cluster) -> usize {
        cluster.settle(|world| node_addresses(world, NodeIpam::OnlyNamedClass, Timestamp::UNIX_EPOCH))
    }

    /// Settles, and once more to see that nothing is left; then `addresses | reason`.
    fn settled(cluster: &mut Cluster) -> String {
        settle(cluster);
        assert_eq!(settle(cluster), 0);
        let service = cluster.world.objects.services().next().unwrap();
        let service = service.stored();
        let ips: Vec<String> = vips::entries(service.object)
            .iter()
            .filter_map(address)
            .map(|ip| ip.to_string())
            .collect();
        let seen = of_service(service.object);
        let reason = seen
            .iter()
            .find(|seen| seen.kind == SERVED)
            .map_or("-", |seen| &seen.reason);
        format!("{} | {reason}", ips.join(" "))
    }

    #[test]
    fn external_addresses_of_one_family_do_not_hide_internal_ones_of_the_other() {
        let mut cluster = Cluster::with(&[
            node(
                "a",
                &[
                    ("ExternalIP", "192.0.2.1"),
                    ("InternalIP", "10.0.0.1"),
                    ("InternalIP", "fd00::1"),
                ],
            ),
            node("b", &[("InternalIP", "10.0.0.2"), ("InternalIP", "fd00::2")]),
            service(&["IPv4", "IPv6"], "Cluster"),
        ]);
        assert_eq!(settled(&mut cluster), "192.0.2.1 fd00::1 fd00::2 | assigned");
    }

    #[test]
    fn nodes_that_leave_or_are_not_ready_are_left_out_unless_none_is_ready() {
        let mut leaving = node("a", &[("InternalIP", "10.0.0.1")]);
        leaving["spec"]["taints"] = json!([{ "key": SCALED_DOWN, "effect": "NoSchedule" }]);
        let unready = |name: &str, ip: &str| {
            let mut node = node(name, &[("InternalIP", ip)]);
            node["status"]["conditions"] = json!([{ "type": "Ready", "status": "Unknown" }]);
            node
        };
        let mut cluster = Cluster::with(&[
            leaving,
            unready("b", "10.0.0.2"),
            node("c", &[("InternalIP", "10.0.0.3")]),
            service(&["IPv4"], "Cluster"),
        ]);
        assert_eq!(settled(&mut cluster), "10.0.0.3 | assigned");
        cluster.apply(unready("c", "10.0.0.3"));
        assert_eq!(settled(&mut cluster), "10.0.0.2 10.0.0.3 | assigned");
    }

    #[test]
    fn a_local_service_has_the_nodes_of_its_endpoints() {
        let mut cluster = Cluster::with(&[
            node("a", &[("InternalIP", "10.0.0.1")]),
            node("b", &[("InternalIP", "10.0.0.2")]),
            service(&["IPv4"], "Local"),
        ]);
        assert_eq!(settled(&mut cluster), " | no_endpoint");
        cluster.apply(json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": { "name": "s-1", "namespace": "ns", "labels": { OF_SERVICE: "s" } },
            "addressType": "IPv4",
            "endpoints": [
                { "addresses": ["10.1.0.1"], "nodeName": "b", "conditions": { "ready": true } },
                { "addresses": ["10.1.0.2"], "nodeName": "a", "conditions": { "ready": false } },
            ],
        }));
        assert_eq!(settled(&mut cluster), "10.0.0.2 | assigned");
    }

    #[test]
    fn a_selector_that_can_not_be_read_changes_nothing_and_a_service_that_leaves_is_cleared() {
        let mut cluster = Cluster::with(&[
            node("a", &[("InternalIP", "10.0.0.1")]),
            node("b", &[("InternalIP", "10.0.0.2")]),
            service(&["IPv4"], "Cluster"),
        ]);
        settled(&mut cluster);
        let with = |cluster: &mut Cluster, annotation: &str| {
            let reference = crds::ObjectRef::namespaced(crds::Kind::Service, "ns", "s");
            let mut service = cluster.json(&reference);
            service["metadata"]["annotations"] = json!({ NODES: annotation });
            cluster.apply(service);
        };
        with(&mut cluster, "name in (b)");
        assert_eq!(settled(&mut cluster), "10.0.0.2 | assigned");
        with(&mut cluster, "name in b");
        assert_eq!(settled(&mut cluster), "10.0.0.2 | bad_selector");
        let reference = crds::ObjectRef::namespaced(crds::Kind::Service, "ns", "s");
        let mut gone = cluster.json(&reference);
        gone["spec"]["loadBalancerClass"] = json!("example.com/other");
        gone["status"]["loadBalancer"]["ingress"]
            .as_array_mut()
            .unwrap()
            .push(json!({ "ip": "192.0.2.9" }));
        cluster.apply(gone);
        assert_eq!(settled(&mut cluster), "192.0.2.9 | -");
    }
}
