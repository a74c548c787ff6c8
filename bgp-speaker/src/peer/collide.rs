//! Two connections with one peer: where an accepted one goes, and which survives (RFC 4271 6.8, RFC 6286).

use super::link::Arrival;
use super::{Cx, Damping, Peer, Slot};
use crate::session::agree::{Agreed, Opener, collision_winner};
use crate::session::event::{Ending, Event};
use crate::session::fsm::State;
use crate::speaker::{Close, DownReason, Refusal, StateName};

/// What an OPEN on one connection means to the sessions of the peer.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Outcome {
    GoesOn,
    /// The event ends its rival, once this session has gone on.
    Wins(Event),
    /// It was ended itself.
    Lost,
}

impl Peer {
    /// Where a connection from the peer goes.
    pub(super) fn place_for_accepted(&mut self, cx: &mut Cx<'_>) -> Result<Slot, Refusal> {
        match self.main.fsm.state() {
            // The peer calls while this side still waits after a failure: the best news about whether it
            // can be reached. Not after an error that would only repeat itself.
            State::Idle => match self.damping {
                Damping::Open => {
                    self.step(Slot::Main, Event::AutomaticStartWithPassiveTcpEstablishment, cx);
                    Ok(Slot::Main)
                }
                Damping::Damped => Err(Refusal::Idle),
            },
            State::Active => Ok(Slot::Main),
            State::Connect | State::OpenSent | State::OpenConfirm(_) => self.place_beside(cx),
            State::Established(agreed) => {
                // RFC 4724 5: the peer may have restarted before this side noticed.
                let graceful = agreed.graceful.theirs.as_ref();
                if graceful.is_some_and(|g| !g.families.is_empty()) {
                    self.place_beside(cx)
                } else {
                    Err(Refusal::Duplicate)
                }
            }
        }
    }

    /// An OPEN that is acceptable came on the session in `slot`.
    pub(super) fn resolve_collision(&mut self, slot: Slot, agreed: &Agreed, cx: &mut Cx<'_>) -> Outcome {
        let Some((opener, arrival)) = self.origin(slot) else {
            return Outcome::Lost;
        };
        let rival_opener = self.origin(slot.rival()).map(|(opener, _)| opener);
        let Some(rival) = self.session_mut(slot.rival()) else {
            return Outcome::GoesOn;
        };
        let wins = match rival.fsm.state() {
            // Who is behind it is not known before its own OPEN.
            State::Idle | State::Connect | State::Active | State::OpenSent => return Outcome::GoesOn,
            State::Established(established) => {
                let graceful = established.graceful.theirs.as_ref();
                if arrival == Arrival::After && graceful.is_some_and(|g| !g.families.is_empty()) {
                    // RFC 4724 4.2: closed without a word, its routes are kept.
                    let why = DownReason::ConnectionClosed(Some("the peer restarted".into()));
                    return Outcome::Wins(Event::TcpConnectionFails(why));
                }
                false
            }
            State::OpenConfirm(_) => {
                let local = (cx.identity.router_id, cx.identity.asn);
                let winner = collision_winner(local, (agreed.remote_id, agreed.remote_asn));
                // Two that the peer opened are no collision: it has given up the older one.
                opener == winner || rival_opener == Some(opener)
            }
        };
        if wins {
            return Outcome::Wins(Event::OpenCollisionDump);
        }
        self.step(slot, Event::OpenCollisionDump, cx);
        Outcome::Lost
    }

    /// The session in `slot` is established: it is main from now on, and a dial beside it ends. A connection that
    /// waits for its OPEN is judged when that comes (RFC 4271 6.8): the peer may have chosen it before it heard
    /// our KEEPALIVE, and to close it now would leave none of the two.
    pub(super) fn stand_beside(&mut self, slot: Slot, cx: &mut Cx<'_>) {
        let rival = slot.rival();
        let Some(session) = self.session_mut(rival) else {
            return;
        };
        if let Some(link) = session.link_mut() {
            link.arrival = Arrival::Before;
        }
        match session.fsm.state().name() {
            StateName::Idle | StateName::OpenSent => {}
            // Nothing to say to a connection that is not there.
            StateName::Connect | StateName::Active => {
                let (say, why) = (None, DownReason::Collision);
                let stop = Event::AutomaticStop(Box::new(Ending { say, why }));
                self.step(rival, stop, cx);
            }
            StateName::OpenConfirm | StateName::Established => self.step(rival, Event::OpenCollisionDump, cx),
        }
        if slot == Slot::Other
            && let Some(other) = &mut self.other
        {
            std::mem::swap(&mut self.main, other);
        }
    }

    /// Who opened the connection, and when it came.
    fn origin(&mut self, slot: Slot) -> Option<(Opener, Arrival)> {
        let link = self.session_mut(slot)?.link()?;
        Some((link.opener(), link.arrival))
    }

    fn place_beside(&mut self, cx: &mut Cx<'_>) -> Result<Slot, Refusal> {
        let Some(other) = &mut self.other else {
            return Ok(Slot::Other);
        };
        match other.fsm.state() {
            // It never said who it is, and its owner has dialled again.
            State::OpenSent => {
                other.close(Close::Abort, cx.out);
                self.other = None;
                Ok(Slot::Other)
            }
            State::Idle | State::Connect | State::Active | State::OpenConfirm(_) | State::Established(_) => {
                Err(Refusal::Duplicate)
            }
        }
    }
}
