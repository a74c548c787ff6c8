//! Graceful restart (RFC 4724, RFC 8538): what a helper keeps and for how long, and what a restarting
//! speaker waits for.
//!
//! ```text
//!   helper, per family of a peer
//!
//!     fresh -- session lost, family in the peer's capability --> stale (until the peer's restart time)
//!     stale -- session back, F bit set -----------------------> stale (until End-of-RIB, at most 360 s)
//!     stale -- session back without F or without the family --> flushed
//!     stale -- End-of-RIB, or the timer ----------------------> what was not sent again is flushed
//!     stale -- session lost again ----------------------------> what was stale already is flushed
//! ```

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::config::GracefulRestart as Wished;
use crate::session::agree::Agreed;
use crate::speaker::{DownReason, Start};
use crate::types::Family;
use crate::wire::capability::{Forwarding, GracefulRestart, NotificationSupport, RestartState};

/// The longest time a peer that is back may take to its End-of-RIB.
pub const STALE_MAX: Duration = Duration::from_secs(360);
/// The longest time a restarted speaker defers route selection (RFC 4724 4.1).
pub const DEFERRAL_MAX: Duration = Duration::from_secs(120);
/// How long a restarted speaker waits for the first of its peers to be there at all.
pub const FIRST_PEER_MAX: Duration = Duration::from_secs(20);

/// The capability of our OPEN. Without graceful restart of our own it lists no family: the peer keeps
/// nothing for us, and we still understand End-of-RIB and keep what the peer restarts with.
#[must_use]
pub fn capability(
    wished: Option<Wished>,
    families: impl Iterator<Item = Family>,
    forwarding: Past,
) -> GracefulRestart {
    let (state, f_bit) = match forwarding {
        Past::None => (RestartState::Fresh, Forwarding::Lost),
        Past::Restarted => (RestartState::Restarted, Forwarding::Preserved),
        Past::SessionLost => (RestartState::Fresh, Forwarding::Preserved),
    };
    match wished {
        None => GracefulRestart {
            state: RestartState::Fresh,
            notification: NotificationSupport::Yes,
            restart_time: 0,
            families: Vec::new(),
        },
        Some(wished) => GracefulRestart {
            state,
            notification: NotificationSupport::Yes,
            restart_time: wished.restart_time,
            families: families.map(|family| (family, f_bit)).collect(),
        },
    }
}

/// What lies behind this side when it sends an OPEN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Past {
    /// Neither forwarding state nor a session.
    None,
    /// The process restarted, the kernel forwarded on. Until the first session with this peer is up.
    Restarted,
    /// Only the session was lost. The F bit stays set: without it the peer would flush what it keeps for us.
    SessionLost,
}

impl From<Start> for Past {
    fn from(start: Start) -> Self {
        match start {
            Start::Cold => Self::None,
            Start::Restarted => Self::Restarted,
        }
    }
}

/// What the end of a session means to the routes it brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// No word: the peer may be restarting (RFC 4724 4.2).
    Silent,
    /// A NOTIFICATION, or a timer that would have sent one: graceful only with the N bit (RFC 8538 4).
    Notified,
    /// Nothing is kept.
    Hard,
}

/// Which loss a reason is.
#[must_use]
pub fn loss(why: &DownReason) -> Loss {
    match why {
        DownReason::ConnectionClosed(_) | DownReason::ConnectFailed(_) => Loss::Silent,
        DownReason::HoldTimerExpired(_)
        | DownReason::SendHoldTimerExpired(_)
        | DownReason::OperatorReset(_)
        | DownReason::ConfigurationChanged(_)
        | DownReason::Collision => Loss::Notified,
        DownReason::NotificationReceived { code, subcode, .. }
        | DownReason::NotificationSent { code, subcode, .. } => match (code, subcode) {
            (6, 9) => Loss::Hard,
            (_, _) => Loss::Notified,
        },
        // A link that is down forwards nothing: keeping the routes would only lose packets.
        DownReason::LinkDown(_)
        | DownReason::Deconfigured
        | DownReason::Shutdown(_)
        | DownReason::MissingSecret(_)
        | DownReason::MaxPrefixes { .. }
        | DownReason::BadPeerAs { .. }
        | DownReason::Stopping => Loss::Hard,
    }
}

/// The families of a peer whose routes are kept while it restarts, with the end of patience for each.
#[derive(Debug, Clone, Default)]
pub struct Helper {
    stale: BTreeMap<Family, Instant>,
}

/// What the RIB does when a session is lost, in this order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lost {
    /// Routes that were stale already in these families go (RFC 4724 4.2, consecutive restarts).
    pub sweep: Vec<Family>,
    /// All others become stale here, and go elsewhere.
    pub keep: Vec<Family>,
}

impl Helper {
    /// An established session ended.
    pub fn session_lost(&mut self, now: Instant, agreed: &Agreed, loss: Loss) -> Lost {
        let sweep: Vec<Family> = std::mem::take(&mut self.stale).into_keys().collect();
        let graceful = match (loss, agreed.graceful.notification) {
            (Loss::Silent, NotificationSupport::No | NotificationSupport::Yes)
            | (Loss::Notified, NotificationSupport::Yes) => agreed.graceful.theirs.as_ref(),
            (Loss::Notified, NotificationSupport::No)
            | (Loss::Hard, NotificationSupport::No | NotificationSupport::Yes) => None,
        };
        let Some(theirs) = graceful.filter(|g| g.restart_time > 0) else {
            return Lost {
                sweep,
                keep: Vec::new(),
            };
        };
        let until = now + Duration::from_secs(u64::from(theirs.restart_time));
        self.stale = theirs
            .families
            .iter()
            .map(|(family, _)| *family)
            .filter(|family| agreed.families.contains(family))
            .map(|family| (family, until))
            .collect();
        Lost {
            sweep,
            keep: self.stale.keys().copied().collect(),
        }
    }

    /// A session is established. Returns the families whose stale routes go at once.
    pub fn session_up(&mut self, now: Instant, agreed: &Agreed) -> Vec<Family> {
        let preserved = |family: &Family| {
            agreed.families.contains(family)
                && agreed
                    .graceful
                    .theirs
                    .as_ref()
                    .is_some_and(|g| g.families.contains(&(*family, Forwarding::Preserved)))
        };
        let (keep, flush): (Vec<Family>, Vec<Family>) = self.stale.keys().copied().partition(preserved);
        self.stale = keep.into_iter().map(|family| (family, now + STALE_MAX)).collect();
        flush
    }

    /// End-of-RIB came. Whether stale routes of the family were waiting for it.
    pub fn end_of_rib(&mut self, family: Family) -> Swept {
        match self.stale.remove(&family) {
            Some(_) => Swept::Due,
            None => Swept::NotDue,
        }
    }

    /// Families whose time is over.
    pub fn take_due(&mut self, now: Instant) -> Vec<Family> {
        let due: Vec<Family> = self
            .stale
            .iter()
            .filter(|(_, until)| **until <= now)
            .map(|(family, _)| *family)
            .collect();
        for family in &due {
            self.stale.remove(family);
        }
        due
    }

    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.stale.values().min().copied()
    }

    /// Whether routes of the peer are kept without a session, or not yet confirmed by one.
    #[must_use]
    pub fn holds(&self) -> Holds {
        if self.stale.is_empty() {
            Holds::Nothing
        } else {
            Holds::Stale
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swept {
    Due,
    NotDue,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    Nothing,
    Stale,
}

/// Route selection a restarted speaker holds back (RFC 4724 4.1), in one instance. Only where a peer's
/// routes can change the outcome, so a speaker that accepts none begins to announce at once.
#[derive(Debug, Clone)]
pub struct Deferral {
    began: Instant,
    next: Instant,
    families: Vec<Family>,
}

/// How far one peer is, in one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// No connection: not waited for, so that two nodes that restart together do not wait for each other.
    Away,
    /// A connection, or a session whose End-of-RIB is awaited.
    Coming,
    /// End-of-RIB came, or never will: no graceful restart, or the peer itself restarted.
    Done,
}

impl Deferral {
    #[must_use]
    pub fn new(now: Instant, families: Vec<Family>) -> Self {
        Self {
            began: now,
            next: now + FIRST_PEER_MAX,
            families,
        }
    }

    /// Takes the families whose selection may begin: `peers` tells the progress of each peer.
    pub fn release(&mut self, now: Instant, peers: impl Fn(Family) -> Vec<Progress>) -> Vec<Family> {
        let waited = now.saturating_duration_since(self.began);
        let (ready, waiting) = std::mem::take(&mut self.families)
            .into_iter()
            .partition(|family| {
                let peers = peers(*family);
                let all_done = !peers.contains(&Progress::Coming);
                let some_done = peers.contains(&Progress::Done);
                waited >= DEFERRAL_MAX || (all_done && (some_done || waited >= FIRST_PEER_MAX))
            });
        self.families = waiting;
        if waited >= FIRST_PEER_MAX {
            self.next = self.began + DEFERRAL_MAX;
        }
        ready
    }

    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        (!self.families.is_empty()).then_some(self.next)
    }
}

#[cfg(test)]
mod tests;
