//! The objects by kind, and the views of them that selectors match.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Secret, Service};

use crate::bgp::advertisement::CiliumBGPAdvertisement;
use crate::bgp::cluster_config::CiliumBGPClusterConfig;
use crate::bgp::node_config_override::CiliumBGPNodeConfigOverride;
use crate::bgp::peer_config::CiliumBGPPeerConfig;
use crate::bgp::peering_policy::CiliumBGPPeeringPolicy;
use crate::lb_ip_pool::CiliumLoadBalancerIPPool;
use crate::object::{Kind, Object, Parsed, labels};
use crate::selector::LabelSelector;
use crate::stowed::Stowed;

/// An object of one kind and where it stands.
pub(super) struct Held<'a, T> {
    pub(super) object: &'a T,
    pub(super) parsed: &'a Parsed,
}

impl<'a, T> Held<'a, T> {
    pub(super) fn name(&self) -> &'a str {
        &self.parsed.reference.name
    }

    /// Older first, those without a time last, then by name. Files carry no times, so there the name decides.
    pub(super) fn seniority(&self) -> (bool, i64, &'a str) {
        let metadata = self.parsed.object.metadata();
        let created = metadata.creation_timestamp.as_ref();
        let seconds = created.map_or(0, |time| time.0.as_second());
        (created.is_none(), seconds, self.name())
    }
}

type Labels = BTreeMap<String, String>;

#[derive(Default)]
pub(super) struct Index<'a> {
    pub(super) cluster_configs: Vec<Held<'a, CiliumBGPClusterConfig>>,
    pub(super) peer_configs: BTreeMap<&'a str, Held<'a, CiliumBGPPeerConfig>>,
    pub(super) advertisements: Vec<Held<'a, CiliumBGPAdvertisement>>,
    pub(super) overrides: BTreeMap<&'a str, Held<'a, CiliumBGPNodeConfigOverride>>,
    pub(super) peering_policies: Vec<Held<'a, CiliumBGPPeeringPolicy>>,
    pub(super) load_balancer_pools: Vec<Held<'a, CiliumLoadBalancerIPPool>>,
    /// Name and labels.
    pub(super) pod_pools: Vec<(&'a str, &'a Labels)>,
    pub(super) services: Vec<Held<'a, Stowed<Service>>>,
    pub(super) secrets: BTreeMap<(&'a str, &'a str), &'a Secret>,
    /// Labels of a node: those of its CiliumNode if it has any, else those of its Node.
    pub(super) nodes: BTreeMap<&'a str, &'a Labels>,
}

impl<'a> Index<'a> {
    pub(super) fn new(objects: impl IntoIterator<Item = &'a Parsed>) -> Self {
        let mut index = Self::default();
        for parsed in objects {
            let name = parsed.reference.name.as_str();
            match &parsed.object {
                Object::CiliumBGPClusterConfig(object) => index.cluster_configs.push(Held { object, parsed }),
                Object::CiliumBGPPeerConfig(object) => {
                    index.peer_configs.insert(name, Held { object, parsed });
                }
                Object::CiliumBGPAdvertisement(object) => index.advertisements.push(Held { object, parsed }),
                Object::CiliumBGPNodeConfigOverride(object) => {
                    index.overrides.insert(name, Held { object, parsed });
                }
                Object::CiliumBGPPeeringPolicy(object) => {
                    index.peering_policies.push(Held { object, parsed })
                }
                Object::CiliumLoadBalancerIPPool(object) => {
                    index.load_balancer_pools.push(Held { object, parsed });
                }
                Object::CiliumPodIPPool(pool) => index.pod_pools.push((name, labels(&pool.metadata))),
                Object::CiliumNode(node) => index.node(name, labels(&node.metadata), Kind::CiliumNode),
                Object::Node(node) => index.node(name, labels(&node.metadata), Kind::Node),
                Object::Service(object) => index.services.push(Held { object, parsed }),
                Object::Secret(object) => {
                    index.secrets.insert((&parsed.reference.namespace, name), object);
                }
                Object::CiliumBGPNodeConfig(_)
                | Object::EndpointSlice(_)
                | Object::Namespace(_)
                | Object::Pod(_) => {}
            }
        }
        index
            .cluster_configs
            .sort_by(|a, b| a.seniority().cmp(&b.seniority()));
        index
            .peering_policies
            .sort_by(|a, b| a.seniority().cmp(&b.seniority()));
        index
            .load_balancer_pools
            .sort_by(|a, b| a.seniority().cmp(&b.seniority()));
        index
    }

    fn node(&mut self, name: &'a str, labels: &'a Labels, kind: Kind) {
        let known = self.nodes.entry(name).or_insert(labels);
        if known.is_empty() || (kind == Kind::CiliumNode && !labels.is_empty()) {
            *known = labels;
        }
    }

    /// Names of the nodes a selector matches; a missing selector matches all.
    pub(super) fn nodes_of(&self, selector: Option<&LabelSelector>) -> BTreeSet<&'a str> {
        let matches = |labels: &Labels| selector.is_none_or(|selector| selector.matches(labels));
        self.nodes
            .iter()
            .filter(|(_, labels)| matches(labels))
            .map(|(name, _)| *name)
            .collect()
    }

    /// Whether the selector matches any Service of those that `counts` lets through. Name and namespace
    /// count as labels.
    pub(super) fn any_service(&self, selector: &LabelSelector, counts: impl Fn(&Service) -> bool) -> bool {
        self.services
            .iter()
            .map(|service| (&service.parsed.reference, service.object.open()))
            .filter(|(_, service)| counts(service))
            .any(|(reference, service)| {
                let labels = labels(&service.metadata);
                selector.matches_with(|key| match key {
                    "io.kubernetes.service.name" => Some(reference.name.as_str()),
                    "io.kubernetes.service.namespace" => Some(reference.namespace.as_str()),
                    key => labels.get(key).map(String::as_str),
                })
            })
    }

    /// Whether the selector matches any pod IP pool.
    pub(super) fn any_pod_pool(&self, selector: &LabelSelector) -> bool {
        self.pod_pools.iter().any(|(name, labels)| {
            selector.matches_with(|key| match key {
                "io.cilium.podippool.name" => Some(*name),
                "io.cilium.podippool.namespace" => Some(""),
                key => labels.get(key).map(String::as_str),
            })
        })
    }

    pub(super) fn node_kinds() -> String {
        format!("{} or {}", Kind::Node, Kind::CiliumNode)
    }
}
