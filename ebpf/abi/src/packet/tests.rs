use proptest::prelude::*;

use super::*;
use crate::checksum;

/// IPv4, TCP, an unlucky length of data.
fn tcp4() -> Vec<u8> {
    let mut packet = vec![
        0x45, 0, 0, 45, 0x12, 0x34, 0x40, 0, 64, TCP, 0, 0, 10, 0, 0, 1, 192, 0, 2, 1, // IP
        0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0, // TCP
        b'h', b'e', b'l', b'l', b'o',
    ];
    let sum = checksum::of(&packet[..20], 0).to_ne_bytes();
    packet[10..12].copy_from_slice(&sum);
    let sum = transport_sum(&packet, &packet[12..20], 20).to_ne_bytes();
    packet[36..38].copy_from_slice(&sum);
    packet
}

/// The checksum over pseudo header and everything from `at` on; 0 if the one in the packet is right.
fn transport_sum(packet: &[u8], addresses: &[u8], at: usize) -> u16 {
    let protocol = if addresses.len() == 8 {
        packet[9]
    } else {
        packet[6]
    };
    let length = u16::try_from(packet.len() - at).expect("small").to_be_bytes();
    let mut all = addresses.to_vec();
    all.extend([0, protocol, length[0], length[1]]);
    all.extend(&packet[at..]);
    checksum::of(&all, 0)
}

fn tuple4(packet: &mut [u8]) -> (Network, Tuple<V4>, Seen) {
    let packet = Octets(packet);
    let (source, destination) = V4::addresses(&packet, 0).expect("addresses");
    let network = V4::network(&packet, 0).expect("a header");
    let (source_port, destination_port, seen) = transport(&packet, &network).expect("ports");
    let tuple = Tuple {
        source,
        destination,
        source_port,
        destination_port,
        protocol: network.protocol,
        pad: 0,
        pad_word: 0,
    };
    (network, tuple, seen)
}

#[test]
fn a_plain_packet_is_read() {
    let (network, tuple, seen) = tuple4(&mut tcp4());
    assert_eq!((network.transport, network.fragment), (20, Fragment::Whole));
    assert_eq!(tuple.source_port, 40_000_u16.to_be());
    assert_eq!(seen, Seen::Tcp(crate::track::tcp::ACK));
}

#[test]
fn options_of_the_ip_header_move_the_transport_header() {
    let mut packet = tcp4();
    packet[0] = 0x47;
    packet.splice(20..20, [1; 8]);
    let network = V4::network(&Octets(&mut packet), 0).expect("a header");
    assert_eq!(network.transport, 28);
}

#[test]
fn a_header_that_lies_about_itself_is_malformed() {
    for first in [0x44, 0x40, 0x65, 0x05] {
        let mut packet = tcp4();
        packet[0] = first;
        assert_eq!(
            V4::network(&Octets(&mut packet), 0),
            Err(Malformed::Network),
            "{first:#x}"
        );
    }
}

#[test]
fn fragments_are_told_apart() {
    let mut packet = tcp4();
    let id = u32::from(u16::from_ne_bytes([0x12, 0x34]));
    for (octets, expected) in [
        ([0x20, 0], Fragment::First(id)),
        ([0x20, 1], Fragment::Later(id)),
        ([0, 1], Fragment::Later(id)),
        ([0x40, 0], Fragment::Whole),
    ] {
        packet[6..8].copy_from_slice(&octets);
        let network = V4::network(&Octets(&mut packet), 0).expect("a header");
        assert_eq!(network.fragment, expected);
    }
}

/// IPv6 with these extension headers (number, octets) before eight octets of UDP.
fn udp6(extensions: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0, 0, 0, 0, 64];
    packet.extend([0x20; 32]);
    let mut next = 6;
    for (number, octets) in extensions {
        packet[next] = *number;
        next = packet.len();
        packet.extend(octets);
    }
    packet[next] = UDP;
    packet.extend([0, 1, 0, 2, 0, 8, 0, 0]);
    packet
}

#[test]
fn extension_headers_are_walked() {
    let fragment = |part: [u8; 2]| (44, vec![0, 0, part[0], part[1], 1, 2, 3, 4]);
    let id = u32::from_ne_bytes([1, 2, 3, 4]);
    for (extensions, transport, expected) in [
        (vec![], 40, Fragment::Whole),
        (vec![(0, vec![0, 0, 1, 4, 0, 0, 0, 0])], 48, Fragment::Whole),
        (
            vec![(60, vec![0; 8]), (43, [vec![0, 1], vec![0; 14]].concat())],
            64,
            Fragment::Whole,
        ),
        (
            vec![(51, [vec![0, 4], vec![0; 22]].concat())],
            64,
            Fragment::Whole,
        ),
        (vec![fragment([0, 1])], 48, Fragment::First(id)),
        (vec![fragment([0, 0])], 48, Fragment::Whole),
        (vec![fragment([0, 9])], 48, Fragment::Later(id)),
    ] {
        let mut packet = udp6(&extensions);
        let network = V6::network(&Octets(&mut packet), 0).expect("headers");
        assert_eq!(
            (network.transport, network.protocol),
            (transport, UDP),
            "{extensions:?}"
        );
        assert_eq!(network.fragment, expected, "{extensions:?}");
    }
}

#[test]
fn a_chain_of_extension_headers_without_end_is_malformed() {
    let mut packet = udp6(&vec![(60, vec![0; 8]); 7]);
    assert_eq!(V6::network(&Octets(&mut packet), 0), Err(Malformed::Extensions));
    let mut packet = udp6(&[(60, vec![0, 200, 0, 0, 0, 0, 0, 0]), (60, vec![0; 8])]);
    assert_eq!(V6::network(&Octets(&mut packet), 0), Err(Malformed::Extensions));
}

#[test]
fn a_packet_cut_anywhere_is_malformed_and_not_rewritten() {
    let whole = tcp4();
    for length in 0..40 {
        let mut cut = whole[..length].to_vec();
        let packet = Octets(&mut cut);
        let read = V4::addresses(&packet, 0)
            .ok_or(Malformed::Network)
            .and_then(|_| V4::network(&packet, 0))
            .and_then(|network| transport(&packet, &network));
        assert!(read.is_err(), "cut at {length}");
    }
}

proptest! {
    #[test]
    fn a_rewritten_packet_has_right_checksums_and_nothing_else_changed(
        source in any::<u32>(), destination in any::<u32>(), ports in any::<(u16, u16)>(),
    ) {
        let before = tcp4();
        let mut packet = before.clone();
        let (network, old, _) = tuple4(&mut packet);
        let new = Tuple {
            source: V4(source), destination: V4(destination), source_port: ports.0, destination_port: ports.1, ..old
        };
        rewrite(&mut Octets(&mut packet), 0, &network, &old, &new, Hop::None).expect("it is there");
        prop_assert_eq!(tuple4(&mut packet).1, new);
        prop_assert_eq!(checksum::of(&packet[..20], 0), 0);
        prop_assert_eq!(transport_sum(&packet, &packet[12..20], 20), 0);
        for (place, (before, after)) in before.iter().zip(&packet).enumerate() {
            let may = [10..12, 12..20, 20..24, 36..38].iter().any(|range| range.contains(&place));
            prop_assert!(may || before == after, "octet {place} changed");
        }
        rewrite(&mut Octets(&mut packet), 0, &network, &new, &old, Hop::None).expect("it is there");
        prop_assert_eq!(packet, before);
    }

    #[test]
    fn a_rewritten_ipv6_packet_has_a_right_checksum(new in any::<([u32; 4], [u32; 4], u16, u16)>()) {
        let mut packet = udp6(&[]);
        let sum = transport_sum(&packet, &packet[8..40], 40).to_ne_bytes();
        packet[46..48].copy_from_slice(&sum);
        let network = V6::network(&Octets(&mut packet), 0).expect("a header");
        let (source, destination) = V6::addresses(&Octets(&mut packet), 0).expect("a header");
        let (source_port, destination_port, _) = transport(&Octets(&mut packet), &network).expect("ports");
        let old = Tuple { source, destination, source_port, destination_port, protocol: UDP, pad: 0, pad_word: 0 };
        let new = Tuple {
            source: V6(new.0), destination: V6(new.1), source_port: new.2, destination_port: new.3, ..old
        };
        rewrite(&mut Octets(&mut packet), 0, &network, &old, &new, Hop::None).expect("it is there");
        prop_assert_eq!(V6::addresses(&Octets(&mut packet), 0), Some((new.source, new.destination)));
        prop_assert_eq!(transport_sum(&packet, &packet[8..40], 40), 0);
    }

    #[test]
    fn any_octets_are_read_without_harm(mut octets in prop::collection::vec(any::<u8>(), 0..200), first in 0..4_u8) {
        if let (Some(octet), 1..) = (octets.first_mut(), first) {
            *octet = if first == 1 { 0x45 } else { 0x60 };
        }
        let packet = Octets(&mut octets);
        if let Ok(network) = V4::network(&packet, 0) {
            let _ = transport(&packet, &network);
        }
        if let Ok(network) = V6::network(&packet, 0) {
            let _ = transport(&packet, &network);
        }
    }
}
