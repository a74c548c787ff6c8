//! What leaves: messages of the session, and routes as far as the connection has credit.

use bytes::Bytes;

use super::link::Session;
use super::{Cx, Peer, Slot};
use crate::session::fsm::{State, send_hold};
use crate::session::timers::Timer;
use crate::speaker::ConnId;

impl Peer {
    pub(super) fn send(&mut self, slot: Slot, bytes: Bytes, cx: &mut Cx<'_>) {
        let Some(session) = self.session_mut(slot) else {
            return;
        };
        let Some(link) = session.link_mut() else { return };
        link.send(bytes, cx.out);
        watch_window(session, cx);
        self.record.sent += 1;
    }

    /// The kernel took octets: there is credit again.
    pub(crate) fn sent(&mut self, conn: ConnId, bytes: usize, cx: &mut Cx<'_>) {
        let Some(slot) = self.slot_of(conn) else { return };
        let Some(session) = self.session_mut(slot) else {
            return;
        };
        let Some(link) = session.link_mut() else { return };
        link.in_flight = link.in_flight.saturating_sub(bytes);
        // RFC 9687: whatever the peer takes proves that it lives.
        session.fsm.timers_mut().stop(Timer::SendHold);
        if bytes > 0 {
            watch_window(session, cx);
        }
    }

    /// Gives the established session what its Adj-RIB-Out has for it, and returns how many octets that was.
    pub(crate) fn pump(&mut self, cx: &mut Cx<'_>) -> usize {
        let State::Established(_) = self.main.fsm.state() else {
            return 0;
        };
        let mut total = 0;
        let mut buffers = Vec::new();
        while let Some(link) = self.main.link_mut() {
            let credit = link.credit();
            if credit == 0 || !cx.rib.has_pending(self.id) {
                break;
            }
            let pulled = cx.rib.pull(self.id, credit, &mut buffers);
            for bytes in buffers.drain(..) {
                link.send(bytes, cx.out);
            }
            self.record.sent += pulled.messages;
            total += pulled.bytes;
            if pulled.bytes == 0 {
                break;
            }
        }
        watch_window(&mut self.main, cx);
        total
    }
}

/// Starts the send hold timer where octets wait and it is not running (RFC 9687 3.1).
fn watch_window(session: &mut Session, cx: &Cx<'_>) {
    let State::Established(agreed) = session.fsm.state() else {
        return;
    };
    // A hold time of 0 switches it off as well.
    let hold = (agreed.hold.seconds() > 0).then(|| send_hold(agreed));
    let waiting = session.link().is_some_and(|link| link.in_flight > 0);
    let timers = session.fsm.timers_mut();
    if let Some(hold) = hold
        && waiting
        && timers.get(Timer::SendHold).is_none()
    {
        timers.start(Timer::SendHold, cx.now + hold);
    }
}
