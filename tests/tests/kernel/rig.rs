//! The programs, loaded once for all tests of this file; each test has them for itself while it runs.

use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, MutexGuard};
use std::{env, fs, thread};

use anyhow::{Context as _, Result};
use ebpf_abi::maps::{self, Map};
use ebpf_loader::{Datapath, Feature, MapFd, Settings, Sums, Support, Without, probe};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

/// The programs and their maps.
pub(crate) struct Rig {
    pub(crate) datapath: Datapath,
    maps: Vec<(Map, MapFd)>,
}

impl Rig {
    pub(crate) fn map(&self, map: Map) -> &MapFd {
        let found = self.maps.iter().find(|(other, _)| *other == map);
        &found.expect("all maps are open").1
    }
}

/// The programs for this test alone; `None`, and a line that says so, where they cannot be loaded.
pub(crate) fn rig() -> Option<MutexGuard<'static, Rig>> {
    static RIG: LazyLock<Result<Mutex<Rig>, String>> = LazyLock::new(|| {
        if let Some(why) = lacking() {
            return Err(why);
        }
        let loaded = thread::spawn(load).join().expect("loading does not panic");
        Ok(Mutex::new(loaded.unwrap_or_else(|error| panic!("{error:?}"))))
    });
    match &*RIG {
        // A test that failed leaves maps as they were; the next one wipes them.
        Ok(rig) => Some(rig.lock().unwrap_or_else(std::sync::PoisonError::into_inner)),
        Err(why) => {
            println!("skipped: {why}");
            None
        }
    }
}

/// What this machine lacks to load and attach programs.
pub(crate) fn lacking() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("kernel programs and network namespaces need root".into());
    }
    probe().into_iter().find_map(|(feature, support)| match support {
        Support::Missing(why) if feature.without() == Without::Nothing || feature == Feature::Tcx => {
            Some(format!("the kernel has no {}: {why}", feature.name()))
        }
        Support::Used | Support::Missing(_) => None,
    })
}

/// On a thread with mounts of its own: when it ends, the pins are gone, and what is open stays.
fn load() -> Result<Rig> {
    let folder = tempfile::tempdir()?;
    own_bpffs(folder.path(), CloneFlags::empty())?;
    let rig = Rig::load(folder.path());
    umount2(folder.path(), MntFlags::MNT_DETACH).context("unmount")?;
    rig
}

/// Gives this thread mounts of its own, and what else is named, and a BPF file system here that only it sees.
pub(crate) fn own_bpffs(folder: &Path, more: CloneFlags) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS | more).context("namespaces")?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&Path>, "/", None::<&Path>, private, None::<&Path>).context("private mounts")?;
    mount(Some("bpf"), folder, Some("bpf"), MsFlags::empty(), None::<&Path>).context("a BPF file system")
}

impl Rig {
    /// Loads the programs as an agent does that has this folder.
    pub(crate) fn load(folder: &Path) -> Result<Self> {
        Self::load_with(folder, Sums::Told)
    }

    /// The same, with this way to keep checksums right.
    pub(crate) fn load_with(folder: &Path, sums: Sums) -> Result<Self> {
        let elf = elf();
        let elf = fs::read(&elf)
            .with_context(|| format!("read {}: `cargo xtask build` makes it", elf.display()))?;
        let entries = maps::ALL
            .iter()
            .filter(|map| map.kind == maps::Kind::LruHash)
            .map(|map| (map.name, map.entries.min(65_536)))
            .collect();
        let settings = Settings {
            folder: folder.to_owned(),
            entries,
        };
        let datapath = Datapath::load_with(&elf, &settings, sums)?;
        let maps = maps::ALL
            .iter()
            .map(|map| Ok((*map, datapath.map(*map)?)))
            .collect::<Result<_>>()?;
        Ok(Self { datapath, maps })
    }
}

fn elf() -> PathBuf {
    target().join("bpf/stentor-bpf")
}

/// Cargo's target folder, in which this very test lies.
pub(crate) fn target() -> PathBuf {
    let test = env::current_exe().expect("a test has a path");
    let target = test.ancestors().nth(3).expect("target/debug/deps/kernel");
    target.to_owned()
}
