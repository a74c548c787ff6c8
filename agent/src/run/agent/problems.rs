//! Everything wrong now, by who found it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use crds::Kind;

use crate::plan::Desired;
use crate::problem::{Problem, Severity};
use crate::shell::health::Refused;
use crate::shell::netlink::{Action, Failed};
use crate::world::World;

/// Of more new problems than this at once the log tells the number: `stentor status` lists them all.
const LOGGED_AT_ONCE: usize = 50;

/// Logs what came and what went. Both lists are in order.
pub(super) fn log_news(before: &[Problem], now: &[Problem]) {
    let old: BTreeSet<&Problem> = before.iter().collect();
    let new: BTreeSet<&Problem> = now.iter().collect();
    for problem in new.difference(&old).take(LOGGED_AT_ONCE) {
        let Problem {
            file,
            line,
            object,
            field,
            reason,
            message,
            severity,
        } = problem;
        let file = file.as_ref().map(|file| file.display().to_string());
        let object = object.as_ref().map(ToString::to_string);
        match severity {
            Severity::Error => tracing::error!(reason, file, line, object, field, "{message}"),
            Severity::Warning => tracing::warn!(reason, file, line, object, field, "{message}"),
        }
    }
    let unlogged = new.difference(&old).skip(LOGGED_AT_ONCE).count();
    if unlogged > 0 {
        tracing::warn!(unlogged, "there are more problems: see `stentor status`");
    }
    let solved = old.difference(&new).count();
    if solved > 0 {
        tracing::info!(solved, left = now.len(), "problems are solved");
    }
}

/// Problems beside those of the folder and of the plan.
#[derive(Debug, Default)]
pub(super) struct Problems {
    config: Vec<Problem>,
    netlink: Option<Problem>,
    discards: Vec<Problem>,
    health_checks: Vec<Problem>,
    reports: Vec<Problem>,
    /// Of the state folder, by what could not be written.
    written: BTreeMap<&'static str, Problem>,
}

impl Problems {
    pub(super) fn config(&mut self, problems: Vec<Problem>) {
        self.config = problems;
    }

    pub(super) fn netlink(&mut self, error: Option<&String>) {
        self.netlink = error.map(|error| {
            Problem::here(
                Severity::Error,
                "netlink-unusable",
                format!(
                    "the kernel's routes and links can not be followed: {error}; auto-discovery and discard routes do \
                     not work"
                ),
            )
        });
    }

    pub(super) fn discards(&mut self, failed: &[Failed]) {
        let problem = |failed: &Failed| {
            let verb = match failed.action {
                Action::Add => "made",
                Action::Remove => "removed",
            };
            Problem::here(
                Severity::Error,
                "discard-route-failed",
                format!(
                    "the blackhole route for the aggregate {} can not be {verb}: {}; it is tried again (CAP_NET_ADMIN \
                     is needed)",
                    failed.prefix, failed.error
                ),
            )
        };
        self.discards = failed.iter().map(problem).collect();
    }

    pub(super) fn reports(&mut self, refused: &BTreeMap<Kind, String>) {
        let problem = |(kind, why): (&Kind, &String)| {
            let cost = match kind {
                Kind::CiliumNode => {
                    "the load balancer goes on, only Services that do not fit into its maps do not say so in their conditions"
                }
                _ => "sessions and routes go on, only `kubectl get cbgpnode` does not show them",
            };
            Problem::here(
                Severity::Warning,
                "report-refused",
                format!("the API server does not take the status of this node's {kind}: {why}; {cost}"),
            )
        };
        self.reports = refused.iter().map(problem).collect();
    }

    pub(super) fn health_checks(&mut self, refused: &Refused) {
        let problem = |(address, error): (&SocketAddr, &String)| {
            Problem::here(
                Severity::Error,
                "health-check-port-refused",
                format!(
                    "health checks can not be answered at {address}: {error}; it is tried again (is kube-proxy still running?)"
                ),
            )
        };
        self.health_checks = refused.iter().map(problem).collect();
    }

    /// Whether something changed.
    pub(super) fn written(&mut self, what: &'static str, problem: Option<Problem>) -> bool {
        let before = match &problem {
            Some(problem) => self.written.insert(what, problem.clone()),
            None => self.written.remove(what),
        };
        before != problem
    }

    /// All of them, in the order people read.
    pub(super) fn all(&self, world: &World, desired: &Desired, of_balancer: Vec<Problem>) -> Vec<Problem> {
        let all: BTreeSet<Problem> = self
            .config
            .iter()
            .chain(&self.netlink)
            .chain(&self.discards)
            .chain(&self.health_checks)
            .chain(&self.reports)
            .chain(self.written.values())
            .chain(&world.source_problems)
            .chain(&desired.problems)
            .cloned()
            .chain(of_balancer)
            .collect();
        all.into_iter().collect()
    }
}
