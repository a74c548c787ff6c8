//! How this side ends sessions: what it says, and whether the peer keeps the routes.

use std::sync::Arc;

use super::{Cx, Peer, Slot};
use crate::session::event::{Ending, Event};
use crate::session::fsm::State;
use crate::session::timers::Timer;
use crate::speaker::DownReason;
use crate::types::Name;
use crate::wire::capability::NotificationSupport;
use crate::wire::{Cease, Notification};

/// What a Cease means to a peer that does graceful restart after NOTIFICATIONs (RFC 8538 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strength {
    /// The session comes back: the peer may keep the routes.
    Soft,
    /// It does not, or not soon.
    Hard,
}

impl Peer {
    /// Ends every session of the peer with a Cease.
    pub(crate) fn cease(
        &mut self,
        cease: Cease,
        text: &str,
        strength: Strength,
        why: &DownReason,
        cx: &mut Cx<'_>,
    ) {
        for slot in [Slot::Other, Slot::Main] {
            let words = Notification::cease_with_text(cease, text);
            let words = match strength {
                Strength::Soft => words,
                Strength::Hard => self.hardened(slot, words),
            };
            let ending = Ending {
                say: Some(words),
                why: why.clone(),
            };
            self.step(slot, Event::ManualStop(Box::new(ending)), cx);
        }
    }

    /// Keeps the peer in Idle from now on, for `why`.
    pub(crate) fn hold_down(&mut self, why: DownReason, cx: &Cx<'_>) {
        let why = Arc::new(why);
        self.record.last_down = Some((cx.now, Arc::clone(&why)));
        self.held = Some(why);
        self.main.fsm.timers_mut().stop(Timer::IdleHold);
    }

    /// A person's reset: the session ends and comes back at once. With the N bit the routes survive it.
    pub(crate) fn reset(&mut self, text: &Arc<str>, cx: &mut Cx<'_>) {
        if let Some(why) = &self.held
            && matches!(**why, DownReason::MaxPrefixes { .. })
        {
            self.held = None;
        }
        let why = DownReason::OperatorReset(Arc::clone(text));
        self.cease(Cease::AdministrativeReset, text, Strength::Soft, &why, cx);
        self.backoff.reset();
        self.restart(self.config.timers.idle_hold, cx);
    }

    /// The peer is no longer configured.
    pub(crate) fn deconfigure(&mut self, cx: &mut Cx<'_>) {
        self.held = Some(Arc::new(DownReason::Deconfigured));
        let why = DownReason::Deconfigured;
        self.cease(Cease::PeerDeconfigured, "", Strength::Hard, &why, cx);
    }

    /// The process ends for good.
    pub(crate) fn stop(&mut self, cx: &mut Cx<'_>) {
        self.hold_down(DownReason::Stopping, cx);
        let why = DownReason::Stopping;
        self.cease(Cease::PeerDeconfigured, "", Strength::Hard, &why, cx);
    }

    /// The process ends and comes back: a peer that keeps the routes hears nothing (RFC 4724 4.1), any
    /// other a Cease.
    pub(crate) fn stop_for_restart(&mut self, cx: &mut Cx<'_>) {
        self.hold_down(DownReason::Stopping, cx);
        for slot in [Slot::Other, Slot::Main] {
            let keeps = self
                .agreed_of(slot)
                .is_some_and(|agreed| !agreed.graceful.ours.is_empty());
            let say =
                (!keeps).then(|| Notification::cease_with_text(Cease::AdministrativeReset, "restarting"));
            let why = DownReason::Stopping;
            self.step(slot, Event::ManualStop(Box::new(Ending { say, why })), cx);
        }
    }

    /// The link to the peer went down: what waits for the hold timer would only lose packets. Nothing is
    /// said, nobody would hear it.
    pub(crate) fn link_down(&mut self, interface: &Name, cx: &mut Cx<'_>) {
        for slot in [Slot::Other, Slot::Main] {
            let why = DownReason::LinkDown(interface.clone());
            if let Some(session) = self.session_mut(slot)
                && *session.fsm.state() != State::Idle
            {
                self.step(slot, Event::TcpConnectionFails(why), cx);
            }
        }
    }

    /// Shortens or sets the stay in Idle, if main is there and may leave it.
    pub(super) fn restart(&mut self, delay: std::time::Duration, cx: &mut Cx<'_>) {
        self.idle = delay;
        if self.held.is_none() && *self.main.fsm.state() == State::Idle {
            let at = cx.now + cx.jitter.spread(delay);
            self.main.fsm.timers_mut().start(Timer::IdleHold, at);
        }
    }

    /// Wrapped into a Hard Reset where the peer would keep the routes otherwise.
    pub(super) fn hardened(&self, slot: Slot, words: Notification) -> Notification {
        let notified = self.agreed_of(slot).map(|agreed| agreed.graceful.notification);
        match notified {
            Some(NotificationSupport::Yes) => Notification::hard_reset(&words),
            Some(NotificationSupport::No) | None => words,
        }
    }
}
