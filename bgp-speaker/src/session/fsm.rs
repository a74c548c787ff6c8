//! The finite state machine of one connection: RFC 4271 8, with the session attributes DelayOpen and
//! TrackTcpState off, as most speakers have them.
//!
//! ```text
//!            start (1,3-7), idle hold over (13)          dial acked (16) / accepted (17)
//!   Idle ------------------------------------> Connect ------------------------------.
//!    ^   \                                        ^  | retry (9): dial again         |
//!    |    `--- passive start (4,5,7) --> Active --'  |                               v
//!    |                                    ^   \______|__ accepted (17) ---------> OpenSent
//!    |                                    |          v                               |
//!    |                                    `-- connection fails (18) -----------------|
//!    |                                                                               | OPEN (19)
//!    |   any error, stop, hold timer ...                                             v
//!    `------------------------------------- Established <-- KEEPALIVE (26) -- OpenConfirm
//! ```
//!
//! Where the standard's table contradicts its own text, the text wins; such rows say so.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::config::Timers as Wished;
use crate::session::agree::Agreed;
use crate::session::event::Event;
use crate::session::timers::{Jitter, OPEN_HOLD, SEND_HOLD, Timer, TimerTable};
use crate::speaker::{Close, DownReason, StateName};
use crate::wire::MessageType;
use crate::wire::notification::{Cease, Notification, UnexpectedIn};

/// A state owns the data that is valid in it.
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    Idle,
    Connect,
    Active,
    OpenSent,
    OpenConfirm(Box<Agreed>),
    Established(Box<Agreed>),
}

impl State {
    #[must_use]
    pub fn name(&self) -> StateName {
        match self {
            Self::Idle => StateName::Idle,
            Self::Connect => StateName::Connect,
            Self::Active => StateName::Active,
            Self::OpenSent => StateName::OpenSent,
            Self::OpenConfirm(_) => StateName::OpenConfirm,
            Self::Established(_) => StateName::Established,
        }
    }

    /// What both OPENs agreed on, once the peer's was heard.
    #[must_use]
    pub fn agreed(&self) -> Option<&Agreed> {
        match self {
            Self::Idle | Self::Connect | Self::Active | Self::OpenSent => None,
            Self::OpenConfirm(agreed) | Self::Established(agreed) => Some(agreed),
        }
    }
}

/// What the owner of the session has to do, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    Dial,
    SendOpen,
    SendKeepalive,
    Notify(Notification),
    /// Close the connection, if there is one: after what was sent, or at once.
    Drop(Close),
    CameUp,
    /// The attempt ended before it was a session.
    Failed(DownReason),
    /// The established session ended; with what it had agreed on.
    WentDown(DownReason, Box<Agreed>),
}

/// What a step reads beside its event.
#[derive(Debug)]
pub struct Context<'a> {
    pub now: Instant,
    pub wished: &'a Wished,
    pub jitter: &'a mut Jitter,
    /// ConnectRetryTimer after a connection that broke in OpenSent: shorter than the configured one while
    /// the peer has only just begun to fail.
    pub retry: Duration,
    pub initiative: Initiative,
}

/// Whether this session may dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Initiative {
    Dials,
    Waits,
}

/// One connection's machine.
#[derive(Debug, Clone)]
pub struct Fsm {
    state: State,
    timers: TimerTable,
}

impl Default for Fsm {
    fn default() -> Self {
        Self {
            state: State::Idle,
            timers: TimerTable::default(),
        }
    }
}

impl Fsm {
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    #[must_use]
    pub fn timers(&self) -> &TimerTable {
        &self.timers
    }

    /// For the timers its owner keeps in the table: IdleHold and SendHold.
    pub fn timers_mut(&mut self) -> &mut TimerTable {
        &mut self.timers
    }

    /// One event; the actions are appended to `out`.
    pub fn step(&mut self, cx: &mut Context<'_>, event: Event, out: &mut Vec<Action>) {
        use Event as E;
        use State as S;

        let state = std::mem::replace(&mut self.state, S::Idle);
        self.state = match (state, event) {
            // Idle: nothing but a start is heard (RFC 4271 8.2.2). The end of the idle hold is our
            // automatic start.
            (S::Idle, E::ManualStart | E::AutomaticStart | E::AutomaticStartWithDampPeerOscillations) => {
                self.begin(cx, Initiative::Dials, out)
            }
            (
                S::Idle,
                E::ManualStartWithPassiveTcpEstablishment
                | E::AutomaticStartWithPassiveTcpEstablishment
                | E::AutomaticStartWithDampPeerOscillationsAndPassiveTcpEstablishment,
            ) => self.begin(cx, Initiative::Waits, out),
            (S::Idle, E::IdleHoldTimerExpires) => {
                let initiative = cx.initiative;
                self.begin(cx, initiative, out)
            }
            (S::Idle, E::ManualStop(_) | E::AutomaticStop(_)) => {
                self.timers.stop_all();
                S::Idle
            }
            (
                S::Idle,
                E::ConnectRetryTimerExpires
                | E::HoldTimerExpires
                | E::KeepaliveTimerExpires
                | E::DelayOpenTimerExpires
                | E::TcpConnectionValid
                | E::TcpCrInvalid
                | E::TcpCrAcked
                | E::TcpConnectionConfirmed
                | E::TcpConnectionFails(_)
                | E::BgpOpen(_)
                | E::BgpOpenWithDelayOpenTimerRunning
                | E::BgpHeaderErr(_)
                | E::BgpOpenMsgErr(_)
                | E::OpenCollisionDump
                | E::NotifMsgVerErr(_)
                | E::NotifMsg(_)
                | E::KeepAliveMsg
                | E::UpdateMsg(_)
                | E::UpdateMsgErr(_)
                | E::SendHoldTimerExpires,
            ) => S::Idle,

            // A start changes nothing in a session that is started.
            (
                state @ (S::Connect | S::Active | S::OpenSent | S::OpenConfirm(_) | S::Established(_)),
                E::ManualStart
                | E::AutomaticStart
                | E::ManualStartWithPassiveTcpEstablishment
                | E::AutomaticStartWithPassiveTcpEstablishment
                | E::AutomaticStartWithDampPeerOscillations
                | E::AutomaticStartWithDampPeerOscillationsAndPassiveTcpEstablishment,
            ) => state,
            // The shell hears of connections only when they are complete; an invalid one never comes here.
            (
                state @ (S::Connect | S::Active | S::OpenSent | S::OpenConfirm(_) | S::Established(_)),
                E::TcpConnectionValid | E::TcpCrInvalid,
            ) => state,

            // Connect and Active: no connection yet.
            (S::Connect | S::Active, E::ManualStop(ending) | E::AutomaticStop(ending)) => {
                out.push(Action::Drop(Close::Abort));
                self.fail(ending.why, out)
            }
            (S::Connect, E::ConnectRetryTimerExpires) => {
                out.push(Action::Drop(Close::Abort));
                self.dial(cx, out)
            }
            (S::Active, E::ConnectRetryTimerExpires) => match cx.initiative {
                Initiative::Dials => self.dial(cx, out),
                Initiative::Waits => S::Active,
            },
            (S::Connect | S::Active, E::TcpCrAcked | E::TcpConnectionConfirmed) => {
                self.timers.stop(Timer::ConnectRetry);
                out.push(Action::SendOpen);
                self.timers.start(Timer::Hold, cx.now + OPEN_HOLD);
                S::OpenSent
            }
            (S::Connect | S::Active, E::TcpConnectionFails(why)) => {
                out.push(Action::Drop(Close::Abort));
                self.fail(why, out)
            }
            (
                S::Connect | S::Active,
                E::BgpHeaderErr(ending) | E::BgpOpenMsgErr(ending) | E::UpdateMsgErr(ending),
            ) => {
                out.push(Action::Drop(Close::Abort));
                self.fail(ending.why, out)
            }
            (S::Connect | S::Active, E::NotifMsgVerErr(heard) | E::NotifMsg(heard)) => {
                out.push(Action::Drop(Close::Abort));
                self.fail(received(&heard), out)
            }
            (
                S::Connect | S::Active,
                event @ (E::HoldTimerExpires
                | E::KeepaliveTimerExpires
                | E::DelayOpenTimerExpires
                | E::IdleHoldTimerExpires
                | E::BgpOpen(_)
                | E::BgpOpenWithDelayOpenTimerRunning
                | E::OpenCollisionDump
                | E::KeepAliveMsg
                | E::UpdateMsg(_)
                | E::SendHoldTimerExpires),
            ) => {
                out.push(Action::Drop(Close::Abort));
                self.fail(sent(&unexpected(UnexpectedIn::Other, &event)), out)
            }

            // OpenSent and OpenConfirm: a connection, not yet a session.
            (S::OpenSent | S::OpenConfirm(_), E::ManualStop(ending) | E::AutomaticStop(ending)) => {
                say(ending.say, out);
                self.fail(ending.why, out)
            }
            (S::OpenSent, E::HoldTimerExpires) => {
                say(Some(Notification::hold_timer_expired()), out);
                self.fail(DownReason::HoldTimerExpired(seconds(OPEN_HOLD)), out)
            }
            (S::OpenConfirm(agreed), E::HoldTimerExpires) => {
                say(Some(Notification::hold_timer_expired()), out);
                self.fail(DownReason::HoldTimerExpired(agreed.hold.seconds()), out)
            }
            // A second connection is the peer's matter: it has a machine of its own (RFC 4271 6.8).
            (
                state @ (S::OpenSent | S::OpenConfirm(_) | S::Established(_)),
                E::TcpCrAcked | E::TcpConnectionConfirmed,
            ) => state,
            (S::OpenSent, E::TcpConnectionFails(why)) => {
                out.push(Action::Drop(Close::Abort));
                out.push(Action::Failed(why));
                self.timers.stop_all();
                if cx.initiative == Initiative::Dials {
                    let retry = cx.jitter.spread(cx.retry.min(cx.wished.connect_retry));
                    self.timers.start(Timer::ConnectRetry, cx.now + retry);
                }
                S::Active
            }
            (S::OpenConfirm(_), E::TcpConnectionFails(why)) => {
                out.push(Action::Drop(Close::Abort));
                self.fail(why, out)
            }
            (S::OpenSent, E::BgpOpen(agreed)) => {
                out.push(Action::SendKeepalive);
                self.timers.stop_all();
                self.heard(cx, &agreed);
                self.keep_alive(cx, &agreed);
                S::OpenConfirm(agreed)
            }
            (S::OpenSent | S::OpenConfirm(_), E::BgpHeaderErr(ending) | E::BgpOpenMsgErr(ending)) => {
                say(ending.say, out);
                self.fail(ending.why, out)
            }
            (S::OpenSent | S::OpenConfirm(_), E::OpenCollisionDump) => {
                say(
                    Some(Notification::cease(Cease::ConnectionCollisionResolution)),
                    out,
                );
                self.fail(DownReason::Collision, out)
            }
            // RFC 4271 8.2.2 has OpenSent answer event 25 with an FSM error, but 6.4 says a NOTIFICATION
            // is never answered with one.
            (S::OpenSent | S::OpenConfirm(_), E::NotifMsgVerErr(heard) | E::NotifMsg(heard)) => {
                out.push(Action::Drop(Close::Abort));
                self.fail(received(&heard), out)
            }
            (S::OpenConfirm(agreed), E::KeepaliveTimerExpires) => {
                out.push(Action::SendKeepalive);
                self.keep_alive(cx, &agreed);
                S::OpenConfirm(agreed)
            }
            (S::OpenConfirm(agreed), E::KeepAliveMsg) => {
                self.heard(cx, &agreed);
                out.push(Action::CameUp);
                S::Established(agreed)
            }
            // RFC 6608: subcode 1 in OpenSent, 2 in OpenConfirm.
            (
                S::OpenSent,
                event @ (E::ConnectRetryTimerExpires
                | E::KeepaliveTimerExpires
                | E::DelayOpenTimerExpires
                | E::IdleHoldTimerExpires
                | E::BgpOpenWithDelayOpenTimerRunning
                | E::KeepAliveMsg
                | E::UpdateMsg(_)
                | E::UpdateMsgErr(_)
                | E::SendHoldTimerExpires),
            ) => self.fail_unexpected(UnexpectedIn::OpenSent, &event, out),
            // A second OPEN on the same connection is as unexpected as an UPDATE.
            (
                S::OpenConfirm(_),
                event @ (E::ConnectRetryTimerExpires
                | E::DelayOpenTimerExpires
                | E::IdleHoldTimerExpires
                | E::BgpOpen(_)
                | E::BgpOpenWithDelayOpenTimerRunning
                | E::UpdateMsg(_)
                | E::UpdateMsgErr(_)
                | E::SendHoldTimerExpires),
            ) => self.fail_unexpected(UnexpectedIn::OpenConfirm, &event, out),

            // Established.
            (S::Established(agreed), E::ManualStop(ending) | E::AutomaticStop(ending)) => {
                say(ending.say, out);
                self.go_down(ending.why, agreed, out)
            }
            (S::Established(agreed), E::HoldTimerExpires) => {
                say(Some(Notification::hold_timer_expired()), out);
                let why = DownReason::HoldTimerExpired(agreed.hold.seconds());
                self.go_down(why, agreed, out)
            }
            (S::Established(agreed), E::KeepaliveTimerExpires) => {
                out.push(Action::SendKeepalive);
                self.keep_alive(cx, &agreed);
                S::Established(agreed)
            }
            (S::Established(agreed), E::TcpConnectionFails(why)) => {
                out.push(Action::Drop(Close::Abort));
                self.go_down(why, agreed, out)
            }
            (S::Established(agreed), E::OpenCollisionDump) => {
                say(
                    Some(Notification::cease(Cease::ConnectionCollisionResolution)),
                    out,
                );
                self.go_down(DownReason::Collision, agreed, out)
            }
            (S::Established(agreed), E::NotifMsgVerErr(heard) | E::NotifMsg(heard)) => {
                out.push(Action::Drop(Close::Abort));
                self.go_down(received(&heard), agreed, out)
            }
            (S::Established(agreed), E::KeepAliveMsg | E::UpdateMsg(_)) => {
                self.heard(cx, &agreed);
                S::Established(agreed)
            }
            // RFC 4271 8.2.2 answers event 21 with an FSM error here, 6.1 with the header's own: more use
            // to whoever reads the peer's log.
            (S::Established(agreed), E::BgpHeaderErr(ending) | E::UpdateMsgErr(ending)) => {
                say(ending.say, out);
                self.go_down(ending.why, agreed, out)
            }
            // No words: the peer's window is shut (RFC 9687 3.2).
            (S::Established(agreed), E::SendHoldTimerExpires) => {
                out.push(Action::Drop(Close::Abort));
                let why = DownReason::SendHoldTimerExpired(seconds(send_hold(&agreed)));
                self.go_down(why, agreed, out)
            }
            (
                S::Established(agreed),
                event @ (E::ConnectRetryTimerExpires
                | E::DelayOpenTimerExpires
                | E::IdleHoldTimerExpires
                | E::BgpOpen(_)
                | E::BgpOpenWithDelayOpenTimerRunning
                | E::BgpOpenMsgErr(_)),
            ) => {
                let answer = unexpected(UnexpectedIn::Established, &event);
                let why = sent(&answer);
                say(Some(answer), out);
                self.go_down(why, agreed, out)
            }
        };
    }

    /// The keepalive interval was changed while the session runs.
    pub fn set_keepalive(&mut self, cx: &mut Context<'_>, interval: Option<Duration>) {
        match &mut self.state {
            State::Idle | State::Connect | State::Active | State::OpenSent => return,
            State::OpenConfirm(agreed) | State::Established(agreed) => agreed.keepalive = interval,
        }
        self.timers.stop(Timer::Keepalive);
        if let Some(interval) = interval {
            let next = cx.jitter.spread(interval);
            self.timers.start(Timer::Keepalive, cx.now + next);
        }
    }

    fn begin(&mut self, cx: &mut Context<'_>, initiative: Initiative, out: &mut Vec<Action>) -> State {
        self.timers.stop_all();
        match initiative {
            Initiative::Dials => self.dial(cx, out),
            // No ConnectRetryTimer: a passive session waits as long as it takes.
            Initiative::Waits => State::Active,
        }
    }

    fn dial(&mut self, cx: &mut Context<'_>, out: &mut Vec<Action>) -> State {
        out.push(Action::Dial);
        let retry = cx.jitter.spread(cx.wished.connect_retry);
        self.timers.start(Timer::ConnectRetry, cx.now + retry);
        State::Connect
    }

    fn fail(&mut self, why: DownReason, out: &mut Vec<Action>) -> State {
        out.push(Action::Failed(why));
        self.timers.stop_all();
        State::Idle
    }

    fn go_down(&mut self, why: DownReason, agreed: Box<Agreed>, out: &mut Vec<Action>) -> State {
        out.push(Action::WentDown(why, agreed));
        self.timers.stop_all();
        State::Idle
    }

    fn fail_unexpected(&mut self, state: UnexpectedIn, event: &Event, out: &mut Vec<Action>) -> State {
        let answer = unexpected(state, event);
        let why = sent(&answer);
        say(Some(answer), out);
        self.fail(why, out)
    }

    /// Something came from the peer: the hold timer starts anew.
    fn heard(&mut self, cx: &Context<'_>, agreed: &Agreed) {
        match agreed.hold.seconds() {
            0 => self.timers.stop(Timer::Hold),
            s => self
                .timers
                .start(Timer::Hold, cx.now + Duration::from_secs(u64::from(s))),
        }
    }

    fn keep_alive(&mut self, cx: &mut Context<'_>, agreed: &Agreed) {
        if let Some(interval) = agreed.keepalive {
            let next = cx.jitter.spread(interval);
            self.timers.start(Timer::Keepalive, cx.now + next);
        }
    }
}

/// How long the peer may take nothing of what is sent (RFC 9687 3.1).
#[must_use]
pub fn send_hold(agreed: &Agreed) -> Duration {
    SEND_HOLD.max(Duration::from_secs(2 * u64::from(agreed.hold.seconds())))
}

/// The reason a session ended when this side sent `answer`.
#[must_use]
pub fn sent(answer: &Notification) -> DownReason {
    DownReason::NotificationSent {
        code: answer.code,
        subcode: answer.subcode,
        text: answer.to_string().into(),
    }
}

/// The same, with what was wrong in words.
#[must_use]
pub fn sent_because(answer: &Notification, words: &str) -> DownReason {
    DownReason::NotificationSent {
        code: answer.code,
        subcode: answer.subcode,
        text: format!("{answer}: {words}").into(),
    }
}

/// RFC 6608: the state, and which message it was.
fn unexpected(state: UnexpectedIn, event: &Event) -> Notification {
    let kind = match event {
        Event::BgpOpen(_) | Event::BgpOpenWithDelayOpenTimerRunning | Event::BgpOpenMsgErr(_) => {
            MessageType::Open
        }
        Event::UpdateMsg(kind) => *kind,
        Event::UpdateMsgErr(_) => MessageType::Update,
        Event::KeepAliveMsg => MessageType::Keepalive,
        Event::NotifMsg(_) | Event::NotifMsgVerErr(_) => MessageType::Notification,
        // No message: a timer that is not running, or an event that never comes here.
        Event::ManualStart
        | Event::ManualStop(_)
        | Event::AutomaticStart
        | Event::ManualStartWithPassiveTcpEstablishment
        | Event::AutomaticStartWithPassiveTcpEstablishment
        | Event::AutomaticStartWithDampPeerOscillations
        | Event::AutomaticStartWithDampPeerOscillationsAndPassiveTcpEstablishment
        | Event::AutomaticStop(_)
        | Event::ConnectRetryTimerExpires
        | Event::HoldTimerExpires
        | Event::KeepaliveTimerExpires
        | Event::DelayOpenTimerExpires
        | Event::IdleHoldTimerExpires
        | Event::TcpConnectionValid
        | Event::TcpCrInvalid
        | Event::TcpCrAcked
        | Event::TcpConnectionConfirmed
        | Event::TcpConnectionFails(_)
        | Event::BgpHeaderErr(_)
        | Event::OpenCollisionDump
        | Event::SendHoldTimerExpires => {
            return Notification {
                code: 5,
                subcode: 0,
                data: Bytes::new(),
            };
        }
    };
    Notification::unexpected_message(state, kind)
}

fn received(heard: &Notification) -> DownReason {
    DownReason::NotificationReceived {
        code: heard.code,
        subcode: heard.subcode,
        text: heard.to_string().into(),
    }
}

fn say(words: Option<Notification>, out: &mut Vec<Action>) {
    if let Some(words) = words {
        out.push(Action::Notify(words));
    }
    out.push(Action::Drop(Close::Flush));
}

fn seconds(duration: Duration) -> u16 {
    u16::try_from(duration.as_secs()).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests;
