//! The header and the cutting of a stream.

use bgp_speaker::wire::{Error, Framer, MAX_EXTENDED_MESSAGE, MessageType, keepalive};
use bytes::Bytes;

fn message(kind: u8, length: u16) -> Bytes {
    let mut out = vec![0xff; 16];
    out.extend(length.to_be_bytes());
    out.push(kind);
    out.resize(usize::from(length).max(19), 0);
    out.into()
}

#[track_caller]
fn refused(octets: Bytes) -> (u8, u8, Vec<u8>) {
    let mut framer = Framer::new();
    framer.push(octets);
    let answer = framer.next().unwrap_err().answer();
    (answer.code, answer.subcode, answer.data.to_vec())
}

#[test]
fn messages_come_out_whole_however_the_stream_is_cut() {
    let stream = [
        message(1, 29),
        message(2, 4096),
        keepalive::encode(),
        message(5, 23),
    ]
    .concat();
    for step in [1, 2, 7, 18, 19, 20, 4095, 4096, 5000] {
        let mut framer = Framer::new();
        let mut kinds = Vec::new();
        for part in stream.chunks(step) {
            framer.push(Bytes::copy_from_slice(part));
            while let Some(frame) = framer.next().unwrap() {
                kinds.push((frame.kind, frame.body.len()));
            }
        }
        assert_eq!(
            kinds,
            [
                (MessageType::Open, 10),
                (MessageType::Update, 4077),
                (MessageType::Keepalive, 0),
                (MessageType::RouteRefresh, 4)
            ],
            "in steps of {step}"
        );
    }
}

#[test]
fn two_pushes_before_a_message_is_taken_lose_nothing() {
    let mut framer = Framer::new();
    framer.push(keepalive::encode());
    framer.push(keepalive::encode());
    assert!(framer.next().unwrap().is_some());
    assert!(framer.next().unwrap().is_some());
    assert!(framer.next().unwrap().is_none());
}

#[test]
fn another_marker_is_not_synchronized() {
    let mut octets = keepalive::encode().to_vec();
    octets[3] = 0;
    assert_eq!(refused(octets.into()), (1, 1, vec![]));
}

#[test]
fn a_length_outside_the_limits_is_answered_with_it() {
    for (kind, length) in [
        (2, 18),
        (2, 0),
        (2, 4097),
        (1, 28),
        (2, 22),
        (3, 20),
        (4, 18),
        (4, 20),
    ] {
        assert_eq!(
            refused(message(kind, length)),
            (1, 2, length.to_be_bytes().to_vec()),
            "type {kind}"
        );
    }
}

#[test]
fn an_unknown_type_is_answered_with_it() {
    for kind in [0, 6, 128, 255] {
        assert_eq!(refused(message(kind, 19)), (1, 3, vec![kind]));
    }
}

#[test]
fn long_messages_need_to_be_agreed_on_and_never_are_for_open() {
    let mut framer = Framer::new();
    framer.set_limit(MAX_EXTENDED_MESSAGE);
    framer.push(message(2, 65535));
    assert_eq!(framer.next().unwrap().unwrap().body.len(), 65535 - 19);
    framer.push(message(1, 4097));
    assert!(matches!(framer.next(), Err(Error::MessageLength { .. })));
}

#[test]
fn a_bad_length_is_seen_before_the_message_is_whole() {
    let mut framer = Framer::new();
    framer.push(message(2, 5000).slice(..19));
    assert!(framer.next().is_err());
}
