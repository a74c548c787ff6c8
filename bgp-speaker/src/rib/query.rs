//! Questions about a RIB. Answers are sorted by prefix.

use std::sync::Arc;

use super::export::WhyNotSent;
use super::sync::EndOfRibSent;
use super::table::{Fresh, HERE};
use super::view::{Counts, RouteView, Standing};
use super::{PeerId, Rib};
use crate::types::{Family, Prefix};

impl Rib {
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
                    stale: path.is_some_and(|p| p.fresh == Fresh::Stale),
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
        let Some(rib) = self.rib(family) else {
            return Counts::default();
        };
        let mut counts = rib.counts(peer);
        if let Some(group) = rib.group_of(peer) {
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
}
