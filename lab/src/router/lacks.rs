//! What each daemon can't do, in the version this lab was written for.

use super::{Ext, Kind};

/// Something a test may want of a daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Feature {
    /// IPv4 routes with IPv6 next hops (RFC 8950).
    Ipv4OverIpv6,
    /// A TCP-MD5 key on connections it dials.
    Md5Dialled,
    /// A TCP-MD5 key on connections it accepts.
    Md5Accepted,
    /// GTSM on connections it dials.
    TtlSecurityDialled,
    /// GTSM on connections it accepts.
    TtlSecurityAccepted,
    /// Keeps the routes of a neighbour that restarts (RFC 4724, receiving speaker).
    GracefulHelper,
    /// Says that its routes should be kept while it restarts (RFC 4724, restarting speaker).
    GracefulRestarter,
    /// Dials although it has accepted a connection that is not established yet, so that two collide.
    SecondConnection,
    /// Sends ROUTE-REFRESH when asked to.
    AskRefresh,
    /// Answers ROUTE-REFRESH.
    AnswerRefresh,
    /// Originates routes with this kind of extended community, over an external session.
    Originate(Ext),
    /// Shows extended communities of this kind.
    Show(Ext),
}

impl Kind {
    /// Why this daemon has no such feature, or `None` if it has it.
    #[must_use]
    pub fn lacks(self, feature: Feature) -> Option<&'static str> {
        match (self, feature) {
            (Self::OpenBgpd, Feature::Ipv4OverIpv6) => Some("no RFC 8950 before 8.8"),
            (Self::OpenBgpd, Feature::GracefulRestarter) => Some("its restart time is always 0"),
            (Self::OpenBgpd, Feature::Md5Accepted) => Some("on Linux 7.7 does not give its listener the key"),
            (Self::ExaBgp, Feature::TtlSecurityAccepted) => {
                Some("it does not set the TTL of accepted connections")
            }
            (Self::ExaBgp, Feature::GracefulHelper) => Some("it keeps no routes"),
            (Self::Frr | Self::Bird, Feature::Originate(Ext::LinkBandwidth { .. })) => {
                Some("it strips non-transitive communities towards external peers")
            }
            (
                Self::GoBgp | Self::OpenBgpd,
                Feature::Originate(Ext::LinkBandwidth { .. } | Ext::TransitiveLinkBandwidth { .. }),
            ) => Some("no way to configure it"),
            (Self::GoBgp, Feature::Originate(Ext::RouteOrigin { .. })) => Some("no way to configure it"),
            (Self::OpenBgpd, Feature::Show(Ext::LinkBandwidth { .. })) => {
                Some("it drops non-transitive communities of external peers")
            }
            (Self::OpenBgpd, Feature::AnswerRefresh) => {
                Some("7.7 ignores every ROUTE-REFRESH: `AID IPv4 unicast not negotiated`, from BIRD too")
            }
            (Self::GoBgp | Self::OpenBgpd | Self::ExaBgp, Feature::SecondConnection) => {
                Some("it does not dial once it has accepted, so there is one connection and it works")
            }
            (Self::GoBgp, Feature::AskRefresh) => Some("its soft reset reads its own Adj-RIB-In"),
            (
                _,
                Feature::Ipv4OverIpv6
                | Feature::Md5Dialled
                | Feature::Md5Accepted
                | Feature::TtlSecurityDialled
                | Feature::TtlSecurityAccepted
                | Feature::GracefulHelper
                | Feature::GracefulRestarter
                | Feature::SecondConnection
                | Feature::AskRefresh
                | Feature::AnswerRefresh
                | Feature::Originate(_)
                | Feature::Show(_),
            ) => None,
        }
    }
}
