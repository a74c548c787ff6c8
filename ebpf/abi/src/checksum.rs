//! The Internet checksum (RFC 1071) kept right by differences (RFC 1624), never computed anew.
//!
//! All words are as they lie in memory. One's complement sums do not care about byte order as long as it is one order.

use crate::address::Address;

/// What a change does to a checksum: the sum of the new words and of the complements of the old ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delta(u32);

impl Delta {
    /// A word that was and the word that is.
    #[inline(always)]
    pub fn of(old: u32, new: u32) -> Self {
        Self::default().and(old, new)
    }

    /// One more word.
    #[inline(always)]
    #[must_use]
    pub fn and(self, old: u32, new: u32) -> Self {
        Self(add(add(self.0, !old), new))
    }

    /// A word where there was none.
    #[inline(always)]
    #[must_use]
    pub fn with(self, word: u32) -> Self {
        Self(add(self.0, word))
    }

    /// An address that was and the one that is.
    #[inline(always)]
    #[must_use]
    pub fn address<A: Address>(self, old: &A, new: &A) -> Self {
        old.pairs(new, self, Self::and)
    }

    /// Both changes.
    #[inline(always)]
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(add(self.0, other.0))
    }

    /// The same as the 32-bit difference that kernel functions take.
    #[inline(always)]
    pub fn raw(self) -> u32 {
        self.0
    }

    /// The checksum after the change.
    #[inline(always)]
    pub fn apply(self, checksum: u16) -> u16 {
        !fold(add(u32::from(!checksum), self.0))
    }

    /// The checksum of UDP after the change. 0 says "none" and stays; what would become 0 is sent as all ones (RFC 768).
    #[inline(always)]
    pub fn apply_udp(self, checksum: u16) -> u16 {
        if checksum == 0 {
            return 0;
        }
        match self.apply(checksum) {
            0 => u16::MAX,
            other => other,
        }
    }
}

/// Two ports as the word they are in a header.
#[inline(always)]
pub fn ports(source: u16, destination: u16) -> u32 {
    let ([a, b], [c, d]) = (source.to_ne_bytes(), destination.to_ne_bytes());
    u32::from_ne_bytes([a, b, c, d])
}

#[inline(always)]
fn add(a: u32, b: u32) -> u32 {
    let (sum, carry) = a.overflowing_add(b);
    // A sum that carried is at most MAX - 1.
    sum.wrapping_add(u32::from(carry))
}

#[inline(always)]
fn fold(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    crate::low16((once & 0xffff) + (once >> 16))
}

/// The checksum of octets, from scratch. For tests and for packets the programs make.
pub fn of(octets: &[u8], start: u32) -> u16 {
    let (pairs, last) = octets.as_chunks::<2>();
    let sum = pairs
        .iter()
        .fold(start, |sum, pair| add(sum, u32::from(u16::from_ne_bytes(*pair))));
    let sum = last
        .first()
        .map_or(sum, |last| add(sum, u32::from(u16::from_ne_bytes([*last, 0]))));
    !fold(sum)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::address::{V4, V6};

    /// RFC 1624, 4: the example on which the older formula of RFC 1141 fails.
    #[test]
    fn the_example_of_rfc_1624_comes_out_right() {
        let word = |a: u16| u32::from(a.to_be());
        let after = Delta::of(word(0x5555), word(0x3285)).apply(0xdd2f_u16.to_be());
        assert_eq!(after, 0x0000);
    }

    #[test]
    fn udp_keeps_no_checksum_and_never_invents_none() {
        assert_eq!(Delta::of(1, 2).apply_udp(0), 0);
        let word = |a: u16| u32::from(a.to_be());
        assert_eq!(
            Delta::of(word(0x5555), word(0x3285)).apply_udp(0xdd2f_u16.to_be()),
            u16::MAX
        );
    }

    proptest! {
        #[test]
        fn a_difference_gives_what_summing_anew_gives(
            before in prop::collection::vec(any::<u32>(), 1..16), change in any::<u32>(), at in any::<prop::sample::Index>(),
        ) {
            // A word that never changes and is not zero: then no sum is zero, which has two forms.
            let octets = |words: &[u32]| -> Vec<u8> {
                words.iter().flat_map(|word| word.to_ne_bytes()).chain([1, 0, 0, 0]).collect()
            };
            let mut after = before.clone();
            let at = at.index(before.len());
            after[at] = change;
            let delta = Delta::of(before[at], change);
            prop_assert_eq!(delta.apply(of(&octets(&before), 0)), of(&octets(&after), 0));
        }

        #[test]
        fn addresses_change_the_sum_like_their_words(old in any::<[u32; 4]>(), new in any::<[u32; 4]>()) {
            let words = old.iter().zip(&new).fold(Delta::default(), |delta, (old, new)| delta.and(*old, *new));
            prop_assert_eq!(Delta::default().address(&V6(old), &V6(new)), words);
            prop_assert_eq!(Delta::default().address(&V4(old[0]), &V4(new[0])), Delta::of(old[0], new[0]));
        }

        #[test]
        fn ports_lie_in_a_word_as_in_a_header(source in any::<u16>(), destination in any::<u16>()) {
            let header = [source.to_ne_bytes(), destination.to_ne_bytes()].concat();
            prop_assert_eq!(ports(source, destination).to_ne_bytes().to_vec(), header);
        }
    }
}
