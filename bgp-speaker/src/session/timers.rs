//! The timers of one session, as a table; the jitter that spreads them; and the backoff between attempts.
//!
//! ```text
//!   timer         runs in                     value                              jitter (RFC 4271 10)
//!   ConnectRetry  Connect, Active             connect_retry, or the backoff      75..100 %
//!   Hold          OpenSent                    240 s                              none
//!                 OpenConfirm, Established    as agreed                          none
//!   Keepalive     OpenConfirm, Established    as agreed                          75..100 %
//!   SendHold      Established, while octets   max(480 s, 2 x hold) (RFC 9687)    none
//!                 wait to be taken
//!   IdleHold      Idle                        1, 2, 4 .. 60 s                    75..100 %
//! ```

use std::time::{Duration, Instant};

use crate::config::Timers as Wished;

/// The hold time while the peer's OPEN is awaited (RFC 4271 8.2.2 suggests 4 minutes).
pub const OPEN_HOLD: Duration = Duration::from_secs(240);
/// The least send hold time (RFC 9687 3.1).
pub const SEND_HOLD: Duration = Duration::from_secs(480);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    ConnectRetry,
    Hold,
    Keepalive,
    SendHold,
    IdleHold,
}

impl Timer {
    pub const ALL: [Self; 5] = [
        Self::ConnectRetry,
        Self::Hold,
        Self::Keepalive,
        Self::SendHold,
        Self::IdleHold,
    ];
}

/// When each timer fires; `None` where it is stopped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TimerTable {
    connect_retry: Option<Instant>,
    hold: Option<Instant>,
    keepalive: Option<Instant>,
    send_hold: Option<Instant>,
    idle_hold: Option<Instant>,
}

impl TimerTable {
    #[must_use]
    pub fn get(&self, timer: Timer) -> Option<Instant> {
        match timer {
            Timer::ConnectRetry => self.connect_retry,
            Timer::Hold => self.hold,
            Timer::Keepalive => self.keepalive,
            Timer::SendHold => self.send_hold,
            Timer::IdleHold => self.idle_hold,
        }
    }

    pub fn start(&mut self, timer: Timer, at: Instant) {
        *self.slot(timer) = Some(at);
    }

    pub fn stop(&mut self, timer: Timer) {
        *self.slot(timer) = None;
    }

    pub fn stop_all(&mut self) {
        *self = Self::default();
    }

    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        Timer::ALL.iter().filter_map(|t| self.get(*t)).min()
    }

    /// Takes one timer that is due, the earliest first.
    pub fn take_due(&mut self, now: Instant) -> Option<Timer> {
        let (_, timer) = Timer::ALL
            .iter()
            .filter_map(|t| Some((self.get(*t)?, *t)))
            .filter(|(at, _)| *at <= now)
            .min()?;
        self.stop(timer);
        Some(timer)
    }

    fn slot(&mut self, timer: Timer) -> &mut Option<Instant> {
        match timer {
            Timer::ConnectRetry => &mut self.connect_retry,
            Timer::Hold => &mut self.hold,
            Timer::Keepalive => &mut self.keepalive,
            Timer::SendHold => &mut self.send_hold,
            Timer::IdleHold => &mut self.idle_hold,
        }
    }
}

/// A small generator (SplitMix64), seeded by the shell, so that a run can be repeated exactly. Used for
/// jitter only.
#[derive(Debug, Clone)]
pub struct Jitter(u64);

impl Jitter {
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 75 to 100 % of `full`, in whole milliseconds (RFC 4271 10).
    pub fn spread(&mut self, full: Duration) -> Duration {
        let millis = u64::try_from(full.as_millis()).unwrap_or(u64::MAX);
        let quarter = millis / 4;
        let less = self.next() % (quarter + 1);
        Duration::from_millis(millis - less)
    }
}

/// How long the next stay in Idle lasts. Doubles with each attempt that came to nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The delay before the next attempt, without jitter.
    #[must_use]
    pub fn peek(&self, wished: &Wished) -> Duration {
        wished
            .idle_hold
            .saturating_mul(2_u32.saturating_pow(self.failures))
            .min(Wished::IDLE_HOLD_MAX)
    }

    /// The same, and one failure more on the count.
    pub fn next(&mut self, wished: &Wished) -> Duration {
        let delay = self.peek(wished);
        self.failures = self.failures.saturating_add(1);
        delay
    }

    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_to_a_minute_and_starts_anew_after_a_reset() {
        let wished = Wished::default();
        let mut backoff = Backoff::default();
        let seconds: Vec<u64> = (0..9).map(|_| backoff.next(&wished).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        backoff.reset();
        assert_eq!(backoff.next(&wished), Duration::from_secs(1));
    }

    #[test]
    fn jitter_takes_off_at_most_a_quarter_and_repeats_with_its_seed() {
        let full = Duration::from_secs(30);
        let mut a = Jitter::new(7);
        let mut b = Jitter::new(7);
        for _ in 0..1000 {
            let spread = a.spread(full);
            assert!(spread <= full && spread >= full * 3 / 4, "{spread:?}");
            assert_eq!(spread, b.spread(full));
        }
        assert_eq!(a.spread(Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn due_timers_come_out_earliest_first_and_once() {
        let now = Instant::now();
        let mut table = TimerTable::default();
        table.start(Timer::Hold, now + Duration::from_secs(2));
        table.start(Timer::Keepalive, now + Duration::from_secs(1));
        table.start(Timer::IdleHold, now + Duration::from_secs(9));
        assert_eq!(table.next(), Some(now + Duration::from_secs(1)));
        let later = now + Duration::from_secs(3);
        assert_eq!(table.take_due(later), Some(Timer::Keepalive));
        assert_eq!(table.take_due(later), Some(Timer::Hold));
        assert_eq!(table.take_due(later), None);
    }
}
