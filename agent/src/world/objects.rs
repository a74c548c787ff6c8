//! The store of objects: one map ordered by kind, read through one typed view per kind.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crds::bgp::advertisement::CiliumBGPAdvertisement;
use crds::bgp::cluster_config::CiliumBGPClusterConfig;
use crds::bgp::node_config::CiliumBGPNodeConfig;
use crds::bgp::node_config_override::CiliumBGPNodeConfigOverride;
use crds::bgp::peer_config::CiliumBGPPeerConfig;
use crds::bgp::peering_policy::CiliumBGPPeeringPolicy;
use crds::cilium_node::CiliumNode;
use crds::k8s_openapi::api::core::v1::{Node, Secret, Service};
use crds::k8s_openapi::api::discovery::v1::EndpointSlice;
use crds::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use crds::lb_ip_pool::CiliumLoadBalancerIPPool;
use crds::pod_ip_pool::CiliumPodIPPool;
use crds::{Kind, Object, ObjectRef, Opened, Parsed};

use super::{ServiceRef, touched};
use crate::held::Held;

/// Every object in force, by reference.
#[derive(Clone, Default, PartialEq)]
pub struct Objects {
    all: Held,
    /// Names of EndpointSlices by the Service they say they are of.
    slices: BTreeMap<ServiceRef, Vec<Box<str>>>,
}

/// Names only: among the objects are Secrets.
impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.all.references().map(ToString::to_string))
            .finish()
    }
}

/// A Service or an EndpointSlice, which may have been packed: what [`Stored`] borrows of it.
#[derive(Debug)]
pub struct Fetched<'a, T> {
    object: Opened<'a, T>,
    parsed: &'a Arc<Parsed>,
}

impl<T> Fetched<'_, T> {
    #[must_use]
    pub fn stored(&self) -> Stored<'_, T> {
        Stored {
            object: &self.object,
            parsed: self.parsed,
        }
    }
}

/// An object with where it was written. Derefs to the object.
#[derive(Debug)]
pub struct Stored<'a, T> {
    pub object: &'a T,
    pub parsed: &'a Arc<Parsed>,
}

impl<T> Clone for Stored<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Stored<'_, T> {}

impl<T> Deref for Stored<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.object
    }
}

impl<'a, T> Stored<'a, T> {
    #[must_use]
    pub fn name(&self) -> &'a str {
        &self.parsed.reference.name
    }

    #[must_use]
    pub fn namespace(&self) -> &'a str {
        &self.parsed.reference.namespace
    }
}

impl<'a, T: Described> Stored<'a, T> {
    /// Or an empty map.
    #[must_use]
    pub fn labels(&self) -> &'a BTreeMap<String, String> {
        crds::labels(self.object.metadata())
    }

    /// Older objects first, then by name: who wins where two ask for the same. Objects without a timestamp, as in
    /// a folder, come after those that have one.
    #[must_use]
    pub fn seniority(&self) -> (bool, i64, &'a str) {
        let created = self.object.metadata().creation_timestamp.as_ref();
        (
            created.is_none(),
            created.map_or(0, |t| t.0.as_second()),
            self.name(),
        )
    }
}

/// What became of an object.
#[derive(Debug)]
pub struct Replaced {
    /// The version that is in force no more.
    pub before: Option<Arc<Parsed>>,
    /// Of an EndpointSlice: the Service it said it was of, and the one it says it is of.
    pub owners: [Option<ServiceRef>; 2],
}

impl Objects {
    pub fn apply(&mut self, object: Arc<Parsed>) -> Replaced {
        let before = self.all.insert(Arc::clone(&object));
        let was_of = before.as_deref().and_then(touched::owner);
        let is_of = touched::owner(&object);
        if was_of != is_of {
            self.disown(was_of.as_ref(), &object.reference);
            if let Some(service) = &is_of {
                let slices = self.slices.entry(service.clone()).or_default();
                slices.push(object.reference.name.as_str().into());
                slices.sort_unstable();
            }
        }
        let owners = [was_of, is_of];
        Replaced { before, owners }
    }

    pub fn delete(&mut self, reference: &ObjectRef) -> Replaced {
        let before = self.all.remove(reference);
        let was_of = before.as_deref().and_then(touched::owner);
        self.disown(was_of.as_ref(), reference);
        let owners = [was_of, None];
        Replaced { before, owners }
    }

    fn disown(&mut self, service: Option<&ServiceRef>, slice: &ObjectRef) {
        if let Some(service) = service
            && let Some(slices) = self.slices.get_mut(service)
        {
            slices.retain(|name| **name != *slice.name);
            if slices.is_empty() {
                self.slices.remove(service);
            }
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Parsed>> {
        self.all.iter()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    #[must_use]
    pub fn get(&self, reference: &ObjectRef) -> Option<&Arc<Parsed>> {
        self.all.get(reference)
    }

    /// The EndpointSlices that say they are of a Service, by name.
    pub fn slices_of(&self, service: &ServiceRef) -> impl Iterator<Item = Fetched<'_, EndpointSlice>> {
        let names = self.slices.get(service).into_iter().flatten();
        names.filter_map(|name| {
            let reference = ObjectRef::namespaced(Kind::EndpointSlice, &*service.namespace, &**name);
            self.get(&reference).and_then(slice)
        })
    }

    /// Objects of one kind, by namespace and name.
    fn of(&self, kind: Kind) -> impl Iterator<Item = &Arc<Parsed>> {
        self.all.of(kind)
    }
}

/// Declares, per kind, an iterator over all of them and a look-up.
macro_rules! views {
    ($($kind:ident: $type:ty => $all:ident;)*) => {
        impl Objects {
            $(pub fn $all(&self) -> impl Iterator<Item = Stored<'_, $type>> {
                self.of(Kind::$kind).filter_map(<$type as View>::view)
            })*
        }

        $(impl View for $type {
            fn view(parsed: &Arc<Parsed>) -> Option<Stored<'_, Self>> {
                if let Object::$kind(object) = &parsed.object {
                    Some(Stored { object, parsed })
                } else {
                    None
                }
            }
        })*
    };
}

trait View: Sized {
    fn view(parsed: &Arc<Parsed>) -> Option<Stored<'_, Self>>;
}

/// What has metadata as Kubernetes has it.
pub trait Described {
    fn metadata(&self) -> &ObjectMeta;
}

macro_rules! described {
    ($($type:ty)*) => {
        $(impl Described for $type {
            fn metadata(&self) -> &ObjectMeta {
                &self.metadata
            }
        })*
    };
}

described! {
    CiliumBGPClusterConfig CiliumBGPPeerConfig CiliumBGPAdvertisement CiliumBGPNodeConfig CiliumBGPNodeConfigOverride
    CiliumBGPPeeringPolicy CiliumLoadBalancerIPPool CiliumPodIPPool CiliumNode Service EndpointSlice Node Secret
}

fn service(parsed: &Arc<Parsed>) -> Option<Fetched<'_, Service>> {
    let Object::Service(service) = &parsed.object else {
        return None;
    };
    let object = service.open();
    Some(Fetched { object, parsed })
}

fn slice(parsed: &Arc<Parsed>) -> Option<Fetched<'_, EndpointSlice>> {
    let Object::EndpointSlice(slice) = &parsed.object else {
        return None;
    };
    let object = slice.open();
    Some(Fetched { object, parsed })
}

views! {
    CiliumBGPClusterConfig: CiliumBGPClusterConfig => cluster_configs;
    CiliumBGPPeerConfig: CiliumBGPPeerConfig => peer_configs;
    CiliumBGPAdvertisement: CiliumBGPAdvertisement => advertisements;
    CiliumBGPNodeConfig: CiliumBGPNodeConfig => node_configs;
    CiliumBGPNodeConfigOverride: CiliumBGPNodeConfigOverride => overrides;
    CiliumBGPPeeringPolicy: CiliumBGPPeeringPolicy => peering_policies;
    CiliumLoadBalancerIPPool: CiliumLoadBalancerIPPool => lb_pools;
    CiliumPodIPPool: CiliumPodIPPool => pod_pools;
    CiliumNode: CiliumNode => cilium_nodes;
    Node: Node => nodes;
    Secret: Secret => secrets;
}

impl Objects {
    #[must_use]
    pub fn peer_config(&self, name: &str) -> Option<Stored<'_, CiliumBGPPeerConfig>> {
        self.named(Kind::CiliumBGPPeerConfig, name)
    }

    #[must_use]
    pub fn node_config(&self, name: &str) -> Option<Stored<'_, CiliumBGPNodeConfig>> {
        self.named(Kind::CiliumBGPNodeConfig, name)
    }

    #[must_use]
    pub fn node_override(&self, name: &str) -> Option<Stored<'_, CiliumBGPNodeConfigOverride>> {
        self.named(Kind::CiliumBGPNodeConfigOverride, name)
    }

    #[must_use]
    pub fn cluster_config(&self, name: &str) -> Option<Stored<'_, CiliumBGPClusterConfig>> {
        self.named(Kind::CiliumBGPClusterConfig, name)
    }

    #[must_use]
    pub fn cilium_node(&self, name: &str) -> Option<Stored<'_, CiliumNode>> {
        self.named(Kind::CiliumNode, name)
    }

    #[must_use]
    pub fn node(&self, name: &str) -> Option<Stored<'_, Node>> {
        self.named(Kind::Node, name)
    }

    pub fn services(&self) -> impl Iterator<Item = Fetched<'_, Service>> {
        self.of(Kind::Service).filter_map(service)
    }

    /// The names of all Services, without a look at them.
    pub fn service_names(&self) -> impl Iterator<Item = &ObjectRef> {
        self.of(Kind::Service).map(|parsed| &parsed.reference)
    }

    pub fn endpoint_slices(&self) -> impl Iterator<Item = Fetched<'_, EndpointSlice>> {
        self.of(Kind::EndpointSlice).filter_map(slice)
    }

    #[must_use]
    pub fn service(&self, namespace: &str, name: &str) -> Option<Fetched<'_, Service>> {
        self.get(&ObjectRef::namespaced(Kind::Service, namespace, name))
            .and_then(service)
    }

    #[must_use]
    pub fn secret(&self, namespace: &str, name: &str) -> Option<Stored<'_, Secret>> {
        self.get(&ObjectRef::namespaced(Kind::Secret, namespace, name))
            .and_then(Secret::view)
    }

    fn named<T: View>(&self, kind: Kind, name: &str) -> Option<Stored<'_, T>> {
        self.get(&ObjectRef::cluster(kind, name)).and_then(T::view)
    }
}
