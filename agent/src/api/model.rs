//! The JSON of `/v1/bgp/...`, key for key as Cilium's agent sends it.
//!
//! Its rules: keys in alphabetical order; a scalar or object that is zero is left out; a list is always
//! there, and `null` when it is empty.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct BgpPeer {
    #[serde(skip_serializing_if = "zero")]
    pub applied_hold_time_seconds: i64,
    #[serde(skip_serializing_if = "zero")]
    pub applied_keep_alive_time_seconds: i64,
    #[serde(skip_serializing_if = "zero")]
    pub configured_hold_time_seconds: i64,
    #[serde(skip_serializing_if = "zero")]
    pub configured_keep_alive_time_seconds: i64,
    #[serde(skip_serializing_if = "zero")]
    pub connect_retry_time_seconds: i64,
    /// 1 when multihop is off.
    #[serde(skip_serializing_if = "zero")]
    pub ebgp_multihop_ttl: i64,
    #[serde(with = "list")]
    pub families: Vec<BgpPeerFamily>,
    pub graceful_restart: Option<BgpGracefulRestart>,
    #[serde(skip_serializing_if = "zero")]
    pub local_asn: i64,
    #[serde(with = "list")]
    pub local_capabilities: Vec<BgpCapability>,
    #[serde(skip_serializing_if = "zero")]
    pub peer_address: String,
    #[serde(skip_serializing_if = "zero")]
    pub peer_asn: i64,
    #[serde(skip_serializing_if = "zero")]
    pub peer_port: i64,
    #[serde(with = "list")]
    pub remote_capabilities: Vec<BgpCapability>,
    #[serde(skip_serializing_if = "zero")]
    pub session_state: String,
    #[serde(skip_serializing_if = "zero")]
    pub tcp_password_enabled: bool,
    /// Only of established sessions.
    #[serde(skip_serializing_if = "zero")]
    pub uptime_nanoseconds: i64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct BgpPeerFamily {
    #[serde(skip_serializing_if = "zero")]
    pub accepted: i64,
    #[serde(skip_serializing_if = "zero")]
    pub advertised: i64,
    #[serde(skip_serializing_if = "zero")]
    pub afi: String,
    #[serde(skip_serializing_if = "zero")]
    pub received: i64,
    #[serde(skip_serializing_if = "zero")]
    pub safi: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct BgpGracefulRestart {
    #[serde(skip_serializing_if = "zero")]
    pub enabled: bool,
    #[serde(skip_serializing_if = "zero")]
    pub restart_time_seconds: i64,
}

/// One capability TLV: code, length, value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct BgpCapability {
    #[serde(skip_serializing_if = "zero")]
    pub capabilities: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct BgpRoute {
    /// Only in answers from an Adj-RIB.
    #[serde(skip_serializing_if = "zero")]
    pub neighbor: String,
    #[serde(with = "list")]
    pub paths: Vec<BgpPath>,
    #[serde(skip_serializing_if = "zero")]
    pub prefix: String,
    #[serde(skip_serializing_if = "zero")]
    pub router_asn: i64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct BgpPath {
    #[serde(skip_serializing_if = "zero")]
    pub age_nanoseconds: i64,
    #[serde(skip_serializing_if = "zero")]
    pub best: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<BgpFamily>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nlri: Option<Base64>,
    #[serde(with = "list")]
    pub path_attributes: Vec<Base64>,
    #[serde(skip_serializing_if = "zero")]
    pub stale: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct BgpFamily {
    #[serde(skip_serializing_if = "zero")]
    pub afi: String,
    #[serde(skip_serializing_if = "zero")]
    pub safi: String,
}

/// Octets as on the wire.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Base64 {
    #[serde(skip_serializing_if = "zero")]
    pub base64: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct BgpRoutePolicy {
    #[serde(skip_serializing_if = "zero")]
    pub name: String,
    #[serde(skip_serializing_if = "zero")]
    pub router_asn: i64,
    #[serde(with = "list")]
    pub statements: Vec<BgpRoutePolicyStatement>,
    /// `import` or `export`.
    #[serde(skip_serializing_if = "zero")]
    pub r#type: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct BgpRoutePolicyStatement {
    #[serde(with = "list")]
    pub add_communities: Vec<String>,
    #[serde(with = "list")]
    pub add_large_communities: Vec<String>,
    #[serde(with = "list")]
    pub match_families: Vec<BgpFamily>,
    #[serde(with = "list")]
    pub match_neighbors: Vec<String>,
    #[serde(with = "list")]
    pub match_prefixes: Vec<BgpRoutePolicyPrefixMatch>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nexthop: Option<BgpRoutePolicyNexthop>,
    /// `none`, `accept` or `reject`.
    #[serde(skip_serializing_if = "zero")]
    pub route_action: String,
    /// -1 = not set.
    #[serde(skip_serializing_if = "zero")]
    pub set_local_preference: i64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct BgpRoutePolicyPrefixMatch {
    #[serde(skip_serializing_if = "zero")]
    pub cidr: String,
    #[serde(skip_serializing_if = "zero")]
    pub prefix_len_max: i64,
    #[serde(skip_serializing_if = "zero")]
    pub prefix_len_min: i64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct BgpRoutePolicyNexthop {
    #[serde(rename = "self", skip_serializing_if = "zero")]
    pub to_self: bool,
    #[serde(skip_serializing_if = "zero")]
    pub unchanged: bool,
}

fn zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// An empty list travels as `null`, as an untouched Go slice does.
mod list {
    use super::*;

    pub(super) fn serialize<T: Serialize, S: Serializer>(list: &[T], to: S) -> Result<S::Ok, S::Error> {
        if list.is_empty() {
            to.serialize_none()
        } else {
            list.serialize(to)
        }
    }

    pub(super) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<T>, D::Error> {
        Ok(Option::<Vec<T>>::deserialize(from)?.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_scalars_vanish_and_empty_lists_are_null() {
        let peer = BgpPeer {
            graceful_restart: Some(BgpGracefulRestart::default()),
            peer_address: "10.0.0.1".into(),
            ..BgpPeer::default()
        };
        assert_eq!(
            serde_json::to_string(&peer).unwrap(),
            r#"{"families":null,"graceful-restart":{},"local-capabilities":null,"peer-address":"10.0.0.1","remote-capabilities":null}"#
        );
    }

    #[test]
    fn keys_are_alphabetical_as_the_generated_models_have_them() {
        let statement = BgpRoutePolicyStatement {
            add_communities: vec!["65000:1".into()],
            nexthop: Some(BgpRoutePolicyNexthop {
                to_self: true,
                unchanged: false,
            }),
            route_action: "accept".into(),
            set_local_preference: -1,
            ..BgpRoutePolicyStatement::default()
        };
        assert_eq!(
            serde_json::to_string(&statement).unwrap(),
            r#"{"add-communities":["65000:1"],"add-large-communities":null,"match-families":null,"match-neighbors":null,"match-prefixes":null,"nexthop":{"self":true},"route-action":"accept","set-local-preference":-1}"#
        );
    }

    #[test]
    fn null_and_missing_both_read_as_empty() {
        let peer: BgpPeer = serde_json::from_str(r#"{"families":null,"peer-asn":65001}"#).unwrap();
        assert_eq!((peer.families.len(), peer.peer_asn), (0, 65001));
    }
}
