//! Laws of the image and of the way from one to another.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use crds::k8s_openapi::api::core::v1::{
    LoadBalancerIngress, LoadBalancerStatus, Service, ServicePort, ServiceSpec, ServiceStatus,
};
use crds::k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use crds::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use ebpf_abi::config::setting;
use ebpf_abi::maglev::Seeds;
use ebpf_abi::service::{Selection, flag};
use ebpf_abi::{BackendId, V4};
use ebpf_datapath::diff::{Op, apply, diff};
use ebpf_datapath::image::MapImage;
use ebpf_datapath::{Family, Limits, Pods, Problem, Socket};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::world::{World, service, slice};

/// A service as the properties draw it. All its endpoints are in `10.<number>.0.0/16`.
#[derive(Clone, Debug)]
struct Drawn {
    kind: u8,
    external_local: bool,
    internal_local: bool,
    affinity: bool,
    maglev: bool,
    ranges: u8,
    vip: u8,
    ports: u8,
    endpoints: BTreeMap<u8, u8>,
    uid: u8,
}

fn drawn() -> impl Strategy<Value = Drawn> {
    (
        (
            0..3_u8,
            any::<bool>(),
            any::<bool>(),
            any::<bool>(),
            any::<bool>(),
        ),
        (0..3_u8, 0..3_u8, 1..3_u8, 0..2_u8),
        prop::collection::btree_map(0..6_u8, 0..4_u8, 0..5),
    )
        .prop_map(|(flags, (ranges, vip, ports, uid), endpoints)| {
            let (kind, external_local, internal_local, affinity, maglev) = flags;
            Drawn {
                kind,
                external_local,
                internal_local,
                affinity,
                maglev,
                ranges,
                vip,
                ports,
                endpoints,
                uid,
            }
        })
}

/// Up to five services by number.
fn cluster() -> impl Strategy<Value = BTreeMap<u8, Drawn>> {
    prop::collection::btree_map(1..6_u8, drawn(), 0..5)
}

fn policy(local: bool) -> Option<String> {
    Some(if local { "Local" } else { "Cluster" }.to_owned())
}

fn objects(number: u8, drawn: &Drawn) -> (Service, EndpointSlice) {
    let name = format!("s{number}");
    let kind = ["ClusterIP", "NodePort", "LoadBalancer"][usize::from(drawn.kind)];
    let annotation = ("service.cilium.io/lb-algorithm".to_owned(), "maglev".to_owned());
    let port_name = |port: u8| format!("p{port}");
    let ports = (0..drawn.ports).map(|port| ServicePort {
        name: Some(port_name(port)),
        port: 80 + i32::from(port),
        // Some node ports are asked for by several services.
        node_port: (drawn.kind > 0).then_some(30_000 + i32::from(port) * 10 + i32::from(number % 4)),
        ..ServicePort::default()
    });
    let ranges = match drawn.ranges {
        0 => None,
        1 => Some(vec!["10.0.0.0/8".to_owned(), "fd00::/8".to_owned()]),
        _ => Some(vec!["192.0.2.0/24".to_owned()]),
    };
    let vip = LoadBalancerIngress {
        ip: Some(format!("203.0.113.{}", drawn.vip)),
        ..LoadBalancerIngress::default()
    };
    let service = Service {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some("a".to_owned()),
            uid: Some(format!("{number}-{}", drawn.uid)),
            annotations: drawn.maglev.then(|| [annotation].into()),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            type_: Some(kind.to_owned()),
            cluster_ips: Some(vec![format!("10.96.0.{number}")]),
            external_traffic_policy: policy(drawn.external_local),
            internal_traffic_policy: policy(drawn.internal_local),
            session_affinity: drawn.affinity.then(|| "ClientIP".to_owned()),
            load_balancer_source_ranges: ranges,
            ports: Some(ports.collect()),
            ..ServiceSpec::default()
        }),
        status: Some(ServiceStatus {
            load_balancer: Some(LoadBalancerStatus {
                ingress: Some(vec![vip]),
            }),
            ..ServiceStatus::default()
        }),
    };
    let endpoint = |(host, state): (&u8, &u8)| Endpoint {
        addresses: vec![format!("10.{number}.0.{host}")],
        node_name: Some(if host % 2 == 0 { "me" } else { "you" }.to_owned()),
        conditions: Some(EndpointConditions {
            ready: Some(*state == 0),
            serving: Some(*state <= 1),
            terminating: Some(*state == 1 || *state == 2),
        }),
        ..Endpoint::default()
    };
    let slice_ports = (0..drawn.ports).map(|port| EndpointPort {
        name: Some(port_name(port)),
        port: Some(8080 + i32::from(port)),
        ..EndpointPort::default()
    });
    let slice = EndpointSlice {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some("a".to_owned()),
            labels: Some([("kubernetes.io/service-name".to_owned(), name)].into()),
            ..ObjectMeta::default()
        },
        address_type: "IPv4".to_owned(),
        endpoints: Some(drawn.endpoints.iter().map(endpoint).collect()),
        ports: Some(slice_ports.collect()),
    };
    (service, slice)
}

fn populate(world: &mut World, cluster: &BTreeMap<u8, Drawn>) {
    (world.services, world.slices) = cluster
        .iter()
        .map(|(number, drawn)| objects(*number, drawn))
        .unzip();
}

/// What must hold at every moment of a history.
#[derive(Default)]
struct Witness {
    /// Once an id stood for a backend, it never stands for another one.
    backends: BTreeMap<BackendId, Socket>,
    frontends: BTreeMap<u32, (Socket, u32)>,
}

impl Witness {
    fn before(&self, op: &Op, image: &MapImage) {
        match op {
            Op::WriteSlots { first, ids } => {
                let end = first + u32::try_from(ids.len()).expect("a length");
                for word in image.sets.values().filter(|word| word.total() != 0) {
                    let overlaps = word.first() < end && *first < word.first() + word.total();
                    assert!(!overlaps, "{op:?} writes into slots that are read");
                }
            }
            Op::WriteBackend4 { place, backend } if backend.id.lives_at(*place) => {
                let known = image.backends4.get(place).map(|known| known.id);
                let known = known.filter(|id| id.lives_at(*place));
                assert!(
                    known.is_none_or(|id| id == backend.id),
                    "{op:?} takes a place in use"
                );
            }
            _ => {}
        }
    }

    fn after(&mut self, image: &MapImage) {
        assert_eq!(image.dangling(), []);
        for (place, backend) in &image.backends4 {
            if backend.id.lives_at(*place) {
                let socket = image.socket(Family::V4, backend.id).expect("it is alive");
                assert_eq!(*self.backends.entry(backend.id).or_insert(socket), socket);
            }
        }
        let mut owner: BTreeMap<u32, u8> = BTreeMap::new();
        for (socket, frontend) in image.frontends() {
            if frontend.flags & flag::WILDCARD != 0 {
                continue;
            }
            let who = (socket, frontend.service);
            assert_eq!(*self.frontends.entry(frontend.id.0).or_insert(who), who);
            for set in [frontend.set, frontend.inner_set] {
                let (serving, draining) = image.members_of(set);
                for id in serving.iter().chain(draining) {
                    let backend = image.socket(Family::V4, *id).expect("it is alive");
                    let IpAddr::V4(address) = backend.address else {
                        panic!("{backend} is of the other family")
                    };
                    let [_, service, _, _] = address.octets();
                    let of = *owner.entry(frontend.service).or_insert(service);
                    assert_eq!(of, service, "{socket} leads to a backend of another service");
                    if let IpAddr::V4(cluster) = socket.address
                        && cluster.octets()[0] == 10
                    {
                        assert_eq!(cluster.octets()[3], service, "{socket} leads to {backend}");
                    }
                }
            }
        }
    }
}

/// What a loader finds after a restart: arrays as they are, and no idea which slots mean something.
fn read_back(image: &MapImage) -> MapImage {
    let mut raw = image.clone();
    let slots: BTreeMap<u32, BackendId> = image
        .slots
        .iter()
        .flat_map(|(first, run)| (*first..).zip(run.iter().copied()))
        .collect();
    let tables: BTreeSet<u32> = image.tables.keys().copied().collect();
    raw.slots.clear();
    raw.tables.clear();
    raw.sets.insert(60_000, ebpf_abi::service::Set::default());
    raw.adopt(|slot| slots.get(&slot).copied(), &tables, &Seeds::default());
    raw
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn no_reader_ever_sees_a_dangling_id_or_a_foreign_backend(
        history in prop::collection::vec((cluster(), any::<Index>(), any::<bool>()), 1..7),
    ) {
        let mut world = World::new();
        let mut witness = Witness::default();
        for (cluster, cut, crash) in history {
            populate(&mut world, &cluster);
            let built = world.build();
            prop_assert_eq!(&built.refused, &[]);
            let ops = diff(&world.image, &built.image);
            let stop = if crash { cut.index(ops.len() + 1) } else { ops.len() };
            for op in &ops[..stop] {
                witness.before(op, &world.image);
                apply(op, &mut world.image);
                witness.after(&world.image);
            }
            if crash {
                world.image = read_back(&world.image);
                witness.after(&world.image);
            } else {
                prop_assert_eq!(&world.image, &built.image);
                prop_assert_eq!(&world.build().image, &built.image, "planning twice is planning once");
                prop_assert_eq!(&read_back(&world.image), &built.image, "reading back loses nothing");
                prop_assert_eq!(diff(&world.image, &world.image), vec![]);
            }
        }
    }

    #[test]
    fn the_order_of_objects_does_not_matter(first in cluster(), second in cluster()) {
        let mut world = World::new();
        populate(&mut world, &first);
        world.settle();
        populate(&mut world, &second);
        let forward = world.build();
        world.services.reverse();
        world.slices.reverse();
        prop_assert_eq!(world.build(), forward);
    }

    #[test]
    fn a_service_is_written_whole_or_not_at_all(
        first in cluster(),
        second in cluster(),
        tight in 2..12_u32,
        which in 0..6_u8,
    ) {
        let mut world = World::new();
        let limits = Limits::default();
        world.settings.limits = match which {
            0 => Limits { frontends: tight, ..limits },
            1 => Limits { places: tight, ..limits },
            2 => Limits { sets: tight, ..limits },
            3 => Limits { slots: tight, ..limits },
            4 => Limits { backends: tight, ..limits },
            _ => Limits { members: tight, ranges: tight, ..limits },
        };
        for cluster in [&first, &second] {
            populate(&mut world, cluster);
            let refused: BTreeSet<_> = world.settle().iter().filter_map(|p| p.service().cloned()).collect();
            let image = &world.image;
            prop_assert!(image.frontends4.len() <= usize::try_from(world.settings.limits.frontends).expect("small"));
            prop_assert!(image.members.len() <= usize::try_from(world.settings.limits.members).expect("small"));
            for service in world.plan().services {
                let written = service.frontends.iter().filter(|f| image.frontend(&f.socket).is_some()).count();
                let wanted = if refused.contains(&service.name) { 0 } else { service.frontends.len() };
                prop_assert_eq!(written, wanted, "{}", service.name);
            }
        }
    }
}

fn web(endpoints: &[&str]) -> World {
    let mut world = World::of(&service(
        "web",
        "clusterIP: 10.96.0.1, ports: [{name: http, port: 80}]",
    ));
    world.add(&slice("web-1", "web", endpoints));
    world
}

#[test]
fn where_packets_of_pods_are_balanced_answers_of_every_backend_are_seen_and_those_to_oneself() {
    let mut world = web(&["10.0.0.1/me", "10.0.0.2/you"]);
    let seen = |world: &World, octets: [u8; 4]| {
        let (word, bit) = ebpf_abi::filter::place(&V4(u32::from_ne_bytes(octets)));
        world.image.filter.get(&word).is_some_and(|bits| bits & bit != 0)
    };
    let (here, elsewhere, oneself) = ([10, 0, 0, 1], [10, 0, 0, 2], [169, 254, 42, 1]);
    for pods in [Pods::BySockets, Pods::ByPackets, Pods::BySockets] {
        world.settings.pods = pods;
        world.settle();
        assert!(seen(&world, here));
        let all = pods == Pods::ByPackets;
        assert_eq!(
            (seen(&world, elsewhere), seen(&world, oneself)),
            (all, all),
            "{pods:?}"
        );
    }
}

#[test]
fn one_endpoint_costs_a_few_steps_however_many_frontends_there_are() {
    let mut world = World::of(&service(
        "web",
        "clusterIP: 10.96.0.1, type: NodePort, externalIPs: [198.51.100.1, 198.51.100.2], ports: [{name: http, port: 80, \
         nodePort: 30080}]",
    ));
    world.add(&slice("web-1", "web", &["10.0.0.1/me", "10.0.0.2/you"]));
    world.settle();
    world.add(&slice(
        "web-1",
        "web",
        &["10.0.0.1/me", "10.0.0.2/you", "10.0.0.3/you"],
    ));
    let ops = diff(&world.image, &world.build().image);
    let words: Vec<String> = ops
        .iter()
        .map(|op| {
            format!("{op:?}")
                .split([' ', '('])
                .next()
                .unwrap_or_default()
                .to_owned()
        })
        .collect();
    assert_eq!(
        words,
        ["WriteBackend4", "WriteSlots", "WriteSet", "Wait", "ForgetSlots"]
    );
}

#[test]
fn a_set_that_no_frontend_leads_to_is_not_written_again_and_again() {
    let mut world = World::of(&service(
        "web",
        "clusterIP: 10.96.0.1, ports: [{name: http, port: 80}, {name: sctp, port: 81, protocol: SCTP}]",
    ));
    let slice = slice("web-1", "web", &["10.0.0.1/me"])
        .replace("ports: [", "ports: [{name: sctp, port: 82, protocol: SCTP}, ");
    world.add(&slice);
    world.settle();
    assert_eq!(world.reasons(), ["sctp-port-differs"]);
    assert_eq!(diff(&world.image, &world.build().image), []);
}

#[test]
fn a_set_whose_table_is_still_there_is_not_given_away() {
    let mut world = web(&["10.0.0.1/me"]);
    world.settings.selection = Selection::Maglev;
    world.settle();
    world.services.clear();
    let ops = diff(&world.image, &world.build().image);
    let removed = ops.iter().position(|op| matches!(op, Op::RemoveSet { .. }));
    let (done, failed) = ops.split_at(removed.expect("the set goes") + 1);
    assert!(failed.iter().any(|op| matches!(op, Op::RemoveTable { .. })));
    for op in done {
        apply(op, &mut world.image);
    }
    let left: Vec<u32> = world.image.tables.keys().copied().collect();
    world.add(&service("late", "clusterIP: 10.96.0.2, ports: [{port: 80}]"));
    world.settle();
    let late = world
        .image
        .frontends()
        .into_iter()
        .find(|(socket, _)| socket.port == 80);
    let (_, late) = late.expect("it is served");
    assert!(!left.contains(&late.set), "{late:?}");
}

#[test]
fn a_recreated_service_gets_new_ids_and_a_changed_one_keeps_them() {
    let mut world = web(&["10.0.0.1/me"]);
    world.settle();
    let socket: Socket = Socket::new(
        IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1)),
        80,
        ebpf_datapath::Protocol::Tcp,
    );
    let first = *world.image.frontend(&socket).expect("a frontend");
    world.add(&slice("web-1", "web", &["10.0.0.2/me"]));
    world.settle();
    assert_eq!(world.image.frontend(&socket), Some(&first));
    world.services[0].metadata.uid = Some("another".to_owned());
    world.settle();
    let second = *world.image.frontend(&socket).expect("a frontend");
    assert_ne!(second.id, first.id);
    assert_ne!(second.set, first.set);
    assert_ne!(second.service, first.service);
}

#[test]
fn a_table_has_every_backend_in_nearly_equal_shares_and_depends_on_no_id() {
    let endpoints = ["10.0.0.1/me", "10.0.0.2/you", "10.0.0.3/you"];
    let mut world = web(&endpoints);
    world.settings.selection = Selection::Maglev;
    world.settings.maglev_size = 1021;
    let shares = |image: &MapImage| {
        let table = image.tables.values().next().expect("a table");
        let mut shares: BTreeMap<Socket, usize> = BTreeMap::new();
        for id in image.fill(table) {
            *shares
                .entry(image.socket(Family::V4, id).expect("alive"))
                .or_default() += 1;
        }
        shares
    };
    world.settle();
    let fresh = shares(&world.image);
    assert_eq!(fresh.len(), 3);
    assert!(
        fresh.values().all(|share| (330..=350).contains(share)),
        "{fresh:?}"
    );
    // Other ids by another history.
    let mut other = web(&["10.0.0.9/me", "10.0.0.3/you"]);
    other.settings = world.settings.clone();
    other.settle();
    other.add(&slice("web-1", "web", &endpoints));
    other.settle();
    assert_ne!(other.image.backends4, world.image.backends4);
    assert_eq!(shares(&other.image), fresh);
}

#[test]
fn a_full_map_refuses_the_newcomer_by_name_and_takes_it_once_there_is_room() {
    let mut world = web(&["10.0.0.1/me", "10.0.0.2/me"]);
    world.settings.limits.backends = 3;
    assert_eq!(world.settle(), []);
    world.add(&service(
        "late",
        "clusterIP: 10.96.0.2, ports: [{name: http, port: 80}]",
    ));
    world.add(&slice("late-1", "late", &["10.0.1.1/me", "10.0.1.2/me"]));
    let served = world.image.frontends4.clone();
    let refused = world.settle();
    assert!(
        matches!(&refused[..], [Problem::MapFull { service, map: "BACKENDS4", used: 2, needed: 2, limit: 3 }]
            if service.name == "late"),
        "{refused:?}"
    );
    assert_eq!(world.image.frontends4, served, "nothing of it is written");
    world.add(&slice("web-1", "web", &["10.0.0.1/me"]));
    // The place of the one that left comes free with this image, and is given away with the next.
    assert_eq!(world.settle().len(), 1);
    assert_eq!(world.settle(), []);
    assert_eq!(world.image.frontends4.len(), 4);
}

#[test]
fn the_wildcard_is_there_once_for_each_cluster_and_load_balancer_address() {
    let mut world = World::of(&service(
        "web",
        "clusterIP: 10.96.0.1, type: NodePort, externalIPs: [198.51.100.1], ports: [{name: a, port: 80, nodePort: 30080}, \
         {name: b, port: 81, nodePort: 30081}]",
    ));
    world.settle();
    let image = &world.image;
    let wildcards: Vec<u16> = image
        .frontends4
        .iter()
        .filter(|(key, _)| key.port == 0)
        .map(|(_, frontend)| frontend.flags)
        .collect();
    assert_eq!(wildcards, [flag::WILDCARD]);
    assert_eq!(image.frontends4.len(), 7);
    assert_ne!(image.config.settings & setting::ENABLED, 0);
}
