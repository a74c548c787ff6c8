//! `CiliumEndpoint`: what the agent of a node says about one pod there. Defined, not read yet.
//!
//! It has no spec: nobody wishes for an endpoint, it follows from a pod of the same name and namespace.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::TypeMeta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cilium_node::{AddressPair, Encryption};
use crate::text;

/// A pod as the datapath of its node knows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CiliumEndpoint {
    #[serde(flatten)]
    #[schemars(skip)]
    pub types: Option<TypeMeta>,
    #[schemars(skip)]
    pub metadata: ObjectMeta,
    /// Written by the agent of the pod's node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<EndpointStatus>,
}

/// Addresses, identity and state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct EndpointStatus {
    /// Background work for this endpoint that fails.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub controllers: Vec<Controller>,
    /// How traffic to the endpoint's node is encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,
    /// What others call the endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_identifiers: Option<ExternalIdentifiers>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<EndpointHealth>,
    /// Its number on its node; other nodes use the same numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<i64>,
    /// Its security identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<EndpointIdentity>,
    /// The last warnings and errors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<StatusChange>,
    /// Ports of its containers that policies may name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub named_ports: Vec<NamedPort>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub networking: Option<EndpointNetworking>,
    /// What policies come to here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<EndpointPolicy>,
    /// The service account of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<EndpointState>,
}

/// Where an endpoint is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum EndpointState {
    Creating,
    WaitingForIdentity,
    NotReady,
    WaitingToRegenerate,
    Regenerating,
    Restoring,
    Ready,
    Disconnecting,
    Disconnected,
    Invalid,
}

/// Work that is repeated until it succeeds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Controller {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<ControllerConfiguration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<ControllerStatus>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
}

/// How often the work is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ControllerConfiguration {
    /// Whether it is tried again after an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_retry: Option<bool>,
    /// The first wait after an error, in nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_retry_base: Option<i64>,
    /// Between two runs, in nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<i64>,
}

/// How the work went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ControllerStatus {
    /// Failures since the last success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consecutive_failure_count: Option<i64>,
    /// Failures ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_count: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure_msg: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure_timestamp: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success_timestamp: Option<String>,
    /// Successes ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success_count: Option<i64>,
}

/// Names of the endpoint elsewhere. `cni-attachment-id` is unique; the others may not be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ExternalIdentifiers {
    /// The container and the interface in it, as the container runtime names them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cni_attachment_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docker_endpoint_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docker_network_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub k8s_namespace: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub k8s_pod_name: Option<String>,
    /// `namespace/name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_name: Option<String>,
}

/// What works and what does not: `OK`, `Bootstrap`, `Pending`, `Warning`, `Failure` or `Disabled`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndpointHealth {
    /// Of the programs on its interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bpf: Option<String>,
    /// Whether it can be reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connected: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overall_health: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
}

/// A number, and the labels it stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EndpointIdentity {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<i64>,
    /// Each as `source:key=value`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
}

/// A line of the endpoint's log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StatusChange {
    /// `ok` or `failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The state it was in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<String>,
}

/// A port of a container and its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NamedPort {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "text::integer_schema")]
    pub port: Option<i64>,
    /// `TCP`, `UDP`, `SCTP`, `ICMP`, `ICMPV6` or `ANY`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
}

/// How the endpoint is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EndpointNetworking {
    /// Its own addresses.
    pub addressing: Vec<AddressPair>,
    /// The address of its node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

/// What policies allow and deny, by direction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EndpointPolicy {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<PolicyDirection>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<PolicyDirection>,
}

/// One direction of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyDirection {
    /// No longer written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adding: Vec<IdentityTuple>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed: Vec<IdentityTuple>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub denied: Vec<IdentityTuple>,
    /// Whether what is not allowed is dropped.
    pub enforcing: bool,
    /// No longer written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removing: Vec<IdentityTuple>,
    /// `enforcing`, `non-enforcing` or `disabled`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

/// A peer and a port. A number that is missing or 0 stands for all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct IdentityTuple {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "text::integer_schema")]
    pub dest_port: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<i64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub identity_labels: BTreeMap<String, String>,
    /// The number of the protocol (6 is TCP, 17 UDP).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "text::integer_schema")]
    pub protocol: Option<i64>,
}
