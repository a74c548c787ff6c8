//! What should be, from what is known: [`plan`] is a function of the [`World`] and the cluster's [`Options`], and of
//! nothing else. It computes everything anew each time; what that costs is measured in `benches/plan.rs`.
//!
//! ```text
//!   World --> node_config --> instances, peers --+
//!     |                                          v
//!     +--> vips --> frontends --> Services --> advertise --> offers --> peers --> SpeakerConfig
//!                                                |                                 policies
//!                                                +--> discard routes               reports, problems
//! ```

mod advertise;
mod attributes;
mod auth;
mod desired;
mod exposure;
pub(crate) mod frontends;
pub mod gateway;
mod legacy;
mod merge;
pub(crate) mod node;
pub(crate) mod node_config;
pub mod options;
pub mod origins;
mod peers;
mod policy_view;
mod reasons;
pub mod router_id;
mod services;
mod session;
pub(crate) mod vips;

use std::collections::BTreeSet;
use std::sync::Arc;

use bgp_speaker::types::Prefix;
use crds::Severity;

use crate::problem::Problem;
use crate::world::World;

pub use desired::{
    AddressKind, AddressReport, Announced, ConfigOrigin, Desired, Discovery, HealthCheck, LbIpamReport,
    PeerReport, ServiceReport, VipChange, vip_changes,
};
pub use options::Options;
pub use policy_view::{Policies, PolicyKind, RoutePolicy, RouteStatement};
pub use reasons::Reason;

/// Everything this node should be and do.
#[must_use]
pub fn plan(world: &World, options: &Options) -> Desired {
    let mut problems = Vec::new();
    let mut nodes = node::all(&world.objects);
    let unknown = !nodes.contains_key(&*world.node);
    let me = nodes
        .entry(&world.node)
        .or_insert_with(|| node::NodeFacts::named(&world.node))
        .clone();
    let config = node_config::node_config(world, options, &nodes);
    if unknown && is_configured(world) {
        problems.push(node_unknown(world));
    }
    let vips = vips::vips(world, options);
    let services = frontends::services(world, options, &me, &vips, &mut problems);
    let ground = advertise::Ground {
        world,
        options,
        me: &me,
        services: &services,
    };
    let mut offers = advertise::Offers::new(ground, advertise::entries(&world.objects));
    let peering = peers::peering(&config, &mut offers);
    let discard_routes: BTreeSet<Prefix> = peering
        .offers
        .iter()
        .flat_map(|told| told.offer.aggregates.iter().copied())
        .collect();
    problems.extend(without_effect(world, options));
    problems.extend(config.problems);
    let reports = services::reports(&services, &peering, &mut offers);
    problems.extend(peering.problems);
    problems.extend(between_objects(world, options, &problems));
    problems.sort();
    problems.dedup();
    Desired {
        speaker: Arc::new(peering.speaker),
        origin: config.origin,
        policies: peering.policies,
        discard_routes,
        vips: vips.held(&world.observed.held_vips),
        lb_ipam: vips.report,
        services: reports,
        health_checks: frontends::health_checks(world, &services),
        peers: peering.reports,
        problems,
    }
}

/// What is wrong between objects, less what planning found out about this node and says more exactly.
fn between_objects(world: &World, options: &Options, known: &[Problem]) -> Vec<Problem> {
    let known: BTreeSet<_> = known.iter().map(|p| (&p.object, p.reason)).collect();
    let check = crds::CheckOptions {
        secrets_namespace: options.secrets_namespace.as_deref().unwrap_or_default(),
    };
    let objects = world.objects.iter().map(|parsed| &**parsed);
    let found = crds::check(objects, check).into_iter().map(Problem::from);
    found
        .filter(|p| !known.contains(&(&p.object, p.reason)))
        .collect()
}

/// Whether anybody wants nodes to speak BGP.
fn is_configured(world: &World) -> bool {
    let objects = &world.objects;
    objects.cluster_configs().next().is_some()
        || objects.peering_policies().next().is_some()
        || objects.node_config(&world.node).is_some()
}

fn node_unknown(world: &World) -> Problem {
    Problem::here(
        Severity::Warning,
        "node-unknown",
        format!(
            "no CiliumNode and no Node is named {}: selectors see no labels of it, and it has no address and no pod \
             prefix; add one, or start with --node and the name of one that is there",
            world.node
        ),
    )
}

/// Advertisements the IPAM mode makes void.
fn without_effect(world: &World, options: &Options) -> Vec<Problem> {
    use crds::bgp::advertisement::AdvertisementType;
    let mut problems = Vec::new();
    for object in world.objects.advertisements() {
        for (at, item) in object.object.spec.advertisements.iter().enumerate() {
            let has_effect = match item.advertisement_type {
                AdvertisementType::PodCidr => options.ipam.has_pod_cidrs(),
                AdvertisementType::PodIpPool => options.ipam.has_pod_pools(),
                AdvertisementType::Service => true,
            };
            if !has_effect {
                problems.push(Problem::at(
                    object.parsed,
                    format!("spec.advertisements[{at}].advertisementType"),
                    Severity::Warning,
                    crds::Reason::NoEffect.as_str(),
                    format!(
                        "{} is not announced with ipam {}",
                        item.advertisement_type.as_str(),
                        options.ipam.as_str()
                    ),
                ));
            }
        }
    }
    problems
}
