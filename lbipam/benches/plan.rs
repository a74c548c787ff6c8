//! 10 000 Services over a handful of pools: from nothing, and with everything already held.

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;

use divan::Bencher;
use lbipam::{
    Block, Family, FirstAndLast, Permitted, Pool, Port, Protocol, Request, RequestId, Sharing, TrafficPolicy,
    Wish, plan,
};

fn main() {
    divan::main();
}

const SERVICES: usize = 10_000;

fn pools() -> Vec<Pool> {
    let blocks = ["10.0.0.0/19", "10.1.0.0/19", "fd00::/64", "fd01::/64"];
    let pool = |(name, block): (usize, &&str)| Pool {
        first_and_last: FirstAndLast::Reserved,
        ..Pool::new(
            format!("pool-{name}"),
            vec![Block::Prefix(block.parse().expect("a prefix"))],
        )
    };
    blocks.iter().enumerate().map(pool).collect()
}

fn requests(sharers: usize) -> Vec<Request> {
    let names: BTreeSet<String> = pools().into_iter().map(|pool| pool.name).collect();
    let request = |number: usize| Request {
        id: RequestId {
            namespace: format!("ns-{}", number % 50),
            name: format!("service-{number}"),
        },
        created: Some(i64::try_from(number).expect("small")),
        wish: Wish::Families([Family::Ipv4, Family::Ipv6].into()),
        pools: names.clone(),
        sharing: (sharers > 1).then(|| Sharing {
            key: (number / sharers).to_string(),
            namespaces: Permitted::Any,
        }),
        ports: [Port {
            number: u16::try_from(number % 60_000).expect("small"),
            protocol: Protocol::Tcp,
        }]
        .into(),
        traffic_policy: TrafficPolicy::Cluster,
        selector: BTreeMap::new(),
        held: Vec::new(),
        origins: BTreeMap::new(),
    };
    (0..SERVICES).map(request).collect()
}

#[divan::bench(args = [1, 10])]
fn from_nothing(bencher: Bencher<'_, '_>, sharers: usize) {
    let (pools, requests) = (pools(), requests(sharers));
    bencher.bench_local(|| plan(black_box(&pools), black_box(&requests)));
}

/// All under one key with one port: nobody can share, and each has to find that out.
#[divan::bench]
fn one_key_and_port(bencher: Bencher<'_, '_>) {
    let (pools, mut requests) = (pools(), requests(SERVICES));
    for request in &mut requests {
        let port = |number| Port {
            number,
            protocol: Protocol::Tcp,
        };
        request.ports = [port(443)].into();
        request.id.namespace = "ns".to_owned();
    }
    bencher.bench_local(|| plan(black_box(&pools), black_box(&requests)));
}

/// Pools of many small blocks, each pool overlapping its neighbour.
#[divan::bench(args = [100, 1000])]
fn many_blocks(bencher: Bencher<'_, '_>, blocks: usize) {
    let block = |number: usize| {
        Block::Prefix(
            format!("10.{}.{}.0/28", number / 250, number % 250)
                .parse()
                .expect("a prefix"),
        )
    };
    let pool = |name: usize| {
        let blocks = (name..name + blocks).map(block);
        Pool::new(format!("pool-{name}"), blocks.collect())
    };
    let (pools, requests) = ((0..4).map(pool).collect::<Vec<_>>(), requests(1));
    bencher.bench_local(|| plan(black_box(&pools), black_box(&requests)));
}

#[divan::bench(args = [1, 10])]
fn all_held(bencher: Bencher<'_, '_>, sharers: usize) {
    let (pools, mut requests) = (pools(), requests(sharers));
    let first = plan(&pools, &requests);
    for request in &mut requests {
        request.held = first.decisions[&request.id]
            .addresses
            .iter()
            .map(|given| given.address)
            .collect();
    }
    bencher.bench_local(|| plan(black_box(&pools), black_box(&requests)));
}
