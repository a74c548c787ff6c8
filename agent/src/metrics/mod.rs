//! Prometheus metrics: Cilium's names and labels where the meaning is Cilium's, `stentor_...` for ours.
//!
//! Everything but a few counters is worked out when it is scraped, from the same facts as the status, so the
//! two never disagree. Two sessions with equal labels (two instances with one ASN and one neighbour) are
//! summed up instead of spoiling the scrape.

mod datapath;
pub(crate) mod exposition;
pub(crate) mod process;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bgp_speaker::speaker::{PeerStatus, StateName};
use bgp_speaker::types::Name;
use hyper::header::HeaderValue;

use crate::api::reason;
use crate::api::status::{self, Facts, Identity};
use crate::api::view::{Verdict, Vip, VipState};
use crate::config::BgpControlPlane;
use crate::plan::{Desired, LbIpamReport};

use exposition::{Histogram, Kind, Page};

/// The text format, version 0.0.4.
pub const CONTENT_TYPE_VALUE: HeaderValue =
    HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// What has to be counted while it happens.
#[derive(Debug, Default)]
pub struct Metrics(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    reconciled: BTreeMap<String, Reconciled>,
    planned: Histogram,
}

#[derive(Debug, Default)]
struct Reconciled {
    errors: u64,
    run: Histogram,
}

impl Metrics {
    /// One plan was made. Each instance was reconciled by it; each peer it can't run is an error of its
    /// instance.
    pub fn planned(&self, took: Duration, desired: &Desired) {
        let mut counted = self.counted();
        counted.planned.observe(took);
        let mut errors: BTreeMap<&Name, u64> =
            desired.speaker.instances.keys().map(|name| (name, 0)).collect();
        for report in &desired.peers {
            *errors.entry(&report.instance).or_default() += u64::from(report.not_run.is_some());
        }
        for (instance, errors) in errors {
            let reconciled = counted.reconciled.entry(instance.to_string()).or_default();
            reconciled.errors += errors;
            reconciled.run.observe(took);
        }
    }

    /// The whole page.
    #[must_use]
    pub fn exposition(&self, facts: Facts<'_>, identity: &Identity) -> String {
        let mut page = Page::default();
        sessions(&mut page, facts);
        self.reconciliation(&mut page);
        lb_ipam(&mut page, &facts.snapshot.desired.lb_ipam);
        features(&mut page, facts);
        datapath::write(&mut page, facts.snapshot);
        ours(&mut page, facts, identity);
        process::write(&mut page);
        page.text()
    }

    fn reconciliation(&self, page: &mut Page) {
        let counted = self.counted();
        page.family(
            "cilium_bgp_control_plane_reconcile_errors_total",
            Kind::Counter,
            "The number of failures of the control plane, per instance",
        );
        for (instance, reconciled) in &counted.reconciled {
            page.sample(&[("vrouter", instance)], reconciled.errors);
        }
        page.family(
            "cilium_bgp_control_plane_reconcile_run_duration_seconds",
            Kind::Histogram,
            "How long a plan took that reconciled the instance",
        );
        for (instance, reconciled) in &counted.reconciled {
            page.histogram(&[("vrouter", instance)], &reconciled.run);
        }
        page.family(
            "stentor_plan_duration_seconds",
            Kind::Histogram,
            "How long a plan took",
        );
        page.histogram(&[], &counted.planned);
    }

    /// A thread that panicked left whole numbers behind.
    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Labels of a session: local ASN, `ip:port` with IPv6 in brackets, remote ASN.
type SessionKey = (String, String, String);

fn key(peer: &PeerStatus) -> SessionKey {
    (
        peer.local_asn.to_string(),
        std::net::SocketAddr::new(peer.address, peer.port).to_string(),
        peer.remote_asn
            .map_or_else(|| "0".to_owned(), |asn| asn.to_string()),
    )
}

fn labels((vrouter, neighbor, neighbor_asn): &SessionKey) -> [(&'static str, &str); 3] {
    [
        ("vrouter", vrouter),
        ("neighbor", neighbor),
        ("neighbor_asn", neighbor_asn),
    ]
}

fn sessions(page: &mut Page, facts: Facts<'_>) {
    if facts.snapshot.config.bgp == BgpControlPlane::Disabled {
        return;
    }
    let mut states: BTreeMap<SessionKey, bool> = BTreeMap::new();
    let mut ups: BTreeMap<SessionKey, u64> = BTreeMap::new();
    let mut routes: BTreeMap<(SessionKey, String, String), (u64, u64)> = BTreeMap::new();
    let mut downs: BTreeMap<(SessionKey, &'static str), ()> = BTreeMap::new();
    for peer in facts.peers {
        let key = key(peer);
        *states.entry(key.clone()).or_insert(true) &= peer.state == StateName::Established;
        *ups.entry(key.clone()).or_default() += peer.times_established;
        for family in &peer.families {
            let (afi, safi) = crate::api::bgp::words(family.family);
            let (advertised, received) = routes.entry((key.clone(), afi, safi)).or_default();
            *advertised += u64::from(family.advertised);
            *received += u64::from(family.received);
        }
        if let Some((_, why)) = &peer.last_down {
            downs.insert((key, reason::name(why)), ());
        }
    }
    page.family(
        "cilium_bgp_control_plane_session_state",
        Kind::Gauge,
        "Current state of the BGP session with the peer, Up = 1 or Down = 0",
    );
    for (key, up) in &states {
        page.sample(&labels(key), u64::from(*up));
    }
    for (name, help, pick) in [
        (
            "cilium_bgp_control_plane_advertised_routes",
            "Number of routes advertised to the peer",
            (|counts| counts.0) as fn(&(u64, u64)) -> u64,
        ),
        (
            "cilium_bgp_control_plane_received_routes",
            "Number of routes received from the peer",
            |counts| counts.1,
        ),
    ] {
        page.family(name, Kind::Gauge, help);
        for ((key, afi, safi), counts) in &routes {
            let [a, b, c] = labels(key);
            page.sample(&[a, b, c, ("afi", afi), ("safi", safi)], pick(counts));
        }
    }
    page.family(
        "stentor_bgp_session_established_total",
        Kind::Counter,
        "How often the session came up",
    );
    for (key, times) in &ups {
        page.sample(&labels(key), *times);
    }
    page.family(
        "stentor_bgp_session_last_down_reason",
        Kind::Gauge,
        "Why the session is down, or last was; always 1",
    );
    for ((key, reason), ()) in &downs {
        let [a, b, c] = labels(key);
        page.sample(&[a, b, c, ("reason", reason)], 1);
    }
}

/// In Cilium the operator serves these.
pub(crate) fn lb_ipam(page: &mut Page, report: &LbIpamReport) {
    let conflicting = report
        .pools
        .values()
        .filter(|pool| !pool.conflicts.is_empty())
        .count();
    for (name, help, value) in [
        (
            "cilium_lbipam_conflicting_pools",
            "The number of conflicting pools",
            conflicting,
        ),
        (
            "cilium_lbipam_services_matching",
            "The number of matching services",
            report.matching,
        ),
        (
            "cilium_lbipam_services_unsatisfied",
            "The number of services which did not get requested IPs",
            report.unsatisfied,
        ),
    ] {
        page.family(name, Kind::Gauge, help);
        page.sample(&[], as_u64(value));
    }
    page.family(
        "cilium_lbipam_ips_available",
        Kind::Gauge,
        "The number of IP addresses available in the pool",
    );
    for (pool, state) in &report.pools {
        page.sample(&[("pool", pool)], state.available);
    }
    page.family(
        "cilium_lbipam_ips_used",
        Kind::Gauge,
        "The number of IP addresses used in the pool",
    );
    for (pool, state) in &report.pools {
        page.sample(&[("pool", pool)], state.used);
    }
}

/// Cilium's telemetry of what is switched on.
fn features(page: &mut Page, facts: Facts<'_>) {
    let bgp = facts.snapshot.config.bgp == BgpControlPlane::Enabled;
    for (name, on) in [
        ("cilium_feature_adv_connect_and_lb_bgp_enabled", bgp),
        ("cilium_feature_adv_connect_and_lb_l2_lb_enabled", false),
        (
            "cilium_feature_adv_connect_and_lb_l2_pod_announcement_enabled",
            false,
        ),
    ] {
        page.family(name, Kind::Gauge, "Whether the feature is enabled");
        page.sample(&[], u64::from(on));
    }
}

fn ours(page: &mut Page, facts: Facts<'_>, identity: &Identity) {
    let status = status::status(facts, identity);
    page.family(
        "stentor_build_info",
        Kind::Gauge,
        "Version of the agent; always 1",
    );
    page.sample(
        &[("version", env!("CARGO_PKG_VERSION")), ("node", &identity.node)],
        1,
    );
    page.family(
        "stentor_green",
        Kind::Gauge,
        "1 when everything that is wished for is so, as `stentor status` says",
    );
    page.sample(&[], u64::from(status.verdict == Verdict::Green));
    let counts = &status.counts;
    for (name, help, value) in [
        (
            "stentor_vip_desired",
            "Addresses of Services that should be announced from this node",
            counts.vips_desired,
        ),
        (
            "stentor_vip_announced",
            "Addresses that every peer they are meant for has",
            counts.vips_announced,
        ),
        ("stentor_objects", "Objects in force", counts.objects),
        (
            "stentor_discard_routes",
            "Aggregates announced from here, each with a blackhole route",
            counts.discard_routes,
        ),
    ] {
        page.family(name, Kind::Gauge, help);
        page.sample(&[], as_u64(value));
    }
    page.family(
        "stentor_vips_not_announced",
        Kind::Gauge,
        "Addresses that should be announced and are not (or not to every peer), by reason",
    );
    for (reason, count) in not_announced(&status.vips) {
        page.sample(&[("reason", &reason)], count);
    }
    page.family(
        "stentor_config_problems",
        Kind::Gauge,
        "Problems of the configuration",
    );
    page.sample(&[("severity", "error")], as_u64(counts.problems_error));
    page.sample(&[("severity", "warning")], as_u64(counts.problems_warning));
}

fn not_announced(vips: &[Vip]) -> BTreeMap<String, u64> {
    let mut by_reason = BTreeMap::new();
    let bad = |vip: &&Vip| matches!(vip.state, VipState::NotAnnounced | VipState::Partly);
    for vip in vips.iter().filter(bad) {
        let first = vip
            .reasons
            .first()
            .or(vip.missing.first().map(|missing| &missing.why));
        if let Some(why) = first {
            *by_reason.entry(why.reason.clone()).or_insert(0) += 1;
        }
    }
    by_reason
}

fn as_u64(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// Name and kind of everything an agent may serve, with all parts on.
#[cfg(test)]
pub(crate) fn families() -> BTreeMap<String, String> {
    let mut snapshot = crate::api::snapshot::Snapshot::default();
    snapshot.config.datapath.switch = crate::config::datapath::Switch::On;
    exposition::families(&tests::page_of(&snapshot, &[]))
}

#[cfg(test)]
mod tests;
