//! The routes of each instance, and the export policies and reports of its peers: what Services come to in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use bgp_speaker::config::{LocalRoute, SpeakerConfig};
use bgp_speaker::types::{Family, Name, Prefix};
use bgp_speaker::wire::attrs::{Attrs, NextHop, Origin};

use super::desired::{Desired, PeerReport};
use super::offer::{Changed, Offer};
use super::peers::Told;
use super::policy_view::{FamilyPolicies, Policies};

/// Every route of one family and origin has the same attributes; they are made once.
#[derive(Debug, Default)]
pub(crate) struct RouteAttrs(BTreeMap<(Family, Origin), Arc<Attrs>>);

impl RouteAttrs {
    fn of(&mut self, prefix: Prefix, origin: Origin) -> Arc<Attrs> {
        let key = (prefix.family(), origin);
        let made = self
            .0
            .entry(key)
            .or_insert_with(|| Arc::new(local_attrs(prefix, origin)));
        Arc::clone(made)
    }
}

/// Carries what changed in offers over into what is desired. Whether anything did.
pub(crate) fn carry_over(
    told: &[Told],
    offers: &mut [Offer],
    attrs: &mut RouteAttrs,
    desired: &mut Desired,
) -> bool {
    let changed: Vec<Changed> = offers.iter_mut().map(Offer::take_changed).collect();
    let is_other = |told: &&Told| {
        changed
            .get(told.offer)
            .is_some_and(|changed| !changed.is_nothing())
    };
    let speaker = if told.iter().any(|told| is_other(&told)) {
        Arc::make_mut(&mut desired.speaker)
    } else {
        return false;
    };
    let mut instances: BTreeMap<&Name, BTreeSet<usize>> = BTreeMap::new();
    for told in told {
        instances.entry(&told.instance).or_default().insert(told.offer);
        let Some(offer) = offers.get_mut(told.offer).filter(|_| is_other(&told)) else {
            continue;
        };
        export(speaker, told, offer);
        view(&mut desired.policies, told, offer.view());
        count(&mut desired.peers, told, offer.len());
    }
    for (name, of) in instances {
        let changed: BTreeSet<Prefix> = of
            .iter()
            .filter_map(|offer| changed.get(*offer))
            .flat_map(|changed| changed.prefixes.iter().copied())
            .collect();
        let Some(instance) = speaker.instances.get_mut(name).filter(|_| !changed.is_empty()) else {
            continue;
        };
        let routes = Arc::make_mut(&mut instance.routes);
        for prefix in changed {
            let offers = of.iter().filter_map(|offer| offers.get(*offer));
            match offers.filter_map(|offer| offer.origin(prefix)).min() {
                Some(origin) => {
                    let attrs = attrs.of(prefix, origin);
                    routes.insert(prefix, LocalRoute { attrs });
                }
                None => drop(routes.remove(&prefix)),
            }
        }
    }
    let offered: BTreeSet<usize> = told.iter().map(|told| told.offer).collect();
    let offered = offered.iter().filter_map(|offer| offers.get(*offer));
    desired.discard_routes = offered.flat_map(Offer::aggregates).collect();
    true
}

fn export(speaker: &mut SpeakerConfig, told: &Told, offer: &mut Offer) {
    let instance = speaker.instances.get_mut(&told.instance);
    let peer = instance.and_then(|instance| instance.peers.get_mut(&told.peer));
    let families = peer.into_iter().flat_map(|peer| &mut peer.families);
    for (_, config) in families.filter(|(family, _)| *family == told.family) {
        config.export = offer.export();
    }
}

fn view(policies: &mut Policies, told: &Told, view: Arc<FamilyPolicies>) {
    let mut instances = policies.instances.iter_mut();
    let instance = instances.find(|instance| instance.name == told.instance);
    let peers = instance.into_iter().flat_map(|instance| &mut instance.peers);
    for peer in peers.filter(|peer| peer.peer == told.peer) {
        for (_, known) in peer
            .families
            .iter_mut()
            .filter(|(family, _)| *family == told.family)
        {
            *known = Arc::clone(&view);
        }
    }
}

fn count(peers: &mut [PeerReport], told: &Told, routes: usize) {
    let is_meant = |report: &&mut PeerReport| {
        report.not_run.is_none() && report.instance == told.instance && report.peer == told.peer
    };
    for report in peers.iter_mut().filter(is_meant) {
        let counts = report.prefixes.iter_mut();
        counts
            .filter(|(family, _)| *family == told.family)
            .for_each(|(_, count)| *count = routes);
    }
}

fn local_attrs(prefix: Prefix, origin: Origin) -> Attrs {
    let unspecified: IpAddr = match prefix {
        Prefix::V4 { .. } => std::net::Ipv4Addr::UNSPECIFIED.into(),
        Prefix::V6 { .. } => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    Attrs::originated(origin, NextHop::Ip(unspecified))
}
