//! Who may have one address together.

use std::collections::BTreeSet;

use crate::request::{Port, Request, TrafficPolicy};

/// The wish to share addresses with those who give the same key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sharing {
    pub key: String,
    /// Namespaces other than the Service's own that may take part.
    pub namespaces: Permitted,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
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

/// Those who have an address: each may share with every other.
#[derive(Debug)]
pub(crate) struct Company<'a> {
    /// The key, the traffic policy and, where it matters, the pods are the same for all.
    first: &'a Request,
    members: usize,
    ports: BTreeSet<Port>,
    namespaces: BTreeSet<(&'a str, &'a Permitted)>,
}

impl Request {
    /// Why this request and the other cannot have one address. The same in both directions.
    pub fn incompatible(&self, other: &Self) -> Option<Incompatible> {
        Company::of(other).refuses(self)
    }
}

impl<'a> Company<'a> {
    pub(crate) fn of(first: &'a Request) -> Self {
        let mut company = Self {
            first,
            members: 0,
            ports: BTreeSet::new(),
            namespaces: BTreeSet::new(),
        };
        company.add(first);
        company
    }

    pub(crate) fn add(&mut self, request: &'a Request) {
        self.members += 1;
        // Nobody joins one that does not share.
        if let Some(sharing) = &request.sharing {
            self.ports.extend(&request.ports);
            self.namespaces
                .insert((&request.id.namespace, &sharing.namespaces));
        }
    }

    pub(crate) fn is_one(&self) -> bool {
        self.members == 1
    }

    /// The first rule that keeps a request out.
    pub(crate) fn refuses(&self, request: &Request) -> Option<Incompatible> {
        let (Some(mine), Some(theirs)) = (&request.sharing, &self.first.sharing) else {
            return Some(Incompatible::SharingKey);
        };
        if mine.key != theirs.key {
            return Some(Incompatible::SharingKey);
        }
        let here = request.id.namespace.as_str();
        let apart = |(there, theirs): &(&str, &Permitted)| {
            here != *there && !(mine.namespaces.permits(there) && theirs.permits(here))
        };
        if self.namespaces.iter().any(apart) {
            return Some(Incompatible::Namespace);
        }
        if request.ports.iter().any(|port| self.ports.contains(port)) {
            return Some(Incompatible::Port);
        }
        if request.traffic_policy != self.first.traffic_policy {
            return Some(Incompatible::TrafficPolicy);
        }
        match request.traffic_policy {
            TrafficPolicy::Cluster => None,
            // An address whose traffic stays on the node must lead to the same pods everywhere.
            TrafficPolicy::Local
                if request.selector.is_empty() || request.selector != self.first.selector =>
            {
                Some(Incompatible::Pods)
            }
            TrafficPolicy::Local => None,
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
