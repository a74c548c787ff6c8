//! The load balancer in the kernel, as the loop sees it: it hands objects and wishes over, and hears what came of them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bgp_speaker::config::SpeakerConfig;
use ebpf_datapath::incremental::Change;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;

use super::{ANSWER_LIMIT, Agent};
use crate::config::Config;
use crate::config::datapath::Switch;
use crate::datapath::mailbox::Mailbox;
use crate::datapath::objects::{self, Subject};
use crate::datapath::report::{Report, State};
use crate::datapath::{Served, Wish, task};
use crate::plan::{Desired, ServiceReport};
use crate::shared_map::SharedMap;
use crate::shell::health::{self, Health, Proxy, Refused};
use crate::source::{self, Batch};
use crate::world::{ServiceRef, World};

/// How long a start waits at least for the maps before it begins to speak. Peers that keep routes over a restart are told what
/// there is once, and drop the rest; so it should be there by then.
const FIRST_REPORT: Duration = Duration::from_secs(20);

/// The loop's end. When it goes, the thread ends too.
pub(super) struct Balancer {
    mailbox: Arc<Mailbox>,
    pub(super) reports: watch::Receiver<Arc<Report>>,
    /// What was handed over last.
    wish: Option<Wish>,
    /// By which addresses were granted last.
    granted: SharedMap<ServiceRef, ServiceReport>,
    /// Not handed over yet.
    changes: Vec<(Subject, Change)>,
    /// The letter that switched it on: reports from before say nothing.
    since: u64,
    health: watch::Sender<Arc<Health>>,
    pub(super) refused: mpsc::Receiver<Refused>,
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.mailbox.close();
    }
}

impl Balancer {
    /// Starts the thread, which does nothing yet.
    pub(super) fn start(tasks: &mut JoinSet<(&'static str, Result<(), JoinError>)>) -> Self {
        let mailbox = Arc::new(Mailbox::default());
        let (out, reports) = watch::channel(Arc::default());
        let inside = Arc::clone(&mailbox);
        tasks.spawn(async move {
            let thread = tokio::task::spawn_blocking(move || task::run(&inside, &out));
            ("datapath", thread.await)
        });
        let (health, asked) = watch::channel(Arc::default());
        let (tell, refused) = mpsc::channel(1);
        tasks.spawn(async move {
            health::run(asked, tell).await;
            ("health checks", Ok(()))
        });
        Self {
            health,
            refused,
            mailbox,
            reports,
            wish: None,
            granted: SharedMap::new(),
            changes: Vec::new(),
            since: 0,
        }
    }

    pub(super) fn close(&self) {
        self.mailbox.close();
    }

    fn is_on(&self) -> bool {
        self.wish
            .as_ref()
            .is_some_and(|wish| wish.config.switch == Switch::On)
    }

    /// Objects that changed; they wait for [`Self::hand_over`].
    pub(super) fn take(&mut self, batch: &Batch) {
        if !self.is_on() {
            return;
        }
        self.changes
            .extend(batch.changes.iter().filter_map(|change| match change {
                source::Change::Applied(object) => objects::applied(object),
                source::Change::Deleted(reference) => objects::deleted(reference),
            }));
    }

    /// Whether something would be taken away from clients.
    fn takes_away(&self, desired: &Desired) -> bool {
        let gone = |(_, change): &(Subject, Change)| matches!(change, Change::ServiceGone(_));
        self.changes.iter().any(gone)
            || objects::regranted(&self.granted, &desired.services)
                .iter()
                .any(|change| !change.before.is_subset(&change.after))
    }

    /// Hands over what is new.
    pub(super) fn hand_over(&mut self, world: &World, config: &Config, desired: &Desired) {
        let was_on = self.is_on();
        let wish = Wish {
            config: config.datapath.clone(),
            node: objects::me(world),
            devices: Arc::clone(&world.observed.devices),
        };
        if wish.config.switch == Switch::Off {
            if was_on {
                self.granted = SharedMap::new();
                self.changes.clear();
                self.since = self.mailbox.put([], Some(wish.clone()));
                self.wish = Some(wish);
            }
            return;
        }
        let mut changes = std::mem::take(&mut self.changes);
        if !was_on {
            self.granted = SharedMap::new();
            changes = objects::all(&world.objects).collect();
        }
        let regranted = objects::regranted(&self.granted, &desired.services).into_iter();
        changes.extend(regranted.map(objects::Regranted::change));
        self.granted = desired.services.clone();
        let new = self.wish.as_ref() != Some(&wish);
        if changes.is_empty() && !new {
            return;
        }
        let number = self.mailbox.put(changes, new.then(|| wish.clone()));
        self.wish = Some(wish);
        if !was_on {
            self.since = number;
        }
    }

    /// What health checks are told.
    pub(super) fn tell_health(&self, config: &Config, desired: &Desired) {
        let on = self.is_on();
        let proxy = match self.reports.borrow().state {
            State::On => Proxy::Well,
            State::Off | State::Starting | State::Broken => Proxy::Unwell,
        };
        let health = Health {
            proxy,
            services: desired.health_checks.clone(),
            healthz: config.datapath.healthz.filter(|_| on),
            proxy_mode: config.datapath.proxy_mode.filter(|_| on),
        };
        self.health.send_if_modified(|told| {
            let differs = **told != health;
            *told = Arc::new(health);
            differs
        });
    }

    /// The last report. What was off when it was written is starting, once it is switched on.
    fn latest(&self) -> Arc<Report> {
        let report = Arc::clone(&self.reports.borrow());
        if !self.is_on() || report.number >= self.since || report.state != State::Off {
            return report;
        }
        Arc::new(Report {
            state: State::Starting,
            ..(*report).clone()
        })
    }

    /// What is served, as of the last report; `None`: it says nothing about that yet.
    fn served(&mut self) -> Option<Served> {
        let report = Arc::clone(&self.reports.borrow_and_update());
        if report.number < self.since {
            return None;
        }
        Some(match report.state {
            State::Off => Served::ByOthers,
            State::Starting | State::On | State::Broken => Served::Here(Arc::clone(&report.served)),
        })
    }

    /// Before the first word to a peer: everything is handed over, and what comes of it is awaited.
    /// `left`: how long peers still hold routes of the last run.
    pub(super) async fn begin(
        &mut self,
        world: &mut World,
        config: &Config,
        left: impl Fn(&SpeakerConfig) -> Option<Duration>,
    ) {
        if config.datapath.switch == Switch::Off {
            return;
        }
        world.observed.served = Served::Here(Arc::default());
        let desired = tokio::task::block_in_place(|| config.plan(world));
        self.hand_over(world, config, &desired);
        let since = self.since;
        let first = self.reports.wait_for(|report| report.number >= since);
        if timeout(patience(left(&desired.speaker)), first).await.is_err() {
            tracing::warn!(
                "the load balancer in the kernel is not ready yet; addresses are announced when it is"
            );
        }
        if let Some(served) = self.served() {
            world.observed.served = served;
        }
    }
}

/// While peers hold routes of the last run, and the kernel serves what it served, nothing is gained by speaking early. A
/// quarter of that time is for sessions to come up.
fn patience(left: Option<Duration>) -> Duration {
    FIRST_REPORT.max(left.unwrap_or_default() / 4 * 3)
}

impl Agent {
    /// After the speaker has its new configuration. What is to go is withdrawn first: the speaker answers when it has
    /// taken the configuration in.
    pub(super) async fn balance(&mut self) {
        if self.balancer.is_on() && self.balancer.takes_away(&self.desired) {
            // One that does not answer is noticed elsewhere, and dead addresses are nothing to wait for.
            let _ = timeout(ANSWER_LIMIT, self.speaker.peers()).await;
        }
        self.balancer.hand_over(&self.world, &self.config, &self.desired);
        self.balancer.tell_health(&self.config, &self.desired);
    }

    /// The datapath has reported; whether a plan is needed.
    pub(super) fn reported(&mut self) -> bool {
        let served = self.balancer.served();
        if let Some(served) = served
            && served != self.world.observed.served
        {
            self.world.observed.served = served;
            return true;
        }
        self.balancer.tell_health(&self.config, &self.desired);
        self.publish();
        false
    }

    pub(super) fn report(&self) -> Arc<Report> {
        self.balancer.latest()
    }

    /// Its problems, with the places of the objects, but for those that are known already.
    pub(super) fn balancer_problems(&self, report: &Report) -> Vec<crate::problem::Problem> {
        let known: BTreeSet<_> = self
            .desired
            .problems
            .iter()
            .chain(&self.world.source_problems)
            .map(|problem| (&problem.object, problem.reason))
            .collect();
        let new = report.problems.iter().filter(|problem| {
            problem.object.is_none() || !known.contains(&(&problem.object, problem.reason))
        });
        new.map(|problem| {
            let mut problem = problem.clone();
            let object = problem.object.as_ref();
            if let Some(parsed) = object.and_then(|object| self.world.objects.get(object)) {
                problem.file = Some(parsed.file.to_path_buf());
                problem.line = parsed.line;
            }
            problem
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_restart_waits_for_the_maps_as_long_as_peers_keep_its_routes() {
        assert_eq!(patience(None), FIRST_REPORT);
        assert_eq!(patience(Some(Duration::ZERO)), FIRST_REPORT);
        assert_eq!(patience(Some(Duration::from_secs(120))), Duration::from_secs(90));
    }

    #[test]
    fn what_is_switched_on_is_starting_until_it_reports() {
        let (out, reports) = watch::channel(Arc::new(Report::default()));
        let mut balancer = Balancer {
            mailbox: Arc::default(),
            reports,
            wish: None,
            granted: SharedMap::new(),
            changes: Vec::new(),
            since: 0,
            health: watch::channel(Arc::default()).0,
            refused: mpsc::channel(1).1,
        };
        assert_eq!(balancer.latest().state, State::Off);
        let mut config = Config::default();
        config.datapath.switch = Switch::On;
        balancer.hand_over(&World::new("n"), &config, &Desired::default());
        assert_eq!(balancer.latest().state, State::Starting);
        out.send_replace(Arc::new(Report {
            state: State::Broken,
            number: balancer.since,
            ..Report::default()
        }));
        assert_eq!(balancer.latest().state, State::Broken);
    }
}
