//! A machine of its own for a test: mounts, a network, and a BPF file system that only its thread sees.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::{env, fs, thread};

use anyhow::{Context as _, Result, ensure};
use ebpf_abi::maps;
use ebpf_loader::{Datapath, Settings};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

/// Runs a test with a folder on a BPF file system.
pub(crate) fn node(test: impl FnOnce(&Path) -> Result<()> + Send) {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: kernel programs need root");
        return;
    }
    let run = || -> Result<()> {
        let folder = tempfile::tempdir()?;
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).context("namespaces")?;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&Path>, "/", None::<&Path>, private, None::<&Path>)?;
        mount(
            Some("bpf"),
            folder.path(),
            Some("bpf"),
            MsFlags::empty(),
            None::<&Path>,
        )?;
        let done = test(folder.path());
        umount2(folder.path(), MntFlags::MNT_DETACH)?;
        done
    };
    thread::scope(|scope| {
        let done = scope.spawn(run).join().expect("the test does not panic");
        done.unwrap_or_else(|error| panic!("{error:?}"));
    });
}

/// Loads the programs as an agent does that has this folder. Maps of flows are small, others as said.
pub(crate) fn load(folder: &Path, entries: &BTreeMap<&'static str, u32>) -> Result<Datapath> {
    let mut all: BTreeMap<&'static str, u32> = maps::ALL
        .iter()
        .filter(|map| map.kind == maps::Kind::LruHash)
        .map(|map| (map.name, 1024))
        .collect();
    all.extend(entries);
    let settings = Settings {
        folder: folder.to_owned(),
        entries: all,
    };
    Ok(Datapath::load(&elf()?, &settings)?)
}

/// A command that must succeed; what it said.
pub(crate) fn run(command: &str) -> Result<String> {
    let mut words = command.split(' ');
    let program = words.next().unwrap_or_default();
    let output = Command::new(program)
        .args(words)
        .output()
        .context(program.to_owned())?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command}: {said}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Beside this very test, in cargo's target folder.
fn elf() -> Result<Vec<u8>> {
    let test = env::current_exe()?;
    let target = test.ancestors().nth(3).context("target/debug/deps/loader")?;
    let path = target.join("bpf/stentor-bpf");
    fs::read(&path).with_context(|| format!("read {}: `cargo xtask build` makes it", path.display()))
}
