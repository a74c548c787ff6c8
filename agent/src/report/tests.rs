//! What is told is what is, and nothing is told twice.

use std::time::Duration;

use bgp_speaker::speaker::FamilyStatus;
use bgp_speaker::types::Family;
use crds::bgp::node_config::CiliumBGPNodeConfig;

use super::*;
use crate::api::status::tests::session;
use crate::plan::{Discovery, Reason};

const CLOCK: Timestamp = Timestamp::constant(1_800_000_000, 0);

/// A node, and the status that its API server holds.
struct Node {
    desired: Desired,
    listen_errors: BTreeMap<Name, String>,
    peers: Vec<PeerStatus>,
    seen: Seen,
    told: Beginnings,
    now: Instant,
    report: StatusReport,
}

impl Node {
    fn new(peers: Vec<PeerStatus>) -> Self {
        Self {
            desired: Desired::default(),
            listen_errors: BTreeMap::new(),
            peers,
            seen: Seen::default(),
            told: Beginnings::default(),
            now: Instant::now(),
            report: StatusReport::Written,
        }
    }

    /// Whether something was written. `later`: what the clock gained meanwhile.
    fn report(&mut self, later: i64) -> bool {
        let facts = Facts {
            seen: &self.seen,
            desired: &self.desired,
            listen_errors: &self.listen_errors,
            peers: &self.peers,
            report: self.report,
        };
        let clock = CLOCK.checked_add(SignedDuration::from_secs(later)).unwrap();
        let Some(patch) = patch(facts, &mut self.told, self.now, clock) else {
            return false;
        };
        let members = patch["status"].as_object().unwrap();
        let given: serde_json::Map<String, Value> = members
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        // As the API server keeps it.
        self.seen.status = serde_json::from_value(Value::Object(given)).unwrap();
        true
    }

    fn condition(&self) -> (ConditionStatus, &str, &str) {
        let condition = &self.seen.status.conditions[0];
        (
            condition.status,
            &condition.message,
            &condition.last_transition_time,
        )
    }
}

fn established(name: &str, advertised: u32) -> PeerStatus {
    let mut session = session(name, "10.0.0.254", StateName::Established);
    session.applied_hold = Some(9);
    session.applied_keepalive = Some(Duration::from_secs(3));
    session.families = vec![FamilyStatus {
        family: Family::IPV4_UNICAST,
        negotiated: true,
        received: 1,
        accepted: 0,
        advertised,
        stale: 0,
        end_of_rib_received: true,
        end_of_rib_sent: true,
    }];
    session
}

fn not_run(peer: &str, address: Option<&str>) -> PeerReport {
    PeerReport {
        instance: "main".into(),
        peer: peer.into(),
        address: address.map(|address| address.parse().unwrap()),
        discovered: Discovery::Configured,
        prefixes: Vec::new(),
        not_run: Some(Reason::PeerConfigMissing("tor".to_owned())),
    }
}

#[test]
fn a_session_is_told_with_its_timers_its_beginning_and_what_was_sent() {
    let mut node = Node::new(vec![established("tor", 2)]);
    node.peers[0].established_since = Some(node.now);
    node.now += Duration::from_secs(60);
    assert!(node.report(0));
    assert_eq!(
        json!(node.seen.status.bgp_instances),
        json!([{ "name": "main", "peers": [{
            "name": "tor",
            "peerAddress": "10.0.0.254",
            "peerASN": 65010,
            "peeringState": "established",
            "timers": { "appliedHoldTimeSeconds": 9, "appliedKeepaliveSeconds": 3 },
            "establishedTime": "2027-01-15T07:59:00Z",
            "routeCount": [{ "afi": "ipv4", "safi": "unicast", "received": 1, "advertised": 2 }],
        }] }])
    );
    assert_eq!(
        node.condition(),
        (ConditionStatus::False, "", "2027-01-15T08:00:00Z")
    );
}

#[test]
fn nothing_new_is_not_told_whatever_the_clock_does() {
    let mut node = Node::new(vec![established("tor", 2)]);
    node.peers[0].established_since = Some(node.now);
    assert!(node.report(0));
    node.now += Duration::from_millis(700);
    assert!(!node.report(0));
    assert!(!node.report(3600));
    assert!(!node.report(-3600));
    // Another session of the same peer begins at another time.
    node.peers[0].established_since = Some(node.now);
    assert!(node.report(3600));
}

#[test]
fn a_session_that_is_down_has_no_beginning() {
    let mut node = Node::new(vec![established("tor", 2)]);
    node.report(0);
    node.peers = vec![session("tor", "10.0.0.254", StateName::Active)];
    assert!(node.report(0));
    let peer = &node.seen.status.bgp_instances[0].peers[0];
    assert_eq!(
        (peer.peering_state.as_deref(), &peer.established_time),
        (Some("active"), &None)
    );
}

#[test]
fn what_is_not_run_is_an_error_by_line_and_has_no_state() {
    let mut node = Node::new(vec![established("up", 0)]);
    node.desired.peers = vec![not_run("lost", Some("10.0.0.253")), not_run("nowhere", None)];
    node.listen_errors
        .insert("main".into(), "port 179: taken".to_owned());
    assert!(node.report(0));
    let peers = &node.seen.status.bgp_instances[0].peers;
    let shown: Vec<(&str, Option<&str>)> = peers
        .iter()
        .map(|peer| (&*peer.name, peer.peering_state.as_deref()))
        .collect();
    assert_eq!(shown, [("lost", None), ("up", Some("established"))]);
    let (status, message, since) = node.condition();
    assert_eq!(status, ConditionStatus::True);
    let lines: Vec<&str> = message.lines().collect();
    assert_eq!(lines.len(), 3, "{message}");
    assert_eq!(lines[0], "main: can not listen: port 179: taken");
    assert!(lines[1].starts_with("main: peer lost: "), "{message}");
    // Less of it is still an error, and since then.
    let before = since.to_owned();
    node.listen_errors.clear();
    assert!(node.report(60));
    assert_eq!(node.condition().2, before);
    node.desired.peers.clear();
    assert!(node.report(120));
    assert_ne!(node.condition().2, before);
}

#[test]
fn a_message_is_cut_between_lines() {
    let mut node = Node::new(Vec::new());
    node.desired.peers = (0..4000).map(|n| not_run(&format!("peer{n}"), None)).collect();
    node.report(0);
    let (_, message, _) = node.condition();
    assert!(
        message.len() <= LONGEST && message.len() > LONGEST - 200,
        "{}",
        message.len()
    );
    assert!(message.ends_with('\n'));
}

#[test]
fn a_report_that_is_switched_off_is_taken_out_and_conditions_of_others_stay() {
    let mut node = Node::new(vec![established("tor", 2)]);
    node.seen.status.conditions = vec![Condition {
        kind: "example.com/Theirs".to_owned(),
        status: ConditionStatus::True,
        reason: "because".to_owned(),
        message: String::new(),
        observed_generation: None,
        last_transition_time: "2026-01-01T00:00:00Z".to_owned(),
    }];
    node.report(0);
    assert_eq!(node.seen.status.conditions.len(), 2);
    node.report = StatusReport::TakenOut;
    assert!(node.report(0));
    assert!(node.seen.status.bgp_instances.is_empty());
    assert_eq!(node.seen.status.conditions.len(), 1);
    assert!(!node.report(0));
}

#[test]
fn what_is_told_is_what_the_schema_allows() {
    let mut node = Node::new(vec![established("tor", 2)]);
    node.desired.peers = vec![not_run("lost", Some("10.0.0.253"))];
    node.report(0);
    let whole = json!({
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumBGPNodeConfig",
        "metadata": { "name": "n1" },
        "spec": { "bgpInstances": [{ "name": "main" }] },
        "status": node.seen.status,
    });
    let read = crds::read_json(std::path::Path::new("test"), &whole);
    assert!(read.problems.is_empty(), "{:?}", read.problems);
    let read: CiliumBGPNodeConfig = serde_json::from_value(whole).unwrap();
    assert_eq!(read.status, Some(node.seen.status));
}
