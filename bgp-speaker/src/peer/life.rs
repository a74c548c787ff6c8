//! What the beginning and the end of a session mean to the peer: routes, backoff, the next attempt.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::dial::ttl_option;
use super::{Cx, Damping, Peer, Slot};
use crate::config::{MaxPrefixesAction, RemoteAsn};
use crate::graceful::{Past, loss};
use crate::rib::{Down, EndOfRib, ExtendedNextHop, FamilyInfo, PeerInfo, Refresh as RibRefresh};
use crate::session::agree::{Agreed, Offer, Refresh};
use crate::speaker::{Companions, DownReason, Output, StateName};
use crate::types::{Family, SessionKind};
use crate::wire::{Cease, update};

/// A session that lived so long was a success, whatever ended it.
const LIVED: Duration = Duration::from_secs(60);

impl Peer {
    pub(super) fn came_up(&mut self, slot: Slot, cx: &mut Cx<'_>) {
        let Some(session) = self.session_mut(slot) else {
            return;
        };
        let Some(agreed) = session.fsm.state().agreed().cloned() else {
            return;
        };
        let Some(link) = session.link_mut() else { return };
        let (conn, local, companions) = (link.conn, link.local.ip(), link.companions);
        link.context = Some(update::Context {
            asn_width: agreed.asn_width,
            session: agreed.kind,
            peer_asn: agreed.remote_asn,
            first_as: update::FirstAs::Peer,
            local_address: Some(local),
            families: agreed.families.clone(),
            ipv6_next_hop: agreed.extended_next_hop.clone(),
        });
        // Only now is it known whether a peer of any AS is an external one.
        if self.config.remote_asn == RemoteAsn::Any && agreed.kind == SessionKind::External {
            let ttl = ttl_option(self.config.ttl, SessionKind::External);
            cx.out.push(Output::SetTtl { conn, ttl });
        }
        self.record.established_since = Some(cx.now);
        self.record.times_established += 1;
        self.record.remote = Some((agreed.remote_asn, agreed.remote_id));
        self.past = Past::SessionLost;
        self.end_of_rib.clear();
        let flush = self.helper.session_up(cx.now, &agreed);
        let info = self.info(&agreed, local, companions);
        cx.rib.peer_up(self.id, info);
        for family in flush {
            cx.rib.sweep_stale(self.id, family);
        }
        self.stand_beside(slot, cx);
    }

    /// An attempt ended before it was a session.
    pub(super) fn failed(&mut self, why: &Arc<DownReason>, cx: &Cx<'_>) {
        if self.state() == StateName::Established || self.lost_to_another(why) {
            return;
        }
        self.record.last_down = Some((cx.now, Arc::clone(why)));
        self.damping = damping(why);
        // This side ended it itself: no sign that the next attempt would fail.
        if matches!(**why, DownReason::ConfigurationChanged(_)) {
            self.idle = self.backoff.peek(&self.config.timers);
            return;
        }
        let delay = self.backoff.next(&self.config.timers);
        // Nobody answered: a person who set a shorter retry wants it tried that often.
        self.idle = if matches!(**why, DownReason::ConnectFailed(_)) {
            delay.min(self.config.timers.connect_retry)
        } else {
            delay
        };
        // RFC 5492 3: once more, without what the peer does not know.
        if matches!(
            **why,
            DownReason::NotificationReceived {
                code: 2,
                subcode: 4,
                ..
            }
        ) && self.offer == Offer::Full
            && self
                .config
                .families
                .iter()
                .any(|(f, _)| *f == Family::IPV4_UNICAST)
        {
            self.offer = Offer::Plain;
            self.damping = Damping::Open;
            self.idle = self.config.timers.idle_hold;
        }
    }

    /// A connection that gave way to another one failed in nothing (RFC 4271 6.8), whichever side closed it.
    fn lost_to_another(&self, why: &DownReason) -> bool {
        match why {
            DownReason::Collision => true,
            DownReason::NotificationReceived { code, subcode, .. } => {
                (*code, *subcode) == (6, Cease::ConnectionCollisionResolution.subcode())
                    && self.conns().iter().any(Option::is_some)
            }
            DownReason::Deconfigured
            | DownReason::Shutdown(_)
            | DownReason::OperatorReset(_)
            | DownReason::ConfigurationChanged(_)
            | DownReason::MissingSecret(_)
            | DownReason::ConnectFailed(_)
            | DownReason::ConnectionClosed(_)
            | DownReason::HoldTimerExpired(_)
            | DownReason::SendHoldTimerExpired(_)
            | DownReason::LinkDown(_)
            | DownReason::MaxPrefixes { .. }
            | DownReason::BadPeerAs { .. }
            | DownReason::NotificationSent { .. }
            | DownReason::Stopping => false,
        }
    }

    /// The established session ended.
    pub(super) fn went_down(&mut self, why: &Arc<DownReason>, agreed: &Agreed, cx: &mut Cx<'_>) {
        let lost = self.helper.session_lost(cx.now, agreed, loss(why));
        for family in lost.sweep {
            cx.rib.sweep_stale(self.id, family);
        }
        let down = if lost.keep.is_empty() {
            Down::Flush
        } else {
            Down::KeepStale(lost.keep)
        };
        cx.rib.peer_down(self.id, &down);
        self.refreshing.clear();
        self.end_of_rib.clear();
        self.offer = Offer::Full;
        let lived = self
            .record
            .established_since
            .take()
            .is_some_and(|since| cx.now.saturating_duration_since(since) >= LIVED);
        self.damping = damping(why);
        // A session that came up and was not refused for what it said is no failure.
        if lived || self.damping == Damping::Open {
            self.backoff.reset();
        }
        self.idle = self.backoff.next(&self.config.timers);
        self.record.last_down = Some((cx.now, Arc::clone(why)));
        if let DownReason::MaxPrefixes { family, .. } = **why {
            match self.teardown_restart(family) {
                Some(delay) => self.idle = delay,
                None => self.held = Some(Arc::clone(why)),
            }
        }
    }

    fn teardown_restart(&self, family: Family) -> Option<Duration> {
        let (_, config) = self.config.families.iter().find(|(f, _)| *f == family)?;
        match config.max_prefixes?.action {
            MaxPrefixesAction::Teardown { restart } => restart,
            MaxPrefixesAction::Warn | MaxPrefixesAction::Refuse => None,
        }
    }

    fn info(&self, agreed: &Agreed, local: IpAddr, companions: Companions) -> PeerInfo {
        let families = agreed.families.iter().filter_map(|family| {
            let (_, config) = self.config.families.iter().find(|(f, _)| f == family)?;
            let extended_next_hop = if agreed.extended_next_hop.contains(family) {
                ExtendedNextHop::Agreed
            } else {
                ExtendedNextHop::No
            };
            let info = FamilyInfo {
                export: Arc::clone(&config.export),
                import: Arc::clone(&config.import),
                max_prefixes: config.max_prefixes,
                extended_next_hop,
            };
            Some((*family, info))
        });
        PeerInfo {
            session: agreed.kind,
            asn: agreed.remote_asn,
            router_id: agreed.remote_id,
            address: self.address,
            local_address: local,
            local_ipv4: companions.ipv4,
            local_ipv6: companions.ipv6,
            asn_width: agreed.asn_width,
            max_message: agreed.max_message,
            reflector_client: self.config.reflector_client,
            end_of_rib: match agreed.graceful.theirs {
                Some(_) => EndOfRib::Send,
                None => EndOfRib::Omit,
            },
            refresh: match agreed.refresh {
                Refresh::No | Refresh::Plain => RibRefresh::Plain,
                Refresh::Enhanced => RibRefresh::Enhanced,
            },
            families: families.collect(),
        }
    }
}

/// What was said in a NOTIFICATION other than Cease will be said again.
fn damping(why: &DownReason) -> Damping {
    match why {
        DownReason::NotificationSent { code, .. } | DownReason::NotificationReceived { code, .. } => {
            match code {
                6 => Damping::Open,
                _ => Damping::Damped,
            }
        }
        DownReason::BadPeerAs { .. } | DownReason::MaxPrefixes { .. } => Damping::Damped,
        DownReason::Deconfigured
        | DownReason::Shutdown(_)
        | DownReason::OperatorReset(_)
        | DownReason::ConfigurationChanged(_)
        | DownReason::MissingSecret(_)
        | DownReason::ConnectFailed(_)
        | DownReason::ConnectionClosed(_)
        | DownReason::HoldTimerExpired(_)
        | DownReason::SendHoldTimerExpired(_)
        | DownReason::LinkDown(_)
        | DownReason::Collision
        | DownReason::Stopping => Damping::Open,
    }
}
