//! Address families by the names the CRDs give them.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Address Family Identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Afi {
    Ipv4,
    Ipv6,
    L2vpn,
    Ls,
    Opaque,
}

/// Subsequent Address Family Identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Safi {
    Unicast,
    Multicast,
    MplsLabel,
    Encapsulation,
    Vpls,
    Evpn,
    Ls,
    SrPolicy,
    Mup,
    MplsVpn,
    MplsVpnMulticast,
    RouteTargetConstraints,
    FlowspecUnicast,
    FlowspecVpn,
    KeyValue,
}

impl Afi {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
            Self::L2vpn => "l2vpn",
            Self::Ls => "ls",
            Self::Opaque => "opaque",
        }
    }
}

impl Safi {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unicast => "unicast",
            Self::Multicast => "multicast",
            Self::MplsLabel => "mpls_label",
            Self::Encapsulation => "encapsulation",
            Self::Vpls => "vpls",
            Self::Evpn => "evpn",
            Self::Ls => "ls",
            Self::SrPolicy => "sr_policy",
            Self::Mup => "mup",
            Self::MplsVpn => "mpls_vpn",
            Self::MplsVpnMulticast => "mpls_vpn_multicast",
            Self::RouteTargetConstraints => "route_target_constraints",
            Self::FlowspecUnicast => "flowspec_unicast",
            Self::FlowspecVpn => "flowspec_vpn",
            Self::KeyValue => "key_value",
        }
    }
}

impl fmt::Display for Afi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Safi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
