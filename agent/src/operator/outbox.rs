//! What is to be written, what is under way, and when the rest may go.
//!
//! ```text
//!   Planned(all writes) --> waiting --budget, at most LANES--> Send --> Done: written or refused: known to be old
//!                              ^                                        |
//!                              +------------- after a pause ------------+ failed
//! ```
//!
//! - A plan replaces the one before: what nobody wants any more is not sent.
//! - What was written over a version is not written over that version again: the plan was made before the news of the
//!   write arrived. The same when the API server refused it, because the object is not what it was; its news is on the
//!   way, and leads to a new plan.
//! - One target has one write under way.
//! - A write that failed is tried again, ever less often. It keeps no other write from being sent.
//!
//! No news costs a look at all that waits: there may be ten thousand.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::plan::write::{Basis, Target, Write};
use crate::config::operator::Budget;

/// Writes under way at once.
const LANES: usize = 16;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

#[derive(Debug)]
pub enum Input {
    /// Everything that is wanted now.
    Planned(Vec<Write>),
    /// What is wanted of these targets, if anything; of all others the same as before.
    Replanned(Vec<(Target, Option<Write>)>),
    Done {
        target: Target,
        outcome: Outcome,
    },
    /// News may have been missed: what was refused is tried once more.
    Resync,
    TimedOut,
}

/// What became of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Written,
    /// The object is not what the plan saw.
    Outdated,
    /// Not done, and why.
    Failed(String),
}

#[derive(Debug)]
pub struct Outbox {
    bucket: Bucket,
    waiting: BTreeMap<Target, Write>,
    /// Of what waits, what may be sent and never failed.
    fresh: BTreeSet<Target>,
    /// Of what waits, what may be sent when its pause is over.
    paused: BTreeSet<(Instant, Target)>,
    under_way: BTreeMap<Target, Basis>,
    /// Over which states was written, as long as plans are still made on them.
    old: BTreeMap<Target, Basis>,
    failed: BTreeMap<Target, Failed>,
}

#[derive(Debug)]
struct Failed {
    times: u32,
    again: Instant,
}

impl Outbox {
    #[must_use]
    pub fn new(now: Instant, budget: Budget) -> Self {
        Self {
            bucket: Bucket::new(now, budget),
            waiting: BTreeMap::new(),
            fresh: BTreeSet::new(),
            paused: BTreeSet::new(),
            under_way: BTreeMap::new(),
            old: BTreeMap::new(),
            failed: BTreeMap::new(),
        }
    }

    /// `out`: writes to send now.
    pub fn handle(&mut self, now: Instant, input: Input, out: &mut Vec<Write>) {
        match input {
            Input::Planned(writes) => {
                let mut wanted: BTreeMap<Target, Option<Write>> =
                    self.waiting.keys().map(|target| (target.clone(), None)).collect();
                // Of targets of which nothing is wanted something may be known, too.
                wanted.extend(
                    self.old
                        .keys()
                        .chain(self.failed.keys())
                        .map(|target| (target.clone(), None)),
                );
                wanted.extend(
                    writes
                        .into_iter()
                        .map(|write| (write.target.clone(), Some(write))),
                );
                for (target, write) in wanted {
                    self.want(target, write);
                }
            }
            Input::Replanned(changed) => {
                for (target, write) in changed {
                    self.want(target, write);
                }
            }
            Input::Done { target, outcome } => self.done(now, target, &outcome),
            Input::Resync => {
                for target in std::mem::take(&mut self.old).into_keys() {
                    self.sort_in(&target);
                }
            }
            Input::TimedOut => {}
        }
        self.send(now, out);
    }

    /// When something can be sent that can not be sent now.
    #[must_use]
    pub fn next_timeout(&self, now: Instant) -> Option<Instant> {
        if self.under_way.len() >= LANES {
            return None;
        }
        let first = match (self.fresh.is_empty(), self.paused.first()) {
            (false, _) => now,
            (true, Some((again, _))) => *again,
            (true, None) => return None,
        };
        Some(first.max(self.bucket.next(now)))
    }

    /// Writes that are wanted and not done.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.fresh.len() + self.paused.len() + self.under_way.len()
    }

    /// Of these, those that failed at least once.
    #[must_use]
    pub fn failing(&self) -> usize {
        self.failed.len()
    }

    fn want(&mut self, target: Target, write: Option<Write>) {
        let is_under_way = self.under_way.contains_key(&target);
        // Plans see the write: its state is not planned on any more.
        let is_seen = |basis: &Basis| write.as_ref().is_none_or(|write| write.basis != *basis);
        if !is_under_way && self.old.get(&target).is_some_and(is_seen) {
            self.old.remove(&target);
        }
        if !is_under_way && write.is_none() {
            self.unsort(&target);
            self.failed.remove(&target);
        }
        match write {
            Some(write) => self.waiting.insert(target.clone(), write),
            None => self.waiting.remove(&target),
        };
        self.sort_in(&target);
    }

    /// Whether it may be sent, and when, follows from all else that is known of it.
    fn sort_in(&mut self, target: &Target) {
        self.unsort(target);
        let Some(write) = self.waiting.get(target) else {
            return;
        };
        if self.under_way.contains_key(target) || self.old.get(target) == Some(&write.basis) {
            return;
        }
        match self.failed.get(target) {
            Some(failed) => self.paused.insert((failed.again, target.clone())),
            None => self.fresh.insert(target.clone()),
        };
    }

    fn unsort(&mut self, target: &Target) {
        self.fresh.remove(target);
        if let Some(failed) = self.failed.get(target) {
            self.paused.remove(&(failed.again, target.clone()));
        }
    }

    fn done(&mut self, now: Instant, target: Target, outcome: &Outcome) {
        let Some(basis) = self.under_way.remove(&target) else {
            return;
        };
        match outcome {
            Outcome::Written | Outcome::Outdated => {
                self.failed.remove(&target);
                self.old.insert(target.clone(), basis);
            }
            // Nobody wants it any more.
            Outcome::Failed(_) if !self.waiting.contains_key(&target) => {
                self.failed.remove(&target);
            }
            Outcome::Failed(_) => {
                let times = self.failed.get(&target).map_or(0, |failed| failed.times);
                let pause = FIRST_PAUSE.saturating_mul(1 << times.min(16)).min(LONGEST_PAUSE);
                let failed = Failed {
                    times: times.saturating_add(1),
                    again: now + pause,
                };
                self.failed.insert(target.clone(), failed);
            }
        }
        self.sort_in(&target);
    }

    fn send(&mut self, now: Instant, out: &mut Vec<Write>) {
        while self.under_way.len() < LANES {
            let due = self.paused.first().filter(|(again, _)| *again <= now);
            let due = due.map(|(_, target)| target);
            let Some(target) = self.fresh.first().or(due).cloned() else {
                return;
            };
            if !self.bucket.take(now) {
                return;
            }
            self.unsort(&target);
            let Some(write) = self.waiting.get(&target) else {
                continue;
            };
            // It stays in `waiting` until it is done: who fails is tried again.
            self.under_way.insert(target, write.basis.clone());
            out.push(write.clone());
        }
    }
}

/// So many at once, and then so many in a second.
#[derive(Debug)]
pub struct Bucket {
    budget: Budget,
    tokens: f64,
    at: Instant,
}

impl Bucket {
    #[must_use]
    pub fn new(now: Instant, budget: Budget) -> Self {
        Self {
            budget,
            tokens: f64::from(budget.burst),
            at: now,
        }
    }

    /// Takes one, if there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        self.tokens = self.level(now);
        self.at = self.at.max(now);
        let has = self.tokens >= 1.0;
        if has {
            self.tokens -= 1.0;
        }
        has
    }

    fn level(&self, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        (self.tokens + passed * f64::from(self.budget.rate)).min(f64::from(self.budget.burst))
    }

    /// When there is one.
    fn next(&self, now: Instant) -> Instant {
        let lacking = (1.0 - self.level(now)).max(0.0);
        // A moment more than it takes: rounding must not wake anybody in vain.
        let wait = Duration::from_secs_f64(lacking / f64::from(self.budget.rate));
        if wait.is_zero() {
            now
        } else {
            now + wait + Duration::from_micros(1)
        }
    }
}

#[cfg(test)]
mod tests {
    use crds::{Kind, ObjectRef};
    use serde_json::json;

    use super::super::plan::write::{Order, Part};
    use super::*;

    fn write(name: &str, version: &str) -> Write {
        Write {
            target: Target {
                object: ObjectRef::namespaced(Kind::Service, "ns", name),
                part: Part::Status,
            },
            basis: Basis::Version(version.to_owned()),
            order: Order::Merge(json!({}).into()),
            notes: Vec::new(),
        }
    }

    struct Bench {
        outbox: Outbox,
        now: Instant,
    }

    impl Bench {
        fn new(rate: u32, burst: u32) -> Self {
            let now = Instant::now();
            Self {
                outbox: Outbox::new(now, Budget { rate, burst }),
                now,
            }
        }

        /// `name@version` of what is sent.
        fn give(&mut self, input: Input) -> Vec<String> {
            let mut out = Vec::new();
            self.outbox.handle(self.now, input, &mut out);
            let shown = |write: Write| match write.basis {
                Basis::Absent => write.target.object.name,
                Basis::Version(version) => format!("{}@{version}", write.target.object.name),
            };
            out.into_iter().map(shown).collect()
        }

        fn plan(&mut self, writes: &[(&str, &str)]) -> Vec<String> {
            let writes = writes.iter().map(|(name, version)| write(name, version));
            self.give(Input::Planned(writes.collect()))
        }

        /// Of these targets only.
        fn replan(&mut self, writes: &[(&str, Option<&str>)]) -> Vec<String> {
            let changed = writes.iter().map(|(name, version)| {
                let write = version.map(|version| write(name, version));
                (tests::write(name, "").target, write)
            });
            self.give(Input::Replanned(changed.collect()))
        }

        fn done(&mut self, name: &str, outcome: Outcome) -> Vec<String> {
            let target = write(name, "").target;
            self.give(Input::Done { target, outcome })
        }
    }

    #[test]
    fn what_was_written_is_not_written_again_over_the_same_version() {
        let mut bench = Bench::new(100, 100);
        assert_eq!(bench.plan(&[("a", "1")]), ["a@1"]);
        // Planned again while it is under way, and after it was done and before anybody heard of it.
        assert!(bench.plan(&[("a", "1")]).is_empty());
        assert!(bench.done("a", Outcome::Written).is_empty());
        assert!(bench.plan(&[("a", "1"), ("b", "1")]) == ["b@1"]);
        assert_eq!(bench.plan(&[("a", "2")]), ["a@2"]);
    }

    #[test]
    fn a_plan_on_the_news_of_a_write_waits_for_its_answer_and_goes_then() {
        let mut bench = Bench::new(100, 100);
        bench.plan(&[("a", "1")]);
        assert!(bench.plan(&[("a", "2")]).is_empty());
        assert_eq!(bench.done("a", Outcome::Written), ["a@2"]);
    }

    #[test]
    fn a_refused_write_waits_for_news_and_a_failed_one_for_a_while() {
        let mut bench = Bench::new(100, 100);
        bench.plan(&[("a", "1"), ("b", "1")]);
        assert!(bench.done("a", Outcome::Outdated).is_empty());
        assert!(bench.plan(&[("a", "1"), ("b", "1")]).is_empty());
        assert_eq!(bench.give(Input::Resync), ["a@1"]);
        bench.done("a", Outcome::Outdated);
        assert!(bench.done("b", Outcome::Failed("no".to_owned())).is_empty());
        let again = bench.outbox.next_timeout(bench.now).unwrap();
        assert_eq!(again - bench.now, FIRST_PAUSE);
        bench.now = again;
        assert_eq!(bench.give(Input::TimedOut), ["b@1"]);
        bench.done("b", Outcome::Failed("no".to_owned()));
        let later = bench.outbox.next_timeout(bench.now).unwrap();
        assert_eq!(later - bench.now, FIRST_PAUSE * 2);
        assert_eq!((bench.outbox.pending(), bench.outbox.failing()), (1, 1));
    }

    #[test]
    fn what_nobody_wants_any_more_is_not_sent() {
        let mut bench = Bench::new(1, 1);
        assert_eq!(bench.plan(&[("a", "1"), ("b", "1")]), ["a@1"]);
        assert!(bench.plan(&[("a", "1")]).is_empty());
        bench.done("a", Outcome::Written);
        bench.now += Duration::from_secs(60);
        assert!(bench.give(Input::TimedOut).is_empty());
        assert_eq!(bench.outbox.next_timeout(bench.now), None);
    }

    #[test]
    fn a_plan_of_some_targets_leaves_the_others_as_they_are() {
        let mut bench = Bench::new(2, 2);
        assert_eq!(bench.plan(&[("a", "1"), ("b", "1"), ("c", "1")]), ["a@1", "b@1"]);
        bench.done("a", Outcome::Written);
        bench.done("b", Outcome::Failed("no".to_owned()));
        assert_eq!((bench.outbox.pending(), bench.outbox.failing()), (2, 1));
        bench.replan(&[("b", None), ("d", Some("7"))]);
        assert_eq!((bench.outbox.pending(), bench.outbox.failing()), (2, 0));
        bench.now += Duration::from_secs(60);
        assert_eq!(bench.give(Input::TimedOut), ["c@1", "d@7"]);
        // Written and not seen yet: over that version nothing is sent, over the next one it is.
        bench.done("c", Outcome::Written);
        bench.now += Duration::from_secs(60);
        assert!(bench.replan(&[("c", Some("1")), ("a", Some("1"))]).is_empty());
        assert_eq!(bench.replan(&[("c", Some("2"))]), ["c@2"]);
    }

    #[test]
    fn what_failed_and_is_wanted_no_longer_is_forgotten() {
        let mut bench = Bench::new(10, 10);
        bench.plan(&[("a", "1")]);
        bench.replan(&[("a", None)]);
        bench.done("a", Outcome::Failed("no".to_owned()));
        assert_eq!((bench.outbox.pending(), bench.outbox.failing()), (0, 0));
        assert_eq!(bench.outbox.next_timeout(bench.now), None);
        assert_eq!(bench.replan(&[("a", Some("1"))]), ["a@1"]);
    }

    #[test]
    fn no_more_is_sent_than_the_budget_and_the_lanes_allow() {
        let mut bench = Bench::new(10, 3);
        let names: Vec<String> = (0..100).map(|n| format!("s{n:03}")).collect();
        let writes: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
        let mut sent = bench.plan(&writes);
        assert_eq!(sent.len(), 3);
        let start = bench.now;
        while sent.len() < 100 {
            let name = sent.last().unwrap().split('@').next().unwrap().to_owned();
            sent.extend(bench.done(&name, Outcome::Written));
            if let Some(next) = bench.outbox.next_timeout(bench.now) {
                bench.now = next;
                sent.extend(bench.give(Input::TimedOut));
            } else {
                let open: Vec<String> = bench
                    .outbox
                    .under_way
                    .keys()
                    .map(|t| t.object.name.clone())
                    .collect();
                for name in open {
                    sent.extend(bench.done(&name, Outcome::Written));
                }
            }
        }
        let took = bench.now - start;
        assert!(took >= Duration::from_millis(9_600), "{took:?}");
        assert!(took <= Duration::from_millis(10_500), "{took:?}");
        sent.sort();
        sent.dedup();
        assert_eq!(sent.len(), 100);
    }
}
