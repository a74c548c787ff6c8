//! `CiliumEgressGatewayPolicy`: pods whose traffic leaves the cluster through chosen nodes, from chosen addresses.
//! Defined, not read yet.

use kube::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::selector::LabelSelector;
use crate::text;

/// Pods, destinations, and the nodes through which the one reaches the other.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "cilium.io",
    version = "v2",
    kind = "CiliumEgressGatewayPolicy",
    plural = "ciliumegressgatewaypolicies",
    shortname = "cegp",
    category = "cilium",
    category = "ciliumpolicy",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct EgressGatewayPolicySpec {
    /// Traffic to any of these prefixes goes through the gateway.
    #[serde(rename = "destinationCIDRs")]
    #[schemars(schema_with = "destinations_schema")]
    pub destination_cidrs: Vec<String>,
    /// The gateway.
    pub egress_gateway: EgressGateway,
    /// Several gateways. If there are any, `egressGateway` counts for nothing. Missing: none.
    #[serde(default)]
    pub egress_gateways: Vec<EgressGateway>,
    /// Parts of the destinations that are reached directly.
    #[serde(rename = "excludedCIDRs", default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "destinations_schema")]
    pub excluded_cidrs: Vec<String>,
    /// Which pods: those that any entry selects.
    pub selectors: Vec<EgressSource>,
}

/// A node and the source address its kernel gives to the traffic. Neither `egressIP` nor `interface`: the first
/// address of the interface of the default route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EgressGateway {
    /// The source address. One of the node's interfaces must have it. Not together with `interface`.
    #[serde(rename = "egressIP", default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "text::ipv4_schema")]
    pub egress_ip: Option<String>,
    /// The source address is the first of this interface. Not together with `egressIP`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Several nodes match: the first by name.
    pub node_selector: LabelSelector,
}

/// Pods that all the selectors given select.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EgressSource {
    /// Over the labels of namespaces. `{}`: every namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// Over the labels of the nodes they are on. `{}`: every node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<LabelSelector>,
    /// Over the labels of pods. `{}`: every pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<LabelSelector>,
}

/// Prefixes, by pattern and not by format.
///
/// As in Cilium, where the part for IPv6 has lost its backslashes: a prefix that ends in a dotted quad is refused, and
/// letters `s` around an address are let through.
fn destinations_schema(_: &mut SchemaGenerator) -> Schema {
    const OCTET: &str = "(?:25[0-5]|2[0-4][0-9]|[01]?[0-9][0-9]?)";
    const TAIL: &str = "((25[0-5]|2[0-4]d|1dd|[1-9]?d)(.(25[0-5]|2[0-4]d|1dd|[1-9]?d)){3})";
    let v4 = format!(r"^(?:{OCTET}\.){{3}}{OCTET}\/([0-9]|[1-2][0-9]|3[0-2])$");
    let v6 = format!(
        r"^s*({})(%.+)?s*(\/(12[0-8]|1[0-1][0-9]|[1-9][0-9]|[0-9]))$",
        text::ipv6_pattern(TAIL)
    );
    json_schema!({
        "type": "array",
        "items": { "type": "string", "pattern": format!("{v4}|{v6}") },
    })
}
