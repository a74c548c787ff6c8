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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::request::{Protocol, RequestId, Wish};

    prop_compose! {
        fn some_request()(
            namespace in prop::sample::select(&["a", "b", "c"][..]),
            key in prop::sample::select(&[Some("k"), Some("k"), Some("q"), None][..]),
            namespaces in prop_oneof![
                Just(Permitted::Own),
                Just(Permitted::Any),
                Just(Permitted::Listed(["a".to_owned(), "b".to_owned()].into())),
            ],
            ports in prop::collection::btree_set(1u16..40, 0..2),
            local: bool,
            selected in prop::option::weighted(0.8, 0u8..2),
        ) -> Request {
            let id = RequestId { namespace: namespace.to_owned(), name: String::new() };
            let port = |number| Port { number, protocol: Protocol::Tcp };
            Request {
                id,
                created: None,
                wish: Wish::Families(BTreeSet::new()),
                pools: BTreeSet::new(),
                sharing: key.map(|key| Sharing { key: key.to_owned(), namespaces }),
                ports: ports.into_iter().map(port).collect(),
                traffic_policy: if local { TrafficPolicy::Local } else { TrafficPolicy::Cluster },
                selector: selected.into_iter().map(|n| ("app".to_owned(), n.to_string())).collect(),
                held: Vec::new(),
                origins: BTreeMap::new(),
            }
        }
    }

    /// The five rules for two, as Cilium's documentation lists them.
    fn may_share(a: &Request, b: &Request) -> bool {
        let (Some(mine), Some(theirs)) = (&a.sharing, &b.sharing) else {
            return false;
        };
        let same = a.id.namespace == b.id.namespace;
        let permitted =
            mine.namespaces.permits(&b.id.namespace) && theirs.namespaces.permits(&a.id.namespace);
        let local = a.traffic_policy == TrafficPolicy::Local;
        mine.key == theirs.key
            && (same || permitted)
            && a.ports.is_disjoint(&b.ports)
            && a.traffic_policy == b.traffic_policy
            && (!local || (!a.selector.is_empty() && a.selector == b.selector))
    }

    proptest! {
        #[test]
        fn a_company_refuses_whom_one_of_its_members_refuses(
            requests in prop::collection::vec(some_request(), 1..20),
            newcomer in some_request(),
        ) {
            let mut members: Vec<&Request> = Vec::new();
            for request in &requests {
                if members.iter().all(|member| may_share(member, request)) {
                    members.push(request);
                }
            }
            let mut company = Company::of(members[0]);
            for member in &members[1..] {
                company.add(member);
            }
            let welcome = members.iter().all(|member| may_share(member, &newcomer));
            prop_assert_eq!(company.refuses(&newcomer).is_none(), welcome);
            prop_assert_eq!(newcomer.incompatible(members[0]).is_none(), may_share(members[0], &newcomer));
        }
    }
}
