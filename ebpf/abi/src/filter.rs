//! A bit for each address that concerns the programs, so that every other packet costs next to nothing.
//!
//! `FILTER` is an array of words; an address selects one bit by a hash. A bit that is not set: surely none of ours.
//! A bit that is set: look closer. The image must set the bits of
//! - every frontend's address, node addresses with node ports and wildcards included (packets that come to them),
//! - every address in `DEVICES` (replies to translated flows),
//! - every local backend (replies that leave),
//! - where packets of pods are balanced, every backend (replies to pods), and the source of connections to oneself.
//!
//! It sets bits before it writes what they announce, and clears them after it is deleted.

use crate::address::Address;

/// log2 of the number of bits: 128 KiB. 60,000 addresses make one in 17 others look closer.
const BITS: u32 = 20;
/// Elements of `FILTER`.
pub const WORDS: u32 = 1 << (BITS - 6);

/// The word of an address, and its bit there.
#[inline(always)]
pub fn place<A: Address>(address: &A) -> (u32, u64) {
    // Knuth's multiplicative hash: the upper bits depend on all of the address.
    let hash = address.fold().wrapping_mul(0x9e37_79b1) >> (32 - BITS);
    (hash >> 6, 1 << (hash & 63))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::address::{V4, V6};

    #[test]
    fn neighbouring_addresses_rarely_share_a_bit() {
        let places: BTreeSet<_> = (0..=255_u8)
            .flat_map(|c| (0..=255_u8).map(move |d| place(&V4(u32::from_ne_bytes([10, 0, c, d])))))
            .collect();
        assert!(places.len() > 60_000, "{}", places.len());
        let places: BTreeSet<_> = (0..=255_u8)
            .flat_map(|net| {
                (0..=255_u8).map(move |host| [0x20, 1, 0xd, 0xb8, 0, net, 0, 0, 0, 0, 0, 0, 0, 0, 0, host])
            })
            .map(|octets| place(&V6::from_octets(octets)))
            .collect();
        assert!(places.len() > 60_000, "{}", places.len());
    }

    proptest! {
        #[test]
        fn every_address_has_a_place(v4 in any::<u32>(), v6 in any::<[u32; 4]>()) {
            for (word, bit) in [place(&V4(v4)), place(&V6(v6))] {
                prop_assert!(word < WORDS);
                prop_assert_eq!(bit.count_ones(), 1);
            }
        }
    }
}
