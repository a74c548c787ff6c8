//! Step by step equals all anew, whatever happens between steps and in whatever order.

use std::path::Path;

use crds::{Kind, ObjectRef};
use ebpf_datapath::{Protocol, Socket};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::plan::options::{LegacyOrigin, WithoutEndpoints};
use crate::plan::origins::Remembering;
use crate::plan::plan;
use crate::source::{Batch, Change};

#[derive(Clone, Debug)]
enum Event {
    Applied(Value),
    Deleted(Kind, &'static str),
    /// Frontends of the load balancer in the kernel, by the last octet of their address; `None`: it is off.
    Served(Option<Vec<u8>>),
    Allotter(Allotter),
    Gateway(u8),
    Step,
}

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const SLICES: [&str; 4] = ["s1", "s2", "s3", "s4"];
const POOLS: [(&str, &str); 3] = [
    ("red", "10.0.0.0/30"),
    ("red", "10.0.1.0/30"),
    ("green", "10.0.0.2/31"),
];
const KINDS: [&str; 3] = ["LoadBalancerIP", "ClusterIP", "ExternalIP"];
const NODE: &str = "n1";

fn options(seed: u8) -> Options {
    Options {
        without_endpoints: if seed & 1 == 0 {
            WithoutEndpoints::Announced
        } else {
            WithoutEndpoints::Withdrawn
        },
        legacy_origin: if seed & 2 == 0 {
            LegacyOrigin::No
        } else {
            LegacyOrigin::Yes
        },
        ..Options::default()
    }
}

fn one_of(list: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop::sample::select(list)
}

fn some_service() -> impl Strategy<Value = Value> {
    let annotations = prop_oneof![
        8 => Just(json!({})),
        1 => Just(json!({ "service.cilium.io/node": "elsewhere" })),
        1 => Just(json!({ "service.cilium.io/node-selector": "a b" })),
        1 => Just(json!({ "service.cilium.io/type": "ClusterIP" })),
        1 => Just(json!({ "lbipam.cilium.io/sharing-key": "k" })),
        1 => Just(json!({ "lbipam.cilium.io/ips": "10.0.0.1" })),
    ];
    let kind = prop_oneof![
        6 => Just("LoadBalancer"),
        1 => Just("ClusterIP"),
        1 => Just("ExternalName"),
    ];
    let policy = one_of(&["Cluster", "Local"]);
    let addresses = (
        proptest::option::weighted(0.6, 0u8..6),
        proptest::option::weighted(0.3, 0u8..3),
        0u8..4,
        proptest::bool::weighted(0.1),
    );
    (one_of(&NAMES), one_of(&["web", "db"]), annotations, kind, policy, addresses).prop_map(
        |(name, label, annotations, kind, policy, (status, external, cluster, is_name))| {
            let mut service = json!({
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": { "name": name, "namespace": "ns", "labels": { "app": label }, "annotations": annotations },
                "spec": {
                    "type": kind,
                    "clusterIP": format!("10.9.0.{cluster}"),
                    "ipFamilyPolicy": "PreferDualStack",
                    "externalTrafficPolicy": policy,
                    "healthCheckNodePort": 30000 + u16::from(cluster),
                    "ports": [{ "port": 80, "name": "http" }],
                },
            });
            if let Some(last) = external {
                service["spec"]["externalIPs"] = json!([format!("10.0.0.{last}")]);
            }
            if let Some(last) = status {
                let ingress = match (is_name, last) {
                    (true, _) => json!({ "hostname": "example.com" }),
                    (false, 5) => json!({ "ip": "fd00::5" }),
                    (false, last) => json!({ "ip": format!("10.0.0.{last}") }),
                };
                service["status"] = json!({ "loadBalancer": { "ingress": [ingress] } });
            }
            service
        },
    )
}

fn some_slice() -> impl Strategy<Value = Value> {
    let endpoint = (one_of(&[NODE, "n2"]), any::<bool>())
        .prop_map(|(node, ready)| json!({ "addresses": ["10.8.0.1"], "nodeName": node, "conditions": { "ready": ready } }));
    let endpoints = proptest::collection::vec(endpoint, 0..3);
    let headless = proptest::bool::weighted(0.1);
    (one_of(&SLICES), one_of(&NAMES), endpoints, headless).prop_map(|(name, service, endpoints, headless)| {
        let mut labels = json!({ "kubernetes.io/service-name": service });
        if headless {
            labels["service.kubernetes.io/headless"] = json!("");
        }
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": { "name": name, "namespace": "ns", "labels": labels },
            "addressType": "IPv4",
            "endpoints": endpoints,
        })
    })
}

fn of_cluster(kind: &str, version: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": format!("cilium.io/{version}"),
        "kind": kind,
        "metadata": { "name": name, "labels": { "kind": name } },
        "spec": spec,
    })
}

fn some_advertisement() -> impl Strategy<Value = Value> {
    let item = (
        proptest::option::of(one_of(&["web", "db", "none"])),
        proptest::sample::subsequence(&KINDS[..], 1..=3),
        proptest::option::of(28u8..32),
        proptest::option::of(0u8..3),
    );
    let item = item.prop_map(|(app, kinds, length, community)| {
        let selector = app.map_or(json!({}), |app| json!({ "matchLabels": { "app": app } }));
        let mut item = json!({
            "advertisementType": "Service", "selector": selector, "service": { "addresses": kinds },
        });
        if let Some(length) = length {
            item["service"]["aggregationLengthIPv4"] = json!(length);
        }
        if let Some(last) = community {
            item["attributes"] = json!({
                "communities": { "standard": [format!("65000:{last}"), "65000:7"] }, "localPreference": last,
            });
        }
        item
    });
    let items = proptest::collection::vec(item, 1..3);
    (one_of(&["x", "y"]), items).prop_map(|(name, mut items)| {
        items.push(json!({ "advertisementType": "PodCIDR" }));
        of_cluster(
            "CiliumBGPAdvertisement",
            "v2",
            name,
            json!({ "advertisements": items }),
        )
    })
}

/// Everything but Services, their EndpointSlices and advertisements.
fn some_other() -> impl Strategy<Value = Value> {
    let label = proptest::option::of(one_of(&["web", "db"]));
    let pool = (prop::sample::select(&POOLS[..]), label, any::<bool>()).prop_map(
        |((name, cidr), label, disabled)| {
            let mut spec =
                json!({ "blocks": [{ "cidr": cidr }, { "cidr": "fd00::/126" }], "disabled": disabled,
            "blockRemoval": if disabled { "Reassign" } else { "Retain" } });
            if let Some(label) = label {
                spec["serviceSelector"] = json!({ "matchLabels": { "app": label } });
            }
            of_cluster("CiliumLoadBalancerIPPool", "v2", name, spec)
        },
    );
    let peers = proptest::sample::subsequence(&["tor1", "tor2", "auto"][..], 0..=3);
    let config = (peers, 64512..64514_u32).prop_map(|(peers, asn)| {
        let peers = peers.into_iter().enumerate().map(|(at, name)| match name {
            "auto" => json!({
                "name": name, "peerASN": 65000, "peerConfigRef": { "name": "x" },
                "autoDiscovery": { "mode": "DefaultGateway", "defaultGateway": { "addressFamily": "ipv4" } },
            }),
            _ => json!({
                "name": name, "peerASN": 65000, "peerAddress": format!("10.0.1.{at}"),
                "peerConfigRef": { "name": if at == 0 { "x" } else { "both" } },
            }),
        });
        let spec = json!({ "bgpInstances": [{ "name": "main", "localASN": asn, "peers": peers.collect::<Vec<_>>() }] });
        of_cluster("CiliumBGPClusterConfig", "v2", "main", spec)
    });
    let family = |selector: Value| {
        json!([
            { "afi": "ipv4", "safi": "unicast", "advertisements": selector },
            { "afi": "ipv6", "safi": "unicast", "advertisements": selector },
        ])
    };
    prop_oneof![
        2 => pool,
        2 => config,
        1 => Just(of_cluster("CiliumBGPPeerConfig", "v2", "x", json!({
            "families": family(json!({ "matchLabels": { "kind": "x" } })),
        }))),
        1 => Just(of_cluster("CiliumBGPPeerConfig", "v2", "both", json!({ "families": family(json!({})) }))),
        1 => (0u8..3).prop_map(|last| json!({
            "apiVersion": "v1", "kind": "Node", "metadata": { "name": NODE },
            "spec": { "podCIDR": format!("10.7.{last}.0/24") },
            "status": { "addresses": [{ "type": "InternalIP", "address": "192.0.2.1" }] },
        })),
    ]
}

fn some_event() -> impl Strategy<Value = Event> {
    let of_kind = |kind: Kind, names: &'static [&'static str]| {
        one_of(names).prop_map(move |name| Event::Deleted(kind, name))
    };
    let served = proptest::option::of(proptest::collection::vec(0u8..6, 0..5));
    prop_oneof![
        12 => some_service().prop_map(Event::Applied),
        4 => of_kind(Kind::Service, &NAMES),
        8 => some_slice().prop_map(Event::Applied),
        3 => of_kind(Kind::EndpointSlice, &SLICES),
        2 => some_advertisement().prop_map(Event::Applied),
        2 => some_other().prop_map(Event::Applied),
        1 => of_kind(Kind::CiliumLoadBalancerIPPool, &["red", "green"]),
        1 => of_kind(Kind::CiliumBGPAdvertisement, &["x", "y"]),
        3 => served.prop_map(Event::Served),
        1 => prop::sample::select(&[Allotter::Agents, Allotter::Operator][..]).prop_map(Event::Allotter),
        1 => (0u8..2).prop_map(Event::Gateway),
        20 => Just(Event::Step),
    ]
}

struct History {
    world: World,
    options: Options,
    touched: Touched,
    planner: Planner,
    /// What the steps until now come to.
    desired: Desired,
}

impl History {
    fn new(options: Options) -> Self {
        let mut history = Self {
            world: World::new(NODE),
            options,
            touched: Touched::default(),
            planner: Planner::default(),
            desired: Desired::default(),
        };
        let peers = json!([
            { "name": "tor1", "peerASN": 65000, "peerAddress": "10.0.1.1", "peerConfigRef": { "name": "x" } },
            { "name": "tor2", "peerASN": 65000, "peerAddress": "10.0.1.2", "peerConfigRef": { "name": "both" } },
        ]);
        let families = |selector: Value| {
            json!({ "families": [
            { "afi": "ipv4", "safi": "unicast", "advertisements": selector },
            { "afi": "ipv6", "safi": "unicast", "advertisements": selector },
        ] })
        };
        let of = |kinds: Value, app: &str| {
            json!({ "advertisements": [{
            "advertisementType": "Service", "service": { "addresses": kinds },
            "selector": { "matchLabels": { "app": app } },
        }] })
        };
        for object in [
            json!({
                "apiVersion": "v1", "kind": "Node", "metadata": { "name": NODE },
                "status": { "addresses": [{ "type": "InternalIP", "address": "192.0.2.1" }] },
            }),
            of_cluster(
                "CiliumBGPClusterConfig",
                "v2",
                "main",
                json!({ "bgpInstances": [
                { "name": "main", "localASN": 64512, "peers": peers },
            ] }),
            ),
            of_cluster(
                "CiliumBGPPeerConfig",
                "v2",
                "x",
                families(json!({ "matchLabels": { "kind": "x" } })),
            ),
            of_cluster("CiliumBGPPeerConfig", "v2", "both", families(json!({}))),
            of_cluster(
                "CiliumBGPAdvertisement",
                "v2",
                "x",
                of(json!(["LoadBalancerIP", "ExternalIP"]), "web"),
            ),
            of_cluster(
                "CiliumBGPAdvertisement",
                "v2",
                "y",
                of(json!(["LoadBalancerIP", "ClusterIP"]), "db"),
            ),
            of_cluster(
                "CiliumLoadBalancerIPPool",
                "v2",
                "red",
                json!({ "blocks": [{ "cidr": "10.0.0.0/30" }] }),
            ),
        ] {
            history.apply(&object);
        }
        history
    }

    fn apply(&mut self, object: &Value) {
        let read = crds::read_json(Path::new("test"), object);
        assert!(read.bad.is_empty(), "{:?}", read.problems);
        let applied = read.objects.into_iter();
        self.tell(applied.map(|parsed| Change::Applied(Arc::new(parsed))).collect());
    }

    fn tell(&mut self, changes: Vec<Change>) {
        let allotter = self.world.allotter;
        let batch = Batch {
            changes,
            allotter,
            ..Batch::default()
        };
        self.touched.extend(self.world.take(batch));
    }

    fn take(&mut self, event: Event) -> Result<(), TestCaseError> {
        match event {
            Event::Applied(object) => self.apply(&object),
            Event::Deleted(kind, name) => {
                let namespace = if kind.is_namespaced() { "ns" } else { "" };
                self.tell(vec![Change::Deleted(ObjectRef::namespaced(
                    kind, namespace, name,
                ))]);
            }
            Event::Served(None) => self.world.observed.served = Served::ByOthers,
            Event::Served(Some(list)) => {
                let sockets = list.into_iter().flat_map(|last| {
                    let addresses = [[10, 0, 0, last], [10, 9, 0, last]];
                    addresses.map(|address| Socket::new(IpAddr::from(address), 80, Protocol::Tcp))
                });
                self.world.observed.served = Served::Here(Arc::new(sockets.collect()));
            }
            Event::Allotter(allotter) => {
                let batch = Batch {
                    allotter,
                    ..Batch::default()
                };
                self.touched.extend(self.world.take(batch));
            }
            Event::Gateway(last) => {
                self.world.observed.default_routes = vec![DefaultRoute {
                    metric: 0,
                    gateway: [192, 0, 2, 250 + last].into(),
                    interface: "eth0".to_owned(),
                    table: crate::plan::gateway::MAIN_TABLE,
                    link: crate::world::LinkState::Up,
                }];
            }
            Event::Step => self.step()?,
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), TestCaseError> {
        let touched = std::mem::take(&mut self.touched);
        if let Some(desired) = self.planner.step(&self.world, &self.options, &touched) {
            self.desired = desired;
        }
        prop_assert_eq!(&self.desired, &plan(&self.world, &self.options));
        self.world.observed.held_vips = self.desired.vips.clone();
        let nothing = |_: &ServiceRef| &[][..];
        let mut origins = std::mem::take(&mut self.world.observed.origins);
        // One that knows no pools looks at everything.
        Remembering::default().step(&self.world, &mut origins, [], self.desired.vips.iter(), nothing);
        self.world.observed.origins = origins;
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn step_by_step_is_all_anew(seed: u8, events in proptest::collection::vec(some_event(), 1..60)) {
        let mut history = History::new(options(seed));
        for event in events {
            history.take(event)?;
        }
        history.step()?;
        history.step()?;
    }
}
