//! What only the operator goes by.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{ConfigError, Reader};

/// Defaults are Cilium's, but for the budget: that is one of writes only, and theirs of everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Operator {
    /// `enable-node-ipam`, and `default-lb-service-ipam` with it.
    pub node_ipam: NodeIpam,
    /// `enable-bgp-control-plane-status-report`
    pub report: StatusReport,
    /// `operator-k8s-client-qps`, `operator-k8s-client-burst`
    pub budget: Budget,
    /// For `ipam: cluster-pool`.
    pub pools: ClusterPools,
}

/// Where the pod prefixes of nodes come from: `cluster-pool-ipv4-cidr`, `cluster-pool-ipv4-mask-size` and their like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterPools {
    pub ipv4: Vec<IpNet>,
    pub ipv4_length: u8,
    pub ipv6: Vec<IpNet>,
    pub ipv6_length: u8,
}

impl Default for ClusterPools {
    fn default() -> Self {
        let ipv4 = Ipv4Net::new(Ipv4Addr::new(10, 0, 0, 0), 8);
        let ipv6 = Ipv6Net::new(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0), 104);
        Self {
            ipv4: ipv4.into_iter().map(IpNet::V4).collect(),
            ipv4_length: 24,
            ipv6: ipv6.into_iter().map(IpNet::V6).collect(),
            ipv6_length: 120,
        }
    }
}

/// Which Services get the addresses of nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NodeIpam {
    #[default]
    Off,
    /// Those of class `io.cilium/node`.
    OnlyNamedClass,
    /// These, and those without a class.
    Default,
}

/// Whether conditions of BGP objects are written, or taken out where they were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StatusReport {
    #[default]
    Written,
    TakenOut,
}

/// How much is written to the API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// In a second, for long.
    pub rate: u32,
    /// At once, after a rest.
    pub burst: u32,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            rate: 200,
            burst: 400,
        }
    }
}

pub(super) fn understand(read: &Reader<'_>) -> Result<Operator, ConfigError> {
    let defaults = Budget::default();
    Ok(Operator {
        node_ipam: match (
            read.flag("enable-node-ipam", false)?,
            read.text("default-lb-service-ipam"),
        ) {
            (false, _) => NodeIpam::Off,
            (true, Some("nodeipam")) => NodeIpam::Default,
            (true, Some(_) | None) => NodeIpam::OnlyNamedClass,
        },
        report: if read.flag("enable-bgp-control-plane-status-report", true)? {
            StatusReport::Written
        } else {
            StatusReport::TakenOut
        },
        budget: Budget {
            rate: number(read, "operator-k8s-client-qps", defaults.rate)?,
            burst: number(read, "operator-k8s-client-burst", defaults.burst)?,
        },
        pools: pools(read)?,
    })
}

fn pools(read: &Reader<'_>) -> Result<ClusterPools, ConfigError> {
    let defaults = ClusterPools::default();
    Ok(ClusterPools {
        ipv4: prefixes(read, "cluster-pool-ipv4-cidr", defaults.ipv4)?,
        ipv4_length: length(read, "cluster-pool-ipv4-mask-size", defaults.ipv4_length, 32)?,
        ipv6: prefixes(read, "cluster-pool-ipv6-cidr", defaults.ipv6)?,
        ipv6_length: length(read, "cluster-pool-ipv6-mask-size", defaults.ipv6_length, 128)?,
    })
}

fn prefixes(read: &Reader<'_>, key: &'static str, default: Vec<IpNet>) -> Result<Vec<IpNet>, ConfigError> {
    let words = read.text(key).unwrap_or_default().split([',', ' ']);
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    if words.is_empty() {
        return Ok(default);
    }
    let is_ipv4 = default.iter().any(|prefix| prefix.addr().is_ipv4());
    let prefix = |word: &&str| {
        word.parse::<IpNet>()
            .ok()
            .filter(|prefix| prefix.addr().is_ipv4() == is_ipv4)
    };
    words
        .iter()
        .map(prefix)
        .collect::<Option<Vec<IpNet>>>()
        .ok_or_else(|| read.bad(key, "prefixes of its family, such as 10.0.0.0/8 or fd00::/104"))
}

fn length(read: &Reader<'_>, key: &'static str, default: u8, most: u8) -> Result<u8, ConfigError> {
    match read.text(key) {
        None | Some("") => Ok(default),
        Some(text) => text
            .parse()
            .ok()
            .filter(|length| (1..=most).contains(length))
            .ok_or_else(|| read.bad(key, "the length of a prefix of its family")),
    }
}

fn number(read: &Reader<'_>, key: &'static str, default: u32) -> Result<u32, ConfigError> {
    match read.text(key) {
        None | Some("") => Ok(default),
        Some(text) => text
            .parse()
            .ok()
            .filter(|number| *number > 0)
            .ok_or_else(|| read.bad(key, "a number of at least 1")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::load;
    use super::*;

    fn with(keys: &[(&'static str, &str)]) -> Result<Operator, ConfigError> {
        let given: BTreeMap<_, _> = keys
            .iter()
            .map(|(key, value)| (*key, (*value).to_owned()))
            .collect();
        load(None, [], &given).map(|(config, _)| config.operator)
    }

    #[test]
    fn node_ipam_serves_services_without_class_only_where_it_is_the_default() {
        let of = |keys: &[(&'static str, &str)]| with(keys).unwrap().node_ipam;
        assert_eq!(of(&[("default-lb-service-ipam", "nodeipam")]), NodeIpam::Off);
        assert_eq!(of(&[("enable-node-ipam", "true")]), NodeIpam::OnlyNamedClass);
        let both = [
            ("enable-node-ipam", "true"),
            ("default-lb-service-ipam", "nodeipam"),
        ];
        assert_eq!(of(&both), NodeIpam::Default);
    }

    #[test]
    fn pools_of_the_cluster_are_of_their_family() {
        assert_eq!(with(&[]).unwrap().pools, ClusterPools::default());
        let pools = with(&[("cluster-pool-ipv4-cidr", "10.1.0.0/16 10.2.0.0/16")])
            .unwrap()
            .pools;
        assert_eq!(pools.ipv4.len(), 2);
        assert!(with(&[("cluster-pool-ipv6-cidr", "10.1.0.0/16")]).is_err());
        assert!(with(&[("cluster-pool-ipv4-mask-size", "33")]).is_err());
    }

    #[test]
    fn a_budget_of_nothing_is_refused_by_name() {
        let error = with(&[("operator-k8s-client-qps", "0")]).unwrap_err();
        assert_eq!(error.name(), "config-bad-value");
        assert!(error.to_string().contains("operator-k8s-client-qps"), "{error}");
    }
}
