//! The addresses of Services from what changed: ten thousand others cost nothing.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crds::k8s_openapi::jiff::Timestamp;
use crds::selector::LabelSelector;
use crds::{Kind, ObjectRef};
use lbipam::{Incremental, Pool};

use super::super::write::{Part, Target, Write};
use super::{Stands, let_go, pool_writes, remember, stands, write};
use crate::plan::LbIpamReport;
use crate::plan::options::Options;
use crate::plan::vips;
use crate::world::{Fetched, ServiceRef, World};

/// Knows what Services asked for, and what they got.
#[derive(Debug, Default)]
pub(crate) struct Keyed {
    planner: Incremental,
    pools: Vec<Pool>,
    /// Which Services each pool serves, in the order of the pools.
    selectors: Vec<Option<LabelSelector>>,
    /// To be looked at in the next step: what was decided is what they hold from then on.
    again: BTreeSet<ServiceRef>,
    /// Pools to which something was to be written.
    written: BTreeSet<Target>,
}

/// What is not as it was after the step before.
#[derive(Debug, Default)]
pub(crate) struct Changed {
    /// What is to be written, if anything.
    pub(crate) writes: Vec<(Target, Option<Write>)>,
    /// What Services have, seen or not; `None`: the pools do not serve it.
    pub(crate) held: Vec<(ServiceRef, Option<Vec<IpAddr>>)>,
    pub(crate) report: LbIpamReport,
}

impl Keyed {
    /// `changed`: objects that are not as they were, or gone. At the first step all Services are looked at.
    pub(crate) fn step(
        &mut self,
        world: &World,
        changed: &BTreeSet<ObjectRef>,
        options: &Options,
        now: Timestamp,
    ) -> Changed {
        let of_services = changed.iter().filter(|object| object.kind == Kind::Service);
        let mut touched: BTreeSet<ServiceRef> = of_services.map(service_ref).collect();
        touched.append(&mut self.again);
        let is_pool = |object: &ObjectRef| object.kind == Kind::CiliumLoadBalancerIPPool;
        if changed.iter().any(is_pool) && self.take_pools(world) {
            touched.extend(world.objects.service_names().map(service_ref));
        }
        for reference in &touched {
            let service = world.objects.service(&reference.namespace, &reference.name);
            let service = service.as_ref().map(Fetched::stored);
            match service.map(|service| stands(world, options, &self.pools, service)) {
                Some(Stands::Asks(_, request)) => self.planner.request(*request),
                Some(Stands::LetGo(_) | Stands::NotOurs) | None => self.planner.gone(&vips::id(reference)),
            }
        }
        let decided = self.planner.step();
        touched.extend(decided.iter().map(|id| ServiceRef::new(&id.namespace, &id.name)));
        let mut found = Changed::default();
        for reference in touched {
            self.look(world, options, reference, now, &mut found);
        }
        let (matching, unsatisfied) = self.planner.counts();
        found.report = LbIpamReport {
            matching,
            unsatisfied,
            pools: self.planner.reports(),
        };
        self.write_pools(world, now, &mut found);
        found
    }

    /// Whether Services may be decided about otherwise than before: what a pool's status says changes nothing.
    fn take_pools(&mut self, world: &World) -> bool {
        let pools: Vec<Pool> = world.objects.lb_pools().map(vips::pool).collect();
        let selectors = world.objects.lb_pools();
        let selectors: Vec<Option<LabelSelector>> = selectors
            .map(|pool| pool.object.spec.service_selector.clone())
            .collect();
        if (&pools, &selectors) == (&self.pools, &self.selectors) {
            return false;
        }
        self.planner.pools(pools.clone());
        (self.pools, self.selectors) = (pools, selectors);
        true
    }

    /// What a decision means for a Service.
    fn look(
        &mut self,
        world: &World,
        options: &Options,
        reference: ServiceRef,
        now: Timestamp,
        found: &mut Changed,
    ) {
        let before = world.observed.held_vips.get(&reference);
        let service = world.objects.service(&reference.namespace, &reference.name);
        let service = service.as_ref().map(Fetched::stored);
        let standing = service.map(|service| (service, stands(world, options, &self.pools, service)));
        let target = Target {
            object: ObjectRef::namespaced(Kind::Service, &*reference.namespace, &*reference.name),
            part: Part::Status,
        };
        let (write, held) = match standing {
            Some((_, Stands::Asks(one, request))) => {
                let decision = self.planner.decision(&request.id).cloned().unwrap_or_default();
                let addresses = decision.addresses.iter().map(|given| given.address);
                let mut held: Vec<IpAddr> = addresses.collect();
                remember(&mut held, before, |address| self.planner.has(address));
                let write = write(&one, &request, &decision, &self.pools, now);
                (write, Some(held))
            }
            Some((service, Stands::LetGo(seen))) => (let_go(service, &seen, &self.pools, now), None),
            Some((_, Stands::NotOurs)) | None => (None, None),
        };
        found.writes.push((target, write));
        if held.as_ref() != before {
            self.again.insert(reference.clone());
            found.held.push((reference, held));
        }
    }

    fn write_pools(&mut self, world: &World, now: Timestamp, found: &mut Changed) {
        let mut gone = std::mem::take(&mut self.written);
        for write in pool_writes(world, &found.report, now) {
            gone.remove(&write.target);
            self.written.insert(write.target.clone());
            found.writes.push((write.target.clone(), Some(write)));
        }
        found.writes.extend(gone.into_iter().map(|target| (target, None)));
    }
}

fn service_ref(object: &ObjectRef) -> ServiceRef {
    ServiceRef::new(&object.namespace, &object.name)
}
