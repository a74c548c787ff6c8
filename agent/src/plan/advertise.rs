//! What is announced: from the advertisements of a peer and family to routes, and to the policy that lets them
//! out with the right attributes.
//!
//! Every peer and family that selects the same advertisements shares one [`Offer`]; so peers with equal offers also share the
//! speaker's encoding. An offer is the sum of what this node and each Service add to it, which is a [`Draft`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use bgp_speaker::policy::PrefixMatch;
use bgp_speaker::types::{Family, Prefix};
use bgp_speaker::wire::attrs::Origin;
use crds::bgp::advertisement::{AdvertisementType, ServiceAddressType};
use crds::selector::LabelSelector;

use super::attributes::RouteAttributes;
use super::desired::AddressKind;
use super::frontends::{ServiceFacts, TrafficPolicy};
use super::merge::unite;
use super::node::NodeFacts;
use super::offer::Offer;
use super::options::{LegacyOrigin, Options};
use super::policy_view::Subject;
use crate::world::{Objects, ServiceRef, World};

/// One item of an advertisement object, or of a legacy virtual router.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// The object it stands in.
    pub(crate) source: Arc<str>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) what: What,
    pub(crate) attributes: Arc<RouteAttributes>,
    /// Legacy: attributes for some of the prefixes only.
    pub(crate) also: Vec<(Which, RouteAttributes)>,
}

#[derive(Debug, Clone)]
pub(crate) enum What {
    PodCidr,
    /// A missing selector selects nothing.
    PodIpPool(Option<LabelSelector>),
    Service {
        /// A missing selector selects nothing.
        selector: Option<LabelSelector>,
        kinds: BTreeSet<AddressKind>,
        aggregate_v4: Option<u8>,
        aggregate_v6: Option<u8>,
    },
}

/// Which prefixes a legacy attribute rule is about.
#[derive(Debug, Clone)]
pub(crate) enum Which {
    PodPools(Option<LabelSelector>),
    /// Addresses inside these ranges.
    Addresses(Vec<(IpAddr, IpAddr)>),
}

/// Everything but Services that offers are made of.
#[derive(Clone, Copy)]
pub(crate) struct Ground<'a> {
    pub(crate) world: &'a World,
    pub(crate) options: &'a Options,
    pub(crate) me: &'a NodeFacts<'a>,
}

/// The entries there are, and the offers that peers ask for; without Services yet.
pub(crate) struct Offers<'a> {
    ground: Ground<'a>,
    entries: Vec<Entry>,
    offers: Vec<Offer>,
    numbers: BTreeMap<(Family, Vec<usize>), usize>,
}

/// All items of all advertisement objects, by object and position.
pub(crate) fn entries(objects: &Objects) -> Vec<Entry> {
    let mut entries = Vec::new();
    for object in objects.advertisements() {
        for item in &object.object.spec.advertisements {
            let what = match item.advertisement_type {
                AdvertisementType::PodCidr => What::PodCidr,
                AdvertisementType::PodIpPool => What::PodIpPool(item.selector.clone()),
                AdvertisementType::Service => {
                    let Some(service) = &item.service else { continue };
                    What::Service {
                        selector: item.selector.clone(),
                        kinds: service.addresses.iter().map(|kind| address_kind(*kind)).collect(),
                        aggregate_v4: service.aggregation_length_ipv4,
                        aggregate_v6: service.aggregation_length_ipv6,
                    }
                }
            };
            entries.push(Entry {
                source: object.name().into(),
                labels: object.labels().clone(),
                what,
                attributes: Arc::new(
                    item.attributes
                        .as_ref()
                        .map(RouteAttributes::of)
                        .unwrap_or_default(),
                ),
                also: Vec::new(),
            });
        }
    }
    entries
}

impl Entry {
    /// The attributes, with those of the rules that apply.
    fn attributes_where(&self, applies: impl Fn(&Which) -> bool) -> Arc<RouteAttributes> {
        let more = self.also.iter().filter(|(which, _)| applies(which));
        more.fold(Arc::clone(&self.attributes), |all, (_, more)| {
            Arc::new(all.join(more))
        })
    }

    /// Whether it is about Services and selects the one with these labels.
    pub(crate) fn selects<'l>(&self, label: impl Fn(&str) -> Option<&'l str>) -> bool {
        match &self.what {
            What::PodCidr | What::PodIpPool(_) => false,
            What::Service { selector, .. } => {
                let matches = |selector: &LabelSelector| selector.matches_with(|key| label(key));
                selector.as_ref().is_some_and(matches)
            }
        }
    }

    /// Whether it is about this kind of address.
    pub(crate) fn wants(&self, kind: AddressKind) -> bool {
        match &self.what {
            What::PodCidr | What::PodIpPool(_) => false,
            What::Service { kinds, .. } => kinds.contains(&kind),
        }
    }
}

pub(crate) fn address_kind(kind: ServiceAddressType) -> AddressKind {
    match kind {
        ServiceAddressType::LoadBalancerIp => AddressKind::LoadBalancerIp,
        ServiceAddressType::ClusterIp => AddressKind::ClusterIp,
        ServiceAddressType::ExternalIp => AddressKind::ExternalIp,
    }
}

impl<'a> Offers<'a> {
    pub(crate) fn new(ground: Ground<'a>, entries: Vec<Entry>) -> Self {
        Self {
            ground,
            entries,
            offers: Vec::new(),
            numbers: BTreeMap::new(),
        }
    }

    pub(crate) fn ground(&self) -> &Ground<'a> {
        &self.ground
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Adds entries no advertisement object holds; gives their numbers.
    pub(crate) fn add(&mut self, entries: Vec<Entry>) -> Vec<usize> {
        let first = self.entries.len();
        self.entries.extend(entries);
        (first..self.entries.len()).collect()
    }

    /// The number of the offer of a family that selects these entries (ascending).
    pub(crate) fn offer(&mut self, family: Family, chosen: &[usize]) -> usize {
        let key = (family, chosen.to_vec());
        if let Some(known) = self.numbers.get(&key) {
            return *known;
        }
        let mut offer = Offer::new(family, chosen.to_vec());
        let draft = Draft::of_node(&self.ground, &self.entries, &offer);
        offer.add(&draft);
        self.offers.push(offer);
        self.numbers.insert(key, self.offers.len() - 1);
        self.offers.len() - 1
    }

    pub(crate) fn into_parts(self) -> (Vec<Entry>, Vec<Offer>) {
        (self.entries, self.offers)
    }
}

/// What one adds to an offer.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Draft {
    /// Statements of one policy differ in their prefixes.
    pub(crate) policies: BTreeMap<Subject, Vec<DraftStatement>>,
    /// The same prefix may be there several times.
    pub(crate) routes: Vec<(Prefix, Origin)>,
    /// Prefixes coarser than the addresses they are announced for; likewise.
    pub(crate) aggregates: Vec<Prefix>,
    /// Of a Service: frontend, and the prefix announced for it.
    pub(crate) hits: Vec<(usize, Prefix)>,
}

/// A statement, and the objects that asked for it.
#[derive(Debug, PartialEq)]
pub(crate) struct DraftStatement {
    pub(crate) prefixes: Vec<PrefixMatch>,
    pub(crate) attributes: Arc<RouteAttributes>,
    /// In order.
    pub(crate) sources: Vec<Arc<str>>,
}

impl Draft {
    /// Pod prefixes.
    fn of_node(ground: &Ground<'_>, entries: &[Entry], offer: &Offer) -> Self {
        let mut draft = Self::default();
        for entry in offer.chosen.iter().filter_map(|number| entries.get(*number)) {
            match &entry.what {
                What::PodCidr if ground.options.ipam.has_pod_cidrs() => {
                    draft.pod_cidrs(ground, offer.family, entry);
                }
                What::PodIpPool(Some(selector)) if ground.options.ipam.has_pod_pools() => {
                    draft.pod_pools(ground, offer.family, entry, selector);
                }
                What::PodCidr | What::PodIpPool(_) | What::Service { .. } => {}
            }
        }
        draft
    }

    /// Addresses of a Service.
    pub(crate) fn of_service(
        options: &Options,
        entries: &[Entry],
        offer: &Offer,
        service: &ServiceRef,
        facts: &ServiceFacts,
    ) -> Self {
        let mut draft = Self::default();
        let selected = |number: &&usize| facts.selected.binary_search(number).is_ok();
        let chosen = offer.chosen.iter().filter(selected);
        for entry in chosen.filter_map(|number| entries.get(*number)) {
            draft.service(options, offer.family, entry, service, facts);
        }
        draft.hits.sort_unstable();
        draft.hits.dedup();
        draft
    }

    fn pod_cidrs(&mut self, ground: &Ground<'_>, family: Family, entry: &Entry) {
        let own = ground.me.pod_cidrs.iter();
        let prefixes: BTreeSet<Prefix> = own.filter(|p| p.family() == family).copied().collect();
        self.routes
            .extend(prefixes.iter().map(|prefix| (*prefix, Origin::Igp)));
        let exact = prefixes.into_iter().map(exactly).collect();
        self.statement(Subject::PodCidr, exact, entry, Arc::clone(&entry.attributes));
    }

    fn pod_pools(&mut self, ground: &Ground<'_>, family: Family, entry: &Entry, selector: &LabelSelector) {
        for pool in ground.world.objects.pod_pools() {
            let spec = &pool.object.spec;
            let mask = match family {
                Family::IPV4_UNICAST => spec.ipv4.as_ref().map(|pool| pool.mask_size),
                _ => spec.ipv6.as_ref().map(|pool| pool.mask_size),
            };
            let Some(mask) = mask.filter(|_| pool_matches(selector, pool.name(), pool.labels())) else {
                continue;
            };
            let allocated = ground
                .me
                .pools
                .get(pool.name())
                .map(Vec::as_slice)
                .unwrap_or_default();
            let mut matches = Vec::new();
            for prefix in allocated.iter().filter(|p| p.family() == family) {
                self.routes.push((*prefix, Origin::Igp));
                // As Cilium writes it. A prefix of another length than the mask is let out as it is: it would be
                // announced by nobody otherwise.
                let (min, max) = if prefix.len() <= mask {
                    (mask, mask)
                } else {
                    (prefix.len(), prefix.len())
                };
                matches.push(PrefixMatch {
                    prefix: *prefix,
                    min,
                    max,
                });
                if prefix.len() != mask {
                    matches.push(exactly(*prefix));
                }
            }
            matches.sort();
            matches.dedup();
            let attributes = entry.attributes_where(|which| match which {
                Which::PodPools(selector) => selector
                    .as_ref()
                    .is_none_or(|s| pool_matches(s, pool.name(), pool.labels())),
                Which::Addresses(_) => false,
            });
            self.statement(Subject::PodIpPool(pool.name().into()), matches, entry, attributes);
        }
    }

    fn service(
        &mut self,
        options: &Options,
        family: Family,
        entry: &Entry,
        service: &ServiceRef,
        facts: &ServiceFacts,
    ) {
        let What::Service {
            kinds,
            aggregate_v4,
            aggregate_v6,
            ..
        } = &entry.what
        else {
            return;
        };
        let aggregate = if family == Family::IPV4_UNICAST {
            aggregate_v4
        } else {
            aggregate_v6
        };
        for kind in kinds {
            // Prefixes with equal attributes stand in one statement; mostly there is one.
            let mut statements: Vec<(Arc<RouteAttributes>, Vec<PrefixMatch>)> = Vec::new();
            for (at, frontend) in facts.frontends.iter().enumerate() {
                let host = Prefix::host(frontend.address);
                if frontend.kind != *kind || frontend.verdict.is_err() || host.family() != family {
                    continue;
                }
                let prefix = match (frontend.policy, aggregate) {
                    (TrafficPolicy::Cluster, Some(length)) => {
                        Prefix::new(frontend.address, (*length).min(host.len())).unwrap_or(host)
                    }
                    // Only this node may have endpoints for it; its neighbours in the aggregate may have none.
                    (TrafficPolicy::Local, _) | (TrafficPolicy::Cluster, None) => host,
                };
                if prefix != host {
                    self.aggregates.push(prefix);
                }
                self.routes.push((prefix, origin(*kind, options)));
                self.hits.push((at, prefix));
                let attributes = entry.attributes_where(|which| match which {
                    Which::Addresses(ranges) => within(ranges, frontend.address),
                    Which::PodPools(_) => false,
                });
                match statements.iter_mut().find(|(known, _)| *known == attributes) {
                    Some((_, prefixes)) => prefixes.push(exactly(prefix)),
                    None => statements.push((attributes, vec![exactly(prefix)])),
                }
            }
            for (attributes, mut prefixes) in statements {
                prefixes.sort_unstable();
                prefixes.dedup();
                let subject = Subject::Service(service.clone(), *kind);
                self.statement(subject, prefixes, entry, attributes);
            }
        }
    }

    /// `prefixes` are in order, each once.
    fn statement(
        &mut self,
        subject: Subject,
        prefixes: Vec<PrefixMatch>,
        entry: &Entry,
        attributes: Arc<RouteAttributes>,
    ) {
        if prefixes.is_empty() {
            return;
        }
        let statements = self.policies.entry(subject).or_default();
        match statements.iter_mut().find(|known| known.prefixes == prefixes) {
            Some(known) => {
                known.attributes = Arc::new(known.attributes.merge(&attributes));
                unite(&mut known.sources, &entry.source);
            }
            None => statements.push(DraftStatement {
                prefixes,
                attributes,
                sources: vec![Arc::clone(&entry.source)],
            }),
        }
    }
}

fn exactly(prefix: Prefix) -> PrefixMatch {
    PrefixMatch {
        prefix,
        min: prefix.len(),
        max: prefix.len(),
    }
}

fn origin(kind: AddressKind, options: &Options) -> Origin {
    match (kind, options.legacy_origin) {
        (AddressKind::LoadBalancerIp, LegacyOrigin::Yes) => Origin::Incomplete,
        (AddressKind::LoadBalancerIp, LegacyOrigin::No)
        | (AddressKind::ClusterIp | AddressKind::ExternalIp, _) => Origin::Igp,
    }
}

/// Pools have their name as a label, and as objects of the cluster an empty namespace.
fn pool_matches(selector: &LabelSelector, name: &str, labels: &BTreeMap<String, String>) -> bool {
    selector.matches_with(|key| match key {
        "io.cilium.podippool.name" => Some(name),
        "io.cilium.podippool.namespace" => Some(""),
        key => labels.get(key).map(String::as_str),
    })
}

fn within(ranges: &[(IpAddr, IpAddr)], address: IpAddr) -> bool {
    ranges.iter().any(|(from, to)| *from <= address && address <= *to)
}
