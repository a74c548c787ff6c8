//! When a change of the configuration counts.
//!
//! A file that is just being written is empty for a moment, or cut, and such a text may well be a configuration: the
//! one of all defaults. So a change counts when two looks in a row see the same. Whoever asks (SIGHUP) is believed
//! at once.

use std::path::Path;

use super::{Config, Given, load};
use crate::problem::{Problem, Severity};

/// What a look brought: the configuration with its warnings, or what is wrong with it.
pub type Look = Result<(Config, Vec<Problem>), Box<Problem>>;

/// Looks at file (or folder), environment and command line.
///
/// # Errors
/// What is wrong, as a problem of the file.
pub fn look(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
    given: &Given,
) -> Look {
    load(file, environment, given).map_err(|error| {
        let text = format!("{error}; the configuration read before stays in force");
        let file = file.unwrap_or(Path::new(""));
        Box::new(Problem::in_file(file, Severity::Error, error.name(), text))
    })
}

/// What was taken last, and what may be taken next.
#[derive(Debug)]
pub struct Follower {
    taken: Look,
    waiting: Option<Look>,
}

impl Follower {
    #[must_use]
    pub fn new(taken: Look) -> Self {
        Self { taken, waiting: None }
    }

    /// A look in passing; gives it back when it counts.
    pub fn see(&mut self, look: Look) -> Option<&Look> {
        if look == self.taken {
            self.waiting = None;
            return None;
        }
        if self.waiting.as_ref() != Some(&look) {
            self.waiting = Some(look);
            return None;
        }
        self.take(look);
        Some(&self.taken)
    }

    /// A look somebody asked for.
    pub fn take(&mut self, look: Look) {
        self.waiting = None;
        self.taken = look;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BgpControlPlane;

    fn config(bgp: BgpControlPlane) -> Look {
        let config = Config {
            bgp,
            ..Config::default()
        };
        Ok((config, Vec::new()))
    }

    fn broken() -> Look {
        Err(Box::new(Problem::here(
            Severity::Error,
            "config-malformed",
            "cut",
        )))
    }

    #[test]
    fn a_change_counts_when_it_is_seen_twice() {
        let (on, off) = (
            config(BgpControlPlane::Enabled),
            config(BgpControlPlane::Disabled),
        );
        let mut follower = Follower::new(off.clone());
        assert_eq!(follower.see(off.clone()), None);
        // Empty for a moment, then as before: nothing happened.
        assert_eq!(follower.see(on.clone()), None);
        assert_eq!(follower.see(off.clone()), None);
        assert_eq!(follower.see(on.clone()), None);
        assert_eq!(follower.see(broken()), None);
        assert_eq!(follower.see(broken()), Some(&broken()));
        assert_eq!(follower.see(broken()), None);
        assert_eq!(follower.see(on.clone()), None);
        assert_eq!(follower.see(on.clone()), Some(&on));
    }

    #[test]
    fn what_was_asked_for_counts_at_once() {
        let (on, off) = (
            config(BgpControlPlane::Enabled),
            config(BgpControlPlane::Disabled),
        );
        let mut follower = Follower::new(on);
        follower.take(off.clone());
        assert_eq!(follower.see(off), None);
    }
}
