//! The same decision here and in the kernel, over a hundred thousand random packets of clients, backends and nonsense.

use std::fs;
use std::net::{IpAddr, SocketAddr};

use ebpf_abi::config::Direction;
use ebpf_abi::flow::Tuple;
use ebpf_abi::model::Model;
use ebpf_abi::model::sample::{Part, Sample, sample, script};
use ebpf_abi::packet::{TCP, UDP};
use ebpf_abi::{V4, V6};
use ebpf_loader::Hook;
use nix::net::if_::if_nametoindex;

use crate::claims::Ends;
use crate::icmp::message;
use crate::image::Tick;
use crate::packet::Frame;
use crate::remote::{Neighbour, network};
use crate::rig::{Rig, rig, target};

const PACKETS: u32 = 50_000;

#[test]
fn the_kernel_decides_about_random_packets_as_the_same_code_does_here() {
    let Some(rig) = rig() else { return };
    network(Neighbour::Known);
    differ::<V4>(&rig, 4);
    differ::<V6>(&rig, 6);
}

/// What fuzzing has found to lead somewhere new. Each script meets a fresh node: its connections are its own.
#[test]
fn the_kernel_decides_about_what_fuzzing_found_as_the_same_code_does_here() {
    let Some(rig) = rig() else { return };
    network(Neighbour::Known);
    let mut scripts: Vec<Vec<u8>> = KEPT.lines().map(octets).collect();
    let fresh = fs::read_dir(target().join("fuzz/corpus/packet"));
    scripts.extend(fresh.into_iter().flatten().map(|file| {
        let path = file.expect("the folder can be read").path();
        fs::read(&path).expect("a file of it can be read")
    }));
    assert!(!scripts.is_empty());
    for octets in &scripts {
        replay::<V4>(&rig, octets, [0x08, 0x00]);
        replay::<V6>(&rig, octets, [0x86, 0xdd]);
    }
    println!("{} scripts", scripts.len());
}

fn replay<A: Ends + Sample>(rig: &Rig, octets: &[u8], kind: [u8; 2]) {
    let parts: Vec<Part<'_>> = script(octets)
        .filter(|part| part.frame.get(12..14) == Some(&kind))
        .collect();
    for ingress in [Hook::Xdp, Hook::Ingress] {
        let mut model = node::<A>();
        rig.install(&model);
        for part in &parts {
            let hook = match part.direction {
                Direction::Ingress => ingress,
                Direction::Egress | Direction::Socket => Hook::Egress,
            };
            // The kernel refuses to run shorter ones.
            if part.frame.len() < 15 || hook != Hook::Xdp && part.frame.len() < 54 {
                continue;
            }
            let (.., tick) = rig.both(hook, part.frame, &mut model);
            if tick == Tick::Next {
                model = rig.written(&model);
            }
        }
    }
}

/// Lines of hexadecimal digits.
const KEPT: &str = include_str!("corpus.txt");

fn octets(line: &str) -> Vec<u8> {
    let digits = line.as_bytes().chunks(2);
    let octet = |pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.map(|pair| octet(pair).expect("two digits")).collect()
}

/// The sample with the device of the tests' network; test runs come in by the loopback device.
fn node<A: Sample>() -> Model<A> {
    let mut model = sample(if_nametoindex("out").expect("the device"));
    model.arrived = 1;
    model
}

fn differ<A: Ends + Sample>(rig: &Rig, seed: u64) {
    let mut random = Random(seed);
    let mut model = node::<A>();
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

/// Mostly packets that mean something, some of them damaged.
fn packet<A: Ends>(random: &mut Random) -> Vec<u8> {
    let (service, host) = (random.octet(10), random.octet(32));
    // No two connections leave by one port, so none has to look for another.
    let own = 1024 + (u16::from(service) * 32 + u16::from(host)) * 40 + u16::from(random.octet(40));
    let client = SocketAddr::new(<A as Ends>::client(host), own);
    let port = if random.below(8) == 0 { 81 } else { 80 };
    let vip = SocketAddr::new(<A as Ends>::vip(service), port);
    let backend = SocketAddr::new(<A as Ends>::backend(random.octet(11)), 8080);
    let node = SocketAddr::new(here::<A>(), own);
    let protocol = match random.below(16) {
        0 => random.octet(255),
        1..8 => UDP,
        _ => TCP,
    };
    let flags = [2, 16, 16, 16, 24, 18, 17, 4, 20, random.octet(255)][random.below(10) as usize];
    let (from, to): (SocketAddr, SocketAddr) = match random.below(4) {
        0 | 1 => (client, vip),
        2 => (backend, client),
        _ => (backend, node),
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
    if random.below(24) == 0 {
        frame = frame.hops(random.octet(3));
    }
    let mut octets = frame.build();
    if random.below(6) == 0 {
        // An error about it, or nearly; to whom it came from, or to somebody.
        let about = octets
            .get(14..14 + 72.min(octets.len() - 14))
            .expect("shorter than it is");
        let to = [from, to, client, node][random.below(4) as usize].ip();
        let speaker = [to, from.ip(), <A as Ends>::client(99)][random.below(3) as usize];
        let kind = [3, 3, 11, 1, 2, 4, 8, 128, random.octet(255)][random.below(9) as usize];
        octets = message::<A>(speaker, to, kind, random.octet(6), about);
    }
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

/// This node, where packets leave.
fn here<A: Ends>() -> IpAddr {
    match <A as Ends>::client(1) {
        IpAddr::V4(_) => [10, 1, 0, 1].into(),
        IpAddr::V6(_) => [0xfd01, 0, 0, 0, 0, 0, 0, 1].into(),
    }
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
