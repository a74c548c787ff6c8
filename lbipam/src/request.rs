//! What a Service asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use crate::sharing::Sharing;

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
    /// The pools they were given from, as far as that is remembered: what a pool retains
    /// ([`Removal`](crate::Removal)) is told by it.
    pub origins: BTreeMap<IpAddr, String>,
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

impl Request {
    /// Whether the wish covers this address.
    pub(crate) fn wants(&self, address: IpAddr) -> bool {
        match &self.wish {
            Wish::Addresses(addresses) => addresses.contains(&address),
            Wish::Families(families) => families.contains(&Family::of(address)),
        }
    }
}
