//! Adj-RIBs-Out, one per kind of peer: what each prefix is announced as.
//!
//! ```text
//!   changed prefixes --update--> out[dest] --Items--> Log      followers share its buffers
//!                                        \--bits---> Batch     those that take the whole table share another
//!                                        \--bits---> marks     those that fell behind: prefixes, no buffers
//! ```
//!
//! A change is judged once per kind of peer and encoded once. What differs between peers of a kind is only
//! that none gets back what it sent: messages carry their audience.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::attrs::AttrsId;
use super::export::{Target, WhyNotSent, may_send, outgoing};
use super::hash::Seed;
use super::sync::{Batch, Log, Member};
use super::table::{HERE, Table};
use super::{PeerId, Shared};
use crate::pack::{Audience, Format, Item};
use crate::policy::index::{Index, SetId};
use crate::wire::attrs::Attrs;

/// What a prefix is announced as: attributes (none: not at all) and whom they came from, who does not get it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Out {
    pub(crate) attrs: AttrsId,
    pub(crate) source: PeerId,
}

impl Out {
    pub(crate) const NOTHING: Self = Self {
        attrs: AttrsId::NONE,
        source: HERE,
    };

    /// As one peer of the kind has it.
    pub(crate) fn seen_by(self, peer: PeerId) -> AttrsId {
        if self.source == peer {
            AttrsId::NONE
        } else {
            self.attrs
        }
    }
}

/// The peers of one kind.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) target: Target,
    policy: Arc<Index>,
    /// By destination number. Each holds a count of its attributes.
    out: Vec<Out>,
    announced: u32,
    /// Announced routes by their source: subtracted for the source itself.
    by_source: BTreeMap<PeerId, u32>,
    pub(crate) members: BTreeMap<PeerId, Member>,
    pub(crate) log: Log,
    pub(crate) batch: Option<Batch>,
    memo: Memo,
}

/// What export made of attributes during one pass: most prefixes share them.
#[derive(Debug)]
struct Memo {
    last: Option<(MemoKey, Result<AttrsId, WhyNotSent>)>,
    all: HashMap<MemoKey, Result<AttrsId, WhyNotSent>, Seed>,
    /// Counts held until the pass is over, so that no number changes its meaning meanwhile.
    held: Vec<AttrsId>,
}

type MemoKey = (AttrsId, SetId, PeerId);

/// Which prefixes [`Group::update`] judges.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Which<'a> {
    These(&'a [u32]),
    All,
}

impl Group {
    pub(crate) fn new(target: Target, seed: Seed) -> Self {
        Self {
            policy: Arc::new(Index::new(&target.policy.statements, seed)),
            target,
            out: Vec::new(),
            announced: 0,
            by_source: BTreeMap::new(),
            members: BTreeMap::new(),
            log: Log::default(),
            batch: None,
            memo: Memo {
                last: None,
                all: HashMap::with_hasher(seed),
                held: Vec::new(),
            },
        }
    }

    pub(crate) fn format(&self) -> Format {
        Format {
            family: self.target.family,
            session: self.target.session,
            asn_width: self.target.asn_width,
            max_message: self.target.max_message,
        }
    }

    /// Another policy for all members. [`Self::update`] with [`Which::All`] must follow.
    pub(crate) fn retarget(&mut self, target: Target, seed: Seed) {
        self.policy = Arc::new(Index::new(&target.policy.statements, seed));
        self.target = target;
    }

    pub(crate) fn out(&self, dest: u32) -> Out {
        self.out.get(dest as usize).copied().unwrap_or(Out::NOTHING)
    }

    pub(crate) fn advertised(&self, peer: PeerId) -> u32 {
        self.announced - self.by_source.get(&peer).copied().unwrap_or(0)
    }

    /// Whether anything here still speaks of the number.
    pub(crate) fn speaks_of(&self, dest: u32) -> bool {
        self.out(dest).attrs != AttrsId::NONE
            || self.batch.as_ref().is_some_and(|b| b.dirty.holds(dest))
            || self.members.values().any(|m| m.marks.holds(dest))
    }

    /// Why a prefix is not announced to this kind of peer. `None`: it is, or there is no best path.
    pub(crate) fn refusal(&self, dest: u32, table: &Table, shared: &Shared) -> Option<WhyNotSent> {
        let path = table.path(table.best(dest)?);
        let from = shared.source(path.source);
        if let Err(why) = may_send(shared.attrs.rank(path.accepted), from, &self.target) {
            return Some(why);
        }
        let Some(set) = self.policy.find(table.prefix(dest)) else {
            return Some(WhyNotSent::ExportPolicy);
        };
        let attrs = shared.attrs.get(path.accepted);
        match outgoing(attrs, from, &self.target, self.policy.set(set), shared.own()) {
            Err(why) => Some(why),
            Ok(_) if self.out(dest).attrs == AttrsId::NONE => Some(WhyNotSent::TooLong),
            Ok(_) => None,
        }
    }

    /// Judges prefixes again and hands on what became different.
    pub(crate) fn update(&mut self, which: Which<'_>, table: &mut Table, shared: &mut Shared) {
        self.out.resize(table.end() as usize, Out::NOTHING);
        let mut work = std::mem::take(&mut shared.work);
        let mut touched = std::mem::take(&mut shared.touched);
        let follows = self.members.values().any(Member::follows);
        let notes = self.batch.is_some() || self.members.values().any(Member::catches_up);
        let mut one = |dest: u32| {
            let new = self.judge(dest, table, shared);
            let old = self.out[dest as usize];
            if new == old {
                return;
            }
            self.replace(dest, old, new, shared);
            if notes {
                touched.push(dest);
            }
            if follows {
                self.push_items(dest, old, new, &mut work);
            }
        };
        match which {
            Which::These(dests) => dests.iter().for_each(|dest| one(*dest)),
            Which::All => (0..table.end()).for_each(&mut one),
        }
        self.memo.last = None;
        self.memo.all.clear();
        for id in self.memo.held.drain(..) {
            shared.attrs.release(id);
        }
        self.note(&touched);
        touched.clear();
        shared.touched = touched;
        self.drop_idle_batch(table, shared);
        if !work.is_empty() {
            work.sort_unstable();
            self.hand_on(&mut work, table, shared);
            work.clear();
        }
        shared.work = work;
    }

    /// Lets go of everything. The group is of no use afterwards.
    pub(crate) fn release(&mut self, table: &Table, shared: &mut Shared) {
        self.drop_batch(table, shared);
        for out in self.out.drain(..) {
            if out.attrs != AttrsId::NONE {
                shared.attrs.release(out.attrs);
            }
        }
    }

    /// What the prefix should be announced as.
    fn judge(&mut self, dest: u32, table: &Table, shared: &mut Shared) -> Out {
        let Some(best) = table.best(dest) else {
            return Out::NOTHING;
        };
        let path = table.path(best);
        let Some(set) = self.policy.find(table.prefix(dest)) else {
            return Out::NOTHING;
        };
        let key = (path.accepted, set, path.source);
        let result = match self.memo.last {
            Some((last, result)) if last == key => result,
            _ => match self.memo.all.get(&key) {
                Some(result) => *result,
                None => {
                    let result = self.transform(key, shared);
                    self.memo.all.insert(key, result);
                    self.memo.held.extend(result.ok());
                    result
                }
            },
        };
        self.memo.last = Some((key, result));
        match result {
            Ok(attrs) => Out {
                attrs,
                source: path.source,
            },
            Err(_) => Out::NOTHING,
        }
    }

    fn transform(&self, (attrs, set, source): MemoKey, shared: &mut Shared) -> Result<AttrsId, WhyNotSent> {
        let from = shared.source(source);
        may_send(shared.attrs.rank(attrs), from, &self.target)?;
        let set = self.policy.set(set);
        let attrs = outgoing(shared.attrs.get(attrs), from, &self.target, set, shared.own())?;
        if !self.format().fits(&attrs, &mut shared.scratch) {
            return Err(WhyNotSent::TooLong);
        }
        Ok(shared.attrs.intern_owned(attrs))
    }

    fn replace(&mut self, dest: u32, old: Out, new: Out, shared: &mut Shared) {
        self.out[dest as usize] = new;
        if new.attrs != AttrsId::NONE {
            shared.attrs.retain(new.attrs);
            self.announced += 1;
            if new.source != HERE {
                *self.by_source.entry(new.source).or_default() += 1;
            }
        }
        if old.attrs != AttrsId::NONE {
            // The number must keep its meaning until the pass is over: the memo may hold it.
            self.memo.held.push(old.attrs);
            self.announced -= 1;
            if let Some(count) = self.by_source.get_mut(&old.source) {
                *count -= 1;
            }
        }
    }

    /// The new source had the old route and gets none instead: it does not hear its own.
    fn push_items(&self, dest: u32, old: Out, new: Out, work: &mut Vec<Item>) {
        if new.attrs == AttrsId::NONE {
            let to = Audience::Except(old.source);
            work.push(Item {
                to,
                attrs: AttrsId::NONE,
                dest,
            });
            return;
        }
        let to = Audience::Except(new.source);
        work.push(Item {
            to,
            attrs: new.attrs,
            dest,
        });
        let had = old.attrs != AttrsId::NONE && old.source != new.source;
        if had && self.members.contains_key(&new.source) {
            work.push(Item {
                to: Audience::Only(new.source),
                attrs: AttrsId::NONE,
                dest,
            });
        }
    }

    fn note(&mut self, touched: &[u32]) {
        if touched.is_empty() {
            return;
        }
        if let Some(batch) = &mut self.batch {
            touched.iter().for_each(|dest| batch.dirty.set(*dest));
        }
        for member in self.members.values_mut().filter(|m| m.catches_up()) {
            touched.iter().for_each(|dest| member.marks.set(*dest));
        }
    }

    pub(crate) fn attrs_of<'a>(&self, id: AttrsId, shared: &'a Shared) -> Option<&'a Arc<Attrs>> {
        (id != AttrsId::NONE).then(|| shared.attrs.get(id))
    }
}
