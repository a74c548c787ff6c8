//! BGP configurations of nodes, cut from those of the cluster, and what is to be said about both.
//!
//! ```text
//!   CiliumBGPClusterConfig, selecting nodes --+
//!   CiliumBGPNodeConfigOverride, per node ----+--> CiliumBGPNodeConfig, per node: made, changed, deleted
//!   router IDs given out before --------------+--> conditions of the cluster configs
//! ```
//!
//! Of several cluster configs that select a node the oldest has it, then the first by name; each of them names the
//! others. What is wrong with one node changes nothing for the others. A node config that no cluster config owns was
//! written by hand: it is left alone, and said.

use std::collections::{BTreeMap, BTreeSet};

use bgp_speaker::types::RouterId;
use crds::bgp::cluster_config::CiliumBGPClusterConfig;
use crds::bgp::node_config::{CiliumBGPNodeConfig, NodeConfigSpec, NodeInstance, NodePeer};
use crds::bgp::node_config_override::InstanceOverride;
use crds::condition::{Condition, ConditionStatus};
use crds::k8s_openapi::jiff::Timestamp;
use crds::{Kind, ObjectRef};
use serde_json::{Value, json};

use super::conditions::{Conditions, Wanted};
use super::write::{Basis, Note, Order, Part, Target, Weight, Write};
use crate::config::operator::StatusReport;
use crate::plan::node::{self, NodeFacts};
use crate::plan::node_config::{given_ids, selecting, told_id};
use crate::plan::options::Options;
use crate::plan::router_id::{self, RouterIdMode};
use crate::world::{Objects, Stored, World};

const NO_MATCHING_NODE: &str = "cilium.io/NoMatchingNode";
const MISSING_PEER_CONFIGS: &str = "cilium.io/MissingPeerConfigs";
const CONFLICTING: &str = "cilium.io/ConflictingClusterConfig";
/// Ours, and there only where it is so.
const BY_HAND: &str = "stentor.io/NodeConfigsByHand";
/// The same.
const NO_ROUTER_ID: &str = "stentor.io/RouterIDsExhausted";
const OURS: [&str; 5] = [
    NO_MATCHING_NODE,
    MISSING_PEER_CONFIGS,
    CONFLICTING,
    BY_HAND,
    NO_ROUTER_ID,
];
const OWNER_KIND: &str = "CiliumBGPClusterConfig";

/// The nodes of a cluster config, and what stands in its way.
#[derive(Debug, Default)]
struct Findings<'a> {
    nodes: usize,
    /// Cluster configs that select one of its nodes too.
    rivals: BTreeSet<&'a str>,
    by_hand: Vec<&'a str>,
    /// `node/instance`
    without_id: Vec<String>,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct NodeConfigs {
    pub(crate) writes: Vec<Write>,
    /// What each `node/instance` has now, seen or not.
    pub(crate) ids: BTreeMap<String, RouterId>,
}

/// `before`: what the last plan gave.
pub(crate) fn node_configs(
    world: &World,
    before: &BTreeMap<String, RouterId>,
    options: &Options,
    report: StatusReport,
    now: Timestamp,
) -> NodeConfigs {
    let objects = &world.objects;
    let nodes = node::all(objects);
    let mut findings: BTreeMap<&str, Findings<'_>> = BTreeMap::new();
    let mut winners: BTreeMap<&str, Stored<'_, CiliumBGPClusterConfig>> = BTreeMap::new();
    for (name, node) in &nodes {
        let selecting = selecting(
            objects.cluster_configs(),
            |config| config.spec.node_selector.as_ref(),
            node,
        );
        for config in &selecting {
            let found = findings.entry(config.name()).or_default();
            found.nodes += 1;
            let others = selecting
                .iter()
                .map(Stored::name)
                .filter(|other| *other != config.name());
            found.rivals.extend(others);
        }
        if let Some(winner) = selecting.first() {
            winners.insert(name, *winner);
        }
    }
    let ids = router_ids(objects, before, options, &winners);
    let mut writes = Vec::new();
    for (name, winner) in &winners {
        let over = objects.node_override(name);
        let over = over.map_or(&[][..], |over| &over.object.spec.bgp_instances);
        let spec = spec(name, winner.object, over, &ids);
        let found = findings.entry(winner.name()).or_default();
        if let RouterIdMode::IpPool(_) = options.router_id {
            let lacking = spec
                .bgp_instances
                .iter()
                .filter(|instance| instance.router_id.is_none());
            found
                .without_id
                .extend(lacking.map(|instance| key(name, &instance.name)));
        }
        match objects.node_config(name) {
            None => writes.push(made(name, &spec, *winner)),
            Some(there) if owners(there.object).is_empty() => found.by_hand.push(there.name()),
            Some(there) => writes.extend(changed(there, &spec, *winner)),
        }
    }
    let unwanted = objects
        .node_configs()
        .filter(|config| !owners(config.object).is_empty() && !winners.contains_key(config.name()));
    writes.extend(unwanted.filter_map(|config| deleted(config, &nodes)));
    let none = Findings::default();
    for config in objects.cluster_configs() {
        let found = findings.get(config.name()).unwrap_or(&none);
        writes.extend(status(objects, config, found, report, now));
    }
    NodeConfigs { writes, ids }
}

/// The IDs by `node/instance`, in mode `ip-pool`. What was given out stays given, seen or not, as long as its instance is
/// there and nobody wrote the same ID by hand.
fn router_ids(
    objects: &Objects,
    before: &BTreeMap<String, RouterId>,
    options: &Options,
    winners: &BTreeMap<&str, Stored<'_, CiliumBGPClusterConfig>>,
) -> BTreeMap<String, RouterId> {
    let RouterIdMode::IpPool(pool) = options.router_id else {
        return BTreeMap::new();
    };
    let mut keys = BTreeSet::new();
    let mut held = BTreeMap::new();
    for (node, config) in winners {
        let over = objects.node_override(node);
        let over = over.map_or(&[][..], |over| &over.object.spec.bgp_instances);
        let there = objects
            .node_config(node)
            .filter(|there| !owners(there.object).is_empty());
        for instance in &config.object.spec.bgp_instances {
            let given = over
                .iter()
                .any(|over| over.name == instance.name && over.router_id.is_some());
            if given {
                continue;
            }
            let key = key(node, &instance.name);
            let has = there.and_then(|there| told_id(there.object, &instance.name));
            let has = has.or_else(|| before.get(&key).copied());
            held.extend(has.map(|id| (key.clone(), id)));
            keys.insert(key);
        }
    }
    // Whose cluster config went may be taken over below, with its ID. It was not written by hand.
    let taken = given_ids(objects, |_, config| owners(config.object).is_empty());
    router_id::assign(pool, &keys, &held, &taken)
}

fn key(node: &str, instance: &str) -> String {
    format!("{node}/{instance}")
}

/// What the node runs: the cluster config with the override laid over it, by names of instances and peers.
fn spec(
    node: &str,
    config: &CiliumBGPClusterConfig,
    over: &[InstanceOverride],
    ids: &BTreeMap<String, RouterId>,
) -> NodeConfigSpec {
    let instances = config.spec.bgp_instances.iter().map(|instance| {
        let over = over.iter().find(|over| over.name == instance.name);
        let given = over.and_then(|over| over.router_id.clone());
        let peers = instance.peers.iter().map(|peer| NodePeer {
            name: peer.name.clone(),
            whereabouts: peer.whereabouts.clone(),
            peer_asn: Some(peer.peer_asn),
            local_address: over
                .and_then(|over| over.peers.iter().find(|over| over.name == peer.name))
                .and_then(|over| over.local_address.clone()),
            peer_config_ref: peer.peer_config_ref.clone(),
        });
        NodeInstance {
            name: instance.name.clone(),
            local_asn: over.and_then(|over| over.local_asn).or(instance.local_asn),
            router_id: given.or_else(|| ids.get(&key(node, &instance.name)).map(ToString::to_string)),
            local_port: over.and_then(InstanceOverride::port).or(instance.local_port),
            multipath: instance.multipath,
            peers: peers.collect(),
        }
    });
    NodeConfigSpec {
        bgp_instances: instances.collect(),
    }
}

/// The cluster configs that made it, by UID. None: somebody wrote it by hand.
fn owners(config: &CiliumBGPNodeConfig) -> Vec<&str> {
    let owners = config.metadata.owner_references.as_deref().unwrap_or_default();
    let ours = owners
        .iter()
        .filter(|owner| owner.kind == OWNER_KIND && owner.api_version.starts_with("cilium.io/"));
    ours.map(|owner| owner.uid.as_str()).collect()
}

fn owner(config: Stored<'_, CiliumBGPClusterConfig>) -> Value {
    json!([{
        "apiVersion": "cilium.io/v2",
        "kind": OWNER_KIND,
        "name": config.name(),
        "uid": config.object.metadata.uid,
        "controller": true,
    }])
}

fn target(node: &str) -> Target {
    Target {
        object: ObjectRef::cluster(Kind::CiliumBGPNodeConfig, node),
        part: Part::Object,
    }
}

fn made(node: &str, spec: &NodeConfigSpec, config: Stored<'_, CiliumBGPClusterConfig>) -> Write {
    let text = format!("CiliumBGPNodeConfig {node} made");
    Write {
        target: target(node),
        basis: Basis::Absent,
        order: Order::Create(json!({
            "apiVersion": "cilium.io/v2",
            "kind": "CiliumBGPNodeConfig",
            "metadata": { "name": node, "ownerReferences": owner(config) },
            "spec": spec,
        })),
        notes: vec![Note::of(
            config.parsed,
            Weight::Normal,
            "Configure",
            "NodeConfigMade",
            text,
        )],
    }
}

fn changed(
    there: Stored<'_, CiliumBGPNodeConfig>,
    spec: &NodeConfigSpec,
    config: Stored<'_, CiliumBGPClusterConfig>,
) -> Option<Write> {
    let uid = config.object.metadata.uid.as_deref().unwrap_or_default();
    let mut patch = json!({});
    let mut notes = Vec::new();
    if !owners(there.object).contains(&uid) {
        patch["metadata"]["ownerReferences"] = owner(config);
        let text = format!("CiliumBGPNodeConfig {} taken over", there.name());
        notes.push(Note::of(
            config.parsed,
            Weight::Normal,
            "Configure",
            "NodeConfigTakenOver",
            text,
        ));
    }
    if there.object.spec != *spec {
        patch["spec"] = json!(spec);
    }
    if patch.as_object().is_none_or(serde_json::Map::is_empty) {
        return None;
    }
    Some(Write {
        target: target(there.name()),
        basis: Basis::of(there.parsed)?,
        order: Order::Merge(patch.into()),
        notes,
    })
}

fn deleted(config: Stored<'_, CiliumBGPNodeConfig>, nodes: &BTreeMap<&str, NodeFacts<'_>>) -> Option<Write> {
    let why = match nodes.contains_key(config.name()) {
        true => "no cluster config selects the node any more",
        false => "there is no such node any more",
    };
    Some(Write {
        target: target(config.name()),
        basis: Basis::of(config.parsed)?,
        order: Order::Delete,
        notes: vec![Note::of(
            config.parsed,
            Weight::Normal,
            "Configure",
            "NodeConfigDeleted",
            format!("deleted: {why}"),
        )],
    })
}

fn status(
    objects: &Objects,
    config: Stored<'_, CiliumBGPClusterConfig>,
    found: &Findings<'_>,
    report: StatusReport,
    now: Timestamp,
) -> Option<Write> {
    let wanted = match report {
        StatusReport::Written => wanted(objects, config.object, found),
        StatusReport::TakenOut => Vec::new(),
    };
    let status = config.object.status.as_ref();
    let seen = status
        .map(|status| status.conditions.as_slice())
        .unwrap_or_default();
    write_conditions(config.parsed, seen, &OURS, &wanted, now)
}

/// The write of a status that is conditions and nothing else, with an Event for each that came true.
pub(super) fn write_conditions(
    parsed: &crds::Parsed,
    seen: &[Condition],
    ours: &[&'static str],
    wanted: &[Wanted],
    now: Timestamp,
) -> Option<Write> {
    let conditions = Conditions {
        seen,
        ours,
        wanted,
        generation: parsed.object.metadata().generation,
        now,
    };
    let list = conditions.list()?;
    let news = wanted.iter().filter(|wanted| {
        let known = seen.iter().any(|seen| {
            seen.kind == wanted.kind && seen.status == wanted.status && seen.message == wanted.message
        });
        wanted.status == ConditionStatus::True && !known
    });
    let notes = news.map(|wanted| {
        Note::of(
            parsed,
            Weight::Warning,
            "Configure",
            wanted.reason,
            wanted.message.clone(),
        )
    });
    Some(Write {
        target: Target::status(parsed),
        basis: Basis::of(parsed)?,
        notes: notes.collect(),
        order: Order::Merge(json!({ "status": { "conditions": list } }).into()),
    })
}

fn wanted(objects: &Objects, config: &CiliumBGPClusterConfig, found: &Findings<'_>) -> Vec<Wanted> {
    let peers = config
        .spec
        .bgp_instances
        .iter()
        .flat_map(|instance| &instance.peers);
    let named = peers.filter_map(|peer| peer.peer_config_ref.as_ref());
    let missing: BTreeSet<&str> = named
        .map(|reference| reference.name.as_str())
        .filter(|name| !name.is_empty() && objects.peer_config(name).is_none())
        .collect();
    let condition = |kind, reason, message: Option<String>| Wanted {
        kind,
        status: match message {
            Some(_) => ConditionStatus::True,
            None => ConditionStatus::False,
        },
        reason,
        message: message.unwrap_or_default(),
    };
    let list = |names: &BTreeSet<&str>| names.iter().copied().collect::<Vec<_>>().join(" ");
    let mut wanted = vec![
        condition(
            NO_MATCHING_NODE,
            "NoMatchingNode",
            (found.nodes == 0).then(|| "No node matches spec.nodeSelector".to_owned()),
        ),
        condition(
            MISSING_PEER_CONFIGS,
            "MissingPeerConfigs",
            (!missing.is_empty()).then(|| {
                format!(
                    "Referenced CiliumBGPPeerConfig(s) are missing: [{}]",
                    list(&missing)
                )
            }),
        ),
        condition(
            CONFLICTING,
            "ConflictingClusterConfigs",
            (!found.rivals.is_empty()).then(|| {
                format!(
                    "Selecting the same node(s) with ClusterConfig(s): [{}]",
                    list(&found.rivals)
                )
            }),
        ),
    ];
    if !found.by_hand.is_empty() {
        let message = format!(
            "The CiliumBGPNodeConfig of these nodes has no CiliumBGPClusterConfig as its owner and is left alone; \
             delete it to have it made: {}",
            few(&found.by_hand)
        );
        wanted.push(condition(BY_HAND, "NodeConfigsByHand", Some(message)));
    }
    if !found.without_id.is_empty() {
        let names: Vec<&str> = found.without_id.iter().map(String::as_str).collect();
        let message = format!(
            "bgp-router-id-allocation-ip-pool has no address left for these instances; give it a larger prefix: {}",
            few(&names)
        );
        wanted.push(condition(NO_ROUTER_ID, "RouterIDsExhausted", Some(message)));
    }
    wanted
}

/// The first few by name, and how many more.
fn few(names: &[&str]) -> String {
    const SHOWN: usize = 5;
    let shown = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests;
