//! A new configuration of a peer that runs: no more is disturbed than the class of the difference says.

use std::time::Duration;

use super::{Cx, Origin, Peer, Slot, context, holding};
use crate::config::PeerConfig;
use crate::config::change::{self, Change, Class, Live, Opened};
use crate::session::agree::{Agreed, Opener, Refresh, keepalive};
use crate::session::event::{Ending, Event};
use crate::session::fsm::{Initiative, State};
use crate::speaker::{DownReason, Output};
use crate::types::Family;
use crate::wire::route_refresh::Subtype;
use crate::wire::{Cease, RouteRefresh};

use super::stop::Strength;

impl Peer {
    /// Takes the new configuration into force.
    pub(crate) fn reconfigure(&mut self, new: &PeerConfig, cx: &mut Cx<'_>) {
        if self.origin != Origin::Configured {
            // Whether a dynamic neighbour is inside the new prefix was looked at before.
            self.config.address = new.address.clone();
        }
        let change = change::peer(&self.config, new, self.live());
        if change.fields.is_empty() {
            return;
        }
        let old = std::mem::replace(&mut self.config, new.clone());
        self.apply_hold(&old, cx);
        match change.class {
            Class::HardReset => {
                self.reset_for(&change, cx);
                return;
            }
            Class::NoOp | Class::PolicyRefresh | Class::SoftReset => {}
        }
        self.apply_live(&old, &change, cx);
        self.apply_policies(&old, cx);
        if change.class == Class::SoftReset {
            self.apply_soft(&old, cx);
        }
    }

    /// The instance got another ASN or router ID: every OPEN would say something else now.
    pub(crate) fn identity_changed(&mut self, what: &str, cx: &mut Cx<'_>) {
        let why = DownReason::ConfigurationChanged(what.into());
        self.cease(Cease::OtherConfigurationChange, "", Strength::Hard, &why, cx);
        self.backoff.reset();
        self.restart(self.config.timers.idle_hold, cx);
    }

    /// Asks the peer for its routes again (RFC 2918).
    pub(crate) fn refresh_in(&mut self, cx: &mut Cx<'_>) {
        for family in self.refreshable() {
            let message = RouteRefresh {
                family,
                subtype: Subtype::Request,
            };
            self.send(Slot::Main, message.encode(), cx);
        }
    }

    /// Sends everything again.
    pub(crate) fn refresh_out(&mut self, cx: &mut Cx<'_>) {
        for family in self.established_families() {
            cx.rib.refresh(self.id, family);
        }
    }

    pub(crate) fn live(&self) -> Live {
        let link = self.main.link();
        Live {
            opened: match link.map(super::link::Link::opener) {
                None => Opened::Unknown,
                Some(Opener::Here) => Opened::Here,
                Some(Opener::Peer) => Opened::ByPeer,
            },
            remote_asn: self.agreed().map(|agreed| agreed.remote_asn),
            local_address: link.map(|link| link.local.ip()),
        }
    }

    /// Shutdown, or a secret that can't be had: down, or up again.
    fn apply_hold(&mut self, old: &PeerConfig, cx: &mut Cx<'_>) {
        match (holding(old), holding(&self.config)) {
            (None, None) => {
                if let Some(why) = self.held.clone()
                    && let DownReason::MaxPrefixes { family, .. } = *why
                    && limit_of(old, family) != limit_of(&self.config, family)
                {
                    self.held = None;
                    self.restart(Duration::ZERO, cx);
                }
            }
            (_, Some(why)) => {
                // RFC 9003: the people on the other side read why.
                let (cease, text) = match self.config.shutdown.clone() {
                    Some(text) => (Cease::AdministrativeShutdown, text),
                    None => (Cease::OtherConfigurationChange, "".into()),
                };
                self.hold_down((*why).clone(), cx);
                self.cease(cease, &text, Strength::Hard, &why, cx);
            }
            (Some(_), None) => {
                self.held = None;
                self.backoff.reset();
                self.restart(Duration::ZERO, cx);
            }
        }
    }

    fn reset_for(&mut self, change: &Change, cx: &mut Cx<'_>) {
        if self.held.is_some() {
            return;
        }
        let delay = match self.main.fsm.state() {
            // Give the peer the time to take leave of the old session.
            State::Established(_) | State::OpenConfirm(_) | State::OpenSent => self.config.timers.idle_hold,
            State::Idle | State::Connect | State::Active => Duration::ZERO,
        };
        let why = DownReason::ConfigurationChanged(change.because().into());
        // Another AS is another peer: it gets no routes on credit.
        let strength = if change.fields.iter().any(|(name, _)| *name == "remote_asn") {
            Strength::Hard
        } else {
            Strength::Soft
        };
        self.cease(Cease::OtherConfigurationChange, "", strength, &why, cx);
        self.backoff.reset();
        self.restart(delay, cx);
    }

    /// What takes effect on the open connection, or at the next attempt.
    fn apply_live(&mut self, old: &PeerConfig, change: &Change, cx: &mut Cx<'_>) {
        if old.ttl != self.config.ttl {
            let ttl = self.ttl(cx.identity);
            for session in [Some(&self.main), self.other.as_ref()].into_iter().flatten() {
                if let Some(link) = session.link() {
                    cx.out.push(Output::SetTtl { conn: link.conn, ttl });
                }
            }
        }
        if old.timers.keepalive != self.config.timers.keepalive {
            for slot in [Slot::Main, Slot::Other] {
                let Some(hold) = self.agreed_of(slot).map(|agreed| agreed.hold) else {
                    continue;
                };
                let interval = keepalive(hold, self.config.timers.keepalive);
                let mut context = context(&self.config, &self.backoff, Initiative::Waits, cx.now, cx.jitter);
                let session = match slot {
                    Slot::Main => &mut self.main,
                    Slot::Other => match &mut self.other {
                        Some(other) => other,
                        None => continue,
                    },
                };
                session.fsm.set_keepalive(&mut context, interval);
            }
        }
        let dialling = |name: &&str| {
            matches!(
                *name,
                "connect" | "port" | "interface" | "local_address" | "timers.connect_retry"
            )
        };
        if change.fields.iter().any(|(name, _)| dialling(name)) {
            self.dial_anew(cx);
        }
    }

    /// An attempt under way, or the wait for the next, was begun with what is no longer wished.
    fn dial_anew(&mut self, cx: &mut Cx<'_>) {
        match (self.main.fsm.state(), self.initiative()) {
            (State::Active, Initiative::Dials) => {
                self.step(Slot::Main, Event::ConnectRetryTimerExpires, cx);
            }
            (State::Connect, Initiative::Dials | Initiative::Waits) => {
                let why = DownReason::ConfigurationChanged("connect".into());
                let ending = Ending { say: None, why };
                self.step(Slot::Main, Event::AutomaticStop(Box::new(ending)), cx);
                self.restart(Duration::ZERO, cx);
            }
            (
                State::Idle | State::Active | State::OpenSent | State::OpenConfirm(_) | State::Established(_),
                Initiative::Dials | Initiative::Waits,
            ) => {}
        }
    }

    fn apply_policies(&mut self, old: &PeerConfig, cx: &mut Cx<'_>) {
        for family in self.established_families() {
            let find = |config: &PeerConfig| {
                config
                    .families
                    .iter()
                    .find(|(f, _)| *f == family)
                    .map(|(_, c)| c.clone())
            };
            let (Some(was), Some(is)) = (find(old), find(&self.config)) else {
                continue;
            };
            if was.export != is.export {
                cx.rib.set_export(self.id, family, &is.export);
            }
            if was.import != is.import {
                cx.rib.set_import(self.id, family, &is.import);
            }
            if was.max_prefixes != is.max_prefixes {
                cx.rib.set_max_prefixes(self.id, family, is.max_prefixes);
            }
        }
    }

    fn apply_soft(&mut self, old: &PeerConfig, cx: &mut Cx<'_>) {
        if old.reflector_client != self.config.reflector_client {
            cx.rib.set_reflector_client(self.id, self.config.reflector_client);
        }
        self.refresh_in(cx);
    }

    fn refreshable(&self) -> Vec<Family> {
        match self.established() {
            Some(agreed) if agreed.refresh != Refresh::No => agreed.families.clone(),
            Some(_) | None => Vec::new(),
        }
    }

    fn established_families(&self) -> Vec<Family> {
        self.established()
            .map(|agreed| agreed.families.clone())
            .unwrap_or_default()
    }

    pub(super) fn established(&self) -> Option<&Agreed> {
        match self.main.fsm.state() {
            State::Established(agreed) => Some(agreed),
            State::Idle | State::Connect | State::Active | State::OpenSent | State::OpenConfirm(_) => None,
        }
    }
}

fn limit_of(config: &PeerConfig, family: Family) -> Option<crate::config::MaxPrefixes> {
    config.families.iter().find(|(f, _)| *f == family)?.1.max_prefixes
}
