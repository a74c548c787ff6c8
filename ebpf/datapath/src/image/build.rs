//! From a plan to the image: one service after the other, each whole or not at all.
//!
//! Services that are in the maps already come first, then the older ones: a newcomer never displaces who was served.

mod entries;
mod holdings;
mod keyed;
mod room;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ebpf_abi::config::{Config, Member, Node, RangeKey, setting};
use ebpf_abi::service::{Backend, Frontend, FrontendKey, Selection, Set, flag};
use ebpf_abi::{BackendId, FrontendId, V4, V6};
use ipnet::IpNet;

use self::entries::{backend, flags, kind_flag, octets, range_keys, reach_flag};
use self::holdings::Holdings;
pub(crate) use self::keyed::Keyed;
use self::room::Full;
use super::sets::{self, Place};
use super::{MapImage, Table};
use crate::names::{Family, Socket};
use crate::problem::Problem;
use crate::services::{At, FrontendPlan, Plan, ServicePlan, SetPlan};
use crate::settings::{Pods, Settings, ThisNode};

/// The list without any range. It has no entries that could be read back, so its number is fixed.
const NOBODY: u32 = u32::MAX;
/// The other nodes. Not of any service, so its number is fixed too.
const PEERS: u32 = RangeKey::<V4>::PEERS;

/// An image, and what did not fit into it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Built {
    pub image: MapImage,
    /// [`Problem::MapFull`] and [`Problem::NodesFull`]. Part of the room may come free with this image.
    pub refused: Vec<Problem>,
}

/// The image of a plan, with the places of what is in the maps already.
pub fn build(plan: &Plan, before: &MapImage, node: &ThisNode, settings: &Settings) -> Built {
    let numbers = sets::numbers(&plan.services);
    let held = Holdings::of(before, &settings.limits);
    let mut builder = Builder::new(plan, before, settings, sets::kept(plan, &numbers, before), held);
    builder.nodes(plan);
    builder.admit_all(&numbers);
    builder.finish(node)
}

struct Builder<'a> {
    plan: &'a Plan,
    before: &'a MapImage,
    settings: &'a Settings,
    image: MapImage,
    refused: Vec<Problem>,
    kept: BTreeMap<Place, u32>,
    /// Ids of backends of this image.
    given: HashMap<Socket, BackendId>,
    held: Holdings,
}

impl<'a> Builder<'a> {
    fn new(
        plan: &'a Plan,
        before: &'a MapImage,
        settings: &'a Settings,
        kept: BTreeMap<Place, u32>,
        held: Holdings,
    ) -> Self {
        Self {
            plan,
            before,
            settings,
            image: MapImage::default(),
            refused: Vec::new(),
            kept,
            given: HashMap::new(),
            held,
        }
    }

    /// Places of nodes never change what they mean either.
    fn nodes(&mut self, plan: &Plan) {
        let limit = self.settings.limits.nodes;
        for (name, addresses) in &plan.nodes {
            let node = node_of(addresses);
            if node == Node::default() {
                continue;
            }
            let known = self.held.known_nodes.get(&octets(&node)).copied();
            let Some(index) = known.or_else(|| self.held.node_places.take()) else {
                let node = name.clone();
                self.refused.push(Problem::NodesFull { node, limit });
                continue;
            };
            self.image.nodes.insert(index, node);
            self.held.nodes.insert(name.clone(), index);
        }
    }

    /// Every service of the plan, in the order of precedence.
    fn admit_all(&mut self, numbers: &[u32]) {
        let (plan, before) = (self.plan, self.before);
        let services = plan.services.iter().zip(numbers).enumerate();
        let mut order: Vec<(bool, &ServicePlan, usize, u32)> = services
            .map(|(at, (service, number))| {
                let runs = service.frontends.iter().any(|frontend| {
                    let known = before.frontend(&frontend.socket);
                    known.is_some_and(|known| known.service == *number)
                });
                (!runs, service, at, *number)
            })
            .collect();
        order.sort_by_key(|(new, service, at, _)| (*new, service.age, *at));
        for (_, service, at, number) in order {
            if let Err(full) = self.admit(service, at, number) {
                self.refused.push(full.of(&service.name));
            }
        }
    }

    /// All of a service, or nothing.
    fn admit(&mut self, service: &ServicePlan, at: usize, number: u32) -> Result<(), Full> {
        if service.frontends.is_empty() {
            return Ok(());
        }
        self.check(service, at, number)?;
        let words = self.write_sets(service, at)?;
        for frontend in &service.frontends {
            self.write_frontend(service, frontend, number, &words);
        }
        Ok(())
    }

    /// The id a frontend has, if it is the same service's still.
    fn kept_frontend(&self, frontend: &FrontendPlan, number: u32) -> Option<FrontendId> {
        let known = self.before.frontend(&frontend.socket)?;
        let live = self.before.live_frontends.get(&known.id.index()) == Some(&known.id);
        (known.service == number && live).then_some(known.id)
    }

    /// Places of the sets of a service, in their order.
    fn write_sets(&mut self, service: &ServicePlan, at: usize) -> Result<Vec<u32>, Full> {
        let mut runs: Vec<(u32, u32)> = Vec::new();
        for (index, set) in service.sets.iter().enumerate() {
            let total = count(set.serving.len() + set.draining.len());
            if total == 0 || self.unchanged(set, at, index).is_some() {
                runs.push((0, 0));
                continue;
            }
            let Some(first) = self.held.runs.take(total) else {
                let limit = self.settings.limits.slots;
                let full = Full {
                    map: "SLOTS",
                    used: limit - self.held.runs.free().min(limit),
                    needed: total,
                    limit,
                };
                for (first, length) in runs.into_iter().filter(|(_, length)| *length != 0) {
                    self.held.runs.give_back(first, length);
                }
                return Err(full);
            };
            runs.push((first, total));
        }
        let mut places = Vec::with_capacity(service.sets.len());
        for (index, (set, (first, _))) in service.sets.iter().zip(runs).enumerate() {
            let place = self
                .kept
                .get(&(at, index))
                .copied()
                .or_else(|| self.held.sets.take());
            // `check` saw that there is one.
            let place = place.unwrap_or_default();
            let word = self.unchanged(set, at, index);
            for socket in members(set) {
                self.write_backend(socket);
            }
            let word = word.unwrap_or_else(|| {
                let total = set.serving.len() + set.draining.len();
                Set::new(first, short(set.serving.len()), short(total))
            });
            if word.total() != 0 {
                let ids = set.serving.iter().chain(&set.draining);
                let ids: Vec<BackendId> = ids.filter_map(|socket| self.given.get(socket).copied()).collect();
                let known = self.before.slots.get(&word.first());
                let run = known.filter(|known| known[..] == ids[..]).cloned();
                self.image
                    .slots
                    .insert(word.first(), run.unwrap_or_else(|| ids.into()));
            }
            self.image.sets.insert(place, word);
            places.push(place);
        }
        Ok(places)
    }

    /// The word of a set that keeps its place and its members.
    fn unchanged(&self, set: &SetPlan, at: usize, index: usize) -> Option<Set> {
        let place = self.kept.get(&(at, index))?;
        let word = self.before.sets.get(place)?;
        let (serving, draining) = self.before.members_of(*place);
        let same = |ids: &[BackendId], sockets: &[Socket]| {
            ids.len() == sockets.len()
                && ids
                    .iter()
                    .zip(sockets)
                    .all(|(id, socket)| self.held.known.get(socket) == Some(id))
        };
        (same(serving, &set.serving) && same(draining, &set.draining)).then_some(*word)
    }

    fn write_backend(&mut self, socket: &Socket) {
        if self.given.contains_key(socket) {
            return;
        }
        let Some(plan) = self.plan.backends.get(socket) else {
            return;
        };
        let places = match socket.family() {
            Family::V4 => &mut self.held.backends4,
            Family::V6 => &mut self.held.backends6,
        };
        let id = self.held.known.get(socket).copied().or_else(|| {
            let (index, generation) = places.take()?;
            BackendId::new(index, generation)
        });
        let Some(id) = id else { return };
        self.given.insert(*socket, id);
        let node = match &plan.at {
            At::Node(name) => self.held.nodes.get(name).copied().unwrap_or(0),
            At::Here | At::Unknown => 0,
        };
        match socket.address {
            IpAddr::V4(address) => {
                let backend = backend(id, V4::from(address), socket, plan, node);
                self.image.backends4.insert(id.index(), backend);
            }
            IpAddr::V6(address) => {
                let backend = backend(id, V6::from(address), socket, plan, node);
                self.image.backends6.insert(id.index(), backend);
            }
        }
        // What answers a pod is seen on its way to it, wherever it comes from.
        if plan.at == At::Here || self.settings.pods == Pods::ByPackets {
            self.image.watch(socket.address);
        }
    }

    fn write_frontend(&mut self, service: &ServicePlan, plan: &FrontendPlan, number: u32, places: &[u32]) {
        let id = self.kept_frontend(plan, number).or_else(|| {
            let (index, generation) = self.held.frontends.take()?;
            FrontendId::new(index, generation)
        });
        // `check` saw that there is one.
        let Some(id) = id else { return };
        let place = |set: usize| places.get(set).copied().unwrap_or_default();
        let (set, inner_set) = (place(plan.outer), place(plan.inner));
        let local_set = plan.local.map(place);
        let local = plan.local.zip(local_set);
        for (index, set) in [(plan.outer, set), (plan.inner, inner_set)]
            .into_iter()
            .chain(local)
        {
            let Some(of) = service.sets.get(index) else {
                continue;
            };
            if plan.affinity.is_some() {
                self.write_members(of, set);
            }
            match plan.selection {
                Selection::Random => {}
                Selection::Maglev => self.write_table(of, set),
            }
        }
        let frontend = Frontend {
            id,
            set,
            inner_set,
            service: number,
            affinity: plan.affinity.unwrap_or(0),
            ranges: self.write_ranges(plan),
            flags: flags(service, plan),
            selection: plan.selection.number(),
            dispatch: plan.dispatch.number(),
            local_set: local_set.unwrap_or(0),
        };
        self.image.live_frontends.insert(id.index(), id);
        self.image.watch(plan.socket.address);
        let (port, protocol) = (plan.socket.port.to_be(), plan.socket.protocol.number());
        match plan.socket.address {
            IpAddr::V4(address) => {
                let key = FrontendKey::new(V4::from(address), port, protocol);
                self.held.filled.frontends4 += u32::from(!self.before.frontends4.contains_key(&key));
                self.image.frontends4.insert(key, frontend);
            }
            IpAddr::V6(address) => {
                let key = FrontendKey::new(V6::from(address), port, protocol);
                self.held.filled.frontends6 += u32::from(!self.before.frontends6.contains_key(&key));
                self.image.frontends6.insert(key, frontend);
            }
        }
        if plan.kind.owns_address() {
            self.write_wildcard(plan);
        }
    }

    /// Services may share an address, so its flags are those of all.
    fn write_wildcard(&mut self, plan: &FrontendPlan) {
        let new = u32::from(!self.wildcard_exists(plan.socket.address));
        let entry = match plan.socket.address {
            IpAddr::V4(address) => {
                self.held.filled.frontends4 += new;
                let key = FrontendKey::wildcard(V4::from(address));
                self.image.frontends4.entry(key).or_default()
            }
            IpAddr::V6(address) => {
                self.held.filled.frontends6 += new;
                let key = FrontendKey::wildcard(V6::from(address));
                self.image.frontends6.entry(key).or_default()
            }
        };
        entry.flags |= flag::WILDCARD | kind_flag(plan.kind) | reach_flag(plan.reach);
    }

    fn write_members(&mut self, plan: &SetPlan, set: u32) {
        for socket in &plan.serving {
            let Some(backend) = self.given.get(socket).copied() else {
                continue;
            };
            let member = Member { set, backend };
            if self.image.members.insert(member) && !self.before.members.contains(&member) {
                self.held.filled.members += 1;
            }
        }
    }

    fn write_table(&mut self, plan: &SetPlan, set: u32) {
        if plan.serving.is_empty() || self.image.tables.contains_key(&set) {
            return;
        }
        let family = plan.key.family;
        let (serving, _) = self.image.members_of(set);
        let known = self.before.tables.get(&set);
        let same_members = self.before.members_of(set).0 == serving;
        let members: Arc<[BackendId]> = match known.filter(|table| same_members && table.family == family) {
            Some(table) => table.members.clone(),
            None => self.image.in_order(family, serving).into(),
        };
        let table = Table {
            family,
            size: self.settings.maglev_size,
            seed: self.settings.seeds.table,
            members,
        };
        self.image.tables.insert(set, table);
    }

    /// Number of the list; 0 for none.
    fn write_ranges(&mut self, plan: &FrontendPlan) -> u32 {
        let Some(ranges) = &plan.ranges else { return 0 };
        if ranges.nets.is_empty() {
            return NOBODY;
        }
        let known = self.held.lists.get(&ranges.nets).copied();
        // There are more numbers than entries.
        let Some(list) = known.or_else(|| self.held.list_numbers.take()) else {
            return NOBODY;
        };
        if known.is_none() {
            self.held.lists.insert(ranges.nets.clone(), list);
        }
        let (keys4, keys6) = range_keys(&ranges.nets, list);
        for key in keys4 {
            if self.image.ranges4.insert(key) && !self.before.ranges4.contains(&key) {
                self.held.filled.ranges4 += 1;
            }
        }
        for key in keys6 {
            if self.image.ranges6.insert(key) && !self.before.ranges6.contains(&key) {
                self.held.filled.ranges6 += 1;
            }
        }
        list
    }

    /// Tombstones, settings, and the bits of this node's own addresses.
    fn finish(mut self, node: &ThisNode) -> Built {
        leave_tombstones(self.before, &mut self.image);
        for address in &node.addresses {
            self.image.watch(*address);
        }
        for address in self.settings.pods.to_oneself() {
            self.image.watch(address);
        }
        let peers = &self.plan.peers;
        for address in peers.here.values() {
            self.image.watch(*address);
        }
        let nets: Vec<IpNet> = peers.others.iter().copied().map(IpNet::from).collect();
        let (keys4, keys6) = range_keys(&nets, PEERS);
        self.image.ranges4.extend(keys4);
        self.image.ranges6.extend(keys6);
        let config = self.settings.config;
        let nat_ports = self.settings.nat_ports();
        self.image.config = Config {
            maglev_size: self.settings.maglev_size,
            seed4: self.settings.seeds.v4,
            seed6: self.settings.seeds.v6,
            settings: config.settings | setting::ENABLED,
            nat_first: *nat_ports.start(),
            nat_last: *nat_ports.end(),
            node: node_of(&peers.here),
            ..config
        };
        Built {
            image: self.image,
            refused: self.refused,
        }
    }
}

fn node_of(addresses: &BTreeMap<Family, IpAddr>) -> Node {
    let mut node = Node::default();
    for address in addresses.values() {
        match address {
            IpAddr::V4(address) => node.v4 = V4::from(*address),
            IpAddr::V6(address) => node.v6 = V6::from(*address),
        }
    }
    node
}

/// Every place that had an owner, and has none any more, gets a tombstone.
fn leave_tombstones(before: &MapImage, image: &mut MapImage) {
    for (index, id) in &before.live_frontends {
        let stone = if id.lives_at(*index) { id.tombstone() } else { *id };
        image.live_frontends.entry(*index).or_insert(stone);
    }
    for (index, backend) in &before.backends4 {
        let id = bury(backend.id, *index);
        let stone = Backend {
            id,
            ..Backend::default()
        };
        image.backends4.entry(*index).or_insert(stone);
    }
    for (index, backend) in &before.backends6 {
        let id = bury(backend.id, *index);
        let stone = Backend {
            id,
            ..Backend::default()
        };
        image.backends6.entry(*index).or_insert(stone);
    }
}

fn bury(id: BackendId, index: u32) -> BackendId {
    if id.lives_at(index) { id.tombstone() } else { id }
}

fn members(set: &SetPlan) -> impl Iterator<Item = &Socket> {
    set.serving.iter().chain(&set.draining).chain(&set.held)
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn short(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}
