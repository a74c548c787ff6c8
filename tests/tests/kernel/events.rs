//! What programs tell about packets, to one listener and to several.

use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ebpf_abi::config::{Direction, drop_counter};
use ebpf_abi::event::{Event, Kind, PLACES, Rate};
use ebpf_abi::packet::TCP;
use ebpf_abi::track::tcp;
use ebpf_abi::{DropReason, V4, V6, maps};
use ebpf_loader::{Error, Hook, Interest, Listener, Pinned};
use nix::sched::{CloneFlags, CpuSet, sched_setaffinity};

use crate::claims::{Ends, id, key, node};
use crate::packet::Frame;
use crate::rig::{Rig, lacking, own_bpffs};

/// Longer than any event takes to come.
const SOON: Duration = Duration::from_secs(10);

#[test]
fn programs_tell_those_who_listen() {
    if let Some(why) = lacking() {
        println!("skipped: {why}");
        return;
    }
    // On a thread with mounts of its own, and on one processor: budgets are counted for each of them.
    let told = thread::spawn(|| -> Result<()> {
        let folder = tempfile::tempdir()?;
        own_bpffs(folder.path(), CloneFlags::empty())?;
        let mut one = CpuSet::new();
        one.set(0)?;
        sched_setaffinity(nix::unistd::Pid::from_raw(0), &one)?;
        let rig = Rig::load(folder.path())?;
        let pinned = Pinned::open(folder.path())?;
        a_drop_makes_one_event::<V4>(&rig, &pinned).context("IPv4")?;
        a_drop_makes_one_event::<V6>(&rig, &pinned).context("IPv6")?;
        a_trace_says_what_the_packet_was::<V4>(&rig, &pinned).context("IPv4")?;
        a_trace_says_what_the_packet_was::<V6>(&rig, &pinned).context("IPv6")?;
        a_flood_is_told_by_its_rate(&rig, &pinned)?;
        several_listen_and_lose_nothing(&rig, &pinned)?;
        a_missing_folder_is_named(folder.path())
    });
    let told = told.join().expect("the node does not panic");
    told.unwrap_or_else(|error| panic!("{error:?}"));
}

fn a_drop_makes_one_event<A: Ends>(rig: &Rig, pinned: &Pinned) -> Result<()> {
    rig.install(&node::<A>(0));
    let (client, vip) = (
        SocketAddr::new(A::client(1), 4000),
        SocketAddr::new(A::vip(1), 80),
    );
    let frame = Frame::tcp(tcp::SYN, client, vip).build();
    for hook in [Hook::Xdp, Hook::Ingress] {
        rig.datapath.run(hook, &frame)?;
        let mut listener = Listener::start(pinned, Interest::Drops)?;
        rig.datapath.run(hook, &frame)?;
        let event = listener.next(SOON)?.context("a drop is told")?;
        ensure!(
            listener.next(Duration::ZERO)?.is_none(),
            "once, and nothing from before we listened"
        );
        ensure!(event.kind == Kind::Drop.number(), "{event:?}");
        ensure!(event.dropped() == Some(DropReason::NoService), "{event:?}");
        ensure!(event.direction == Direction::Ingress as u8, "{event:?}");
        ensure!(tuple(&event) == Some((client, vip, TCP)), "{event:?}");
        ensure!(
            event.frontend.index() == 5,
            "the service of the packet: {event:?}"
        );
        ensure!(usize::try_from(event.length)? == frame.len(), "{event:?}");
        let seen = event.packet();
        ensure!(
            frame.starts_with(seen) && seen.len() + 8 > frame.len().min(96),
            "{event:?}"
        );
    }
    Ok(())
}

fn a_trace_says_what_the_packet_was<A: Ends>(rig: &Rig, pinned: &Pinned) -> Result<()> {
    rig.install(&node::<A>(1));
    let (client, vip) = (
        SocketAddr::new(A::client(1), 4000),
        SocketAddr::new(A::vip(1), 80),
    );
    let backend = SocketAddr::new(A::backend(1), 8080);
    let request = Frame::tcp(tcp::SYN, client, vip).build();
    let reply = Frame::tcp(tcp::SYN | tcp::ACK, backend, client).build();
    let mut drops = Listener::start(pinned, Interest::Drops)?;
    rig.datapath.run(Hook::Xdp, &request)?;
    let mut traces = Listener::start(pinned, Interest::Traces)?;
    for (hook, frame, expected) in [
        (Hook::Xdp, &request, (client, vip, TCP)),
        (Hook::Ingress, &request, (client, vip, TCP)),
        (Hook::Egress, &reply, (backend, client, TCP)),
    ] {
        rig.datapath.run(hook, frame)?;
        let event = traces.next(SOON)?.context("a packet that goes on is told")?;
        ensure!(
            event.kind == Kind::Trace.number() && event.dropped().is_none(),
            "{event:?}"
        );
        ensure!(tuple(&event) == Some(expected), "as it came: {event:?}");
        ensure!((event.frontend.index(), event.backend) == (5, id(0)), "{event:?}");
        ensure!(event.direction == hook.direction() as u8, "{event:?}");
    }
    ensure!(drops.next(Duration::ZERO)?.is_none(), "nothing was dropped");
    Ok(())
}

fn a_flood_is_told_by_its_rate(rig: &Rig, pinned: &Pinned) -> Result<()> {
    let mut node = node::<V4>(1);
    node.frontends.get_mut(&key(TCP)).context("a frontend")?.flags = 0;
    rig.install(&node);
    let (client, vip) = (SocketAddr::new(V4::client(1), 1), SocketAddr::new(V4::vip(1), 80));
    let frame = Frame::tcp(tcp::SYN, client, vip).build();
    let counted = || {
        let place = drop_counter(Direction::Ingress, DropReason::ClusterIp);
        Ok::<_, Error>(rig.map(maps::COUNTERS).counter(place)?.packets)
    };
    let (before, started) = (counted()?, ebpf_loader::now());
    let mut listener = Listener::start(pinned, Interest::Drops)?;
    let (mut told, mut missed) = (0, 0);
    // Until the flood was too much, and then until there was room again.
    while missed == 0 {
        rig.datapath.run(Hook::Xdp, &frame)?;
        while let Some(event) = listener.next(Duration::ZERO)? {
            told += 1;
            missed += u64::from(event.missed);
        }
    }
    let took = u64::try_from((ebpf_loader::now() - started).as_nanos())?;
    ensure!(
        told <= Rate::DROPS.burst + took / Rate::DROPS.interval,
        "{told} told in {took} ns"
    );
    ensure!(
        told + missed == counted()? - before,
        "{told} told, {missed} missed, of {}",
        counted()? - before
    );
    // Another reason has a budget of its own.
    let unknown = Frame::tcp(tcp::SYN, client, SocketAddr::new(V4::vip(1), 81)).build();
    rig.datapath.run(Hook::Xdp, &unknown)?;
    let event = listener.next(SOON)?.context("another reason is told")?;
    ensure!(event.dropped() == Some(DropReason::NoService), "{event:?}");
    Ok(())
}

fn several_listen_and_lose_nothing(rig: &Rig, pinned: &Pinned) -> Result<()> {
    rig.install(&node::<V4>(0));
    let (client, vip) = (SocketAddr::new(V4::client(1), 7), SocketAddr::new(V4::vip(1), 80));
    let mut all = Vec::new();
    for _ in 0..PLACES {
        all.push(Listener::start(pinned, Interest::Both)?);
    }
    let one_more = Listener::start(pinned, Interest::Drops);
    ensure!(matches!(one_more, Err(Error::NoPlace(PLACES))), "{one_more:?}");
    rig.datapath
        .run(Hook::Ingress, &Frame::tcp(tcp::SYN, client, vip).build())?;
    for listener in &mut all {
        let event = listener.next(SOON)?.context("each hears")?;
        ensure!(tuple(&event) == Some((client, vip, TCP)), "{event:?}");
    }
    drop(all.pop());
    all.push(Listener::start(pinned, Interest::Drops).context("a place that was given back")?);
    Ok(())
}

fn a_missing_folder_is_named(folder: &Path) -> Result<()> {
    let missing = Pinned::open(&folder.join("nothing"));
    let error = missing.err().context("there is nothing")?;
    ensure!(
        error
            .to_string()
            .contains("has an agent with the load balancer run"),
        "{error}"
    );
    Ok(())
}

fn tuple(event: &Event) -> Option<(SocketAddr, SocketAddr, u8)> {
    let (source, destination) = event.addresses()?;
    Some((
        SocketAddr::new(source, u16::from_be(event.source_port)),
        SocketAddr::new(destination, u16::from_be(event.destination_port)),
        event.protocol,
    ))
}
