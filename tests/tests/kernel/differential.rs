//! The same decision here and in the kernel, over a hundred thousand random packets of clients, backends and nonsense.

use std::net::{IpAddr, SocketAddr};

use ebpf_abi::config::{Member, PRESENT, RangeKey};
use ebpf_abi::flow::Tuple;
use ebpf_abi::maglev::{Seeds, Walker, fill};
use ebpf_abi::model::Model;
use ebpf_abi::packet::{TCP, UDP};
use ebpf_abi::service::{BackendState, Frontend, FrontendKey, Selection, Set, flag};
use ebpf_abi::{BackendId, FrontendId, V4, V6};
use ebpf_loader::Hook;

use crate::claims::{Ends, SET, id, key, node};
use crate::image::Tick;
use crate::packet::Frame;
use crate::rig::rig;

const PACKETS: u32 = 50_000;

#[test]
fn the_kernel_decides_about_random_packets_as_the_same_code_does_here() {
    let Some(rig) = rig() else { return };
    differ::<V4>(&rig, 4);
    differ::<V6>(&rig, 6);
}

fn differ<A: Ends>(rig: &crate::rig::Rig, seed: u64) {
    let mut random = Random(seed);
    let mut model = world::<A>();
    rig.install(&model);
    for number in 0..PACKETS {
        let frame = packet::<A>(&mut random);
        let hook = match random.below(3) {
            // What ends in its IP header never comes to tc: the kernel refuses to run it there.
            _ if frame.len() < 54 => Hook::Xdp,
            0 => Hook::Xdp,
            1 => Hook::Ingress,
            _ => Hook::Egress,
        };
        let (_, _, tick) = rig.both(hook, &frame, &mut model);
        // Entries written over the turn of a second may expire a second apart.
        if tick == Tick::Next {
            model = rig.written(&model);
        }
        if number % 10_000 == 9_999 {
            let kernel = rig.written(&model);
            for (tuple, flow) in &model.flows {
                let theirs = kernel.flows.get::<Tuple<A>>(tuple);
                assert_eq!(theirs, Some(flow), "flow {tuple:?} after {number} packets");
            }
            assert_eq!(kernel.flows.len(), model.flows.len());
            assert_eq!(kernel.affinities, model.affinities);
            assert_eq!(kernel.fragments, model.fragments);
        }
    }
    assert!(model.flows.len() > 1000, "most packets were for nobody");
}

/// Frontends with and without affinity, with source ranges, without backends, closed ones. Chance never chooses.
fn world<A: Ends>() -> Model<A> {
    let mut model = node::<A>(8);
    let names: Vec<String> = (0..8)
        .map(|n| format!("[{}:8080/TCP,State:active]", A::backend(n + 1)))
        .collect();
    let mut order: Vec<u32> = (0..8).collect();
    order.sort_by_key(|n| names[*n as usize].clone());
    let walker = |n: &u32| Walker::new(id(*n), 100, names[*n as usize].as_bytes(), 251, &Seeds::default());
    let mut walkers: Vec<Walker> = order.iter().filter_map(walker).collect();
    let mut table = vec![BackendId::NONE; 251];
    fill(&mut table, &mut walkers);
    model.maglev.insert(SET, table);
    // A set of one: every draw is the same.
    model.sets.insert(SET + 1, Set::new(107, 1, 1));
    model.members.insert(
        Member {
            set: SET + 1,
            backend: id(7),
        },
        PRESENT,
    );
    model.sets.insert(SET + 2, Set::new(0, 0, 0));
    model.backends.get_mut(&3).expect("there").state = BackendState::Terminating.number();
    model.config.seed4 = Seeds::default().v4;
    model.config.seed6 = Seeds::default().v6;
    for protocol in [TCP, UDP] {
        let first = *model.frontends.get(&key(protocol)).expect("there");
        model
            .frontends
            .get_mut(&key::<A>(protocol))
            .expect("there")
            .selection = Selection::Maglev.number();
        let more = [
            (
                2,
                Frontend {
                    affinity: 5,
                    selection: Selection::Maglev.number(),
                    service: 2,
                    ..first
                },
            ),
            (
                3,
                Frontend {
                    set: SET + 1,
                    service: 3,
                    ..first
                },
            ),
            (
                4,
                Frontend {
                    set: SET + 2,
                    service: 4,
                    ..first
                },
            ),
            (
                5,
                Frontend {
                    set: SET + 1,
                    ranges: 4,
                    service: 5,
                    ..first
                },
            ),
            (
                6,
                Frontend {
                    set: SET + 1,
                    ranges: 4,
                    flags: first.flags | flag::DENY_RANGES,
                    service: 6,
                    ..first
                },
            ),
            (
                7,
                Frontend {
                    flags: 0,
                    service: 7,
                    ..first
                },
            ),
        ];
        for (n, frontend) in more {
            let index = u32::from(n) * 10 + u32::from(protocol);
            let id = FrontendId::new(index, 1).expect("it fits");
            model.live_frontends.insert(index, id);
            let address = A::of(A::vip(n));
            model.watch(&address);
            model.frontends.insert(
                FrontendKey::new(address, 80_u16.to_be(), protocol),
                Frontend { id, ..frontend },
            );
        }
    }
    let whole = 8 * u32::try_from(size_of::<A>()).expect("small");
    let range = RangeKey {
        bits: RangeKey::<A>::LIST_BITS + whole - 3,
        list: 4,
        address: A::of(A::client(8)),
    };
    model.ranges.insert(range, PRESENT);
    model
}

/// Mostly packets that mean something, some of them damaged.
fn packet<A: Ends>(random: &mut Random) -> Vec<u8> {
    let client = SocketAddr::new(A::client(random.octet(32)), 4000 + u16::from(random.octet(40)));
    let port = if random.below(8) == 0 { 81 } else { 80 };
    let vip = SocketAddr::new(A::vip(random.octet(9)), port);
    let backend = SocketAddr::new(A::backend(random.octet(10)), 8080);
    let protocol = match random.below(16) {
        0 => random.octet(255),
        1..8 => UDP,
        _ => TCP,
    };
    let flags = [2, 16, 16, 16, 24, 18, 17, 4, 20, random.octet(255)][random.below(10) as usize];
    let (from, to): (SocketAddr, SocketAddr) = match random.below(3) {
        0 | 1 => (client, vip),
        _ => (backend, client),
    };
    let mut frame = Frame::of(protocol, flags, from, to);
    if random.below(12) == 0 {
        let later = random.below(2) == 1;
        frame = frame.fragment(if later { 24 } else { 0 }, !later, u16::from(random.octet(16)));
    }
    if random.below(12) == 0 {
        frame = match from.ip() {
            IpAddr::V4(_) => frame.extension(0, &[1, 1, 1, 0]),
            IpAddr::V6(_) => (0..random.below(9)).fold(frame, |frame, _| {
                let number = [0, 43, 60, 135][random.below(4) as usize];
                frame.extension(number, &[0, 0, 1, 4, 0, 0, 0, 0])
            }),
        };
    }
    let mut octets = frame.build();
    match random.below(20) {
        // Cut short.
        0 => octets.truncate(15 + random.below(octets.len() as u32 - 15) as usize),
        // A bit turned, not in the Ethernet header.
        1 => {
            let place = 14 + random.below(octets.len() as u32 - 14) as usize;
            octets[place] ^= 1 << random.below(8);
        }
        _ => {}
    }
    octets
}

/// The generator of Vigna's `splitmix64`: the same packets each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, limit: u32) -> u32 {
        u32::try_from(self.next() % u64::from(limit)).expect("below")
    }

    fn octet(&mut self, limit: u32) -> u8 {
        u8::try_from(self.below(limit)).expect("an octet")
    }
}
