//! Ten thousand services with ten endpoints each: the whole way from objects to steps, and what one changed endpoint costs.

use std::net::Ipv4Addr;

use crds::Stowed;
use crds::k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use crds::k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use crds::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use ebpf_abi::service::Selection;
use ebpf_datapath::diff::{Op, diff};
use ebpf_datapath::image::{MapImage, build};
use ebpf_datapath::incremental::{Change, Extent, Incremental};
use ebpf_datapath::services::{Objects, plan};
use ebpf_datapath::{Limits, Settings, ThisNode};

const SERVICES: u32 = 10_000;
const ENDPOINTS: u32 = 10;

fn main() {
    divan::main();
}

struct Cluster {
    services: Vec<Service>,
    slices: Vec<EndpointSlice>,
    node: ThisNode,
    settings: Settings,
}

impl Cluster {
    fn new() -> Self {
        let name = |n: u32| Some(format!("service-{n}"));
        let service = |n: u32| Service {
            metadata: ObjectMeta {
                name: name(n),
                namespace: Some("bench".to_owned()),
                uid: name(n),
                ..ObjectMeta::default()
            },
            spec: Some(ServiceSpec {
                cluster_ips: Some(vec![Ipv4Addr::from(0x0a60_0000 + n).to_string()]),
                ports: Some(vec![ServicePort {
                    port: 80,
                    ..ServicePort::default()
                }]),
                ..ServiceSpec::default()
            }),
            status: None,
        };
        let slice = |n: u32| EndpointSlice {
            metadata: ObjectMeta {
                name: name(n),
                namespace: Some("bench".to_owned()),
                labels: name(n).map(|name| [("kubernetes.io/service-name".to_owned(), name)].into()),
                ..ObjectMeta::default()
            },
            address_type: "IPv4".to_owned(),
            endpoints: Some((0..ENDPOINTS).map(|of| endpoint(n * ENDPOINTS + of)).collect()),
            ports: Some(vec![EndpointPort {
                port: Some(8080),
                ..EndpointPort::default()
            }]),
        };
        let limits = Limits {
            backends: 262_144,
            ..Limits::default()
        };
        Self {
            services: (0..SERVICES).map(service).collect(),
            slices: (0..SERVICES).map(slice).collect(),
            node: ThisNode {
                name: "node-1".to_owned(),
                ..ThisNode::default()
            },
            settings: Settings {
                limits,
                ..Settings::default()
            },
        }
    }

    fn image(&self, before: &MapImage) -> MapImage {
        let objects = Objects {
            services: self.services.iter().collect(),
            slices: self.slices.iter().collect(),
            ..Objects::default()
        };
        let plan = plan(&objects, &self.node, &self.settings);
        let built = build(&plan, before, &self.node, &self.settings);
        assert_eq!(built.refused, []);
        built.image
    }

    fn steps(&self, before: &MapImage) -> Vec<Op> {
        diff(before, &self.image(before))
    }

    fn incremental(&self) -> Incremental {
        let mut planner = Incremental::new(MapImage::default(), self.node.clone(), self.settings.clone());
        for service in &self.services {
            planner.handle(Change::Service(Stowed::new(service.clone()).packed()));
        }
        for slice in &self.slices {
            planner.handle(Change::Slice(held(slice.clone())));
        }
        planner
    }

    fn change_one(&mut self) {
        if let Some(endpoints) = self
            .slices
            .get_mut(5000)
            .and_then(|slice| slice.endpoints.as_mut())
        {
            endpoints.push(endpoint(SERVICES * ENDPOINTS));
        }
    }
}

fn endpoint(n: u32) -> Endpoint {
    Endpoint {
        addresses: vec![Ipv4Addr::from(0x0a80_0000 + n).to_string()],
        node_name: Some(format!("node-{}", n % 100)),
        ..Endpoint::default()
    }
}

#[divan::bench(sample_count = 10)]
fn from_nothing(bencher: divan::Bencher<'_, '_>) {
    let cluster = Cluster::new();
    let empty = MapImage::default();
    bencher.bench_local(|| cluster.steps(&empty));
}

#[divan::bench(sample_count = 10)]
fn one_endpoint_changed(bencher: divan::Bencher<'_, '_>) {
    let mut cluster = Cluster::new();
    let before = cluster.image(&MapImage::default());
    cluster.change_one();
    bencher.bench_local(|| cluster.steps(&before));
}

#[divan::bench(sample_count = 10)]
fn nothing_changed(bencher: divan::Bencher<'_, '_>) {
    let cluster = Cluster::new();
    let before = cluster.image(&MapImage::default());
    bencher.bench_local(|| {
        let steps = cluster.steps(&before);
        assert_eq!(steps, []);
    });
}

/// As [`from_nothing`], with all objects told one by one.
#[divan::bench(sample_count = 10)]
fn from_nothing_incrementally(bencher: divan::Bencher<'_, '_>) {
    let cluster = Cluster::new();
    bencher.bench_local(|| cluster.incremental().step().ops.len());
}

/// As [`one_endpoint_changed`]: from the slice to the steps, and those noted as done.
#[divan::bench(sample_count = 100)]
fn one_endpoint_changed_incrementally(bencher: divan::Bencher<'_, '_>) {
    change_by_change(bencher, Cluster::new());
}

/// The same with a table to fill.
#[divan::bench(sample_count = 100)]
fn one_endpoint_changed_incrementally_with_maglev(bencher: divan::Bencher<'_, '_>) {
    let mut cluster = Cluster::new();
    cluster.settings.selection = Selection::Maglev;
    change_by_change(bencher, cluster);
}

fn change_by_change(bencher: divan::Bencher<'_, '_>, mut cluster: Cluster) {
    let mut planner = cluster.incremental();
    carry_out(&mut planner);
    let few = cluster.slices.get(5000).cloned().map(held);
    cluster.change_one();
    let many = cluster.slices.get(5000).cloned().map(held);
    let mut slices = [many, few].into_iter().flatten().cycle();
    bencher.bench_local(|| {
        if let Some(slice) = slices.next() {
            planner.handle(Change::Slice(slice));
        }
        assert_eq!(carry_out(&mut planner), Extent::Changed);
    });
}

/// As agents hold them.
fn held(slice: EndpointSlice) -> Stowed<EndpointSlice> {
    Stowed::new(slice).packed()
}

fn carry_out(planner: &mut Incremental) -> Extent {
    let step = planner.step();
    for op in &step.ops {
        planner.applied(op);
        if let Op::WriteTable { table, .. } = op
            && step.extent == Extent::Changed
        {
            divan::black_box(planner.image().fill(table));
        }
    }
    step.extent
}

/// One table of 16381 places; with Maglev there is one for each set.
#[divan::bench(sample_count = 100)]
fn fill_a_maglev_table(bencher: divan::Bencher<'_, '_>) {
    let mut cluster = Cluster::new();
    cluster.services.truncate(1);
    cluster.slices.truncate(1);
    cluster.settings.selection = Selection::Maglev;
    let image = cluster.image(&MapImage::default());
    let tables: Vec<_> = image.tables.values().collect();
    bencher.bench_local(|| tables.iter().map(|table| image.fill(table).len()).sum::<usize>());
}
