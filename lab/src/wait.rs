//! Waiting for a condition, with one deadline.
//!
//! This is the only place in the lab that polls: foreign daemons offer no event to wait on. Everything that
//! does offer one (a process exit, a line on a pipe) is waited for directly.

use std::thread;
use std::time::{Duration, Instant};

/// The shortest rest after a look at the world. Short against what is waited for: daemons start in tens of
/// milliseconds. A look that took longer (a `vtysh` call, or a busy machine) is followed by as long a rest, so that
/// many who wait leave the machine to those they wait for.
const PAUSE: Duration = Duration::from_millis(20);

/// The deadline passed. Says what was waited for and what was seen last.
#[derive(Debug, thiserror::Error)]
#[error("waited {limit:?} for {what}; last seen: {seen}")]
pub struct Overdue {
    pub what: String,
    pub limit: Duration,
    pub seen: String,
}

/// Calls `probe` until it returns `Ok`, at most for `limit`. The `Err` of the last try is reported.
///
/// The probe runs at least once, and once more after the deadline, so that a slow machine that was not
/// scheduled for a while still gets its answer.
pub fn until<T>(
    limit: Duration,
    what: impl Into<String>,
    mut probe: impl FnMut() -> Result<T, String>,
) -> Result<T, Overdue> {
    let deadline = Instant::now() + limit;
    loop {
        let look = Instant::now();
        let late = look >= deadline;
        match probe() {
            Ok(found) => return Ok(found),
            Err(seen) if late => {
                return Err(Overdue {
                    what: what.into(),
                    limit,
                    seen,
                });
            }
            Err(_) => thread::sleep(look.elapsed().max(PAUSE)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deadline_reports_what_was_awaited_and_seen() {
        let overdue = until(Duration::ZERO, "the sea to part", || {
            Err::<(), _>("water".to_owned())
        })
        .unwrap_err();
        assert_eq!(
            overdue.to_string(),
            "waited 0ns for the sea to part; last seen: water"
        );
    }

    #[test]
    fn a_condition_that_already_holds_returns_at_once() {
        assert_eq!(until(Duration::ZERO, "nothing", || Ok(7)).unwrap(), 7);
    }
}
