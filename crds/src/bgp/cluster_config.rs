//! `CiliumBGPClusterConfig`: which nodes run which speakers, with which peers.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition::Condition;
use crate::selector::LabelSelector;
use crate::text;

/// The speakers of a group of nodes.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "cilium.io",
    version = "v2",
    kind = "CiliumBGPClusterConfig",
    plural = "ciliumbgpclusterconfigs",
    shortname = "cbgpcluster",
    category = "cilium",
    category = "ciliumbgp",
    status = "ClusterConfigStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterConfigSpec {
    /// Matched against the labels of nodes; missing or empty selects every node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<LabelSelector>,
    /// One speaker each: its own AS, routing tables and peers.
    #[schemars(
        length(min = 1, max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub bgp_instances: Vec<Instance>,
}

/// One speaker on every selected node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "CiliumBGPInstance")]
pub struct Instance {
    /// Identity of the instance, everywhere.
    #[schemars(length(min = 1, max = 255))]
    pub name: String,
    /// The AS of the speaker. Without it an override must supply one.
    #[serde(rename = "localASN", default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4294967295u32))]
    pub local_asn: Option<u32>,
    /// The TCP port to listen on. Missing: do not listen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub local_port: Option<u16>,
    /// Stentor's own: use several equal routes at once. Missing: one best route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multipath: Option<Multipath>,
    /// The neighbours.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub peers: Vec<Peer>,
}

/// How many equal routes are used at once. Stentor's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Multipath {
    /// Most routes per prefix; 1 means no multipath. AS paths of equal length count as equal, whatever they hold.
    #[serde(default = "sixteen")]
    #[schemars(range(min = 1, max = 256))]
    pub maximum_paths: u16,
}

fn sixteen() -> u16 {
    16
}

/// One neighbour, or with `peerPrefix` every neighbour that dials from that prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "CiliumBGPPeer")]
pub struct Peer {
    /// Identity of the peer within its instance.
    #[schemars(length(min = 1, max = 255))]
    pub name: String,
    #[serde(flatten)]
    pub whereabouts: Whereabouts,
    /// 0 accepts whatever AS the peer's OPEN carries.
    #[serde(rename = "peerASN", default)]
    #[schemars(range(max = 4294967295u32))]
    pub peer_asn: u32,
    /// Settings of the session. Missing: defaults, and nothing is announced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_config_ref: Option<PeerConfigRef>,
}

/// Where a peer is. Exactly one of `peerAddress`, `peerPrefix` and `autoDiscovery` says it;
/// `peerAddress` wins over `autoDiscovery` if both are given, as in Cilium.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Whereabouts {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "text::ip_schema")]
    pub peer_address: Option<String>,
    /// Found out at run time (v2 only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_discovery: Option<AutoDiscovery>,
    /// Stentor's own: accept sessions from any address in this prefix, never dial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "text::cidr_schema")]
    pub peer_prefix: Option<String>,
    /// Stentor's own: most sessions at once under `peerPrefix`. Missing: 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub dynamic_limit: Option<u32>,
}

/// The limit under `peerPrefix` when none is given.
pub const DEFAULT_DYNAMIC_LIMIT: u32 = 100;

/// How the peer's address is found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AutoDiscovery {
    pub mode: AutoDiscoveryMode,
    /// Required by mode `DefaultGateway`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_gateway: Option<DefaultGateway>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum AutoDiscoveryMode {
    /// The next hop of the default route.
    DefaultGateway,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DefaultGateway {
    pub address_family: AddressFamily,
}

/// The family of a default route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum AddressFamily {
    Ipv4,
    Ipv6,
}

/// Names a `CiliumBGPPeerConfig`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PeerConfigRef {
    /// v2alpha1 only; in v2 the field is unknown and ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "cilium.io"))]
    pub group: Option<String>,
    /// v2alpha1 only; in v2 the field is unknown and ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "CiliumBGPPeerConfig"))]
    pub kind: Option<String>,
    pub name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClusterConfigStatus {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
