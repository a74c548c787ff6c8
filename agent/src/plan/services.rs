//! What became of a Service: where each address is announced, or why it is not.

use std::collections::BTreeSet;

use bgp_speaker::types::Name;

use super::advertise::{Draft, Entry};
use super::desired::{AddressReport, Announced, ServiceReport};
use super::frontends::{Frontend, ServiceFacts};
use super::peers::Told;
use super::reasons::Reason;
use crate::world::ServiceRef;

/// Who could be told of Services, the same for all of them.
#[derive(Debug)]
pub(crate) struct Audience {
    pub(crate) entries: Vec<Entry>,
    /// What each running peer is offered.
    pub(crate) told: Vec<Told>,
    /// Entries that are selected for some peer of this node, whether they give a route or not.
    pub(crate) selected: BTreeSet<usize>,
    pub(crate) peers: Peers,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peers {
    None,
    Some,
}

/// `drafts`: what the Service adds to each offer.
pub(crate) fn report(
    audience: &Audience,
    service: &ServiceRef,
    facts: &ServiceFacts,
    drafts: &[Draft],
) -> ServiceReport {
    let addresses = facts.frontends.iter().enumerate().map(|(at, frontend)| {
        let mut announced = Vec::new();
        for told in &audience.told {
            let hits = drafts.get(told.offer).into_iter().flat_map(|draft| &draft.hits);
            let prefixes = hits.filter(|(frontend, _)| *frontend == at);
            announced.extend(prefixes.map(|(_, prefix)| Announced {
                prefix: *prefix,
                instance: Name::clone(&told.instance),
                peer: Name::clone(&told.peer),
            }));
        }
        announced.sort_unstable();
        announced.dedup();
        announced.shrink_to_fit();
        let reasons = match (&frontend.verdict, audience.peers) {
            (Err(reason), _) => vec![reason.clone()],
            (Ok(()), _) if !announced.is_empty() => Vec::new(),
            (Ok(()), Peers::None) => vec![Reason::NoPeers],
            (Ok(()), Peers::Some) => vec![unselected(audience, facts, frontend)],
        };
        AddressReport {
            address: frontend.address,
            kind: frontend.kind,
            announced,
            reasons,
        }
    });
    ServiceReport {
        service: service.clone(),
        addresses: addresses.collect(),
        reasons: facts.reasons.clone(),
    }
}

fn unselected(audience: &Audience, facts: &ServiceFacts, frontend: &Frontend) -> Reason {
    let is_meant = |number: &&usize| {
        let entry = audience.entries.get(**number);
        audience.selected.contains(*number) && entry.is_some_and(|entry| entry.wants(frontend.kind))
    };
    match facts.selected.iter().find(is_meant) {
        Some(_) => Reason::NoPeerTakesThisFamily,
        None => Reason::NoAdvertisementSelectsIt,
    }
}
