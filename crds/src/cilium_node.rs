//! `CiliumNode`: what the agent of a node says about it. Labels, addresses and pod prefixes are read.
//!
//! What clouds add is in [`clouds`].

pub mod clouds;

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::text;
use clouds::{AlibabaCloudSpec, AlibabaCloudStatus, AzureSpec, AzureStatus, EniSpec, EniStatus};

/// What the agent of a node says about it.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "cilium.io",
    version = "v2",
    kind = "CiliumNode",
    plural = "ciliumnodes",
    shortname = "cn",
    shortname = "ciliumn",
    category = "cilium",
    status = "CiliumNodeStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"CiliumInternalIP","type":"string","description":"Cilium internal IP for this node","jsonPath":".spec.addresses[?(@.type==\"CiliumInternalIP\")].ip"}"#,
    printcolumn = r#"{"name":"InternalIP","type":"string","description":"IP of the node","jsonPath":".spec.addresses[?(@.type==\"InternalIP\")].ip"}"#,
    printcolumn = r#"{"name":"Age","type":"date","description":"Time duration since creation of Ciliumnode","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "kebab-case")]
pub struct CiliumNodeSpec {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<NodeAddress>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alibaba_cloud: Option<AlibabaCloudSpec>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azure: Option<AzureSpec>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eni: Option<EniSpec>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<AddressPair>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<AddressPair>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipam: Option<Ipam>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodeidentity: Option<i64>,
}

/// An address of the node; `type` is for example `InternalIP` or `CiliumInternalIP`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeAddress {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Encryption {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "text::integer_schema")]
    pub key: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AddressPair {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Ipam {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ipv6_pool: BTreeMap<String, PoolAddress>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "text::count_schema")]
    pub max_above_watermark: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "text::count_schema")]
    pub max_allocate: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "text::count_schema")]
    pub min_allocate: Option<i64>,
    /// The node's pod prefixes (IPAM modes `kubernetes` and `cluster-pool`).
    #[serde(rename = "podCIDRs", default, skip_serializing_if = "Vec::is_empty")]
    pub pod_cidrs: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pool: BTreeMap<String, PoolAddress>,
    /// The node's prefixes of each `CiliumPodIPPool` (IPAM mode `multi-pool`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pools: Option<Pools>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "text::count_schema")]
    pub pre_allocate: Option<i64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub static_ip_tags: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PoolAddress {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pools {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allocated: Vec<AllocatedPool>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requested: Vec<RequestedPool>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AllocatedPool {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "text::cidrs_schema")]
    pub cidrs: Vec<String>,
    #[schemars(length(min = 1))]
    pub pool: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RequestedPool {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needed: Option<Needed>,
    #[schemars(length(min = 1))]
    pub pool: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Needed {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "text::integer_schema")]
    pub ipv4_addrs: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "text::integer_schema")]
    pub ipv6_addrs: Option<i64>,
}

/// Written by agents and operators; only `load-balancer` is read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct CiliumNodeStatus {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alibaba_cloud: Option<AlibabaCloudStatus>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azure: Option<AzureStatus>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eni: Option<EniStatus>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipam: Option<IpamStatus>,
    /// Ours: what the load balancer of the node has no room for. Its agent writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<LoadBalancerStatus>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LoadBalancerStatus {
    /// Maps of the kernel that are full, by name, and the Services that are not served on the node for that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<FullMap>,
}

/// A map that is full, and what did not fit into it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FullMap {
    /// How many entries it has room for.
    #[schemars(schema_with = "text::count_schema")]
    pub limit: i64,
    /// Its name in the kernel, such as `FRONTENDS4`.
    #[schemars(length(min = 1))]
    pub map: String,
    /// How many Services do not fit beside those in `services`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "text::count_schema")]
    pub more: Option<i64>,
    /// The first of them, as `namespace/name`, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<String>,
}

/// Which addresses and prefixes of the node are in use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct IpamStatus {
    /// An address that belongs to the node for good, such as an Elastic IP of AWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assigned_static_ip: Option<String>,
    /// Those of `spec.ipam.ipv6-pool` in use.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ipv6_used: BTreeMap<String, PoolAddress>,
    /// What the operator has to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator_status: Option<OperatorStatus>,
    /// By prefix of `spec.ipam.podCIDRs`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pod_cidrs: BTreeMap<String, PodCidrState>,
    /// IPv4 addresses on their way back to the cloud.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub release_ips: BTreeMap<String, ReleaseState>,
    /// IPv6 addresses on their way back to the cloud.
    #[serde(rename = "release-ipv6s", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub release_ipv6s: BTreeMap<String, ReleaseState>,
    /// Those of `spec.ipam.pool` in use.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub used: BTreeMap<String, PoolAddress>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OperatorStatus {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PodCidrState {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<PodCidrUse>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum PodCidrUse {
    Released,
    Depleted,
    InUse,
}

/// The operator marks, the agent agrees or not, the operator releases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum ReleaseState {
    MarkedForRelease,
    ReadyForRelease,
    DoNotRelease,
    Released,
}
