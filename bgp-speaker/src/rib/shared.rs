//! What both families of a RIB use: the peers, the attributes, and buffers kept from one use to the next.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Options;
use super::attrs::Interner;
use super::buffers::Limits;
use super::export::{Own, Source, global};
use super::hash::Seed;
use super::peer::{FamilyInfo, PeerId, PeerInfo};
use super::table::{HERE, Path};
use crate::config::MaxPrefixes;
use crate::pack::{Item, Scratch};
use crate::policy::index::Index;
use crate::types::Family;
use crate::wire::attrs::NextHop;

/// What both families use.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) seed: Seed,
    pub(crate) began: Instant,
    /// By number.
    pub(crate) peers: Vec<Option<Box<Peer>>>,
    pub(crate) attrs: Interner,
    /// Of every session there ever was: the node keeps them when a session ends.
    pub(crate) own_addresses: BTreeSet<IpAddr>,
    pub(crate) limits: Limits,
    pub(crate) scratch: Scratch,
    /// Kept from one use to the next: items to encode, and prefixes whose announcement changed.
    pub(crate) work: Vec<Item>,
    pub(crate) touched: Vec<u32>,
}

#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) info: PeerInfo,
    pub(crate) up: Up,
    pub(crate) turn: Turn,
    pub(crate) families: Vec<PeerFamily>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Up {
    Yes,
    /// Only its stale routes are left.
    No,
}

/// Which family the next pull begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    Ipv4First,
    Ipv6First,
}

#[derive(Debug)]
pub(crate) struct PeerFamily {
    pub(crate) family: Family,
    pub(crate) info: FamilyInfo,
    pub(crate) import: Arc<Index>,
}

impl Shared {
    pub(crate) fn own(&self) -> Own {
        Own {
            asn: self.options.asn,
            router_id: self.options.router_id,
        }
    }

    pub(crate) fn peer(&self, peer: PeerId) -> Option<&Peer> {
        self.peers.get(usize::from(peer.0))?.as_deref()
    }

    pub(crate) fn peer_mut(&mut self, peer: PeerId) -> Option<&mut Peer> {
        self.peers.get_mut(usize::from(peer.0))?.as_deref_mut()
    }

    pub(crate) fn peer_family_mut(&mut self, peer: PeerId, family: Family) -> Option<&mut PeerFamily> {
        let known = self.peer_mut(peer)?;
        known.families.iter_mut().find(|f| f.family == family)
    }

    /// Notes which addresses a session shows to be this node's. Whether attributes known already lead to one of
    /// them: then routes are to be judged again.
    pub(crate) fn learn_own_addresses(&mut self, info: &PeerInfo) -> bool {
        let own = [
            Some(info.local_address.to_canonical()),
            info.local_ipv4.map(IpAddr::V4),
            info.local_ipv6.map(IpAddr::V6),
        ];
        let mut led_here = false;
        for address in own.into_iter().flatten() {
            led_here |= self.own_addresses.insert(address) && self.attrs.any_lead_to(address);
        }
        led_here
    }

    /// The peer with this address, or [`HERE`].
    pub(crate) fn peer_at(&self, next_hop: &NextHop) -> PeerId {
        let address = global(next_hop);
        let at = |peer: &&Option<Box<Peer>>| peer.as_ref().is_some_and(|p| p.info.address == address);
        let found = self.peers.iter().zip(0..).find(|(peer, _)| at(peer));
        found.map_or(HERE, |(_, number)| PeerId(number))
    }

    pub(crate) fn source(&self, peer: PeerId) -> Source<'_> {
        if peer == HERE {
            return Source::Here;
        }
        match self.peer(peer) {
            Some(peer) => Source::Peer(&peer.info),
            None => unreachable!("the routes of a peer go before it does"),
        }
    }

    pub(crate) fn max_prefixes(&self, peer: PeerId, family: Family) -> Option<MaxPrefixes> {
        self.peer(peer)?.family(family)?.info.max_prefixes
    }

    pub(crate) fn hold(&mut self, path: &Path) {
        self.attrs.retain(path.received);
        if path.refused.is_none() {
            self.attrs.retain(path.accepted);
        }
    }

    pub(crate) fn let_go(&mut self, path: &Path) {
        self.attrs.release(path.received);
        if path.refused.is_none() {
            self.attrs.release(path.accepted);
        }
    }

    pub(crate) fn since(&self, now: Instant) -> u32 {
        let tenths = now.saturating_duration_since(self.began).as_millis() / 100;
        u32::try_from(tenths).unwrap_or(u32::MAX)
    }

    pub(crate) fn instant(&self, since: u32) -> Instant {
        self.began + Duration::from_millis(100) * since
    }
}

impl Peer {
    pub(crate) fn family(&self, family: Family) -> Option<&PeerFamily> {
        self.families.iter().find(|f| f.family == family)
    }
}
