//! The plan itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::count::Count;
use crate::pool::{Conflict, Pool, Prepared, prepare};
use crate::request::{Family, Incompatible, Request, RequestId, Wish};

/// Who gets what, and what became of the pools.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub decisions: BTreeMap<RequestId, Decision>,
    pub pools: BTreeMap<String, PoolReport>,
}

/// What one request gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// What it kept, in the order it held it, then what is new, IPv4 before IPv6.
    pub addresses: Vec<Allocation>,
    /// What it wishes for and cannot have. Empty means the request is satisfied.
    pub refusals: Vec<Refusal>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocation {
    pub address: IpAddr,
    /// The pool it came from.
    pub pool: String,
}

/// Why a part of a wish is not granted. The texts are those of Cilium's condition
/// `cilium.io/IPAMRequestSatisfied`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("No pool exists with a CIDR containing '{0}'")]
    NoPoolContains(IpAddr),
    #[error("There are no enabled CiliumLoadBalancerIPPools that match this service")]
    NoPoolMatches(Family),
    #[error("The pool with the CIDR containing '{0}', doesn't select this service")]
    PoolSelectorMismatch(IpAddr),
    #[error("The IP '{0}' is already allocated to another service")]
    AlreadyAllocated(IpAddr),
    #[error("The IP '{address}' is already allocated to an incompatible service. Reason: {reason}")]
    IncompatibleService { address: IpAddr, reason: Incompatible },
    #[error("All enabled CiliumLoadBalancerIPPools that match this service ran out of allocatable IPs")]
    OutOfAddresses(Family),
    /// Not in Cilium, which calls such an address allocated to another service.
    #[error(
        "The IP '{0}' is the first or last address of its CIDR, which its pool holds back (allowFirstLastIPs: No)"
    )]
    Reserved(IpAddr),
}

impl Refusal {
    /// The `reason` of the condition.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoPoolContains(_) | Self::NoPoolMatches(_) => "no_pool",
            Self::PoolSelectorMismatch(_) => "pool_selector_mismatch",
            Self::AlreadyAllocated(_) => "already_allocated",
            Self::IncompatibleService { .. } => "already_allocated_incompatible_service",
            Self::OutOfAddresses(_) => "out_of_ips",
            Self::Reserved(_) => "reserved",
        }
    }
}

impl Decision {
    pub fn is_satisfied(&self) -> bool {
        self.refusals.is_empty()
    }

    /// The `reason` of the condition `cilium.io/IPAMRequestSatisfied`.
    pub fn reason(&self) -> &'static str {
        self.refusals.last().map_or("satisfied", Refusal::reason)
    }

    /// The `message` of the condition. Of several refusals the last one shows, as in Cilium.
    pub fn message(&self) -> String {
        self.refusals.last().map(ToString::to_string).unwrap_or_default()
    }
}

/// How a pool stands after the plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolReport {
    /// All addresses the pool states, each once.
    pub total: Count,
    /// Given out (a shared address counts once) or held back.
    pub used: Count,
    /// `total` less `used`.
    pub available: Count,
    /// Empty if no other pool has any of the pool's addresses.
    pub conflicts: Vec<Conflict>,
}

/// Decides for every request. The order of the inputs does not matter; names of pools and of requests
/// should be distinct.
pub fn plan(pools: &[Pool], requests: &[Request]) -> Plan {
    let mut order: Vec<&Request> = requests.iter().collect();
    order.sort_by(|a, b| {
        (a.created.is_none(), a.created, &a.id).cmp(&(b.created.is_none(), b.created, &b.id))
    });
    let mut planner = Planner {
        pools: prepare(pools),
        decisions: vec![Decision::default(); order.len()],
        requests: order,
        taken: BTreeMap::new(),
        keys: BTreeMap::new(),
    };
    for index in 0..planner.requests.len() {
        planner.keep(index);
    }
    // Those who name an address first: any other address would not do for them.
    for index in 0..planner.requests.len() {
        planner.serve_addresses(index);
    }
    for index in 0..planner.requests.len() {
        planner.serve_families(index);
    }
    planner.finish()
}

struct Planner<'a> {
    pools: Vec<Prepared<'a>>,
    requests: Vec<&'a Request>,
    decisions: Vec<Decision>,
    taken: BTreeMap<IpAddr, Taken>,
    /// Addresses whose owners share under a key.
    keys: BTreeMap<&'a str, BTreeSet<IpAddr>>,
}

struct Taken {
    pool: usize,
    /// Indices of requests.
    owners: Vec<usize>,
}

/// Whether an address can be had.
enum Availability {
    Free,
    /// Taken by others who would share.
    Shareable,
    Refused(Refusal),
}

impl<'a> Planner<'a> {
    /// Keeps what the request holds and may keep.
    fn keep(&mut self, index: usize) {
        let request = self.requests[index];
        for &address in &request.held {
            let already = self
                .taken
                .get(&address)
                .is_some_and(|taken| taken.owners.contains(&index));
            if already || !request.wants(address) {
                continue;
            }
            let Some(pool) = self.pool_keeping(address, request) else {
                continue;
            };
            match self.availability(address, index) {
                Availability::Free | Availability::Shareable => self.give(address, pool, index),
                Availability::Refused(_) => {}
            }
        }
    }

    /// The pool that an address held by this request belongs to. Disabled pools, reserved addresses
    /// and the lost part of a conflict count too: none of them takes an address away.
    fn pool_keeping(&self, address: IpAddr, request: &Request) -> Option<usize> {
        if let Some(taken) = self.taken.get(&address)
            && request.pools.contains(&self.pools[taken.pool].pool.name)
        {
            return Some(taken.pool);
        }
        let selects = |pool: &Prepared<'_>| request.pools.contains(&pool.pool.name);
        let offering = self
            .pools
            .iter()
            .position(|pool| selects(pool) && pool.offers(address));
        offering.or_else(|| {
            self.pools
                .iter()
                .position(|pool| selects(pool) && pool.contains(address))
        })
    }

    fn serve_addresses(&mut self, index: usize) {
        let request = self.requests[index];
        let Wish::Addresses(addresses) = &request.wish else {
            return;
        };
        for &address in addresses {
            if self.has(index, address) {
                continue;
            }
            match self.offer(address, index) {
                Ok(pool) => self.give(address, pool, index),
                Err(refusal) => self.decisions[index].refusals.push(refusal),
            }
        }
    }

    /// The pool that can give this very address.
    fn offer(&self, address: IpAddr, index: usize) -> Result<usize, Refusal> {
        let request = self.requests[index];
        let pool = self.pools.iter().position(|pool| pool.offers(address));
        let pool = pool.ok_or(Refusal::NoPoolContains(address))?;
        if !request.pools.contains(&self.pools[pool].pool.name) {
            return Err(Refusal::PoolSelectorMismatch(address));
        }
        match self.availability(address, index) {
            Availability::Free if self.pools[pool].reserves(address) => Err(Refusal::Reserved(address)),
            Availability::Free | Availability::Shareable => Ok(pool),
            Availability::Refused(refusal) => Err(refusal),
        }
    }

    fn serve_families(&mut self, index: usize) {
        let request = self.requests[index];
        let Wish::Families(families) = &request.wish else {
            return;
        };
        for &family in families {
            let has = self.decisions[index]
                .addresses
                .iter()
                .any(|given| Family::of(given.address) == family);
            if has {
                continue;
            }
            match self
                .shared(family, index)
                .map_or_else(|| self.fresh(family, index), Ok)
            {
                Ok((address, pool)) => self.give(address, pool, index),
                Err(refusal) => self.decisions[index].refusals.push(refusal),
            }
        }
    }

    /// The lowest address that this request may share, if it shares.
    fn shared(&self, family: Family, index: usize) -> Option<(IpAddr, usize)> {
        let request = self.requests[index];
        let addresses = self.keys.get(request.sharing.as_ref()?.key.as_str())?;
        addresses
            .iter()
            .filter(|address| Family::of(**address) == family)
            .find_map(|&address| {
                let pool = self.offer(address, index).ok()?;
                Some((address, pool))
            })
    }

    /// The lowest free address of the first pool that has one.
    fn fresh(&mut self, family: Family, index: usize) -> Result<(IpAddr, usize), Refusal> {
        let request = self.requests[index];
        let mut any_pool = false;
        for (at, pool) in self.pools.iter_mut().enumerate() {
            if !request.pools.contains(&pool.pool.name) || !pool.offers_family(family) {
                continue;
            }
            any_pool = true;
            if let Some(address) = pool.lowest_free(family, |address| self.taken.contains_key(&address)) {
                return Ok((address, at));
            }
        }
        Err(if any_pool {
            Refusal::OutOfAddresses(family)
        } else {
            Refusal::NoPoolMatches(family)
        })
    }

    fn availability(&self, address: IpAddr, index: usize) -> Availability {
        let Some(taken) = self.taken.get(&address) else {
            return Availability::Free;
        };
        let request = self.requests[index];
        if request.sharing.is_none() {
            return Availability::Refused(Refusal::AlreadyAllocated(address));
        }
        let mut others = taken.owners.iter().map(|owner| self.requests[*owner]);
        match others.find_map(|other| request.incompatible(other)) {
            Some(reason) => Availability::Refused(Refusal::IncompatibleService { address, reason }),
            None => Availability::Shareable,
        }
    }

    fn has(&self, index: usize, address: IpAddr) -> bool {
        self.decisions[index]
            .addresses
            .iter()
            .any(|given| given.address == address)
    }

    fn give(&mut self, address: IpAddr, pool: usize, index: usize) {
        let taken = self.taken.entry(address).or_insert_with(|| Taken {
            pool,
            owners: Vec::new(),
        });
        taken.owners.push(index);
        // All who share an address agree on the pool it counts for.
        let pool = self.pools[taken.pool].pool.name.clone();
        self.decisions[index].addresses.push(Allocation { address, pool });
        if let Some(sharing) = &self.requests[index].sharing {
            self.keys.entry(sharing.key.as_str()).or_default().insert(address);
        }
    }

    fn finish(self) -> Plan {
        let mut used = vec![Count::default(); self.pools.len()];
        for taken in self.taken.values() {
            used[taken.pool] += Count::new(1);
        }
        let mut plan = Plan::default();
        for (pool, mut used) in self.pools.into_iter().zip(used) {
            let name = &pool.pool.name;
            let unseen = |address: &&IpAddr| {
                let owner = self.taken.get(*address).and_then(|taken| taken.owners.first());
                let decision = owner.map(|owner| &self.decisions[*owner]);
                let from_here = decision.and_then(|decision| {
                    decision
                        .addresses
                        .iter()
                        .find(|given| given.address == **address && given.pool == *name)
                });
                from_here.is_none()
            };
            let held_back = pool.reserved().iter().filter(unseen).count();
            used += Count::new(u128::try_from(held_back).unwrap_or(0));
            let mut available = pool.total;
            available -= used;
            let report = PoolReport {
                total: pool.total,
                used,
                available,
                conflicts: pool.conflicts,
            };
            plan.pools.insert(name.clone(), report);
        }
        let ids = self.requests.iter().map(|request| request.id.clone());
        plan.decisions = ids.zip(self.decisions).collect();
        plan
    }
}

#[cfg(test)]
mod tests;
