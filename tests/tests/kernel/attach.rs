//! The programs at a real device: connections through a VIP, over a restart of whoever loaded them.
//!
//! ```text
//!   client  198.51.100.1, 2001:db8:c::1  --veth--  198.51.100.2, 2001:db8:c::2  node
//!                                                  10.0.0.1, fd00::1 on lo: the backend, port 8080
//!   asks for 192.0.2.1 and 2001:db8:f::1, port 80
//! ```

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ebpf_abi::{V4, V6};
use ebpf_loader::{Feature, Hook, Mode, Support, probe};
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, unshare};

use crate::claims::{Ends, node};
use crate::rig::{Rig, lacking, own_bpffs};

/// Nothing here takes long; loading on a busy machine takes longest.
const LIMIT: Duration = Duration::from_mins(1);
const ROUNDS: usize = 20;
/// More than a packet, so that it leaves in one that only the device cuts, its checksum yet to be made.
const CHUNK: usize = 60_000;

#[test]
fn a_connection_through_a_vip_survives_a_restart() {
    if let Some(why) = lacking() {
        println!("skipped: {why}");
        return;
    }
    let scenario = thread::spawn(scenario).join().expect("the node does not panic");
    scenario.unwrap_or_else(|error| panic!("{error:?}"));
}

#[test]
fn what_the_kernel_lacks_is_named() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: asking the kernel needs root");
        return;
    }
    let table = probe();
    assert_eq!(table.len(), Feature::ALL.len());
    for (feature, support) in table {
        if let Support::Missing(why) = support {
            assert!(!why.is_empty(), "{}", feature.name());
        }
    }
}

/// The node, on a thread with namespaces of its own.
fn scenario() -> Result<()> {
    let folder = tempfile::tempdir()?;
    own_bpffs(folder.path(), CloneFlags::CLONE_NEWNET)?;
    let (news, heard) = channel();
    let (orders, obeyed) = channel();
    let client = thread::spawn(move || client(&news, &obeyed));
    let Ok(News::Here(namespace)) = heard.recv_timeout(LIMIT) else {
        anyhow::bail!("the client does not begin: {:?}", client.join());
    };
    ip(&format!(
        "link add veth0 type veth peer name veth1 netns {namespace}"
    ))?;
    for command in [
        "link set lo up",
        "addr add 10.0.0.1/32 dev lo",
        "addr add fd00::1/128 dev lo nodad",
        "link set veth0 up",
        "addr add 198.51.100.2/24 dev veth0",
        "addr add 2001:db8:c::2/64 dev veth0 nodad",
    ] {
        ip(command)?;
    }
    for address in [V4::backend(1), V6::backend(1)] {
        let listener = TcpListener::bind(SocketAddr::new(address, 8080))?;
        thread::spawn(move || {
            listener
                .incoming()
                .flatten()
                .for_each(|stream| drop(echo(stream)))
        });
    }
    let first = attached(folder.path())?;
    first.install(&node::<V4>(1));
    install_second_family(&first);
    orders.send(())?;
    for _ in 0..2 {
        ensure!(
            heard.recv_timeout(LIMIT)? == News::Half,
            "the client is half through"
        );
        // Another start, with the first one still there, as when an agent is killed and comes again.
        let second = attached(folder.path())?;
        orders.send(())?;
        ensure!(heard.recv_timeout(LIMIT)? == News::Done, "the client is through");
        let flows = second.written(&node::<V4>(1)).flows.len() + second.written(&node::<V6>(1)).flows.len();
        ensure!(flows >= 2, "flows outlive a restart, there are {flows}");
    }
    client.join().expect("the client does not panic")
}

/// The maps of both families at once: what the first one wrote stays.
fn install_second_family(rig: &Rig) {
    let mut model = node::<V6>(1);
    // `install` empties what families share.
    let four = node::<V4>(1);
    for (word, bits) in &four.filter {
        *model.filter.entry(*word).or_default() |= bits;
    }
    rig.install(&model);
}

fn attached(folder: &Path) -> Result<Rig> {
    let mut rig = Rig::load(folder)?;
    let index = if_nametoindex("veth0")?;
    for hook in [Hook::Ingress, Hook::Egress] {
        let attached = rig.datapath.attach(hook, "veth0", index)?;
        ensure!(
            attached.mode == Mode::Tcx && attached.pin.exists(),
            "{attached:?}"
        );
    }
    Ok(rig)
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
    let here = format!(
        "/proc/{}/task/{}/ns/net",
        std::process::id(),
        nix::unistd::gettid()
    );
    news.send(News::Here(here))?;
    orders.recv_timeout(LIMIT)?;
    for command in [
        "link set veth1 up",
        "addr add 198.51.100.1/24 dev veth1",
        "addr add 2001:db8:c::1/64 dev veth1 nodad",
        "route add 192.0.2.0/24 via 198.51.100.2",
        "route add 2001:db8:f::/64 via 2001:db8:c::2",
    ] {
        ip(command)?;
    }
    for vip in [V4::vip(1), V6::vip(1)] {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::new(vip, 80), LIMIT)?;
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
            length => stream.write_all(&buffer[..length])?,
        }
    }
}

pub(crate) fn ip(command: &str) -> Result<()> {
    let output = Command::new("ip").args(command.split(' ')).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {command}: {said}");
    Ok(())
}

/// An IPv6 address is there at once, but a worker of the kernel makes the route by which its packets come in: on a busy
/// machine later than the first of them.
pub(crate) fn until_local(address: IpAddr) -> Result<()> {
    lab::until(LIMIT, format!("a local route of {address}"), || {
        let asked = Command::new("ip")
            .args(["route", "get", &address.to_string()])
            .output();
        let shown = asked.map_err(|error| error.to_string())?.stdout;
        if shown.starts_with(b"local ") {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&shown).into_owned())
        }
    })?;
    Ok(())
}
