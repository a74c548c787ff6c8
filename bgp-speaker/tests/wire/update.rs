//! UPDATE: what is said well.

use std::net::IpAddr;

use bgp_speaker::types::{AsnWidth, Family, Prefix, SessionKind};
use bgp_speaker::wire::attr::{self, EncodeContext};
use bgp_speaker::wire::attrs::{
    Aggregator, AsPath, AsSegment, Attrs, ExtCommunity, LargeCommunity, NextHop, Origin, UnknownAttr,
};
use bgp_speaker::wire::update::{self, Announce, Carrier, Context, FirstAs};
use bgp_speaker::wire::{Framer, OneAttr, decode_one};
use bytes::{Bytes, BytesMut};

use crate::build::{
    NLRI, announce, as_path, asn, attr, body, external, mp_unreach, next_hop, origin, prefix,
};

fn old(first_as: FirstAs) -> Context {
    Context {
        asn_width: AsnWidth::Two,
        first_as,
        ..external()
    }
}

fn path(segments: Vec<AsSegment>) -> AsPath {
    AsPath(segments)
}

fn sequence(numbers: &[u32]) -> AsSegment {
    AsSegment::Sequence(numbers.iter().map(|n| asn(*n)).collect())
}

fn set(numbers: &[u32]) -> AsSegment {
    AsSegment::Set(numbers.iter().map(|n| asn(*n)).collect())
}

/// Every attribute there is.
pub(crate) fn full() -> Attrs {
    Attrs {
        origin: Origin::Egp,
        as_path: path(vec![sequence(&[65020, 4_200_000_001]), set(&[7, 8])]),
        next_hop: NextHop::Ip("10.98.0.1".parse().unwrap()),
        med: Some(5),
        local_pref: Some(200),
        atomic_aggregate: true,
        aggregator: Some(Aggregator {
            asn: asn(4_200_000_001),
            address: "10.0.0.9".parse().unwrap(),
        }),
        communities: vec![0xffff_ff01, 0xfde8_0001],
        ext_communities: vec![ExtCommunity([0, 2, 0xfd, 0xe8, 0, 0, 0, 100])],
        large_communities: vec![
            LargeCommunity(1, 2, 3),
            LargeCommunity(4_200_000_001, 0, u32::MAX),
        ],
        originator_id: Some("10.9.9.9".parse().unwrap()),
        cluster_list: vec!["10.1.1.1".parse().unwrap()],
        unknown: vec![UnknownAttr {
            flags: 0xe0,
            code: 42,
            value: Bytes::from_static(&[1, 2, 3]),
        }],
    }
}

#[test]
fn an_empty_update_is_end_of_rib_of_ipv4_unicast() {
    let update = update::decode(&body(&[], &[], &[]), &external()).unwrap();
    assert_eq!(update.end_of_rib, Some(Family::IPV4_UNICAST));
}

#[test]
fn an_empty_mp_unreach_is_end_of_rib_of_its_family() {
    let empty = attr(0x80, 15, &[0, 2, 1]);
    let update = update::decode(&body(&[], &empty, &[]), &external()).unwrap();
    assert_eq!(update.end_of_rib, Some(Family::IPV6_UNICAST));
    let update = update::decode(&body(&[], &mp_unreach(), &[]), &external()).unwrap();
    assert_eq!(update.end_of_rib, None);
    let update = update::decode(&body(&[8, 10], &empty, &[]), &external()).unwrap();
    assert_eq!(update.end_of_rib, None);
}

#[test]
fn end_of_rib_is_encoded_as_it_is_read() {
    for family in [Family::IPV4_UNICAST, Family::IPV6_UNICAST] {
        let mut framer = Framer::new();
        framer.push(update::encode_end_of_rib(family));
        let frame = framer.next().unwrap().unwrap();
        let update = update::decode(&frame.body, &external()).unwrap();
        assert_eq!(update.end_of_rib, Some(family));
    }
}

#[test]
fn as_set_is_tolerated_on_input() {
    let value = [2, 1, 0, 0, 0xfd, 0xfc, 1, 2, 0, 0, 0, 1, 0, 0, 0, 2];
    let update = announce(&external(), &[origin(), attr(0x40, 2, &value), next_hop()]).unwrap();
    assert_eq!(
        update.announced[0].attrs.as_path,
        path(vec![sequence(&[65020]), set(&[1, 2])])
    );
}

#[test]
fn as4_path_replaces_what_an_old_speaker_could_not_say() {
    // 65020 23456 64512 with AS4_PATH 4200000001 64512.
    let two = attr(0x40, 2, &[2, 3, 0xfd, 0xfc, 0x5b, 0xa0, 0xfc, 0]);
    let four = attr(0xc0, 17, &[2, 2, 0xfa, 0x56, 0xea, 1, 0, 0, 0xfc, 0]);
    let update = announce(&old(FirstAs::Peer), &[origin(), two, next_hop(), four]).unwrap();
    assert_eq!(
        update.announced[0].attrs.as_path,
        path(vec![sequence(&[65020, 4_200_000_001, 64512])])
    );
}

#[test]
fn an_as4_path_longer_than_as_path_is_ignored() {
    let two = attr(0x40, 2, &[2, 1, 0xfd, 0xfc]);
    let four = attr(0xc0, 17, &[2, 2, 0, 0, 0, 1, 0, 0, 0, 2]);
    let update = announce(&old(FirstAs::Peer), &[origin(), two, next_hop(), four]).unwrap();
    assert_eq!(update.announced[0].attrs.as_path, path(vec![sequence(&[65020])]));
}

#[test]
fn as4_attributes_are_ignored_where_an_old_speaker_aggregated() {
    let two = attr(0x40, 2, &[2, 2, 0xfd, 0xfc, 0x5b, 0xa0]);
    let four = attr(0xc0, 17, &[2, 1, 0, 1, 0, 0]);
    let aggregator = attr(0xc0, 7, &[0, 99, 10, 0, 0, 1]);
    let as4_aggregator = attr(0xc0, 18, &[0, 1, 0, 0, 10, 0, 0, 2]);
    let update = announce(
        &old(FirstAs::Peer),
        &[origin(), two, next_hop(), aggregator, four, as4_aggregator],
    )
    .unwrap();
    let attrs = &update.announced[0].attrs;
    assert_eq!(attrs.as_path, path(vec![sequence(&[65020, 23456])]));
    assert_eq!(attrs.aggregator.unwrap().asn, asn(99));
}

#[test]
fn a_set_counts_as_one_place_when_paths_are_merged() {
    let two = attr(0x40, 2, &[2, 1, 0xfd, 0xfc, 1, 2, 0, 1, 0, 2, 2, 1, 0x5b, 0xa0]);
    let four = attr(0xc0, 17, &[2, 1, 0, 1, 0, 0]);
    let update = announce(&old(FirstAs::Peer), &[origin(), two, next_hop(), four]).unwrap();
    assert_eq!(
        update.announced[0].attrs.as_path,
        path(vec![sequence(&[65020]), set(&[1, 2]), sequence(&[65536])])
    );
}

#[test]
fn repeated_large_communities_are_one() {
    let value = [[0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3]; 2].concat();
    let update = announce(
        &external(),
        &[origin(), as_path(), next_hop(), attr(0xc0, 32, &value)],
    )
    .unwrap();
    assert_eq!(
        update.announced[0].attrs.large_communities,
        [LargeCommunity(1, 2, 3)]
    );
}

#[test]
fn an_ipv4_prefix_may_have_an_ipv6_next_hop_where_agreed() {
    let attrs = Attrs {
        next_hop: NextHop::V6WithLinkLocal("fd98::1".parse().unwrap(), "fe80::1".parse().unwrap()),
        ..full()
    };
    let context = Context {
        ipv6_next_hop: vec![Family::IPV4_UNICAST],
        ..external()
    };
    let update = send(&attrs, Family::IPV4_UNICAST, &[prefix("192.0.2.0/24")], &context);
    assert_eq!(update.announced[0].attrs.next_hop, attrs.next_hop);
    assert_eq!(update.announced[0].prefixes, [prefix("192.0.2.0/24")]);
}

#[test]
fn a_link_local_address_given_twice_or_alone_is_the_next_hop() {
    let local = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
    for global in [local, [0; 16]] {
        let mut value = vec![0, 2, 1, 32];
        value.extend(global);
        value.extend(local);
        value.extend([0, 8, 0xfd]);
        let attributes = [attr(0x80, 14, &value), origin(), as_path()].concat();
        let update = update::decode(&body(&[], &attributes, &[]), &external()).unwrap();
        assert_eq!(
            update.announced[0].attrs.next_hop,
            NextHop::Ip(IpAddr::from(local))
        );
    }
}

#[test]
fn both_families_of_one_update_share_all_but_the_next_hop() {
    let mut attributes = crate::build::mp_reach();
    attributes.extend(crate::build::sound());
    let update = update::decode(&body(&[], &attributes, NLRI), &external()).unwrap();
    let [v4, v6] = &update.announced[..] else {
        panic!("{update:?}")
    };
    assert_eq!(
        (v4.family, v6.family),
        (Family::IPV4_UNICAST, Family::IPV6_UNICAST)
    );
    assert_eq!(v4.attrs.as_path, v6.attrs.as_path);
    assert_eq!(v6.attrs.next_hop, NextHop::Ip("fd98::1".parse().unwrap()));
}

#[test]
fn host_bits_of_a_prefix_are_cleared() {
    let update = update::decode(
        &body(&[], &crate::build::sound(), &[20, 10, 0, 0xff]),
        &external(),
    )
    .unwrap();
    assert_eq!(update.announced[0].prefixes, [prefix("10.0.240.0/20")]);
}

#[test]
fn external_sessions_never_carry_internal_attributes() {
    let mut out = BytesMut::new();
    attr::encode(&full(), &encode(SessionKind::External), &mut out);
    let codes: Vec<u8> = tlvs(&out).iter().map(|tlv| tlv[1]).collect();
    assert_eq!(codes, [1, 2, 3, 4, 6, 7, 8, 16, 32, 42]);
}

#[test]
fn internal_sessions_always_carry_local_pref() {
    let attrs = Attrs {
        local_pref: None,
        ..full()
    };
    let mut out = BytesMut::new();
    attr::encode(&attrs, &encode(SessionKind::Internal), &mut out);
    assert!(tlvs(&out).contains(&vec![0x40, 5, 4, 0, 0, 0, 100]));
}

#[test]
fn old_speakers_get_as_trans_and_the_as4_attributes() {
    let context = EncodeContext {
        asn_width: AsnWidth::Two,
        ..encode(SessionKind::External)
    };
    let mut out = BytesMut::new();
    attr::encode(&full(), &context, &mut out);
    let update = update::decode(&body(&[], &out, NLRI), &old(FirstAs::Peer)).unwrap();
    assert_eq!(update.errors, []);
    let attrs = &update.announced[0].attrs;
    assert_eq!(attrs.as_path, full().as_path);
    assert_eq!(attrs.aggregator, full().aggregator);
}

#[test]
fn old_speakers_get_no_as4_attributes_where_nothing_is_lost() {
    let attrs = Attrs {
        as_path: path(vec![sequence(&[65020])]),
        aggregator: None,
        ..full()
    };
    let context = EncodeContext {
        asn_width: AsnWidth::Two,
        ..encode(SessionKind::External)
    };
    let mut out = BytesMut::new();
    attr::encode(&attrs, &context, &mut out);
    assert!(tlvs(&out).iter().all(|tlv| tlv[1] != 17 && tlv[1] != 18));
}

#[test]
fn a_long_path_is_cut_into_segments_of_255() {
    let attrs = Attrs {
        as_path: path(vec![AsSegment::Sequence(vec![asn(65020); 600])]),
        ..full()
    };
    let update = send(
        &attrs,
        Family::IPV4_UNICAST,
        &[prefix("192.0.2.0/24")],
        &external(),
    );
    let lengths: Vec<usize> = update.announced[0]
        .attrs
        .as_path
        .0
        .iter()
        .map(|segment| match segment {
            AsSegment::Sequence(numbers) => numbers.len(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(lengths, [255, 255, 90]);
}

#[test]
fn prefixes_fill_a_message_to_its_last_octet_and_no_further() {
    let many: Vec<Prefix> = (0..5000_u32)
        .map(|n| Prefix::host(IpAddr::from((0x0a00_0000 + n).to_be_bytes())))
        .collect();
    for max_message in [4096, 65535] {
        let mut attributes = BytesMut::new();
        attr::encode(&full(), &encode(SessionKind::External), &mut attributes);
        let announce = Announce {
            family: Family::IPV4_UNICAST,
            attributes: &attributes,
            next_hop: &full().next_hop,
            max_message,
        };
        let mut out = BytesMut::new();
        let taken = update::encode_announce(&announce, &many, &mut out).unwrap();
        assert_eq!(taken, ((max_message - 23 - attributes.len()) / 5).min(5000));
        assert!(out.len() <= max_message);
        let mut out = BytesMut::new();
        let taken = update::encode_withdraw(
            Family::IPV4_UNICAST,
            Carrier::Fields,
            max_message,
            &many,
            &mut out,
        );
        assert_eq!(taken, ((max_message - 23) / 5).min(5000));
        assert!(out.len() <= max_message);
    }
}

#[test]
fn attributes_that_leave_no_room_are_refused_and_leave_nothing_behind() {
    let attrs = Attrs {
        communities: vec![1; 1020],
        ..full()
    };
    let mut attributes = BytesMut::new();
    attr::encode(&attrs, &encode(SessionKind::External), &mut attributes);
    let announce = Announce {
        family: Family::IPV4_UNICAST,
        attributes: &attributes,
        next_hop: &attrs.next_hop,
        max_message: 4096,
    };
    let mut out = BytesMut::new();
    let error = update::encode_announce(&announce, &[prefix("192.0.2.0/24")], &mut out).unwrap_err();
    assert_eq!(error.max_message, 4096);
    assert!(out.is_empty());
}

#[test]
fn each_attribute_by_itself_reads_back() {
    let attrs = full();
    let ours = [prefix("192.0.2.0/24")];
    let each = attr::encode_each(&attrs, Carrier::Fields, Family::IPV4_UNICAST, &ours);
    let decoded: Vec<OneAttr> = each.iter().map(|tlv| decode_one(tlv).unwrap()).collect();
    assert_eq!(
        decoded,
        [
            OneAttr::Origin(attrs.origin),
            OneAttr::AsPath(attrs.as_path.clone()),
            OneAttr::NextHop("10.98.0.1".parse().unwrap()),
            OneAttr::Med(5),
            OneAttr::LocalPref(200),
            OneAttr::AtomicAggregate,
            OneAttr::Aggregator(attrs.aggregator.unwrap()),
            OneAttr::Communities(attrs.communities.clone()),
            OneAttr::OriginatorId("10.9.9.9".parse().unwrap()),
            OneAttr::ClusterList(attrs.cluster_list.clone()),
            OneAttr::ExtCommunities(attrs.ext_communities.clone()),
            OneAttr::LargeCommunities(attrs.large_communities.clone()),
            OneAttr::Unknown {
                flags: 0xe0,
                code: 42,
                value: Bytes::from_static(&[1, 2, 3])
            },
        ]
    );
}

#[test]
fn a_route_of_this_node_shows_its_unspecified_next_hop() {
    let attrs = Attrs {
        next_hop: NextHop::Ip("::".parse().unwrap()),
        local_pref: None,
        ..full()
    };
    let ours = [prefix("fd00::/64")];
    let each = attr::encode_each(&attrs, Carrier::MultiProtocol, Family::IPV6_UNICAST, &ours);
    let reach = each
        .iter()
        .map(|tlv| decode_one(tlv).unwrap())
        .find(|one| matches!(one, OneAttr::MpReach { .. }));
    assert_eq!(
        reach,
        Some(OneAttr::MpReach {
            family: Family::IPV6_UNICAST,
            next_hop: attrs.next_hop,
            prefixes: ours.to_vec()
        })
    );
    assert!(each.iter().all(|tlv| tlv[1] != 5));
    assert_eq!(
        decode_one(&[0x40, 3, 4, 0, 0, 0, 0]),
        Ok(OneAttr::NextHop("0.0.0.0".parse().unwrap()))
    );
}

#[test]
fn half_an_attribute_or_more_than_one_is_not_one() {
    assert!(decode_one(&[]).is_err());
    assert!(decode_one(&[0x40, 1, 1]).is_err());
    assert!(decode_one(&[0x40, 1, 1, 0, 0]).is_err());
}

pub(crate) fn encode(session: SessionKind) -> EncodeContext {
    EncodeContext {
        asn_width: AsnWidth::Four,
        session,
        carrier: Carrier::Fields,
    }
}

/// Encodes one announcement and decodes it again.
pub(crate) fn send(
    attrs: &Attrs,
    family: Family,
    prefixes: &[Prefix],
    context: &Context,
) -> bgp_speaker::wire::Update {
    let mut attributes = BytesMut::new();
    let encode = EncodeContext {
        asn_width: context.asn_width,
        session: context.session,
        carrier: Carrier::of(family, &attrs.next_hop),
    };
    attr::encode(attrs, &encode, &mut attributes);
    let announce = Announce {
        family,
        attributes: &attributes,
        next_hop: &attrs.next_hop,
        max_message: 65535,
    };
    let mut out = BytesMut::new();
    let taken = update::encode_announce(&announce, prefixes, &mut out).unwrap();
    assert_eq!(taken, prefixes.len());
    let mut framer = Framer::new();
    framer.set_limit(65535);
    framer.push(out.freeze());
    update::decode(&framer.next().unwrap().unwrap().body, context).unwrap()
}

fn tlvs(mut octets: &[u8]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while !octets.is_empty() {
        let (one, rest) = octets.split_at(3 + usize::from(octets[2]));
        all.push(one.to_vec());
        octets = rest;
    }
    all
}
