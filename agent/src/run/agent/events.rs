//! What the speaker tells, for log, journal and status.

use std::time::Instant;

use bgp_speaker::speaker::{Event, StateName};

use super::{Agent, REFUSED_PAUSE};
use crate::api::journal::Note;

impl Agent {
    pub(super) fn told(&mut self, event: &Event) {
        match event {
            Event::State {
                instance,
                peer,
                address,
                from,
                to,
                why,
            } => {
                let reason = why.as_ref().map(|why| why.to_string());
                let reason = reason.as_deref();
                let established = StateName::Established;
                if *to == established {
                    tracing::info!(%instance, %peer, %address, "session established");
                } else if *from == established {
                    tracing::warn!(%instance, %peer, %address, reason, "session lost");
                } else {
                    tracing::debug!(%instance, %peer, %address, ?from, ?to, reason, "session changed state");
                }
            }
            Event::ListenFailed {
                instance,
                port,
                error,
            } => {
                tracing::warn!(%instance, port, %error, "can not listen; is another BGP daemon running? It is tried again");
                self.listen_errors
                    .insert(instance.clone(), format!("port {port}: {error}"));
                self.publish();
            }
            Event::MaxPrefixes {
                peer,
                address,
                family,
                count,
                limit,
                ..
            } => {
                tracing::warn!(%peer, %address, %family, count, limit, "too many prefixes");
            }
            Event::Malformed {
                peer, address, what, ..
            } => {
                tracing::warn!(%peer, %address, %what, "malformed attribute");
            }
            Event::Refused {
                instance,
                remote,
                why,
            } => {
                // Anybody can dial; nobody may fill the log with it, or push the rest out of the journal.
                let now = Instant::now();
                let due = self
                    .refused_logged
                    .is_none_or(|at| now.duration_since(at) >= REFUSED_PAUSE);
                if !due {
                    self.refused_dropped += 1;
                    return;
                }
                self.refused_logged = Some(now);
                let unlogged = std::mem::take(&mut self.refused_dropped);
                tracing::info!(%instance, %remote, reason = %why, unlogged, "connection refused");
            }
            Event::EndOfRib {
                peer,
                address,
                family,
                ..
            } => {
                tracing::debug!(%peer, %address, %family, "end of RIB");
            }
            Event::Changed { .. } => {}
        }
        if let Some(note) = Note::of(event) {
            self.note(note);
        }
        self.generation.send_modify(|generation| *generation += 1);
    }
}
