//! Routes in, routes out: insert, decide, dump to new peers, transit, and one prefix on its way.
#![allow(clippy::unwrap_used, reason = "a bench")]

#[path = "rib/setting.rs"]
mod setting;

use bgp_speaker::rib::PeerId;
use bgp_speaker::wire::update;
use bytes::Bytes;
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};

use self::setting::*;

fn main() {
    divan::main();
}

/// Decoded UPDATEs of one peer into an empty table.
#[divan::bench(args = [100_000, 1_000_000])]
fn insert(bencher: Bencher<'_, '_>, count: u32) {
    bencher
        .counter(ItemsCount::new(count))
        .with_inputs(|| (rib(1), updates(1, count, 1)))
        .bench_local_values(|(mut rib, updates)| {
            receive(&mut rib, 1, updates);
            rib
        });
}

/// The same prefixes from one more peer, against so many paths each.
#[divan::bench(args = [1, 2, 8])]
fn decide(bencher: Bencher<'_, '_>, paths: u16) {
    const COUNT: u32 = 100_000;
    bencher
        .counter(ItemsCount::new(COUNT))
        .with_inputs(|| {
            let mut rib = rib(paths + 1);
            for n in 2..paths + 2 {
                receive(&mut rib, n, updates(n, COUNT, 1));
            }
            (rib, updates(1, COUNT, 1))
        })
        .bench_local_values(|(mut rib, updates)| {
            receive(&mut rib, 1, updates);
            rib
        });
}

/// The table to one new peer: judged, packed and encoded.
#[divan::bench(args = [100_000, 1_000_000])]
fn dump(bencher: Bencher<'_, '_>, count: u32) {
    dump_to(bencher, count, 1, 1);
}

/// To eight that come up together.
#[divan::bench(args = [100_000, 1_000_000])]
fn dump_to_8(bencher: Bencher<'_, '_>, count: u32) {
    dump_to(bencher, count, 8, 1);
}

/// With ten prefixes to a set of attributes.
#[divan::bench(args = [100_000])]
fn dump_of_many_sets(bencher: Bencher<'_, '_>, count: u32) {
    dump_to(bencher, count, 1, 10_000);
}

/// Ten thousand Services: as many exact statements, a hundred different outcomes.
#[divan::bench]
fn dump_by_10000_statements(bencher: Bencher<'_, '_>) {
    const COUNT: u32 = 10_000;
    bencher
        .counter(ItemsCount::new(COUNT))
        .with_inputs(|| {
            let mut rib = rib(0);
            originate(&mut rib, COUNT, 1);
            let mut info = info(1);
            info.families[0].1.export = statements(COUNT);
            (rib, info, Vec::with_capacity(10_000))
        })
        .bench_local_values(|(mut rib, info, mut out)| {
            rib.peer_up(PeerId(1), info);
            pull_all(&mut rib, 1..=1, &mut out);
            (rib, out)
        });
}

/// From octets to octets: decode, insert, decide, export, encode, to one peer and to eight.
#[divan::bench(args = [1, 8])]
fn transit(bencher: Bencher<'_, '_>, receivers: u16) {
    transit_of(bencher, receivers, 1);
}

#[divan::bench(args = [1, 8])]
fn transit_of_many_sets(bencher: Bencher<'_, '_>, receivers: u16) {
    transit_of(bencher, receivers, 10_000);
}

/// One prefix changes in a table of 100 000; octets in to octets out.
#[divan::bench(args = [1, 8])]
fn one_prefix(bencher: Bencher<'_, '_>, receivers: u16) {
    let mut rib = rib(1 + receivers);
    receive(&mut rib, 1, updates(1, 100_000, 1));
    let mut out = Vec::new();
    for n in 2..receivers + 2 {
        drain(&mut rib, n, &mut out);
    }
    let messages = [encoded(1, 1, 1), encoded(1, 1, 2)].map(|m| m[0].clone());
    let context = context(1);
    let mut turn = 0;
    bencher.bench_local(|| {
        turn ^= 1;
        let update = update::decode(&messages[turn], &context).unwrap();
        rib.received(PeerId(1), now(), update);
        for n in 2..receivers + 2 {
            out.clear();
            black_box(rib.pull(PeerId(n), 1 << 16, &mut out));
        }
    });
}

fn dump_to(bencher: Bencher<'_, '_>, count: u32, peers: u16, sets: u32) {
    bencher
        .counter(ItemsCount::new(count))
        .with_inputs(|| {
            let mut rib = rib(0);
            originate(&mut rib, count, sets);
            (rib, Vec::with_capacity(100_000))
        })
        .bench_local_values(|(mut rib, mut out)| {
            for n in 1..=peers {
                rib.peer_up(PeerId(n), info(n));
            }
            pull_all(&mut rib, 1..=peers, &mut out);
            (rib, out)
        });
}

fn transit_of(bencher: Bencher<'_, '_>, receivers: u16, sets: u32) {
    const COUNT: u32 = 100_000;
    let messages = encoded(1, COUNT, sets);
    let context = context(1);
    bencher
        .counter(ItemsCount::new(COUNT))
        .with_inputs(|| {
            let mut rib = rib(1 + receivers);
            let mut out: Vec<Bytes> = Vec::with_capacity(100_000);
            pull_all(&mut rib, 1..=1 + receivers, &mut out);
            out.clear();
            (rib, out)
        })
        .bench_local_values(|(mut rib, mut out)| {
            // A read of 64 KiB holds some 16 packed messages.
            for read in messages.chunks(if sets == 1 { 16 } else { 600 }) {
                for body in read {
                    let update = update::decode(body, &context).unwrap();
                    rib.received(PeerId(1), now(), update);
                }
                for n in 2..receivers + 2 {
                    rib.pull(PeerId(n), 1 << 20, &mut out);
                }
            }
            (rib, out)
        });
}
