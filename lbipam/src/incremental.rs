//! The same planner for one change at a time: what a Service costs does not grow with the number of Services.
//!
//! [`plan`](crate::plan()) stays the definition. A request is *settled* when it has all it wishes for and holds just that: a
//! whole plan would leave it what it holds and give it nothing more, whoever else comes. So only the others are decided
//! about, and find taken what settled ones have. All are decided about
//!
//! - at the start, and over other pools,
//! - while one that shares is not settled: whom it may join depends on everybody with its key,
//! - while one that is not settled holds what a settled one has: it may be the older one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::given::Given;
use crate::plan::decide;
use crate::pool::{Pool, Prepared, prepare};
use crate::report::{Decision, PoolReport};
use crate::request::{Request, RequestId};

/// Knows all requests, and what was decided.
#[derive(Debug, Default)]
pub struct Incremental {
    pools: Vec<Pool>,
    prepared: Vec<Prepared>,
    requests: BTreeMap<RequestId, Known>,
    /// Those that are not settled.
    open: BTreeSet<RequestId>,
    /// What all have.
    given: Given,
    unsatisfied: usize,
    next: Extent,
}

#[derive(Debug)]
struct Known {
    request: Request,
    decision: Decision,
}

/// About whom is decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Extent {
    #[default]
    All,
    Open,
}

impl Incremental {
    /// All pools there are.
    pub fn pools(&mut self, pools: Vec<Pool>) {
        if self.pools != pools {
            self.prepared = prepare(&pools);
            self.pools = pools;
            self.next = Extent::All;
        }
    }

    /// A request that is new, or not as it was.
    pub fn request(&mut self, request: Request) {
        match self.requests.get_mut(&request.id) {
            Some(known) if known.request == request => {}
            Some(known) => {
                self.open.insert(request.id.clone());
                known.request = request;
            }
            None => {
                self.open.insert(request.id.clone());
                let known = Known {
                    request: request.clone(),
                    decision: Decision::default(),
                };
                self.requests.insert(request.id, known);
            }
        }
    }

    /// A request that is there no longer, if it ever was.
    pub fn gone(&mut self, id: &RequestId) {
        self.open.remove(id);
        if let Some(known) = self.requests.remove(id) {
            self.unsatisfied -= unsatisfied(&known.decision);
            self.given.remove(&known.decision, &self.prepared);
        }
    }

    /// Decides. Those about whom was decided anew, be it the same or not; nothing was decided about any other.
    pub fn step(&mut self) -> BTreeSet<RequestId> {
        let mut touched = std::mem::take(&mut self.open);
        for known in touched.iter().filter_map(|id| self.requests.get(id)) {
            self.given.remove(&known.decision, &self.prepared);
        }
        self.prepared.iter_mut().for_each(Prepared::rewind);
        let of = |id: &RequestId| self.requests.get(id).map(|known| &known.request);
        let depends_on_others = |request: &Request| {
            request.sharing.is_some() || request.held.iter().any(|address| self.given.has(*address))
        };
        let extent = match touched.iter().filter_map(of).any(depends_on_others) {
            true => Extent::All,
            false => std::mem::replace(&mut self.next, Extent::Open),
        };
        let requests = match extent {
            Extent::Open => touched.iter().filter_map(of).collect(),
            Extent::All => {
                self.next = Extent::Open;
                self.given = Given::default();
                self.requests.values().map(|known| &known.request).collect()
            }
        };
        let decided = decide(&mut self.prepared, requests, &self.given);
        let decided: Vec<(RequestId, Decision)> = decided
            .into_iter()
            .map(|(request, decision)| (request.id.clone(), decision))
            .collect();
        for (id, decision) in decided {
            self.given.add(&decision, &self.prepared);
            let Some(known) = self.requests.get_mut(&id) else {
                continue;
            };
            self.unsatisfied += unsatisfied(&decision);
            self.unsatisfied -= unsatisfied(&known.decision);
            let is_new = known.decision != decision;
            known.decision = decision;
            if !known.is_settled() {
                self.open.insert(id.clone());
            }
            if is_new {
                touched.insert(id);
            }
        }
        touched
    }

    /// What was decided about a request in the last step.
    pub fn decision(&self, id: &RequestId) -> Option<&Decision> {
        self.requests.get(id).map(|known| &known.decision)
    }

    /// The requests that lack something they wish for or do not hold yet what they have.
    pub fn open(&self) -> impl Iterator<Item = &RequestId> {
        self.open.iter()
    }

    /// Whether somebody has this address.
    pub fn has(&self, address: IpAddr) -> bool {
        self.given.has(address)
    }

    /// How many requests there are, and how many of them lack something.
    pub fn counts(&self) -> (usize, usize) {
        (self.requests.len(), self.unsatisfied)
    }

    /// What became of the pools.
    pub fn reports(&self) -> BTreeMap<String, PoolReport> {
        self.given.reports(&self.prepared)
    }
}

impl Known {
    fn is_settled(&self) -> bool {
        let has = self.decision.addresses.iter().map(|given| &given.address);
        self.decision.is_satisfied() && self.request.held.iter().eq(has)
    }
}

fn unsatisfied(decision: &Decision) -> usize {
    usize::from(!decision.is_satisfied())
}

#[cfg(test)]
mod tests;
