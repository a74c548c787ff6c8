//! Images into the kernel's maps and back.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use crds::Object;
use ebpf_abi::maglev::Seeds;
use ebpf_abi::maps;
use ebpf_datapath::image::MapImage;
use ebpf_datapath::incremental::{Change, Incremental};
use ebpf_datapath::{Limits, ThisNode};
use ebpf_loader::{Done, Failure, Store};

use crate::node::{load, node};

#[test]
fn what_was_carried_out_is_read_back_after_every_step() {
    node(|folder| {
        let datapath = &load(folder, &BTreeMap::new())?;
        let mut store = Store::open(datapath)?;
        let mut planner = planner(store.read(&Seeds::default())?, Seeds::default());
        let mut random = Random(7);
        for round in 0..60 {
            for _ in 0..=random.below(6) {
                change(&mut planner, &mut random);
            }
            let report = store.carry_out(&mut planner)?;
            assert_eq!(report.refused, [], "round {round}");
            let read = store.read(&Seeds::default())?;
            same(&read, planner.image());
        }
        assert!(!planner.image().tables.is_empty() && !planner.image().ranges4.is_empty());
        assert!(!planner.image().members.is_empty() && !planner.image().nodes.is_empty());
        assert_eq!(planner.image().dangling(), []);
        Ok(())
    });
}

#[test]
fn a_restart_with_nothing_changed_writes_nothing() {
    node(|folder| {
        let datapath = &load(folder, &BTreeMap::new())?;
        let mut store = Store::open(datapath)?;
        let objects = |planner: &mut Incremental| {
            let mut random = Random(3);
            for _ in 0..200 {
                change(planner, &mut random);
            }
        };
        let mut first = planner(store.read(&Seeds::default())?, Seeds::default());
        objects(&mut first);
        let done = store.carry_out(&mut first)?.done;
        assert!(done.writes > 100, "{done:?}");
        // Another start, which knows what the maps tell.
        let mut store = Store::open(datapath)?;
        let mut second = planner(store.read(&Seeds::default())?, Seeds::default());
        objects(&mut second);
        assert_eq!(store.carry_out(&mut second)?.done, Done::default());
        Ok(())
    });
}

#[test]
fn tables_of_other_seeds_are_filled_anew_by_a_restart() {
    node(|folder| {
        let datapath = &load(folder, &BTreeMap::new())?;
        let mut store = Store::open(datapath)?;
        let start = |store: &mut Store, seeds: Seeds| -> Result<Done> {
            let mut planner = planner(store.read(&seeds)?, seeds);
            for n in 0..4 {
                planner.handle(service(n, Kind::Maglev, 0));
                planner.handle(slice(n, 3));
            }
            Ok(store.carry_out(&mut planner)?.done)
        };
        start(&mut store, Seeds::default())?;
        let others = Seeds {
            table: 77,
            ..Seeds::default()
        };
        let done = start(&mut store, others)?;
        assert_eq!(done.writes, 4, "{done:?}");
        assert_eq!(start(&mut store, others)?, Done::default());
        Ok(())
    });
}

#[test]
fn sets_of_the_same_members_share_a_table_until_they_differ() {
    node(|folder| {
        let datapath = &load(folder, &BTreeMap::new())?;
        let mut store = Store::open(datapath)?;
        let mut planner = planner(store.read(&Seeds::default())?, Seeds::default());
        let maglev = datapath.map(maps::MAGLEV)?;
        let tables = |planner: &Incremental| -> Result<BTreeSet<Option<u32>>> {
            let sets = planner.image().tables.keys();
            Ok(sets.map(|set| maglev.get(set)).collect::<Result<_, _>>()?)
        };
        for n in 0..3 {
            planner.handle(service(n, Kind::Maglev, 0));
            planner.handle(slice_at(n, 7, 3));
        }
        store.carry_out(&mut planner)?;
        assert_eq!(planner.image().tables.len(), 3);
        assert_eq!(tables(&planner)?.len(), 1);
        // One that comes later, too.
        planner.handle(service(4, Kind::Maglev, 0));
        planner.handle(slice_at(4, 7, 3));
        store.carry_out(&mut planner)?;
        assert_eq!(tables(&planner)?.len(), 1);
        planner.handle(slice_at(2, 7, 2));
        store.carry_out(&mut planner)?;
        assert_eq!(tables(&planner)?.len(), 2);
        same(&store.read(&Seeds::default())?, planner.image());
        Ok(())
    });
}

#[test]
fn a_full_map_is_named_and_what_came_before_is_applied() {
    node(|folder| {
        let datapath = &load(folder, &BTreeMap::from([(maps::RANGES4.name, 2)]))?;
        let mut store = Store::open(datapath)?;
        // Room is planned for that is not there.
        let mut planner = planner(store.read(&Seeds::default())?, Seeds::default());
        for n in 0..4 {
            planner.handle(service(n, Kind::Ranges, n));
            planner.handle(slice(n, 3));
        }
        let failure = store.carry_out(&mut planner).expect_err("there is no room");
        assert!(
            matches!(
                failure,
                Failure::Full {
                    map: "RANGES4",
                    entries: 2,
                    ..
                }
            ),
            "{failure}"
        );
        same(&store.read(&Seeds::default())?, planner.image());
        for n in 1..4 {
            planner.handle(Change::ServiceGone(name(n)));
        }
        store.carry_out(&mut planner)?;
        same(&store.read(&Seeds::default())?, planner.image());
        assert_eq!(planner.image().frontends().len(), 2);
        Ok(())
    });
}

fn same(read: &MapImage, known: &MapImage) {
    // One after the other, so that a failure is short.
    assert_eq!(read.config, known.config);
    assert_eq!(read.filter, known.filter);
    assert_eq!(read.frontends4, known.frontends4);
    assert_eq!(read.frontends6, known.frontends6);
    assert_eq!(read.live_frontends, known.live_frontends);
    assert_eq!(read.sets, known.sets);
    assert_eq!(read.slots, known.slots);
    assert_eq!(read.tables, known.tables);
    assert_eq!(read.backends4, known.backends4);
    assert_eq!(read.backends6, known.backends6);
    assert_eq!(read, known);
}

pub(crate) fn planner(image: MapImage, seeds: Seeds) -> Incremental {
    let addresses: BTreeSet<_> = ["192.0.2.1", "2001:db8::1"]
        .map(|text| text.parse().expect("an address"))
        .into();
    let node = ThisNode {
        name: "me".to_owned(),
        labels: BTreeMap::new(),
        node_port_addresses: addresses.clone(),
        addresses,
    };
    let settings = ebpf_datapath::Settings {
        seeds,
        maglev_size: 251,
        limits: Limits::default(),
        ..ebpf_datapath::Settings::default()
    };
    Incremental::new(image, node, settings)
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Plain,
    Maglev,
    Affinity,
    Ranges,
}

/// One object more, less, or another.
fn change(planner: &mut Incremental, random: &mut Random) {
    let n = random.below(20);
    let kinds = [Kind::Plain, Kind::Maglev, Kind::Affinity, Kind::Ranges];
    match random.below(8) {
        0 => planner.handle(Change::ServiceGone(name(n))),
        1 => planner.handle(Change::SliceGone(name(n))),
        2 => planner.handle(node_object(random.below(5), random.below(3))),
        3..5 => {
            let kind = kinds[random.below(4) as usize];
            planner.handle(service(n, kind, random.below(3)));
        }
        _ => planner.handle(slice(n, random.below(9))),
    }
}

fn name(n: u32) -> ebpf_datapath::ServiceName {
    ebpf_datapath::ServiceName {
        namespace: "default".to_owned(),
        name: format!("s{n}"),
    }
}

pub(crate) fn service(n: u32, kind: Kind, variant: u32) -> Change {
    let (annotations, more) = match kind {
        Kind::Plain => ("", String::new()),
        Kind::Maglev => (
            ", annotations: {service.cilium.io/lb-algorithm: maglev}",
            String::new(),
        ),
        Kind::Affinity => ("", "sessionAffinity: ClientIP".to_owned()),
        Kind::Ranges => (
            "",
            format!("loadBalancerSourceRanges: [198.51.100.{variant}/32, 203.0.113.{variant}/32]"),
        ),
    };
    let text = format!(
        "apiVersion: v1
kind: Service
metadata: {{name: s{n}, namespace: default, uid: u{n}{annotations}}}
spec:
  type: LoadBalancer
  allocateLoadBalancerNodePorts: false
  clusterIP: 10.96.0.{n}
  clusterIPs: [10.96.0.{n}]
  ports: [{{name: a, port: {}}}]
  {more}
status: {{loadBalancer: {{ingress: [{{ip: 192.0.2.{}}}]}}}}
",
        80 + variant,
        100 + n,
    );
    match read(&text) {
        Object::Service(service) => Change::Service(service),
        other => panic!("{:?}", other.kind()),
    }
}

pub(crate) fn slice(n: u32, endpoints: u32) -> Change {
    slice_at(n, n, endpoints)
}

fn slice_at(n: u32, net: u32, endpoints: u32) -> Change {
    use std::fmt::Write as _;
    let mut text = format!(
        "apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: s{n}, namespace: default, labels: {{kubernetes.io/service-name: s{n}}}}}
addressType: IPv4
ports: [{{name: a, port: 8080}}]
endpoints:
"
    );
    if endpoints == 0 {
        text = text.replace("endpoints:\n", "endpoints: []\n");
    }
    for e in 0..endpoints {
        let node = if e == 0 {
            "me".to_owned()
        } else {
            format!("n{}", e % 5)
        };
        let ready = e != 5;
        let _ = writeln!(
            text,
            "- {{addresses: [10.0.{net}.{e}], nodeName: {node}, conditions: {{ready: {ready}, terminating: {}}}}}",
            !ready
        );
    }
    match read(&text) {
        Object::EndpointSlice(slice) => Change::Slice(slice),
        other => panic!("{:?}", other.kind()),
    }
}

fn node_object(n: u32, variant: u32) -> Change {
    let text = format!(
        "apiVersion: v1
kind: Node
metadata: {{name: n{n}}}
status: {{addresses: [{{type: InternalIP, address: 172.16.{variant}.{n}}}]}}
"
    );
    match read(&text) {
        Object::Node(node) => Change::Node(Arc::new(*node)),
        other => panic!("{:?}", other.kind()),
    }
}

pub(crate) fn read(text: &str) -> Object {
    let mut read = crds::read(Path::new("test.yaml"), text);
    assert!(read.bad.is_empty(), "{text}\n{:?}", read.problems);
    read.objects.remove(0).object
}

/// The same numbers on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        u32::try_from((self.0 >> 33) % u64::from(end)).expect("below a u32")
    }
}
