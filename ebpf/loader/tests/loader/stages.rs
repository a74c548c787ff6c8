//! Arrays of stages over the lives of those who fill them. An array that nobody holds is emptied, and a packet that needs it is
//! lost: so agents here are processes of their own, and are killed.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, fs};

use anyhow::{Context as _, Result, ensure};
use ebpf_abi::DropReason;
use ebpf_abi::config::{Device, Direction, device_flag, drop_counter};
use ebpf_abi::maps;
use ebpf_abi::stage::Stage;
use ebpf_loader::{Hook, Mode, Pinned};
use nix::net::if_::if_nametoindex;
use nix::sys::signal::{Signal, raise};

use crate::attach::{serve, veth};
use crate::node::{load, node};

/// For the process that is killed: the folder, and what it does.
const FOLDER: &str = "STENTOR_STAGES_FOLDER";
const HOOKS: &str = "STENTOR_STAGES_HOOKS";
const TC_ACT_REDIRECT: u32 = 7;
const TC_ACT_SHOT: u32 = 2;
const XDP_TX: u32 = 3;

#[test]
fn programs_keep_their_stages_whenever_their_agent_is_killed() {
    let name = "stages::programs_keep_their_stages_whenever_their_agent_is_killed";
    if let Some(folder) = env::var_os(FOLDER) {
        agent(Path::new(&folder)).expect("an agent begins");
        return;
    }
    node(|folder| {
        veth()?;
        let (tcx, filters) = (Mode::Tcx, Mode::Filter);
        killed(name, folder, "all", tcx)?;
        let first = pins(folder)?;
        ensure!(first.len() == 2, "{first:?}");
        answers(folder)?;
        // Half-way through: one hook has the programs of now, the others those of before.
        killed(name, folder, "xdp", tcx)?;
        let both = pins(folder)?;
        ensure!(both.len() == 4 && both.is_superset(&first), "{both:?}");
        answers(folder)?;
        // Before anything hangs anywhere.
        killed(name, folder, "", tcx)?;
        ensure!(pins(folder)?.is_superset(&both), "{:?}", pins(folder)?);
        answers(folder)?;
        killed(name, folder, "all", tcx)?;
        let last = pins(folder)?;
        ensure!(last.len() == 2 && last.is_disjoint(&both), "{last:?}");
        answers(folder)?;
        for hooks in ["xdp", "all"] {
            killed(name, folder, hooks, filters)?;
            answers(folder)?;
        }
        let last = pins(folder)?;
        ensure!(last.len() == 2, "{last:?}");
        let stages = Pinned::open(folder)?.stages()?;
        ensure!(stages.len() == Stage::all().count(), "{stages:?}");
        Ok(())
    });
}

#[test]
fn a_packet_whose_stage_is_gone_is_dropped_and_counted() {
    node(|folder| {
        let index = veth()?;
        let mut datapath = load(folder, &BTreeMap::new())?;
        serve(&datapath)?;
        datapath.attach(Hook::Ingress, "veth0", index)?;
        let missed = || -> Result<u64> {
            let place = drop_counter(Direction::Ingress, DropReason::MissedTailCall);
            Ok(Pinned::open(folder)?.map(maps::COUNTERS)?.counter(place)?.packets)
        };
        ensure!(missed()? == 0, "none yet");
        drop(datapath);
        for pin in pins(folder)? {
            fs::remove_file(pin)?;
        }
        // The kernel empties the array some time later. So many packets may be answered until then that no more are; those
        // that are not are dropped too, by another name.
        let end = Instant::now() + Duration::from_mins(1);
        let mut last = verdict(folder, Hook::Ingress)?;
        while missed()? == 0 {
            ensure!(Instant::now() < end, "the array is still there");
            std::thread::yield_now();
            last = verdict(folder, Hook::Ingress)?;
        }
        ensure!((last, missed()?) == (TC_ACT_SHOT, 1), "{last}, {}", missed()?);
        Ok(())
    });
}

#[test]
fn stages_of_another_version_go_with_its_links() {
    node(|folder| {
        let index = veth()?;
        let mut datapath = load(folder, &BTreeMap::new())?;
        serve(&datapath)?;
        for hook in Hook::ALL {
            datapath.attach(hook, "veth0", index)?;
        }
        drop(datapath);
        fs::rename(folder.join("v1"), folder.join("v0"))?;
        let mut datapath = load(folder, &BTreeMap::new())?;
        serve(&datapath)?;
        datapath.attach(Hook::Xdp, "veth0", index)?;
        ensure!(
            fs::read_dir(folder.join("v0/stages"))?.count() == 2,
            "others hang yet"
        );
        let dropped = datapath.drop_other_versions()?;
        ensure!(dropped.iter().map(|version| version.links).eq([2]), "{dropped:?}");
        ensure!(!folder.join("v0").exists(), "it is gone");
        ensure!(Pinned::open(folder)?.programs()?.len() == 1, "ours hang on");
        Ok(())
    });
}

/// Runs an agent that is killed once its programs hang.
fn killed(test: &str, folder: &Path, hooks: &str, mode: Mode) -> Result<()> {
    let output = Command::new(env::current_exe()?)
        .args(["--exact", test, "--nocapture"])
        .env(FOLDER, folder)
        .env(HOOKS, format!("{hooks} {}", mode.name()))
        .output()?;
    ensure!(
        output.status.signal() == Some(Signal::SIGKILL as i32),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    Ok(())
}

/// The agent, which ends in the worst way.
fn agent(folder: &Path) -> Result<()> {
    let mut datapath = load(folder, &BTreeMap::new())?;
    serve(&datapath)?;
    // Runs of XDP come in by the loopback device, which sends answers back only if it is known to.
    let device = Device {
        flags: device_flag::RETURNS_FRAMES,
        ..Device::default()
    };
    datapath.map(maps::DEVICES)?.put(&1_u32, &device)?;
    let index = if_nametoindex("veth0")?;
    let wanted = env::var(HOOKS)?;
    let (hooks, mode) = wanted.split_once(' ').context("hooks and mode")?;
    if !hooks.is_empty() {
        datapath.attach(Hook::Xdp, "veth0", index)?;
    }
    if hooks == "all" {
        for hook in [Hook::Ingress, Hook::Egress] {
            let mode = hook.modes().into_iter().find(|known| known.name() == mode);
            datapath.attach_as(hook, "veth0", index, mode.context("a mode")?)?;
        }
    }
    raise(Signal::SIGKILL)?;
    Ok(())
}

/// Both programs that meet packets from outside answer a client who asks for a port that nobody serves.
fn answers(folder: &Path) -> Result<()> {
    let (xdp, ingress) = (verdict(folder, Hook::Xdp)?, verdict(folder, Hook::Ingress)?);
    ensure!((xdp, ingress) == (XDP_TX, TC_ACT_REDIRECT), "{xdp} {ingress}");
    Ok(())
}

fn verdict(folder: &Path, hook: Hook) -> Result<u32> {
    let pinned = Pinned::open(folder)?;
    let programs = pinned.programs()?;
    let program = programs.iter().find(|program| program.name == hook.program());
    Ok(pinned.run(program.context("it hangs")?, hook, &syn())?.verdict)
}

/// From a client to port 81 of the VIP.
fn syn() -> Vec<u8> {
    let mut packet = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    packet.extend([0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0]);
    packet.extend([198, 51, 100, 1, 192, 0, 2, 1]);
    packet.extend([
        0x40, 0, 0, 81, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0,
    ]);
    let words = packet[14..34]
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let sum: u32 = words.sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    packet[24..26].copy_from_slice(&sum.to_be_bytes());
    packet
}

fn pins(folder: &Path) -> Result<BTreeSet<PathBuf>> {
    let entries = fs::read_dir(folder.join("v1/stages"))?;
    Ok(entries
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<_>>()?)
}
