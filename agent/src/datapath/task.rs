//! The thread: letters in, maps and programs as they should be, a report out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crds::cilium_node::FullMap;
use ebpf_abi::config::{Device as DeviceEntry, device_flag};
use ebpf_abi::maps;
use ebpf_abi::service::{Frontend, FrontendKey};
use ebpf_abi::socket::choice;
use ebpf_abi::{V4, V6};
use ebpf_datapath::incremental::{Change, Incremental};
use ebpf_datapath::sizes::MapSizes;
use ebpf_datapath::{Limits, Settings, Socket, ThisNode};
use ebpf_loader::{Datapath, Feature, MapFd, Store, Support, Surroundings, Sweeper, Swept, clock};
use tokio::sync::watch;

use super::devices::{self, Device, Unused};
use super::frames::{self, Out};
use super::hooks::Hooks;
use super::mailbox::{Heard, Letter, Mailbox};
use super::objects::Subject;
use super::orphans::Ending;
use super::programs;
use super::report::{self, Counts, Report, State};
use super::{Wish, trouble};
use crate::config::datapath::Switch;
use crate::problem::{Problem, Severity};
use crate::source::kube::chain;

const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LONGEST: Duration = Duration::from_secs(60);
/// So often some of what programs remember is looked at.
const SWEEP: Duration = Duration::from_secs(5);
/// So many thousands of entries each time: half a million of each kind in some minutes.
const PIECES: usize = 8;
/// The folder on the BPF file system that is ours.
pub const FOLDER: &str = "stentor";

/// Runs until the mailbox is closed. What is in the kernel then stays there, and serves.
pub fn run(mailbox: &Mailbox, reports: &watch::Sender<Arc<Report>>) {
    let mut task = Task::default();
    loop {
        let heard = mailbox.take(task.patience());
        // Also where letters never end.
        task.sweep();
        match heard {
            Heard::Closed => return,
            Heard::Quiet if !task.is_retry_due() => continue,
            Heard::Quiet => {}
            Heard::Letter(letter) => task.receive(*letter),
        }
        task.work();
        reports.send_replace(Arc::new(task.report()));
    }
}

#[derive(Debug, Default)]
struct Task {
    /// All objects: a planner that begins anew needs them.
    known: BTreeMap<Subject, Change>,
    wish: Option<Wish>,
    running: Option<Running>,
    /// Why the last attempt did not succeed.
    trouble: Option<Box<Problem>>,
    retry: Option<Retry>,
    /// When to look at what programs remember; `None`: at once.
    sweep: Option<Instant>,
    number: u64,
}

#[derive(Debug, Clone, Copy)]
struct Retry {
    at: Instant,
    pause: Duration,
}

/// The programs are in the kernel.
#[derive(Debug)]
struct Running {
    datapath: Datapath,
    store: Store,
    sweeper: Sweeper,
    planner: Incremental,
    node: ThisNode,
    settings: Settings,
    /// As the maps are, which may be those of an earlier run.
    limits: Limits,
    hooks: Hooks,
    /// Where the programs of sockets hang.
    cgroup: Option<PathBuf>,
    /// Ends those of backends that went.
    ending: Option<Ending>,
    /// What they were told of this node.
    surroundings: Option<Surroundings>,
    devices: MapFd,
    /// What `DEVICES` holds.
    entries: BTreeMap<u32, DeviceEntry>,
    out: BTreeMap<u32, Out>,
    unused: BTreeMap<String, Unused>,
    frontends4: MapFd,
    frontends6: MapFd,
    served: Arc<BTreeSet<Socket>>,
    problems: Vec<Problem>,
    /// As of the last time that all was written.
    refused: Option<Arc<[FullMap]>>,
    features: Vec<(Feature, Support)>,
    counters: Arc<MapFd>,
    writes: u64,
}

impl Task {
    fn patience(&self) -> Option<Duration> {
        let sweep = self.running.as_ref().and(self.sweep);
        let next = self.retry.map(|retry| retry.at).into_iter().chain(sweep).min();
        next.map(|next| next.saturating_duration_since(Instant::now()))
    }

    fn is_retry_due(&self) -> bool {
        self.retry.is_some_and(|retry| retry.at <= Instant::now())
    }

    fn sweep(&mut self) {
        let now = Instant::now();
        if self.sweep.is_some_and(|at| at > now) {
            return;
        }
        self.sweep = Some(now + SWEEP);
        if let Some(running) = &mut self.running {
            for _ in 0..PIECES {
                tell_swept(running.sweeper.sweep_some(running.planner.image(), clock()));
            }
            running.follow_pods();
        }
    }

    fn receive(&mut self, letter: Letter) {
        for (subject, change) in letter.changes {
            if let Some(running) = &mut self.running {
                running.planner.handle(change.clone());
            }
            match &change {
                Change::ServiceGone(_) | Change::SliceGone(_) | Change::PodGone(_) | Change::NodeGone(_) => {
                    self.known.remove(&subject);
                }
                Change::Granted(_, addresses) if addresses.is_empty() => {
                    self.known.remove(&subject);
                }
                Change::Service(_)
                | Change::Slice(_)
                | Change::Pod(_)
                | Change::Node(_)
                | Change::Granted(..) => {
                    self.known.insert(subject, change);
                }
            }
        }
        if letter.wish.is_some() {
            self.wish = letter.wish;
        }
        self.number = letter.number;
    }

    fn work(&mut self) {
        let Some(wish) = &self.wish else { return };
        if wish.config.switch == Switch::Off {
            if let Some(running) = self.running.take() {
                running.leave();
            }
            self.known.clear();
            (self.trouble, self.retry) = (None, None);
            return;
        }
        let done = match &mut self.running {
            Some(running) => running.follow(wish),
            None => Running::start(wish, &self.known).and_then(|mut running| {
                let done = running.follow(wish);
                self.running = Some(running);
                done
            }),
        };
        let again = self
            .running
            .as_ref()
            .is_some_and(|running| running.hooks.has_failed());
        self.trouble = done.err();
        self.retry = (self.trouble.is_some() || again).then(|| {
            let pause = self
                .retry
                .map_or(RETRY_FIRST, |retry| (retry.pause * 2).min(RETRY_LONGEST));
            Retry {
                at: Instant::now() + pause,
                pause,
            }
        });
    }

    fn report(&self) -> Report {
        let on = self
            .wish
            .as_ref()
            .is_some_and(|wish| wish.config.switch == Switch::On);
        let state = match (&self.running, &self.trouble) {
            _ if !on => State::Off,
            (_, Some(_)) => State::Broken,
            (None, None) => State::Starting,
            (Some(_), None) => State::On,
        };
        let report = Report {
            state,
            number: self.number,
            problems: self.trouble.iter().map(|problem| (**problem).clone()).collect(),
            ..Report::default()
        };
        match &self.running {
            Some(running) => running.report(report),
            None => report,
        }
    }
}

impl Running {
    /// Loads the programs over the maps of an earlier run, or over new ones.
    fn start(wish: &Wish, known: &BTreeMap<Subject, Change>) -> Result<Self, Box<Problem>> {
        let elf = programs::elf().map_err(|error| trouble("kernel-programs-missing", &error))?;
        let failed = |error: ebpf_loader::Error| trouble("datapath-not-loaded", &error);
        let folder = wish.config.bpf_root.join(FOLDER);
        // What fails here, loading says better.
        let _ = fs::create_dir_all(&folder);
        let sizes = MapSizes {
            memory: memory(),
            ..wish.config.sizes.clone()
        };
        // What is wrong with them was named where they were read.
        let (entries, _) = sizes.entries();
        let settings = ebpf_loader::Settings { folder, entries };
        let began = Instant::now();
        let datapath = Datapath::load(elf, &settings).map_err(failed)?;
        let store = Store::open(&datapath).map_err(failed)?;
        let image = store.read(&wish.config.settings.seeds).map_err(failed)?;
        tracing::info!(
            folder = %datapath.folder().display(),
            frontends = image.frontends4.len() + image.frontends6.len(),
            took = ?began.elapsed(),
            "the kernel programs are loaded"
        );
        for remade in datapath.remade() {
            tracing::info!(?remade, "a map of an earlier run is made anew");
        }
        let devices = datapath.map(maps::DEVICES).map_err(failed)?;
        let entries = devices.all().map_err(failed)?.into_iter().collect();
        let (node, settings) = (ThisNode::default(), Settings::default());
        let mut planner = Incremental::new(image, node.clone(), settings.clone());
        for change in known.values() {
            planner.handle(change.clone());
        }
        Ok(Self {
            planner,
            node,
            settings,
            limits: store.limits(),
            sweeper: Sweeper::open(&datapath).map_err(failed)?,
            hooks: Hooks::default(),
            cgroup: None,
            ending: None,
            surroundings: None,
            devices,
            entries,
            out: BTreeMap::new(),
            unused: BTreeMap::new(),
            frontends4: datapath.map(maps::FRONTENDS4).map_err(failed)?,
            frontends6: datapath.map(maps::FRONTENDS6).map_err(failed)?,
            served: Arc::default(),
            problems: Vec::new(),
            refused: None,
            features: ebpf_loader::probe(),
            counters: Arc::new(datapath.map(maps::COUNTERS).map_err(failed)?),
            writes: 0,
            datapath,
            store,
        })
    }

    /// Makes everything as it should be. Maps come before programs: a program that starts finds them full.
    fn follow(&mut self, wish: &Wish) -> Result<(), Box<Problem>> {
        let (mut selected, mut pods): (Vec<&Device>, Vec<&Device>) = (Vec::new(), Vec::new());
        self.unused.clear();
        for device in &*wish.devices {
            if devices::leads_to_pod(device, &wish.config.pods) {
                pods.push(device);
                continue;
            }
            match devices::select(device, &wish.config.devices) {
                Ok(()) => selected.push(device),
                Err(why) => {
                    self.unused.insert(device.name.clone(), why);
                }
            }
        }
        self.configure(wish, &selected);
        let mut entries = devices::entries(selected.iter().copied(), &wish.node.addresses);
        entries.extend(devices::pods(pods.iter().copied()));
        let gone = devices::replaced(&self.entries, &entries);
        self.write_devices(entries)?;
        let done = self.store.carry_out(&mut self.planner);
        self.read_back();
        let problems = self.planner.problems();
        let mut deaths = 0;
        let refused = match &done {
            Ok(report) => {
                self.writes += u64::try_from(report.done.writes).unwrap_or(u64::MAX);
                deaths = report.done.deaths;
                self.refused = Some(report::full_maps(&report.refused));
                report.refused.clone()
            }
            Err(_) => Vec::new(),
        };
        let all: BTreeSet<_> = problems.into_iter().chain(refused).collect();
        self.problems = all.iter().map(Problem::from).collect();
        self.hooks
            .follow(&mut self.datapath, &selected, &pods, wish.config.acceleration);
        self.let_out(&selected)?;
        self.follow_sockets(wish);
        self.hooks.see_to_others(&self.datapath);
        if selected.is_empty() {
            self.problems.push(Problem::here(
                Severity::Error,
                "no-device",
                "no device serves: nothing from outside is balanced; `stentor status` says why of each device, and \
                 `devices` names those that are meant",
            ));
        }
        if !gone.is_empty() {
            // The next packet of such a flow begins anew, with an address that answers find.
            let image = self.planner.image();
            tell_swept(self.sweeper.sweep_without(image, clock(), gone));
        } else if deaths > 0 {
            // Whoever gets the address of a backend that went begins with nothing.
            tell_swept(self.sweeper.sweep(self.planner.image(), clock()));
            if let Some(ending) = &self.ending {
                ending.look();
            }
        }
        done.map(drop)
            .map_err(|failure| trouble("map-not-written", &failure))
    }

    /// Hangs the programs of sockets at the cgroup, once; without them packets of this node are not balanced.
    fn follow_sockets(&mut self, wish: &Wish) {
        let cgroup = &wish.config.cgroup_root;
        let stays = |old: &PathBuf| old == cgroup && wish.config.sockets == Switch::On;
        if !self.cgroup.as_ref().is_some_and(stays) {
            self.leave_sockets();
        }
        if wish.config.sockets == Switch::Off {
            return;
        }
        let surroundings = self.surroundings(wish);
        if self.surroundings.as_ref() != Some(&surroundings) {
            match self.datapath.write_surroundings(&surroundings) {
                Ok(()) => self.surroundings = Some(surroundings),
                Err(error) => self.problems.push(*trouble("map-not-written", &error)),
            }
        }
        if self.cgroup.is_some() {
            return;
        }
        match self.datapath.attach_sockets(cgroup) {
            Ok(means) => {
                tracing::info!(cgroup = %cgroup.display(), ?means, "sockets of this node are balanced");
                self.cgroup = Some(cgroup.clone());
                self.follow_pods();
                match Ending::begin(&self.datapath, cgroup.clone()) {
                    Ok(ending) => self.ending = Some(ending),
                    Err(problem) => self.problems.push(*problem),
                }
            }
            Err(error) => self.problems.push(Problem::here(
                Severity::Warning,
                "sockets-not-balanced",
                format!(
                    "sockets of this node are not balanced: {}; set cgroup-root to a cgroup of version 2 with all of them \
                     below it, or bpf-lb-sock to false",
                    chain(&error)
                ),
            )),
        }
    }

    fn leave_sockets(&mut self) {
        self.ending = None;
        if let Some(cgroup) = self.cgroup.take()
            && let Err(error) = self.datapath.detach_sockets(&cgroup)
        {
            tracing::warn!(error = chain(&error), cgroup = %cgroup.display(), "programs of sockets can not be taken off");
        }
    }

    /// What sockets need to know of this node.
    fn surroundings(&self, wish: &Wish) -> Surroundings {
        let listening = &self.node.node_port_addresses;
        Surroundings {
            node4: listening.iter().find_map(|address| match address {
                IpAddr::V4(address) => Some(*address),
                IpAddr::V6(_) => None,
            }),
            node6: listening.iter().find_map(|address| match address {
                IpAddr::V6(address) => Some(*address),
                IpAddr::V4(_) => None,
            }),
            node_ports: self.settings.node_ports.clone(),
            choices: choice::PROTECT_PORTS | choice::EXTERNAL_IPS_OUTSIDE,
            own: self.node.addresses.clone(),
            others: wish.node.others.clone(),
        }
    }

    /// Pods come and go with their network namespaces, and nobody tells.
    fn follow_pods(&self) {
        let Some(cgroup) = &self.cgroup else { return };
        match self.datapath.follow_namespaces(cgroup) {
            Ok(count) => tracing::debug!(count, "network namespaces of pods"),
            Err(error) => tracing::debug!(
                error = chain(&error),
                "network namespaces of pods can not be read"
            ),
        }
    }

    fn configure(&mut self, wish: &Wish, selected: &[&Device]) {
        let of_node = &wish.node.addresses;
        let node = ThisNode {
            name: wish.node.name.clone(),
            labels: wish.node.labels.clone(),
            node_port_addresses: devices::node_port_addresses(
                selected.iter().copied(),
                of_node,
                &wish.config.node_port_addresses,
            ),
            addresses: devices::addresses(&*wish.devices),
        };
        let settings = Settings {
            limits: self.limits,
            ..wish.config.settings.clone()
        };
        if (&node, &settings) != (&self.node, &self.settings) {
            (self.node, self.settings) = (node.clone(), settings.clone());
            self.planner.configure(node, settings);
        }
    }

    /// What a device does for XDP is not known yet where it is new, and stays as it is where not.
    fn write_devices(&mut self, mut wished: BTreeMap<u32, DeviceEntry>) -> Result<(), Box<Problem>> {
        for (index, entry) in &mut wished {
            entry.flags |= self
                .entries
                .get(index)
                .map_or(0, |old| old.flags & !device_flag::POD);
        }
        self.put_devices(wished)
    }

    /// Says by which devices XDP may send, now that it hangs where it does.
    fn let_out(&mut self, selected: &[&Device]) -> Result<(), Box<Problem>> {
        let judged = frames::judge(selected, &self.hooks.xdp());
        let mut wished = self.entries.clone();
        for (index, entry) in &mut wished {
            entry.flags = entry.flags & device_flag::POD | judged.get(index).map_or(0, |(flags, _)| *flags);
        }
        self.out = judged.into_iter().map(|(index, (_, out))| (index, out)).collect();
        self.put_devices(wished)
    }

    fn put_devices(&mut self, wished: BTreeMap<u32, DeviceEntry>) -> Result<(), Box<Problem>> {
        let failed = |error: ebpf_loader::Error| trouble("map-not-written", &error);
        for (index, entry) in &wished {
            if self.entries.get(index) != Some(entry) {
                self.devices.put(index, entry).map_err(failed)?;
                self.writes += 1;
            }
        }
        for index in self.entries.keys().filter(|index| !wished.contains_key(index)) {
            self.devices.remove(index).map_err(failed)?;
            self.writes += 1;
        }
        self.entries = wished;
        Ok(())
    }

    /// What is announced was seen in the kernel's map, not only sent there.
    fn read_back(&mut self) {
        let image = self.planner.image();
        let mut served = BTreeSet::new();
        for (socket, frontend) in image.frontends() {
            if self.served.contains(&socket) || self.is_there(&socket, &frontend) {
                served.insert(socket);
            }
        }
        if served != *self.served {
            self.served = Arc::new(served);
        }
    }

    fn is_there(&self, socket: &Socket, frontend: &Frontend) -> bool {
        let (port, protocol) = (socket.port.to_be(), socket.protocol.number());
        let found = match socket.address {
            IpAddr::V4(a) => {
                self.frontends4
                    .get::<_, Frontend>(&FrontendKey::new(V4::from(a), port, protocol))
            }
            IpAddr::V6(a) => {
                self.frontends6
                    .get::<_, Frontend>(&FrontendKey::new(V6::from(a), port, protocol))
            }
        };
        matches!(found, Ok(Some(found)) if found == *frontend)
    }

    /// Takes the programs off; the flows they had end.
    fn leave(mut self) {
        self.hooks.follow(
            &mut self.datapath,
            &[],
            &[],
            crate::config::datapath::Acceleration::Disabled,
        );
        self.leave_sockets();
        let folder = self.datapath.folder().to_owned();
        drop(self);
        match fs::remove_dir_all(&folder) {
            Ok(()) => tracing::info!(folder = %folder.display(), "the load balancer is switched off"),
            Err(error) => tracing::warn!(folder = %folder.display(), %error, "maps are left behind"),
        }
    }

    fn report(&self, mut report: Report) -> Report {
        report.served = Arc::clone(&self.served);
        report.devices = self.hooks.devices();
        report.out.clone_from(&self.out);
        report.unused.clone_from(&self.unused);
        report.problems.extend(self.problems.iter().cloned());
        report.problems.extend(self.hooks.problems());
        report.ended = self.ending.as_ref().map(Ending::ended).unwrap_or_default();
        report.features.clone_from(&self.features);
        report.counts = self.counts();
        report.refused.clone_from(&self.refused);
        report.pressure = report::pressure(self.planner.image(), &self.limits);
        report.fills = Some(self.sweeper.fills());
        report.writes = self.writes;
        report.counters = Some(Arc::clone(&self.counters));
        report
    }

    fn counts(&self) -> Counts {
        let image = self.planner.image();
        let alive4 = image.backends4.iter().filter(|(place, b)| b.id.lives_at(**place));
        let alive6 = image.backends6.iter().filter(|(place, b)| b.id.lives_at(**place));
        Counts {
            services: self.planner.services(),
            frontends: self.served.len(),
            backends: alive4.count() + alive6.count(),
        }
    }
}

fn tell_swept(swept: Result<Swept, ebpf_loader::Error>) {
    match swept {
        Ok(swept) if swept.deleted.is_empty() => {}
        Ok(swept) => tracing::debug!(seen = swept.seen, deleted = ?swept.deleted, "flows are forgotten"),
        Err(error) => tracing::warn!(error = chain(&error), "flows can not be swept; it is tried again"),
    }
}

/// Octets of this machine; 0 where the kernel does not tell.
fn memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0).saturating_mul(1024)
}
