//! Round trips of anything, and anything at all.

use bgp_speaker::types::{Asn, AsnWidth, Family, Prefix, SessionKind};
use bgp_speaker::wire::attrs::{
    Aggregator, AsPath, AsSegment, Attrs, ExtCommunity, LargeCommunity, NextHop, Origin, UnknownAttr,
};
use bgp_speaker::wire::route_refresh::{RouteRefresh, Rules};
use bgp_speaker::wire::update::{self, Context, FirstAs};
use bgp_speaker::wire::{Capability, Framer, MAX_EXTENDED_MESSAGE, Notification, Open, decode_one};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::build::{body, external};
use crate::update::send;

fn asn() -> impl Strategy<Value = Asn> {
    prop_oneof![1..=65535_u32, 1..=u32::MAX].prop_map(|n| Asn::new(n).unwrap())
}

fn as_path() -> impl Strategy<Value = AsPath> {
    let segment = prop_oneof![
        vec(asn(), 1..20).prop_map(AsSegment::Sequence),
        vec(asn(), 1..5).prop_map(AsSegment::Set),
    ];
    vec(segment, 0..4).prop_map(AsPath)
}

fn v4_prefix() -> impl Strategy<Value = Prefix> {
    (any::<[u8; 4]>(), 0..=32_u8)
        .prop_map(|(addr, len)| Prefix::new(addr.into(), len).unwrap())
        .prop_filter(
            "a destination",
            |p| !matches!(p, Prefix::V4 { bits, .. } if *bits >= 0xe000_0000),
        )
}

fn v6_prefix() -> impl Strategy<Value = Prefix> {
    (any::<[u8; 16]>(), 0..=128_u8).prop_map(|([_, rest @ ..], len)| {
        let mut addr = [0x20; 16];
        addr[1..].copy_from_slice(&rest);
        Prefix::new(addr.into(), len).unwrap()
    })
}

fn next_hop() -> impl Strategy<Value = NextHop> {
    prop_oneof![
        (1..=126_u8, any::<[u8; 3]>()).prop_map(|(a, [b, c, d])| NextHop::Ip([a, b, c, d].into())),
        any::<[u8; 15]>().prop_map(|rest| {
            let mut addr = [0x20; 16];
            addr[1..].copy_from_slice(&rest);
            NextHop::V6WithLinkLocal(addr.into(), "fe80::1".parse().unwrap())
        }),
    ]
}

prop_compose! {
    fn attrs()(
        origin in prop_oneof![Just(Origin::Igp), Just(Origin::Egp), Just(Origin::Incomplete)],
        as_path in as_path(),
        next_hop in next_hop(),
        med in any::<Option<u32>>(),
        local_pref in any::<u32>(),
        atomic_aggregate in any::<bool>(),
        aggregator in proptest::option::of((asn(), any::<[u8; 4]>())),
        communities in vec(any::<u32>(), 0..80),
        (mut large, ext) in (vec(any::<[u32; 3]>(), 0..30), vec(any::<[u8; 8]>(), 0..40)),
        (originator, clusters) in (any::<Option<[u8; 4]>>(), vec(any::<[u8; 4]>(), 0..5)),
        unknown in vec((100..=255_u8, vec(any::<u8>(), 0..300)), 0..3),
    ) -> Attrs {
        large.sort_unstable();
        large.dedup();
        let mut unknown: Vec<UnknownAttr> = unknown
            .into_iter()
            .map(|(code, value)| UnknownAttr { flags: 0xe0, code, value: value.into() })
            .collect();
        unknown.sort_by_key(|other| other.code);
        unknown.dedup_by_key(|other| other.code);
        Attrs {
            origin,
            as_path,
            next_hop,
            med,
            local_pref: Some(local_pref),
            atomic_aggregate,
            aggregator: aggregator.map(|(asn, address)| Aggregator { asn, address: address.into() }),
            communities,
            ext_communities: ext.into_iter().map(ExtCommunity).collect(),
            large_communities: large.into_iter().map(|[a, b, c]| LargeCommunity(a, b, c)).collect(),
            originator_id: originator.map(Into::into),
            cluster_list: clusters.into_iter().map(Into::into).collect(),
            unknown,
        }
    }
}

fn context(session: SessionKind, asn_width: AsnWidth) -> Context {
    Context {
        asn_width,
        session,
        first_as: FirstAs::Any,
        local_address: None,
        ipv6_next_hop: vec![Family::IPV4_UNICAST],
        ..external()
    }
}

fn every_context() -> Vec<Context> {
    let mut all = vec![external()];
    for session in [SessionKind::Internal, SessionKind::External] {
        for width in [AsnWidth::Two, AsnWidth::Four] {
            all.push(context(session, width));
        }
    }
    all
}

fn v6_next_hop(next_hop: NextHop) -> NextHop {
    match next_hop {
        NextHop::Ip(_) => NextHop::Ip("fd98::1".parse().unwrap()),
        other @ NextHop::V6WithLinkLocal(..) => other,
    }
}

proptest! {
    #[test]
    fn any_route_survives_an_internal_session(attrs in attrs(), prefixes in vec(v4_prefix(), 1..200)) {
        let update = send(&attrs, Family::IPV4_UNICAST, &prefixes, &context(SessionKind::Internal, AsnWidth::Four));
        prop_assert!(update.errors.is_empty(), "{:?}", update.errors);
        prop_assert_eq!(&update.announced[0].attrs, &attrs);
        prop_assert_eq!(&update.announced[0].prefixes, &prefixes);
    }

    #[test]
    fn any_ipv6_route_survives_an_external_session(attrs in attrs(), prefixes in vec(v6_prefix(), 1..200)) {
        let attrs = Attrs {
            next_hop: v6_next_hop(attrs.next_hop),
            local_pref: None,
            originator_id: None,
            cluster_list: vec![],
            ..attrs
        };
        let update = send(&attrs, Family::IPV6_UNICAST, &prefixes, &context(SessionKind::External, AsnWidth::Four));
        prop_assert!(update.errors.is_empty(), "{:?}", update.errors);
        prop_assert_eq!(&update.announced[0].attrs, &attrs);
        prop_assert_eq!(&update.announced[0].prefixes, &prefixes);
    }

    #[test]
    fn any_route_survives_an_old_speaker(attrs in attrs(), prefixes in vec(v4_prefix(), 1..5)) {
        let update = send(&attrs, Family::IPV4_UNICAST, &prefixes, &context(SessionKind::Internal, AsnWidth::Two));
        prop_assert!(update.errors.is_empty(), "{:?}", update.errors);
        prop_assert_eq!(&update.announced[0].attrs, &attrs);
    }

    #[test]
    fn any_octets_are_an_update_or_an_error_with_an_answer(octets in vec(any::<u8>(), 0..600)) {
        let octets = Bytes::from(octets);
        for context in every_context() {
            if let Err(error) = update::decode(&octets, &context) {
                prop_assert_eq!(error.answer().code, 3);
            }
        }
    }

    #[test]
    fn any_attributes_are_an_update_or_an_error_with_an_answer(
        attributes in vec((any::<u8>(), 0..34_u8, vec(any::<u8>(), 0..30)), 0..12),
        nlri in vec(any::<u8>(), 0..20),
    ) {
        let mut block = Vec::new();
        for (flags, code, value) in attributes {
            block.extend([flags & !0x10, code, u8::try_from(value.len()).unwrap()]);
            block.extend(value);
        }
        for context in every_context() {
            if let Err(error) = update::decode(&body(&[], &block, &nlri), &context) {
                prop_assert_eq!(error.answer().code, 3);
                let _ = error.to_string();
            }
        }
    }

    #[test]
    fn any_octets_are_an_open_or_an_error_with_an_answer(octets in vec(any::<u8>(), 0..300)) {
        if let Err(error) = Open::decode(&octets.into()) {
            prop_assert_eq!(error.answer().code, 2);
        }
    }

    #[test]
    fn any_parameters_are_an_open_or_an_error_with_an_answer(parameters in vec(any::<u8>(), 0..254)) {
        let mut octets = vec![4, 0xfd, 0xe9, 0, 90, 10, 0, 0, 1, u8::try_from(parameters.len()).unwrap()];
        octets.extend(parameters);
        if let Ok(open) = Open::decode(&octets.into()) {
            prop_assert_eq!(Open::decode(&open.encode().slice(19..)), Ok(open));
        }
    }

    #[test]
    fn any_capability_value_is_read_or_refused(code in any::<u8>(), value in vec(any::<u8>(), 0..255)) {
        if let Ok(capability) = Capability::decode(code, &value) {
            prop_assert_eq!(capability.code(), code);
            let again = capability.to_bytes();
            prop_assert_eq!(Capability::decode(code, &again[2..]), Ok(capability));
        }
    }

    #[test]
    fn any_octets_are_a_notification_that_can_be_shown(octets in vec(any::<u8>(), 2..400)) {
        let notification = Notification::decode(&octets.into()).unwrap();
        let text = format!("{notification} {notification:?}");
        prop_assert!(!text.chars().any(char::is_control));
    }

    #[test]
    fn any_octets_are_one_attribute_or_none(octets in vec(any::<u8>(), 0..60)) {
        let _ = decode_one(&octets);
        let _ = RouteRefresh::decode(&octets.into(), Rules::Enhanced);
    }

    #[test]
    fn any_stream_is_cut_the_same_way_in_any_parts(
        lengths in vec(19..400_u16, 1..20),
        cuts in vec(1..500_usize, 1..50),
    ) {
        let mut stream = Vec::new();
        for length in &lengths {
            stream.extend([0xff; 16]);
            stream.extend(length.max(&23).to_be_bytes());
            stream.push(2);
            stream.resize(stream.len() + usize::from(*length.max(&23)) - 19, 7);
        }
        let mut framer = Framer::new();
        framer.set_limit(MAX_EXTENDED_MESSAGE);
        let mut rest = &stream[..];
        let mut got = Vec::new();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (part, tail) = rest.split_at(rest.len().min(*cut));
            framer.push(Bytes::copy_from_slice(part));
            rest = tail;
            while let Some(frame) = framer.next().unwrap() {
                got.push(frame.body.len() + 19);
            }
        }
        let wanted: Vec<usize> = lengths.iter().map(|length| usize::from(*length.max(&23))).collect();
        prop_assert_eq!(got, wanted);
    }
}
