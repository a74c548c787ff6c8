//! A set of destination numbers, one bit each.

/// Grows on demand; empty sets hold no memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Bits {
    words: Vec<u64>,
    ones: u32,
}

impl Bits {
    pub(crate) fn set(&mut self, bit: u32) {
        let word = (bit / 64) as usize;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let mask = 1 << (bit % 64);
        self.ones += u32::from(self.words[word] & mask == 0);
        self.words[word] |= mask;
    }

    pub(crate) fn clear(&mut self, bit: u32) {
        if let Some(word) = self.words.get_mut((bit / 64) as usize) {
            let mask = 1 << (bit % 64);
            self.ones -= u32::from(*word & mask != 0);
            *word &= !mask;
        }
        if self.ones == 0 {
            self.words = Vec::new();
        }
    }

    pub(crate) fn holds(&self, bit: u32) -> bool {
        self.words
            .get((bit / 64) as usize)
            .is_some_and(|word| word & 1 << (bit % 64) != 0)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ones == 0
    }

    pub(crate) fn count(&self) -> u32 {
        self.ones
    }

    /// The lowest one at or above `from`.
    pub(crate) fn next(&self, from: u32) -> Option<u32> {
        let mut at = (from / 64) as usize;
        let mut word = self.words.get(at)? & (u64::MAX << (from % 64));
        while word == 0 {
            at += 1;
            word = *self.words.get(at)?;
        }
        Some(at as u32 * 64 + word.trailing_zeros())
    }

    pub(crate) fn add(&mut self, other: &Self) {
        if self.words.len() < other.words.len() {
            self.words.resize(other.words.len(), 0);
        }
        for (word, more) in self.words.iter_mut().zip(&other.words) {
            self.ones += (more & !*word).count_ones();
            *word |= more;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bits_are_a_set(
            steps in prop::collection::vec((0..300_u32, any::<bool>()), 0..100),
            more in prop::collection::btree_set(0..300_u32, 0..20),
        ) {
            let (mut bits, mut set) = (Bits::default(), BTreeSet::new());
            for (bit, on) in steps {
                if on {
                    bits.set(bit);
                    set.insert(bit);
                } else {
                    bits.clear(bit);
                    set.remove(&bit);
                }
            }
            let mut other = Bits::default();
            more.iter().for_each(|bit| other.set(*bit));
            bits.add(&other);
            set.extend(more);
            let (mut found, mut from) = (BTreeSet::new(), 0);
            while let Some(bit) = bits.next(from) {
                prop_assert!(bits.holds(bit));
                found.insert(bit);
                from = bit + 1;
            }
            prop_assert_eq!(&found, &set);
            prop_assert_eq!(bits.count() as usize, set.len());
            prop_assert_eq!(bits.is_empty(), set.is_empty());
        }
    }
}
