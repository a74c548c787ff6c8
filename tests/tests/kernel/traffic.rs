//! Real connections through a node to a backend on another one.
//!
//! ```text
//!   client  198.51.100.1  --veth--  198.51.100.2  node  10.0.0.254  --veth--  10.0.0.1  backend, port 8080
//!           2001:db8:c::1           2001:db8:c::2       fd00::fe              fd00::1
//!   asks for 192.0.2.1 and 2001:db8:f::1, port 80
//! ```

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ebpf_abi::config::{Device, device_flag};
use ebpf_abi::model::Model;
use ebpf_abi::{V4, V6};
use ebpf_loader::{Hook, Mode, Sums};
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, unshare};

use crate::claims::{Ends, node};
use crate::rig::{Rig, lacking, own_bpffs};

const LIMIT: Duration = Duration::from_secs(20);
/// More than any packet takes.
const DATA: usize = 64 * 1024;
pub(crate) const CLIENTS: u16 = 20;
/// The other end of each cable.
const PEER: &str = "02:00:00:00:00:0b";

#[test]
fn a_client_is_served_by_a_backend_elsewhere_through_tc() {
    served(&[(Hook::Ingress, Mode::Tcx)], 0, Peers::SumUp);
}

#[test]
fn sums_stay_right_where_the_kernel_knows_no_addresses_of_ipv6() {
    for peers in [Peers::SumUp, Peers::LeaveSums] {
        served_with(&[(Hook::Ingress, Mode::Tcx)], 0, peers, Sums::Untold);
    }
}

#[test]
fn sums_stay_right_that_a_sender_leaves_to_its_device() {
    served(&[(Hook::Ingress, Mode::Tcx)], 0, Peers::LeaveSums);
}

#[test]
fn a_client_is_served_by_a_backend_elsewhere_through_xdp_of_the_stack() {
    served(
        &[(Hook::Xdp, Mode::Generic), (Hook::Ingress, Mode::Tcx)],
        device_flag::TAKES_FRAMES,
        Peers::SumUp,
    );
}

#[test]
fn a_client_is_served_by_a_backend_elsewhere_through_xdp_in_the_driver_alone() {
    served(
        &[(Hook::Xdp, Mode::Native)],
        device_flag::TAKES_FRAMES,
        Peers::SumUp,
    );
}

#[test]
fn a_device_that_takes_no_frames_of_xdp_is_served_by_tc() {
    served(
        &[(Hook::Xdp, Mode::Native), (Hook::Ingress, Mode::Tcx)],
        0,
        Peers::SumUp,
    );
}

/// What client and backend do about checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peers {
    SumUp,
    /// The device does it, or the kernel where the device does not.
    LeaveSums,
}

fn served(hooks: &'static [(Hook, Mode)], flags: u32, peers: Peers) {
    served_with(hooks, flags, peers, Sums::Told);
}

fn served_with(hooks: &'static [(Hook, Mode)], flags: u32, peers: Peers, sums: Sums) {
    if let Some(why) = lacking() {
        println!("skipped: {why}");
        return;
    }
    let scenario = thread::spawn(move || scenario(hooks, flags, peers, sums));
    let done = scenario.join().expect("the node does not panic");
    done.unwrap_or_else(|error| panic!("{peers:?}, {sums:?}: {error:?}"));
}

/// A thread with a network of its own, which does what it is told.
pub(crate) struct Place {
    orders: Sender<Box<dyn FnOnce() + Send>>,
    namespace: String,
}

impl Place {
    fn new() -> Result<Self> {
        let (orders, heard) = channel::<Box<dyn FnOnce() + Send>>();
        let (tell, told) = channel();
        thread::spawn(move || {
            let done = unshare(CloneFlags::CLONE_NEWNET);
            let here = (std::process::id(), nix::unistd::gettid());
            if tell
                .send(done.map(|()| format!("/proc/{}/task/{}/ns/net", here.0, here.1)))
                .is_ok()
            {
                heard.into_iter().for_each(|order| order());
            }
        });
        let namespace = told.recv()?.context("a network namespace")?;
        Ok(Self { orders, namespace })
    }

    pub(crate) fn run<T: Send + 'static>(&self, order: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let (tell, told) = channel();
        self.orders
            .send(Box::new(move || drop(tell.send(order()))))
            .ok()
            .context("the place is gone")?;
        told.recv().context("the order panicked")
    }
}

fn scenario(hooks: &[(Hook, Mode)], flags: u32, peers: Peers, sums: Sums) -> Result<()> {
    let folder = tempfile::tempdir()?;
    own_bpffs(folder.path(), CloneFlags::CLONE_NEWNET)?;
    let (client, backend) = network()?;
    if peers == Peers::LeaveSums {
        for place in [&client, &backend] {
            place.run(|| run("ethtool -K peer tx on"))??;
        }
        // The sum is made where the packet leaves: who gets it sees whether it is right.
        for name in ["front", "back"] {
            run(&format!("ethtool -K {name} tx off"))?;
        }
    }
    let mut rig = Rig::load_with(folder.path(), sums)?;
    for name in ["front", "back"] {
        for (hook, mode) in hooks {
            rig.datapath
                .attach_as(*hook, name, if_nametoindex(name)?, *mode)?;
        }
    }
    install(&rig, flags)?;
    client.run(|| ask(V4::vip(1)))??;
    client.run(|| ask(V6::vip(1)))??;
    let flows = (
        rig.written(&Model::<V4>::default()).flows.len(),
        rig.written(&Model::<V6>::default()).flows.len(),
    );
    let expected = 2 * 2 * usize::from(CLIENTS);
    ensure!(
        flows == (expected, expected),
        "two entries for each flow: {flows:?}"
    );
    Ok(())
}

/// The network around this thread, which is the node: the client, and the backend, which listens.
pub(crate) fn network() -> Result<(Place, Place)> {
    let (client, backend) = (Place::new()?, Place::new()?);
    run("sysctl -qw net.ipv4.conf.all.forwarding=1 net.ipv6.conf.all.forwarding=1")?;
    run("ip link set lo up")?;
    for (name, place, addresses, others) in [
        (
            "front",
            &client,
            ["198.51.100.2/24", "2001:db8:c::2/64"],
            ["198.51.100.1", "2001:db8:c::1"],
        ),
        (
            "back",
            &backend,
            ["10.0.0.254/24", "fd00::fe/64"],
            ["10.0.0.1", "fd00::1"],
        ),
    ] {
        run(&format!(
            "ip link add {name} type veth peer name peer address {PEER} netns {}",
            place.namespace
        ))?;
        run(&format!("ip link set {name} up"))?;
        for address in addresses {
            run(&format!(
                "ip addr add {address} dev {name}{}",
                if address.contains(':') { " nodad" } else { "" }
            ))?;
        }
        // XDP asks nobody for a neighbour.
        for other in others {
            run(&format!("ip neigh add {other} lladdr {PEER} dev {name}"))?;
        }
    }
    backend.run(|| -> Result<()> {
        peer(["10.0.0.1/24", "fd00::1/64"])?;
        listen([V4::backend(1), V6::backend(1)])
    })??;
    client.run(|| -> Result<()> {
        peer(["198.51.100.1/24", "2001:db8:c::1/64"])?;
        run("ip route add 192.0.2.0/24 via 198.51.100.2")?;
        run("ip route add 2001:db8:f::/64 via 2001:db8:c::2")
    })??;
    Ok((client, backend))
}

/// Answers with what comes, until the end.
pub(crate) fn listen(addresses: [IpAddr; 2]) -> Result<()> {
    for address in addresses {
        let listener = TcpListener::bind(SocketAddr::new(address, 8080))?;
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || echo(stream));
            }
        });
        let socket = UdpSocket::bind(SocketAddr::new(address, 8080))?;
        thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(&buffer[..length], from);
            }
        });
    }
    Ok(())
}

/// What the other ends of the cables are: hosts that make all checksums themselves, and take what XDP sends.
fn peer(addresses: [&str; 2]) -> Result<()> {
    run("ip link set lo up")?;
    run("ip link set peer up")?;
    // Only of an end that is up the other one hears that it takes frames.
    run("ethtool -K peer tx off gro on")?;
    let [four, six] = addresses;
    run(&format!("ip addr add {four} dev peer"))?;
    run(&format!("ip addr add {six} dev peer nodad"))
}

/// Both families at once: the second one brings along what the first one wrote.
fn install(rig: &Rig, flags: u32) -> Result<()> {
    let (mut four, mut six) = (far::<V4>(), far::<V6>());
    for (name, v4, v6) in [
        ("front", [198, 51, 100, 2], [0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 2]),
        ("back", [10, 0, 0, 254], [0xfd00, 0, 0, 0, 0, 0, 0, 0xfe]),
    ] {
        let (v4, v6) = (V4::of(IpAddr::from(v4)), V6::of(IpAddr::from(v6)));
        let device = Device {
            v4,
            v6,
            flags,
            ..Device::default()
        };
        four.watch(&v4);
        six.watch(&v6);
        six.devices.insert(if_nametoindex(name)?, device);
    }
    for (word, bits) in &four.filter {
        *six.filter.entry(*word).or_default() |= bits;
    }
    rig.install(&four);
    rig.install(&six);
    Ok(())
}

pub(crate) fn far<A: Ends>() -> Model<A> {
    let mut model = node::<A>(1);
    model.backends.get_mut(&0).expect("there").flags = 0;
    model.config.nat_first = 32_768;
    model.config.nat_last = 65_535;
    model
}

/// Many clients at once; all octets come back as they were sent.
pub(crate) fn ask(vip: IpAddr) -> Result<()> {
    let vip = SocketAddr::new(vip, 80);
    let mut streams = Vec::new();
    for n in 0..CLIENTS {
        let stream = TcpStream::connect_timeout(&vip, LIMIT).with_context(|| format!("connection {n}"))?;
        stream.set_read_timeout(Some(LIMIT))?;
        streams.push(stream);
    }
    for (n, stream) in streams.iter_mut().enumerate() {
        let sent: Vec<u8> = (0..DATA)
            .map(|place| u8::try_from((place * 7 + n) % 251).expect("small"))
            .collect();
        let mut writer = stream.try_clone()?;
        let data = sent.clone();
        let writing = thread::spawn(move || writer.write_all(&data));
        let mut back = vec![0; DATA];
        stream.read_exact(&mut back).context("the answer")?;
        writing.join().expect("writing does not panic")?;
        ensure!(back == sent, "what connection {n} sent came back changed");
    }
    // All at once, as the streams are: a port given back could be given out again, and two flows would be one.
    let mut sockets = Vec::new();
    for n in 0..CLIENTS {
        let socket = UdpSocket::bind(if vip.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
        socket.set_read_timeout(Some(LIMIT))?;
        socket.connect(vip)?;
        let sent = vec![u8::try_from(n)?; 1200];
        socket.send(&sent)?;
        let mut back = [0; 2048];
        let length = socket.recv(&mut back).with_context(|| format!("datagram {n}"))?;
        ensure!(back[..length] == sent, "datagram {n} came back changed");
        sockets.push(socket);
    }
    Ok(())
}

fn echo(mut stream: TcpStream) -> Result<()> {
    let mut buffer = vec![0; DATA];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            length => stream.write_all(&buffer[..length])?,
        }
    }
}

pub(crate) fn run(command: &str) -> Result<()> {
    let words: Vec<&str> = command.split(' ').collect();
    let output = Command::new(words[0]).args(&words[1..]).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command}: {said}");
    Ok(())
}
