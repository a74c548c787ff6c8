//! `CiliumBGPAdvertisement`: what is announced, with which attributes.

use kube::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::community;
use crate::selector::LabelSelector;
use crate::text;

/// A list of things to announce. Peers select these objects by label.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "cilium.io",
    version = "v2",
    kind = "CiliumBGPAdvertisement",
    plural = "ciliumbgpadvertisements",
    shortname = "cbgpadvert",
    category = "cilium",
    category = "ciliumbgp",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct AdvertisementSpec {
    pub advertisements: Vec<Advertisement>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "BGPAdvertisement")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "self.advertisementType != 'Service' || has(self.service)",
        "message": "service field is required for the 'Service' advertisementType",
    },
    {
        "rule": "self.advertisementType != 'PodCIDR' || !has(self.selector)",
        "message": "selector field is not allowed for the 'PodCIDR' advertisementType",
    },
]))]
pub struct Advertisement {
    pub advertisement_type: AdvertisementType,
    /// Required by type `Service`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceOptions>,
    /// Which Services or pools. Missing: none; `{}`: all. Not allowed for `PodCIDR`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attributes: Option<Attributes>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum AdvertisementType {
    #[serde(rename = "PodCIDR")]
    PodCidr,
    #[serde(rename = "CiliumPodIPPool")]
    PodIpPool,
    Service,
}

impl AdvertisementType {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PodCidr => "PodCIDR",
            Self::PodIpPool => "CiliumPodIPPool",
            Self::Service => "Service",
        }
    }
}

/// Which addresses of a Service, and how coarse.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceOptions {
    #[schemars(length(min = 1))]
    pub addresses: Vec<ServiceAddressType>,
    /// Announce prefixes of this length instead of single addresses.
    #[serde(
        rename = "aggregationLengthIPv4",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 0, max = 31))]
    pub aggregation_length_ipv4: Option<u8>,
    #[serde(
        rename = "aggregationLengthIPv6",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 0, max = 127))]
    pub aggregation_length_ipv6: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum ServiceAddressType {
    #[serde(rename = "LoadBalancerIP")]
    LoadBalancerIp,
    #[serde(rename = "ClusterIP")]
    ClusterIp,
    #[serde(rename = "ExternalIP")]
    ExternalIp,
}

impl ServiceAddressType {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LoadBalancerIp => "LoadBalancerIP",
            Self::ClusterIp => "ClusterIP",
            Self::ExternalIp => "ExternalIP",
        }
    }
}

/// Path attributes set on what is announced. Missing members leave the attribute alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Attributes {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub communities: Option<Communities>,
    /// LOCAL_PREF. The schema has no bounds; what does not fit 32 bits is reported and brought to
    /// the nearest bound: see [`Attributes::local_pref`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_preference: Option<i64>,
    /// Stentor's own: MULTI_EXIT_DISC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 4294967295u32))]
    pub med: Option<u32>,
    /// Stentor's own: how many times the local AS is put before the AS path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 16))]
    pub as_path_prepend: Option<u8>,
    /// Stentor's own: RFC 4360, for example `rt:65000:1`, `soo:10.0.0.1:7`,
    /// `link-bandwidth:65000:125000000` (bytes per second) or sixteen hex digits `0x0002fde800000064`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extended_communities: Vec<String>,
    /// Stentor's own: announced instead of the session's own address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "text::ip_schema")]
    pub next_hop: Option<String>,
}

impl Attributes {
    /// `localPreference` as it goes on the wire.
    pub fn local_pref(&self) -> Option<u32> {
        self.local_preference
            .map(|value| u32::try_from(value).unwrap_or(if value < 0 { 0 } else { u32::MAX }))
    }
}

/// Communities as written; [`community`] turns them into numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Communities {
    /// RFC 1997, decimal or `number:number`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "standard_schema")]
    pub standard: Vec<String>,
    /// RFC 1997, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub well_known: Vec<community::WellKnown>,
    /// RFC 8092, `number:number:number`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "large_schema")]
    pub large: Vec<String>,
}

fn standard_schema(_: &mut SchemaGenerator) -> Schema {
    let (u16, u32) = (community::U16_PATTERN, community::U32_PATTERN);
    json_schema!({
        "type": "array",
        "items": { "type": "string", "pattern": format!("^{u32}$|^{u16}:{u16}$") },
    })
}

fn large_schema(_: &mut SchemaGenerator) -> Schema {
    let u32 = community::U32_PATTERN;
    json_schema!({
        "type": "array",
        "items": { "type": "string", "pattern": format!("^{u32}:{u32}:{u32}$") },
    })
}
