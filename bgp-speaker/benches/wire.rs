//! Decoding and encoding of UPDATEs: packed full, and one prefix each.
#![allow(clippy::unwrap_used, reason = "a bench")]

use std::net::IpAddr;

use bgp_speaker::types::{Asn, AsnWidth, Family, Prefix, SessionKind};
use bgp_speaker::wire::attr::{self, EncodeContext};
use bgp_speaker::wire::attrs::{AsPath, AsSegment, Attrs, NextHop, Origin};
use bgp_speaker::wire::update::{self, Announce, Carrier, Context, FirstAs};
use bgp_speaker::wire::{Framer, MAX_MESSAGE};
use bytes::{Bytes, BytesMut};
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};

fn main() {
    divan::main();
}

fn asn(number: u32) -> Asn {
    Asn::new(number).unwrap()
}

fn context() -> Context {
    Context {
        asn_width: AsnWidth::Four,
        session: SessionKind::External,
        peer_asn: asn(65020),
        first_as: FirstAs::Peer,
        local_address: None,
        families: vec![Family::IPV4_UNICAST, Family::IPV6_UNICAST],
        ipv6_next_hop: vec![],
    }
}

fn attrs() -> Attrs {
    Attrs {
        origin: Origin::Igp,
        as_path: AsPath(vec![AsSegment::Sequence(vec![asn(65020), asn(65021)])]),
        next_hop: NextHop::Ip("10.0.0.1".parse().unwrap()),
        med: None,
        local_pref: None,
        atomic_aggregate: false,
        aggregator: None,
        communities: vec![0xfde8_0001, 0xfde8_0002],
        ext_communities: vec![],
        large_communities: vec![],
        originator_id: None,
        cluster_list: vec![],
        unknown: vec![],
    }
}

fn prefixes(count: u32) -> Vec<Prefix> {
    (0..count)
        .map(|n| Prefix::host(IpAddr::from((0x0a00_0000 + n).to_be_bytes())))
        .collect()
}

fn attributes() -> BytesMut {
    let mut out = BytesMut::new();
    let encode = EncodeContext {
        asn_width: AsnWidth::Four,
        session: SessionKind::External,
        carrier: Carrier::Fields,
    };
    attr::encode(&attrs(), &encode, &mut out);
    out
}

/// As many messages as these prefixes need, `each` prefixes in one.
fn stream(prefixes: &[Prefix], each: usize, out: &mut BytesMut) {
    let attributes = attributes();
    let next_hop = attrs().next_hop;
    let announce = Announce {
        family: Family::IPV4_UNICAST,
        attributes: &attributes,
        next_hop: &next_hop,
        max_message: MAX_MESSAGE,
    };
    for part in prefixes.chunks(each) {
        let mut rest = part;
        while !rest.is_empty() {
            let taken = update::encode_announce(&announce, rest, out).unwrap();
            rest = rest.get(taken..).unwrap();
        }
    }
}

fn decode(stream: &Bytes, context: &Context) -> usize {
    let mut framer = Framer::new();
    framer.push(stream.clone());
    let mut count = 0;
    while let Some(frame) = framer.next().unwrap() {
        let update = update::decode(&frame.body, context).unwrap();
        count += update
            .announced
            .iter()
            .map(|announced| announced.prefixes.len())
            .sum::<usize>();
    }
    count
}

#[divan::bench(args = [800, 100_000])]
fn decode_packed(bencher: Bencher<'_, '_>, count: u32) {
    let mut out = BytesMut::new();
    stream(&prefixes(count), usize::MAX, &mut out);
    let (octets, context) = (out.freeze(), context());
    bencher
        .counter(ItemsCount::new(count))
        .bench(|| decode(black_box(&octets), &context));
}

#[divan::bench(args = [100_000])]
fn decode_one_prefix_each(bencher: Bencher<'_, '_>, count: u32) {
    let mut out = BytesMut::new();
    stream(&prefixes(count), 1, &mut out);
    let (octets, context) = (out.freeze(), context());
    bencher
        .counter(ItemsCount::new(count))
        .bench(|| decode(black_box(&octets), &context));
}

#[divan::bench(args = [800, 100_000])]
fn encode_packed(bencher: Bencher<'_, '_>, count: u32) {
    let prefixes = prefixes(count);
    let mut out = BytesMut::with_capacity(8_000_000);
    bencher.counter(ItemsCount::new(count)).bench_local(|| {
        out.clear();
        stream(black_box(&prefixes), usize::MAX, &mut out);
        out.len()
    });
}

#[divan::bench(args = [100_000])]
fn encode_one_prefix_each(bencher: Bencher<'_, '_>, count: u32) {
    let prefixes = prefixes(count);
    let mut out = BytesMut::with_capacity(8_000_000);
    bencher.counter(ItemsCount::new(count)).bench_local(|| {
        out.clear();
        stream(black_box(&prefixes), 1, &mut out);
        out.len()
    });
}
