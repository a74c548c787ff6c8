//! One rule: whom it is about, and what it allows and denies them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::peer::{CidrRule, Entity, FqdnSelector, Groups, ServiceTarget};
use super::port::{IcmpRule, PortDenyRule, PortRule};
use crate::selector::LabelSelector;
use crate::text;

/// Subjects and what they may receive and send. Exactly one selector, and at least one of the four lists.
///
/// What is denied is denied, whatever any rule allows. A direction that any rule of a subject has a list for is closed
/// by default; see `enableDefaultDeny`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(
    extend("oneOf" = [{ "required": ["endpointSelector"] }, { "required": ["nodeSelector"] }]),
    extend("anyOf" = [
        { "required": ["ingress"] },
        { "required": ["ingressDeny"] },
        { "required": ["egress"] },
        { "required": ["egressDeny"] },
    ])
)]
pub struct Rule {
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What subjects may send. Missing or empty: this rule says nothing about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Vec<EgressRule>>,
    /// What subjects must not send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress_deny: Option<Vec<EgressDenyRule>>,
    /// Whether this rule closes a direction for what no rule allows. Missing: it closes those it has a list for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_default_deny: Option<DefaultDeny>,
    /// The subjects, if they are pods. `{}`: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint_selector: Option<LabelSelector>,
    /// What subjects may receive. Missing or empty: this rule says nothing about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<Vec<IngressRule>>,
    /// What subjects must not receive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress_deny: Option<Vec<IngressDenyRule>>,
    /// Labels of the rule itself. They need not be unique.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<RuleLabel>>,
    /// What flows that this rule decides carry in the flow log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<RuleLog>,
    /// The subjects, if they are nodes: in a `CiliumClusterwideNetworkPolicy` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<LabelSelector>,
}

/// By direction: whether what no rule allows is dropped. A subject's direction is closed once any rule closes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DefaultDeny {
    /// Missing: `true` if the rule has `egress` or `egressDeny`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<bool>,
    /// Missing: `true` if the rule has `ingress` or `ingressDeny`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<bool>,
}

/// A label with its source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RuleLabel {
    pub key: String,
    /// Who gave the label, for example `k8s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RuleLog {
    /// At most 32 characters, all printable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = r"^\PC*$"))]
    pub value: Option<String>,
}

/// What may be received: all members given must match. Of the peers, only one kind may be given; without any, all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IngressRule {
    /// Peers must have proved who they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication: Option<Authentication>,
    /// Peers outside the cluster, by address.
    #[serde(rename = "fromCIDR", default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "text::cidrs_schema")]
    pub from_cidr: Option<Vec<String>>,
    /// The same with exceptions, and by the names of groups.
    #[serde(rename = "fromCIDRSet", default, skip_serializing_if = "Option::is_none")]
    pub from_cidr_set: Option<Vec<CidrRule>>,
    /// Pods by their labels; of the policy's namespace unless a selector names another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_endpoints: Option<Vec<LabelSelector>>,
    /// Peers that have no labels of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_entities: Option<Vec<Entity>>,
    /// Peers that a cloud knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_groups: Option<Vec<Groups>>,
    /// Nodes by their labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_nodes: Option<Vec<LabelSelector>>,
    /// What all peers must match as well, in all rules. It allows nobody by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_requires: Option<Vec<LabelSelector>>,
    /// Kinds of ICMP messages. Not together with `toPorts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmps: Option<Vec<IcmpRule>>,
    /// Ports of the subject. Missing: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_ports: Option<Vec<PortRule>>,
}

/// What must not be received, as in `ingress`; requests within a connection can not be denied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IngressDenyRule {
    /// Peers outside the cluster, by address.
    #[serde(rename = "fromCIDR", default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "text::cidrs_schema")]
    pub from_cidr: Option<Vec<String>>,
    /// The same with exceptions, and by the names of groups.
    #[serde(rename = "fromCIDRSet", default, skip_serializing_if = "Option::is_none")]
    pub from_cidr_set: Option<Vec<CidrRule>>,
    /// Pods by their labels; of the policy's namespace unless a selector names another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_endpoints: Option<Vec<LabelSelector>>,
    /// Peers that have no labels of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_entities: Option<Vec<Entity>>,
    /// Peers that a cloud knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_groups: Option<Vec<Groups>>,
    /// Nodes by their labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_nodes: Option<Vec<LabelSelector>>,
    /// What all peers must match as well, in all rules. It allows nobody by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_requires: Option<Vec<LabelSelector>>,
    /// Kinds of ICMP messages. Not together with `toPorts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmps: Option<Vec<IcmpRule>>,
    /// Ports. Missing: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_ports: Option<Vec<PortDenyRule>>,
}

/// What may be sent: all members given must match. Of the peers, only one kind may be given; without any, all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EgressRule {
    /// Peers must have proved who they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication: Option<Authentication>,
    /// Kinds of ICMP messages. Not together with `toPorts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmps: Option<Vec<IcmpRule>>,
    /// Peers outside the cluster, by address.
    #[serde(rename = "toCIDR", default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "text::cidrs_schema")]
    pub to_cidr: Option<Vec<String>>,
    /// The same with exceptions, and by the names of groups.
    #[serde(rename = "toCIDRSet", default, skip_serializing_if = "Option::is_none")]
    pub to_cidr_set: Option<Vec<CidrRule>>,
    /// Pods by their labels; of the policy's namespace unless a selector names another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_endpoints: Option<Vec<LabelSelector>>,
    /// Peers that have no labels of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_entities: Option<Vec<Entity>>,
    /// Peers outside the cluster by DNS name: the addresses the subject was told for it. DNS itself must be allowed too.
    #[serde(rename = "toFQDNs", default, skip_serializing_if = "Option::is_none")]
    pub to_fqdns: Option<Vec<FqdnSelector>>,
    /// Peers that a cloud knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_groups: Option<Vec<Groups>>,
    /// Nodes by their labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_nodes: Option<Vec<LabelSelector>>,
    /// Ports of the peer. Missing: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_ports: Option<Vec<PortRule>>,
    /// What all peers must match as well, in all rules. It allows nobody by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_requires: Option<Vec<LabelSelector>>,
    /// The endpoints of Services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_services: Option<Vec<ServiceTarget>>,
}

/// What must not be sent, as in `egress`; requests within a connection can not be denied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EgressDenyRule {
    /// Kinds of ICMP messages. Not together with `toPorts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmps: Option<Vec<IcmpRule>>,
    /// Peers outside the cluster, by address.
    #[serde(rename = "toCIDR", default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "text::cidrs_schema")]
    pub to_cidr: Option<Vec<String>>,
    /// The same with exceptions, and by the names of groups.
    #[serde(rename = "toCIDRSet", default, skip_serializing_if = "Option::is_none")]
    pub to_cidr_set: Option<Vec<CidrRule>>,
    /// Pods by their labels; of the policy's namespace unless a selector names another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_endpoints: Option<Vec<LabelSelector>>,
    /// Peers that have no labels of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_entities: Option<Vec<Entity>>,
    /// Peers that a cloud knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_groups: Option<Vec<Groups>>,
    /// Nodes by their labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_nodes: Option<Vec<LabelSelector>>,
    /// Ports. Missing: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_ports: Option<Vec<PortDenyRule>>,
    /// What all peers must match as well, in all rules. It allows nobody by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_requires: Option<Vec<LabelSelector>>,
    /// The endpoints of Services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_services: Option<Vec<ServiceTarget>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Authentication {
    pub mode: AuthenticationMode,
}

/// Whether peers must prove who they are (mutual TLS handshakes between agents).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum AuthenticationMode {
    Disabled,
    Required,
    TestAlwaysFail,
}
