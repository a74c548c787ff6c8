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
use super::table::{HERE, Table};
use super::{PeerId, Pulled, Shared};
use crate::pack::{self, Audience, Chunk, Format, Item};
use crate::types::{Family, Prefix};
use crate::wire::framing::HEADER;
use crate::wire::route_refresh::{RouteRefresh, Subtype};
use crate::wire::update::{self, Context, FirstAs};

/// What is kept for others and done at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Octets a follower may be behind before it loses the log.
    pub(crate) lag: usize,
    /// Octets of a batch that are kept for others to read.
    pub(crate) keep: usize,
    /// A change of more prefixes than this becomes a batch.
    pub(crate) big: usize,
    /// Prefixes encoded at a time for one that catches up.
    pub(crate) slice: usize,
    /// Prefixes that may be dirty before nobody joins a batch any more, beside 256 per buffer.
    pub(crate) dirty: usize,
    /// Octets of a buffer.
    pub(crate) chunk: usize,
}

impl Limits {
    pub(crate) const USUAL: Self = Self {
        lag: 4 << 20,
        keep: 8 << 20,
        big: 32 << 10,
        slice: 8 << 10,
        dirty: 1024,
        chunk: 32 << 10,
    };
}

/// One peer of a group.
#[derive(Debug)]
pub(crate) struct Member {
    /// Goes out before anything else.
    private: VecDeque<Chunk>,
    /// Prefixes it must be told about.
    pub(crate) marks: Bits,
    sync: Sync,
    /// Goes out when it has caught up.
    closing: Option<Closing>,
    again: Again,
    pub(crate) end_of_rib: EndOfRibSent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sync {
    Following { next: u64 },
    InBatch { next: usize },
    CatchingUp { from: u32, pass: Pass },
}

/// Whether a peer that catches up may hold what is no longer announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
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

/// Changes, encoded once for all followers.
#[derive(Debug, Default)]
pub(crate) struct Log {
    chunks: VecDeque<Chunk>,
    /// The number of the first chunk.
    first: u64,
    bytes: usize,
}

/// Many prefixes, encoded on demand and once for all that read it.
#[derive(Debug)]
pub(crate) struct Batch {
    kind: Kind,
    items: Vec<Item>,
    /// Items encoded.
    at: usize,
    chunks: VecDeque<Chunk>,
    /// The number of the first chunk kept.
    base: usize,
    bytes: usize,
    /// What changed since the items were listed: not sent from here.
    pub(crate) dirty: Bits,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The whole Adj-RIB-Out. Others may join as long as its beginning is kept.
    Table,
    Change,
}

enum Step {
    Took(Chunk),
    Again,
    Idle,
}

impl Log {
    fn end(&self) -> u64 {
        self.first + self.chunks.len() as u64
    }

    fn push(&mut self, chunk: Chunk) {
        self.bytes += chunk.bytes.len();
        self.chunks.push_back(chunk);
    }

    fn unread(&self, next: u64) -> impl Iterator<Item = &Chunk> {
        self.chunks.iter().skip((next - self.first) as usize)
    }

    fn get(&self, number: u64) -> Option<&Chunk> {
        self.chunks.get((number - self.first) as usize)
    }

    fn forget_until(&mut self, number: u64) {
        while self.first < number
            && let Some(chunk) = self.chunks.pop_front()
        {
            self.first += 1;
            self.bytes -= chunk.bytes.len();
        }
    }
}

impl Batch {
    fn new(kind: Kind, items: Vec<Item>) -> Self {
        Self {
            kind,
            items,
            at: 0,
            chunks: VecDeque::new(),
            base: 0,
            bytes: 0,
            dirty: Bits::default(),
        }
    }

    fn is_encoded(&self) -> bool {
        self.at == self.items.len()
    }

    /// A reader from the beginning would get the table as it was, and not much more to correct it.
    fn can_be_joined(&self, limits: Limits) -> bool {
        let few = self.dirty.count() as usize <= self.chunks.len() * 256 + limits.dirty;
        self.kind == Kind::Table && self.base == 0 && few
    }

    /// Encodes the next chunk.
    fn encode(&mut self, format: Format, table: &Table, shared: &mut Shared) {
        let (dirty, attrs) = (&self.dirty, &shared.attrs);
        let (done, chunk) = pack::fill(
            &self.items[self.at..],
            format,
            &mut shared.scratch,
            |id| (id != AttrsId::NONE).then(|| attrs.get(id).as_ref()),
            |dest| (!dirty.holds(dest)).then(|| *table.prefix(dest)),
        );
        self.at += done;
        if let Some(chunk) = chunk {
            self.bytes += chunk.bytes.len();
            self.chunks.push_back(chunk);
        }
        if self.is_encoded() {
            self.items = Vec::new();
            self.at = 0;
        }
    }
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

    fn in_batch(&self) -> bool {
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
        self.forget_read();
        Some(member)
    }

    /// Takes a peer out for good.
    pub(crate) fn forget(&mut self, peer: PeerId, table: &mut Table, shared: &Shared) -> Option<Member> {
        let member = self.members.remove(&peer)?;
        self.drop_idle_batch(table, shared);
        self.forget_read();
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
        self.forget_read();
        pulled
    }

    /// Encodes a sorted change for the followers.
    pub(crate) fn hand_on(&mut self, work: &mut Vec<Item>, table: &mut Table, shared: &mut Shared) {
        if work.len() > shared.limits.big && !self.members.values().any(Member::in_batch) {
            self.drop_batch(table);
            self.start_change(work, table);
            return;
        }
        let mut at = 0;
        while at < work.len() {
            let attrs = &shared.attrs;
            let (done, chunk) = pack::fill(
                &work[at..],
                self.format(),
                &mut shared.scratch,
                |id| (id != AttrsId::NONE).then(|| attrs.get(id).as_ref()),
                |dest| Some(*table.prefix(dest)),
            );
            at += done;
            if let Some(chunk) = chunk {
                self.log.push(chunk);
            }
        }
        self.drop_laggards(shared.limits.lag, table);
    }

    /// A snapshot nobody reads is kept for those who join, as long as little of it has changed.
    pub(crate) fn drop_idle_batch(&mut self, table: &mut Table, shared: &Shared) {
        let idle = self
            .batch
            .as_ref()
            .is_some_and(|batch| !batch.can_be_joined(shared.limits) || !batch.is_encoded());
        if idle && !self.members.values().any(Member::in_batch) {
            self.drop_batch(table);
        }
    }

    fn step(&mut self, peer: PeerId, member: &mut Member, table: &mut Table, shared: &mut Shared) -> Step {
        if let Some(chunk) = member.private.pop_front() {
            return Step::Took(chunk);
        }
        match &mut member.sync {
            Sync::Following { next } => match self.log.get(*next) {
                Some(chunk) => {
                    *next += 1;
                    took(chunk, peer)
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
                    Some(from) => {
                        member.sync = Sync::CatchingUp { from, pass: pass_now };
                    }
                    None => self.caught_up(peer, member, table, shared),
                }
                Step::Again
            }
        }
    }

    /// The end of a pass over the marks. Those set behind it take another.
    fn caught_up(&mut self, peer: PeerId, member: &mut Member, table: &mut Table, shared: &mut Shared) {
        member.close(self.target.family);
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
            member.say(refresh(self.target.family, Subtype::Begin));
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
        let announced = |group: &Self| {
            table
                .used()
                .filter(|d| group.out(*d).attrs != AttrsId::NONE)
                .collect::<Vec<_>>()
        };
        let limits = shared.limits;
        if self.batch.as_ref().is_some_and(|b| b.can_be_joined(limits)) {
            member.sync = Sync::InBatch { next: 0 };
        } else if self.members.values().any(Member::in_batch) || self.batch.is_some() {
            for dest in announced(self) {
                if self.out(dest).seen_by(peer) != AttrsId::NONE {
                    member.marks.set(dest);
                }
            }
            member.sync = Sync::CatchingUp { from: 0, pass };
        } else {
            let mut items: Vec<Item> = announced(self)
                .into_iter()
                .map(|dest| {
                    let out = self.out(dest);
                    Item {
                        to: out.audience(),
                        attrs: out.attrs,
                        dest,
                    }
                })
                .collect();
            items.sort_unstable();
            self.batch = Some(Batch::new(Kind::Table, items));
            member.sync = Sync::InBatch { next: 0 };
        }
    }

    /// Followers that are up to date read the change as a batch, the others go by marks.
    fn start_change(&mut self, work: &mut Vec<Item>, table: &mut Table) {
        let mut batch = Batch::new(Kind::Change, Vec::new());
        let end = self.log.end();
        let mut late = Vec::new();
        for (peer, member) in &mut self.members {
            match member.sync {
                Sync::Following { next } if next == end => member.sync = Sync::InBatch { next: 0 },
                Sync::Following { .. } => late.push(*peer),
                Sync::InBatch { .. } | Sync::CatchingUp { .. } => {}
            }
        }
        for peer in late {
            if let Some(mut member) = self.members.remove(&peer) {
                self.detach(peer, &mut member, table);
                work.iter().for_each(|item| member.marks.set(item.dest));
                self.members.insert(peer, member);
            }
        }
        // The number of a withdrawn prefix may be given to another before the item is encoded; as a mark it
        // is held.
        for item in work.iter().filter(|item| item.attrs == AttrsId::NONE) {
            match item.to {
                Audience::Except(..) => batch.dirty.set(item.dest),
                Audience::Only(_) => {}
            }
        }
        work.retain(|item| !batch.dirty.holds(item.dest));
        batch.items = std::mem::take(work);
        self.batch = Some(batch);
    }

    /// Encodes up to a slice of marks from `from` for one member. Gives where to go on; `None` at the end.
    fn encode_marks(
        &self,
        peer: PeerId,
        member: &mut Member,
        from: u32,
        pass: Pass,
        table: &mut Table,
        shared: &mut Shared,
    ) -> Option<u32> {
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
        let mut done = 0;
        while done < work.len() {
            let attrs = &shared.attrs;
            let (more, chunk) = pack::fill(
                &work[done..],
                self.format(),
                &mut shared.scratch,
                |id| (id != AttrsId::NONE).then(|| attrs.get(id).as_ref()),
                |dest| Some(*table.prefix(dest)),
            );
            done += more;
            member.private.extend(chunk);
        }
        work.clear();
        shared.work = work;
        Some(at)
    }

    /// Turns what a member has not read yet into marks.
    fn detach(&self, peer: PeerId, member: &mut Member, table: &mut Table) {
        let mut mark = |chunk: &Chunk| {
            if chunk.to.includes(peer) {
                for prefix in prefixes(&chunk.bytes, self.format()) {
                    member.marks.set(table.dest(&prefix));
                }
            }
        };
        match (member.sync, &self.batch) {
            (Sync::Following { next }, _) => self.log.unread(next).for_each(mark),
            (Sync::InBatch { next }, Some(batch)) => {
                batch.chunks.iter().skip(next - batch.base).for_each(&mut mark);
                for item in batch.items[batch.at..].iter().filter(|i| i.to.includes(peer)) {
                    member.marks.set(item.dest);
                }
                member.marks.add(&batch.dirty);
            }
            (Sync::InBatch { .. }, None) => unreachable!("a batch stays as long as someone reads it"),
            // It goes on where it is, with its pass.
            (Sync::CatchingUp { .. }, _) => return,
        }
        member.sync = Sync::CatchingUp {
            from: 0,
            pass: Pass::Later,
        };
    }

    fn drop_laggards(&mut self, lag: usize, table: &mut Table) {
        while self.log.bytes > lag {
            let Some(first) = self.slowest() else { break };
            let slow: Vec<PeerId> = self
                .members
                .iter()
                .filter(|(_, m)| m.sync == Sync::Following { next: first })
                .map(|(peer, _)| *peer)
                .collect();
            for peer in slow {
                if let Some(mut member) = self.members.remove(&peer) {
                    self.detach(peer, &mut member, table);
                    self.members.insert(peer, member);
                }
            }
            self.forget_read();
        }
    }

    fn slowest(&self) -> Option<u64> {
        self.members
            .values()
            .filter_map(|member| match member.sync {
                Sync::Following { next } => Some(next),
                Sync::InBatch { .. } | Sync::CatchingUp { .. } => None,
            })
            .min()
    }

    fn forget_read(&mut self) {
        let until = self.slowest().unwrap_or_else(|| self.log.end());
        self.log.forget_until(until);
    }

    /// Forgets the beginning of a long batch; who has not read it goes by marks.
    fn trim_batch(&mut self, keep: usize, table: &mut Table) {
        while let Some(batch) = &self.batch
            && batch.bytes > keep
            && batch.chunks.len() > 1
        {
            let base = batch.base;
            let slow: Vec<PeerId> = self
                .members
                .iter()
                .filter(|(_, m)| m.sync == Sync::InBatch { next: base })
                .map(|(peer, _)| *peer)
                .collect();
            for peer in slow {
                if let Some(mut member) = self.members.remove(&peer) {
                    self.detach(peer, &mut member, table);
                    self.members.insert(peer, member);
                }
            }
            if let Some(batch) = &mut self.batch
                && let Some(chunk) = batch.chunks.pop_front()
            {
                batch.bytes -= chunk.bytes.len();
                batch.base += 1;
            }
        }
    }

    pub(crate) fn drop_batch(&mut self, table: &mut Table) {
        if let Some(batch) = self.batch.take() {
            nominate(&batch.dirty, table);
        }
    }
}

/// Numbers that may be free now that one less speaks of them.
pub(crate) fn nominate(bits: &Bits, table: &mut Table) {
    let mut from = 0;
    while let Some(dest) = bits.next(from) {
        table.loosen(dest);
        from = dest + 1;
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

/// The prefixes in messages encoded here: the log is its own record of what a reader has missed.
fn prefixes(messages: &Bytes, format: Format) -> Vec<Prefix> {
    let context = Context {
        asn_width: format.asn_width,
        session: format.session,
        peer_asn: crate::types::Asn::new(1).unwrap_or_else(|_| unreachable!("1 is not 0")),
        first_as: FirstAs::Any,
        local_address: None,
        families: vec![format.family],
        ipv6_next_hop: vec![Family::IPV4_UNICAST],
    };
    let mut all = Vec::new();
    let mut rest = messages.clone();
    while let Some(length) = rest.get(16..18) {
        let length = usize::from(length[0]) << 8 | usize::from(length[1]);
        let message = rest.split_to(length);
        let Ok(update) = update::decode(&message.slice(HEADER..), &context) else {
            unreachable!("what was encoded here can be decoded");
        };
        all.extend(update.withdrawn);
        all.extend(update.announced.into_iter().flat_map(|a| a.prefixes));
    }
    all
}
