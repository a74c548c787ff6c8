//! Everything known on this node: what people wish and what was observed. Planning reads nothing else.

mod objects;
mod touched;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crds::Kind;

use crate::datapath::Served;
use crate::datapath::devices::Device;
use crate::problem::Problem;
use crate::shared_map::SharedMap;
use crate::source::{Allotter, Batch, Change};

pub use objects::{Described, Fetched, Objects, Replaced, Stored};
pub(crate) use touched::OF_SERVICE;
pub use touched::{Rest, Touched};

/// Equal worlds lead to equal plans.
#[derive(Debug, Clone)]
pub struct World {
    /// The name of this node: which `CiliumNode`, `Node` and node config are its own, which endpoints are local.
    pub node: Arc<str>,
    /// What people wrote, in its last good version.
    pub objects: Objects,
    /// What the source has to complain about: unreadable files, broken documents, duplicates.
    pub source_problems: Vec<Problem>,
    /// Kinds whose objects can not be had now: what is known of them is old, or nothing.
    pub refused: BTreeSet<Kind>,
    /// Who gives addresses out of pools.
    pub allotter: Allotter,
    pub observed: Observed,
}

/// What the shells saw on this node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// Every default route of the kernel, one per next hop, of every table.
    pub default_routes: Vec<DefaultRoute>,
    /// The MAC address of the interface `cilium_host`, where there is one: the last resort for a router ID.
    pub cilium_host_mac: Option<[u8; 6]>,
    /// The LoadBalancer addresses Services hold: from the state folder at the start, from the last plan after.
    pub held_vips: SharedMap<ServiceRef, Vec<IpAddr>>,
    /// All devices, by index.
    pub devices: Arc<[Device]>,
    /// What the load balancer in the kernel serves.
    pub served: Served,
    /// The pools that held addresses are from, where agents give them.
    pub origins: Arc<Origins>,
}

/// By Service and address the name of its `CiliumLoadBalancerIPPool`.
pub type Origins = BTreeMap<ServiceRef, BTreeMap<IpAddr, String>>;

/// A Service by namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceRef {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

impl ServiceRef {
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for ServiceRef {
    /// `namespace/name`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A default route of this kernel, one per next hop.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DefaultRoute {
    pub metric: u32,
    pub gateway: IpAddr,
    pub interface: String,
    pub table: u32,
    pub link: LinkState,
}

/// Whether the link a route leaves by can carry packets (`IFLA_OPERSTATE` up).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkState {
    Up,
    Down,
}

impl World {
    #[must_use]
    pub fn new(node: impl Into<Arc<str>>) -> Self {
        Self {
            node: node.into(),
            objects: Objects::default(),
            source_problems: Vec::new(),
            refused: BTreeSet::new(),
            allotter: Allotter::Agents,
            observed: Observed::default(),
        }
    }

    /// Takes in what the source has to tell.
    pub fn take(&mut self, batch: Batch) -> Touched {
        let mut touched = Touched::default();
        for change in batch.changes {
            let (reference, replaced, after) = match change {
                Change::Applied(object) => {
                    let reference = object.reference.clone();
                    (reference, self.objects.apply(Arc::clone(&object)), Some(object))
                }
                Change::Deleted(reference) => {
                    let replaced = self.objects.delete(&reference);
                    (reference, replaced, None)
                }
            };
            touched.add(&reference, replaced, after.as_deref());
        }
        if batch.allotter != self.allotter {
            touched.rest = Rest::Changed;
        }
        self.source_problems = batch.problems;
        self.refused = batch.refused;
        self.allotter = batch.allotter;
        touched
    }
}
