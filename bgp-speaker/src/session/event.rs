//! What a session can meet: the events of RFC 4271 8.1.

use crate::session::agree::Agreed;
use crate::speaker::DownReason;
use crate::wire::{MessageType, Notification};

/// Why this side ends a session, and what it says to the peer (`None`: closes without a word, so that a
/// peer with graceful restart keeps the routes).
#[derive(Debug, Clone, PartialEq)]
pub struct Ending {
    pub say: Option<Notification>,
    pub why: DownReason,
}

/// The events of RFC 4271 8.1, in its order and with its names; the last is of RFC 9687.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    ManualStart,
    ManualStop(Box<Ending>),
    AutomaticStart,
    ManualStartWithPassiveTcpEstablishment,
    AutomaticStartWithPassiveTcpEstablishment,
    AutomaticStartWithDampPeerOscillations,
    AutomaticStartWithDampPeerOscillationsAndPassiveTcpEstablishment,
    AutomaticStop(Box<Ending>),
    ConnectRetryTimerExpires,
    HoldTimerExpires,
    KeepaliveTimerExpires,
    DelayOpenTimerExpires,
    IdleHoldTimerExpires,
    TcpConnectionValid,
    TcpCrInvalid,
    TcpCrAcked,
    TcpConnectionConfirmed,
    /// The error of a failed dial or of a broken connection, for people.
    TcpConnectionFails(DownReason),
    BgpOpen(Box<Agreed>),
    BgpOpenWithDelayOpenTimerRunning,
    BgpHeaderErr(Box<Ending>),
    BgpOpenMsgErr(Box<Ending>),
    OpenCollisionDump,
    NotifMsgVerErr(Box<Notification>),
    NotifMsg(Box<Notification>),
    KeepAliveMsg,
    /// UPDATE, or ROUTE-REFRESH (RFC 2918), which the machine treats alike.
    UpdateMsg(MessageType),
    UpdateMsgErr(Box<Ending>),
    SendHoldTimerExpires,
}

impl Event {
    /// The number RFC 4271 8.1 (RFC 9687 3.2) gives the event.
    #[must_use]
    pub fn number(&self) -> u8 {
        match self {
            Self::ManualStart => 1,
            Self::ManualStop(_) => 2,
            Self::AutomaticStart => 3,
            Self::ManualStartWithPassiveTcpEstablishment => 4,
            Self::AutomaticStartWithPassiveTcpEstablishment => 5,
            Self::AutomaticStartWithDampPeerOscillations => 6,
            Self::AutomaticStartWithDampPeerOscillationsAndPassiveTcpEstablishment => 7,
            Self::AutomaticStop(_) => 8,
            Self::ConnectRetryTimerExpires => 9,
            Self::HoldTimerExpires => 10,
            Self::KeepaliveTimerExpires => 11,
            Self::DelayOpenTimerExpires => 12,
            Self::IdleHoldTimerExpires => 13,
            Self::TcpConnectionValid => 14,
            Self::TcpCrInvalid => 15,
            Self::TcpCrAcked => 16,
            Self::TcpConnectionConfirmed => 17,
            Self::TcpConnectionFails(_) => 18,
            Self::BgpOpen(_) => 19,
            Self::BgpOpenWithDelayOpenTimerRunning => 20,
            Self::BgpHeaderErr(_) => 21,
            Self::BgpOpenMsgErr(_) => 22,
            Self::OpenCollisionDump => 23,
            Self::NotifMsgVerErr(_) => 24,
            Self::NotifMsg(_) => 25,
            Self::KeepAliveMsg => 26,
            Self::UpdateMsg(_) => 27,
            Self::UpdateMsgErr(_) => 28,
            Self::SendHoldTimerExpires => 29,
        }
    }
}
