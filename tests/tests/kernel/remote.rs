//! Backends on other nodes: what the programs do to packets that leave past the stack, with real routes and neighbours.
//!
//! Each test has a network namespace of its own. Test runs come in by its loopback device, and packets leave by `out`.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::thread;
use std::time::Duration;

use ebpf_abi::balance::{Pass, Verdict};
use ebpf_abi::config::{Device, Node, device_flag, drop_counter};
use ebpf_abi::flow::Way;
use ebpf_abi::forward::{Gateway, LIFETIME, Route};
use ebpf_abi::maps;
use ebpf_abi::model::Model;
use ebpf_abi::packet::{SCTP, TCP, UDP};
use ebpf_abi::service::backend_flag;
use ebpf_abi::track::tcp;
use ebpf_abi::{DropReason, V4, V6};
use ebpf_loader::Hook;
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, unshare};

use crate::claims::{Ends, key, node};
use crate::packet::Frame;
use crate::rig::{Rig, rig};

const XDP_REDIRECT: u32 = 4;
const TC_REDIRECT: u32 = 7;

/// What a family needs to be routed.
pub(crate) trait Routed: Ends {
    const FAMILY: u32;
    /// This node's address on `out`, and the router there.
    fn here() -> IpAddr;
    fn router() -> IpAddr;
    fn loopback() -> IpAddr;
    fn gateway() -> Gateway;
    fn device(device: &mut Device);
    /// The node that `there` is the address of, and the same address.
    fn node(address: IpAddr) -> Node;
    fn there() -> IpAddr;
}

impl Routed for V4 {
    const FAMILY: u32 = 2;
    fn here() -> IpAddr {
        [10, 1, 0, 1].into()
    }
    fn router() -> IpAddr {
        [10, 1, 0, 2].into()
    }
    fn loopback() -> IpAddr {
        [169, 254, 42, 1].into()
    }
    fn gateway() -> Gateway {
        let V4(word) = Self::of(Self::router());
        Gateway {
            family: Self::FAMILY,
            address: [word, 0, 0, 0],
        }
    }
    fn device(device: &mut Device) {
        device.v4 = Self::of(Self::here());
    }
    fn node(address: IpAddr) -> Node {
        Node {
            v4: Self::of(address),
            ..Node::default()
        }
    }
    fn there() -> IpAddr {
        [10, 0, 0, 200].into()
    }
}

impl Routed for V6 {
    const FAMILY: u32 = 10;
    fn here() -> IpAddr {
        [0xfd01, 0, 0, 0, 0, 0, 0, 1].into()
    }
    fn router() -> IpAddr {
        [0xfd01, 0, 0, 0, 0, 0, 0, 2].into()
    }
    fn loopback() -> IpAddr {
        [0xfe80, 0, 0, 0, 0, 0, 0, 1].into()
    }
    fn gateway() -> Gateway {
        Gateway {
            family: Self::FAMILY,
            address: Self::of(Self::router()).0,
        }
    }
    fn device(device: &mut Device) {
        device.v6 = Self::of(Self::here());
    }
    fn node(address: IpAddr) -> Node {
        Node {
            v6: Self::of(address),
            ..Node::default()
        }
    }
    fn there() -> IpAddr {
        [0xfd00, 0, 0, 0, 0, 0, 0, 200].into()
    }
}

/// Whether the router's Ethernet address is known.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Neighbour {
    Known,
    Unknown,
}

/// This thread gets a network of its own: the loopback device, and `out`, behind which a router knows everybody.
pub(crate) fn network(neighbour: Neighbour) {
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
    run(
        "sysctl -qw net.ipv4.conf.all.forwarding=1 net.ipv6.conf.all.forwarding=1 net.ipv6.conf.all.accept_dad=0",
    );
    for command in [
        "link set lo up",
        "link add out address 02:00:00:00:00:0a type veth peer name far",
        "link set out up",
        "link set far up",
        "addr add 10.1.0.1/24 dev out",
        "addr add fd01::1/64 dev out nodad",
    ] {
        run(&format!("ip {command}"));
    }
    if neighbour == Neighbour::Known {
        run("ip neigh add 10.1.0.2 lladdr 02:00:00:00:00:0b dev out");
        run("ip neigh add fd01::2 lladdr 02:00:00:00:00:0b dev out");
    }
    for net in ["10.0.0.0/24", "198.51.100.0/24"] {
        run(&format!("ip route add {net} via 10.1.0.2"));
    }
    for net in ["fd00::/120", "2001:db8:c::/120"] {
        run(&format!("ip route add {net} via fd01::2"));
    }
    // The last network's device had the same number.
    ways_end();
}

/// Goes on when nobody follows a way any more that was found before: as [`LIFETIME`] says.
fn ways_end() {
    thread::sleep(Duration::from_nanos(2 * LIFETIME));
}

fn run(command: &str) {
    let words: Vec<&str> = command.split(' ').collect();
    let output = Command::new(words[0])
        .args(&words[1..])
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {said}");
}

/// A node whose only backend is behind the router. The maps say the same as the network.
pub(crate) fn far<A: Routed>() -> Model<A> {
    let index = if_nametoindex("out").expect("the device");
    let mut model = node::<A>(1);
    model.backends.get_mut(&0).expect("there").flags = 0;
    model.config.nat_first = 32_768;
    model.config.nat_last = 65_535;
    let mut device = Device {
        flags: device_flag::TAKES_FRAMES,
        ..Device::default()
    };
    A::device(&mut device);
    model.devices.insert(index, device);
    model.watch(&A::of(A::here()));
    let route = Route {
        device: index,
        gateway: A::gateway(),
        ethernet: [2, 0, 0, 0, 0, 0x0b, 2, 0, 0, 0, 0, 0x0a],
    };
    for end in [A::client(1), A::client(2), A::backend(1), A::there()] {
        model.routes.insert(A::of(end), Some((route, 1500)));
    }
    model
}

pub(crate) fn at(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address, port)
}

pub(crate) fn request<A: Ends>(protocol: u8, port: u16, flags: u8) -> Frame {
    Frame::of(protocol, flags, at(A::client(1), port), at(A::vip(1), 80))
}

/// The frame as it leaves by `out`: one hop later, and in XDP with the Ethernet header of the router.
pub(crate) fn left(hook: Hook, frame: Frame) -> Vec<u8> {
    let mut octets = frame.hops(63).build();
    if hook == Hook::Xdp {
        octets[..12].copy_from_slice(&[2, 0, 0, 0, 0, 0x0b, 2, 0, 0, 0, 0, 0x0a]);
    }
    octets
}

pub(crate) fn everywhere(neighbour: Neighbour, claim4: fn(&Rig, Hook), claim6: fn(&Rig, Hook)) {
    let Some(rig) = rig() else { return };
    network(neighbour);
    for hook in [Hook::Xdp, Hook::Ingress] {
        claim4(&rig, hook);
        claim6(&rig, hook);
    }
}

macro_rules! claims {
    ($($name:ident $neighbour:ident)*) => {$(
        #[test]
        fn $name() {
            everywhere(Neighbour::$neighbour, claim::$name::<V4>, claim::$name::<V6>);
        }
    )*};
}

claims! {
    a_request_leaves_as_from_this_node_and_its_answer_as_from_the_vip Known
    udp_without_checksum_stays_without_when_forwarded Known
    two_clients_with_one_port_get_two Known
    a_port_outside_the_range_becomes_one_inside Known
    a_lost_entry_is_written_anew_with_the_same_port Known
    an_unknown_neighbour_leaves_a_packet_to_tc Unknown
    a_device_that_takes_no_frames_leaves_a_packet_to_tc Known
    what_does_not_fit_is_dropped_by_name_and_untouched Known
    a_packet_at_the_end_of_its_time_is_dropped_by_name_and_untouched Known
    a_backend_without_route_is_named Known
    a_client_that_is_its_own_backend_hears_itself Known
    what_comes_to_this_node_and_answers_nobody_passes Known
    sctp_gets_other_addresses_and_keeps_its_ports Known
    a_neighbour_that_moves_is_followed Known
    a_neighbour_that_becomes_known_is_used_at_once Known
    a_device_that_goes_down_is_left Known
}

mod claim {
    use super::*;

    pub(crate) fn a_request_leaves_as_from_this_node_and_its_answer_as_from_the_vip<A: Routed>(
        rig: &Rig,
        hook: Hook,
    ) {
        for protocol in [TCP, UDP] {
            let mut node = far::<A>();
            rig.install(&node);
            for flags in [tcp::SYN, tcp::ACK] {
                let request = request::<A>(protocol, 40_000, flags).build();
                let (verdict, packet, _) = rig.both(hook, &request, &mut node);
                assert_eq!(verdict, Verdict::Forward);
                let expected = Frame::of(protocol, flags, at(A::here(), 40_000), at(A::backend(1), 8080));
                assert_eq!(packet, left(hook, expected), "checksums as a host makes them");
                let answer = Frame::of(
                    protocol,
                    flags | tcp::ACK,
                    at(A::backend(1), 8080),
                    at(A::here(), 40_000),
                );
                let (verdict, packet, _) = rig.both(hook, &answer.build(), &mut node);
                assert_eq!(verdict, Verdict::Forward);
                let expected = Frame::of(
                    protocol,
                    flags | tcp::ACK,
                    at(A::vip(1), 80),
                    at(A::client(1), 40_000),
                );
                assert_eq!(packet, left(hook, expected));
            }
            rig.assert_flows(&node);
            assert_eq!(node.flows.len(), 2);
        }
    }

    pub(crate) fn udp_without_checksum_stays_without_when_forwarded<A: Routed>(rig: &Rig, hook: Hook) {
        let mut node = far::<A>();
        rig.install(&node);
        let frame = request::<A>(UDP, 40_000, 0).without_sum();
        let (_, packet, _) = rig.both(hook, &frame.build(), &mut node);
        let expected = Frame::udp(at(A::here(), 40_000), at(A::backend(1), 8080)).without_sum();
        assert_eq!(packet, left(hook, expected));
    }

    pub(crate) fn two_clients_with_one_port_get_two<A: Routed>(rig: &Rig, hook: Hook) {
        let node = far::<A>();
        rig.install(&node);
        for n in [1, 2] {
            let frame = Frame::tcp(tcp::SYN, at(A::client(n), 40_000), at(A::vip(1), 80)).build();
            redirected(rig, hook, &frame);
        }
        let flows = rig.written(&node).flows;
        assert_eq!(flows.len(), 4);
        let ports: Vec<u16> = flows
            .values()
            .filter(|flow| flow.way() == Way::Forward)
            .map(|flow| u16::from_be(flow.source_port))
            .collect();
        assert!(ports[0] != ports[1] && ports.contains(&40_000), "{ports:?}");
        assert!(ports.iter().all(|port| *port >= 32_768));
    }

    pub(crate) fn a_port_outside_the_range_becomes_one_inside<A: Routed>(rig: &Rig, hook: Hook) {
        let mut node = far::<A>();
        node.config.nat_first = 60_000;
        node.config.nat_last = 60_000;
        rig.install(&node);
        let (verdict, packet, _) = rig.both(hook, &request::<A>(TCP, 179, tcp::SYN).build(), &mut node);
        assert_eq!(verdict, Verdict::Forward);
        let expected = Frame::tcp(tcp::SYN, at(A::here(), 60_000), at(A::backend(1), 8080));
        assert_eq!(packet, left(hook, expected));
        // The range is full now.
        let frame = request::<A>(TCP, 180, tcp::SYN).build();
        let (verdict, packet, _) = rig.both(hook, &frame, &mut node);
        assert_eq!(
            (verdict, packet),
            (Verdict::Drop(DropReason::NoNatMapping), frame)
        );
    }

    pub(crate) fn a_lost_entry_is_written_anew_with_the_same_port<A: Routed>(rig: &Rig, hook: Hook) {
        for lost in [Way::Forward, Way::Reply] {
            let mut node = far::<A>();
            rig.install(&node);
            let frame = request::<A>(TCP, 40_000, tcp::SYN).build();
            rig.both(hook, &frame, &mut node);
            node.flows.retain(|_, flow| flow.way() != lost);
            rig.install(&node);
            let frame = request::<A>(TCP, 40_000, tcp::ACK).build();
            let (verdict, packet, _) = rig.both(hook, &frame, &mut node);
            assert_eq!(verdict, Verdict::Forward);
            let expected = Frame::tcp(tcp::ACK, at(A::here(), 40_000), at(A::backend(1), 8080));
            assert_eq!(packet, left(hook, expected));
            assert_eq!(rig.written(&node).flows.len(), 2, "lost: {lost:?}");
        }
    }

    pub(crate) fn an_unknown_neighbour_leaves_a_packet_to_tc<A: Routed>(rig: &Rig, hook: Hook) {
        elsewhere_in_xdp(rig, hook, far::<A>());
    }

    pub(crate) fn a_device_that_takes_no_frames_leaves_a_packet_to_tc<A: Routed>(rig: &Rig, hook: Hook) {
        let mut node = far::<A>();
        node.devices.values_mut().for_each(|device| device.flags = 0);
        elsewhere_in_xdp(rig, hook, node);
    }

    fn elsewhere_in_xdp<A: Routed>(rig: &Rig, hook: Hook, mut node: Model<A>) {
        rig.install(&node);
        let frame = request::<A>(TCP, 40_000, tcp::SYN).build();
        match hook {
            Hook::Xdp => {
                node.routes.values_mut().for_each(|way| *way = None);
                let (verdict, packet, _) = rig.both(hook, &frame, &mut node);
                assert_eq!((verdict, packet), (Verdict::Pass(Pass::Later), frame));
                assert!(rig.written(&node).flows.is_empty());
            }
            Hook::Ingress | Hook::Egress => {
                let (verdict, ..) = rig.both(hook, &frame, &mut node);
                assert_eq!(verdict, Verdict::Forward);
            }
        }
    }

    pub(crate) fn what_does_not_fit_is_dropped_by_name_and_untouched<A: Routed>(rig: &Rig, hook: Hook) {
        let mut node = far::<A>();
        rig.install(&node);
        let place = drop_counter(hook.direction(), DropReason::FragmentationNeeded);
        let before = rig.map(maps::COUNTERS).counter(place).expect("a counter").packets;
        let header = if size_of::<A>() == 4 { 20 } else { 40 };
        for (length, expected) in [
            (1500, Verdict::Forward),
            (1501, Verdict::Drop(DropReason::FragmentationNeeded)),
        ] {
            let frame = request::<A>(UDP, 40_000, 0)
                .data(&vec![7; length - header - 8])
                .build();
            let (verdict, packet, _) = rig.both(hook, &frame, &mut node);
            assert_eq!(verdict, expected);
            assert_eq!(packet == frame, verdict != Verdict::Forward);
        }
        let after = rig.map(maps::COUNTERS).counter(place).expect("a counter").packets;
        assert_eq!(after, before + 1);
    }

    pub(crate) fn a_packet_at_the_end_of_its_time_is_dropped_by_name_and_untouched<A: Routed>(
        rig: &Rig,
        hook: Hook,
    ) {
        let mut node = far::<A>();
        rig.install(&node);
        let frame = request::<A>(TCP, 40_000, tcp::SYN).hops(1).build();
        let (verdict, packet, _) = rig.both(hook, &frame, &mut node);
        assert_eq!((verdict, packet), (Verdict::Drop(DropReason::TtlExceeded), frame));
        assert!(rig.written(&node).flows.is_empty());
    }

    pub(crate) fn a_backend_without_route_is_named<A: Routed>(rig: &Rig, hook: Hook) {
        let mut node = far::<A>();
        let nowhere = match A::backend(1) {
            IpAddr::V4(_) => IpAddr::from([203, 0, 113, 1]),
            IpAddr::V6(_) => IpAddr::from([0x2001, 0xdb8, 0xdead, 0, 0, 0, 0, 1]),
        };
        node.backends.get_mut(&0).expect("there").address = A::of(nowhere);
        rig.install(&node);
        let frame = request::<A>(TCP, 40_000, tcp::SYN).build();
        let (verdict, packet, _) = rig.both(hook, &frame, &mut node);
        assert_eq!((verdict, packet), (Verdict::Drop(DropReason::NoRoute), frame));
        assert!(rig.written(&node).flows.is_empty());
    }

    pub(crate) fn a_client_that_is_its_own_backend_hears_itself<A: Routed>(rig: &Rig, hook: Hook) {
        let mut node = far::<A>();
        node.backends.get_mut(&0).expect("there").flags = backend_flag::LOCAL;
        node.watch(&A::of(A::loopback()));
        rig.install(&node);
        let frame = Frame::tcp(tcp::SYN, at(A::backend(1), 40_000), at(A::vip(1), 80)).build();
        let (verdict, packet, _) = rig.both(hook, &frame, &mut node);
        assert_eq!(verdict, Verdict::Forward);
        let expected = Frame::tcp(tcp::SYN, at(A::loopback(), 40_000), at(A::backend(1), 8080));
        assert_eq!(packet, left(hook, expected));
        let answer = Frame::tcp(
            tcp::SYN | tcp::ACK,
            at(A::backend(1), 8080),
            at(A::loopback(), 40_000),
        );
        let (verdict, packet, _) = rig.both(hook, &answer.build(), &mut node);
        assert_eq!(verdict, Verdict::Forward);
        let expected = Frame::tcp(tcp::SYN | tcp::ACK, at(A::vip(1), 80), at(A::backend(1), 40_000));
        assert_eq!(packet, left(hook, expected));
    }

    pub(crate) fn what_comes_to_this_node_and_answers_nobody_passes<A: Routed>(rig: &Rig, hook: Hook) {
        let mut node = far::<A>();
        rig.install(&node);
        let frame = Frame::tcp(tcp::ACK, at(A::backend(1), 8080), at(A::here(), 40_000)).build();
        let (verdict, packet, _) = rig.both(hook, &frame, &mut node);
        assert_eq!((verdict, packet), (Verdict::Pass(Pass::NoService), frame));
    }

    pub(crate) fn sctp_gets_other_addresses_and_keeps_its_ports<A: Routed>(rig: &Rig, hook: Hook) {
        let mut node = far::<A>();
        let frontend = *node.frontends.get(&key::<A>(TCP)).expect("there");
        node.frontends.insert(key::<A>(SCTP), frontend);
        rig.install(&node);
        let frame = |from, to| Frame::of(SCTP, 0, from, to).without_sum();
        let (client, vip) = (at(A::client(1), 179), at(A::vip(1), 80));
        let octets = frame(client, vip).build();
        let (verdict, packet, _) = rig.both(hook, &octets, &mut node);
        // Its checksum is over all of the packet, which nobody will sum up here.
        assert_eq!(
            (verdict, packet),
            (Verdict::Drop(DropReason::L4Checksum), octets.clone())
        );
        node.backends.get_mut(&0).expect("there").port = 0;
        rig.install(&node);
        let (verdict, packet, _) = rig.both(hook, &octets, &mut node);
        assert_eq!(verdict, Verdict::Forward);
        let expected = frame(at(A::here(), 179), at(A::backend(1), 80));
        assert_eq!(packet, left(hook, expected), "also a port outside the range");
        let answer = frame(at(A::backend(1), 80), at(A::here(), 179)).build();
        let (verdict, packet, _) = rig.both(hook, &answer, &mut node);
        assert_eq!(verdict, Verdict::Forward);
        assert_eq!(packet, left(hook, frame(vip, client)));
    }

    /// Answers at once: their ways are not remembered.
    pub(crate) fn a_neighbour_that_moves_is_followed<A: Routed>(rig: &Rig, hook: Hook) {
        network(Neighbour::Known);
        let mut node = far::<A>();
        rig.install(&node);
        let request = request::<A>(TCP, 40_000, tcp::SYN).build();
        let answer = Frame::tcp(
            tcp::SYN | tcp::ACK,
            at(A::backend(1), 8080),
            at(A::here(), 40_000),
        )
        .build();
        for frame in [&request, &answer] {
            let (verdict, ..) = rig.both(hook, frame, &mut node);
            assert_eq!(verdict, Verdict::Forward);
        }
        run(&format!(
            "ip neigh replace {} lladdr 02:00:00:00:00:0c dev out",
            A::router()
        ));
        for (route, _) in node.routes.values_mut().flatten() {
            route.ethernet[5] = 0x0c;
        }
        rig.both(hook, &answer, &mut node);
        ways_end();
        rig.both(hook, &request, &mut node);
    }

    pub(crate) fn a_neighbour_that_becomes_known_is_used_at_once<A: Routed>(rig: &Rig, hook: Hook) {
        network(Neighbour::Unknown);
        let mut node = far::<A>();
        rig.install(&node);
        let routes = node.routes.clone();
        if hook == Hook::Xdp {
            node.routes.values_mut().for_each(|way| *way = None);
        }
        let frame = request::<A>(TCP, 40_000, tcp::SYN).build();
        rig.both(hook, &frame, &mut node);
        run(&format!(
            "ip neigh replace {} lladdr 02:00:00:00:00:0b dev out",
            A::router()
        ));
        node.routes = routes;
        let (verdict, ..) = rig.both(hook, &frame, &mut node);
        assert_eq!(verdict, Verdict::Forward);
    }

    pub(crate) fn a_device_that_goes_down_is_left<A: Routed>(rig: &Rig, hook: Hook) {
        network(Neighbour::Known);
        let mut node = far::<A>();
        rig.install(&node);
        let frame = request::<A>(TCP, 40_000, tcp::SYN).build();
        let (verdict, ..) = rig.both(hook, &frame, &mut node);
        assert_eq!(verdict, Verdict::Forward);
        run("ip link set out down");
        ways_end();
        node.routes.clear();
        let (verdict, packet, _) = rig.both(hook, &frame, &mut node);
        assert_eq!((verdict, packet), (Verdict::Drop(DropReason::NoRoute), frame));
    }

    fn redirected(rig: &Rig, hook: Hook, frame: &[u8]) {
        let expected = match hook {
            Hook::Xdp => XDP_REDIRECT,
            Hook::Ingress | Hook::Egress => TC_REDIRECT,
        };
        assert_eq!(rig.datapath.run(hook, frame).expect("it runs").verdict, expected);
    }
}
