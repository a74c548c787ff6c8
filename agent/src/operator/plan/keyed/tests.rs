//! Step by step equals all anew, whatever happens between steps and in whatever order.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::bench::Cluster;
use super::super::reconcile;
use super::*;
use crate::config::operator::NodeIpam;
use crate::plan::options::IpamMode;
use crate::shared_map::SharedMap;

#[derive(Clone, Debug)]
enum Event {
    Applied(Value),
    Deleted(Kind, &'static str),
    /// A kind can not be read any more, or again.
    Refused(Kind),
    /// A plan; of what it wants these bits are written, over and over.
    Step(u8),
    /// Another replica goes on.
    Restart,
}

const NAMES: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];
const POOLS: [(&str, &str); 3] = [
    ("red", "10.0.0.0/30"),
    ("green", "10.0.0.2/31"),
    ("blue", "10.0.1.0/30"),
];
const NODES: [&str; 3] = ["n1", "n2", "n3"];

fn config(ipam: IpamMode) -> Config {
    let mut config = Config::default();
    config.operator.node_ipam = NodeIpam::OnlyNamedClass;
    config.options.ipam = ipam;
    config.options.secrets_namespace = Some("ns".to_owned());
    config
}

fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&NAMES[..])
}

fn some_service() -> impl Strategy<Value = Value> {
    let class = prop_oneof![
        6 => Just(None),
        1 => Just(Some("io.cilium/node")),
        1 => Just(Some("example.com/other")),
    ];
    let asked = proptest::option::weighted(0.2, 0u8..6);
    let key = proptest::option::weighted(0.1, Just("k"));
    let status = proptest::option::weighted(0.1, 0u8..6);
    let rest = (
        asked,
        key,
        status,
        0i64..4,
        proptest::bool::weighted(0.9),
        0u16..2,
    );
    (name(), class, prop::sample::select(&["x", "y"][..]), rest).prop_map(|(name, class, label, rest)| {
        let (asked, key, status, age, balancer, port) = rest;
        let mut annotations = serde_json::Map::new();
        if let Some(last) = asked {
            annotations.insert("lbipam.cilium.io/ips".to_owned(), json!(format!("10.0.0.{last}")));
        }
        if let Some(key) = key {
            annotations.insert("lbipam.cilium.io/sharing-key".to_owned(), json!(key));
        }
        let mut service = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": name, "namespace": "ns", "labels": { "pool": label }, "annotations": annotations,
                "creationTimestamp": format!("2026-01-01T00:00:0{age}Z"),
            },
            "spec": {
                "type": if balancer { "LoadBalancer" } else { "ClusterIP" },
                "loadBalancerClass": class,
                "ipFamilies": ["IPv4"],
                "ports": [{ "port": 80 + port, "name": "http" }],
            },
        });
        if let Some(last) = status {
            service["status"] =
                json!({ "loadBalancer": { "ingress": [{ "ip": format!("10.0.0.{last}") }] } });
        }
        service
    })
}

fn some_pool() -> impl Strategy<Value = Value> {
    let label = proptest::option::weighted(0.4, Just("x"));
    let removal = prop::sample::select(&["Retain", "Reassign"][..]);
    let rest = (proptest::bool::weighted(0.2), label, removal, 28u8..31);
    (prop::sample::select(&POOLS[..]), rest).prop_map(|((name, cidr), (disabled, label, removal, length))| {
        let (network, _) = cidr.split_once('/').unwrap();
        let mut spec = json!({
            "blocks": [{ "cidr": format!("{network}/{length}") }],
            "disabled": disabled,
            "blockRemoval": removal,
        });
        if let Some(label) = label {
            spec["serviceSelector"] = json!({ "matchLabels": { "pool": label } });
        }
        json!({
            "apiVersion": "cilium.io/v2",
            "kind": "CiliumLoadBalancerIPPool",
            "metadata": { "name": name, "creationTimestamp": "2026-01-01T00:00:00Z" },
            "spec": spec,
        })
    })
}

/// What all other parts read.
fn some_other() -> impl Strategy<Value = Value> {
    let node = prop::sample::select(&NODES[..]);
    let of_cluster = |kind: &str, version: &str, name: &str, spec: Value| {
        json!({
            "apiVersion": format!("cilium.io/{version}"),
            "kind": kind,
            "metadata": { "name": name, "uid": name, "labels": { "node": name } },
            "spec": spec,
        })
    };
    let secret = proptest::option::of(Just("s"));
    prop_oneof![
        (node.clone(), 0u8..3, any::<bool>()).prop_map(|(name, last, ready)| json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": { "name": name, "uid": name },
            "status": {
                "addresses": [{ "type": "InternalIP", "address": format!("192.0.2.{last}") }],
                "conditions": [{ "type": "Ready", "status": if ready { "True" } else { "False" } }],
            },
        })),
        (node.clone(), 0u8..40, proptest::option::of(name())).prop_map(move |(name, needed, full)| {
            let requested = json!([{ "pool": "pods", "needed": { "ipv4-addrs": needed } }]);
            let spec = json!({ "ipam": { "pools": { "requested": requested } } });
            let mut node = of_cluster("CiliumNode", "v2", name, spec);
            if let Some(service) = full {
                let refused = json!({ "map": "SETS", "limit": 8, "services": [format!("ns/{service}")] });
                node["status"] = json!({ "load-balancer": { "refused": [refused] } });
            }
            node
        }),
        (
            name(),
            node.clone(),
            proptest::option::of(prop::sample::select(&NODES[..]))
        )
            .prop_map(|(service, on, other)| {
                let endpoints = [Some(on), other].into_iter().flatten();
                let endpoints: Vec<Value> = endpoints
                    .map(|node| json!({ "addresses": ["10.9.0.1"], "nodeName": node }))
                    .collect();
                json!({
                    "apiVersion": "discovery.k8s.io/v1",
                    "kind": "EndpointSlice",
                    "metadata": {
                        "name": service, "namespace": "ns", "labels": { "kubernetes.io/service-name": service },
                    },
                    "addressType": "IPv4",
                    "endpoints": endpoints,
                })
            }),
        Just(of_cluster(
            "CiliumPodIPPool",
            "v2alpha1",
            "pods",
            json!({ "ipv4": { "cidrs": ["10.8.0.0/26"], "maskSize": 28 } })
        )),
        (prop::sample::select(&["m1", "m2"][..]), proptest::option::of(node)).prop_map(
            move |(name, selected)| {
                let mut spec = json!({ "bgpInstances": [{
                    "name": "main", "localASN": 64512,
                    "peers": [{
                        "name": "tor", "peerAddress": "10.0.0.254", "peerASN": 65000, "peerConfigRef": { "name": "tor" },
                    }],
                }] });
                if let Some(node) = selected {
                    spec["nodeSelector"] = json!({ "matchLabels": { "node": node } });
                }
                of_cluster("CiliumBGPClusterConfig", "v2", name, spec)
            }
        ),
        secret.prop_map(move |secret| of_cluster(
            "CiliumBGPPeerConfig",
            "v2",
            "tor",
            json!({ "authSecretRef": secret })
        )),
        Just(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "s", "namespace": "ns" },
        })),
    ]
}

fn some_event() -> impl Strategy<Value = Event> {
    let of_kind = |kind: Kind, names: &'static [&'static str]| {
        prop::sample::select(names).prop_map(move |name| Event::Deleted(kind, name))
    };
    let pools: &[&str] = &["red", "green", "blue"];
    prop_oneof![
        8 => some_service().prop_map(Event::Applied),
        3 => of_kind(Kind::Service, &NAMES),
        3 => some_pool().prop_map(Event::Applied),
        1 => of_kind(Kind::CiliumLoadBalancerIPPool, pools),
        5 => some_other().prop_map(Event::Applied),
        1 => of_kind(Kind::Node, &NODES),
        1 => of_kind(Kind::CiliumNode, &NODES),
        1 => of_kind(Kind::CiliumBGPClusterConfig, &["m1", "m2"]),
        1 => of_kind(Kind::Secret, &["s"]),
        1 => prop::sample::select(&[
            Kind::Service, Kind::CiliumLoadBalancerIPPool, Kind::EndpointSlice, Kind::Secret, Kind::CiliumNode,
        ][..]).prop_map(Event::Refused),
        12 => prop_oneof![Just(0), Just(u8::MAX), any::<u8>()].prop_map(Event::Step),
        1 => Just(Event::Restart),
    ]
}

struct History {
    cluster: Cluster,
    config: Config,
    refused: BTreeSet<Kind>,
    changed: BTreeSet<ObjectRef>,
    keyed: Keyed,
    /// What the steps until now want.
    wanted: BTreeMap<Target, Write>,
    memory: Memory,
}

impl History {
    fn take(&mut self, event: Event) -> Result<(), TestCaseError> {
        match event {
            Event::Applied(object) => {
                let kind = object["kind"].as_str().unwrap();
                let kind = Kind::ALL
                    .into_iter()
                    .find(|known| known.as_str() == kind)
                    .unwrap();
                let name = object["metadata"]["name"].as_str().unwrap();
                self.changed.insert(reference(kind, name));
                self.cluster.apply(object);
            }
            Event::Deleted(kind, name) => {
                self.changed.insert(reference(kind, name));
                self.cluster.world.objects.delete(&reference(kind, name));
            }
            Event::Refused(kind) => {
                if !self.refused.remove(&kind) {
                    self.refused.insert(kind);
                }
            }
            Event::Step(bits) => self.step(bits)?,
            Event::Restart => {
                self.keyed = Keyed::default();
                self.memory = Memory::default();
                self.wanted.clear();
                self.cluster.world.observed.held_vips = SharedMap::new();
            }
        }
        Ok(())
    }

    fn step(&mut self, bits: u8) -> Result<(), TestCaseError> {
        let now = Timestamp::UNIX_EPOCH;
        self.cluster.world.refused.clone_from(&self.refused);
        let memory = std::mem::take(&mut self.memory);
        let whole = reconcile(&self.cluster.world, memory, &self.config, now);
        let changed = std::mem::take(&mut self.changed);
        let step = self.keyed.step(&self.cluster.world, &changed, &self.config, now);
        let held = &mut self.cluster.world.observed.held_vips;
        for (service, addresses) in step.held {
            match addresses {
                Some(addresses) => held.insert(service, addresses),
                None => held.remove(&service),
            };
        }
        prop_assert!(held.iter().eq(&whole.held), "{:?} {:?}", held, whole.held);
        match step.writes {
            Writes::All(writes) => {
                let writes = writes.into_iter().map(|write| (write.target.clone(), write));
                self.wanted = writes.collect();
            }
            Writes::Of(writes) => {
                for (target, write) in writes {
                    match write {
                        Some(write) => self.wanted.insert(target, write),
                        None => self.wanted.remove(&target),
                    };
                }
            }
        }
        let writes = whole
            .writes
            .into_iter()
            .map(|write| (write.target.clone(), write));
        let writes: BTreeMap<Target, Write> = writes.collect();
        prop_assert_eq!(&self.wanted, &writes);
        prop_assert_eq!(self.keyed.memory(), &whole.memory);
        prop_assert_eq!(&step.report.off, &whole.report.off);
        prop_assert_eq!(&step.report.lb_ipam, &whole.report.lb_ipam);
        self.memory = whole.memory;
        let chosen = writes
            .into_values()
            .enumerate()
            .filter(|(at, _)| bits & (1 << (at % 8)) != 0);
        let chosen: Vec<Write> = chosen.map(|(_, write)| write).collect();
        self.changed
            .extend(chosen.iter().map(|write| write.target.object.clone()));
        self.cluster.carry_out(chosen);
        Ok(())
    }
}

fn reference(kind: Kind, name: &str) -> ObjectRef {
    let namespace = if kind.is_namespaced() { "ns" } else { "" };
    ObjectRef::namespaced(kind, namespace, name)
}

fn run(multi: bool, events: Vec<Event>) -> Result<(), TestCaseError> {
    let mut history = History {
        cluster: Cluster::with(&[]),
        config: config(if multi {
            IpamMode::MultiPool
        } else {
            IpamMode::ClusterPool
        }),
        refused: BTreeSet::new(),
        changed: BTreeSet::new(),
        keyed: Keyed::default(),
        wanted: BTreeMap::new(),
        memory: Memory::default(),
    };
    for event in events {
        history.take(event)?;
    }
    // Once all is written nothing is left to do, and a restart changes nothing.
    for _ in 0..6 {
        history.step(u8::MAX)?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn step_by_step_is_all_anew(
        multi: bool,
        events in proptest::collection::vec(some_event(), 1..50),
    ) {
        run(multi, events)?;
    }
}

#[test]
fn the_last_object_of_a_kind_goes_while_another_part_is_switched_off() {
    let node = json!({"apiVersion": "cilium.io/v2", "kind": "CiliumNode", "metadata": {"name": "n1", "uid": "n1"}, "spec": {}});
    let events = vec![
        Event::Applied(node),
        Event::Step(0),
        Event::Deleted(Kind::CiliumNode, "n1"),
        Event::Refused(Kind::Service),
        Event::Step(0),
    ];
    run(false, events).unwrap();
}
