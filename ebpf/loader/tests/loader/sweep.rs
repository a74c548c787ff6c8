//! What programs remember, and what of it is deleted.

use std::collections::BTreeMap;

use anyhow::ensure;
use ebpf_abi::config::{Affinity, AffinityKey};
use ebpf_abi::flow::{Flow, FragmentKey, FragmentPorts, Tuple};
use ebpf_abi::maglev::Seeds;
use ebpf_abi::{V4, V6, maps};
use ebpf_datapath::sweep::Worthless;
use ebpf_loader::{Store, Sweeper, clock};

use crate::node::{load, node};
use crate::store::{Kind, planner, service, slice};

#[test]
fn what_is_of_a_backend_that_went_is_swept_at_once() {
    node(|folder| {
        let datapath = load(folder, &BTreeMap::new())?;
        let mut store = Store::open(&datapath)?;
        let mut planner = planner(store.read(&Seeds::default())?, Seeds::default());
        planner.handle(service(1, Kind::Affinity, 0));
        planner.handle(slice(1, 3));
        store.carry_out(&mut planner)?;
        let image = planner.image();
        let now = clock();
        ensure!(now > 0, "the clock runs");
        let Some((_, frontend)) = image.frontends().first().copied() else {
            anyhow::bail!("there is no frontend");
        };
        let flows = datapath.map(maps::FLOWS4)?;
        let affinity = datapath.map(maps::AFFINITY4)?;
        let ids: Vec<_> = image.backends4.values().map(|backend| backend.id).collect();
        for (n, id) in (0..).zip(&ids) {
            let key = Tuple {
                source: V4(n),
                ..Tuple::default()
            };
            let flow = Flow::<V4> {
                frontend: frontend.id,
                backend: *id,
                expires: now + 1000,
                ..Flow::default()
            };
            flows.put(&key, &flow)?;
            let client = AffinityKey {
                client: V4(n),
                service: frontend.service,
            };
            let known = Affinity {
                backend: *id,
                used: now,
            };
            affinity.put(&client, &known)?;
        }
        let sweeper = Sweeper::open(&datapath)?;
        let swept = sweeper.sweep(planner.image(), now)?;
        ensure!(swept.seen == 6 && swept.deleted.is_empty(), "{swept:?}");
        planner.handle(slice(1, 1));
        let done = store.carry_out(&mut planner)?.done;
        ensure!(done.deaths == 2, "{done:?}");
        let swept = sweeper.sweep(planner.image(), now)?;
        ensure!(
            swept.deleted == BTreeMap::from([(Worthless::BackendGone, 4)]),
            "{swept:?}"
        );
        ensure!(
            flows.all::<Tuple<V4>, Flow<V4>>()?.len() == 1,
            "the other one stays"
        );
        Ok(())
    });
}

#[test]
fn what_expired_is_swept_in_pieces() {
    node(|folder| {
        let datapath = load(folder, &BTreeMap::from([(maps::FLOWS6.name, 16_384)]))?;
        let image = Store::open(&datapath)?.read(&Seeds::default())?;
        let now = 1000;
        let keys: Vec<_> = (0..8192_u32)
            .map(|n| Tuple::<V6> {
                source_port: u16::try_from(n).expect("small"),
                ..Tuple::default()
            })
            .collect();
        let values: Vec<_> = (0..8192_u32)
            .map(|n| Flow::<V6> {
                expires: if n % 2 == 0 { 10 } else { now + 10 },
                ..Flow::default()
            })
            .collect();
        let flows = datapath.map(maps::FLOWS6)?;
        flows.put_all(&keys, &values)?;
        let fragments = FragmentPorts {
            expires: 10,
            ..FragmentPorts::default()
        };
        datapath
            .map(maps::FRAGMENTS4)?
            .put(&FragmentKey::<V4>::default(), &fragments)?;
        let mut sweeper = Sweeper::open(&datapath)?;
        let (mut calls, mut deleted) = (0, 0);
        while deleted < 4097 && calls < 100 {
            let swept = sweeper.sweep_some(&image, now)?;
            ensure!(swept.seen <= 4096, "{swept:?}");
            deleted += swept.deleted.get(&Worthless::Expired).copied().unwrap_or(0);
            calls += 1;
        }
        ensure!(deleted == 4097 && calls > 6, "{deleted} in {calls} pieces");
        let fills = sweeper.fills();
        let fill = fills.iter().find(|fill| fill.map == maps::FLOWS6.name);
        let fill = fill.map(|fill| (fill.used(), fill.entries));
        ensure!(fill == Some((4096, 16_384)), "{fill:?}");
        ensure!(
            flows.all::<Tuple<V6>, Flow<V6>>()?.len() == 4096,
            "what lives stays"
        );
        Ok(())
    });
}
