//! Pools of addresses.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use serde_json::{Map, Value, json};

use super::{Migrated, name, only_selector, strings};

/// More `/24` than that are not looked through for addresses that end in 0 or 255.
const LOOKED_THROUGH: u32 = 256;

/// Whose address is whose.
#[derive(Debug, Default)]
pub(super) struct Pools(Vec<(String, Vec<Block>)>);

/// First and last.
type Block = (IpAddr, IpAddr);

impl Pools {
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    pub(super) fn of(&self, address: IpAddr) -> Option<&str> {
        let holds = |blocks: &[Block]| {
            let mut blocks = blocks.iter();
            blocks.any(|(first, last)| (*first..=*last).contains(&address))
        };
        let found = self.0.iter().find(|(_, blocks)| holds(blocks))?;
        Some(&found.0)
    }
}

pub(super) fn read(pools: &[&Value], migrated: &mut Migrated) -> Pools {
    // Theirs: the lowest number first, and those without one in the end. Ours: the highest first.
    let priority = |pool: &Value| {
        pool["spec"]["serviceAllocation"]["priority"]
            .as_i64()
            .filter(|it| *it > 0)
    };
    let ranks: BTreeSet<i64> = pools.iter().filter_map(|pool| priority(pool)).collect();
    let mut read = Pools::default();
    for pool in pools {
        let mut spec = Map::new();
        let mut blocks = Vec::new();
        let mut written = Vec::new();
        for text in strings(&pool["spec"]["addresses"]) {
            match block(text) {
                Some((ends, block)) => {
                    blocks.push(ends);
                    written.push(block);
                }
                None => migrated.leave_out(
                    pool,
                    format!("spec.addresses: {text:?} is neither a prefix nor a range"),
                ),
            }
        }
        spec.insert("blocks".to_owned(), json!(written));
        if pool["spec"]["autoAssign"] == json!(false) {
            spec.insert("autoAssign".to_owned(), json!(false));
        }
        if let Some(own) = priority(pool) {
            let behind = ranks.iter().filter(|rank| **rank >= own).count();
            spec.insert("priority".to_owned(), json!(behind));
        }
        if pool["spec"]["avoidBuggyIPs"] == json!(true) {
            match buggy(&blocks) {
                Some(reserved) if reserved.is_empty() => {}
                Some(reserved) => {
                    spec.insert("reserved".to_owned(), json!(reserved));
                }
                None => migrated.leave_out(
                    pool,
                    "spec.avoidBuggyIPs: the pool is too large to list addresses that end in 0 or 255: list in \
                     spec.reserved those that matter",
                ),
            }
        }
        if let Some(selector) = selector(pool, migrated) {
            spec.insert("serviceSelector".to_owned(), selector);
        }
        migrated.objects.push(json!({
            "apiVersion": "cilium.io/v2",
            "kind": "CiliumLoadBalancerIPPool",
            "metadata": { "name": name(pool) },
            "spec": spec,
        }));
        read.0.push((name(pool).to_owned(), blocks));
    }
    read
}

/// The ends of a block, and the block as ours.
fn block(text: &str) -> Option<(Block, Value)> {
    if let Some((first, last)) = text.split_once('-') {
        let (first, last): (IpAddr, IpAddr) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        let is_range = first.is_ipv4() == last.is_ipv4() && first <= last;
        return is_range.then(|| ((first, last), json!({ "start": first, "stop": last })));
    }
    let net: IpNet = text.trim().parse().ok()?;
    let net = net.trunc();
    Some((
        (net.network(), net.broadcast()),
        json!({ "cidr": net.to_string() }),
    ))
}

/// Addresses of IPv4 that end in 0 or 255; `None`: too many.
fn buggy(blocks: &[Block]) -> Option<Vec<Value>> {
    let mut found = Vec::new();
    for block in blocks {
        let (IpAddr::V4(first), IpAddr::V4(last)) = block else {
            continue;
        };
        let (first, last) = (first.to_bits(), last.to_bits());
        if (last >> 8) - (first >> 8) >= LOOKED_THROUGH {
            return None;
        }
        for net in first >> 8..=last >> 8 {
            let ends = [net << 8, (net << 8) + 255];
            let ends = ends.into_iter().filter(|end| (first..=last).contains(end));
            found.extend(ends.map(|end| json!({ "start": Ipv4Addr::from_bits(end) })));
        }
    }
    Some(found)
}

/// Which Services it serves, by the selector of Services and the list of namespaces.
fn selector(pool: &Value, migrated: &mut Migrated) -> Option<Value> {
    let allocation = &pool["spec"]["serviceAllocation"];
    let wanted = json!({ "kind": pool["kind"], "metadata": pool["metadata"], "spec": allocation });
    migrated.leave_out_fields(
        &wanted,
        &[(
            "namespaceSelectors",
            "pools select namespaces by name: list them in spec.serviceSelector, key io.kubernetes.service.namespace",
        )],
    );
    let services = only_selector(&wanted, "serviceSelectors", migrated);
    let namespaces = strings(&allocation["namespaces"]);
    if namespaces.is_empty() {
        return services;
    }
    let mut selector = services.unwrap_or_else(|| json!({}));
    let mut expressions = selector["matchExpressions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    expressions.push(json!({
        "key": "io.kubernetes.service.namespace",
        "operator": "In",
        "values": namespaces,
    }));
    selector["matchExpressions"] = Value::Array(expressions);
    Some(selector)
}
