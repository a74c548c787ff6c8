use std::time::Duration;

use super::world::*;
use crate::config::{MaxPrefixes, MaxPrefixesAction};
use crate::policy::{ExportPolicy, SetAttrs, SetNextHop};
use crate::rib::{Down, EndOfRib, LimitVerdict, PeerId, Standing, WhyNotBest, WhyRefused};
use crate::types::{Family, Prefix};
use crate::wire::attrs::Attrs;
use crate::wire::route_refresh::Subtype;

const V4: Family = Family::IPV4_UNICAST;
const V6: Family = Family::IPV6_UNICAST;

fn many(count: u32) -> Vec<Prefix> {
    (0..count)
        .map(|i| Prefix::V4 {
            bits: 0x6400_0000 + i,
            len: 32,
        })
        .collect()
}

#[test]
fn local_routes_reach_a_peer_with_end_of_rib_behind_them() {
    let mut world = World::new();
    world.set_local(&[("192.0.2.1/32", local(None)), ("2001:db8::1/128", local(None))]);
    let peer = world.up(1, external(1));
    world.drain(peer);
    assert_eq!(world.holds(peer), ["192.0.2.1/32", "2001:db8::1/128"]);
    assert_eq!(world.receivers[&peer].ends_of_rib, [V4, V6]);
    assert!(world.rib.counts(peer, V4).end_of_rib_sent);
    assert_eq!(world.rib.counts(peer, V4).advertised, 1);
    world.set_local(&[("192.0.2.2/32", local(None))]);
    world.drain(peer);
    assert_eq!(world.holds(peer), ["192.0.2.2/32"]);
    assert_eq!(world.adj_out(peer), *world.held(peer));
    // Only the two changes went out.
    assert_eq!(world.receivers[&peer].messages, 4 + 3);
}

#[test]
fn end_of_rib_is_omitted_for_a_peer_without_graceful_restart() {
    let mut world = World::new();
    let mut info = external(1);
    info.end_of_rib = EndOfRib::Omit;
    let peer = world.up(1, info);
    assert_eq!(world.drain(peer).bytes, 0);
}

#[test]
fn setting_the_same_local_routes_again_sends_nothing() {
    let mut world = World::new();
    let peer = world.up(1, external(1));
    world.set_local(&[("192.0.2.1/32", local(None))]);
    world.drain(peer);
    world.set_local(&[("192.0.2.1/32", local(None))]);
    assert_eq!(world.drain(peer).bytes, 0);
}

#[test]
fn transit_goes_to_others_and_never_back() {
    let mut world = World::new();
    let (a, b) = (world.up(1, external(1)), world.up(2, external(2)));
    world.announce(a, &learned(&[65001], "10.0.0.1"), &["203.0.113.0/24"]);
    world.drain(a);
    world.drain(b);
    assert_eq!(world.holds(a), [] as [&str; 0]);
    assert_eq!(
        world.held(b)[&prefix("203.0.113.0/24")].as_path,
        path(&[65000, 65001])
    );
    // b has a better one: a gets it, b must lose a's.
    world.announce(b, &learned(&[65002], "10.0.0.2"), &["198.51.100.0/24"]);
    let mut better = learned(&[65002], "10.0.0.2");
    better.local_pref = Some(200);
    world.announce(b, &better, &["203.0.113.0/24"]);
    world.drain(a);
    world.drain(b);
    assert_eq!(world.holds(a), ["198.51.100.0/24", "203.0.113.0/24"]);
    assert_eq!(world.holds(b), [] as [&str; 0]);
    world.withdraw(b, &["203.0.113.0/24"]);
    world.drain(a);
    world.drain(b);
    assert_eq!(world.holds(a), ["198.51.100.0/24"]);
    assert_eq!(world.holds(b), ["203.0.113.0/24"]);
}

#[test]
fn peers_of_a_kind_get_the_very_same_buffers() {
    let mut world = World::new();
    let peers = [1, 2, 3].map(|n| world.up(n, external(n)));
    for peer in peers {
        world.drain(peer);
    }
    world.set_local(&[("192.0.2.1/32", local(None))]);
    let buffers = peers.map(|p| {
        let mut out = Vec::new();
        world.rib.pull(p, 1 << 20, &mut out);
        out[0].as_ptr()
    });
    assert_eq!(buffers, [buffers[0]; 3]);
}

#[test]
fn the_name_of_a_policy_does_not_keep_peers_apart() {
    let mut world = World::new();
    let peers = [1, 2].map(|n| {
        let mut info = external(n);
        let mut policy = ExportPolicy::clone(&info.families[0].1.export);
        policy.statements[0].policy = format!("peer-{n}").into();
        info.families[0].1.export = std::sync::Arc::new(policy);
        world.up(n, info)
    });
    for peer in peers {
        world.drain(peer);
    }
    assert_eq!(world.rib.v4.groups.len(), 1);
}

#[test]
fn peers_that_come_up_later_share_the_dump() {
    let mut world = World::new();
    let feeder = world.up(9, internal(9));
    world.announce_all(feeder, &learned(&[65009], "10.0.0.9"), many(20_000));
    let dumps = [1, 2, 3].map(|n| {
        let peer = world.up(n, external(n));
        let mut out = Vec::new();
        while world.rib.pull(peer, 10_000, &mut out).bytes > 0 {}
        out.iter()
            .filter(|b| b.len() > 100)
            .map(|b| b.as_ptr())
            .collect::<Vec<_>>()
    });
    assert!(dumps[0].len() > 2);
    assert_eq!(dumps[0], dumps[1]);
    assert_eq!(dumps[0], dumps[2]);
}

/// RFC 4271 5.1.3. The dump was encoded for those that were there, and the newcomer's address led nowhere then.
#[test]
fn a_newcomer_does_not_share_a_dump_that_leads_to_itself() {
    let unchanged = SetAttrs {
        next_hop: SetNextHop::Unchanged,
        ..SetAttrs::default()
    };
    let peer = |n| {
        let mut info = external(n);
        info.families[0].1.export = export_with(unchanged.clone());
        info
    };
    let mut world = World::new();
    let a = world.up(1, peer(1));
    world.announce(a, &learned(&[65001], "10.0.0.2"), &["203.0.113.0/24"]);
    world.announce(a, &learned(&[65001], "10.0.0.1"), &["198.51.100.0/24"]);
    world.drain(a);
    // Decoding asserts that nothing sent meanwhile is wrong either.
    for (n, held) in [
        (2, vec!["198.51.100.0/24"]),
        (3, vec!["198.51.100.0/24", "203.0.113.0/24"]),
    ] {
        let newcomer = world.up(n, peer(n));
        world.drain(newcomer);
        assert_eq!(world.holds(newcomer), held, "peer {n}");
    }
}

#[test]
fn messages_are_filled_to_the_limit() {
    for (limit, least) in [(4096, 4080), (65535, 65500)] {
        let mut world = World::new();
        let feeder = world.up(9, internal(9));
        world.announce_all(feeder, &learned(&[65009], "10.0.0.9"), many(100_000));
        let mut info = external(1);
        info.max_message = limit;
        let peer = world.up(1, info);
        let pulled = world.drain(peer);
        assert_eq!(world.held(peer).len(), 100_000);
        assert!((least..=limit).contains(&world.receivers[&peer].longest));
        // 5 octets per prefix and some for each head; End-of-RIB of both families.
        let messages = (pulled.bytes / least + 1) as u64 + 2;
        assert!(pulled.messages <= messages, "{} > {messages}", pulled.messages);
        // Withdrawals are packed as well.
        world.rib.peer_down(feeder, &Down::Flush);
        let pulled = world.drain(peer);
        assert_eq!(world.held(peer).len(), 0);
        assert!(pulled.messages <= (pulled.bytes / least + 12) as u64);
        assert_eq!(world.rib.attribute_sets(), 0);
        assert_eq!(world.rib.prefixes(V4), 0);
    }
}

#[test]
fn peers_share_the_buffers_of_a_mass_withdrawal() {
    let mut world = World::new();
    let feeder = world.up(9, internal(9));
    let peers = [1, 2].map(|n| world.up(n, external(n)));
    world.announce_all(feeder, &learned(&[65009], "10.0.0.9"), many(40_000));
    for peer in peers {
        world.drain(peer);
        assert_eq!(world.held(peer).len(), 40_000);
    }
    world.rib.peer_down(feeder, &Down::Flush);
    let mut buffers = peers.map(|peer| {
        let mut out = Vec::new();
        while world.rib.pull(peer, 10_000, &mut out).bytes > 0 {}
        out
    });
    let octets: usize = buffers[0].iter().map(|b| b.len()).sum();
    assert!((200_000..220_000).contains(&octets), "{octets}");
    let places = buffers
        .each_ref()
        .map(|all| all.iter().map(|b| b.as_ptr()).collect::<Vec<_>>());
    assert_eq!(places[0], places[1]);
    for buffer in std::mem::take(&mut buffers[0]) {
        world.receivers.get_mut(&peers[0]).unwrap().take(&buffer);
    }
    assert_eq!(world.held(peers[0]).len(), 0);
    assert_eq!(world.rib.prefixes(V4), 0);
}

#[test]
fn slow_peer_is_told_the_last_state_once() {
    let mut world = World::new();
    let slow = world.up(1, external(1));
    world.drain(slow);
    let fast = world.up(2, external(2));
    world.rib.shared.limits.lag = 1000;
    for med in 0..500 {
        world.set_local(&[("192.0.2.1/32", local(Some(med)))]);
        world.drain(fast);
        assert!(world.rib.v4.groups[0].log.bytes() <= 1000);
    }
    world.set_local(&[("192.0.2.2/32", local(None))]);
    world.drain(fast);
    let pulled = world.drain(slow);
    assert_eq!(world.holds(slow), ["192.0.2.2/32"]);
    assert!(pulled.messages <= 2, "{}", pulled.messages);
}

#[test]
fn a_pull_goes_over_its_budget_by_one_buffer_at_most() {
    let mut world = World::new();
    let feeder = world.up(9, internal(9));
    world.announce_all(feeder, &learned(&[65009], "10.0.0.9"), many(50_000));
    let peer = world.up(1, external(1));
    let mut pulls = 0;
    loop {
        let pulled = world.pull(peer, 10_000);
        assert!(pulled.bytes < 10_000 + (32 << 10) + 4096, "{}", pulled.bytes);
        if pulled.bytes == 0 {
            break;
        }
        pulls += 1;
    }
    assert!(pulls > 5);
    assert_eq!(world.held(peer).len(), 50_000);
}

#[test]
fn a_flood_in_one_family_does_not_hold_up_the_other() {
    let mut world = World::new();
    let feeder = world.up(9, internal(9));
    let peer = world.up(1, external(1));
    world.drain(peer);
    world.announce_all(feeder, &learned(&[65009], "10.0.0.9"), many(50_000));
    world.set_local(&[("2001:db8::1/128", local(None))]);
    for _ in 0..3 {
        world.pull(peer, 10_000);
    }
    assert!(world.held(peer).contains_key(&prefix("2001:db8::1/128")));
    assert!(world.held(peer).len() < 50_000);
    world.drain(peer);
    assert_eq!(world.held(peer).len(), 50_001);
}

#[test]
fn a_small_change_that_waits_holds_no_large_buffer() {
    let mut world = World::new();
    let peer = world.up(1, external(1));
    world.drain(peer);
    for med in 0..3 {
        world.set_local(&[("192.0.2.1/32", local(Some(med)))]);
        let mut out = Vec::new();
        world.rib.pull(peer, 1 << 20, &mut out);
        let [message] = <[_; 1]>::try_from(out).unwrap();
        // Nobody else has a part of the same memory.
        let alone = message.try_into_mut().unwrap();
        assert!(alone.capacity() < 200, "{}", alone.capacity());
    }
}

#[test]
fn marks_with_long_attributes_are_encoded_a_little_at_a_time() {
    let mut world = World::new();
    let peer = world.up(1, external(1));
    world.drain(peer);
    let feeder = world.up(9, internal(9));
    world.rib.shared.limits.lag = 0;
    for (n, prefix) in (0..).zip(many(400)) {
        let attrs = Attrs {
            communities: (n..n + 900).collect(),
            ..learned(&[65009], "10.0.0.9")
        };
        world.announce_all(feeder, &attrs, vec![prefix]);
    }
    world.drain(feeder);
    assert_eq!(world.rib.v4.groups.len(), 2);
    world.pull(peer, 1);
    let group = world.rib.v4.group_of(peer).unwrap();
    let waiting: usize = group.members[&peer].private.iter().map(|c| c.bytes.len()).sum();
    assert!(waiting < 1 << 19, "{waiting}");
    world.drain(peer);
    assert_eq!(world.held(peer).len(), 400);
}

#[test]
fn refused_routes_stay_in_the_adj_rib_in_with_the_reason() {
    let mut world = World::new();
    let mut refusing = external(1);
    refusing.families[0].1.import = std::sync::Arc::default();
    let a = world.up(1, refusing);
    let b = world.up(2, external(2));
    world.announce(a, &learned(&[65001], "10.0.0.1"), &["203.0.113.0/24"]);
    world.announce(b, &learned(&[65002, LOCAL_ASN], "10.0.0.2"), &["203.0.113.0/24"]);
    world.announce(b, &learned(&[65002], "10.0.0.254"), &["203.0.113.1/32"]);
    world.announce(b, &learned(&[65002], "::ffff:10.0.0.254"), &["2001:db8::/48"]);
    let mut reflected = learned(&[65002], "10.0.0.2");
    reflected.originator_id = Some("10.0.0.254".parse().unwrap());
    world.announce(b, &reflected, &["203.0.113.2/32"]);
    reflected.originator_id = None;
    reflected.cluster_list = vec!["10.0.0.254".parse().unwrap()];
    world.announce(b, &reflected, &["203.0.113.3/32"]);
    let why = |peer| -> Vec<Standing> {
        let routes = world.rib.adj_in(peer, V4);
        routes.into_iter().map(|view| view.standing).collect()
    };
    assert_eq!(why(a), [Standing::Refused(WhyRefused::ImportPolicy)]);
    assert_eq!(
        why(b),
        [
            WhyRefused::AsLoop,
            WhyRefused::NextHop,
            WhyRefused::OriginatorLoop,
            WhyRefused::ClusterLoop,
        ]
        .map(Standing::Refused)
    );
    let mapped = world.rib.adj_in(b, V6).remove(0);
    assert_eq!(mapped.standing, Standing::Refused(WhyRefused::NextHop));
    assert_eq!(world.loc_rib(), []);
    let counts = world.rib.counts(b, V4);
    assert_eq!((counts.received, counts.accepted), (4, 0));
}

#[test]
fn another_import_policy_judges_what_is_there() {
    let mut world = World::new();
    let (a, b) = (world.up(1, external(1)), world.up(2, external(2)));
    world.announce(a, &learned(&[65001], "10.0.0.1"), &["203.0.113.0/24"]);
    assert!(world.got(b, "203.0.113.0/24").is_some());
    world.rib.set_import(a, V4, &std::sync::Arc::default());
    assert_eq!(world.got(b, "203.0.113.0/24"), None);
    assert_eq!(world.rib.counts(a, V4).accepted, 0);
    world.rib.set_import(a, V4, &import_all());
    assert!(world.got(b, "203.0.113.0/24").is_some());
    assert_eq!(world.rib.counts(a, V4).accepted, 1);
}

#[test]
fn every_loser_knows_why_and_multipath_is_marked() {
    let mut options = options();
    options.maximum_paths = 2;
    let mut world = World::with(options);
    let peers = [1, 2, 3, 4].map(|n| world.up(n, external(n)));
    for (n, peer) in (1..).zip(peers) {
        let mut attrs = learned(&[65000 + n], &format!("10.0.0.{n}"));
        if n == 4 {
            attrs.as_path = path(&[65004, 1]);
        }
        world.announce(peer, &attrs, &["203.0.113.0/24"]);
    }
    let standing: Vec<_> = world.loc_rib().iter().map(|v| (v.source, v.standing)).collect();
    assert_eq!(
        standing,
        [
            (Some(peers[0]), Standing::Best),
            (Some(peers[1]), Standing::Multipath),
            (Some(peers[2]), Standing::Lost(WhyNotBest::RouterId)),
            (Some(peers[3]), Standing::Lost(WhyNotBest::AsPathLength)),
        ]
    );
}

#[test]
fn another_export_policy_sends_only_what_it_changes() {
    let mut world = World::new();
    world.set_local(&[("192.0.2.1/32", local(None)), ("192.0.2.2/32", local(None))]);
    let peers = [1, 2].map(|n| world.up(n, external(n)));
    for peer in peers {
        world.drain(peer);
    }
    let one = ExportPolicy {
        statements: vec![
            accept(
                &["192.0.2.1/32"],
                SetAttrs {
                    communities: vec![7],
                    ..SetAttrs::default()
                },
            ),
            accept(&[], SetAttrs::default()),
        ],
    };
    let one = std::sync::Arc::new(one);
    for peer in peers {
        world.rib.set_export(peer, V4, &one);
    }
    for peer in peers {
        assert_eq!(world.drain(peer).messages, 1);
        assert_eq!(world.held(peer)[&prefix("192.0.2.1/32")].communities, [7]);
    }
    // Of another kind now, with the same outcome: nothing is sent.
    let mut same = ExportPolicy::clone(&one);
    same.statements.push(one.statements[0].clone());
    world.rib.set_export(peers[0], V4, &std::sync::Arc::new(same));
    assert_eq!(world.drain(peers[0]).bytes, 0);
    world.rib.set_export(peers[0], V4, &std::sync::Arc::default());
    world.drain(peers[0]);
    assert_eq!(world.holds(peers[0]), [] as [&str; 0]);
    assert_eq!(world.holds(peers[1]).len(), 2);
}

#[test]
fn refresh_sends_everything_between_borr_and_eorr() {
    let mut world = World::new();
    world.set_local(&[("192.0.2.1/32", local(None)), ("192.0.2.2/32", local(None))]);
    let peer = world.up(1, external(1));
    // Asked before End-of-RIB went out: it comes after (RFC 7313 4).
    world.rib.refresh(peer, V4);
    world.drain(peer);
    let receiver = &world.receivers[&peer];
    assert_eq!(receiver.refreshes, [(V4, Subtype::Begin), (V4, Subtype::End)]);
    assert_eq!(receiver.ends_of_rib, [V4, V6]);
    let before = receiver.messages;
    world.rib.refresh(peer, V4);
    world.drain(peer);
    assert_eq!(world.receivers[&peer].messages - before, 3);
    assert_eq!(world.holds(peer).len(), 2);
}

#[test]
fn stale_routes_stay_until_replaced_or_swept() {
    let mut world = World::new();
    let (a, b) = (world.up(1, external(1)), world.up(2, external(2)));
    let attrs = learned(&[65001], "10.0.0.1");
    world.announce(a, &attrs, &["203.0.113.0/24", "203.0.113.1/32"]);
    world.drain(b);
    world.rib.peer_down(a, &Down::KeepStale(vec![V4]));
    assert_eq!(world.rib.counts(a, V4).stale, 2);
    assert_eq!(world.drain(b).bytes, 0);
    let a = world.up(1, external(1));
    world.announce(a, &attrs, &["203.0.113.0/24"]);
    assert_eq!(world.rib.counts(a, V4).stale, 1);
    assert_eq!(world.drain(b).bytes, 0);
    world.rib.sweep_stale(a, V4);
    world.drain(b);
    assert_eq!(world.holds(b), ["203.0.113.0/24"]);
    assert_eq!(world.rib.counts(a, V4).received, 1);
}

#[test]
fn a_stale_peer_that_never_returns_leaves_nothing() {
    let mut world = World::new();
    let a = world.up(1, external(1));
    world.announce(a, &learned(&[65001], "10.0.0.1"), &["203.0.113.0/24"]);
    world.rib.peer_down(a, &Down::KeepStale(vec![V4, V6]));
    assert_eq!(world.rib.prefixes(V4), 1);
    world.rib.sweep_stale(a, V4);
    assert_eq!(world.rib.prefixes(V4), 0);
    assert_eq!(world.rib.attribute_sets(), 0);
    assert!(world.rib.shared.peer(a).is_none());
}

#[test]
fn deferral_holds_back_routes_and_end_of_rib_of_its_family() {
    let mut world = World::new();
    world.set_local(&[("192.0.2.1/32", local(None)), ("2001:db8::1/128", local(None))]);
    world.rib.defer(V4);
    let peer = world.up(1, external(1));
    world.drain(peer);
    assert_eq!(world.holds(peer), ["2001:db8::1/128"]);
    assert_eq!(world.receivers[&peer].ends_of_rib, [V6]);
    world.rib.release(V4);
    world.drain(peer);
    assert_eq!(world.holds(peer).len(), 2);
    assert_eq!(world.receivers[&peer].ends_of_rib, [V6, V4]);
}

fn limited(action: MaxPrefixesAction) -> (World, PeerId) {
    let mut world = World::new();
    let mut info = external(1);
    info.families[0].1.max_prefixes = Some(MaxPrefixes {
        limit: 10,
        warning_percent: 80,
        action,
    });
    let peer = world.up(1, info);
    (world, peer)
}

#[test]
fn limit_warns_once_then_tears_down() {
    let restart = Some(Duration::from_secs(60));
    let (mut world, peer) = limited(MaxPrefixesAction::Teardown { restart });
    let attrs = learned(&[65001], "10.0.0.1");
    assert_eq!(world.announce_all(peer, &attrs, many(7)).limits, []);
    let warned = world.announce_all(peer, &attrs, many(8)).limits;
    assert_eq!(warned[0].verdict, LimitVerdict::Warn);
    assert_eq!((warned[0].count, warned[0].limit), (8, 10));
    assert_eq!(world.announce_all(peer, &attrs, many(10)).limits, []);
    let over = world.announce_all(peer, &attrs, many(11)).limits;
    assert_eq!(over[0].verdict, LimitVerdict::Teardown { restart });
}

#[test]
fn prefixes_above_the_limit_are_refused_and_a_flood_is_not_stored() {
    let (mut world, peer) = limited(MaxPrefixesAction::Refuse);
    let other = world.up(2, external(2));
    let over = world
        .announce_all(peer, &learned(&[65001], "10.0.0.1"), many(50))
        .limits;
    assert_eq!(over[0].verdict, LimitVerdict::Refuse);
    let counts = world.rib.counts(peer, V4);
    assert_eq!((counts.received, counts.accepted, counts.dropped), (20, 10, 30));
    world.drain(other);
    assert_eq!(world.held(other).len(), 10);
    assert_eq!(world.rib.prefixes(V4), 20);
    let refused = world.rib.adj_in(peer, V4).pop().unwrap();
    assert_eq!(refused.standing, Standing::Refused(WhyRefused::MaxPrefixes));
}

#[test]
fn refused_routes_that_come_and_go_leave_nothing_though_nobody_pulls() {
    let mut world = World::new();
    let mut refusing = external(1);
    refusing.families[0].1.import = std::sync::Arc::default();
    let peer = world.up(1, refusing);
    world.drain(peer);
    for prefix in many(5000) {
        world.announce_all(peer, &learned(&[65001], "10.0.0.1"), vec![prefix]);
        world.withdraw(peer, &[&prefix.to_string()]);
        assert!(!world.rib.has_pending(peer));
    }
    assert!(world.rib.prefixes(V4) < 2000, "{}", world.rib.prefixes(V4));
    assert_eq!(world.rib.attribute_sets(), 0);
}

#[test]
fn routes_that_come_and_go_while_announcing_is_deferred_leave_nothing() {
    let mut world = World::new();
    world.rib.defer(V4);
    let peer = world.up(1, external(1));
    world.drain(peer);
    for prefix in many(5000) {
        world.announce_all(peer, &learned(&[65001], "10.0.0.1"), vec![prefix]);
        world.withdraw(peer, &[&prefix.to_string()]);
    }
    assert!(world.rib.prefixes(V4) < 2000, "{}", world.rib.prefixes(V4));
    world.rib.release(V4);
    world.drain(peer);
    assert!(world.receivers[&peer].ends_of_rib.contains(&V4));
}

#[test]
fn a_route_that_leads_back_here_is_refused_whenever_the_address_is_learned() {
    let other = |n| {
        let mut info = external(n);
        info.local_address = "10.0.1.254".parse().unwrap();
        info
    };
    for first in [1, 2] {
        let mut world = World::new();
        let mut learn = |n| match n {
            1 => {
                let peer = world.up(1, external(1));
                world.announce(peer, &learned(&[65001], "10.0.1.254"), &["203.0.113.0/24"]);
            }
            _ => {
                world.up(2, other(2));
            }
        };
        learn(first);
        learn(3 - first);
        let standing = world.rib.adj_in(PeerId(1), V4)[0].standing;
        assert_eq!(standing, Standing::Refused(WhyRefused::NextHop), "{first} first");
        assert_eq!(world.loc_rib(), []);
    }
}

#[test]
fn no_peers_no_leftovers() {
    let mut world = World::new();
    for i in 0..100_u8 {
        world.set_local(&[(&format!("192.0.2.{i}/32"), local(None))]);
    }
    assert_eq!(world.rib.prefixes(V4), 1);
    world.set_local(&[]);
    assert_eq!((world.rib.prefixes(V4), world.rib.attribute_sets()), (0, 0));
}
