//! What a packet costs in the kernel programs, beside the goals: `cargo xtask bench lb`. Needs root.
//!
//! ```text
//!   BPF_PROG_TEST_RUN, many times --> wrapper (puts the packet back, picks the flow) --> tail call --> program
//!                                                                                   \-> nothing: the floor
//! ```
//!
//! Figures are nanoseconds per packet, the median over rounds, less the wrapper's own in the same minute. Before a row is
//! measured, one packet is sent and every octet of what came out is checked. Rows with many flows and rows that insert
//! depend on the memory of the moment: hold them against the floors that are printed with them, never against another day.
//! Maps are new at the beginning of a family's rows. Later their free entries lie in the order in which others were deleted,
//! which costs a miss more for each packet.
//! On a machine that is busy, `chrt -r 5 cargo xtask bench lb` keeps others from being measured too.

mod connect;
mod direct;
mod remote;
mod rig;

use std::net::{IpAddr, SocketAddr};
use std::{env, fs};

use anyhow::{Context as _, Result, bail, ensure};
use ebpf_abi::track::tcp;
use ebpf_abi::{V4, V6};
use ebpf_loader::Hook;

use rig::{End, Ends, Rig, Side, Target, frame};

/// What XDP and tc call a packet that goes on.
const XDP_PASS: u32 = 2;
const TC_OK: u32 = 0;
/// Flows of one round of the rows that insert: both ways of all fit where connections lie that open.
const NEW: u64 = 8192;

fn main() -> Result<()> {
    let mut names = env::args().skip(1).filter(|word| !word.starts_with('-'));
    if names.next().is_some_and(|name| !"lb".contains(&name)) {
        return Ok(());
    }
    if !nix::unistd::geteuid().is_root() {
        println!("lb: skipped: kernel programs need root");
        return Ok(());
    }
    let mut rig = Rig::load()?;
    println!("load before: {}", load()?);
    println!(
        "{:44} {:>7} {:>9} {:>9} {:>7}",
        "ns per packet, net of the wrapper", "flows", "median", "least", "goal"
    );
    floors(&mut rig)?;
    family::<V4>(&mut rig, "IPv4")?;
    family::<V6>(&mut rig, "IPv6")?;
    rig = Rig::load()?;
    remote::family::<V4>(&mut rig, "IPv4")?;
    remote::family::<V6>(&mut rig, "IPv6")?;
    rig = Rig::load()?;
    direct::family::<V4>(&mut rig, "IPv4")?;
    direct::family::<V6>(&mut rig, "IPv6")?;
    connect::rows()?;
    println!("load after: {}", load()?);
    for hook in Hook::ALL {
        let size = rig.size(hook)?;
        println!(
            "{}: {} instructions, {} verified",
            hook.program(),
            size.translated,
            size.verified
        );
    }
    println!("Goals are those of IPv4. Rows that do not say \"SNAT\" serve backends of this node.");
    Ok(())
}

fn load() -> Result<String> {
    let text = fs::read_to_string("/proc/loadavg").context("the load")?;
    Ok(text.trim().to_owned())
}

/// Steps that every balancer takes, on this machine, now, in maps as large as those of flows.
fn floors(rig: &mut Rig) -> Result<()> {
    let packet = frame(at(V4::client(), 4000), at(V4::stranger(), 80), tcp::ACK);
    for flows in [1, 1024, 65_536] {
        rig.aim(Side::Xdp, Target::Floor("floor_keep"))?;
        rig.template(&packet, flows, End::V4Source)?;
        rig.repeat(Side::Xdp, flows)?;
        row(
            rig,
            "floor: one hit in an LRU hash",
            Side::Xdp,
            Target::Floor("floor_lookup"),
            flows,
            None,
        )?;
    }
    let mut rounds = Vec::new();
    let mut floors = Vec::new();
    for _ in 0..7 {
        rig.forget_floor()?;
        for (target, times) in [
            (Target::Nothing, &mut floors),
            (Target::Floor("floor_new"), &mut rounds),
        ] {
            rig.aim(Side::Xdp, target)?;
            rig.template_from(1 << 20, &packet, u64::MAX, End::V4Source)?;
            times.push(rig.repeat(Side::Xdp, NEW)?);
        }
    }
    print(
        "floor: one miss, one insertion elsewhere",
        NEW,
        rounds,
        floors,
        None,
    );
    rig.aim(Side::Xdp, Target::Floor("floor_insert"))?;
    rig.template(&packet, u64::MAX, End::V4Source)?;
    rig.repeat(Side::Xdp, 200_000)?;
    row(
        rig,
        "floor: one insertion into a full LRU hash",
        Side::Xdp,
        Target::Floor("floor_insert"),
        u64::MAX,
        None,
    )
}

fn family<A: Ends>(rig: &mut Rig, name: &str) -> Result<()> {
    rig.node::<A>()?;
    for (side, hook, hook_name) in [(Side::Xdp, Hook::Xdp, "XDP"), (Side::Tc, Hook::Ingress, "tc")] {
        let target = Target::Program(hook);
        let goal = |xdp, tc| match side {
            Side::Xdp => xdp,
            Side::Tc => tc,
        };
        let title = |what: &str| format!("{hook_name}, {name}, {what}");
        let stranger = frame(at(A::client(), 4000), at(A::stranger(), 80), tcp::ACK);
        check(rig, side, target, &stranger, A::SOURCE, &[stranger])?;
        rig.template(&stranger, 1, A::SOURCE)?;
        row(
            rig,
            &title("not for a service"),
            side,
            target,
            1,
            goal(Some(18), Some(30)),
        )?;

        for (flows, goal) in [
            (1, goal(Some(150), Some(190))),
            (1024, goal(Some(165), None)),
            (65_536, goal(Some(400), None)),
        ] {
            rig.forget::<A>()?;
            established::<A>(rig, side, target, flows)?;
            row(rig, &title("established"), side, target, flows, goal)?;
        }
        new_flows::<A>(rig, &title("new flow"), side, target, 4000, 2 * NEW, 1000)?;
    }
    reply::<A>(rig, name)
}

/// Opens flows, and brings all of them to where packets write nothing.
fn established<A: Ends>(rig: &mut Rig, side: Side, target: Target, flows: u64) -> Result<()> {
    open::<A>(rig, side, target, 4000, flows, 2)?;
    let (client, vip) = (at(A::client(), 4000), at(A::vip(), 80));
    let packet = frame(client, vip, tcp::ACK);
    let served: Vec<_> = (1..=A::BACKENDS_HERE)
        .map(|n| frame(client, at(A::backend(n), 8080), tcp::ACK))
        .collect();
    check(rig, side, target, &packet, A::SOURCE, &served)?;
    rig.template(&packet, flows, A::SOURCE)?;
    rig.repeat(side, 2 * flows)?;
    Ok(())
}

/// Opens flows, with so many entries for each; as many at once as there is room for connections that open.
fn open<A: Ends>(rig: &mut Rig, side: Side, target: Target, port: u16, flows: u64, each: u64) -> Result<()> {
    rig.aim(side, target)?;
    let vip = at(A::vip(), 80);
    let portion = flows.min(NEW);
    for first in (0..flows).step_by(portion as usize) {
        for flags in [tcp::SYN, tcp::ACK] {
            let packet = frame(at(A::client(), port), vip, flags);
            rig.template_from(first, &packet, flows, A::SOURCE)?;
            rig.repeat(side, portion)?;
        }
    }
    let entries = rig.entries::<A>()?;
    ensure!(
        entries == (each * flows) as usize,
        "{entries} entries after {flows} flows"
    );
    Ok(())
}

/// Each round begins with no flow, and ends with so many entries.
fn new_flows<A: Ends>(
    rig: &mut Rig,
    title: &str,
    side: Side,
    target: Target,
    port: u16,
    written: u64,
    goal: u32,
) -> Result<()> {
    let packet = frame(at(A::client(), port), at(A::vip(), 80), tcp::SYN);
    let mut rounds = Vec::new();
    let mut floors = Vec::new();
    for _ in 0..7 {
        rig.forget::<A>()?;
        rig.aim(side, Target::Nothing)?;
        rig.template(&packet, u64::MAX, A::SOURCE)?;
        floors.push(rig.repeat(side, NEW)?);
        rig.aim(side, target)?;
        rig.template(&packet, u64::MAX, A::SOURCE)?;
        rounds.push(rig.repeat(side, NEW)?);
        let entries = rig.entries::<A>()?;
        // A flood may leave one in a second.
        let few = written as usize..=written as usize + 10;
        ensure!(few.contains(&entries), "{entries} entries after {NEW} flows");
    }
    print(title, NEW, rounds, floors, Some(goal));
    Ok(())
}

fn reply<A: Ends>(rig: &mut Rig, name: &str) -> Result<()> {
    let (side, target) = (Side::Tc, Target::Program(Hook::Egress));
    let (client, vip) = (at(A::client(), 4000), at(A::vip(), 80));
    rig.forget::<A>()?;
    rig.aim(Side::Xdp, Target::Program(Hook::Xdp))?;
    rig.template(&frame(client, vip, tcp::SYN), 1, A::SOURCE)?;
    let (_, out) = rig.once(Side::Xdp)?;
    let chosen = (1..=A::BACKENDS_HERE)
        .map(|n| at(A::backend(n), 8080))
        .find(|backend| out == frame(client, *backend, tcp::SYN))
        .context("the request came to no backend")?;
    let packet = frame(chosen, client, tcp::ACK);
    check(
        rig,
        side,
        target,
        &packet,
        A::DESTINATION,
        &[frame(vip, client, tcp::ACK)],
    )?;
    rig.template(&packet, 1, A::DESTINATION)?;
    row(rig, &format!("tc, {name}, reply"), side, target, 1, Some(120))?;
    let packet = frame(at(A::stranger(), 80), client, tcp::ACK);
    check(rig, side, target, &packet, A::DESTINATION, &[packet])?;
    rig.template(&packet, 1, A::DESTINATION)?;
    row(
        rig,
        &format!("tc, {name}, leaving, not of a service"),
        side,
        target,
        1,
        Some(30),
    )
}

/// One packet goes on, and is one of these then.
fn check(
    rig: &mut Rig,
    side: Side,
    target: Target,
    packet: &[u8; rig::LENGTH],
    end: End,
    expected: &[[u8; rig::LENGTH]],
) -> Result<()> {
    rig.aim(side, target)?;
    rig.template(packet, 1, end)?;
    let (verdict, out) = rig.once(side)?;
    let passes = match side {
        Side::Xdp => XDP_PASS,
        Side::Tc => TC_OK,
    };
    if verdict != passes || !expected.iter().any(|expected| out == expected) {
        bail!("{target:?} answered {verdict} and made {out:02x?}");
    }
    Ok(())
}

/// Measures with the template that is there.
fn row(rig: &mut Rig, title: &str, side: Side, target: Target, flows: u64, goal: Option<u32>) -> Result<()> {
    let packets = flows.clamp(20_000, 65_536);
    let mut rounds = Vec::new();
    let mut floors = Vec::new();
    for _ in 0..21 {
        rig.aim(side, Target::Nothing)?;
        floors.push(rig.repeat(side, packets)?);
        rig.aim(side, target)?;
        rounds.push(rig.repeat(side, packets)?);
    }
    print(title, flows, rounds, floors, goal);
    Ok(())
}

fn print(title: &str, flows: u64, mut rounds: Vec<u32>, mut floors: Vec<u32>, goal: Option<u32>) {
    rounds.sort_unstable();
    floors.sort_unstable();
    let floor = middle(&floors);
    let net = |raw: u32| i64::from(raw) - i64::from(floor);
    let flows = if flows == u64::MAX {
        "new".to_owned()
    } else {
        flows.to_string()
    };
    let goal = goal.map_or_else(|| "-".to_owned(), |goal| format!("<= {goal}"));
    let first = |sorted: &[u32]| i64::from(sorted.first().copied().unwrap_or(0));
    let least = first(&rounds) - first(&floors);
    println!(
        "{title:44} {flows:>7} {:>9} {least:>9} {goal:>7}",
        net(middle(&rounds))
    );
}

fn middle(sorted: &[u32]) -> u32 {
    sorted.get(sorted.len() / 2).copied().unwrap_or(0)
}

fn at(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address, port)
}
