//! Which sets keep their place, and the numbers of services.

use std::collections::{BTreeMap, BTreeSet};

use ebpf_abi::hash::murmur3;

use super::MapImage;
use crate::services::{Plan, ServicePlan};

/// A set of the plan: which service, and which of its sets.
pub(super) type Place = (usize, usize);

/// A number for each service, that is the same on every start: it says whether a frontend that is in the maps belongs to
/// the same service still, and is the key of session affinity.
pub(super) fn numbers(services: &[ServicePlan]) -> Vec<u32> {
    let mut taken = BTreeSet::from([0]);
    services
        .iter()
        .map(|service| {
            let mut number = number(service);
            while !taken.insert(number) {
                number = number.wrapping_add(1);
            }
            number
        })
        .collect()
}

/// The number a service gets unless another one has it.
pub(super) fn number(service: &ServicePlan) -> u32 {
    let text = format!("{}/{}", service.name, service.uid);
    let (hash, _) = murmur3(text.as_bytes(), 0);
    u32::try_from(hash >> 32).unwrap_or(1)
}

/// A set keeps its place if all frontends that used it, and still exist, use one set again as before. Else a frontend would see
/// the new members of another one before it is led away, so all get new places.
pub(super) fn kept(plan: &Plan, numbers: &[u32], before: &MapImage) -> BTreeMap<Place, u32> {
    let mut votes: BTreeMap<u32, Option<Place>> = BTreeMap::new();
    for (at, service) in plan.services.iter().enumerate() {
        for frontend in &service.frontends {
            let known = before.frontend(&frontend.socket);
            let Some(known) = known.filter(|known| numbers.get(at) == Some(&known.service)) else {
                continue;
            };
            let mut uses = vec![(known.set, frontend.outer), (known.inner_set, frontend.inner)];
            match frontend.local {
                Some(local) => uses.push((known.local_set, local)),
                // Nobody wants it any more.
                None if known.local_set != 0 => {
                    votes.insert(known.local_set, None);
                }
                None => {}
            }
            for (set, wanted) in uses {
                // With the other selection it needs a table, or loses it, at a moment of its own.
                let alike = known.selection == frontend.selection.number();
                let vote = votes.entry(set).or_insert(Some((at, wanted)));
                if !alike || *vote != Some((at, wanted)) {
                    *vote = None;
                }
            }
        }
    }
    let mut kept = BTreeMap::new();
    for (set, place) in votes {
        if let Some(place) = place
            && set != 0
        {
            kept.entry(place).or_insert(set);
        }
    }
    kept
}
