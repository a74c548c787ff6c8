//! The documents of a folder of YAML, and what an API server adds to a Service.
//!
//! The originals are never touched. What the agents read is a copy: each document word for word, but for the
//! Services, which have their cluster IPs, families and ports filled in as `kubectl get -o yaml` would show
//! them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde_json::{Value, json};

/// Files that lie beside the manifests and are none.
const NOT_MANIFESTS: [&str; 3] = ["cluster.yaml", "expect.yaml", "values.yaml"];

/// First node port of Kubernetes' default range.
const NODE_PORTS: u16 = 30000;

/// One document of one file.
#[derive(Clone, Debug)]
pub struct Document {
    /// Relative to the folder.
    pub file: PathBuf,
    /// As written.
    pub text: String,
    /// As parsed; `None` if it is not YAML. That is for the agent to complain about.
    pub value: Option<Value>,
}

impl Document {
    #[must_use]
    pub fn kind(&self) -> &str {
        self.text_at("/kind").unwrap_or_default()
    }

    #[must_use]
    pub fn name(&self) -> &str {
        self.text_at("/metadata/name").unwrap_or_default()
    }

    #[must_use]
    pub fn namespace(&self) -> &str {
        self.text_at("/metadata/namespace").unwrap_or("default")
    }

    #[must_use]
    pub fn text_at(&self, pointer: &str) -> Option<&str> {
        self.at(pointer).and_then(Value::as_str)
    }

    #[must_use]
    pub fn at(&self, pointer: &str) -> Option<&Value> {
        self.value.as_ref().and_then(|value| value.pointer(pointer))
    }

    /// A map of strings, such as labels.
    #[must_use]
    pub fn strings_at(&self, pointer: &str) -> BTreeMap<String, String> {
        self.at(pointer).map(strings).unwrap_or_default()
    }
}

/// The string members of a JSON object.
#[must_use]
pub fn strings(value: &Value) -> BTreeMap<String, String> {
    let members = value.as_object().into_iter().flatten();
    members
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

/// Reads all `*.yaml` and `*.yml` files of a folder and its subfolders, in the order of their names.
///
/// # Errors
/// The folder or a file in it cannot be read.
pub fn read(folder: &Path) -> io::Result<Vec<Document>> {
    let mut files = Vec::new();
    find(folder, &mut files)?;
    files.sort();
    let mut documents = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file)?;
        let relative = file.strip_prefix(folder).unwrap_or(&file).to_owned();
        documents.extend(split(&text).into_iter().map(|text| Document {
            file: relative.clone(),
            value: serde_saphyr::from_str(&text).ok(),
            text,
        }));
    }
    Ok(documents)
}

fn find(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if name.starts_with('.') {
            continue;
        }
        if path.is_dir() {
            find(&path, files)?;
        } else if is_manifest(name) {
            files.push(path);
        }
    }
    Ok(())
}

fn is_manifest(name: &str) -> bool {
    let yaml = name.ends_with(".yaml") || name.ends_with(".yml");
    let topology = name.ends_with(".clab.yaml") || name.ends_with(".clab.yml") || name.starts_with("topo.y");
    yaml && !topology && !NOT_MANIFESTS.contains(&name)
}

/// The documents of one file; those of nothing but blanks and comments are left out.
fn split(text: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for line in text.lines() {
        if line == "---" || line.starts_with("--- ") {
            documents.push(String::new());
        } else if let Some(document) = documents.last_mut() {
            document.push_str(line);
            document.push('\n');
        }
    }
    let says = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    documents.retain(|document| document.lines().any(says));
    documents
}

/// Fills in what an API server would: type, families, cluster IPs, target and node ports, policies.
///
/// `subnets`: the cluster's service networks, the primary one first. Addresses go to Services in the order of
/// the documents, from where Kubernetes begins its dynamic range, so a Service added at the end changes no other.
pub fn admit(documents: &mut [Document], subnets: &[IpNet]) {
    let mut taken: BTreeSet<IpAddr> = BTreeSet::new();
    let mut ports: BTreeSet<u64> = BTreeSet::new();
    let services = || documents.iter().filter(|document| document.kind() == "Service");
    for service in services() {
        for list in ["/spec/clusterIPs", "/spec/clusterIP"] {
            let value = service.at(list).cloned().unwrap_or_default();
            let one = std::slice::from_ref(&value);
            let all = value
                .as_array()
                .map_or(one, Vec::as_slice)
                .iter()
                .filter_map(Value::as_str);
            taken.extend(all.filter_map(|text| text.parse::<IpAddr>().ok()));
        }
        let list = service
            .at("/spec/ports")
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default();
        ports.extend(list.iter().filter_map(|port| port["nodePort"].as_u64()));
    }
    for document in documents
        .iter_mut()
        .filter(|document| document.kind() == "Service")
    {
        let Some(value) = document.value.as_mut().filter(|value| value["spec"].is_object()) else {
            continue;
        };
        if value["metadata"]["namespace"].is_null() {
            value["metadata"]["namespace"] = "default".into();
        }
        admit_service(&mut value["spec"], subnets, &mut taken, &mut ports);
        if let Ok(text) = serde_saphyr::to_string(value) {
            document.text = text;
        }
    }
}

fn admit_service(
    spec: &mut Value,
    subnets: &[IpNet],
    taken: &mut BTreeSet<IpAddr>,
    node_ports: &mut BTreeSet<u64>,
) {
    let set = |spec: &mut Value, key: &str, value: Value| {
        if spec[key].is_null() {
            spec[key] = value;
        }
    };
    set(spec, "type", "ClusterIP".into());
    set(spec, "sessionAffinity", "None".into());
    let kind = spec["type"].as_str().unwrap_or_default().to_owned();
    if kind == "ExternalName" {
        return;
    }
    set(spec, "internalTrafficPolicy", "Cluster".into());
    let outside = kind == "NodePort" || kind == "LoadBalancer" || spec["externalIPs"].is_array();
    if outside {
        set(spec, "externalTrafficPolicy", "Cluster".into());
    }
    set(spec, "ipFamilyPolicy", "SingleStack".into());
    let families: Vec<&IpNet> = match spec["ipFamilies"].as_array() {
        Some(wanted) => wanted
            .iter()
            .filter_map(|name| subnets.iter().find(|net| family(net) == *name))
            .collect(),
        None if spec["ipFamilyPolicy"] == "SingleStack" => subnets.iter().take(1).collect(),
        None => subnets.iter().collect(),
    };
    set(
        spec,
        "ipFamilies",
        families.iter().map(|net| family(net)).collect(),
    );
    if spec["clusterIP"].is_null() && spec["clusterIPs"].is_null() {
        let chosen: Vec<String> = families
            .iter()
            .filter_map(|net| free_address(net, taken))
            .map(|ip| ip.to_string())
            .collect();
        spec["clusterIPs"] = json!(chosen);
    }
    if spec["clusterIPs"].is_null() {
        spec["clusterIPs"] = json!([spec["clusterIP"]]);
    }
    spec["clusterIP"] = spec["clusterIPs"][0].clone();

    let wants_node_ports =
        kind == "NodePort" || (kind == "LoadBalancer" && spec["allocateLoadBalancerNodePorts"] != false);
    for port in spec["ports"].as_array_mut().into_iter().flatten() {
        set(port, "protocol", "TCP".into());
        let number = port["port"].clone();
        set(port, "targetPort", number);
        if wants_node_ports && port["nodePort"].is_null() {
            port["nodePort"] = free_port(node_ports).into();
        }
    }
    if kind == "LoadBalancer"
        && spec["externalTrafficPolicy"] == "Local"
        && spec["healthCheckNodePort"].is_null()
    {
        spec["healthCheckNodePort"] = free_port(node_ports).into();
    }
}

/// Kubernetes' word for the family of a network.
#[must_use]
pub fn family(net: &IpNet) -> &'static str {
    match net {
        IpNet::V4(_) => "IPv4",
        IpNet::V6(_) => "IPv6",
    }
}

/// The next free cluster IP. Kubernetes keeps the lower band (at most 256 addresses) for static ones.
fn free_address(net: &IpNet, taken: &mut BTreeSet<IpAddr>) -> Option<IpAddr> {
    let bits = u32::from(net.max_prefix_len() - net.prefix_len());
    let size = 1_u128.checked_shl(bits).unwrap_or(u128::MAX);
    let band = (size / 16).clamp(16, 256);
    let free = (band + 1..size)
        .filter_map(|offset| nth(net, offset))
        .find(|ip| !taken.contains(ip))?;
    taken.insert(free);
    Some(free)
}

/// The address `offset` above the base of a network; `None` outside of it.
#[must_use]
pub fn nth(net: &IpNet, offset: u128) -> Option<IpAddr> {
    let address = match net.network() {
        IpAddr::V4(base) => IpAddr::V4(u32::from(base).checked_add(u32::try_from(offset).ok()?)?.into()),
        IpAddr::V6(base) => IpAddr::V6(u128::from(base).checked_add(offset)?.into()),
    };
    net.contains(&address).then_some(address)
}

fn free_port(taken: &mut BTreeSet<u64>) -> u64 {
    let free = (u64::from(NODE_PORTS)..)
        .find(|port| !taken.contains(port))
        .unwrap_or_default();
    taken.insert(free);
    free
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents(text: &str) -> Vec<Document> {
        let of = |text: String| Document {
            file: "f.yaml".into(),
            value: serde_saphyr::from_str(&text).ok(),
            text,
        };
        split(text).into_iter().map(of).collect()
    }

    fn admitted(text: &str) -> Vec<Value> {
        let mut documents = documents(text);
        admit(
            &mut documents,
            &["10.2.0.0/16", "fd00:10:2::/108"].map(|net| net.parse().unwrap()),
        );
        documents
            .into_iter()
            .map(|document| serde_saphyr::from_str(&document.text).unwrap())
            .collect()
    }

    #[test]
    fn a_service_is_completed_as_an_api_server_would() {
        let services = admitted(
            "kind: Service\nspec: {type: LoadBalancer, externalTrafficPolicy: Local, ports: [{port: 80}], \
             ipFamilyPolicy: PreferDualStack}\n---\nkind: Service\nspec: {ports: [{port: 53, protocol: UDP}]}\n",
        );
        let first = &services[0]["spec"];
        assert_eq!(first["clusterIPs"], json!(["10.2.1.1", "fd00:10:2::101"]));
        assert_eq!(first["clusterIP"], "10.2.1.1");
        assert_eq!(first["ipFamilies"], json!(["IPv4", "IPv6"]));
        assert_eq!(
            first["ports"][0],
            json!({"port": 80, "protocol": "TCP", "targetPort": 80, "nodePort": 30000})
        );
        assert_eq!(first["healthCheckNodePort"], 30001);
        let second = &services[1]["spec"];
        assert_eq!(
            (&second["type"], &second["ipFamilies"]),
            (&json!("ClusterIP"), &json!(["IPv4"]))
        );
        assert_eq!(second["clusterIPs"], json!(["10.2.1.2"]));
        assert!(second["externalTrafficPolicy"].is_null());
    }

    #[test]
    fn what_a_service_says_itself_stays() {
        let services = admitted(
            "kind: Service\nspec: {clusterIP: None}\n---\nkind: Service\nspec: {clusterIP: 10.2.1.1}\n---\n\
             kind: Service\nspec: {ports: []}\n",
        );
        assert_eq!(services[0]["spec"]["clusterIPs"], json!(["None"]));
        assert_eq!(services[1]["spec"]["clusterIPs"], json!(["10.2.1.1"]));
        assert_eq!(
            services[2]["spec"]["clusterIPs"],
            json!(["10.2.1.2"]),
            "a taken address is not given again"
        );
    }

    #[test]
    fn other_documents_stay_word_for_word() {
        let text = "# why\nkind: CiliumBGPPeerConfig\nspec: {a: \"65001\"} # kept\n";
        let mut documents = documents(text);
        admit(&mut documents, &[]);
        assert_eq!(documents[0].text, text);
    }

    #[test]
    fn files_beside_the_manifests_are_not_manifests() {
        let not = [
            "topo.yaml",
            "topo.clab.yml",
            "service.clab.yaml",
            "cluster.yaml",
            "values.yaml",
            "expect.yaml",
            "a.txt",
        ];
        assert!(!not.into_iter().any(is_manifest));
        assert!(is_manifest("bgp.yaml"));
    }

    #[test]
    fn documents_of_comments_only_are_none() {
        assert_eq!(split("---\n# a\n---\nkind: A\n---\n\n---\nkind: B\n").len(), 2);
    }
}
