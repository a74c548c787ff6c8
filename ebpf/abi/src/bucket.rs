//! How much of something each processor may do: token buckets, a pure function of the clock.

use crate::plain::plain;

/// What is limited: the elements of `BUCKETS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limited {
    /// Packets that the programs make themselves.
    Answers,
    /// Entries of flows that need none.
    Flows,
    /// Fragments that are kept until their first comes.
    Held,
}

impl Limited {
    /// How many there are.
    pub const COUNT: u32 = 3;

    /// The element.
    #[inline(always)]
    pub const fn place(self) -> u32 {
        match self {
            Self::Answers => 0,
            Self::Flows => 1,
            Self::Held => 2,
        }
    }

    /// Seconds whose tokens a full bucket holds.
    #[inline(always)]
    pub const fn burst(self) -> u32 {
        match self {
            Self::Answers => 10,
            Self::Flows | Self::Held => 1,
        }
    }
}

/// Element of `BUCKETS`, for each processor. All zero is a bucket that was never used: it is full.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// How often it may still be done.
    pub tokens: u32,
    /// Seconds of the boot clock up to which tokens were added.
    pub filled: u32,
}

plain!(Bucket, 8, filled = 4);

impl Bucket {
    /// The bucket after one more; `None` if there must be none. `rate` is tokens for each second.
    #[inline(always)]
    pub fn take(self, now: u32, rate: u32, limited: Limited) -> Option<Self> {
        let gained = now.saturating_sub(self.filled).saturating_mul(rate);
        let full = rate.saturating_mul(limited.burst());
        let tokens = self.tokens.saturating_add(gained);
        let tokens = if tokens > full { full } else { tokens };
        Some(Self {
            tokens: tokens.checked_sub(1)?,
            filled: now,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_fresh_bucket_is_full_and_fills_by_the_second() {
        let mut bucket = Bucket::default();
        for _ in 0..1000 {
            bucket = bucket.take(1_000_000, 100, Limited::Answers).expect("the burst");
        }
        assert_eq!(bucket.take(1_000_000, 100, Limited::Answers), None);
        for _ in 0..100 {
            bucket = bucket
                .take(1_000_001, 100, Limited::Answers)
                .expect("a second's worth");
        }
        assert_eq!(bucket.take(1_000_001, 100, Limited::Answers), None);
    }

    #[test]
    fn a_rate_of_nothing_gives_nothing() {
        assert_eq!(Bucket::default().take(u32::MAX, 0, Limited::Flows), None);
    }

    proptest! {
        #[test]
        fn there_is_never_more_than_the_burst_and_what_the_time_gave(
            flows: bool, rate in 1..1000_u32, steps in prop::collection::vec(0..3_u32, 1..2000), start in 100..u32::MAX / 2,
        ) {
            let limited = if flows { Limited::Flows } else { Limited::Answers };
            let (mut bucket, mut now, mut taken) = (Bucket::default(), start, 0_u64);
            for step in steps {
                now += step;
                if let Some(less) = bucket.take(now, rate, limited) {
                    (bucket, taken) = (less, taken + 1);
                }
            }
            let limit = u64::from(rate) * u64::from(limited.burst() + now - start);
            prop_assert!(taken <= limit);
        }
    }
}
