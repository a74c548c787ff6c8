//! Who peers with whom: references, nodes, overrides.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::index::{Held, Index};
use super::{CheckOptions, Found};
use crate::bgp::cluster_config::{CiliumBGPClusterConfig, Instance};
use crate::bgp::node_config_override::InstanceOverride;
use crate::object::Parsed;
use crate::problem::Reason;
use crate::schema::nearest;
use crate::text::{parse_address, parse_prefix};

pub(super) fn check(index: &Index<'_>, options: CheckOptions<'_>, found: &mut Found) {
    for config in &index.cluster_configs {
        for (i, instance) in config.object.spec.bgp_instances.iter().enumerate() {
            let at = format!("spec.bgpInstances[{i}]");
            peer_config_refs(index, config, instance, &at, found);
            duplicate_addresses(config.parsed, instance, &at, found);
            missing_asn(index, config, instance, &at, found);
            listening(index, config, instance, &at, found);
        }
    }
    for config in index.peer_configs.values() {
        if let Some(secret) = &config.object.spec.auth_secret_ref {
            auth_secret(index, config.parsed, "spec.authSecretRef", secret, options, found);
        }
    }
    for policy in &index.peering_policies {
        for (i, router) in policy.object.spec.virtual_routers.iter().enumerate() {
            for (j, neighbor) in router.neighbors.iter().enumerate() {
                if let Some(secret) = &neighbor.auth_secret_ref {
                    let field = format!("spec.virtualRouters[{i}].neighbors[{j}].authSecretRef");
                    auth_secret(index, policy.parsed, &field, secret, options, found);
                }
            }
        }
    }
    contested_nodes(index, found);
    for held in index.overrides.values() {
        for (i, instance) in held.object.spec.bgp_instances.iter().enumerate() {
            override_targets(
                index,
                held.parsed,
                instance,
                &format!("spec.bgpInstances[{i}]"),
                found,
            );
        }
        if !index.nodes.is_empty() && !index.nodes.contains_key(held.name()) {
            let message = format!(
                "there is no node '{}'; an override is named after its node{}",
                held.name(),
                guess(held.name(), index.nodes.keys().copied())
            );
            found.warn(held.parsed, "metadata.name", Reason::NoMatchingNode, message);
        }
    }
}

fn peer_config_refs(
    index: &Index<'_>,
    config: &Held<'_, CiliumBGPClusterConfig>,
    instance: &Instance,
    at: &str,
    found: &mut Found,
) {
    for (j, peer) in instance.peers.iter().enumerate() {
        let Some(reference) = &peer.peer_config_ref else {
            continue;
        };
        // An empty name is as good as none, as in Cilium.
        if !reference.name.is_empty() && !index.peer_configs.contains_key(reference.name.as_str()) {
            let message = format!(
                "there is no CiliumBGPPeerConfig '{}', so the peer is not run{}",
                reference.name,
                guess(&reference.name, index.peer_configs.keys().copied())
            );
            let field = format!("{at}.peers[{j}].peerConfigRef.name");
            found.warn(config.parsed, &field, Reason::MissingPeerConfig, message);
        }
    }
}

fn duplicate_addresses(parsed: &Parsed, instance: &Instance, at: &str, found: &mut Found) {
    let mut seen: BTreeMap<IpAddr, &str> = BTreeMap::new();
    let mut prefixes = BTreeMap::new();
    for (j, peer) in instance.peers.iter().enumerate() {
        let address = peer.whereabouts.peer_address.as_deref().and_then(parse_address);
        if let Some(address) = address.map(|written| written.address) {
            if let Some(first) = seen.get(&address) {
                let message =
                    format!("{address} is already the address of peer '{first}'; this peer is left out");
                found.warn(
                    parsed,
                    &format!("{at}.peers[{j}].peerAddress"),
                    Reason::DuplicatePeerAddress,
                    message,
                );
            } else {
                seen.insert(address, &peer.name);
            }
        }
        let prefix = peer.whereabouts.peer_prefix.as_deref().and_then(parse_prefix);
        if let Some(prefix) = prefix.map(|written| written.prefix) {
            if let Some(first) = prefixes.get(&prefix) {
                let message =
                    format!("{prefix} is already the prefix of peer '{first}'; this peer is left out");
                found.warn(
                    parsed,
                    &format!("{at}.peers[{j}].peerPrefix"),
                    Reason::DuplicatePeerAddress,
                    message,
                );
            } else {
                prefixes.insert(prefix, peer.name.as_str());
            }
        }
    }
}

/// The override of this instance on a node.
fn override_of<'a>(index: &Index<'a>, node: &str, instance: &str) -> Option<&'a InstanceOverride> {
    let held = index.overrides.get(node)?;
    held.object
        .spec
        .bgp_instances
        .iter()
        .find(|candidate| candidate.name == instance)
}

/// Selected nodes on which neither the instance nor an override gives what `has` looks for.
fn nodes_without<'a>(
    index: &Index<'a>,
    config: &Held<'_, CiliumBGPClusterConfig>,
    instance: &Instance,
    has: impl Fn(&InstanceOverride) -> bool,
) -> Vec<&'a str> {
    let nodes = index.nodes_of(config.object.spec.node_selector.as_ref());
    nodes
        .into_iter()
        .filter(|node| !override_of(index, node, &instance.name).is_some_and(&has))
        .collect()
}

fn missing_asn(
    index: &Index<'_>,
    config: &Held<'_, CiliumBGPClusterConfig>,
    instance: &Instance,
    at: &str,
    found: &mut Found,
) {
    if instance.local_asn.is_some() {
        return;
    }
    let nodes = nodes_without(index, config, instance, |over| over.local_asn.is_some());
    if !nodes.is_empty() {
        let message = format!("without localASN the instance does not run on {}", some(&nodes));
        found.warn(config.parsed, at, Reason::MissingAsn, message);
    }
}

/// Peers that are waited for need a port to come to.
fn listening(
    index: &Index<'_>,
    config: &Held<'_, CiliumBGPClusterConfig>,
    instance: &Instance,
    at: &str,
    found: &mut Found,
) {
    if instance.local_port.is_some() {
        return;
    }
    for (j, peer) in instance.peers.iter().enumerate() {
        let reference = peer.peer_config_ref.as_ref();
        let peer_config = reference.and_then(|reference| index.peer_configs.get(reference.name.as_str()));
        let transport = peer_config.and_then(|held| held.object.spec.transport.as_ref());
        let field = match (&peer.whereabouts.peer_prefix, transport) {
            (Some(_), _) => format!("{at}.peers[{j}].peerPrefix"),
            (None, Some(transport)) if transport.passive => format!("{at}.peers[{j}]"),
            (None, Some(_) | None) => continue,
        };
        let nodes = nodes_without(index, config, instance, |over| over.port().is_some());
        if !nodes.is_empty() {
            let message = format!(
                "the peer is waited for, but instance '{}' does not listen on {}; set localPort",
                instance.name,
                some(&nodes)
            );
            found.warn(config.parsed, &field, Reason::NotListening, message);
        }
    }
}

/// Without the password the session stays down: it never runs unprotected instead.
fn auth_secret(
    index: &Index<'_>,
    parsed: &Parsed,
    field: &str,
    name: &str,
    options: CheckOptions<'_>,
    found: &mut Found,
) {
    let namespace = options.secrets_namespace;
    if namespace.is_empty() {
        let message = "no namespace of BGP secrets is configured; set bgp-secrets-namespace";
        return found.warn(parsed, field, Reason::MissingAuthSecret, message);
    }
    let Some(secret) = index.secrets.get(&(namespace, name)) else {
        let elsewhere = index.secrets.keys().find(|(_, other)| *other == name);
        let hint = match elsewhere {
            Some((other, _)) => format!("; the one in '{other}' is not looked at"),
            None => String::new(),
        };
        let message = format!(
            "there is no Secret '{name}' in namespace '{namespace}', so the session stays down{hint}"
        );
        return found.warn(parsed, field, Reason::MissingAuthSecret, message);
    };
    let plain = secret
        .string_data
        .as_ref()
        .and_then(|data| data.get("password"))
        .map(|text| text.is_empty());
    let encoded = secret
        .data
        .as_ref()
        .and_then(|data| data.get("password"))
        .map(|bytes| bytes.0.is_empty());
    match plain.or(encoded) {
        Some(false) => {}
        Some(true) => {
            let message = format!("the password in Secret '{name}' is empty, so the session stays down");
            found.warn(parsed, field, Reason::NoPassword, message);
        }
        None => {
            let message = format!("Secret '{name}' has no key 'password', so the session stays down");
            found.warn(parsed, field, Reason::NoPassword, message);
        }
    }
}

/// A node belongs to one peering policy, or else to one cluster config.
fn contested_nodes(index: &Index<'_>, found: &mut Found) {
    let mut owners: BTreeMap<&str, String> = BTreeMap::new();
    for policy in &index.peering_policies {
        for node in index.nodes_of(policy.object.spec.node_selector.as_ref()) {
            if let Some(owner) = owners.get(node) {
                let message = format!("node '{node}' is also selected by {owner}, which has it");
                found.warn(
                    policy.parsed,
                    "spec.nodeSelector",
                    Reason::ConflictingClusterConfig,
                    message,
                );
            } else {
                owners.insert(node, policy.parsed.reference.to_string());
            }
        }
    }
    for config in &index.cluster_configs {
        for node in index.nodes_of(config.object.spec.node_selector.as_ref()) {
            if let Some(owner) = owners.get(node) {
                let message = format!("node '{node}' is also selected by {owner}, which has it");
                found.warn(
                    config.parsed,
                    "spec.nodeSelector",
                    Reason::ConflictingClusterConfig,
                    message,
                );
            } else {
                owners.insert(node, config.parsed.reference.to_string());
            }
        }
    }
}

/// An override of something that no cluster config of its node has is a slip of the pen.
fn override_targets(
    index: &Index<'_>,
    parsed: &Parsed,
    over: &InstanceOverride,
    at: &str,
    found: &mut Found,
) {
    let node = parsed.reference.name.as_str();
    let known = index.nodes.contains_key(node);
    let configs = index.cluster_configs.iter().filter(|config| {
        !known
            || index
                .nodes_of(config.object.spec.node_selector.as_ref())
                .contains(node)
    });
    let instances: Vec<&Instance> = configs
        .flat_map(|config| &config.object.spec.bgp_instances)
        .collect();
    let names = || instances.iter().map(|instance| instance.name.as_str());
    if !names().any(|name| name == over.name) {
        let message = format!(
            "node '{node}' has no instance '{}'{}",
            over.name,
            guess(&over.name, names())
        );
        return found.warn(parsed, &format!("{at}.name"), Reason::UnknownInstance, message);
    }
    let peers: BTreeSet<&str> = instances
        .iter()
        .filter(|instance| instance.name == over.name)
        .flat_map(|instance| &instance.peers)
        .map(|peer| peer.name.as_str())
        .collect();
    for (j, peer) in over.peers.iter().enumerate() {
        if !peers.contains(peer.name.as_str()) {
            let message = format!(
                "instance '{}' has no peer '{}'{}",
                over.name,
                peer.name,
                guess(&peer.name, peers.iter().copied())
            );
            found.warn(
                parsed,
                &format!("{at}.peers[{j}].name"),
                Reason::UnknownPeer,
                message,
            );
        }
    }
}

fn guess<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    nearest(word, known)
        .map(|near| format!("; did you mean '{near}'?"))
        .unwrap_or_default()
}

/// Up to three names, and how many more.
fn some(names: &[&str]) -> String {
    match names {
        [] | [_] | [_, _] | [_, _, _] => names.join(", "),
        [a, b, c, rest @ ..] => format!("{a}, {b}, {c} and {} more", rest.len()),
    }
}
