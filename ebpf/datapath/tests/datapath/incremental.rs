//! The planner that goes by changes says exactly what the whole recomputation says.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crds::Stowed;
use crds::k8s_openapi::api::core::v1::{
    Container, ContainerPort, LoadBalancerIngress, LoadBalancerStatus, Node, NodeAddress, NodeStatus, Pod,
    PodSpec, PodStatus, Service, ServicePort, ServiceSpec, ServiceStatus,
};
use crds::k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForZone,
};
use crds::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use ebpf_datapath::diff::{Op, diff};
use ebpf_datapath::image::{MapImage, build};
use ebpf_datapath::incremental::{Change, Extent, Incremental};
use ebpf_datapath::services::{Objects, plan};
use ebpf_datapath::{Limits, Pods, ServiceName, Settings, SourceRanges, ThisNode};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::world::{World, service, slice};

/// All objects by name: what the whole recomputation is given.
#[derive(Default)]
struct Known {
    services: BTreeMap<ServiceName, Arc<Service>>,
    slices: BTreeMap<ServiceName, Arc<EndpointSlice>>,
    pods: BTreeMap<ServiceName, Arc<Pod>>,
    nodes: BTreeMap<String, Arc<Node>>,
    granted: BTreeMap<ServiceName, BTreeSet<IpAddr>>,
}

impl Known {
    fn handle(&mut self, change: Change) {
        match change {
            Change::Service(service) => {
                let service = Arc::new(service.into_inner());
                self.services.insert(name(&service.metadata), service);
            }
            Change::ServiceGone(name) => {
                self.services.remove(&name);
            }
            Change::Slice(slice) => {
                let slice = Arc::new(slice.into_inner());
                self.slices.insert(name(&slice.metadata), slice);
            }
            Change::SliceGone(name) => {
                self.slices.remove(&name);
            }
            Change::Pod(pod) => {
                self.pods.insert(name(&pod.metadata), pod);
            }
            Change::PodGone(name) => {
                self.pods.remove(&name);
            }
            Change::Node(node) => {
                self.nodes.insert(name(&node.metadata).name, node);
            }
            Change::NodeGone(name) => {
                self.nodes.remove(&name);
            }
            Change::Granted(name, addresses) => {
                self.granted.insert(name, addresses);
            }
        }
    }

    fn objects(&self) -> Objects<'_> {
        Objects {
            services: self.services.values().map(|o| &**o).collect(),
            slices: self.slices.values().map(|o| &**o).collect(),
            nodes: self.nodes.values().map(|o| &**o).collect(),
            pods: self.pods.values().map(|o| &**o).collect(),
            granted: self.granted.clone(),
        }
    }
}

fn name(metadata: &ObjectMeta) -> ServiceName {
    ServiceName {
        namespace: metadata.namespace.clone().unwrap_or_default(),
        name: metadata.name.clone().unwrap_or_default(),
    }
}

fn metadata(name: String, uid: u8) -> ObjectMeta {
    ObjectMeta {
        uid: Some(format!("{name}-{uid}")),
        name: Some(name),
        namespace: Some("a".to_owned()),
        ..ObjectMeta::default()
    }
}

/// Random bits, taken a few at a time.
#[derive(Clone, Copy, Debug)]
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u8 {
        let rolled = self.0 % sides;
        self.0 /= sides;
        u8::try_from(rolled).expect("few sides")
    }

    fn hits(&mut self) -> bool {
        self.roll(2) == 1
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::from(self.roll(u64::try_from(from.len()).expect("few")))]
    }
}

fn a_service(number: u8, dice: &mut Dice) -> Service {
    let kind = dice.pick(&["ClusterIP", "NodePort", "LoadBalancer"]);
    let policy = |local| Some(if local { "Local" } else { "Cluster" }.to_owned());
    let port = |port: u8, protocol: &str, target: u8| ServicePort {
        name: Some(format!("p{port}")),
        port: 80 + i32::from(port),
        protocol: Some(protocol.to_owned()),
        node_port: Some(30_000 + i32::from(port) * 10 + i32::from(target)),
        ..ServicePort::default()
    };
    let mut ports = vec![port(0, "TCP", number % 3)];
    if dice.hits() {
        ports.push(port(1, dice.pick(&["TCP", "UDP", "SCTP"]), number % 3));
    }
    // Addresses of others, of nobody, and of this node.
    let external = [
        "10.96.0.1",
        "203.0.113.1",
        "198.51.100.1",
        "198.51.100.2",
        "192.0.2.1",
    ];
    let external = dice.hits().then(|| vec![dice.pick(&external).to_owned()]);
    let cluster_ips = match dice.roll(4) {
        0 => vec![format!("10.96.0.{number}"), format!("fd00::{number}")],
        1 => vec!["10.96.0.1".to_owned()],
        _ => vec![format!("10.96.0.{number}")],
    };
    let ranges = dice.pick(&["", "192.0.2.0/24", "10.0.0.0/8"]);
    let mut metadata = metadata(format!("s{number}"), dice.roll(2));
    let maglev = [("service.cilium.io/lb-algorithm".to_owned(), "maglev".to_owned())];
    metadata.annotations = dice.hits().then(|| maglev.into());
    let vips = ["203.0.113.1", "203.0.113.2", "192.0.2.1"];
    let vip = LoadBalancerIngress {
        ip: Some(dice.pick(&vips).to_owned()),
        ..LoadBalancerIngress::default()
    };
    Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some(kind.to_owned()),
            cluster_ips: Some(cluster_ips),
            external_ips: external,
            external_traffic_policy: policy(dice.hits()),
            internal_traffic_policy: policy(dice.roll(3) == 0),
            publish_not_ready_addresses: Some(dice.roll(4) == 0),
            session_affinity: dice.hits().then(|| "ClientIP".to_owned()),
            load_balancer_source_ranges: (!ranges.is_empty()).then(|| vec![ranges.to_owned()]),
            traffic_distribution: dice.hits().then(|| "PreferClose".to_owned()),
            ports: Some(ports),
            ..ServiceSpec::default()
        }),
        status: Some(ServiceStatus {
            load_balancer: Some(LoadBalancerStatus {
                ingress: Some(vec![vip]),
            }),
            ..ServiceStatus::default()
        }),
    }
}

/// Few addresses, so that services share backends and do not agree about them.
fn a_slice(number: u8, dice: &mut Dice) -> EndpointSlice {
    let v6 = dice.roll(4) == 0;
    let service = format!("s{}", 1 + dice.roll(5));
    let endpoints = (0..dice.roll(4)).map(|_| {
        let host = dice.roll(5);
        let state = dice.roll(5);
        Endpoint {
            addresses: vec![if v6 {
                format!("fd01::{host}")
            } else {
                format!("10.1.0.{host}")
            }],
            node_name: Some(dice.pick(&["me", "n1", "n2"]).to_owned()),
            zone: Some("z1".to_owned()),
            hints: dice.hits().then(|| EndpointHints {
                for_zones: Some(vec![ForZone {
                    name: dice.pick(&["z1", "z2"]).to_owned(),
                }]),
                ..EndpointHints::default()
            }),
            conditions: Some(EndpointConditions {
                ready: Some(state <= 1),
                serving: Some(state <= 2),
                terminating: Some(state == 2 || state == 3),
            }),
            ..Endpoint::default()
        }
    });
    let endpoints = endpoints.collect();
    let port = |port: u8, protocol: &str, number: i32| EndpointPort {
        name: Some(format!("p{port}")),
        port: Some(number),
        protocol: Some(protocol.to_owned()),
        ..EndpointPort::default()
    };
    let mut metadata = metadata(format!("slice-{number}"), 0);
    metadata.labels = Some([("kubernetes.io/service-name".to_owned(), service)].into());
    EndpointSlice {
        metadata,
        address_type: if v6 { "IPv6" } else { "IPv4" }.to_owned(),
        endpoints: Some(endpoints),
        ports: Some(vec![
            port(0, "TCP", 8080),
            port(1, "UDP", 53),
            port(1, "SCTP", 81),
        ]),
    }
}

fn a_pod(number: u8, dice: &mut Dice) -> Pod {
    let port = ContainerPort {
        container_port: 8080,
        host_port: Some(i32::from(dice.pick(&[80_u16, 81, 30_001]))),
        host_ip: dice
            .pick(&[None, Some("198.51.100.1"), Some("127.0.0.1")])
            .map(str::to_owned),
        ..ContainerPort::default()
    };
    Pod {
        metadata: metadata(format!("pod-{number}"), dice.roll(2)),
        spec: Some(PodSpec {
            node_name: Some("me".to_owned()),
            containers: vec![Container {
                ports: Some(vec![port]),
                ..Container::default()
            }],
            ..PodSpec::default()
        }),
        status: Some(PodStatus {
            phase: Some(dice.pick(&["Running", "Running", "Pending"]).to_owned()),
            pod_ip: Some(format!("10.1.0.{number}")),
            ..PodStatus::default()
        }),
    }
}

fn a_node(number: u8, dice: &mut Dice) -> Node {
    Node {
        metadata: metadata(format!("n{number}"), 0),
        status: Some(NodeStatus {
            // Sometimes both have one address.
            addresses: Some(vec![NodeAddress {
                type_: "InternalIP".to_owned(),
                address: format!("192.0.2.{}", 10 + dice.roll(3)),
            }]),
            ..NodeStatus::default()
        }),
        ..Node::default()
    }
}

fn change(mut dice: Dice) -> Change {
    let dice = &mut dice;
    let of = |name: &str, number: u8| ServiceName {
        namespace: "a".to_owned(),
        name: format!("{name}{number}"),
    };
    let (which, number) = (dice.roll(20), 1 + dice.roll(5));
    match which {
        0..=5 => Change::Service(Stowed::new(a_service(number, dice)).packed()),
        6 => Change::ServiceGone(of("s", number)),
        7..=12 => Change::Slice(Stowed::new(a_slice(number, dice)).packed()),
        13 => Change::SliceGone(of("slice-", number)),
        14 => Change::Pod(Arc::new(a_pod(number, dice))),
        15 => Change::PodGone(of("pod-", number)),
        16 | 17 => Change::Node(Arc::new(a_node(1 + number % 2, dice))),
        18 => Change::NodeGone(format!("n{}", 1 + number % 2)),
        _ => {
            let addresses = (0..dice.roll(3)).map(|vip| IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1 + vip)));
            Change::Granted(of("s", number), addresses.collect())
        }
    }
}

fn me() -> ThisNode {
    ThisNode {
        labels: [("topology.kubernetes.io/zone".to_owned(), "z1".to_owned())].into(),
        ..World::new().node
    }
}

fn carry_out(planner: &mut Incremental, ops: &[Op]) {
    for op in ops {
        planner.applied(op);
        assert_eq!(planner.image().dangling(), [], "after {op:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn one_change_at_a_time_leads_to_the_very_steps_of_the_whole(
        history in prop::collection::vec((prop::collection::vec(any::<u64>(), 1..4), any::<Index>(), 0..12_u8), 1..40),
        tight in prop::option::weighted(0.3, (3..14_u32, 0..7_u8)),
    ) {
        let limits = Limits::default();
        let mut settings = Settings { topology: ebpf_datapath::Honour::Yes, ..Settings::default() };
        if history.len() % 2 == 1 {
            settings.forwarding = ebpf_datapath::Forwarding::Dsr;
            settings.dsr = ebpf_abi::service::Dispatch::DsrIpip;
        }
        if history.len() % 3 == 1 {
            settings.pods = Pods::ByPackets;
        }
        settings.limits = match tight {
            None => limits,
            Some((tight, 0)) => Limits { frontends: tight, ..limits },
            Some((tight, 1)) => Limits { places: tight, ..limits },
            Some((tight, 2)) => Limits { sets: tight, ..limits },
            Some((tight, 3)) => Limits { slots: tight, ..limits },
            Some((tight, 4)) => Limits { backends: tight, ..limits },
            Some((tight, 5)) => Limits { members: tight, ranges: tight / 3, ..limits },
            Some(_) => Limits { nodes: 2, ..limits },
        };
        let node = me();
        let mut known = Known::default();
        let mut planner = Incremental::new(MapImage::default(), node.clone(), settings.clone());
        for (changes, cut, event) in history {
            for dice in changes {
                let change = change(Dice(dice));
                known.handle(change.clone());
                planner.handle(change);
            }
            if event == 1 {
                settings.source_ranges = match settings.source_ranges {
                    SourceRanges::All => SourceRanges::LoadBalancer,
                    SourceRanges::LoadBalancer => SourceRanges::All,
                };
                planner.configure(node.clone(), settings.clone());
            }
            if event == 2 {
                settings.pods = match settings.pods {
                    Pods::ByPackets => Pods::BySockets,
                    Pods::BySockets => Pods::ByPackets,
                };
                planner.configure(node.clone(), settings.clone());
            }
            let whole = plan(&known.objects(), &node, &settings);
            let built = build(&whole, planner.image(), &node, &settings);
            let step = planner.step();
            prop_assert_eq!(&planner.plan(), &whole);
            prop_assert_eq!(&step.refused, &built.refused);
            prop_assert_eq!(&step.ops, &diff(planner.image(), &built.image));
            if event == 0 {
                carry_out(&mut planner, &step.ops[..cut.index(step.ops.len() + 1)]);
            } else {
                carry_out(&mut planner, &step.ops);
                prop_assert_eq!(planner.image(), &built.image);
            }
        }
    }
}

#[test]
fn only_what_changed_is_computed_once_everything_is_in_the_maps() {
    let mut planner = Incremental::new(MapImage::default(), me(), Settings::default());
    let load = |planner: &mut Incremental, text: &str| {
        let world = World::of(text);
        let services = world
            .services
            .into_iter()
            .map(|o| Change::Service(Stowed::new(o)));
        let slices = world.slices.into_iter().map(|o| Change::Slice(Stowed::new(o)));
        services.chain(slices).for_each(|change| planner.handle(change));
        planner.step()
    };
    let web = service("web", "clusterIP: 10.96.0.1, ports: [{name: http, port: 80}]");
    let first = load(&mut planner, &web);
    assert_eq!(first.extent, Extent::Whole);
    carry_out(&mut planner, &first.ops);
    let one = load(&mut planner, &slice("web-1", "web", &["10.0.0.1/me"]));
    assert_eq!(one.extent, Extent::Changed);
    assert_eq!(one.ops.len(), 4, "{:?}", one.ops);
    // It fails after its first operation.
    carry_out(&mut planner, &one.ops[..1]);
    let again = planner.step();
    assert_eq!(again.extent, Extent::Whole);
    assert_eq!(again.ops, one.ops[1..]);
    carry_out(&mut planner, &again.ops);
    let nothing = planner.step();
    assert_eq!((nothing.extent, nothing.ops), (Extent::Changed, vec![]));
}
