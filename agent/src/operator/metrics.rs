//! Prometheus metrics of the operator: Cilium's names where the meaning is Cilium's.

use super::run::{Leader, State};
use crate::metrics::exposition::{Kind, Page};
use crate::metrics::{lb_ipam, process};

pub(super) fn page(state: &State) -> String {
    let mut page = Page::default();
    if let Some(report) = &state.report.lb_ipam {
        lb_ipam(&mut page, report);
    }
    let leads = match state.leader {
        Leader::Waits => 0,
        Leader::Acts => 1,
    };
    page.family(
        "stentor_operator_leader",
        Kind::Gauge,
        "Whether this replica is the one that acts.",
    );
    page.sample(&[], leads);
    page.family(
        "stentor_operator_part_off",
        Kind::Gauge,
        "Parts that are switched on and can not work because a kind can not be read.",
    );
    for (part, kinds) in &state.report.off {
        for kind in kinds {
            page.sample(&[("part", part.name()), ("kind", kind.as_str())], 1);
        }
    }
    page.family(
        "stentor_operator_writes_total",
        Kind::Counter,
        "Writes to the API server by kind and by what came of them.",
    );
    for ((kind, outcome), number) in &state.writes {
        page.sample(&[("kind", kind), ("outcome", outcome)], number);
    }
    page.family(
        "stentor_operator_writes_pending",
        Kind::Gauge,
        "Writes that are wanted and not done.",
    );
    page.sample(&[], state.pending);
    page.family(
        "stentor_operator_writes_failing",
        Kind::Gauge,
        "Of these, those that failed at least once.",
    );
    page.sample(&[], state.failing);
    page.family(
        "stentor_operator_events_total",
        Kind::Counter,
        "Kubernetes Events by what came of them; those above the rate are left out.",
    );
    for (outcome, number) in &state.events {
        page.sample(&[("outcome", outcome)], number);
    }
    page.family(
        "stentor_operator_plan_seconds",
        Kind::Histogram,
        "How long planning took.",
    );
    page.histogram(&[], &state.planned);
    process::write(&mut page);
    page.text()
}
