//! Objects as the planner of the maps takes them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use crds::k8s_openapi::api::core::v1::Node;
use crds::{Kind, Object, ObjectRef, Parsed};
use ebpf_datapath::ServiceName;
use ebpf_datapath::incremental::Change;

use super::Me;
use crate::plan::{AddressKind, Reason, ServiceReport};
use crate::shared_map::SharedMap;
use crate::world::{Objects, ServiceRef, World};

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
        Object::Service(service) => Change::Service(service.clone()),
        Object::EndpointSlice(slice) => Change::Slice(slice.clone()),
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

/// A Service whose addresses that packets come to are not those it had.
#[derive(Debug, PartialEq, Eq)]
pub struct Regranted {
    name: ServiceName,
    pub before: BTreeSet<IpAddr>,
    pub after: BTreeSet<IpAddr>,
}

impl Regranted {
    #[must_use]
    pub fn change(self) -> (Subject, Change) {
        let change = Change::Granted(self.name.clone(), self.after);
        (Subject::Granted(self.name), change)
    }
}

/// From one plan to another.
#[must_use]
pub fn regranted(
    before: &SharedMap<ServiceRef, ServiceReport>,
    after: &SharedMap<ServiceRef, ServiceReport>,
) -> Vec<Regranted> {
    let differences = SharedMap::differences(before, after).into_iter();
    let changes = differences.map(|difference| Regranted {
        name: ServiceName {
            namespace: difference.key.namespace.to_string(),
            name: difference.key.name.to_string(),
        },
        before: difference.before.map(granted).unwrap_or_default(),
        after: difference.after.map(granted).unwrap_or_default(),
    });
    changes.filter(|change| change.before != change.after).collect()
}

/// The LoadBalancer addresses that packets come to.
fn granted(report: &ServiceReport) -> BTreeSet<IpAddr> {
    let vips = report.addresses.iter().filter(|address| {
        address.kind == AddressKind::LoadBalancerIp && !address.reasons.contains(&Reason::IpModeNotVip)
    });
    vips.map(|address| address.address).collect()
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
    use crate::plan::AddressReport;

    fn given(pairs: &[(&str, &str)]) -> SharedMap<ServiceRef, ServiceReport> {
        let report = |(name, address): &(&str, &str)| {
            let service = ServiceRef {
                namespace: "a".into(),
                name: (*name).into(),
            };
            let address = AddressReport {
                address: address.parse().unwrap(),
                kind: AddressKind::LoadBalancerIp,
                announced: Vec::new(),
                reasons: vec![Reason::NoPeers],
            };
            let report = ServiceReport {
                service: service.clone(),
                addresses: vec![address],
                reasons: Vec::new(),
            };
            (service, report)
        };
        pairs.iter().map(report).collect()
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
            .map(|change| match change.change() {
                (_, Change::Granted(name, addresses)) => (name.name, addresses.len()),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(told, [("gone".to_owned(), 0), ("other".to_owned(), 1)]);
        assert!(regranted(&after, &after).is_empty());
    }
}
