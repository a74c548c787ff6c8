//! `stentor operator`: one for the cluster, and as many replicas as one likes.
//!
//! ```text
//!   Lease --> Elector --> this replica acts, until then
//!                              |
//!   API server --watches--> World --> reconcile (pure) --> writes --> Outbox (pure) --> API server
//!                              ^                                          |
//!                              +------------ what came of it -------------+
//! ```
//!
//! A replica knows nothing while it waits. When it begins to act it reads everything, and plans for the first time when
//! every list is whole; so to begin is to go on. Every write names the version it was planned on: one that comes late, from
//! whomever, changes nothing.

pub mod definitions;
mod metrics;
pub mod outbox;
mod pace;
pub mod plan;
mod run;
mod serve;
mod term;

pub use run::{StartError, start};

/// Name and kind of everything an operator may serve.
#[cfg(test)]
pub(crate) fn families() -> std::collections::BTreeMap<String, String> {
    let mut state = run::State::new(std::time::Instant::now());
    state.report.lb_ipam = Some(crate::plan::LbIpamReport::default());
    crate::metrics::exposition::families(&metrics::page(&state))
}
