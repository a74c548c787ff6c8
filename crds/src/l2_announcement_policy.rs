//! `CiliumL2AnnouncementPolicy` (v2alpha1): which nodes answer ARP and neighbour solicitations for which Services.
//! Defined, not read yet.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition::Condition;
use crate::selector::LabelSelector;

/// Services and the nodes that make them known on their links. Of the nodes one is elected for each Service.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "cilium.io",
    version = "v2alpha1",
    kind = "CiliumL2AnnouncementPolicy",
    plural = "ciliuml2announcementpolicies",
    shortname = "l2announcement",
    category = "cilium",
    status = "L2AnnouncementPolicyStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct L2AnnouncementPolicySpec {
    /// Missing: every node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<LabelSelector>,
    /// Missing: every Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_selector: Option<LabelSelector>,
    /// Neither this nor `externalIPs`: nothing is announced.
    #[serde(rename = "loadBalancerIPs", default, skip_serializing_if = "Option::is_none")]
    pub load_balancer_ips: Option<bool>,
    #[serde(rename = "externalIPs", default, skip_serializing_if = "Option::is_none")]
    pub external_ips: Option<bool>,
    /// Regular expressions (RE2). Empty: every interface.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct L2AnnouncementPolicyStatus {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
