use proptest::prelude::*;

use super::*;
use crate::V4;
use crate::checksum;
use crate::config::{Config, Member, RangeKey, setting};
use crate::flow::{FRAGMENT_LIFETIME, HELD_RATE};
use crate::icmp::Answer;
use crate::id::FrontendId;
use crate::model::Model;
use crate::packet::{Octets, TCP, UDP};
use crate::service::{Backend, BackendState, Selection, Set, backend_flag, flag};
use crate::track::tcp;

pub(super) const NOW: u32 = 1_000_000;
pub(super) const CLIENT: [u8; 4] = [198, 51, 100, 1];
pub(super) const VIP: [u8; 4] = [192, 0, 2, 1];
const SERVICE: u32 = 9;
const SET: u32 = 3;

pub(super) fn v4(octets: [u8; 4]) -> V4 {
    V4(u32::from_ne_bytes(octets))
}

pub(super) fn backend_id(index: u32) -> BackendId {
    BackendId::new(index, 1).expect("it fits")
}

/// A node with one VIP on port 80 and this many local backends, 10.0.0.n:8080.
pub(super) fn node(backends: u32) -> Model<V4> {
    let id = FrontendId::new(5, 1).expect("it fits");
    let mut model = Model {
        config: Config {
            maglev_size: 251,
            settings: setting::ENABLED,
            ..Config::default()
        },
        ..Model::default()
    };
    model.watch(&v4(VIP));
    for n in 0..backends {
        let octet = u8::try_from(n + 1).expect("few");
        let backend = Backend {
            id: backend_id(n),
            address: v4([10, 0, 0, octet]),
            port: 8080_u16.to_be(),
            protocol: TCP,
            flags: backend_flag::LOCAL,
            ..Backend::default()
        };
        model.watch(&backend.address);
        model.backends.insert(n, backend);
        model.slots.insert(100 + n, backend.id);
        model.members.insert(
            Member {
                set: SET,
                backend: backend.id,
            },
            1,
        );
    }
    let count = u16::try_from(backends).expect("few");
    model.sets.insert(SET, Set::new(100, count, count));
    model.live_frontends.insert(id.index(), id);
    let frontend = Frontend {
        id,
        set: SET,
        inner_set: SET,
        service: SERVICE,
        flags: flag::ROUTABLE | flag::LOAD_BALANCER,
        selection: Selection::Random.number(),
        ..Frontend::default()
    };
    model
        .frontends
        .insert(FrontendKey::new(v4(VIP), 80_u16.to_be(), TCP), frontend);
    model.frontends.insert(
        FrontendKey::wildcard(v4(VIP)),
        Frontend {
            flags: flag::WILDCARD,
            ..frontend
        },
    );
    model
}

fn the_frontend(model: &mut Model<V4>) -> &mut Frontend {
    let key = FrontendKey::new(v4(VIP), 80_u16.to_be(), TCP);
    model.frontends.get_mut(&key).expect("it is there")
}

/// TCP over IPv4 with right checksums.
pub(super) fn segment(source: ([u8; 4], u16), destination: ([u8; 4], u16), flags: u8) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, TCP, 0, 0];
    packet.extend(source.0);
    packet.extend(destination.0);
    let sum = checksum::of(&packet, 0).to_ne_bytes();
    packet[10..12].copy_from_slice(&sum);
    packet.extend(source.1.to_be_bytes());
    packet.extend(destination.1.to_be_bytes());
    packet.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 1, 0, 0, 0, 0, 0]);
    packet
}

pub(super) fn request(port: u16, flags: u8) -> Vec<u8> {
    segment((CLIENT, port), (VIP, 80), flags)
}

pub(super) fn comes(model: &mut Model<V4>, now: u32, packet: &mut [u8]) -> Verdict {
    model.now = now;
    ingress(&mut Octets(packet), 0, model)
}

fn leaves(model: &mut Model<V4>, now: u32, packet: &mut [u8]) -> Verdict {
    model.now = now;
    egress(&mut Octets(packet), 0, model)
}

/// Where a packet of the client ends.
fn served_by(model: &mut Model<V4>, now: u32, port: u16, flags: u8) -> Result<[u8; 4], Verdict> {
    let mut packet = request(port, flags);
    match comes(model, now, &mut packet) {
        Verdict::Local => Ok(packet[16..20].try_into().expect("four")),
        other => Err(other),
    }
}

#[test]
fn a_request_goes_to_a_backend_and_its_answer_comes_from_the_vip() {
    let mut node = node(1);
    let mut packet = request(4000, tcp::SYN);
    assert_eq!(comes(&mut node, NOW, &mut packet), Verdict::Local);
    let expected = segment((CLIENT, 4000), ([10, 0, 0, 1], 8080), tcp::SYN);
    assert_eq!(packet[12..24], expected[12..24]);
    let mut answer = segment(([10, 0, 0, 1], 8080), (CLIENT, 4000), tcp::SYN | tcp::ACK);
    assert_eq!(leaves(&mut node, NOW, &mut answer), Verdict::Reply);
    assert_eq!(answer[12..24], segment((VIP, 80), (CLIENT, 4000), 0)[12..24]);
    assert_eq!(node.flows.len(), 2);
}

#[test]
fn a_packet_that_is_none_of_ours_reads_nothing_but_the_filter() {
    let mut node = node(1);
    node.config = Config::default();
    let mut packet = segment((CLIENT, 1), ([203, 0, 113, 1], 80), tcp::SYN);
    assert_eq!(comes(&mut node, NOW, &mut packet), Verdict::Pass(Pass::NotOurs));
    assert_eq!(leaves(&mut node, NOW, &mut packet), Verdict::Pass(Pass::NotOurs));
}

#[test]
fn before_the_agent_wrote_its_settings_everything_passes() {
    let mut node = node(1);
    node.config.settings = 0;
    assert_eq!(
        comes(&mut node, NOW, &mut request(1, tcp::SYN)),
        Verdict::Pass(Pass::Disabled)
    );
}

#[test]
fn an_unknown_port_of_a_vip_is_dropped_and_never_looped() {
    let mut node = node(1);
    let mut packet = segment((CLIENT, 1), (VIP, 81), tcp::SYN);
    assert_eq!(
        comes(&mut node, NOW, &mut packet),
        Verdict::Drop(DropReason::NoService)
    );
    node.frontends.remove(&FrontendKey::wildcard(v4(VIP)));
    assert_eq!(comes(&mut node, NOW, &mut packet), Verdict::Pass(Pass::NoService));
}

#[test]
fn a_flow_keeps_its_backend_whatever_is_drawn() {
    let mut node = node(8);
    let first = served_by(&mut node, NOW, 4000, tcp::SYN).expect("served");
    for _ in 0..20 {
        assert_eq!(served_by(&mut node, NOW, 4000, tcp::ACK), Ok(first));
    }
    let others = (4001..4009).map(|port| served_by(&mut node, NOW, port, tcp::SYN));
    assert!(others.flatten().any(|other| other != first));
}

#[test]
fn a_terminating_backend_keeps_its_flows_and_gets_no_new_ones() {
    let mut node = node(2);
    let kept = served_by(&mut node, NOW, 4000, tcp::SYN).expect("served");
    let index = u32::from(kept[3]) - 1;
    node.backends.get_mut(&index).expect("there").state = BackendState::Terminating.number();
    let other = backend_id(1 - index);
    node.slots.insert(100, other);
    node.sets.insert(SET, Set::new(100, 1, 2));
    assert_eq!(served_by(&mut node, NOW, 4000, tcp::ACK), Ok(kept));
    for port in 4001..4010 {
        assert_ne!(served_by(&mut node, NOW, port, tcp::SYN), Ok(kept));
    }
    // The same ports again: a new connection.
    assert_ne!(served_by(&mut node, NOW, 4000, tcp::SYN), Ok(kept));
}

#[test]
fn a_flow_of_a_backend_whose_place_was_given_away_chooses_anew() {
    let mut node = node(1);
    served_by(&mut node, NOW, 4000, tcp::SYN).expect("served");
    let stranger = Backend {
        id: backend_id(0).successor(),
        address: v4([10, 9, 9, 9]),
        ..node.backends[&0]
    };
    node.backends.insert(0, stranger);
    let survivor = Backend {
        id: backend_id(1),
        address: v4([10, 0, 0, 2]),
        ..stranger
    };
    node.backends.insert(1, survivor);
    node.slots.insert(100, survivor.id);
    assert_eq!(served_by(&mut node, NOW, 4000, tcp::ACK), Ok([10, 0, 0, 2]));
}

#[test]
fn a_flow_of_a_frontend_that_went_never_reaches_its_old_backend() {
    let mut node = node(1);
    served_by(&mut node, NOW, 4000, tcp::SYN).expect("served");
    let next = FrontendId::new(5, 2).expect("it fits");
    node.live_frontends.insert(5, next);
    the_frontend(&mut node).id = next;
    the_frontend(&mut node).set = 77;
    assert_eq!(
        served_by(&mut node, NOW, 4000, tcp::ACK),
        Err(Verdict::Drop(DropReason::NoService))
    );
}

#[test]
fn a_slot_without_backend_is_followed_by_another() {
    let mut node = node(4);
    for gone in 0..3 {
        node.backends.remove(&gone);
        for port in 4000..4020 {
            assert!(
                served_by(
                    &mut node,
                    NOW,
                    port + 100 * u16::try_from(gone).expect("few"),
                    tcp::SYN
                )
                .is_ok()
            );
        }
    }
    node.backends.remove(&3);
    assert_eq!(
        served_by(&mut node, NOW, 5000, tcp::SYN),
        Err(Verdict::Drop(DropReason::NoService))
    );
}

#[test]
fn without_backend_the_settings_decide_but_local_traffic_policy_always_drops() {
    let mut node = node(0);
    let drop = Err(Verdict::Drop(DropReason::NoService));
    assert_eq!(served_by(&mut node, NOW, 1, tcp::SYN), drop);
    node.config.settings |= setting::PASS_NO_BACKEND;
    assert_eq!(
        served_by(&mut node, NOW, 1, tcp::SYN),
        Err(Verdict::Pass(Pass::NoBackend))
    );
    the_frontend(&mut node).flags |= flag::LOCAL_ONLY;
    assert_eq!(served_by(&mut node, NOW, 1, tcp::SYN), drop);
}

#[test]
fn a_cluster_address_is_closed_to_the_outside() {
    let mut node = node(1);
    the_frontend(&mut node).flags &= !flag::ROUTABLE;
    assert_eq!(
        served_by(&mut node, NOW, 1, tcp::SYN),
        Err(Verdict::Drop(DropReason::ClusterIp))
    );
}

#[test]
fn source_ranges_allow_or_deny() {
    let mut node = node(1);
    the_frontend(&mut node).ranges = 4;
    let deny = Err(Verdict::Drop(DropReason::SourceRange));
    assert_eq!(served_by(&mut node, NOW, 1, tcp::SYN), deny);
    let range = |bits: u32, list| RangeKey {
        bits: 32 + bits,
        list,
        address: v4([198, 51, 100, 0]),
    };
    node.ranges.insert(range(24, 5), 1);
    assert_eq!(served_by(&mut node, NOW, 1, tcp::SYN), deny);
    node.ranges.insert(range(24, 4), 1);
    assert!(served_by(&mut node, NOW, 1, tcp::SYN).is_ok());
    the_frontend(&mut node).flags |= flag::DENY_RANGES;
    assert_eq!(served_by(&mut node, NOW, 2, tcp::SYN), deny);
}

#[test]
fn a_client_stays_with_its_backend_until_its_affinity_ends() {
    let mut node = node(8);
    the_frontend(&mut node).affinity = 100;
    let first = served_by(&mut node, NOW, 4000, tcp::SYN).expect("served");
    for port in 4001..4020 {
        assert_eq!(served_by(&mut node, NOW + 99, port, tcp::SYN), Ok(first));
    }
    let later = (4020..4030).map(|port| {
        node.affinities
            .values_mut()
            .for_each(|affinity| affinity.used = NOW);
        served_by(&mut node, NOW + 100, port, tcp::SYN)
    });
    assert!(later.flatten().any(|other| other != first));
}

#[test]
fn a_client_leaves_a_backend_that_left_the_set() {
    let mut node = node(2);
    the_frontend(&mut node).affinity = 100;
    let first = served_by(&mut node, NOW, 4000, tcp::SYN).expect("served");
    let index = u32::from(first[3]) - 1;
    node.members.remove(&Member {
        set: SET,
        backend: backend_id(index),
    });
    node.slots.insert(100, backend_id(1 - index));
    node.sets.insert(SET, Set::new(100, 1, 1));
    assert_ne!(served_by(&mut node, NOW, 4001, tcp::SYN), Ok(first));
}

#[test]
fn with_maglev_and_affinity_the_port_does_not_count() {
    let mut node = node(8);
    let table = (0..251).map(|place| backend_id(place % 8)).collect();
    node.maglev.insert(SET, table);
    let frontend = the_frontend(&mut node);
    frontend.selection = Selection::Maglev.number();
    let spread: Vec<_> = (4000..4020)
        .map(|port| served_by(&mut node, NOW, port, tcp::SYN))
        .collect();
    assert!(spread.iter().any(|other| *other != spread[0]));
    the_frontend(&mut node).affinity = 100;
    let one: Vec<_> = (5000..5020)
        .map(|port| {
            node.affinities.clear();
            served_by(&mut node, NOW, port, tcp::SYN)
        })
        .collect();
    assert!(one.iter().all(|other| *other == one[0]));
}

#[test]
fn one_client_port_towards_two_frontends_of_one_backend_is_never_mixed_up() {
    let mut node = node(1);
    let second = [192, 0, 2, 2];
    node.watch(&v4(second));
    let frontend = *the_frontend(&mut node);
    node.frontends
        .insert(FrontendKey::new(v4(second), 80_u16.to_be(), TCP), frontend);
    served_by(&mut node, NOW, 4000, tcp::SYN).expect("served");
    let mut packet = segment((CLIENT, 4000), (second, 80), tcp::SYN);
    assert_eq!(
        comes(&mut node, NOW, &mut packet),
        Verdict::Drop(DropReason::NoNatMapping)
    );
    // Once the first one is over, the port is free.
    assert_eq!(comes(&mut node, NOW + 9000, &mut packet), Verdict::Local);
}

#[test]
fn an_expired_flow_counts_as_absent() {
    let mut node = node(8);
    let first = served_by(&mut node, NOW, 4000, tcp::SYN).expect("served");
    let mut answer = segment((first, 8080), (CLIENT, 4000), tcp::ACK);
    let late = NOW + 60 + 8;
    assert_eq!(
        leaves(&mut node, late, &mut answer),
        Verdict::Pass(Pass::NoService)
    );
    let others: Vec<_> = (0..8)
        .map(|turn| served_by(&mut node, late + turn * 10_000, 4000, tcp::ACK))
        .collect();
    assert!(others.iter().any(|other| *other != Ok(first)));
}

#[test]
fn a_closed_connection_is_forgotten_after_ten_seconds_on_both_ways() {
    let mut node = node(1);
    let backend = served_by(&mut node, NOW, 4000, tcp::SYN).expect("served");
    let answer = |node: &mut Model<V4>, flags| {
        let mut packet = segment((backend, 8080), (CLIENT, 4000), flags);
        leaves(node, NOW, &mut packet)
    };
    assert_eq!(answer(&mut node, tcp::SYN | tcp::ACK), Verdict::Reply);
    served_by(&mut node, NOW, 4000, tcp::FIN | tcp::ACK).expect("served");
    assert!(node.flows.values().all(|flow| flow.expires == NOW + 9000));
    assert_eq!(answer(&mut node, tcp::FIN | tcp::ACK), Verdict::Reply);
    assert!(
        node.flows.values().all(|flow| flow.expires == NOW + 10),
        "{:?}",
        node.flows
    );
    assert!(node.flows.values().all(|flow| flow.state.is_closed()));
}

#[test]
fn a_server_that_only_sends_keeps_the_way_of_its_client_alive() {
    let mut node = node(1);
    let backend = served_by(&mut node, NOW, 4000, tcp::SYN).expect("served");
    for minute in 0..600 {
        let mut packet = segment((backend, 8080), (CLIENT, 4000), tcp::ACK);
        assert_eq!(leaves(&mut node, NOW + minute * 60, &mut packet), Verdict::Reply);
    }
    let end = NOW + 600 * 60;
    assert!(node.flows.values().all(|flow| flow.expires > end));
}

#[test]
fn a_full_table_refuses_new_flows_and_keeps_the_others() {
    let mut node = node(1);
    served_by(&mut node, NOW, 4000, tcp::SYN).expect("served");
    node.flow_limit = Some(2);
    assert_eq!(
        served_by(&mut node, NOW, 4001, tcp::SYN),
        Err(Verdict::Drop(DropReason::FlowTableFull))
    );
    assert!(served_by(&mut node, NOW, 4000, tcp::ACK).is_ok());
}

#[test]
fn fragments_follow_their_first_one_and_only_that() {
    let mut node = node(1);
    let mut first = request(4000, tcp::ACK);
    first[6..8].copy_from_slice(&[0x20, 0]);
    let mut later = request(4000, tcp::ACK);
    later[6..8].copy_from_slice(&[0, 2]);
    let data = later[20..].to_vec();
    assert_eq!(comes(&mut node, NOW, &mut later.clone()), Verdict::Hold);
    assert_eq!(comes(&mut node, NOW, &mut first), Verdict::Local);
    assert_eq!(comes(&mut node, NOW, &mut later), Verdict::Local);
    assert_eq!(later[16..20], [10, 0, 0, 1]);
    assert_eq!(later[20..], data, "no ports in the middle of a datagram");
    let mut late = request(4000, tcp::ACK);
    late[6..8].copy_from_slice(&[0, 2]);
    let verdict = comes(&mut node, NOW + FRAGMENT_LIFETIME, &mut late);
    assert_eq!(verdict, Verdict::Hold);
    // What goes out was put in order by this node's own stack.
    let mut late = segment(([10, 0, 0, 1], 8080), (CLIENT, 4000), tcp::ACK);
    late[6..8].copy_from_slice(&[0, 2]);
    let verdict = leaves(&mut node, NOW, &mut late);
    assert_eq!(verdict, Verdict::Drop(DropReason::FirstFragmentMissing));
}

#[test]
fn a_first_fragment_is_released_once_to_those_that_wait() {
    let mut node = node(1);
    let part = |offset: [u8; 2]| {
        let mut part = request(4000, tcp::ACK);
        part[6..8].copy_from_slice(&offset);
        part
    };
    let (mut first, mut later) = (part([0x20, 0]), part([0, 2]));
    assert_eq!(comes(&mut node, NOW, &mut later), Verdict::Hold);
    let key = wait(&Octets(&mut later), 0, &mut node).expect("it is a fragment");
    assert!(!has_come(&key, &node));
    assert_eq!(comes(&mut node, NOW, &mut first), Verdict::Release);
    assert_eq!(come(&Octets(&mut first), 0, &mut node), Some(key));
    assert!(has_come(&key, &node));
    assert_eq!(comes(&mut node, NOW, &mut first), Verdict::Local);
    assert_eq!(comes(&mut node, NOW, &mut later), Verdict::Local);
    // Nobody waits that long.
    let (mut first, mut later) = (part([0x20, 0]), part([0, 2]));
    let later_on = NOW + 1000;
    assert_eq!(comes(&mut node, later_on, &mut later), Verdict::Hold);
    wait(&Octets(&mut later), 0, &mut node).expect("it is a fragment");
    let verdict = comes(&mut node, later_on + FRAGMENT_LIFETIME, &mut first);
    assert_eq!(verdict, Verdict::Local);
}

#[test]
fn no_processor_keeps_more_fragments_in_a_second_than_it_may() {
    let mut node = node(1);
    let mut later = request(4000, tcp::ACK);
    later[6..8].copy_from_slice(&[0, 2]);
    node.now = NOW;
    let kept = (0..2 * HELD_RATE).filter(|_| wait(&Octets(&mut later), 0, &mut node).is_some());
    assert_eq!(kept.count(), HELD_RATE as usize);
}

#[test]
fn other_protocols_never_go_round_between_a_vip_and_its_router() {
    let mut node = node(1);
    let wildcard = FrontendKey::wildcard(v4(VIP));
    let says = |protocol, node: &mut Model<V4>| {
        let mut packet = request(1, 0);
        packet[9] = protocol;
        comes(node, NOW, &mut packet)
    };
    assert_eq!(says(1, &mut node), Verdict::Message);
    node.frontends.remove(&wildcard);
    // ICMP of the other family is any protocol.
    for protocol in [47, 58] {
        assert_eq!(says(protocol, &mut node), Verdict::Pass(Pass::Protocol));
    }
    node.frontends.insert(wildcard, Frontend::default());
    for protocol in [47, 58] {
        let dropped = Verdict::Drop(DropReason::UnsupportedServiceProtocol);
        assert_eq!(says(protocol, &mut node), dropped);
    }
}

#[test]
fn what_nobody_serves_is_refused_where_answers_are_allowed() {
    let mut node = node(0);
    node.config.answer_rate = 100;
    let refused = Verdict::Answer(Answer::Refused);
    assert_eq!(comes(&mut node, NOW, &mut request(1, tcp::SYN)), refused);
    node.config.settings |= setting::SILENT_NO_BACKEND;
    let dropped = Verdict::Drop(DropReason::NoService);
    assert_eq!(comes(&mut node, NOW, &mut request(1, tcp::SYN)), dropped);
    node.config.settings = setting::ENABLED;
    for frontend in node.frontends.values_mut() {
        frontend.flags |= flag::LOCAL_ONLY;
    }
    assert_eq!(comes(&mut node, NOW, &mut request(1, tcp::SYN)), dropped);
    // A port that nobody has: only where the outside may know of the address.
    let wildcard = FrontendKey::wildcard(v4(VIP));
    node.frontends.clear();
    for (flags, expected) in [
        (flag::WILDCARD | flag::ROUTABLE, refused),
        (flag::WILDCARD, dropped),
    ] {
        let frontend = Frontend {
            flags,
            ..Frontend::default()
        };
        node.frontends.insert(wildcard, frontend);
        assert_eq!(comes(&mut node, NOW, &mut request(1, tcp::SYN)), expected);
    }
}

#[test]
fn a_truncated_packet_for_a_vip_is_named() {
    let mut node = node(1);
    let whole = request(1, tcp::SYN);
    for length in 20..40 {
        let verdict = comes(&mut node, NOW, &mut whole[..length].to_vec());
        assert_eq!(verdict, Verdict::Drop(DropReason::InvalidHeader), "{length}");
    }
    for length in 0..20 {
        let verdict = comes(&mut node, NOW, &mut whole[..length].to_vec());
        assert_eq!(
            verdict,
            Verdict::Pass(Pass::Malformed(Malformed::Network)),
            "{length}"
        );
    }
    assert!(node.flows.is_empty());
}

proptest! {
    #[test]
    fn a_packet_is_untouched_unless_it_was_translated(
        flags in any::<u8>(), destination in prop_oneof![Just(VIP), any::<[u8; 4]>()], port in prop_oneof![Just(80), any::<u16>()],
        part in any::<u8>(), protocol in prop_oneof![Just(TCP), Just(UDP), any::<u8>()],
    ) {
        let mut node = node(3);
        let mut packet = segment((CLIENT, 7), (destination, port), flags);
        packet[6] = part;
        packet[9] = protocol;
        let before = packet.clone();
        let verdict = comes(&mut node, NOW, &mut packet);
        if verdict == Verdict::Local {
            prop_assert_eq!(packet[..12].to_vec(), [&before[..10], &packet[10..12]].concat());
            prop_assert_eq!(packet[12..16].to_vec(), CLIENT.to_vec());
        } else {
            prop_assert_eq!(packet, before);
        }
    }

    #[test]
    fn whatever_came_the_answer_of_its_backend_goes_back_to_whom_asked(
        client in any::<[u8; 4]>(), port in any::<u16>(), flags in any::<u8>(),
    ) {
        prop_assume!(flags & tcp::RST == 0);
        let mut node = node(5);
        let mut packet = segment((client, port), (VIP, 80), flags);
        prop_assert_eq!(comes(&mut node, NOW, &mut packet), Verdict::Local);
        let backend: [u8; 4] = packet[16..20].try_into().expect("four");
        let mut answer = segment((backend, 8080), (client, port), tcp::ACK);
        prop_assert_eq!(leaves(&mut node, NOW, &mut answer), Verdict::Reply);
        prop_assert_eq!(answer[12..24].to_vec(), segment((VIP, 80), (client, port), 0)[12..24].to_vec());
    }
}

/// The node, asked by a pod behind device 3.
fn asked_by_pod(backends: u32) -> Model<V4> {
    let mut node = node(backends);
    let device = Device {
        flags: device_flag::POD,
        ..Device::default()
    };
    node.devices.insert(3, device);
    node.arrived = 3;
    for frontend in node.frontends.values_mut() {
        frontend.flags &= !flag::ROUTABLE;
    }
    node
}

#[test]
fn a_cluster_address_is_open_to_pods_who_keep_their_address_on_every_way() {
    for flags in [backend_flag::LOCAL, 0] {
        let mut node = asked_by_pod(1);
        node.backends
            .values_mut()
            .for_each(|backend| backend.flags = flags);
        let mut packet = request(4000, tcp::SYN);
        let from = packet[12..16].to_vec();
        assert_eq!(comes(&mut node, NOW, &mut packet), Verdict::Local);
        assert_eq!(packet[12..16], from);
        assert_eq!(packet[16..20], [10, 0, 0, 1]);
        node.arrived = 0;
        let closed = comes(&mut node, NOW, &mut request(4001, tcp::SYN));
        assert_eq!(closed, Verdict::Drop(DropReason::ClusterIp));
    }
}

#[test]
fn pods_have_a_set_of_their_own_and_hear_when_it_is_empty() {
    let mut node = asked_by_pod(1);
    node.config.answer_rate = 1;
    for frontend in node.frontends.values_mut() {
        frontend.flags |= flag::LOCAL_ONLY;
        frontend.inner_set = 77;
    }
    node.sets.insert(77, Set::default());
    let refused = Verdict::Answer(Answer::Refused);
    let silent = Verdict::Drop(DropReason::NoService);
    assert_eq!(comes(&mut node, NOW, &mut request(4000, tcp::SYN)), refused);
    for frontend in node.frontends.values_mut() {
        frontend.set = 77;
    }
    assert_eq!(comes(&mut node, NOW, &mut request(4000, tcp::SYN)), silent);
}
