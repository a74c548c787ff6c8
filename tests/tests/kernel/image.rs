//! A model of the maps, into the kernel's maps and back.

use std::fmt::Debug;
use std::time::Duration;

use ebpf_abi::DropReason;
use ebpf_abi::balance::{Verdict, come, wait};
use ebpf_abi::config::{Affinity, AffinityKey, Config, Device, Node, PRESENT, device_flag};
use ebpf_abi::filter;
use ebpf_abi::flow::{Flow, FragmentKey, FragmentPorts, Held, HeldKey, Table, Tuple};
use ebpf_abi::icmp::Control;
use ebpf_abi::maps::{self, Map};
use ebpf_abi::model::Model;
use ebpf_abi::packet::ETHERNET;
use ebpf_abi::plain::Plain;
use ebpf_abi::resize::Buffer;
use ebpf_abi::service::Backend;
use ebpf_abi::stage::whole;
use ebpf_abi::{V4, V6};
use ebpf_loader::{Hook, MapFd};

use crate::packet::decode;
use crate::rig::Rig;

/// A family that packets are balanced of.
pub(crate) trait Maps: Control + maps::Maps {}

impl Maps for V4 {}

impl Maps for V6 {}

/// Places of arrays that tests use, at most.
const PLACES: u32 = 256;
/// Where XDP's packets come in that a test sends.
const LOOPBACK: u32 = 1;
const RETURNING: Device = Device {
    v4: V4(0),
    v6: V6([0; 4]),
    mac: [0; 6],
    mtu: 0,
    flags: device_flag::RETURNS_FRAMES,
};

impl Rig {
    /// Makes the kernel's maps of a family say what the model says, and nothing else.
    pub(crate) fn install<A: Maps>(&self, model: &Model<A>) {
        self.empty::<A>();
        for (word, bits) in &model.filter {
            self.put(maps::FILTER, word, bits);
        }
        for (key, frontend) in &model.frontends {
            self.put(A::FRONTENDS, key, frontend);
        }
        for (index, id) in &model.live_frontends {
            self.put(maps::LIVE_FRONTENDS, index, id);
        }
        for (index, set) in &model.sets {
            self.put(maps::SETS, index, set);
        }
        for (index, id) in &model.slots {
            self.put(maps::SLOTS, index, id);
        }
        for (set, table) in &model.maglev {
            self.map(maps::MAGLEV).put_table(*set, table).expect("a table");
        }
        for (index, backend) in &model.backends {
            self.put(A::BACKENDS, index, backend);
        }
        for (member, present) in &model.members {
            self.put(maps::MEMBERS, member, present);
        }
        for range in model.ranges.keys() {
            self.put(A::RANGES, range, &PRESENT);
        }
        for (tuple, flow) in &model.flows {
            let map = match flow.table() {
                Table::Opening => A::OPENING,
                Table::Kept => A::FLOWS,
            };
            self.put(map, tuple, flow);
        }
        for (index, node) in &model.nodes {
            self.put(maps::NODES, index, node);
        }
        for (index, device) in &model.devices {
            self.put(maps::DEVICES, index, device);
        }
        if !model.devices.contains_key(&LOOPBACK) {
            self.put(maps::DEVICES, &LOOPBACK, &RETURNING);
        }
        self.put(maps::CONFIG, &0_u32, &model.config);
    }

    /// What the programs wrote.
    pub(crate) fn written<A: Maps>(&self, model: &Model<A>) -> Model<A> {
        Model {
            flows: [A::FLOWS, A::OPENING]
                .into_iter()
                .flat_map(|map| self.all::<Tuple<A>, Flow<A>>(map))
                .collect(),
            affinities: self
                .all::<AffinityKey<A>, Affinity>(A::AFFINITY)
                .into_iter()
                .collect(),
            fragments: self
                .all::<FragmentKey<A>, FragmentPorts>(A::FRAGMENTS)
                .into_iter()
                .collect(),
            ..model.clone()
        }
    }

    /// The programs wrote the flows that the model has. Where a second went by meanwhile, so may what they expire at.
    pub(crate) fn assert_flows<A: Maps>(&self, model: &Model<A>) {
        const SOME_SECONDS: u32 = 30;
        let mut written = self.written(model).flows;
        for (tuple, flow) in &mut written {
            let here = model.flows.get(tuple).map(|here| here.expires);
            if let Some(here) = here.filter(|here| here.abs_diff(flow.expires) < SOME_SECONDS) {
                flow.expires = here;
            }
        }
        assert_eq!(written, model.flows);
    }

    fn empty<A: Maps>(&self) {
        self.put(maps::CONFIG, &0_u32, &Config::default());
        let words: Vec<u32> = (0..filter::WORDS).collect();
        let zeros = vec![0_u64; words.len()];
        self.map(maps::FILTER)
            .put_all(&words, &zeros)
            .expect("the filter");
        let places: Vec<u32> = (0..PLACES).collect();
        let count = places.len();
        self.map(maps::LIVE_FRONTENDS)
            .put_all(&places, &vec![0_u32; count])
            .expect("ids");
        self.map(maps::SETS)
            .put_all(&places, &vec![0_u64; count])
            .expect("sets");
        self.map(maps::SLOTS)
            .put_all(&places, &vec![0_u32; count])
            .expect("slots");
        let backends = vec![Backend::<A>::default(); count];
        self.map(A::BACKENDS)
            .put_all(&places, &backends)
            .expect("backends");
        self.map(maps::NODES)
            .put_all(&places, &vec![Node::default(); count])
            .expect("nodes");
        self.clear::<u32, Device>(maps::DEVICES);
        for set in 0..PLACES {
            self.map(maps::MAGLEV).remove(&set).expect("a table");
        }
        self.clear::<ebpf_abi::service::FrontendKey<A>, ebpf_abi::service::Frontend>(A::FRONTENDS);
        self.clear::<ebpf_abi::config::Member, u32>(maps::MEMBERS);
        self.clear::<ebpf_abi::config::RangeKey<A>, u32>(A::RANGES);
        self.clear::<Tuple<A>, Flow<A>>(A::FLOWS);
        self.clear::<Tuple<A>, Flow<A>>(A::OPENING);
        self.clear::<AffinityKey<A>, Affinity>(A::AFFINITY);
        self.clear::<FragmentKey<A>, FragmentPorts>(A::FRAGMENTS);
        self.clear::<HeldKey, Held>(maps::HELD);
    }

    fn clear<K: Plain, V: Plain>(&self, map: Map) {
        let keys: Vec<K> = self.all::<K, V>(map).into_iter().map(|(key, _)| key).collect();
        for key in &keys {
            self.map(map).remove(key).expect("deleting");
        }
    }

    fn put<K: Plain, V: Plain + Debug>(&self, map: Map, key: &K, value: &V) {
        let done = self.map(map).put(key, value);
        done.unwrap_or_else(|error| panic!("{}: {value:?}: {error:?}", map.name));
    }

    pub(crate) fn all<K: Plain, V: Plain>(&self, map: Map) -> Vec<(K, V)> {
        let map: &MapFd = self.map(map);
        map.all().expect("maps are readable")
    }

    /// Runs a packet through the kernel's program and through the decision here. Verdict and packet must be the same.
    ///
    /// Returns whether the maps must be read anew: a second began meanwhile, or chance was asked, which also leaves the packet
    /// to the verdict.
    pub(crate) fn both<A: Maps>(
        &self,
        hook: Hook,
        frame: &[u8],
        model: &mut Model<A>,
    ) -> (Verdict, Vec<u8>, Tick) {
        let before = seconds();
        let ran = self.datapath.run(hook, frame).expect("the program runs");
        let after = seconds();
        let here = |now, model: &mut Model<A>| {
            let mut packet = Buffer::new(frame);
            model.now = now;
            let mut verdict = whole(&mut packet, hook.direction(), model);
            match (hook, verdict) {
                (Hook::Ingress, Verdict::Hold) if wait(&packet, ETHERNET, model).is_none() => {
                    verdict = Verdict::Drop(DropReason::FirstFragmentMissing);
                }
                (Hook::Ingress, Verdict::Release) => {
                    come(&packet, ETHERNET, model).expect("a first fragment");
                }
                _ => {}
            }
            let mut packet = packet.octets;
            // In tc the kernel writes it, after the program.
            if let (Hook::Xdp, Verdict::Forward) = (hook, verdict) {
                packet[..12].copy_from_slice(&model.way.ethernet);
            }
            (verdict, packet)
        };
        let drawn = model.random;
        let same = |(verdict, packet): &(Verdict, Vec<u8>), model: &Model<A>| {
            ran.verdict == answer(hook, *verdict, model.way.device)
                // What was released is written over by what was held.
                && (ran.packet == *packet || model.random != drawn || *verdict == Verdict::Release)
        };
        // Where seconds went by, the program ran in one of them: any one will do, the caller reads the maps anew.
        for now in before..after {
            let mut model_then = model.clone();
            let (verdict, packet) = here(now, &mut model_then);
            if same(&(verdict, packet.clone()), &model_then) {
                *model = model_then;
                return (verdict, packet, Tick::Next);
            }
        }
        let (verdict, packet) = here(after, model);
        assert!(
            same(&(verdict, packet.clone()), model),
            "{hook:?} differs\n  in:     {}\n  here:   {verdict:?}\n          {}\n  kernel: {}\n          {}\n  octets here:   {packet:02x?}\n  octets kernel: {:02x?}",
            decode(frame),
            decode(&packet),
            ran.verdict,
            decode(&ran.packet),
            ran.packet,
        );
        (
            verdict,
            packet,
            if before == after && model.random == drawn {
                Tick::Same
            } else {
                Tick::Next
            },
        )
    }
}

/// Whether what happened here and in the kernel may differ in what is written: by a second, or by chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tick {
    Same,
    Next,
}

/// The hook's word for a verdict.
fn answer(hook: Hook, verdict: Verdict, device: u32) -> u32 {
    const XDP_DROP: u32 = 1;
    const XDP_PASS: u32 = 2;
    const XDP_TX: u32 = 3;
    const XDP_REDIRECT: u32 = 4;
    const TC_OK: u32 = 0;
    const TC_SHOT: u32 = 2;
    const TC_REDIRECT: u32 = 7;
    match (hook, verdict) {
        (Hook::Xdp, Verdict::Drop(_)) => XDP_DROP,
        (
            Hook::Xdp,
            Verdict::Pass(_) | Verdict::Local | Verdict::Reply | Verdict::Hold | Verdict::Release,
        ) => XDP_PASS,
        // Test runs come in by the loopback device, unless they say otherwise.
        (Hook::Xdp, Verdict::Forward) if device == 1 => XDP_TX,
        (Hook::Xdp, Verdict::Forward) => XDP_REDIRECT,
        (Hook::Ingress | Hook::Egress, Verdict::Drop(_) | Verdict::Hold | Verdict::Release) => TC_SHOT,
        (Hook::Ingress | Hook::Egress, Verdict::Forward | Verdict::Answered) => TC_REDIRECT,
        (Hook::Xdp, Verdict::Answered) => XDP_TX,
        (
            _,
            Verdict::Message
            | Verdict::Error
            | Verdict::Answer(_)
            | Verdict::New(_)
            | Verdict::Direct(..)
            | Verdict::Returned
            | Verdict::Wrapped,
        ) => panic!("{verdict:?} is not the end"),
        (Hook::Ingress | Hook::Egress, Verdict::Pass(_) | Verdict::Local | Verdict::Reply) => TC_OK,
    }
}

/// The clock of the programs, in seconds.
pub(crate) fn seconds() -> u32 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC_COARSE).expect("the clock");
    u32::try_from(Duration::from(now).as_secs()).expect("not for 136 years")
}
