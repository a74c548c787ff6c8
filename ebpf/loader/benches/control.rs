//! From objects into the maps of the kernel: ten thousand services of ten endpoints. Part of `cargo xtask bench lb`; needs root.
//!
//! ```text
//!   objects --handle--> Incremental --step, carry_out--> maps        maps --read--> Incremental, of the next start
//! ```
//!
//! Processor time is that of this process, all threads together. Waiting for programs that run takes time and no processor.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};
use std::{env, fs};

use anyhow::{Context as _, Result, ensure};
use crds::Stowed;
use crds::k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use crds::k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use crds::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use ebpf_abi::maglev::Seeds;
use ebpf_abi::maps;
use ebpf_abi::service::Selection;
use ebpf_datapath::ThisNode;
use ebpf_datapath::incremental::{Change, Incremental};
use ebpf_loader::{Datapath, Done, Settings, Store};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::time::{ClockId, clock_gettime};

const SERVICES: u32 = 10_000;
const ENDPOINTS: u32 = 10;
/// Of the rows about Maglev.
const TABLES: u32 = 1000;
/// Of the row about one endpoint.
const CHANGES: u32 = 50;

fn main() -> Result<()> {
    let mut names = env::args().skip(1).filter(|word| !word.starts_with('-'));
    if names.next().is_some_and(|name| !"control".contains(&name)) {
        return Ok(());
    }
    if !nix::unistd::geteuid().is_root() {
        println!("control: skipped: kernel programs need root");
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWNS).context("mounts of its own")?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&Path>, "/", None::<&Path>, private, None::<&Path>).context("private mounts")?;
    let folder = tempfile::tempdir()?;
    mount(
        Some("bpf"),
        folder.path(),
        Some("bpf"),
        MsFlags::empty(),
        None::<&Path>,
    )
    .context("a BPF file system")?;
    let done = rows(folder.path());
    umount2(folder.path(), MntFlags::MNT_DETACH).context("unmount")?;
    done
}

fn rows(folder: &Path) -> Result<()> {
    println!("load before: {}", fs::read_to_string("/proc/loadavg")?.trim());
    println!(
        "{:58} {:>10} {:>10} {:>8} {:>6} {:>9}",
        "control", "time", "processor", "writes", "waits", "goal"
    );
    let datapath = load(&folder.join("random"))?;
    let objects = objects(SERVICES);
    let (mut store, mut planner) = start(&datapath, Selection::Random)?;
    let clock = Clock::now()?;
    for change in &objects {
        planner.handle(change.clone());
    }
    let done = store.carry_out(&mut planner)?.done;
    clock.row(
        "10k services of 10 endpoints, from nothing into the maps",
        1,
        done,
        "1.5 s",
    )?;

    let clock = Clock::now()?;
    let mut all = Done::default();
    for n in 0..CHANGES {
        planner.handle(slice(5000, ENDPOINTS + 1 - n % 2));
        let done = store.carry_out(&mut planner)?.done;
        all.writes += done.writes;
        all.waits += done.waits;
    }
    clock.row("one endpoint of them more or less", CHANGES, all, "1 ms")?;

    let before = Clock::now()?;
    let (mut store, mut again) = start(&datapath, Selection::Random)?;
    for change in &objects {
        again.handle(change.clone());
    }
    again.handle(slice(5000, ENDPOINTS));
    let done = store.carry_out(&mut again)?.done;
    before.row("a restart, nothing changed", 1, done, "0 writes")?;
    ensure!(done == Done::default(), "it wrote");
    drop((store, planner, again, datapath));

    let datapath = load(&folder.join("maglev"))?;
    let (mut store, mut planner) = start(&datapath, Selection::Maglev)?;
    let memory = memory()?;
    let clock = Clock::now()?;
    for change in crate::objects(TABLES) {
        planner.handle(change);
    }
    let done = store.carry_out(&mut planner)?.done;
    clock.row(
        "1k services of 10 endpoints with Maglev, from nothing",
        1,
        done,
        "",
    )?;
    let tables = crate::memory()?.saturating_sub(memory);
    println!(
        "{:58} {:>7} MB {:>37}",
        "their tables of 16381 places",
        tables / 1000,
        "70 MB"
    );
    let clock = Clock::now()?;
    let mut all = Done::default();
    for n in 0..CHANGES {
        planner.handle(slice(500, ENDPOINTS + 1 - n % 2));
        let done = store.carry_out(&mut planner)?.done;
        all.writes += done.writes;
        all.waits += done.waits;
    }
    clock.row("one endpoint of them more or less", CHANGES, all, "1 ms")?;
    println!("load after: {}", fs::read_to_string("/proc/loadavg")?.trim());
    Ok(())
}

/// When something began.
struct Clock {
    wall: Instant,
    processor: Duration,
}

impl Clock {
    fn now() -> Result<Self> {
        Ok(Self {
            wall: Instant::now(),
            processor: Duration::from(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?),
        })
    }

    /// What it took, for each of so many.
    fn row(&self, name: &str, times: u32, done: Done, goal: &str) -> Result<()> {
        let wall = self.wall.elapsed() / times;
        let processor = Duration::from(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?) - self.processor;
        let times = usize::try_from(times)?;
        println!(
            "{name:58} {:>7.2} ms {:>7.2} ms {:>8} {:>6} {goal:>9}",
            wall.as_secs_f64() * 1000.0,
            processor.as_secs_f64() * 1000.0 / times as f64,
            done.writes / times,
            done.waits / times,
        );
        Ok(())
    }
}

fn load(folder: &Path) -> Result<Datapath> {
    let bench = env::current_exe()?;
    // Built by cargo's own profile for them: target/release/deps/control.
    let target = bench.ancestors().nth(3).context("a target folder")?;
    let path = target.join("bpf/stentor-bpf");
    let elf =
        fs::read(&path).with_context(|| format!("read {}: `cargo xtask build` makes it", path.display()))?;
    let settings = Settings {
        folder: folder.to_owned(),
        entries: BTreeMap::from([(maps::BACKENDS4.name, 262_144), (maps::BACKENDS6.name, 262_144)]),
    };
    Ok(Datapath::load(&elf, &settings)?)
}

/// As an agent does it.
fn start(datapath: &Datapath, selection: Selection) -> Result<(Store, Incremental)> {
    let store = Store::open(datapath)?;
    let settings = ebpf_datapath::Settings {
        selection,
        limits: store.limits(),
        ..ebpf_datapath::Settings::default()
    };
    let node = ThisNode {
        name: "node-1".to_owned(),
        ..ThisNode::default()
    };
    let planner = Incremental::new(store.read(&Seeds::default())?, node, settings);
    Ok((store, planner))
}

/// Kilobytes of memory of the kernel that maps are made of.
fn memory() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmallocUsed:"));
    let number = line.context("VmallocUsed")?.trim().trim_end_matches(" kB");
    Ok(number.parse::<u64>()? * 1024 / 1000)
}

fn objects(services: u32) -> Vec<Change> {
    let service = |n: u32| {
        Change::Service(Stowed::new(Service {
            metadata: metadata(n),
            spec: Some(ServiceSpec {
                cluster_ips: Some(vec![Ipv4Addr::from(0x0a60_0000 + n).to_string()]),
                ports: Some(vec![ServicePort {
                    port: 80,
                    ..ServicePort::default()
                }]),
                ..ServiceSpec::default()
            }),
            status: None,
        }))
    };
    (0..services)
        .flat_map(|n| [service(n), slice(n, ENDPOINTS)])
        .collect()
}

fn slice(n: u32, endpoints: u32) -> Change {
    let endpoint = |of: u32| Endpoint {
        addresses: vec![Ipv4Addr::from(0x0a80_0000 + n * 16 + of).to_string()],
        node_name: Some(format!("node-{}", (n + of) % 100)),
        ..Endpoint::default()
    };
    let mut metadata = metadata(n);
    metadata.labels = metadata
        .name
        .clone()
        .map(|name| [("kubernetes.io/service-name".to_owned(), name)].into());
    Change::Slice(Stowed::new(EndpointSlice {
        metadata,
        address_type: "IPv4".to_owned(),
        endpoints: Some((0..endpoints).map(endpoint).collect()),
        ports: Some(vec![EndpointPort {
            port: Some(8080),
            ..EndpointPort::default()
        }]),
    }))
}

fn metadata(n: u32) -> ObjectMeta {
    let name = Some(format!("service-{n}"));
    ObjectMeta {
        name: name.clone(),
        namespace: Some("bench".to_owned()),
        uid: name,
        ..ObjectMeta::default()
    }
}
