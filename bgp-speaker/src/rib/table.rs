//! Every path of every prefix of a family: the Adj-RIBs-In and the Loc-RIB in one.
//!
//! ```text
//!   index (hash of prefix) --> Dest {prefix, first} --> Path (best) --> Path --> Path
//! ```
//!
//! A prefix is a `Dest`, known by a small number that Adj-RIBs-Out use as an index. Its paths are a list, the
//! best first. A peer's Adj-RIB-In is the paths with that source, the Loc-RIB the first path of each list where
//! it is a candidate. A route costs a path of 20 octets, a prefix one of 28 and about 8 in the index.

use hashbrown::HashTable;

use super::PeerId;
use super::attrs::AttrsId;
use super::hash::Seed;
use super::view::WhyRefused;
use crate::types::Prefix;

/// The source of routes that originate here.
pub(crate) const HERE: PeerId = PeerId(u16::MAX);

const NIL: u32 = u32::MAX;

/// One prefix.
#[derive(Debug)]
struct Dest {
    prefix: Prefix,
    /// The first of its paths.
    first: u32,
    life: Life,
    queued: Queued,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Used,
    Free,
}

/// Whether a change waits for [`Table::take_changed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Queued {
    No,
    Yes,
}

/// One route. Holds a count of `received`, and of `accepted` unless it is none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Path {
    next: u32,
    pub(crate) received: AttrsId,
    /// After import policy; none where refused.
    pub(crate) accepted: AttrsId,
    /// Tenths of seconds since the RIB began.
    pub(crate) since: u32,
    pub(crate) source: PeerId,
    pub(crate) refused: Option<WhyRefused>,
    pub(crate) fresh: Fresh,
}

/// RFC 4724 4.2, RFC 7313 4: stale until heard again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fresh {
    Fresh,
    Stale,
}

#[derive(Debug)]
pub(crate) struct Table {
    seed: Seed,
    index: HashTable<u32>,
    dests: Vec<Dest>,
    free_dests: Vec<u32>,
    paths: Vec<Path>,
    free_paths: Vec<u32>,
    /// Dests whose best path is not what it was, each once.
    changed: Vec<u32>,
    /// Dests that may be free now.
    loose: Vec<u32>,
}

impl Path {
    /// `accepted` counts unless it is refused.
    pub(crate) fn new(
        source: PeerId,
        received: AttrsId,
        accepted: AttrsId,
        refused: Option<WhyRefused>,
        since: u32,
    ) -> Self {
        Self {
            next: NIL,
            received,
            accepted: if refused.is_none() {
                accepted
            } else {
                AttrsId::NONE
            },
            since,
            source,
            refused,
            fresh: Fresh::Fresh,
        }
    }
}

impl Table {
    pub(crate) fn new(seed: Seed) -> Self {
        Self {
            seed,
            index: HashTable::new(),
            dests: Vec::new(),
            free_dests: Vec::new(),
            paths: Vec::new(),
            free_paths: Vec::new(),
            changed: Vec::new(),
            loose: Vec::new(),
        }
    }

    pub(crate) fn find(&self, prefix: &Prefix) -> Option<u32> {
        let hash = self.seed.prefix(prefix);
        self.index
            .find(hash, |d| self.dests[*d as usize].prefix == *prefix)
            .copied()
    }

    /// The number of a prefix, new or known.
    pub(crate) fn dest(&mut self, prefix: &Prefix) -> u32 {
        let (seed, dests) = (self.seed, &self.dests);
        let entry = self.index.entry(
            seed.prefix(prefix),
            |d| dests[*d as usize].prefix == *prefix,
            |d| seed.prefix(&dests[*d as usize].prefix),
        );
        match entry {
            hashbrown::hash_table::Entry::Occupied(known) => *known.get(),
            hashbrown::hash_table::Entry::Vacant(vacant) => {
                let dest = Dest {
                    prefix: *prefix,
                    first: NIL,
                    life: Life::Used,
                    queued: Queued::No,
                };
                let number = match self.free_dests.pop() {
                    Some(free) => {
                        self.dests[free as usize] = dest;
                        free
                    }
                    None => {
                        self.dests.push(dest);
                        self.dests.len() as u32 - 1
                    }
                };
                vacant.insert(number);
                number
            }
        }
    }

    pub(crate) fn prefix(&self, dest: u32) -> &Prefix {
        &self.dests[dest as usize].prefix
    }

    /// One more than the highest number in use.
    pub(crate) fn end(&self) -> u32 {
        self.dests.len() as u32
    }

    /// Numbers in use, ascending.
    pub(crate) fn used(&self) -> impl Iterator<Item = u32> {
        (0..self.end()).filter(|d| self.dests[*d as usize].life == Life::Used)
    }

    pub(crate) fn prefixes(&self) -> usize {
        self.index.len()
    }

    pub(crate) fn path(&self, path: u32) -> &Path {
        &self.paths[path as usize]
    }

    pub(crate) fn path_mut(&mut self, path: u32) -> &mut Path {
        &mut self.paths[path as usize]
    }

    /// The paths of a prefix, the best first if there is a best.
    pub(crate) fn paths(&self, dest: u32) -> impl Iterator<Item = u32> {
        let first = self.dests[dest as usize].first;
        std::iter::successors(Some(first).filter(|p| *p != NIL), |p| {
            Some(self.paths[*p as usize].next).filter(|p| *p != NIL)
        })
    }

    pub(crate) fn path_of(&self, dest: u32, source: PeerId) -> Option<u32> {
        self.paths(dest).find(|p| self.path(*p).source == source)
    }

    /// What is in the Loc-RIB.
    pub(crate) fn best(&self, dest: u32) -> Option<u32> {
        let first = self.dests[dest as usize].first;
        let candidate = first != NIL && self.path(first).refused.is_none();
        candidate.then_some(first)
    }

    /// Behind all others.
    #[inline]
    pub(crate) fn add(&mut self, dest: u32, path: Path) -> u32 {
        let number = match self.free_paths.pop() {
            Some(free) => {
                self.paths[free as usize] = path;
                free
            }
            None => {
                self.paths.push(path);
                self.paths.len() as u32 - 1
            }
        };
        match self.paths(dest).last() {
            Some(last) => self.paths[last as usize].next = number,
            None => self.dests[dest as usize].first = number,
        }
        number
    }

    /// In its place.
    pub(crate) fn replace(&mut self, path: u32, mut new: Path) {
        new.next = self.paths[path as usize].next;
        self.paths[path as usize] = new;
    }

    pub(crate) fn remove(&mut self, dest: u32, path: u32) -> Path {
        self.unlink(dest, path);
        self.free_paths.push(path);
        self.paths[path as usize]
    }

    pub(crate) fn make_best(&mut self, dest: u32, path: u32) {
        let first = self.dests[dest as usize].first;
        if first != path {
            self.unlink(dest, path);
            self.paths[path as usize].next = self.dests[dest as usize].first;
            self.dests[dest as usize].first = path;
        }
    }

    /// Queues the prefix for the Adj-RIBs-Out.
    pub(crate) fn mark_changed(&mut self, dest: u32) {
        let slot = &mut self.dests[dest as usize];
        if slot.queued == Queued::No {
            slot.queued = Queued::Yes;
            self.changed.push(dest);
        }
    }

    pub(crate) fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    pub(crate) fn changed_count(&self) -> usize {
        self.changed.len()
    }

    pub(crate) fn take_changed(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.changed)
    }

    /// Says that the changes were seen; the vector is used again.
    pub(crate) fn settled(&mut self, mut seen: Vec<u32>) {
        for dest in &seen {
            self.dests[*dest as usize].queued = Queued::No;
            self.loosen(*dest);
        }
        seen.clear();
        if self.changed.is_empty() {
            self.changed = seen;
        }
    }

    pub(crate) fn is_unused(&self, dest: u32) -> bool {
        let slot = &self.dests[dest as usize];
        slot.life == Life::Used && slot.first == NIL && slot.queued == Queued::No
    }

    /// One less speaks of this number: [`Self::take_loose`] gives it to be looked at.
    pub(crate) fn loosen(&mut self, dest: u32) {
        if self.is_unused(dest) {
            self.loose.push(dest);
        }
    }

    pub(crate) fn loose_count(&self) -> usize {
        self.loose.len()
    }

    pub(crate) fn take_loose(&mut self) -> Option<u32> {
        self.loose.pop()
    }

    /// Gives the number back. No Adj-RIB-Out may speak of it any more.
    pub(crate) fn free(&mut self, dest: u32) {
        let slot = &mut self.dests[dest as usize];
        slot.life = Life::Free;
        let found = self
            .index
            .find_entry(self.seed.prefix(&slot.prefix), |d| *d == dest);
        if let Ok(found) = found {
            found.remove();
        }
        self.free_dests.push(dest);
    }

    fn unlink(&mut self, dest: u32, path: u32) {
        let next = self.paths[path as usize].next;
        let before = self.paths(dest).find(|p| self.paths[*p as usize].next == path);
        match before {
            Some(before) => self.paths[before as usize].next = next,
            None => self.dests[dest as usize].first = next,
        }
    }
}
