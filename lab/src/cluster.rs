//! The missing parts of a cluster, as a pure function: nodes' networks, pods and where they run, their addresses,
//! and the objects that tell of them.
//!
//! ```text
//!   kind cluster.yaml --+
//!   values.yaml --------+--> plan --> Node, CiliumNode     (as kubelet, controller manager and operator write)
//!   manifests ----------+         --> pods, to be started
//!                                 --> EndpointSlice        (as the endpoint slice controller writes)
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Value, json};

use crate::kind::{Cluster, ClusterNode, Role};
use crate::manifests::{Document, nth, strings};
use crate::values::Ipam;

/// Names a pool for a pod.
const POOL_ANNOTATION: &str = "ipam.cilium.io/ip-pool";
/// The pool of pods that name none; every node holds a part of it from the start.
const DEFAULT_POOL: &str = "default";
const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";

/// What there is besides what the user wrote.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub pods: Vec<Pod>,
    /// Node, CiliumNode and EndpointSlice objects.
    pub objects: Vec<Value>,
}

/// A pod that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    pub namespace: String,
    pub name: String,
    pub node: String,
    pub labels: BTreeMap<String, String>,
    /// One per family, in the order of the node's networks.
    pub addresses: Vec<IpAddr>,
    /// What its containers say they listen on, by name where they give one.
    pub container_ports: Vec<ContainerPort>,
    /// All it is reached at: its containers' ports and the target ports of its Services.
    pub ports: BTreeSet<u16>,
    pool: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerPort {
    pub name: Option<String>,
    pub port: u16,
}

/// Why no cluster comes of it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("{subnet} has no network left for node {node}")]
    NoNodeNetwork { subnet: IpNet, node: String },
    #[error("pod {pod}: no CiliumPodIPPool {pool}")]
    NoPool { pod: String, pool: String },
    #[error("CiliumPodIPPool {pool} has no network left for node {node}")]
    PoolExhausted { pool: String, node: String },
    #[error("pod {pod}: no address left on node {node}")]
    NoAddress { pod: String, node: String },
}

/// Plays scheduler, controllers and operator. `documents` must be admitted already.
///
/// # Errors
/// Addresses run out, or a pod names a pool that is not there.
pub fn plan(cluster: &Cluster, ipam: Ipam, documents: &[Document]) -> Result<Plan, PlanError> {
    let mut pods = schedule(cluster, documents);
    for document in documents.iter().filter(|document| document.kind() == "Service") {
        for (pod, port) in targets(document, &pods) {
            pods[pod].ports.insert(port);
        }
    }
    let mut networks = BTreeMap::new();
    for (index, node) in cluster.nodes.iter().enumerate() {
        networks.insert(node.name.clone(), node_networks(cluster, index, node)?);
    }
    let mut allocated = BTreeMap::new();
    match ipam {
        Ipam::Kubernetes => address_from_nodes(&mut pods, &networks)?,
        Ipam::MultiPool => allocated = address_from_pools(cluster, &mut pods, documents)?,
    }
    let mut objects = Vec::new();
    for node in &cluster.nodes {
        let own = networks.get(&node.name).map(Vec::as_slice).unwrap_or_default();
        let pools = allocated.get(&node.name).cloned().unwrap_or_default();
        objects.extend([node_object(node, own), cilium_node(node, own, ipam, &pools)]);
    }
    for document in documents.iter().filter(|document| document.kind() == "Service") {
        objects.extend(endpoint_slices(document, &pods));
    }
    // What the user wrote about the same object is his word against ours: his counts.
    let written: BTreeSet<(&str, &str, &str)> = documents
        .iter()
        .map(|document| (document.kind(), document.namespace(), document.name()))
        .collect();
    objects.retain(|object| {
        let text = |pointer| object.pointer(pointer).and_then(Value::as_str);
        let namespace = text("/metadata/namespace").unwrap_or("default");
        let key = (
            text("/kind").unwrap_or(""),
            namespace,
            text("/metadata/name").unwrap_or(""),
        );
        !written.contains(&key)
    });
    Ok(Plan { pods, objects })
}

/// The n-th /24 or /64 of each pod subnet, as kube-controller-manager cuts them.
fn node_networks(cluster: &Cluster, index: usize, node: &ClusterNode) -> Result<Vec<IpNet>, PlanError> {
    let cut = |subnet: &IpNet| {
        let length = if subnet.addr().is_ipv4() { 24 } else { 64 };
        let piece = subnet
            .subnets(length.max(subnet.prefix_len()))
            .ok()
            .and_then(|mut pieces| pieces.nth(index));
        piece.ok_or_else(|| PlanError::NoNodeNetwork {
            subnet: *subnet,
            node: node.name.clone(),
        })
    };
    cluster.pod_subnets.iter().map(cut).collect()
}

/// Spreads the pods of Deployments and their like over the nodes, in turn.
fn schedule(cluster: &Cluster, documents: &[Document]) -> Vec<Pod> {
    let mut turn = 0;
    let mut pods = Vec::new();
    for document in documents {
        let template = match document.kind() {
            "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" => "/spec/template",
            "Pod" => "",
            _ => continue,
        };
        let at = |path: &str| document.at(&format!("{template}{path}"));
        let nodes: Vec<&ClusterNode> = cluster
            .nodes
            .iter()
            .filter(|node| may_run(node, cluster, at("/spec").unwrap_or(&Value::Null)))
            .collect();
        if nodes.is_empty() {
            continue;
        }
        let replicas = document.at("/spec/replicas").and_then(Value::as_u64).unwrap_or(1);
        let chosen: Vec<&ClusterNode> = match document.kind() {
            "DaemonSet" => nodes,
            "Pod" => nodes.into_iter().take(1).collect(),
            _ => (0..replicas)
                .map(|_| {
                    turn += 1;
                    nodes[(turn - 1) % nodes.len()]
                })
                .collect(),
        };
        for (number, node) in chosen.into_iter().enumerate() {
            let name = match document.kind() {
                "Pod" => document.name().to_owned(),
                _ => format!("{}-{number}", document.name()),
            };
            let container_ports = container_ports(at("/spec/containers").unwrap_or(&Value::Null));
            pods.push(Pod {
                namespace: document.namespace().to_owned(),
                name,
                node: node.name.clone(),
                labels: at("/metadata/labels").map(strings).unwrap_or_default(),
                addresses: Vec::new(),
                ports: container_ports.iter().map(|port| port.port).collect(),
                container_ports,
                pool: at("/metadata/annotations")
                    .map(strings)
                    .and_then(|mut all| all.remove(POOL_ANNOTATION)),
            });
        }
    }
    pods
}

/// Taints, selectors and names, as far as kind clusters have them.
fn may_run(node: &ClusterNode, cluster: &Cluster, spec: &Value) -> bool {
    let tolerates = spec["tolerations"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|toleration| {
            let key = toleration["key"].as_str().unwrap_or_default();
            key == CONTROL_PLANE || (key.is_empty() && toleration["operator"] == "Exists")
        });
    // kind takes the taint away where there is nobody else to do the work.
    let tainted =
        node.role == Role::ControlPlane && cluster.nodes.iter().any(|node| node.role == Role::Worker);
    let labels = node_labels(node);
    let selected = strings(&spec["nodeSelector"])
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value));
    let named = spec["nodeName"].as_str().is_none_or(|name| name == node.name);
    (tolerates || !tainted) && selected && named
}

fn container_ports(containers: &Value) -> Vec<ContainerPort> {
    let containers = containers.as_array().into_iter().flatten();
    let ports = containers.flat_map(|container| container["ports"].as_array().into_iter().flatten());
    ports
        .filter_map(|port| {
            let number = u16::try_from(port["containerPort"].as_u64()?).ok()?;
            Some(ContainerPort {
                name: port["name"].as_str().map(str::to_owned),
                port: number,
            })
        })
        .collect()
}

/// Offsets below 2 are the network's own address and the node's router.
const FIRST_POD: u128 = 2;

fn address_from_nodes(pods: &mut [Pod], networks: &BTreeMap<String, Vec<IpNet>>) -> Result<(), PlanError> {
    let mut next: BTreeMap<String, u128> = BTreeMap::new();
    for pod in pods {
        let offset = next.entry(pod.node.clone()).or_insert(FIRST_POD);
        for net in networks.get(&pod.node).into_iter().flatten() {
            pod.addresses
                .push(nth(net, *offset).ok_or_else(|| no_address(pod))?);
        }
        *offset += 1;
    }
    Ok(())
}

fn no_address(pod: &Pod) -> PlanError {
    PlanError::NoAddress {
        pod: format!("{}/{}", pod.namespace, pod.name),
        node: pod.node.clone(),
    }
}

/// Node to pool to the networks it got.
type Allocated = BTreeMap<String, BTreeMap<String, Vec<IpNet>>>;

/// Cuts pools into networks of `maskSize` for the nodes whose pods need them, in the order of the nodes.
fn address_from_pools(
    cluster: &Cluster,
    pods: &mut [Pod],
    documents: &[Document],
) -> Result<Allocated, PlanError> {
    let pools: BTreeMap<&str, &Document> = documents
        .iter()
        .filter(|document| document.kind() == "CiliumPodIPPool")
        .map(|document| (document.name(), document))
        .collect();
    let mut cut: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut allocated = Allocated::new();
    for node in &cluster.nodes {
        let own = || pods.iter().filter(|pod| pod.node == node.name);
        let mut wanted: BTreeMap<String, u128> = BTreeMap::new();
        if pools.contains_key(DEFAULT_POOL) {
            wanted.insert(DEFAULT_POOL.to_owned(), 1);
        }
        for pod in own() {
            *wanted
                .entry(pod.pool.clone().unwrap_or_else(|| DEFAULT_POOL.to_owned()))
                .or_default() += 1;
        }
        for (name, mut count) in wanted {
            let Some((name, pool)) = pools.get_key_value(name.as_str()) else {
                let pod = own().find(|pod| pod.pool.as_ref() == Some(&name) || pod.pool.is_none());
                let pod = pod
                    .map(|pod| format!("{}/{}", pod.namespace, pod.name))
                    .unwrap_or_default();
                return Err(PlanError::NoPool { pod, pool: name });
            };
            count += FIRST_POD;
            for family in ["ipv4", "ipv6"] {
                let Some(spec) = pool.at(&format!("/spec/{family}")) else {
                    continue;
                };
                let pieces = pieces(spec);
                let mut room = 0;
                while room < count {
                    let index = cut.entry((name, family)).or_default();
                    let exhausted = || PlanError::PoolExhausted {
                        pool: (*name).into(),
                        node: node.name.clone(),
                    };
                    let net = *pieces.get(*index).ok_or_else(exhausted)?;
                    *index += 1;
                    let bits = u32::from(net.max_prefix_len() - net.prefix_len());
                    room += 1_u128.checked_shl(bits).unwrap_or(u128::MAX / 4);
                    allocated
                        .entry(node.name.clone())
                        .or_default()
                        .entry((*name).to_owned())
                        .or_default()
                        .push(net);
                }
            }
        }
    }
    let mut used: BTreeSet<IpAddr> = BTreeSet::new();
    for pod in pods {
        let pool = pod.pool.as_deref().unwrap_or(DEFAULT_POOL);
        let nets = allocated
            .get(&pod.node)
            .and_then(|pools| pools.get(pool))
            .cloned()
            .unwrap_or_default();
        for is_ipv4 in [true, false] {
            let family: Vec<&IpNet> = nets
                .iter()
                .filter(|net| net.addr().is_ipv4() == is_ipv4)
                .collect();
            if family.is_empty() {
                continue;
            }
            let first = family.iter().find_map(|net| {
                (FIRST_POD..)
                    .map_while(|offset| nth(net, offset))
                    .find(|address| !used.contains(address))
            });
            let address = first.ok_or_else(|| no_address(pod))?;
            used.insert(address);
            pod.addresses.push(address);
        }
    }
    Ok(allocated)
}

/// The networks one family of a pool consists of. At most so many as a lab could ever use.
fn pieces(spec: &Value) -> Vec<IpNet> {
    let length = spec["maskSize"]
        .as_u64()
        .and_then(|length| u8::try_from(length).ok())
        .unwrap_or(32);
    let cidrs = spec["cidrs"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    let cidrs = cidrs
        .filter_map(|text| text.parse::<IpNet>().ok())
        .map(|net| net.trunc());
    cidrs
        .filter_map(|net| net.subnets(length).ok())
        .flatten()
        .take(4096)
        .collect()
}

fn node_labels(node: &ClusterNode) -> BTreeMap<String, String> {
    let mut labels = node.labels.clone();
    labels.insert("kubernetes.io/hostname".into(), node.name.clone());
    labels.insert("kubernetes.io/os".into(), "linux".into());
    if node.role == Role::ControlPlane {
        labels.insert(CONTROL_PLANE.into(), String::new());
    }
    labels
}

fn node_object(node: &ClusterNode, networks: &[IpNet]) -> Value {
    let mut addresses: Vec<Value> = node
        .addresses
        .iter()
        .map(|address| json!({"type": "InternalIP", "address": address}))
        .collect();
    addresses.push(json!({"type": "Hostname", "address": node.name}));
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": node.name, "labels": node_labels(node)},
        "spec": {"podCIDR": networks.first(), "podCIDRs": networks},
        "status": {
            "addresses": addresses,
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
        },
    })
}

fn cilium_node(
    node: &ClusterNode,
    networks: &[IpNet],
    ipam: Ipam,
    pools: &BTreeMap<String, Vec<IpNet>>,
) -> Value {
    let addresses: Vec<Value> = node
        .addresses
        .iter()
        .map(|address| json!({"type": "InternalIP", "ip": address}))
        .collect();
    let ipam = match ipam {
        Ipam::Kubernetes => json!({"podCIDRs": networks}),
        Ipam::MultiPool => {
            let pools: Vec<Value> = pools
                .iter()
                .map(|(pool, cidrs)| json!({"pool": pool, "cidrs": cidrs}))
                .collect();
            json!({"pools": {"allocated": pools}})
        }
    };
    json!({
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNode",
        "metadata": {"name": node.name, "labels": node_labels(node)},
        "spec": {"addresses": addresses, "ipam": ipam},
    })
}

/// The pods a Service selects, in order. One without a selector selects none.
fn selected<'a>(service: &Document, pods: &'a [Pod]) -> Vec<(usize, &'a Pod)> {
    let selector = service.strings_at("/spec/selector");
    let matches = |pod: &Pod| {
        pod.namespace == service.namespace()
            && selector
                .iter()
                .all(|(key, value)| pod.labels.get(key) == Some(value))
    };
    pods.iter()
        .enumerate()
        .filter(|(_, pod)| !selector.is_empty() && matches(pod))
        .collect()
}

/// Which port of which pod a Service leads to.
fn targets(service: &Document, pods: &[Pod]) -> Vec<(usize, u16)> {
    let ports = service
        .at("/spec/ports")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let pods = selected(service, pods);
    pods.iter()
        .flat_map(|(at, pod)| {
            ports
                .iter()
                .filter_map(|port| Some((*at, target_port(port, pod)?)))
        })
        .collect()
}

fn target_port(port: &Value, pod: &Pod) -> Option<u16> {
    let target = &port["targetPort"];
    match target.as_str() {
        Some(name) => pod
            .container_ports
            .iter()
            .find(|port| port.name.as_deref() == Some(name))
            .map(|port| port.port),
        None => u16::try_from(target.as_u64().or(port["port"].as_u64())?).ok(),
    }
}

/// One slice per family of a Service with a selector; empty when it selects nothing, as in Kubernetes.
fn endpoint_slices(service: &Document, pods: &[Pod]) -> Vec<Value> {
    if service.strings_at("/spec/selector").is_empty() {
        return Vec::new();
    }
    let chosen = selected(service, pods);
    let empty = Vec::new();
    let families = service
        .at("/spec/ipFamilies")
        .and_then(Value::as_array)
        .unwrap_or(&empty);
    families
        .iter()
        .filter_map(Value::as_str)
        .map(|family| {
            let endpoints: Vec<Value> = chosen
                .iter()
                .filter_map(|(_, pod)| {
                    let address = pod
                        .addresses
                        .iter()
                        .find(|address| address.is_ipv4() == (family == "IPv4"))?;
                    Some(json!({
                        "addresses": [address],
                        "conditions": {"ready": true, "serving": true, "terminating": false},
                        "nodeName": pod.node,
                        "targetRef": {"kind": "Pod", "name": pod.name, "namespace": pod.namespace},
                    }))
                })
                .collect();
            let ports = service
                .at("/spec/ports")
                .and_then(Value::as_array)
                .into_iter()
                .flatten();
            let ports: Vec<Value> = ports
                .filter_map(|port| {
                    let number = target_port(port, chosen.first()?.1)?;
                    let name = port["name"].as_str().unwrap_or_default();
                    Some(json!({"name": name, "port": number, "protocol": port["protocol"]}))
                })
                .collect();
            json!({
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "name": format!("{}-{}", service.name(), family.to_lowercase()),
                    "namespace": service.namespace(),
                    "labels": {
                        "kubernetes.io/service-name": service.name(),
                        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                    },
                },
                "addressType": family,
                "endpoints": endpoints,
                "ports": ports,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests;
