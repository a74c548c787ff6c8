//! The verdict on this node: what was wished for against what is.
//!
//! Nothing here trusts a wish. An address counts as announced when the Adj-RIB-Out of an established peer
//! holds a prefix for it, and a session counts when it is established.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Instant;

use bgp_speaker::config::PeerAddress;
use bgp_speaker::speaker::{PathView, PeerStatus, StateName};
use bgp_speaker::types::{Name, Prefix};

use super::reason::why as down_why;
use super::snapshot::Snapshot;
use super::view::{
    Announcement, BgpSummary, Counts, Feature, Instance, LastDown, Missing, Peer, PeerFamily, Problem,
    Status, Verdict, Vip, VipState, Why,
};
use super::{bgp, datapath};
use crate::config::BgpControlPlane;
use crate::plan::{
    AddressKind, AddressReport, Announced, ConfigOrigin, Discovery, PeerReport, Reason, ServiceReport,
};
use crate::problem::Severity;

/// The state of a peer that the speaker knows nothing of.
const NOT_RUN: &str = "not_run";

/// What is.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    pub snapshot: &'a Snapshot,
    pub peers: &'a [PeerStatus],
    /// The Adj-RIB-Out of every peer and family.
    pub advertised: &'a [PathView],
    pub now: Instant,
}

/// What does not change while the agent runs.
#[derive(Debug, Clone)]
pub struct Identity {
    pub node: String,
    pub started: Instant,
    pub features: Vec<Feature>,
}

/// The whole status.
#[must_use]
pub fn status(facts: Facts<'_>, identity: &Identity) -> Status {
    let Facts { snapshot, now, .. } = facts;
    let peers = peers(facts);
    let vips = vips(facts);
    let problems: Vec<Problem> = snapshot.problems.iter().map(Problem::from).collect();
    let counts = counts(facts, &peers, &vips);
    let because = because(facts, &peers, &vips, &counts);
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node: identity.node.clone(),
        pid: std::process::id(),
        uptime_seconds: now.saturating_duration_since(identity.started).as_secs(),
        verdict: if because.is_empty() {
            Verdict::Green
        } else {
            Verdict::NotGreen
        },
        because,
        bgp: summary(snapshot),
        datapath: datapath::datapath(snapshot),
        counts,
        features: identity.features.clone(),
        peers,
        vips,
        problems,
    }
}

/// Every peer: those the speaker runs, and those of the configuration that it does not.
#[must_use]
pub fn peers(facts: Facts<'_>) -> Vec<Peer> {
    let mut out: Vec<Peer> = facts.peers.iter().map(|status| peer(status, facts.now)).collect();
    for report in &facts.snapshot.desired.peers {
        let runs = |status: &PeerStatus| status.instance == report.instance && status.name == report.peer;
        if report.not_run.is_some() || !facts.peers.iter().any(runs) {
            out.extend(idle(facts, report));
        }
    }
    out.sort_by(|a, b| (&a.instance, &a.name, &a.address).cmp(&(&b.instance, &b.name, &b.address)));
    out
}

fn peer(status: &PeerStatus, now: Instant) -> Peer {
    let established = status.state == StateName::Established;
    Peer {
        instance: status.instance.to_string(),
        name: status.name.to_string(),
        address: Some(status.address.to_string()),
        port: Some(status.port),
        local_asn: status.local_asn.get(),
        remote_asn: status.remote_asn.map(|asn| asn.get()),
        remote_router_id: status.remote_router_id.map(|id| id.to_string()),
        local_address: status.local_address.map(|address| address.to_string()),
        state: bgp::state(status.state).to_owned(),
        uptime_seconds: status
            .established_since
            .filter(|_| established)
            .map(|since| now.saturating_duration_since(since).as_secs()),
        times_established: status.times_established,
        last_down: status.last_down.as_ref().map(|(at, reason)| LastDown {
            why: down_why(reason),
            seconds_ago: Some(now.saturating_duration_since(*at).as_secs()),
        }),
        md5: status.md5,
        graceful_restart_seconds: status.graceful_restart,
        hold_seconds: status.applied_hold,
        keepalive_seconds: status.applied_keepalive.map(|interval| interval.as_secs()),
        messages_received: status.messages_received,
        messages_sent: status.messages_sent,
        families: status
            .families
            .iter()
            .map(|family| PeerFamily {
                family: family.family.to_string(),
                negotiated: family.negotiated,
                received: family.received,
                accepted: family.accepted,
                advertised: family.advertised,
                stale: family.stale,
                end_of_rib_received: family.end_of_rib_received,
                end_of_rib_sent: family.end_of_rib_sent,
            })
            .collect(),
    }
}

/// A peer the speaker knows no session of. Live neighbours of a dynamic one are shown instead of it.
fn idle(facts: Facts<'_>, report: &PeerReport) -> Option<Peer> {
    let listens = report.not_run.is_none() && dynamic(facts, &report.instance, &report.peer).is_some();
    if listens && has_live_neighbour(facts, &report.instance, &report.peer) {
        return None;
    }
    let config = &facts.snapshot.desired.speaker;
    Some(Peer {
        instance: report.instance.to_string(),
        name: report.peer.to_string(),
        address: report.address.map(|address| address.to_string()),
        port: None,
        local_asn: config.instances.get(&report.instance).map_or(0, |i| i.asn.get()),
        remote_asn: None,
        remote_router_id: None,
        local_address: None,
        state: if listens { "listening" } else { NOT_RUN }.to_owned(),
        uptime_seconds: None,
        times_established: 0,
        last_down: not_run(facts, report).map(|why| LastDown {
            why,
            seconds_ago: None,
        }),
        md5: false,
        graceful_restart_seconds: None,
        hold_seconds: None,
        keepalive_seconds: None,
        messages_received: 0,
        messages_sent: 0,
        families: Vec::new(),
    })
}

/// Why the speaker knows nothing of a peer.
fn not_run(facts: Facts<'_>, report: &PeerReport) -> Option<Why> {
    match (&report.not_run, report.discovered) {
        (Some(reason), Discovery::Configured) => Some(why(reason)),
        (Some(reason), Discovery::DefaultGateway) => Some(Why {
            reason: reason.name().to_owned(),
            message: format!("auto-discovery of the default gateway: {reason}"),
        }),
        (None, _) if facts.snapshot.config.bgp == BgpControlPlane::Disabled => Some(disabled()),
        (None, _) => None,
    }
}

/// The prefix of a dynamic neighbour.
fn dynamic(facts: Facts<'_>, instance: &Name, peer: &Name) -> Option<Prefix> {
    let config = facts
        .snapshot
        .desired
        .speaker
        .instances
        .get(instance)?
        .peers
        .get(peer)?;
    match config.address {
        PeerAddress::Prefix { prefix, .. } => Some(prefix),
        PeerAddress::One(_) => None,
    }
}

fn has_live_neighbour(facts: Facts<'_>, instance: &Name, peer: &Name) -> bool {
    dynamic(facts, instance, peer).is_some_and(|prefix| {
        facts
            .peers
            .iter()
            .any(|status| status.instance == *instance && prefix.contains(&Prefix::host(status.address)))
    })
}

/// Addresses of Services: every LoadBalancer address, desired or had, and whatever else is announced.
#[must_use]
pub fn vips(facts: Facts<'_>) -> Vec<Vip> {
    let sent: BTreeSet<(&Name, IpAddr, Prefix)> = facts
        .advertised
        .iter()
        .filter_map(|path| Some((&path.instance, path.peer.as_ref()?.1, path.prefix)))
        .collect();
    let mut out = Vec::new();
    for report in facts.snapshot.desired.services.values() {
        for address in &report.addresses {
            if address.kind == AddressKind::LoadBalancerIp || !address.announced.is_empty() {
                out.push(vip(facts, &sent, report, address));
            }
        }
        out.extend(without_address(facts, report));
    }
    out
}

type Sent<'a> = BTreeSet<(&'a Name, IpAddr, Prefix)>;

fn vip(facts: Facts<'_>, sent: &Sent<'_>, report: &ServiceReport, address: &AddressReport) -> Vip {
    let mut announced = Vec::new();
    let mut missing = Vec::new();
    let is_disabled = facts.snapshot.config.bgp == BgpControlPlane::Disabled;
    let wishes = address.announced.iter().filter(|_| !is_disabled);
    for wish in wishes {
        match is_sent(facts, sent, wish) {
            Ok(()) => announced.push(announcement(wish)),
            Err(Some(why)) => missing.push(Missing {
                announcement: announcement(wish),
                why,
            }),
            Err(None) => {}
        }
    }
    announced.sort();
    announced.dedup();
    let reasons = if is_disabled {
        vec![disabled()]
    } else {
        address.reasons.iter().map(why).collect()
    };
    let state = match (announced.is_empty(), missing.is_empty()) {
        (false, true) => VipState::Announced,
        (false, false) => VipState::Partly,
        (true, false) => VipState::NotAnnounced,
        (true, true) => unannounced(facts, &address.reasons),
    };
    Vip {
        service: report.service.to_string(),
        address: Some(address.address.to_string()),
        kind: address.kind.as_str().to_owned(),
        state,
        retained: retained(facts, address).map(str::to_owned),
        announced,
        missing,
        reasons,
    }
}

/// The pool that retains an address.
pub(super) fn retained<'a>(facts: Facts<'a>, address: &AddressReport) -> Option<&'a str> {
    if address.kind != AddressKind::LoadBalancerIp {
        return None;
    }
    let mut pools = facts.snapshot.desired.lb_ipam.pools.iter();
    let (name, _) = pools.find(|(_, pool)| pool.retained.binary_search(&address.address).is_ok())?;
    Some(name)
}

/// A LoadBalancer Service that got no address.
fn without_address(facts: Facts<'_>, report: &ServiceReport) -> Option<Vip> {
    report.reasons.iter().any(is_fault).then(|| Vip {
        service: report.service.to_string(),
        address: None,
        kind: AddressKind::LoadBalancerIp.as_str().to_owned(),
        state: unannounced(facts, &report.reasons),
        retained: None,
        announced: Vec::new(),
        missing: Vec::new(),
        reasons: report.reasons.iter().map(why).collect(),
    })
}

/// Whether a peer has a prefix. `Err(None)`: nobody is there to have it, and nobody has to be.
fn is_sent(facts: Facts<'_>, sent: &Sent<'_>, wish: &Announced) -> Result<(), Option<Why>> {
    let of_wish = |status: &&PeerStatus| {
        status.instance == wish.instance
            && (status.name == wish.peer
                || dynamic(facts, &wish.instance, &wish.peer)
                    .is_some_and(|prefix| prefix.contains(&Prefix::host(status.address))))
    };
    let mut seen = None;
    for status in facts.peers.iter().filter(of_wish) {
        if status.state == StateName::Established {
            if sent.contains(&(&wish.instance, status.address, wish.prefix)) {
                return Ok(());
            }
            seen = Some(Why {
                reason: "not-in-adj-rib-out".to_owned(),
                message: "the session is established, but the prefix was not sent (yet)".to_owned(),
            });
        } else if seen.is_none() {
            let last = status
                .last_down
                .as_ref()
                .map_or_else(String::new, |(_, reason)| format!(": {reason}"));
            seen = Some(Why {
                reason: "session-down".to_owned(),
                message: format!("the session is {}{last}", bgp::state(status.state)),
            });
        }
    }
    if seen.is_none() && dynamic(facts, &wish.instance, &wish.peer).is_none() {
        seen = Some(Why {
            reason: "session-not-run".to_owned(),
            message: "the speaker runs no session with this peer (yet)".to_owned(),
        });
    }
    Err(seen)
}

fn announcement(wish: &Announced) -> Announcement {
    Announcement {
        prefix: wish.prefix.to_string(),
        instance: wish.instance.to_string(),
        peer: wish.peer.to_string(),
    }
}

fn why(reason: &Reason) -> Why {
    Why {
        reason: reason.name().to_owned(),
        message: reason.to_string(),
    }
}

fn disabled() -> Why {
    Why {
        reason: "bgp-disabled".to_owned(),
        message: "enable-bgp-control-plane is false".to_owned(),
    }
}

fn unannounced(facts: Facts<'_>, reasons: &[Reason]) -> VipState {
    if facts.snapshot.config.bgp == BgpControlPlane::Enabled && reasons.iter().any(is_fault) {
        VipState::NotAnnounced
    } else {
        VipState::NotWanted
    }
}

/// Whether somebody has to act, or it is as configured.
fn is_fault(reason: &Reason) -> bool {
    match reason {
        Reason::NoVip(_)
        | Reason::OnlyByL2
        | Reason::NotInDatapath
        | Reason::NoPeerTakesThisFamily
        | Reason::NoAsn
        | Reason::NoRouterId(_)
        | Reason::NoAddress
        | Reason::BadAddress(_)
        | Reason::NoGateway(_)
        | Reason::PeerConfigMissing(_)
        | Reason::SameAddressAs(_)
        | Reason::SameNameTwice
        | Reason::InstanceNotRun(_) => true,
        Reason::Headless
        | Reason::NoPorts
        | Reason::ExternalName
        | Reason::NotForThisNode
        | Reason::TypeNotExposed
        | Reason::HostnameOnly
        | Reason::IpModeNotVip
        | Reason::FamilyOff
        | Reason::ClassNotOurs(_)
        | Reason::NoEndpoints
        | Reason::NoLocalEndpoints
        | Reason::NoAdvertisementSelectsIt
        | Reason::NoPeers => false,
    }
}

fn summary(snapshot: &Snapshot) -> BgpSummary {
    let instances = snapshot
        .desired
        .speaker
        .instances
        .iter()
        .map(|(name, instance)| Instance {
            name: name.to_string(),
            asn: instance.asn.get(),
            router_id: instance.router_id.to_string(),
            listen_port: instance.listen,
            listen_error: snapshot.listen_errors.get(name).cloned(),
            local_routes: instance.routes.len(),
        });
    let enabled = snapshot.config.bgp == BgpControlPlane::Enabled;
    BgpSummary {
        enabled,
        origin: match &snapshot.desired.origin {
            ConfigOrigin::None => "nothing: no configuration selects this node".to_owned(),
            ConfigOrigin::ClusterConfig(name) => format!("CiliumBGPClusterConfig {name}"),
            ConfigOrigin::NodeConfig => "CiliumBGPNodeConfig".to_owned(),
            ConfigOrigin::PeeringPolicy(name) => format!("CiliumBGPPeeringPolicy {name}"),
        },
        instances: if enabled { instances.collect() } else { Vec::new() },
    }
}

fn counts(facts: Facts<'_>, peers: &[Peer], vips: &[Vip]) -> Counts {
    let errors = facts
        .snapshot
        .problems
        .iter()
        .filter(|p| p.severity == Severity::Error)
        .count();
    Counts {
        peers: peers.iter().filter(|peer| peer.state != "listening").count(),
        peers_established: peers.iter().filter(|peer| peer.state == "established").count(),
        vips_desired: vips.iter().filter(|vip| vip.state != VipState::NotWanted).count(),
        vips_announced: vips.iter().filter(|vip| vip.state == VipState::Announced).count(),
        problems_error: errors,
        problems_warning: facts.snapshot.problems.len() - errors,
        objects: facts.snapshot.objects,
        discard_routes: facts.snapshot.desired.discard_routes.len(),
    }
}

/// Why it is not green, most important first.
fn because(facts: Facts<'_>, peers: &[Peer], vips: &[Vip], counts: &Counts) -> Vec<Why> {
    let mut out = Vec::new();
    let mut add = |reason: &str, message: String| {
        out.push(Why {
            reason: reason.to_owned(),
            message,
        });
    };
    let enabled = facts.snapshot.config.bgp == BgpControlPlane::Enabled;
    for (instance, error) in facts.snapshot.listen_errors.iter().filter(|_| enabled) {
        add(
            "can-not-listen",
            format!("instance {instance} can not listen: {error}"),
        );
    }
    for peer in peers.iter().filter(|_| enabled) {
        let last = peer.last_down.as_ref();
        let why = last.map_or_else(String::new, |last| format!(": {}", last.why.message));
        let Peer { instance, name, .. } = peer;
        match peer.state.as_str() {
            "established" | "listening" => {}
            // There is no session whose state could say anything.
            NOT_RUN => add(
                last.map_or("session-down", |last| &last.why.reason),
                format!("peer {instance}/{name} is not run{why}"),
            ),
            state => add(
                "session-down",
                format!("session {instance}/{name} is {state}{why}"),
            ),
        }
    }
    for vip in vips {
        let bad = match vip.state {
            VipState::NotAnnounced => "is announced to nobody",
            VipState::Partly => "is not announced to every peer",
            VipState::Announced | VipState::NotWanted => continue,
        };
        let first: Option<&Why> = vip.reasons.first().or(vip.missing.first().map(|m| &m.why));
        let reason = first.map_or("vip-not-announced", |why| why.reason.as_str());
        let message = first.map_or_else(String::new, |why| format!(": {}", why.message));
        let address = vip.address.as_deref().unwrap_or("(no address)");
        add(reason, format!("{} {address} {bad}{message}", vip.service));
    }
    if counts.problems_error > 0 {
        let noun = if counts.problems_error == 1 {
            "error"
        } else {
            "errors"
        };
        add(
            "problems",
            format!("{} {noun} in the configuration", counts.problems_error),
        );
    }
    out
}

#[cfg(test)]
#[path = "status_tests.rs"]
pub(crate) mod tests;
