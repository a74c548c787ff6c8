//! OPEN and its capabilities.

use bgp_speaker::types::{Family, HoldTime, RouterId};
use bgp_speaker::wire::capability::{
    ExtendedNextHop, Forwarding, GracefulRestart, NotificationSupport, RestartState,
};
use bgp_speaker::wire::{Capability, Framer, Open};
use bytes::Bytes;

use crate::build::asn;

fn open(capabilities: Vec<Capability>) -> Open {
    Open {
        asn: asn(65001),
        hold_time: HoldTime::new(90).unwrap(),
        router_id: RouterId::new("10.0.0.1".parse().unwrap()).unwrap(),
        capabilities,
    }
}

fn every_capability() -> Vec<Capability> {
    vec![
        Capability::Multiprotocol(Family::IPV4_UNICAST),
        Capability::Multiprotocol(Family::IPV6_UNICAST),
        Capability::RouteRefresh,
        Capability::ExtendedNextHop(vec![ExtendedNextHop {
            family: Family::IPV4_UNICAST,
            next_hop_afi: 2,
        }]),
        Capability::ExtendedMessage,
        Capability::GracefulRestart(GracefulRestart {
            state: RestartState::Restarted,
            notification: NotificationSupport::Yes,
            restart_time: 120,
            families: vec![
                (Family::IPV4_UNICAST, Forwarding::Preserved),
                (Family::IPV6_UNICAST, Forwarding::Lost),
            ],
        }),
        Capability::FourOctetAsn(65001),
        Capability::EnhancedRouteRefresh,
        Capability::Fqdn {
            host: Bytes::from_static(b"node1"),
            domain: Bytes::from_static(b"example.org"),
        },
        Capability::SoftwareVersion(Bytes::from_static(b"stentor/0.1")),
        Capability::Unknown {
            code: 128,
            value: Bytes::new(),
        },
    ]
}

/// The body of an OPEN with these optional parameters, length included.
fn body(parameters: &[u8]) -> Bytes {
    let mut out = vec![4, 0xfd, 0xe9, 0, 90, 10, 0, 0, 1];
    out.extend(parameters);
    out.into()
}

fn round_trip(open: &Open) -> Open {
    let mut framer = Framer::new();
    framer.push(open.encode());
    Open::decode(&framer.next().unwrap().unwrap().body).unwrap()
}

#[track_caller]
fn refused(body: Vec<u8>) -> (u8, Vec<u8>) {
    let answer = Open::decode(&body.into()).unwrap_err().answer();
    assert_eq!(answer.code, 2);
    (answer.subcode, answer.data.to_vec())
}

#[test]
fn every_capability_survives_the_wire() {
    let open = open(every_capability());
    assert_eq!(round_trip(&open), open);
}

#[test]
fn no_capability_at_all_survives_the_wire() {
    let open = open(vec![]);
    assert_eq!(round_trip(&open), open);
    assert_eq!(open.families(), [Family::IPV4_UNICAST]);
}

#[test]
fn capabilities_over_255_octets_use_the_extended_length() {
    let many: Vec<_> = (0..4)
        .map(|n| Capability::Unknown {
            code: 200 + n,
            value: vec![n; 100].into(),
        })
        .collect();
    let open = open(many);
    assert_eq!(round_trip(&open), open);
    // RFC 9072 2: the length and the type of the first parameter are 255.
    assert_eq!(open.encode()[28..30], [255, 255]);
}

#[test]
fn a_capability_length_around_the_border_survives_the_wire() {
    for length in 245..=254 {
        let open = open(vec![Capability::Unknown {
            code: 200,
            value: vec![7; length].into(),
        }]);
        assert_eq!(round_trip(&open), open, "{length}");
    }
}

#[test]
fn one_capability_per_parameter_and_many_per_parameter_read_the_same() {
    let many = Open::decode(&body(&[10, 2, 8, 1, 4, 0, 1, 0, 1, 2, 0])).unwrap();
    let single = Open::decode(&body(&[12, 2, 6, 1, 4, 0, 1, 0, 1, 2, 2, 2, 0])).unwrap();
    assert_eq!(many, single);
}

#[test]
fn the_extended_length_may_be_used_for_few_parameters() {
    let plain = Open::decode(&body(&[4, 2, 2, 2, 0])).unwrap();
    let extended = Open::decode(&body(&[255, 255, 0, 5, 2, 0, 2, 2, 0])).unwrap();
    let extended_short = Open::decode(&body(&[1, 255, 0, 5, 2, 0, 2, 2, 0])).unwrap();
    assert_eq!(plain, extended);
    assert_eq!(plain, extended_short);
}

#[test]
fn a_four_octet_asn_travels_as_as_trans_and_a_capability() {
    let wide = Open {
        asn: asn(4_200_000_001),
        ..open(vec![Capability::FourOctetAsn(4_200_000_001)])
    };
    assert_eq!(wide.encode()[20..22], 23456_u16.to_be_bytes());
    assert_eq!(round_trip(&wide).asn, asn(4_200_000_001));
}

#[test]
fn another_version_is_answered_with_ours() {
    let mut octets = body(&[0]).to_vec();
    octets[0] = 3;
    assert_eq!(refused(octets), (1, vec![0, 4]));
}

#[test]
fn as_zero_is_refused_in_the_field_and_in_the_capability() {
    let mut octets = body(&[0]).to_vec();
    octets[1..3].fill(0);
    assert_eq!(refused(octets).0, 2);
    let mut octets = body(&[8, 2, 6, 65, 4, 0, 0, 0xfd, 0xe9]).to_vec();
    octets[1..3].fill(0);
    assert_eq!(refused(octets).0, 2);
    assert_eq!(refused(body(&[8, 2, 6, 65, 4, 0, 0, 0, 0]).to_vec()).0, 2);
}

#[test]
fn the_identifier_zero_is_refused() {
    let mut octets = body(&[0]).to_vec();
    octets[5..9].fill(0);
    assert_eq!(refused(octets).0, 3);
}

#[test]
fn an_unknown_parameter_is_refused() {
    assert_eq!(refused(body(&[3, 1, 1, 0]).to_vec()).0, 4);
}

#[test]
fn hold_times_of_one_and_two_seconds_are_refused() {
    for seconds in [1, 2] {
        let mut octets = body(&[0]).to_vec();
        octets[4] = seconds;
        assert_eq!(refused(octets).0, 6);
    }
}

#[test]
fn malformed_parameters_are_unspecific_errors() {
    for parameters in [
        &[][..],
        &[5, 2, 2, 2, 0],
        &[3, 2, 2, 2, 0],
        &[4, 2, 3, 2, 0],
        &[4, 2, 2, 2, 1],
        &[3, 2, 1, 2],
        &[7, 2, 5, 1, 3, 0, 1, 1],
        &[6, 2, 4, 65, 2, 0, 1],
        &[5, 2, 3, 64, 1, 0],
        &[5, 2, 3, 6, 1, 0],
    ] {
        assert_eq!(refused(body(parameters).to_vec()).0, 0, "{parameters:?}");
    }
}

#[test]
fn informational_capabilities_with_nonsense_inside_are_kept_as_they_are() {
    let open = Open::decode(&body(&[10, 2, 8, 73, 2, 9, 9, 75, 2, 9, 9])).unwrap();
    assert_eq!(
        open.capabilities.iter().map(Capability::code).collect::<Vec<_>>(),
        [73, 75]
    );
    assert!(
        open.capabilities
            .iter()
            .all(|capability| matches!(capability, Capability::Unknown { .. }))
    );
}

#[test]
fn of_several_graceful_restart_capabilities_the_last_counts() {
    let open = Open::decode(&body(&[10, 2, 8, 64, 2, 0, 9, 64, 2, 0, 120])).unwrap();
    assert_eq!(open.graceful_restart().unwrap().restart_time, 120);
}

#[test]
fn names_over_64_octets_are_cut() {
    let long = Capability::SoftwareVersion(vec![b'x'; 200].into());
    assert_eq!(long.to_bytes().len(), 2 + 1 + 64);
}

#[test]
fn names_over_64_octets_from_a_peer_are_kept_as_they_are() {
    let mut value = vec![75];
    value.extend([b'x'; 75]);
    let capability = Capability::decode(75, &value).unwrap();
    assert!(matches!(capability, Capability::Unknown { .. }));
    assert_eq!(capability.to_bytes().slice(2..), value);
}
