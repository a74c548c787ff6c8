//! Flows to backends on other nodes.

use super::tests::{CLIENT, NOW, VIP, backend_id, comes, node, request, segment, v4};
use super::*;
use crate::V4;
use crate::checksum;
use crate::forward::{Gateway, Route};
use crate::icmp::Answer;
use crate::model::Model;
use crate::track::tcp;

const OWN: [u8; 4] = [10, 1, 0, 1];
const BACKEND: [u8; 4] = [10, 0, 0, 1];
const MTU: u16 = 1500;

/// One backend, on another node; packets leave by device 7, whose address is `OWN`.
fn far() -> Model<V4> {
    let mut model = node(1);
    model.backends.get_mut(&0).expect("there").flags = 0;
    model.config.nat_first = 32_768;
    model.config.nat_last = 65_535;
    let device = Device {
        v4: v4(OWN),
        ..Device::default()
    };
    model.devices.insert(7, device);
    model.watch(&v4(OWN));
    for end in [BACKEND, CLIENT] {
        let route = Route {
            device: 7,
            gateway: Gateway {
                family: 2,
                address: [v4(end).0, 0, 0, 0],
            },
            ethernet: [1; 12],
        };
        model.routes.insert(v4(end), Some((route, MTU)));
    }
    model
}

fn port(packet: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([packet[at], packet[at + 1]])
}

/// Sends a packet of the client and returns it as it left.
fn sent(model: &mut Model<V4>, now: u32, from: u16, flags: u8) -> Result<Vec<u8>, Verdict> {
    let mut packet = request(from, flags);
    match comes(model, now, &mut packet) {
        Verdict::Forward => Ok(packet),
        other => Err(other),
    }
}

/// An answer of the backend to this port of the node.
fn answered(model: &mut Model<V4>, now: u32, to: u16, flags: u8) -> (Verdict, Vec<u8>) {
    let mut packet = segment((BACKEND, 8080), (OWN, to), flags);
    let verdict = comes(model, now, &mut packet);
    (verdict, packet)
}

#[test]
fn a_request_leaves_as_from_this_node_and_its_answer_goes_to_the_client_as_from_the_vip() {
    let mut node = far();
    let packet = sent(&mut node, NOW, 40_000, tcp::SYN).expect("forwarded");
    let mut expected = segment((OWN, 40_000), (BACKEND, 8080), tcp::SYN);
    assert_eq!(
        packet[12..24],
        expected[12..24],
        "the client's port is free and in the range"
    );
    assert_eq!(packet[8], 63);
    expected[8] = 63;
    expected[10..12].copy_from_slice(&[0, 0]);
    let sum = checksum::of(&expected[..20], 0).to_ne_bytes();
    assert_eq!(packet[10..12], sum);
    let (verdict, answer) = answered(&mut node, NOW, 40_000, tcp::SYN | tcp::ACK);
    assert_eq!(verdict, Verdict::Forward);
    assert_eq!(answer[12..24], segment((VIP, 80), (CLIENT, 40_000), 0)[12..24]);
    assert_eq!(answer[8], 63);
    assert_eq!(node.flows.len(), 2);
    sent(&mut node, NOW, 40_000, tcp::ACK).expect("forwarded");
    assert_eq!(node.flows.len(), 2);
}

#[test]
fn a_port_outside_the_range_becomes_one_inside() {
    let mut node = far();
    for from in [1, 179, 32_767] {
        let packet = sent(&mut node, NOW, from, tcp::SYN).expect("forwarded");
        assert!(port(&packet, 20) >= 32_768);
    }
}

#[test]
fn no_two_flows_share_a_port() {
    let mut node = far();
    node.config.nat_last = node.config.nat_first + 1023;
    let mut taken = std::collections::BTreeSet::new();
    let mut refused = 0;
    for from in 1..900 {
        match sent(&mut node, NOW, from, tcp::SYN) {
            Ok(packet) => assert!(taken.insert(port(&packet, 20)), "port of {from}"),
            Err(verdict) => {
                assert_eq!(verdict, Verdict::Drop(DropReason::NoNatMapping));
                refused += 1;
            }
        }
    }
    assert_eq!(taken.len() + refused, 899);
    assert_eq!(node.flows.len(), 2 * taken.len());
}

#[test]
fn a_range_that_is_full_refuses_by_name_and_frees_what_expired() {
    let mut node = far();
    node.config.nat_last = node.config.nat_first + 3;
    let mut ok = 0;
    for from in 1..40 {
        match sent(&mut node, NOW, from, tcp::SYN) {
            Ok(_) => ok += 1,
            Err(verdict) => assert_eq!(verdict, Verdict::Drop(DropReason::NoNatMapping)),
        }
    }
    assert!(ok <= 4);
    sent(&mut node, NOW + 100, 50, tcp::SYN).expect("a port that expired");
}

#[test]
fn the_source_is_the_address_of_the_device_that_the_packet_leaves_by() {
    let mut node = far();
    let (mut route, fits) = node.routes[&v4(BACKEND)].expect("a way");
    route.device = 8;
    node.routes.insert(v4(BACKEND), Some((route, fits)));
    assert_eq!(
        sent(&mut node, NOW, 40_000, tcp::SYN),
        Err(Verdict::Drop(DropReason::NoNatMapping)),
        "a device without address"
    );
    assert!(node.flows.is_empty());
    let other = Device {
        v4: v4([10, 2, 0, 1]),
        ..Device::default()
    };
    node.devices.insert(8, other);
    let packet = sent(&mut node, NOW, 40_000, tcp::SYN).expect("forwarded");
    assert_eq!(packet[12..16], [10, 2, 0, 1]);
}

#[test]
fn a_lost_entry_of_the_requests_finds_its_port_again() {
    let mut node = far();
    sent(&mut node, NOW, 40_000, tcp::SYN).expect("forwarded");
    node.flows.retain(|_, flow| flow.way() == Way::Reply);
    let packet = sent(&mut node, NOW, 40_000, tcp::ACK).expect("forwarded");
    assert_eq!(port(&packet, 20), 40_000);
    assert_eq!(node.flows.len(), 2);
}

#[test]
fn an_answer_reaches_the_client_when_the_backend_has_left() {
    let mut node = far();
    sent(&mut node, NOW, 40_000, tcp::SYN).expect("forwarded");
    node.backends.get_mut(&0).expect("there").id = backend_id(0).tombstone();
    assert_eq!(answered(&mut node, NOW, 40_000, tcp::ACK).0, Verdict::Forward);
}

#[test]
fn what_comes_to_this_node_and_answers_no_flow_passes_untouched() {
    let mut node = far();
    let (verdict, packet) = answered(&mut node, NOW, 40_000, tcp::ACK);
    assert_eq!(verdict, Verdict::Pass(Pass::NoService));
    assert_eq!(packet, segment((BACKEND, 8080), (OWN, 40_000), tcp::ACK));
}

#[test]
fn a_packet_at_the_end_of_its_time_is_not_forwarded() {
    let mut node = far();
    let mut packet = request(40_000, tcp::SYN);
    packet[8] = 1;
    let before = packet.clone();
    assert_eq!(
        comes(&mut node, NOW, &mut packet),
        Verdict::Answer(Answer::TimeExceeded)
    );
    assert_eq!(packet, before);
    assert!(node.flows.is_empty());
}

#[test]
fn what_does_not_fit_is_named_with_what_would_fit() {
    let mut node = far();
    let mut packet = request(40_000, tcp::SYN);
    packet[2..4].copy_from_slice(&1501_u16.to_be_bytes());
    packet.resize(1501, 0);
    let before = packet.clone();
    assert_eq!(
        comes(&mut node, NOW, &mut packet),
        Verdict::Answer(Answer::TooBig(1500))
    );
    assert_eq!(packet, before);
}

#[test]
fn without_a_way_a_request_is_dropped_and_where_another_hook_has_one_it_waits() {
    let mut node = far();
    node.routes.insert(v4(BACKEND), None);
    let mut packet = request(40_000, tcp::SYN);
    let before = packet.clone();
    assert_eq!(comes(&mut node, NOW, &mut packet), Verdict::Pass(Pass::Later));
    assert_eq!(packet, before);
    node.routes.remove(&v4(BACKEND));
    assert_eq!(
        comes(&mut node, NOW, &mut packet),
        Verdict::Drop(DropReason::NoRoute)
    );
    assert!(node.flows.is_empty());
}

#[test]
fn a_client_that_is_its_own_backend_hears_itself_through_the_vip() {
    let mut node = far();
    let backend = node.backends.get_mut(&0).expect("there");
    backend.flags = crate::service::backend_flag::LOCAL;
    let mut packet = segment((BACKEND, 40_000), (VIP, 80), tcp::SYN);
    assert_eq!(comes(&mut node, NOW, &mut packet), Verdict::Forward);
    let loopback = [169, 254, 42, 1];
    assert_eq!(
        packet[12..24],
        segment((loopback, 40_000), (BACKEND, 8080), 0)[12..24]
    );
    node.watch(&V4::LOOPBACK);
    let mut answer = segment((BACKEND, 8080), (loopback, 40_000), tcp::SYN | tcp::ACK);
    assert_eq!(comes(&mut node, NOW, &mut answer), Verdict::Forward);
    assert_eq!(answer[12..24], segment((VIP, 80), (BACKEND, 40_000), 0)[12..24]);
}
