//! What the operator of the cluster set for all nodes: the keys of Cilium's ConfigMap that planning depends on.

use std::str::FromStr;

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

/// `default-lb-service-ipam` has another value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is none of lbipam, nodeipam, none")]
pub struct UnknownLbIpam(pub String);

impl FromStr for LbIpam {
    type Err = UnknownLbIpam;

    /// Reads `default-lb-service-ipam`.
    fn from_str(text: &str) -> Result<Self, UnknownLbIpam> {
        match text {
            "lbipam" => Ok(Self::Default),
            "nodeipam" | "none" => Ok(Self::OnlyNamedClasses),
            other => Err(UnknownLbIpam(other.to_owned())),
        }
    }
}
