//! Objects as the planner of the maps takes them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crds::k8s_openapi::api::core::v1::Node;
use crds::{Kind, Object, ObjectRef, Parsed};
use ebpf_datapath::ServiceName;
use ebpf_datapath::incremental::Change;

use super::Me;
use crate::plan::{AddressKind, Desired, Reason};
use crate::world::{Objects, World};

/// What a change is about: of several only the last counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    Object(ObjectRef),
    /// The addresses given to a Service.
    Granted(ServiceName),
}

/// An object that is there; `None` where the planner has no use for its kind.
#[must_use]
pub fn applied(parsed: &Parsed) -> Option<(Subject, Change)> {
    let change = match &parsed.object {
        Object::Service(service) => Change::Service(Arc::new((**service).clone())),
        Object::EndpointSlice(slice) => Change::Slice(Arc::new((**slice).clone())),
        Object::Node(node) => Change::Node(Arc::new((**node).clone())),
        Object::Pod(pod) => Change::Pod(Arc::new((**pod).clone())),
        Object::CiliumBGPClusterConfig(_)
        | Object::CiliumBGPPeerConfig(_)
        | Object::CiliumBGPAdvertisement(_)
        | Object::CiliumBGPNodeConfig(_)
        | Object::CiliumBGPNodeConfigOverride(_)
        | Object::CiliumBGPPeeringPolicy(_)
        | Object::CiliumLoadBalancerIPPool(_)
        | Object::CiliumPodIPPool(_)
        | Object::CiliumNode(_)
        | Object::Secret(_)
        | Object::Namespace(_) => return None,
    };
    Some((Subject::Object(parsed.reference.clone()), change))
}

/// An object that is gone.
#[must_use]
pub fn deleted(reference: &ObjectRef) -> Option<(Subject, Change)> {
    let name = ServiceName {
        namespace: reference.namespace.clone(),
        name: reference.name.clone(),
    };
    let change = match reference.kind {
        Kind::Service => Change::ServiceGone(name),
        Kind::EndpointSlice => Change::SliceGone(name),
        Kind::Node => Change::NodeGone(reference.name.clone()),
        Kind::Pod => Change::PodGone(name),
        Kind::CiliumBGPClusterConfig
        | Kind::CiliumBGPPeerConfig
        | Kind::CiliumBGPAdvertisement
        | Kind::CiliumBGPNodeConfig
        | Kind::CiliumBGPNodeConfigOverride
        | Kind::CiliumBGPPeeringPolicy
        | Kind::CiliumLoadBalancerIPPool
        | Kind::CiliumPodIPPool
        | Kind::CiliumNode
        | Kind::Secret
        | Kind::Namespace => return None,
    };
    Some((Subject::Object(reference.clone()), change))
}

/// Everything there is.
pub fn all(objects: &Objects) -> impl Iterator<Item = (Subject, Change)> {
    objects.iter().filter_map(|parsed| applied(parsed))
}

/// Addresses by Service.
pub type Granted = BTreeMap<ServiceName, BTreeSet<IpAddr>>;

/// The LoadBalancer addresses of a plan that packets come to.
#[must_use]
pub fn granted(desired: &Desired) -> Granted {
    let mut granted = Granted::new();
    for report in &desired.services {
        let vips = report.addresses.iter().filter(|address| {
            address.kind == AddressKind::LoadBalancerIp && !address.reasons.contains(&Reason::IpModeNotVip)
        });
        let vips: BTreeSet<IpAddr> = vips.map(|address| address.address).collect();
        if !vips.is_empty() {
            let name = ServiceName {
                namespace: report.service.namespace.to_string(),
                name: report.service.name.to_string(),
            };
            granted.insert(name, vips);
        }
    }
    granted
}

/// From one to the other.
#[must_use]
pub fn regranted(before: &Granted, after: &Granted) -> Vec<(Subject, Change)> {
    let names: BTreeSet<&ServiceName> = before.keys().chain(after.keys()).collect();
    let changed = names
        .into_iter()
        .filter(|name| before.get(*name) != after.get(*name));
    changed
        .map(|name| {
            let addresses = after.get(name).cloned().unwrap_or_default();
            (
                Subject::Granted(name.clone()),
                Change::Granted(name.clone(), addresses),
            )
        })
        .collect()
}

/// This node in the objects.
#[must_use]
pub fn me(world: &World) -> Me {
    let node = world.objects.node(&world.node);
    let cilium = world.objects.cilium_node(&world.node);
    let core = node.iter().flat_map(|node| node_addresses(node.object));
    let own = cilium.iter().flat_map(|node| &node.object.spec.addresses);
    let own = own
        .filter(|address| matches!(address.kind.as_deref(), Some("InternalIP" | "ExternalIP")))
        .filter_map(|address| address.ip.as_deref()?.parse().ok());
    let labels = [node.map(|node| node.labels()), cilium.map(|node| node.labels())];
    Me {
        name: world.node.to_string(),
        labels: labels
            .into_iter()
            .flatten()
            .find(|labels| !labels.is_empty())
            .cloned()
            .unwrap_or_default(),
        addresses: core.chain(own).collect(),
        others: world
            .objects
            .nodes()
            .filter(|node| node.name() != &*world.node)
            .flat_map(|node| node_addresses(node.object))
            .collect(),
    }
}

fn node_addresses(node: &Node) -> impl Iterator<Item = IpAddr> {
    let status = node.status.as_ref();
    let listed = status.and_then(|status| status.addresses.as_deref());
    let reachable = listed
        .unwrap_or_default()
        .iter()
        .filter(|address| matches!(address.type_.as_str(), "InternalIP" | "ExternalIP"));
    reachable.filter_map(|address| address.address.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(pairs: &[(&str, &str)]) -> Granted {
        let mut granted = Granted::new();
        for (name, address) in pairs {
            let name = ServiceName {
                namespace: "a".into(),
                name: (*name).into(),
            };
            granted.entry(name).or_default().insert(address.parse().unwrap());
        }
        granted
    }

    #[test]
    fn only_services_whose_addresses_differ_are_told_and_those_without_any_too() {
        let before = given(&[
            ("same", "192.0.2.1"),
            ("gone", "192.0.2.2"),
            ("other", "192.0.2.3"),
        ]);
        let after = given(&[("same", "192.0.2.1"), ("other", "192.0.2.4")]);
        let told: Vec<(String, usize)> = regranted(&before, &after)
            .into_iter()
            .map(|(_, change)| match change {
                Change::Granted(name, addresses) => (name.name, addresses.len()),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(told, [("gone".to_owned(), 0), ("other".to_owned(), 1)]);
        assert!(regranted(&after, &after).is_empty());
    }
}
