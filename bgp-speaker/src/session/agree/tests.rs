use super::*;
use crate::config::{FamilyConfig, PeerAddress};
use crate::wire::capability::Forwarding;

const V4: Family = Family::IPV4_UNICAST;
const V6: Family = Family::IPV6_UNICAST;

fn asn(number: u32) -> Asn {
    Asn::new(number).unwrap()
}

fn id(last: u8) -> RouterId {
    RouterId::new([10, 0, 0, last].into()).unwrap()
}

fn identity() -> Identity {
    Identity {
        instance: "main".into(),
        asn: asn(65000),
        router_id: id(1),
        host: Some("node-1".into()),
    }
}

fn config(families: &[Family]) -> PeerConfig {
    let address = PeerAddress::One("10.0.0.2".parse().unwrap());
    PeerConfig {
        families: families.iter().map(|f| (*f, FamilyConfig::default())).collect(),
        ..PeerConfig::new(address, RemoteAsn::Any)
    }
}

fn restart(families: &[Family]) -> GracefulRestart {
    GracefulRestart {
        state: RestartState::Fresh,
        notification: NotificationSupport::Yes,
        restart_time: 120,
        families: families.iter().map(|f| (*f, Forwarding::Lost)).collect(),
    }
}

fn ours(families: &[Family]) -> Open {
    our_open(&identity(), &config(families), Offer::Full, restart(families))
}

fn theirs(capabilities: Vec<Capability>) -> Open {
    Open {
        asn: asn(65001),
        hold_time: HoldTime::new(30).unwrap(),
        router_id: id(2),
        capabilities,
    }
}

fn agreed(families: &[Family], theirs: &Open) -> Agreed {
    agree(&identity(), &config(families), &ours(families), theirs).unwrap()
}

#[test]
fn the_full_offer_lists_every_capability_once_and_families_in_order() {
    let codes: Vec<u8> = ours(&[V6, V4])
        .capabilities
        .iter()
        .map(Capability::code)
        .collect();
    assert_eq!(codes, [1, 1, 2, 5, 6, 64, 65, 70, 73, 75]);
    assert_eq!(ours(&[V6, V4]).families(), [V6, V4]);
    let plain = our_open(&identity(), &config(&[V4]), Offer::Plain, restart(&[V4]));
    assert!(plain.capabilities.is_empty());
}

#[test]
fn a_speaker_without_capabilities_gets_ipv4_and_the_rules_of_1995() {
    let agreed = agreed(&[V4, V6], &theirs(vec![]));
    assert_eq!(agreed.families, [V4]);
    assert_eq!(agreed.asn_width, AsnWidth::Two);
    assert_eq!(agreed.refresh, Refresh::No);
    assert_eq!(agreed.max_message, 4096);
    assert_eq!(agreed.graceful.theirs, None);
    assert!(agreed.graceful.ours.is_empty());
}

#[test]
fn a_capability_counts_only_where_both_sides_offer_it() {
    let peer = Open {
        router_id: id(2),
        ..ours(&[V4])
    };
    let all = agreed(&[V4, V6], &peer);
    assert_eq!(all.families, [V4]);
    assert_eq!(all.asn_width, AsnWidth::Four);
    assert_eq!(all.refresh, Refresh::Enhanced);
    assert_eq!(all.max_message, 65535);
    assert_eq!(all.extended_next_hop, [V4]);
    assert_eq!(all.graceful.notification, NotificationSupport::Yes);
    assert_eq!(all.graceful.ours, [V4]);

    // RFC 7313 3: enhanced refresh means nothing without the plain one.
    let enhanced_only = agreed(&[V4], &theirs(vec![Capability::EnhancedRouteRefresh]));
    assert_eq!(enhanced_only.refresh, Refresh::No);
}

#[test]
fn the_smaller_hold_time_counts_and_keepalives_fit_three_times() {
    let agreed = agreed(&[V4], &theirs(vec![]));
    assert_eq!(agreed.hold.seconds(), 30);
    assert_eq!(agreed.keepalive, Some(Duration::from_secs(10)));
    let hold = |seconds| HoldTime::new(seconds).unwrap();
    let secs = Duration::from_secs;
    assert_eq!(keepalive(hold(90), secs(5)), Some(secs(5)));
    assert_eq!(keepalive(hold(90), secs(0)), Some(secs(30)));
    assert_eq!(keepalive(hold(3), secs(30)), Some(secs(1)));
    assert_eq!(keepalive(hold(0), secs(30)), None);
}

#[test]
fn no_common_family_is_answered_with_the_families_required() {
    let refused = agree(
        &identity(),
        &config(&[V6]),
        &ours(&[V6]),
        &theirs(vec![Capability::Multiprotocol(V4)]),
    );
    let say = refused.unwrap_err().say.unwrap();
    assert_eq!((say.code, say.subcode), (2, 7));
    assert_eq!(&say.data[..], [1, 4, 0, 2, 0, 1]);
}

#[test]
fn equal_router_ids_are_an_error_inside_an_as_only() {
    let same_id = |number| Open {
        asn: asn(number),
        router_id: id(1),
        ..theirs(vec![])
    };
    let judge = |open| agree(&identity(), &config(&[V4]), &ours(&[V4]), &open);
    let refused = judge(same_id(65000)).unwrap_err();
    assert_eq!(refused.say, Some(Notification::bad_identifier()));
    assert_eq!(judge(same_id(65001)).unwrap().kind, SessionKind::External);
}

#[test]
fn collisions_go_to_the_higher_router_id_then_to_the_higher_asn() {
    let us = (id(5), asn(65000));
    assert_eq!(collision_winner(us, (id(6), asn(1))), Opener::Peer);
    assert_eq!(collision_winner(us, (id(4), asn(70000))), Opener::Here);
    assert_eq!(collision_winner(us, (id(5), asn(65001))), Opener::Peer);
    assert_eq!(collision_winner(us, (id(5), asn(64999))), Opener::Here);
}
