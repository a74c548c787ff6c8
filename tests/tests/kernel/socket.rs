//! The programs of sockets, with real sockets of threads in a cgroup of the test.
//!
//! ```text
//!   node: a network namespace with nothing but lo, and on it
//!         10.0.0.n, fd00::n           backends 1 and 2, port 8080, TCP and UDP: each says its number, again and again
//!         198.51.100.1, 2001:db8:c::1 for clients that bind
//!   cgroup: clients that ask for 192.0.2.1 and 2001:db8:f::1, port 80, to which there is no route
//! ```

#[path = "socket/cgroup.rs"]
mod cgroup;
#[path = "socket/orphans.rs"]
mod orphans;
#[path = "socket/told.rs"]
mod told;

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ebpf_abi::config::{
    Affinity, AffinityKey, Direction, FORWARDED, PRESENT, RangeKey, counter, drop_counter,
};
use ebpf_abi::model::Model;
use ebpf_abi::packet::{TCP, UDP};
use ebpf_abi::service::{BackendState, Frontend, FrontendKey, Set, flag};
use ebpf_abi::socket::{Datagram, DatagramKey, choice};
use ebpf_abi::track::tcp;
use ebpf_abi::{DropReason, FrontendId, V4, V6, maps};
use ebpf_loader::{Hook, Means, Pinned, SocketHook, Surroundings};
use nix::sched::CloneFlags;

use self::cgroup::Cgroup;
use crate::attach::{ip, until_local};
use crate::claims::{Ends, SET, node};
use crate::packet::Frame;
use crate::rig::{Rig, lacking, own_bpffs};

/// Nothing here takes long; loading on a busy machine takes longest.
const LIMIT: Duration = Duration::from_mins(1);

/// A node whose programs hang at a cgroup.
struct Node {
    rig: Rig,
    pinned: Pinned,
    cgroup: Cgroup,
    four: Model<V4>,
    six: Model<V6>,
}

impl Node {
    /// Writes the maps of both families anew.
    fn install(&self) {
        install(&self.rig, &self.four, &self.six);
    }

    fn edit(&mut self, change: impl Fn(&mut Frontend)) {
        let frontends = self.four.frontends.values_mut();
        frontends.for_each(&change);
        self.six.frontends.values_mut().for_each(&change);
        self.install();
    }

    fn counted(&self, what: u32) -> u64 {
        let counter = self.rig.map(maps::COUNTERS).counter(what);
        counter.expect("a counter").packets
    }

    fn datagrams(&self) -> usize {
        let all = self.rig.map(maps::DATAGRAMS).all::<DatagramKey, Datagram>();
        all.expect("the map").len()
    }
}

fn install(rig: &Rig, four: &Model<V4>, six: &Model<V6>) {
    rig.install(four);
    let mut six = six.clone();
    // `install` empties what families share.
    for (word, bits) in &four.filter {
        *six.filter.entry(*word).or_default() |= bits;
    }
    rig.install(&six);
}

/// Runs a claim on a node of its own, on a thread with namespaces of its own.
fn on_a_node(claim: fn(&mut Node) -> Result<()>) {
    if let Some(why) = lacking() {
        println!("skipped: {why}");
        return;
    }
    let scenario = thread::spawn(move || {
        let folder = tempfile::tempdir()?;
        own_bpffs(folder.path(), CloneFlags::CLONE_NEWNET)?;
        let Some(cgroup) = Cgroup::new()? else {
            println!("skipped: no cgroup of version 2 takes threads here");
            return Ok(());
        };
        network()?;
        let mut rig = Rig::load(folder.path())?;
        let (four, six) = (node::<V4>(2), node::<V6>(2));
        install(&rig, &four, &six);
        rig.datapath.write_surroundings(&surroundings())?;
        ensure!(rig.datapath.attach_sockets(cgroup.path())? == Means::Link);
        let mut node = Node {
            rig,
            pinned: Pinned::open(folder.path())?,
            cgroup,
            four,
            six,
        };
        claim(&mut node)
    });
    let done: Result<()> = scenario.join().expect("the node does not panic");
    done.unwrap_or_else(|error| panic!("{error:?}"));
}

fn surroundings() -> Surroundings {
    Surroundings {
        node4: Some(Ipv4Addr::new(10, 0, 0, 1)),
        node6: Some("fd00::1".parse().expect("an address")),
        node_ports: 30_000..=32_767,
        choices: 0,
        own: [V4::backend(1), V6::backend(1)].into(),
        others: [V4::client(77), V6::client(77)].into(),
    }
}

/// Addresses, and backends that listen.
fn network() -> Result<()> {
    ip("link set lo up")?;
    for address in [
        "10.0.0.1/32",
        "10.0.0.2/32",
        "fd00::1/128 nodad",
        "fd00::2/128 nodad",
        "198.51.100.1/32",
        "2001:db8:c::1/128 nodad",
    ] {
        ip(&format!("addr add {address} dev lo"))?;
    }
    for address in [V6::backend(1), V6::backend(2), V6::client(1)] {
        until_local(address)?;
    }
    for n in [1, 2] {
        for address in [V4::backend(n), V6::backend(n)] {
            serve(SocketAddr::new(address, 8080), n)?;
        }
    }
    Ok(())
}

fn serve(at: SocketAddr, n: u8) -> Result<()> {
    let listener = TcpListener::bind(at)?;
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut heard = [0];
                while stream.read_exact(&mut heard).is_ok() && stream.write_all(&[n]).is_ok() {}
            });
        }
    });
    let socket = UdpSocket::bind(at)?;
    thread::spawn(move || {
        let mut heard = [0; 16];
        while let Ok((_, from)) = socket.recv_from(&mut heard) {
            let _ = socket.send_to(&[n], from);
        }
    });
    Ok(())
}

/// The VIP in all forms that a program may name it in.
fn vips() -> [SocketAddr; 3] {
    let IpAddr::V4(four) = V4::vip(1) else {
        unreachable!()
    };
    [V4::vip(1), V6::vip(1), four.to_ipv6_mapped().into()].map(|address| SocketAddr::new(address, 80))
}

fn tcp(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(LIMIT))?;
    Ok(stream)
}

/// A socket without peer that can write there.
fn udp(to: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(match to {
        SocketAddr::V4(_) => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
        SocketAddr::V6(_) => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0),
    })?;
    socket.set_read_timeout(Some(LIMIT))?;
    Ok(socket)
}

/// Who is at the other end.
fn who(mut stream: &TcpStream) -> io::Result<u8> {
    stream.write_all(&[0])?;
    let mut answer = [0];
    stream.read_exact(&mut answer)?;
    Ok(answer[0])
}

/// Asks with one datagram; who answers, and from where.
fn ask(socket: &UdpSocket, to: SocketAddr) -> io::Result<(u8, SocketAddr)> {
    socket.send_to(&[0], to)?;
    let mut answer = [0];
    let (_, from) = socket.recv_from(&mut answer)?;
    Ok((answer[0], from))
}

#[test]
fn a_tcp_connection_goes_to_a_backend_and_its_peer_is_the_vip() {
    on_a_node(|node| {
        let forwarded = counter(Direction::Socket, FORWARDED);
        let before = node.counted(forwarded);
        node.cgroup.run(|| {
            for vip in vips() {
                let stream = tcp(vip).with_context(|| vip.to_string())?;
                ensure!([1, 2].contains(&who(&stream)?));
                ensure!(stream.peer_addr()? == vip, "{vip}: {}", stream.peer_addr()?);
            }
            Ok(())
        })?;
        ensure!(node.counted(forwarded) == before + 3);
        let direct = tcp(vips()[0]);
        ensure!(direct.is_err(), "outside the cgroup there is no such address");
        Ok(())
    });
}

#[test]
fn connected_udp_shows_the_vip_everywhere() {
    on_a_node(|node| {
        node.cgroup.run(|| {
            for vip in vips() {
                let socket = udp(vip)?;
                socket.connect(vip).with_context(|| vip.to_string())?;
                socket.send(&[0])?;
                let mut answer = [0];
                let (_, from) = socket.recv_from(&mut answer)?;
                ensure!(from == vip && socket.peer_addr()? == vip, "{vip}: {from}");
            }
            Ok(())
        })?;
        ensure!(node.datagrams() == 0, "what is connected needs no entries");
        Ok(())
    });
}

#[test]
fn unconnected_udp_hears_the_vip_stays_with_its_backend_and_leaves_nothing() {
    on_a_node(|node| {
        for vip in vips() {
            node.cgroup.run(|| {
                let socket = udp(vip)?;
                let (first, _) = ask(&socket, vip).with_context(|| vip.to_string())?;
                for _ in 0..20 {
                    ensure!(ask(&socket, vip)? == (first, vip));
                }
                let (strange, from) = ask(&socket, SocketAddr::new(backend_of(vip, 3 - first), 8080))?;
                let port = from.port();
                ensure!(
                    strange == 3 - first && port == 8080,
                    "a backend by its own name is itself"
                );
                ensure!(node.datagrams() == 2);
                Ok(())
            })?;
            // A child that another test starts just now holds copies of all sockets until it runs its program.
            lab::until(LIMIT, format!("the entries of {vip} to go"), || {
                match node.datagrams() {
                    0 => Ok(()),
                    left => Err(format!("{left} are left")),
                }
            })?;
        }
        Ok(())
    });
}

/// A backend in the form that the VIP was named in.
fn backend_of(vip: SocketAddr, n: u8) -> IpAddr {
    match (vip.ip(), vip.ip().to_canonical()) {
        (IpAddr::V6(_), IpAddr::V4(_)) => match V4::backend(n) {
            IpAddr::V4(four) => four.to_ipv6_mapped().into(),
            IpAddr::V6(_) => unreachable!(),
        },
        (_, IpAddr::V4(_)) => V4::backend(n),
        (_, IpAddr::V6(_)) => V6::backend(n),
    }
}

#[test]
fn affinity_is_one_for_sockets_and_packets_of_a_client() {
    on_a_node(|node| {
        node.edit(|frontend| frontend.affinity = 100);
        affinity::<V4>(node)?;
        affinity::<V6>(node)
    });
}

fn affinity<A: Ends>(node: &mut Node) -> Result<()> {
    let vip = SocketAddr::new(A::vip(1), 80);
    let client = SocketAddr::new(A::client(1), 4000);
    // The socket first, then a packet of the same client.
    let first = node.cgroup.run(|| {
        let socket = UdpSocket::bind(SocketAddr::new(A::client(1), 0))?;
        socket.set_read_timeout(Some(LIMIT))?;
        socket.connect(vip)?;
        socket.send(&[0])?;
        let mut answer = [0];
        socket.recv(&mut answer)?;
        Ok(answer[0])
    })?;
    let ran = node
        .rig
        .datapath
        .run(Hook::Ingress, &Frame::tcp(tcp::SYN, client, vip).build())?;
    let served = SocketAddr::new(A::backend(first), 8080);
    let expected = Frame::tcp(tcp::SYN, client, served).build();
    ensure!(ran.packet == expected, "the packet goes to the socket's backend");
    // The other way round, for sockets of a namespace that the agent knows.
    let other = SocketAddr::new(A::client(2), 4000);
    let datapath = &node.rig.datapath;
    datapath.run(Hook::Ingress, &Frame::tcp(tcp::SYN, other, vip).build())?;
    let key = AffinityKey {
        client: A::of(A::client(2)),
        service: 9,
    };
    let affinities = node.rig.map(A::AFFINITY);
    let kept: Affinity = affinities.get(&key)?.context("affinity of the packet")?;
    let kept = u8::try_from(kept.backend.index() + 1)?;
    let (ready, told) = channel::<()>();
    let (go, gone) = channel::<()>();
    let cgroup = &node.cgroup;
    thread::scope(|scope| {
        let pod = scope.spawn(move || {
            cgroup.run(move || {
                nix::sched::unshare(CloneFlags::CLONE_NEWNET)?;
                ip("link set lo up")?;
                let bits = if A::client(2).is_ipv4() { "32" } else { "128" };
                let nodad = if bits == "32" { "" } else { " nodad" };
                ip(&format!("addr add {}/{bits} dev lo{nodad}", A::client(2)))?;
                until_local(A::client(2))?;
                // To the other backend there is no route.
                ip(&format!("route add {}/{bits} dev lo", A::backend(kept)))?;
                ready.send(())?;
                gone.recv_timeout(LIMIT)?;
                for _ in 0..10 {
                    udp(vip)?.connect(vip).context("the backend of the packet")?;
                }
                Ok(())
            })
        });
        if told.recv_timeout(LIMIT).is_ok() {
            let count = node.rig.datapath.follow_namespaces(cgroup.path())?;
            ensure!(count >= 1, "the pod's namespace is seen");
            go.send(())?;
        }
        pod.join().expect("the pod does not panic")
    })?;
    let clients: Vec<(AffinityKey<A>, Affinity)> = affinities.all()?;
    ensure!(
        clients.len() == 2,
        "one for each client, of packets and sockets: {clients:?}"
    );
    Ok(())
}

#[test]
fn a_terminating_backend_keeps_what_it_has_and_gets_nothing_new() {
    on_a_node(|node| {
        for vip in vips() {
            node.install();
            let (four, six) = (node.four.clone(), node.six.clone());
            let (rig, cgroup) = (&node.rig, &node.cgroup);
            cgroup.run(|| {
                let (stream, socket) = (tcp(vip)?, udp(vip)?);
                let (old, (datagram, _)) = (who(&stream)?, ask(&socket, vip)?);
                for going in [old, datagram] {
                    terminate(rig, four.clone(), six.clone(), going);
                    for _ in 0..10 {
                        ensure!(who(&tcp(vip)?)? == 3 - going, "a new one goes elsewhere");
                    }
                    ensure!(who(&stream)? == old);
                    ensure!(ask(&socket, vip)? == (datagram, vip));
                }
                Ok(())
            })?;
        }
        Ok(())
    });
}

/// The backend leaves: it drains in the set, and may no longer be chosen.
fn terminate(rig: &Rig, mut four: Model<V4>, mut six: Model<V6>, going: u8) {
    let place = u32::from(going) - 1;
    let state = BackendState::Terminating.number();
    four.backends.get_mut(&place).expect("it is there").state = state;
    six.backends.get_mut(&place).expect("it is there").state = state;
    // The other one alone.
    let set = Set::new(100 + u32::from(2 - going), 1, 1);
    four.sets.insert(SET, set);
    six.sets.insert(SET, set);
    // In place, as an agent does: entries of sockets must stay.
    for (index, backend) in &four.backends {
        rig.map(maps::BACKENDS4).put(index, backend).expect("a write");
    }
    for (index, backend) in &six.backends {
        rig.map(maps::BACKENDS6).put(index, backend).expect("a write");
    }
    rig.map(maps::SETS).put(&SET, &set).expect("a write");
}

#[test]
fn without_backend_a_program_hears_it_at_once() {
    on_a_node(|node| {
        let none = Set::default();
        node.rig.map(maps::SETS).put(&SET, &none)?;
        let refused = drop_counter(Direction::Socket, DropReason::NoService);
        let before = node.counted(refused);
        node.cgroup.run(|| {
            for vip in vips() {
                for error in [
                    tcp(vip).err(),
                    udp(vip)?.connect(vip).err(),
                    udp(vip)?.send_to(&[0], vip).err(),
                ] {
                    let error = error.and_then(|error| error.raw_os_error());
                    ensure!(error == Some(nix::libc::ECONNREFUSED), "{vip}: {error:?}");
                }
            }
            Ok(())
        })?;
        ensure!(node.counted(refused) == before + 9, "each is counted by its name");
        Ok(())
    });
}

#[test]
fn source_ranges_hold_for_sockets() {
    on_a_node(|node| {
        let range = RangeKey {
            bits: 32 + 24,
            list: 4,
            address: V4::of(V4::client(0)),
        };
        node.four.ranges.insert(range, PRESENT);
        let range = RangeKey {
            bits: 32 + 64,
            list: 4,
            address: V6::of(V6::client(0)),
        };
        node.six.ranges.insert(range, PRESENT);
        node.edit(|frontend| frontend.ranges = 4);
        node.cgroup.run(|| {
            for vip in vips().into_iter().take(2) {
                let (listed, other) = match vip.ip() {
                    IpAddr::V4(_) => (V4::client(1), V4::backend(1)),
                    IpAddr::V6(_) => (V6::client(1), V6::backend(1)),
                };
                UdpSocket::bind(SocketAddr::new(listed, 0))?.connect(vip)?;
                let refused = UdpSocket::bind(SocketAddr::new(other, 0))?.connect(vip);
                let error = refused.expect_err("not listed").raw_os_error();
                ensure!(error == Some(nix::libc::EPERM), "{vip}: {error:?}");
            }
            Ok(())
        })
    });
}

#[test]
fn node_ports_answer_at_loopback_and_may_not_be_bound() {
    on_a_node(|node| {
        node_port(&mut node.four);
        node_port(&mut node.six);
        node.install();
        let everywhere = [
            V4::backend(1),
            V6::backend(1),
            Ipv4Addr::LOCALHOST.into(),
            Ipv6Addr::LOCALHOST.into(),
            V4::client(77),
            V6::client(77),
        ];
        node.cgroup.run(|| {
            for address in everywhere {
                let at = SocketAddr::new(address, 30_080);
                let stream = tcp(at).with_context(|| at.to_string())?;
                ensure!([1, 2].contains(&who(&stream)?) && stream.peer_addr()? == at);
            }
            // Not asked to protect them.
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, 30_080)).map(drop)?;
            Ok(())
        })?;
        node.rig.datapath.write_surroundings(&Surroundings {
            choices: choice::PROTECT_PORTS,
            ..surroundings()
        })?;
        node.cgroup.run(|| {
            let unspecified: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
            for address in everywhere.into_iter().take(4).chain(unspecified) {
                let bound = TcpListener::bind(SocketAddr::new(address, 30_080));
                let error = bound.expect_err("it is a frontend's").raw_os_error();
                ensure!(error == Some(nix::libc::EADDRINUSE), "{address}: {error:?}");
                TcpListener::bind(SocketAddr::new(address, 30_081)).map(drop)?;
            }
            Ok(())
        })
    });
}

fn node_port<A: Ends>(model: &mut Model<A>) {
    let known = *model.frontends.values().next_back().expect("it has some");
    let id = FrontendId::new(7, 1).expect("it fits");
    model.live_frontends.insert(7, id);
    let frontend = Frontend {
        id,
        flags: flag::NODE_PORT | flag::ROUTABLE,
        ..known
    };
    for protocol in [TCP, UDP] {
        let key = FrontendKey::new(A::of(A::backend(1)), 30_080_u16.to_be(), protocol);
        model.frontends.insert(key, frontend);
    }
    model.watch(&A::of(A::backend(1)));
}

#[test]
fn no_connection_fails_while_agents_come_and_go() {
    on_a_node(|node| {
        let over = AtomicBool::new(false);
        let folder = node
            .rig
            .datapath
            .folder()
            .parent()
            .context("a folder")?
            .to_owned();
        let cgroup = &node.cgroup;
        thread::scope(|scope| {
            let clients = scope.spawn(|| {
                cgroup.run(|| {
                    let mut count = 0;
                    while !over.load(Ordering::Relaxed) {
                        for vip in vips() {
                            let stream = tcp(vip)?;
                            ensure!([1, 2].contains(&who(&stream)?));
                            ensure!(stream.peer_addr()? == vip, "a backend is shown");
                            let socket = udp(vip)?;
                            ensure!(ask(&socket, vip)?.1 == vip);
                            count += 1;
                        }
                    }
                    Ok(count)
                })
            });
            let restarts = (0..3).try_for_each(|_| restart(&folder, cgroup.path()));
            over.store(true, Ordering::Relaxed);
            let count = clients.join().expect("clients do not panic")?;
            restarts?;
            ensure!(count > 0);
            Ok(())
        })
    });
}

/// Another agent with the same folder, while the first one is there, as after a kill.
fn restart(folder: &Path, cgroup: &Path) -> Result<()> {
    let mut rig = Rig::load(folder)?;
    ensure!(rig.datapath.attach_sockets(cgroup)? == Means::Link);
    Ok(())
}

#[test]
fn two_agents_with_two_cgroups_never_meet() {
    on_a_node(|first| {
        let folder = tempfile::tempdir()?;
        own_bpffs(folder.path(), CloneFlags::empty())?;
        let cgroup = Cgroup::new()?.context("another cgroup")?;
        let mut rig = Rig::load(folder.path())?;
        let (mut four, mut six) = (node::<V4>(2), node::<V6>(2));
        // The first agent knows only the first backend, the second one the second.
        let only = |place: u32| Set::new(100 + place, 1, 1);
        first.four.sets.insert(SET, only(0));
        first.six.sets.insert(SET, only(0));
        first.install();
        four.sets.insert(SET, only(1));
        six.sets.insert(SET, only(1));
        install(&rig, &four, &six);
        rig.datapath.write_surroundings(&surroundings())?;
        rig.datapath.attach_sockets(cgroup.path())?;
        let reached = |cgroup: &Cgroup| {
            cgroup.run(|| {
                let each = vips().map(|vip| Ok(who(&tcp(vip)?)?));
                each.into_iter().collect::<Result<Vec<u8>>>()
            })
        };
        ensure!(reached(&first.cgroup)? == [1, 1, 1]);
        ensure!(reached(&cgroup)? == [2, 2, 2]);
        first.rig.datapath.detach_sockets(first.cgroup.path())?;
        ensure!(reached(&first.cgroup).is_err(), "nobody serves it any more");
        ensure!(reached(&cgroup)? == [2, 2, 2], "the other one goes on");
        Ok(())
    });
}

#[test]
fn links_follow_to_another_cgroup() {
    on_a_node(|node| {
        let other = Cgroup::new()?.context("another cgroup")?;
        node.rig.datapath.attach_sockets(other.path())?;
        other.run(|| Ok(who(&tcp(vips()[0])?)?))?;
        let left = node.cgroup.run(|| Ok(tcp(vips()[0]).is_err()))?;
        ensure!(left, "the one before is free");
        Ok(())
    });
}

#[test]
fn without_links_attachments_serve_and_are_replaced() {
    on_a_node(|node| {
        let datapath = &mut node.rig.datapath;
        datapath.detach_sockets(node.cgroup.path())?;
        datapath.attach_sockets_by(Means::Attachment, node.cgroup.path())?;
        let folder = datapath.folder().parent().context("a folder")?.to_owned();
        let serves = || {
            node.cgroup.run(|| {
                let stream = tcp(vips()[1])?;
                ensure!(stream.peer_addr()? == vips()[1]);
                Ok(who(&stream)?)
            })
        };
        serves()?;
        let mut second = Rig::load(&folder)?;
        second
            .datapath
            .attach_sockets_by(Means::Attachment, node.cgroup.path())?;
        serves()?;
        second.datapath.detach_sockets(node.cgroup.path())?;
        ensure!(serves().is_err(), "one detach is enough: the first was replaced");
        Ok(())
    });
}

#[test]
fn every_program_of_sockets_has_a_name_of_its_own() {
    let mut names: Vec<_> = SocketHook::ALL.map(SocketHook::program).into();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), SocketHook::ALL.len());
}
