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

use super::PeerId;
use super::attrs::AttrsId;
use super::bits::Bits;
use super::buffers::{Batch, Log};
use super::export::{Target, WhyNotSent, may_send, outgoing};
use super::hash::Seed;
use super::shared::Shared;
use super::sync::Member;
use super::table::{HERE, Table};
use crate::pack::{Audience, Format, Item};
use crate::policy::index::{Index, SetId};
use crate::wire::attrs::Attrs;

/// What a prefix is announced as: attributes (none: not at all), and the two peers that do not get it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Out {
    pub(crate) attrs: AttrsId,
    /// Whom it came from.
    pub(crate) source: PeerId,
    /// Whose address is its next hop (RFC 4271 5.1.3); [`HERE`]: nobody's.
    pub(crate) leads_to: PeerId,
}

impl Out {
    pub(crate) const NOTHING: Self = Self {
        attrs: AttrsId::NONE,
        source: HERE,
        leads_to: HERE,
    };

    /// As one peer of the kind has it.
    pub(crate) fn seen_by(self, peer: PeerId) -> AttrsId {
        if self.source == peer || self.leads_to == peer {
            AttrsId::NONE
        } else {
            self.attrs
        }
    }

    pub(crate) fn audience(self) -> Audience {
        Audience::Except(self.source, self.leads_to)
    }

    /// The peers that do not get it, each once.
    fn hidden_from(self) -> impl Iterator<Item = PeerId> {
        let other = (self.leads_to != self.source).then_some(self.leads_to);
        std::iter::once(self.source)
            .chain(other)
            .filter(|peer| *peer != HERE)
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
    /// How many of them a peer does not get, by its number.
    hidden: Vec<u32>,
    /// Whether a next hop may be the address of a peer.
    foreign: Foreign,
    pub(crate) members: BTreeMap<PeerId, Member>,
    pub(crate) log: Log,
    pub(crate) batch: Option<Batch>,
    memo: Memo,
}

/// What export made of attributes during one pass: most prefixes share them.
#[derive(Debug)]
struct Memo {
    last: Option<(MemoKey, Result<Out, WhyNotSent>)>,
    all: HashMap<MemoKey, Result<Out, WhyNotSent>, Seed>,
    /// Counts held until the pass is over, so that no number changes its meaning meanwhile.
    held: Vec<AttrsId>,
}

type MemoKey = (AttrsId, SetId, PeerId);

/// Whether routes are announced with a next hop that is not this speaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Foreign {
    No,
    Yes,
}

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
            hidden: Vec::new(),
            foreign: Foreign::No,
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
            family: self.target.form.family,
            session: self.target.form.session,
            asn_width: self.target.form.asn_width,
            max_message: self.target.form.max_message,
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

    /// Numbers of the prefixes that are announced, ascending.
    pub(crate) fn announced(&self) -> impl Iterator<Item = u32> {
        let announced = |(dest, out): (u32, &Out)| (out.attrs != AttrsId::NONE).then_some(dest);
        (0..).zip(&self.out).filter_map(announced)
    }

    pub(crate) fn advertised(&self, peer: PeerId) -> u32 {
        self.announced - self.hidden.get(usize::from(peer.0)).copied().unwrap_or(0)
    }

    /// The prefixes somebody must still be told about.
    pub(crate) fn marks(&self) -> impl Iterator<Item = &Bits> {
        let members = self.members.values().map(|member| &member.marks);
        let batch = self
            .batch
            .iter()
            .flat_map(|batch| [&batch.dirty, &batch.withdrawn]);
        members.chain(batch).filter(|bits| !bits.is_empty())
    }

    /// Why a prefix is not announced to this kind of peer. `None`: it is, or there is no best path.
    pub(crate) fn refusal(&self, dest: u32, table: &Table, shared: &Shared) -> Option<WhyNotSent> {
        let path = table.path(table.best(dest)?);
        let from = shared.source(path.source);
        if let Err(why) = may_send(shared.attrs.rank(path.accepted), from, &self.target.form) {
            return Some(why);
        }
        let Some(set) = self.policy.find(table.prefix(dest)) else {
            return Some(WhyNotSent::ExportPolicy);
        };
        let attrs = shared.attrs.get(path.accepted);
        match outgoing(attrs, from, &self.target.form, self.policy.set(set), shared.own()) {
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

    /// A newcomer may have the address some routes lead to.
    pub(crate) fn update_for_newcomer(&mut self, table: &mut Table, shared: &mut Shared) {
        match self.foreign {
            Foreign::Yes => self.update(Which::All, table, shared),
            Foreign::No => {}
        }
    }

    /// Lets go of everything. The group is of no use afterwards.
    pub(crate) fn release(&mut self, table: &mut Table, shared: &mut Shared) {
        self.drop_batch(table);
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
                    self.memo.held.extend(result.ok().map(|out| out.attrs));
                    result
                }
            },
        };
        self.memo.last = Some((key, result));
        result.unwrap_or(Out::NOTHING)
    }

    fn transform(&mut self, (attrs, set, source): MemoKey, shared: &mut Shared) -> Result<Out, WhyNotSent> {
        let from = shared.source(source);
        may_send(shared.attrs.rank(attrs), from, &self.target.form)?;
        let set = self.policy.set(set);
        let attrs = outgoing(
            shared.attrs.get(attrs),
            from,
            &self.target.form,
            set,
            shared.own(),
        )?;
        if !self.format().fits(&attrs, &mut shared.scratch) {
            return Err(WhyNotSent::TooLong);
        }
        let leads_to = if Some(attrs.next_hop) == self.target.form.own {
            HERE
        } else {
            self.foreign = Foreign::Yes;
            shared.peer_at(&attrs.next_hop)
        };
        Ok(Out {
            attrs: shared.attrs.intern_owned(attrs),
            source,
            leads_to,
        })
    }

    fn replace(&mut self, dest: u32, old: Out, new: Out, shared: &mut Shared) {
        self.out[dest as usize] = new;
        if new.attrs != AttrsId::NONE {
            shared.attrs.retain(new.attrs);
            self.announced += 1;
            for peer in new.hidden_from() {
                let slot = usize::from(peer.0);
                if self.hidden.len() <= slot {
                    self.hidden.resize(slot + 1, 0);
                }
                self.hidden[slot] += 1;
            }
        }
        if old.attrs != AttrsId::NONE {
            // The number must keep its meaning until the pass is over: the memo may hold it.
            self.memo.held.push(old.attrs);
            self.announced -= 1;
            for peer in old.hidden_from() {
                self.hidden[usize::from(peer.0)] -= 1;
            }
        }
    }

    /// Peers that had the old route and are kept from the new one lose it.
    fn push_items(&self, dest: u32, old: Out, new: Out, work: &mut Vec<Item>) {
        if new.attrs == AttrsId::NONE {
            work.push(Item {
                to: old.audience(),
                attrs: AttrsId::NONE,
                dest,
            });
            return;
        }
        work.push(Item {
            to: new.audience(),
            attrs: new.attrs,
            dest,
        });
        for peer in new.hidden_from() {
            if old.seen_by(peer) != AttrsId::NONE && self.members.contains_key(&peer) {
                work.push(Item {
                    to: Audience::Only(peer),
                    attrs: AttrsId::NONE,
                    dest,
                });
            }
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
