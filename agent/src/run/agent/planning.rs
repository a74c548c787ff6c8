//! From what changed to what is desired, and that carried out.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use super::{AT_ONCE, Agent};
use crate::api::journal::Note;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::plan::{Desired, Planner, VipChange, vip_changes};
use crate::shared_map::SharedMap;
use crate::shell::memory;
use crate::world::{Rest, ServiceRef, Touched, World};

impl Agent {
    /// Plans what changed, and carries it out.
    pub(super) async fn plan(&mut self) {
        let touched = std::mem::take(&mut self.touched);
        let planned = timed_plan(
            &mut self.planner,
            &self.world,
            &self.config,
            &touched,
            &self.metrics,
        );
        match planned {
            Some(desired) => {
                self.apply(Arc::new(desired)).await;
                if touched.rest == Rest::Changed {
                    // What all was planned from before is garbage now.
                    tokio::task::block_in_place(memory::give_back);
                }
            }
            // The objects may be others to the load balancer.
            None => {
                self.balance().await;
                self.publish();
            }
        }
    }

    /// Carries out the difference to what was applied last.
    pub(super) async fn apply(&mut self, desired: Arc<Desired>) {
        self.desired = Arc::clone(&desired);
        self.listen_errors
            .retain(|instance, _| desired.speaker.instances.contains_key(instance));
        self.speaker.configure(Arc::clone(&desired.speaker));
        self.discards.send_if_modified(|wished| {
            let differs = wished.as_ref() != Some(&desired.discard_routes);
            *wished = Some(desired.discard_routes.clone());
            differs
        });
        // Planning again must come to the same addresses.
        let held = std::mem::replace(&mut self.world.observed.held_vips, desired.vips.clone());
        self.balance().await;
        self.note_vips(&held);
        self.write_given_vips();
        self.publish();
    }

    /// Writes down which addresses Services got and gave back. Of many at once only how many.
    fn note_vips(&self, held: &SharedMap<ServiceRef, Vec<IpAddr>>) {
        let notes: Vec<String> = vip_changes(held, &self.desired.vips)
            .into_iter()
            .map(|VipChange { service, after, .. }| match after {
                [] => format!("{service} gave its addresses back"),
                [..] => {
                    let list: Vec<String> = after.iter().map(IpAddr::to_string).collect();
                    format!("{service} has {}", list.join(", "))
                }
            })
            .collect();
        if notes.len() > AT_ONCE {
            let text = format!("{} Services got other addresses", notes.len());
            self.note(Note::here("vip", text));
            return;
        }
        for text in notes {
            self.note(Note::here("vip", text));
        }
    }
}

/// `None`: what was desired still is.
pub(super) fn timed_plan(
    planner: &mut Planner,
    world: &World,
    config: &Config,
    touched: &Touched,
    metrics: &Metrics,
) -> Option<Desired> {
    let began = Instant::now();
    // The other worker goes on with sessions and API meanwhile.
    let desired = tokio::task::block_in_place(|| config.step(planner, world, touched));
    let took = began.elapsed();
    tracing::debug!(?took, ?touched.rest, touched = touched.services.len(), changed = desired.is_some(), "planned");
    if let Some(desired) = &desired {
        metrics.planned(took, desired);
    }
    desired
}
