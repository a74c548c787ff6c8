//! `CiliumNetworkPolicy` and `CiliumClusterwideNetworkPolicy`: who may talk to whom. Defined, not read yet.
//!
//! Both kinds hold rules: one under `spec`, any number under `specs`. [`rule`] is one rule, [`peer`] says who is on the
//! other side, [`port`] on which ports, [`l7`] with which requests.
//!
//! A list that is missing and one that is empty differ (`fromEndpoints: []` allows nobody), so lists are optional here.

pub mod l7;
pub mod peer;
pub mod port;
pub mod rule;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::TypeMeta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use rule::Rule;

/// Rules for the pods of its namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CiliumNetworkPolicy {
    #[serde(flatten)]
    #[schemars(skip)]
    pub types: Option<TypeMeta>,
    #[schemars(skip)]
    pub metadata: ObjectMeta,
    #[serde(flatten)]
    pub content: Content,
}

/// Rules for the pods of all namespaces, or for nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CiliumClusterwideNetworkPolicy {
    #[serde(flatten)]
    #[schemars(skip)]
    pub types: Option<TypeMeta>,
    #[schemars(skip)]
    pub metadata: ObjectMeta,
    #[serde(flatten)]
    pub content: Content,
}

/// What both kinds hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Content {
    /// One rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<Rule>,
    /// More rules. They count together with `spec`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub specs: Option<Vec<Rule>>,
    /// Written by operators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<PolicyStatus>,
}

/// Whether the policy is usable, and what was made from it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyStatus {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<PolicyCondition>,
    /// Policies made from this one for members of groups at a cloud, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub derivative_policies: BTreeMap<String, DerivativePolicy>,
}

/// One aspect of the state of a policy. Unlike the condition of other kinds it needs no reason and no time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyCondition {
    /// When `status` last changed, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub last_transition_time: Option<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// For programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// `Valid`, for example.
    #[serde(rename = "type")]
    pub kind: String,
}

/// How a derived policy fares on a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DerivativePolicy {
    /// Those of the policy when this was written.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Whether all endpoints it selects follow it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforcing: Option<bool>,
    /// Why it could not be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub last_updated: Option<String>,
    /// The number of the node's rule set that first had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_policy_revision: Option<i64>,
    /// Whether it was understood and taken in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ok: Option<bool>,
}
