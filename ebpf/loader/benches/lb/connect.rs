//! What the programs of sockets add to `connect`: the same calls by the same process, in a cgroup without programs and in one
//! with them. Datagram sockets, so that no packet is sent.
//!
//! Without programs the calls go straight to backends, as many and as mixed as those that programs choose: what the kernel
//! does for a socket that gets another peer than before is no cost of ours.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ebpf_abi::config::{Config, setting};
use ebpf_abi::packet::UDP;
use ebpf_abi::service::{Backend, Frontend, FrontendKey, Selection, Set, flag};
use ebpf_abi::{BackendId, FrontendId, V4, filter, maps};
use ebpf_loader::{Datapath, Settings};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

use crate::rig::elf;

/// Services, each with backends of its own.
const SERVICES: u32 = 10_000;
const BACKENDS_EACH: u32 = 3;
const PORT: u16 = 80;
const ROUNDS: usize = 21;

/// Prints the rows. On a thread with mounts and a network of its own.
pub(crate) fn rows() -> Result<()> {
    let rows = std::thread::spawn(|| {
        let place = Place::new()?;
        let mut datapath = place.load()?;
        serve(&datapath)?;
        measure(&mut datapath, &place)
    });
    rows.join().expect("the rows do not panic")
}

fn measure(datapath: &mut Datapath, place: &Place) -> Result<()> {
    println!(
        "{:44} {:>8} {:>9} {:>9} {:>9} {:>7}",
        "ns per call, added to the call without", "services", "without", "added", "least", "goal"
    );
    let direct = vec![SocketAddr::new(backend(0).into(), PORT)];
    let one = vec![SocketAddr::new(vip(0).into(), PORT)];
    let all: Vec<_> = (0..SERVICES)
        .map(|n| SocketAddr::new(vip(n).into(), PORT))
        .collect();
    let row = |title, services, call, from, to, goal| Row {
        title,
        services,
        call,
        from,
        to,
        goal,
    };
    let (of_one, of_all) = (backends_of(1), backends_of(SERVICES));
    let rows = [
        row(
            "connect, not for a service",
            0,
            again as Call,
            &direct,
            &direct,
            None,
        ),
        row(
            "connect, one socket again and again",
            1,
            again,
            &of_one,
            &one,
            Some(90),
        ),
        row(
            "connect, each time another service",
            SERVICES,
            again,
            &of_all,
            &all,
            Some(350),
        ),
        row("socket, connect, close", 1, anew, &of_one, &one, None),
    ];
    for row in rows {
        let Row {
            title,
            services,
            call,
            from,
            to,
            goal,
        } = row;
        let (mut without, mut with) = (Vec::new(), Vec::new());
        // In turns, as the machine changes from minute to minute.
        for _ in 0..ROUNDS {
            without.push(call(from)?);
            datapath.attach_sockets(&place.cgroup)?;
            call(to)?;
            with.push(call(to)?);
            datapath.detach_sockets(&place.cgroup)?;
        }
        without.sort_unstable();
        with.sort_unstable();
        let least = least(&with) - least(&without);
        let (without, with) = (middle(&without), middle(&with));
        let goal = goal.map_or_else(|| "-".to_owned(), |goal| format!("<= {goal}"));
        println!(
            "{title:44} {services:>8} {without:>9.0} {:>9.0} {least:>9.0} {goal:>7}",
            with - without
        );
    }
    Ok(())
}

struct Row<'a> {
    title: &'static str,
    services: u32,
    call: Call,
    /// Where calls without programs go, and those with them.
    from: &'a [SocketAddr],
    to: &'a [SocketAddr],
    goal: Option<u32>,
}

/// Calls some thousand times; nanoseconds of one.
type Call = fn(&[SocketAddr]) -> Result<Nanoseconds>;
type Nanoseconds = u64;

const CALLS: usize = 20_000;

fn again(to: &[SocketAddr]) -> Result<Nanoseconds> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let begin = Instant::now();
    for target in to.iter().cycle().take(CALLS) {
        socket.connect(target)?;
    }
    let took = begin.elapsed();
    let last = to.get((CALLS - 1) % to.len()).context("an address")?;
    ensure!(socket.peer_addr()? == *last, "the peer is what was asked for");
    Ok(each(took))
}

fn anew(to: &[SocketAddr]) -> Result<Nanoseconds> {
    let begin = Instant::now();
    for target in to.iter().cycle().take(CALLS) {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect(target)?;
    }
    Ok(each(begin.elapsed()))
}

fn each(took: Duration) -> Nanoseconds {
    u64::try_from(took.as_nanos()).unwrap_or(u64::MAX) / CALLS as u64
}

fn middle(sorted: &[u64]) -> f64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or(0) as f64
}

fn least(sorted: &[u64]) -> f64 {
    sorted.first().copied().unwrap_or(0) as f64
}

/// One for each of some thousand calls to so many services in turn, as programs might choose them: some of their calls in a
/// row come to the same one.
fn backends_of(services: u32) -> Vec<SocketAddr> {
    let mut state = 1_u32;
    (0..CALLS as u32)
        .map(|n| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let chosen = n % services * BACKENDS_EACH + (state >> 16) % BACKENDS_EACH;
            SocketAddr::new(backend(chosen).into(), PORT)
        })
        .collect()
}

fn vip(n: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a60_0000 + n)
}

fn backend(n: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a80_0000 + n)
}

/// Writes the services.
fn serve(datapath: &Datapath) -> Result<()> {
    let mut bits: BTreeMap<u32, u64> = BTreeMap::new();
    for n in 0..SERVICES {
        let first = n * BACKENDS_EACH;
        for at in first..first + BACKENDS_EACH {
            let id = BackendId::new(at, 1).context("a backend")?;
            let backend = Backend {
                id,
                address: V4::from(backend(at)),
                port: PORT.to_be(),
                protocol: UDP,
                ..Backend::default()
            };
            datapath.map(maps::BACKENDS4)?.put(&at, &backend)?;
            datapath.map(maps::SLOTS)?.put(&at, &id)?;
        }
        let set = Set::new(first, BACKENDS_EACH as u16, BACKENDS_EACH as u16);
        datapath.map(maps::SETS)?.put(&(n + 1), &set)?;
        let id = FrontendId::new(n, 1).context("a frontend")?;
        datapath.map(maps::LIVE_FRONTENDS)?.put(&n, &id)?;
        let frontend = Frontend {
            id,
            set: n + 1,
            inner_set: n + 1,
            service: n,
            flags: flag::ROUTABLE | flag::LOAD_BALANCER,
            selection: Selection::Random.number(),
            ..Frontend::default()
        };
        let address = V4::from(vip(n));
        let key = FrontendKey::new(address, PORT.to_be(), UDP);
        datapath.map(maps::FRONTENDS4)?.put(&key, &frontend)?;
        let (word, bit) = filter::place(&address);
        *bits.entry(word).or_default() |= bit;
    }
    for (word, bits) in bits {
        datapath.map(maps::FILTER)?.put(&word, &bits)?;
    }
    let config = Config {
        settings: setting::ENABLED,
        ..Config::default()
    };
    datapath.map(maps::CONFIG)?.put(&0_u32, &config)?;
    Ok(())
}

/// A cgroup that this process is in, and a BPF file system.
struct Place {
    bpf: TempDir,
    _cgroups: TempDir,
    cgroup: PathBuf,
    before: PathBuf,
}

impl Place {
    fn new() -> Result<Self> {
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).context("namespaces")?;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&Path>, "/", None::<&Path>, private, None::<&Path>).context("private mounts")?;
        let (bpf, cgroups) = (tempfile::tempdir()?, tempfile::tempdir()?);
        for (kind, folder) in [("bpf", bpf.path()), ("cgroup2", cgroups.path())] {
            mount(Some(kind), folder, Some(kind), MsFlags::empty(), None::<&Path>)
                .with_context(|| format!("mount {kind}"))?;
        }
        for arguments in ["link set lo up", "route add local 10.0.0.0/8 dev lo"] {
            let status = Command::new("ip").args(arguments.split(' ')).status()?;
            ensure!(status.success(), "ip {arguments}");
        }
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
        let before = cgroups.path().join(own.context("a cgroup of version 2")?);
        let cgroup = before.join(format!("stentor-bench-{}", std::process::id()));
        fs::create_dir(&cgroup).context("a cgroup")?;
        let place = Self {
            bpf,
            _cgroups: cgroups,
            cgroup,
            before,
        };
        fs::write(place.cgroup.join("cgroup.procs"), "0").context("enter the cgroup")?;
        Ok(place)
    }

    fn load(&self) -> Result<Datapath> {
        let settings = Settings {
            folder: self.bpf.path().to_owned(),
            entries: BTreeMap::new(),
        };
        Ok(Datapath::load(&elf("stentor-bpf")?, &settings)?)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What stays behind is an empty cgroup.
        let _ = fs::write(self.before.join("cgroup.procs"), "0");
        let _ = fs::remove_dir(&self.cgroup);
        for folder in [self.bpf.path(), self._cgroups.path()] {
            let _ = nix::mount::umount2(folder, nix::mount::MntFlags::MNT_DETACH);
        }
    }
}
