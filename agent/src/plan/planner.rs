//! The plan from what changed: what one Service costs does not grow with the number of Services.
//!
//! ```text
//!   Services touched --> vips --> facts --+--> drafts --> offers --> routes, export policies
//!                                         +--> reports, health checks, problems
//! ```
//!
//! What a Service adds to each part is taken out as it was and put in as it is. Everything else there is to plan with, such as
//! nodes, peers and advertisements, changes seldom: then all is planned anew, which is the same over no Service at first.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::advertise::{self, Draft, Ground, Offers};
use super::desired::{Desired, HealthCheck};
use super::frontends::{self, Around, ServiceFacts};
use super::node::{self, NodeFacts};
use super::offer::Offer;
use super::options::Options;
use super::questions::{Answers, Questions};
use super::routes::{self, RouteAttrs};
use super::services::{self, Audience, Peers};
use super::vips::{self, Vips};
use super::{between_objects, is_configured, node_config, node_unknown, peers, without_effect};
use crate::datapath::Served;
use crate::problem::Problem;
use crate::source::Allotter;
use crate::world::{DefaultRoute, Rest, ServiceRef, Touched, World};

/// Knows what was planned last.
#[derive(Debug, Default)]
pub struct Planner(Option<Box<State>>);

pub(super) fn anew(world: &World, options: &Options) -> Desired {
    State::new(world, options).desired
}

impl Planner {
    /// What [`plan`](super::plan()) says; `None`: the same as before. `touched`: whatever of the objects may not be as it
    /// was at the step before. Addresses that Services were found to hold must be in the world by then.
    pub fn step(&mut self, world: &World, options: &Options, touched: &Touched) -> Option<Desired> {
        let follows = |state: &&mut Box<State>| {
            touched.rest == Rest::Same && state.assumed == Assumed::of(world, options)
        };
        if let Some(state) = self.0.as_mut().filter(follows) {
            let mut services = touched.services.clone();
            services.extend(state.where_served_otherwise(&world.observed.served));
            match state.follow(world, options, &services) {
                Outcome::Same => return None,
                Outcome::Other => return Some(state.desired.clone()),
                Outcome::Beyond => {}
            }
        }
        let state = self.0.insert(Box::new(State::new(world, options)));
        Some(state.desired.clone())
    }
}

/// What goes when anything else than Services changes.
#[derive(Debug)]
struct State {
    assumed: Assumed,
    served: Served,
    vips: Vips,
    services: BTreeMap<ServiceRef, ServiceFacts>,
    /// Lists that many Services have.
    lists: BTreeSet<Arc<[usize]>>,
    audience: Audience,
    offers: Vec<Offer>,
    attrs: RouteAttrs,
    /// Which Services have an address, where the load balancer in the kernel is asked.
    at: BTreeSet<(IpAddr, ServiceRef)>,
    /// Of Services with one port the first by name has it.
    checks: BTreeMap<u16, BTreeMap<ServiceRef, usize>>,
    questions: Questions,
    problems: Problems,
    desired: Desired,
}

/// What a step takes to be as it was, beside the objects.
#[derive(Debug, Clone, PartialEq)]
struct Assumed {
    node: Arc<str>,
    options: Options,
    allotter: Allotter,
    default_routes: Vec<DefaultRoute>,
    cilium_host_mac: Option<[u8; 6]>,
    is_served_here: bool,
}

#[derive(Debug, Default)]
struct Problems {
    between: Vec<Problem>,
    services: BTreeMap<ServiceRef, Problem>,
    rest: Vec<Problem>,
}

/// What came of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Same,
    Other,
    /// More than what Services come to is otherwise.
    Beyond,
}

impl Assumed {
    fn of(world: &World, options: &Options) -> Self {
        Self {
            node: Arc::clone(&world.node),
            options: options.clone(),
            allotter: world.allotter,
            default_routes: world.observed.default_routes.clone(),
            cilium_host_mac: world.observed.cilium_host_mac,
            is_served_here: matches!(world.observed.served, Served::Here(_)),
        }
    }
}

impl State {
    fn new(world: &World, options: &Options) -> Self {
        let mut nodes = node::all(&world.objects);
        let unknown = !nodes.contains_key(&*world.node);
        let me = nodes
            .entry(&world.node)
            .or_insert_with(|| NodeFacts::named(&world.node))
            .clone();
        let config = node_config::node_config(world, options, &nodes);
        let ground = Ground {
            world,
            options,
            me: &me,
        };
        let mut offers = Offers::new(ground, advertise::entries(&world.objects));
        let peering = peers::peering(&config, &mut offers);
        let (entries, offers) = offers.into_parts();
        let mut problems = without_effect(world, options);
        problems.extend((unknown && is_configured(world)).then(|| node_unknown(world)));
        problems.extend(config.problems);
        problems.extend(peering.problems);
        let has_peers = peering.speaker.instances.values().any(|i| !i.peers.is_empty());
        let mut state = Self {
            assumed: Assumed::of(world, options),
            served: world.observed.served.clone(),
            vips: Vips::new(world),
            services: BTreeMap::new(),
            lists: BTreeSet::new(),
            audience: Audience {
                entries,
                told: peering.told,
                selected: peering.selected,
                peers: if has_peers { Peers::Some } else { Peers::None },
            },
            offers,
            attrs: RouteAttrs::default(),
            at: BTreeSet::new(),
            checks: BTreeMap::new(),
            questions: Questions::of(&world.objects),
            problems: Problems {
                between: between_objects(world, options),
                rest: problems,
                ..Problems::default()
            },
            desired: Desired {
                speaker: Arc::new(peering.speaker),
                origin: config.origin,
                policies: peering.policies,
                peers: peering.reports,
                ..Desired::default()
            },
        };
        state.look(world, options, &me, &all(world));
        state.questions.answers();
        // What Services found is in already, but there may be none.
        state.desired.problems = state.problems.all();
        state
    }

    fn follow(&mut self, world: &World, options: &Options, services: &BTreeSet<ServiceRef>) -> Outcome {
        let me = node::facts(&world.objects, &world.node).unwrap_or_else(|| NodeFacts::named(&world.node));
        let outcome = self.look(world, options, &me, services);
        self.served = world.observed.served.clone();
        match self.questions.answers() {
            Answers::Same => outcome,
            Answers::Others => Outcome::Beyond,
        }
    }

    /// Services that have an address where something else is served than before.
    fn where_served_otherwise(&self, served: &Served) -> BTreeSet<ServiceRef> {
        let (Served::Here(before), Served::Here(after)) = (&self.served, served) else {
            return BTreeSet::new();
        };
        if Arc::ptr_eq(before, after) {
            return BTreeSet::new();
        }
        let addresses = before.symmetric_difference(after).map(|socket| socket.address);
        let addresses: BTreeSet<IpAddr> = addresses.collect();
        addresses
            .into_iter()
            .flat_map(|address| vips::services_at(&self.at, address))
            .cloned()
            .collect()
    }

    /// Looks at these Services, and at whom else it concerns.
    fn look(
        &mut self,
        world: &World,
        options: &Options,
        me: &NodeFacts<'_>,
        services: &BTreeSet<ServiceRef>,
    ) -> Outcome {
        let around = Around { world, options, me };
        let mut outcome = Outcome::Same;
        let mut problems = Outcome::Same;
        for reference in self.vips.step(world, options, services) {
            let after = self.facts(around, &reference);
            let before = self.services.remove(&reference);
            if before != after {
                outcome = Outcome::Other;
                if before.as_ref().map(|facts| &facts.problem) != after.as_ref().map(|facts| &facts.problem) {
                    problems = Outcome::Other;
                }
                self.exchange(options, &reference, before.as_ref(), after.as_ref());
            }
            if let Some(after) = after {
                self.services.insert(reference, after);
            }
        }
        if problems == Outcome::Other {
            self.desired.problems = self.problems.all();
        }
        if routes::carry_over(
            &self.audience.told,
            &mut self.offers,
            &mut self.attrs,
            &mut self.desired,
        ) {
            outcome = Outcome::Other;
        }
        let report = self.vips.report();
        if self.desired.vips != *self.vips.held() || self.desired.lb_ipam != report {
            self.desired.vips = self.vips.held().clone();
            self.desired.lb_ipam = report;
            outcome = Outcome::Other;
        }
        outcome
    }

    fn facts(&mut self, around: Around<'_>, reference: &ServiceRef) -> Option<ServiceFacts> {
        let service = around
            .world
            .objects
            .service(&reference.namespace, &reference.name)?;
        let service = service.stored();
        let mut facts = frontends::facts(around, service, self.vips.answer(reference));
        let entries = self.audience.entries.iter().enumerate();
        let selected = entries.filter(|(_, entry)| entry.selects(|key| frontends::label(service, key)));
        let selected = selected.map(|(number, _)| number).collect();
        facts.selected = self.shared(selected);
        facts.matched = self.shared(self.questions.matching(service));
        Some(facts)
    }

    fn shared(&mut self, list: Vec<usize>) -> Arc<[usize]> {
        if let Some(known) = self.lists.get(&*list) {
            return Arc::clone(known);
        }
        let list: Arc<[usize]> = list.into();
        self.lists.insert(Arc::clone(&list));
        list
    }

    /// Takes out what a Service was and puts in what it is.
    fn exchange(
        &mut self,
        options: &Options,
        reference: &ServiceRef,
        before: Option<&ServiceFacts>,
        after: Option<&ServiceFacts>,
    ) {
        let Self {
            audience,
            offers,
            desired,
            ..
        } = self;
        let mut drafts = Vec::with_capacity(offers.len());
        for offer in offers {
            let draft = |facts: Option<&ServiceFacts>| {
                let draft = |facts| Draft::of_service(options, &audience.entries, offer, reference, facts);
                facts.map(draft).unwrap_or_default()
            };
            let (was, is) = (draft(before), draft(after));
            if was != is {
                offer.remove(&was);
                offer.add(&is);
            }
            drafts.push(is);
        }
        match after {
            Some(facts) => {
                let report = services::report(audience, reference, facts, &drafts);
                desired.services.insert(reference.clone(), report);
            }
            None => drop(desired.services.remove(reference)),
        }
        let problem = after.and_then(|facts| facts.problem.clone());
        match problem {
            Some(problem) => drop(self.problems.services.insert(reference.clone(), problem)),
            None => drop(self.problems.services.remove(reference)),
        }
        let matched = |facts: Option<&'_ ServiceFacts>| facts.map(|facts| Arc::clone(&facts.matched));
        self.questions.moved(
            &matched(before).unwrap_or_default(),
            &matched(after).unwrap_or_default(),
        );
        if self.assumed.is_served_here {
            self.exchange_served(reference, before, after);
        }
    }

    fn exchange_served(
        &mut self,
        reference: &ServiceRef,
        before: Option<&ServiceFacts>,
        after: Option<&ServiceFacts>,
    ) {
        let addresses = |facts: Option<&ServiceFacts>| -> Vec<(IpAddr, ServiceRef)> {
            let frontends = facts.into_iter().flat_map(|facts| &facts.frontends);
            frontends
                .map(|frontend| (frontend.address, reference.clone()))
                .collect()
        };
        for address in addresses(before) {
            self.at.remove(&address);
        }
        self.at.extend(addresses(after));
        let had = before.and_then(|facts| facts.health_check);
        let has = after.and_then(|facts| facts.health_check);
        if let Some((port, _)) = had
            && let Some(of) = self.checks.get_mut(&port)
        {
            of.remove(reference);
        }
        if let Some((port, local)) = has {
            self.checks
                .entry(port)
                .or_default()
                .insert(reference.clone(), local);
        }
        for (port, _) in had.into_iter().chain(has) {
            let first = self.checks.get(&port).and_then(|of| of.first_key_value());
            match first {
                Some((service, local_endpoints)) => {
                    let check = HealthCheck {
                        service: service.clone(),
                        local_endpoints: *local_endpoints,
                    };
                    self.desired.health_checks.insert(port, check);
                }
                None => drop(self.desired.health_checks.remove(&port)),
            }
        }
    }
}

impl Problems {
    /// Between objects only what planning did not find out about this node and says more exactly.
    fn all(&self) -> Vec<Problem> {
        let own = || self.rest.iter().chain(self.services.values());
        let known: BTreeSet<_> = own().map(|p| (&p.object, p.reason)).collect();
        let is_new = |p: &&Problem| !known.contains(&(&p.object, p.reason));
        let mut all: Vec<Problem> = own().chain(self.between.iter().filter(is_new)).cloned().collect();
        all.sort();
        all.dedup();
        all
    }
}

/// Every Service. Neighbours mostly are of one namespace, and share its text.
fn all(world: &World) -> BTreeSet<ServiceRef> {
    let mut all = BTreeSet::new();
    let mut namespace: Arc<str> = "".into();
    for reference in world.objects.service_names() {
        let reference = ServiceRef::new(&reference.namespace, &reference.name);
        if namespace != reference.namespace {
            namespace = reference.namespace;
        }
        all.insert(ServiceRef {
            namespace: Arc::clone(&namespace),
            name: reference.name,
        });
    }
    all
}

#[cfg(test)]
mod tests;
