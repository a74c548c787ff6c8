//! What the objects say about a node: labels, addresses and the pod prefixes it was given.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use bgp_speaker::types::Prefix;
use crds::text::parse_prefix;
use ipnet::IpNet;

use crate::world::Objects;

/// A node, from its `CiliumNode`, or from its core `Node` where there is no such object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NodeFacts<'a> {
    pub(crate) name: &'a str,
    pub(crate) labels: BTreeMap<&'a str, &'a str>,
    /// For a router ID, by Cilium's preference: InternalIP, ExternalIP, any other but CiliumInternalIP.
    pub(crate) ipv4: Option<Ipv4Addr>,
    pub(crate) pod_cidrs: Vec<Prefix>,
    /// Per `CiliumPodIPPool`, what is allocated to this node (multi-pool IPAM).
    pub(crate) pools: BTreeMap<&'a str, Vec<Prefix>>,
}

impl<'a> NodeFacts<'a> {
    /// A node nothing is known of but its name.
    pub(crate) fn named(name: &'a str) -> Self {
        Self {
            name,
            ..Self::default()
        }
    }
}

/// Every node there is an object for, by name.
pub(crate) fn all(objects: &Objects) -> BTreeMap<&str, NodeFacts<'_>> {
    let core = objects
        .nodes()
        .map(|node| (node.name(), of_core(objects, node.name())));
    let cilium = objects
        .cilium_nodes()
        .map(|node| (node.name(), of_cilium(objects, node.name())));
    core.chain(cilium)
        .filter_map(|(name, facts)| Some((name, facts?)))
        .collect()
}

/// `None`: no object describes this node.
pub(crate) fn facts<'a>(objects: &'a Objects, name: &str) -> Option<NodeFacts<'a>> {
    of_cilium(objects, name).or_else(|| of_core(objects, name))
}

fn of_cilium<'a>(objects: &'a Objects, name: &str) -> Option<NodeFacts<'a>> {
    let node = objects.cilium_node(name)?;
    let spec = &node.object.spec;
    let addresses = spec
        .addresses
        .iter()
        .filter_map(|a| Some((a.kind.as_deref()?, a.ip.as_deref()?)));
    let ipam = spec.ipam.as_ref();
    let cidrs = ipam.map(|ipam| ipam.pod_cidrs.as_slice()).unwrap_or_default();
    let allocated = ipam.and_then(|ipam| ipam.pools.as_ref());
    let mut pools: BTreeMap<&str, Vec<Prefix>> = BTreeMap::new();
    for pool in allocated.map(|p| p.allocated.as_slice()).unwrap_or_default() {
        let cidrs = pool.cidrs.iter().filter_map(|text| prefix(text));
        pools.entry(&pool.pool).or_default().extend(cidrs);
    }
    // A CiliumNode without labels stands beside a Node that has them: an agent that made it copies them.
    let labels = if node.labels().is_empty() {
        objects.node(name).map_or(node.labels(), |core| core.labels())
    } else {
        node.labels()
    };
    Some(NodeFacts {
        name: node.name(),
        labels: borrowed(labels),
        ipv4: primary_ipv4(addresses),
        pod_cidrs: cidrs.iter().filter_map(|text| prefix(text)).collect(),
        pools,
    })
}

fn of_core<'a>(objects: &'a Objects, name: &str) -> Option<NodeFacts<'a>> {
    let node = objects.node(name)?;
    let addresses = node
        .object
        .status
        .as_ref()
        .and_then(|status| status.addresses.as_deref())
        .unwrap_or_default()
        .iter()
        .map(|a| (a.type_.as_str(), a.address.as_str()));
    let spec = node.object.spec.as_ref();
    let several = spec
        .and_then(|spec| spec.pod_cidrs.as_deref())
        .unwrap_or_default();
    let one = spec.and_then(|spec| spec.pod_cidr.as_deref());
    // `podCIDR` repeats the first of `podCIDRs`.
    let mut pod_cidrs: Vec<Prefix> = Vec::new();
    for found in several.iter().map(String::as_str).chain(one).filter_map(prefix) {
        if !pod_cidrs.contains(&found) {
            pod_cidrs.push(found);
        }
    }
    Some(NodeFacts {
        name: node.name(),
        labels: borrowed(node.labels()),
        ipv4: primary_ipv4(addresses),
        pod_cidrs,
        pools: BTreeMap::new(),
    })
}

fn primary_ipv4<'a>(addresses: impl Iterator<Item = (&'a str, &'a str)>) -> Option<Ipv4Addr> {
    addresses
        .filter_map(|(kind, ip)| {
            let rank = match kind {
                "InternalIP" => 0,
                "ExternalIP" => 1,
                "CiliumInternalIP" | "Hostname" | "InternalDNS" | "ExternalDNS" => return None,
                _ => 2,
            };
            Some((rank, ip.parse().ok()?))
        })
        // The first of the best rank, as `min_by_key` keeps it.
        .min_by_key(|(rank, _): &(u8, Ipv4Addr)| *rank)
        .map(|(_, ip)| ip)
}

fn borrowed(labels: &BTreeMap<String, String>) -> BTreeMap<&str, &str> {
    labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect()
}

/// Host bits are cleared; the reader of the document reported them.
pub(crate) fn prefix(text: &str) -> Option<Prefix> {
    let net: IpNet = parse_prefix(text)?.prefix;
    Prefix::new(net.addr(), net.prefix_len()).ok()
}
