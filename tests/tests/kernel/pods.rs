//! Pods whose sockets nobody translates: their packets are balanced where they come out of the pod, and answers where they go
//! in. The network is that of [`crate::traffic`], with the client as a pod.
//!
//! ```text
//!   client, a pod  198.51.100.1  --veth--  front  node  back  --veth--  10.0.0.1  backend: on another node, or a pod too
//!   asks for cluster addresses: 192.0.2.1 and 2001:db8:f::1, port 80
//! ```

use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use ebpf_abi::balance::Balanced;
use ebpf_abi::config::{Device, device_flag};
use ebpf_abi::flow::Way;
use ebpf_abi::model::Model;
use ebpf_abi::service::{backend_flag, flag};
use ebpf_abi::{V4, V6};
use ebpf_loader::{Hook, Mode};
use nix::net::if_::if_nametoindex;
use nix::sched::CloneFlags;

use crate::attach::until_local;
use crate::claims::Ends;
use crate::rig::{Rig, lacking, own_bpffs};
use crate::traffic::{CLIENTS, ask, far, listen, network, run};

/// Who serves the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Server {
    Elsewhere,
    AnotherPod,
    Itself,
}

#[test]
fn a_pod_reaches_a_cluster_address_that_another_node_serves_and_is_seen_as_itself() {
    served(Server::Elsewhere);
}

#[test]
fn a_pod_reaches_a_cluster_address_that_a_pod_here_serves_and_is_seen_as_itself() {
    served(Server::AnotherPod);
}

#[test]
fn a_pod_reaches_itself_by_a_cluster_address() {
    served(Server::Itself);
}

#[test]
fn from_the_network_a_cluster_address_stays_closed() {
    in_namespaces(|| {
        let (client, _backend) = network()?;
        let folder = tempfile::tempdir()?;
        own_bpffs(folder.path(), CloneFlags::empty())?;
        let rig = attached(folder.path())?;
        install(&rig, Server::Elsewhere, 0)?;
        for vip in [V4::vip(1), V6::vip(1)] {
            let vip = SocketAddr::new(vip, 80);
            let closed = client.run(move || TcpStream::connect_timeout(&vip, Duration::from_millis(300)))?;
            ensure!(closed.is_err(), "{vip} is open to the network");
        }
        Ok(())
    });
}

fn served(server: Server) {
    in_namespaces(move || {
        let (client, backend) = network()?;
        backend.run(|| -> Result<()> {
            run("ip route add default via 10.0.0.254")?;
            run("ip route add default via fd00::fe")
        })??;
        client.run(|| -> Result<()> {
            run("ip route add default via 198.51.100.2")?;
            for address in [V4::client(1), V6::client(1)] {
                until_local(address)?;
            }
            listen([V4::client(1), V6::client(1)])
        })??;
        // The gateway that all pods share; so also answers to oneself find their way.
        run("ip addr add fe80::1/64 dev front nodad")?;
        let folder = tempfile::tempdir()?;
        own_bpffs(folder.path(), CloneFlags::empty())?;
        let rig = attached(folder.path())?;
        install(&rig, server, device_flag::POD)?;
        client.run(|| ask(V4::vip(1)))??;
        client.run(|| ask(V6::vip(1)))??;
        seen::<V4>(&rig, server)?;
        seen::<V6>(&rig, server)
    });
}

/// As whom the backend saw the pod.
fn seen<A: Ends + Balanced>(rig: &Rig, server: Server) -> Result<()> {
    let flows = rig.written(&Model::<A>::default()).flows;
    let source = match server {
        Server::Elsewhere | Server::AnotherPod => A::of(A::client(1)),
        Server::Itself => A::LOOPBACK,
    };
    let forward = flows.values().filter(|flow| flow.way() == Way::Forward);
    let count = forward.clone().count();
    ensure!(count == 2 * usize::from(CLIENTS), "{count} flows");
    for flow in forward {
        ensure!(flow.source == source, "{flow:?}");
    }
    Ok(())
}

fn attached(folder: &std::path::Path) -> Result<Rig> {
    let mut rig = Rig::load(folder)?;
    for name in ["front", "back"] {
        for hook in [Hook::Ingress, Hook::Egress] {
            rig.datapath
                .attach_as(hook, name, if_nametoindex(name)?, Mode::Tcx)?;
        }
    }
    Ok(rig)
}

fn install(rig: &Rig, server: Server, flags: u32) -> Result<()> {
    let (mut four, mut six) = (closed::<V4>(server), closed::<V6>(server));
    let back = match server {
        Server::Elsewhere | Server::Itself => 0,
        Server::AnotherPod => flags,
    };
    for (name, flags) in [("front", flags), ("back", back)] {
        let device = Device {
            flags,
            ..Device::default()
        };
        six.devices.insert(if_nametoindex(name)?, device);
    }
    four.watch(&V4::LOOPBACK);
    six.watch(&V6::LOOPBACK);
    for (word, bits) in &four.filter {
        *six.filter.entry(*word).or_default() |= bits;
    }
    rig.install(&four);
    rig.install(&six);
    Ok(())
}

/// A service that is not for the outside.
fn closed<A: Ends>(server: Server) -> Model<A> {
    let mut model = far::<A>();
    for frontend in model.frontends.values_mut() {
        frontend.flags &= !flag::ROUTABLE;
    }
    let backend = model.backends.get_mut(&0).expect("there");
    match server {
        Server::Elsewhere => {}
        Server::AnotherPod => backend.flags = backend_flag::LOCAL,
        Server::Itself => {
            backend.flags = backend_flag::LOCAL;
            backend.address = A::of(A::client(1));
        }
    }
    let address = backend.address;
    model.watch(&address);
    model
}

fn in_namespaces(work: impl FnOnce() -> Result<()> + Send + 'static) {
    if let Some(why) = lacking() {
        println!("skipped: {why}");
        return;
    }
    let done = thread::spawn(move || {
        nix::sched::unshare(CloneFlags::CLONE_NEWNET)?;
        work()
    });
    let done = done.join().expect("the node does not panic");
    done.unwrap_or_else(|error| panic!("{error:?}"));
}
