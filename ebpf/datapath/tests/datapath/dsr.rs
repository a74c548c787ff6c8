//! Direct server return: who wraps, for whom, and from whom wrapped packets are taken.

use ebpf_abi::config::RangeKey;
use ebpf_abi::service::{Dispatch, backend_flag};
use ebpf_abi::{V4, V6};
use ebpf_datapath::{Forwarding, Settings};

use crate::world::{World, service, slice};

const NODES: &str = "\
apiVersion: v1
kind: Node
metadata: {name: me}
status: {addresses: [{type: InternalIP, address: 192.0.2.1}, {type: Hostname, address: me}]}
---
apiVersion: v1
kind: Node
metadata: {name: you}
status: {addresses: [{type: InternalIP, address: 192.0.2.2}, {type: InternalIP, address: \"fd00::2\"}]}
---
apiVersion: v1
kind: Node
metadata: {name: idle}
status: {addresses: [{type: InternalIP, address: 192.0.2.3}]}
";

fn world(forwarding: Forwarding, dsr: Dispatch) -> World {
    let ports = "ports: [{name: http, port: 80, protocol: TCP}, {name: dns, port: 53, protocol: UDP}]";
    let mut world = World::of(&service("web", &format!("clusterIP: 10.96.0.1, {ports}")));
    world.add(&slice("web-1", "web", &["10.0.0.1/me", "10.0.0.2/you"]));
    world.add(NODES);
    world.settings = Settings {
        forwarding,
        dsr,
        ..Settings::default()
    };
    world
}

#[test]
fn hybrid_returns_tcp_directly_and_translates_udp() {
    for dsr in [Dispatch::DsrOption, Dispatch::DsrIpip, Dispatch::DsrGeneve] {
        let mut world = world(Forwarding::Hybrid, dsr);
        assert_eq!(world.settle(), []);
        let of = |protocol| {
            let all = world.image.frontends();
            let found = all.iter().find(|(socket, frontend)| {
                socket.protocol.number() == protocol && socket.port != 0 && frontend.id.0 != 0
            });
            Dispatch::from_number(found.expect("a frontend").1.dispatch)
        };
        assert_eq!((of(6), of(17)), (dsr, Dispatch::Snat));
    }
}

#[test]
fn only_ip_in_ip_needs_a_set_of_the_backends_here() {
    for (dsr, has) in [
        (Dispatch::DsrOption, false),
        (Dispatch::DsrGeneve, false),
        (Dispatch::DsrIpip, true),
    ] {
        let mut world = world(Forwarding::Dsr, dsr);
        assert_eq!(world.settle(), []);
        let frontends = world.image.frontends();
        let (_, http) = frontends
            .iter()
            .find(|(socket, _)| socket.port == 80)
            .expect("a frontend");
        assert_eq!(http.local_set != 0, has, "{dsr:?}");
        if has {
            assert_ne!(http.local_set, http.set);
            let here = world.image.members_of(http.local_set).0;
            assert_eq!(here.len(), 1);
            let backend = world.image.backends4[&here[0].index()];
            assert_eq!(backend.address, V4::from(std::net::Ipv4Addr::new(10, 0, 0, 1)));
        }
        // Another dispatch, and back: no step leaves anything dangling, and nothing stays.
        world.settings.dsr = Dispatch::DsrOption;
        assert_eq!(world.settle(), []);
        assert!(
            world
                .image
                .frontends()
                .iter()
                .all(|(_, frontend)| frontend.local_set == 0)
        );
    }
}

#[test]
fn wrapped_packets_are_taken_from_all_other_nodes_and_from_nobody_else() {
    let mut world = world(Forwarding::Dsr, Dispatch::DsrGeneve);
    assert_eq!(world.settle(), []);
    let peers4: Vec<V4> = world
        .image
        .ranges4
        .iter()
        .filter(|key| key.list == RangeKey::<V4>::PEERS && key.bits == 64)
        .map(|key| key.address)
        .collect();
    let v4 = |n| V4::from(std::net::Ipv4Addr::new(192, 0, 2, n));
    assert_eq!(peers4, [v4(2), v4(3)], "not this node itself");
    assert_eq!(world.image.ranges6.len(), 1);
    assert_eq!(world.image.config.node.v4, v4(1));
    let fallback = V6::from("2001:db8::1".parse::<std::net::Ipv6Addr>().expect("an address"));
    assert_eq!(world.image.config.node.v6, fallback, "where the Node says none");
    world
        .nodes
        .retain(|node| node.metadata.name.as_deref() == Some("me"));
    world.settle();
    assert!(world.image.ranges4.is_empty() && world.image.ranges6.is_empty());
}

#[test]
fn a_backend_outside_of_the_cluster_cannot_return_directly() {
    let mut world = world(Forwarding::Dsr, Dispatch::DsrOption);
    let endpoints = world.slices[0].endpoints.as_mut().expect("endpoints");
    endpoints[1].node_name = None;
    assert_eq!(world.settle(), []);
    let flags: Vec<u8> = world
        .image
        .backends4
        .values()
        .map(|backend| backend.flags)
        .collect();
    assert_eq!(flags, [backend_flag::LOCAL | backend_flag::CLUSTER, 0]);
}

#[test]
fn a_node_that_packets_cannot_be_wrapped_for_is_named() {
    for (dsr, expected) in [
        (Dispatch::DsrIpip, vec!["no-underlay"]),
        (Dispatch::DsrGeneve, vec!["no-underlay"]),
        (Dispatch::DsrOption, vec![]),
    ] {
        let mut world = world(Forwarding::Dsr, dsr);
        world
            .nodes
            .retain(|node| node.metadata.name.as_deref() != Some("you"));
        assert_eq!(world.reasons(), expected, "{dsr:?}");
        world.settings.forwarding = Forwarding::Snat;
        assert_eq!(world.reasons(), Vec::<&str>::new());
    }
}
