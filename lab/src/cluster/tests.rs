use super::*;
use crate::manifests::admit;

const CLUSTER: &str = "\
kind: Cluster
name: c
networking: {ipFamily: dual, podSubnet: '10.1.0.0/16,fd00:10:1::/63', serviceSubnet: '10.2.0.0/16,fd00:10:2::/108'}
nodes: [{role: control-plane}, {role: worker}]
";

const WEB: &str = "\
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ipFamilyPolicy: PreferDualStack, ports: [{port: 80, targetPort: http, name: w}]}
---
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, ports: [{name: http, containerPort: 8080}]}]}
";

fn documents(text: &str) -> Vec<Document> {
    let of = |text: &str| Document {
        file: "f.yaml".into(),
        value: serde_saphyr::from_str(text).ok(),
        text: text.to_owned(),
    };
    let mut documents: Vec<Document> = text.split("---\n").map(of).collect();
    admit(
        &mut documents,
        &crate::kind::parse(CLUSTER).unwrap().service_subnets,
    );
    documents
}

fn planned(ipam: Ipam, text: &str) -> Plan {
    plan(&crate::kind::parse(CLUSTER).unwrap(), ipam, &documents(text)).unwrap()
}

fn object<'a>(plan: &'a Plan, kind: &str, name: &str) -> &'a Value {
    let found = plan
        .objects
        .iter()
        .find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("no {kind} {name} in {:#?}", plan.objects))
}

#[test]
fn pod_networks_are_cut_as_the_controller_manager_cuts_them() {
    let plan = planned(Ipam::Kubernetes, WEB);
    let worker = object(&plan, "Node", "c-worker");
    assert_eq!(
        worker["spec"]["podCIDRs"],
        json!(["10.1.1.0/24", "fd00:10:1:1::/64"])
    );
    assert_eq!(
        object(&plan, "CiliumNode", "c-worker")["spec"]["ipam"]["podCIDRs"],
        worker["spec"]["podCIDRs"]
    );
}

#[test]
fn pods_keep_off_the_control_plane_unless_they_tolerate_it() {
    let plan = planned(Ipam::Kubernetes, WEB);
    assert!(plan.pods.iter().all(|pod| pod.node == "c-worker"));
    let tolerant = WEB.replace(
        "spec: {containers",
        "spec: {tolerations: [{operator: Exists}], containers",
    );
    let nodes: Vec<_> = planned(Ipam::Kubernetes, &tolerant)
        .pods
        .into_iter()
        .map(|pod| pod.node)
        .collect();
    assert_eq!(nodes, ["c-control-plane", "c-worker"]);
}

#[test]
fn a_service_has_a_slice_per_family_with_its_pods_and_their_ports() {
    let plan = planned(Ipam::Kubernetes, WEB);
    assert_eq!(plan.pods[0].ports, BTreeSet::from([8080]));
    let slice = object(&plan, "EndpointSlice", "web-ipv6");
    assert_eq!(slice["addressType"], "IPv6");
    assert_eq!(slice["endpoints"][1]["addresses"], json!(["fd00:10:1:1::3"]));
    assert_eq!(slice["endpoints"][1]["nodeName"], "c-worker");
    assert_eq!(
        slice["ports"],
        json!([{"name": "w", "port": 8080, "protocol": "TCP"}])
    );
}

#[test]
fn a_service_that_selects_nothing_has_an_empty_slice() {
    let plan = planned(
        Ipam::Kubernetes,
        "kind: Service\nmetadata: {name: s}\nspec: {selector: {a: b}}\n",
    );
    assert_eq!(object(&plan, "EndpointSlice", "s-ipv4")["endpoints"], json!([]));
}

#[test]
fn an_object_the_user_wrote_is_not_written_again() {
    let plan = planned(Ipam::Kubernetes, "kind: Node\nmetadata: {name: c-worker}\n");
    assert!(
        !plan
            .objects
            .iter()
            .any(|object| object["kind"] == "Node" && object["metadata"]["name"] == "c-worker")
    );
}

const POOLS: &str = "\
kind: CiliumPodIPPool
metadata: {name: default}
spec: {ipv4: {cidrs: [10.100.0.0/16], maskSize: 24}, ipv6: {cidrs: ['fd00:100::/48'], maskSize: 64}}
---
kind: CiliumPodIPPool
metadata: {name: red}
spec: {ipv4: {cidrs: [10.200.0.0/28], maskSize: 29}}
---
kind: DaemonSet
metadata: {name: d}
spec: {template: {metadata: {annotations: {ipam.cilium.io/ip-pool: red}}}}
";

#[test]
fn every_node_holds_a_part_of_the_default_pool_and_others_on_demand() {
    let plan = planned(Ipam::MultiPool, POOLS);
    let pools = |name| object(&plan, "CiliumNode", name)["spec"]["ipam"]["pools"]["allocated"].clone();
    let first = json!([{"pool": "default", "cidrs": ["10.100.0.0/24", "fd00:100::/64"]}]);
    assert_eq!(pools("c-control-plane"), first);
    let second = json!([
        {"pool": "default", "cidrs": ["10.100.1.0/24", "fd00:100:0:1::/64"]},
        {"pool": "red", "cidrs": ["10.200.0.0/29"]},
    ]);
    assert_eq!(pools("c-worker"), second);
    assert_eq!(plan.pods[0].addresses, ["10.200.0.2".parse::<IpAddr>().unwrap()]);
}

#[test]
fn a_pool_that_is_not_there_or_used_up_is_named() {
    let cluster = crate::kind::parse(CLUSTER).unwrap();
    let error = plan(
        &cluster,
        Ipam::MultiPool,
        &documents(&POOLS.replace("ip-pool: red", "ip-pool: blue")),
    );
    assert_eq!(
        error.unwrap_err(),
        PlanError::NoPool {
            pod: "default/d-0".into(),
            pool: "blue".into()
        }
    );
    let error = plan(
        &cluster,
        Ipam::MultiPool,
        &documents(&POOLS.replace("10.100.0.0/16", "10.100.0.0/24")),
    );
    let expected = PlanError::PoolExhausted {
        pool: "default".into(),
        node: "c-worker".into(),
    };
    assert_eq!(error.unwrap_err(), expected);
}
