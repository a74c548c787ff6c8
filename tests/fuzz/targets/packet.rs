//! Frames for the load balancer of a small node: nothing is half rewritten, and nothing becomes right or wrong on its way.
#![no_main]

use ebpf_abi::balance::Verdict;
use ebpf_abi::checksum;
use ebpf_abi::icmp::Control;
use ebpf_abi::model::Model;
use ebpf_abi::model::sample::{Part, Sample, sample, script};
use ebpf_abi::packet::{ETHERNET, Fragment, Octets, TCP, UDP};
use ebpf_abi::resize::Buffer;
use ebpf_abi::stage::whole;
use ebpf_abi::{Plain, V4, V6};
use libfuzzer_sys::fuzz_target;

/// Longer scripts say nothing more.
const LONGEST: usize = 16;

/// What can be said of a packet's checksums; `None`: there is none, or not all of what it is made of is here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sums {
    header: Option<bool>,
    transport: Option<bool>,
}

fn octets<A: Plain>(address: &A) -> &[u8] {
    ebpf_abi::plain::octets(address)
}

fn sums<A: Control>(frame: &[u8]) -> Option<Sums> {
    let mut copy = frame.to_vec();
    let packet = Octets(&mut copy);
    let (source, destination) = A::addresses(&packet, ETHERNET)?;
    let network = A::network(&packet, ETHERNET).ok()?;
    let header = frame.get(ETHERNET..)?;
    let header = (size_of::<A>() == 4).then(|| {
        let length = usize::from(header[0] & 0xf) * 4;
        checksum::of(&header[..length], 0) == 0
    });
    let end = ETHERNET + network.length as usize;
    let mut transport = None;
    if network.fragment == Fragment::Whole
        && let Some(payload) = frame.get(network.transport..end)
    {
        let length = (payload.len() as u32).to_be_bytes();
        let pseudo = [
            octets(&source),
            octets(&destination),
            &length,
            &[0, 0, 0, network.protocol],
            payload,
        ]
        .concat();
        transport = match network.protocol {
            TCP if payload.len() >= 20 => Some(checksum::of(&pseudo, 0) == 0),
            UDP if payload.len() >= 8 && payload[6..8] != [0, 0] => Some(checksum::of(&pseudo, 0) == 0),
            protocol if protocol == A::ICMP && size_of::<A>() == 4 => Some(checksum::of(payload, 0) == 0),
            protocol if protocol == A::ICMP => Some(checksum::of(&pseudo, 0) == 0),
            _ => None,
        };
    }
    Some(Sums { header, transport })
}

fn judge<A: Control>(model: &mut Model<A>, part: &Part<'_>) {
    let mut packet = Buffer::new(part.frame);
    let verdict = whole(&mut packet, part.direction, model);
    let after = packet.octets;
    match verdict {
        Verdict::Pass(_) | Verdict::Drop(_) | Verdict::Hold | Verdict::Release => {
            assert_eq!(after, part.frame, "{verdict:?} leaves a packet alone")
        }
        Verdict::Local | Verdict::Reply | Verdict::Forward => {
            assert_eq!(after.len(), part.frame.len());
            assert_ne!(after, part.frame, "{verdict:?} gives a packet new addresses");
            let (before, after) = (sums::<A>(part.frame), sums::<A>(&after));
            assert_eq!(before, after, "{verdict:?}");
        }
        Verdict::Answered => {
            let right = sums::<A>(&after).expect("an answer is a packet");
            // An echo is made of what came: its sums are as right as those.
            let is_right = |sums: &Sums| sums.header != Some(false) && sums.transport != Some(false);
            let came_right = sums::<A>(part.frame).is_some_and(|sums| is_right(&sums));
            assert!(
                right.transport.is_some() && (is_right(&right) || !came_right),
                "{right:?}: {after:02x?}"
            );
            let mut copy = part.frame.to_vec();
            let (source, _) = A::addresses(&Octets(&mut copy), ETHERNET).expect("it was read");
            let mut copy = after.clone();
            let (_, destination) = A::addresses(&Octets(&mut copy), ETHERNET).expect("it was made");
            assert_eq!(source, destination, "an answer goes to who asked");
            // RFC 4443, 2.4 (c), and the Ethernet header; echo replies are as long as what was asked.
            assert!(after.len() <= part.frame.len().max(1280 + ETHERNET));
        }
        Verdict::Message
        | Verdict::Error
        | Verdict::New(_)
        | Verdict::Direct(..)
        | Verdict::Returned
        | Verdict::Wrapped
        | Verdict::Answer(_) => panic!("{verdict:?} is not the end"),
    }
}

fn world<A: Sample>() -> Model<A> {
    let mut model = sample(2);
    model.now = 1_000_000;
    model
}

fuzz_target!(|data: &[u8]| {
    let (mut four, mut six) = (world::<V4>(), world::<V6>());
    for part in script(data).take(LONGEST) {
        four.now += part.seconds;
        six.now += part.seconds;
        match part.frame.get(12..14) {
            Some([0x08, 0x00]) => judge(&mut four, &part),
            Some([0x86, 0xdd]) => judge(&mut six, &part),
            _ => {}
        }
    }
});
