//! A peer: at most two sessions, of which at most one becomes established (RFC 4271 6.8), and what outlives
//! them: backoff, stale routes, the reason it is down.
//!
//! ```text
//!   main   dials, or waits; the established one is always here
//!   other  accepted while main is busy; takes main's place when main ends or loses the collision
//!
//!   main Connect      + accepted      -> other
//!   main OpenSent     + accepted      -> other       both go on until one OPEN tells who the peer is
//!   main OpenConfirm  + OPEN on other -> collision: the higher (router ID, ASN) keeps what it dialled
//!   either comes up                   -> it is main; the other one ends with its OPEN, if not before
//!   main Established  + accepted      -> refused; but with graceful restart agreed -> other, and its OPEN
//!                                        means that the peer restarted: main ends silently
//! ```

mod change;
mod collide;
mod dial;
mod life;
mod link;
mod receive;
mod send;
mod status;
mod stop;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::config::{Auth, Connect, PeerAddress, PeerConfig};
use crate::graceful::{Helper, Holds, Past};
use crate::rib::{PeerId, Rib};
use crate::session::agree::{Agreed, Identity, Offer};
use crate::session::event::Event;
use crate::session::fsm::{Action, Context, Initiative, State};
use crate::session::timers::{Backoff, Jitter, Timer};
use crate::speaker::pace::Pace;
use crate::speaker::{ConnId, DownReason, Event as News, Output, Refusal, Start, StateName};
use crate::types::{Asn, Family, Name, RouterId};
use crate::wire::keepalive;

pub(crate) use link::LocalEnd;
use link::{Line, Link, Session};

/// What a peer needs of its instance for one input.
#[derive(Debug)]
pub(crate) struct Cx<'a> {
    pub(crate) now: Instant,
    pub(crate) out: &'a mut Vec<Output>,
    pub(crate) jitter: &'a mut Jitter,
    /// Number of the next connection dialled.
    pub(crate) next_dial: &'a mut u64,
    pub(crate) rib: &'a mut Rib,
    pub(crate) identity: &'a Identity,
}

/// How a peer came to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    Configured,
    /// A neighbour inside the prefix of `template`: lives as long as its session or its stale routes.
    Dynamic {
        template: Name,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Main,
    Other,
}

impl Slot {
    fn rival(self) -> Self {
        match self {
            Self::Main => Self::Other,
            Self::Other => Self::Main,
        }
    }
}

/// What the last session ended with, as far as the next attempt is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damping {
    /// The peer may call in while this side still waits.
    Open,
    /// Something was said that will be said again: both sides wait.
    Damped,
}

#[derive(Debug)]
pub(crate) struct Peer {
    id: PeerId,
    pub(crate) name: Name,
    pub(crate) address: IpAddr,
    origin: Origin,
    config: PeerConfig,
    main: Session,
    other: Option<Session>,
    /// Why the peer must stay in Idle; `None`: it may run.
    held: Option<Arc<DownReason>>,
    backoff: Backoff,
    damping: Damping,
    /// How long main stays in Idle, decided when the last session ended.
    idle: Duration,
    offer: Offer,
    past: Past,
    helper: Helper,
    /// Families between BoRR and EoRR (RFC 7313), with the end of patience.
    refreshing: BTreeMap<Family, Instant>,
    end_of_rib: BTreeSet<Family>,
    /// The state last told.
    told: StateName,
    record: Record,
}

/// What the status shows and outlives a session.
#[derive(Debug, Default)]
struct Record {
    remote: Option<(Asn, RouterId)>,
    established_since: Option<Instant>,
    times_established: u64,
    last_down: Option<(Instant, Arc<DownReason>)>,
    local_capabilities: Vec<Bytes>,
    remote_capabilities: Vec<Bytes>,
    received: u64,
    sent: u64,
    /// Malformed attributes are told at most once a minute.
    malformed: Option<Instant>,
    malformed_untold: u32,
    /// Limits of prefixes that were reached.
    limits: Pace,
    /// When the routes of a family were last marked for a refresh (RFC 7313).
    refresh_began: BTreeMap<Family, Instant>,
}

impl Peer {
    pub(crate) fn new(
        id: PeerId,
        name: Name,
        address: IpAddr,
        origin: Origin,
        config: PeerConfig,
        start: Start,
    ) -> Self {
        Self {
            id,
            name,
            address,
            origin,
            main: Session::default(),
            other: None,
            held: holding(&config),
            backoff: Backoff::default(),
            damping: Damping::Open,
            idle: Duration::ZERO,
            offer: Offer::Full,
            past: start.into(),
            helper: Helper::default(),
            refreshing: BTreeMap::new(),
            end_of_rib: BTreeSet::new(),
            told: StateName::Idle,
            record: Record::default(),
            config,
        }
    }

    /// Begins: at once, with no delay before the first attempt.
    pub(crate) fn start(&mut self, cx: &mut Cx<'_>) {
        if let Some(why) = &self.held {
            self.record.last_down = Some((cx.now, Arc::clone(why)));
            return;
        }
        let event = match self.initiative() {
            Initiative::Dials => Event::AutomaticStart,
            Initiative::Waits => Event::AutomaticStartWithPassiveTcpEstablishment,
        };
        self.step(Slot::Main, event, cx);
    }

    pub(crate) fn connected(&mut self, conn: ConnId, local: LocalEnd, cx: &mut Cx<'_>) {
        if self.main.conn() == Some(conn) {
            self.main.line = Line::Up(Box::new(Link::new(conn, local)));
            self.step(Slot::Main, Event::TcpCrAcked, cx);
        }
    }

    pub(crate) fn connect_failed(&mut self, conn: ConnId, error: Arc<str>, cx: &mut Cx<'_>) {
        if self.main.conn() == Some(conn) {
            self.main.line = Line::None;
            let why = DownReason::ConnectFailed(error);
            self.step(Slot::Main, Event::TcpConnectionFails(why), cx);
        }
    }

    /// A connection from the peer.
    ///
    /// # Errors
    /// Why it can't be taken; the caller closes it.
    pub(crate) fn accepted(&mut self, conn: ConnId, local: LocalEnd, cx: &mut Cx<'_>) -> Result<(), Refusal> {
        if self.config.local_address.is_some_and(|a| a != local.address.ip()) {
            return Err(Refusal::WrongLocalAddress);
        }
        if self.held.is_some() {
            return Err(Refusal::Idle);
        }
        let slot = self.place_for_accepted(cx)?;
        cx.out.push(Output::SetTtl {
            conn,
            ttl: self.ttl(cx.identity),
        });
        let line = Line::Up(Box::new(Link::new(conn, local)));
        match slot {
            Slot::Main => self.main.line = line,
            Slot::Other => {
                let mut session = Session {
                    line,
                    ..Session::default()
                };
                // Only main dials; what is accepted begins where a passive session waits.
                let mut context = context(&self.config, &self.backoff, Initiative::Waits, cx.now, cx.jitter);
                let begin = Event::AutomaticStartWithPassiveTcpEstablishment;
                session.fsm.step(&mut context, begin, &mut Vec::new());
                self.other = Some(session);
            }
        }
        self.step(slot, Event::TcpConnectionConfirmed, cx);
        Ok(())
    }

    pub(crate) fn closed(&mut self, conn: ConnId, error: Option<Arc<str>>, cx: &mut Cx<'_>) {
        let Some(slot) = self.slot_of(conn) else { return };
        if let Some(session) = self.session_mut(slot) {
            session.line = Line::None;
        }
        let why = DownReason::ConnectionClosed(error);
        self.step(slot, Event::TcpConnectionFails(why), cx);
    }

    /// Everything that is due.
    pub(crate) fn timed_out(&mut self, cx: &mut Cx<'_>) {
        for slot in [Slot::Main, Slot::Other] {
            while let Some(timer) = self
                .session_mut(slot)
                .and_then(|s| s.fsm.timers_mut().take_due(cx.now))
            {
                let event = match timer {
                    Timer::ConnectRetry => Event::ConnectRetryTimerExpires,
                    Timer::Hold => Event::HoldTimerExpires,
                    Timer::Keepalive => Event::KeepaliveTimerExpires,
                    Timer::SendHold => Event::SendHoldTimerExpires,
                    Timer::IdleHold => Event::IdleHoldTimerExpires,
                };
                self.step(slot, event, cx);
            }
        }
        for family in self.helper.take_due(cx.now) {
            cx.rib.sweep_stale(self.id, family);
        }
        let over: Vec<Family> = self
            .refreshing
            .iter()
            .filter(|(_, until)| **until <= cx.now)
            .map(|(family, _)| *family)
            .collect();
        for family in over {
            self.refreshing.remove(&family);
            cx.rib.sweep_stale(self.id, family);
        }
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let sessions = [
            self.main.fsm.timers().next(),
            self.other.as_ref().and_then(|s| s.fsm.timers().next()),
        ];
        sessions
            .into_iter()
            .flatten()
            .chain(self.helper.next_timeout())
            .chain(self.refreshing.values().copied())
            .min()
    }

    /// The connections that belong to this peer now.
    pub(crate) fn conns(&self) -> [Option<ConnId>; 2] {
        [self.main.conn(), self.other.as_ref().and_then(Session::conn)]
    }

    /// The name the configuration knows it by.
    pub(crate) fn template(&self) -> &Name {
        match &self.origin {
            Origin::Configured => &self.name,
            Origin::Dynamic { template } => template,
        }
    }

    /// Whether a dynamic neighbour is gone for good.
    pub(crate) fn is_gone(&self) -> Gone {
        let idle = self.main.conn().is_none() && self.other.is_none();
        match &self.origin {
            Origin::Dynamic { .. } if idle && self.helper.holds() == Holds::Nothing => Gone::Yes,
            Origin::Dynamic { .. } | Origin::Configured => Gone::No,
        }
    }

    /// One event for one session, and everything that follows from it.
    fn step(&mut self, slot: Slot, event: Event, cx: &mut Cx<'_>) {
        let initiative = match slot {
            Slot::Main => self.initiative(),
            Slot::Other => Initiative::Waits,
        };
        let session = match slot {
            Slot::Main => &mut self.main,
            Slot::Other => match &mut self.other {
                Some(session) => session,
                None => return,
            },
        };
        let mut context = context(&self.config, &self.backoff, initiative, cx.now, cx.jitter);
        let mut actions = Vec::new();
        session.fsm.step(&mut context, event, &mut actions);
        let mut why = None;
        for action in actions {
            why = self.perform(slot, action, cx).or(why);
        }
        self.settle(why, cx);
    }

    /// Carries out one action. Returns the reason where it ended a session or an attempt.
    fn perform(&mut self, slot: Slot, action: Action, cx: &mut Cx<'_>) -> Option<Arc<DownReason>> {
        match action {
            Action::Dial => self.dial(cx),
            Action::SendOpen => self.send_open(slot, cx),
            Action::SendKeepalive => self.send(slot, keepalive::encode(), cx),
            Action::Notify(words) => self.send(slot, words.encode(), cx),
            Action::Drop(how) => {
                if let Some(session) = self.session_mut(slot) {
                    session.close(how, cx.out);
                }
            }
            Action::CameUp => self.came_up(slot, cx),
            Action::Failed(why) => {
                let why = Arc::new(why);
                self.failed(&why, cx);
                return Some(why);
            }
            Action::WentDown(why, agreed) => {
                let why = Arc::new(why);
                self.went_down(&why, &agreed, cx);
                return Some(why);
            }
        }
        None
    }

    /// Brings the two sessions into order after a step: what ended gives way, and main begins its stay in
    /// Idle if nothing is left.
    fn settle(&mut self, why: Option<Arc<DownReason>>, cx: &mut Cx<'_>) {
        if self.other.as_ref().is_some_and(|s| s.conn().is_none()) {
            self.other = None;
        }
        if self.main.conn().is_none()
            && let Some(other) = self.other.take()
        {
            self.main = other;
        }
        let waits = self.held.is_none() && self.main.fsm.timers().get(Timer::IdleHold).is_none();
        if *self.main.fsm.state() == State::Idle && waits {
            let delay = cx.jitter.spread(self.idle);
            self.main.fsm.timers_mut().start(Timer::IdleHold, cx.now + delay);
        }
        let state = self.state();
        if state != self.told {
            cx.out.push(Output::Tell(News::State {
                instance: cx.identity.instance.clone(),
                peer: self.name.clone(),
                address: self.address,
                from: self.told,
                to: state,
                why: why.filter(|_| state < self.told),
            }));
            self.told = state;
        }
    }

    fn initiative(&self) -> Initiative {
        match (&self.config.address, self.config.connect) {
            (PeerAddress::One(_), Connect::ActiveAndPassive) => Initiative::Dials,
            (PeerAddress::One(_), Connect::Passive) | (PeerAddress::Prefix { .. }, _) => Initiative::Waits,
        }
    }

    /// What the established session agreed on, else what is being confirmed.
    fn agreed(&self) -> Option<&Agreed> {
        self.main
            .fsm
            .state()
            .agreed()
            .or_else(|| self.other.as_ref()?.fsm.state().agreed())
    }

    /// The state of the session that is farthest.
    pub(crate) fn state(&self) -> StateName {
        let main = self.main.fsm.state().name();
        match &self.other {
            Some(other) => main.max(other.fsm.state().name()),
            None => main,
        }
    }

    fn slot_of(&self, conn: ConnId) -> Option<Slot> {
        if self.main.conn() == Some(conn) {
            Some(Slot::Main)
        } else if self.other.as_ref().and_then(Session::conn) == Some(conn) {
            Some(Slot::Other)
        } else {
            None
        }
    }

    fn session_mut(&mut self, slot: Slot) -> Option<&mut Session> {
        match slot {
            Slot::Main => Some(&mut self.main),
            Slot::Other => self.other.as_mut(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gone {
    Yes,
    No,
}

/// Why the configuration itself keeps a peer down.
fn holding(config: &PeerConfig) -> Option<Arc<DownReason>> {
    if let Some(text) = &config.shutdown {
        return Some(Arc::new(DownReason::Shutdown(text.clone())));
    }
    match &config.auth {
        Auth::Missing { reason } => Some(Arc::new(DownReason::MissingSecret(reason.clone()))),
        Auth::None | Auth::Md5(_) => None,
    }
}

fn context<'a>(
    config: &'a PeerConfig,
    backoff: &Backoff,
    initiative: Initiative,
    now: Instant,
    jitter: &'a mut Jitter,
) -> Context<'a> {
    Context {
        now,
        wished: &config.timers,
        jitter,
        retry: backoff.peek(&config.timers),
        initiative,
    }
}
