//! The programs and the wrapper around them, loaded beside everything else on this machine.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context as _, Result};
use aya::maps::{Array, HashMap, MapData, ProgramArray};
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use ebpf_abi::config::{Config, setting};
use ebpf_abi::flow::{Flow, Tuple};
use ebpf_abi::maps::{self, Map};
use ebpf_abi::packet::TCP;
use ebpf_abi::service::{Backend, Frontend, FrontendKey, Selection, Set, backend_flag, flag};
use ebpf_abi::{BackendId, FrontendId, V4, V6, checksum, filter};
use ebpf_loader::{Datapath, Hook, MapFd, Settings, Size};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, unshare};
use nix::unistd::Pid;

use crate::remote;

/// Octets of every packet here.
pub(crate) const LENGTH: usize = 80;
const WORDS: usize = LENGTH / 8;
/// The backends of the service.
pub(crate) const SET: u32 = 3;

/// Which wrapper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Xdp,
    Tc,
}

/// What the wrapper calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Nothing,
    Program(Hook),
    Floor(&'static str),
}

/// Whose address and port make the flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    V4Source = 0,
    V4Destination = 1,
    V6Source = 2,
    V6Destination = 3,
}

/// The addresses of a family.
pub(crate) trait Ends: maps::Maps {
    const SOURCE: End;
    const DESTINATION: End;
    /// Backends of the service, all on this node.
    const BACKENDS_HERE: u8 = 3;
    fn of(address: IpAddr) -> Self;
    fn client() -> IpAddr;
    fn vip() -> IpAddr;
    fn stranger() -> IpAddr;
    fn backend(n: u8) -> IpAddr;
}

impl Ends for V4 {
    const SOURCE: End = End::V4Source;
    const DESTINATION: End = End::V4Destination;
    fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(_) => unreachable!("the addresses of this family are below"),
        }
    }
    fn client() -> IpAddr {
        [198, 51, 100, 1].into()
    }
    fn vip() -> IpAddr {
        [192, 0, 2, 1].into()
    }
    fn stranger() -> IpAddr {
        [203, 0, 113, 1].into()
    }
    fn backend(n: u8) -> IpAddr {
        [10, 0, 0, n].into()
    }
}

impl Ends for V6 {
    const SOURCE: End = End::V6Source;
    const DESTINATION: End = End::V6Destination;
    fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V6(address) => address.into(),
            IpAddr::V4(_) => unreachable!("the addresses of this family are below"),
        }
    }
    fn client() -> IpAddr {
        [0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 1].into()
    }
    fn vip() -> IpAddr {
        [0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 1].into()
    }
    fn stranger() -> IpAddr {
        [0x2001, 0xdb8, 0xe, 0, 0, 0, 0, 1].into()
    }
    fn backend(n: u8) -> IpAddr {
        [0xfd00, 0, 0, 0, 0, 0, 0, u16::from(n)].into()
    }
}

/// Everything that is loaded.
#[derive(Debug)]
pub(crate) struct Rig {
    wrapper: Ebpf,
    datapath: Datapath,
    maps: Vec<(Map, MapFd)>,
    /// The kernel reads the protocol of a run in tc from it.
    packet: [u8; LENGTH],
}

impl Rig {
    /// On one processor, with mounts and a network of its own: what an agent on this machine has is never touched.
    pub(crate) fn load() -> Result<Self> {
        let mut processors = CpuSet::new();
        processors.set(usize::from(std::thread::available_parallelism()?.get() > 1))?;
        sched_setaffinity(Pid::from_raw(0), &processors).context("a processor of its own")?;
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)
            .context("mounts and a network of its own")?;
        remote::run("ip link set lo up")?;
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
        let settings = Settings {
            folder: folder.path().to_owned(),
            entries: BTreeMap::new(),
        };
        let datapath = Datapath::load(&elf("stentor-bpf")?, &settings)?;
        let mut wrapper = EbpfLoader::new().load(&elf("stentor-bench")?)?;
        for (name, program) in wrapper.programs_mut() {
            match program {
                aya::programs::Program::Xdp(program) => program.load(),
                aya::programs::Program::SchedClassifier(program) => program.load(),
                _ => continue,
            }
            .with_context(|| format!("the kernel refuses {name}"))?;
        }
        let maps = maps::ALL
            .iter()
            .map(|map| Ok((*map, datapath.map(*map)?)))
            .collect::<Result<_>>()?;
        umount2(folder.path(), MntFlags::MNT_DETACH).context("unmount")?;
        Ok(Self {
            wrapper,
            datapath,
            maps,
            packet: [0; LENGTH],
        })
    }

    pub(crate) fn map(&self, map: Map) -> Result<&MapFd> {
        let found = self.maps.iter().find(|(other, _)| *other == map);
        Ok(&found.context("a map that is not in the table")?.1)
    }

    /// Makes the wrapper call this from now on.
    pub(crate) fn aim(&mut self, side: Side, target: Target) -> Result<()> {
        let program = match target {
            Target::Nothing => None,
            Target::Program(hook) => Some(self.datapath.program_fd(hook)?.try_clone()?),
            Target::Floor(name) => {
                let program = self.wrapper.program(name).context("a floor")?;
                Some(program.fd()?.try_clone()?)
            }
        };
        let map = match side {
            Side::Xdp => "PROGRAM_XDP",
            Side::Tc => "PROGRAM_TC",
        };
        let map = self.wrapper.map_mut(map).context("the wrapper's programs")?;
        let mut programs = ProgramArray::try_from(map)?;
        match program {
            Some(program) => programs.set(0, &program, 0)?,
            // It may be empty already.
            None => drop(programs.clear_index(&0)),
        }
        Ok(())
    }

    /// The packet from now on, and how many flows it is of: a power of two, or `u64::MAX` for a new one each time.
    pub(crate) fn template(&mut self, packet: &[u8; LENGTH], flows: u64, end: End) -> Result<()> {
        self.template_from(0, packet, flows, end)
    }

    /// The same, and which of the flows is the next.
    pub(crate) fn template_from(
        &mut self,
        first: u64,
        packet: &[u8; LENGTH],
        flows: u64,
        end: End,
    ) -> Result<()> {
        self.packet = *packet;
        let mut template = [0_u64; WORDS + 3];
        let (words, _) = packet.as_chunks::<8>();
        for (place, word) in template.iter_mut().zip(words) {
            *place = u64::from_ne_bytes(*word);
        }
        template[WORDS] = first;
        template[WORDS + 1] = if flows == u64::MAX { flows } else { flows - 1 };
        template[WORDS + 2] = end as u64;
        let map = self.wrapper.map_mut("TEMPLATE").context("the template")?;
        let mut map: Array<&mut MapData, [u64; WORDS + 3]> = Array::try_from(map)?;
        map.set(0, template, 0)?;
        Ok(())
    }

    /// One packet: the verdict, and what became of it.
    pub(crate) fn once(&self, side: Side) -> Result<(u32, Vec<u8>)> {
        let mut out = vec![0; 256];
        let (verdict, length, _) = self.run(side, 1, Some(&mut out))?;
        out.truncate(length as usize);
        Ok((verdict, out))
    }

    /// So many packets; nanoseconds for each.
    pub(crate) fn repeat(&self, side: Side, packets: u64) -> Result<u32> {
        let (_, _, took) = self.run(side, u32::try_from(packets)?, None)?;
        Ok(took)
    }

    fn run(&self, side: Side, repeat: u32, out: Option<&mut [u8]>) -> Result<(u32, u32, u32)> {
        let options = TestRunOptions {
            data_in: Some(&self.packet),
            data_out: out,
            repeat,
            ..TestRunOptions::new()
        };
        let name = match side {
            Side::Xdp => "wrap_xdp",
            Side::Tc => "wrap_tc",
        };
        let program = self.wrapper.program(name).context("a wrapper")?;
        let ran = match side {
            Side::Xdp => <&Xdp>::try_from(program)?.test_run(options)?,
            Side::Tc => <&SchedClassifier>::try_from(program)?.test_run(options)?,
        };
        Ok((
            ran.return_value,
            ran.data_size_out,
            u32::try_from(ran.duration.as_nanos())?,
        ))
    }

    /// One service with backends on this node, chosen at random.
    pub(crate) fn node<A: Ends>(&self) -> Result<()> {
        const FIRST: u32 = 100;
        let map = |map| self.map(map);
        let watch = |address: A| -> Result<()> {
            let (word, bit) = filter::place(&address);
            let bits: u64 = map(maps::FILTER)?.get(&word)?.unwrap_or(0);
            Ok(map(maps::FILTER)?.put(&word, &(bits | bit))?)
        };
        watch(A::of(A::vip()))?;
        let count = A::BACKENDS_HERE;
        for n in 1..=count {
            let id = BackendId::new(n.into(), 1).context("an id")?;
            let backend = Backend {
                id,
                address: A::of(A::backend(n)),
                port: 8080_u16.to_be(),
                flags: backend_flag::LOCAL,
                ..Backend::default()
            };
            watch(backend.address)?;
            map(A::BACKENDS)?.put(&u32::from(n), &backend)?;
            map(maps::SLOTS)?.put(&(FIRST + u32::from(n) - 1), &id.0)?;
        }
        map(maps::SETS)?.put(&SET, &Set::new(FIRST, count.into(), count.into()))?;
        let id = FrontendId::new(5, 1).context("an id")?;
        map(maps::LIVE_FRONTENDS)?.put(&5_u32, &id)?;
        let frontend = Frontend {
            id,
            set: SET,
            inner_set: SET,
            service: 9,
            flags: flag::ROUTABLE | flag::LOAD_BALANCER,
            selection: Selection::Random.number(),
            ..Frontend::default()
        };
        let key = FrontendKey::new(A::of(A::vip()), 80_u16.to_be(), TCP);
        map(A::FRONTENDS)?.put(&key, &frontend)?;
        let config = Config {
            maglev_size: 251,
            settings: setting::ENABLED,
            ..Config::default()
        };
        Ok(map(maps::CONFIG)?.put(&0_u32, &config)?)
    }

    /// How large a program is.
    pub(crate) fn size(&self, hook: Hook) -> Result<Size> {
        Ok(self.datapath.size(hook)?)
    }

    /// How many entries the flows of a family have.
    pub(crate) fn entries<A: Ends>(&self) -> Result<usize> {
        let (kept, opening) = (self.map(A::FLOWS)?, self.map(A::OPENING)?);
        Ok(kept.all::<Tuple<A>, Flow<A>>()?.len() + opening.all::<Tuple<A>, Flow<A>>()?.len())
    }

    /// Makes room where the floors insert.
    pub(crate) fn forget_floor(&mut self) -> Result<()> {
        let map = self.wrapper.map_mut("FLOOR_OPENING").context("the floor's map")?;
        let mut map: HashMap<&mut MapData, [u32; 4], [u32; 7]> = HashMap::try_from(map)?;
        let keys: Vec<_> = map.keys().collect::<Result<_, _>>()?;
        keys.iter().try_for_each(|key| map.remove(key))?;
        Ok(())
    }

    /// Deletes all flows of a family.
    pub(crate) fn forget<A: Ends>(&self) -> Result<()> {
        for map in [self.map(A::FLOWS)?, self.map(A::OPENING)?] {
            let all = map.all::<Tuple<A>, Flow<A>>()?.into_iter();
            let keys: Vec<_> = all.map(|(key, _)| key).collect();
            map.remove_all(&keys)?;
        }
        Ok(())
    }
}

/// A frame of TCP without options, its checksums right.
pub(crate) fn frame(source: SocketAddr, destination: SocketAddr, flags: u8) -> [u8; LENGTH] {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    let octets = |address| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let addresses = [octets(source.ip()), octets(destination.ip())].concat();
    let (kind, header) = if source.is_ipv4() {
        (0x0800_u16, 20)
    } else {
        (0x86dd, 40)
    };
    let payload = (LENGTH - 14 - header) as u16;
    frame.extend(kind.to_be_bytes());
    if source.is_ipv4() {
        let mut header = vec![0x45, 0];
        header.extend((payload + 20).to_be_bytes());
        header.extend([0, 7, 0, 0, 64, TCP, 0, 0]);
        header.extend(&addresses);
        let sum = checksum::of(&header, 0).to_ne_bytes();
        header[10..12].copy_from_slice(&sum);
        frame.extend(header);
    } else {
        frame.extend([0x60, 0, 0, 0]);
        frame.extend(payload.to_be_bytes());
        frame.extend([TCP, 64]);
        frame.extend(&addresses);
    }
    let mut segment = source.port().to_be_bytes().to_vec();
    segment.extend(destination.port().to_be_bytes());
    segment.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 1, 0, 0, 0, 0, 0]);
    segment.resize(payload.into(), 0);
    let pseudo = [&addresses, &[0, TCP][..], &payload.to_be_bytes(), &segment].concat();
    let sum = checksum::of(&pseudo, 0).to_ne_bytes();
    segment[16..18].copy_from_slice(&sum);
    frame.extend(segment);
    frame.try_into().expect("as long as it was made")
}

/// What `cargo xtask build` made, beside this very program in cargo's target folder.
pub(crate) fn elf(name: &str) -> Result<Vec<u8>> {
    let bench = env::current_exe()?;
    let target = bench
        .ancestors()
        .nth(3)
        .map(Path::to_owned)
        .unwrap_or_else(PathBuf::new);
    let path = target.join("bpf").join(name);
    fs::read(&path).with_context(|| format!("read {}: `cargo xtask build` makes it", path.display()))
}
