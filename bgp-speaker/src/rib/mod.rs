//! The routing information base of one instance: what was learned, what is best, what is announced to whom.
//!
//! ```text
//!   received / set_local                                               pull
//!          |                                                            ^
//!          v                                                            | buffers, shared by peers of a kind
//!   +-- Table ------------------+   changed    +-- Group (peers of one kind) -----------------+
//!   | Adj-RIBs-In: every path   |  prefixes    |  Adj-RIB-Out: out[prefix]  Log, Batch, marks |
//!   | Loc-RIB: the first of each| -----------> |  policy, attributes, packing: once per kind  |
//!   +---------------------------+              +-----------------------------------------------+
//!          interned attributes: a route holds numbers
//! ```
//!
//! Nothing is pushed. A change marks its prefix; the Adj-RIBs-Out are brought up to date when a peer pulls, and
//! encoded then, once for all peers of a kind. So churn nobody reads costs a mark, and a session asks for as
//! many octets as its connection takes.
//!
//! RFC 4271 (9), 4456, 4724 (stale routes, deferral, End-of-RIB), 5004, 7313 (BoRR, EoRR), 8212, 8950.

mod adj_in;
mod adj_out;
pub(crate) mod attrs;
mod bits;
mod buffers;
mod decision;
mod export;
mod family;
pub(crate) mod hash;
mod lag;
mod peer;
mod query;
mod shared;
mod sync;
mod table;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use self::adj_in::{Of, crossed};
use self::attrs::Interner;
use self::buffers::Limits;
use self::family::{Deferral, FamilyRib};
use self::hash::Seed;
use self::shared::{Peer, PeerFamily, Shared, Turn, Up};
use self::sync::Closing;
use self::table::HERE;
use crate::config::{LocalRoute, MaxPrefixes, ReflectorClient};
use crate::pack::Scratch;
use crate::policy::index::Index;
use crate::policy::{ExportPolicy, ImportPolicy, same_effect};
use crate::types::{Asn, Family, Prefix, RouterId};
use crate::wire::update::Update;

pub use self::decision::ExistingExternal;
pub use self::export::WhyNotSent;
pub use self::peer::{Down, EndOfRib, ExtendedNextHop, FamilyInfo, PeerId, PeerInfo, Refresh};
pub use self::view::{
    Counts, LimitReached, LimitVerdict, Pulled, Received, RouteView, Standing, WhyNotBest, WhyRefused,
};

/// What of an instance decides about routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    pub asn: Asn,
    /// Also the cluster ID (RFC 4456 7).
    pub router_id: RouterId,
    /// How many equal paths queries show as used; 0 counts as 1.
    pub maximum_paths: u16,
    pub existing_external: ExistingExternal,
}

/// See the module.
#[derive(Debug)]
pub struct Rib {
    shared: Shared,
    v4: FamilyRib,
    v6: FamilyRib,
    local: Arc<BTreeMap<Prefix, LocalRoute>>,
}

impl Rib {
    /// `seed` keys the hash tables.
    #[must_use]
    pub fn new(now: Instant, seed: u64, options: Options) -> Self {
        let seed = Seed::new(seed);
        let shared = Shared {
            options,
            seed,
            began: now,
            peers: Vec::new(),
            attrs: Interner::new(seed),
            own_addresses: BTreeSet::new(),
            limits: Limits::USUAL,
            scratch: Scratch::new(Limits::USUAL.chunk),
            work: Vec::new(),
            touched: Vec::new(),
        };
        Self {
            v4: FamilyRib::new(Family::IPV4_UNICAST, &shared),
            v6: FamilyRib::new(Family::IPV6_UNICAST, &shared),
            shared,
            local: Arc::default(),
        }
    }

    /// Only queries show the difference.
    pub fn set_maximum_paths(&mut self, paths: u16) {
        self.shared.options.maximum_paths = paths;
    }

    /// Replaces the routes that originate here. Only what differs is touched.
    pub fn set_local(&mut self, now: Instant, routes: &Arc<BTreeMap<Prefix, LocalRoute>>) {
        let before = std::mem::replace(&mut self.local, Arc::clone(routes));
        if Arc::ptr_eq(&before, routes) {
            return;
        }
        let since = self.shared.since(now);
        let mut old = before.iter().peekable();
        for (prefix, route) in routes.iter() {
            while let Some((gone, _)) = old.next_if(|(p, _)| *p < prefix) {
                self.remove_local(gone);
            }
            let same = old
                .next_if(|(p, _)| *p == prefix)
                .is_some_and(|(_, r)| r == route);
            if !same {
                let (rib, shared) = self.family_of(prefix);
                rib.put_local(prefix, &route.attrs, since, shared);
            }
        }
        for (gone, _) in old {
            self.remove_local(gone);
        }
        self.relax();
    }

    /// A session was established. Stale routes of the same number stay until they are replaced or swept,
    /// those of families that were not negotiated again go.
    pub fn peer_up(&mut self, peer: PeerId, info: PeerInfo) {
        if self.shared.peer(peer).is_some_and(|p| p.up == Up::Yes) {
            self.peer_down(peer, &Down::Flush);
        }
        for rib in [&mut self.v4, &mut self.v6] {
            rib.expect(peer);
            if !info.families.iter().any(|(f, _)| *f == rib.family) {
                rib.flush(peer, Of::All, &mut self.shared);
            }
        }
        let led_here = self.shared.learn_own_addresses(&info);
        let families = info
            .families
            .iter()
            .map(|(family, info)| PeerFamily {
                family: *family,
                info: info.clone(),
                import: Arc::new(Index::new(&info.import.statements, self.shared.seed)),
            })
            .collect();
        let slot = usize::from(peer.0);
        if self.shared.peers.len() <= slot {
            self.shared.peers.resize_with(slot + 1, || None);
        }
        self.shared.peers[slot] = Some(Box::new(Peer {
            up: Up::Yes,
            turn: Turn::Ipv4First,
            families,
            info,
        }));
        for family in self.negotiated(peer) {
            if let Some((rib, shared)) = self.family(family) {
                rib.regroup.insert(peer);
                if rib.counts(peer).received > 0 {
                    rib.judge_again(peer, shared);
                    rib.decide_again(peer, shared);
                }
            }
        }
        if led_here {
            self.judge_all_again();
        }
    }

    /// The session ended. After [`Down::Flush`] the number is free.
    pub fn peer_down(&mut self, peer: PeerId, down: &Down) {
        let keep: &[Family] = match down {
            Down::Flush => &[],
            Down::KeepStale(families) => families,
        };
        let Self { v4, v6, shared, .. } = self;
        let mut kept = 0;
        for rib in [v4, v6] {
            rib.leave(peer, shared);
            if keep.contains(&rib.family) {
                rib.mark_stale(peer);
                kept += rib.counts(peer).stale;
            } else {
                rib.flush(peer, Of::All, shared);
            }
        }
        if let Some(slot) = self.shared.peers.get_mut(usize::from(peer.0)) {
            if kept == 0 {
                *slot = None;
            } else if let Some(known) = slot {
                known.up = Up::No;
            }
        }
        self.relax();
    }

    /// An UPDATE came in.
    pub fn received(&mut self, peer: PeerId, now: Instant, update: Update) -> Received {
        let before = [self.v4.counts(peer), self.v6.counts(peer)];
        let mut received = Received {
            withdrawn: update.withdrawn.len() as u32,
            ..Received::default()
        };
        for prefix in &update.withdrawn {
            let (rib, shared) = self.family_of(prefix);
            rib.withdraw(peer, prefix, shared);
        }
        let since = self.shared.since(now);
        for announced in update.announced {
            received.announced += announced.prefixes.len() as u32;
            if let Some((rib, shared)) = self.family(announced.family) {
                rib.announce(peer, since, announced.attrs, &announced.prefixes, shared);
            }
        }
        for (rib, before) in [&self.v4, &self.v6].into_iter().zip(before) {
            if let Some(max) = self.shared.max_prefixes(peer, rib.family) {
                let now = rib.counts(peer);
                let (before, now) = (before.received + before.dropped, now.received + now.dropped);
                received.limits.extend(crossed(max, rib.family, before, now));
            }
        }
        self.relax();
        received
    }

    /// The peer begins to send everything again (BoRR, RFC 7313 4): what it does not send is stale.
    pub fn mark_stale(&mut self, peer: PeerId, family: Family) {
        if let Some((rib, _)) = self.family(family) {
            rib.mark_stale(peer);
        }
    }

    /// Removes the stale routes of a peer: at End-of-RIB, EoRR, or when the stale timer fires. Where the peer
    /// is down and nothing is left its number is free.
    pub fn sweep_stale(&mut self, peer: PeerId, family: Family) {
        if let Some((rib, shared)) = self.family(family) {
            rib.flush(peer, Of::Stale, shared);
        }
        let left =
            self.counts(peer, Family::IPV4_UNICAST).stale + self.counts(peer, Family::IPV6_UNICAST).stale;
        if let Some(slot) = self.shared.peers.get_mut(usize::from(peer.0))
            && left == 0
            && slot.as_ref().is_some_and(|p| p.up == Up::No)
        {
            *slot = None;
        }
        self.relax();
    }

    /// Another export policy. What it changes is sent, nothing else.
    pub fn set_export(&mut self, peer: PeerId, family: Family, policy: &Arc<ExportPolicy>) {
        if let Some(own) = self.shared.peer_family_mut(peer, family) {
            own.info.export = Arc::clone(policy);
            self.regroup(peer, family);
        }
    }

    /// Another import policy. The routes in the Adj-RIB-In are judged again; the peer need not send them.
    pub fn set_import(&mut self, peer: PeerId, family: Family, policy: &Arc<ImportPolicy>) {
        let seed = self.shared.seed;
        let Some(own) = self.shared.peer_family_mut(peer, family) else {
            return;
        };
        let before = std::mem::replace(&mut own.info.import, Arc::clone(policy));
        if same_effect(&before.statements, &policy.statements) {
            return;
        }
        own.import = Arc::new(Index::new(&policy.statements, seed));
        if let Some((rib, shared)) = self.family(family) {
            rib.judge_again(peer, shared);
        }
        self.relax();
    }

    /// Another limit. It holds for what comes from now on.
    pub fn set_max_prefixes(&mut self, peer: PeerId, family: Family, max: Option<MaxPrefixes>) {
        if let Some(own) = self.shared.peer_family_mut(peer, family) {
            own.info.max_prefixes = max;
        }
    }

    /// RFC 4456: whether the peer is a client. Decides what goes to it and what of it goes to others.
    pub fn set_reflector_client(&mut self, peer: PeerId, client: ReflectorClient) {
        let Some(known) = self.shared.peer_mut(peer) else {
            return;
        };
        if known.info.reflector_client == client {
            return;
        }
        known.info.reflector_client = client;
        for family in self.negotiated(peer) {
            self.regroup(peer, family);
            if let Some((rib, _)) = self.family(family) {
                rib.touch_all_of(peer);
            }
        }
        self.relax();
    }

    /// The peer asked for everything (ROUTE-REFRESH), or an operator did.
    pub fn refresh(&mut self, peer: PeerId, family: Family) {
        let closing = match self.shared.peer(peer).map(|p| p.info.refresh) {
            Some(Refresh::Enhanced) => Closing::EndOfRefresh,
            Some(Refresh::Plain) => Closing::Silent,
            None => return,
        };
        let Some((rib, shared)) = self.family(family) else {
            return;
        };
        rib.settle(shared);
        if let Some((group, table)) = rib.group_of_mut(peer) {
            group.refresh(peer, closing, table, shared);
        }
    }

    /// Announcing in a family waits (RFC 4724 4.1: the restarter hears its peers first).
    pub fn defer(&mut self, family: Family) {
        if let Some((rib, _)) = self.family(family) {
            rib.deferral = Deferral::Waiting;
        }
    }

    /// Announcing begins.
    pub fn release(&mut self, family: Family) {
        if let Some((rib, _)) = self.family(family) {
            rib.deferral = Deferral::No;
        }
    }

    /// Whether a pull may give something. It may also find that nothing changed.
    #[must_use]
    pub fn has_pending(&self, peer: PeerId) -> bool {
        [&self.v4, &self.v6].into_iter().any(|rib| match rib.deferral {
            Deferral::Waiting => false,
            Deferral::No => match rib.group_of(peer) {
                Some(group) => {
                    rib.table.has_changed() || rib.regroup.contains(&peer) || group.has_pending(peer)
                }
                None => rib.regroup.contains(&peer),
            },
        })
    }

    /// Encoded messages for a peer, whole buffers of some 32 KiB, until `budget` octets are reached; the last
    /// buffer may go over. Nothing means that it is up to date. The messages are in the order to be sent.
    pub fn pull(&mut self, peer: PeerId, budget: usize, out: &mut Vec<Bytes>) -> Pulled {
        let Self { v4, v6, shared, .. } = self;
        let turn = shared.peer(peer).map_or(Turn::Ipv4First, |known| known.turn);
        let (first, second, next) = match turn {
            Turn::Ipv4First => (v4, v6, Turn::Ipv6First),
            Turn::Ipv6First => (v6, v4, Turn::Ipv4First),
        };
        let mut pulled = first.pull(peer, budget, shared, out);
        if pulled.bytes >= budget
            && let Some(known) = shared.peer_mut(peer)
        {
            // Nothing is left for the other: a flood in one family must not hold it up for ever.
            known.turn = next;
        }
        let more = second.pull(peer, budget.saturating_sub(pulled.bytes), shared, out);
        pulled.bytes += more.bytes;
        pulled.messages += more.messages;
        pulled
    }

    /// Brings the Adj-RIBs-Out up to date without sending: before a query that must see the last change.
    pub fn settle(&mut self) {
        self.v4.settle(&mut self.shared);
        self.v6.settle(&mut self.shared);
    }

    fn judge_all_again(&mut self) {
        for peer in (0..).map(PeerId).take(self.shared.peers.len()) {
            for rib in [&mut self.v4, &mut self.v6] {
                if rib.counts(peer).received > 0 {
                    rib.judge_again(peer, &mut self.shared);
                }
            }
        }
    }

    fn remove_local(&mut self, prefix: &Prefix) {
        let (rib, shared) = self.family_of(prefix);
        rib.withdraw(HERE, prefix, shared);
    }

    fn regroup(&mut self, peer: PeerId, family: Family) {
        if self.shared.peer(peer).is_some_and(|p| p.up == Up::Yes)
            && let Some((rib, _)) = self.family(family)
        {
            rib.regroup.insert(peer);
        }
    }

    fn negotiated(&self, peer: PeerId) -> Vec<Family> {
        let families = self.shared.peer(peer).map(|p| p.families.iter());
        families.into_iter().flatten().map(|f| f.family).collect()
    }

    fn relax(&mut self) {
        self.v4.relax(&mut self.shared);
        self.v6.relax(&mut self.shared);
    }

    fn rib(&self, family: Family) -> Option<&FamilyRib> {
        [&self.v4, &self.v6].into_iter().find(|rib| rib.family == family)
    }

    fn family(&mut self, family: Family) -> Option<(&mut FamilyRib, &mut Shared)> {
        let Self { v4, v6, shared, .. } = self;
        let rib = [v4, v6].into_iter().find(|rib| rib.family == family)?;
        Some((rib, shared))
    }

    fn family_of(&mut self, prefix: &Prefix) -> (&mut FamilyRib, &mut Shared) {
        match prefix {
            Prefix::V4 { .. } => (&mut self.v4, &mut self.shared),
            Prefix::V6 { .. } => (&mut self.v6, &mut self.shared),
        }
    }
}

#[cfg(test)]
mod tests;
