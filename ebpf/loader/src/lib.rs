//! The shell around the kernel programs: it loads them, pins their maps, attaches them to devices, and carries keys and
//! values. It decides nothing; what is written is planned in `ebpf-datapath`, by the layouts of `ebpf-abi`, and carried out by
//! the [`Store`].
//!
//! ```text
//!   stentor-bpf (ELF) --> Datapath::load --> maps, pinned in <bpffs>/v<ABI>/maps   --> MapFd: single and batched access
//!                                        \-> stages --> arrays, pinned in <bpffs>/v<ABI>/stages
//!                                        \-> programs --> attach --> links, pinned in <bpffs>/v<ABI>/links
//! ```
//!
//! A start finds the maps of the one before and keeps them, and replaces the program behind each pinned link at once: no
//! packet meets an empty hook or an empty map. Maps of another ABI version are in another folder, and are never touched.
//!
//! Nothing is global. The folder is the caller's, so two agents on one machine with folders of their own never meet.
//!
//! Deliberately not here: an opinion on limits (no rlimit is raised; kernels since 5.11 account maps to the cgroup), and
//! devices without Ethernet headers.

mod access;
mod attach;
mod cgroup;
mod diag;
mod events;
mod flows;
mod grace;
mod kernel;
mod mapped;
mod netns;
mod orphans;
mod peers;
mod pinned;
mod probe;
mod programs;
mod resize;
mod run;
mod stages;
mod store;
mod sweep;
pub mod tables;
mod version;
mod walk;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aya::programs::{ProgramError, SchedClassifier, Xdp};
use aya::{Ebpf, EbpfError, EbpfLoader};
use ebpf_abi::maps::{self, Kind, Map};

pub use access::MapFd;
pub use attach::{Attached, Detached, Hook, Mode};
pub use cgroup::{Means, SocketHook};
pub use events::{Interest, Listener};
pub use flows::{Entry, Flows};
pub use netns::Surroundings;
pub use orphans::{Aborted, Orphans};
pub use pinned::{Pinned, now};
pub use probe::{Feature, Sums, Support, Without, probe};
pub use programs::ProgramInfo;
pub use resize::Remade;
pub use run::{Ran, Size};
pub use store::{Done, Failure, Report, Store};
pub use sweep::{Fill, Sweeper, Swept};
pub use version::{Dropped, remove};

/// What goes wrong between here and the kernel. The kernel's own words are in the source.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{} is not on a BPF file system: mount one there (mount -t bpf bpf DIR), or name another folder", .0.display())]
    NoBpffs(PathBuf),
    #[error("cannot make, read or clean {}", .path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("the kernel programs cannot be loaded")]
    Load(#[from] EbpfError),
    #[error("the kernel refuses the program {program}")]
    Refused {
        program: &'static str,
        source: Box<ProgramError>,
    },
    #[error("there is no program {0} in the file of the kernel programs")]
    NoProgram(&'static str),
    #[error("there is no array of stages {0} in the file of the kernel programs")]
    NoStages(&'static str),
    #[error("the map {name} has keys of {key} and values of {value} octets, not those of this version")]
    Layout {
        name: &'static str,
        key: u32,
        value: u32,
    },
    #[error("{call} on the map {map} failed")]
    Access {
        map: &'static str,
        call: &'static str,
        source: io::Error,
    },
    #[error("{program} cannot be attached to {device}")]
    Attach {
        program: &'static str,
        device: String,
        source: io::Error,
    },
    #[error(
        "{device} has an XDP program of somebody else, which stays: {program} is not attached there, tc does its work"
    )]
    Occupied { program: &'static str, device: String },
    #[error("{program} cannot be attached to {device}: there is no device {index} any more")]
    DeviceGone {
        program: &'static str,
        device: String,
        index: u32,
    },
    #[error("network namespaces cannot be looked at")]
    Namespace(#[source] io::Error),
    #[error("sockets can not be asked for or ended (sock_diag, CONFIG_INET_DIAG_DESTROY)")]
    Diag(#[source] io::Error),
    #[error(
        "no maps of this version are pinned at {} (there: {others}): has an agent with the load balancer run on this node? \
         Another folder is chosen with --bpf-root",
        path.display()
    )]
    NotPinned {
        path: PathBuf,
        others: String,
        source: io::Error,
    },
    #[error("{0} listen already, and there is no place for more: end one of them")]
    NoPlace(u32),
    #[error("{call} on the link {link} failed")]
    Link {
        link: String,
        call: &'static str,
        source: io::Error,
    },
    #[error("running {program} failed")]
    Run {
        program: &'static str,
        source: io::Error,
    },
}

/// How the programs are to be loaded.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A folder on a BPF file system, such as `/sys/fs/bpf/stentor`; it is made. The version's own folder is made in it.
    pub folder: PathBuf,
    /// Elements of maps where they are not those of the table in `ebpf_abi::maps`. A map of an earlier start that has
    /// another size is made anew, with what fits: see [`Datapath::remade`].
    pub entries: BTreeMap<&'static str, u32>,
}

/// The programs in the kernel, and their maps.
#[derive(Debug)]
pub struct Datapath {
    ebpf: Ebpf,
    folder: PathBuf,
    remade: Vec<Remade>,
}

/// Seconds of the clock that programs read: [`Sweeper`] measures by it when something expired.
pub fn clock() -> u32 {
    kernel::clock()
}

impl Datapath {
    /// Loads the programs. Maps that are pinned in the folder are used as they are, others are made and pinned.
    pub fn load(elf: &[u8], settings: &Settings) -> Result<Self, Error> {
        Self::load_with(elf, settings, Sums::of_kernel())
    }

    /// The same, with another way to keep checksums right than the kernel's newest.
    pub fn load_with(elf: &[u8], settings: &Settings, sums: Sums) -> Result<Self, Error> {
        // What is not there yet is made where its parent is.
        let there = settings.folder.ancestors().find(|folder| folder.exists());
        if !there.is_some_and(kernel::is_bpffs) {
            return Err(Error::NoBpffs(settings.folder.clone()));
        }
        let folder = settings.folder.join(version::name(ebpf_abi::ABI_VERSION));
        let pins = folder.join("maps");
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Folder { path, source }
        };
        for path in [&pins, &folder.join("links"), &folder.join(stages::FOLDER)] {
            fs::create_dir_all(path).map_err(failed(path))?;
        }
        let mut loader = EbpfLoader::new();
        let mut old = Vec::new();
        for map in maps::ALL {
            let entries = settings.entries.get(map.name).copied().unwrap_or(map.entries);
            old.extend(resize::take(*map, entries, &pins).map_err(failed(&pins.join(map.name)))?);
            loader.map_pin_path(map.name, pins.join(map.name));
            if map.kind != Kind::SocketStorage {
                loader.map_max_entries(map.name, entries);
            }
        }
        let sums = sums.number();
        loader.override_global("IPV6_SUMS", &sums, true);
        let ebpf = loader.load(elf)?;
        let remade = old.iter().map(|old| old.hand_over(&pins));
        let remade: Vec<Remade> = remade.collect::<Result<_, _>>().map_err(failed(&pins))?;
        let mut datapath = Self { ebpf, folder, remade };
        for hook in Hook::ALL {
            datapath.load_program(hook)?;
        }
        datapath.load_stages()?;
        for map in maps::ALL {
            datapath.map(*map)?;
        }
        Ok(datapath)
    }

    /// Maps of an earlier start that had another size or layout, and what became of what they held.
    pub fn remade(&self) -> &[Remade] {
        &self.remade
    }

    /// A map, by its row in the table of maps.
    pub fn map(&self, map: Map) -> Result<MapFd, Error> {
        MapFd::open(map, &self.folder.join("maps"))
    }

    /// The folder of this version.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn load_program(&mut self, hook: Hook) -> Result<(), Error> {
        let program = hook.program();
        let refused = |source| Error::Refused {
            program,
            source: Box::new(source),
        };
        match hook {
            Hook::Xdp => self.xdp()?.load().map_err(refused),
            Hook::Ingress | Hook::Egress => self.classifier(hook)?.load().map_err(refused),
        }
    }

    fn xdp(&mut self) -> Result<&mut Xdp, Error> {
        let name = Hook::Xdp.program();
        let program = self.ebpf.program_mut(name).ok_or(Error::NoProgram(name))?;
        program.try_into().map_err(|_| Error::NoProgram(name))
    }

    fn classifier(&mut self, hook: Hook) -> Result<&mut SchedClassifier, Error> {
        let name = hook.program();
        let program = self.ebpf.program_mut(name).ok_or(Error::NoProgram(name))?;
        program.try_into().map_err(|_| Error::NoProgram(name))
    }
}
