//! How each peer of a kind gets from what it was told to what the Adj-RIB-Out says.
//!
//! ```text
//!            joins / asks again              read to its end
//!   (new) ----------------------> InBatch --------------------+
//!                                    | lags                   v        no marks left
//!                                    +------------------> CatchingUp --------------> Following
//!                                                             ^     lags: its log unread    |
//!                                                             +-----------------------------+
//! ```
//!
//! - **Following**: reads the log, whose buffers all followers share. Each change was encoded once.
//! - **InBatch**: reads the whole table (or one big change), encoded as it is asked for, shared by all that
//!   read it. What changes meanwhile is skipped and noted in `dirty`; those who finish take it along as marks.
//! - **CatchingUp**: has a bit per prefix it must be told about; they are encoded for it alone.
//!
//! So what a slow peer costs is bounded: a bit per prefix. However often a prefix changes while the peer is
//! not reading, it is told the last state once.

use std::collections::VecDeque;

use bytes::Bytes;

use super::adj_out::Group;
use super::attrs::AttrsId;
use super::bits::Bits;
use super::buffers::Batch;
use super::shared::Shared;
use super::table::{HERE, Table};
use super::{PeerId, Pulled};
use crate::pack::{self, Audience, Chunk, Item};
use crate::types::Family;
use crate::wire::route_refresh::{RouteRefresh, Subtype};
use crate::wire::update;

/// One peer of a group.
#[derive(Debug)]
pub(crate) struct Member {
    /// Goes out before anything else.
    pub(crate) private: VecDeque<Chunk>,
    /// Prefixes it must be told about.
    pub(crate) marks: Bits,
    pub(crate) sync: Sync,
    /// Goes out when it has caught up.
    closing: Option<Closing>,
    again: Again,
    pub(crate) end_of_rib: EndOfRibSent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sync {
    Following { next: u64 },
    InBatch { next: usize },
    CatchingUp { from: u32, pass: Pass },
}

/// Whether a peer that catches up may hold what is no longer announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    /// It was told nothing yet of the prefixes ahead: no withdrawal is due.
    First,
    Later,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closing {
    /// RFC 4724 2.
    EndOfRib,
    /// Nothing is said: the peer did not offer graceful restart, or a plain refresh ended.
    Silent,
    /// EoRR (RFC 7313 4).
    EndOfRefresh,
}

/// Whether the peer asked for everything while it was being sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    No,
    Plain,
    Enhanced,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndOfRibSent {
    No,
    Yes,
}

enum Step {
    Took(Chunk),
    Again,
    Idle,
}

impl Member {
    fn new(sync: Sync, closing: Option<Closing>) -> Self {
        Self {
            private: VecDeque::new(),
            marks: Bits::default(),
            sync,
            closing,
            again: Again::No,
            end_of_rib: EndOfRibSent::No,
        }
    }

    pub(crate) fn follows(&self) -> bool {
        match self.sync {
            Sync::Following { .. } => true,
            Sync::InBatch { .. } | Sync::CatchingUp { .. } => false,
        }
    }

    pub(crate) fn catches_up(&self) -> bool {
        match self.sync {
            Sync::CatchingUp { .. } => true,
            Sync::InBatch { .. } | Sync::Following { .. } => false,
        }
    }

    pub(crate) fn in_batch(&self) -> bool {
        match self.sync {
            Sync::InBatch { .. } => true,
            Sync::CatchingUp { .. } | Sync::Following { .. } => false,
        }
    }

    fn say(&mut self, bytes: Bytes) {
        // Whom it is for is clear: the queue is this member's own.
        let to = Audience::Except(HERE, HERE);
        self.private.push_back(Chunk {
            to,
            bytes,
            messages: 1,
        });
    }

    fn close(&mut self, family: Family) {
        match self.closing.take() {
            Some(Closing::EndOfRib) => {
                self.say(update::encode_end_of_rib(family));
                self.end_of_rib = EndOfRibSent::Yes;
            }
            Some(Closing::EndOfRefresh) => self.say(refresh(family, Subtype::End)),
            Some(Closing::Silent) | None => {}
        }
    }
}

impl Group {
    /// A peer that was told nothing yet.
    pub(crate) fn join(&mut self, peer: PeerId, closing: Closing, table: &mut Table, shared: &mut Shared) {
        self.update_for_newcomer(table, shared);
        let first = Sync::CatchingUp {
            from: 0,
            pass: Pass::First,
        };
        let mut member = Member::new(first, Some(closing));
        self.start_table(&mut member, peer, Pass::First, table, shared);
        self.members.insert(peer, member);
    }

    /// A peer that comes from another group: it is told what differs.
    pub(crate) fn join_from(
        &mut self,
        peer: PeerId,
        mut member: Member,
        before: &Self,
        table: &mut Table,
        shared: &mut Shared,
    ) {
        self.update_for_newcomer(table, shared);
        for dest in table.used() {
            if before.out(dest).seen_by(peer) != self.out(dest).seen_by(peer) {
                member.marks.set(dest);
            }
        }
        self.members.insert(peer, member);
    }

    /// Takes a peer out, with marks for everything it was not told yet.
    pub(crate) fn leave(&mut self, peer: PeerId, table: &mut Table, shared: &mut Shared) -> Option<Member> {
        let mut member = self.members.remove(&peer)?;
        self.detach(peer, &mut member, table);
        self.drop_idle_batch(table, shared);
        Some(member)
    }

    /// Takes a peer out for good.
    pub(crate) fn forget(&mut self, peer: PeerId, table: &mut Table, shared: &Shared) -> Option<Member> {
        let member = self.members.remove(&peer)?;
        if let Sync::Following { next } = member.sync {
            self.log.leave(next);
        }
        self.drop_idle_batch(table, shared);
        Some(member)
    }

    pub(crate) fn end_of_rib(&self, peer: PeerId) -> EndOfRibSent {
        self.members.get(&peer).map_or(EndOfRibSent::No, |m| m.end_of_rib)
    }

    /// Everything again (RFC 2918), with BoRR and EoRR where `closing` says so.
    pub(crate) fn refresh(&mut self, peer: PeerId, closing: Closing, table: &mut Table, shared: &mut Shared) {
        let Some(mut member) = self.members.remove(&peer) else {
            return;
        };
        if member.closing.is_some() {
            // RFC 7313 4: not before End-of-RIB, and one at a time.
            member.again = match closing {
                Closing::EndOfRefresh => Again::Enhanced,
                Closing::EndOfRib | Closing::Silent => Again::Plain,
            };
        } else {
            self.detach(peer, &mut member, table);
            self.begin_refresh(peer, &mut member, closing, table, shared);
        }
        self.members.insert(peer, member);
        self.drop_idle_batch(table, shared);
    }

    pub(crate) fn has_pending(&self, peer: PeerId) -> bool {
        self.members.get(&peer).is_some_and(|member| {
            !member.private.is_empty()
                || match member.sync {
                    Sync::Following { next } => next < self.log.end(),
                    Sync::InBatch { .. } | Sync::CatchingUp { .. } => true,
                }
        })
    }

    /// Gives whole buffers until the budget is used up; the last one may go over it.
    pub(crate) fn pull(
        &mut self,
        peer: PeerId,
        budget: usize,
        table: &mut Table,
        shared: &mut Shared,
        out: &mut Vec<Bytes>,
    ) -> Pulled {
        let mut pulled = Pulled::default();
        let Some(mut member) = self.members.remove(&peer) else {
            return pulled;
        };
        while pulled.bytes < budget {
            match self.step(peer, &mut member, table, shared) {
                Step::Took(chunk) => {
                    pulled.bytes += chunk.bytes.len();
                    pulled.messages += u64::from(chunk.messages);
                    out.push(chunk.bytes);
                }
                Step::Again => {}
                Step::Idle => break,
            }
        }
        self.members.insert(peer, member);
        pulled
    }

    fn step(&mut self, peer: PeerId, member: &mut Member, table: &mut Table, shared: &mut Shared) -> Step {
        if let Some(chunk) = member.private.pop_front() {
            return Step::Took(chunk);
        }
        match &mut member.sync {
            Sync::Following { next } => match self.log.read(*next) {
                Some(chunk) => {
                    *next += 1;
                    took(&chunk, peer)
                }
                None => Step::Idle,
            },
            Sync::InBatch { next } => {
                let format = self.format();
                let Some(batch) = &mut self.batch else {
                    unreachable!("a batch stays as long as someone reads it");
                };
                if let Some(chunk) = batch.chunks.get(*next - batch.base) {
                    *next += 1;
                    return took(chunk, peer);
                }
                if !batch.is_encoded() {
                    batch.encode(format, table, shared);
                    self.trim_batch(shared.limits.keep, table);
                    return Step::Again;
                }
                member.marks.add(&batch.dirty);
                member.sync = Sync::CatchingUp {
                    from: 0,
                    pass: Pass::Later,
                };
                self.drop_idle_batch(table, shared);
                Step::Again
            }
            Sync::CatchingUp { from, pass } => {
                let (start, pass_now) = (*from, *pass);
                match self.encode_marks(peer, member, start, pass_now, table, shared) {
                    Some((from, pass)) => member.sync = Sync::CatchingUp { from, pass },
                    None => self.caught_up(peer, member, table, shared),
                }
                Step::Again
            }
        }
    }

    /// The end of a pass over the marks. Those set behind it take another.
    fn caught_up(&mut self, peer: PeerId, member: &mut Member, table: &mut Table, shared: &mut Shared) {
        member.close(self.target.form.family);
        member.sync = if member.marks.is_empty() {
            Sync::Following { next: self.log.end() }
        } else {
            Sync::CatchingUp {
                from: 0,
                pass: Pass::Later,
            }
        };
        let closing = match std::mem::replace(&mut member.again, Again::No) {
            Again::No => return,
            Again::Plain => Closing::Silent,
            Again::Enhanced => Closing::EndOfRefresh,
        };
        self.begin_refresh(peer, member, closing, table, shared);
    }

    fn begin_refresh(
        &mut self,
        peer: PeerId,
        member: &mut Member,
        closing: Closing,
        table: &mut Table,
        shared: &mut Shared,
    ) {
        if closing == Closing::EndOfRefresh {
            member.say(refresh(self.target.form.family, Subtype::Begin));
        }
        member.closing = Some(closing);
        self.start_table(member, peer, Pass::Later, table, shared);
    }

    /// Joins the batch that is there, makes one, or goes by marks where one of another kind is being read.
    fn start_table(
        &mut self,
        member: &mut Member,
        peer: PeerId,
        pass: Pass,
        table: &mut Table,
        shared: &mut Shared,
    ) {
        self.drop_idle_batch(table, shared);
        let limits = shared.limits;
        let address = shared.peer(peer).map(|known| known.info.address);
        let suits = |batch: &Batch| {
            let leads_back = address.is_some_and(|address| batch.leads_back(peer, address));
            batch.can_be_joined(limits) && !leads_back
        };
        if self.batch.as_ref().is_some_and(suits) {
            member.sync = Sync::InBatch { next: 0 };
        } else if self.members.values().any(Member::in_batch) || self.batch.is_some() {
            for dest in self.announced() {
                if self.out(dest).seen_by(peer) != AttrsId::NONE {
                    member.marks.set(dest);
                }
            }
            member.sync = Sync::CatchingUp { from: 0, pass };
        } else {
            let item = |dest| {
                let out = self.out(dest);
                Item {
                    to: out.audience(),
                    attrs: out.attrs,
                    dest,
                }
            };
            let mut items: Vec<Item> = self.announced().map(item).collect();
            items.sort_unstable();
            self.batch = Some(Batch::table(items, self.target.form.own, shared));
            member.sync = Sync::InBatch { next: 0 };
        }
    }

    /// Encodes up to a slice of marks from `from` for one member. Gives where and how to go on; `None` at the
    /// end.
    fn encode_marks(
        &self,
        peer: PeerId,
        member: &mut Member,
        from: u32,
        pass: Pass,
        table: &mut Table,
        shared: &mut Shared,
    ) -> Option<(u32, Pass)> {
        let mut next = member.marks.next(from)?;
        let mut work = std::mem::take(&mut shared.work);
        let mut at = from;
        for _ in 0..shared.limits.slice {
            let attrs = self.out(next).seen_by(peer);
            if attrs != AttrsId::NONE || pass == Pass::Later {
                let to = Audience::Only(peer);
                work.push(Item {
                    to,
                    attrs,
                    dest: next,
                });
            }
            member.marks.clear(next);
            table.loosen(next);
            at = next + 1;
            match member.marks.next(at) {
                Some(more) => next = more,
                None => break,
            }
        }
        work.sort_unstable();
        let (mut done, mut octets) = (0, 0);
        while done < work.len() && octets < shared.limits.slice_octets {
            let attrs = &shared.attrs;
            let (more, chunk) = pack::fill(
                &work[done..],
                self.format(),
                &mut shared.scratch,
                |id| (id != AttrsId::NONE).then(|| attrs.get(id).as_ref()),
                |dest| Some(*table.prefix(dest)),
            );
            done += more;
            octets += chunk.as_ref().map_or(0, Chunk::cost);
            member.private.extend(chunk);
        }
        // Long attributes: the others take another turn. By then some numbers ahead were told already.
        let go_on = if done < work.len() {
            (from, Pass::Later)
        } else {
            (at, pass)
        };
        for item in work.drain(done..) {
            member.marks.set(item.dest);
        }
        work.clear();
        shared.work = work;
        Some(go_on)
    }
}

fn took(chunk: &Chunk, peer: PeerId) -> Step {
    if chunk.to.includes(peer) {
        Step::Took(chunk.clone())
    } else {
        Step::Again
    }
}

fn refresh(family: Family, subtype: Subtype) -> Bytes {
    RouteRefresh { family, subtype }.encode()
}
