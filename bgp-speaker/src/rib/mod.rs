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
mod decision;
mod export;
mod family;
pub(crate) mod hash;
mod peer;
mod sync;
mod table;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use self::adj_in::{Of, crossed};
use self::attrs::Interner;
use self::export::{Own, Source};
use self::family::{Deferral, FamilyRib};
use self::hash::Seed;
use self::sync::{Closing, EndOfRibSent, Limits};
use self::table::{HERE, Path};
use crate::config::{LocalRoute, MaxPrefixes, ReflectorClient};
use crate::pack::{Item, Scratch};
use crate::policy::index::Index;
use crate::policy::{ExportPolicy, ImportPolicy};
use crate::types::{Asn, Family, Prefix, RouterId};
use crate::wire::attrs::NextHop;
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

/// What both families use.
#[derive(Debug)]
struct Shared {
    options: Options,
    seed: Seed,
    began: Instant,
    /// By number.
    peers: Vec<Option<Box<Peer>>>,
    attrs: Interner,
    limits: Limits,
    scratch: Scratch,
    /// Kept from one use to the next: items to encode, and prefixes whose announcement changed.
    work: Vec<Item>,
    touched: Vec<u32>,
}

#[derive(Debug)]
struct Peer {
    info: PeerInfo,
    up: Up,
    families: Vec<PeerFamily>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Up {
    Yes,
    /// Only its stale routes are left.
    No,
}

#[derive(Debug)]
struct PeerFamily {
    family: Family,
    info: FamilyInfo,
    import: Arc<Index>,
    counts: Counts,
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
            if !info.families.iter().any(|(f, _)| *f == rib.family) {
                rib.flush(peer, Of::All, &mut self.shared);
            }
        }
        let families = info
            .families
            .iter()
            .map(|(family, info)| PeerFamily {
                family: *family,
                info: info.clone(),
                import: Arc::new(Index::new(&info.import.statements, self.shared.seed)),
                counts: self.shared.counts(peer, *family),
            })
            .collect();
        let slot = usize::from(peer.0);
        if self.shared.peers.len() <= slot {
            self.shared.peers.resize_with(slot + 1, || None);
        }
        self.shared.peers[slot] = Some(Box::new(Peer {
            up: Up::Yes,
            families,
            info,
        }));
        for family in self.negotiated(peer) {
            if let Some((rib, _)) = self.family(family) {
                rib.regroup.push(peer);
            }
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
                rib.mark_stale(peer, shared);
                kept += shared.counts(peer, rib.family).stale;
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
        let before = [Family::IPV4_UNICAST, Family::IPV6_UNICAST].map(|f| (f, self.counts(peer, f)));
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
        for (family, before) in before {
            if let Some(max) = self.shared.max_prefixes(peer, family) {
                let now = self.counts(peer, family);
                let (before, now) = (before.received + before.dropped, now.received + now.dropped);
                received.limits.extend(crossed(max, family, before, now));
            }
        }
        self.relax();
        received
    }

    /// The peer begins to send everything again (BoRR, RFC 7313 4): what it does not send is stale.
    pub fn mark_stale(&mut self, peer: PeerId, family: Family) {
        if let Some((rib, shared)) = self.family(family) {
            rib.mark_stale(peer, shared);
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

    /// The peer's End-of-RIB of a family: what it did not send again is gone (RFC 4724 4.2).
    pub fn end_of_rib(&mut self, peer: PeerId, family: Family) {
        self.sweep_stale(peer, family);
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
        if own.info.import == *policy {
            return;
        }
        own.info.import = Arc::clone(policy);
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
        let mut pulled = Pulled::default();
        let Self { v4, v6, shared, .. } = self;
        for rib in [v4, v6] {
            rib.settle(shared);
            let Some((group, table)) = rib.group_of_mut(peer) else {
                continue;
            };
            let more = group.pull(peer, budget.saturating_sub(pulled.bytes), table, shared, out);
            pulled.bytes += more.bytes;
            pulled.messages += more.messages;
            rib.free_loose();
        }
        pulled
    }

    /// Brings the Adj-RIBs-Out up to date without sending: before a query that must see the last change.
    pub fn settle(&mut self) {
        self.v4.settle(&mut self.shared);
        self.v6.settle(&mut self.shared);
    }

    /// Every path of every prefix, with how it fared, refused ones apart. By prefix, the best first.
    #[must_use]
    pub fn loc_rib(&self, family: Family) -> Vec<RouteView> {
        self.views(family, |view| match view.standing {
            Standing::Best | Standing::Multipath | Standing::Lost(_) => true,
            Standing::Refused(_) => false,
        })
    }

    /// What a peer sent, refused routes with the reason. By prefix.
    #[must_use]
    pub fn adj_in(&self, peer: PeerId, family: Family) -> Vec<RouteView> {
        self.views(family, |view| view.source == Some(peer))
    }

    /// What a peer is told, as of the last pull of any peer or [`Self::settle`]. By prefix.
    #[must_use]
    pub fn adj_out(&self, peer: PeerId, family: Family) -> Vec<RouteView> {
        let Some(rib) = self.rib(family) else {
            return Vec::new();
        };
        let Some(group) = rib.group_of(peer) else {
            return Vec::new();
        };
        let mut views: Vec<RouteView> = rib
            .table
            .used()
            .filter_map(|dest| {
                let out = group.out(dest);
                let attrs = group.attrs_of(out.seen_by(peer), &self.shared)?;
                let path = rib.table.best(dest).map(|p| rib.table.path(p));
                Some(RouteView {
                    prefix: *rib.table.prefix(dest),
                    source: (out.source != HERE).then_some(out.source),
                    attrs: Arc::clone(attrs),
                    since: self.shared.instant(path.map_or(0, |p| p.since)),
                    standing: Standing::Best,
                    stale: path.is_some_and(|p| p.fresh == table::Fresh::Stale),
                })
            })
            .collect();
        views.sort_unstable_by_key(|view| view.prefix);
        views
    }

    /// Why the best path of a prefix is not announced to a peer. `None`: it is, or there is none.
    #[must_use]
    pub fn why_not_sent(&self, peer: PeerId, prefix: &Prefix) -> Option<WhyNotSent> {
        let rib = self.rib(prefix.family())?;
        let (dest, group) = (rib.table.find(prefix)?, rib.group_of(peer)?);
        let best = rib.table.path(rib.table.best(dest)?);
        if best.source == peer {
            return Some(WhyNotSent::Sender);
        }
        if group.out(dest).leads_to == peer {
            return Some(WhyNotSent::NextHopIsPeer);
        }
        group.refusal(dest, &rib.table, &self.shared)
    }

    #[must_use]
    pub fn counts(&self, peer: PeerId, family: Family) -> Counts {
        let mut counts = self.shared.counts(peer, family);
        if let Some(group) = self.rib(family).and_then(|rib| rib.group_of(peer)) {
            counts.advertised = group.advertised(peer);
            counts.end_of_rib_sent = group.end_of_rib(peer) == EndOfRibSent::Yes;
        }
        counts
    }

    /// Prefixes known in a family, whoever sent them.
    #[must_use]
    pub fn prefixes(&self, family: Family) -> usize {
        self.rib(family).map_or(0, |rib| rib.table.prefixes())
    }

    /// Distinct sets of attributes held, received and outgoing.
    #[must_use]
    pub fn attribute_sets(&self) -> usize {
        self.shared.attrs.len()
    }

    fn views(&self, family: Family, keep: impl Fn(&RouteView) -> bool) -> Vec<RouteView> {
        let Some(rib) = self.rib(family) else {
            return Vec::new();
        };
        let mut dests: Vec<u32> = rib.table.used().collect();
        dests.sort_unstable_by_key(|dest| rib.table.prefix(*dest));
        dests
            .into_iter()
            .flat_map(|dest| rib.view(dest, &self.shared))
            .filter(keep)
            .collect()
    }

    fn remove_local(&mut self, prefix: &Prefix) {
        let (rib, shared) = self.family_of(prefix);
        rib.withdraw(HERE, prefix, shared);
    }

    fn regroup(&mut self, peer: PeerId, family: Family) {
        if self.shared.peer(peer).is_some_and(|p| p.up == Up::Yes)
            && let Some((rib, _)) = self.family(family)
        {
            rib.regroup.push(peer);
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

impl Shared {
    fn own(&self) -> Own {
        Own {
            asn: self.options.asn,
            router_id: self.options.router_id,
        }
    }

    fn peer(&self, peer: PeerId) -> Option<&Peer> {
        self.peers.get(usize::from(peer.0))?.as_deref()
    }

    fn peer_mut(&mut self, peer: PeerId) -> Option<&mut Peer> {
        self.peers.get_mut(usize::from(peer.0))?.as_deref_mut()
    }

    fn peer_family_mut(&mut self, peer: PeerId, family: Family) -> Option<&mut PeerFamily> {
        let known = self.peer_mut(peer)?;
        known.families.iter_mut().find(|f| f.family == family)
    }

    fn infos(&self) -> impl Iterator<Item = &PeerInfo> {
        self.peers.iter().flatten().map(|peer| &peer.info)
    }

    /// The peer with this address, or [`HERE`].
    fn peer_at(&self, next_hop: &NextHop) -> PeerId {
        let address = match next_hop {
            NextHop::Ip(address) => *address,
            NextHop::V6WithLinkLocal(global, _) => (*global).into(),
        };
        let at = |peer: &&Option<Box<Peer>>| peer.as_ref().is_some_and(|p| p.info.address == address);
        let found = self.peers.iter().zip(0..).find(|(peer, _)| at(peer));
        found.map_or(HERE, |(_, number)| PeerId(number))
    }

    fn source(&self, peer: PeerId) -> Source<'_> {
        if peer == HERE {
            return Source::Here;
        }
        match self.peer(peer) {
            Some(peer) => Source::Peer(&peer.info),
            None => unreachable!("the routes of a peer go before it does"),
        }
    }

    fn max_prefixes(&self, peer: PeerId, family: Family) -> Option<MaxPrefixes> {
        self.peer(peer)?.family(family)?.info.max_prefixes
    }

    fn counts(&self, peer: PeerId, family: Family) -> Counts {
        let known = self.peer(peer).and_then(|p| p.family(family));
        known.map_or_else(Counts::default, |f| f.counts)
    }

    fn count(&mut self, peer: PeerId, family: Family, change: impl FnOnce(&mut Counts)) {
        if let Some(own) = self.peer_family_mut(peer, family) {
            change(&mut own.counts);
        }
    }

    fn hold(&mut self, path: &Path) {
        self.attrs.retain(path.received);
        if path.refused.is_none() {
            self.attrs.retain(path.accepted);
        }
    }

    fn let_go(&mut self, path: &Path) {
        self.attrs.release(path.received);
        if path.refused.is_none() {
            self.attrs.release(path.accepted);
        }
    }

    fn since(&self, now: Instant) -> u32 {
        let tenths = now.saturating_duration_since(self.began).as_millis() / 100;
        u32::try_from(tenths).unwrap_or(u32::MAX)
    }

    fn instant(&self, since: u32) -> Instant {
        self.began + Duration::from_millis(100) * since
    }
}

impl Peer {
    fn family(&self, family: Family) -> Option<&PeerFamily> {
        self.families.iter().find(|f| f.family == family)
    }
}

#[cfg(test)]
mod tests;
