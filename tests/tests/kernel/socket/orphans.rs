//! Sockets whose backend is no more.

use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::mpsc::channel;
use std::thread;

use anyhow::{Context as _, Result, bail, ensure};
use ebpf_abi::service::Backend;
use ebpf_abi::{V4, V6, maps};
use ebpf_loader::{Aborted, Orphans};
use nix::libc;
use nix::sched::CloneFlags;
use socket2::{Domain, SockAddr, Socket, Type};

use super::{LIMIT, Node, ask, backend_of, on_a_node, tcp, udp, vips, who};
use crate::attach::ip;
use crate::claims::id;

#[test]
fn sockets_of_a_backend_that_went_are_ended_and_no_others() {
    on_a_node(|node| {
        let orphans = Orphans::open(&node.rig.datapath)?;
        for vip in vips() {
            node.install();
            node.cgroup
                .run(|| ended(node, &orphans, vip).with_context(|| vip.to_string()))?;
        }
        Ok(())
    });
}

fn ended(node: &Node, orphans: &Orphans, vip: SocketAddr) -> Result<()> {
    let cgroup = node.cgroup.path();
    let (stream, socket) = (stream_to(vip, 1)?, socket_to(vip, 1)?);
    let (other_stream, other_socket) = (stream_to(vip, 2)?, socket_to(vip, 2)?);
    let by_name = SocketAddr::new(backend_of(vip, 1), 8080);
    let (direct, direct_socket) = (tcp(by_name)?, udp(by_name)?);
    direct_socket.connect(by_name)?;
    // It had the VIP, and now wants the backend itself.
    let changed = socket_to(vip, 1)?;
    changed.connect(by_name)?;
    let unconnected = unconnected_at(vip, 1)?;
    ensure!(orphans.abort(cgroup)?.is_empty(), "all backends live");
    goes(node, 0)?;
    let mut told = orphans.abort(cgroup)?;
    // Of sockets that were only asked who serves them, and closed, some may still be on their way out.
    told.dedup();
    let asked = SocketAddr::new(vip.ip().to_canonical(), 80);
    let real = SocketAddr::new(by_name.ip().to_canonical(), 8080);
    let of = |protocol| Aborted {
        protocol,
        asked,
        real,
    };
    ensure!(told == [of(6), of(17)], "{told:?}");
    let error = who(&stream).expect_err("ended").raw_os_error();
    ensure!(error == Some(libc::ECONNABORTED), "TCP: {error:?}");
    let error = socket.recv(&mut [0]).expect_err("ended").raw_os_error();
    ensure!(error == Some(libc::ECONNABORTED), "UDP: {error:?}");
    ensure!(who(&other_stream)? == 2 && who(&direct)? == 1);
    for alive in [&other_socket, &direct_socket, &changed] {
        alive.send(&[0])?;
        alive.recv(&mut [0])?;
    }
    ensure!(ask(&unconnected, vip)?.1 == vip);
    ensure!(orphans.abort(cgroup)?.is_empty(), "once");
    Ok(())
}

#[test]
fn sockets_of_pods_are_ended_also_those_that_wait_for_an_answer() {
    on_a_node(|node| {
        let orphans = Orphans::open(&node.rig.datapath)?;
        let cgroup = &node.cgroup;
        let (ready, told) = channel::<()>();
        let (go, gone) = channel::<()>();
        thread::scope(|scope| {
            let pod = scope.spawn(move || {
                cgroup.run(move || {
                    nix::sched::unshare(CloneFlags::CLONE_NEWNET)?;
                    ip("link set lo up")?;
                    // Packets to them are lost.
                    ip("route add 10.0.0.0/24 dev lo src 127.0.0.1")?;
                    ip("-6 route add fd00::/64 dev lo")?;
                    let waiting = [waits_for(vips()[0])?, waits_for(vips()[2])?];
                    ready.send(())?;
                    gone.recv_timeout(LIMIT)?;
                    for socket in waiting {
                        let error = socket.take_error()?.and_then(|error| error.raw_os_error());
                        ensure!(error == Some(libc::ECONNABORTED), "{error:?}");
                    }
                    Ok(())
                })
            });
            if told.recv_timeout(LIMIT).is_ok() {
                ensure!(orphans.abort(cgroup.path())?.is_empty());
                goes(node, 0)?;
                goes(node, 1)?;
                let told = orphans.abort(cgroup.path())?;
                go.send(())?;
                ensure!(told.len() == 2, "{told:?}");
            }
            pod.join().expect("the pod does not panic")
        })
    });
}

/// A socket that has sent its SYN, to which nobody answers.
fn waits_for(vip: SocketAddr) -> Result<Socket> {
    let socket = Socket::new(Domain::for_address(vip), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    let error = socket.connect(&SockAddr::from(vip)).err();
    let error = error.and_then(|error| error.raw_os_error());
    ensure!(error == Some(libc::EINPROGRESS), "{error:?}");
    Ok(socket)
}

/// The backend goes, and its place waits for the next one.
fn goes(node: &Node, place: u32) -> Result<()> {
    let gone = id(place).tombstone();
    let map = node.rig.map(maps::BACKENDS4);
    let backend = map.get::<u32, Backend<V4>>(&place)?.context("a backend")?;
    map.put(&place, &Backend { id: gone, ..backend })?;
    let map = node.rig.map(maps::BACKENDS6);
    let backend = map.get::<u32, Backend<V6>>(&place)?.context("a backend")?;
    map.put(&place, &Backend { id: gone, ..backend })
        .context("a write")
}

/// A connection that this backend serves.
fn stream_to(vip: SocketAddr, n: u8) -> Result<TcpStream> {
    for _ in 0..100 {
        let stream = tcp(vip)?;
        if who(&stream)? == n {
            return Ok(stream);
        }
    }
    bail!("backend {n} never comes")
}

/// A socket without connection whose datagrams this backend gets.
fn unconnected_at(vip: SocketAddr, n: u8) -> Result<UdpSocket> {
    for _ in 0..100 {
        let socket = udp(vip)?;
        if ask(&socket, vip)?.0 == n {
            return Ok(socket);
        }
    }
    bail!("backend {n} never comes")
}

/// A connected socket that this backend serves.
fn socket_to(vip: SocketAddr, n: u8) -> Result<UdpSocket> {
    for _ in 0..100 {
        let socket = udp(vip)?;
        socket.connect(vip)?;
        socket.send(&[0])?;
        let mut answer = [0];
        socket.recv(&mut answer)?;
        if answer == [n] {
            return Ok(socket);
        }
    }
    bail!("backend {n} never comes")
}
