//! [`reconcile`](super::reconcile) from what changed.
//!
//! ```text
//!   objects that changed --> parts that read their kind --> what they want now --> difference to what they wanted
//! ```
//!
//! Addresses of Services, and what they say of full maps, are planned one by one. Every other part is planned whole, where a
//! kind that it reads has changed: its objects are as many as there are nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crds::k8s_openapi::jiff::Timestamp;
use crds::{Kind, ObjectRef};

use super::addresses;
use super::write::{Target, Write};
use super::{Memory, Part, Report, full_maps, lacking, plan_part};
use crate::config::Config;
use crate::world::{ServiceRef, World};

/// Knows what was planned before.
#[derive(Debug, Default)]
pub struct Keyed {
    memory: Memory,
    state: State,
}

/// What goes where a part is switched on or off: all is planned anew then.
#[derive(Debug, Default)]
struct State {
    /// What can not work, and for want of which kinds; `None` before the first plan.
    off: Option<BTreeMap<Part, Vec<Kind>>>,
    addresses: addresses::Keyed,
    full_maps: full_maps::Keyed,
    /// To what each other part wants something written.
    targets: BTreeMap<Part, BTreeSet<Target>>,
    /// Parts to plan though nothing that they read has changed: what they remember has, and may lead to something else.
    again: BTreeSet<Part>,
    lb_ipam: Option<crate::plan::LbIpamReport>,
}

/// What came of a step.
#[derive(Debug)]
pub struct Step {
    pub writes: Writes,
    /// What Services have by this plan, seen or not, where it is not what they had; `None`: nothing from here. It must be in
    /// the world before the next step.
    pub held: Vec<(ServiceRef, Option<Vec<IpAddr>>)>,
    pub report: Report,
}

/// What is to be written.
#[derive(Debug)]
pub enum Writes {
    /// This and nothing else.
    All(Vec<Write>),
    /// Of these targets this, if anything; of all others the same as before.
    Of(Vec<(Target, Option<Write>)>),
}

impl Keyed {
    /// `changed`: objects that are not as they were at the step before, or gone.
    pub fn step(
        &mut self,
        world: &World,
        changed: &BTreeSet<ObjectRef>,
        config: &Config,
        now: Timestamp,
    ) -> Step {
        let off = lacking(world, config);
        if self.state.off.as_ref() == Some(&off) {
            let (writes, held) = self.plan(world, changed, config, now);
            return Step {
                writes: Writes::Of(writes),
                held,
                report: self.report(),
            };
        }
        self.state = State {
            off: Some(off),
            // Also those of whose objects none is left: what they remember of them goes.
            again: Part::ALL.into_iter().collect(),
            ..State::default()
        };
        let there = world.objects.iter().map(|parsed| parsed.reference.clone());
        // Services may have gone meanwhile.
        let held = world
            .observed
            .held_vips
            .keys()
            .map(|service| ObjectRef::namespaced(Kind::Service, &*service.namespace, &*service.name));
        let all: BTreeSet<ObjectRef> = there.chain(held).collect();
        let (writes, mut held) = self.plan(world, &all, config, now);
        if !self.is_planned(Part::LbIpam, config) {
            held = world
                .observed
                .held_vips
                .keys()
                .map(|service| (service.clone(), None))
                .collect();
        }
        Step {
            writes: Writes::All(writes.into_iter().filter_map(|(_, write)| write).collect()),
            held,
            report: self.report(),
        }
    }

    /// What was decided and may not be seen yet.
    #[cfg(test)]
    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    fn is_planned(&self, part: Part, config: &Config) -> bool {
        let off = self.state.off.as_ref();
        part.is_on(config) && !off.is_some_and(|off| off.contains_key(&part))
    }

    fn report(&self) -> Report {
        Report {
            lb_ipam: self.state.lb_ipam.clone(),
            off: self.state.off.clone().unwrap_or_default(),
        }
    }

    #[expect(clippy::type_complexity, reason = "what a step has, twice")]
    fn plan(
        &mut self,
        world: &World,
        changed: &BTreeSet<ObjectRef>,
        config: &Config,
        now: Timestamp,
    ) -> (
        Vec<(Target, Option<Write>)>,
        Vec<(ServiceRef, Option<Vec<IpAddr>>)>,
    ) {
        let kinds: BTreeSet<Kind> = changed.iter().map(|object| object.kind).collect();
        let again = std::mem::take(&mut self.state.again);
        let mut writes = Vec::new();
        // What others wanted of Services and want no more leaves room for what addresses want.
        let mut left = BTreeSet::new();
        for part in Part::ALL {
            let reads = part.needs().iter().any(|kind| kinds.contains(kind)) || again.contains(&part);
            if !reads || !self.is_planned(part, config) {
                continue;
            }
            match part {
                // After all others.
                Part::LbIpam => continue,
                Part::FullMaps => {
                    writes.extend(self.state.full_maps.step(world, changed, now));
                    continue;
                }
                Part::NodeIpam | Part::Bgp | Part::PodPrefixes | Part::PeerSecrets => {}
            }
            let before = self.memory.clone();
            let (wanted, memory) = plan_part(part, world, before.clone(), config, now);
            if memory != before {
                self.state.again.insert(part);
            }
            self.memory = memory;
            let targets = wanted.iter().map(|write| write.target.clone()).collect();
            let mut gone = self.state.targets.insert(part, targets).unwrap_or_default();
            for write in wanted {
                gone.remove(&write.target);
                writes.push((write.target.clone(), Some(write)));
            }
            left.extend(gone.iter().map(|target| target.object.clone()));
            writes.extend(gone.into_iter().map(|target| (target, None)));
        }
        if !self.is_planned(Part::LbIpam, config) {
            return (writes, Vec::new());
        }
        left.extend(changed.iter().cloned());
        let found = self.state.addresses.step(world, &left, &config.options, now);
        self.state.lb_ipam = Some(found.report);
        // Of two that want something of one Service the later part has its way.
        let taken = self.state.targets.get(&Part::NodeIpam);
        let is_taken = |target: &Target| taken.is_some_and(|taken| taken.contains(target));
        let of_addresses = found.writes.into_iter();
        writes.extend(of_addresses.filter(|(target, _)| !is_taken(target)));
        (writes, found.held)
    }
}

#[cfg(test)]
mod tests;
