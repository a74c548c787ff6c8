//! What should be, from what is known: [`plan`] is a function of the [`World`] and the cluster's [`Options`], and of
//! nothing else. A [`Planner`] comes to the same from what changed; what both cost is measured in `benches/plan.rs`.
//!
//! ```text
//!   World --> node_config --> instances, peers -----------------------------+
//!     |                                                                     v
//!     +--> vips --> frontends --> each Service --> drafts --> offers --> routes --> SpeakerConfig
//!                                      |                                            policies
//!                                      +--> reports, problems                       discard routes
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
mod offer;
pub mod options;
pub mod origins;
mod peers;
mod planner;
mod policy_view;
mod questions;
mod reasons;
pub mod router_id;
mod routes;
mod services;
mod session;
pub(crate) mod vips;

use crds::Severity;

use crate::problem::Problem;
use crate::world::World;

pub use desired::{
    AddressKind, AddressReport, Announced, ConfigOrigin, Desired, Discovery, HealthCheck, LbIpamReport,
    PeerReport, ServiceReport, VipChange, vip_changes,
};
pub use options::Options;
pub use planner::Planner;
pub use policy_view::{Policies, PolicyKind, RoutePolicy, RouteStatement};
pub use reasons::Reason;

/// Everything this node should be and do.
#[must_use]
pub fn plan(world: &World, options: &Options) -> Desired {
    planner::anew(world, options)
}

/// What is wrong between objects.
fn between_objects(world: &World, options: &Options) -> Vec<Problem> {
    let check = crds::CheckOptions {
        secrets_namespace: options.secrets_namespace.as_deref().unwrap_or_default(),
    };
    let objects = world.objects.iter().map(|parsed| &**parsed);
    crds::check(objects, check)
        .into_iter()
        .map(Problem::from)
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
