//! `CiliumPodIPPool` (v2alpha1): where pod addresses come from in multi-pool IPAM. Only read.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::selector::LabelSelector;
use crate::text;

/// The prefixes nodes cut their pod prefixes from.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "cilium.io",
    version = "v2alpha1",
    kind = "CiliumPodIPPool",
    plural = "ciliumpodippools",
    shortname = "cpip",
    category = "cilium",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct PodIpPoolSpec {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<Ipv4Pool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Ipv6Pool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<LabelSelector>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ipv4Pool {
    #[schemars(schema_with = "text::cidrs_schema", length(min = 1))]
    pub cidrs: Vec<String>,
    /// The length of the prefix each node gets.
    #[schemars(range(min = 1, max = 32))]
    pub mask_size: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ipv6Pool {
    #[schemars(schema_with = "text::cidrs_schema", length(min = 1))]
    pub cidrs: Vec<String>,
    /// The length of the prefix each node gets.
    #[schemars(range(min = 1, max = 128))]
    pub mask_size: u8,
}
