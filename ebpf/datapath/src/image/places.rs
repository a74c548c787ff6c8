//! Who gets which place.

use std::collections::{BTreeMap, BTreeSet};

use ebpf_abi::id::MAX_PLACES;

/// Places that hold ids with generations.
#[derive(Debug)]
pub(super) struct Places {
    /// Places that had an owner, by generation: the one used least comes first.
    vacated: BTreeSet<(u32, u32)>,
    /// Places that hold an id or a tombstone.
    touched: BTreeSet<u32>,
    /// Untouched ones are looked for from here.
    next: u32,
    limit: u32,
    free: u32,
}

/// What was known of a place.
pub(super) struct Known {
    pub(super) index: u32,
    pub(super) generation: u32,
    pub(super) alive: Alive,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Alive {
    Yes,
    No,
}

impl Places {
    pub(super) fn new(known: impl Iterator<Item = Known>, limit: u32) -> Self {
        let limit = limit.min(MAX_PLACES);
        let mut places = Self {
            vacated: BTreeSet::new(),
            touched: BTreeSet::new(),
            next: 0,
            limit,
            free: limit,
        };
        for place in known.filter(|place| place.index < limit) {
            places.touched.insert(place.index);
            match place.alive {
                Alive::Yes => places.free -= 1,
                Alive::No => {
                    places.vacated.insert((place.generation, place.index));
                }
            }
        }
        places
    }

    pub(super) fn free(&self) -> u32 {
        self.free
    }

    /// Index and generation of the new owner.
    pub(super) fn take(&mut self) -> Option<(u32, u32)> {
        while self.next < self.limit {
            let index = self.next;
            self.next += 1;
            if !self.touched.contains(&index) {
                self.free -= 1;
                return Some((index, 1));
            }
        }
        let (generation, index) = self.vacated.pop_first()?;
        self.free -= 1;
        Some((index, next_generation(generation)))
    }

    /// The owner is gone: its tombstone was written.
    pub(super) fn release(&mut self, index: u32, generation: u32) {
        if index < self.limit && self.vacated.insert((generation, index)) {
            self.free += 1;
        }
    }
}

fn next_generation(generation: u32) -> u32 {
    if generation >= ebpf_abi::id::LAST_GENERATION {
        1
    } else {
        generation + 1
    }
}

/// Places that are just free or not.
#[derive(Debug)]
pub(super) struct Free {
    used: BTreeSet<u32>,
    next: u32,
    limit: u32,
}

impl Free {
    /// Place 0 is never given.
    pub(super) fn new(used: BTreeSet<u32>, limit: u32) -> Self {
        Self { used, next: 1, limit }
    }

    pub(super) fn used(&self) -> u32 {
        u32::try_from(self.used.len()).unwrap_or(u32::MAX)
    }

    /// Whether so many more fit.
    pub(super) fn has(&self, more: u32) -> bool {
        self.used().saturating_add(more) < self.limit
    }

    pub(super) fn take(&mut self) -> Option<u32> {
        while self.next < self.limit {
            let index = self.next;
            self.next += 1;
            if self.used.insert(index) {
                return Some(index);
            }
        }
        None
    }

    pub(super) fn release(&mut self, index: u32) {
        if self.used.remove(&index) {
            self.next = self.next.min(index.max(1));
        }
    }
}

/// Ranges of slots.
#[derive(Debug)]
pub(super) struct Runs {
    /// Length of each free range, by its first slot.
    free: BTreeMap<u32, u32>,
}

impl Runs {
    pub(super) fn new(used: impl Iterator<Item = (u32, u32)>, limit: u32) -> Self {
        let mut free = BTreeMap::new();
        let mut at = 0_u32;
        for (first, length) in used {
            if first > at {
                free.insert(at, first - at);
            }
            at = at.max(first.saturating_add(length));
        }
        if at < limit {
            free.insert(at, limit - at);
        }
        Self { free }
    }

    pub(super) fn free(&self) -> u32 {
        self.free
            .values()
            .fold(0, |sum, length| sum.saturating_add(*length))
    }

    /// The first range that is long enough.
    pub(super) fn take(&mut self, length: u32) -> Option<u32> {
        let (first, room) = self.free.iter().find(|(_, room)| **room >= length)?;
        let (first, room) = (*first, *room);
        self.free.remove(&first);
        if room > length {
            self.free.insert(first + length, room - length);
        }
        Some(first)
    }

    /// Takes back what was taken.
    pub(super) fn give_back(&mut self, first: u32, length: u32) {
        let mut length = length;
        if let Some(next) = self.free.remove(&(first + length)) {
            length += next;
        }
        let before = self
            .free
            .range(..first)
            .next_back()
            .map(|(at, room)| (*at, *room));
        match before {
            Some((at, room)) if at + room == first => self.free.insert(at, room + length),
            Some(_) | None => self.free.insert(first, length),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(index: u32, generation: u32, alive: Alive) -> Known {
        Known {
            index,
            generation,
            alive,
        }
    }

    #[test]
    fn untouched_places_go_first_then_those_used_least() {
        let places = [
            known(0, 1, Alive::Yes),
            known(1, 5, Alive::No),
            known(3, 2, Alive::No),
        ];
        let mut places = Places::new(places.into_iter(), 4);
        assert_eq!(places.free(), 3);
        assert_eq!(places.take(), Some((2, 1)));
        assert_eq!(places.take(), Some((3, 3)));
        assert_eq!(places.take(), Some((1, 6)));
        assert_eq!(places.take(), None);
    }

    #[test]
    fn place_zero_is_never_given_to_a_set() {
        let mut free = Free::new(BTreeSet::from([2]), 4);
        assert!(free.has(2) && !free.has(3));
        assert_eq!((free.take(), free.take(), free.take()), (Some(1), Some(3), None));
    }

    #[test]
    fn runs_do_not_overlap_and_come_back_whole() {
        let mut runs = Runs::new([(2, 3), (10, 1)].into_iter(), 16);
        assert_eq!(runs.free(), 12);
        assert_eq!(runs.take(5), Some(5));
        assert_eq!(runs.take(3), Some(11));
        assert_eq!(runs.take(2), Some(0));
        assert_eq!(runs.take(3), None);
        runs.give_back(11, 3);
        assert_eq!(runs.take(5), Some(11));
        assert_eq!(runs.free(), 0);
    }
}
