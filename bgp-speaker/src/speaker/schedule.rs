//! When each peer wants to be woken, so that neither the next timeout nor who is due takes a walk over all.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::rib::PeerId;

#[derive(Debug, Default)]
pub(crate) struct Schedule {
    by_time: BTreeSet<(Instant, PeerId)>,
    by_peer: BTreeMap<PeerId, Instant>,
}

impl Schedule {
    pub(crate) fn set(&mut self, peer: PeerId, at: Option<Instant>) {
        let before = match at {
            Some(at) => self.by_peer.insert(peer, at),
            None => self.by_peer.remove(&peer),
        };
        if before == at {
            return;
        }
        if let Some(before) = before {
            self.by_time.remove(&(before, peer));
        }
        if let Some(at) = at {
            self.by_time.insert((at, peer));
        }
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Those due at `now`, earliest first.
    pub(crate) fn due(&self, now: Instant) -> Vec<PeerId> {
        self.by_time
            .iter()
            .take_while(|(at, _)| *at <= now)
            .map(|(_, peer)| *peer)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_peer_is_due_once_at_its_last_set_time() {
        let now = Instant::now();
        let at = |s| now + Duration::from_secs(s);
        let mut schedule = Schedule::default();
        schedule.set(PeerId(1), Some(at(5)));
        schedule.set(PeerId(2), Some(at(3)));
        schedule.set(PeerId(1), Some(at(1)));
        assert_eq!(schedule.next(), Some(at(1)));
        assert_eq!(schedule.due(at(4)), [PeerId(1), PeerId(2)]);
        schedule.set(PeerId(1), None);
        assert_eq!(schedule.due(at(9)), [PeerId(2)]);
    }
}
