//! Which BGP configuration this node runs: spec in, one list of instances out, wherever it comes from.
//!
//! In order of precedence:
//! 1. the legacy `CiliumBGPPeeringPolicy`, where one selects the node: it takes the node away from all others;
//! 2. a `CiliumBGPNodeConfig` named after the node that no cluster config in the World owns: somebody wrote it by
//!    hand, and it is taken as it is;
//! 3. the `CiliumBGPClusterConfig` that selects the node, with the `CiliumBGPNodeConfigOverride` named after the
//!    node laid over it, by names of instances and peers.
//!
//! Of several that select a node the oldest wins, then the one first by name. (In Cilium the first to be seen wins;
//! and several peering policies leave the node with none at all.)

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use bgp_speaker::types::RouterId;
use crds::Severity;
use crds::bgp::cluster_config::{CiliumBGPClusterConfig, Multipath, Whereabouts};
use crds::bgp::node_config::CiliumBGPNodeConfig;
use crds::bgp::node_config_override::InstanceOverride;
use crds::selector::LabelSelector;

use super::desired::ConfigOrigin;
use super::node::{self, NodeFacts};
use super::options::Options;
use super::router_id::{self, NoRouterId, RouterIdMode};
use crate::problem::Problem;
use crate::world::{Described, Objects, Stored, World};

/// What this node runs, before peers and advertisements are resolved.
#[derive(Debug, Default)]
pub(crate) struct NodeConfig<'a> {
    pub(crate) origin: ConfigOrigin,
    pub(crate) instances: Vec<Instance<'a>>,
    pub(crate) problems: Vec<Problem>,
}

/// An instance with everything laid over it.
#[derive(Debug)]
pub(crate) struct Instance<'a> {
    pub(crate) name: String,
    pub(crate) local_asn: Option<u32>,
    pub(crate) router_id: Result<RouterId, NoRouterId>,
    pub(crate) local_port: Option<u16>,
    pub(crate) multipath: Option<Multipath>,
    pub(crate) peers: Vec<Peer<'a>>,
    pub(crate) place: Place<'a>,
}

/// A peer with everything laid over it.
#[derive(Debug)]
pub(crate) struct Peer<'a> {
    pub(crate) name: String,
    pub(crate) whereabouts: Cow<'a, Whereabouts>,
    /// `None` only in a node config written by hand: an error there.
    pub(crate) asn: Option<u32>,
    pub(crate) local_address: Option<&'a str>,
    pub(crate) settings: Settings<'a>,
    pub(crate) place: Place<'a>,
}

/// Where the settings of a session and its advertisements come from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Settings<'a> {
    /// Built-in defaults, nothing announced.
    Default,
    /// A `CiliumBGPPeerConfig` by name.
    PeerConfig(&'a str),
    /// A neighbour of a legacy virtual router.
    Legacy(super::legacy::Neighbor<'a>),
}

/// Where something stands, for problems.
#[derive(Debug, Clone)]
pub(crate) struct Place<'a> {
    pub(crate) parsed: &'a crds::Parsed,
    pub(crate) field: String,
}

impl Place<'_> {
    pub(crate) fn problem(
        &self,
        field: &str,
        severity: Severity,
        reason: &'static str,
        message: String,
    ) -> Problem {
        let field = match field {
            "" => self.field.clone(),
            field => format!("{}.{field}", self.field),
        };
        Problem::at(self.parsed, field, severity, reason, message)
    }
}

/// The configuration of the World's node. `nodes` are all nodes there are.
pub(crate) fn node_config<'a>(
    world: &'a World,
    options: &Options,
    nodes: &BTreeMap<&'a str, NodeFacts<'a>>,
) -> NodeConfig<'a> {
    let objects = &world.objects;
    let Some(me) = nodes.get(&*world.node) else {
        return NodeConfig::default();
    };
    let mut config = NodeConfig::default();
    if let Some(policy) = super::legacy::policy_for(objects, me, &mut config.problems) {
        config.origin = ConfigOrigin::PeeringPolicy(policy.name().to_owned());
        config.instances = super::legacy::instances(policy, world, me, &mut config.problems);
        return config;
    }
    let winner = cluster_config_for(objects, me, &mut config.problems);
    if let Some(by_hand) = by_hand(objects, me.name) {
        if let Some(shadowed) = winner {
            config.problems.push(Problem::at(
                shadowed.parsed,
                "",
                Severity::Warning,
                "node-config-by-hand",
                format!(
                    "node {} has a CiliumBGPNodeConfig of its own, which is used instead",
                    me.name
                ),
            ));
        }
        config.origin = ConfigOrigin::NodeConfig;
        config.instances = of_node_config(by_hand, world, options, me);
        return config;
    }
    if let Some(winner) = winner {
        config.origin = ConfigOrigin::ClusterConfig(winner.name().to_owned());
        config.instances = of_cluster_config(winner, world, options, nodes, me);
    }
    config
}

/// The node config of this node, unless a cluster config that is there made it.
fn by_hand<'a>(objects: &'a Objects, node: &str) -> Option<Stored<'a, CiliumBGPNodeConfig>> {
    let config = objects.node_config(node)?;
    let owners = config
        .object
        .metadata
        .owner_references
        .as_deref()
        .unwrap_or_default();
    let made_by_us = owners
        .iter()
        .any(|owner| owner.kind == "CiliumBGPClusterConfig" && objects.cluster_config(&owner.name).is_some());
    (!made_by_us).then_some(config)
}

/// The cluster config of a node; the others that select it are named in problems.
fn cluster_config_for<'a>(
    objects: &'a Objects,
    node: &NodeFacts<'_>,
    problems: &mut Vec<Problem>,
) -> Option<Stored<'a, CiliumBGPClusterConfig>> {
    let configs = objects.cluster_configs();
    senior(
        configs,
        |config| config.spec.node_selector.as_ref(),
        node,
        problems,
    )
}

/// Of the objects that select a node the oldest, then the one first by name. The others are named in problems.
pub(crate) fn senior<'a, T: Described>(
    objects: impl Iterator<Item = Stored<'a, T>>,
    selector: impl Fn(&'a T) -> Option<&'a LabelSelector>,
    node: &NodeFacts<'_>,
    problems: &mut Vec<Problem>,
) -> Option<Stored<'a, T>> {
    let selecting = selecting(objects, selector, node);
    let (winner, losers) = selecting.split_first()?;
    for loser in losers {
        problems.push(Problem::at(
            loser.parsed,
            "spec.nodeSelector",
            Severity::Error,
            crds::Reason::ConflictingClusterConfig.as_str(),
            format!(
                "node {} is selected by {} too, which is older or first by name and is used",
                node.name, winner.parsed.reference
            ),
        ));
    }
    Some(*winner)
}

/// The objects that select a node, the one that has it first.
pub(crate) fn selecting<'a, T: Described>(
    objects: impl Iterator<Item = Stored<'a, T>>,
    selector: impl Fn(&'a T) -> Option<&'a LabelSelector>,
    node: &NodeFacts<'_>,
) -> Vec<Stored<'a, T>> {
    let mut selecting: Vec<_> = objects
        .filter(|stored| selects(selector(stored.object), node))
        .collect();
    selecting.sort_by_key(Stored::seniority);
    selecting
}

fn selects(selector: Option<&LabelSelector>, node: &NodeFacts<'_>) -> bool {
    selector.is_none_or(|selector| selector.matches_with(|key| node.labels.get(key).copied()))
}

fn of_node_config<'a>(
    config: Stored<'a, CiliumBGPNodeConfig>,
    world: &World,
    options: &Options,
    me: &NodeFacts<'_>,
) -> Vec<Instance<'a>> {
    let instances = config.object.spec.bgp_instances.iter().enumerate();
    instances
        .map(|(at, instance)| {
            let place = |field: String| Place {
                parsed: config.parsed,
                field,
            };
            let given = instance.router_id.as_deref().and_then(|id| id.parse().ok());
            let peers = instance.peers.iter().enumerate().map(|(peer_at, peer)| Peer {
                name: peer.name.clone(),
                whereabouts: Cow::Borrowed(&peer.whereabouts),
                asn: peer.peer_asn,
                local_address: peer.local_address.as_deref(),
                settings: settings(peer.peer_config_ref.as_ref()),
                place: place(format!("spec.bgpInstances[{at}].peers[{peer_at}]")),
            });
            Instance {
                name: instance.name.clone(),
                local_asn: instance.local_asn,
                router_id: router_id(given, world, options, me, || {
                    assigned(world, options, me, &instance.name)
                }),
                local_port: instance.local_port,
                multipath: instance.multipath,
                peers: peers.collect(),
                place: place(format!("spec.bgpInstances[{at}]")),
            }
        })
        .collect()
}

fn of_cluster_config<'a>(
    config: Stored<'a, CiliumBGPClusterConfig>,
    world: &'a World,
    options: &Options,
    nodes: &BTreeMap<&'a str, NodeFacts<'a>>,
    me: &NodeFacts<'_>,
) -> Vec<Instance<'a>> {
    let over = world.objects.node_override(me.name);
    let over: &'a [InstanceOverride] = over.map_or(&[], |over| &over.object.spec.bgp_instances);
    let pool_ids = pool_ids(&world.objects, options, nodes);
    let made = world.objects.node_config(me.name);
    let instances = config.object.spec.bgp_instances.iter().enumerate();
    instances
        .map(|(at, instance)| {
            let place = |field: String| Place {
                parsed: config.parsed,
                field,
            };
            let over = over.iter().find(|over| over.name == instance.name);
            let given = over
                .and_then(|over| over.router_id.as_deref())
                .and_then(|id| id.parse().ok());
            let peers = instance.peers.iter().enumerate().map(|(peer_at, peer)| Peer {
                name: peer.name.clone(),
                whereabouts: Cow::Borrowed(&peer.whereabouts),
                asn: Some(peer.peer_asn),
                local_address: over
                    .and_then(|over| over.peers.iter().find(|over| over.name == peer.name))
                    .and_then(|over| over.local_address.as_deref()),
                settings: settings(peer.peer_config_ref.as_ref()),
                place: place(format!("spec.bgpInstances[{at}].peers[{peer_at}]")),
            });
            Instance {
                name: instance.name.clone(),
                local_asn: over.and_then(|over| over.local_asn).or(instance.local_asn),
                router_id: router_id(given, world, options, me, || {
                    // An operator sees all nodes, and gave it out.
                    let told = made.and_then(|made| told_id(made.object, &instance.name));
                    told.or_else(|| pool_ids.get(&key(me.name, &instance.name)).copied())
                }),
                local_port: over.and_then(InstanceOverride::port).or(instance.local_port),
                multipath: instance.multipath,
                peers: peers.collect(),
                place: place(format!("spec.bgpInstances[{at}]")),
            }
        })
        .collect()
}

fn settings(reference: Option<&crds::bgp::cluster_config::PeerConfigRef>) -> Settings<'_> {
    match reference {
        // An empty name is as good as none, as in Cilium.
        Some(reference) if !reference.name.is_empty() => Settings::PeerConfig(&reference.name),
        Some(_) | None => Settings::Default,
    }
}

/// What was given, else what the mode says.
fn router_id(
    given: Option<Ipv4Addr>,
    world: &World,
    options: &Options,
    me: &NodeFacts<'_>,
    from_pool: impl FnOnce() -> Option<RouterId>,
) -> Result<RouterId, NoRouterId> {
    if let Some(given) = given {
        return RouterId::new(given).map_err(|_| NoRouterId::Zero);
    }
    match options.router_id {
        RouterIdMode::Default => router_id::of_node(me.name, me.ipv4, world.observed.cilium_host_mac),
        RouterIdMode::IpPool(pool) => from_pool().ok_or(NoRouterId::PoolExhausted { pool }),
    }
}

/// What an operator wrote into the node config that it made.
pub(crate) fn told_id(made: &CiliumBGPNodeConfig, instance: &str) -> Option<RouterId> {
    let mut instances = made.spec.bgp_instances.iter();
    let id = instances
        .find(|made| made.name == instance)?
        .router_id
        .as_deref()?;
    RouterId::new(id.parse().ok()?).ok()
}

/// Mode `ip-pool` for a node config written by hand: as if it alone asked.
fn assigned(world: &World, options: &Options, me: &NodeFacts<'_>, instance: &str) -> Option<RouterId> {
    let RouterIdMode::IpPool(pool) = options.router_id else {
        return None;
    };
    let key = key(me.name, instance);
    let taken = given_ids(&world.objects, runs_by_hand);
    router_id::assign(pool, &BTreeSet::from([key.clone()]), &BTreeMap::new(), &taken)
        .get(&key)
        .copied()
}

/// Mode `ip-pool`: the IDs of all instances of all nodes, so that every node comes to the same answer.
fn pool_ids(
    objects: &Objects,
    options: &Options,
    nodes: &BTreeMap<&str, NodeFacts<'_>>,
) -> BTreeMap<String, RouterId> {
    let RouterIdMode::IpPool(pool) = options.router_id else {
        return BTreeMap::new();
    };
    let mut keys = BTreeSet::new();
    for node in nodes.values() {
        let Some(config) = cluster_config_for(objects, node, &mut Vec::new()) else {
            continue;
        };
        let over = objects.node_override(node.name);
        for instance in &config.object.spec.bgp_instances {
            let given = over
                .iter()
                .flat_map(|over| &over.object.spec.bgp_instances)
                .any(|over| over.name == instance.name && over.router_id.is_some());
            if !given {
                keys.insert(key(node.name, &instance.name));
            }
        }
    }
    router_id::assign(pool, &keys, &BTreeMap::new(), &given_ids(objects, runs_by_hand))
}

fn runs_by_hand(objects: &Objects, config: Stored<'_, CiliumBGPNodeConfig>) -> bool {
    node::facts(objects, config.name()).is_some() && by_hand(objects, config.name()).is_some()
}

/// Router IDs somebody wrote, anywhere in the cluster: those of overrides, and of node configs that are `by_hand`.
pub(crate) fn given_ids(
    objects: &Objects,
    by_hand: impl Fn(&Objects, Stored<'_, CiliumBGPNodeConfig>) -> bool,
) -> BTreeSet<Ipv4Addr> {
    let overrides = objects.overrides().flat_map(|over| {
        over.object
            .spec
            .bgp_instances
            .iter()
            .map(|i| i.router_id.as_deref())
    });
    let by_hand = objects
        .node_configs()
        .filter(|config| by_hand(objects, *config))
        .flat_map(|config| {
            config
                .object
                .spec
                .bgp_instances
                .iter()
                .map(|i| i.router_id.as_deref())
        });
    overrides
        .chain(by_hand)
        .flatten()
        .filter_map(|id| id.parse().ok())
        .collect()
}

fn key(node: &str, instance: &str) -> String {
    format!("{node}/{instance}")
}
