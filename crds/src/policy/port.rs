//! On which ports and with which ICMP messages.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::l7::L7Rules;

/// Ports, and what may be asked on them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PortRule {
    /// Hands the traffic to a listener of an Envoy configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<Listener>,
    /// TLS of the connections the proxy makes.
    #[serde(rename = "originatingTLS", default, skip_serializing_if = "Option::is_none")]
    pub originating_tls: Option<TlsContext>,
    /// Missing or empty: all ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub ports: Option<Vec<PortProtocol>>,
    /// Requests that are allowed. Missing: all, and no proxy looks at them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<L7Rules>,
    /// TLS names (SNI), one of which the client must ask for. `*.` stands for one label, `**.` for one or more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "server_names_schema")]
    pub server_names: Option<Vec<String>>,
    /// TLS of the connections the proxy takes.
    #[serde(rename = "terminatingTLS", default, skip_serializing_if = "Option::is_none")]
    pub terminating_tls: Option<TlsContext>,
}

/// Ports that are denied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PortDenyRule {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<Vec<PortProtocol>>,
}

/// A port, a range of ports, or all of a protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PortProtocol {
    /// The last port of a range that starts at `port`. Missing: that port alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 65535))]
    pub end_port: Option<i32>,
    /// A number from 0 (all ports) to 65535 as text, or the name of a port of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(
        pattern = r"^(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[0-9]{1,4})|([a-zA-Z0-9]-?)*[a-zA-Z](-?[a-zA-Z0-9])*$"
    ))]
    pub port: Option<String>,
    /// Missing: `ANY`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<TransportProtocol>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[schemars(inline)]
pub enum TransportProtocol {
    Tcp,
    Udp,
    Sctp,
    Vrrp,
    Igmp,
    Any,
}

/// A listener and where it is defined.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Listener {
    pub envoy_config: EnvoyConfigRef,
    /// The listener in that configuration.
    #[schemars(length(min = 1))]
    pub name: String,
    /// 1 to 100. Which listener takes traffic that rules hand to several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "priority_schema")]
    pub priority: Option<u8>,
}

/// Names an Envoy configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EnvoyConfigRef {
    /// Missing: as clusterwide as the policy is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<EnvoyConfigKind>,
    #[schemars(length(min = 1))]
    pub name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum EnvoyConfigKind {
    CiliumEnvoyConfig,
    CiliumClusterwideEnvoyConfig,
}

/// Keys and certificates, by their names in a Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TlsContext {
    /// Missing: `tls.crt` of the Secret, if it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// Missing: `tls.key` of the Secret, if it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_key: Option<String>,
    pub secret: SecretRef,
    /// The certificates that others are checked with. Missing: `ca.crt` of the Secret, if it is there.
    #[serde(rename = "trustedCA", default, skip_serializing_if = "Option::is_none")]
    pub trusted_ca: Option<String>,
}

/// Names a Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretRef {
    pub name: String,
    /// Missing: as is usual where it stands, for example `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// ICMP messages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IcmpRule {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub fields: Option<Vec<IcmpField>>,
}

/// One kind of message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IcmpField {
    /// ICMP or ICMPv6. Missing: `IPv4`.
    #[serde(default)]
    pub family: IcmpFamily,
    /// A number from 0 to 255, or a name.
    #[serde(rename = "type")]
    #[schemars(schema_with = "icmp_type_schema")]
    pub kind: IntOrString,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum IcmpFamily {
    #[default]
    #[serde(rename = "IPv4")]
    Ipv4,
    #[serde(rename = "IPv6")]
    Ipv6,
}

fn priority_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer", "minimum": 1, "maximum": 100 })
}

fn server_names_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "minItems": 1,
        "x-kubernetes-list-type": "set",
        "items": {
            "type": "string",
            "maxLength": 255,
            "pattern": r"^(\*?\*\.)?([-a-zA-Z0-9_]+\.?)+$",
        },
    })
}

/// Names of ICMP messages. The blank in one of them is Cilium's: other spellings are refused.
const ICMP_TYPES: [&str; 13] = [
    "EchoReply",
    "DestinationUnreachable",
    "Redirect",
    "Echo",
    "RouterAdvertisement",
    "RouterSelection",
    "TimeExceeded",
    "ParameterProblem",
    "Timestamp",
    "TimestampReply",
    "Photuris",
    "ExtendedEchoRequest",
    "ExtendedEcho Reply",
];

/// Names of ICMPv6 messages.
const ICMP_V6_TYPES: [&str; 22] = [
    "PacketTooBig",
    "ParameterProblem",
    "EchoRequest",
    "MulticastListenerQuery",
    "MulticastListenerReport",
    "MulticastListenerDone",
    "RouterSolicitation",
    "RouterAdvertisement",
    "NeighborSolicitation",
    "NeighborAdvertisement",
    "RedirectMessage",
    "RouterRenumbering",
    "ICMPNodeInformationQuery",
    "ICMPNodeInformationResponse",
    "InverseNeighborDiscoverySolicitation",
    "InverseNeighborDiscoveryAdvertisement",
    "HomeAgentAddressDiscoveryRequest",
    "HomeAgentAddressDiscoveryReply",
    "MobilePrefixSolicitation",
    "MobilePrefixAdvertisement",
    "DuplicateAddressRequestCodeSuffix",
    "DuplicateAddressConfirmationCodeSuffix",
];

/// The pattern holds for texts only: the API server takes every number, as it does for Cilium.
fn icmp_type_schema(_: &mut SchemaGenerator) -> Schema {
    let names = [&ICMP_TYPES[..], &ICMP_V6_TYPES[..]].concat();
    let numbers = "[0-9]|[1-9][0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5]";
    json_schema!({
        "x-kubernetes-int-or-string": true,
        "pattern": format!("^({numbers}|{})$", names.join("|")),
    })
}
