//! `CiliumBGPPeeringPolicy` (v2alpha1): the older way to say all of it in one object, served by
//! Cilium up to 1.18.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::advertisement::{Communities, ServiceAddressType};
use super::family::{Afi, Safi};
use super::peer_config::{GracefulRestart, bgp_port, connect_retry, hold, keep_alive, one};
use crate::selector::LabelSelector;
use crate::text;

/// The virtual routers of a group of nodes. Of two that select a node the older one has it, or the first by name.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "cilium.io",
    version = "v2alpha1",
    kind = "CiliumBGPPeeringPolicy",
    plural = "ciliumbgppeeringpolicies",
    shortname = "bgpp",
    category = "cilium",
    category = "ciliumbgp",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct PeeringPolicySpec {
    /// Missing: every node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<LabelSelector>,
    #[schemars(length(min = 1))]
    pub virtual_routers: Vec<VirtualRouter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VirtualRouter {
    #[serde(rename = "localASN")]
    #[schemars(range(max = 4294967295u32))]
    pub local_asn: u32,
    #[serde(rename = "exportPodCIDR", default, skip_serializing_if = "Option::is_none")]
    pub export_pod_cidr: Option<bool>,
    /// Missing: none.
    #[serde(
        rename = "podIPPoolSelector",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub pod_ip_pool_selector: Option<LabelSelector>,
    /// Missing: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_selector: Option<LabelSelector>,
    #[serde(default = "load_balancer_only")]
    pub service_advertisements: Vec<ServiceAddressType>,
    #[schemars(length(min = 1))]
    pub neighbors: Vec<Neighbor>,
}

fn load_balancer_only() -> Vec<ServiceAddressType> {
    vec![ServiceAddressType::LoadBalancerIp]
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "self.keepAliveTimeSeconds <= self.holdTimeSeconds",
    "message": "keepAliveTimeSeconds can not be larger than holdTimeSeconds",
}]))]
pub struct Neighbor {
    /// A host prefix: `/32` or `/128`.
    #[schemars(schema_with = "text::cidr_schema")]
    pub peer_address: String,
    #[serde(default = "bgp_port")]
    #[schemars(range(min = 1))]
    pub peer_port: u16,
    #[serde(rename = "peerASN")]
    #[schemars(range(max = 4294967295u32))]
    pub peer_asn: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_secret_ref: Option<String>,
    #[serde(rename = "eBGPMultihopTTL", default = "one")]
    #[schemars(range(min = 1))]
    pub ebgp_multihop_ttl: u8,
    #[serde(default = "connect_retry")]
    #[schemars(range(min = 1, max = 2147483647))]
    pub connect_retry_time_seconds: u32,
    #[serde(default = "hold")]
    #[schemars(range(min = 3))]
    pub hold_time_seconds: u16,
    #[serde(default = "keep_alive")]
    #[schemars(range(min = 1))]
    pub keep_alive_time_seconds: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graceful_restart: Option<GracefulRestart>,
    /// Empty: IPv4 and IPv6 unicast.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub families: Vec<Family>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub advertised_path_attributes: Vec<PathAttributes>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Family {
    pub afi: Afi,
    pub safi: Safi,
}

/// Attributes for what a selector picks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PathAttributes {
    pub selector_type: SelectorType,
    /// Missing: all of that type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub communities: Option<Communities>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 4294967295u32))]
    pub local_preference: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum SelectorType {
    #[serde(rename = "PodCIDR")]
    PodCidr,
    #[serde(rename = "CiliumLoadBalancerIPPool")]
    LoadBalancerIpPool,
    #[serde(rename = "CiliumPodIPPool")]
    PodIpPool,
}
