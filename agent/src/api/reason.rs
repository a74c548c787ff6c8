//! Stable names for why a session is down.

use bgp_speaker::speaker::DownReason;

use super::view::Why;

/// Name and sentence.
#[must_use]
pub fn why(reason: &DownReason) -> Why {
    Why {
        reason: name(reason).to_owned(),
        message: reason.to_string(),
    }
}

/// Stable, in kebab case.
#[must_use]
pub fn name(reason: &DownReason) -> &'static str {
    match reason {
        DownReason::Deconfigured => "deconfigured",
        DownReason::Shutdown(_) => "shutdown",
        DownReason::OperatorReset(_) => "operator-reset",
        DownReason::ConfigurationChanged(_) => "configuration-changed",
        DownReason::MissingSecret(_) => "missing-secret",
        DownReason::ConnectFailed(_) => "connect-failed",
        DownReason::ConnectionClosed(_) => "connection-closed",
        DownReason::HoldTimerExpired(_) => "hold-timer-expired",
        DownReason::SendHoldTimerExpired(_) => "send-hold-timer-expired",
        DownReason::LinkDown(_) => "link-down",
        DownReason::MaxPrefixes { .. } => "max-prefixes",
        DownReason::BadPeerAs { .. } => "bad-peer-as",
        DownReason::NotificationSent { .. } => "notification-sent",
        DownReason::NotificationReceived { .. } => "notification-received",
        DownReason::Collision => "collision",
        DownReason::Stopping => "stopping",
    }
}
