//! What a change of objects touches: what planning has to look at again.

use std::collections::BTreeSet;

use crds::{Object, ObjectRef, Parsed};

use super::{Replaced, ServiceRef};

/// Names the Service that an EndpointSlice is of.
pub(crate) const OF_SERVICE: &str = "kubernetes.io/service-name";

/// Everything is as it was, but for this.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Touched {
    /// Services that changed themselves, or one of whose EndpointSlices did.
    pub services: BTreeSet<ServiceRef>,
    pub rest: Rest,
}

/// What is no Service and no EndpointSlice, and is planned with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Rest {
    #[default]
    Same,
    Changed,
}

impl Touched {
    /// Nothing may be taken to be as it was.
    #[must_use]
    pub fn everything() -> Self {
        Self {
            services: BTreeSet::new(),
            rest: Rest::Changed,
        }
    }

    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.services.is_empty() && self.rest == Rest::Same
    }

    pub fn extend(&mut self, other: Self) {
        self.services.extend(other.services);
        if other.rest == Rest::Changed {
            self.rest = Rest::Changed;
        }
    }

    /// From one version of an object to the next.
    pub(super) fn add(&mut self, reference: &ObjectRef, replaced: Replaced, after: Option<&Parsed>) {
        use crds::Kind;
        let before = replaced.before.as_deref();
        match reference.kind {
            Kind::Service => {
                self.services
                    .insert(ServiceRef::new(&reference.namespace, &reference.name));
            }
            Kind::EndpointSlice => self.services.extend(replaced.owners.into_iter().flatten()),
            // Nothing is planned with them.
            Kind::Pod | Kind::Namespace => {}
            Kind::CiliumBGPNodeConfig | Kind::CiliumNode if is_echo(before, after) => {}
            Kind::CiliumBGPClusterConfig
            | Kind::CiliumBGPPeerConfig
            | Kind::CiliumBGPAdvertisement
            | Kind::CiliumBGPNodeConfig
            | Kind::CiliumBGPNodeConfigOverride
            | Kind::CiliumBGPPeeringPolicy
            | Kind::CiliumLoadBalancerIPPool
            | Kind::CiliumPodIPPool
            | Kind::CiliumNode
            | Kind::Node
            | Kind::Secret => self.rest = Rest::Changed,
        }
    }
}

/// Whether all it brings is what this node said of itself and hears again.
fn is_echo(before: Option<&Parsed>, after: Option<&Parsed>) -> bool {
    match (
        before.map(|before| &before.object),
        after.map(|after| &after.object),
    ) {
        (Some(Object::CiliumBGPNodeConfig(before)), Some(Object::CiliumBGPNodeConfig(after))) => {
            before.metadata == after.metadata && before.spec == after.spec
        }
        (Some(Object::CiliumNode(before)), Some(Object::CiliumNode(after))) => {
            before.metadata == after.metadata && before.spec == after.spec
        }
        _ => false,
    }
}

/// The Service that an EndpointSlice says it is of; `None` also for other kinds.
pub(super) fn owner(parsed: &Parsed) -> Option<ServiceRef> {
    let Object::EndpointSlice(slice) = &parsed.object else {
        return None;
    };
    let slice = slice.open();
    let name = slice.metadata.labels.as_ref()?.get(OF_SERVICE)?;
    Some(ServiceRef::new(&parsed.reference.namespace, name))
}
