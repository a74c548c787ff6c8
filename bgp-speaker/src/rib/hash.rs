//! Seeded hashing. Prefixes and attributes come from peers: without a seed a peer could choose them so that
//! all fall into one bucket. Each value costs one 128-bit multiplication.

use std::hash::{BuildHasher, Hash, Hasher};

use crate::types::Prefix;

/// The keys of one RIB, drawn from the speaker's seed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seed {
    first: u64,
    second: u64,
}

impl Seed {
    pub(crate) fn new(seed: u64) -> Self {
        let first = splitmix(seed);
        // Odd, so that a multiplication by it loses nothing.
        let second = splitmix(first) | 1;
        Self { first, second }
    }

    pub(crate) fn prefix(&self, prefix: &Prefix) -> u64 {
        match prefix {
            Prefix::V4 { bits, len } => self.fold(u64::from(*bits) | u64::from(*len) << 32),
            Prefix::V6 { bits, len } => {
                let bits = u128::from_be_bytes(*bits);
                let (high, low) = ((bits >> 64) as u64, bits as u64);
                fold(self.fold(high ^ u64::from(*len)) ^ low, self.second)
            }
        }
    }

    pub(crate) fn of(&self, value: &impl Hash) -> u64 {
        self.hash_one(value)
    }

    fn fold(&self, value: u64) -> u64 {
        fold(value ^ self.first, self.second)
    }
}

impl BuildHasher for Seed {
    type Hasher = Folding;

    fn build_hasher(&self) -> Folding {
        Folding {
            state: self.first,
            key: self.second,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Folding {
    state: u64,
    key: u64,
}

impl Hasher for Folding {
    fn write(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            let word = word.try_into().map_or(0, u64::from_le_bytes);
            self.write_u64(word);
        }
        let rest = words.remainder();
        if !rest.is_empty() {
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            // The length keeps "a" and "a\0" apart.
            self.write_u64(u64::from_le_bytes(word) ^ (rest.len() as u64) << 56);
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(value.into());
    }

    fn write_u16(&mut self, value: u16) {
        self.write_u64(value.into());
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(value.into());
    }

    fn write_u64(&mut self, value: u64) {
        self.state = fold(self.state ^ value, self.key);
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn finish(&self) -> u64 {
        self.state
    }
}

/// Both halves of the product: the high one carries what the low bits lack.
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ (product >> 64) as u64
}

fn splitmix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_seed_gives_another_order() {
        let prefix = Prefix::host("192.0.2.1".parse().unwrap());
        assert_eq!(Seed::new(1).prefix(&prefix), Seed::new(1).prefix(&prefix));
        assert_ne!(Seed::new(1).prefix(&prefix), Seed::new(2).prefix(&prefix));
        assert_ne!(Seed::new(1).of(&"a"), Seed::new(2).of(&"a"));
    }

    #[test]
    fn neighbouring_prefixes_do_not_share_a_bucket() {
        let seed = Seed::new(7);
        let mut buckets = std::collections::BTreeSet::new();
        for i in 0..4096_u32 {
            let bits = (0xfd00_u128 << 112 | u128::from(i) << 64).to_be_bytes();
            buckets.insert(seed.prefix(&Prefix::V6 { bits, len: 64 }) & 0xffff);
            buckets.insert(
                seed.prefix(&Prefix::V4 {
                    bits: i << 8,
                    len: 24,
                }) & 0xffff,
            );
        }
        assert!(buckets.len() > 7000, "{}", buckets.len());
    }
}
