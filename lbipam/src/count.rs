//! How many addresses: exact, also where the whole IPv6 space is one of several blocks.

use std::fmt;
use std::ops::{AddAssign, SubAssign};

/// A whole number up to 2^192. Prints in decimal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Count {
    /// Times 2^128.
    high: u64,
    low: u128,
}

impl Count {
    pub(crate) fn new(low: u128) -> Self {
        Self { high: 0, low }
    }

    /// The number as `u128`, if it fits.
    pub fn to_u128(self) -> Option<u128> {
        (self.high == 0).then_some(self.low)
    }
}

impl From<u128> for Count {
    fn from(low: u128) -> Self {
        Self::new(low)
    }
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        let (low, carry) = self.low.overflowing_add(other.low);
        self.low = low;
        self.high = self
            .high
            .saturating_add(other.high)
            .saturating_add(u64::from(carry));
    }
}

/// Stops at zero.
impl SubAssign for Count {
    fn sub_assign(&mut self, other: Self) {
        if *self <= other {
            *self = Self::default();
            return;
        }
        let (low, borrow) = self.low.overflowing_sub(other.low);
        self.low = low;
        self.high = self
            .high
            .saturating_sub(other.high)
            .saturating_sub(u64::from(borrow));
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(low) = self.to_u128() {
            return low.fmt(f);
        }
        // Long division by ten, 32 bits at a time.
        let mut words: [u64; 6] = [
            self.high >> 32,
            self.high & 0xffff_ffff,
            word(self.low, 96),
            word(self.low, 64),
            word(self.low, 32),
            word(self.low, 0),
        ];
        let mut digits = Vec::new();
        while words.iter().any(|word| *word != 0) {
            let mut rest = 0;
            for word in &mut words {
                let whole = (rest << 32) | *word;
                *word = whole / 10;
                rest = whole % 10;
            }
            digits.push(char::from_digit(u32::try_from(rest).unwrap_or(0), 10).unwrap_or('0'));
        }
        let text: String = digits.iter().rev().collect();
        f.pad_integral(true, "", &text)
    }
}

fn word(number: u128, shift: u32) -> u64 {
    u64::try_from((number >> shift) & 0xffff_ffff).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_exact_beyond_128_bits() {
        let mut count = Count::new(u128::MAX);
        count += Count::new(1);
        assert_eq!(count.to_u128(), None);
        assert_eq!(count.to_string(), "340282366920938463463374607431768211456");
        count += count;
        assert_eq!(count.to_string(), "680564733841876926926749214863536422912");
        let mut less = count;
        less -= Count::new(1);
        assert_eq!(less.to_string(), "680564733841876926926749214863536422911");
        assert!(less < count);
        less -= count;
        assert_eq!(less, Count::default());
        assert_eq!(
            Count::new(18446744073709551616).to_string(),
            "18446744073709551616"
        );
    }
}
