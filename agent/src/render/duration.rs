//! Durations as Go's `Duration.String()` prints them, rounded to whole seconds: `0s`, `33m26s`, `26h0m5s`.

use std::time::Duration;

/// Half a second rounds up, as in Go's `Duration.Round`.
#[must_use]
pub fn go(duration: Duration) -> String {
    let seconds = duration
        .as_secs()
        .saturating_add(u64::from(duration.subsec_nanos() >= 500_000_000));
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, _) => format!("{minutes}m{rest}s"),
        (_, _) => format!("{hours}h{minutes}m{rest}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_appear_from_the_largest_that_is_not_zero() {
        for (seconds, text) in [
            (0, "0s"),
            (47, "47s"),
            (60, "1m0s"),
            (2006, "33m26s"),
            (3600, "1h0m0s"),
            (3723, "1h2m3s"),
            (93_605, "26h0m5s"),
        ] {
            assert_eq!(go(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn half_a_second_rounds_up() {
        assert_eq!(go(Duration::from_millis(499)), "0s");
        assert_eq!(go(Duration::from_millis(500)), "1s");
        assert_eq!(go(Duration::from_millis(59_500)), "1m0s");
    }
}
