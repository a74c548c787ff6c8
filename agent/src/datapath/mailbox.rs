//! Between the loop and the thread of the datapath: what changed since the thread last looked. Of several changes of one
//! object only the last is kept, so it holds no more than there are objects, and neither side ever waits for the other.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ebpf_datapath::incremental::Change;

use super::Wish;
use super::objects::Subject;

#[derive(Debug, Default)]
pub struct Mailbox {
    inside: Mutex<Inside>,
    /// Something came in.
    rung: Condvar,
}

#[derive(Debug, Default)]
struct Inside {
    letter: Letter,
    state: State,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    Closed,
}

/// What changed.
#[derive(Debug, Default)]
pub struct Letter {
    pub changes: BTreeMap<Subject, Change>,
    /// Another one than last time.
    pub wish: Option<Wish>,
    /// The number of the last one that was put in.
    pub number: u64,
}

/// What waiting came to.
#[derive(Debug)]
pub enum Heard {
    Letter(Box<Letter>),
    /// Nothing in that time.
    Quiet,
    /// Nobody will write any more.
    Closed,
}

impl Mailbox {
    /// Puts changes in; returns the number to wait for in [`super::report::Report::number`].
    pub fn put(&self, changes: impl IntoIterator<Item = (Subject, Change)>, wish: Option<Wish>) -> u64 {
        let mut inside = self.inside();
        inside.letter.changes.extend(changes);
        if wish.is_some() {
            inside.letter.wish = wish;
        }
        inside.letter.number += 1;
        self.rung.notify_one();
        inside.letter.number
    }

    /// The reader is to end.
    pub fn close(&self) {
        self.inside().state = State::Closed;
        self.rung.notify_one();
    }

    /// Waits for a letter, not longer than `patience`.
    pub fn take(&self, patience: Option<Duration>) -> Heard {
        let nothing = |inside: &mut Inside| inside.state == State::Open && inside.letter.is_empty();
        let mut inside = match patience {
            None => self
                .rung
                .wait_while(self.inside(), nothing)
                .unwrap_or_else(PoisonError::into_inner),
            Some(patience) => {
                let waited = self.rung.wait_timeout_while(self.inside(), patience, nothing);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        if inside.state == State::Closed {
            return Heard::Closed;
        }
        if inside.letter.is_empty() {
            return Heard::Quiet;
        }
        let number = inside.letter.number;
        let letter = std::mem::take(&mut inside.letter);
        inside.letter.number = number;
        Heard::Letter(Box::new(letter))
    }

    /// A thread that panicked left a whole letter behind.
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Letter {
    fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.wish.is_none()
    }
}

#[cfg(test)]
mod tests {
    use ebpf_datapath::ServiceName;

    use super::*;

    fn gone(name: &str) -> (Subject, Change) {
        let name = ServiceName {
            namespace: "a".into(),
            name: name.into(),
        };
        (Subject::Granted(name.clone()), Change::ServiceGone(name))
    }

    #[test]
    fn of_several_changes_of_one_object_the_last_is_kept() {
        let mailbox = Mailbox::default();
        mailbox.put([gone("x"), gone("y")], None);
        assert_eq!(mailbox.put([gone("x")], None), 2);
        match mailbox.take(None) {
            Heard::Letter(letter) => assert_eq!((letter.changes.len(), letter.number), (2, 2)),
            other => panic!("{other:?}"),
        }
        assert!(matches!(mailbox.take(Some(Duration::ZERO)), Heard::Quiet));
        assert_eq!(mailbox.put([gone("x")], None), 3);
        mailbox.close();
        assert!(matches!(mailbox.take(None), Heard::Closed));
    }
}
