//! `CiliumLocalRedirectPolicy`: traffic to an address or a Service that a pod of the same node takes. Defined, not read
//! yet.
//!
//! The status is written with the rest of the object: Cilium's definition has no subresource for it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::TypeMeta;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::selector::LabelSelector;
use crate::text;

/// Traffic of a node's pods that goes to a pod of the same node instead of where it was sent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CiliumLocalRedirectPolicy {
    #[serde(flatten)]
    #[schemars(skip)]
    pub types: Option<TypeMeta>,
    #[schemars(skip)]
    pub metadata: ObjectMeta,
    /// Which traffic goes where. Missing: none is redirected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<LocalRedirectPolicySpec>,
    /// Written by agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<LocalRedirectPolicyStatus>,
}

/// Which traffic goes where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalRedirectPolicySpec {
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Where the traffic goes. Can not be changed.
    pub redirect_backend: RedirectBackend,
    /// Which traffic. Can not be changed.
    pub redirect_frontend: RedirectFrontend,
    /// `true`: what the pods it goes to send there themselves is not redirected. Missing: `false`. Can not be changed.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-validations" = [
        { "rule": "self == oldSelf", "message": "skipRedirectFromBackend is immutable" },
    ]))]
    pub skip_redirect_from_backend: bool,
}

/// Which traffic is redirected: exactly one of the two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(
    extend("oneOf" = [{ "required": ["addressMatcher"] }, { "required": ["serviceMatcher"] }]),
    extend("x-kubernetes-validations" = [
        { "rule": "self == oldSelf", "message": "redirectFrontend is immutable" },
    ])
)]
pub struct RedirectFrontend {
    /// By address and port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address_matcher: Option<AddressMatcher>,
    /// To the ClusterIP of a Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_matcher: Option<ServiceMatcher>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AddressMatcher {
    /// The destination, for example 169.254.169.254.
    #[schemars(schema_with = "text::ip_schema")]
    pub ip: String,
    /// More than one: each must have a name.
    pub to_ports: Vec<PortInfo>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceMatcher {
    /// Must be the policy's own.
    pub namespace: String,
    /// A Service of type ClusterIP.
    pub service_name: String,
    /// Missing: all ports of the Service. More than one: each must have a name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to_ports: Vec<PortInfo>,
}

/// Pods of the node, and their ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "self == oldSelf", "message": "redirectBackend is immutable" },
]))]
pub struct RedirectBackend {
    /// Pods of the policy's namespace. `{}`: all of them.
    pub local_endpoint_selector: LabelSelector,
    /// More than one: each goes with the port of the same name above.
    pub to_ports: Vec<PortInfo>,
}

/// A port of a transport protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PortInfo {
    /// Letters, digits and single hyphens between them, with at least one letter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "port_name_schema")]
    pub name: Option<String>,
    /// 1 to 65535, as text.
    #[schemars(schema_with = "port_schema")]
    pub port: String,
    pub protocol: RedirectProtocol,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[schemars(inline)]
pub enum RedirectProtocol {
    Tcp,
    Udp,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LocalRedirectPolicyStatus {
    /// Whether the policy is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ok: Option<bool>,
}

/// As in Cilium: only the last alternative is anchored at the end.
fn port_name_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "pattern": "^([0-9]{1,4})|([a-zA-Z0-9]-?)*[a-zA-Z](-?[a-zA-Z0-9])*$",
    })
}

/// As in Cilium: it also refuses 60000 to 60999, 65000 to 65099, 65500 to 65509 and 65530.
fn port_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "pattern":
            "^()([1-9]|[1-5]?[0-9]{2,4}|6[1-4][0-9]{3}|65[1-4][0-9]{2}|655[1-2][0-9]|6553[1-5])$",
    })
}
