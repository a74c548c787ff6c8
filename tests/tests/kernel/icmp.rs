//! What the programs answer, and what they make of ICMP errors, each claim for both families, for XDP and for tc. What comes
//! out is held against the same decision here by [`Rig::both`]; what that decision must be, `ebpf-abi` tests octet by octet.

use std::net::{IpAddr, SocketAddr};

use ebpf_abi::balance::{Pass, Verdict};
use ebpf_abi::config::{ANSWERED, Direction, counter, drop_counter, setting};
use ebpf_abi::model::Model;
use ebpf_abi::packet::{TCP, UDP};
use ebpf_abi::service::{FrontendKey, flag};
use ebpf_abi::track::tcp;
use ebpf_abi::{DropReason, checksum, maps};
use ebpf_loader::Hook;

use crate::claims::{Ends, at, everywhere, key, node, request};
use crate::packet::{Frame, decode};
use crate::rig::Rig;

/// More than any test asks for.
pub(crate) const PLENTY: u32 = 1_000_000;

macro_rules! claims {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            everywhere(claim::$name::<ebpf_abi::V4>, claim::$name::<ebpf_abi::V6>);
        }
    )*};
}

claims! {
    a_vip_answers_ping
    a_vip_answers_ping_in_fragments
    an_address_of_the_node_answers_for_itself
    a_connection_that_nobody_serves_is_reset
    a_datagram_that_nobody_serves_is_refused
    without_a_backend_here_local_traffic_is_dropped_without_a_word
    a_packet_at_the_end_of_its_time_is_answered
    answers_come_to_an_end_and_are_counted
    what_a_backend_says_of_its_client_comes_from_the_vip
    what_the_network_says_of_a_reply_comes_to_the_backend
    a_stranger_is_not_believed
}

/// Numbers of ICMP in a family: itself, echo request, unreachable, and the code of ports.
fn numbers<A>() -> (u8, u8, u8, u8) {
    if size_of::<A>() == 4 {
        (1, 8, 3, 3)
    } else {
        (58, 128, 1, 4)
    }
}

/// A node that may answer.
pub(crate) fn speaking<A: Ends>(backends: u8) -> Model<A> {
    let mut node = node::<A>(backends);
    node.config.answer_rate = PLENTY;
    let wildcard = FrontendKey::wildcard(A::of(A::vip(1)));
    let wildcard = node.frontends.get_mut(&wildcard).expect("there");
    wildcard.flags |= flag::ROUTABLE | flag::LOAD_BALANCER;
    node
}

/// A frame with an ICMP message.
pub(crate) fn message<A: Ends>(from: IpAddr, to: IpAddr, kind: u8, code: u8, inside: &[u8]) -> Vec<u8> {
    let (protocol, ..) = numbers::<A>();
    // A datagram of the right length, then what it says is written over.
    let room = vec![0; inside.len()];
    let mut frame = Frame::of(protocol, 0, at(from, 0), at(to, 0)).data(&room).build();
    let start = frame.len() - inside.len() - 8;
    let text = [&[kind, code, 0, 0, 0, 9, 0, 1][..], inside].concat();
    frame[start..].copy_from_slice(&text);
    let sum = if protocol == 1 {
        checksum::of(&text, 0)
    } else {
        crate::packet::transport_sum(from, to, protocol, &text)
    };
    frame[start + 2..start + 4].copy_from_slice(&sum.to_ne_bytes());
    frame
}

fn ping<A: Ends>(to: IpAddr) -> Vec<u8> {
    message::<A>(A::client(1), to, numbers::<A>().1, 0, b"are you there")
}

pub(crate) fn counted(rig: &Rig, place: u32) -> u64 {
    rig.map(maps::COUNTERS).counter(place).expect("a counter").packets
}

mod claim {
    use super::*;

    pub(crate) fn a_vip_answers_ping<A: Ends>(rig: &Rig, hook: Hook) {
        let mut node = speaking::<A>(1);
        rig.install(&node);
        let answered = counter(hook.direction(), ANSWERED);
        let before = counted(rig, answered);
        let (verdict, packet, _) = rig.both(hook, &ping::<A>(A::vip(1)), &mut node);
        assert_eq!(verdict, Verdict::Answered);
        let said = decode(&packet);
        assert!(
            said.starts_with(&format!("{} > {}", A::vip(1), A::client(1))),
            "{said}"
        );
        assert!(said.contains("echo reply") && !said.contains("WRONG"), "{said}");
        assert_eq!(counted(rig, answered), before + 1);
        node.config.settings |= setting::SILENT_ECHO;
        rig.install(&node);
        let (verdict, ..) = rig.both(hook, &ping::<A>(A::vip(1)), &mut node);
        assert_eq!(verdict, Verdict::Drop(DropReason::NoService));
    }

    pub(crate) fn a_vip_answers_ping_in_fragments<A: Ends>(rig: &Rig, hook: Hook) {
        const CUT: usize = 24;
        let mut node = speaking::<A>(1);
        rig.install(&node);
        let (protocol, ..) = numbers::<A>();
        let whole = message::<A>(A::client(1), A::vip(1), numbers::<A>().1, 0, &[7; 40]);
        let asked = &whole[whole.len() - 48..];
        let part = |id| {
            let frame = Frame::of(protocol, 0, at(A::client(1), 0), at(A::vip(1), 0));
            let mut first = frame.clone().data(&[0; CUT - 8]).fragment(0, true, id).build();
            let start = first.len() - CUT;
            first[start..].copy_from_slice(&asked[..CUT]);
            let offset = CUT.try_into().expect("a small number");
            (
                first,
                frame.data(&asked[CUT..]).fragment(offset, false, id).build(),
            )
        };
        let (first, later) = part(90);
        let mut reply = Vec::new();
        for (packet, length) in [(&first, CUT), (&later, asked.len() - CUT)] {
            let (verdict, answer, _) = rig.both(hook, packet, &mut node);
            assert_eq!(verdict, Verdict::Answered);
            let said = decode(&answer);
            let way = format!("{} > {}", A::vip(1), A::client(1));
            assert!(
                said.starts_with(&way) && !said.contains("header sum WRONG"),
                "{said}"
            );
            reply.extend_from_slice(&answer[answer.len() - length..]);
        }
        let sum = if protocol == 1 {
            checksum::of(&reply, 0)
        } else {
            crate::packet::transport_sum(A::vip(1), A::client(1), protocol, &reply)
        };
        assert_eq!((sum, &reply[4..]), (0, &asked[4..]), "the sum is over all of it");
        // The other way round: tc keeps the later one, XDP leaves it to tc.
        let (first, later) = part(91);
        let (verdict, ..) = rig.both(hook, &later, &mut node);
        assert_eq!(verdict, Verdict::Hold);
        let (verdict, ..) = rig.both(hook, &first, &mut node);
        match hook {
            Hook::Xdp => assert_eq!(verdict, Verdict::Answered),
            Hook::Ingress | Hook::Egress => {
                assert_eq!(verdict, Verdict::Release);
                let (verdict, ..) = rig.both(hook, &first, &mut node);
                assert_eq!(verdict, Verdict::Answered);
            }
        }
        let (verdict, ..) = rig.both(hook, &later, &mut node);
        assert_eq!(verdict, Verdict::Answered);
    }

    pub(crate) fn an_address_of_the_node_answers_for_itself<A: Ends>(rig: &Rig, hook: Hook) {
        let mut node = speaking::<A>(1);
        node.watch(&A::of(A::vip(2)));
        rig.install(&node);
        let asked = ping::<A>(A::vip(2));
        let (verdict, packet, _) = rig.both(hook, &asked, &mut node);
        assert_eq!((verdict, packet), (Verdict::Pass(Pass::Protocol), asked));
    }

    pub(crate) fn a_connection_that_nobody_serves_is_reset<A: Ends>(rig: &Rig, hook: Hook) {
        let mut node = speaking::<A>(0);
        rig.install(&node);
        let refused = drop_counter(hook.direction(), DropReason::NoService);
        let before = counted(rig, refused);
        // No backend, and no such port.
        for port in [80, 81] {
            for (flags, data) in [(tcp::SYN, &b""[..]), (tcp::SYN, b"with data"), (tcp::ACK, b"x")] {
                let asked = Frame::tcp(flags, at(A::client(1), 4000), at(A::vip(1), port)).data(data);
                let (verdict, packet, _) = rig.both(hook, &asked.build(), &mut node);
                assert_eq!(verdict, Verdict::Answered);
                let said = decode(&packet);
                let ends = format!("{port} > 4000 [{}R]", if flags == tcp::ACK { "" } else { "A" });
                assert!(said.contains(&ends) && !said.contains("WRONG"), "{said}");
            }
            let asked = Frame::tcp(tcp::RST, at(A::client(1), 4000), at(A::vip(1), port)).build();
            let (verdict, ..) = rig.both(hook, &asked, &mut node);
            assert_eq!(verdict, Verdict::Drop(DropReason::NoService));
        }
        assert_eq!(counted(rig, refused), before + 8);
    }

    pub(crate) fn a_datagram_that_nobody_serves_is_refused<A: Ends>(rig: &Rig, hook: Hook) {
        let mut node = speaking::<A>(0);
        rig.install(&node);
        for port in [80, 81] {
            for length in [0, 1, 2, 3, 4, 16, 61, 500, 1400] {
                let asked = Frame::udp(at(A::client(1), 4000), at(A::vip(1), port)).data(&vec![7; length]);
                let (verdict, packet, _) = rig.both(hook, &asked.build(), &mut node);
                assert_eq!(verdict, Verdict::Answered, "{length} octets");
                let said = decode(&packet);
                assert!(
                    said.starts_with(&format!("{} > {}", A::vip(1), A::client(1))),
                    "{said}"
                );
                let (_, _, kind, code) = numbers::<A>();
                let names = format!("ICMP {kind}/{code}, sum right");
                assert!(
                    said.contains(&names) && !said.contains("WRONG"),
                    "{length} octets: {said}"
                );
            }
        }
        node.config.settings |= setting::SILENT_NO_BACKEND;
        rig.install(&node);
        let (verdict, ..) = rig.both(hook, &request::<A>(UDP, 4000, 0).build(), &mut node);
        assert_eq!(verdict, Verdict::Drop(DropReason::NoService));
    }

    pub(crate) fn without_a_backend_here_local_traffic_is_dropped_without_a_word<A: Ends>(
        rig: &Rig,
        hook: Hook,
    ) {
        let mut node = speaking::<A>(0);
        for protocol in [TCP, UDP] {
            node.frontends.get_mut(&key(protocol)).expect("there").flags |= flag::LOCAL_ONLY;
        }
        rig.install(&node);
        for protocol in [TCP, UDP] {
            let asked = request::<A>(protocol, 4000, tcp::SYN).build();
            let (verdict, packet, _) = rig.both(hook, &asked, &mut node);
            assert_eq!((verdict, packet), (Verdict::Drop(DropReason::NoService), asked));
        }
    }

    pub(crate) fn a_packet_at_the_end_of_its_time_is_answered<A: Ends>(rig: &Rig, hook: Hook) {
        let mut node = speaking::<A>(1);
        // Elsewhere, so that this node is a hop.
        node.backends.get_mut(&0).expect("there").flags = 0;
        rig.install(&node);
        for protocol in [TCP, UDP] {
            let mut asked = request::<A>(protocol, 4000, tcp::SYN).data(&[7; 40]).build();
            let (expected, place) = if size_of::<A>() == 4 {
                ("ICMP 11/0", 22)
            } else {
                ("ICMP 3/0", 21)
            };
            asked[place] = 1;
            if size_of::<A>() == 4 {
                asked[24..26].fill(0);
                let sum = checksum::of(&asked[14..34], 0).to_ne_bytes();
                asked[24..26].copy_from_slice(&sum);
            }
            let (verdict, packet, _) = rig.both(hook, &asked, &mut node);
            assert_eq!(verdict, Verdict::Answered);
            let said = decode(&packet);
            assert!(said.contains(expected) && !said.contains("WRONG"), "{said}");
        }
    }

    pub(crate) fn answers_come_to_an_end_and_are_counted<A: Ends>(rig: &Rig, hook: Hook) {
        let mut node = speaking::<A>(0);
        node.config.answer_rate = 1;
        rig.install(&node);
        let limited = drop_counter(Direction::Ingress, DropReason::RateLimited);
        let before = counted(rig, limited);
        let asked = ping::<A>(A::vip(1));
        // Each processor has ten answers, and one more each second.
        let mut tries = 0..1_000_000;
        let ended = tries.any(|_| {
            rig.datapath.run(hook, &asked).expect("it runs");
            counted(rig, limited) > before
        });
        assert!(ended, "a million answers");
    }

    /// A connection from `client(1)` port 4000, and what both sides' packets are.
    fn connected<A: Ends>(rig: &Rig, hook: Hook, protocol: u8, node: &mut Model<A>) -> [Frame; 3] {
        let (client, vip, backend) = (at(A::client(1), 4000), at(A::vip(1), 80), at(A::backend(1), 8080));
        rig.install(node);
        let (verdict, ..) = rig.both(hook, &request::<A>(protocol, 4000, tcp::SYN).build(), node);
        assert_eq!(verdict, Verdict::Local);
        let of =
            |from: SocketAddr, to: SocketAddr| Frame::of(protocol, tcp::ACK, from, to).data(b"some data");
        [of(client, vip), of(client, backend), of(vip, client)]
    }

    pub(crate) fn what_a_backend_says_of_its_client_comes_from_the_vip<A: Ends>(rig: &Rig, hook: Hook) {
        let (_, _, kind, code) = numbers::<A>();
        for protocol in [TCP, UDP] {
            let mut node = speaking::<A>(1);
            let [known, inside, _] = connected(rig, hook, protocol, &mut node);
            for from in [A::backend(1), A::vip(3)] {
                node.watch(&A::of(from));
                rig.install(&node);
                let error = message::<A>(from, A::client(1), kind, code, &inside.build()[14..]);
                let (verdict, packet, _) = rig.both(Hook::Egress, &error, &mut node);
                assert_eq!(verdict, Verdict::Reply);
                assert_eq!(
                    packet,
                    message::<A>(A::vip(1), A::client(1), kind, code, &known.build()[14..]),
                    "{}",
                    decode(&packet)
                );
            }
        }
    }

    pub(crate) fn what_the_network_says_of_a_reply_comes_to_the_backend<A: Ends>(rig: &Rig, hook: Hook) {
        let (_, _, kind, code) = numbers::<A>();
        for protocol in [TCP, UDP] {
            for from in [A::client(1), A::client(99)] {
                let mut node = speaking::<A>(1);
                let [_, _, inside] = connected(rig, hook, protocol, &mut node);
                let there = Frame::of(
                    protocol,
                    tcp::ACK,
                    at(A::backend(1), 8080),
                    at(A::client(1), 4000),
                );
                let there = there.data(b"some data");
                let error = message::<A>(from, A::vip(1), kind, code, &inside.build()[14..]);
                let (verdict, packet, _) = rig.both(hook, &error, &mut node);
                assert_eq!(verdict, Verdict::Local);
                assert_eq!(
                    packet,
                    message::<A>(from, A::backend(1), kind, code, &there.build()[14..]),
                    "{}",
                    decode(&packet)
                );
            }
        }
    }

    pub(crate) fn a_stranger_is_not_believed<A: Ends>(rig: &Rig, hook: Hook) {
        let (_, _, kind, code) = numbers::<A>();
        let mut node = speaking::<A>(1);
        let [..] = connected(rig, hook, TCP, &mut node);
        let other = Frame::tcp(tcp::ACK, at(A::vip(1), 80), at(A::client(1), 4001)).build();
        for inside in [&other[14..], b"nothing", &[]] {
            let error = message::<A>(A::client(99), A::vip(1), kind, code, inside);
            let (verdict, packet, _) = rig.both(hook, &error, &mut node);
            assert_eq!((verdict, packet), (Verdict::Drop(DropReason::NoService), error));
        }
    }
}
