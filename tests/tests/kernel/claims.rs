//! What the programs do to packets, each claim for both families and, where it comes in, for XDP and for tc.

use std::net::{IpAddr, SocketAddr};

use ebpf_abi::balance::{Pass, Verdict};
use ebpf_abi::config::{
    Config, Direction, FORWARDED, Member, PRESENT, RELEASED, RangeKey, counter, drop_counter, setting,
};
use ebpf_abi::flow::{HELD_OCTETS, HELD_PLACES, Held, HeldKey};
use ebpf_abi::maps;
use ebpf_abi::model::Model;
use ebpf_abi::packet::{Malformed, TCP, UDP};
use ebpf_abi::service::{Backend, BackendState, Frontend, FrontendKey, Selection, Set, backend_flag, flag};
use ebpf_abi::track::tcp;
use ebpf_abi::{BackendId, DropReason, FrontendId, V4, V6};
use ebpf_loader::Hook;

use crate::icmp::counted;
use crate::image::Maps;
use crate::packet::Frame;
use crate::rig::{Rig, rig};

pub(crate) const SET: u32 = 3;
pub(crate) const FIRST: u32 = 100;

/// The addresses of the tests in a family.
pub(crate) trait Ends: Maps {
    fn of(address: IpAddr) -> Self;
    fn client(n: u8) -> IpAddr;
    fn vip(n: u8) -> IpAddr;
    fn backend(n: u8) -> IpAddr;
}

impl Ends for V4 {
    fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(_) => panic!("of the other family"),
        }
    }
    fn client(n: u8) -> IpAddr {
        [198, 51, 100, n].into()
    }
    fn vip(n: u8) -> IpAddr {
        [192, 0, 2, n].into()
    }
    fn backend(n: u8) -> IpAddr {
        [10, 0, 0, n].into()
    }
}

impl Ends for V6 {
    fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V6(address) => address.into(),
            IpAddr::V4(_) => panic!("of the other family"),
        }
    }
    fn client(n: u8) -> IpAddr {
        [0x2001, 0xdb8, 0xc, 0, 0, 0, 0, u16::from(n)].into()
    }
    fn vip(n: u8) -> IpAddr {
        [0x2001, 0xdb8, 0xf, 0, 0, 0, 0, u16::from(n)].into()
    }
    fn backend(n: u8) -> IpAddr {
        [0xfd00, 0, 0, 0, 0, 0, 0, u16::from(n)].into()
    }
}

pub(crate) fn id(index: u32) -> BackendId {
    BackendId::new(index, 1).expect("it fits")
}

/// A node with `vip(1)`, port 80, TCP and UDP, and this many local backends on port 8080.
pub(crate) fn node<A: Ends>(backends: u8) -> Model<A> {
    let mut model = Model {
        config: Config {
            maglev_size: 251,
            settings: setting::ENABLED,
            ..Config::default()
        },
        ..Model::default()
    };
    model.watch(&A::of(A::vip(1)));
    for n in 0..backends {
        let backend = Backend {
            id: id(n.into()),
            address: A::of(A::backend(n + 1)),
            port: 8080_u16.to_be(),
            flags: backend_flag::LOCAL,
            ..Backend::default()
        };
        model.watch(&backend.address);
        model.backends.insert(n.into(), backend);
        model.slots.insert(FIRST + u32::from(n), backend.id);
        let member = Member {
            set: SET,
            backend: backend.id,
        };
        model.members.insert(member, PRESENT);
    }
    model
        .sets
        .insert(SET, Set::new(FIRST, backends.into(), backends.into()));
    for (index, protocol) in [(5, TCP), (6, UDP)] {
        let id = FrontendId::new(index, 1).expect("it fits");
        model.live_frontends.insert(index, id);
        let frontend = Frontend {
            id,
            set: SET,
            inner_set: SET,
            service: 9,
            flags: flag::ROUTABLE | flag::LOAD_BALANCER,
            selection: Selection::Random.number(),
            ..Frontend::default()
        };
        model.frontends.insert(key::<A>(protocol), frontend);
    }
    let wildcard = Frontend {
        flags: flag::WILDCARD,
        ..Frontend::default()
    };
    model
        .frontends
        .insert(FrontendKey::wildcard(A::of(A::vip(1))), wildcard);
    model
}

pub(crate) fn key<A: Ends>(protocol: u8) -> FrontendKey<A> {
    FrontendKey::new(A::of(A::vip(1)), 80_u16.to_be(), protocol)
}

pub(crate) fn at(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address, port)
}

pub(crate) fn request<A: Ends>(protocol: u8, port: u16, flags: u8) -> Frame {
    Frame::of(protocol, flags, at(A::client(1), port), at(A::vip(1), 80))
}

/// A claim in all its forms.
pub(crate) fn everywhere(claim4: fn(&Rig, Hook), claim6: fn(&Rig, Hook)) {
    let Some(rig) = rig() else { return };
    for hook in [Hook::Xdp, Hook::Ingress] {
        claim4(&rig, hook);
        claim6(&rig, hook);
    }
}

macro_rules! claims {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            everywhere(claim::$name::<V4>, claim::$name::<V6>);
        }
    )*};
}

claims! {
    a_request_goes_to_a_backend_and_its_answer_comes_from_the_vip
    udp_without_checksum_stays_without
    an_unknown_port_of_a_vip_is_dropped_and_counted
    a_packet_that_is_none_of_ours_passes_untouched
    before_the_settings_are_written_everything_passes
    without_backend_a_request_is_dropped_by_name
    a_cluster_address_is_closed_to_the_outside
    source_ranges_are_enforced
    a_terminating_backend_keeps_its_flows
    a_flow_never_follows_a_place_that_was_given_away
    a_vanished_frontend_ends_its_flows
    a_client_with_affinity_stays
    maglev_chooses_as_the_table_says
    later_fragments_follow_the_first
    later_fragments_wait_for_the_first
    no_more_fragments_are_held_than_there_are_places
    a_first_fragment_without_ports_waits_for_nothing
    extension_headers_and_options_are_stepped_over
    a_cut_packet_is_never_rewritten
    a_length_that_ends_before_what_it_is_about_is_refused
    a_closed_connection_leaves_both_entries_closed
    a_vlan_passes_untouched
}

mod claim {
    use super::*;

    pub(crate) fn a_request_goes_to_a_backend_and_its_answer_comes_from_the_vip<A: Ends>(
        rig: &Rig,
        hook: Hook,
    ) {
        for protocol in [TCP, UDP] {
            let mut node = node::<A>(1);
            rig.install(&node);
            let forwarded = counter(hook.direction(), FORWARDED);
            let before = rig.map(maps::COUNTERS).counter(forwarded).expect("a counter");
            let (verdict, packet, _) =
                rig.both(hook, &request::<A>(protocol, 4000, tcp::SYN).build(), &mut node);
            assert_eq!(verdict, Verdict::Local);
            let expected = Frame::of(
                protocol,
                tcp::SYN,
                at(A::client(1), 4000),
                at(A::backend(1), 8080),
            )
            .build();
            assert_eq!(packet, expected, "all of it, with checksums as a host makes them");
            let counted = rig.map(maps::COUNTERS).counter(forwarded).expect("a counter");
            assert_eq!(counted.packets, before.packets + 1);
            assert_eq!(counted.bytes, before.bytes + packet.len() as u64);
            let answer = Frame::of(
                protocol,
                tcp::SYN | tcp::ACK,
                at(A::backend(1), 8080),
                at(A::client(1), 4000),
            )
            .build();
            let (verdict, packet, _) = rig.both(Hook::Egress, &answer, &mut node);
            assert_eq!(verdict, Verdict::Reply);
            let expected = Frame::of(
                protocol,
                tcp::SYN | tcp::ACK,
                at(A::vip(1), 80),
                at(A::client(1), 4000),
            )
            .build();
            assert_eq!(packet, expected);
            assert_eq!(rig.written(&node).flows.len(), 2);
        }
    }

    pub(crate) fn udp_without_checksum_stays_without<A: Ends>(rig: &Rig, hook: Hook) {
        let mut node = node::<A>(1);
        rig.install(&node);
        let frame = Frame::udp(at(A::client(1), 4000), at(A::vip(1), 80)).without_sum();
        let (verdict, packet, _) = rig.both(hook, &frame.build(), &mut node);
        assert_eq!(verdict, Verdict::Local);
        let expected = Frame::udp(at(A::client(1), 4000), at(A::backend(1), 8080)).without_sum();
        assert_eq!(packet, expected.build());
    }

    pub(crate) fn an_unknown_port_of_a_vip_is_dropped_and_counted<A: Ends>(rig: &Rig, hook: Hook) {
        let mut node = node::<A>(1);
        rig.install(&node);
        let place = drop_counter(hook.direction(), DropReason::NoService);
        let before = rig.map(maps::COUNTERS).counter(place).expect("a counter").packets;
        let frame = Frame::tcp(tcp::SYN, at(A::client(1), 1), at(A::vip(1), 81)).build();
        let (verdict, packet, _) = rig.both(hook, &frame, &mut node);
        assert_eq!(verdict, Verdict::Drop(DropReason::NoService));
        assert_eq!(packet, frame);
        let after = rig.map(maps::COUNTERS).counter(place).expect("a counter").packets;
        assert_eq!(after, before + 1);
    }

    pub(crate) fn a_packet_that_is_none_of_ours_passes_untouched<A: Ends>(rig: &Rig, hook: Hook) {
        let mut node = node::<A>(1);
        rig.install(&node);
        let frame = Frame::tcp(tcp::SYN, at(A::client(1), 1), at(A::client(2), 80)).build();
        for hook in [hook, Hook::Egress] {
            let (verdict, packet, _) = rig.both(hook, &frame, &mut node);
            assert_eq!(verdict, Verdict::Pass(Pass::NotOurs));
            assert_eq!(packet, frame);
        }
        assert!(rig.written(&node).flows.is_empty());
    }

    pub(crate) fn before_the_settings_are_written_everything_passes<A: Ends>(rig: &Rig, hook: Hook) {
        let mut node = node::<A>(1);
        node.config = Config::default();
        rig.install(&node);
        let (verdict, ..) = rig.both(hook, &request::<A>(TCP, 1, tcp::SYN).build(), &mut node);
        assert_eq!(verdict, Verdict::Pass(Pass::Disabled));
    }

    pub(crate) fn without_backend_a_request_is_dropped_by_name<A: Ends>(rig: &Rig, hook: Hook) {
        let mut node = node::<A>(0);
        rig.install(&node);
        let frame = request::<A>(TCP, 1, tcp::SYN).build();
        let (verdict, ..) = rig.both(hook, &frame, &mut node);
        assert_eq!(verdict, Verdict::Drop(DropReason::NoService));
        node.config.settings |= setting::PASS_NO_BACKEND;
        rig.install(&node);
        let (verdict, ..) = rig.both(hook, &frame, &mut node);
        assert_eq!(verdict, Verdict::Pass(Pass::NoBackend));
    }

    pub(crate) fn a_cluster_address_is_closed_to_the_outside<A: Ends>(rig: &Rig, hook: Hook) {
        let mut node = node::<A>(1);
        node.frontends.get_mut(&key(TCP)).expect("there").flags = 0;
        rig.install(&node);
        let (verdict, ..) = rig.both(hook, &request::<A>(TCP, 1, tcp::SYN).build(), &mut node);
        assert_eq!(verdict, Verdict::Drop(DropReason::ClusterIp));
    }

    pub(crate) fn source_ranges_are_enforced<A: Ends>(rig: &Rig, hook: Hook) {
        let mut node = node::<A>(1);
        node.frontends.get_mut(&key(TCP)).expect("there").ranges = 4;
        let whole = 8 * u32::try_from(size_of::<A>()).expect("small");
        let range = RangeKey {
            bits: RangeKey::<A>::LIST_BITS + whole - 2,
            list: 4,
            address: A::of(A::client(0)),
        };
        node.ranges.insert(range, PRESENT);
        rig.install(&node);
        // The clients 0 to 3 may come.
        for (n, expected) in [(3, Verdict::Local), (4, Verdict::Drop(DropReason::SourceRange))] {
            let frame = Frame::tcp(tcp::SYN, at(A::client(n), 1), at(A::vip(1), 80)).build();
            let (verdict, ..) = rig.both(hook, &frame, &mut node);
            assert_eq!(verdict, expected, "client {n}");
        }
    }

    pub(crate) fn a_terminating_backend_keeps_its_flows<A: Ends>(rig: &Rig, hook: Hook) {
        let mut node = node::<A>(1);
        rig.install(&node);
        rig.both(hook, &request::<A>(UDP, 4000, 0).build(), &mut node);
        node.backends.get_mut(&0).expect("there").state = BackendState::Terminating.number();
        node.sets.insert(SET, Set::new(FIRST, 0, 1));
        rig.install(&node);
        let (verdict, ..) = rig.both(hook, &request::<A>(UDP, 4000, 0).build(), &mut node);
        assert_eq!(verdict, Verdict::Local);
        let (verdict, ..) = rig.both(hook, &request::<A>(UDP, 4001, 0).build(), &mut node);
        assert_eq!(verdict, Verdict::Drop(DropReason::NoService));
    }

    pub(crate) fn a_flow_never_follows_a_place_that_was_given_away<A: Ends>(rig: &Rig, hook: Hook) {
        let mut node = node::<A>(1);
        rig.install(&node);
        rig.both(hook, &request::<A>(TCP, 4000, tcp::SYN).build(), &mut node);
        let stranger = node.backends.get_mut(&0).expect("there");
        stranger.id = stranger.id.successor();
        stranger.address = A::of(A::backend(99));
        rig.install(&node);
        let (verdict, ..) = rig.both(hook, &request::<A>(TCP, 4000, tcp::ACK).build(), &mut node);
        assert_eq!(verdict, Verdict::Drop(DropReason::NoService));
    }

    pub(crate) fn a_vanished_frontend_ends_its_flows<A: Ends>(rig: &Rig, hook: Hook) {
        let mut node = node::<A>(1);
        rig.install(&node);
        rig.both(hook, &request::<A>(TCP, 4000, tcp::SYN).build(), &mut node);
        node.live_frontends.remove(&5);
        node.frontends.remove(&key(TCP));
        rig.install(&node);
        let (verdict, ..) = rig.both(hook, &request::<A>(TCP, 4000, tcp::ACK).build(), &mut node);
        assert_eq!(verdict, Verdict::Drop(DropReason::NoService));
    }

    pub(crate) fn a_client_with_affinity_stays<A: Ends>(rig: &Rig, hook: Hook) {
        let mut node = node::<A>(8);
        node.frontends.get_mut(&key(TCP)).expect("there").affinity = 1000;
        rig.install(&node);
        let mut served = Vec::new();
        for port in 4000..4020 {
            let ran = rig
                .datapath
                .run(hook, &request::<A>(TCP, port, tcp::SYN).build())
                .expect("it runs");
            let end = if size_of::<A>() == 4 { 34 } else { 54 };
            served.push(ran.packet[end - size_of::<A>()..end].to_vec());
        }
        assert!(served.iter().all(|other| *other == served[0]), "{served:?}");
        assert_eq!(rig.written(&node).affinities.len(), 1);
    }

    pub(crate) fn maglev_chooses_as_the_table_says<A: Ends>(rig: &Rig, hook: Hook) {
        let mut node = node::<A>(8);
        let table = (0..251).map(|place| id(place % 8)).collect();
        node.maglev.insert(SET, table);
        node.frontends.get_mut(&key(TCP)).expect("there").selection = Selection::Maglev.number();
        rig.install(&node);
        // Both must choose alike, or the packets differ.
        for port in 4000..4100 {
            let (verdict, ..) = rig.both(hook, &request::<A>(TCP, port, tcp::SYN).build(), &mut node);
            assert_eq!(verdict, Verdict::Local);
        }
    }

    pub(crate) fn later_fragments_follow_the_first<A: Ends>(rig: &Rig, hook: Hook) {
        let mut node = node::<A>(1);
        rig.install(&node);
        let first = request::<A>(UDP, 4000, 0)
            .data(&[1; 16])
            .fragment(0, true, 77)
            .build();
        let later = request::<A>(UDP, 4000, 0)
            .data(&[2; 16])
            .fragment(24, false, 77)
            .build();
        let (verdict, ..) = rig.both(hook, &first, &mut node);
        assert_eq!(verdict, Verdict::Local);
        let (verdict, packet, _) = rig.both(hook, &later, &mut node);
        assert_eq!(verdict, Verdict::Local);
        assert_eq!(
            packet[packet.len() - 16..],
            [2; 16],
            "no ports in the middle of a datagram"
        );
    }

    /// XDP leaves them to tc, which can keep packets.
    pub(crate) fn later_fragments_wait_for_the_first<A: Ends>(rig: &Rig, hook: Hook) {
        let mut node = node::<A>(1);
        rig.install(&node);
        let part = |offset, more| {
            request::<A>(UDP, 4000, 0)
                .data(&[2; 24])
                .fragment(offset, more, 78)
        };
        let first = part(0, true).build();
        let later = [part(56, false).build(), part(32, true).build()];
        let held = || rig.all::<HeldKey, Held>(maps::HELD);
        let released = || counted(rig, counter(Direction::Ingress, RELEASED));
        let before = released();
        for packet in &later {
            let (verdict, after, _) = rig.both(hook, packet, &mut node);
            assert_eq!((verdict, &after), (Verdict::Hold, packet));
        }
        if hook == Hook::Xdp {
            assert_eq!(held(), []);
            return;
        }
        let mut all = held();
        all.sort_by_key(|(key, _)| key.place);
        for ((key, held), (place, packet)) in all.iter().zip((0..).zip(&later)) {
            assert_eq!(key.place, place);
            assert_eq!(held.octets[..held.length as usize], **packet);
        }
        assert_eq!(all.len(), later.len());
        // One of a datagram with the same id, long ago.
        let (mut key, mut old) = all[0];
        (key.place, old.expires) = (2, 1);
        rig.map(maps::HELD).put(&key, &old).expect("room");
        let (verdict, ..) = rig.both(hook, &first, &mut node);
        assert_eq!(verdict, Verdict::Release);
        assert_eq!((held(), released() - before), (vec![], 2));
        // As they come in again.
        for packet in [&first, &later[0], &later[1]] {
            let (verdict, ..) = rig.both(hook, packet, &mut node);
            assert_eq!(verdict, Verdict::Local);
        }
    }

    pub(crate) fn no_more_fragments_are_held_than_there_are_places<A: Ends>(rig: &Rig, hook: Hook) {
        let mut node = node::<A>(1);
        rig.install(&node);
        if hook == Hook::Xdp {
            return;
        }
        let missing = drop_counter(Direction::Ingress, DropReason::FirstFragmentMissing);
        let before = counted(rig, missing);
        for part in 0..HELD_PLACES + 3 {
            let later = request::<A>(UDP, 4000, 0)
                .data(&[2; 24])
                .fragment(32 + part * 24, true, 79);
            rig.both(hook, &later.build(), &mut node);
        }
        let too_long = request::<A>(UDP, 4000, 0)
            .data(&[2; HELD_OCTETS])
            .fragment(32, true, 80);
        rig.both(hook, &too_long.build(), &mut node);
        assert_eq!(
            rig.all::<HeldKey, Held>(maps::HELD).len(),
            usize::from(HELD_PLACES)
        );
        assert_eq!(counted(rig, missing) - before, 4);
    }

    /// Ports of zero stand for a first fragment that is not here yet.
    pub(crate) fn a_first_fragment_without_ports_waits_for_nothing<A: Ends>(rig: &Rig, hook: Hook) {
        let mut node = node::<A>(1);
        rig.install(&node);
        let part = |offset| {
            let frame = Frame::of(UDP, 0, at(A::client(1), 0), at(A::vip(1), 0));
            frame.data(&[2; 24]).fragment(offset, offset == 0, 81).build()
        };
        let (verdict, ..) = rig.both(hook, &part(32), &mut node);
        assert_eq!(verdict, Verdict::Hold);
        let (verdict, ..) = rig.both(hook, &part(0), &mut node);
        assert_eq!(verdict, Verdict::Drop(DropReason::NoService));
    }

    pub(crate) fn extension_headers_and_options_are_stepped_over<A: Ends>(rig: &Rig, hook: Hook) {
        let mut node = node::<A>(1);
        rig.install(&node);
        let frame = request::<A>(TCP, 4000, tcp::SYN);
        let frame = if size_of::<A>() == 4 {
            // Router alert, and no operation.
            frame.extension(0, &[148, 4, 0, 0]).extension(0, &[1, 1, 1, 0])
        } else {
            // Hop-by-hop with padding, and destination options of 16 octets.
            frame
                .extension(0, &[0, 0, 1, 4, 0, 0, 0, 0])
                .extension(60, &[0, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        };
        let (verdict, ..) = rig.both(hook, &frame.build(), &mut node);
        assert_eq!(verdict, Verdict::Local);
    }

    pub(crate) fn a_cut_packet_is_never_rewritten<A: Ends>(rig: &Rig, hook: Hook) {
        let mut node = node::<A>(1);
        rig.install(&node);
        let whole = request::<A>(TCP, 4000, tcp::SYN).data(b"").build();
        let network = if size_of::<A>() == 4 { 34 } else { 54 };
        // What ends in its IP header never comes to tc: the kernel refuses to run it there.
        let shortest = if hook == Hook::Xdp { 15 } else { network };
        for length in shortest..whole.len() {
            let cut = &whole[..length];
            let (verdict, packet, _) = rig.both(hook, cut, &mut node);
            let expected = if length < network {
                Verdict::Pass(Pass::Malformed(Malformed::Network))
            } else {
                Verdict::Drop(DropReason::InvalidHeader)
            };
            assert_eq!(verdict, expected, "cut at {length}");
            assert_eq!(packet, cut);
        }
    }

    pub(crate) fn a_length_that_ends_before_what_it_is_about_is_refused<A: Ends>(rig: &Rig, hook: Hook) {
        let mut node = node::<A>(1);
        rig.install(&node);
        // That of IPv6 counts from behind the header.
        let (place, lengths) = match size_of::<A>() {
            4 => (16, &[0_u8, 1, 19][..]),
            _ => (18, &[0][..]),
        };
        for length in lengths {
            let mut packet = request::<A>(UDP, 4000, 0).data(b"data").build();
            packet[place..place + 2].copy_from_slice(&[0, *length]);
            let (verdict, ..) = rig.both(hook, &packet, &mut node);
            assert_eq!(verdict, Verdict::Drop(DropReason::InvalidHeader), "{length}");
        }
    }

    pub(crate) fn a_closed_connection_leaves_both_entries_closed<A: Ends>(rig: &Rig, hook: Hook) {
        let mut node = node::<A>(1);
        rig.install(&node);
        let (client, backend) = (at(A::client(1), 4000), at(A::backend(1), 8080));
        rig.both(hook, &request::<A>(TCP, 4000, tcp::SYN).build(), &mut node);
        for flags in [tcp::SYN | tcp::ACK, tcp::FIN | tcp::ACK] {
            let answer = Frame::tcp(flags, backend, client).build();
            assert_eq!(rig.both(Hook::Egress, &answer, &mut node).0, Verdict::Reply);
        }
        assert!(
            rig.written(&node)
                .flows
                .values()
                .all(|flow| !flow.state.is_closed())
        );
        rig.both(
            hook,
            &request::<A>(TCP, 4000, tcp::FIN | tcp::ACK).build(),
            &mut node,
        );
        assert!(
            rig.written(&node)
                .flows
                .values()
                .all(|flow| flow.state.is_closed())
        );
    }

    pub(crate) fn a_vlan_passes_untouched<A: Ends>(rig: &Rig, _: Hook) {
        let node = node::<A>(1);
        rig.install(&node);
        let mut frame = request::<A>(TCP, 4000, tcp::SYN).build();
        frame.splice(12..12, [0x81, 0, 0, 5]);
        let ran = rig.datapath.run(Hook::Xdp, &frame).expect("it runs");
        assert_eq!((ran.verdict, ran.packet), (2, frame));
    }
}
