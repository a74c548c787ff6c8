//! What of the programs' memory is worth nothing any more. The programs look at it too, and go by none of it; what is left
//! takes room, and may lie in wait for another pod that gets the address of one that is gone.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ebpf_abi::config::{Affinity, AffinityKey};
use ebpf_abi::flow::{Flow, FragmentPorts, Way};
use ebpf_abi::{BackendId, FrontendId, V4, V6};

use crate::image::MapImage;
use crate::names::Family;

/// Why an entry may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Worthless {
    Expired,
    BackendGone,
    FrontendGone,
    /// Packets left with an address that this node has no more: no answer finds it.
    AddressGone,
    /// Of clients of a service that is gone, or has no session affinity any more.
    ServiceGone,
}

impl Worthless {
    /// What it is called in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::BackendGone => "backend-gone",
            Self::FrontendGone => "frontend-gone",
            Self::AddressGone => "address-gone",
            Self::ServiceGone => "service-gone",
        }
    }
}

/// An entry that expired is left for so many seconds: a packet that is on its way through the programs may just have met it.
const GRACE: u32 = 5;

/// Holds entries against what the maps say. Only for an image that all objects are in.
#[derive(Debug)]
pub struct Judge<'a> {
    image: &'a MapImage,
    /// Seconds that clients of a service stay, by its number.
    affinities: HashMap<u32, u32>,
    gone: BTreeSet<IpAddr>,
    now: u32,
}

impl<'a> Judge<'a> {
    /// `now` are seconds of the boot clock.
    pub fn new(image: &'a MapImage, now: u32) -> Self {
        let mut affinities = HashMap::new();
        for frontend in image.frontends4.values().chain(image.frontends6.values()) {
            if frontend.affinity != 0 {
                let known: &mut u32 = affinities.entry(frontend.service).or_default();
                *known = frontend.affinity.max(*known);
            }
        }
        Self {
            image,
            affinities,
            gone: BTreeSet::new(),
            now,
        }
    }

    /// This node had these addresses until now.
    pub fn without(mut self, gone: BTreeSet<IpAddr>) -> Self {
        self.gone = gone;
        self
    }

    pub fn flow4(&self, flow: &Flow<V4>) -> Option<Worthless> {
        self.flow(Family::V4, flow.frontend, flow.backend, flow.expires)
            .or_else(|| self.address(flow.way, Ipv4Addr::from(flow.source).into()))
    }

    pub fn flow6(&self, flow: &Flow<V6>) -> Option<Worthless> {
        self.flow(Family::V6, flow.frontend, flow.backend, flow.expires)
            .or_else(|| self.address(flow.way, Ipv6Addr::from(flow.source).into()))
    }

    pub fn affinity4(&self, key: &AffinityKey<V4>, affinity: &Affinity) -> Option<Worthless> {
        self.affinity(Family::V4, key.service, affinity)
    }

    pub fn affinity6(&self, key: &AffinityKey<V6>, affinity: &Affinity) -> Option<Worthless> {
        self.affinity(Family::V6, key.service, affinity)
    }

    pub fn fragment(&self, ports: &FragmentPorts) -> Option<Worthless> {
        self.is_over(ports.expires).then_some(Worthless::Expired)
    }

    /// Ids of nobody are of flows that other nodes balance.
    fn flow(
        &self,
        family: Family,
        frontend: FrontendId,
        backend: BackendId,
        expires: u32,
    ) -> Option<Worthless> {
        if !backend.is_none() && !self.lives(family, backend) {
            return Some(Worthless::BackendGone);
        }
        if !frontend.is_none() && self.image.live_frontends.get(&frontend.index()) != Some(&frontend) {
            return Some(Worthless::FrontendGone);
        }
        self.is_over(expires).then_some(Worthless::Expired)
    }

    fn address(&self, way: u8, source: IpAddr) -> Option<Worthless> {
        (way == Way::Forward.number() && self.gone.contains(&source)).then_some(Worthless::AddressGone)
    }

    fn affinity(&self, family: Family, service: u32, affinity: &Affinity) -> Option<Worthless> {
        let Some(seconds) = self.affinities.get(&service) else {
            return Some(Worthless::ServiceGone);
        };
        if !self.lives(family, affinity.backend) {
            return Some(Worthless::BackendGone);
        }
        self.is_over(affinity.used.saturating_add(*seconds))
            .then_some(Worthless::Expired)
    }

    fn lives(&self, family: Family, backend: BackendId) -> bool {
        let place = backend.index();
        let known = match family {
            Family::V4 => self.image.backends4.get(&place).map(|known| known.id),
            Family::V6 => self.image.backends6.get(&place).map(|known| known.id),
        };
        known == Some(backend)
    }

    fn is_over(&self, expires: u32) -> bool {
        expires.saturating_add(GRACE) <= self.now
    }
}

#[cfg(test)]
mod tests {
    use ebpf_abi::service::{Backend, Frontend, FrontendKey};

    use super::*;

    const NOW: u32 = 1000;

    fn image() -> (MapImage, BackendId, FrontendId) {
        let mut image = MapImage::default();
        let backend = BackendId::new(4, 2).expect("it fits");
        let frontend = FrontendId::new(6, 1).expect("it fits");
        let of = Backend {
            id: backend,
            ..Backend::default()
        };
        image.backends4.insert(4, of);
        image.live_frontends.insert(6, frontend);
        let entry = Frontend {
            id: frontend,
            service: 9,
            affinity: 100,
            ..Frontend::default()
        };
        image.frontends4.insert(FrontendKey::wildcard(V4(1)), entry);
        (image, backend, frontend)
    }

    #[test]
    fn a_flow_goes_with_its_backend_its_frontend_or_its_time() {
        let (image, backend, frontend) = image();
        let judge = Judge::new(&image, NOW);
        let flow = Flow::<V4> {
            frontend,
            backend,
            expires: NOW + 1,
            ..Flow::default()
        };
        assert_eq!(judge.flow4(&flow), None);
        let other = Flow {
            backend: backend.successor(),
            ..flow
        };
        assert_eq!(judge.flow4(&other), Some(Worthless::BackendGone));
        let other = Flow {
            backend: backend.tombstone(),
            ..flow
        };
        assert_eq!(judge.flow4(&other), Some(Worthless::BackendGone));
        let other = Flow {
            frontend: frontend.successor(),
            ..flow
        };
        assert_eq!(judge.flow4(&other), Some(Worthless::FrontendGone));
        for (expires, verdict) in [(NOW - GRACE + 1, None), (NOW - GRACE, Some(Worthless::Expired))] {
            assert_eq!(judge.flow4(&Flow { expires, ..flow }), verdict);
        }
        // Of another node.
        let foreign = Flow::<V4> {
            expires: NOW + 1,
            ..Flow::default()
        };
        assert_eq!(judge.flow4(&foreign), None);
    }

    #[test]
    fn a_flow_goes_with_the_address_that_it_left_with() {
        let (image, backend, frontend) = image();
        let judge = Judge::new(&image, NOW).without(BTreeSet::from([Ipv4Addr::new(192, 0, 2, 1).into()]));
        let flow = Flow::<V4> {
            source: V4::from(Ipv4Addr::new(192, 0, 2, 1)),
            frontend,
            backend,
            expires: NOW + 1,
            ..Flow::default()
        };
        assert_eq!(judge.flow4(&flow), Some(Worthless::AddressGone));
        let other = Flow {
            source: V4::from(Ipv4Addr::new(192, 0, 2, 2)),
            ..flow
        };
        assert_eq!(judge.flow4(&other), None);
        let reply = Flow {
            way: Way::Reply.number(),
            ..flow
        };
        assert_eq!(judge.flow4(&reply), None);
    }

    #[test]
    fn a_client_is_forgotten_with_its_service_its_backend_or_its_time() {
        let (image, backend, _) = image();
        let judge = Judge::new(&image, NOW);
        let key = |service| AffinityKey {
            client: V4(1),
            service,
        };
        let affinity = |backend, used| Affinity { backend, used };
        assert_eq!(judge.affinity4(&key(9), &affinity(backend, 950)), None);
        assert_eq!(
            judge.affinity4(&key(9), &affinity(backend, 800)),
            Some(Worthless::Expired)
        );
        assert_eq!(
            judge.affinity4(&key(9), &affinity(backend.successor(), 950)),
            Some(Worthless::BackendGone)
        );
        assert_eq!(
            judge.affinity4(&key(8), &affinity(backend, 950)),
            Some(Worthless::ServiceGone)
        );
        // The same numbers mean others in the other family.
        let six = AffinityKey {
            client: V6::default(),
            service: 9,
        };
        assert_eq!(
            judge.affinity6(&six, &affinity(backend, 950)),
            Some(Worthless::BackendGone)
        );
    }
}
