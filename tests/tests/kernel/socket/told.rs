//! What programs of sockets tell to whoever listens.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ebpf_abi::config::Direction;
use ebpf_abi::event::{Event, Kind};
use ebpf_abi::packet::{TCP, UDP};
use ebpf_abi::service::Set;
use ebpf_abi::{BackendId, DropReason};
use ebpf_loader::{Interest, Listener};

use super::{LIMIT, on_a_node, tcp, udp, vips, who};
use crate::claims::{SET, id};

#[test]
fn a_connection_and_a_datagram_are_told_with_who_asked_and_who_serves() {
    on_a_node(|node| {
        let mut drops = Listener::start(&node.pinned, Interest::Drops)?;
        let mut traces = Listener::start(&node.pinned, Interest::Traces)?;
        for vip in vips() {
            let (served, own) = node.cgroup.run(|| {
                let stream = tcp(vip)?;
                Ok((who(&stream)?, name()?))
            })?;
            let event = traces.next(LIMIT)?.context("a connection is told")?;
            is_of(&event, Kind::Trace, vip, TCP, &own)?;
            ensure!(event.backend == id(u32::from(served) - 1), "{served}: {event:?}");
            let (served, own) = node.cgroup.run(|| {
                let socket = udp(vip)?;
                Ok((super::ask(&socket, vip)?.0, name()?))
            })?;
            let event = traces.next(LIMIT)?.context("a datagram is told")?;
            is_of(&event, Kind::Trace, vip, UDP, &own)?;
            ensure!(event.backend == id(u32::from(served) - 1), "{served}: {event:?}");
        }
        ensure!(drops.next(Duration::ZERO)?.is_none(), "nothing was refused");
        Ok(())
    });
}

#[test]
fn a_refusal_is_told_with_its_reason_and_who_was_refused() {
    on_a_node(|node| {
        node.four.sets.insert(SET, Set::new(0, 0, 0));
        node.six.sets.insert(SET, Set::new(0, 0, 0));
        node.install();
        let mut drops = Listener::start(&node.pinned, Interest::Drops)?;
        for vip in vips() {
            let own = node.cgroup.run(|| {
                ensure!(tcp(vip).is_err(), "nobody serves {vip}");
                name()
            })?;
            let event = drops.next(LIMIT)?.context("a refusal is told")?;
            is_of(&event, Kind::Drop, vip, TCP, &own)?;
            ensure!(event.dropped() == Some(DropReason::NoService), "{event:?}");
            ensure!(event.backend == BackendId::NONE, "{event:?}");
        }
        ensure!(drops.next(Duration::ZERO)?.is_none(), "once each");
        Ok(())
    });
}

/// What the kernel calls this thread.
fn name() -> Result<String> {
    let name = std::fs::read_to_string("/proc/thread-self/comm")?;
    Ok(name.trim_end().to_owned())
}

fn is_of(event: &Event, kind: Kind, vip: SocketAddr, protocol: u8, own: &str) -> Result<()> {
    ensure!(event.kind == kind.number(), "{event:?}");
    ensure!(event.direction == Direction::Socket as u8, "{event:?}");
    let (_, asked) = event.addresses().context("it has addresses")?;
    let port = u16::from_be(event.destination_port);
    ensure!(
        (asked, port) == (vip.ip().to_canonical(), vip.port()),
        "{event:?}"
    );
    ensure!(event.protocol == protocol, "{event:?}");
    let frontend = if protocol == TCP { 5 } else { 6 };
    ensure!(event.frontend.index() == frontend, "of its service: {event:?}");
    let caller = event.caller().context("a socket has a caller")?;
    let name = caller.name.split(|octet| *octet == 0).next();
    ensure!(name == Some(own.as_bytes()), "{own}: {caller:?}");
    ensure!(caller.process == std::process::id(), "{caller:?}");
    ensure!(event.packet().is_empty() && event.device == 0, "{event:?}");
    Ok(())
}
