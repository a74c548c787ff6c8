use super::*;
use crate::api::view::{Announcement, LastDown, Missing, PeerFamily, SessionChange};

fn why(reason: &str, message: &str) -> Why {
    Why {
        reason: reason.into(),
        message: message.into(),
    }
}

fn peer(name: &str, state: &str) -> Peer {
    Peer {
        instance: "main".into(),
        name: name.into(),
        address: Some("fd00::9".into()),
        port: Some(179),
        local_asn: 65001,
        remote_asn: Some(65009),
        remote_router_id: None,
        local_address: None,
        state: state.into(),
        uptime_seconds: (state == "established").then_some(75),
        times_established: 1,
        last_down: None,
        md5: false,
        graceful_restart_seconds: None,
        hold_seconds: None,
        keepalive_seconds: None,
        messages_received: 0,
        messages_sent: 0,
        families: Vec::new(),
    }
}

#[test]
fn peers_say_why_they_are_down_and_when() {
    let family = |family: &str, received, stale| PeerFamily {
        family: family.into(),
        negotiated: true,
        received,
        accepted: 0,
        advertised: 2,
        stale,
        end_of_rib_received: false,
        end_of_rib_sent: false,
    };
    let mut up = peer("tor-1", "established");
    up.families = vec![family("ipv4/unicast", 0, 0), family("ipv6/unicast", 3, 3)];
    let mut down = peer("tor-2", "active");
    down.last_down = Some(LastDown {
        why: why("connect-failed", "connection failed: Connection refused"),
        seconds_ago: Some(61),
    });
    assert_eq!(
        peers(&[up, down]),
        "INSTANCE   PEER    ADDRESS         AS      STATE         SINCE   FAMILY         RECEIVED      ADVERTISED   LAST DOWN\n\
         main       tor-1   [fd00::9]:179   65009   established   1m15s   ipv4/unicast   0             2            -\n\
         \x20                                                                ipv6/unicast   3 (3 stale)   2\n\
         main       tor-2   [fd00::9]:179   65009   active        -       -              -             -            1m1s ago: connection failed: Connection refused [connect-failed]\n"
    );
}

#[test]
fn an_address_that_is_not_announced_stands_out_with_its_reason() {
    let announcement = |peer: &str| Announcement {
        prefix: "192.0.2.1/32".into(),
        instance: "main".into(),
        peer: peer.into(),
    };
    let partly = Vip {
        retained: Some("main".into()),
        service: "web/front".into(),
        address: Some("192.0.2.1".into()),
        kind: "LoadBalancerIP".into(),
        state: VipState::Partly,
        announced: vec![announcement("tor-1")],
        missing: vec![Missing {
            announcement: announcement("tor-2"),
            why: why("session-down", "the session is active"),
        }],
        reasons: Vec::new(),
    };
    let none = Vip {
        retained: None,
        service: "web/back".into(),
        address: None,
        kind: "LoadBalancerIP".into(),
        state: VipState::NotAnnounced,
        announced: Vec::new(),
        missing: Vec::new(),
        reasons: vec![why("no-vip", "no LoadBalancer address: pool is full")],
    };
    assert_eq!(
        vips(&[partly, none]),
        "SERVICE     ADDRESS     TYPE             STATE           ANNOUNCED TO   WHY NOT\n\
         web/front   192.0.2.1   LoadBalancerIP   partly          tor-1          tor-2: the session is active [session-down]\n\
         web/back    -           LoadBalancerIP   NOT ANNOUNCED   -              no LoadBalancer address: pool is full [no-vip]\n\
         web/front keeps 192.0.2.1: pool main retains it, its block is gone.\n"
    );
}

#[test]
fn problems_begin_with_the_place_an_editor_can_jump_to() {
    let problem = Problem {
        severity: "error".into(),
        file: Some("lab/bgp.yaml".into()),
        line: 7,
        object: Some("CiliumBGPPeerConfig/tor".into()),
        field: "spec.timers.holdTimeSeconds".into(),
        why: why("out-of-range", "2 is less than 3"),
    };
    assert_eq!(
        problems(&[problem]),
        "lab/bgp.yaml:7: error: CiliumBGPPeerConfig/tor: spec.timers.holdTimeSeconds: 2 is less than 3 [out-of-range]\n"
    );
}

#[test]
fn a_plan_says_the_cost_first() {
    let diff = PlanDiff {
        sessions: vec![SessionChange {
            instance: "main".into(),
            peer: "tor".into(),
            effect: SessionEffect::HardReset,
            because: vec!["hold".into()],
        }],
        ..PlanDiff::default()
    };
    assert_eq!(
        plan(&diff),
        "Sessions: 1 reset, 0 added, 0 removed; prefixes: 0 added, 0 changed, 0 withdrawn; Services with other \
         addresses: 0.\n\
         \n\
         SESSION    EFFECT   BECAUSE OF\n\
         main/tor   RESET    hold\n"
    );
}
