//! Which pool an address is from: what a pool retains (`blockRemoval: Retain`) is told by that when its block is gone.
//!
//! An operator writes it into the status of the Service. Where agents give addresses it is theirs to remember: a pool that
//! contains an address of a Service that it selects is its origin, and stays so when the block goes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crds::Parsed;

use super::vips;
use crate::source::Allotter;
use crate::world::{Origins, ServiceRef, World};

/// Follows pools and Services.
#[derive(Debug, Default)]
pub struct Remembering {
    /// As of the last step.
    pools: Vec<Arc<Parsed>>,
}

impl Remembering {
    /// Brings what is known up to date. `changed`: Services that have other addresses than at the step before; `held`: what
    /// a Service has.
    pub fn step<'a, 'b>(
        &mut self,
        world: &World,
        known: &mut Arc<Origins>,
        changed: impl IntoIterator<Item = &'b ServiceRef>,
        all: impl IntoIterator<Item = (&'a ServiceRef, &'a Vec<IpAddr>)>,
        held: impl Fn(&ServiceRef) -> &'a [IpAddr],
    ) {
        match world.allotter {
            Allotter::Agents => {}
            Allotter::Operator => {
                *known = Arc::default();
                self.pools.clear();
                return;
            }
        }
        let pools: Vec<Arc<Parsed>> = world
            .objects
            .lb_pools()
            .map(|pool| Arc::clone(pool.parsed))
            .collect();
        let is_same = |(a, b): (&Arc<Parsed>, &Arc<Parsed>)| Arc::ptr_eq(a, b);
        if pools.len() == self.pools.len() && pools.iter().zip(&self.pools).all(is_same) {
            for service in changed {
                let before = known.get(service);
                let now = origins(world, service, held(service), before);
                if before.cloned().unwrap_or_default() == now {
                    continue;
                }
                let known = Arc::make_mut(known);
                if now.is_empty() {
                    known.remove(service);
                } else {
                    known.insert(service.clone(), now);
                }
            }
            return;
        }
        self.pools = pools;
        let now = all.into_iter().filter_map(|(service, held)| {
            let now = origins(world, service, held, known.get(service));
            (!now.is_empty()).then(|| (service.clone(), now))
        });
        let now: Origins = now.collect();
        if now != **known {
            *known = Arc::new(now);
        }
    }
}

/// Of the addresses that a Service has.
fn origins(
    world: &World,
    service: &ServiceRef,
    held: &[IpAddr],
    before: Option<&BTreeMap<IpAddr, String>>,
) -> BTreeMap<IpAddr, String> {
    let Some(object) = world.objects.service(&service.namespace, &service.name) else {
        return BTreeMap::new();
    };
    let object = object.stored();
    let from = |address: &IpAddr| {
        let mut pools = world.objects.lb_pools();
        let stating = pools.find(|pool| {
            vips::selects(*pool, object) && vips::contains(std::slice::from_ref(&vips::pool(*pool)), *address)
        });
        let pool = stating.map(|pool| pool.name().to_owned());
        Some((*address, pool.or_else(|| before?.get(address).cloned())?))
    };
    held.iter().filter_map(from).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::*;
    use crate::source::{Batch, Change};

    fn apply(world: &mut World, object: Value) {
        let read = crds::read_json(Path::new("test"), &object);
        let applied = read
            .objects
            .into_iter()
            .map(|parsed| Change::Applied(Arc::new(parsed)));
        world.take(Batch {
            changes: applied.collect(),
            ..Batch::default()
        });
    }

    fn pool(name: &str, cidr: &str, label: &str) -> Value {
        json!({
            "apiVersion": "cilium.io/v2",
            "kind": "CiliumLoadBalancerIPPool",
            "metadata": { "name": name },
            "spec": { "blocks": [{ "cidr": cidr }], "serviceSelector": { "matchLabels": { "pool": label } } },
        })
    }

    fn service(name: &str) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": name, "namespace": "ns", "labels": { "pool": "x" } },
            "spec": { "type": "LoadBalancer", "ports": [{ "port": 80 }] },
        })
    }

    fn named(name: &str) -> ServiceRef {
        ServiceRef {
            namespace: "ns".into(),
            name: name.into(),
        }
    }

    #[test]
    fn an_address_is_from_the_pool_that_had_it_for_its_service_last() {
        let mut world = World::new("n");
        // The first by name has the address too, and not for this Service.
        apply(&mut world, pool("0", "192.0.2.0/24", "y"));
        apply(&mut world, pool("blue", "192.0.2.0/29", "x"));
        for name in ["a", "b"] {
            apply(&mut world, service(name));
        }
        let (mut remembering, mut known) = (Remembering::default(), Arc::<Origins>::default());
        let mut held: BTreeMap<ServiceRef, Vec<IpAddr>> = BTreeMap::new();
        let mut step = |world: &World, held: &BTreeMap<ServiceRef, Vec<IpAddr>>, changed: &[&str]| {
            let changed: Vec<ServiceRef> = changed.iter().map(|name| named(name)).collect();
            let of = |service: &ServiceRef| held.get(service).map(Vec::as_slice).unwrap_or_default();
            remembering.step(world, &mut known, &changed, held, of);
            let line = |(service, origins): (&ServiceRef, &BTreeMap<IpAddr, String>)| {
                format!("{service} {origins:?}")
            };
            known.iter().map(line).collect::<Vec<String>>()
        };
        assert!(step(&world, &held, &[]).is_empty());
        // One by one, as Services come.
        held.insert(named("a"), vec!["192.0.2.1".parse().unwrap()]);
        // Of no pool: somebody else gave it.
        held.insert(named("b"), vec!["203.0.113.1".parse().unwrap()]);
        let a = r#"ns/a {192.0.2.1: "blue"}"#;
        assert_eq!(step(&world, &held, &["a", "b"]), [a]);
        // All of them, as pools change.
        apply(&mut world, pool("blue", "198.51.100.0/29", "x"));
        assert_eq!(step(&world, &held, &[]), [a]);
        held.insert(named("b"), vec!["198.51.100.1".parse().unwrap()]);
        let b = r#"ns/b {198.51.100.1: "blue"}"#;
        assert_eq!(step(&world, &held, &["b"]), [a, b]);
        held.remove(&named("a"));
        assert_eq!(step(&world, &held, &["a"]), [b]);
        // An operator says it in the status.
        world.allotter = Allotter::Operator;
        assert!(step(&world, &held, &[]).is_empty());
    }
}
