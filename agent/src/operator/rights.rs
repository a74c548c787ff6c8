//! What the operator reads and writes at the API server: the one list, for whoever makes roles of it.

/// A rule as RBAC has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    pub group: &'static str,
    pub resource: &'static str,
    pub verbs: &'static [&'static str],
    pub place: Place,
    /// For which part of the operator.
    pub purpose: &'static str,
}

/// Where a rule must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Cluster,
    /// The namespace of the Lease (`--namespace`).
    OwnNamespace,
    /// `bgp-secrets-namespace`
    SecretsNamespace,
}

const READ: &[&str] = &["list", "watch"];

const fn cluster(
    group: &'static str,
    resource: &'static str,
    verbs: &'static [&'static str],
    purpose: &'static str,
) -> Rule {
    Rule {
        group,
        resource,
        verbs,
        place: Place::Cluster,
        purpose,
    }
}

/// Everything, and nothing else.
#[rustfmt::skip]
pub const RULES: &[Rule] = &[
    Rule {
        group: "",
        resource: "secrets",
        verbs: READ,
        place: Place::SecretsNamespace,
        purpose: "peer-secrets",
    },
    Rule {
        group: "coordination.k8s.io",
        resource: "leases",
        verbs: &["create", "get", "update"],
        place: Place::OwnNamespace,
        purpose: "election",
    },
    cluster("apiextensions.k8s.io", "customresourcedefinitions", &["create", "get", "list", "update", "watch"], "definitions"),
    cluster("events.k8s.io", "events", &["create"], "events"),
    cluster("", "nodes", READ, "bgp, node-ipam, pod-prefixes"),
    cluster("", "services", READ, "lb-ipam, node-ipam"),
    cluster("", "services/status", &["patch"], "lb-ipam, node-ipam"),
    cluster("discovery.k8s.io", "endpointslices", READ, "node-ipam"),
    cluster("cilium.io", "ciliumbgpclusterconfigs", READ, "bgp"),
    cluster("cilium.io", "ciliumbgpclusterconfigs/status", &["patch"], "bgp"),
    cluster("cilium.io", "ciliumbgpnodeconfigoverrides", READ, "bgp"),
    cluster("cilium.io", "ciliumbgpnodeconfigs", &["create", "delete", "list", "patch", "watch"], "bgp"),
    cluster("cilium.io", "ciliumbgppeerconfigs", READ, "bgp, peer-secrets"),
    cluster("cilium.io", "ciliumbgppeerconfigs/status", &["patch"], "peer-secrets"),
    cluster("cilium.io", "ciliumnodes", &["create", "list", "patch", "watch"], "bgp, pod-prefixes"),
    cluster("cilium.io", "ciliumpodippools", READ, "pod-prefixes"),
    cluster("cilium.io", "ciliumloadbalancerippools", READ, "lb-ipam"),
    cluster("cilium.io", "ciliumloadbalancerippools/status", &["patch"], "lb-ipam"),
];
