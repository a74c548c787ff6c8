//! The router ID of each instance of this node.
//!
//! An ID given in the configuration always wins. Without one the mode decides:
//!
//! - `default`: the node's own IPv4 address; a node without one takes the last four octets of the MAC address
//!   of `cilium_host`, and without that a number made of its name.
//! - `ip-pool`: an address of the configured pool. Every node computes the whole assignment from the same
//!   objects, so no one needs to hand IDs out. A key (`node/instance`) asks for the address its own hash
//!   points at and goes on to the next free one; a node that comes or goes therefore moves nobody but those
//!   that collided with it, and no session of the others is reset. The first and the last address of the pool
//!   are not used, and IDs given by hand are taken out first.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use bgp_speaker::types::RouterId;
use ipnet::Ipv4Net;

/// `bgp-router-id-allocation-mode`, with the pool of `bgp-router-id-allocation-ip-pool`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RouterIdMode {
    #[default]
    Default,
    IpPool(Ipv4Net),
}

/// What an instance without a router ID of its own can fall back on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoRouterId {
    #[error("the router ID pool {pool} has no address left")]
    PoolExhausted { pool: Ipv4Net },
    #[error("router ID 0.0.0.0 can not be used (RFC 6286)")]
    Zero,
}

impl NoRouterId {
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::PoolExhausted { .. } => "router-id-pool-exhausted",
            Self::Zero => "router-id-zero",
        }
    }
}

/// Mode `default`: from the node's IPv4 address, else from a MAC address, else from its name.
///
/// # Errors
/// [`NoRouterId::Zero`] if the address is 0.0.0.0.
pub fn of_node(node: &str, ipv4: Option<Ipv4Addr>, mac: Option<[u8; 6]>) -> Result<RouterId, NoRouterId> {
    if let Some(address) = ipv4 {
        return RouterId::new(address).map_err(|_| NoRouterId::Zero);
    }
    if let Some([_, _, a, b, c, d]) = mac
        && let Ok(id) = RouterId::new(Ipv4Addr::new(a, b, c, d))
    {
        return Ok(id);
    }
    let [a, b, c, d, ..] = hash(node).to_be_bytes();
    Ok(RouterId::new(Ipv4Addr::new(a, b, c, d | 1)).unwrap_or_else(|_| unreachable!("the last bit is set")))
}

/// Mode `ip-pool`: the IDs of every key that needs one. `held`: what keys were given before; it stays theirs if it is of
/// the pool. `taken` are IDs given by hand, anywhere in the cluster. A key missing from the answer found the pool
/// exhausted.
#[must_use]
pub fn assign(
    pool: Ipv4Net,
    keys: &BTreeSet<String>,
    held: &BTreeMap<String, RouterId>,
    taken: &BTreeSet<Ipv4Addr>,
) -> BTreeMap<String, RouterId> {
    let (first, size) = usable(pool);
    let mut used: BTreeSet<u32> = taken.iter().map(|a| a.to_bits()).collect();
    let mut free = size.saturating_sub(
        used.iter()
            .filter(|a| (u64::from(first)..u64::from(first) + size).contains(&u64::from(**a)))
            .count()
            .try_into()
            .unwrap_or(u64::MAX),
    );
    let mut ids = BTreeMap::new();
    for (key, id) in held.iter().filter(|(key, _)| keys.contains(*key)) {
        let bits = id.get();
        let of_pool = (u64::from(first)..u64::from(first) + size).contains(&u64::from(bits));
        if of_pool && used.insert(bits) {
            free = free.saturating_sub(1);
            ids.insert(key.clone(), *id);
        }
    }
    for key in keys {
        if ids.contains_key(key) {
            continue;
        }
        if free == 0 {
            break;
        }
        let start = hash(key).checked_rem(size).unwrap_or(0);
        let found = (0..size)
            .map(|step| u64::from(first) + (start + step) % size)
            .filter_map(|bits| u32::try_from(bits).ok())
            .find(|bits| !used.contains(bits));
        if let Some(bits) = found
            && let Ok(id) = RouterId::new(Ipv4Addr::from_bits(bits))
        {
            used.insert(bits);
            free -= 1;
            ids.insert(key.clone(), id);
        }
    }
    ids
}

/// First usable address and how many there are. 0.0.0.0 is never one of them.
fn usable(pool: Ipv4Net) -> (u32, u64) {
    let (first, last) = (pool.network().to_bits(), pool.broadcast().to_bits());
    let (first, last) = if pool.prefix_len() >= 31 {
        (first, last)
    } else {
        (first + 1, last - 1)
    };
    let first = first.max(1);
    (first, (u64::from(last) + 1).saturating_sub(u64::from(first)))
}

/// FNV-1a: the same on every machine and in every version, which the standard library's hasher does not promise.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|n| (*n).to_owned()).collect()
    }

    fn pool(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    #[test]
    fn default_mode_prefers_the_address_then_the_mac_then_the_name() {
        let mac = Some([2, 0, 10, 1, 2, 3]);
        let id = |ipv4, mac| of_node("node-a", ipv4, mac).unwrap().to_string();
        assert_eq!(id(Some(Ipv4Addr::new(192, 0, 2, 1)), mac), "192.0.2.1");
        assert_eq!(id(None, mac), "10.1.2.3");
        assert_eq!(id(None, None), id(None, None));
        assert_ne!(of_node("node-a", None, None), of_node("node-b", None, None));
        assert_eq!(
            of_node("n", Some(Ipv4Addr::UNSPECIFIED), None),
            Err(NoRouterId::Zero)
        );
    }

    #[test]
    fn pool_ids_are_unique_inside_the_pool_and_keep_away_from_taken_ones() {
        let all: BTreeSet<String> = (0..200).map(|n| format!("node-{n}/main")).collect();
        let taken = BTreeSet::from([Ipv4Addr::new(10, 0, 0, 7), Ipv4Addr::new(192, 0, 2, 1)]);
        let ids = assign(pool("10.0.0.0/24"), &all, &BTreeMap::new(), &taken);
        let values: BTreeSet<String> = ids.values().map(ToString::to_string).collect();
        assert_eq!((ids.len(), values.len()), (200, 200));
        for bad in ["10.0.0.0", "10.0.0.255", "10.0.0.7"] {
            assert!(!values.contains(bad), "{bad}");
        }
    }

    #[test]
    fn an_exhausted_pool_leaves_the_last_keys_without() {
        let ids = assign(
            pool("10.0.0.0/30"),
            &keys(&["a/x", "b/x", "c/x"]),
            &BTreeMap::new(),
            &BTreeSet::new(),
        );
        assert_eq!(ids.keys().collect::<Vec<_>>(), ["a/x", "b/x"]);
        assert_eq!(
            assign(
                pool("10.0.0.1/32"),
                &keys(&["a/x"]),
                &BTreeMap::new(),
                &BTreeSet::new()
            )
            .len(),
            1
        );
        assert_eq!(
            assign(
                pool("0.0.0.0/32"),
                &keys(&["a/x"]),
                &BTreeMap::new(),
                &BTreeSet::new()
            )
            .len(),
            0
        );
    }

    #[test]
    fn what_was_given_out_stays_and_is_given_to_nobody_else() {
        let first = assign(
            pool("10.0.0.0/29"),
            &keys(&["b/x"]),
            &BTreeMap::new(),
            &BTreeSet::new(),
        );
        let all = keys(&["a/x", "b/x", "c/x", "d/x", "e/x", "f/x"]);
        let then = assign(pool("10.0.0.0/29"), &all, &first, &BTreeSet::new());
        assert_eq!(then.get("b/x"), first.get("b/x"));
        let values: BTreeSet<String> = then.values().map(ToString::to_string).collect();
        assert_eq!((then.len(), values.len()), (6, 6));
        // Of another pool, or given by hand since: it goes.
        let moved = assign(pool("10.9.0.0/29"), &all, &then, &BTreeSet::new());
        assert!(moved.values().all(|id| id.to_string().starts_with("10.9.")));
        let taken = BTreeSet::from([Ipv4Addr::from_bits(then["b/x"].get())]);
        let moved = assign(pool("10.0.0.0/28"), &all, &then, &taken);
        assert_ne!(moved["b/x"], then["b/x"]);
    }

    #[test]
    fn a_node_that_leaves_moves_almost_nobody() {
        let mut all: BTreeSet<String> = (0..100).map(|n| format!("node-{n}/main")).collect();
        let before = assign(pool("10.0.0.0/16"), &all, &BTreeMap::new(), &BTreeSet::new());
        all.remove("node-0/main");
        let after = assign(pool("10.0.0.0/16"), &all, &BTreeMap::new(), &BTreeSet::new());
        let moved = after
            .iter()
            .filter(|(key, id)| before.get(*key) != Some(id))
            .count();
        assert!(moved <= 1, "{moved} moved");
    }
}
