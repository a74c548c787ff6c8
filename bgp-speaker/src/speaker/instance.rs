//! One BGP instance: its identity, its RIB, its peers, its listener.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::listener::Listener;
use super::pace::Pace;
use super::schedule::Schedule;
use super::{ConnId, Event, Output, Shutdown, Start};
use crate::config::change::{self, Class};
use crate::config::{InstanceConfig, PeerAddress, PeerConfig};
use crate::graceful::Deferral;
use crate::peer::{Cx, Gone, Origin, Peer};
use crate::policy::Verdict;
use crate::rib::{Down, ExistingExternal, Options, PeerId, Rib};
use crate::session::agree::Identity;
use crate::session::timers::Jitter;
use crate::types::{Family, Name, Prefix};

/// How often [`Event::Changed`] is told at most.
const CHANGED_EVERY: Duration = Duration::from_secs(1);

/// What all instances share during one input.
#[derive(Debug)]
pub(super) struct Shared<'a> {
    pub(super) now: Instant,
    pub(super) out: &'a mut Vec<Output>,
    pub(super) jitter: &'a mut Jitter,
    pub(super) next_dial: &'a mut u64,
}

#[derive(Debug)]
pub(super) struct Instance {
    pub(super) identity: Identity,
    /// In force; `None` until the first [`Instance::configure`].
    pub(super) config: Option<InstanceConfig>,
    pub(super) rib: Rib,
    pub(super) peers: BTreeMap<PeerId, Peer>,
    conns: BTreeMap<ConnId, PeerId>,
    schedule: Schedule,
    pub(super) listener: Option<Listener>,
    pub(super) refusals: Pace,
    deferral: Deferral,
    changed: Changed,
    /// What peers of the next configuration start from.
    start: Start,
    seed: u64,
}

/// Whether there is something new to tell the status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Changed {
    No,
    ToldAt(Instant),
    /// Told not long ago: again at this time.
    Due(Instant),
}

impl Instance {
    pub(super) fn new(
        name: &Name,
        config: &InstanceConfig,
        host: Option<Name>,
        start: Start,
        seed: u64,
        now: Instant,
    ) -> Self {
        let identity = Identity {
            instance: name.clone(),
            asn: config.asn,
            router_id: config.router_id,
            host,
        };
        let mut rib = empty_rib(now, seed, config);
        let deferred = match start {
            Start::Cold => Vec::new(),
            Start::Restarted => families_learned(config),
        };
        for family in &deferred {
            rib.defer(*family);
        }
        Self {
            identity,
            config: None,
            rib,
            peers: BTreeMap::new(),
            conns: BTreeMap::new(),
            schedule: Schedule::default(),
            listener: None,
            refusals: Pace::default(),
            deferral: Deferral::new(now, deferred),
            changed: Changed::No,
            start,
            seed,
        }
    }

    /// Takes a configuration into force: what goes first, then what changes, then what comes.
    pub(super) fn configure(&mut self, new: &InstanceConfig, shared: &mut Shared<'_>) {
        let old = self.config.replace(new.clone());
        if let Some(old) = &old {
            self.change_identity(old, new, shared);
            for (name, config) in &old.peers {
                let stays = new.peers.get(name).is_some_and(|n| same_peer(config, n));
                if !stays {
                    self.remove_named(name, shared);
                }
            }
        }
        if old.as_ref().is_none_or(|o| o.maximum_paths != new.maximum_paths) {
            self.rib.set_maximum_paths(new.maximum_paths);
        }
        if old.as_ref().is_none_or(|o| !Arc::ptr_eq(&o.routes, &new.routes)) {
            self.rib.set_local(shared.now, &new.routes);
        }
        self.listen(new, shared);
        for (name, config) in &new.peers {
            let before = old.as_ref().and_then(|o| o.peers.get(name));
            match before.filter(|b| same_peer(b, config)) {
                Some(before) if before == config => {}
                Some(_) => self.change_named(name, config, shared),
                None => self.add(name, config, shared),
            }
        }
        self.start = Start::Cold;
    }

    /// Not configured any more: every peer hears that it is not, and the listener goes.
    pub(super) fn withdraw(&mut self, shared: &mut Shared<'_>) {
        for id in self.ids() {
            self.with_peer(id, shared, |peer, cx| peer.deconfigure(cx));
        }
        self.unlisten(shared);
    }

    pub(super) fn shut_down(&mut self, how: Shutdown, shared: &mut Shared<'_>) {
        self.unlisten(shared);
        for id in self.ids() {
            self.with_peer(id, shared, |peer, cx| match how {
                Shutdown::Restart => peer.stop_for_restart(cx),
                Shutdown::Stop => peer.stop(cx),
            });
        }
    }

    pub(super) fn link_down(&mut self, interface: &Name, addresses: &[IpAddr], shared: &mut Shared<'_>) {
        for id in self.ids() {
            if self
                .peers
                .get(&id)
                .is_some_and(|p| addresses.contains(&p.address))
            {
                self.with_peer(id, shared, |peer, cx| peer.link_down(interface, cx));
            }
        }
    }

    pub(super) fn timed_out(&mut self, shared: &mut Shared<'_>) {
        for id in self.schedule.due(shared.now) {
            self.with_peer(id, shared, |peer, cx| peer.timed_out(cx));
        }
        self.listen_again(shared);
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let changed = match self.changed {
            Changed::No | Changed::ToldAt(_) => None,
            Changed::Due(at) => Some(at),
        };
        self.schedule
            .next()
            .into_iter()
            .chain(self.listener.as_ref().and_then(|l| l.again))
            .chain(self.deferral.next_timeout())
            .chain(changed)
            .min()
    }

    /// The peer a connection belongs to.
    pub(super) fn owner(&self, conn: ConnId) -> Option<PeerId> {
        self.conns.get(&conn).copied()
    }

    /// Acts on one peer, and keeps what is known of it here in step: connections, timers, its very being.
    pub(super) fn with_peer(
        &mut self,
        id: PeerId,
        shared: &mut Shared<'_>,
        act: impl FnOnce(&mut Peer, &mut Cx<'_>),
    ) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let before = peer.conns();
        let mut cx = Cx {
            now: shared.now,
            out: shared.out,
            jitter: shared.jitter,
            next_dial: shared.next_dial,
            rib: &mut self.rib,
            identity: &self.identity,
        };
        act(peer, &mut cx);
        let after = peer.conns();
        if before != after {
            for conn in before.into_iter().flatten() {
                self.conns.remove(&conn);
            }
            for conn in after.into_iter().flatten() {
                self.conns.insert(conn, id);
            }
        }
        match peer.is_gone() {
            Gone::No => self.schedule.set(id, peer.next_timeout()),
            Gone::Yes => self.forget(id),
        }
    }

    /// Acts on the peer with this name, and on the dynamic neighbours it stands for; on all without a name.
    pub(super) fn each_named(
        &mut self,
        name: Option<&Name>,
        shared: &mut Shared<'_>,
        mut act: impl FnMut(&mut Peer, &mut Cx<'_>),
    ) {
        for id in self.ids() {
            let meant = self
                .peers
                .get(&id)
                .is_some_and(|peer| name.is_none_or(|n| peer.name == *n || peer.template() == n));
            if meant {
                self.with_peer(id, shared, &mut act);
            }
        }
    }

    /// What follows from an input once all peers had their say: routes leave, selection begins.
    pub(super) fn settle(&mut self, shared: &mut Shared<'_>) {
        let peers = &self.peers;
        let released = self.deferral.release(shared.now, |family| {
            peers.values().map(|peer| peer.progress(family)).collect()
        });
        for family in released {
            self.rib.release(family);
        }
        for id in self.ids() {
            if self.rib.has_pending(id) {
                let mut pumped = 0;
                self.with_peer(id, shared, |peer, cx| pumped = peer.pump(cx));
                if pumped > 0 {
                    self.mark_changed(shared.now);
                }
            }
        }
        if let Changed::Due(at) = self.changed
            && at <= shared.now
        {
            self.changed = Changed::ToldAt(shared.now);
            shared.out.push(Output::Tell(Event::Changed {
                instance: self.identity.instance.clone(),
            }));
        }
    }

    fn mark_changed(&mut self, now: Instant) {
        self.changed = match self.changed {
            Changed::No => Changed::Due(now),
            Changed::ToldAt(at) => Changed::Due(now.max(at + CHANGED_EVERY)),
            Changed::Due(at) => Changed::Due(at),
        };
    }

    /// Another ASN or router ID: every session ends, and the RIB begins anew.
    fn change_identity(&mut self, old: &InstanceConfig, new: &InstanceConfig, shared: &mut Shared<'_>) {
        let change = change::instance(old, new, |_| change::Live::default()).own;
        if change.class != Class::HardReset {
            return;
        }
        let because = change.because();
        for id in self.ids() {
            self.with_peer(id, shared, |peer, cx| peer.identity_changed(&because, cx));
        }
        self.identity.asn = new.asn;
        self.identity.router_id = new.router_id;
        self.rib = empty_rib(shared.now, self.seed, new);
        self.deferral = Deferral::new(shared.now, Vec::new());
        self.rib.set_local(shared.now, &new.routes);
    }

    fn add(&mut self, name: &Name, config: &PeerConfig, shared: &mut Shared<'_>) {
        match config.address {
            PeerAddress::One(address) => {
                let address = address.to_canonical();
                if let Some(id) = self.insert(name.clone(), None, address, config) {
                    self.with_peer(id, shared, |peer, cx| peer.start(cx));
                }
            }
            // There is nobody to start until somebody calls.
            PeerAddress::Prefix { .. } => {}
        }
    }

    fn change_named(&mut self, name: &Name, config: &PeerConfig, shared: &mut Shared<'_>) {
        for id in self.ids() {
            let Some(peer) = self.peers.get(&id) else { continue };
            if peer.template() != name {
                continue;
            }
            let inside = match config.address {
                PeerAddress::One(_) => true,
                PeerAddress::Prefix { prefix, .. } => prefix.contains(&Prefix::host(peer.address)),
            };
            if inside {
                self.with_peer(id, shared, |peer, cx| peer.reconfigure(config, cx));
            } else {
                self.remove(id, shared);
            }
        }
    }

    fn remove_named(&mut self, name: &Name, shared: &mut Shared<'_>) {
        for id in self.ids() {
            if self.peers.get(&id).is_some_and(|peer| peer.template() == name) {
                self.remove(id, shared);
            }
        }
    }

    fn remove(&mut self, id: PeerId, shared: &mut Shared<'_>) {
        self.with_peer(id, shared, |peer, cx| peer.deconfigure(cx));
        self.forget(id);
    }

    fn forget(&mut self, id: PeerId) {
        if self.peers.remove(&id).is_some() {
            self.rib.peer_down(id, &Down::Flush);
            self.schedule.set(id, None);
            self.conns.retain(|_, owner| *owner != id);
        }
    }

    pub(super) fn insert(
        &mut self,
        name: Name,
        template: Option<Name>,
        address: IpAddr,
        config: &PeerConfig,
    ) -> Option<PeerId> {
        // The smallest number that is free: the RIB uses it as an index, and the highest for this node.
        let id = (0..u16::MAX)
            .map(PeerId)
            .find(|id| !self.peers.contains_key(id))?;
        let (origin, start) = match template {
            None => (Origin::Configured, self.start),
            Some(template) => (Origin::Dynamic { template }, Start::Cold),
        };
        let peer = Peer::new(id, name, address, origin, config.clone(), start);
        self.peers.insert(id, peer);
        Some(id)
    }

    fn ids(&self) -> Vec<PeerId> {
        self.peers.keys().copied().collect()
    }
}

/// A peer at another address is another peer; dynamic neighbours are looked at one by one.
fn same_peer(old: &PeerConfig, new: &PeerConfig) -> bool {
    match (&old.address, &new.address) {
        (PeerAddress::One(a), PeerAddress::One(b)) => a == b,
        (PeerAddress::Prefix { .. }, PeerAddress::Prefix { .. }) => true,
        (PeerAddress::One(_), PeerAddress::Prefix { .. })
        | (PeerAddress::Prefix { .. }, PeerAddress::One(_)) => false,
    }
}

fn empty_rib(now: Instant, seed: u64, config: &InstanceConfig) -> Rib {
    let options = Options {
        asn: config.asn,
        router_id: config.router_id,
        maximum_paths: config.maximum_paths,
        existing_external: ExistingExternal::Keep,
    };
    Rib::new(now, seed, options)
}

/// Families in which some peer's routes can be accepted.
fn families_learned(config: &InstanceConfig) -> Vec<Family> {
    let mut families = Vec::new();
    for (family, peer) in config.peers.values().flat_map(|peer| &peer.families) {
        let accepts = peer
            .import
            .statements
            .iter()
            .any(|s| matches!(s.verdict, Verdict::Accept(_)));
        if accepts && !families.contains(family) {
            families.push(*family);
        }
    }
    families
}
