//! A lab whose nodes are a real cluster's.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Lab;
use crate::expect::Expectations;
use crate::manifests::Document;
use crate::{Error, Handle, Spec, kubernetes, manifests, system};

impl Lab {
    /// The same nodes and cables, and a real cluster on them: pods are kubelets' business, and agents pods. Returns when all
    /// nodes are ready, and nothing is installed.
    ///
    /// # Errors
    /// As [`Lab::up`]; or the topology has no cluster.
    pub fn up_kubernetes(
        spec: Spec,
        programs: &kubernetes::Programs,
        images: &[PathBuf],
        say: &dyn Fn(&str),
    ) -> Result<Self, Error> {
        let cluster = spec.cluster.clone().ok_or_else(|| Error::Strange {
            who: spec.topology.name.clone(),
            what: "it has no cluster.yaml".to_owned(),
        })?;
        let mut lab = Self::nothing_of(spec);
        lab.make_namespaces(say)?;
        let cluster = kubernetes::Cluster::start(&cluster, &lab.handles(), programs, images, say)?;
        lab.kubernetes = Some(cluster);
        Ok(lab)
    }

    /// The cluster of a lab whose nodes have kubelets.
    #[must_use]
    pub fn kubernetes(&self) -> Option<&kubernetes::Cluster> {
        self.kubernetes.as_ref()
    }

    /// The same, for whoever lets it die.
    pub fn kubernetes_mut(&mut self) -> Option<&mut kubernetes::Cluster> {
        self.kubernetes.as_mut()
    }

    /// What the user wrote, word for word, as one file.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn manifests(&self) -> Result<String, Error> {
        let documents = documents(&self.spec)?.into_iter();
        let texts = documents.map(|document| document.text);
        Ok(texts.collect::<Vec<_>>().join("\n---\n"))
    }
}

/// What is expected of a topology, where its nodes are a real cluster's. Expectations are written for labs of agents, which
/// give Services cluster addresses in the order of the documents; an API server has its own ways.
///
/// # Errors
/// The folder cannot be read, or the API server not asked.
pub fn expected(
    spec: &Spec,
    expectations: &Expectations,
    control_plane: &Handle,
    kubectl: &Path,
) -> Result<Expectations, Error> {
    let mut admitted = documents(spec)?;
    let subnets = spec.cluster.iter().flat_map(|cluster| &cluster.service_subnets);
    manifests::admit(&mut admitted, &subnets.copied().collect::<Vec<_>>());
    let kubectl = kubectl.display().to_string();
    let words = [
        "--kubeconfig",
        kubernetes::KUBECONFIG,
        "get",
        "services",
        "-A",
        "-o",
        "json",
    ];
    let text = control_plane.exec(&[&[kubectl.as_str()], &words[..]].concat())?;
    let services = serde_json::from_str(&text).map_err(|error| Error::Strange {
        who: "the API server".to_owned(),
        what: error.to_string(),
    })?;
    let mut expectations = expectations.clone();
    readdress(&mut expectations, &addresses(&admitted, &services));
    Ok(expectations)
}

fn documents(spec: &Spec) -> Result<Vec<Document>, Error> {
    let folder = &spec.manifests;
    manifests::read(folder).map_err(system(format!("read {}", folder.display())))
}

/// Cluster addresses as a lab gives them, and as the API server did.
fn addresses(admitted: &[Document], services: &Value) -> BTreeMap<IpAddr, IpAddr> {
    let list = |object: &Value| -> Vec<IpAddr> {
        let all = object["spec"]["clusterIPs"].as_array().into_iter().flatten();
        all.filter_map(|text| text.as_str()?.parse().ok()).collect()
    };
    let mut pairs = BTreeMap::new();
    let items = || services["items"].as_array().into_iter().flatten();
    for document in admitted.iter().filter(|document| document.kind() == "Service") {
        let real = items().find(|item| {
            item["metadata"]["name"] == document.name()
                && item["metadata"]["namespace"] == document.namespace()
        });
        if let (Some(value), Some(real)) = (&document.value, real) {
            let real = list(real);
            for own in list(value) {
                let same = real.iter().find(|real| real.is_ipv4() == own.is_ipv4());
                pairs.extend(same.map(|real| (own, *real)));
            }
        }
    }
    pairs
}

/// Routes to single addresses become routes to what stands for them.
fn readdress(expectations: &mut Expectations, pairs: &BTreeMap<IpAddr, IpAddr>) {
    let routes = expectations.routers.values_mut();
    for route in routes.flat_map(|router| router.routes.iter_mut().flatten()) {
        let Some((address, length)) = route.prefix.split_once('/') else {
            continue;
        };
        let real = address.parse().ok().and_then(|address| pairs.get(&address));
        if let Some(real) = real.filter(|real| length == if real.is_ipv4() { "32" } else { "128" }) {
            route.prefix = format!("{real}/{length}");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::expect;

    #[test]
    fn routes_to_cluster_addresses_are_expected_where_the_api_server_put_them() {
        let value = json!({
            "kind": "Service",
            "metadata": { "name": "a", "namespace": "n" },
            "spec": { "clusterIPs": ["10.2.1.1", "fd00::1"] },
        });
        let admitted = [Document {
            file: PathBuf::new(),
            text: String::new(),
            value: Some(value),
        }];
        let item = |namespace: &str, addresses: &[&str]| json!({ "metadata": { "name": "a", "namespace": namespace }, "spec": { "clusterIPs": addresses } });
        let services = json!({ "items": [item("m", &["10.2.9.9"]), item("n", &["10.2.3.4", "fd00::9"])] });
        let mut expectations = expect::parse(
            "routers: {r: {sessions: [], routes: [{prefix: 10.2.1.1/32, nextHops: []}, \
             {prefix: 'fd00::1/128', nextHops: []}, {prefix: 10.2.1.0/24, nextHops: []}]}}",
        )
        .unwrap();
        readdress(&mut expectations, &addresses(&admitted, &services));
        let routes = expectations.routers["r"].routes.iter().flatten();
        let prefixes: Vec<&str> = routes.map(|route| route.prefix.as_str()).collect();
        assert_eq!(prefixes, ["10.2.3.4/32", "fd00::9/128", "10.2.1.0/24"]);
    }
}
