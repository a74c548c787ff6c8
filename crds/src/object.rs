//! The closed set of objects Stentor reads, and how they are named.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};

use crate::bgp::advertisement::CiliumBGPAdvertisement;
use crate::bgp::cluster_config::CiliumBGPClusterConfig;
use crate::bgp::node_config::CiliumBGPNodeConfig;
use crate::bgp::node_config_override::CiliumBGPNodeConfigOverride;
use crate::bgp::peer_config::CiliumBGPPeerConfig;
use crate::bgp::peering_policy::CiliumBGPPeeringPolicy;
use crate::cilium_node::CiliumNode;
use crate::lb_ip_pool::CiliumLoadBalancerIPPool;
use crate::pod_ip_pool::CiliumPodIPPool;
use crate::stowed::{Opened, Stowed};

/// Every kind of object that is read, by its Kubernetes name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    CiliumBGPClusterConfig,
    CiliumBGPPeerConfig,
    CiliumBGPAdvertisement,
    CiliumBGPNodeConfig,
    CiliumBGPNodeConfigOverride,
    CiliumBGPPeeringPolicy,
    CiliumLoadBalancerIPPool,
    CiliumPodIPPool,
    CiliumNode,
    Service,
    EndpointSlice,
    Node,
    Secret,
    Namespace,
    Pod,
}

impl Kind {
    pub const ALL: [Self; 15] = [
        Self::CiliumBGPClusterConfig,
        Self::CiliumBGPPeerConfig,
        Self::CiliumBGPAdvertisement,
        Self::CiliumBGPNodeConfig,
        Self::CiliumBGPNodeConfigOverride,
        Self::CiliumBGPPeeringPolicy,
        Self::CiliumLoadBalancerIPPool,
        Self::CiliumPodIPPool,
        Self::CiliumNode,
        Self::Service,
        Self::EndpointSlice,
        Self::Node,
        Self::Secret,
        Self::Namespace,
        Self::Pod,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::CiliumBGPClusterConfig => "CiliumBGPClusterConfig",
            Self::CiliumBGPPeerConfig => "CiliumBGPPeerConfig",
            Self::CiliumBGPAdvertisement => "CiliumBGPAdvertisement",
            Self::CiliumBGPNodeConfig => "CiliumBGPNodeConfig",
            Self::CiliumBGPNodeConfigOverride => "CiliumBGPNodeConfigOverride",
            Self::CiliumBGPPeeringPolicy => "CiliumBGPPeeringPolicy",
            Self::CiliumLoadBalancerIPPool => "CiliumLoadBalancerIPPool",
            Self::CiliumPodIPPool => "CiliumPodIPPool",
            Self::CiliumNode => "CiliumNode",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Node => "Node",
            Self::Secret => "Secret",
            Self::Namespace => "Namespace",
            Self::Pod => "Pod",
        }
    }

    pub fn group(self) -> &'static str {
        match self {
            Self::CiliumBGPClusterConfig
            | Self::CiliumBGPPeerConfig
            | Self::CiliumBGPAdvertisement
            | Self::CiliumBGPNodeConfig
            | Self::CiliumBGPNodeConfigOverride
            | Self::CiliumBGPPeeringPolicy
            | Self::CiliumLoadBalancerIPPool
            | Self::CiliumPodIPPool
            | Self::CiliumNode => "cilium.io",
            Self::EndpointSlice => "discovery.k8s.io",
            Self::Service | Self::Node | Self::Secret | Self::Namespace | Self::Pod => "",
        }
    }

    /// Versions of the kind that are read, the stored one first.
    pub fn versions(self) -> &'static [Version] {
        match self {
            Self::CiliumBGPClusterConfig
            | Self::CiliumBGPPeerConfig
            | Self::CiliumBGPAdvertisement
            | Self::CiliumBGPNodeConfig
            | Self::CiliumBGPNodeConfigOverride
            | Self::CiliumLoadBalancerIPPool => &[Version::V2, Version::V2Alpha1],
            Self::CiliumBGPPeeringPolicy | Self::CiliumPodIPPool => &[Version::V2Alpha1],
            Self::CiliumNode => &[Version::V2],
            Self::Service | Self::EndpointSlice | Self::Node | Self::Secret | Self::Namespace | Self::Pod => {
                &[Version::V1]
            }
        }
    }

    /// What the API server calls several of them; the last part of its URL.
    pub fn plural(self) -> &'static str {
        match self {
            Self::CiliumBGPClusterConfig => "ciliumbgpclusterconfigs",
            Self::CiliumBGPPeerConfig => "ciliumbgppeerconfigs",
            Self::CiliumBGPAdvertisement => "ciliumbgpadvertisements",
            Self::CiliumBGPNodeConfig => "ciliumbgpnodeconfigs",
            Self::CiliumBGPNodeConfigOverride => "ciliumbgpnodeconfigoverrides",
            Self::CiliumBGPPeeringPolicy => "ciliumbgppeeringpolicies",
            Self::CiliumLoadBalancerIPPool => "ciliumloadbalancerippools",
            Self::CiliumPodIPPool => "ciliumpodippools",
            Self::CiliumNode => "ciliumnodes",
            Self::Service => "services",
            Self::EndpointSlice => "endpointslices",
            Self::Node => "nodes",
            Self::Secret => "secrets",
            Self::Namespace => "namespaces",
            Self::Pod => "pods",
        }
    }

    pub fn is_namespaced(self) -> bool {
        match self {
            Self::Service | Self::EndpointSlice | Self::Secret | Self::Pod => true,
            Self::CiliumBGPClusterConfig
            | Self::CiliumBGPPeerConfig
            | Self::CiliumBGPAdvertisement
            | Self::CiliumBGPNodeConfig
            | Self::CiliumBGPNodeConfigOverride
            | Self::CiliumBGPPeeringPolicy
            | Self::CiliumLoadBalancerIPPool
            | Self::CiliumPodIPPool
            | Self::CiliumNode
            | Self::Node
            | Self::Namespace => false,
        }
    }

    /// As a document's `apiVersion` has it: `v1`, `cilium.io/v2`.
    pub fn api_version(self, version: Version) -> String {
        match self.group() {
            "" => version.to_string(),
            group => format!("{group}/{version}"),
        }
    }

    /// The kind of this name in this group.
    pub fn find(group: &str, name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.group() == group && kind.as_str() == name)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The API version a document was written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    V1,
    V2,
    V2Alpha1,
}

impl Version {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
            Self::V2Alpha1 => "v2alpha1",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The name of an object. Prints as `Service/tenant-blue/web` or `CiliumBGPPeerConfig/tor`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    pub kind: Kind,
    /// Empty for kinds that belong to the cluster.
    pub namespace: String,
    pub name: String,
}

impl ObjectRef {
    pub fn cluster(kind: Kind, name: impl Into<String>) -> Self {
        Self {
            kind,
            namespace: String::new(),
            name: name.into(),
        }
    }

    pub fn namespaced(kind: Kind, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            kind,
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{}/{}", self.kind, self.name)
        } else {
            write!(f, "{}/{}/{}", self.kind, self.namespace, self.name)
        }
    }
}

impl Serialize for ObjectRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One object of any kind that is read.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    CiliumBGPClusterConfig(Box<CiliumBGPClusterConfig>),
    CiliumBGPPeerConfig(Box<CiliumBGPPeerConfig>),
    CiliumBGPAdvertisement(Box<CiliumBGPAdvertisement>),
    CiliumBGPNodeConfig(Box<CiliumBGPNodeConfig>),
    CiliumBGPNodeConfigOverride(Box<CiliumBGPNodeConfigOverride>),
    CiliumBGPPeeringPolicy(Box<CiliumBGPPeeringPolicy>),
    CiliumLoadBalancerIPPool(Box<CiliumLoadBalancerIPPool>),
    CiliumPodIPPool(Box<CiliumPodIPPool>),
    CiliumNode(Box<CiliumNode>),
    Service(Stowed<Service>),
    EndpointSlice(Stowed<EndpointSlice>),
    Node(Box<Node>),
    Secret(Box<Secret>),
    Namespace(Box<Namespace>),
    Pod(Box<Pod>),
}

impl Object {
    pub fn kind(&self) -> Kind {
        match self {
            Self::CiliumBGPClusterConfig(_) => Kind::CiliumBGPClusterConfig,
            Self::CiliumBGPPeerConfig(_) => Kind::CiliumBGPPeerConfig,
            Self::CiliumBGPAdvertisement(_) => Kind::CiliumBGPAdvertisement,
            Self::CiliumBGPNodeConfig(_) => Kind::CiliumBGPNodeConfig,
            Self::CiliumBGPNodeConfigOverride(_) => Kind::CiliumBGPNodeConfigOverride,
            Self::CiliumBGPPeeringPolicy(_) => Kind::CiliumBGPPeeringPolicy,
            Self::CiliumLoadBalancerIPPool(_) => Kind::CiliumLoadBalancerIPPool,
            Self::CiliumPodIPPool(_) => Kind::CiliumPodIPPool,
            Self::CiliumNode(_) => Kind::CiliumNode,
            Self::Service(_) => Kind::Service,
            Self::EndpointSlice(_) => Kind::EndpointSlice,
            Self::Node(_) => Kind::Node,
            Self::Secret(_) => Kind::Secret,
            Self::Namespace(_) => Kind::Namespace,
            Self::Pod(_) => Kind::Pod,
        }
    }

    /// Of a packed object it is made anew.
    pub fn metadata(&self) -> Cow<'_, ObjectMeta> {
        Cow::Borrowed(match self {
            Self::Service(object) => {
                return part(object, |object| &object.metadata, |object| object.metadata);
            }
            Self::EndpointSlice(object) => {
                return part(object, |object| &object.metadata, |object| object.metadata);
            }
            Self::CiliumBGPClusterConfig(object) => &object.metadata,
            Self::CiliumBGPPeerConfig(object) => &object.metadata,
            Self::CiliumBGPAdvertisement(object) => &object.metadata,
            Self::CiliumBGPNodeConfig(object) => &object.metadata,
            Self::CiliumBGPNodeConfigOverride(object) => &object.metadata,
            Self::CiliumBGPPeeringPolicy(object) => &object.metadata,
            Self::CiliumLoadBalancerIPPool(object) => &object.metadata,
            Self::CiliumPodIPPool(object) => &object.metadata,
            Self::CiliumNode(object) => &object.metadata,
            Self::Node(object) => &object.metadata,
            Self::Secret(object) => &object.metadata,
            Self::Namespace(object) => &object.metadata,
            Self::Pod(object) => &object.metadata,
        })
    }

    fn json(&self) -> Result<serde_json::Value, serde_json::Error> {
        match self {
            Self::CiliumBGPClusterConfig(object) => serde_json::to_value(object),
            Self::CiliumBGPPeerConfig(object) => serde_json::to_value(object),
            Self::CiliumBGPAdvertisement(object) => serde_json::to_value(object),
            Self::CiliumBGPNodeConfig(object) => serde_json::to_value(object),
            Self::CiliumBGPNodeConfigOverride(object) => serde_json::to_value(object),
            Self::CiliumBGPPeeringPolicy(object) => serde_json::to_value(object),
            Self::CiliumLoadBalancerIPPool(object) => serde_json::to_value(object),
            Self::CiliumPodIPPool(object) => serde_json::to_value(object),
            Self::CiliumNode(object) => serde_json::to_value(object),
            Self::Service(object) => serde_json::to_value(&*object.open()),
            Self::EndpointSlice(object) => serde_json::to_value(&*object.open()),
            Self::Node(object) => serde_json::to_value(object),
            Self::Secret(object) => serde_json::to_value(object),
            Self::Namespace(object) => serde_json::to_value(object),
            Self::Pod(object) => serde_json::to_value(object),
        }
    }

    /// The same in less memory, where it is of a kind of which there are very many.
    #[must_use]
    pub fn packed(self) -> Self {
        match self {
            Self::Service(object) => Self::Service(object.packed()),
            Self::EndpointSlice(object) => Self::EndpointSlice(object.packed()),
            other => other,
        }
    }
}

fn part<T: Clone + Default + DeserializeOwned, P: Clone>(
    object: &Stowed<T>,
    lent: fn(&T) -> &P,
    given: fn(T) -> P,
) -> Cow<'_, P> {
    match object.open() {
        Opened::Lent(object) => Cow::Borrowed(lent(object)),
        Opened::Made(object) => Cow::Owned(given(*object)),
    }
}

/// The labels, or an empty map.
pub fn labels(metadata: &ObjectMeta) -> &BTreeMap<String, String> {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    metadata.labels.as_ref().unwrap_or(&NONE)
}

/// An object and where it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    pub reference: ObjectRef,
    /// The version the document was written in; all versions are read into one type.
    pub version: Version,
    pub object: Object,
    pub file: Arc<Path>,
    /// Where the document starts, counted from 1.
    pub line: u32,
    /// Lines of the name and of the fields of `spec`, kept for the kinds that refer to others.
    pub(crate) lines: Lines,
}

impl Parsed {
    /// The line of a field of the object, or of the nearest field around it.
    pub fn line_of(&self, field: &str) -> u32 {
        self.lines.of(field).unwrap_or(self.line)
    }

    /// The same with the object [packed](Object::packed).
    #[must_use]
    pub fn packed(self) -> Self {
        Self {
            object: self.object.packed(),
            ..self
        }
    }

    /// A document that [`crate::read`] takes for the same object: JSON in one line.
    ///
    /// # Errors
    /// None is known: every kind can be written.
    pub fn document(&self) -> Result<String, serde_json::Error> {
        let mut document = self.object.json()?;
        // Of types that hold several versions the document has one.
        if let Some(version) = document.get_mut("apiVersion") {
            *version = self.reference.kind.api_version(self.version).into();
        }
        Ok(document.to_string())
    }
}

/// Field path to line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lines(pub(crate) BTreeMap<String, u32>);

impl Lines {
    fn of(&self, field: &str) -> Option<u32> {
        let mut path = field;
        loop {
            if let Some(line) = self.0.get(path) {
                return Some(*line);
            }
            path = path.get(..path.rfind(['.', '['])?)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_print_kind_namespace_and_name() {
        assert_eq!(
            ObjectRef::namespaced(Kind::Service, "blue", "web").to_string(),
            "Service/blue/web"
        );
        assert_eq!(
            ObjectRef::cluster(Kind::CiliumBGPPeerConfig, "tor").to_string(),
            "CiliumBGPPeerConfig/tor"
        );
    }

    #[test]
    fn kinds_have_the_plurals_of_their_definitions() {
        for kind in Kind::ALL {
            if let Some(definition) = crate::definition(kind) {
                assert_eq!(kind.plural(), definition.spec.names.plural);
            }
        }
    }

    #[test]
    fn a_line_is_that_of_the_field_or_of_the_nearest_one_around_it() {
        let lines = Lines([("spec".to_owned(), 4), ("spec.blocks[0].cidr".to_owned(), 6)].into());
        assert_eq!(lines.of("spec.blocks[0].cidr"), Some(6));
        assert_eq!(lines.of("spec.blocks[0].start"), Some(4));
        assert_eq!(lines.of("metadata"), None);
    }
}
