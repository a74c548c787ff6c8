//! Addresses that are out.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::count::Count;
use crate::pool::Prepared;
use crate::report::{Decision, PoolReport, Standing};

/// The sum of decisions over the same pools.
#[derive(Debug, Default)]
pub(crate) struct Given {
    /// How many have each address.
    owners: BTreeMap<IpAddr, usize>,
    /// How many of the addresses each pool has, less what it holds back; in the order of the pools.
    counts: Vec<u128>,
    /// The same as `owners`, of addresses that no block of their pool has any more.
    retained: BTreeMap<String, BTreeMap<IpAddr, usize>>,
}

impl Given {
    pub(crate) fn has(&self, address: IpAddr) -> bool {
        self.owners.contains_key(&address)
    }

    pub(crate) fn add(&mut self, decision: &Decision, pools: &[Prepared]) {
        self.counts.resize(pools.len(), 0);
        for given in &decision.addresses {
            let owners = self.owners.entry(given.address).or_default();
            *owners += 1;
            if *owners == 1 {
                self.count(given.address, pools, |count| count.saturating_add(1));
            }
            match given.standing {
                Standing::InPool => {}
                Standing::Retained => {
                    let retained = self.retained.entry(given.pool.clone()).or_default();
                    *retained.entry(given.address).or_default() += 1;
                }
            }
        }
    }

    /// The opposite of [`Self::add`].
    pub(crate) fn remove(&mut self, decision: &Decision, pools: &[Prepared]) {
        for given in &decision.addresses {
            if one_less(&mut self.owners, given.address) {
                self.count(given.address, pools, |count| count.saturating_sub(1));
            }
            match given.standing {
                Standing::InPool => {}
                Standing::Retained => {
                    if let Some(retained) = self.retained.get_mut(&given.pool) {
                        one_less(retained, given.address);
                    }
                }
            }
        }
    }

    fn count(&mut self, address: IpAddr, pools: &[Prepared], change: impl Fn(u128) -> u128) {
        for (count, pool) in self.counts.iter_mut().zip(pools) {
            if pool.contains(address) && !pool.holds_back(address) {
                *count = change(*count);
            }
        }
    }

    pub(crate) fn reports(&self, pools: &[Prepared]) -> BTreeMap<String, PoolReport> {
        let report = |(at, pool): (usize, &Prepared)| {
            let given = self.counts.get(at).copied().unwrap_or(0);
            let (total, mut used) = (pool.total(), pool.held_back());
            used += Count::new(given);
            let mut available = total;
            available -= used;
            let retained = self.retained.get(&pool.pool.name);
            let report = PoolReport {
                total,
                used,
                available,
                retained: retained.into_iter().flat_map(BTreeMap::keys).copied().collect(),
                conflicts: pool.conflicts.clone(),
            };
            (pool.pool.name.clone(), report)
        };
        pools.iter().enumerate().map(report).collect()
    }
}

/// Whether it was the last one.
fn one_less(owners: &mut BTreeMap<IpAddr, usize>, address: IpAddr) -> bool {
    let Some(number) = owners.get_mut(&address) else {
        return false;
    };
    *number -= 1;
    let was_last = *number == 0;
    if was_last {
        owners.remove(&address);
    }
    was_last
}
