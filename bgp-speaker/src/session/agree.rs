//! OPEN: what this side offers, whether the peer's is acceptable, and what both agree on.

use std::time::Duration;

use bytes::Bytes;

use crate::config::{PeerConfig, RemoteAsn};
use crate::session::event::Ending;
use crate::session::fsm::sent_because;
use crate::speaker::DownReason;
use crate::types::{Asn, AsnWidth, Family, HoldTime, Name, RouterId, SessionKind};
use crate::wire::capability::{
    Capability, ExtendedNextHop, GracefulRestart, NotificationSupport, RestartState,
};
use crate::wire::{MAX_EXTENDED_MESSAGE, MAX_MESSAGE, Notification, Open};

/// AFI of IPv6, as next hop of IPv4 routes (RFC 8950).
const AFI_IPV6: u16 = 2;

/// Who this speaker is, in one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub instance: Name,
    pub asn: Asn,
    pub router_id: RouterId,
    /// For the FQDN capability; not sent while unknown.
    pub host: Option<Name>,
}

/// How much the OPEN offers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Offer {
    #[default]
    Full,
    /// No optional parameter at all: the peer answered one with Unsupported Optional Parameter
    /// (RFC 5492 3).
    Plain,
}

/// What both OPENs agree on. Valid in OpenConfirm and Established.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreed {
    pub remote_asn: Asn,
    pub remote_id: RouterId,
    pub kind: SessionKind,
    pub hold: HoldTime,
    /// `None`: no keepalives (a hold time of 0).
    pub keepalive: Option<Duration>,
    /// In the configured order.
    pub families: Vec<Family>,
    pub asn_width: AsnWidth,
    pub refresh: Refresh,
    /// Octets of the longest message.
    pub max_message: usize,
    /// Families that may have an IPv6 next hop.
    pub extended_next_hop: Vec<Family>,
    pub graceful: Graceful,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refresh {
    No,
    /// RFC 2918.
    Plain,
    /// RFC 7313.
    Enhanced,
}

/// Graceful restart as both sides announced it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graceful {
    /// What the peer's capability said.
    pub theirs: Option<GracefulRestart>,
    /// Families whose routes the peer keeps while this side restarts.
    pub ours: Vec<Family>,
    /// Both sides set the N bit (RFC 8538).
    pub notification: NotificationSupport,
}

/// The OPEN of this side. `restart` is its graceful restart capability.
#[must_use]
pub fn our_open(identity: &Identity, config: &PeerConfig, offer: Offer, restart: GracefulRestart) -> Open {
    let capabilities = match offer {
        Offer::Plain => Vec::new(),
        Offer::Full => capabilities(identity, config, restart),
    };
    Open {
        asn: identity.asn,
        hold_time: config.timers.hold,
        router_id: identity.router_id,
        capabilities,
    }
}

/// Judges the peer's OPEN (RFC 4271 6.2; its fields by themselves were judged when it was decoded).
///
/// # Errors
/// How the session ends instead.
pub fn agree(
    identity: &Identity,
    config: &PeerConfig,
    ours: &Open,
    theirs: &Open,
) -> Result<Agreed, Box<Ending>> {
    if let RemoteAsn::Is(expected) = config.remote_asn
        && expected != theirs.asn
    {
        return Err(Box::new(Ending {
            say: Some(Notification::bad_peer_as()),
            why: DownReason::BadPeerAs {
                expected,
                got: theirs.asn.get(),
            },
        }));
    }
    let kind = if theirs.asn == identity.asn {
        SessionKind::Internal
    } else {
        SessionKind::External
    };
    // RFC 6286 2.2: unique within an AS; across ASes equal identifiers are no error.
    if kind == SessionKind::Internal && theirs.router_id == identity.router_id {
        return Err(refuse(
            Notification::bad_identifier(),
            "the peer has this speaker's router ID",
        ));
    }
    let offered = ours.families();
    let wanted = theirs.families();
    let families: Vec<Family> = offered.iter().copied().filter(|f| wanted.contains(f)).collect();
    if families.is_empty() {
        return Err(refuse(
            Notification::unsupported_capability(&multiprotocol(&offered)),
            &format!("no common address family: {offered:?} here, {wanted:?} there"),
        ));
    }
    let both = |capability: &Capability| ours.offers(capability) && theirs.offers(capability);
    let hold = ours.hold_time.min(theirs.hold_time);
    Ok(Agreed {
        remote_asn: theirs.asn,
        remote_id: theirs.router_id,
        kind,
        hold,
        keepalive: keepalive(hold, config.timers.keepalive),
        asn_width: if ours.four_octet_asn() && theirs.four_octet_asn() {
            AsnWidth::Four
        } else {
            AsnWidth::Two
        },
        refresh: if !both(&Capability::RouteRefresh) {
            Refresh::No
        } else if both(&Capability::EnhancedRouteRefresh) {
            Refresh::Enhanced
        } else {
            Refresh::Plain
        },
        max_message: if both(&Capability::ExtendedMessage) {
            MAX_EXTENDED_MESSAGE
        } else {
            MAX_MESSAGE
        },
        extended_next_hop: families
            .iter()
            .copied()
            .filter(|f| ours.extended_next_hop(*f, AFI_IPV6) && theirs.extended_next_hop(*f, AFI_IPV6))
            .collect(),
        graceful: graceful(ours, theirs),
        families,
    })
}

/// The interval between KEEPALIVEs: the wished one, but at least three in a hold time and at most one a
/// second (RFC 4271 4.4).
#[must_use]
pub fn keepalive(hold: HoldTime, wished: Duration) -> Option<Duration> {
    let third = Duration::from_secs(u64::from(hold.seconds())) / 3;
    if third.is_zero() {
        return None;
    }
    let interval = if wished.is_zero() {
        third
    } else {
        wished.min(third)
    };
    Some(interval.max(Duration::from_secs(1)))
}

/// Which side's connection survives a collision (RFC 4271 6.8; RFC 6286 2.3 breaks the tie by ASN).
#[must_use]
pub fn collision_winner(local: (RouterId, Asn), remote: (RouterId, Asn)) -> Opener {
    if local < remote {
        Opener::Peer
    } else {
        Opener::Here
    }
}

/// Who opened a TCP connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opener {
    Here,
    Peer,
}

fn capabilities(identity: &Identity, config: &PeerConfig, restart: GracefulRestart) -> Vec<Capability> {
    let families: Vec<Family> = config.families.iter().map(|(f, _)| *f).collect();
    let mut capabilities = multiprotocol(&families);
    capabilities.push(Capability::RouteRefresh);
    if families.contains(&Family::IPV4_UNICAST) {
        capabilities.push(Capability::ExtendedNextHop(vec![ExtendedNextHop {
            family: Family::IPV4_UNICAST,
            next_hop_afi: AFI_IPV6,
        }]));
    }
    capabilities.push(Capability::ExtendedMessage);
    capabilities.push(Capability::GracefulRestart(restart));
    capabilities.push(Capability::FourOctetAsn(identity.asn.get()));
    capabilities.push(Capability::EnhancedRouteRefresh);
    if let Some(host) = &identity.host {
        capabilities.push(Capability::Fqdn {
            host: Bytes::copy_from_slice(host.as_bytes()),
            domain: Bytes::new(),
        });
    }
    capabilities.push(Capability::SoftwareVersion(Bytes::from_static(
        concat!("Stentor/", env!("CARGO_PKG_VERSION")).as_bytes(),
    )));
    capabilities
}

fn multiprotocol(families: &[Family]) -> Vec<Capability> {
    families.iter().map(|f| Capability::Multiprotocol(*f)).collect()
}

fn graceful(ours: &Open, theirs: &Open) -> Graceful {
    let here = ours.graceful_restart();
    let there = theirs.graceful_restart();
    let notification = match (here.map(|g| g.notification), there.map(|g| g.notification)) {
        (Some(NotificationSupport::Yes), Some(NotificationSupport::Yes)) => NotificationSupport::Yes,
        (
            None | Some(NotificationSupport::No | NotificationSupport::Yes),
            None | Some(NotificationSupport::No | NotificationSupport::Yes),
        ) => NotificationSupport::No,
    };
    let wanted = theirs.families();
    Graceful {
        theirs: there.cloned(),
        ours: match (here, there) {
            (Some(here), Some(_)) => here
                .families
                .iter()
                .map(|(f, _)| *f)
                .filter(|f| wanted.contains(f))
                .collect(),
            (None, _) | (_, None) => Vec::new(),
        },
        notification,
    }
}

impl Agreed {
    /// Whether the peer said, in this session's OPEN, that it has just restarted.
    #[must_use]
    pub fn peer_restarted(&self) -> bool {
        self.graceful
            .theirs
            .as_ref()
            .is_some_and(|g| g.state == RestartState::Restarted)
    }
}

fn refuse(answer: Notification, words: &str) -> Box<Ending> {
    let why = sent_because(&answer, words);
    Box::new(Ending {
        say: Some(answer),
        why,
    })
}

#[cfg(test)]
mod tests;
