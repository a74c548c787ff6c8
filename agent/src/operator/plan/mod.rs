//! What should be written, from what is known: [`reconcile`] is a function of the [`World`], the configuration and the
//! time that new conditions carry, and of nothing else. Planned over what it led to, it wants nothing.
//!
//! ```text
//!   World --> addresses ------> status of Services and pools --+
//!     |-----> node_addresses ---> status of other Services ----+
//!     |-----> node_configs ---> node configs, conditions ------+--> writes, each over the version that was seen
//!     |-----> pod_prefixes ---> CiliumNodes -------------------+
//!     |-----> full_maps ------> conditions of Services --------+
//!     +-----> peer_secrets ---> conditions of peer configs ----+
//! ```
//!
//! Each part says of which kinds it must know every object. While one of these can not be had, the part is off and says
//! why: an empty list of pools and no list of pools are two things.
//!
//! [`reconcile`] is the definition; [`Keyed`] comes to the same from what changed.

pub(crate) mod addresses;
#[cfg(test)]
mod bench;
mod cilium_nodes;
pub(crate) mod conditions;
mod full_maps;
mod keyed;
mod node_addresses;
mod node_configs;
mod peer_secrets;
mod pod_prefixes;
mod prefixes;
pub mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use bgp_speaker::types::RouterId;
use crds::Kind;
use crds::k8s_openapi::jiff::Timestamp;

use crate::config::datapath::Switch;
use crate::config::operator::NodeIpam;
use crate::config::{BgpControlPlane, Config};
use crate::plan::LbIpamReport;
use crate::plan::options::{IpamMode, LbIpam};
use crate::world::{ServiceRef, World};

use pod_prefixes::Promises;
use write::Write;

pub use keyed::{Keyed, Step, Writes};

/// What the operator does, one by one to be switched on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Addresses of Services out of pools.
    LbIpam,
    /// Addresses of nodes for Services.
    NodeIpam,
    /// BGP configurations of nodes.
    Bgp,
    /// CiliumNodes, and the pod prefixes in them.
    PodPrefixes,
    /// Whether the Secrets are there that peer configs name.
    PeerSecrets,
    /// Conditions of Services that nodes have no room for.
    FullMaps,
}

impl Part {
    pub const ALL: [Self; 6] = [
        Self::LbIpam,
        Self::NodeIpam,
        Self::Bgp,
        Self::PodPrefixes,
        Self::PeerSecrets,
        Self::FullMaps,
    ];

    /// For people, logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::LbIpam => "lb-ipam",
            Self::NodeIpam => "node-ipam",
            Self::Bgp => "bgp",
            Self::PodPrefixes => "pod-prefixes",
            Self::PeerSecrets => "peer-secrets",
            Self::FullMaps => "full-maps",
        }
    }

    /// Kinds of which every object must be known.
    #[must_use]
    pub fn needs(self) -> &'static [Kind] {
        match self {
            Self::LbIpam => &[Kind::Service, Kind::CiliumLoadBalancerIPPool],
            Self::NodeIpam => &[Kind::Service, Kind::EndpointSlice, Kind::Node],
            Self::Bgp => &[
                Kind::CiliumBGPClusterConfig,
                Kind::CiliumBGPNodeConfig,
                Kind::CiliumBGPNodeConfigOverride,
                Kind::CiliumBGPPeerConfig,
                Kind::CiliumNode,
                Kind::Node,
            ],
            Self::PodPrefixes => &[Kind::CiliumNode, Kind::CiliumPodIPPool, Kind::Node],
            Self::PeerSecrets => &[Kind::CiliumBGPPeerConfig, Kind::Secret],
            Self::FullMaps => &[Kind::CiliumNode, Kind::Service],
        }
    }

    #[must_use]
    pub fn is_on(self, config: &Config) -> bool {
        match self {
            Self::LbIpam => match config.options.lb_ipam {
                LbIpam::Default | LbIpam::OnlyNamedClasses => true,
                LbIpam::Off => false,
            },
            Self::NodeIpam => match config.operator.node_ipam {
                NodeIpam::Off => false,
                NodeIpam::OnlyNamedClass | NodeIpam::Default => true,
            },
            Self::Bgp => config.bgp == BgpControlPlane::Enabled,
            Self::PodPrefixes => match config.options.ipam {
                IpamMode::Unset | IpamMode::Kubernetes | IpamMode::ClusterPool | IpamMode::MultiPool => true,
                IpamMode::Other(_) => false,
            },
            Self::PeerSecrets => {
                config.bgp == BgpControlPlane::Enabled && config.options.secrets_namespace.is_some()
            }
            // Where Services are written anyway, too: what the load balancer left behind goes when it is switched off.
            Self::FullMaps => {
                config.datapath.switch == Switch::On
                    || Self::LbIpam.is_on(config)
                    || Self::NodeIpam.is_on(config)
            }
        }
    }
}

/// The kinds to follow.
#[must_use]
pub fn kinds(config: &Config) -> BTreeSet<Kind> {
    let on = Part::ALL.into_iter().filter(|part| part.is_on(config));
    on.flat_map(Part::needs).copied().collect()
}

/// What was decided and may not be seen yet. What is on its way to one node must not be given to another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// Router IDs, by `node/instance`.
    pub(crate) ids: BTreeMap<String, RouterId>,
    pub(crate) prefixes: Promises,
}

/// Everything that is to be written.
#[derive(Debug, Default)]
pub struct Plan {
    pub writes: Vec<Write>,
    /// For the next plan.
    pub memory: Memory,
    /// What Services have by this plan: it is known to the next one, whether or not it was seen by then.
    pub held: BTreeMap<ServiceRef, Vec<IpAddr>>,
    pub report: Report,
}

/// What is told in metrics.
#[derive(Debug, Clone, Default)]
pub struct Report {
    pub lb_ipam: Option<LbIpamReport>,
    /// Parts that are switched on and can not work, and for want of which kinds.
    pub off: BTreeMap<Part, Vec<Kind>>,
}

/// Plans all parts. `memory` is that of the plan before.
#[must_use]
pub fn reconcile(world: &World, memory: Memory, config: &Config, now: Timestamp) -> Plan {
    let mut plan = Plan {
        memory,
        ..Plan::default()
    };
    plan.report.off = lacking(world, config);
    for part in Part::ALL.into_iter().filter(|part| part.is_on(config)) {
        if plan.report.off.contains_key(&part) {
            continue;
        }
        if part == Part::LbIpam {
            let found = addresses::addresses(world, &config.options, now);
            plan.writes.extend(found.writes);
            plan.held = found.held;
            plan.report.lb_ipam = Some(found.report);
            continue;
        }
        let (writes, memory) = plan_part(part, world, plan.memory, config, now);
        plan.writes.extend(writes);
        plan.memory = memory;
    }
    plan
}

/// Parts that are switched on and can not work, and for want of which kinds.
fn lacking(world: &World, config: &Config) -> BTreeMap<Part, Vec<Kind>> {
    let on = Part::ALL.into_iter().filter(|part| part.is_on(config));
    let lacking = on.map(|part| {
        let needs = part.needs().iter().copied();
        let lacking = needs.filter(|kind| world.refused.contains(kind)).collect();
        (part, lacking)
    });
    lacking
        .filter(|(_, lacking): &(Part, Vec<Kind>)| !lacking.is_empty())
        .collect()
}

/// One part that is on. What it does not read of the memory stays as it is.
fn plan_part(
    part: Part,
    world: &World,
    mut memory: Memory,
    config: &Config,
    now: Timestamp,
) -> (Vec<Write>, Memory) {
    let writes = match part {
        Part::LbIpam => addresses::addresses(world, &config.options, now).writes,
        Part::NodeIpam => node_addresses::node_addresses(world, config.operator.node_ipam, now),
        Part::Bgp => {
            let report = config.operator.report;
            let found = node_configs::node_configs(world, &memory.ids, &config.options, report, now);
            memory.ids = found.ids;
            found.writes
        }
        Part::PodPrefixes => {
            let (options, pools) = (&config.options, &config.operator.pools);
            let promises = &memory.prefixes;
            let found = pod_prefixes::pod_prefixes(world, promises, &options.ipam, options.families, pools);
            memory.prefixes = found.promises;
            found.writes
        }
        Part::PeerSecrets => {
            let namespace = config.options.secrets_namespace.as_deref().unwrap_or_default();
            peer_secrets::peer_secrets(world, namespace, config.operator.report, now)
        }
        Part::FullMaps => full_maps::full_maps(world, now),
    };
    (writes, memory)
}
