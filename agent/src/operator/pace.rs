//! How often to plan: a plan of a big cluster takes long, and each write leads to news.

use std::time::{Duration, Instant};

/// On the long run planning takes one part of the time in so many.
const REST: u32 = 5;
/// Who has rested so long plans at once again and again: for changes that come one by one, nobody waits.
const CREDIT: Duration = Duration::from_secs(2);

/// A bucket of time, as of tokens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Until then all that was planned is paid for.
    rested: Instant,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { rested: now }
    }

    /// When to plan what is known now.
    pub(super) fn next(&self, now: Instant) -> Instant {
        now.max(self.rested)
    }

    /// A plan was made.
    pub(super) fn planned(&mut self, began: Instant, took: Duration) {
        let earliest = began.checked_sub(CREDIT).unwrap_or(began);
        self.rested = self.rested.max(earliest) + took * REST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// How many plans of 100 ms begin until `end`, with news that never ends.
    fn plans(pace: &mut Pace, mut now: Instant, end: Instant) -> usize {
        let mut number = 0;
        while pace.next(now) < end {
            let began = pace.next(now);
            pace.planned(began, 100 * MS);
            now = began + 100 * MS;
            number += 1;
        }
        number
    }

    #[test]
    fn whoever_has_rested_plans_a_few_times_at_once_and_then_a_fifth_of_the_time() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let now = start + 3000 * MS;
        assert_eq!(plans(&mut pace, now, now + 500 * MS), 5);
        assert_eq!(plans(&mut pace, now + 500 * MS, now + 10_500 * MS), 20);
    }

    #[test]
    fn rest_is_not_saved_for_ever() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let late = start + 3_600_000 * MS;
        assert!(plans(&mut pace, late, late + 1000 * MS) <= 6);
    }
}
