//! What a Service asks for, and with whom it may share.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

/// A Service that wants addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub id: RequestId,
    /// Unix seconds of `creationTimestamp`. Older requests are served first; those without a time
    /// come last.
    pub created: Option<i64>,
    pub wish: Wish,
    /// Names of the pools whose selector matches the Service.
    pub pools: BTreeSet<String>,
    pub sharing: Option<Sharing>,
    pub ports: BTreeSet<Port>,
    pub traffic_policy: TrafficPolicy,
    /// The Service's pod selector.
    pub selector: BTreeMap<String, String>,
    /// The addresses it has today, in the order of its status.
    pub held: Vec<IpAddr>,
}

/// Namespace and name of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId {
    pub namespace: String,
    pub name: String,
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Which addresses would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// All of these, in this order.
    Addresses(Vec<IpAddr>),
    /// One of each of these families.
    Families(BTreeSet<Family>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    Ipv4,
    Ipv6,
}

impl Family {
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::Ipv4,
            IpAddr::V6(_) => Self::Ipv6,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    pub number: u16,
    pub protocol: Protocol,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

/// `externalTrafficPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TrafficPolicy {
    #[default]
    Cluster,
    Local,
}

/// The wish to share addresses with those who give the same key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sharing {
    pub key: String,
    /// Namespaces other than the Service's own that may take part.
    pub namespaces: Permitted,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Permitted {
    /// Only the Service's own namespace.
    #[default]
    Own,
    Listed(BTreeSet<String>),
    Any,
}

/// Why two Services cannot have one address, in the words Cilium shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Incompatible {
    #[error("different sharing key")]
    SharingKey,
    #[error("different and not permitted namespace")]
    Namespace,
    #[error("same port and protocol")]
    Port,
    #[error("different ExternalTrafficPolicy")]
    TrafficPolicy,
    #[error("compatible ExternalTrafficPolicy local but selecting different set of pods")]
    Pods,
}

impl Request {
    /// Why this request and the other cannot have one address. The same in both directions.
    pub fn incompatible(&self, other: &Self) -> Option<Incompatible> {
        let (Some(mine), Some(theirs)) = (&self.sharing, &other.sharing) else {
            return Some(Incompatible::SharingKey);
        };
        if mine.key != theirs.key {
            return Some(Incompatible::SharingKey);
        }
        let (here, there) = (&self.id.namespace, &other.id.namespace);
        if here != there && !(mine.namespaces.permits(there) && theirs.namespaces.permits(here)) {
            return Some(Incompatible::Namespace);
        }
        if !self.ports.is_disjoint(&other.ports) {
            return Some(Incompatible::Port);
        }
        if self.traffic_policy != other.traffic_policy {
            return Some(Incompatible::TrafficPolicy);
        }
        match self.traffic_policy {
            TrafficPolicy::Cluster => None,
            // An address whose traffic stays on the node must lead to the same pods everywhere.
            TrafficPolicy::Local if self.selector.is_empty() || self.selector != other.selector => {
                Some(Incompatible::Pods)
            }
            TrafficPolicy::Local => None,
        }
    }

    /// Whether the wish covers this address.
    pub(crate) fn wants(&self, address: IpAddr) -> bool {
        match &self.wish {
            Wish::Addresses(addresses) => addresses.contains(&address),
            Wish::Families(families) => families.contains(&Family::of(address)),
        }
    }
}

impl Permitted {
    fn permits(&self, namespace: &str) -> bool {
        match self {
            Self::Own => false,
            Self::Listed(listed) => listed.contains(namespace),
            Self::Any => true,
        }
    }
}
