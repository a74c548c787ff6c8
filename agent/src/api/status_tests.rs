use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bgp_speaker::config::Ttl;
use bgp_speaker::speaker::DownReason;
use bgp_speaker::types::Asn;
use bgp_speaker::wire::attrs::{Attrs, NextHop, Origin};

use super::*;
use crate::plan::Desired;
use crate::world::ServiceRef;

fn asn(number: u32) -> Asn {
    Asn::new(number).unwrap()
}

pub(crate) fn session(name: &str, address: &str, state: StateName) -> PeerStatus {
    let now = Instant::now();
    PeerStatus {
        instance: "main".into(),
        name: name.into(),
        local_asn: asn(65001),
        remote_asn: Some(asn(65010)),
        remote_router_id: None,
        address: address.parse().unwrap(),
        port: 179,
        local_address: None,
        state,
        established_since: (state == StateName::Established).then_some(now),
        times_established: 1,
        last_down: (state != StateName::Established).then(|| {
            (
                now,
                Arc::new(DownReason::ConnectFailed("Connection refused".into())),
            )
        }),
        md5: false,
        ttl: Ttl::Direct,
        graceful_restart: None,
        connect_retry: Duration::from_secs(120),
        configured_hold: 90,
        applied_hold: None,
        configured_keepalive: Duration::from_secs(30),
        applied_keepalive: None,
        families: Vec::new(),
        local_capabilities: Vec::new(),
        remote_capabilities: Vec::new(),
        messages_received: 0,
        messages_sent: 0,
    }
}

fn vip_prefix() -> Prefix {
    Prefix::host("192.0.2.1".parse().unwrap())
}

fn sent_to(name: &str, address: &str) -> PathView {
    PathView {
        instance: "main".into(),
        local_asn: asn(65001),
        peer: Some((name.into(), address.parse().unwrap())),
        prefix: vip_prefix(),
        attrs: Arc::new(Attrs::originated(
            Origin::Igp,
            NextHop::Ip("10.0.0.1".parse().unwrap()),
        )),
        since: Instant::now(),
        best: true,
        stale: false,
        reason: None,
    }
}

fn service(announced_to: &[&str], reasons: Vec<Reason>) -> ServiceReport {
    ServiceReport {
        service: ServiceRef {
            namespace: "web".into(),
            name: "front".into(),
        },
        addresses: vec![AddressReport {
            address: "192.0.2.1".parse().unwrap(),
            kind: AddressKind::LoadBalancerIp,
            announced: announced_to
                .iter()
                .map(|peer| Announced {
                    prefix: vip_prefix(),
                    instance: "main".into(),
                    peer: (*peer).into(),
                })
                .collect(),
            reasons,
        }],
        reasons: Vec::new(),
    }
}

fn snapshot(services: Vec<ServiceReport>) -> Snapshot {
    Snapshot {
        desired: Arc::new(Desired {
            services: services.into_iter().map(|of| (of.service.clone(), of)).collect(),
            ..Desired::default()
        }),
        ..Snapshot::default()
    }
}

/// One Service with one address, meant for these peers.
pub(crate) fn snapshot_with(announced_to: &[&str], reasons: Vec<Reason>) -> Snapshot {
    snapshot(vec![service(announced_to, reasons)])
}

fn verdict(snapshot: &Snapshot, peers: &[PeerStatus], advertised: &[PathView]) -> Status {
    let facts = Facts {
        snapshot,
        peers,
        advertised,
        now: Instant::now(),
    };
    let identity = Identity {
        node: "node-a".into(),
        started: Instant::now(),
        features: Vec::new(),
    };
    status(facts, &identity)
}

fn names(because: &[Why]) -> Vec<&str> {
    because.iter().map(|why| why.reason.as_str()).collect()
}

#[test]
fn green_means_every_session_is_up_and_every_address_is_in_an_adj_rib_out() {
    let snapshot = snapshot(vec![service(&["tor"], Vec::new())]);
    let peers = [session("tor", "10.0.0.9", StateName::Established)];
    let status = verdict(&snapshot, &peers, &[sent_to("tor", "10.0.0.9")]);
    assert_eq!(status.verdict, Verdict::Green, "{:?}", status.because);
    assert_eq!(status.vips[0].state, VipState::Announced);
    assert_eq!((status.counts.vips_desired, status.counts.vips_announced), (1, 1));
}

#[test]
fn a_wish_is_not_an_announcement() {
    let snapshot = snapshot(vec![service(&["tor"], Vec::new())]);
    let peers = [session("tor", "10.0.0.9", StateName::Established)];
    let status = verdict(&snapshot, &peers, &[]);
    assert_eq!(status.verdict, Verdict::NotGreen);
    assert_eq!(status.vips[0].state, VipState::NotAnnounced);
    assert_eq!(names(&status.because), ["not-in-adj-rib-out"]);
}

#[test]
fn a_session_that_is_down_is_named_with_its_reason() {
    let snapshot = snapshot(vec![service(&["tor-1", "tor-2"], Vec::new())]);
    let peers = [
        session("tor-1", "10.0.0.9", StateName::Established),
        session("tor-2", "10.0.0.10", StateName::Active),
    ];
    let status = verdict(&snapshot, &peers, &[sent_to("tor-1", "10.0.0.9")]);
    assert_eq!(status.vips[0].state, VipState::Partly);
    assert_eq!(names(&status.because), ["session-down", "session-down"]);
    assert_eq!(
        status.because[0].message,
        "session main/tor-2 is active: connection failed: Connection refused"
    );
}

#[test]
fn what_is_not_announced_as_configured_does_not_spoil_the_verdict() {
    let snapshot = snapshot(vec![service(&[], vec![Reason::NoLocalEndpoints])]);
    let status = verdict(&snapshot, &[], &[]);
    assert_eq!(status.verdict, Verdict::Green);
    assert_eq!(status.vips[0].state, VipState::NotWanted);
    assert_eq!(status.vips[0].reasons[0].reason, "no-local-endpoints");
}

#[test]
fn a_service_without_an_address_is_listed_and_not_green() {
    let mut report = service(&[], Vec::new());
    report.addresses.clear();
    report.reasons = vec![Reason::NoVip("no pool has an address left".into())];
    let status = verdict(&snapshot(vec![report]), &[], &[]);
    assert_eq!(status.verdict, Verdict::NotGreen);
    assert_eq!(status.vips[0].address, None);
    assert_eq!(names(&status.because), ["no-vip"]);
}

#[test]
fn a_peer_that_can_not_be_run_is_shown_with_its_reason() {
    let mut snapshot = snapshot(Vec::new());
    snapshot.desired = Arc::new(Desired {
        peers: vec![PeerReport {
            instance: "main".into(),
            peer: "tor".into(),
            address: None,
            discovered: Discovery::Configured,
            prefixes: Vec::new(),
            not_run: Some(Reason::NoAddress),
        }],
        ..Desired::default()
    });
    let status = verdict(&snapshot, &[], &[]);
    assert_eq!(status.peers[0].state, "not_run");
    assert_eq!(
        status.peers[0].last_down.as_ref().unwrap().why.reason,
        "peer-without-address"
    );
    assert_eq!(status.verdict, Verdict::NotGreen);
    assert_eq!(names(&status.because), ["peer-without-address"]);
    assert!(
        status.because[0]
            .message
            .starts_with("peer main/tor is not run: ")
    );
}

#[test]
fn bgp_that_is_switched_off_is_no_fault_and_still_a_reason() {
    let mut snapshot = snapshot(vec![service(&["tor"], Vec::new())]);
    snapshot.config.bgp = BgpControlPlane::Disabled;
    let mut desired = Desired::clone(&snapshot.desired);
    desired.peers = vec![PeerReport {
        instance: "main".into(),
        peer: "tor".into(),
        address: None,
        discovered: Discovery::Configured,
        prefixes: Vec::new(),
        not_run: None,
    }];
    snapshot.desired = Arc::new(desired);
    let status = verdict(&snapshot, &[], &[]);
    assert_eq!(status.vips[0].state, VipState::NotWanted);
    assert_eq!(status.vips[0].reasons[0].reason, "bgp-disabled");
    assert_eq!(
        status.peers[0].last_down.as_ref().unwrap().why.reason,
        "bgp-disabled"
    );
    assert_eq!(status.verdict, Verdict::Green);
}

#[test]
fn a_port_in_use_spoils_the_verdict() {
    let mut snapshot = snapshot(Vec::new());
    snapshot.listen_errors = BTreeMap::from([("main".into(), "Address already in use".to_owned())]);
    let status = verdict(&snapshot, &[], &[]);
    assert_eq!(names(&status.because), ["can-not-listen"]);
}
