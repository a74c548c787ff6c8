//! Rows of direct server return by IP in IP, in XDP: over what [`crate::remote`] made, with backends on a node that answers
//! for itself. The wrapper takes the outer header off again; that is in the figures.

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use ebpf_abi::config::{Config, Node};
use ebpf_abi::maps;
use ebpf_abi::packet::TCP;
use ebpf_abi::service::{Backend, Dispatch, Frontend, FrontendKey, Selection, backend_flag};
use ebpf_loader::Hook;

use crate::remote::{self, PORT, XDP_REDIRECT};
use crate::rig::{Ends, LENGTH, Rig, SET, Side, Target};
use crate::{NEW, new_flows, open, row};

const SIDE: Side = Side::Xdp;
const TARGET: Target = Target::Program(Hook::Xdp);
const TABLE: u32 = 251;

pub(crate) fn family<A: Ends>(rig: &mut Rig, name: &str) -> Result<()> {
    remote::node::<A>(rig)?;
    install::<A>(rig)?;
    let title = |what: &str| format!("XDP, {name}, DSR IP in IP, {what}");
    for (flows, goal) in [(1, Some(85)), (1024, None), (65_536, Some(120))] {
        rig.forget::<A>()?;
        established::<A>(rig, flows)?;
        row(rig, &title("established"), SIDE, TARGET, flows, goal)?;
    }
    // Free entries lie now in the order in which others were deleted: anywhere. So it is after hours; peers were measured with
    // new maps, as above.
    rig.forget::<A>()?;
    established::<A>(rig, 65_536)?;
    row(rig, &title("scattered"), SIDE, TARGET, 65_536, None)?;
    new_flows::<A>(rig, &title("new flow"), SIDE, TARGET, PORT, NEW, 250)?;
    settle(rig, 1)?;
    new_flows::<A>(rig, &title("SYN flood"), SIDE, TARGET, PORT, 0, 90)?;
    settle(rig, 0)
}

/// All backends are on one node, behind the router, and Maglev chooses.
fn install<A: Ends>(rig: &Rig) -> Result<()> {
    let there = match A::stranger() {
        IpAddr::V4(there) => Node {
            v4: there.into(),
            ..Node::default()
        },
        IpAddr::V6(there) => Node {
            v6: there.into(),
            ..Node::default()
        },
    };
    rig.map(maps::NODES)?.put(&1_u32, &there)?;
    let backends = rig.map(A::BACKENDS)?;
    let mut ids = Vec::new();
    for n in 1..=u32::from(A::BACKENDS_HERE) {
        let backend: Backend<A> = backends.get(&n)?.context("a backend")?;
        ids.push(backend.id);
        let flags = backend_flag::CLUSTER;
        backends.put(
            &n,
            &Backend {
                flags,
                node: 1,
                ..backend
            },
        )?;
    }
    let table: Vec<_> = ids.into_iter().cycle().take(TABLE as usize).collect();
    rig.map(maps::MAGLEV)?.put_table(SET, &table)?;
    let key = FrontendKey::new(A::of(A::vip()), 80_u16.to_be(), TCP);
    let frontend: Frontend = rig.map(A::FRONTENDS)?.get(&key)?.context("the frontend")?;
    let frontend = Frontend {
        selection: Selection::Maglev.number(),
        dispatch: Dispatch::DsrIpip.number(),
        ..frontend
    };
    rig.map(A::FRONTENDS)?.put(&key, &frontend)?;
    settle(rig, 0)
}

fn settle(rig: &Rig, flow_rate: u32) -> Result<()> {
    let config: Config = rig.map(maps::CONFIG)?.get(&0_u32)?.context("the settings")?;
    Ok(rig
        .map(maps::CONFIG)?
        .put(&0_u32, &Config { flow_rate, ..config })?)
}

fn established<A: Ends>(rig: &mut Rig, flows: u64) -> Result<()> {
    open::<A>(rig, SIDE, TARGET, PORT, flows, 1)?;
    let (verdict, out) = rig.once(SIDE)?;
    let outer = match A::client() {
        IpAddr::V4(_) => 20,
        IpAddr::V6(_) => 40,
    };
    ensure!(
        verdict == XDP_REDIRECT && out.len() == LENGTH + outer,
        "answered {verdict} and made {out:02x?}"
    );
    Ok(())
}
