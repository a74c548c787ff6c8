//! Floods of first packets of TCP.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ebpf_abi::flow::{Flow, Tuple};
use ebpf_abi::track::tcp;
use ebpf_abi::{V4, V6};
use ebpf_loader::Hook;

use crate::claims::{Ends, node};
use crate::packet::Frame;
use crate::rig::{Rig, rig};

/// Connections that go on.
const KEPT: u16 = 100;
/// More than the map of those that open has room for.
const FLOOD: u32 = 40_000;

#[test]
fn no_number_of_first_packets_pushes_out_a_connection_that_goes_on() {
    let Some(rig) = rig() else { return };
    for flags in [
        tcp::SYN,
        tcp::ACK,
        tcp::SYN | tcp::ACK,
        tcp::FIN | tcp::ACK,
        tcp::RST,
    ] {
        flooded::<V4>(&rig, flags, FLOOD / 4);
    }
    flooded::<V4>(&rig, tcp::SYN, FLOOD);
    flooded::<V6>(&rig, tcp::SYN, FLOOD);
}

fn flooded<A: Ends>(rig: &Rig, flags: u8, count: u32) {
    rig.install(&node::<A>(8));
    let come = |from: SocketAddr, flags| {
        let frame = Frame::tcp(flags, from, SocketAddr::new(A::vip(1), 80));
        rig.datapath
            .run(Hook::Ingress, &frame.build())
            .expect("the program runs")
    };
    let client = |n: u16| SocketAddr::new(A::client(1), 4000 + n);
    let kept: Vec<Vec<u8>> = (0..KEPT)
        .map(|n| {
            come(client(n), tcp::SYN);
            come(client(n), tcp::ACK).packet
        })
        .collect();
    let before = flows::<A>(rig);
    assert_eq!(before.len(), usize::from(2 * KEPT), "both ways of each");
    for n in 0..count {
        come(SocketAddr::new(stranger::<A>(n), 1024), flags);
    }
    assert_eq!(flows::<A>(rig), before, "flags {flags:#x}");
    for (n, packet) in (0..KEPT).zip(&kept) {
        assert_eq!(come(client(n), tcp::ACK).packet, *packet, "the same backend");
    }
    // Who goes on at once is kept, also while others flood.
    let late = client(KEPT);
    come(late, tcp::SYN);
    come(late, tcp::ACK);
    assert_eq!(flows::<A>(rig).len(), before.len() + 2);
}

fn stranger<A: Ends>(n: u32) -> IpAddr {
    match A::client(1) {
        IpAddr::V4(_) => Ipv4Addr::from(0x0b00_0000 + n).into(),
        IpAddr::V6(_) => Ipv6Addr::from(0x2001_0db8_00ff_u128 << 80 | u128::from(n)).into(),
    }
}

/// What lies in the map of connections that go on; its times may move.
fn flows<A: Ends>(rig: &Rig) -> Vec<(Tuple<A>, Flow<A>)> {
    let all = rig.map(A::FLOWS).all::<Tuple<A>, Flow<A>>();
    let mut all = all.expect("the map");
    all.iter_mut().for_each(|(_, flow)| flow.expires = 0);
    all.sort_by_key(|(tuple, _)| *tuple);
    all
}
