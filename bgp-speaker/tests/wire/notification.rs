//! NOTIFICATION, ROUTE-REFRESH and KEEPALIVE.

use bgp_speaker::types::Family;
use bgp_speaker::wire::notification::{Cease, Notification, UnexpectedIn};
use bgp_speaker::wire::route_refresh::{RouteRefresh, Rules, Subtype};
use bgp_speaker::wire::{Framer, MessageType, keepalive};
use bytes::Bytes;

fn round_trip(notification: &Notification) -> Notification {
    let mut framer = Framer::new();
    framer.push(notification.encode());
    Notification::decode(&framer.next().unwrap().unwrap().body).unwrap()
}

#[test]
fn words_survive_the_wire_and_a_hard_reset() {
    let notification = Notification::cease_with_text(Cease::AdministrativeShutdown, "rack 7 ☕");
    assert_eq!(round_trip(&notification), notification);
    assert_eq!(notification.communication().as_deref(), Some("rack 7 ☕"));
    let hard = Notification::hard_reset(&notification);
    assert!(hard.is_hard_reset());
    assert_eq!(hard.communication().as_deref(), Some("rack 7 ☕"));
    assert_eq!(
        hard.to_string(),
        "Cease / Hard Reset (Cease / Administrative Shutdown): \"rack 7 ☕\""
    );
}

#[test]
fn long_words_are_cut_at_a_character() {
    let text = "ü".repeat(200);
    let notification = Notification::cease_with_text(Cease::AdministrativeReset, &text);
    assert_eq!(notification.data.len(), 1 + 254);
    assert_eq!(notification.communication().unwrap(), "ü".repeat(127));
}

#[test]
fn words_that_are_no_utf8_or_move_the_cursor_are_made_harmless() {
    let notification = Notification {
        code: 6,
        subcode: 2,
        data: Bytes::from_static(b"\x06a\xff\x1b[2J"),
    };
    assert_eq!(notification.communication().as_deref(), Some("a\u{fffd}[2J"));
}

#[test]
fn words_with_a_wrong_length_or_of_other_subcodes_are_no_words() {
    for (subcode, data) in [
        (2, &b"\x09ab"[..]),
        (2, b""),
        (2, b"\x00"),
        (1, b"\x02ab"),
        (9, b"\x06"),
    ] {
        let notification = Notification {
            code: 6,
            subcode,
            data: Bytes::copy_from_slice(data),
        };
        assert_eq!(notification.communication(), None);
    }
}

#[test]
fn data_that_does_not_fit_a_message_is_cut() {
    let notification = Notification::optional_attribute(vec![7; 60000].into());
    assert_eq!(notification.encode().len(), 4096);
}

#[test]
fn hard_resets_inside_hard_resets_end() {
    let mut notification = Notification::cease(Cease::HardReset);
    for _ in 0..1000 {
        notification = Notification::hard_reset(&notification);
    }
    assert_eq!(
        notification.to_string(),
        "Cease / Hard Reset (Cease / Hard Reset)"
    );
}

#[test]
fn a_notification_needs_a_code_and_a_subcode() {
    let error = Notification::decode(&Bytes::from_static(&[6])).unwrap_err();
    assert_eq!((error.answer().code, error.answer().subcode), (1, 2));
}

#[test]
fn the_maximum_of_prefixes_is_told() {
    let notification = Notification::maximum_prefixes(Family::IPV6_UNICAST, 1000);
    assert_eq!(notification.data, [0, 2, 1, 0, 0, 3, 232].to_vec());
}

#[test]
fn an_unexpected_message_is_told_with_its_type_and_our_state() {
    let notification = Notification::unexpected_message(UnexpectedIn::OpenSent, MessageType::Update);
    assert_eq!((notification.code, notification.subcode), (5, 1));
    assert_eq!(notification.data, vec![2]);
}

#[test]
fn route_refresh_subtypes_mean_something_only_where_agreed() {
    let body = Bytes::from_static(&[0, 1, 1, 1]);
    let plain = RouteRefresh::decode(&body, Rules::Plain).unwrap();
    assert_eq!(plain.subtype, Subtype::Request);
    let enhanced = RouteRefresh::decode(&body, Rules::Enhanced).unwrap();
    assert_eq!(enhanced.subtype, Subtype::Begin);
    let unknown = RouteRefresh::decode(&Bytes::from_static(&[0, 1, 9, 1]), Rules::Enhanced).unwrap();
    assert_eq!(unknown.subtype, Subtype::Unknown(9));
}

#[test]
fn route_refresh_survives_the_wire() {
    for subtype in [Subtype::Request, Subtype::Begin, Subtype::End] {
        let refresh = RouteRefresh {
            family: Family::IPV6_UNICAST,
            subtype,
        };
        let mut framer = Framer::new();
        framer.push(refresh.encode());
        let frame = framer.next().unwrap().unwrap();
        assert_eq!(
            RouteRefresh::decode(&frame.body, Rules::Enhanced).unwrap(),
            refresh
        );
    }
}

#[test]
fn a_route_refresh_of_another_length_is_answered_as_agreed() {
    let body = Bytes::from_static(&[0, 1, 1, 1, 9]);
    let plain = RouteRefresh::decode(&body, Rules::Plain).unwrap_err().answer();
    assert_eq!((plain.code, plain.subcode, &plain.data[..]), (1, 2, &[0, 24][..]));
    let enhanced = RouteRefresh::decode(&body, Rules::Enhanced).unwrap_err().answer();
    assert_eq!((enhanced.code, enhanced.subcode), (7, 1));
    // RFC 7313 5: the whole message.
    assert_eq!(enhanced.data.len(), 24);
}

#[test]
fn keepalive_is_a_header() {
    assert_eq!(keepalive::encode().len(), 19);
}
