//! Checksums here are made and judged by sums over single octets in network order, which share nothing with the code's words.

use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;

use super::*;
use crate::balance::egress;
use crate::config::Config;
use crate::flow::{Flow, Tuple, Way};
use crate::forward::Route;
use crate::id::FrontendId;
use crate::model::Model;
use crate::packet::{SCTP, TCP, UDP};
use crate::resize::{Buffer, Owed};
use crate::service::Frontend;
use crate::track::tcp;

const NOW: u32 = 1_000_000;
const AT: usize = 14;

/// RFC 1071 as it stands there. 0 if a right checksum is among the octets.
fn sum(octets: &[u8]) -> u16 {
    let mut sum = 0_u64;
    for (place, octet) in octets.iter().enumerate() {
        let shift = if place % 2 == 0 { 8 } else { 0 };
        sum += u64::from(*octet) << shift;
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn pseudo(source: IpAddr, destination: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [
        &octets(source)[..],
        &octets(destination),
        &length,
        &[0, 0, 0, protocol],
        payload,
    ]
    .concat()
}

/// An IP packet with this behind its header, and `options` between them.
fn ip(source: IpAddr, destination: IpAddr, protocol: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    match source {
        IpAddr::V4(_) => {
            let words = 5 + options.len() / 4;
            packet.extend([0x40 | words as u8, 0]);
            packet.extend(((words * 4 + payload.len()) as u16).to_be_bytes());
            packet.extend([0, 7, 0x40, 0, 9, protocol, 0, 0]);
            packet.extend(octets(source));
            packet.extend(octets(destination));
            packet.extend(options);
            let sum = sum(&packet).to_be_bytes();
            packet[10..12].copy_from_slice(&sum);
        }
        IpAddr::V6(_) => {
            packet.extend([0x60, 0, 0, 0]);
            packet.extend(((options.len() + payload.len()) as u16).to_be_bytes());
            packet.extend([if options.is_empty() { protocol } else { 60 }, 9]);
            packet.extend(octets(source));
            packet.extend(octets(destination));
            packet.extend(options);
            if let Some(next) = packet.get_mut(40).filter(|_| !options.is_empty()) {
                *next = protocol;
            }
        }
    }
    packet.extend(payload);
    packet
}

fn framed(packet: &[u8]) -> Vec<u8> {
    let kind: [u8; 2] = if packet[0] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] };
    [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2][..], &kind, packet].concat()
}

fn with_sum(
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    field: usize,
    mut payload: Vec<u8>,
) -> Vec<u8> {
    let sum = sum(&pseudo(source, destination, protocol, &payload)).to_be_bytes();
    payload[field..field + 2].copy_from_slice(&sum);
    payload
}

/// A TCP segment or UDP datagram.
fn segment(from: SocketAddr, to: SocketAddr, protocol: u8, flags: u8, data: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    payload.extend(from.port().to_be_bytes());
    payload.extend(to.port().to_be_bytes());
    if protocol == TCP {
        payload.extend([0xff, 0xff, 0xff, 0xfe, 0, 0, 0, 77, 0x50, flags, 1, 0, 0, 0, 0, 0]);
        payload.extend(data);
        with_sum(from.ip(), to.ip(), TCP, 16, payload)
    } else {
        payload.extend(((8 + data.len()) as u16).to_be_bytes());
        payload.extend([0, 0]);
        payload.extend(data);
        with_sum(from.ip(), to.ip(), UDP, 6, payload)
    }
}

/// An ICMP message around something.
fn icmp(from: IpAddr, to: IpAddr, kind: u8, code: u8, word: [u8; 4], inside: &[u8]) -> Vec<u8> {
    let message = [&[kind, code, 0, 0][..], &word, inside].concat();
    let number = if from.is_ipv4() { 1 } else { 58 };
    let mut message = message;
    let sum = message_sum(from, to, &message).to_be_bytes();
    message[2..4].copy_from_slice(&sum);
    ip(from, to, number, &[], &message)
}

fn message_sum(from: IpAddr, to: IpAddr, message: &[u8]) -> u16 {
    if from.is_ipv4() {
        sum(message)
    } else {
        sum(&pseudo(from, to, 58, message))
    }
}

/// What a packet says: source, destination, protocol, hops left, and what is behind the header. Its checksums are right.
fn open(packet: &[u8]) -> (IpAddr, IpAddr, u8, u8, Vec<u8>) {
    if packet[0] >> 4 == 4 {
        let length = usize::from(packet[0] & 0xf) * 4;
        assert_eq!(sum(&packet[..length]), 0, "sum of the IP header");
        let total = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
        let address = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&packet[at..at + 4]).expect("four"));
        let payload = packet[length..total.min(packet.len())].to_vec();
        (address(12), address(16), packet[9], packet[8], payload)
    } else {
        let total = 40 + usize::from(u16::from_be_bytes([packet[4], packet[5]]));
        let address = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&packet[at..at + 16]).expect("sixteen"));
        let payload = packet[40..total.min(packet.len())].to_vec();
        (address(8), address(24), packet[6], packet[7], payload)
    }
}

/// An address family's ends.
trait Ends: Control {
    fn of(address: IpAddr) -> Self;
    fn ends() -> [IpAddr; 5];
    /// Type and code of port unreachable, time exceeded and too big.
    fn numbers() -> [(u8, u8); 3];
    const REQUEST: u8;
}

impl Ends for V4 {
    fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(_) => panic!("of the other family"),
        }
    }
    fn ends() -> [IpAddr; 5] {
        ["198.51.100.1", "192.0.2.1", "10.0.0.1", "203.0.113.9", "10.9.9.9"]
            .map(|text| text.parse().expect("an address"))
    }
    fn numbers() -> [(u8, u8); 3] {
        [(3, 3), (11, 0), (3, 4)]
    }
    const REQUEST: u8 = 8;
}

impl Ends for V6 {
    fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V6(address) => address.into(),
            IpAddr::V4(_) => panic!("of the other family"),
        }
    }
    fn ends() -> [IpAddr; 5] {
        [
            "2001:db8:c::1",
            "2001:db8:f::1",
            "fd00::1",
            "2001:db8:9::9",
            "fd00:9::9",
        ]
        .map(|text| text.parse().expect("an address"))
    }
    fn numbers() -> [(u8, u8); 3] {
        [(1, 4), (3, 0), (2, 0)]
    }
    const REQUEST: u8 = 128;
}

/// A message's whole way. What leaves is looked at whoever sends it: `FILTER` has nobody here.
fn judged<A: Ends>(packet: &mut Buffer, direction: Direction, node: &mut Model<A>) -> Verdict {
    if direction == Direction::Egress {
        let verdict = egress(packet, AT, node);
        if verdict != Verdict::Message {
            return verdict;
        }
    }
    match message(packet, AT, direction, node) {
        Verdict::Error => translate(packet, AT, direction, node),
        verdict => verdict,
    }
}

/// A node that may answer, with a VIP; its flow goes from client to VIP, and on as `nat` to the backend.
fn node<A: Ends>(nat: Option<SocketAddr>) -> Model<A> {
    let [client, vip, backend, ..] = A::ends();
    let id = FrontendId::new(5, 1).expect("it fits");
    let mut model = Model {
        config: Config {
            settings: setting::ENABLED,
            answer_rate: 100,
            ..Config::default()
        },
        now: NOW,
        ..Model::default()
    };
    model.live_frontends.insert(5, id);
    for end in [client, backend] {
        model.routes.insert(A::of(end), Some((route(), 1500)));
    }
    let wildcard = Frontend {
        flags: flag::WILDCARD | flag::ROUTABLE | flag::LOAD_BALANCER,
        ..Frontend::default()
    };
    model
        .frontends
        .insert(FrontendKey::wildcard(A::of(vip)), wildcard);
    for protocol in [TCP, UDP] {
        let source = nat.unwrap_or(SocketAddr::new(client, 4000));
        let arriving = Tuple {
            source: A::of(client),
            destination: A::of(vip),
            source_port: 4000_u16.to_be(),
            destination_port: 80_u16.to_be(),
            protocol,
            ..Tuple::default()
        };
        let flow = Flow {
            source: A::of(source.ip()),
            destination: A::of(backend),
            source_port: source.port().to_be(),
            destination_port: 8080_u16.to_be(),
            frontend: id,
            expires: NOW + 10,
            way: Way::Forward.number(),
            ..Flow::default()
        };
        let reply = Flow {
            source: arriving.destination,
            destination: arriving.source,
            source_port: arriving.destination_port,
            destination_port: arriving.source_port,
            way: Way::Reply.number(),
            ..flow
        };
        model.flows.insert(flow.twin(protocol), reply);
        model.flows.insert(arriving, flow);
    }
    model
}

fn route() -> Route {
    Route {
        device: 7,
        ..Route::default()
    }
}

fn node_end<A: Ends>() -> SocketAddr {
    SocketAddr::new(A::ends()[4], 40_000)
}

macro_rules! both {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            claim::$name::<V4>();
            claim::$name::<V6>();
        }
    )*};
}

both! {
    an_echo_request_becomes_its_reply
    an_echo_request_is_not_answered_where_it_must_not_be
    a_syn_is_refused_with_a_reset_that_acknowledges_it
    a_segment_with_an_acknowledgement_is_reset_where_its_sender_is
    a_reset_is_never_reset
    a_datagram_is_refused_with_port_unreachable
    what_is_too_long_for_an_error_is_cut_to_whole_words
    time_exceeded_and_too_big_say_what_they_mean
    options_come_back_in_errors_and_not_in_resets
    what_must_not_be_answered_is_dropped_by_its_own_name
    a_sum_that_the_device_owes_comes_out_right
    the_bucket_ends_answers
    an_error_about_a_flow_to_a_backend_comes_to_the_client
    an_error_about_sctp_gets_other_addresses_and_nothing_else
    an_error_about_a_reply_comes_to_the_backend
    an_error_about_nothing_of_ours_stays_as_it_is
    an_error_that_cannot_go_on_stays_as_it_is
    a_hop_speaks_as_its_device
    an_error_whose_checksum_inside_is_cut_off_is_translated
    messages_to_a_vip_never_go_to_the_stack_but_those_of_neighbours
    a_message_cut_anywhere_is_not_rewritten
}

mod claim {
    use super::*;

    fn request<A: Ends>() -> Vec<u8> {
        let [client, vip, ..] = A::ends();
        framed(&icmp(client, vip, A::REQUEST, 0, [1, 2, 0, 9], b"are you there"))
    }

    fn tell<A: Ends>(frame: &[u8], model: &mut Model<A>) -> (Verdict, Vec<u8>) {
        let mut packet = Buffer::new(frame);
        let verdict = judged(&mut packet, Direction::Ingress, model);
        (verdict, packet.octets)
    }

    fn ask<A: Ends>(frame: &[u8], what: Answer, model: &mut Model<A>) -> (Verdict, Vec<u8>) {
        let mut packet = Buffer::new(frame);
        let verdict = answer(&mut packet, AT, what, model);
        (verdict, packet.octets)
    }

    fn turned(frame: &[u8], asked: &[u8]) {
        assert_eq!(frame[..6], asked[6..12]);
        assert_eq!(frame[6..12], asked[..6]);
        assert_eq!(frame[12..14], asked[12..14]);
    }

    pub(super) fn an_echo_request_becomes_its_reply<A: Ends>() {
        let [client, vip, ..] = A::ends();
        let (verdict, frame) = tell::<A>(&request::<A>(), &mut node(None));
        assert_eq!(verdict, Verdict::Answered);
        turned(&frame, &request::<A>());
        let (source, destination, _, hops, reply) = open(&frame[14..]);
        assert_eq!((source, destination, hops), (vip, client, 64));
        assert_eq!(message_sum(source, destination, &reply), 0);
        assert_eq!(reply[..2], [A::ECHO_REPLY, 0]);
        assert_eq!(reply[4..], [&[1, 2, 0, 9][..], b"are you there"].concat());
    }

    pub(super) fn an_echo_request_is_not_answered_where_it_must_not_be<A: Ends>() {
        let [_, vip, ..] = A::ends();
        let asked = request::<A>();
        let mut group = asked.clone();
        group[0] |= 1;
        let from = |text: [&str; 2]| {
            let text = if vip.is_ipv4() { text[0] } else { text[1] };
            framed(&icmp(
                text.parse().expect("an address"),
                vip,
                A::REQUEST,
                0,
                [0; 4],
                b"",
            ))
        };
        let strange = [
            group,
            framed(&icmp(vip, vip, A::REQUEST, 0, [0; 4], b"")),
            from(["0.0.0.0", "::"]),
            from(["127.0.0.1", "::1"]),
            from(["224.0.0.1", "ff02::1"]),
            from(["255.255.255.255", "ff05::2"]),
        ];
        for frame in strange {
            let dropped = Verdict::Drop(DropReason::NoService);
            assert_eq!(tell::<A>(&frame, &mut node(None)), (dropped, frame));
        }
        let mut silent = node(None);
        silent.config.settings |= setting::SILENT_ECHO;
        assert_eq!(
            tell::<A>(&asked, &mut silent).0,
            Verdict::Drop(DropReason::NoService)
        );
        let mut closed = node(None);
        let wildcard = FrontendKey::wildcard(A::of(vip));
        closed.frontends.get_mut(&wildcard).expect("there").flags = flag::WILDCARD;
        assert_eq!(
            tell::<A>(&asked, &mut closed).0,
            Verdict::Drop(DropReason::NoService)
        );
        // An address of the node itself: the stack answers.
        closed.frontends.clear();
        assert_eq!(
            tell::<A>(&asked, &mut closed),
            (Verdict::Pass(Pass::Protocol), asked)
        );
    }

    fn refused<A: Ends>(protocol: u8, flags: u8, data: &[u8], options: &[u8]) -> Vec<u8> {
        let [client, vip, ..] = A::ends();
        let segment = segment(
            SocketAddr::new(client, 4000),
            SocketAddr::new(vip, 81),
            protocol,
            flags,
            data,
        );
        framed(&ip(client, vip, protocol, options, &segment))
    }

    fn reset<A: Ends>(flags: u8, data: &[u8], options: &[u8]) -> (u32, u32, u8) {
        let [client, vip, ..] = A::ends();
        let mut asked = refused::<A>(TCP, flags, data, options);
        // Padding of Ethernet is no data.
        asked.extend([0xee; 3]);
        let (verdict, frame) = ask::<A>(&asked, Answer::Refused, &mut node(None));
        assert_eq!(verdict, Verdict::Answered);
        turned(&frame, &asked);
        let (source, destination, protocol, hops, segment) = open(&frame[14..]);
        assert_eq!((source, destination, protocol, hops), (vip, client, TCP, 64));
        assert_eq!(frame.len(), 14 + A::HEADER + 20);
        assert_eq!(sum(&pseudo(source, destination, TCP, &segment)), 0);
        assert_eq!(
            segment[..4],
            [81_u16.to_be_bytes(), 4000_u16.to_be_bytes()].concat()
        );
        assert_eq!(segment[12] >> 4, 5);
        let word = |at: usize| u32::from_be_bytes(segment[at..at + 4].try_into().expect("four"));
        (word(4), word(8), segment[13])
    }

    pub(super) fn a_syn_is_refused_with_a_reset_that_acknowledges_it<A: Ends>() {
        assert_eq!(
            reset::<A>(tcp::SYN, b"", &[]),
            (0, 0xffff_ffff, tcp::RST | tcp::ACK)
        );
        // Data counts, and so does FIN; sequence numbers turn round.
        assert_eq!(reset::<A>(tcp::SYN, b"abc", &[]), (0, 2, tcp::RST | tcp::ACK));
        assert_eq!(
            reset::<A>(tcp::SYN | tcp::FIN, b"abc", &[]),
            (0, 3, tcp::RST | tcp::ACK)
        );
    }

    pub(super) fn a_segment_with_an_acknowledgement_is_reset_where_its_sender_is<A: Ends>() {
        assert_eq!(reset::<A>(tcp::ACK, b"abc", &[]), (77, 0, tcp::RST));
        assert_eq!(reset::<A>(tcp::ACK | tcp::FIN, b"", &[]), (77, 0, tcp::RST));
    }

    pub(super) fn a_reset_is_never_reset<A: Ends>() {
        for flags in [tcp::RST, tcp::RST | tcp::ACK] {
            let asked = refused::<A>(TCP, flags, b"", &[]);
            let dropped = Verdict::Drop(DropReason::NoService);
            assert_eq!(
                ask::<A>(&asked, Answer::Refused, &mut node(None)),
                (dropped, asked)
            );
        }
    }

    /// The error that answers a frame: its second word, and what it holds.
    fn error<A: Ends>(asked: &[u8], what: Answer, numbers: (u8, u8)) -> ([u8; 4], Vec<u8>) {
        let [client, vip, ..] = A::ends();
        let (verdict, frame) = ask::<A>(asked, what, &mut node(None));
        assert_eq!(verdict, Verdict::Answered);
        turned(&frame, asked);
        let (source, destination, protocol, hops, message) = open(&frame[14..]);
        assert_eq!((source, destination, protocol, hops), (vip, client, A::ICMP, 64));
        assert_eq!(frame.len(), 14 + A::HEADER + message.len(), "nothing behind it");
        assert_eq!(message_sum(source, destination, &message), 0);
        assert_eq!((message[0], message[1]), numbers);
        (message[4..8].try_into().expect("four"), message[8..].to_vec())
    }

    pub(super) fn a_datagram_is_refused_with_port_unreachable<A: Ends>() {
        for length in [0, 1, 3, 4, 15, 16, 17, 100] {
            let asked = refused::<A>(UDP, 0, &vec![0xab; length], &[]);
            let (word, inside) = error::<A>(&asked, Answer::Refused, A::numbers()[0]);
            assert_eq!(word, [0; 4]);
            let whole = &asked[14..];
            assert_eq!(inside, whole[..whole.len() & !3], "{length} octets");
        }
    }

    pub(super) fn what_is_too_long_for_an_error_is_cut_to_whole_words<A: Ends>() {
        let asked = refused::<A>(UDP, 0, &[0xab; 1400], &[]);
        let (_, inside) = error::<A>(&asked, Answer::Refused, A::numbers()[0]);
        assert_eq!(inside, asked[14..][..A::LONGEST]);
    }

    pub(super) fn time_exceeded_and_too_big_say_what_they_mean<A: Ends>() {
        for protocol in [TCP, UDP, SCTP] {
            let asked = refused::<A>(protocol, tcp::ACK, b"data", &[]);
            let (word, inside) = error::<A>(&asked, Answer::TimeExceeded, A::numbers()[1]);
            assert_eq!((word, &inside[..]), ([0; 4], &asked[14..]));
            let (word, inside) = error::<A>(&asked, Answer::TooBig(1400), A::numbers()[2]);
            assert_eq!((u32::from_be_bytes(word), &inside[..]), (1400, &asked[14..]));
        }
    }

    pub(super) fn options_come_back_in_errors_and_not_in_resets<A: Ends>() {
        let options: &[u8] = if A::HEADER == 20 {
            &[148, 4, 0, 0]
        } else {
            &[0, 0, 1, 4, 0, 0, 0, 0]
        };
        assert_eq!(reset::<A>(tcp::SYN, b"", options).2, tcp::RST | tcp::ACK);
        let asked = refused::<A>(UDP, 0, b"data", options);
        let (_, inside) = error::<A>(&asked, Answer::Refused, A::numbers()[0]);
        assert_eq!(inside, asked[14..]);
    }

    pub(super) fn what_must_not_be_answered_is_dropped_by_its_own_name<A: Ends>() {
        let [client, vip, ..] = A::ends();
        let asked = refused::<A>(UDP, 0, b"data", &[]);
        let mut group = asked.clone();
        group[0] = 0xff;
        let error = framed(&icmp(client, vip, A::numbers()[1].0, 0, [0; 4], &asked[14..]));
        for frame in [group, error] {
            for what in [Answer::Refused, Answer::TimeExceeded, Answer::TooBig(1400)] {
                let dropped = Verdict::Drop(what.reason());
                assert_eq!(ask::<A>(&frame, what, &mut node(None)), (dropped, frame.clone()));
            }
        }
        let mut never = node(None);
        never.config.answer_rate = 0;
        let dropped = Verdict::Drop(DropReason::NoService);
        assert_eq!(
            ask::<A>(&asked, Answer::Refused, &mut never),
            (dropped, asked.clone())
        );
        if A::HEADER == 20 {
            let mut later = asked.clone();
            later[14 + 7] = 3;
            assert_eq!(ask::<A>(&later, Answer::Refused, &mut node(None)).0, dropped);
            // Its checksum is wrong, so perhaps its source is.
            let mut damaged = asked.clone();
            damaged[14 + 12] ^= 1;
            let verdict = ask::<A>(&damaged, Answer::Refused, &mut node(None)).0;
            assert_eq!(verdict, Verdict::Drop(DropReason::InvalidHeader));
        }
    }

    pub(super) fn a_sum_that_the_device_owes_comes_out_right<A: Ends>() {
        let [client, vip, ..] = A::ends();
        for (protocol, field, data) in [(TCP, 16, 30), (UDP, 6, 31), (UDP, 6, 1400)] {
            let mut asked = refused::<A>(protocol, tcp::SYN, &vec![0x5a; data], &[]);
            let start = 14 + A::HEADER;
            let mut header = pseudo(client, vip, protocol, &asked[start..]);
            header.truncate(2 * octets(client).len() + 8);
            let partial = (!sum(&header)).to_be_bytes();
            asked[start + field..start + field + 2].copy_from_slice(&partial);
            let mut packet = Buffer::new(&asked);
            packet.owed = Owed::ByDevice;
            let verdict = answer(&mut packet, AT, Answer::Refused, &mut node::<A>(None));
            assert_eq!(verdict, Verdict::Answered);
            // The device does as it was told when the packet was made: it knows where the header lies now.
            let mut frame = packet.octets;
            let start = if protocol == TCP {
                start
            } else {
                start + A::HEADER + 8
            };
            let made = sum(&frame[start..]).to_be_bytes();
            frame[start + field..start + field + 2].copy_from_slice(&made);
            let (source, destination, number, _, payload) = open(&frame[14..]);
            let right = if protocol == TCP {
                sum(&pseudo(source, destination, number, &payload))
            } else {
                message_sum(source, destination, &payload)
            };
            assert_eq!(right, 0, "protocol {protocol}");
        }
    }

    pub(super) fn the_bucket_ends_answers<A: Ends>() {
        let mut node = node(None);
        node.config.answer_rate = 1;
        let udp = refused::<A>(UDP, 0, b"", &[]);
        let tcp = refused::<A>(TCP, tcp::SYN, b"", &[]);
        for _ in 0..5 {
            assert_eq!(ask::<A>(&udp, Answer::Refused, &mut node).0, Verdict::Answered);
            assert_eq!(tell::<A>(&request::<A>(), &mut node).0, Verdict::Answered);
        }
        let limited = Verdict::Drop(DropReason::RateLimited);
        assert_eq!(ask::<A>(&udp, Answer::Refused, &mut node), (limited, udp));
        assert_eq!(ask::<A>(&tcp, Answer::Refused, &mut node), (limited, tcp));
        assert_eq!(tell::<A>(&request::<A>(), &mut node), (limited, request::<A>()));
    }

    /// What an error makes of a packet of a flow.
    fn about<A: Ends>(
        (from, to): (IpAddr, IpAddr),
        inside: (SocketAddr, SocketAddr),
        protocol: u8,
        direction: Direction,
        node: &mut Model<A>,
    ) -> (Verdict, Vec<u8>, Vec<u8>) {
        let segment = segment(inside.0, inside.1, protocol, tcp::ACK, b"some data");
        let packet = ip(inside.0.ip(), inside.1.ip(), protocol, &[], &segment);
        let (kind, code) = A::numbers()[2];
        let frame = framed(&icmp(from, to, kind, code, [0, 0, 5, 0x14], &packet));
        let mut packet = Buffer::new(&frame);
        let verdict = judged(&mut packet, direction, node);
        (verdict, packet.octets, frame)
    }

    fn translated(
        frame: &[u8],
        (from, to): (IpAddr, IpAddr),
        inside: (SocketAddr, SocketAddr),
        protocol: u8,
    ) {
        let (source, destination, _, _, message) = open(&frame[14..]);
        assert_eq!((source, destination), (from, to));
        assert_eq!(message_sum(source, destination, &message), 0);
        assert_eq!(message[4..8], [0, 0, 5, 0x14], "the path's limit");
        let (source, destination, number, _, segment) = open(&message[8..]);
        assert_eq!(
            (source, destination, number),
            (inside.0.ip(), inside.1.ip(), protocol)
        );
        assert_eq!(
            sum(&pseudo(source, destination, protocol, &segment)),
            0,
            "the sum inside"
        );
        let ports = [inside.0.port().to_be_bytes(), inside.1.port().to_be_bytes()].concat();
        assert_eq!(segment[..4], ports);
        assert!(segment.ends_with(b"some data"));
    }

    pub(super) fn an_error_about_a_flow_to_a_backend_comes_to_the_client<A: Ends>() {
        let [client, vip, backend, router, ..] = A::ends();
        let known = (SocketAddr::new(client, 4000), SocketAddr::new(vip, 80));
        for protocol in [TCP, UDP] {
            // As itself to a backend here: what the backend or this node says leaves by egress.
            let there = (SocketAddr::new(client, 4000), SocketAddr::new(backend, 8080));
            for from in [backend, router] {
                let mut node = node::<A>(None);
                let (verdict, frame, _) =
                    about((from, client), there, protocol, Direction::Egress, &mut node);
                assert_eq!(verdict, Verdict::Reply);
                translated(&frame, (vip, client), known, protocol);
            }
            // As this node to one elsewhere: comes in from the network.
            let nat = node_end::<A>();
            let there = (nat, SocketAddr::new(backend, 8080));
            for from in [backend, router] {
                let mut node = node::<A>(Some(nat));
                let (verdict, frame, _) =
                    about((from, nat.ip()), there, protocol, Direction::Ingress, &mut node);
                assert_eq!(verdict, Verdict::Forward);
                translated(&frame, (vip, client), known, protocol);
            }
        }
    }

    pub(super) fn an_error_about_sctp_gets_other_addresses_and_nothing_else<A: Ends>() {
        let [client, vip, backend, router, nat] = A::ends();
        let mut node = node::<A>(None);
        let arriving = Tuple {
            source: A::of(client),
            destination: A::of(vip),
            source_port: 4000_u16.to_be(),
            destination_port: 80_u16.to_be(),
            protocol: SCTP,
            ..Tuple::default()
        };
        let flow = Flow {
            source: A::of(nat),
            destination: A::of(backend),
            source_port: arriving.source_port,
            destination_port: arriving.destination_port,
            frontend: FrontendId::new(5, 1).expect("it fits"),
            expires: NOW + 10,
            way: Way::Forward.number(),
            ..Flow::default()
        };
        node.flows.insert(flow.twin(SCTP), flow.back(&arriving));
        // Ports, verification tag, checksum: eight octets more than any error must hold.
        let segment: Vec<u8> = [&[0x0f, 0xa0, 0, 80][..], &[0xa5; 12]].concat();
        let packet = ip(nat, backend, SCTP, &[], &segment);
        let (kind, code) = A::numbers()[2];
        let mut frame = Buffer::new(&framed(&icmp(router, nat, kind, code, [0, 0, 5, 0x14], &packet)));
        let verdict = judged(&mut frame, Direction::Ingress, &mut node);
        assert_eq!(verdict, Verdict::Forward);
        let (source, destination, _, _, message) = open(&frame.octets[14..]);
        assert_eq!((source, destination), (vip, client));
        assert_eq!(message_sum(source, destination, &message), 0);
        let (source, destination, protocol, _, inside) = open(&message[8..]);
        assert_eq!((source, destination, protocol), (client, vip, SCTP));
        assert_eq!(inside, segment);
    }

    pub(super) fn an_error_about_a_reply_comes_to_the_backend<A: Ends>() {
        let [client, vip, backend, router, ..] = A::ends();
        let known = (SocketAddr::new(vip, 80), SocketAddr::new(client, 4000));
        for protocol in [TCP, UDP] {
            for from in [client, router] {
                let mut local = node::<A>(None);
                let (verdict, frame, _) = about((from, vip), known, protocol, Direction::Ingress, &mut local);
                assert_eq!(verdict, Verdict::Local);
                let there = (SocketAddr::new(backend, 8080), SocketAddr::new(client, 4000));
                translated(&frame, (from, backend), there, protocol);
                let nat = node_end::<A>();
                let mut remote = node::<A>(Some(nat));
                let (verdict, frame, _) =
                    about((from, vip), known, protocol, Direction::Ingress, &mut remote);
                assert_eq!(verdict, Verdict::Forward);
                let there = (SocketAddr::new(backend, 8080), nat);
                translated(&frame, (nat.ip(), backend), there, protocol);
            }
        }
    }

    pub(super) fn an_error_about_nothing_of_ours_stays_as_it_is<A: Ends>() {
        let [client, vip, backend, router, own] = A::ends();
        let nat = node_end::<A>();
        let end = |address, port| SocketAddr::new(address, port);
        let wrong = [
            // Another port, here and there; another address; the right packet, but sent to somebody else.
            ((router, own), (end(own, 40_001), end(backend, 8080))),
            ((router, own), (nat, end(backend, 8081))),
            ((router, own), (nat, end(router, 8080))),
            ((router, vip), (nat, end(backend, 8080))),
            // The packet as it came to us is not one that we sent on.
            ((router, client), (end(client, 4000), end(vip, 80))),
        ];
        for (outside, inside) in wrong {
            let mut node = node::<A>(Some(nat));
            let (verdict, after, before) = about(outside, inside, TCP, Direction::Ingress, &mut node);
            let expected = if outside.1 == vip {
                Verdict::Drop(DropReason::NoService)
            } else {
                Verdict::Pass(Pass::Protocol)
            };
            assert_eq!((verdict, after), (expected, before));
        }
        let right = ((router, own), (nat, end(backend, 8080)));
        // Its time is over, and its service is gone.
        for change in [
            |node: &mut Model<A>| node.flows.values_mut().for_each(|flow| flow.expires = NOW),
            |node: &mut Model<A>| {
                node.live_frontends.clear();
            },
        ] {
            let mut node = node::<A>(Some(nat));
            change(&mut node);
            let (verdict, after, before) = about(right.0, right.1, TCP, Direction::Ingress, &mut node);
            assert_eq!((verdict, after), (Verdict::Pass(Pass::Protocol), before));
        }
    }

    pub(super) fn an_error_that_cannot_go_on_stays_as_it_is<A: Ends>() {
        let [client, _, backend, router, own] = A::ends();
        let inside = (node_end::<A>(), SocketAddr::new(backend, 8080));
        let routes = [
            (Some(None), Verdict::Pass(Pass::Later)),
            (None, Verdict::Drop(DropReason::NoRoute)),
            (
                Some(Some((route(), 60))),
                Verdict::Drop(DropReason::FragmentationNeeded),
            ),
        ];
        for (routed, expected) in routes {
            let mut node = node::<A>(Some(inside.0));
            node.routes.remove(&A::of(client));
            node.routes.extend(routed.map(|way| (A::of(client), way)));
            let (verdict, after, before) = about((router, own), inside, TCP, Direction::Ingress, &mut node);
            assert_eq!((verdict, after), (expected, before));
        }
    }

    pub(super) fn a_hop_speaks_as_its_device<A: Ends>() {
        let [client, vip, .., own] = A::ends();
        let mut node = node::<A>(None);
        let (v4, v6) = (V4::ends()[4], V6::ends()[4]);
        node.arrived = 3;
        let device = Device {
            v4: V4::of(v4),
            v6: V6::of(v6),
            ..Device::default()
        };
        node.devices.insert(3, device);
        let asked = refused::<A>(UDP, 0, b"data", &[]);
        for (what, speaker) in [
            (Answer::TimeExceeded, own),
            (Answer::TooBig(1400), vip),
            (Answer::Refused, vip),
        ] {
            let (verdict, frame) = ask::<A>(&asked, what, &mut node);
            assert_eq!(verdict, Verdict::Answered);
            let (source, destination, _, _, message) = open(&frame[14..]);
            assert_eq!((source, destination), (speaker, client));
            assert_eq!(message_sum(source, destination, &message), 0);
        }
    }

    pub(super) fn an_error_whose_checksum_inside_is_cut_off_is_translated<A: Ends>() {
        let [client, vip, backend, router, ..] = A::ends();
        let nat = node_end::<A>();
        let there = segment(nat, SocketAddr::new(backend, 8080), TCP, tcp::ACK, b"");
        let whole = ip(nat.ip(), backend, TCP, &[], &there);
        let (kind, code) = A::numbers()[1];
        for length in 8..20 {
            let mut frame = framed(&icmp(
                router,
                nat.ip(),
                kind,
                code,
                [0; 4],
                &whole[..A::HEADER + length],
            ));
            // Padding behind it must not be taken for the checksum.
            frame.extend([0x77; 20]);
            let (verdict, after) = tell::<A>(&frame, &mut node(Some(nat)));
            assert_eq!(verdict, Verdict::Forward);
            let (source, destination, _, _, message) = open(&after[14..]);
            assert_eq!((source, destination), (vip, client));
            assert_eq!(message_sum(source, destination, &message), 0, "{length} octets");
            assert!(after.ends_with(&[0x77; 20]));
        }
        for length in 0..8 {
            let frame = framed(&icmp(
                router,
                nat.ip(),
                kind,
                code,
                [0; 4],
                &whole[..A::HEADER + length],
            ));
            let passed = Verdict::Pass(Pass::Protocol);
            assert_eq!(
                tell::<A>(&frame, &mut node(Some(nat))),
                (passed, frame),
                "{length} octets"
            );
        }
    }

    pub(super) fn messages_to_a_vip_never_go_to_the_stack_but_those_of_neighbours<A: Ends>() {
        let [client, vip, ..] = A::ends();
        for kind in 0..=255 {
            for code in [0, 16] {
                let frame = framed(&icmp(client, vip, kind, code, [0; 4], &[0; 60]));
                let (verdict, after) = tell::<A>(&frame, &mut node(None));
                let expected = match A::kind(kind, code) {
                    Kind::Echo => Verdict::Answered,
                    Kind::Neighbour => Verdict::Pass(Pass::Protocol),
                    Kind::Error => Verdict::Drop(DropReason::NoService),
                    Kind::Other => Verdict::Drop(A::UNKNOWN),
                };
                assert_eq!(verdict, expected, "{kind} {code}");
                assert!(verdict == Verdict::Answered || after == frame);
            }
        }
    }

    pub(super) fn a_message_cut_anywhere_is_not_rewritten<A: Ends>() {
        let [_, vip, backend, router, ..] = A::ends();
        let nat = node_end::<A>();
        let there = segment(nat, SocketAddr::new(backend, 8080), UDP, 0, b"");
        let whole = ip(nat.ip(), backend, UDP, &[], &there);
        let (kind, code) = A::numbers()[1];
        let frame = framed(&icmp(router, nat.ip(), kind, code, [0; 4], &whole));
        for length in 14..frame.len() {
            let (verdict, after) = tell::<A>(&frame[..length], &mut node(Some(nat)));
            assert_eq!(
                (verdict, &after[..]),
                (Verdict::Pass(Pass::Protocol), &frame[..length])
            );
        }
        for what in [Answer::Refused, Answer::TimeExceeded] {
            for protocol in [TCP, UDP] {
                let frame = refused::<A>(protocol, tcp::SYN, b"data", &[]);
                for length in 14..frame.len() {
                    let (verdict, after) = ask::<A>(&frame[..length], what, &mut node(None));
                    assert!(matches!(verdict, Verdict::Drop(_)), "{vip}: {length}");
                    assert_eq!(after, frame[..length]);
                }
            }
        }
    }
}

proptest! {
    /// Whatever arrives, what is made of it has right checksums, or is what arrived.
    #[test]
    fn garbage_is_never_made_a_wrong_answer(
        mut octets in prop::collection::vec(any::<u8>(), 0..400), family in any::<bool>(), what in 0..4_u8, owned in any::<bool>(),
    ) {
        if let Some(first) = octets.get_mut(14) {
            *first = if family { 0x45 } else { 0x60 };
        }
        let garbage = |octets: &[u8]| if family { garbage::<V4>(octets, what, owned) } else { garbage::<V6>(octets, what, owned) };
        garbage(&octets)?;
        // Likelier: a length that is true.
        if let (Some(length), Some(place)) = (octets.len().checked_sub(if family { 14 } else { 54 }), octets.get_mut(if family { 16..18 } else { 18..20 })) {
            place.copy_from_slice(&(length as u16).to_be_bytes());
            garbage(&octets)?;
        }
    }
}

fn garbage<A: Ends>(octets: &[u8], what: u8, owned: bool) -> Result<(), TestCaseError> {
    let mut node = node::<A>(None);
    if owned && let Some((_, destination)) = A::addresses(&Buffer::new(octets), AT) {
        let wildcard = Frontend {
            flags: flag::WILDCARD | flag::ROUTABLE,
            ..Frontend::default()
        };
        node.frontends
            .insert(FrontendKey::wildcard(destination), wildcard);
    }
    let mut packet = Buffer::new(octets);
    let verdict = match what {
        0 => judged(&mut packet, Direction::Ingress, &mut node),
        1 => answer(&mut packet, AT, Answer::Refused, &mut node),
        2 => answer(&mut packet, AT, Answer::TimeExceeded, &mut node),
        _ => answer(&mut packet, AT, Answer::TooBig(1300), &mut node),
    };
    match verdict {
        // An echo reply is as right or wrong as its request.
        Verdict::Answered if what == 0 => {}
        Verdict::Answered => {
            let (source, destination, protocol, _, payload) = open(&packet.octets[14..]);
            let right = match protocol {
                1 | 58 => message_sum(source, destination, &payload),
                _ => sum(&pseudo(source, destination, protocol, &payload)),
            };
            prop_assert_eq!(right, 0);
        }
        Verdict::Pass(_) | Verdict::Drop(_) | Verdict::Hold => {
            prop_assert_eq!(&packet.octets[..], octets);
        }
        other => prop_assert!(false, "{:?}", other),
    }
    Ok(())
}
