//! What became of every Service: where each address is announced, or why it is not.

use std::collections::BTreeSet;

use bgp_speaker::types::Name;

use super::advertise::Offers;
use super::desired::{AddressReport, Announced, ServiceReport};
use super::frontends::{Frontend, ServiceFacts};
use super::peers::Peering;
use super::reasons::Reason;

pub(crate) fn reports(
    services: &[ServiceFacts<'_>],
    peering: &Peering,
    offers: &mut Offers<'_>,
) -> Vec<ServiceReport> {
    // By Service and frontend.
    let mut announced: Vec<Vec<Vec<Announced>>> = services
        .iter()
        .map(|service| vec![Vec::new(); service.frontends.len()])
        .collect();
    for told in &peering.offers {
        for (service, frontend, prefix) in &told.offer.hits {
            if let Some(list) = announced.get_mut(*service).and_then(|of| of.get_mut(*frontend)) {
                list.push(Announced {
                    prefix: *prefix,
                    instance: Name::clone(&told.instance),
                    peer: Name::clone(&told.peer),
                });
            }
        }
    }
    // Peers mostly share their selections; each is looked at once.
    let selections: BTreeSet<&Vec<usize>> = peering.selections.iter().collect();
    let entries: BTreeSet<usize> = selections.into_iter().flatten().copied().collect();
    let has_peers = peering.speaker.instances.values().any(|i| !i.peers.is_empty());
    let mut reports = Vec::with_capacity(services.len());
    for ((number, service), announced) in services.iter().enumerate().zip(announced) {
        let mut addresses = Vec::with_capacity(service.frontends.len());
        for (frontend, mut told) in service.frontends.iter().zip(announced) {
            told.sort_unstable();
            told.dedup();
            let reasons = match &frontend.verdict {
                Err(reason) => vec![reason.clone()],
                Ok(()) if !told.is_empty() => Vec::new(),
                Ok(()) if !has_peers => vec![Reason::NoPeers],
                Ok(()) => vec![unselected(number, frontend, &entries, offers)],
            };
            addresses.push(AddressReport {
                address: frontend.address,
                kind: frontend.kind,
                announced: told,
                reasons,
            });
        }
        reports.push(ServiceReport {
            service: service.reference.clone(),
            addresses,
            reasons: service.reasons.clone(),
        });
    }
    reports
}

fn unselected(
    service: usize,
    frontend: &Frontend,
    entries: &BTreeSet<usize>,
    offers: &mut Offers<'_>,
) -> Reason {
    if entries
        .iter()
        .any(|entry| offers.selects(*entry, service, frontend.kind))
    {
        Reason::NoPeerTakesThisFamily
    } else {
        Reason::NoAdvertisementSelectsIt
    }
}
