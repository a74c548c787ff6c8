use std::fs;
use std::io::Write as _;
use std::process::Command;

use proptest::prelude::*;

use super::option::Optional;
use super::tunnel::{self, Envelope, Inside, look, unwrap, wrap_geneve, wrap_ipip};
use super::*;
use crate::checksum;
use crate::model::Growing;
use crate::packet::{Octets, TCP, UDP};
use crate::reason::DropReason;

const VIP4: V4 = V4(u32::from_ne_bytes([192, 0, 2, 1]));
const NODE4: Underlay = Underlay::V4 {
    source: V4(u32::from_ne_bytes([10, 9, 0, 1])),
    destination: V4(u32::from_ne_bytes([10, 9, 0, 2])),
};

fn vip6() -> V6 {
    V6::from_octets([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x0f])
}

fn node6() -> Underlay {
    let node = |n| V6::from_octets([0xfd, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, n]);
    Underlay::V6 {
        source: node(1),
        destination: node(2),
    }
}

/// Ethernet, IPv4, TCP with SYN.
fn syn4() -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    let mut header = vec![
        0x45, 0x10, 0, 40, 0, 7, 0x40, 0, 64, TCP, 0, 0, 198, 51, 100, 1, 10, 0, 0, 1,
    ];
    let sum = checksum::of(&header, 0).to_ne_bytes();
    header[10..12].copy_from_slice(&sum);
    frame.extend(header);
    let mut segment = vec![
        0x9c, 0x40, 0x1f, 0x90, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 1, 0, 0, 0, 0, 0,
    ];
    let pseudo = [&frame[26..34], &[0, TCP, 0, 20], &segment].concat();
    segment[16..18].copy_from_slice(&checksum::of(&pseudo, 0).to_ne_bytes());
    frame.extend(segment);
    frame
}

fn syn6() -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd];
    frame.extend([0x61, 0x20, 0, 0, 0, 20, TCP, 64]);
    frame.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x0c]);
    frame.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    let mut segment = vec![
        0x9c, 0x40, 0x1f, 0x90, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 1, 0, 0, 0, 0, 0,
    ];
    let pseudo = [&frame[22..54], &[0, TCP, 0, 20], &segment].concat();
    segment[16..18].copy_from_slice(&checksum::of(&pseudo, 0).to_ne_bytes());
    frame.extend(segment);
    frame
}

fn vip<A>(address: A) -> Vip<A> {
    Vip {
        address,
        port: 80_u16.to_be(),
    }
}

/// The octets that Cilium's test of its own IPv4 option demands: port and address reversed.
#[test]
fn the_option_of_ipv4_has_its_fields_reversed_and_follows_the_base_header() {
    let mut frame = syn4();
    V4::insert(&mut Growing(&mut frame), &vip(VIP4)).expect("room");
    assert_eq!(frame.len(), syn4().len() + 8);
    assert_eq!((frame[14], &frame[16..18]), (0x47, &[0, 48][..]));
    assert_eq!(frame[34..42], [0x9a, 8, 80, 0, 1, 2, 0, 192]);
    assert_eq!(checksum::of(&frame[14..42], 0), 0, "the header's sum");
    assert_eq!(frame[42..], syn4()[34..], "what follows is as it was");
    assert_eq!(V4::find(&Octets(&mut frame), 14), Some(vip(VIP4)));
    assert_eq!(V4::find(&Octets(&mut syn4()), 14), None);
}

#[test]
fn the_option_of_ipv6_is_the_first_extension_header() {
    let mut frame = syn6();
    V6::insert(&mut Growing(&mut frame), &vip(vip6())).expect("room");
    assert_eq!(frame[18..21], [0, 44, 60], "length and next header");
    let mut expected = vec![TCP, 2, 0x1b, 0x14];
    expected.extend(vip6().octets());
    expected.extend([0, 80, 0, 0]);
    assert_eq!(frame[54..78], expected);
    assert_eq!(frame[78..], syn6()[54..]);
    assert_eq!(V6::find(&Octets(&mut frame), 14), Some(vip(vip6())));
    assert_eq!(V6::find(&Octets(&mut syn6()), 14), None);
    let network = V6::network(&Octets(&mut frame), 14).expect("well-formed");
    assert_eq!((network.transport, network.protocol), (78, TCP));
}

#[test]
fn an_option_that_has_no_room_in_the_header_is_refused_and_nothing_is_written() {
    let mut frame = syn4();
    frame[14] = 0x4e;
    let before = frame.clone();
    let refused = V4::insert(&mut Growing(&mut frame), &vip(VIP4));
    assert_eq!(refused, Err(DropReason::InvalidHeader));
    assert_eq!(frame, before);
    let mut frame = syn4();
    frame[16..18].copy_from_slice(&u16::MAX.to_be_bytes());
    let refused = V4::insert(&mut Growing(&mut frame), &vip(VIP4));
    assert_eq!(refused, Err(DropReason::FragmentationNeeded));
}

/// Outer header, its sum, and the packet inside untouched; and off again.
#[test]
fn ip_in_ip_goes_around_a_packet_and_comes_off_again_in_all_four_ways() {
    for underlay in [NODE4, node6()] {
        around::<V4>(syn4(), underlay);
        around::<V6>(syn6(), underlay);
    }
}

fn around<A: Carried>(inner: Vec<u8>, underlay: Underlay) {
    let mut frame = inner.clone();
    wrap_ipip::<A, _>(&mut Growing(&mut frame), &underlay, 0x1234_5678).expect("room");
    let network = match underlay {
        Underlay::V4 { .. } => {
            assert_eq!(checksum::of(&frame[14..34], 0), 0, "the header's sum");
            assert_eq!(
                usize::from(u16::from_be_bytes([frame[16], frame[17]])),
                frame.len() - 14
            );
            V4::network(&Octets(&mut frame), 14)
        }
        Underlay::V6 { .. } => {
            assert_eq!(
                usize::from(u16::from_be_bytes([frame[18], frame[19]])),
                frame.len() - 54
            );
            V6::network(&Octets(&mut frame), 14)
        }
    };
    let network = network.expect("well-formed");
    assert_eq!(network.protocol, A::PROTOCOL);
    let Envelope::Ipip { kind, octets } = look(&Octets(&mut frame), &network) else {
        panic!("an IP packet is inside");
    };
    assert_eq!(kind, A::ETHERTYPE);
    unwrap(&mut Growing(&mut frame), octets, kind).expect("there");
    assert_eq!(frame, inner);
}

#[test]
fn geneve_brings_the_vip_along_in_all_four_ways() {
    for underlay in [NODE4, node6()] {
        enveloped(syn4(), underlay, vip(VIP4));
        enveloped(syn6(), underlay, vip(vip6()));
    }
}

fn enveloped<A: Carried>(inner: Vec<u8>, underlay: Underlay, vip: Vip<A>) {
    let mut frame = inner.clone();
    wrap_geneve(&mut Growing(&mut frame), &underlay, &vip, 0x1234_5678).expect("room");
    let network = match underlay {
        Underlay::V4 { .. } => V4::network(&Octets(&mut frame), 14),
        Underlay::V6 { .. } => V6::network(&Octets(&mut frame), 14),
    };
    let network = network.expect("well-formed");
    let udp = network.transport;
    assert_eq!(network.protocol, UDP);
    assert_eq!(
        usize::from(u16::from_be_bytes([frame[udp + 4], frame[udp + 5]])),
        frame.len() - udp
    );
    assert_eq!(frame[udp + 2..udp + 4], [0x17, 0xc1], "port 6081");
    let words = A::OPTION / 4;
    assert_eq!(usize::from(frame[udp + 8]), words, "length of the options");
    assert_eq!(frame[udp + 12..udp + 16], [0, 0, 2, 0], "the VNI of the world");
    assert_eq!(frame[udp + 16..udp + 19], [0x01, 0x4b, 0x81]);
    assert_eq!(usize::from(frame[udp + 19]), words - 1);
    let Envelope::Geneve {
        kind,
        octets,
        vip: at,
    } = look(&Octets(&mut frame), &network)
    else {
        panic!("a frame is inside");
    };
    assert_eq!(A::read_vip(&Octets(&mut frame), at), Some(vip));
    unwrap(&mut Growing(&mut frame), octets, kind).expect("there");
    assert_eq!(frame, inner);
}

#[test]
fn what_is_no_envelope_of_ours_is_left_to_the_stack() {
    let mut whole = syn4();
    wrap_geneve(&mut Growing(&mut whole), &NODE4, &vip(VIP4), 1).expect("room");
    let look_at = |frame: &mut Vec<u8>| {
        let network = V4::network(&Octets(frame), 14).expect("well-formed");
        look(&Octets(frame), &network)
    };
    // Another port, a control message, no frame, another VNI, class and kind, options that do not fit.
    for (at, octet) in [
        (37, 0),
        (43, 0x80),
        (44, 0),
        (48, 9),
        (50, 0),
        (52, 0),
        (53, 1),
        (42, 4),
    ] {
        let mut frame = whole.clone();
        frame[at] = octet;
        assert_eq!(look_at(&mut frame), Envelope::None, "octet {at}");
    }
    // A fragment, and a packet that has nothing inside.
    let mut frame = whole.clone();
    frame[20] = 0x20;
    assert_eq!(look_at(&mut frame), Envelope::None);
    assert_eq!(look_at(&mut syn4()), Envelope::None);
    for end in 34..whole.len() - 40 {
        let mut cut = whole[..end].to_vec();
        assert_eq!(look_at(&mut cut), Envelope::None, "cut at {end}");
    }
}

#[test]
fn an_underlay_of_the_packets_family_comes_first() {
    let both = Node { v4: VIP4, v6: vip6() };
    let only6 = Node {
        v4: V4::default(),
        ..both
    };
    let is_v4 = |underlay| matches!(underlay, Some(Underlay::V4 { .. }));
    assert!(is_v4(underlay(ETHERTYPE_V4, &both, &both)));
    assert!(!is_v4(underlay(ETHERTYPE_V6, &both, &both)));
    assert!(matches!(
        underlay(ETHERTYPE_V4, &both, &only6),
        Some(Underlay::V6 { .. })
    ));
    let only4 = Node {
        v6: V6::default(),
        ..both
    };
    assert_eq!(underlay(ETHERTYPE_V4, &only4, &only6), None);
}

#[test]
fn the_vip_travels_with_what_opens_a_connection_and_with_all_of_udp() {
    let (syn, ack) = (Seen::Tcp(tcp::SYN), Seen::Tcp(tcp::ACK));
    let carried = |seen, opens| carriage(Dispatch::DsrOption, seen, opens);
    assert_eq!(carried(syn, Opens::Nothing), Carriage::Option, "a SYN sent again");
    assert_eq!(
        carried(ack, Opens::Flow),
        Carriage::Option,
        "picked up in its middle"
    );
    assert_eq!(carried(ack, Opens::Nothing), Carriage::Plain);
    assert_eq!(carried(Seen::Other, Opens::Nothing), Carriage::Option);
    assert_eq!(carriage(Dispatch::DsrGeneve, syn, Opens::Flow), Carriage::Geneve);
    assert_eq!(carriage(Dispatch::DsrIpip, ack, Opens::Nothing), Carriage::Ipip);
}

#[test]
fn a_flow_seen_one_way_lives_on_while_half_closed_but_not_for_long() {
    let lifetimes = Lifetimes::default();
    let (open, expires) = step(10, State(0), 70, Seen::Tcp(tcp::ACK), &lifetimes).expect("goes on");
    assert!(open.is_open() && expires > 8000);
    assert_eq!(
        step(11, open, expires, Seen::Tcp(tcp::ACK), &lifetimes),
        Some((open, expires)),
        "most packets write nothing"
    );
    let fin = Seen::Tcp(tcp::FIN | tcp::ACK);
    let (closing, expires) = step(12, open, expires, fin, &lifetimes).expect("goes on");
    assert!(closing.is_closing() && expires < 12 + 70);
    let (still, later) = step(60, closing, expires, Seen::Tcp(tcp::ACK), &lifetimes).expect("half closed");
    assert!(still == closing && later > expires);
    assert_eq!(step(61, still, later, Seen::Tcp(tcp::SYN), &lifetimes), None);
}

/// Another program reads what this code writes.
#[test]
fn tshark_reads_all_headers_as_they_are_meant() {
    let frames = [
        {
            let mut frame = syn4();
            V4::insert(&mut Growing(&mut frame), &vip(VIP4)).expect("room");
            frame
        },
        {
            let mut frame = syn6();
            V6::insert(&mut Growing(&mut frame), &vip(vip6())).expect("room");
            frame
        },
        {
            let mut frame = syn4();
            wrap_ipip::<V4, _>(&mut Growing(&mut frame), &node6(), 5).expect("room");
            frame
        },
        {
            let mut frame = syn6();
            wrap_ipip::<V6, _>(&mut Growing(&mut frame), &NODE4, 5).expect("room");
            frame
        },
        {
            let mut frame = syn4();
            wrap_geneve(&mut Growing(&mut frame), &NODE4, &vip(VIP4), 5).expect("room");
            frame
        },
        {
            let mut frame = syn6();
            wrap_geneve(&mut Growing(&mut frame), &node6(), &vip(vip6()), 5).expect("room");
            frame
        },
    ];
    let Some(lines) = tshark(&frames) else {
        println!("skipped: tshark is not installed");
        return;
    };
    let expected = [
        "eth:ethertype:ip:tcp|198.51.100.1|28|1|||||0x0002",
        "eth:ethertype:ipv6:ipv6.dstopts:tcp||||0x1b||||0x0002",
        "eth:ethertype:ipv6:ip:tcp|198.51.100.1|20|1|||||0x0002",
        "eth:ethertype:ip:ipv6:tcp|10.9.0.1|20|1|||||0x0002",
        "eth:ethertype:ip:udp:geneve:eth:ethertype:ip:tcp|10.9.0.1,198.51.100.1|20,20|1,1||6081|0x000002|0x014b|0x0002",
        "eth:ethertype:ipv6:udp:geneve:eth:ethertype:ipv6:tcp|||||6081|0x000002|0x014b|0x0002",
    ];
    assert_eq!(lines, expected);
}

/// Protocols, source, length and sum of the header, options, port, VNI, class and TCP flags of each frame; `None` without the program.
fn tshark(frames: &[Vec<u8>]) -> Option<Vec<String>> {
    let folder = std::env::temp_dir().join(format!("stentor-dsr-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join("frames.pcap");
    let mut pcap = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 1] {
        pcap.extend(word.to_ne_bytes());
    }
    for frame in frames {
        let length = u32::try_from(frame.len()).expect("small");
        for word in [0, 0, length, length] {
            pcap.extend(word.to_ne_bytes());
        }
        pcap.extend(frame);
    }
    fs::File::create(&path)
        .and_then(|mut file| file.write_all(&pcap))
        .expect("a file");
    let fields = [
        "frame.protocols",
        "ip.src",
        "ip.hdr_len",
        "ip.checksum.status",
        "ipv6.opt.type",
        "udp.dstport",
        "geneve.vni",
        "geneve.option.class",
        "tcp.flags",
    ];
    let mut command = Command::new("tshark");
    command.args([
        "-o",
        "ip.check_checksum:TRUE",
        "-T",
        "fields",
        "-E",
        "separator=|",
        "-r",
    ]);
    command.arg(&path);
    for field in fields {
        command.args(["-e", field]);
    }
    let ran = command.output();
    fs::remove_dir_all(&folder).expect("it was there");
    let ran = ran.ok()?;
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    Some(
        String::from_utf8_lossy(&ran.stdout)
            .lines()
            .map(str::to_owned)
            .collect(),
    )
}

proptest! {
    #[test]
    fn any_octets_are_looked_at_without_harm(frame in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut frame = frame;
        for at in [0, 14] {
            let _ = (V4::find(&Octets(&mut frame), at), V6::find(&Octets(&mut frame), at));
        }
        if let Ok(network) = V4::network(&Octets(&mut frame), 14) {
            let _ = look(&Octets(&mut frame), &network);
        }
        if let Ok(network) = V6::network(&Octets(&mut frame), 14) {
            let _ = look(&Octets(&mut frame), &network);
        }
    }

    #[test]
    fn an_option_says_what_was_put_into_it(address in any::<u32>(), six in any::<[u32; 4]>(), port in any::<u16>()) {
        let vip = Vip { address: V4(address), port };
        let mut frame = syn4();
        V4::insert(&mut Growing(&mut frame), &vip).expect("room");
        prop_assert_eq!(V4::find(&Octets(&mut frame), 14), Some(vip));
        prop_assert_eq!(checksum::of(&frame[14..42], 0), 0);
        let vip = Vip { address: V6(six), port };
        let mut frame = syn6();
        V6::insert(&mut Growing(&mut frame), &vip).expect("room");
        prop_assert_eq!(V6::find(&Octets(&mut frame), 14), Some(vip));
    }
}

#[test]
fn lengths_of_gaps_are_those_of_what_is_written_there() {
    assert_eq!(Gap::Geneve4V4.octets(), 20 + 8 + 8 + <V4 as Inside>::OPTION + 14);
    assert_eq!(Gap::Geneve6V6.octets(), 40 + 8 + 8 + <V6 as Inside>::OPTION + 14);
    assert_eq!(tunnel::GENEVE, 16);
}
