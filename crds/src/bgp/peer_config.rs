//! `CiliumBGPPeerConfig`: how a session is run, and what is announced over it.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::family::{Afi, Safi};
use crate::condition::Condition;
use crate::selector::LabelSelector;
use crate::text;

/// Settings that peers refer to by name. `Default` holds what a missing object means.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "cilium.io",
    version = "v2",
    kind = "CiliumBGPPeerConfig",
    plural = "ciliumbgppeerconfigs",
    shortname = "cbgppeer",
    category = "cilium",
    category = "ciliumbgp",
    status = "PeerConfigStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct PeerConfigSpec {
    /// Missing: `Transport::default()`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transport: Option<Transport>,
    /// Missing: `Timers::default()`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timers: Option<Timers>,
    /// A Secret in the namespace of BGP secrets whose key `password` authenticates the session
    /// (TCP-MD5, RFC 2385). Missing: no authentication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_secret_ref: Option<String>,
    /// Missing: the capability is not sent (RFC 4724).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graceful_restart: Option<GracefulRestart>,
    /// TTL of packets to an external peer; 1 demands a directly connected one.
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    pub ebgp_multihop: u8,
    /// Stentor's own: the Generalized TTL Security Mechanism (RFC 5082). Excludes `ebgpMultihop`
    /// above 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_security: Option<TtlSecurity>,
    /// Stentor's own: the most prefixes the peer may send, per family. Missing: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_prefixes: Option<MaxPrefixes>,
    /// What is negotiated and what is announced. Empty: IPv6 and IPv4 unicast are negotiated and
    /// nothing is announced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub families: Vec<FamilyWithAdvertisements>,
}

pub(super) fn one() -> u8 {
    1
}

impl Default for PeerConfigSpec {
    fn default() -> Self {
        Self {
            transport: None,
            timers: None,
            auth_secret_ref: None,
            graceful_restart: None,
            ebgp_multihop: one(),
            ttl_security: None,
            max_prefixes: None,
            families: Vec::new(),
        }
    }
}

/// Where and how the TCP connection is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Transport {
    /// The port the peer listens on.
    #[serde(default = "bgp_port")]
    #[schemars(range(min = 1))]
    pub peer_port: u16,
    /// v2alpha1 only and without effect, as in Cilium.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub local_port: Option<u16>,
    /// Stentor's own: wait for the peer to dial. The instance must listen (`localPort`).
    #[serde(default)]
    pub passive: bool,
    /// Stentor's own: the source address of the session. An override's `localAddress` wins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "text::ip_schema")]
    pub local_address: Option<String>,
    /// Stentor's own: bind the connection to this interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 15))]
    pub interface: Option<String>,
}

pub(super) fn bgp_port() -> u16 {
    179
}

impl Default for Transport {
    fn default() -> Self {
        Self {
            peer_port: bgp_port(),
            local_port: None,
            passive: false,
            local_address: None,
            interface: None,
        }
    }
}

/// RFC 4271 10, all in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "self.keepAliveTimeSeconds <= self.holdTimeSeconds",
    "message": "keepAliveTimeSeconds can not be larger than holdTimeSeconds",
}]))]
pub struct Timers {
    #[serde(default = "connect_retry")]
    #[schemars(range(min = 1, max = 2147483647))]
    pub connect_retry_time_seconds: u32,
    #[serde(default = "hold")]
    #[schemars(range(min = 3))]
    pub hold_time_seconds: u16,
    /// Must not exceed the hold time.
    #[serde(default = "keep_alive")]
    #[schemars(range(min = 1))]
    pub keep_alive_time_seconds: u16,
}

pub(super) fn connect_retry() -> u32 {
    120
}

pub(super) fn hold() -> u16 {
    90
}

pub(super) fn keep_alive() -> u16 {
    30
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            connect_retry_time_seconds: connect_retry(),
            hold_time_seconds: hold(),
            keep_alive_time_seconds: keep_alive(),
        }
    }
}

/// RFC 4724.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GracefulRestart {
    pub enabled: bool,
    /// How long the peer keeps our routes after the session ended.
    #[serde(default = "restart_time")]
    #[schemars(range(min = 1, max = 4095))]
    pub restart_time_seconds: u16,
}

fn restart_time() -> u16 {
    120
}

/// RFC 5082: packets from farther away than `hops` are dropped by the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TtlSecurity {
    /// How far away the peer may be; 1 is directly connected. The received TTL must be at least
    /// 256 - hops.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 254))]
    pub hops: u8,
}

/// RFC 4271 6.7 and RFC 4486: what happens to a peer that sends more than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MaxPrefixes {
    /// Per family.
    #[schemars(range(min = 1, max = 4294967295u32))]
    pub limit: u32,
    /// A warning is logged at this share of the limit.
    #[serde(default = "warning_percent")]
    #[schemars(range(min = 1, max = 100))]
    pub warning_percent: u8,
    #[serde(default)]
    pub action: MaxPrefixAction,
    /// With `Teardown`: try again after this long. Missing: stay down until the configuration
    /// changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2147483647))]
    pub restart_seconds: Option<u32>,
}

fn warning_percent() -> u8 {
    75
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum MaxPrefixAction {
    /// End the session with Cease, Maximum Number of Prefixes Reached.
    #[default]
    Teardown,
    /// Keep the session, refuse what exceeds the limit.
    Hold,
    /// Only say so.
    Warn,
}

/// A family and the advertisements sent in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FamilyWithAdvertisements {
    pub afi: Afi,
    pub safi: Safi,
    /// Selects `CiliumBGPAdvertisement` objects by label. Missing: none; `{}`: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertisements: Option<LabelSelector>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PeerConfigStatus {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
