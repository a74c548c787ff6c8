//! Pools that state the same addresses.

use std::net::IpAddr;

use super::Found;
use super::index::Index;
use crate::lb_ip_pool::PoolBlock;
use crate::problem::Reason;
use crate::text::parse_prefix;

pub(super) fn check(index: &Index<'_>, found: &mut Found) {
    // In order of seniority: whoever comes first has the addresses.
    let mut seen: Vec<(&str, IpAddr, IpAddr)> = Vec::new();
    for pool in &index.load_balancer_pools {
        let blocks = pool.object.spec.blocks.iter().enumerate();
        let ranges: Vec<_> = blocks.filter_map(|(i, block)| Some((i, range(block)?))).collect();
        for (i, (first, last)) in &ranges {
            let overlapping = seen.iter().find(|(_, from, to)| first <= to && from <= last);
            if let Some((other, from, to)) = overlapping {
                let message = format!(
                    "the block overlaps '{from} - {to}' of pool '{other}', which hands out what both state"
                );
                found.warn(
                    pool.parsed,
                    &format!("spec.blocks[{i}]"),
                    Reason::PoolConflict,
                    message,
                );
            }
        }
        seen.extend(
            ranges
                .into_iter()
                .map(|(_, (first, last))| (pool.name(), first, last)),
        );
    }
}

/// The first and last address of a sound block.
fn range(block: &PoolBlock) -> Option<(IpAddr, IpAddr)> {
    if let Some(cidr) = block.cidr.as_deref().filter(|cidr| !cidr.is_empty()) {
        let prefix = parse_prefix(cidr)?.prefix;
        return Some((prefix.addr(), prefix.broadcast()));
    }
    let start: IpAddr = block.start.as_deref()?.parse().ok()?;
    let stop = match block.stop.as_deref().filter(|stop| !stop.is_empty()) {
        Some(stop) => stop.parse().ok()?,
        None => start,
    };
    Some((start, stop))
}
