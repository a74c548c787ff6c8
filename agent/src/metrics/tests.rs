use std::collections::BTreeSet;
use std::time::Instant;

use super::*;
use crate::api::snapshot::Snapshot;
use crate::api::status::tests::session;

fn page(peers: &[PeerStatus]) -> String {
    page_of(&Snapshot::default(), peers)
}

pub(super) fn page_of(snapshot: &Snapshot, peers: &[PeerStatus]) -> String {
    let facts = Facts {
        snapshot,
        peers,
        advertised: &[],
        now: Instant::now(),
    };
    let identity = Identity {
        node: "node-a".into(),
        started: Instant::now(),
        features: Vec::new(),
    };
    let metrics = Metrics::default();
    metrics.planned(Duration::from_millis(3), &snapshot.desired);
    metrics.exposition(facts, &identity)
}

/// Every line is a comment or a sample of the family announced last, and no series appears twice.
fn check(text: &str) {
    let mut family = "";
    let mut families = BTreeSet::new();
    let mut series = BTreeSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            family = rest.split(' ').next().unwrap();
            assert!(families.insert(family), "{family} is announced twice");
        } else if !line.starts_with("# HELP ") {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with(family), "{name} is not of {family}");
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert!(series.insert(name), "{name} appears twice");
        }
    }
    assert!(text.ends_with('\n'));
}

#[test]
fn cilium_names_and_labels_are_kept() {
    let mut v6 = session("tor-6", "fd00::9", StateName::Active);
    v6.families = vec![bgp_speaker::speaker::FamilyStatus {
        family: bgp_speaker::types::Family::IPV6_UNICAST,
        negotiated: false,
        received: 1,
        accepted: 0,
        advertised: 2,
        stale: 0,
        end_of_rib_received: false,
        end_of_rib_sent: false,
    }];
    let text = page(&[session("tor", "10.0.0.9", StateName::Established), v6]);
    check(&text);
    for line in [
        "cilium_bgp_control_plane_session_state{vrouter=\"65001\",neighbor=\"10.0.0.9:179\",neighbor_asn=\"65010\"} 1",
        "cilium_bgp_control_plane_session_state{vrouter=\"65001\",neighbor=\"[fd00::9]:179\",neighbor_asn=\"65010\"} 0",
        "cilium_bgp_control_plane_advertised_routes{vrouter=\"65001\",neighbor=\"[fd00::9]:179\",neighbor_asn=\"65010\",afi=\"ipv6\",safi=\"unicast\"} 2",
        "cilium_bgp_control_plane_received_routes{vrouter=\"65001\",neighbor=\"[fd00::9]:179\",neighbor_asn=\"65010\",afi=\"ipv6\",safi=\"unicast\"} 1",
        "stentor_bgp_session_last_down_reason{vrouter=\"65001\",neighbor=\"[fd00::9]:179\",neighbor_asn=\"65010\",reason=\"connect-failed\"} 1",
        "cilium_feature_adv_connect_and_lb_bgp_enabled 1",
        "stentor_config_problems{severity=\"error\"} 0",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\nis missing in\n{text}");
    }
    assert!(text.contains("process_resident_memory_bytes "));
}

#[test]
fn sessions_with_equal_labels_do_not_spoil_the_scrape() {
    let mut other = session("tor", "10.0.0.9", StateName::Active);
    other.instance = "second".into();
    let text = page(&[session("tor", "10.0.0.9", StateName::Established), other]);
    check(&text);
    // Up only when all of them are.
    assert!(text.contains("neighbor=\"10.0.0.9:179\",neighbor_asn=\"65010\"} 0\n"));
}
