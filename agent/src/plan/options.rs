//! What the operator of the cluster set for all nodes: the keys of Cilium's ConfigMap that planning depends on.

use ipnet::Ipv4Net;

use super::router_id::RouterIdMode;

/// Defaults are Cilium's, but for `bgp-secrets-namespace`, whose default here is `kube-system` as the chart
/// renders it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// `ipam`
    pub ipam: IpamMode,
    /// `bgp-router-id-allocation-mode` and `bgp-router-id-allocation-ip-pool`
    pub router_id: RouterIdMode,
    /// `bgp-secrets-namespace`. `None`: Secrets can not be used.
    pub secrets_namespace: Option<String>,
    /// `enable-bgp-legacy-origin-attribute`
    pub legacy_origin: LegacyOrigin,
    /// `enable-no-service-endpoints-routable`
    pub without_endpoints: WithoutEndpoints,
    /// `enable-ipv4`, `enable-ipv6`
    pub families: Families,
    /// `enable-lb-ipam` and `default-lb-service-ipam`
    pub lb_ipam: LbIpam,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ipam: IpamMode::default(),
            router_id: RouterIdMode::default(),
            secrets_namespace: Some("kube-system".to_owned()),
            legacy_origin: LegacyOrigin::default(),
            without_endpoints: WithoutEndpoints::default(),
            families: Families::default(),
            lb_ipam: LbIpam::default(),
        }
    }
}

/// Where pod addresses come from. The mode decides which advertisement types have an effect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum IpamMode {
    /// The key is not given: whatever prefixes the node's object carries are taken for its pods'.
    #[default]
    Unset,
    ClusterPool,
    Kubernetes,
    MultiPool,
    /// A mode (of a cloud, mostly) whose pod prefixes are nobody's to announce.
    Other(String),
}

impl IpamMode {
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Unset => "",
            Self::ClusterPool => "cluster-pool",
            Self::Kubernetes => "kubernetes",
            Self::MultiPool => "multi-pool",
            Self::Other(name) => name,
        }
    }
}

impl IpamMode {
    /// Advertisements of type `PodCIDR` have an effect.
    #[must_use]
    pub fn has_pod_cidrs(&self) -> bool {
        match self {
            Self::Unset | Self::ClusterPool | Self::Kubernetes => true,
            Self::MultiPool | Self::Other(_) => false,
        }
    }

    /// Advertisements of type `CiliumPodIPPool` have an effect.
    #[must_use]
    pub fn has_pod_pools(&self) -> bool {
        match self {
            Self::Unset | Self::MultiPool => true,
            Self::ClusterPool | Self::Kubernetes | Self::Other(_) => false,
        }
    }
}

impl From<&str> for IpamMode {
    fn from(text: &str) -> Self {
        match text {
            "" => Self::Unset,
            "cluster-pool" => Self::ClusterPool,
            "kubernetes" => Self::Kubernetes,
            "multi-pool" => Self::MultiPool,
            other => Self::Other(other.to_owned()),
        }
    }
}

/// The ORIGIN of LoadBalancer addresses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LegacyOrigin {
    /// IGP, as everything else.
    #[default]
    No,
    /// INCOMPLETE.
    Yes,
}

/// Whether a Service without any endpoint is announced (traffic policy `Cluster`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WithoutEndpoints {
    #[default]
    Announced,
    Withdrawn,
}

/// The address families Services may use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Families {
    #[default]
    Dual,
    Ipv4Only,
    Ipv6Only,
}

impl Families {
    #[must_use]
    pub fn has(self, address: std::net::IpAddr) -> bool {
        match self {
            Self::Dual => true,
            Self::Ipv4Only => address.is_ipv4(),
            Self::Ipv6Only => address.is_ipv6(),
        }
    }
}

/// Who gives LoadBalancer Services their addresses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LbIpam {
    /// The pools, also for Services without `loadBalancerClass`.
    #[default]
    Default,
    /// The pools, for Services that name one of our classes.
    OnlyNamedClasses,
    /// Nobody: only addresses given in a Service's status count.
    Off,
}

/// Why options can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    #[error("{key}: {value:?} is not true or false")]
    NotBool { key: &'static str, value: String },
    #[error("{key}: {value:?} is none of {known}")]
    NotOneOf {
        key: &'static str,
        value: String,
        known: &'static str,
    },
    #[error("bgp-router-id-allocation-ip-pool: {0:?} is not an IPv4 prefix such as 10.0.0.0/24")]
    NotAPool(String),
    #[error("enable-ipv4 and enable-ipv6 are both false: no Service could be announced")]
    NoFamily,
}

impl Options {
    /// Reads the keys planning depends on, by their names in Cilium's ConfigMap. A key that is not given keeps its
    /// default.
    ///
    /// # Errors
    /// [`OptionError`] names the key and what is wrong with its value.
    pub fn from_keys<'a>(value: impl Fn(&str) -> Option<&'a str>) -> Result<Self, OptionError> {
        let flag = |key: &'static str, default: bool| match value(key) {
            None | Some("") => Ok(default),
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(other) => Err(OptionError::NotBool {
                key,
                value: other.to_owned(),
            }),
        };
        let defaults = Self::default();
        let lb_ipam = match value("default-lb-service-ipam") {
            None | Some("" | "lbipam") => LbIpam::Default,
            Some("nodeipam" | "none") => LbIpam::OnlyNamedClasses,
            Some(other) => {
                return Err(OptionError::NotOneOf {
                    key: "default-lb-service-ipam",
                    value: other.to_owned(),
                    known: "lbipam, nodeipam, none",
                });
            }
        };
        Ok(Self {
            ipam: value("ipam").map_or(defaults.ipam, IpamMode::from),
            router_id: router_id_mode(&value)?,
            secrets_namespace: match value("bgp-secrets-namespace") {
                None => defaults.secrets_namespace,
                Some("") => None,
                Some(namespace) => Some(namespace.to_owned()),
            },
            legacy_origin: if flag("enable-bgp-legacy-origin-attribute", false)? {
                LegacyOrigin::Yes
            } else {
                LegacyOrigin::No
            },
            without_endpoints: if flag("enable-no-service-endpoints-routable", true)? {
                WithoutEndpoints::Announced
            } else {
                WithoutEndpoints::Withdrawn
            },
            families: match (flag("enable-ipv4", true)?, flag("enable-ipv6", true)?) {
                (true, true) => Families::Dual,
                (true, false) => Families::Ipv4Only,
                (false, true) => Families::Ipv6Only,
                (false, false) => return Err(OptionError::NoFamily),
            },
            lb_ipam: if flag("enable-lb-ipam", true)? {
                lb_ipam
            } else {
                LbIpam::Off
            },
        })
    }

    /// The keys [`Options::from_keys`] reads.
    pub const KEYS: [&str; 10] = [
        "bgp-router-id-allocation-ip-pool",
        "bgp-router-id-allocation-mode",
        "bgp-secrets-namespace",
        "default-lb-service-ipam",
        "enable-bgp-legacy-origin-attribute",
        "enable-ipv4",
        "enable-ipv6",
        "enable-lb-ipam",
        "enable-no-service-endpoints-routable",
        "ipam",
    ];
}

fn router_id_mode<'a>(value: &impl Fn(&str) -> Option<&'a str>) -> Result<RouterIdMode, OptionError> {
    match value("bgp-router-id-allocation-mode") {
        None | Some("" | "default") => Ok(RouterIdMode::Default),
        Some("ip-pool") => {
            let pool = value("bgp-router-id-allocation-ip-pool").unwrap_or_default();
            let pool: Ipv4Net = pool.parse().map_err(|_| OptionError::NotAPool(pool.to_owned()))?;
            Ok(RouterIdMode::IpPool(pool.trunc()))
        }
        Some(other) => Err(OptionError::NotOneOf {
            key: "bgp-router-id-allocation-mode",
            value: other.to_owned(),
            known: "default, ip-pool",
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn read(keys: &[(&str, &'static str)]) -> Result<Options, OptionError> {
        let keys: BTreeMap<&str, &str> = keys.iter().copied().collect();
        Options::from_keys(|key| keys.get(key).copied())
    }

    #[test]
    fn keys_not_given_keep_their_defaults() {
        assert_eq!(read(&[]), Ok(Options::default()));
    }

    #[test]
    fn every_key_has_an_effect() {
        for (key, value) in Options::KEYS.iter().zip([
            "10.0.0.0/8",
            "ip-pool",
            "secrets",
            "none",
            "true",
            "false",
            "false",
            "false",
            "false",
            "multi-pool",
        ]) {
            let mut keys = vec![(*key, value)];
            match *key {
                "bgp-router-id-allocation-ip-pool" => keys.push(("bgp-router-id-allocation-mode", "ip-pool")),
                "bgp-router-id-allocation-mode" => {
                    keys.push(("bgp-router-id-allocation-ip-pool", "10.0.0.0/8"))
                }
                _ => {}
            }
            assert_ne!(read(&keys).unwrap(), Options::default(), "{key}");
        }
    }

    #[test]
    fn values_that_mean_nothing_are_named_with_their_key() {
        for (keys, text) in [
            (
                &[("enable-ipv4", "yes")][..],
                "enable-ipv4: \"yes\" is not true or false",
            ),
            (
                &[("enable-ipv4", "false"), ("enable-ipv6", "false")],
                "both false",
            ),
            (
                &[("bgp-router-id-allocation-mode", "ip-pool")],
                "is not an IPv4 prefix",
            ),
            (
                &[("bgp-router-id-allocation-mode", "random")],
                "none of default, ip-pool",
            ),
            (&[("default-lb-service-ipam", "me")], "none of lbipam"),
        ] {
            let error = read(keys).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }
}
