//! How often something is told that a peer, or a stranger, can make happen as often as he likes.

use std::time::{Duration, Instant};

const TOLD: u32 = 10;
const PERIOD: Duration = Duration::from_secs(60);

/// Ten in a minute are told, the rest is not: neither a journal nor the queue of events fills up with them.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    since: Option<Instant>,
    told: u32,
}

impl Pace {
    /// Asked once for each that happened.
    pub(crate) fn may_tell(&mut self, now: Instant) -> Tell {
        let over = self
            .since
            .is_none_or(|since| now.saturating_duration_since(since) >= PERIOD);
        if over {
            self.since = Some(now);
            self.told = 0;
        }
        self.told = self.told.saturating_add(1);
        if self.told <= TOLD { Tell::Yes } else { Tell::No }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tell {
    Yes,
    No,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_ten_times_a_minute() {
        let now = Instant::now();
        let mut pace = Pace::default();
        let mut told = |at| (0..100).filter(|_| pace.may_tell(now + at) == Tell::Yes).count();
        assert_eq!(told(Duration::ZERO), 10);
        assert_eq!(told(Duration::from_secs(59)), 0);
        assert_eq!(told(Duration::from_secs(60)), 10);
    }
}
