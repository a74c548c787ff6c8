//! Reading kind's `cluster.yaml`: which nodes a cluster has and which addresses it hands out.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;

/// A cluster as kind would make it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    pub name: String,
    pub nodes: Vec<ClusterNode>,
    /// One per family, the first is the primary one.
    pub pod_subnets: Vec<IpNet>,
    /// One per family, the first is the primary one.
    pub service_subnets: Vec<IpNet>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterNode {
    /// `<cluster>-control-plane`, `<cluster>-worker`, `<cluster>-worker2`, as kind names its containers.
    pub name: String,
    pub role: Role,
    pub labels: BTreeMap<String, String>,
    /// kubelet's `node-ip`, at most one per family.
    pub addresses: Vec<IpAddr>,
}

impl Cluster {
    /// The addresses of a node; none if there is no such node.
    #[must_use]
    pub fn addresses(&self, name: &str) -> Vec<IpAddr> {
        let node = self.nodes.iter().find(|node| node.name == name);
        node.map(|node| node.addresses.clone()).unwrap_or_default()
    }
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    ControlPlane,
    Worker,
}

/// Why a cluster file makes no cluster.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    #[error("not a kind cluster: {0}")]
    Syntax(String),
    #[error("networking.{field}: {text} is not a list of networks")]
    Subnet { field: &'static str, text: String },
    #[error("node {node}: node-ip {text} is not a list of addresses")]
    NodeIp { node: String, text: String },
    #[error("node {node}: a kubeadm patch does not parse: {reason}")]
    Patch { node: String, reason: String },
}

/// Reads a cluster.
///
/// # Errors
/// The text is no cluster, or an address in it is none.
pub fn parse(text: &str) -> Result<Cluster, ClusterError> {
    let file: File = serde_saphyr::from_str(text).map_err(|error| ClusterError::Syntax(error.to_string()))?;
    let name = file.name.unwrap_or_else(|| "kind".to_owned());
    let default = [RawNode {
        role: Role::ControlPlane,
        labels: BTreeMap::new(),
        patches: Vec::new(),
    }];
    let raw: &[RawNode] = if file.nodes.is_empty() {
        &default
    } else {
        &file.nodes
    };
    let mut seen = BTreeMap::new();
    let mut nodes = Vec::new();
    for node in raw {
        let role = match node.role {
            Role::ControlPlane => "control-plane",
            Role::Worker => "worker",
        };
        let count: &mut u32 = seen.entry(role).or_default();
        *count += 1;
        let number = if *count == 1 {
            String::new()
        } else {
            count.to_string()
        };
        nodes.push(resolve(format!("{name}-{role}{number}"), node)?);
    }
    let networking = file.networking;
    let pods = networking
        .pod_subnet
        .unwrap_or_else(|| "10.244.0.0/16,fd00:10:244::/56".to_owned());
    let services = networking
        .service_subnet
        .unwrap_or_else(|| "10.96.0.0/16,fd00:10:96::/112".to_owned());
    Ok(Cluster {
        name,
        nodes,
        pod_subnets: subnets("podSubnet", &pods, networking.ip_family)?,
        service_subnets: subnets("serviceSubnet", &services, networking.ip_family)?,
    })
}

#[derive(Deserialize)]
struct File {
    name: Option<String>,
    #[serde(default)]
    networking: Networking,
    #[serde(default)]
    nodes: Vec<RawNode>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Networking {
    #[serde(default)]
    ip_family: IpFamily,
    pod_subnet: Option<String>,
    service_subnet: Option<String>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum IpFamily {
    #[default]
    Ipv4,
    Ipv6,
    Dual,
}

#[derive(Deserialize)]
struct RawNode {
    role: Role,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default, rename = "kubeadmConfigPatches")]
    patches: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Patch {
    #[serde(default)]
    node_registration: Registration,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Registration {
    #[serde(default)]
    kubelet_extra_args: BTreeMap<String, serde_json::Value>,
}

fn resolve(name: String, node: &RawNode) -> Result<ClusterNode, ClusterError> {
    let mut labels = node.labels.clone();
    let mut addresses = Vec::new();
    for patch in &node.patches {
        let patch: Patch = serde_saphyr::from_str(patch).map_err(|error| ClusterError::Patch {
            node: name.clone(),
            reason: error.to_string(),
        })?;
        let arguments = patch.node_registration.kubelet_extra_args;
        let text = |key: &str| arguments.get(key).and_then(serde_json::Value::as_str);
        for pair in text("node-labels")
            .unwrap_or_default()
            .split(',')
            .filter(|pair| !pair.is_empty())
        {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            labels.insert(key.trim().to_owned(), value.trim().to_owned());
        }
        if let Some(list) = text("node-ip") {
            let parsed: Result<_, _> = list.split(',').map(|address| address.trim().parse()).collect();
            addresses = parsed.map_err(|_| ClusterError::NodeIp {
                node: name.clone(),
                text: list.into(),
            })?;
        }
    }
    Ok(ClusterNode {
        name,
        role: node.role,
        labels,
        addresses,
    })
}

fn subnets(field: &'static str, text: &str, family: IpFamily) -> Result<Vec<IpNet>, ClusterError> {
    let parsed: Result<Vec<IpNet>, _> = text.split(',').map(|network| network.trim().parse()).collect();
    let mut networks = parsed.map_err(|_| ClusterError::Subnet {
        field,
        text: text.into(),
    })?;
    networks.retain(|network| match family {
        IpFamily::Ipv4 => network.addr().is_ipv4(),
        IpFamily::Ipv6 => network.addr().is_ipv6(),
        IpFamily::Dual => true,
    });
    Ok(networks)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: &str = "\
kind: Cluster
name: c
networking: {ipFamily: dual, podSubnet: '10.1.0.0/16,fd00:10:1::/63', serviceSubnet: '10.2.0.0/16,fd00:10:2::/108'}
nodes:
- role: control-plane
  kubeadmConfigPatches:
  - |
    kind: InitConfiguration
    nodeRegistration:
      kubeletExtraArgs: {node-ip: '10.0.1.2,fd00::2', node-labels: 'bgp=65001,a=b'}
- role: worker
- role: worker
  labels: {rack: r1}
";

    #[test]
    fn nodes_are_named_as_kind_names_its_containers() {
        let cluster = parse(CLUSTER).unwrap();
        let names: Vec<_> = cluster.nodes.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names, ["c-control-plane", "c-worker", "c-worker2"]);
    }

    #[test]
    fn labels_and_addresses_come_from_kubelets_arguments() {
        let cluster = parse(CLUSTER).unwrap();
        let first = &cluster.nodes[0];
        assert_eq!(
            first.labels,
            BTreeMap::from([("bgp".into(), "65001".into()), ("a".into(), "b".into())])
        );
        assert_eq!(
            first.addresses,
            ["10.0.1.2", "fd00::2"].map(|text| text.parse::<IpAddr>().unwrap())
        );
        assert_eq!(cluster.nodes[2].labels["rack"], "r1");
    }

    #[test]
    fn a_single_family_cluster_has_networks_of_that_family_only() {
        let cluster = parse("kind: Cluster\nnetworking: {ipFamily: ipv6}\n").unwrap();
        assert_eq!(
            cluster.pod_subnets,
            ["fd00:10:244::/56".parse::<IpNet>().unwrap()]
        );
        assert_eq!(cluster.nodes[0].name, "kind-control-plane");
    }

    #[test]
    fn bad_addresses_are_named() {
        let error = parse("kind: Cluster\nnetworking: {podSubnet: here}\n")
            .unwrap_err()
            .to_string();
        assert_eq!(error, "networking.podSubnet: here is not a list of networks");
    }
}
