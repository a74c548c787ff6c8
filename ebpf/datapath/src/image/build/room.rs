//! Whether a service fits into the maps as they are, before anything of it is written.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ebpf_abi::config::Member;
use ebpf_abi::service::FrontendKey;
use ebpf_abi::{V4, V6};
use ipnet::IpNet;

use super::super::places::Places;
use super::holdings::Filled;
use super::{Builder, count, members};
use crate::names::{Family, ServiceName, Socket};
use crate::problem::Problem;
use crate::services::ServicePlan;

/// What is missing.
pub(super) struct Full {
    pub(super) map: &'static str,
    pub(super) used: u32,
    pub(super) needed: u32,
    pub(super) limit: u32,
}

impl Full {
    pub(super) fn of(self, service: &ServiceName) -> Problem {
        Problem::MapFull {
            service: service.clone(),
            map: self.map,
            used: self.used,
            needed: self.needed,
            limit: self.limit,
        }
    }
}

impl Builder<'_> {
    /// Whether everything fits, but for the ranges of slots.
    pub(super) fn check(&self, service: &ServicePlan, at: usize, number: u32) -> Result<(), Full> {
        let limits = &self.settings.limits;
        let mut more = Filled::default();
        let (mut places, mut lists) = (0, BTreeSet::new());
        let mut wildcards = BTreeSet::new();
        let mut affine: BTreeSet<usize> = BTreeSet::new();
        for frontend in &service.frontends {
            let known = self.before.frontend(&frontend.socket);
            let mut keys = u32::from(known.is_none());
            if frontend.kind.owns_address() && wildcards.insert(frontend.socket.address) {
                keys += u32::from(!self.wildcard_exists(frontend.socket.address));
            }
            match frontend.socket.family() {
                Family::V4 => more.frontends4 += keys,
                Family::V6 => more.frontends6 += keys,
            }
            places += u32::from(self.kept_frontend(frontend, number).is_none());
            if frontend.affinity.is_some() {
                affine.extend([frontend.outer, frontend.inner]);
            }
            if let Some(ranges) = &frontend.ranges
                && !ranges.nets.is_empty()
                && !self.held.lists.contains_key(&ranges.nets)
                && lists.insert(&ranges.nets)
            {
                let v4 = ranges
                    .nets
                    .iter()
                    .filter(|net| matches!(net, IpNet::V4(_)))
                    .count();
                more.ranges4 += count(v4);
                more.ranges6 += count(ranges.nets.len() - v4);
            }
        }
        let filled = &self.held.filled;
        fits("FRONTENDS4", filled.frontends4, more.frontends4, limits.frontends)?;
        fits("FRONTENDS6", filled.frontends6, more.frontends6, limits.frontends)?;
        let used = limits.places - self.held.frontends.free().min(limits.places);
        fits("LIVE_FRONTENDS", used, places, limits.places)?;
        fits("RANGES4", filled.ranges4, more.ranges4, limits.ranges)?;
        fits("RANGES6", filled.ranges6, more.ranges6, limits.ranges)?;
        let new_sets = (0..service.sets.len()).filter(|set| !self.kept.contains_key(&(at, *set)));
        let new_sets = count(new_sets.count());
        if !self.held.sets.has(new_sets) {
            // Place 0 is used by nobody.
            return fits(
                "SETS",
                self.held.sets.used().saturating_add(1),
                new_sets,
                limits.sets,
            );
        }
        let (mut new4, mut new6) = (BTreeSet::new(), BTreeSet::new());
        for (index, set) in service.sets.iter().enumerate() {
            for socket in members(set) {
                if !self.held.known.contains_key(socket) && !self.given.contains_key(socket) {
                    match socket.family() {
                        Family::V4 => new4.insert(socket),
                        Family::V6 => new6.insert(socket),
                    };
                }
            }
            if affine.contains(&index) {
                let place = self.kept.get(&(at, index));
                let known = |socket: &&Socket| {
                    let backend = self.held.known.get(*socket).copied();
                    place.zip(backend).is_some_and(|(set, backend)| {
                        let set = *set;
                        self.before.members.contains(&Member { set, backend })
                    })
                };
                more.members += count(set.serving.iter().filter(|socket| !known(socket)).count());
            }
        }
        fits("MEMBERS", filled.members, more.members, limits.members)?;
        let used = |places: &Places| limits.backends - places.free().min(limits.backends);
        fits(
            "BACKENDS4",
            used(&self.held.backends4),
            count(new4.len()),
            limits.backends,
        )?;
        fits(
            "BACKENDS6",
            used(&self.held.backends6),
            count(new6.len()),
            limits.backends,
        )
    }

    pub(super) fn wildcard_exists(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => {
                let key = FrontendKey::wildcard(V4::from(address));
                self.before.frontends4.contains_key(&key) || self.image.frontends4.contains_key(&key)
            }
            IpAddr::V6(address) => {
                let key = FrontendKey::wildcard(V6::from(address));
                self.before.frontends6.contains_key(&key) || self.image.frontends6.contains_key(&key)
            }
        }
    }
}

fn fits(map: &'static str, used: u32, needed: u32, limit: u32) -> Result<(), Full> {
    if needed == 0 || used.saturating_add(needed) <= limit {
        return Ok(());
    }
    Err(Full {
        map,
        used,
        needed,
        limit,
    })
}
