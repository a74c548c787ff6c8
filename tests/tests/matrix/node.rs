//! A node without an agent: loader and planner, and nothing between them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use crds::Object;
use ebpf_abi::config::{Device, PRESENT, setting};
use ebpf_abi::service::{Dispatch, Set};
use ebpf_abi::{BackendId, V4, V6, maps};
use ebpf_datapath::diff::Op;
use ebpf_datapath::incremental::{Change, Incremental};
use ebpf_datapath::{Forwarding, Settings, ThisNode};
use ebpf_loader::{Datapath, Hook, Mode};
use nix::net::if_::if_nametoindex;

use crate::plan::{Family, Site};

pub(crate) fn run(words: &[String]) -> Result<()> {
    let [name, manifests, config] = words else {
        bail!("NAME MANIFESTS CONFIG");
    };
    let site = Site::ALL
        .into_iter()
        .find(|site| site.name() == name)
        .context("no such node")?;
    let config: BTreeMap<String, String> = serde_json::from_str(&fs::read_to_string(config)?)?;
    let value = |key: &str| config.get(key).map(String::as_str).unwrap_or_default();
    let mut settings = Settings::default();
    settings.config.settings |= setting::ENABLED;
    settings.forwarding = match value("bpf-lb-mode") {
        "dsr" => Forwarding::Dsr,
        "hybrid" => Forwarding::Hybrid,
        _ => Forwarding::Snat,
    };
    settings.dsr = match value("bpf-lb-dsr-dispatch") {
        "ipip" => Dispatch::DsrIpip,
        "geneve" => Dispatch::DsrGeneve,
        _ => Dispatch::DsrOption,
    };
    let addresses: BTreeSet<IpAddr> = Family::ALL.map(|family| site.address(family)).into();
    let node = ThisNode {
        name: name.clone(),
        labels: BTreeMap::new(),
        node_port_addresses: addresses.clone(),
        addresses,
    };
    let elf = fs::read(crate::bed::sibling("bpf/stentor-bpf")?)?;
    let entries = maps::ALL
        .iter()
        .filter(|map| map.kind == maps::Kind::LruHash)
        .map(|map| (map.name, map.entries.min(65_536)))
        .collect();
    let mut datapath = Datapath::load(
        &elf,
        &ebpf_loader::Settings {
            folder: PathBuf::from("/sys/fs/bpf"),
            entries,
        },
    )?;
    let index = if_nametoindex("eth0")?;
    device(&datapath, site, index)?;
    let mut planner = Incremental::new(Default::default(), node, settings);
    let text = loop {
        if let Ok(text) = fs::read_to_string(Path::new(manifests).join("objects.yaml")) {
            break text;
        }
        std::thread::yield_now();
    };
    let read = crds::read(Path::new("objects.yaml"), &text);
    anyhow::ensure!(read.bad.is_empty(), "{:?}", read.problems);
    for parsed in read.objects {
        planner.handle(match parsed.object {
            Object::Service(it) => Change::Service((*it).into()),
            Object::EndpointSlice(it) => Change::Slice((*it).into()),
            Object::Node(it) => Change::Node((*it).into()),
            other => bail!("nobody asks for {:?}", other.kind()),
        });
    }
    let step = planner.step();
    println!("{:?}", step.refused);
    println!("{:?}", planner.plan().problems);
    for op in &step.ops {
        carry_out(&datapath, &planner, op)?;
        planner.applied(op);
    }
    let hooks: &[Hook] = match value("bpf-lb-acceleration") {
        "native" => &[Hook::Xdp, Hook::Ingress, Hook::Egress],
        _ => &[Hook::Ingress, Hook::Egress],
    };
    for hook in hooks {
        let attached = datapath.attach(*hook, "eth0", index)?;
        anyhow::ensure!(attached.mode != Mode::Generic, "the device has XDP");
    }
    println!("READY");
    loop {
        std::thread::park();
    }
}

fn device(datapath: &Datapath, site: Site, index: u32) -> Result<()> {
    let mac = fs::read_to_string("/sys/class/net/eth0/address")?;
    let octets: Vec<u8> = mac
        .trim()
        .split(':')
        .map(|octet| u8::from_str_radix(octet, 16))
        .collect::<Result<_, _>>()?;
    let (IpAddr::V4(v4), IpAddr::V6(v6)) = (site.address(Family::V4), site.address(Family::V6)) else {
        bail!("families");
    };
    let device = Device {
        v4: V4::from(v4),
        v6: V6::from(v6),
        mac: octets.try_into().map_err(|_| anyhow::anyhow!("a MAC address"))?,
        mtu: 1500,
    };
    Ok(datapath.map(maps::DEVICES)?.put(&index, &device)?)
}

fn carry_out(datapath: &Datapath, planner: &Incremental, op: &Op) -> Result<()> {
    let map = |map| datapath.map(map);
    match op {
        Op::WriteConfig(config) => map(maps::CONFIG)?.put(&0_u32, config)?,
        Op::WriteFilter { word, bits } => map(maps::FILTER)?.put(word, bits)?,
        Op::WriteNode { place, node } => map(maps::NODES)?.put(place, node)?,
        Op::WriteBackend4 { place, backend } => map(maps::BACKENDS4)?.put(place, backend)?,
        Op::WriteBackend6 { place, backend } => map(maps::BACKENDS6)?.put(place, backend)?,
        Op::AddRange4(key) => map(maps::RANGES4)?.put(key, &PRESENT)?,
        Op::AddRange6(key) => map(maps::RANGES6)?.put(key, &PRESENT)?,
        Op::RemoveRange4(key) => map(maps::RANGES4)?.remove(key)?,
        Op::RemoveRange6(key) => map(maps::RANGES6)?.remove(key)?,
        Op::WriteSlots { first, ids } => {
            let keys: Vec<u32> = (*first..).take(ids.len()).collect();
            map(maps::SLOTS)?.put_all::<u32, BackendId>(&keys, ids)?;
        }
        Op::ForgetSlots { .. } | Op::Wait => {}
        Op::WriteTable { set, table } => {
            map(maps::MAGLEV)?.put_table(*set, &planner.image().fill(table))?;
        }
        Op::RemoveTable { set } => map(maps::MAGLEV)?.remove(set)?,
        Op::AddMember(member) => map(maps::MEMBERS)?.put(member, &PRESENT)?,
        Op::RemoveMember(member) => map(maps::MEMBERS)?.remove(member)?,
        Op::WriteSet { set, word } => map(maps::SETS)?.put(set, word)?,
        Op::RemoveSet { set } => map(maps::SETS)?.put(set, &Set::default())?,
        Op::WriteLive { place, id } => map(maps::LIVE_FRONTENDS)?.put(place, id)?,
        Op::WriteFrontend4 { key, frontend } => map(maps::FRONTENDS4)?.put(key, frontend)?,
        Op::WriteFrontend6 { key, frontend } => map(maps::FRONTENDS6)?.put(key, frontend)?,
        Op::RemoveFrontend4(key) => map(maps::FRONTENDS4)?.remove(key)?,
        Op::RemoveFrontend6(key) => map(maps::FRONTENDS6)?.remove(key)?,
    }
    Ok(())
}
