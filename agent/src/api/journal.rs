//! The flight recorder: the last things that happened, in memory.

use std::collections::VecDeque;
use std::sync::Mutex;

use bgp_speaker::speaker::{Event, LimitEvent};

use super::reason;
use super::view::Entry;
use crate::api::bgp;

const KEPT: usize = 1000;

/// The last [`KEPT`] entries. Shared by the loop, which writes, and the API, which reads.
#[derive(Debug, Default)]
pub struct Journal(Mutex<Pages>);

#[derive(Debug, Default)]
struct Pages {
    next: u64,
    entries: VecDeque<Entry>,
}

/// What to write down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    pub kind: &'static str,
    pub instance: Option<String>,
    pub peer: Option<String>,
    pub message: String,
}

impl Note {
    /// About the node as a whole.
    #[must_use]
    pub fn here(kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            kind,
            instance: None,
            peer: None,
            message: message.into(),
        }
    }

    /// What the speaker tells; `None` for what is no news to people.
    #[must_use]
    pub fn of(event: &Event) -> Option<Self> {
        let (kind, instance, peer, message) = match event {
            Event::State {
                instance,
                peer,
                address,
                from,
                to,
                why,
            } => {
                let why = why
                    .as_ref()
                    .map_or_else(String::new, |why| format!(": {why} [{}]", reason::name(why)));
                let message = format!("{address}: {} -> {}{why}", bgp::state(*from), bgp::state(*to));
                ("session", instance, Some(peer), message)
            }
            Event::EndOfRib {
                instance,
                peer,
                address,
                family,
            } => (
                "end-of-rib",
                instance,
                Some(peer),
                format!("{address}: all routes of {family} are in"),
            ),
            Event::MaxPrefixes {
                instance,
                peer,
                address,
                family,
                count,
                limit,
                what,
            } => {
                let what = match what {
                    LimitEvent::Warning => "near the limit",
                    LimitEvent::Refusing => "the rest is refused",
                    LimitEvent::TornDown => "the session is closed",
                };
                let message = format!("{address}: {count} prefixes of {family}, limit {limit}: {what}");
                ("max-prefixes", instance, Some(peer), message)
            }
            Event::Malformed {
                instance,
                peer,
                address,
                what,
            } => ("malformed", instance, Some(peer), format!("{address}: {what}")),
            Event::Refused {
                instance,
                remote,
                why,
            } => ("connection-refused", instance, None, format!("{remote}: {why}")),
            Event::ListenFailed {
                instance,
                port,
                error,
            } => ("can-not-listen", instance, None, format!("port {port}: {error}")),
            Event::Changed { .. } => return None,
        };
        Some(Self {
            kind,
            instance: Some(instance.to_string()),
            peer: peer.map(ToString::to_string),
            message,
        })
    }
}

impl Journal {
    /// `at`: seconds since 1970.
    pub fn write(&self, at: u64, note: Note) {
        let mut pages = self.pages();
        let number = pages.next;
        pages.next += 1;
        if pages.entries.len() == KEPT {
            pages.entries.pop_front();
        }
        pages.entries.push_back(Entry {
            number,
            at,
            kind: note.kind.to_owned(),
            instance: note.instance,
            peer: note.peer,
            message: note.message,
        });
    }

    /// Oldest first.
    #[must_use]
    pub fn read(&self) -> Vec<Entry> {
        self.pages().entries.iter().cloned().collect()
    }

    /// A writer that panicked left whole entries behind.
    fn pages(&self) -> std::sync::MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_entries_make_room() {
        let journal = Journal::default();
        for n in 0..KEPT + 5 {
            journal.write(7, Note::here("test", n.to_string()));
        }
        let entries = journal.read();
        assert_eq!(entries.len(), KEPT);
        assert_eq!((entries[0].number, entries[0].message.as_str()), (5, "5"));
    }
}
