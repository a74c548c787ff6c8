//! Pod prefixes of nodes, by the IPAM mode.
//!
//! - `kubernetes`: a Node was given its prefixes by others; its CiliumNode repeats them.
//! - `cluster-pool`: each node gets a prefix of each family out of the cluster's.
//! - `multi-pool`: a node says how many addresses of which `CiliumPodIPPool` it needs, and gets prefixes until they
//!   suffice. What it gives back, its agent takes out of the list.
//! - no mode: a CiliumNode that says nothing of prefixes repeats those of its Node.
//!
//! What a node has stays, wherever it is from. That there is a CiliumNode, and the rest of it, is
//! [`cilium_nodes`](super::cilium_nodes).
//!
//! A piece that was cut and is not seen at its node yet is promised: it belongs to the node for as long as its CiliumNode
//! is as it was when the piece was cut. After that it is there, or was refused with its write.

use std::collections::{BTreeMap, BTreeSet};

use crds::cilium_node::{AllocatedPool, CiliumNode, Needed};
use crds::k8s_openapi::api::core::v1::Node;
use crds::pod_ip_pool::PodIpPoolSpec;
use crds::text::parse_prefix;
use ipnet::IpNet;
use serde_json::json;

use super::cilium_nodes::{self, Wish};
use super::prefixes::{Family, Supply, Used, family};
use super::write::{Basis, Note, Weight, Write};
use crate::config::operator::ClusterPools;
use crate::plan::options::{Families, IpamMode};
use crate::world::{Objects, Stored, World};

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct PodPrefixes {
    pub(crate) writes: Vec<Write>,
    pub(crate) promises: Promises,
}

/// By node, what was cut for it and not seen there yet.
pub(crate) type Promises = BTreeMap<String, Promise>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Promise {
    /// The state of the CiliumNode it was cut on.
    basis: Basis,
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Piece {
    /// Its `CiliumPodIPPool`; empty: the cluster's.
    pool: String,
    prefix: IpNet,
}

/// What nodes are to get, by name.
#[derive(Debug, Default)]
struct Found {
    wishes: BTreeMap<String, Wish>,
    promises: Promises,
}

/// `before`: what the last plan promised.
pub(crate) fn pod_prefixes(
    world: &World,
    before: &Promises,
    mode: &IpamMode,
    families: Families,
    pools: &ClusterPools,
) -> PodPrefixes {
    let objects = &world.objects;
    let holds = |node: &str, promise: &Promise| basis(objects, node).as_ref() == Some(&promise.basis);
    let held = before.iter().filter(|(node, promise)| holds(node, promise));
    let mut found = Found {
        wishes: BTreeMap::new(),
        promises: held
            .map(|(node, promise)| (node.clone(), promise.clone()))
            .collect(),
    };
    match mode {
        IpamMode::Kubernetes | IpamMode::Unset => {
            for core in objects.nodes() {
                let wish = repeated(core, objects.cilium_node(core.name()), mode);
                found
                    .wishes
                    .extend(wish.map(|wish| (core.name().to_owned(), wish)));
            }
        }
        IpamMode::ClusterPool => of_cluster_pool(objects, families, pools, &mut found),
        IpamMode::MultiPool => of_pools(objects, &mut found),
        // Of these nothing is known here, not even who else keeps CiliumNodes.
        IpamMode::Other(_) => return PodPrefixes::default(),
    }
    PodPrefixes {
        writes: cilium_nodes::writes(objects, found.wishes),
        promises: found.promises,
    }
}

/// What a write to a CiliumNode would be over now.
fn basis(objects: &Objects, node: &str) -> Option<Basis> {
    match objects.cilium_node(node) {
        Some(there) => Basis::of(there.parsed),
        None => Some(Basis::Absent),
    }
}

impl Found {
    /// All of what is promised.
    fn promised(&self) -> impl Iterator<Item = IpNet> {
        let promises = self.promises.values();
        promises.flat_map(|promise| promise.pieces.iter().map(|piece| piece.prefix))
    }

    fn promised_to(&self, node: &str) -> Vec<Piece> {
        let promise = self.promises.get(node);
        promise.map(|promise| promise.pieces.clone()).unwrap_or_default()
    }
}

/// What a Node was given, where its CiliumNode says something else.
fn repeated(core: Stored<'_, Node>, there: Option<Stored<'_, CiliumNode>>, mode: &IpamMode) -> Option<Wish> {
    let spec = core.object.spec.as_ref()?;
    let several = spec.pod_cidrs.clone().unwrap_or_default();
    let given = if several.is_empty() {
        spec.pod_cidr.clone().into_iter().collect()
    } else {
        several
    };
    let ipam = there.and_then(|node| node.object.spec.ipam.as_ref());
    let has = ipam.map(|ipam| ipam.pod_cidrs.as_slice()).unwrap_or_default();
    let is_said = ipam.is_some_and(|ipam| !ipam.pod_cidrs.is_empty() || ipam.pools.is_some());
    if given.is_empty() || has == given || (*mode == IpamMode::Unset && is_said) {
        return None;
    }
    Some(Wish {
        ipam: json!({ "podCIDRs": given }),
        note: None,
    })
}

fn of_cluster_pool(objects: &Objects, families: Families, pools: &ClusterPools, found: &mut Found) {
    let of = |node: Stored<'_, CiliumNode>| cidrs(node.object).collect::<Vec<_>>();
    let mut used = Used::new(objects.cilium_nodes().flat_map(of).chain(found.promised()));
    let mut supplies: Vec<(Family, Supply)> = Vec::new();
    if families != Families::Ipv6Only {
        supplies.push((Family::V4, Supply::new(pools.ipv4.clone(), pools.ipv4_length)));
    }
    if families != Families::Ipv4Only {
        supplies.push((Family::V6, Supply::new(pools.ipv6.clone(), pools.ipv6_length)));
    }
    let names: BTreeSet<&str> = objects
        .cilium_nodes()
        .map(|node| node.name())
        .chain(objects.nodes().map(|node| node.name()))
        .collect();
    for name in names {
        let there = objects.cilium_node(name);
        let has: Vec<IpNet> = there.map(of).unwrap_or_default();
        let mut pieces = found.promised_to(name);
        for (of, supply) in &mut supplies {
            let mut all = has.iter().chain(pieces.iter().map(|piece| &piece.prefix));
            if !all.any(|prefix| family(prefix) == *of)
                && let Some(prefix) = supply.cut(&mut used)
            {
                let pool = String::new();
                pieces.push(Piece { pool, prefix });
            }
        }
        let Some(basis) = basis(objects, name).filter(|_| !pieces.is_empty()) else {
            continue;
        };
        let seen = there.and_then(|node| Some(node.object.spec.ipam.as_ref()?.pod_cidrs.clone()));
        let mut all: Vec<String> = seen.unwrap_or_default();
        all.extend(pieces.iter().map(|piece| piece.prefix.to_string()));
        let text = format!("pod prefixes {}", all.join(", "));
        let Some(about) = there
            .map(|node| node.parsed)
            .or_else(|| Some(objects.node(name)?.parsed))
        else {
            continue;
        };
        let wish = Wish {
            ipam: json!({ "podCIDRs": all }),
            note: Some(note(about, text)),
        };
        found.wishes.insert(name.to_owned(), wish);
        found.promises.insert(name.to_owned(), Promise { basis, pieces });
    }
}

fn of_pools(objects: &Objects, found: &mut Found) {
    let allocated = |node: Stored<'_, CiliumNode>| {
        let pools = pools(node.object).iter();
        let texts = pools.flat_map(|pool| &pool.cidrs);
        texts.filter_map(|text| prefix(text)).collect::<Vec<_>>()
    };
    let mut used = Used::new(objects.cilium_nodes().flat_map(allocated).chain(found.promised()));
    let mut supplies: BTreeMap<(&str, Family), Supply> = BTreeMap::new();
    for pool in objects.pod_pools() {
        for (family, supply) in supply(&pool.object.spec) {
            supplies.insert((pool.name(), family), supply);
        }
    }
    for node in objects.cilium_nodes() {
        let ipam = node.object.spec.ipam.as_ref();
        let Some(pools) = ipam.and_then(|ipam| ipam.pools.as_ref()) else {
            continue;
        };
        let mut all: Vec<AllocatedPool> = pools.allocated.clone();
        let mut pieces = found.promised_to(node.name());
        for piece in &pieces {
            give(&mut all, &piece.pool, piece.prefix);
        }
        for asked in &pools.requested {
            for (family, needed) in needs(asked.needed.unwrap_or_default()) {
                let Some(supply) = supplies.get_mut(&(asked.pool.as_str(), family)) else {
                    continue;
                };
                while capacity(&all, &asked.pool, family) < needed {
                    let Some(prefix) = supply.cut(&mut used) else {
                        break;
                    };
                    let pool = asked.pool.clone();
                    give(&mut all, &pool, prefix);
                    pieces.push(Piece { pool, prefix });
                }
            }
        }
        let Some(basis) = Basis::of(node.parsed).filter(|_| !pieces.is_empty()) else {
            continue;
        };
        let new = pieces
            .iter()
            .map(|piece| format!("{} of pool {}", piece.prefix, piece.pool));
        let new = new.collect::<Vec<_>>().join(", ");
        let wish = Wish {
            ipam: json!({ "pools": { "allocated": all } }),
            note: Some(note(node.parsed, format!("pod prefixes {new}"))),
        };
        found.wishes.insert(node.name().to_owned(), wish);
        found
            .promises
            .insert(node.name().to_owned(), Promise { basis, pieces });
    }
}

fn supply(pool: &PodIpPoolSpec) -> Vec<(Family, Supply)> {
    let cut = |cidrs: &[String], length| {
        let prefixes = cidrs.iter().filter_map(|text| prefix(text)).collect();
        Supply::new(prefixes, length)
    };
    let ipv4 = pool
        .ipv4
        .iter()
        .map(|pool| (Family::V4, cut(&pool.cidrs, pool.mask_size)));
    let ipv6 = pool
        .ipv6
        .iter()
        .map(|pool| (Family::V6, cut(&pool.cidrs, pool.mask_size)));
    ipv4.chain(ipv6).collect()
}

fn needs(needed: Needed) -> [(Family, u128); 2] {
    let number = |number: Option<i64>| u128::try_from(number.unwrap_or(0)).unwrap_or(0);
    [
        (Family::V4, number(needed.ipv4_addrs)),
        (Family::V6, number(needed.ipv6_addrs)),
    ]
}

/// How many pods have room: the first and the last address of a prefix are nobody's, as in Cilium.
fn capacity(all: &[AllocatedPool], pool: &str, of: Family) -> u128 {
    let cidrs = all
        .iter()
        .filter(|allocated| allocated.pool == pool)
        .flat_map(|allocated| &allocated.cidrs);
    let prefixes = cidrs
        .filter_map(|text| prefix(text))
        .filter(|prefix| family(prefix) == of);
    let rooms = prefixes.map(|prefix| {
        let bits = u32::from(prefix.max_prefix_len().saturating_sub(prefix.prefix_len()));
        let all = 1_u128.checked_shl(bits).unwrap_or(u128::MAX);
        if bits > 1 { all - 2 } else { all }
    });
    rooms.fold(0, u128::saturating_add)
}

fn give(all: &mut Vec<AllocatedPool>, pool: &str, prefix: IpNet) {
    match all.iter_mut().find(|allocated| allocated.pool == pool) {
        Some(allocated) => allocated.cidrs.push(prefix.to_string()),
        None => all.push(AllocatedPool {
            pool: pool.to_owned(),
            cidrs: vec![prefix.to_string()],
        }),
    }
}

fn cidrs(node: &CiliumNode) -> impl Iterator<Item = IpNet> {
    let ipam = node.spec.ipam.iter();
    ipam.flat_map(|ipam| &ipam.pod_cidrs)
        .filter_map(|text| prefix(text))
}

fn pools(node: &CiliumNode) -> &[AllocatedPool] {
    let ipam = node.spec.ipam.as_ref();
    let pools = ipam.and_then(|ipam| ipam.pools.as_ref());
    pools.map(|pools| pools.allocated.as_slice()).unwrap_or_default()
}

fn prefix(text: &str) -> Option<IpNet> {
    Some(parse_prefix(text)?.prefix)
}

fn note(parsed: &crds::Parsed, text: String) -> Note {
    Note::of(parsed, Weight::Normal, "Allocate", "PodPrefixesAllocated", text)
}

#[cfg(test)]
mod tests {
    use crds::Kind;
    use serde_json::Value;

    use super::super::bench::Cluster;
    use super::*;

    fn core(name: &str) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": { "name": name, "uid": name, "labels": { "rack": "a" } },
            "spec": { "podCIDRs": ["10.244.0.0/24", "fd44::/120"] },
            "status": { "addresses": [{ "type": "InternalIP", "address": "10.0.0.1" }] },
        })
    }

    fn node(name: &str, ipam: Value) -> Value {
        json!({
            "apiVersion": "cilium.io/v2",
            "kind": "CiliumNode",
            "metadata": { "name": name },
            "spec": { "ipam": ipam },
        })
    }

    fn pools() -> ClusterPools {
        ClusterPools {
            ipv4: vec!["10.8.0.0/22".parse().unwrap()],
            ipv4_length: 24,
            ipv6: vec!["fd08::/112".parse().unwrap()],
            ipv6_length: 120,
        }
    }

    fn plan(world: &World, before: &Promises, mode: &IpamMode) -> PodPrefixes {
        pod_prefixes(world, before, mode, Families::Dual, &pools())
    }

    fn settle(cluster: &mut Cluster, mode: IpamMode) {
        let found = plan(&cluster.world, &Promises::new(), &mode);
        cluster.carry_out(found.writes);
        let again = plan(&cluster.world, &found.promises, &mode);
        assert_eq!(again.writes, []);
        assert_eq!(again.promises, Promises::new());
    }

    fn shown(cluster: &Cluster) -> Vec<String> {
        let nodes = cluster.world.objects.cilium_nodes();
        nodes
            .map(|node| {
                let all: Vec<String> = cidrs(node.object).map(|prefix| prefix.to_string()).collect();
                format!("{} {}", node.name(), all.join(" "))
            })
            .collect()
    }

    #[test]
    fn every_node_gets_a_prefix_of_each_family_and_keeps_what_it_has() {
        let mut cluster = Cluster::with(&[
            node("a", json!({ "podCIDRs": ["10.8.1.0/24"] })),
            node("b", json!({ "podCIDRs": ["192.0.2.0/24"] })),
            core("c"),
        ]);
        settle(&mut cluster, IpamMode::ClusterPool);
        assert_eq!(
            shown(&cluster),
            [
                "a 10.8.1.0/24 fd08::/120",
                "b 192.0.2.0/24 fd08::100/120",
                "c 10.8.0.0/24 fd08::200/120"
            ]
        );
        let made = cluster.world.objects.cilium_node("c").unwrap();
        assert_eq!(made.labels().get("rack").map(String::as_str), Some("a"));
        assert_eq!(made.object.spec.addresses[0].ip.as_deref(), Some("10.0.0.1"));
        // One that goes gives its prefix back; one that finds none left goes without.
        cluster.delete(Kind::CiliumNode, "a");
        for name in ["d", "e", "f", "g", "h"] {
            cluster.apply(node(name, json!({})));
        }
        settle(&mut cluster, IpamMode::ClusterPool);
        let all = shown(&cluster);
        assert_eq!(all[2], "d 10.8.1.0/24 fd08::/120");
        assert_eq!(all[6], "h fd08::600/120");
    }

    #[test]
    fn a_node_gets_prefixes_of_a_pool_until_they_suffice() {
        let pool = json!({
            "apiVersion": "cilium.io/v2alpha1",
            "kind": "CiliumPodIPPool",
            "metadata": { "name": "blue" },
            "spec": { "ipv4": { "cidrs": ["10.20.0.0/24"], "maskSize": 28 } },
        });
        let asking = |needed: u32, cidrs: &[&str]| {
            json!({ "pools": {
                "requested": [{ "pool": "blue", "needed": { "ipv4-addrs": needed } }],
                "allocated": [{ "pool": "blue", "cidrs": cidrs }],
            } })
        };
        let mut cluster = Cluster::with(&[
            pool,
            node("a", asking(20, &["10.20.0.16/28"])),
            node("b", asking(1, &["10.20.0.32/28"])),
        ]);
        settle(&mut cluster, IpamMode::MultiPool);
        let of = |cluster: &Cluster, name: &str| {
            let node = cluster.world.objects.cilium_node(name).unwrap();
            super::pools(node.object)[0].cidrs.join(" ")
        };
        assert_eq!(of(&cluster, "a"), "10.20.0.16/28 10.20.0.0/28");
        assert_eq!(of(&cluster, "b"), "10.20.0.32/28");
        // More than there is: as much as there is.
        cluster.apply(node("b", asking(1000, &["10.20.0.32/28"])));
        settle(&mut cluster, IpamMode::MultiPool);
        assert_eq!(of(&cluster, "b").split(' ').count(), 14);
    }

    #[test]
    fn what_is_on_its_way_to_one_node_is_not_given_to_another() {
        for first in [node("m", json!({})), core("m")] {
            let mut cluster = Cluster::with(&[first]);
            let one = plan(&cluster.world, &Promises::new(), &IpamMode::ClusterPool);
            // It was sent, and not seen yet; one comes that is before it by name.
            cluster.apply(node("a", json!({})));
            let two = plan(&cluster.world, &one.promises, &IpamMode::ClusterPool);
            assert_eq!(two.writes.len(), 2);
            assert_eq!(two.writes[1], one.writes[0]);
            cluster.carry_out(two.writes);
            assert_eq!(
                shown(&cluster),
                ["a 10.8.1.0/24 fd08::100/120", "m 10.8.0.0/24 fd08::/120"]
            );
        }
    }

    #[test]
    fn a_promise_ends_when_its_node_is_seen_to_have_changed() {
        let asking = |needed: u32| json!({ "pools": { "requested": [{ "pool": "blue", "needed": { "ipv4-addrs": needed } }] } });
        let pool = json!({
            "apiVersion": "cilium.io/v2alpha1",
            "kind": "CiliumPodIPPool",
            "metadata": { "name": "blue" },
            "spec": { "ipv4": { "cidrs": ["10.20.0.0/24"], "maskSize": 28 } },
        });
        let mut cluster = Cluster::with(&[pool, node("a", asking(20))]);
        let one = plan(&cluster.world, &Promises::new(), &IpamMode::MultiPool);
        assert_eq!(one.promises["a"].pieces.len(), 2);
        // Somebody else wrote first, so ours is refused.
        cluster.apply(node("a", asking(1)));
        let two = plan(&cluster.world, &one.promises, &IpamMode::MultiPool);
        assert_eq!(two.promises["a"].pieces.len(), 1);
        cluster.delete(Kind::CiliumNode, "a");
        assert_eq!(
            plan(&cluster.world, &two.promises, &IpamMode::MultiPool).promises,
            Promises::new()
        );
    }

    #[test]
    fn what_kubernetes_gave_a_node_is_repeated() {
        let had = node("c", json!({ "podCIDRs": ["192.0.2.0/24"] }));
        let all = [
            core("a"),
            core("c"),
            core("d"),
            node("a", json!({})),
            node("b", json!({})),
            had,
        ];
        let given = "10.244.0.0/24 fd44::/120";
        let mut cluster = Cluster::with(&all);
        settle(&mut cluster, IpamMode::Kubernetes);
        let repeated =
            ["a", "b", "c", "d"].map(|name| format!("{name} {}", if name == "b" { "" } else { given }));
        assert_eq!(shown(&cluster), repeated);
        // Without a mode nobody is contradicted.
        let mut cluster = Cluster::with(&all);
        settle(&mut cluster, IpamMode::Unset);
        let mut kept = repeated;
        kept[2] = "c 192.0.2.0/24".to_owned();
        assert_eq!(shown(&cluster), kept);
        // What another IPAM does is its own.
        let mut cluster = Cluster::with(&all);
        settle(&mut cluster, IpamMode::Other("eni".to_owned()));
        assert_eq!(shown(&cluster), ["a ", "b ", "c 192.0.2.0/24"]);
    }
}
