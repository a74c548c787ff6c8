//! The three durations of an election, and what must hold between them.

use std::time::Duration;

/// Checked when made: see [`TimingError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    lease: Duration,
    renew: Duration,
    retry: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimingError {
    #[error("a lease of {0:?} is shorter than the second that a Lease can say")]
    LeaseTooShort(Duration),
    #[error(
        "the renew deadline of {renew:?} leaves nothing of the lease of {lease:?}: the holder must stop before others may start"
    )]
    NoMargin { lease: Duration, renew: Duration },
    #[error("a retry period of {retry:?} leaves no time to try twice before the renew deadline of {renew:?}")]
    RetryTooLong { renew: Duration, retry: Duration },
    #[error("a retry period of nothing would never let the API server rest")]
    NoRetry,
}

impl Timing {
    /// - `lease`: how long nobody else takes a record that does not change.
    /// - `renew`: how long its holder acts after the last renewal that was confirmed.
    /// - `retry`: how often the holder renews. Candidates look as often, and up to 2.2 times less.
    ///
    /// # Errors
    /// [`TimingError`]
    pub fn new(lease: Duration, renew: Duration, retry: Duration) -> Result<Self, TimingError> {
        if lease < Duration::from_secs(1) {
            return Err(TimingError::LeaseTooShort(lease));
        }
        if retry.is_zero() {
            return Err(TimingError::NoRetry);
        }
        if renew >= lease {
            return Err(TimingError::NoMargin { lease, renew });
        }
        // As clients of Kubernetes ask: 1.2 times.
        if renew <= retry.saturating_mul(6) / 5 {
            return Err(TimingError::RetryTooLong { renew, retry });
        }
        Ok(Self { lease, renew, retry })
    }

    #[must_use]
    pub fn lease(&self) -> Duration {
        self.lease
    }

    #[must_use]
    pub fn renew(&self) -> Duration {
        self.renew
    }

    #[must_use]
    pub fn retry(&self) -> Duration {
        self.retry
    }

    /// How long one request may take. What has no answer by then has failed, and another one fits before the holder
    /// must stop.
    #[must_use]
    pub fn limit(&self) -> Duration {
        self.renew / 2
    }
}

impl Default for Timing {
    /// What Kubernetes' own controllers use: 15 s, 10 s and 2 s.
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(15),
            renew: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_usual_timing_is_a_good_one() {
        let usual = Timing::default();
        assert_eq!(Timing::new(usual.lease, usual.renew, usual.retry), Ok(usual));
    }

    #[test]
    fn every_bad_timing_has_a_name() {
        let short = SECOND / 2;
        assert_eq!(
            Timing::new(short, short / 2, short / 8),
            Err(TimingError::LeaseTooShort(short))
        );
        assert_eq!(
            Timing::new(SECOND, SECOND / 2, Duration::ZERO),
            Err(TimingError::NoRetry)
        );
        assert_eq!(
            Timing::new(SECOND, SECOND, SECOND / 4),
            Err(TimingError::NoMargin {
                lease: SECOND,
                renew: SECOND
            })
        );
        assert_eq!(
            Timing::new(SECOND * 10, SECOND * 6, SECOND * 5),
            Err(TimingError::RetryTooLong {
                renew: SECOND * 6,
                retry: SECOND * 5
            })
        );
    }
}
