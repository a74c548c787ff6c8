//! A peer as the API shows it.

use super::Peer;
use crate::config::Auth;
use crate::graceful::Progress;
use crate::rib::Rib;
use crate::session::agree::Identity;
use crate::session::fsm::State;
use crate::speaker::{FamilyStatus, PeerStatus, StateName};
use crate::types::Family;
use crate::wire::capability::RestartState;

impl Peer {
    pub(crate) fn status(&self, identity: &Identity, rib: &Rib) -> PeerStatus {
        let agreed = self.agreed();
        let configured = match self.config.remote_asn {
            crate::config::RemoteAsn::Any => None,
            crate::config::RemoteAsn::Is(asn) => Some(asn),
        };
        let learned = self.record.remote;
        PeerStatus {
            instance: identity.instance.clone(),
            name: self.name.clone(),
            local_asn: identity.asn,
            remote_asn: configured.or(learned.map(|(asn, _)| asn)),
            remote_router_id: agreed.map(|a| a.remote_id).or(learned.map(|(_, id)| id)),
            address: self.address,
            port: self.config.port,
            local_address: self.main.link().map(|link| link.local.ip()),
            state: self.state(),
            established_since: self.record.established_since,
            times_established: self.record.times_established,
            last_down: self.record.last_down.clone(),
            md5: matches!(self.config.auth, Auth::Md5(_)),
            ttl: self.config.ttl,
            graceful_restart: self.config.graceful_restart.map(|g| g.restart_time),
            connect_retry: self.config.timers.connect_retry,
            configured_hold: self.config.timers.hold.seconds(),
            applied_hold: agreed.map(|a| a.hold.seconds()),
            configured_keepalive: self.config.timers.keepalive,
            applied_keepalive: agreed.and_then(|a| a.keepalive),
            families: self
                .config
                .families
                .iter()
                .map(|(family, _)| self.family_status(*family, rib))
                .collect(),
            local_capabilities: self.record.local_capabilities.clone(),
            remote_capabilities: self.record.remote_capabilities.clone(),
            messages_received: self.record.received,
            messages_sent: self.record.sent,
        }
    }

    fn family_status(&self, family: Family, rib: &Rib) -> FamilyStatus {
        let counts = rib.counts(self.id, family);
        FamilyStatus {
            family,
            negotiated: self
                .established()
                .is_some_and(|agreed| agreed.families.contains(&family)),
            received: counts.received,
            accepted: counts.accepted,
            advertised: counts.advertised,
            stale: counts.stale,
            end_of_rib_received: self.end_of_rib.contains(&family),
            end_of_rib_sent: counts.end_of_rib_sent,
        }
    }

    /// How far the peer is, for route selection that is deferred after a restart.
    pub(crate) fn progress(&self, family: Family) -> Progress {
        match self.state() {
            StateName::Idle | StateName::Connect | StateName::Active => return Progress::Away,
            StateName::OpenSent | StateName::OpenConfirm => return Progress::Coming,
            StateName::Established => {}
        }
        let State::Established(agreed) = self.main.fsm.state() else {
            return Progress::Coming;
        };
        let sends_end_of_rib = agreed.families.contains(&family)
            && agreed
                .graceful
                .theirs
                .as_ref()
                .is_some_and(|g| g.state == RestartState::Fresh);
        if sends_end_of_rib && !self.end_of_rib.contains(&family) {
            Progress::Coming
        } else {
            Progress::Done
        }
    }
}
