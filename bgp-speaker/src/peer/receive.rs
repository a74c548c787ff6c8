//! What comes in: octets to messages, messages to events and routes.

use std::time::Duration;

use bytes::Bytes;

use super::collide::Outcome;
use super::link::Session;
use super::{Cx, Peer, Slot};
use crate::graceful::{STALE_MAX, Swept};
use crate::rib::{LimitReached, LimitVerdict};
use crate::session::agree::{Agreed, Refresh, agree};
use crate::session::event::{Ending, Event};
use crate::session::fsm::{State, sent_because};
use crate::speaker::pace::Tell;
use crate::speaker::{ConnId, DownReason, Event as News, LimitEvent, Output, StateName};
use crate::types::Family;
use crate::wire::route_refresh::{Rules, Subtype};
use crate::wire::{AttrError, Error, Frame, MessageType, Notification, Open, RouteRefresh, update};

/// How often the routes of one peer and family are marked for a refresh (RFC 7313).
const REFRESH_EVERY: Duration = Duration::from_secs(1);

/// How often malformed attributes of one peer are told.
const MALFORMED_EVERY: Duration = Duration::from_secs(60);

impl Peer {
    pub(crate) fn received(&mut self, conn: ConnId, bytes: Bytes, cx: &mut Cx<'_>) {
        let Some(link) = self.link_of(conn) else { return };
        link.framer.push(bytes);
        // Looked up for each message: one of them may end the session, or make it main.
        while let Some(link) = self.link_of(conn) {
            match link.framer.next() {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    self.record.received += 1;
                    self.message(conn, frame, cx);
                }
                Err(error) => {
                    let Some(slot) = self.slot_of(conn) else { return };
                    self.step(slot, Event::BgpHeaderErr(ending(&error)), cx);
                    break;
                }
            }
        }
    }

    fn message(&mut self, conn: ConnId, frame: Frame, cx: &mut Cx<'_>) {
        let Some(slot) = self.slot_of(conn) else { return };
        match frame.kind {
            MessageType::Open => self.open(slot, &frame.body, cx),
            MessageType::Keepalive => self.step(slot, Event::KeepAliveMsg, cx),
            MessageType::Notification => {
                let event = match Notification::decode(&frame.body) {
                    Ok(heard) if (heard.code, heard.subcode) == (2, 1) => {
                        Event::NotifMsgVerErr(Box::new(heard))
                    }
                    Ok(heard) => Event::NotifMsg(Box::new(heard)),
                    Err(error) => Event::BgpHeaderErr(ending(&error)),
                };
                self.step(slot, event, cx);
            }
            MessageType::Update => self.update(slot, &frame.body, cx),
            MessageType::RouteRefresh => self.route_refresh(slot, &frame.body, cx),
        }
    }

    fn open(&mut self, slot: Slot, body: &Bytes, cx: &mut Cx<'_>) {
        let Some(session) = self.session_mut(slot) else {
            return;
        };
        // A second OPEN is an error of its own, whatever it says.
        if let Some(agreed) = session.fsm.state().agreed() {
            let event = Event::BgpOpen(Box::new(agreed.clone()));
            self.step(slot, event, cx);
            return;
        }
        let Some(ours) = session.link_mut().and_then(|link| link.ours.clone()) else {
            return;
        };
        let judged = Open::decode(body)
            .map_err(|error| ending(&error))
            .and_then(|theirs| {
                self.record.remote_capabilities = theirs.capabilities.iter().map(|c| c.to_bytes()).collect();
                let agreed = agree(cx.identity, &self.config, &ours, &theirs)?;
                Ok(agreed)
            });
        let agreed = match judged {
            Ok(agreed) => agreed,
            Err(ending) => {
                self.step(slot, Event::BgpOpenMsgErr(ending), cx);
                return;
            }
        };
        let outcome = self.resolve_collision(slot, &agreed, cx);
        if outcome == Outcome::Lost {
            return;
        }
        if let Some(link) = self.session_mut(slot).and_then(Session::link_mut) {
            link.framer.set_limit(agreed.max_message);
        }
        self.step(slot, Event::BgpOpen(Box::new(agreed)), cx);
        if let Outcome::Wins(event) = outcome {
            self.step(slot.rival(), event, cx);
        }
    }

    fn update(&mut self, slot: Slot, body: &Bytes, cx: &mut Cx<'_>) {
        let context = self
            .session_mut(slot)
            .and_then(Session::link_mut)
            .and_then(|link| link.context.as_ref());
        let Some(context) = context else {
            self.step(slot, Event::UpdateMsg(MessageType::Update), cx);
            return;
        };
        let update = match update::decode(body, context) {
            Ok(update) => update,
            Err(error) => {
                self.step(slot, Event::UpdateMsgErr(ending(&error)), cx);
                return;
            }
        };
        self.step(slot, Event::UpdateMsg(MessageType::Update), cx);
        if !update.errors.is_empty() {
            self.tell_malformed(&update.errors, cx);
        }
        let end_of_rib = update.end_of_rib;
        let received = cx.rib.received(self.id, cx.now, update);
        for limit in received.limits {
            self.limit_reached(slot, limit, cx);
            if self.state() != StateName::Established {
                return;
            }
        }
        if let Some(family) = end_of_rib {
            self.end_of_rib_came(family, cx);
        }
    }

    fn end_of_rib_came(&mut self, family: Family, cx: &mut Cx<'_>) {
        if self
            .agreed()
            .is_none_or(|agreed| !agreed.families.contains(&family))
        {
            return;
        }
        if self.helper.end_of_rib(family) == Swept::Due {
            cx.rib.sweep_stale(self.id, family);
        }
        // Told once in a session: a peer could send nothing else.
        if !self.end_of_rib.insert(family) {
            return;
        }
        cx.out.push(Output::Tell(News::EndOfRib {
            instance: cx.identity.instance.clone(),
            peer: self.name.clone(),
            address: self.address,
            family,
        }));
    }

    pub(super) fn limit_reached(&mut self, slot: Slot, reached: LimitReached, cx: &mut Cx<'_>) {
        let LimitReached {
            family,
            count,
            limit,
            verdict,
        } = reached;
        // A peer could announce and withdraw one prefix at the limit for ever.
        if self.record.limits.may_tell(cx.now) == Tell::Yes {
            cx.out.push(Output::Tell(News::MaxPrefixes {
                instance: cx.identity.instance.clone(),
                peer: self.name.clone(),
                address: self.address,
                family,
                count,
                limit,
                what: match verdict {
                    LimitVerdict::Warn => LimitEvent::Warning,
                    LimitVerdict::Refuse => LimitEvent::Refusing,
                    LimitVerdict::Teardown { .. } => LimitEvent::TornDown,
                },
            }));
        }
        match verdict {
            LimitVerdict::Warn | LimitVerdict::Refuse => {}
            LimitVerdict::Teardown { .. } => {
                let words = Notification::maximum_prefixes(family, limit);
                let why = DownReason::MaxPrefixes { family, count, limit };
                let say = Some(self.hardened(slot, words));
                let stop = Event::AutomaticStop(Box::new(Ending { say, why }));
                // First what could take its place at once.
                self.step(slot.rival(), Event::OpenCollisionDump, cx);
                self.step(slot, stop, cx);
            }
        }
    }

    fn route_refresh(&mut self, slot: Slot, body: &Bytes, cx: &mut Cx<'_>) {
        let established = self.session_mut(slot).and_then(|s| match s.fsm.state() {
            State::Established(agreed) => Some((agreed.refresh, agreed.families.clone())),
            State::Idle | State::Connect | State::Active | State::OpenSent | State::OpenConfirm(_) => None,
        });
        self.step(slot, Event::UpdateMsg(MessageType::RouteRefresh), cx);
        let Some((refresh, families)) = established else {
            return;
        };
        let rules = match refresh {
            Refresh::No | Refresh::Plain => Rules::Plain,
            Refresh::Enhanced => Rules::Enhanced,
        };
        let message = match RouteRefresh::decode(body, rules) {
            Ok(message) => message,
            Err(error) => {
                self.step(slot, Event::UpdateMsgErr(ending(&error)), cx);
                return;
            }
        };
        let family = message.family;
        // RFC 2918 4: ignored where it was not offered.
        if refresh == Refresh::No || !families.contains(&family) {
            return;
        }
        match message.subtype {
            Subtype::Request => cx.rib.refresh(self.id, family),
            Subtype::Begin => self.refresh_begins(family, cx),
            Subtype::End => {
                if self.refreshing.remove(&family).is_some() {
                    cx.rib.sweep_stale(self.id, family);
                }
            }
            // RFC 7313 5: ignored.
            Subtype::Unknown(_) => {}
        }
    }

    /// BoRR. It costs the peer 23 octets, and here a walk over the table: one that follows another too soon marks
    /// nothing. A refresh under way goes on then, and one that is over is followed by a plain one (RFC 2918).
    fn refresh_begins(&mut self, family: Family, cx: &mut Cx<'_>) {
        let soon = self
            .record
            .refresh_began
            .get(&family)
            .is_some_and(|began| cx.now.saturating_duration_since(*began) < REFRESH_EVERY);
        if soon {
            return;
        }
        self.record.refresh_began.insert(family, cx.now);
        cx.rib.mark_stale(self.id, family);
        self.refreshing.insert(family, cx.now + STALE_MAX);
    }

    /// At most once a minute: a peer could send nothing else.
    fn tell_malformed(&mut self, errors: &[AttrError], cx: &mut Cx<'_>) {
        let count = u32::try_from(errors.len()).unwrap_or(u32::MAX);
        let quiet = self
            .record
            .malformed
            .is_some_and(|last| cx.now.saturating_duration_since(last) < MALFORMED_EVERY);
        if quiet {
            self.record.malformed_untold = self.record.malformed_untold.saturating_add(count);
            return;
        }
        let Some(first) = errors.first() else { return };
        let more = self
            .record
            .malformed_untold
            .saturating_add(count)
            .saturating_sub(1);
        let what = match more {
            0 => first.to_string(),
            more => format!("{first}; and {more} more"),
        };
        self.record.malformed = Some(cx.now);
        self.record.malformed_untold = 0;
        cx.out.push(Output::Tell(News::Malformed {
            instance: cx.identity.instance.clone(),
            peer: self.name.clone(),
            address: self.address,
            what: what.into(),
        }));
    }

    fn link_of(&mut self, conn: ConnId) -> Option<&mut super::link::Link> {
        let slot = self.slot_of(conn)?;
        self.session_mut(slot)?.link_mut()
    }

    pub(super) fn agreed_of(&self, slot: Slot) -> Option<&Agreed> {
        match slot {
            Slot::Main => self.main.fsm.state().agreed(),
            Slot::Other => self.other.as_ref()?.fsm.state().agreed(),
        }
    }
}

fn ending(error: &Error) -> Box<Ending> {
    let answer = error.answer();
    let why = sent_because(&answer, &error.to_string());
    Box::new(Ending {
        say: Some(answer),
        why,
    })
}
