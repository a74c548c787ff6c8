//! The plan itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::given::Given;
use crate::pool::{AutoAssign, Pool, Prepared, Removal, prepare};
use crate::report::{Allocation, Decision, Plan, Refusal, Standing};
use crate::request::{Family, Port, Request, TrafficPolicy, Wish};
use crate::sharing::{Company, Permitted};

/// Decides for every request. The order of the inputs does not matter; names of pools and of requests
/// should be distinct.
pub fn plan(pools: &[Pool], requests: &[Request]) -> Plan {
    let mut pools = prepare(pools);
    let mut given = Given::default();
    let decided = decide(&mut pools, requests.iter().collect(), &given);
    for (_, decision) in &decided {
        given.add(decision, &pools);
    }
    let decisions = decided.into_iter();
    Plan {
        pools: given.reports(&pools),
        decisions: decisions
            .map(|(request, decision)| (request.id.clone(), decision))
            .collect(),
    }
}

/// Decides for these requests. `settled`: what others have and keep, none of whom shares with any of these.
pub(crate) fn decide<'a>(
    pools: &mut [Prepared],
    requests: Vec<&'a Request>,
    settled: &Given,
) -> Vec<(&'a Request, Decision)> {
    let mut order = requests;
    order.sort_by(|a, b| {
        (a.created.is_none(), a.created, &a.id).cmp(&(b.created.is_none(), b.created, &b.id))
    });
    let mut planner = Planner {
        pools,
        settled,
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
    planner.requests.into_iter().zip(planner.decisions).collect()
}

struct Planner<'a, 'b> {
    pools: &'b mut [Prepared],
    settled: &'b Given,
    requests: Vec<&'a Request>,
    decisions: Vec<Decision>,
    /// Who of these has each address that is out.
    taken: BTreeMap<IpAddr, Company<'a>>,
    keys: BTreeMap<&'a str, Known<'a>>,
}

/// Addresses whose owners share under one key, in the order they became known.
#[derive(Default)]
struct Known<'a> {
    addresses: BTreeMap<Family, Vec<IpAddr>>,
    /// How many of them are of no use to sharers of a kind. Owners only join while a plan is made, so
    /// what refused one of a kind refuses the next.
    refused: BTreeMap<(Family, Kind<'a>), usize>,
}

/// What decides with whom a request may share, and from where.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Kind<'a> {
    namespace: &'a str,
    namespaces: &'a Permitted,
    ports: &'a BTreeSet<Port>,
    traffic_policy: TrafficPolicy,
    selector: &'a BTreeMap<String, String>,
    pools: &'a BTreeSet<String>,
}

/// Whether an address can be had.
enum Availability {
    Free,
    /// Taken by others who would share.
    Shareable,
    Refused(Refusal),
}

impl Planner<'_, '_> {
    /// Keeps what the request holds and may keep.
    fn keep(&mut self, index: usize) {
        let request = self.requests[index];
        for &address in &request.held {
            if self.has(index, address) || !request.wants(address) {
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
    /// and the lost part of a conflict count too: none of them takes an address away. Nor does the removal of
    /// its block where the pool retains.
    fn pool_keeping(&self, address: IpAddr, request: &Request) -> Option<usize> {
        let selects = |pool: &Prepared| request.pools.contains(&pool.pool.name);
        let offering = self
            .pools
            .iter()
            .position(|pool| selects(pool) && pool.offers(address));
        let stating = || {
            let mut pools = self.pools.iter();
            pools.position(|pool| selects(pool) && pool.contains(address))
        };
        let retaining = || {
            let origin = request.origins.get(&address)?;
            let retains = |pool: &Prepared| match pool.pool.removal {
                Removal::Retain => pool.pool.name == *origin && selects(pool),
                Removal::Reassign => false,
            };
            self.pools.iter().position(retains)
        };
        offering.or_else(stating).or_else(retaining)
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
            Availability::Free if self.pools[pool].holds_back(address) => Err(Refusal::Reserved(address)),
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

    /// The first known address that this request may share, if it shares.
    fn shared(&mut self, family: Family, index: usize) -> Option<(IpAddr, usize)> {
        let request = self.requests[index];
        let sharing = request.sharing.as_ref()?;
        let kind = Kind {
            namespace: &request.id.namespace,
            namespaces: &sharing.namespaces,
            ports: &request.ports,
            traffic_policy: request.traffic_policy,
            selector: &request.selector,
            pools: &request.pools,
        };
        let known = self.keys.get(sharing.key.as_str())?;
        let refused = known.refused.get(&(family, kind)).copied().unwrap_or(0);
        let mut candidates = known.addresses.get(&family)?.iter().enumerate().skip(refused);
        let found = candidates.find_map(|(at, &address)| {
            let pool = self.offer(address, index).ok()?;
            Some((at, address, pool))
        });
        let refused = match found {
            Some((at, ..)) => at,
            None => known.addresses.get(&family)?.len(),
        };
        let known = self.keys.get_mut(sharing.key.as_str())?;
        known.refused.insert((family, kind), refused);
        found.map(|(_, address, pool)| (address, pool))
    }

    /// The lowest free address of the first pool that has one.
    fn fresh(&mut self, family: Family, index: usize) -> Result<(IpAddr, usize), Refusal> {
        let request = self.requests[index];
        let (mut any_pool, mut only_named) = (false, false);
        for (at, pool) in self.pools.iter_mut().enumerate() {
            if !request.pools.contains(&pool.pool.name) || !pool.offers_family(family) {
                continue;
            }
            match pool.pool.auto_assign {
                AutoAssign::Yes => any_pool = true,
                AutoAssign::OnlyNamed => {
                    only_named = true;
                    continue;
                }
            }
            let is_out = |address| self.taken.contains_key(&address) || self.settled.has(address);
            if let Some(address) = pool.lowest_free(family, is_out) {
                return Ok((address, at));
            }
        }
        Err(if any_pool {
            Refusal::OutOfAddresses(family)
        } else if only_named {
            Refusal::OnlyNamed(family)
        } else {
            Refusal::NoPoolMatches(family)
        })
    }

    fn availability(&self, address: IpAddr, index: usize) -> Availability {
        let Some(owners) = self.taken.get(&address) else {
            return match self.settled.has(address) {
                true => Availability::Refused(Refusal::AlreadyAllocated(address)),
                false => Availability::Free,
            };
        };
        let request = self.requests[index];
        if request.sharing.is_none() {
            return Availability::Refused(Refusal::AlreadyAllocated(address));
        }
        match owners.refuses(request) {
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
        let request = self.requests[index];
        let owners = self
            .taken
            .entry(address)
            .and_modify(|owners| owners.add(request))
            .or_insert_with(|| Company::of(request));
        let pool = &self.pools[pool];
        self.decisions[index].addresses.push(Allocation {
            address,
            pool: pool.pool.name.clone(),
            standing: if pool.contains(address) {
                Standing::InPool
            } else {
                Standing::Retained
            },
        });
        if let Some(sharing) = &request.sharing {
            let known = self.keys.entry(sharing.key.as_str()).or_default();
            let addresses = known.addresses.entry(Family::of(address)).or_default();
            if owners.is_one() {
                addresses.push(address);
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
