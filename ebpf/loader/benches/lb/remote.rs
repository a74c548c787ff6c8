//! Rows of backends on other nodes: SNAT, the route and the neighbour looked up for each packet.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use ebpf_abi::config::{Config, Device, device_flag, setting};
use ebpf_abi::service::Backend;
use ebpf_abi::track::tcp;
use ebpf_abi::{checksum, filter, maps};
use ebpf_loader::Hook;

use crate::rig::{Ends, LENGTH, Rig, Side, Target, frame};
use crate::{NEW, at, new_flows, open, row};

pub(crate) const XDP_REDIRECT: u32 = 4;
const TC_REDIRECT: u32 = 7;
const TO: [u8; 6] = [2, 0, 0, 0, 0, 0x0b];
const FROM: [u8; 6] = [2, 0, 0, 0, 0, 0x0a];

/// In the range of translated flows.
pub(crate) const PORT: u16 = 40_000;

pub(crate) fn family<A: Ends>(rig: &mut Rig, name: &str) -> Result<()> {
    let own = node::<A>(rig)?;
    for (side, hook, hook_name) in [(Side::Xdp, Hook::Xdp, "XDP"), (Side::Tc, Hook::Ingress, "tc")] {
        let target = Target::Program(hook);
        let goal = |xdp, tc| match side {
            Side::Xdp => Some(xdp),
            Side::Tc => Some(tc),
        };
        let title = |what: &str| format!("{hook_name}, {name}, SNAT, {what}");
        for (flows, goal) in [
            (1, goal(150, 190)),
            (1024, goal(165, 205)),
            (65_536, goal(400, 440)),
        ] {
            rig.forget::<A>()?;
            established::<A>(rig, side, target, flows, own)?;
            row(rig, &title("established"), side, target, flows, goal)?;
        }
        reply::<A>(rig, side, target, &title("reply"), own, goal(120, 160))?;
        new_flows::<A>(rig, &title("new flow"), side, target, PORT, 2 * NEW, 1000)?;
    }
    Ok(())
}

/// The backends move behind a router; the node's own address on the way there.
pub(crate) fn node<A: Ends>(rig: &mut Rig) -> Result<IpAddr> {
    rig.node::<A>()?;
    let (own, router, whole) = match A::client() {
        IpAddr::V4(_) => ("10.1.0.1", "10.1.0.2", "0.0.0.0/0"),
        IpAddr::V6(_) => ("fd01::1", "fd01::2", "::/0"),
    };
    if nix::net::if_::if_nametoindex("out").is_err() {
        run("ip link add out address 02:00:00:00:00:0a type veth peer name far")?;
        run("ip link set out up")?;
        run("ip link set far up")?;
        run("sysctl -qw net.ipv4.conf.all.forwarding=1 net.ipv6.conf.all.forwarding=1")?;
    }
    let (length, nodad) = match A::client() {
        IpAddr::V4(_) => (24, ""),
        IpAddr::V6(_) => (64, " nodad"),
    };
    run(&format!("ip addr add {own}/{length} dev out{nodad}"))?;
    run(&format!("ip neigh add {router} lladdr 02:00:00:00:00:0b dev out"))?;
    run(&format!("ip route add {whole} via {router}"))?;
    let own: IpAddr = own.parse()?;
    let (word, bit) = filter::place(&A::of(own));
    let bits: u64 = rig.map(maps::FILTER)?.get(&word)?.unwrap_or(0);
    rig.map(maps::FILTER)?.put(&word, &(bits | bit))?;
    let index = nix::net::if_::if_nametoindex("out")?;
    let mut device: Device = rig.map(maps::DEVICES)?.get(&index)?.unwrap_or_default();
    device.flags = device_flag::TAKES_FRAMES;
    match own {
        IpAddr::V4(own) => device.v4 = own.into(),
        IpAddr::V6(own) => device.v6 = own.into(),
    }
    rig.map(maps::DEVICES)?.put(&index, &device)?;
    for n in 1..=A::BACKENDS_HERE {
        let map = rig.map(A::BACKENDS)?;
        let backend: Backend<A> = map.get(&u32::from(n))?.context("a backend")?;
        map.put(&u32::from(n), &Backend { flags: 0, ..backend })?;
    }
    let config = Config {
        maglev_size: 251,
        settings: setting::ENABLED,
        // So many that 65,536 flows from one port of three backends find theirs without many tries.
        nat_first: 1024,
        nat_last: 65_535,
        ..Config::default()
    };
    rig.map(maps::CONFIG)?.put(&0_u32, &config)?;
    Ok(own)
}

fn established<A: Ends>(rig: &mut Rig, side: Side, target: Target, flows: u64, own: IpAddr) -> Result<()> {
    let (client, vip) = (at(A::client(), PORT), at(A::vip(), 80));
    open::<A>(rig, side, target, PORT, flows, 2)?;
    let packet = frame(client, vip, tcp::ACK);
    rig.template(&packet, 1, A::SOURCE)?;
    let backends: Vec<_> = (1..=A::BACKENDS_HERE).map(|n| at(A::backend(n), 8080)).collect();
    let served: Vec<_> = backends.iter().map(|backend| (at(own, PORT), *backend)).collect();
    check(rig, side, &served)?;
    rig.template(&packet, flows, A::SOURCE)?;
    rig.repeat(side, 2 * flows)?;
    Ok(())
}

fn reply<A: Ends>(
    rig: &mut Rig,
    side: Side,
    target: Target,
    title: &str,
    own: IpAddr,
    goal: Option<u32>,
) -> Result<()> {
    let (client, vip) = (at(A::client(), PORT), at(A::vip(), 80));
    rig.forget::<A>()?;
    rig.aim(side, target)?;
    rig.template(&frame(client, vip, tcp::SYN), 1, A::SOURCE)?;
    let (_, out) = rig.once(side)?;
    let chosen = (1..=A::BACKENDS_HERE)
        .map(|n| at(A::backend(n), 8080))
        .find(|backend| out[14..] == left(side, at(own, PORT), *backend, tcp::SYN)[14..])
        .context("the request came to no backend")?;
    rig.template(&frame(chosen, at(own, PORT), tcp::ACK), 1, A::DESTINATION)?;
    check(rig, side, &[(vip, client)])?;
    row(rig, title, side, target, 1, goal)
}

/// The packet of the template leaves, from and to one of these.
fn check(rig: &Rig, side: Side, expected: &[(SocketAddr, SocketAddr)]) -> Result<()> {
    let (verdict, out) = rig.once(side)?;
    let leaves = match side {
        Side::Xdp => XDP_REDIRECT,
        Side::Tc => TC_REDIRECT,
    };
    let known = expected
        .iter()
        .any(|(from, to)| out == left(side, *from, *to, tcp::ACK));
    ensure!(
        verdict == leaves && known,
        "answered {verdict} and made {out:02x?}"
    );
    Ok(())
}

/// The frame as it leaves: one hop later, and in XDP with the Ethernet header of the router.
fn left(side: Side, from: SocketAddr, to: SocketAddr, flags: u8) -> [u8; LENGTH] {
    let mut frame = frame(from, to, flags);
    if side == Side::Xdp {
        frame[..6].copy_from_slice(&TO);
        frame[6..12].copy_from_slice(&FROM);
    }
    if from.is_ipv4() {
        frame[22] = 63;
        frame[24..26].fill(0);
        let sum = checksum::of(&frame[14..34], 0).to_ne_bytes();
        frame[24..26].copy_from_slice(&sum);
    } else {
        frame[21] = 63;
    }
    frame
}

pub(crate) fn run(command: &str) -> Result<()> {
    let words: Vec<&str> = command.split(' ').collect();
    let (name, words) = words.split_first().context("a command")?;
    let output = Command::new(name).args(words).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command}: {said}");
    Ok(())
}
