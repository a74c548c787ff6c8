//! What becomes of attributes on the way out.

use std::sync::Arc;

use super::world::*;
use crate::config::{LocalRoute, ReflectorClient};
use crate::policy::{ExportPolicy, SetAttrs, SetNextHop};
use crate::rib::attrs::{NO_ADVERTISE, NO_EXPORT};
use crate::rib::{ExtendedNextHop, PeerInfo, WhyNotSent};
use crate::types::{Family, SessionKind};
use crate::wire::attrs::{AsPath, AsSegment, Attrs, ExtCommunity, LargeCommunity, NextHop, UnknownAttr};

const NET: &str = "203.0.113.0/24";
const NET6: &str = "2001:db8::/48";

fn ip(text: &str) -> NextHop {
    NextHop::Ip(text.parse().unwrap())
}

fn with(mut info: PeerInfo, change: impl FnOnce(&mut PeerInfo)) -> PeerInfo {
    change(&mut info);
    info
}

fn exporting(info: PeerInfo, set: SetAttrs) -> PeerInfo {
    with(info, |info| {
        for (_, family) in &mut info.families {
            family.export = export_with(set.clone());
        }
    })
}

/// What peer 2 gets of a route that peer 1 announces.
fn passed(from: PeerInfo, attrs: &Attrs, to: PeerInfo) -> Result<Attrs, WhyNotSent> {
    let mut world = World::new();
    let (a, b) = (world.up(1, from), world.up(2, to));
    world.announce(a, attrs, &[NET]);
    match world.got(b, NET) {
        Some(attrs) => Ok(attrs),
        None => Err(world.rib.why_not_sent(b, &prefix(NET)).unwrap()),
    }
}

/// What peer 2 gets of a route that begins here.
fn originated(route: &LocalRoute, net: &str, to: PeerInfo) -> Option<Attrs> {
    let mut world = World::new();
    world.set_local(&[(net, route.clone())]);
    let peer = world.up(2, to);
    world.got(peer, net)
}

fn everything() -> Attrs {
    Attrs {
        med: Some(5),
        communities: vec![9],
        ext_communities: vec![
            ExtCommunity([0, 2, 0, 0, 0, 0, 0, 1]),
            ExtCommunity([0x40, 4, 0, 0, 0, 0, 0, 1]),
        ],
        large_communities: vec![LargeCommunity(1, 2, 3)],
        atomic_aggregate: true,
        unknown: vec![UnknownAttr {
            flags: 0xc0,
            code: 200,
            value: vec![1, 2, 3].into(),
        }],
        ..learned(&[65001], "10.0.0.1")
    }
}

#[test]
fn external_to_external_is_rewritten_as_rfc_4271_5_says() {
    let got = passed(external(1), &everything(), external(2)).unwrap();
    let mut expected = everything();
    expected.as_path = path(&[65000, 65001]);
    expected.next_hop = ip("10.0.0.254");
    expected.med = None;
    // Not transitive: it stays in the AS of the neighbour (RFC 4360 2).
    expected.ext_communities.pop();
    expected.unknown[0].flags = 0xe0;
    assert_eq!(got, expected);
}

#[test]
fn external_to_internal_keeps_path_next_hop_and_med() {
    let got = passed(external(1), &everything(), internal(2)).unwrap();
    let mut expected = everything();
    expected.local_pref = Some(100);
    expected.unknown[0].flags = 0xe0;
    assert_eq!(got, expected);
}

#[test]
fn internal_routes_are_reflected_only_where_a_client_is_part_of_it() {
    let client = |n| with(internal(n), |info| info.reflector_client = ReflectorClient::Yes);
    let attrs = Attrs {
        local_pref: Some(70),
        ..learned(&[65009], "10.9.9.9")
    };
    let refused = passed(internal(1), &attrs, internal(2));
    assert_eq!(refused, Err(WhyNotSent::InternalToInternal));
    for (from, to) in [
        (client(1), internal(2)),
        (internal(1), client(2)),
        (client(1), client(2)),
    ] {
        let got = passed(from, &attrs, to).unwrap();
        assert_eq!(got.originator_id, Some("10.0.0.1".parse().unwrap()));
        assert_eq!(
            got.cluster_list,
            ["10.0.0.254".parse::<std::net::Ipv4Addr>().unwrap()]
        );
        assert_eq!((got.next_hop, got.local_pref), (attrs.next_hop, Some(70)));
        assert_eq!(got.as_path, attrs.as_path);
    }
    // What reflection added does not leave the AS.
    let got = passed(internal(1), &attrs, external(2)).unwrap();
    assert_eq!((got.originator_id, got.local_pref), (None, None));
}

#[test]
fn well_known_communities_bound_where_a_received_route_goes() {
    let marked = |community| Attrs {
        communities: vec![community],
        ..learned(&[65001], "10.0.0.1")
    };
    assert_eq!(
        passed(external(1), &marked(NO_EXPORT), external(2)),
        Err(WhyNotSent::NoExport)
    );
    assert!(passed(external(1), &marked(NO_EXPORT), internal(2)).is_ok());
    assert_eq!(
        passed(external(1), &marked(NO_ADVERTISE), internal(2)),
        Err(WhyNotSent::NoAdvertise)
    );
    // Set by our own policy they are meant for the neighbour.
    let set = SetAttrs {
        communities: vec![NO_EXPORT],
        ..SetAttrs::default()
    };
    let got = originated(&local(None), NET, exporting(external(2), set)).unwrap();
    assert_eq!(got.communities, [NO_EXPORT]);
}

#[test]
fn what_policy_sets_arrives() {
    let set = SetAttrs {
        communities: vec![9, 10],
        large_communities: vec![LargeCommunity(1, 2, 3), LargeCommunity(4, 5, 6)],
        ext_communities: vec![ExtCommunity([0x40, 4, 0, 0, 0, 0, 0, 2])],
        local_pref: Some(200),
        med: Some(7),
        as_path_prepend: 2,
        next_hop: SetNextHop::Is(ip("10.0.0.77")),
    };
    let got = passed(external(1), &everything(), exporting(external(2), set.clone())).unwrap();
    assert_eq!(got.communities, [9, 10]);
    assert_eq!(got.large_communities.len(), 2);
    assert_eq!(got.ext_communities.len(), 2);
    assert_eq!((got.local_pref, got.med), (None, Some(7)));
    assert_eq!(got.as_path, path(&[65000, 65000, 65000, 65001]));
    assert_eq!(got.next_hop, ip("10.0.0.77"));
    let got = passed(external(1), &everything(), exporting(internal(2), set)).unwrap();
    assert_eq!((got.local_pref, got.as_path), (Some(200), path(&[65001])));
}

#[test]
fn full_segment_is_not_prepended_into() {
    let long = vec![asn(65001); 254];
    let attrs = Attrs {
        as_path: AsPath(vec![AsSegment::Sequence(long)]),
        ..learned(&[65001], "10.0.0.1")
    };
    let set = SetAttrs {
        as_path_prepend: 1,
        ..SetAttrs::default()
    };
    let got = passed(external(1), &attrs, exporting(external(2), set)).unwrap();
    let lengths: Vec<usize> = got
        .as_path
        .0
        .iter()
        .map(|segment| match segment {
            AsSegment::Sequence(asns) => asns.len(),
            AsSegment::Set(_) | AsSegment::ConfedSequence(_) | AsSegment::ConfedSet(_) => 0,
        })
        .collect();
    assert_eq!(lengths, [1, 255]);
}

#[test]
fn own_next_hop_is_one_the_peer_can_use() {
    let over = |address: &str, extended: ExtendedNextHop, v6: Option<&str>| {
        with(external(2), |info| {
            info.local_address = address.parse().unwrap();
            info.local_ipv6 = v6.map(|a| a.parse().unwrap());
            info.families[0].1.extended_next_hop = extended;
        })
    };
    let (agreed, no) = (ExtendedNextHop::Agreed, ExtendedNextHop::No);
    let net4 = |info| originated(&local(None), NET, info).map(|a| a.next_hop);
    let net6 = |info| originated(&local(None), NET6, info).map(|a| a.next_hop);
    assert_eq!(net4(over("10.0.0.254", no, None)), Some(ip("10.0.0.254")));
    assert_eq!(net4(over("fd00::fe", agreed, None)), Some(ip("fd00::fe")));
    // Nothing an IPv4 route could name.
    assert_eq!(net4(over("fd00::fe", no, None)), None);
    let beside = with(over("fd00::fe", no, None), |info| {
        info.local_ipv4 = "10.0.0.254".parse().ok()
    });
    assert_eq!(net4(beside), Some(ip("10.0.0.254")));
    assert_eq!(net6(over("fd00::fe", no, None)), Some(ip("fd00::fe")));
    assert_eq!(net6(over("10.0.0.254", no, None)), Some(ip("::ffff:10.0.0.254")));
    assert_eq!(
        net6(over("10.0.0.254", no, Some("fd00::fe"))),
        Some(ip("fd00::fe"))
    );
    // A link-local address never stands alone.
    assert_eq!(net6(over("fe80::1", no, None)), None);
    assert_eq!(net4(over("fe80::1", agreed, None)), None);
    let beside = with(over("fe80::1", agreed, None), |info| {
        info.local_ipv4 = "10.0.0.254".parse().ok()
    });
    assert_eq!(net4(beside), Some(ip("10.0.0.254")));
    let both = NextHop::V6WithLinkLocal("fd00::fe".parse().unwrap(), "fe80::1".parse().unwrap());
    assert_eq!(net6(over("fe80::1", no, Some("fd00::fe"))), Some(both));
}

/// RFC 2545 3.
#[test]
fn link_local_next_hop_of_a_peer_is_not_passed_on() {
    let (global, link_local) = ("fd00::1".parse().unwrap(), "fe80::1".parse().unwrap());
    let attrs = Attrs {
        next_hop: NextHop::V6WithLinkLocal(global, link_local),
        ..learned(&[65001], "10.0.0.1")
    };
    let mut world = World::new();
    let (a, b) = (world.up(1, external(1)), world.up(2, internal(2)));
    world.announce(a, &attrs, &[NET6]);
    assert_eq!(world.got(b, NET6).unwrap().next_hop, ip("fd00::1"));
}

#[test]
fn next_hop_given_to_a_local_route_is_kept() {
    let mut route = local(None);
    Arc::make_mut(&mut route.attrs).next_hop = ip("10.0.0.200");
    for info in [external(2), internal(2)] {
        assert_eq!(originated(&route, NET, info).unwrap().next_hop, ip("10.0.0.200"));
    }
    let own = SetAttrs {
        next_hop: SetNextHop::Local,
        ..SetAttrs::default()
    };
    let got = originated(&route, NET, exporting(external(2), own)).unwrap();
    assert_eq!(got.next_hop, ip("10.0.0.254"));
}

#[test]
fn next_hop_unchanged_passes_a_third_party_on() {
    let unchanged = SetAttrs {
        next_hop: SetNextHop::Unchanged,
        ..SetAttrs::default()
    };
    let attrs = learned(&[65001], "10.0.0.99");
    let got = passed(external(1), &attrs, exporting(external(2), unchanged.clone())).unwrap();
    assert_eq!(got.next_hop, ip("10.0.0.99"));
    // RFC 4271 5.1.3: never the address of the peer itself.
    let attrs = learned(&[65001], "10.0.0.2");
    let refused = passed(external(1), &attrs, exporting(external(2), unchanged));
    assert_eq!(refused, Err(WhyNotSent::NextHopIsPeer));
}

#[test]
fn med_of_a_local_route_goes_to_other_ases() {
    let got = originated(&local(Some(30)), NET, external(2)).unwrap();
    assert_eq!((got.med, got.local_pref), (Some(30), None));
    let got = originated(&local(Some(30)), NET, internal(2)).unwrap();
    assert_eq!((got.med, got.local_pref), (Some(30), Some(100)));
    assert_eq!(got.as_path, AsPath::default());
}

#[test]
fn nothing_is_announced_without_a_policy_that_accepts_it() {
    let denying = with(external(2), |info| {
        info.families[0].1.export = Arc::new(ExportPolicy::default())
    });
    assert_eq!(originated(&local(None), NET, denying.clone()), None);
    assert_eq!(
        passed(external(1), &learned(&[65001], "10.0.0.1"), denying),
        Err(WhyNotSent::ExportPolicy)
    );
}

#[test]
fn attributes_that_fit_no_message_are_not_announced() {
    let attrs = Attrs {
        communities: (0..1200).collect(),
        ..learned(&[65001], "10.0.0.1")
    };
    assert_eq!(passed(external(1), &attrs, external(2)), Err(WhyNotSent::TooLong));
    let long = with(external(2), |info| info.max_message = 65535);
    assert_eq!(passed(external(1), &attrs, long).unwrap().communities.len(), 1200);
}

#[test]
fn two_octet_session_is_of_another_kind() {
    let mut world = World::new();
    let old = with(external(2), |info| info.asn_width = crate::types::AsnWidth::Two);
    let (a, b) = (world.up(1, external(1)), world.up(2, old));
    let mut route = local(None);
    Arc::make_mut(&mut route.attrs).as_path = path(&[4_200_000_000]);
    world.set_local(&[(NET, route)]);
    for peer in [a, b] {
        assert_eq!(
            world.got(peer, NET).unwrap().as_path,
            path(&[65000, 4_200_000_000])
        );
    }
    assert_eq!(world.rib.counts(b, Family::IPV4_UNICAST).advertised, 1);
    assert_eq!(info(1, SessionKind::External), external(1));
}
