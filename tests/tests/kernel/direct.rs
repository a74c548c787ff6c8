//! Direct server return: what leaves the node a client came to, and what its backend's node makes of it.

use std::net::IpAddr;

use ebpf_abi::balance::Verdict;
use ebpf_abi::config::{Direction, FORGONE, PRESENT, RangeKey, counter};
use ebpf_abi::dsr::Vip;
use ebpf_abi::dsr::tunnel::{wrap_geneve, wrap_ipip};
use ebpf_abi::model::{Growing, Model};
use ebpf_abi::packet::{TCP, UDP};
use ebpf_abi::service::{Backend, Dispatch, Frontend, Selection, Set, backend_flag};
use ebpf_abi::track::tcp;
use ebpf_abi::{DropReason, V4, V6};
use ebpf_loader::Hook;

use crate::claims::{FIRST, SET, id, node};
use crate::icmp::counted;
use crate::packet::Frame;
use crate::remote::{Neighbour, Routed, at, everywhere, far, left, request};
use crate::rig::Rig;

macro_rules! claims {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            everywhere(Neighbour::Known, claim::$name::<V4>, claim::$name::<V6>);
        }
    )*};
}

claims! {
    the_option_travels_with_what_opens_a_connection
    geneve_wraps_what_opens_a_connection_and_all_of_udp
    ip_in_ip_wraps_everything_and_changes_nothing_inside
    a_flow_takes_one_entry
    what_maglev_sends_the_same_way_anyway_is_not_remembered_in_a_flood
    what_goes_another_way_without_an_entry_is_remembered_in_a_flood_too
    a_flood_lets_nobody_in_and_no_peer_out_of_its_translation
    what_does_not_fit_with_its_headers_says_what_would
    a_node_without_address_is_named
    a_backend_outside_of_the_cluster_is_reached_by_translation
    the_backends_node_answers_from_the_vip
    a_wrapped_packet_goes_to_a_backend_here_and_never_on
    wrapped_packets_of_strangers_are_dropped_by_name
    an_option_gives_nobody_a_vip_that_is_not_served_so
    a_connection_straight_to_the_backend_is_not_answered_from_the_vip
}

/// The node the client comes to; the backend is on another one.
fn here<A: Routed>(dispatch: Dispatch) -> Model<A> {
    let mut model = far::<A>();
    model.config.node = A::node(A::here());
    model.nodes.insert(1, A::node(A::there()));
    let backend = model.backends.get_mut(&0).expect("there");
    backend.flags = backend_flag::CLUSTER;
    backend.node = 1;
    dispatch_by(&mut model, dispatch);
    model
}

/// The node the backend is on.
fn there<A: Routed>(dispatch: Dispatch) -> Model<A> {
    let mut model = node::<A>(1);
    model.config.node = A::node(A::there());
    model.watch(&A::of(A::there()));
    let peer = RangeKey {
        bits: RangeKey::<A>::LIST_BITS + 8 * u32::try_from(size_of::<A>()).expect("small"),
        list: RangeKey::<A>::PEERS,
        address: A::of(A::here()),
    };
    model.ranges.insert(peer, PRESENT);
    dispatch_by(&mut model, dispatch);
    model
}

fn dispatch_by<A: Routed>(model: &mut Model<A>, dispatch: Dispatch) {
    for frontend in model.frontends.values_mut().filter(|frontend| frontend.set != 0) {
        frontend.dispatch = dispatch.number();
        if dispatch == Dispatch::DsrIpip {
            frontend.local_set = SET;
        }
    }
}

fn vip<A: Routed>() -> Vip<A> {
    Vip {
        address: A::of(A::vip(1)),
        port: 80_u16.to_be(),
    }
}

fn towards<A: Routed>(protocol: u8, flags: u8) -> Frame {
    Frame::of(protocol, flags, at(A::client(1), 4000), at(A::backend(1), 8080))
}

/// As it comes to the backend's node.
fn with_option<A: Routed>(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    A::insert(&mut Growing(&mut frame), &vip::<A>()).expect("room");
    frame
}

fn in_geneve<A: Routed>(frame: &[u8], from: IpAddr) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let underlay = A::underlay(A::of(from), A::of(A::there()));
    wrap_geneve(&mut Growing(&mut frame), &underlay, &vip::<A>(), 1).expect("room");
    frame
}

fn in_ip<A: Routed>(frame: &[u8], from: IpAddr) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let underlay = A::underlay(A::of(from), A::of(A::there()));
    wrap_ipip::<A, _>(&mut Growing(&mut frame), &underlay, 1).expect("room");
    frame
}

/// Octets up to the transport header of a packet without options.
fn headers<A>() -> usize {
    if size_of::<A>() == 4 { 34 } else { 54 }
}

mod claim {
    use super::*;

    pub(crate) fn the_option_travels_with_what_opens_a_connection<A: Routed>(rig: &Rig, hook: Hook) {
        let mut node = here::<A>(Dispatch::DsrOption);
        rig.install(&node);
        let with = |frame: Frame| with_option::<A>(&left(hook, frame));
        for (flags, optioned) in [(tcp::SYN, true), (tcp::SYN, true), (tcp::ACK, false)] {
            let (verdict, packet, _) = rig.both(hook, &request::<A>(TCP, 4000, flags).build(), &mut node);
            assert_eq!(verdict, Verdict::Forward);
            let plain = towards::<A>(TCP, flags);
            let expected = if optioned { with(plain) } else { left(hook, plain) };
            assert_eq!(packet, expected, "flags {flags}");
        }
        for _ in 0..2 {
            let (_, packet, _) = rig.both(hook, &request::<A>(UDP, 4000, 0).build(), &mut node);
            assert_eq!(packet, with(towards::<A>(UDP, 0)));
        }
    }

    pub(crate) fn geneve_wraps_what_opens_a_connection_and_all_of_udp<A: Routed>(rig: &Rig, hook: Hook) {
        let mut node = here::<A>(Dispatch::DsrGeneve);
        rig.install(&node);
        for (protocol, flags, wrapped) in [
            (TCP, tcp::SYN, true),
            (TCP, tcp::ACK, false),
            (UDP, 0, true),
            (UDP, 0, true),
        ] {
            let request = request::<A>(protocol, 4000, flags).build();
            let (verdict, packet, _) = rig.both(hook, &request, &mut node);
            assert_eq!(verdict, Verdict::Forward);
            let inner = towards::<A>(protocol, flags).hops(63).build();
            let length = if wrapped { A::GENEVE_GAP.octets() } else { 0 };
            assert_eq!(packet.len(), inner.len() + length);
            assert_eq!(packet[length + 14..], inner[14..], "what is inside");
        }
    }

    pub(crate) fn ip_in_ip_wraps_everything_and_changes_nothing_inside<A: Routed>(rig: &Rig, hook: Hook) {
        let mut node = here::<A>(Dispatch::DsrIpip);
        rig.install(&node);
        for (protocol, flags) in [(TCP, tcp::SYN), (TCP, tcp::ACK), (UDP, 0)] {
            let request = request::<A>(protocol, 4000, flags).build();
            let (verdict, packet, _) = rig.both(hook, &request, &mut node);
            assert_eq!(verdict, Verdict::Forward);
            let outer = A::IPIP_GAP.octets();
            assert_eq!(packet[14 + outer..], request[14..]);
            let destination = headers::<A>() - size_of::<A>();
            let there = ebpf_abi::plain::octets(&A::of(A::there())).to_vec();
            assert_eq!(packet[destination..headers::<A>()], there);
        }
    }

    pub(crate) fn a_flow_takes_one_entry<A: Routed>(rig: &Rig, hook: Hook) {
        for dispatch in [Dispatch::DsrOption, Dispatch::DsrIpip, Dispatch::DsrGeneve] {
            let mut node = here::<A>(dispatch);
            rig.install(&node);
            for flags in [tcp::SYN, tcp::ACK, tcp::FIN | tcp::ACK, tcp::ACK, tcp::SYN] {
                rig.both(hook, &request::<A>(TCP, 4000, flags).build(), &mut node);
                rig.assert_flows(&node);
                assert_eq!(node.flows.len(), 1);
            }
        }
    }

    pub(crate) fn what_maglev_sends_the_same_way_anyway_is_not_remembered_in_a_flood<A: Routed>(
        rig: &Rig,
        hook: Hook,
    ) {
        const FLOWS: u16 = 300;
        let mut node = by_maglev::<A>();
        node.config.flow_rate = 1;
        rig.install(&node);
        let before = counted(rig, counter(Direction::Ingress, FORGONE));
        // In the model all are remembered: its packets must not differ.
        node.config.flow_rate = 0;
        for flags in [tcp::SYN, tcp::ACK, tcp::ACK] {
            for port in 4000..4000 + FLOWS {
                let (verdict, ..) = rig.both(hook, &request::<A>(TCP, port, flags).build(), &mut node);
                assert_eq!(verdict, Verdict::Forward);
            }
        }
        assert_eq!(node.flows.len(), usize::from(FLOWS));
        // Each processor may remember one in a second.
        let remembered = rig.written(&node).flows.len();
        assert!(remembered < usize::from(FLOWS / 2), "{remembered} entries");
        let forgone = counted(rig, counter(Direction::Ingress, FORGONE)) - before;
        assert!(forgone > FLOWS.into(), "{forgone} went on without an entry");
    }

    pub(crate) fn what_goes_another_way_without_an_entry_is_remembered_in_a_flood_too<A: Routed>(
        rig: &Rig,
        hook: Hook,
    ) {
        let by_chance = |frontend: &mut Frontend| frontend.selection = Selection::Random.number();
        let by_affinity = |frontend: &mut Frontend| frontend.affinity = 60;
        for change in [by_chance, by_affinity] {
            let mut node = by_maglev::<A>();
            node.config.flow_rate = 1;
            node.frontends.values_mut().for_each(change);
            rig.install(&node);
            for port in 4000..4050 {
                rig.both(hook, &request::<A>(TCP, port, tcp::SYN).build(), &mut node);
            }
            assert_eq!(rig.written(&node).flows.len(), 50);
        }
    }

    pub(crate) fn a_flood_lets_nobody_in_and_no_peer_out_of_its_translation<A: Routed>(
        rig: &Rig,
        hook: Hook,
    ) {
        let refused: fn(&mut Model<A>) = |node| {
            node.frontends
                .values_mut()
                .for_each(|frontend| frontend.ranges = 5)
        };
        let peer: fn(&mut Model<A>) = |node| {
            let peer = RangeKey {
                bits: RangeKey::<A>::LIST_BITS + 8 * u32::try_from(size_of::<A>()).expect("small"),
                list: RangeKey::<A>::PEERS,
                address: A::of(A::client(1)),
            };
            node.ranges.insert(peer, PRESENT);
        };
        let range = Verdict::Drop(DropReason::SourceRange);
        for (change, expected) in [(refused, range), (peer, Verdict::Forward)] {
            let mut node = by_maglev::<A>();
            node.config.flow_rate = 1;
            rig.install(&node);
            node.config.flow_rate = 0;
            // From now on nothing more is remembered in this second.
            for port in 40_000..40_010 {
                rig.both(hook, &request::<A>(TCP, port, tcp::SYN).build(), &mut node);
            }
            let mut changed = by_maglev::<A>();
            changed.config.flow_rate = 1;
            change(&mut changed);
            rig.install(&changed);
            changed.config.flow_rate = 0;
            for port in 40_100..40_110 {
                let request = request::<A>(TCP, port, tcp::SYN).build();
                let (verdict, packet, _) = rig.both(hook, &request, &mut changed);
                assert_eq!(verdict, expected);
                assert_eq!(packet.len(), request.len(), "nothing is around it");
            }
        }
    }

    /// Two backends, on two nodes, as the packets around those of clients show.
    fn by_maglev<A: Routed>() -> Model<A> {
        let mut node = here::<A>(Dispatch::DsrIpip);
        node.nodes.insert(2, A::node(A::backend(1)));
        let other = Backend {
            id: id(1),
            node: 2,
            ..node.backends[&0]
        };
        node.backends.insert(1, other);
        node.slots.insert(FIRST + 1, other.id);
        node.sets.insert(SET, Set::new(FIRST, 2, 2));
        node.maglev
            .insert(SET, (0..251).map(|place| id(place % 2)).collect());
        for frontend in node.frontends.values_mut() {
            frontend.selection = Selection::Maglev.number();
        }
        node
    }

    pub(crate) fn what_does_not_fit_with_its_headers_says_what_would<A: Routed>(rig: &Rig, hook: Hook) {
        let mut node = here::<A>(Dispatch::DsrIpip);
        rig.install(&node);
        let whole = vec![0; 1500 - headers::<A>() + 14 - 8];
        let frame = Frame::udp(at(A::client(1), 4000), at(A::vip(1), 80)).data(&whole);
        let frame = frame.build();
        let (verdict, packet, _) = rig.both(hook, &frame, &mut node);
        let outer = u16::try_from(A::IPIP_GAP.octets()).expect("small");
        let big = Verdict::Drop(DropReason::FragmentationNeeded);
        assert_eq!((verdict, &packet), (big, &frame));
        let fits = &whole[usize::from(outer)..];
        let frame = Frame::udp(at(A::client(1), 4000), at(A::vip(1), 80)).data(fits);
        let (verdict, packet, _) = rig.both(hook, &frame.build(), &mut node);
        assert_eq!((verdict, packet.len()), (Verdict::Forward, 1514));
    }

    pub(crate) fn a_node_without_address_is_named<A: Routed>(rig: &Rig, hook: Hook) {
        for dispatch in [Dispatch::DsrIpip, Dispatch::DsrGeneve] {
            let mut node = here::<A>(dispatch);
            node.nodes.clear();
            rig.install(&node);
            let frame = request::<A>(TCP, 4000, tcp::SYN).build();
            let (verdict, packet, _) = rig.both(hook, &frame, &mut node);
            assert_eq!(verdict, Verdict::Drop(DropReason::NoTunnelEndpoint));
            assert_eq!(packet, frame);
        }
    }

    pub(crate) fn a_backend_outside_of_the_cluster_is_reached_by_translation<A: Routed>(
        rig: &Rig,
        hook: Hook,
    ) {
        let mut node = here::<A>(Dispatch::DsrOption);
        node.backends.get_mut(&0).expect("there").flags = 0;
        rig.install(&node);
        let frame = request::<A>(TCP, 40_000, tcp::SYN).build();
        let (_, packet, _) = rig.both(hook, &frame, &mut node);
        let expected = Frame::tcp(tcp::SYN, at(A::here(), 40_000), at(A::backend(1), 8080));
        assert_eq!(packet, left(hook, expected));
    }

    /// Option and Geneve: delivered to the backend, client's address and all; later packets come as they are.
    pub(crate) fn the_backends_node_answers_from_the_vip<A: Routed>(rig: &Rig, hook: Hook) {
        for (dispatch, protocol) in [
            (Dispatch::DsrOption, TCP),
            (Dispatch::DsrGeneve, TCP),
            (Dispatch::DsrOption, UDP),
            (Dispatch::DsrGeneve, UDP),
        ] {
            let mut node = there::<A>(dispatch);
            rig.install(&node);
            let first = towards::<A>(protocol, tcp::SYN).build();
            let (came, delivered) = if dispatch == Dispatch::DsrOption {
                (with_option::<A>(&first), with_option::<A>(&first))
            } else {
                (in_geneve::<A>(&first, A::here()), first.clone())
            };
            let (verdict, packet, _) = rig.both(hook, &came, &mut node);
            assert_eq!((verdict, &packet), (Verdict::Local, &delivered));
            // The same packet comes to tc once XDP has let it pass.
            let (verdict, packet, _) = rig.both(Hook::Ingress, &delivered, &mut node);
            assert_eq!((verdict, &packet), (Verdict::Local, &delivered));
            let answer = Frame::of(
                protocol,
                tcp::SYN | tcp::ACK,
                at(A::backend(1), 8080),
                at(A::client(1), 4000),
            );
            let (verdict, packet, _) = rig.both(Hook::Egress, &answer.build(), &mut node);
            let expected = Frame::of(
                protocol,
                tcp::SYN | tcp::ACK,
                at(A::vip(1), 80),
                at(A::client(1), 4000),
            );
            assert_eq!((verdict, packet), (Verdict::Reply, expected.build()));
            let later = towards::<A>(protocol, tcp::ACK).build();
            let (verdict, packet, _) = rig.both(hook, &later, &mut node);
            assert_eq!((verdict, packet), (Verdict::Local, later));
            rig.assert_flows(&node);
            assert_eq!(node.flows.len(), 2);
        }
    }

    pub(crate) fn a_wrapped_packet_goes_to_a_backend_here_and_never_on<A: Routed>(rig: &Rig, hook: Hook) {
        let mut node = there::<A>(Dispatch::DsrIpip);
        rig.install(&node);
        for flags in [tcp::SYN, tcp::ACK] {
            let frame = in_ip::<A>(&request::<A>(TCP, 4000, flags).build(), A::here());
            let (verdict, packet, _) = rig.both(hook, &frame, &mut node);
            assert_eq!(verdict, Verdict::Local);
            assert_eq!(packet, towards::<A>(TCP, flags).build());
        }
        let answer = Frame::tcp(tcp::ACK, at(A::backend(1), 8080), at(A::client(1), 4000));
        let (verdict, packet, _) = rig.both(Hook::Egress, &answer.build(), &mut node);
        let expected = Frame::tcp(tcp::ACK, at(A::vip(1), 80), at(A::client(1), 4000));
        assert_eq!((verdict, packet), (Verdict::Reply, expected.build()));
        // Both nodes balanced the flow towards the other one: it ends here, not in a circle.
        for frontend in node.frontends.values_mut() {
            frontend.local_set = 0;
        }
        node.backends.get_mut(&0).expect("there").flags = backend_flag::CLUSTER;
        rig.install(&node);
        let frame = in_ip::<A>(&request::<A>(TCP, 4001, tcp::SYN).build(), A::here());
        let (verdict, ..) = rig.both(hook, &frame, &mut node);
        assert_eq!(verdict, Verdict::Drop(DropReason::NoService));
    }

    pub(crate) fn wrapped_packets_of_strangers_are_dropped_by_name<A: Routed>(rig: &Rig, hook: Hook) {
        for dispatch in [Dispatch::DsrIpip, Dispatch::DsrGeneve] {
            let mut node = there::<A>(dispatch);
            rig.install(&node);
            let inner = request::<A>(TCP, 4000, tcp::SYN).build();
            for frame in [
                in_ip::<A>(&inner, A::client(2)),
                in_geneve::<A>(&inner, A::client(2)),
            ] {
                let (verdict, packet, _) = rig.both(hook, &frame, &mut node);
                assert_eq!(verdict, Verdict::Drop(DropReason::UnknownSender));
                assert_eq!(packet, frame);
            }
            assert!(rig.written(&node).flows.is_empty());
        }
    }

    pub(crate) fn an_option_gives_nobody_a_vip_that_is_not_served_so<A: Routed>(rig: &Rig, hook: Hook) {
        for (dispatch, reason) in [
            (Dispatch::Snat, DropReason::EncapsulationProhibited),
            (Dispatch::DsrIpip, DropReason::EncapsulationProhibited),
        ] {
            let mut node = there::<A>(dispatch);
            rig.install(&node);
            let frame = with_option::<A>(&towards::<A>(TCP, tcp::SYN).build());
            let (verdict, ..) = rig.both(hook, &frame, &mut node);
            assert_eq!(verdict, Verdict::Drop(reason));
            assert!(rig.written(&node).flows.is_empty());
        }
        // What is sent to the VIP is balanced, whatever option it has.
        let mut node = there::<A>(Dispatch::DsrOption);
        rig.install(&node);
        let frame = with_option::<A>(&request::<A>(TCP, 4000, tcp::SYN).build());
        let (verdict, packet, _) = rig.both(hook, &frame, &mut node);
        assert_eq!(verdict, Verdict::Local);
        assert_eq!(packet, with_option::<A>(&towards::<A>(TCP, tcp::SYN).build()));
    }

    pub(crate) fn a_connection_straight_to_the_backend_is_not_answered_from_the_vip<A: Routed>(
        rig: &Rig,
        hook: Hook,
    ) {
        let mut node = there::<A>(Dispatch::DsrOption);
        rig.install(&node);
        let opening = with_option::<A>(&towards::<A>(TCP, tcp::SYN).build());
        rig.both(hook, &opening, &mut node);
        rig.both(hook, &towards::<A>(TCP, tcp::ACK).build(), &mut node);
        rig.both(hook, &towards::<A>(TCP, tcp::SYN).build(), &mut node);
        assert!(rig.written(&node).flows.is_empty() && node.flows.is_empty());
        let answer = Frame::tcp(tcp::ACK, at(A::backend(1), 8080), at(A::client(1), 4000)).build();
        let (_, packet, _) = rig.both(Hook::Egress, &answer, &mut node);
        assert_eq!(packet, answer);
    }
}
