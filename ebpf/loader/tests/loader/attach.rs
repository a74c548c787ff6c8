//! Programs at devices: in every mode with real connections, beside programs of others, and where devices come and go.
//!
//! ```text
//!   client  198.51.100.1, 2001:db8:c::1  --veth--  198.51.100.2, 2001:db8:c::2  node
//!                                                  10.0.0.1, fd00::1 on lo: the backend, port 8080
//!   asks for 192.0.2.1 and 2001:db8:f::1, port 80
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aya::programs::{SchedClassifier, TcAttachType};
use crds::Object;
use ebpf_abi::config::{Direction, FORWARDED, counter};
use ebpf_abi::maglev::Seeds;
use ebpf_abi::maps;
use ebpf_datapath::ThisNode;
use ebpf_datapath::incremental::{Change, Incremental};
use ebpf_loader::{Datapath, Error, Hook, Mode, Store};
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, unshare};

use crate::node::{load, node, run};
use crate::store::read;

/// Nothing here takes long; loading on a busy machine takes longest.
const LIMIT: Duration = Duration::from_mins(2);
const ROUNDS: usize = 10;
/// More than a packet.
const CHUNK: usize = 60_000;

#[test]
fn connections_are_served_over_a_restart_by_xdp_in_the_driver() {
    node(|folder| scenario(folder, [(Hook::Xdp, Mode::Native), (Hook::Egress, Mode::Tcx)]));
}

#[test]
fn connections_are_served_over_a_restart_by_generic_xdp() {
    node(|folder| scenario(folder, [(Hook::Xdp, Mode::Generic), (Hook::Egress, Mode::Tcx)]));
}

#[test]
fn connections_are_served_over_a_restart_by_filters_where_there_is_no_tcx() {
    node(|folder| {
        scenario(
            folder,
            [(Hook::Ingress, Mode::Filter), (Hook::Egress, Mode::Filter)],
        )
    });
}

#[test]
fn programs_of_others_stay() {
    node(|folder| {
        let index = veth()?;
        // Another agent of this kind, which keeps its things in another folder.
        let (ours, theirs) = (folder.join("ours"), folder.join("theirs"));
        std::fs::create_dir(&ours)?;
        std::fs::create_dir(&theirs)?;
        let mut others = load(&theirs, &BTreeMap::new())?;
        let mut datapath = load(&ours, &BTreeMap::new())?;
        for mode in [Mode::Native, Mode::Generic] {
            others.attach_as(Hook::Xdp, "veth0", index, mode)?;
            let before = run("ip -d link show veth0")?;
            let refused = datapath.attach(Hook::Xdp, "veth0", index);
            ensure!(matches!(refused, Err(Error::Occupied { .. })), "{refused:?}");
            ensure!(run("ip -d link show veth0")? == before, "it was touched");
        }
        for mode in [Mode::Tcx, Mode::Filter] {
            others.attach_as(Hook::Ingress, "veth0", index, mode)?;
        }
        datapath.attach(Hook::Ingress, "veth0", index)?;
        ensure!(tcx()? == 1, "filters are not links");
        others.attach_as(Hook::Ingress, "veth0", index, Mode::Tcx)?;
        ensure!(tcx()? == 2, "both hang there");
        datapath.detach(Hook::Ingress, "veth0", index)?;
        ensure!(tcx()? == 1, "the other one stays");
        Ok(())
    });
}

#[test]
fn a_better_mode_takes_over_and_leaves_nothing_behind() {
    node(|folder| {
        let index = veth()?;
        let mut datapath = load(folder, &BTreeMap::new())?;
        datapath.attach_as(Hook::Ingress, "veth0", index, Mode::Filter)?;
        ensure!(filters()?.contains("from_netdev"), "{}", filters()?);
        // A start takes what it finds.
        let mut datapath = load(folder, &BTreeMap::new())?;
        let found = datapath.attach(Hook::Ingress, "veth0", index)?;
        ensure!(found.mode == Mode::Filter, "{found:?}");
        ensure!(filters()?.matches("direct-action").count() == 1, "{}", filters()?);
        datapath.attach_as(Hook::Ingress, "veth0", index, Mode::Tcx)?;
        ensure!(!filters()?.contains("from_netdev"), "{}", filters()?);
        ensure!(tcx()? == 1, "it hangs by a link");
        datapath.attach_as(Hook::Xdp, "veth0", index, Mode::Generic)?;
        datapath.attach_as(Hook::Xdp, "veth0", index, Mode::Native)?;
        ensure!(
            !run("ip -d link show veth0")?.contains("xdpgeneric"),
            "generic is off"
        );
        Ok(())
    });
}

#[test]
fn devices_that_are_left_out_go_free() {
    node(|folder| {
        let index = veth()?;
        let mut datapath = load(folder, &BTreeMap::new())?;
        datapath.attach(Hook::Xdp, "veth0", index)?;
        datapath.attach(Hook::Ingress, "veth0", index)?;
        datapath.attach_as(Hook::Egress, "veth0", index, Mode::Filter)?;
        ensure!(
            datapath.detach_others(&BTreeSet::from([index]))?.is_empty(),
            "it is kept"
        );
        // As after a start with other settings.
        let mut datapath = load(folder, &BTreeMap::new())?;
        let detached = datapath.detach_others(&BTreeSet::new())?;
        ensure!(detached.len() == 3, "{detached:?}");
        ensure!(!run("ip -d link show veth0")?.contains("xdp"), "XDP is off");
        ensure!(tcx()? == 0 && !filters()?.contains("netdev"), "{}", filters()?);
        ensure!(datapath.detach_others(&BTreeSet::new())?.is_empty(), "all is off");
        Ok(())
    });
}

#[test]
fn a_device_may_be_renamed_and_may_come_again() {
    node(|folder| {
        let index = veth()?;
        let mut datapath = load(folder, &BTreeMap::new())?;
        for hook in Hook::ALL {
            datapath.attach(hook, "veth0", index)?;
        }
        datapath.attach_as(Hook::Egress, "veth0", index, Mode::Filter)?;
        run("ip link set veth0 name other0")?;
        for hook in Hook::ALL {
            datapath.attach(hook, "other0", index)?;
        }
        run("ip link del other0")?;
        let gone = datapath.attach(Hook::Ingress, "other0", index);
        ensure!(matches!(gone, Err(Error::DeviceGone { .. })), "{gone:?}");
        // Another device with the number of the old one.
        run(&format!(
            "ip link add veth0 index {index} type veth peer name veth1"
        ))?;
        for hook in Hook::ALL {
            datapath.attach(hook, "veth0", index)?;
        }
        ensure!(tcx()? == 1, "it hangs at the new one");
        ensure!(run("ip -d link show veth0")?.contains("xdp"), "XDP too");
        Ok(())
    });
}

/// A pair of devices; the number of `veth0`.
pub(crate) fn veth() -> Result<u32> {
    run("ip link add veth0 type veth peer name veth1")?;
    run("ip link set veth0 up")?;
    run("ip link set veth1 up")?;
    Ok(if_nametoindex("veth0")?)
}

/// How many programs hang at the ingress of `veth0` by links.
pub(crate) fn tcx() -> Result<usize> {
    Ok(SchedClassifier::query_tcx("veth0", TcAttachType::Ingress)?
        .1
        .len())
}

fn filters() -> Result<String> {
    let ingress = run("tc filter show dev veth0 ingress")?;
    Ok(ingress + &run("tc filter show dev veth0 egress")?)
}

/// The node: connections through a VIP, over a restart of whoever loaded the programs.
fn scenario(folder: &Path, hooks: [(Hook, Mode); 2]) -> Result<()> {
    let (news, heard) = channel();
    let (orders, obeyed) = channel();
    let client = thread::spawn(move || client(&news, &obeyed));
    let Ok(News::Here(namespace)) = heard.recv_timeout(LIMIT) else {
        anyhow::bail!("the client does not begin: {:?}", client.join());
    };
    for command in [
        &format!("link add veth0 type veth peer name veth1 netns {namespace}"),
        "link set lo up",
        "addr add 10.0.0.1/32 dev lo",
        "addr add fd00::1/128 dev lo nodad",
        "link set veth0 up",
        "addr add 198.51.100.2/24 dev veth0",
        "addr add 2001:db8:c::2/64 dev veth0 nodad",
    ] {
        run(&format!("ip {command}"))?;
    }
    for address in ["10.0.0.1:8080", "[fd00::1]:8080"] {
        let listener = TcpListener::bind(address)?;
        thread::spawn(move || {
            listener
                .incoming()
                .flatten()
                .for_each(|stream| drop(echo(stream)))
        });
    }
    let first = attached(folder, hooks)?;
    serve(&first)?;
    orders.send(())?;
    for _ in 0..2 {
        ensure!(
            heard.recv_timeout(LIMIT)? == News::Half,
            "the client is half through"
        );
        // Another start, with the first one still there, as when an agent is killed and comes again.
        let second = attached(folder, hooks)?;
        orders.send(())?;
        ensure!(heard.recv_timeout(LIMIT)? == News::Done, "the client is through");
        let counters = second.map(maps::COUNTERS)?;
        for direction in [Direction::Ingress, Direction::Egress] {
            let packets = counters.counter(counter(direction, FORWARDED))?.packets;
            ensure!(
                packets > 20,
                "{direction:?}: {packets} packets went through the programs"
            );
        }
    }
    client.join().expect("the client does not panic")
}

fn attached(folder: &Path, hooks: [(Hook, Mode); 2]) -> Result<Datapath> {
    let mut datapath = load(folder, &BTreeMap::new())?;
    let index = if_nametoindex("veth0")?;
    for (hook, mode) in hooks {
        let attached = datapath.attach_as(hook, "veth0", index, mode)?;
        ensure!(attached.mode == mode && attached.pin.exists(), "{attached:?}");
    }
    Ok(datapath)
}

/// A service of both families, from objects into the maps.
pub(crate) fn serve(datapath: &Datapath) -> Result<()> {
    let mut store = Store::open(datapath)?;
    let addresses: BTreeSet<_> = ["198.51.100.2".parse()?, "2001:db8:c::2".parse()?].into();
    let node = ThisNode {
        name: "me".to_owned(),
        node_port_addresses: addresses.clone(),
        addresses,
        ..ThisNode::default()
    };
    let settings = ebpf_datapath::Settings {
        limits: store.limits(),
        ..ebpf_datapath::Settings::default()
    };
    let mut planner = Incremental::new(store.read(&Seeds::default())?, node, settings);
    let service = "apiVersion: v1
kind: Service
metadata: {name: web, namespace: default, uid: one}
spec:
  type: LoadBalancer
  allocateLoadBalancerNodePorts: false
  ipFamilyPolicy: RequireDualStack
  clusterIP: 10.96.0.1
  clusterIPs: [10.96.0.1, 'fd00:96::1']
  ports: [{name: a, port: 80}]
status: {loadBalancer: {ingress: [{ip: 192.0.2.1}, {ip: '2001:db8:f::1'}]}}
";
    if let Object::Service(service) = read(service) {
        planner.handle(Change::Service(service));
    }
    for (family, address) in [("IPv4", "10.0.0.1"), ("IPv6", "fd00::1")] {
        let slice = format!(
            "apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: web-{}, namespace: default, labels: {{kubernetes.io/service-name: web}}}}
addressType: {family}
ports: [{{name: a, port: 8080}}]
endpoints: [{{addresses: ['{address}'], nodeName: me}}]
",
            family.to_lowercase()
        );
        if let Object::EndpointSlice(slice) = read(&slice) {
            planner.handle(Change::Slice(slice));
        }
    }
    let report = store.carry_out(&mut planner)?;
    ensure!(report.refused.is_empty(), "{report:?}");
    ensure!(
        planner.image().frontends().len() == 4,
        "{:?}",
        planner.image().frontends()
    );
    Ok(())
}

/// What the client tells the node.
#[derive(Debug, PartialEq, Eq)]
enum News {
    /// Its network namespace.
    Here(String),
    Half,
    Done,
}

/// Asks for the VIP of each family, in the middle waits for the node's restart, and goes on with the same connection.
fn client(news: &Sender<News>, orders: &Receiver<()>) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("a network namespace")?;
    let thread = nix::unistd::gettid();
    news.send(News::Here(format!(
        "/proc/{}/task/{thread}/ns/net",
        std::process::id()
    )))?;
    orders.recv_timeout(LIMIT)?;
    for command in [
        "ip link set veth1 up",
        // A pair of virtual devices leaves checksums to the receiver, and XDP comes before it makes them.
        "ethtool -K veth1 tx off",
        "ip addr add 198.51.100.1/24 dev veth1",
        "ip addr add 2001:db8:c::1/64 dev veth1 nodad",
        "ip route add 192.0.2.0/24 via 198.51.100.2",
        "ip route add 2001:db8:f::/64 via 2001:db8:c::2",
    ] {
        run(command)?;
    }
    for vip in ["192.0.2.1:80", "[2001:db8:f::1]:80"] {
        let vip: SocketAddr = vip.parse()?;
        let mut stream = TcpStream::connect_timeout(&vip, LIMIT).context(vip)?;
        stream.set_read_timeout(Some(LIMIT))?;
        for round in 0..ROUNDS {
            if round == ROUNDS / 2 {
                news.send(News::Half)?;
                orders.recv_timeout(LIMIT)?;
            }
            let sent: Vec<u8> = (0..CHUNK)
                .map(|n| u8::try_from((n + round) % 251).expect("small"))
                .collect();
            stream.write_all(&sent)?;
            let mut back = vec![0; CHUNK];
            stream.read_exact(&mut back)?;
            ensure!(back == sent, "{vip}: round {round} came back changed");
        }
        news.send(News::Done)?;
    }
    Ok(())
}

fn echo(mut stream: TcpStream) -> Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            length => stream.write_all(buffer.get(..length).unwrap_or_default())?,
        }
    }
}
