//! What is announced: from the advertisements of a peer and family to routes, and to the policy that lets them
//! out with the right attributes.
//!
//! Every peer and family that selects the same advertisements shares one [`Offer`], computed once; so peers with
//! equal offers also share the speaker's encoding. Routes belong to the instance: a prefix shared by several
//! Services, or wanted by several advertisements, is there as long as one of them is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use bgp_speaker::policy::{ExportPolicy, PrefixMatch};
use bgp_speaker::types::{Family, Prefix};
use bgp_speaker::wire::attrs::Origin;
use crds::bgp::advertisement::{AdvertisementType, ServiceAddressType};
use crds::selector::LabelSelector;

use super::attributes::RouteAttributes;
use super::desired::AddressKind;
use super::frontends::{ServiceFacts, TrafficPolicy};
use super::merge::{DraftStatement, merged, unite};
use super::node::NodeFacts;
use super::options::{LegacyOrigin, Options};
use super::policy_view::{FamilyPolicies, PolicyStatement, Subject};
use crate::world::{Objects, World};

/// One item of an advertisement object, or of a legacy virtual router.
#[derive(Debug, Clone)]
pub(crate) struct Entry<'a> {
    /// The object it stands in.
    pub(crate) source: &'a str,
    pub(crate) labels: &'a BTreeMap<String, String>,
    pub(crate) what: What<'a>,
    pub(crate) attributes: Arc<RouteAttributes>,
    /// Legacy: attributes for some of the prefixes only.
    pub(crate) also: Vec<(Which<'a>, RouteAttributes)>,
}

#[derive(Debug, Clone)]
pub(crate) enum What<'a> {
    PodCidr,
    /// A missing selector selects nothing.
    PodIpPool(Option<&'a LabelSelector>),
    Service {
        /// A missing selector selects nothing.
        selector: Option<&'a LabelSelector>,
        kinds: BTreeSet<AddressKind>,
        aggregate_v4: Option<u8>,
        aggregate_v6: Option<u8>,
    },
}

/// Which prefixes a legacy attribute rule is about.
#[derive(Debug, Clone)]
pub(crate) enum Which<'a> {
    PodPools(Option<&'a LabelSelector>),
    /// Addresses inside these ranges.
    Addresses(Vec<(IpAddr, IpAddr)>),
}

/// Everything an offer is computed from.
pub(crate) struct Ground<'a> {
    pub(crate) world: &'a World,
    pub(crate) options: &'a Options,
    pub(crate) me: &'a NodeFacts<'a>,
    pub(crate) services: &'a [ServiceFacts<'a>],
}

/// What a family of a peer is told, by the advertisements it selects.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) export: Arc<ExportPolicy>,
    pub(crate) policies: Arc<FamilyPolicies>,
    pub(crate) routes: BTreeMap<Prefix, Origin>,
    /// Prefixes coarser than the addresses they are announced for.
    pub(crate) aggregates: BTreeSet<Prefix>,
    /// Service, frontend, and the prefix announced for it.
    pub(crate) hits: Vec<(usize, usize, Prefix)>,
}

/// Offers already computed, and the Services each entry selects.
pub(crate) struct Offers<'a> {
    ground: Ground<'a>,
    entries: Vec<Entry<'a>>,
    selected: BTreeMap<usize, Arc<[usize]>>,
    done: BTreeMap<(Family, Vec<usize>), Arc<Offer>>,
}

/// All items of all advertisement objects, by object and position.
pub(crate) fn entries(objects: &Objects) -> Vec<Entry<'_>> {
    let mut entries = Vec::new();
    for object in objects.advertisements() {
        for item in &object.object.spec.advertisements {
            let what = match item.advertisement_type {
                AdvertisementType::PodCidr => What::PodCidr,
                AdvertisementType::PodIpPool => What::PodIpPool(item.selector.as_ref()),
                AdvertisementType::Service => {
                    let Some(service) = &item.service else { continue };
                    What::Service {
                        selector: item.selector.as_ref(),
                        kinds: service.addresses.iter().map(|kind| address_kind(*kind)).collect(),
                        aggregate_v4: service.aggregation_length_ipv4,
                        aggregate_v6: service.aggregation_length_ipv6,
                    }
                }
            };
            entries.push(Entry {
                source: object.name(),
                labels: object.labels(),
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

impl Entry<'_> {
    /// The attributes, with those of the rules that apply.
    fn attributes_where(&self, applies: impl Fn(&Which<'_>) -> bool) -> Arc<RouteAttributes> {
        let more = self.also.iter().filter(|(which, _)| applies(which));
        more.fold(Arc::clone(&self.attributes), |all, (_, more)| {
            Arc::new(all.join(more))
        })
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
    pub(crate) fn new(ground: Ground<'a>, entries: Vec<Entry<'a>>) -> Self {
        Self {
            ground,
            entries,
            selected: BTreeMap::new(),
            done: BTreeMap::new(),
        }
    }

    pub(crate) fn ground(&self) -> &Ground<'a> {
        &self.ground
    }

    pub(crate) fn entries(&self) -> &[Entry<'a>] {
        &self.entries
    }

    /// Adds entries no advertisement object holds; gives their numbers.
    pub(crate) fn add(&mut self, entries: Vec<Entry<'a>>) -> Vec<usize> {
        let first = self.entries.len();
        self.entries.extend(entries);
        (first..self.entries.len()).collect()
    }

    /// Whether an entry selects this Service and kind of address, for whatever family.
    pub(crate) fn selects(&mut self, entry: usize, service: usize, kind: AddressKind) -> bool {
        let wanted = self.entries.get(entry).is_some_and(|entry| match &entry.what {
            What::PodCidr | What::PodIpPool(_) => false,
            What::Service { kinds, .. } => kinds.contains(&kind),
        });
        wanted && self.selected(entry).binary_search(&service).is_ok()
    }

    /// The offer of a family that selects these entries (ascending).
    pub(crate) fn offer(&mut self, family: Family, chosen: &[usize]) -> Arc<Offer> {
        let key = (family, chosen.to_vec());
        if let Some(done) = self.done.get(&key) {
            return Arc::clone(done);
        }
        let mut draft = Draft::default();
        for number in chosen {
            let selected = self.selected(*number);
            let Some(entry) = self.entries.get(*number) else {
                continue;
            };
            draft.add(&self.ground, family, entry, &selected);
        }
        let offer = Arc::new(draft.finish());
        self.done.insert(key, Arc::clone(&offer));
        offer
    }

    /// The Services an entry selects, by number, ascending.
    fn selected(&mut self, number: usize) -> Arc<[usize]> {
        if let Some(known) = self.selected.get(&number) {
            return Arc::clone(known);
        }
        let selector = self.entries.get(number).and_then(|entry| match &entry.what {
            What::PodCidr | What::PodIpPool(_) => None,
            What::Service { selector, .. } => *selector,
        });
        let services = self.ground.services.iter().enumerate();
        let selected: Arc<[usize]> = match selector {
            None => Arc::new([]),
            Some(selector) => services
                .filter(|(_, service)| selector.matches_with(|key| service.label(key)))
                .map(|(number, _)| number)
                .collect(),
        };
        self.selected.insert(number, Arc::clone(&selected));
        selected
    }
}

/// An offer in the making.
#[derive(Default)]
struct Draft<'a> {
    /// Statements of one policy differ in their prefixes.
    policies: BTreeMap<Subject, Vec<DraftStatement<'a>>>,
    routes: BTreeMap<Prefix, Origin>,
    aggregates: BTreeSet<Prefix>,
    hits: Vec<(usize, usize, Prefix)>,
}

impl<'a> Draft<'a> {
    fn add(&mut self, ground: &Ground<'_>, family: Family, entry: &Entry<'a>, selected: &[usize]) {
        match &entry.what {
            What::PodCidr if !ground.options.ipam.has_pod_cidrs() => {}
            What::PodIpPool(_) if !ground.options.ipam.has_pod_pools() => {}
            What::PodCidr => {
                let prefixes: BTreeSet<Prefix> = ground
                    .me
                    .pod_cidrs
                    .iter()
                    .filter(|p| p.family() == family)
                    .copied()
                    .collect();
                for prefix in &prefixes {
                    self.route(*prefix, Origin::Igp);
                }
                let exact = prefixes.into_iter().map(exactly).collect();
                self.statement(Subject::PodCidr, exact, entry, Arc::clone(&entry.attributes));
            }
            What::PodIpPool(selector) => self.pod_pools(ground, family, entry, *selector),
            What::Service { .. } => {
                for number in selected {
                    self.service(ground, family, entry, *number);
                }
            }
        }
    }

    fn pod_pools(
        &mut self,
        ground: &Ground<'_>,
        family: Family,
        entry: &Entry<'a>,
        selector: Option<&LabelSelector>,
    ) {
        for pool in ground.world.objects.pod_pools() {
            let spec = &pool.object.spec;
            let mask = match family {
                Family::IPV4_UNICAST => spec.ipv4.as_ref().map(|pool| pool.mask_size),
                _ => spec.ipv6.as_ref().map(|pool| pool.mask_size),
            };
            let Some(selector) = selector else { continue };
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
                self.route(*prefix, Origin::Igp);
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
                Which::PodPools(selector) => {
                    selector.is_none_or(|s| pool_matches(s, pool.name(), pool.labels()))
                }
                Which::Addresses(_) => false,
            });
            self.statement(Subject::PodIpPool(pool.name().into()), matches, entry, attributes);
        }
    }

    fn service(&mut self, ground: &Ground<'_>, family: Family, entry: &Entry<'a>, number: usize) {
        let Some(service) = ground.services.get(number) else {
            return;
        };
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
            for (at, frontend) in service.frontends.iter().enumerate() {
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
                    self.aggregates.insert(prefix);
                }
                self.route(prefix, origin(*kind, ground.options));
                self.hits.push((number, at, prefix));
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
                let subject = Subject::Service(service.reference.clone(), *kind);
                self.statement(subject, prefixes, entry, attributes);
            }
        }
    }

    /// The origin that is most wanted wins where several say different things.
    fn route(&mut self, prefix: Prefix, origin: Origin) {
        let known = self.routes.entry(prefix).or_insert(origin);
        *known = origin.min(*known);
    }

    /// `prefixes` are in order, each once.
    fn statement(
        &mut self,
        subject: Subject,
        prefixes: Vec<PrefixMatch>,
        entry: &Entry<'a>,
        attributes: Arc<RouteAttributes>,
    ) {
        if prefixes.is_empty() {
            return;
        }
        let statements = self.policies.entry(subject).or_default();
        match statements.iter_mut().find(|known| known.prefixes == prefixes) {
            Some(known) => {
                known.attributes = Arc::new(known.attributes.merge(&attributes));
                unite(&mut known.sources, entry.source);
            }
            None => statements.push(DraftStatement {
                prefixes,
                attributes,
                sources: vec![entry.source],
            }),
        }
    }

    fn finish(mut self) -> Offer {
        self.hits.sort_unstable();
        self.hits.dedup();
        let export = Arc::new(ExportPolicy {
            statements: merged(self.policies.values().flatten()),
        });
        let policies = self.policies.into_iter().map(|(subject, statements)| {
            let statements = statements.into_iter().map(|mut statement| {
                let prefixes = &mut statement.prefixes;
                prefixes.sort_unstable_by_key(|m| (std::cmp::Reverse(m.prefix.len()), *m));
                PolicyStatement {
                    prefixes: statement.prefixes,
                    attributes: statement.attributes,
                }
            });
            let mut statements: Vec<PolicyStatement> = statements.collect();
            if statements.len() > 1 {
                let longest =
                    |s: &PolicyStatement| std::cmp::Reverse(s.prefixes.first().map(|m| m.prefix.len()));
                statements.sort_by(|a, b| (longest(a), a).cmp(&(longest(b), b)));
            }
            (subject, statements)
        });
        Offer {
            export,
            policies: Arc::new(FamilyPolicies(policies.collect())),
            routes: self.routes,
            aggregates: self.aggregates,
            hits: self.hits,
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
