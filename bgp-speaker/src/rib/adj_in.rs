//! What peers and this node bring into a table: the Adj-RIB-In side of a family.

use std::sync::Arc;

use super::attrs::{AttrsId, path_holds};
use super::export::{global, imported};
use super::family::{FamilyRib, Touched, Was};
use super::peer::PeerId;
use super::shared::Shared;
use super::table::{Fresh, HERE, Path};
use super::view::{LimitReached, LimitVerdict, WhyRefused};
use crate::config::{MaxPrefixes, MaxPrefixesAction};
use crate::policy::index::{Index, SetId};
use crate::types::{Family, Prefix};
use crate::wire::attrs::Attrs;

/// Prefixes of one peer and family that are stored without any limit configured: four times what the whole
/// Internet has. More are dropped and counted, so that no peer can fill the memory.
pub(crate) const MOST_PREFIXES: u32 = 4 << 20;

/// Which of a peer's routes an operation is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    All,
    Stale,
}

/// What a peer's import makes of one set of attributes, worked out once for all prefixes that carry it.
struct Import {
    received: AttrsId,
    /// Of the attributes themselves, whatever the prefix.
    refused: Option<WhyRefused>,
    policy: Arc<Index>,
    memo: Option<(SetId, AttrsId)>,
    /// Counts held until it is over.
    held: Vec<AttrsId>,
}

impl FamilyRib {
    /// Prefixes a peer announced with the same attributes.
    pub(crate) fn announce(
        &mut self,
        peer: PeerId,
        since: u32,
        attrs: Attrs,
        prefixes: &[Prefix],
        shared: &mut Shared,
    ) {
        let Ok(received) = shared.attrs.intern_received(attrs, peer) else {
            // What the peer said before does not hold any more, what it says now can't be kept.
            for prefix in prefixes {
                self.withdraw(peer, prefix, shared);
            }
            let more = u32::try_from(prefixes.len()).unwrap_or(u32::MAX);
            self.count(peer, |c| c.dropped = c.dropped.saturating_add(more));
            return;
        };
        let Some(mut import) = Import::new(peer, self.family, received, shared) else {
            shared.attrs.release(received);
            return;
        };
        let max = shared.max_prefixes(peer, self.family);
        for prefix in prefixes {
            let (accepted, mut refused) = import.accept(prefix, peer, shared);
            let dest = self.table.dest(prefix);
            let known = self.table.path_of(dest, peer);
            if known.is_none() {
                match over_limit(max, self.counts(peer).received) {
                    Over::No => {}
                    Over::Refuse => refused = refused.or(Some(WhyRefused::MaxPrefixes)),
                    Over::Drop => {
                        self.count(peer, |c| c.dropped = c.dropped.saturating_add(1));
                        self.table.loosen(dest);
                        continue;
                    }
                }
            } else if let Some(path) = known
                && self.table.path(path).refused == Some(WhyRefused::MaxPrefixes)
                && over_limit(max, self.counts(peer).received.saturating_sub(1)) != Over::No
            {
                refused = refused.or(Some(WhyRefused::MaxPrefixes));
            }
            let path = Path::new(peer, import.received, accepted, refused, since);
            self.put(dest, known, path, shared);
        }
        import.finish(shared);
    }

    pub(crate) fn withdraw(&mut self, peer: PeerId, prefix: &Prefix, shared: &mut Shared) {
        let Some(dest) = self.table.find(prefix) else {
            return;
        };
        if let Some(path) = self.table.path_of(dest, peer) {
            self.remove(dest, path, shared);
        }
    }

    /// A route that originates here.
    pub(crate) fn put_local(&mut self, prefix: &Prefix, attrs: &Arc<Attrs>, since: u32, shared: &mut Shared) {
        let id = shared.attrs.intern(attrs);
        let dest = self.table.dest(prefix);
        let known = self.table.path_of(dest, HERE);
        self.put(dest, known, Path::new(HERE, id, id, None, since), shared);
        shared.attrs.release(id);
    }

    /// Import policy changed: every route of the peer is judged again.
    pub(crate) fn judge_again(&mut self, peer: PeerId, shared: &mut Shared) {
        for dest in 0..self.table.end() {
            let Some(known) = self.table.path_of(dest, peer) else {
                continue;
            };
            let old = *self.table.path(known);
            let Some(mut import) = Import::new(peer, self.family, old.received, shared) else {
                return;
            };
            shared.attrs.retain(old.received);
            let (accepted, mut refused) = import.accept(self.table.prefix(dest), peer, shared);
            if old.refused == Some(WhyRefused::MaxPrefixes) {
                refused = refused.or(old.refused);
            }
            let mut path = old;
            path.refused = refused;
            path.accepted = if refused.is_some() {
                AttrsId::NONE
            } else {
                accepted
            };
            self.put(dest, Some(known), path, shared);
            import.finish(shared);
        }
    }

    /// What is known of the peer itself changed: its routes may compare differently.
    pub(crate) fn decide_again(&mut self, peer: PeerId, shared: &mut Shared) {
        for dest in 0..self.table.end() {
            if let Some(path) = self.table.path_of(dest, peer) {
                let was = self.was(dest, path);
                let touched = Touched {
                    path: Some(path),
                    was,
                };
                self.select(dest, touched, shared);
            }
        }
    }

    pub(crate) fn mark_stale(&mut self, peer: PeerId) {
        if self.counts(peer).received == 0 {
            return;
        }
        for dest in 0..self.table.end() {
            if let Some(path) = self.table.path_of(dest, peer) {
                self.table.path_mut(path).fresh = Fresh::Stale;
            }
        }
        self.count(peer, |c| c.stale = c.received);
    }

    /// Removes a peer's routes.
    pub(crate) fn flush(&mut self, peer: PeerId, of: Of, shared: &mut Shared) {
        let counts = self.counts(peer);
        let mut left = match of {
            Of::All => counts.received,
            Of::Stale => counts.stale,
        };
        for dest in 0..self.table.end() {
            if left == 0 {
                break;
            }
            let Some(path) = self.table.path_of(dest, peer) else {
                continue;
            };
            match (of, self.table.path(path).fresh) {
                (Of::All, _) | (Of::Stale, Fresh::Stale) => {
                    self.remove(dest, path, shared);
                    left -= 1;
                }
                (Of::Stale, Fresh::Fresh) => {}
            }
        }
    }

    /// Adds or replaces a path and decides again.
    #[inline]
    fn put(&mut self, dest: u32, known: Option<u32>, new: Path, shared: &mut Shared) {
        match known {
            Some(number) => self.put_again(dest, number, new, shared),
            None => {
                shared.hold(&new);
                self.count(new.source, |counts| {
                    counts.received += 1;
                    counts.accepted += u32::from(new.refused.is_none());
                });
                let number = self.table.add(dest, new);
                if new.refused.is_none() {
                    let touched = Touched {
                        path: Some(number),
                        was: Was::Other,
                    };
                    self.select(dest, touched, shared);
                }
            }
        }
    }

    fn put_again(&mut self, dest: u32, number: u32, new: Path, shared: &mut Shared) {
        let was = self.was(dest, number);
        let old = *self.table.path(number);
        let same = (old.received, old.accepted, old.refused) == (new.received, new.accepted, new.refused);
        if old.fresh == Fresh::Stale && new.fresh == Fresh::Fresh {
            self.count(new.source, |counts| counts.stale -= 1);
        }
        if same {
            self.table.path_mut(number).fresh = new.fresh;
            return;
        }
        shared.hold(&new);
        self.table.replace(number, new);
        shared.let_go(&old);
        self.count(new.source, |counts| {
            counts.accepted += u32::from(new.refused.is_none());
            counts.accepted -= u32::from(old.refused.is_none());
        });
        if old.refused.is_none() || new.refused.is_none() {
            let touched = Touched {
                path: Some(number),
                was,
            };
            self.select(dest, touched, shared);
        }
    }
}

impl Import {
    /// Takes over the count of `received` that the caller holds.
    fn new(peer: PeerId, family: Family, received: AttrsId, shared: &Shared) -> Option<Self> {
        let known = shared.peer(peer)?;
        Some(Self {
            received,
            refused: refusal(shared.attrs.get(received), shared),
            policy: Arc::clone(&known.family(family)?.import),
            memo: None,
            held: Vec::new(),
        })
    }

    fn accept(
        &mut self,
        prefix: &Prefix,
        peer: PeerId,
        shared: &mut Shared,
    ) -> (AttrsId, Option<WhyRefused>) {
        if self.refused.is_some() {
            return (AttrsId::NONE, self.refused);
        }
        let Some(set) = self.policy.find(prefix) else {
            return (AttrsId::NONE, Some(WhyRefused::ImportPolicy));
        };
        match self.memo {
            Some((same, accepted)) if same == set => (accepted, None),
            _ => {
                let accepted = match shared.peer(peer) {
                    Some(peer) if self.policy.changes(set) => {
                        let attrs = shared.attrs.get(self.received);
                        let attrs = imported(attrs, self.policy.set(set), &peer.info);
                        let id = shared.attrs.intern_owned(attrs);
                        self.held.push(id);
                        id
                    }
                    Some(_) | None => self.received,
                };
                self.memo = Some((set, accepted));
                (accepted, None)
            }
        }
    }

    fn finish(self, shared: &mut Shared) {
        for id in self.held {
            shared.attrs.release(id);
        }
        shared.attrs.release(self.received);
    }
}

/// The loops of RFC 4271 9.1.2 and RFC 4456 8, and next hops that lead nowhere or back here (RFC 4271 5.1.3).
fn refusal(attrs: &Attrs, shared: &Shared) -> Option<WhyRefused> {
    let own = shared.own();
    let id = std::net::Ipv4Addr::from_bits(own.router_id.get());
    if path_holds(&attrs.as_path, own.asn) {
        Some(WhyRefused::AsLoop)
    } else if attrs.originator_id == Some(id) {
        Some(WhyRefused::OriginatorLoop)
    } else if attrs.cluster_list.contains(&id) {
        Some(WhyRefused::ClusterLoop)
    } else {
        let address = global(&attrs.next_hop);
        let nowhere = address.is_unspecified() || address.is_loopback() || address.is_multicast();
        (nowhere || shared.own_addresses.contains(&address)).then_some(WhyRefused::NextHop)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    No,
    /// Stored, shown, not a candidate.
    Refuse,
    /// Not stored.
    Drop,
}

/// What becomes of one more prefix where `have` are stored.
fn over_limit(max: Option<MaxPrefixes>, have: u32) -> Over {
    match max {
        Some(MaxPrefixes {
            limit,
            action: MaxPrefixesAction::Refuse,
            ..
        }) if have >= limit => {
            // As many again are kept to be looked at; a flood is not.
            if have >= limit.saturating_mul(2).min(MOST_PREFIXES) {
                Over::Drop
            } else {
                Over::Refuse
            }
        }
        _ if have >= MOST_PREFIXES => Over::Drop,
        Some(_) | None => Over::No,
    }
}

/// Whether a count just went over a threshold.
pub(crate) fn crossed(max: MaxPrefixes, family: Family, before: u32, now: u32) -> Option<LimitReached> {
    let warn_at =
        u32::try_from(u64::from(max.limit) * u64::from(max.warning_percent) / 100).unwrap_or(u32::MAX);
    let verdict = if before <= max.limit && now > max.limit {
        match max.action {
            MaxPrefixesAction::Warn => LimitVerdict::Warn,
            MaxPrefixesAction::Refuse => LimitVerdict::Refuse,
            MaxPrefixesAction::Teardown { restart } => LimitVerdict::Teardown { restart },
        }
    } else if before < warn_at && now >= warn_at {
        LimitVerdict::Warn
    } else {
        return None;
    };
    Some(LimitReached {
        family,
        count: now,
        limit: max.limit,
        verdict,
    })
}
