//! From the chart's `values.yaml` to the agent's configuration file.

use std::collections::BTreeMap;

use serde_json::Value;

/// Who gives pods their addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ipam {
    /// From the node's PodCIDRs.
    Kubernetes,
    /// From CiliumPodIPPools.
    MultiPool,
}

/// What of `values.yaml` matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Values {
    pub ipam: Ipam,
    /// Key and value as in Cilium's ConfigMap.
    pub config: BTreeMap<String, String>,
}

/// Value path, ConfigMap key, default. Keys without a default are written only if the value is given.
const KEYS: &[(&str, &str, Option<&str>)] = &[
    ("/ipam/mode", "ipam", Some("cluster-pool")),
    ("/ipv4/enabled", "enable-ipv4", Some("true")),
    ("/ipv6/enabled", "enable-ipv6", Some("false")),
    (
        "/bgpControlPlane/enabled",
        "enable-bgp-control-plane",
        Some("false"),
    ),
    (
        "/bgpControlPlane/secretsNamespace/name",
        "bgp-secrets-namespace",
        Some("kube-system"),
    ),
    (
        "/bgpControlPlane/statusReport/enabled",
        "enable-bgp-control-plane-status-report",
        Some("true"),
    ),
    (
        "/bgpControlPlane/routerIDAllocation/mode",
        "bgp-router-id-allocation-mode",
        Some("default"),
    ),
    (
        "/bgpControlPlane/routerIDAllocation/ipPool",
        "bgp-router-id-allocation-ip-pool",
        None,
    ),
    (
        "/bgpControlPlane/legacyOriginAttribute/enabled",
        "enable-bgp-legacy-origin-attribute",
        Some("false"),
    ),
    ("/enableLBIPAM", "enable-lb-ipam", Some("true")),
    ("/defaultLBServiceIPAM", "default-lb-service-ipam", Some("lbipam")),
    (
        "/enableNoServiceEndpointsRoutable",
        "enable-no-service-endpoints-routable",
        Some("true"),
    ),
    ("/kubeProxyReplacement", BALANCES, Some("false")),
    ("/devices", "devices", None),
    ("/loadBalancer/mode", "bpf-lb-mode", None),
    ("/loadBalancer/dsrDispatch", "bpf-lb-dsr-dispatch", None),
    ("/loadBalancer/acceleration", "bpf-lb-acceleration", None),
    ("/loadBalancer/algorithm", "bpf-lb-algorithm", None),
    ("/maglev/tableSize", "bpf-lb-maglev-table-size", None),
    ("/maglev/hashSeed", "bpf-lb-maglev-hash-seed", None),
    ("/bpf/lbExternalClusterIP", "bpf-lb-external-clusterip", None),
    ("/bpf/lbModeAnnotation", "bpf-lb-mode-annotation", None),
    ("/bpf/lbMapMax", "bpf-lb-map-max", None),
    ("/bpf/ctTcpMax", "bpf-ct-global-tcp-max", None),
    ("/socketLB/enabled", "bpf-lb-sock", None),
    ("/cgroup/hostRoot", "cgroup-root", Some(CGROUP)),
];
/// Whether Services are served in the kernel.
const BALANCES: &str = "kube-proxy-replacement";
/// Where a node of a lab sees its own cgroup.
const CGROUP: &str = "/sys/fs/cgroup";

/// The values are not YAML, or ask for an address management that a lab cannot play.
#[derive(Debug, thiserror::Error)]
pub enum ValuesError {
    #[error("not a values file: {0}")]
    Syntax(String),
    #[error("ipam.mode {0} is not supported, only kubernetes, cluster-pool and multi-pool are")]
    Ipam(String),
}

/// Reads the chart's values; an empty text is a chart installed without any.
///
/// # Errors
/// See [`ValuesError`].
pub fn parse(text: &str) -> Result<Values, ValuesError> {
    let values: Value = match text.trim() {
        "" => Value::Null,
        text => serde_saphyr::from_str(text).map_err(|error| ValuesError::Syntax(error.to_string()))?,
    };
    let mut config = BTreeMap::new();
    for (path, key, default) in KEYS {
        let given = values
            .pointer(path)
            .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        if let Some(value) = given.or_else(|| default.map(str::to_owned)) {
            config.insert((*key).to_owned(), value);
        }
    }
    let ipam = match config.get("ipam").map_or("", String::as_str) {
        "kubernetes" | "cluster-pool" => Ipam::Kubernetes,
        "multi-pool" => Ipam::MultiPool,
        other => return Err(ValuesError::Ipam(other.to_owned())),
    };
    Ok(Values { ipam, config })
}

impl Values {
    /// Whether the nodes balance, for which there must be kernel programs.
    #[must_use]
    pub fn balances(&self) -> bool {
        self.config.get(BALANCES).is_some_and(|value| value == "true")
    }

    /// The agent's `--config` file.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        self.config
            .iter()
            .map(|(key, value)| format!("{key}: \"{value}\"\n"))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chart_values_become_config_map_keys() {
        let values =
            parse("bgpControlPlane: {enabled: true}\nipv6: {enabled: true}\nipam: {mode: multi-pool}\n")
                .unwrap();
        assert_eq!(values.ipam, Ipam::MultiPool);
        let yaml = values.to_yaml();
        for line in [
            "enable-bgp-control-plane: \"true\"",
            "enable-ipv6: \"true\"",
            "ipam: \"multi-pool\"",
            "kube-proxy-replacement: \"false\"",
        ] {
            assert!(yaml.lines().any(|have| have == line), "{line} in\n{yaml}");
        }
    }

    #[test]
    fn values_of_the_load_balancer_become_keys() {
        let values =
            parse("kubeProxyReplacement: true\nloadBalancer: {mode: dsr, dsrDispatch: geneve}\n").unwrap();
        assert!(values.balances());
        assert_eq!(values.config.get("bpf-lb-mode").map(String::as_str), Some("dsr"));
        assert_eq!(
            values.config.get("bpf-lb-dsr-dispatch").map(String::as_str),
            Some("geneve")
        );
        assert!(!parse("").unwrap().balances());
    }

    #[test]
    fn an_unknown_address_management_is_refused() {
        assert!(
            parse("ipam: {mode: eni}")
                .unwrap_err()
                .to_string()
                .contains("ipam.mode eni is not supported")
        );
    }
}
