//! `CiliumBGPNodeConfigOverride`: what differs on one node.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::text;

/// Laid over the cluster config of the node with the same name as this object.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "cilium.io",
    version = "v2",
    kind = "CiliumBGPNodeConfigOverride",
    plural = "ciliumbgpnodeconfigoverrides",
    shortname = "cbgpnodeoverride",
    category = "cilium",
    category = "ciliumbgp",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct NodeConfigOverrideSpec {
    #[schemars(
        length(min = 1),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub bgp_instances: Vec<InstanceOverride>,
}

/// Missing members leave what the cluster config says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InstanceOverride {
    /// Must be the name of an instance of the cluster config.
    #[schemars(length(min = 1, max = 255))]
    pub name: String,
    #[serde(rename = "routerID", default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "text::ipv4_schema")]
    pub router_id: Option<String>,
    /// The schema has no bounds; the rules report what is not a port. See [`InstanceOverride::port`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_port: Option<i32>,
    #[serde(rename = "localASN", default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4294967295u32))]
    pub local_asn: Option<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub peers: Vec<PeerOverride>,
}

impl InstanceOverride {
    /// `localPort` if it is a port.
    pub fn port(&self) -> Option<u16> {
        self.local_port
            .and_then(|port| u16::try_from(port).ok())
            .filter(|port| *port != 0)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PeerOverride {
    /// Must be the name of a peer of that instance.
    #[schemars(length(min = 1, max = 255))]
    pub name: String,
    /// The source address of the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "text::ip_schema")]
    pub local_address: Option<String>,
    /// Without effect, as in Cilium; the rules say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_port: Option<i32>,
}
