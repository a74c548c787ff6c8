//! What should be: the whole answer of [`super::plan`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use bgp_speaker::config::SpeakerConfig;
use bgp_speaker::types::{Family, Name, Prefix};

use super::policy_view::Policies;
use super::reasons::Reason;
use crate::problem::Problem;
use crate::shared_map::SharedMap;
use crate::world::ServiceRef;

/// Equal worlds give equal answers, in every order their objects arrived.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Desired {
    /// Everything the BGP speaker is asked to be.
    pub speaker: Arc<SpeakerConfig>,
    /// Where this node's BGP configuration comes from.
    pub origin: ConfigOrigin,
    /// Route policies as Cilium names them; a view, made when somebody asks.
    pub policies: Policies,
    /// Aggregates announced from here: each needs a blackhole route, so that traffic for an unused part of it
    /// does not loop between this node and the router.
    pub discard_routes: BTreeSet<Prefix>,
    /// LoadBalancer addresses Services hold, to be kept in the state folder and observed by the next plan: those
    /// they have, and those they would have again if their pool came back.
    pub vips: SharedMap<ServiceRef, Vec<IpAddr>>,
    /// How full the pools are.
    pub lb_ipam: LbIpamReport,
    /// Every Service: its addresses, where each is announced, or why not.
    pub services: SharedMap<ServiceRef, ServiceReport>,
    /// Services whose local endpoints somebody asks for, by `healthCheckNodePort`. Empty where others serve.
    pub health_checks: BTreeMap<u16, HealthCheck>,
    /// Every peer of this node's configuration, also those that can not be run.
    pub peers: Vec<PeerReport>,
    /// What is wrong with the objects as a whole; problems of single documents come from the source.
    pub problems: Vec<Problem>,
}

/// What a `healthCheckNodePort` answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    pub service: ServiceRef,
    /// That are ready.
    pub local_endpoints: usize,
}

/// LB-IPAM as a whole, for the metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LbIpamReport {
    pub pools: BTreeMap<String, lbipam::PoolReport>,
    /// Services it is responsible for, and how many of them lack something they ask for.
    pub matching: usize,
    pub unsatisfied: usize,
}

/// Where a node's BGP configuration comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ConfigOrigin {
    /// Nothing selects this node.
    #[default]
    None,
    /// A `CiliumBGPClusterConfig`.
    ClusterConfig(String),
    /// A `CiliumBGPNodeConfig` that no known cluster config owns.
    NodeConfig,
    /// The legacy `CiliumBGPPeeringPolicy`.
    PeeringPolicy(String),
}

/// A Service whose addresses are not those it had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VipChange<'a> {
    pub service: &'a ServiceRef,
    pub before: &'a [IpAddr],
    pub after: &'a [IpAddr],
}

/// From the [`Desired::vips`] of one plan to those of another, by Service.
#[must_use]
pub fn vip_changes<'a>(
    before: &'a SharedMap<ServiceRef, Vec<IpAddr>>,
    after: &'a SharedMap<ServiceRef, Vec<IpAddr>>,
) -> Vec<VipChange<'a>> {
    let differences = SharedMap::differences(before, after).into_iter();
    let changes = differences.map(|difference| VipChange {
        service: difference.key,
        before: difference.before.map_or(&[], |addresses| addresses),
        after: difference.after.map_or(&[], |addresses| addresses),
    });
    changes.filter(|change| change.before != change.after).collect()
}

/// A Service as this node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceReport {
    pub service: ServiceRef,
    pub addresses: Vec<AddressReport>,
    /// Why the Service has no address that could be announced at all, or lacks one it asks for.
    pub reasons: Vec<Reason>,
}

/// One address of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressReport {
    pub address: IpAddr,
    pub kind: AddressKind,
    /// What is announced for it, to whom. Empty: `reasons` says why.
    pub announced: Vec<Announced>,
    /// Why it is not announced.
    pub reasons: Vec<Reason>,
}

/// A prefix announced for an address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Announced {
    pub prefix: Prefix,
    pub instance: Name,
    pub peer: Name,
}

/// What kind of Service address: the names of `service.addresses` in an advertisement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AddressKind {
    LoadBalancerIp,
    ClusterIp,
    ExternalIp,
}

impl AddressKind {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LoadBalancerIp => "LoadBalancerIP",
            Self::ClusterIp => "ClusterIP",
            Self::ExternalIp => "ExternalIP",
        }
    }
}

/// A peer of this node's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerReport {
    pub instance: Name,
    pub peer: Name,
    /// Configured or discovered.
    pub address: Option<IpAddr>,
    /// The discovery that found, or should find, the address.
    pub discovered: Discovery,
    /// Families with how many prefixes its export policy lets out.
    pub prefixes: Vec<(Family, usize)>,
    /// Why it is not run. `None`: it is.
    pub not_run: Option<Reason>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discovery {
    /// The address is in the configuration.
    Configured,
    DefaultGateway,
}
