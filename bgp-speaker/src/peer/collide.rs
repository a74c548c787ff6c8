//! Two connections with one peer: where an accepted one goes, and which survives (RFC 4271 6.8, RFC 6286).

use super::{Cx, Damping, Peer, Slot};
use crate::session::agree::{Agreed, Opener, collision_winner};
use crate::session::event::{Ending, Event};
use crate::session::fsm::State;
use crate::speaker::{Close, ConnId, DownReason, Refusal, StateName};

/// What an OPEN on one connection means to the sessions of the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    GoesOn,
    /// Its own connection lost.
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

    /// An OPEN that is acceptable came on `conn`. Ends whichever session must give way to the other.
    pub(super) fn resolve_collision(&mut self, conn: ConnId, agreed: &Agreed, cx: &mut Cx<'_>) -> Outcome {
        let Some(slot) = self.slot_of(conn) else {
            return Outcome::Lost;
        };
        let rival = match slot {
            Slot::Main => Slot::Other,
            Slot::Other => Slot::Main,
        };
        let Some(session) = self.session_mut(rival) else {
            return Outcome::GoesOn;
        };
        let rival_opener = session.link().map(super::link::Link::opener);
        match session.fsm.state() {
            // Who is behind it is not known before its own OPEN.
            State::Idle | State::Connect | State::Active | State::OpenSent => Outcome::GoesOn,
            State::Established(established) => {
                let graceful = established.graceful.theirs.as_ref();
                if graceful.is_some_and(|g| !g.families.is_empty()) {
                    // RFC 4724 4.2: closed without a word, its routes are kept.
                    let why = DownReason::ConnectionClosed(Some("the peer restarted".into()));
                    self.step(rival, Event::TcpConnectionFails(why), cx);
                    Outcome::GoesOn
                } else {
                    self.step(slot, Event::OpenCollisionDump, cx);
                    Outcome::Lost
                }
            }
            State::OpenConfirm(_) => {
                let opener = match conn {
                    ConnId::Dialled(_) => Opener::Here,
                    ConnId::Accepted(_) => Opener::Peer,
                };
                let local = (cx.identity.router_id, cx.identity.asn);
                let winner = collision_winner(local, (agreed.remote_id, agreed.remote_asn));
                // Two that the peer opened are no collision: it has given up the older one.
                if opener == winner || rival_opener == Some(opener) {
                    self.step(rival, Event::OpenCollisionDump, cx);
                    Outcome::GoesOn
                } else {
                    self.step(slot, Event::OpenCollisionDump, cx);
                    Outcome::Lost
                }
            }
        }
    }

    /// The session of `winner` is established: the other one ends, whatever it was waiting for.
    pub(super) fn dump_loser(&mut self, winner: Slot, cx: &mut Cx<'_>) {
        let loser = match winner {
            Slot::Main => Slot::Other,
            Slot::Other => Slot::Main,
        };
        let Some(session) = self.session_mut(loser) else {
            return;
        };
        let event = match session.fsm.state().name() {
            StateName::Idle => return,
            // Nothing to say to a connection that is not there.
            StateName::Connect | StateName::Active => Event::AutomaticStop(Box::new(Ending {
                say: None,
                why: DownReason::Collision,
            })),
            StateName::OpenSent | StateName::OpenConfirm | StateName::Established => Event::OpenCollisionDump,
        };
        self.step(loser, event, cx);
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
