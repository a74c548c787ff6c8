//! That every Node has a CiliumNode, which repeats its addresses and labels and goes with it.
//!
//! An agent of Cilium makes its own. Here one operator makes them all: a thousand agents need no right to write what other
//! nodes are, and nobody asks before it writes. What else a CiliumNode has (addresses of other types, what agents ask for)
//! stays.

use std::collections::{BTreeMap, BTreeSet};

use crds::cilium_node::{CiliumNode, NodeAddress};
use crds::k8s_openapi::api::core::v1::Node;
use crds::{Kind, ObjectRef};
use serde_json::{Value, json};

use super::write::{Basis, Note, Order, Part, Target, Weight, Write};
use crate::world::{Objects, Stored};

/// Of a Node's addresses those that its CiliumNode repeats, as in Cilium: the others are names.
const REPEATED: [&str; 2] = ["ExternalIP", "InternalIP"];

/// What a node is to have of prefixes.
#[derive(Debug)]
pub(crate) struct Wish {
    /// Members of `spec.ipam`, each of them whole.
    pub(crate) ipam: Value,
    pub(crate) note: Option<Note>,
}

/// What is to be written so that every CiliumNode is as its Node is, and has what is wished, by name of the node.
pub(crate) fn writes(objects: &Objects, mut wishes: BTreeMap<String, Wish>) -> Vec<Write> {
    let names: BTreeSet<&str> = objects
        .cilium_nodes()
        .map(|node| node.name())
        .chain(objects.nodes().map(|node| node.name()))
        .collect();
    let write = |name| {
        let wish = wishes.remove(name);
        match (objects.cilium_node(name), objects.node(name)) {
            (Some(there), core) => changed(there, core, wish),
            (None, Some(core)) => Some(made(core, wish)),
            (None, None) => None,
        }
    };
    names.into_iter().filter_map(write).collect()
}

fn made(core: Stored<'_, Node>, wish: Option<Wish>) -> Write {
    let made = || {
        let text = "made, with the addresses and labels of the Node".to_owned();
        Note::of(core.parsed, Weight::Normal, "Create", "CiliumNodeCreated", text)
    };
    let (ipam, note) = match wish {
        Some(Wish { ipam, note }) => (ipam, note),
        None => (json!({}), None),
    };
    Write {
        target: target(core.name()),
        basis: Basis::Absent,
        order: Order::Create(json!({
            "apiVersion": "cilium.io/v2",
            "kind": "CiliumNode",
            "metadata": {
                "name": core.name(),
                "labels": core.labels(),
                "ownerReferences": [owner(core)],
            },
            "spec": { "addresses": addresses(core), "ipam": ipam },
        })),
        notes: vec![note.unwrap_or_else(made)],
    }
}

fn changed(
    there: Stored<'_, CiliumNode>,
    core: Option<Stored<'_, Node>>,
    wish: Option<Wish>,
) -> Option<Write> {
    let mut patch = json!({});
    if let Some(core) = core {
        let labels = relabelled(there.labels(), core.labels());
        if !labels.is_empty() {
            patch["metadata"]["labels"] = Value::Object(labels);
        }
        if let Some(owners) = owners(there, core) {
            patch["metadata"]["ownerReferences"] = json!(owners);
        }
        if let Some(addresses) = readdressed(&there.object.spec.addresses, addresses(core)) {
            patch["spec"]["addresses"] = json!(addresses);
        }
    }
    let mut notes = Vec::new();
    if let Some(wish) = wish {
        patch["spec"]["ipam"] = wish.ipam;
        notes.extend(wish.note);
    }
    if patch == json!({}) {
        return None;
    }
    Some(Write {
        target: target(there.name()),
        basis: Basis::of(there.parsed)?,
        order: Order::Merge(patch.into()),
        notes,
    })
}

fn target(node: &str) -> Target {
    Target {
        object: ObjectRef::cluster(Kind::CiliumNode, node),
        part: Part::Object,
    }
}

/// With its Node the CiliumNode goes, too: Kubernetes sees to that.
fn owner(core: Stored<'_, Node>) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "name": core.name(),
        "uid": core.object.metadata.uid,
    })
}

/// `None`: it has this owner. A Node that was made anew is another one.
fn owners(there: Stored<'_, CiliumNode>, core: Stored<'_, Node>) -> Option<Vec<Value>> {
    let uid = core.object.metadata.uid.as_deref()?;
    let seen = there.object.metadata.owner_references.as_deref();
    let seen = seen.unwrap_or_default();
    if seen.iter().any(|owner| owner.kind == "Node" && owner.uid == uid) {
        return None;
    }
    let others = seen.iter().filter(|owner| owner.kind != "Node");
    let others = others.map(|owner| json!(owner));
    Some(others.chain([owner(core)]).collect())
}

/// What changes, as a merge patch: a label that the Node has no more goes.
fn relabelled(
    seen: &BTreeMap<String, String>,
    wanted: &BTreeMap<String, String>,
) -> serde_json::Map<String, Value> {
    let gone = seen.keys().filter(|name| !wanted.contains_key(*name));
    let gone = gone.map(|name| (name.clone(), Value::Null));
    let new = wanted
        .iter()
        .filter(|(name, value)| seen.get(*name) != Some(value));
    let new = new.map(|(name, value)| (name.clone(), json!(value)));
    gone.chain(new).collect()
}

fn addresses(core: Stored<'_, Node>) -> Vec<NodeAddress> {
    let status = core.object.status.iter();
    let addresses = status.flat_map(|status| status.addresses.iter().flatten());
    addresses
        .filter(|address| REPEATED.contains(&address.type_.as_str()))
        .map(|address| NodeAddress {
            ip: Some(address.address.clone()),
            kind: Some(address.type_.clone()),
        })
        .collect()
}

/// `None`: all of the Node's are there, and no other of their types. A Node that says nothing contradicts nobody.
fn readdressed(seen: &[NodeAddress], wanted: Vec<NodeAddress>) -> Option<Vec<NodeAddress>> {
    let is_repeated = |address: &&NodeAddress| {
        let kind = address.kind.as_deref().unwrap_or_default();
        REPEATED.contains(&kind)
    };
    let key = |address: &NodeAddress| (address.kind.clone(), address.ip.clone());
    let there: BTreeSet<_> = seen.iter().filter(is_repeated).map(key).collect();
    let should: BTreeSet<_> = wanted.iter().map(key).collect();
    if wanted.is_empty() || there == should {
        return None;
    }
    let others = seen.iter().filter(|address| !is_repeated(address)).cloned();
    Some(wanted.into_iter().chain(others).collect())
}

#[cfg(test)]
mod tests {
    use super::super::bench::Cluster;
    use super::*;

    fn core(labels: Value, address: &str) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": { "name": "a", "uid": "first", "labels": labels },
            "status": { "addresses": [
                { "type": "InternalIP", "address": address },
                { "type": "Hostname", "address": "a" },
            ] },
        })
    }

    fn settle(cluster: &mut Cluster) -> Value {
        let plan = |cluster: &Cluster| writes(&cluster.world.objects, BTreeMap::new());
        let wanted = plan(cluster);
        cluster.carry_out(wanted);
        assert_eq!(plan(cluster), []);
        let mut node = cluster.json(&ObjectRef::cluster(Kind::CiliumNode, "a"));
        node["metadata"]
            .as_object_mut()
            .unwrap()
            .remove("resourceVersion");
        node
    }

    #[test]
    fn a_cilium_node_is_as_its_node_is_and_follows_it() {
        let mut cluster = Cluster::with(&[core(json!({ "rack": "x", "old": "1" }), "10.0.0.1")]);
        let owner = json!({ "apiVersion": "v1", "kind": "Node", "name": "a", "uid": "first" });
        let made = settle(&mut cluster);
        assert_eq!(
            made["metadata"],
            json!({ "name": "a", "labels": { "rack": "x", "old": "1" }, "ownerReferences": [owner] })
        );
        assert_eq!(
            made["spec"]["addresses"],
            json!([{ "type": "InternalIP", "ip": "10.0.0.1" }])
        );
        // Somebody adds what is no business of a Node.
        let mut more = made;
        more["spec"]["addresses"] = json!([
            { "type": "CiliumInternalIP", "ip": "10.8.0.1" },
            { "type": "InternalIP", "ip": "10.0.0.1" },
        ]);
        more["spec"]["encryption"] = json!({ "key": 1 });
        cluster.apply(more);
        assert_eq!(writes(&cluster.world.objects, BTreeMap::new()), []);
        let mut other = core(json!({ "rack": "y" }), "10.0.0.2");
        other["metadata"]["uid"] = json!("second");
        cluster.apply(other);
        let followed = settle(&mut cluster);
        assert_eq!(followed["metadata"]["labels"], json!({ "rack": "y" }));
        assert_eq!(followed["metadata"]["ownerReferences"][0]["uid"], "second");
        assert_eq!(
            followed["spec"],
            json!({
                "addresses": [
                    { "type": "InternalIP", "ip": "10.0.0.2" },
                    { "type": "CiliumInternalIP", "ip": "10.8.0.1" },
                ],
                "encryption": { "key": 1 },
                "ipam": {},
            })
        );
    }

    #[test]
    fn a_cilium_node_without_a_node_and_one_whose_node_says_nothing_stay_as_they_are() {
        let by_hand = |name: &str| {
            json!({
                "apiVersion": "cilium.io/v2",
                "kind": "CiliumNode",
                "metadata": { "name": name, "labels": { "rack": "x" } },
                "spec": { "addresses": [{ "type": "InternalIP", "ip": "10.0.0.9" }] },
            })
        };
        let mut silent = core(json!({ "rack": "x" }), "");
        silent["status"] = json!({});
        silent["metadata"]["uid"] = json!(null);
        let cluster = Cluster::with(&[by_hand("a"), by_hand("b"), silent]);
        assert_eq!(writes(&cluster.world.objects, BTreeMap::new()), []);
    }
}
