//! What a lab is made of: a topology and the files beside it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::clab::{self, Topology};
use crate::expect::{self, Expectations};
use crate::kind::{self, Cluster};
use crate::running::Image;
use crate::values::{self, Values};

/// Everything read, nothing started.
#[derive(Clone, Debug)]
pub struct Spec {
    pub topology: Topology,
    /// From `cluster.yaml` beside the topology.
    pub cluster: Option<Cluster>,
    /// From `values.yaml` beside the topology.
    pub values: Values,
    /// From `expect.yaml` beside the topology.
    pub expectations: Option<Expectations>,
    /// The folder of manifests, read when the lab starts and again whenever it changes.
    pub manifests: PathBuf,
    /// Where the topology lies; the sources of its binds are relative to it.
    pub folder: PathBuf,
    /// The topology's own file.
    pub file: PathBuf,
}

/// A file of a lab is not there or not right.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    #[error("cannot read {path}: {source}")]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{folder}: no topology (*.clab.yml, topo.yaml) here")]
    NoTopology { folder: PathBuf },
    #[error("{path}: {reason}")]
    Wrong { path: PathBuf, reason: String },
}

impl Spec {
    /// Reads a topology file, and `cluster.yaml`, `values.yaml`, `expect.yaml` beside it where they exist.
    /// `manifests` is, unless given, the folder of that name beside the topology, else the topology's own folder.
    ///
    /// # Errors
    /// A file cannot be read or makes no sense.
    pub fn read(topology: &Path, manifests: Option<&Path>) -> Result<Self, SpecError> {
        let folder = topology
            .parent()
            .filter(|folder| *folder != Path::new(""))
            .unwrap_or(Path::new("."));
        let folder = folder.canonicalize().map_err(unreadable(folder))?;
        let text = fs::read_to_string(topology).map_err(unreadable(topology))?;
        let cluster = folder.join("cluster.yaml");
        let values = folder.join("values.yaml");
        let expectations = folder.join("expect.yaml");
        let own = Some(folder.join("manifests"))
            .filter(|own| own.is_dir())
            .unwrap_or_else(|| folder.clone());
        Ok(Self {
            file: topology.canonicalize().map_err(unreadable(topology))?,
            topology: clab::parse(&text).map_err(wrong(topology))?,
            cluster: optional(&cluster)?
                .map(|text| kind::parse(&text).map_err(wrong(&cluster)))
                .transpose()?,
            values: values::parse(&optional(&values)?.unwrap_or_default()).map_err(wrong(&values))?,
            expectations: optional(&expectations)?
                .map(|text| expect::parse(&text).map_err(wrong(&expectations)))
                .transpose()?,
            manifests: manifests.map_or(own, Path::to_owned),
            folder,
        })
    }

    /// Takes expectations from another file, for topologies that have none beside them.
    ///
    /// # Errors
    /// The file cannot be read or makes no sense.
    pub fn expecting(mut self, path: &Path) -> Result<Self, SpecError> {
        let text = fs::read_to_string(path).map_err(unreadable(path))?;
        self.expectations = Some(expect::parse(&text).map_err(wrong(path))?);
        Ok(self)
    }

    /// Names of the cluster's nodes: those that run an agent.
    #[must_use]
    pub fn cluster_nodes(&self) -> Vec<String> {
        let nodes = self.cluster.iter().flat_map(|cluster| &cluster.nodes);
        nodes.map(|node| node.name.clone()).collect()
    }

    /// Names of the nodes of the topology that run FRR.
    #[must_use]
    pub fn routers(&self) -> Vec<String> {
        let nodes = self.topology.nodes.iter();
        nodes
            .filter(|(_, node)| Image::of(&node.image) == Image::Frr)
            .map(|(name, _)| name.clone())
            .collect()
    }
}

/// The topology file of a folder.
///
/// # Errors
/// The folder has none.
pub fn find_topology(folder: &Path) -> Result<PathBuf, SpecError> {
    let entries = fs::read_dir(folder).map_err(unreadable(folder))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    let named = |path: &PathBuf| {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        name.ends_with(".clab.yml")
            || name.ends_with(".clab.yaml")
            || name == "topo.yaml"
            || name == "topo.yml"
    };
    paths
        .into_iter()
        .find(named)
        .ok_or_else(|| SpecError::NoTopology {
            folder: folder.to_owned(),
        })
}

fn optional(path: &Path) -> Result<Option<String>, SpecError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(path)(error)),
    }
}

fn unreadable(path: &Path) -> impl FnOnce(std::io::Error) -> SpecError {
    let path = path.to_owned();
    move |source| SpecError::Unreadable { path, source }
}

fn wrong<E: std::fmt::Display>(path: &Path) -> impl FnOnce(E) -> SpecError {
    let path = path.to_owned();
    move |reason| SpecError::Wrong {
        path,
        reason: reason.to_string(),
    }
}
