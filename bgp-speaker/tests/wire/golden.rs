//! Messages of other implementations, as they came from the socket.

use bgp_speaker::types::{AsnWidth, Family, SessionKind};
use bgp_speaker::wire::attr::{self, AttrFault, EncodeContext};
use bgp_speaker::wire::attrs::{AsSegment, ExtCommunity, LargeCommunity, NextHop, Origin};
use bgp_speaker::wire::capability::{Forwarding, NotificationSupport, RestartState};
use bgp_speaker::wire::route_refresh::{RouteRefresh, Rules, Subtype};
use bgp_speaker::wire::update::{self, Announce, Announced, Carrier, Context, FirstAs};
use bgp_speaker::wire::{Capability, Framer, MAX_EXTENDED_MESSAGE, MessageType, Notification, Open, Update};
use bytes::{Bytes, BytesMut};

use crate::build::{asn, prefix};

const FRR: &str = include_str!("golden/frr.hex");
const BIRD: &str = include_str!("golden/bird.hex");
const GOBGP: &str = include_str!("golden/gobgp.hex");
const OPENBGPD: &str = include_str!("golden/openbgpd.hex");
const EXABGP: &str = include_str!("golden/exabgp.hex");

struct Golden {
    width: AsnWidth,
    octets: Bytes,
}

fn read(file: &str) -> Vec<Golden> {
    file.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let mut words = line.split(' ');
            let width = match words.next().unwrap() {
                "four" => AsnWidth::Four,
                "two" => AsnWidth::Two,
                other => panic!("{other}"),
            };
            let hex = words.nth(1).unwrap();
            let octets = (0..hex.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
                .collect();
            Golden { width, octets }
        })
        .collect()
}

fn all() -> Vec<Golden> {
    [FRR, BIRD, GOBGP, OPENBGPD, EXABGP]
        .into_iter()
        .flat_map(read)
        .collect()
}

fn context(width: AsnWidth) -> Context {
    Context {
        asn_width: width,
        session: SessionKind::External,
        peer_asn: asn(4_200_000_001),
        first_as: FirstAs::Any,
        local_address: Some("10.98.0.2".parse().unwrap()),
        families: vec![Family::IPV4_UNICAST, Family::IPV6_UNICAST],
        ipv6_next_hop: vec![Family::IPV4_UNICAST],
    }
}

fn opens(file: &str) -> Open {
    let golden = read(file).remove(0);
    let (kind, body) = frame(&golden.octets);
    assert_eq!(kind, MessageType::Open);
    Open::decode(&body).unwrap()
}

fn updates(file: &str, width: AsnWidth) -> Vec<Update> {
    read(file)
        .into_iter()
        .filter(|golden| golden.width == width)
        .map(|golden| frame(&golden.octets))
        .filter(|(kind, _)| *kind == MessageType::Update)
        .map(|(_, body)| update::decode(&body, &context(width)).unwrap())
        .collect()
}

fn announced(file: &str, width: AsnWidth, what: &str) -> Announced {
    updates(file, width)
        .into_iter()
        .flat_map(|update| update.announced)
        .find(|announced| announced.prefixes.contains(&prefix(what)))
        .unwrap()
}

fn notifications(file: &str) -> Vec<Notification> {
    read(file)
        .into_iter()
        .map(|golden| frame(&golden.octets))
        .filter(|(kind, _)| *kind == MessageType::Notification)
        .map(|(_, body)| Notification::decode(&body).unwrap())
        .collect()
}

fn frame(octets: &Bytes) -> (MessageType, Bytes) {
    let mut framer = Framer::new();
    framer.push(octets.clone());
    let frame = framer.next().unwrap().unwrap();
    (frame.kind, frame.body)
}

fn codes(open: &Open) -> Vec<u8> {
    open.capabilities.iter().map(Capability::code).collect()
}

#[test]
fn open_of_frr() {
    let open = opens(FRR);
    assert_eq!(open.asn, asn(4_200_000_001));
    assert_eq!(open.hold_time.seconds(), 90);
    assert_eq!(open.router_id.to_string(), "10.98.0.1");
    assert_eq!(codes(&open), [1, 1, 128, 2, 70, 65, 6, 69, 73, 64, 71]);
    assert!(open.capabilities.contains(&Capability::Fqdn {
        host: Bytes::from_static(b"frr1"),
        domain: Bytes::new()
    }));
    let restart = open.graceful_restart().unwrap();
    assert_eq!(restart.state, RestartState::Restarted);
    assert_eq!(restart.notification, NotificationSupport::Yes);
    assert_eq!(restart.restart_time, 120);
    assert_eq!(
        restart.families,
        [
            (Family::IPV4_UNICAST, Forwarding::Lost),
            (Family::IPV6_UNICAST, Forwarding::Lost)
        ]
    );
}

#[test]
fn open_of_bird() {
    let open = opens(BIRD);
    assert_eq!(codes(&open), [1, 1, 2, 6, 64, 65, 70, 71]);
    assert_eq!(open.families(), [Family::IPV4_UNICAST, Family::IPV6_UNICAST]);
    assert_eq!(open.hold_time.seconds(), 9);
}

#[test]
fn open_of_gobgp() {
    let open = opens(GOBGP);
    assert_eq!(open.asn, asn(65010));
    assert_eq!(codes(&open), [2, 73, 1, 1, 65, 64, 5]);
    assert!(open.extended_next_hop(Family::IPV4_UNICAST, 2));
    assert!(!open.extended_next_hop(Family::IPV6_UNICAST, 2));
}

#[test]
fn open_of_openbgpd() {
    let open = opens(OPENBGPD);
    assert_eq!(codes(&open), [1, 1, 2, 64, 65, 70]);
    let restart = open.graceful_restart().unwrap();
    assert_eq!((restart.restart_time, restart.families.len()), (0, 0));
}

#[test]
fn open_of_exabgp() {
    let open = opens(EXABGP);
    assert_eq!(codes(&open), [1, 1, 65, 64, 2, 70, 6]);
    assert!(open.offers(&Capability::ExtendedMessage));
    assert!(open.offers(&Capability::EnhancedRouteRefresh));
}

#[test]
fn frr_announces_communities_of_all_kinds() {
    let v4 = announced(FRR, AsnWidth::Four, "192.0.2.0/24").attrs;
    assert_eq!(v4.origin, Origin::Incomplete);
    assert_eq!(
        v4.as_path.0,
        [AsSegment::Sequence(vec![
            asn(4_200_000_001),
            asn(4_200_000_001),
            asn(64512)
        ])]
    );
    assert_eq!(v4.next_hop, NextHop::Ip("10.98.0.1".parse().unwrap()));
    assert_eq!(v4.med, Some(50));
    assert_eq!(v4.communities, [0xfdf2_0001, 0xffff_0000, 0xffff_ff04]);
    assert_eq!(
        v4.large_communities,
        [
            LargeCommunity(65010, 1, 2),
            LargeCommunity(4_200_000_001, u32::MAX, 0)
        ]
    );
    // Link bandwidth: 100 Mbit/s as 12.5 million octets, in AS_TRANS.
    assert!(
        v4.ext_communities
            .contains(&ExtCommunity([0, 4, 0x5b, 0xa0, 0x4b, 0x3e, 0xbc, 0x20]))
    );
    let v6 = announced(FRR, AsnWidth::Four, "fd00:1::/64");
    assert_eq!(v6.family, Family::IPV6_UNICAST);
    assert_eq!(
        v6.attrs.next_hop,
        NextHop::V6WithLinkLocal(
            "fd98::1".parse().unwrap(),
            "fe80::ec9d:aff:fe73:3eef".parse().unwrap()
        )
    );
    assert_eq!(v6.attrs.ext_communities, v4.ext_communities);
}

#[test]
fn what_frr_and_bird_and_openbgpd_say_to_an_old_speaker_is_what_they_say_to_a_new_one() {
    for (file, what) in [
        (FRR, "192.0.2.0/24"),
        (FRR, "198.51.100.0/24"),
        (BIRD, "203.0.113.0/24"),
        (BIRD, "fd00:b::/64"),
        (OPENBGPD, "192.0.2.0/24"),
    ] {
        assert_eq!(
            announced(file, AsnWidth::Two, what).attrs,
            announced(file, AsnWidth::Four, what).attrs,
            "{what}"
        );
    }
}

#[test]
fn frr_names_the_aggregator() {
    let attrs = announced(FRR, AsnWidth::Four, "198.51.100.0/24").attrs;
    assert!(attrs.atomic_aggregate);
    let aggregator = attrs.aggregator.unwrap();
    assert_eq!(
        (aggregator.asn, aggregator.address.to_string()),
        (asn(4_200_000_001), "10.98.0.1".into())
    );
}

#[test]
fn bird_announces_communities_of_all_kinds() {
    let attrs = announced(BIRD, AsnWidth::Four, "203.0.113.0/24").attrs;
    assert_eq!(attrs.med, Some(42));
    assert_eq!(attrs.communities, [0xfdf2_0007, 0xffff_ff01]);
    assert_eq!(attrs.ext_communities.len(), 2);
    assert_eq!(
        attrs.large_communities,
        [
            LargeCommunity(65010, 1, 2),
            LargeCommunity(4_200_000_001, 7, u32::MAX)
        ]
    );
}

#[test]
fn gobgp_announces_an_as_set() {
    let attrs = announced(GOBGP, AsnWidth::Four, "192.0.2.8/32").attrs;
    assert_eq!(
        attrs.as_path.0,
        [
            AsSegment::Sequence(vec![asn(65010), asn(100), asn(200)]),
            AsSegment::Set(vec![asn(300), asn(400)])
        ]
    );
    let v6 = announced(GOBGP, AsnWidth::Four, "fd00:9::/64").attrs;
    assert_eq!(v6.next_hop, NextHop::Ip("fd98::1".parse().unwrap()));
}

#[test]
fn exabgp_announces_an_unknown_attribute_and_internal_ones() {
    let update = updates(EXABGP, AsnWidth::Four)
        .into_iter()
        .find(|update| !update.errors.is_empty())
        .unwrap();
    let faults: Vec<_> = update
        .errors
        .iter()
        .map(|error| (error.code, error.fault))
        .collect();
    assert_eq!(
        faults,
        [(9, AttrFault::FromExternal), (10, AttrFault::FromExternal)]
    );
    let attrs = &update.announced[0].attrs;
    assert_eq!(
        (attrs.unknown[0].code, &attrs.unknown[0].value[..]),
        (42, &[1, 2, 3, 4, 5][..])
    );
    let bandwidth = announced(EXABGP, AsnWidth::Four, "192.0.2.0/24")
        .attrs
        .ext_communities;
    assert!(bandwidth.contains(&ExtCommunity([0x40, 4, 0xfd, 0xf2, 0x44, 0x7a, 0, 0])));
}

#[test]
fn a_loopback_next_hop_of_openbgpd_is_no_next_hop() {
    let update = updates(OPENBGPD, AsnWidth::Four)
        .into_iter()
        .find(|update| !update.errors.is_empty())
        .unwrap();
    assert_eq!(update.errors[0].fault, AttrFault::NextHop("::1".parse().unwrap()));
    assert_eq!(update.withdrawn, [prefix("fd00:b::/32")]);
}

#[test]
fn withdrawals_of_every_daemon_are_read() {
    for (file, what) in [
        (FRR, &["198.51.100.2/32", "fd00:2::1/128"][..]),
        (BIRD, &["fd00:b::/64", "fd00:b::1/128"]),
        (GOBGP, &["192.0.2.8/32", "fd00:9::/64"]),
        (OPENBGPD, &["10.0.0.0/9", "fd00:b::/32"]),
    ] {
        let withdrawn: Vec<_> = updates(file, AsnWidth::Four)
            .into_iter()
            .flat_map(|update| update.withdrawn)
            .collect();
        for one in what {
            assert!(withdrawn.contains(&prefix(one)), "{one}");
        }
    }
}

#[test]
fn end_of_rib_of_every_daemon_is_read() {
    for file in [FRR, BIRD, GOBGP, OPENBGPD] {
        let mut ends: Vec<_> = updates(file, AsnWidth::Four)
            .into_iter()
            .filter_map(|update| update.end_of_rib)
            .collect();
        ends.sort_unstable();
        assert_eq!(ends, [Family::IPV4_UNICAST, Family::IPV6_UNICAST]);
    }
}

#[test]
fn words_of_a_shutdown_are_read() {
    let texts = |file| -> Vec<_> {
        notifications(file)
            .iter()
            .filter_map(Notification::communication)
            .collect::<Vec<_>>()
    };
    // FRR sends a hard reset with the shutdown inside, as both sides set the N bit.
    assert!(notifications(FRR).iter().all(Notification::is_hard_reset));
    assert_eq!(texts(FRR), ["maintenance of rack 7: back at 18:00 ☕"]);
    assert_eq!(texts(BIRD), ["maintenance until 18:00"]);
    assert_eq!(texts(OPENBGPD), ["moving to rack 9", "just a reset"]);
    assert_eq!(
        notifications(GOBGP)[0].to_string(),
        "Cease / Administrative Shutdown"
    );
}

#[test]
fn route_refreshes_are_read() {
    let subtypes = |file| -> Vec<_> {
        read(file)
            .into_iter()
            .map(|golden| frame(&golden.octets))
            .filter(|(kind, _)| *kind == MessageType::RouteRefresh)
            .map(|(_, body)| RouteRefresh::decode(&body, Rules::Enhanced).unwrap())
            .map(|refresh| (refresh.family, refresh.subtype))
            .collect()
    };
    let v4 = Family::IPV4_UNICAST;
    let v6 = Family::IPV6_UNICAST;
    let requests: Vec<_> = subtypes(BIRD);
    assert!(requests.contains(&(v4, Subtype::Begin)) && requests.contains(&(v4, Subtype::End)));
    assert!(requests.contains(&(v4, Subtype::Request)) && requests.contains(&(v6, Subtype::Request)));
    let requests: Vec<_> = subtypes(FRR);
    assert_eq!(requests, [(v4, Subtype::Begin), (v4, Subtype::End)]);
    let requests: Vec<_> = subtypes(OPENBGPD);
    assert_eq!(requests, [(v4, Subtype::Request), (v6, Subtype::Request)]);
}

#[test]
fn every_message_encoded_again_means_the_same() {
    for golden in all() {
        let (kind, body) = frame(&golden.octets);
        match kind {
            MessageType::Open => {
                let open = Open::decode(&body).unwrap();
                assert_eq!(Open::decode(&frame(&open.encode()).1).unwrap(), open);
            }
            MessageType::Notification => {
                assert_eq!(Notification::decode(&body).unwrap().encode(), golden.octets);
            }
            MessageType::RouteRefresh => {
                let refresh = RouteRefresh::decode(&body, Rules::Enhanced).unwrap();
                assert_eq!(refresh.encode(), golden.octets);
            }
            MessageType::Keepalive => assert!(body.is_empty()),
            MessageType::Update => {
                for width in [AsnWidth::Two, AsnWidth::Four] {
                    let update = update::decode(&body, &context(golden.width)).unwrap();
                    for announced in update.announced {
                        again(&announced, width);
                    }
                }
            }
        }
    }
}

/// Sends it to a speaker of `width` and looks what arrives.
fn again(announced: &Announced, width: AsnWidth) {
    let mut attributes = BytesMut::new();
    let encode = EncodeContext {
        asn_width: width,
        session: SessionKind::External,
        carrier: Carrier::of(announced.family, &announced.attrs.next_hop),
    };
    attr::encode(&announced.attrs, &encode, &mut attributes);
    let announce = Announce {
        family: announced.family,
        attributes: &attributes,
        next_hop: &announced.attrs.next_hop,
        max_message: MAX_EXTENDED_MESSAGE,
    };
    let mut out = BytesMut::new();
    update::encode_announce(&announce, &announced.prefixes, &mut out).unwrap();
    let update = update::decode(&frame(&out.freeze()).1, &context(width)).unwrap();
    assert_eq!(update.announced, std::slice::from_ref(announced));
}

#[test]
fn every_message_cut_anywhere_is_refused_or_means_less_and_never_panics() {
    for golden in all() {
        for length in 0..golden.octets.len() {
            let mut framer = Framer::new();
            framer.push(golden.octets.slice(..length));
            assert_eq!(framer.next().unwrap(), None, "a part is no message");
        }
        let (kind, body) = frame(&golden.octets);
        for length in 0..body.len() {
            let part = body.slice(..length);
            match kind {
                MessageType::Open => assert!(Open::decode(&part).is_err()),
                MessageType::RouteRefresh => assert!(RouteRefresh::decode(&part, Rules::Plain).is_err()),
                MessageType::Notification => assert_eq!(Notification::decode(&part).is_err(), length < 2),
                MessageType::Keepalive => {}
                MessageType::Update => {
                    if let Ok(update) = update::decode(&part, &context(golden.width)) {
                        assert!(update.announced.len() <= 2);
                    }
                }
            }
        }
    }
}

#[test]
fn every_attribute_block_cut_anywhere_never_panics_and_announces_only_what_is_whole() {
    for golden in all() {
        let (kind, body) = frame(&golden.octets);
        if kind != MessageType::Update || body[..2] != [0, 0] {
            continue;
        }
        let attributes = usize::from(u16::from_be_bytes([body[2], body[3]]));
        for length in 0..attributes {
            let cut = crate::build::body(&[], &body[4..4 + length], &body[4 + attributes..]);
            if let Ok(update) = update::decode(&cut, &context(golden.width)) {
                let worst = update.errors.iter().map(|error| error.action).max();
                if worst == Some(bgp_speaker::wire::Action::Withdraw) {
                    assert_eq!(update.announced, []);
                }
            }
        }
    }
}
