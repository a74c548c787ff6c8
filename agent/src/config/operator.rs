//! What only the operator goes by.

use super::{ConfigError, Reader};

/// Defaults are Cilium's, but for the budget: that is one of writes only, and theirs of everything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Operator {
    /// `enable-node-ipam`, and `default-lb-service-ipam` with it.
    pub node_ipam: NodeIpam,
    /// `enable-bgp-control-plane-status-report`
    pub report: StatusReport,
    /// `operator-k8s-client-qps`, `operator-k8s-client-burst`
    pub budget: Budget,
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
    })
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
    fn a_budget_of_nothing_is_refused_by_name() {
        let error = with(&[("operator-k8s-client-qps", "0")]).unwrap_err();
        assert_eq!(error.name(), "config-bad-value");
        assert!(error.to_string().contains("operator-k8s-client-qps"), "{error}");
    }
}
