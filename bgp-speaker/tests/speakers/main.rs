//! Whole speakers against each other, in memory.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what it expects")]

mod cable;
mod invariants;
mod slow;

use std::sync::Arc;
use std::time::Duration;

use bgp_speaker::config::{
    Auth, Connect, GracefulRestart, MaxPrefixes, MaxPrefixesAction, PeerConfig, ReflectorClient, Ttl,
};
use bgp_speaker::policy::{ExportPolicy, ImportPolicy};
use bgp_speaker::speaker::{Event, Input, Request, Shutdown, Start, StateName, Table};
use bgp_speaker::types::{Family, Secret};
use cable::{Cable, asn, hosts, instance, peer, speaker};

/// Two speakers, each with `routes` host routes on the first, up.
fn pair(routes: u32, edit: impl Fn(&mut PeerConfig)) -> Cable {
    let mut cable = Cable::new(2);
    let with = |node| {
        let mut peer = peer(node);
        edit(&mut peer);
        peer
    };
    cable.configure(0, speaker(instance(1, hosts(routes), vec![("two", with(2))])));
    cable.configure(1, speaker(instance(2, hosts(0), vec![("one", with(1))])));
    cable.pass(Duration::from_secs(5));
    assert!(cable.is_up(0, "two") && cable.is_up(1, "one"));
    cable
}

#[test]
fn two_speakers_that_both_dial_come_up_once_and_exchange_routes() {
    let cable = pair(3, |_| ());
    for (node, name) in [(0, "two"), (1, "one")] {
        assert_eq!(cable.peer(node, name).times_established, 1);
    }
    let learned = cable.table(1, Table::LocRib);
    assert_eq!(learned.len(), 3);
    assert!(learned.iter().all(|path| path.best));
    assert_eq!(cable.peer(0, "two").families[0].advertised, 3);
    assert_eq!(cable.peer(1, "one").families[0].accepted, 3);
}

#[test]
fn a_hundred_thousand_routes_cross_two_speakers() {
    let mut cable = pair(100_000, |_| ());
    assert_eq!(cable.peer(1, "one").families[0].accepted, 100_000);
    // One set of attributes: packed to the limit this is some 5 octets a route.
    assert!(cable.carried < 600_000, "{} octets", cable.carried);
    cable.configure(0, speaker(instance(1, hosts(10), vec![("two", peer(2))])));
    assert_eq!(cable.peer(1, "one").families[0].accepted, 10);
    assert!(cable.is_up(0, "two"));
}

#[test]
fn a_hundred_thousand_routes_pass_through_the_middle_one_of_three() {
    let mut cable = Cable::new(3);
    cable.configure(0, speaker(instance(1, hosts(100_000), vec![("two", peer(2))])));
    let both = vec![("one", peer(1)), ("three", peer(3))];
    cable.configure(1, speaker(instance(2, hosts(0), both)));
    cable.configure(2, speaker(instance(3, hosts(0), vec![("two", peer(2))])));
    cable.pass(Duration::from_secs(5));
    let far = cable.table(2, Table::LocRib);
    assert_eq!(far.len(), 100_000);
    let path: Vec<_> = far[0].attrs.as_path.0.iter().collect();
    assert_eq!(format!("{path:?}"), "[Sequence([AS65002, AS65001])]");
    cable.configure(0, speaker(instance(1, hosts(0), vec![("two", peer(2))])));
    assert_eq!(cable.table(2, Table::LocRib).len(), 0);
}

#[test]
fn a_peer_that_takes_nothing_costs_the_others_nothing_and_little_memory() {
    let mut cable = Cable::new(3);
    let both = || vec![("two", peer(2)), ("three", peer(3))];
    cable.configure(0, speaker(instance(1, hosts(0), both())));
    cable.configure(1, speaker(instance(2, hosts(0), vec![("one", peer(1))])));
    cable.configure(2, speaker(instance(3, hosts(0), vec![("one", peer(1))])));
    cable.pass(Duration::from_secs(5));
    cable.stalled.insert(1, 0);
    cable.configure(0, speaker(instance(1, hosts(100_000), both())));
    assert_eq!(cable.table(2, Table::LocRib).len(), 100_000);
    let waiting = cable.stalled[&1];
    assert!((256 << 10..320 << 10).contains(&waiting), "{waiting} octets wait");
    // Keepalives for the stalled one leave all the same, until the send hold timer ends its session.
    cable.pass(Duration::from_secs(60));
    let keepalives = (cable.stalled[&1] - waiting) / 19;
    assert!((2..=3).contains(&keepalives), "{keepalives} keepalives");
    assert!(cable.is_up(0, "three") && cable.is_up(2, "one"));
}

#[test]
fn a_session_outlives_hours_of_silence_between_updates() {
    let mut cable = pair(1, |_| ());
    cable.pass(Duration::from_secs(6 * 3600));
    assert_eq!(cable.peer(0, "two").times_established, 1);
    assert!(cable.is_up(0, "two"));
}

#[test]
fn only_a_hard_reset_costs_the_session_its_uptime() {
    type Edit = fn(&mut PeerConfig);
    let edits: Vec<(&str, Edit, bool)> = vec![
        ("ttl", |p| p.ttl = Ttl::Multihop(3), true),
        ("keepalive", |p| p.timers.keepalive = Duration::from_secs(9), true),
        (
            "connect_retry",
            |p| p.timers.connect_retry = Duration::from_secs(9),
            true,
        ),
        ("idle_hold", |p| p.timers.idle_hold = Duration::from_secs(9), true),
        (
            "export",
            |p| p.families[0].1.export = Arc::new(ExportPolicy::default()),
            true,
        ),
        (
            "import",
            |p| p.families[0].1.import = Arc::new(ImportPolicy::default()),
            true,
        ),
        (
            "remote_asn",
            |p| p.remote_asn = bgp_speaker::config::RemoteAsn::Any,
            true,
        ),
        ("passive", |p| p.connect = Connect::Passive, true),
        ("reflector", |p| p.reflector_client = ReflectorClient::Yes, true),
        (
            "max_prefixes",
            |p| {
                p.families[0].1.max_prefixes = Some(MaxPrefixes {
                    limit: 100,
                    warning_percent: 75,
                    action: MaxPrefixesAction::Refuse,
                });
            },
            true,
        ),
        // The peer opened this session: what only a dial is made of does not concern it.
        ("port", |p| p.port = 1179, true),
        ("interface", |p| p.interface = Some("eth0".into()), true),
        (
            "local_address used already",
            |p| p.local_address = Some([10, 0, 0, 1].into()),
            true,
        ),
        (
            "local_address",
            |p| p.local_address = Some([10, 0, 0, 7].into()),
            false,
        ),
        (
            "auth",
            |p| p.auth = Auth::Md5(Secret::new(b"key").unwrap()),
            false,
        ),
        (
            "families",
            |p| p.families.push((Family::IPV6_UNICAST, p.families[0].1.clone())),
            false,
        ),
        (
            "hold",
            |p| p.timers.hold = bgp_speaker::types::HoldTime::new(30).unwrap(),
            false,
        ),
        (
            "graceful_restart",
            |p| p.graceful_restart = Some(GracefulRestart { restart_time: 60 }),
            false,
        ),
        ("shutdown", |p| p.shutdown = Some("rest".into()), false),
    ];
    for (name, edit, survives) in edits {
        let mut cable = pair(3, |_| ());
        let since = cable.peer(0, "two").established_since.unwrap();
        let mut changed = peer(2);
        edit(&mut changed);
        cable.configure(0, speaker(instance(1, hosts(3), vec![("two", changed)])));
        cable.pass(Duration::from_secs(20));
        let kept = cable.peer(0, "two").established_since == Some(since);
        assert_eq!(kept, survives, "{name}");
    }
}

#[test]
fn routes_at_the_peer_never_change_when_the_process_is_killed_and_restarts() {
    let graceful = |p: &mut PeerConfig| p.graceful_restart = Some(GracefulRestart { restart_time: 120 });
    let mut cable = pair(100, graceful);
    let config = |cable: &mut Cable| {
        let mut two = peer(2);
        graceful(&mut two);
        cable.configure(0, speaker(instance(1, hosts(100), vec![("two", two)])));
    };
    for restart in 0..3 {
        cable.kill(0, Start::Restarted);
        assert_eq!(
            cable.peer(1, "one").families[0].accepted,
            100,
            "restart {restart}"
        );
        assert_eq!(cable.peer(1, "one").families[0].stale, 100);
        config(&mut cable);
        for _ in 0..50 {
            cable.pass(Duration::from_millis(100));
            assert_eq!(cable.table(1, Table::LocRib).len(), 100);
        }
        assert!(cable.is_up(1, "one"));
        assert_eq!(cable.peer(1, "one").families[0].stale, 0);
    }
}

#[test]
fn a_peer_that_does_not_come_back_loses_its_routes_when_the_restart_time_is_over() {
    let mut cable = pair(5, |p| {
        p.graceful_restart = Some(GracefulRestart { restart_time: 30 })
    });
    cable.kill(0, Start::Cold);
    cable.pass(Duration::from_secs(29));
    assert_eq!(cable.table(1, Table::LocRib).len(), 5);
    cable.pass(Duration::from_secs(2));
    assert_eq!(cable.table(1, Table::LocRib).len(), 0);
}

#[test]
fn shutdown_for_restart_keeps_the_routes_and_shutdown_for_good_does_not() {
    for (how, left) in [(Shutdown::Restart, 5), (Shutdown::Stop, 0)] {
        let mut cable = pair(5, |p| {
            p.graceful_restart = Some(GracefulRestart { restart_time: 30 })
        });
        cable.give(0, Input::Asked(Request::Shutdown(how)));
        assert!(!cable.is_up(1, "one"));
        assert_eq!(cable.table(1, Table::LocRib).len(), left, "{how:?}");
    }
}

#[test]
fn a_reset_by_a_person_does_not_interrupt_forwarding() {
    let mut cable = pair(5, |p| {
        p.graceful_restart = Some(GracefulRestart { restart_time: 30 })
    });
    cable.give(
        0,
        Input::Asked(Request::Reset {
            instance: "main".into(),
            peer: None,
            text: "because".into(),
        }),
    );
    assert_eq!(cable.table(1, Table::LocRib).len(), 5);
    cable.pass(Duration::from_secs(5));
    assert!(cable.is_up(1, "one"));
    assert_eq!(cable.peer(1, "one").families[0].stale, 0);
    let heard = cable.nodes[1].events.iter().any(|event| match event {
        Event::State { why: Some(why), .. } => why.to_string().contains("because"),
        _ => false,
    });
    assert!(heard, "the other side reads the text");
}

#[test]
fn another_router_id_resets_every_peer_and_the_routes_come_back() {
    let mut cable = pair(5, |_| ());
    let mut config = instance(1, hosts(5), vec![("two", peer(2))]);
    config.asn = asn(65001);
    config.router_id = bgp_speaker::types::RouterId::new([9, 9, 9, 9].into()).unwrap();
    cable.configure(0, speaker(config));
    cable.pass(Duration::from_secs(5));
    assert_eq!(cable.peer(0, "two").state, StateName::Established);
    assert_eq!(cable.peer(0, "two").times_established, 2);
    assert_eq!(cable.table(1, Table::LocRib).len(), 5);
}
