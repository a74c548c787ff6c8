//! From the day a replica has the Lease to the day it has not: definitions, then read, plan, write.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crds::ObjectRef;
use crds::k8s_openapi::jiff::Timestamp;
use kube::Client;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, sleep_until};

use super::outbox::{Bucket, Input, Outbox, Outcome};
use super::pace::Pace;
use super::plan::write::{Note, Target, Write};
use super::plan::{Keyed, Part, Writes, kinds};
use super::run::{State, change, random};
use crate::config::Config;
use crate::config::operator::Budget;
use crate::shell::definitions::{NotInstalled, install};
use crate::shell::lease::Standing;
use crate::shell::memory;
use crate::shell::writes::{carry_out, tell};
use crate::source::Change;
use crate::source::kube::{Cluster, ClusterError, OperatorScope, start_operator};
use crate::world::World;

/// Of a write. It also ends with the time this replica may act.
const ANSWER: Duration = Duration::from_secs(10);
/// What failed for good, or was refused without news, is looked at again this often.
const RESYNC: Duration = Duration::from_secs(60);
/// Definitions that could not be written are tried again, ever less often.
const DEFINITIONS_AGAIN: [u64; 5] = [1, 2, 5, 15, 60];
/// Failed writes are logged this far apart.
const COMPLAINTS: Duration = Duration::from_secs(10);
/// Events: so many at once, then so many in a second.
const EVENTS: Budget = Budget { rate: 5, burst: 100 };
/// Events under way to the API server.
const EVENT_QUEUE: usize = 100;

/// Who installs definitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Definitions {
    Ours,
    OfOthers,
}

/// What a term begins with.
#[derive(Debug)]
pub(super) struct Term {
    pub(super) cluster: Cluster,
    pub(super) config: Config,
    pub(super) me: String,
    pub(super) definitions: Definitions,
    pub(super) state: watch::Sender<Arc<State>>,
}

/// News of a write under way.
type Done = (Target, Outcome, Vec<Note>);

impl Term {
    /// Returns when this replica may act no longer.
    ///
    /// # Errors
    /// [`ClusterError::Credentials`]
    pub(super) async fn run(&self, mut standing: watch::Receiver<Standing>) -> Result<(), ClusterError> {
        let client = self.cluster.clone().client()?;
        let mut side = JoinSet::new();
        let (events, queue) = mpsc::channel(EVENT_QUEUE);
        side.spawn(event_writer(
            client.clone(),
            queue,
            self.me.clone(),
            self.state.clone(),
        ));
        match self.definitions {
            Definitions::Ours => {
                // Kinds that are not served yet would be followed only a while later.
                let failed = tokio::select! {
                    failed = install(&client) => failed,
                    () = lost(standing.clone()) => return Ok(()),
                };
                if !failed.is_empty() {
                    side.spawn(definitions(client.clone(), failed));
                }
            }
            Definitions::OfOthers => {}
        }
        let scope = OperatorScope {
            kinds: kinds(&self.config),
            secrets_namespace: self.config.options.secrets_namespace.clone(),
        };
        let (rescan, mut batches, source) = start_operator(self.cluster.clone(), &scope)?;
        let mut work = Work {
            world: World::new(""),
            planner: Keyed::default(),
            changed: BTreeSet::new(),
            outbox: Outbox::new(Instant::now(), self.config.operator.budget),
            sends: JoinSet::new(),
            events,
            event_budget: Bucket::new(Instant::now(), EVENTS),
            plan_at: None,
            pace: Pace::new(Instant::now()),
            term: self,
            client,
            told_off: Vec::new(),
            complained: (None, 0),
        };
        let mut resync = interval(RESYNC);
        resync.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while let Some(until) = may_act(&standing) {
            let now = Instant::now();
            let wake = [work.outbox.next_timeout(now), work.plan_at]
                .into_iter()
                .flatten()
                .min();
            let input = tokio::select! {
                changed = standing.changed() => if changed.is_err() { break } else { continue },
                () = sleep_until(until.into()) => continue,
                batch = batches.recv() => match batch {
                    Some(batch) => {
                        let first = work.world.objects.iter().next().is_none() && work.plan_at.is_none();
                        if first {
                            tracing::info!(objects = batch.changes.len(), "everything was read");
                        }
                        work.changed.extend(batch.changes.iter().map(|change| match change {
                            Change::Applied(parsed) => parsed.reference.clone(),
                            Change::Deleted(reference) => reference.clone(),
                        }));
                        work.world.take(batch);
                        work.plan_at = Some(work.pace.next(now));
                        None
                    }
                    // Only a defect ends it, and its task says which.
                    None => break,
                },
                Some(done) = work.sends.join_next() => match done {
                    Ok(done) => Some(work.done(done)),
                    Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                    Err(_) => continue,
                },
                _ = resync.tick() => Some(Input::Resync),
                () = sleep_until(wake.unwrap_or(now).into()), if wake.is_some() => Some(Input::TimedOut),
            };
            work.step(input, until);
        }
        drop((rescan, batches));
        drop(work);
        if let Err(error) = source.await
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
        Ok(())
    }
}

/// Until when, if at all.
fn may_act(standing: &watch::Receiver<Standing>) -> Option<Instant> {
    match &*standing.borrow() {
        Standing::Holder { until } if *until > Instant::now() => Some(*until),
        Standing::Holder { .. } | Standing::Candidate { .. } => None,
    }
}

/// Comes back when this replica may act no longer.
async fn lost(mut standing: watch::Receiver<Standing>) {
    while let Some(until) = may_act(&standing) {
        tokio::select! {
            changed = standing.changed() => if changed.is_err() { return },
            () = sleep_until(until.into()) => {}
        }
    }
}

struct Work<'a> {
    term: &'a Term,
    client: Client,
    world: World,
    planner: Keyed,
    /// Since the last plan.
    changed: BTreeSet<ObjectRef>,
    outbox: Outbox,
    sends: JoinSet<Done>,
    events: mpsc::Sender<Note>,
    event_budget: Bucket,
    /// When to plan; `None`: nothing changed, or nothing was read yet.
    plan_at: Option<Instant>,
    pace: Pace,
    told_off: Vec<Part>,
    /// When a failure was last logged, and how many were not since.
    complained: (Option<Instant>, u64),
}

impl Work<'_> {
    fn step(&mut self, input: Option<Input>, until: Instant) {
        let mut out = Vec::new();
        if let Some(input) = input {
            self.outbox.handle(Instant::now(), input, &mut out);
        }
        if self.plan_at.is_some_and(|at| at <= Instant::now()) {
            self.plan(&mut out);
        }
        for write in out {
            self.send(write, until);
        }
        let (pending, failing) = (self.outbox.pending(), self.outbox.failing());
        change(&self.term.state, |state| {
            state.alive = Instant::now();
            (state.pending, state.failing) = (pending, failing);
        });
    }

    fn plan(&mut self, out: &mut Vec<Write>) {
        let began = Instant::now();
        let changed = std::mem::take(&mut self.changed);
        let plan = self
            .planner
            .step(&self.world, &changed, &self.term.config, Timestamp::now());
        let held = &mut self.world.observed.held_vips;
        for (service, addresses) in plan.held {
            match addresses {
                Some(addresses) => held.insert(service, addresses),
                None => held.remove(&service),
            };
        }
        let took = began.elapsed();
        tracing::debug!(?took, changed = changed.len(), "planned");
        let input = match plan.writes {
            Writes::All(writes) => {
                // Objects were read for it that are not needed any more.
                memory::give_back();
                Input::Planned(writes)
            }
            Writes::Of(writes) => Input::Replanned(writes),
        };
        self.outbox.handle(began, input, out);
        self.plan_at = None;
        self.pace.planned(began, took);
        for (part, kinds) in &plan.report.off {
            if !self.told_off.contains(part) {
                let kinds: Vec<&str> = kinds.iter().map(|kind| kind.as_str()).collect();
                let kinds = kinds.join(", ");
                tracing::warn!(
                    part = part.name(),
                    kinds,
                    "this part is off: these kinds can not be read; install their definitions, or allow it"
                );
            }
        }
        self.told_off = plan.report.off.keys().copied().collect();
        change(&self.term.state, |state| {
            state.report = plan.report;
            state.planned.observe(took);
        });
    }

    fn send(&mut self, write: Write, until: Instant) {
        let client = self.client.clone();
        let limit = ANSWER.min(until.saturating_duration_since(Instant::now()));
        self.sends.spawn(async move {
            let outcome = carry_out(client, &write, limit).await;
            (write.target, outcome, write.notes)
        });
    }

    /// An API server that is away fails every write there is.
    fn failed(&mut self, target: &Target, why: &str) {
        let now = Instant::now();
        let (last, silent) = self.complained;
        if last.is_some_and(|last| now.saturating_duration_since(last) < COMPLAINTS) {
            self.complained = (last, silent + 1);
            return;
        }
        self.complained = (Some(now), 0);
        tracing::warn!(
            object = %target.object,
            part = ?target.part,
            error = why,
            more = silent,
            "a write failed; it is tried again"
        );
    }

    fn done(&mut self, (target, outcome, notes): Done) -> Input {
        let name = match &outcome {
            Outcome::Written => "written",
            Outcome::Outdated => "outdated",
            Outcome::Failed(why) => {
                self.failed(&target, why);
                "failed"
            }
        };
        change(&self.term.state, |state| {
            *state
                .writes
                .entry((target.object.kind.as_str(), name))
                .or_default() += 1;
        });
        if outcome == Outcome::Written {
            for note in notes {
                tracing::info!(object = %note.about.object, reason = note.reason, "{}", note.text);
                let sent = self.event_budget.take(Instant::now()) && self.events.try_send(note).is_ok();
                if !sent {
                    change(&self.term.state, |state| {
                        *state.events.entry("left-out").or_default() += 1
                    });
                }
            }
        }
        Input::Done { target, outcome }
    }
}

/// Tries again until all are there.
async fn definitions(client: Client, mut failed: Vec<NotInstalled>) {
    let mut told = Vec::new();
    for pause in DEFINITIONS_AGAIN.into_iter().chain(std::iter::repeat(60)) {
        if failed != told {
            for error in &failed {
                tracing::warn!(
                    name = error.name,
                    error = error.why,
                    "a definition can not be installed; it is tried again, and what is there is used"
                );
            }
            told = failed;
        }
        sleep(Duration::from_secs(pause)).await;
        failed = install(&client).await;
        if failed.is_empty() {
            tracing::info!("all definitions are there");
            return;
        }
    }
}

/// Events are for people: one that can not be written is not worth a second try.
async fn event_writer(
    client: Client,
    mut queue: mpsc::Receiver<Note>,
    me: String,
    state: watch::Sender<Arc<State>>,
) {
    let mut number = random();
    let mut told = None;
    while let Some(note) = queue.recv().await {
        number = number.wrapping_add(1);
        let written = tell(client.clone(), &note, &me, number).await;
        let outcome = match &written {
            Ok(()) => "written",
            Err(_) => "failed",
        };
        change(&state, |state| *state.events.entry(outcome).or_default() += 1);
        let why = written.err();
        if why.is_some() && why != told {
            tracing::warn!(
                error = why,
                "Events can not be written; decisions are in the log and in conditions"
            );
        }
        told = why;
    }
}
