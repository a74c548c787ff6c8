//! Rules of pools of addresses, and of the nodes that hold parts of them.

use std::net::IpAddr;

use super::Rules;
use crate::cilium_node::CiliumNodeSpec;
use crate::lb_ip_pool::{LoadBalancerIpPoolSpec, PoolBlock};
use crate::pod_ip_pool::PodIpPoolSpec;
use crate::problem::Reason;
use crate::schema::quote;
use crate::text::parse_prefix;

pub(super) fn load_balancer_ip_pool(rules: &mut Rules<'_>, spec: &LoadBalancerIpPoolSpec) {
    rules.selector("spec.serviceSelector", spec.service_selector.as_ref());
    let mut ranges: Vec<(usize, IpAddr, IpAddr)> = Vec::new();
    for (i, block) in spec.blocks.iter().enumerate() {
        let at = format!("spec.blocks[{i}]");
        if let Some((first, last)) = check_block(rules, &at, block) {
            let overlaps = |(_, from, to): &&(usize, IpAddr, IpAddr)| first <= *to && *from <= last;
            if let Some((other, ..)) = ranges.iter().find(overlaps) {
                let message = format!("the block overlaps item {other}; state every address once");
                rules.warn(&at, Reason::OverlappingBlocks, message);
            }
            ranges.push((i, first, last));
        }
    }
    for (i, block) in spec.reserved.iter().enumerate() {
        let at = format!("spec.reserved[{i}]");
        if let Some((first, last)) = check_block(rules, &at, block) {
            let overlaps = |(_, from, to): &(usize, IpAddr, IpAddr)| first <= *to && *from <= last;
            if !ranges.iter().any(overlaps) {
                let message = "no block of the pool has any of these addresses; nothing is held back";
                rules.warn(&at, Reason::NoEffect, message);
            }
        }
    }
}

/// The first and last address, if the block is sound.
fn check_block(rules: &mut Rules<'_>, at: &str, block: &PoolBlock) -> Option<(IpAddr, IpAddr)> {
    if let Some(cidr) = block.cidr.as_deref().filter(|cidr| !cidr.is_empty()) {
        rules.prefix(&format!("{at}.cidr"), cidr);
        if block.start.is_some() || block.stop.is_some() {
            rules.warn(
                at,
                Reason::NoEffect,
                "cidr is given, so start and stop are not used; remove them",
            );
        }
        let prefix = parse_prefix(cidr)?.prefix;
        return Some((prefix.addr(), prefix.broadcast()));
    }
    let Some(start) = block.start.as_deref().filter(|start| !start.is_empty()) else {
        let what = if block.stop.is_some() {
            "stop needs start"
        } else {
            "the block is empty"
        };
        rules.error(
            at,
            Reason::EmptyBlock,
            format!("{what}; give cidr, or start, or start and stop"),
        );
        return None;
    };
    let start = plain_address(rules, &format!("{at}.start"), start);
    let stop = match block.stop.as_deref().filter(|stop| !stop.is_empty()) {
        Some(stop) => plain_address(rules, &format!("{at}.stop"), stop),
        None => start,
    };
    let (start, stop) = (start?, stop?);
    if start.is_ipv4() != stop.is_ipv4() {
        rules.error(
            at,
            Reason::MixedFamilies,
            format!("{start} and {stop} are of different families"),
        );
        return None;
    }
    if start > stop {
        rules.error(
            at,
            Reason::ReversedRange,
            format!("{start} lies after {stop}; swap them"),
        );
        return None;
    }
    Some((start, stop))
}

fn plain_address(rules: &mut Rules<'_>, field: &str, text: &str) -> Option<IpAddr> {
    let address = text.parse().ok();
    if address.is_none() {
        rules.error(
            field,
            Reason::BadAddress,
            format!("{} is not an address", quote(text)),
        );
    }
    address
}

pub(super) fn pod_ip_pool(rules: &mut Rules<'_>, spec: &PodIpPoolSpec) {
    rules.selector("spec.podSelector", spec.pod_selector.as_ref());
    rules.selector("spec.namespaceSelector", spec.namespace_selector.as_ref());
    if let Some(pool) = &spec.ipv4 {
        pod_prefixes(rules, "spec.ipv4", &pool.cidrs, pool.mask_size, "IPv4");
    }
    if let Some(pool) = &spec.ipv6 {
        pod_prefixes(rules, "spec.ipv6", &pool.cidrs, pool.mask_size, "IPv6");
    }
}

fn pod_prefixes(rules: &mut Rules<'_>, at: &str, cidrs: &[String], mask_size: u8, family: &str) {
    for (i, cidr) in cidrs.iter().enumerate() {
        let field = format!("{at}.cidrs[{i}]");
        rules.prefix(&field, cidr);
        let Some(written) = parse_prefix(cidr) else {
            continue;
        };
        if written.prefix.addr().is_ipv4() != (family == "IPv4") {
            rules.error(
                &field,
                Reason::MixedFamilies,
                format!("{} is not {family}", quote(cidr)),
            );
        } else if mask_size < written.prefix.prefix_len() {
            let message = format!(
                "nodes get /{mask_size}, which does not fit into {}",
                written.prefix
            );
            rules.warn(&format!("{at}.maskSize"), Reason::BadMaskSize, message);
        }
    }
}

pub(super) fn cilium_node(rules: &mut Rules<'_>, spec: &CiliumNodeSpec) {
    let Some(ipam) = &spec.ipam else { return };
    for (i, cidr) in ipam.pod_cidrs.iter().enumerate() {
        let field = format!("spec.ipam.podCIDRs[{i}]");
        match parse_prefix(cidr) {
            Some(_) => rules.prefix(&field, cidr),
            None => {
                let message = format!("{} is not a CIDR and is left out", quote(cidr));
                rules.warn(&field, Reason::BadAddress, message);
            }
        }
    }
    for (i, pool) in ipam.pools.iter().flat_map(|pools| &pools.allocated).enumerate() {
        for (j, cidr) in pool.cidrs.iter().enumerate() {
            rules.prefix(&format!("spec.ipam.pools.allocated[{i}].cidrs[{j}]"), cidr);
        }
    }
}
