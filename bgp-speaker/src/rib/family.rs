//! One family of a RIB: its table and the groups of peers it is announced to.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use bytes::Bytes;

use super::EndOfRib;
use super::adj_out::{Group, Which};
use super::attrs::AttrsId;
use super::bits::Bits;
use super::decision::{Before, Candidate, From, elect, multipath_order};
use super::export::{Source, Target};
use super::lag::nominate;
use super::peer::PeerId;
use super::shared::Shared;
use super::sync::Closing;
use super::table::{Fresh, HERE, Path, Table};
use super::view::{Counts, Pulled, RouteView, Standing, WhyNotBest};
use crate::types::Family;

/// Changed prefixes that may wait for a peer to ask before they are judged.
const MOST_WAITING: usize = 64 << 10;
/// Prefixes nobody speaks of that may wait to be freed: many at a time cost less.
const MOST_LOOSE: usize = 1024;

#[derive(Debug)]
pub(crate) struct FamilyRib {
    pub(crate) family: Family,
    pub(crate) table: Table,
    pub(crate) groups: Vec<Group>,
    /// Peers whose group may be another one than they are in.
    pub(crate) regroup: BTreeSet<PeerId>,
    pub(crate) deferral: Deferral,
    /// Kept from one decision to the next.
    candidates: Vec<Candidate>,
    /// By peer number.
    counts: Vec<Counts>,
}

/// RFC 4724 4.1: whether announcing waits for the peers' End-of-RIB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deferral {
    No,
    Waiting,
}

impl FamilyRib {
    pub(crate) fn new(family: Family, shared: &Shared) -> Self {
        Self {
            family,
            table: Table::new(shared.seed),
            groups: Vec::new(),
            regroup: BTreeSet::new(),
            deferral: Deferral::No,
            candidates: Vec::new(),
            counts: Vec::new(),
        }
    }

    /// Of the Adj-RIB-In only.
    pub(crate) fn counts(&self, peer: PeerId) -> Counts {
        self.counts.get(usize::from(peer.0)).copied().unwrap_or_default()
    }

    /// A peer is there, perhaps with stale routes, perhaps again.
    pub(crate) fn expect(&mut self, peer: PeerId) {
        let slot = usize::from(peer.0);
        if self.counts.len() <= slot {
            self.counts.resize(slot + 1, Counts::default());
        }
        self.counts[slot].dropped = 0;
    }

    /// Nobody counts what originates here.
    pub(crate) fn count(&mut self, source: PeerId, change: impl FnOnce(&mut Counts)) {
        if let Some(counts) = self.counts.get_mut(usize::from(source.0)) {
            change(counts);
        }
    }

    /// The decision process for one prefix, after the path `touched` came, changed or went.
    pub(crate) fn select(&mut self, dest: u32, touched: Touched, shared: &Shared) {
        let mut paths = self.table.paths(dest);
        let (first, more) = (paths.next(), paths.next());
        drop(paths);
        // One path, and it is the one that changed: nothing to compare.
        let (Some(first), Some(_)) = (first, more) else {
            self.table.mark_changed(dest);
            return;
        };
        let before = match touched.was {
            Was::Best => touched.path,
            Was::Other => self.table.best(dest),
        };
        let standing = |path| {
            if Some(path) == before {
                Before::Best
            } else {
                Before::Other
            }
        };
        let (table, candidates) = (&self.table, &mut self.candidates);
        candidates.clear();
        candidates.extend(
            table
                .paths(dest)
                .filter_map(|p| candidate(p, table, shared, standing(p))),
        );
        elect(candidates, shared.options.existing_external, |_, _| {});
        let best = self.candidates.first().map(|c| c.path);
        if let Some(best) = best {
            self.table.make_best(dest, best);
        } else if touched.was == Was::Other && self.table.path(first).refused.is_some() {
            // There was none and there is none.
            return;
        }
        if touched.was == Was::Best || best != before || (best.is_some() && best == touched.path) {
            self.table.mark_changed(dest);
        }
    }

    /// Lets a path go.
    pub(crate) fn remove(&mut self, dest: u32, path: u32, shared: &mut Shared) -> Path {
        let was = self.was(dest, path);
        let gone = self.table.remove(dest, path);
        shared.let_go(&gone);
        self.count(gone.source, |counts| {
            counts.received -= 1;
            counts.accepted -= u32::from(gone.refused.is_none());
            counts.stale -= u32::from(gone.fresh == Fresh::Stale);
        });
        if gone.refused.is_none() {
            // Also for one that was not best: its MED may have kept out another (RFC 4271 9.1.2.2 c).
            self.select(dest, Touched { path: None, was }, shared);
        } else {
            self.table.loosen(dest);
        }
        gone
    }

    pub(crate) fn was(&self, dest: u32, path: u32) -> Was {
        if self.table.best(dest) == Some(path) {
            Was::Best
        } else {
            Was::Other
        }
    }

    /// Brings the Adj-RIBs-Out up to date.
    pub(crate) fn settle(&mut self, shared: &mut Shared) {
        match self.deferral {
            Deferral::Waiting if !self.groups.is_empty() => return,
            Deferral::Waiting | Deferral::No => {}
        }
        if self.table.has_changed() {
            let changed = self.table.take_changed();
            for group in &mut self.groups {
                group.update(Which::These(&changed), &mut self.table, shared);
            }
            self.table.settled(changed);
        }
        match self.deferral {
            // Whoever came up is told everything later: for now nobody is there to be told of a change.
            Deferral::Waiting => {}
            Deferral::No => self.regroup(shared),
        }
        self.free_loose();
    }

    /// The rules for a peer's routes changed: all of them are judged for every kind of peer.
    pub(crate) fn touch_all_of(&mut self, peer: PeerId) {
        for dest in 0..self.table.end() {
            if self.table.path_of(dest, peer).is_some() {
                self.table.mark_changed(dest);
            }
        }
    }

    /// Settles where nobody may ever ask, or much waits.
    pub(crate) fn relax(&mut self, shared: &mut Shared) {
        let nobody = match self.deferral {
            Deferral::No => self.groups.is_empty() && self.regroup.is_empty(),
            Deferral::Waiting => self.groups.is_empty(),
        };
        if nobody || self.table.changed_count() > MOST_WAITING {
            self.settle(shared);
        }
        // A refused route that goes changes nothing, so nobody asks on its account.
        if self.table.loose_count() > MOST_LOOSE {
            self.free_loose();
        }
    }

    /// See [`Group::pull`].
    pub(crate) fn pull(
        &mut self,
        peer: PeerId,
        budget: usize,
        shared: &mut Shared,
        out: &mut Vec<Bytes>,
    ) -> Pulled {
        self.settle(shared);
        let Some((group, table)) = self.group_of_mut(peer) else {
            return Pulled::default();
        };
        let pulled = group.pull(peer, budget, table, shared, out);
        self.free_loose();
        pulled
    }

    pub(crate) fn group_of(&self, peer: PeerId) -> Option<&Group> {
        self.groups.iter().find(|g| g.members.contains_key(&peer))
    }

    pub(crate) fn group_of_mut(&mut self, peer: PeerId) -> Option<(&mut Group, &mut Table)> {
        let group = self.groups.iter_mut().find(|g| g.members.contains_key(&peer))?;
        Some((group, &mut self.table))
    }

    /// The session is gone: nothing is announced to it any more.
    pub(crate) fn leave(&mut self, peer: PeerId, shared: &mut Shared) {
        self.regroup.remove(&peer);
        if let Some((group, table)) = self.group_of_mut(peer)
            && let Some(member) = group.forget(peer, table, shared)
        {
            nominate(&member.marks, table);
        }
        self.drop_empty_groups(shared);
        self.free_loose();
    }

    /// The paths of a prefix with how each fared, the best first.
    pub(crate) fn view(&self, dest: u32, shared: &Shared) -> Vec<RouteView> {
        let table = &self.table;
        let best = table.best(dest);
        let mut left: Vec<Candidate> = table
            .paths(dest)
            .filter_map(|p| {
                let standing = if Some(p) == best {
                    Before::Best
                } else {
                    Before::Other
                };
                candidate(p, table, shared, standing)
            })
            .collect();
        let mut lost: Vec<(Candidate, WhyNotBest)> = Vec::new();
        elect(&mut left, shared.options.existing_external, |c, why| {
            lost.push((c.clone(), why))
        });
        let mut equal: Vec<&Candidate> = lost
            .iter()
            .filter(|(_, why)| *why > WhyNotBest::IgpCost)
            .map(|(c, _)| c)
            .collect();
        equal.sort_by_key(|c| multipath_order(c));
        equal.truncate(usize::from(shared.options.maximum_paths).saturating_sub(1));
        let standing = |path: u32| {
            if let Some(why) = table.path(path).refused {
                Standing::Refused(why)
            } else if Some(path) == best {
                Standing::Best
            } else if equal.iter().any(|c| c.path == path) {
                Standing::Multipath
            } else {
                let why = lost.iter().find(|(c, _)| c.path == path).map(|(_, why)| *why);
                Standing::Lost(why.unwrap_or(WhyNotBest::PeerAddress))
            }
        };
        let mut views: Vec<RouteView> = table
            .paths(dest)
            .map(|path| {
                let route = table.path(path);
                let attrs = match route.refused {
                    Some(_) => route.received,
                    None => route.accepted,
                };
                RouteView {
                    prefix: *table.prefix(dest),
                    source: (route.source != HERE).then_some(route.source),
                    attrs: shared.attrs.get(attrs).clone(),
                    since: shared.instant(route.since),
                    standing: standing(path),
                    stale: route.fresh == Fresh::Stale,
                }
            })
            .collect();
        views.sort_by_key(|view| (Reverse(view.standing == Standing::Best), view.source));
        views
    }

    /// Puts peers into the group of their kind.
    fn regroup(&mut self, shared: &mut Shared) {
        if self.regroup.is_empty() {
            return;
        }
        for peer in std::mem::take(&mut self.regroup) {
            let Some(target) = self.target(peer, shared) else {
                continue;
            };
            let from = self.groups.iter().position(|g| g.members.contains_key(&peer));
            let to = self.groups.iter().position(|g| g.target.is_same_kind(&target));
            match (from, to) {
                (Some(from), Some(to)) if from == to => {}
                // All of them go the same way: they stay together and share what changes.
                (Some(from), None) if self.all_want(from, &target, shared) => {
                    let group = &mut self.groups[from];
                    group.retarget(target, shared.seed);
                    group.update(Which::All, &mut self.table, shared);
                }
                (Some(_), Some(_) | None) => {
                    let to = self.group_for(target, shared);
                    let from = self.groups.iter().position(|g| g.members.contains_key(&peer));
                    if let Some(from) = from
                        && let Ok([from, to]) = self.groups.get_disjoint_mut([from, to])
                        && let Some(member) = from.leave(peer, &mut self.table, shared)
                    {
                        to.join_from(peer, member, from, &mut self.table, shared);
                    }
                }
                (None, _) => {
                    let closing = match shared.peer(peer).map(|p| p.info.end_of_rib) {
                        Some(EndOfRib::Send) => Closing::EndOfRib,
                        Some(EndOfRib::Omit) | None => Closing::Silent,
                    };
                    let to = self.group_for(target, shared);
                    self.groups[to].join(peer, closing, &mut self.table, shared);
                }
            }
        }
        self.drop_empty_groups(shared);
    }

    fn target(&self, peer: PeerId, shared: &Shared) -> Option<Target> {
        let known = shared.peer(peer)?;
        let own = known.family(self.family)?;
        Some(Target::of(
            &known.info,
            self.family,
            &own.info.export,
            own.info.extended_next_hop,
        ))
    }

    fn all_want(&self, group: usize, target: &Target, shared: &Shared) -> bool {
        let mut members = self.groups[group].members.keys();
        members.all(|peer| {
            let wanted = self.target(*peer, shared);
            wanted.is_some_and(|wanted| wanted.is_same_kind(target))
        })
    }

    /// The group of a kind; a new one is filled from the table first.
    fn group_for(&mut self, target: Target, shared: &mut Shared) -> usize {
        if let Some(known) = self.groups.iter().position(|g| g.target.is_same_kind(&target)) {
            return known;
        }
        let mut group = Group::new(target, shared.seed);
        group.update(Which::All, &mut self.table, shared);
        self.groups.push(group);
        self.groups.len() - 1
    }

    fn drop_empty_groups(&mut self, shared: &mut Shared) {
        let table = &mut self.table;
        self.groups.retain_mut(|group| {
            let used = !group.members.is_empty();
            if !used {
                group.release(table, shared);
            }
            used
        });
    }

    pub(crate) fn free_loose(&mut self) {
        if self.table.loose_count() == 0 {
            return;
        }
        let groups = &self.groups;
        let marks: Vec<&Bits> = groups.iter().flat_map(Group::marks).collect();
        while let Some(dest) = self.table.take_loose() {
            let announced = groups.iter().any(|g| g.out(dest).attrs != AttrsId::NONE);
            if self.table.is_unused(dest) && !announced && !marks.iter().any(|m| m.holds(dest)) {
                self.table.free(dest);
            }
        }
    }
}

/// What happened to a path before [`FamilyRib::select`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Touched {
    /// `None`: it is gone.
    pub(crate) path: Option<u32>,
    pub(crate) was: Was,
}

/// Whether a path was the best of its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Was {
    Best,
    Other,
}

/// A path as the decision process sees it; refused ones it does not see.
fn candidate(path: u32, table: &Table, shared: &Shared, standing: Before) -> Option<Candidate> {
    let route = table.path(path);
    if route.refused.is_some() {
        return None;
    }
    let origin = match shared.source(route.source) {
        Source::Here => From::Here,
        Source::Peer(peer) => From::Peer {
            session: peer.session,
            router_id: peer.router_id.get(),
            address: peer.address,
        },
    };
    Some(Candidate {
        path,
        origin,
        rank: *shared.attrs.rank(route.accepted),
        igp_cost: 0,
        standing,
    })
}
