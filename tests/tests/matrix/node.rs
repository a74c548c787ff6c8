//! A node without an agent: loader and planner, and nothing between them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use crds::Object;
use ebpf_abi::config::{Device, device_flag, setting};
use ebpf_abi::service::Dispatch;
use ebpf_abi::{V4, V6, maps};
use ebpf_datapath::incremental::{Change, Incremental};
use ebpf_datapath::{Forwarding, Settings, ThisNode};
use ebpf_loader::{Datapath, Hook, Mode, Store};
use lab::watch::{News, Watch};
use nix::net::if_::if_nametoindex;

use crate::plan::{Family, Site};

/// Where a node of a lab sees its own cgroup.
const CGROUP: &str = "/sys/fs/cgroup";

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
    let mut store = Store::open(&datapath)?;
    settings.limits = store.limits();
    let image = store.read(&settings.seeds)?;
    let mut planner = Incremental::new(image, node, settings);
    let watch = Watch::new(Path::new(manifests))?;
    follow(Path::new(manifests), &mut planner, &mut store)?;
    let hooks: &[Hook] = match value("bpf-lb-acceleration") {
        "native" => &[Hook::Xdp, Hook::Ingress, Hook::Egress],
        _ => &[Hook::Ingress, Hook::Egress],
    };
    for hook in hooks {
        let attached = datapath.attach(*hook, "eth0", index)?;
        anyhow::ensure!(attached.mode != Mode::Generic, "the device has XDP");
    }
    if Path::new(CGROUP).join("cgroup.procs").exists() {
        datapath.attach_sockets(Path::new(CGROUP))?;
    }
    println!("{}", crate::agent::READY);
    loop {
        if lab::watch::wait(&watch)? == News::Files {
            watch.take()?;
            follow(Path::new(manifests), &mut planner, &mut store)?;
        }
    }
}

fn follow(manifests: &Path, planner: &mut Incremental, store: &mut Store) -> Result<()> {
    let text = fs::read_to_string(manifests.join("objects.yaml"))?;
    let read = crds::read(Path::new("objects.yaml"), &text);
    anyhow::ensure!(read.bad.is_empty(), "{:?}", read.problems);
    for parsed in read.objects {
        planner.handle(match parsed.object {
            Object::Service(it) => Change::Service((*it).into()),
            Object::EndpointSlice(it) => Change::Slice((*it).into()),
            Object::Node(it) => Change::Node((*it).into()),
            Object::Pod(it) => Change::Pod((*it).into()),
            other => bail!("nobody asks for {:?}", other.kind()),
        });
    }
    let report = store
        .carry_out(planner)
        .map_err(|failure| anyhow::anyhow!("{failure}"))?;
    println!("{report:?} {:?}", planner.plan().problems);
    println!("{}", text.lines().next().unwrap_or_default());
    Ok(())
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
        flags: device_flag::TAKES_FRAMES,
    };
    Ok(datapath.map(maps::DEVICES)?.put(&index, &device)?)
}
