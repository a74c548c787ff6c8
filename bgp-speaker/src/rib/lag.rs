//! Changes on their way to followers, and what becomes of those that read too slowly.

use super::PeerId;
use super::adj_out::Group;
use super::attrs::AttrsId;
use super::bits::Bits;
use super::buffers::{Batch, prefixes};
use super::shared::Shared;
use super::sync::{Member, Pass, Sync};
use super::table::Table;
use crate::pack::{self, Chunk, Item};

impl Group {
    /// Encodes a sorted change for the followers.
    pub(crate) fn hand_on(&mut self, work: &mut Vec<Item>, table: &mut Table, shared: &mut Shared) {
        if work.len() > shared.limits.big && !self.members.values().any(Member::in_batch) {
            self.drop_batch(table);
            self.start_change(work, table);
            return;
        }
        let readers = self.members.values().filter(|m| m.follows()).count();
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
                self.log.push(chunk, readers);
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

    /// Forgets the beginning of a long batch; who has not read it goes by marks.
    pub(crate) fn trim_batch(&mut self, keep: usize, table: &mut Table) {
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
                batch.bytes -= chunk.cost();
                batch.base += 1;
            }
        }
    }

    pub(crate) fn drop_batch(&mut self, table: &mut Table) {
        if let Some(batch) = self.batch.take() {
            nominate(&batch.dirty, table);
            nominate(&batch.withdrawn, table);
        }
    }

    /// Turns what a member has not read yet into marks.
    pub(crate) fn detach(&mut self, peer: PeerId, member: &mut Member, table: &mut Table) {
        let format = self.format();
        let mut mark = |chunk: &Chunk, marks: &mut Bits| {
            if chunk.to.includes(peer) {
                for prefix in prefixes(&chunk.bytes, format) {
                    marks.set(table.dest(&prefix));
                }
            }
        };
        let marks = &mut member.marks;
        match (member.sync, &self.batch) {
            (Sync::Following { next }, _) => {
                for chunk in self.log.leave(next) {
                    mark(&chunk, marks);
                }
            }
            (Sync::InBatch { next }, Some(batch)) => {
                for chunk in batch.chunks.iter().skip(next - batch.base) {
                    mark(chunk, marks);
                }
                for item in batch.items[batch.at..].iter().filter(|i| i.to.includes(peer)) {
                    marks.set(item.dest);
                }
                marks.add(&batch.dirty);
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

    /// Followers that are up to date read the change as a batch, the others go by marks.
    fn start_change(&mut self, work: &mut Vec<Item>, table: &mut Table) {
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
        self.batch = Some(Batch::change(std::mem::take(work)));
    }

    /// Those furthest behind lose the log until it is short enough.
    fn drop_laggards(&mut self, lag: usize, table: &mut Table) {
        while self.log.bytes() > lag {
            let first = self.log.first();
            let is_last = |member: &Member| member.sync == Sync::Following { next: first };
            let slow: Vec<PeerId> = self
                .members
                .iter()
                .filter(|(_, member)| is_last(member))
                .map(|(peer, _)| *peer)
                .collect();
            if slow.is_empty() {
                break;
            }
            for peer in slow {
                if let Some(mut member) = self.members.remove(&peer) {
                    self.detach(peer, &mut member, table);
                    self.members.insert(peer, member);
                }
            }
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
