//! Services that do not fit into the maps of some nodes, as one condition each.
//!
//! ```text
//!   agents: status.load-balancer of CiliumNodes, bounded --+
//!   conditions of Services as they are --------------------+--> the condition, or none
//! ```
//!
//! Every agent says at its own CiliumNode what it has no room for; a thousand of them never write to one Service. The
//! condition is there only where it is so, and goes with the last node that says it.

use std::collections::{BTreeMap, BTreeSet};

use crds::condition::ConditionStatus;
use crds::k8s_openapi::api::core::v1::Service;
use crds::k8s_openapi::jiff::Timestamp;
use crds::{Kind, ObjectRef};
use ebpf_datapath::sizes;
use serde_json::json;

use super::conditions::{Conditions, Wanted, of_service};
use super::write::{Basis, Note, Order, Part, Target, Weight, Write};
use crate::plan::vips;
use crate::world::{Fetched, ServiceRef, Stored, World};

/// Ours. There is none that is true: it would be written to every Service.
const READY: &str = "stentor.io/DatapathReady";
const REASON: &str = "map_full";
/// So many nodes are named; of the others the number.
const NAMED: usize = 3;

/// By map and its size the nodes that have no room in it.
type Refusals<'a> = BTreeMap<(&'a str, i64), BTreeSet<&'a str>>;

/// What is to be written so that each Service says what nodes say of it.
pub(crate) fn full_maps(world: &World, now: Timestamp) -> Vec<Write> {
    let told = told(world);
    let write = |service: Fetched<'_, Service>| {
        let service = service.stored();
        write(service, told.get(&vips::service_ref(service)), now)
    };
    world.objects.services().filter_map(write).collect()
}

/// The same from what changed: ten thousand other Services cost nothing.
#[derive(Debug, Default)]
pub(crate) struct Keyed {
    /// What nodes say.
    told: BTreeMap<ServiceRef, Wanted>,
    /// To which something is to be written.
    written: BTreeSet<ServiceRef>,
}

impl Keyed {
    /// `changed`: objects that are not as they were, or gone. What is to be written, if anything; of all others the same as
    /// before. At the first step everything must have changed.
    pub(crate) fn step(
        &mut self,
        world: &World,
        changed: &BTreeSet<ObjectRef>,
        now: Timestamp,
    ) -> Vec<(Target, Option<Write>)> {
        let of_services = changed.iter().filter(|object| object.kind == Kind::Service);
        let mut touched: BTreeSet<ServiceRef> = of_services
            .map(|service| ServiceRef::new(&service.namespace, &service.name))
            .collect();
        if changed.iter().any(|object| object.kind == Kind::CiliumNode) {
            let told = told(world);
            let before = std::mem::replace(&mut self.told, told);
            let other = |(service, wanted): (ServiceRef, Wanted)| {
                (self.told.get(&service) != Some(&wanted)).then_some(service)
            };
            let new = self.told.keys().filter(|service| !before.contains_key(service));
            touched.extend(new.cloned());
            touched.extend(before.into_iter().filter_map(other));
        }
        let mut found = Vec::new();
        for reference in touched {
            let service = world.objects.service(&reference.namespace, &reference.name);
            let write = service.and_then(|service| write(service.stored(), self.told.get(&reference), now));
            let was_written = self.written.remove(&reference);
            if write.is_none() && !was_written {
                continue;
            }
            found.push((target(&reference), write.clone()));
            if write.is_some() {
                self.written.insert(reference);
            }
        }
        found
    }
}

/// What nodes say of each Service.
fn told(world: &World) -> BTreeMap<ServiceRef, Wanted> {
    let mut refused: BTreeMap<(&str, &str), Refusals<'_>> = BTreeMap::new();
    for node in world.objects.cilium_nodes() {
        let status = node.object.status.as_ref();
        let told = status.and_then(|status| status.load_balancer.as_ref());
        for full in told.into_iter().flat_map(|told| &told.refused) {
            let names = full.services.iter().filter_map(|name| name.split_once('/'));
            for service in names {
                let of_service = refused.entry(service).or_default();
                let nodes = of_service.entry((full.map.as_str(), full.limit)).or_default();
                nodes.insert(node.name());
            }
        }
    }
    let refused = refused.iter();
    refused
        .map(|((namespace, name), refusals)| (ServiceRef::new(namespace, name), wanted(refusals)))
        .collect()
}

fn target(service: &ServiceRef) -> Target {
    Target {
        object: ObjectRef::namespaced(Kind::Service, &*service.namespace, &*service.name),
        part: Part::Condition,
    }
}

fn write(service: Stored<'_, Service>, wanted: Option<&Wanted>, now: Timestamp) -> Option<Write> {
    let status = service.object.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_deref());
    let mut types = conditions.into_iter().flatten().map(|seen| &seen.type_);
    // Nearly all say nothing, and nothing is said of them.
    if wanted.is_none() && !types.any(|seen| seen == READY) {
        return None;
    }
    let seen = of_service(service.object);
    let conditions = Conditions {
        seen: &seen,
        ours: &[READY],
        wanted: wanted.map(std::slice::from_ref).unwrap_or_default(),
        generation: service.object.metadata.generation,
        now,
    };
    let entries = conditions.entries();
    if entries.is_empty() {
        return None;
    }
    // Nodes come and go; that it began is worth a word.
    let is_known = seen.iter().any(|seen| seen.kind == READY);
    let news = wanted.into_iter().filter(|_| !is_known).map(|wanted| {
        let text = wanted.message.clone();
        Note::of(service.parsed, Weight::Warning, "Balance", "MapFull", text)
    });
    Some(Write {
        target: target(&vips::service_ref(service)),
        basis: Basis::of(service.parsed)?,
        order: Order::Strategic(json!({ "status": { "conditions": entries } }).into()),
        notes: news.collect(),
    })
}

fn wanted(refusals: &Refusals<'_>) -> Wanted {
    let each = refusals.iter().map(|((map, limit), nodes)| {
        let what = match sizes::key(map) {
            Some(key) => format!("raise {key} (now {limit})"),
            None => format!("raise the size of the map (now {limit})"),
        };
        format!("no room in map {map} on {}; {what}", named(nodes))
    });
    let each: Vec<String> = each.collect();
    Wanted {
        kind: READY,
        status: ConditionStatus::False,
        reason: REASON,
        message: format!(
            "Nothing of this Service is served where it does not fit: {}; or remove other Services",
            each.join("; ")
        ),
    }
}

fn named(nodes: &BTreeSet<&str>) -> String {
    let first: Vec<&str> = nodes.iter().take(NAMED).copied().collect();
    let first = first.join(", ");
    let word = if nodes.len() == 1 { "node" } else { "nodes" };
    match nodes.len().saturating_sub(NAMED) {
        0 => format!("{word} {first}"),
        more => format!("{word} {first} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::bench::Cluster;
    use super::*;

    fn service(name: &str) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": name, "namespace": "ns", "generation": 4 },
            "spec": { "ports": [{ "port": 80 }] },
            "status": { "conditions": [{
                "type": "y/Theirs", "status": "True", "reason": "because", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }] },
        })
    }

    fn node(name: &str, refused: Value) -> Value {
        json!({
            "apiVersion": "cilium.io/v2",
            "kind": "CiliumNode",
            "metadata": { "name": name },
            "spec": {},
            "status": { "load-balancer": { "refused": refused } },
        })
    }

    fn full(map: &str, limit: i64, services: &[&str]) -> Value {
        json!({ "map": map, "limit": limit, "services": services, "more": 7 })
    }

    fn settle(cluster: &mut Cluster) -> usize {
        let plan = |world: &World| full_maps(world, Timestamp::UNIX_EPOCH);
        let done = cluster.settle(plan);
        assert_eq!(cluster.settle(plan), 0);
        done
    }

    fn said(cluster: &Cluster, name: &str) -> Vec<String> {
        let service = cluster.json(&ObjectRef::namespaced(Kind::Service, "ns", name));
        let conditions = service["status"]["conditions"].as_array().cloned();
        let said = conditions.into_iter().flatten().map(|condition| {
            assert!(condition["type"] == "y/Theirs" || condition["observedGeneration"] == 4);
            let text = |name: &str| condition[name].as_str().unwrap().to_owned();
            format!(
                "{} {} {}: {}",
                text("type"),
                text("status"),
                text("reason"),
                text("message")
            )
        });
        said.collect()
    }

    #[test]
    fn a_service_says_where_it_does_not_fit_as_long_as_a_node_says_so() {
        let mut cluster = Cluster::with(&[service("a"), service("b")]);
        assert_eq!(settle(&mut cluster), 0);
        let no_frontends = || json!([full("FRONTENDS4", 1024, &["ns/b", "ns/gone"])]);
        for name in ["n1", "n2", "n3", "n4", "n5"] {
            cluster.apply(node(name, no_frontends()));
        }
        let both = json!([
            full("FRONTENDS4", 1024, &["ns/b"]),
            full("ODD", 2, &["ns/b", "no name"])
        ]);
        cluster.apply(node("n2", both));
        let writes = full_maps(&cluster.world, Timestamp::UNIX_EPOCH);
        let reasons: Vec<&str> = writes[0].notes.iter().map(|note| note.reason).collect();
        assert_eq!(reasons, ["MapFull"]);
        assert_eq!(settle(&mut cluster), 1);
        let theirs = "y/Theirs True because: ";
        assert_eq!(said(&cluster, "a"), [theirs]);
        assert_eq!(
            said(&cluster, "b"),
            [
                theirs,
                "stentor.io/DatapathReady False map_full: Nothing of this Service is served where it does not fit: no room in \
                 map FRONTENDS4 on nodes n1, n2, n3 and 2 more; raise bpf-lb-service-map-max (now 1024); no room in map ODD on \
                 node n2; raise the size of the map (now 2); or remove other Services"
            ]
        );
        // Nodes that are gone, and one that has room now, say nothing any more.
        for name in ["n2", "n3", "n4", "n5"] {
            cluster.delete(Kind::CiliumNode, name);
        }
        assert_eq!(settle(&mut cluster), 1);
        assert!(said(&cluster, "b")[1].contains("on node n1; raise"));
        cluster.apply(node("n1", json!([])));
        assert_eq!(settle(&mut cluster), 1);
        assert_eq!(said(&cluster, "b"), [theirs]);
    }
}
