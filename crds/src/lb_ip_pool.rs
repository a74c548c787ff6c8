//! `CiliumLoadBalancerIPPool`: where LoadBalancer addresses come from.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition::Condition;
use crate::selector::LabelSelector;
use crate::text;

/// Blocks of addresses for the Services a selector picks.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "cilium.io",
    version = "v2",
    kind = "CiliumLoadBalancerIPPool",
    plural = "ciliumloadbalancerippools",
    shortname = "ippools",
    shortname = "ippool",
    shortname = "lbippool",
    shortname = "lbippools",
    category = "cilium",
    status = "LoadBalancerIpPoolStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Disabled","type":"boolean","jsonPath":".spec.disabled"}"#,
    printcolumn = r#"{"name":"Conflicting","type":"string","jsonPath":".status.conditions[?(@.type==\"cilium.io/PoolConflict\")].status"}"#,
    printcolumn = r#"{"name":"IPs Available","type":"string","jsonPath":".status.conditions[?(@.type==\"cilium.io/IPsAvailable\")].message"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancerIpPoolSpec {
    /// Matched on a Service's labels and on `io.kubernetes.service.name` and `.namespace`.
    /// Missing: every Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_selector: Option<LabelSelector>,
    /// `No` keeps the first and last address of each CIDR block back. Missing: `Yes`.
    #[serde(
        rename = "allowFirstLastIPs",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub allow_first_last_ips: Option<AllowFirstLastIps>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocks: Vec<PoolBlock>,
    /// No new allocations; what is allocated stays.
    #[serde(default)]
    pub disabled: bool,
    /// Ours: pools of a higher priority are drawn from first, equal ones by name. Missing: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// Ours: `false` serves only Services that name an address. Missing: `true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_assign: Option<bool>,
    /// Ours: parts of the blocks that are never handed out; what is allocated stays.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reserved: Vec<PoolBlock>,
    /// Ours: what becomes of addresses in use when their block is removed. `Retain`: they stay with their Services, where
    /// an operator gave them. Missing: `Reassign`, they are replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_removal: Option<BlockRemoval>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum BlockRemoval {
    Retain,
    Reassign,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum AllowFirstLastIps {
    Yes,
    No,
}

/// A prefix, or a range, or one address (`start` alone). `cidr` wins over `start` and `stop`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolBlock {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "text::cidr_schema")]
    pub cidr: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LoadBalancerIpPoolStatus {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
