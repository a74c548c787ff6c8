//! A lab whose nodes are a real cluster's.

use std::path::PathBuf;

use super::Lab;
use crate::{Error, Spec, kubernetes, manifests, system};

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

    /// What the user wrote, as one file. Services have the cluster addresses that a lab of agents gives them, so that
    /// one list of expectations holds for both.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn manifests(&self) -> Result<String, Error> {
        let folder = &self.spec.manifests;
        let mut documents = manifests::read(folder).map_err(system(format!("read {}", folder.display())))?;
        let subnets = self
            .spec
            .cluster
            .iter()
            .flat_map(|cluster| &cluster.service_subnets);
        manifests::admit(&mut documents, &subnets.copied().collect::<Vec<_>>());
        let texts = documents.into_iter().map(|document| document.text);
        Ok(texts.collect::<Vec<_>>().join("\n---\n"))
    }
}
