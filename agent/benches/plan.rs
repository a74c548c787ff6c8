//! A whole plan over 10 000 LoadBalancer Services of two families with an endpoint slice each, two pools, and several
//! peers; and a step from one of them that changed, which must not cost what the others cost.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use divan::{Bencher, black_box};
use stentor::plan::{Options, Planner, plan};
use stentor::source::folder::{Folder, Found, Look};
use stentor::world::{Rest, ServiceRef, Touched, World};

fn main() {
    divan::main();
}

#[divan::bench(args = [100, 1_000, 10_000], sample_count = 10)]
fn four_peers_that_share_their_advertisements(bencher: Bencher<'_, '_>, services: usize) {
    let world = world(services, 4, 1);
    let options = Options::default();
    bencher.bench_local(|| plan(black_box(&world), &options));
}

#[divan::bench(args = [10_000], sample_count = 10)]
fn sixteen_peers_of_four_kinds(bencher: Bencher<'_, '_>, services: usize) {
    let world = world(services, 16, 4);
    let options = Options::default();
    bencher.bench_local(|| plan(black_box(&world), &options));
}

/// One Service is deleted and made again in turn.
#[divan::bench(args = [100, 1_000, 10_000], sample_count = 100)]
fn one_service_that_comes_and_goes(bencher: Bencher<'_, '_>, services: usize) {
    let mut world = world(services, 4, 1);
    let options = Options::default();
    let mut planner = Planner::default();
    planner.step(&world, &options, &Touched::everything());
    let name = ServiceRef {
        namespace: "ns".into(),
        name: format!("s{}", services / 2).into(),
    };
    let service = world.objects.service(&name.namespace, &name.name);
    let service = Arc::clone(service.expect("it is there").stored().parsed);
    let touched = Touched {
        services: BTreeSet::from([name]),
        rest: Rest::Same,
    };
    bencher.bench_local(|| {
        if world.objects.delete(&service.reference).before.is_none() {
            world.objects.apply(Arc::clone(&service));
        }
        let desired = planner.step(&world, &options, &touched);
        world.observed.held_vips = desired.expect("it is otherwise").vips;
    });
}

#[divan::bench(args = [10_000], sample_count = 10)]
fn route_policies_spelled_out(bencher: Bencher<'_, '_>, services: usize) {
    let desired = plan(&world(services, 4, 1), &Options::default());
    bencher.bench_local(|| black_box(&desired).policies.view(None));
}

/// `kinds` peer configs, each with its own advertisement, shared by `peers`.
fn world(services: usize, peers: usize, kinds: usize) -> World {
    let mut text = String::from(
        "apiVersion: cilium.io/v2\nkind: CiliumNode\nmetadata: {name: node-a}\n\
         spec: {addresses: [{type: InternalIP, ip: 10.0.0.2}], ipam: {podCIDRs: [10.1.0.0/24]}}\n---\n\
         apiVersion: cilium.io/v2\nkind: CiliumLoadBalancerIPPool\nmetadata: {name: pool}\n\
         spec: {blocks: [{cidr: 20.0.0.0/16}, {cidr: \"2001:db8::/64\"}]}\n---\n\
         apiVersion: cilium.io/v2\nkind: CiliumBGPClusterConfig\nmetadata: {name: main}\n\
         spec:\n  bgpInstances:\n  - name: main\n    localASN: 65001\n    peers:\n",
    );
    for peer in 0..peers {
        text += &format!(
            "    - {{name: p{peer}, peerASN: 65000, peerAddress: 10.0.1.{peer}, peerConfigRef: {{name: k{}}}}}\n",
            peer % kinds
        );
    }
    for kind in 0..kinds {
        text += &format!(
            "---\napiVersion: cilium.io/v2\nkind: CiliumBGPPeerConfig\nmetadata: {{name: k{kind}}}\n\
             spec:\n  families:\n\
             \x20 - {{afi: ipv4, safi: unicast, advertisements: {{matchLabels: {{kind: k{kind}}}}}}}\n\
             \x20 - {{afi: ipv6, safi: unicast, advertisements: {{matchLabels: {{kind: k{kind}}}}}}}\n\
             ---\napiVersion: cilium.io/v2\nkind: CiliumBGPAdvertisement\n\
             metadata: {{name: k{kind}, labels: {{kind: k{kind}}}}}\n\
             spec:\n  advertisements:\n  - advertisementType: Service\n\
             \x20   service: {{addresses: [LoadBalancerIP]}}\n\
             \x20   selector: {{matchExpressions: [{{key: app, operator: In, values: [web]}}]}}\n\
             \x20   attributes: {{communities: {{standard: [\"65000:{kind}\"]}}}}\n"
        );
    }
    for number in 0..services {
        text += &format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{number}, namespace: ns, labels: {{app: web}}}}\n\
             spec: {{type: LoadBalancer, ipFamilyPolicy: PreferDualStack, selector: {{app: s{number}}}, \
             ports: [{{name: http, port: 80}}]}}\n\
             ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: s{number}, namespace: ns, labels: {{kubernetes.io/service-name: s{number}}}}}\n\
             addressType: IPv4\n\
             endpoints: [{{addresses: [10.1.0.5], nodeName: node-a}}, {{addresses: [10.1.1.5], nodeName: node-b}}]\n\
             ports: [{{name: http, port: 80}}]\n"
        );
    }
    let mut folder = Folder::new("/m".into());
    let batch = folder.take(
        0,
        Look::Files(vec![(
            Path::new("/m/all.yaml").to_owned(),
            Found::Text(text.into_bytes()),
        )]),
    );
    assert!(batch.problems.is_empty(), "{:?}", batch.problems.first());
    let mut world = World::new("node-a");
    world.take(batch);
    world.observed.held_vips = plan(&world, &Options::default()).vips;
    world
}
