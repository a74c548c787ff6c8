//! The image kept, object by object: the builder runs over the services that changed only, and the difference is taken of
//! the entries that they have or share. [`super::build`] says what must come out: the very same steps.
//!
//! ```text
//!  changed services --Builder--> their entries anew --+
//!        |                                            +--> shared entries --> diff
//!        +--> their entries in the image -------------+
//! ```
//!
//! Shared entries are backends, nodes, wildcards, lists of ranges, and words of the filter: each is counted or looked up.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use ebpf_abi::config::{Member, RangeKey};
use ebpf_abi::service::{Frontend, FrontendKey, flag};
use ebpf_abi::{BackendId, V4, V6};
use ipnet::IpNet;

use super::entries::{kind_flag, octets, range_keys, reach_flag};
use super::holdings::{Filled, Holdings};
use super::{Builder, count, leave_tombstones};
use crate::diff::{Op, diff};
use crate::image::{MapImage, bit, sets};
use crate::names::{Family, ServiceName};
use crate::services::{self, Changed, Plan, Same, ServicePlan};
use crate::settings::{Pods, Settings, ThisNode};

/// What is known of an image that holds all of a plan.
#[derive(Debug)]
pub(crate) struct Keyed {
    held: Holdings,
    numbers: HashMap<u32, ServiceName>,
    /// How many frontends use each list.
    lists: BTreeMap<Vec<IpNet>, usize>,
    /// How many addresses want each bit of the filter.
    watched: HashMap<(u32, u64), usize>,
    pods: Pods,
}

impl Keyed {
    /// `image` must hold all of `plan`. `None` where services cannot be told apart by their own numbers, or nodes by their
    /// addresses: who gets which depends on all of them then.
    pub(crate) fn of(plan: &Plan, image: &MapImage, node: &ThisNode, settings: &Settings) -> Option<Self> {
        let mut keyed = Self {
            held: Holdings::of(image, &settings.limits),
            numbers: HashMap::new(),
            lists: BTreeMap::new(),
            watched: HashMap::new(),
            pods: settings.pods,
        };
        if keyed.held.known_nodes.len() != image.nodes.len() {
            return None;
        }
        for (name, addresses) in &plan.nodes {
            let place = keyed.held.known_nodes.get(&octets(&super::node_of(addresses)));
            if let Some(place) = place.copied() {
                keyed.held.nodes.insert(name.clone(), place);
            }
        }
        let mut filter = Touched::default();
        for service in &plan.services {
            keyed.enter(service, &mut filter)?;
        }
        let here = plan.peers.here.values().copied();
        for address in answering(image, settings.pods)
            .into_iter()
            .chain(settings.pods.to_oneself())
            .chain(node.addresses.iter().copied())
            .chain(here)
        {
            keyed.watch(address, &mut filter);
        }
        Some(keyed)
    }

    /// The steps for what changed. `None`: it must be done whole, because something does not fit or numbers collide.
    pub(crate) fn step(
        self,
        changed: &Changed,
        services: &services::Keyed,
        before: &MapImage,
        settings: &Settings,
    ) -> Option<(Vec<Op>, Option<Self>)> {
        if changed.peers == Same::No {
            return None;
        }
        let mut keyed = self;
        let plan = services.part(changed);
        let mut old = MapImage {
            config: before.config,
            ..MapImage::default()
        };
        let mut touched = Touched::default();
        for service in changed.services.values().flatten() {
            copy_service(before, service, &mut old);
            keyed.leave(service, &mut touched);
        }
        for service in &plan.services {
            keyed.enter(service, &mut touched)?;
        }
        keyed.copy_shared(before, changed, &mut old);

        let numbers: Vec<u32> = plan.services.iter().map(sets::number).collect();
        let kept = sets::kept(&plan, &numbers, before);
        keyed.held.filled = Filled::of(before);
        let mut builder = Builder::new(&plan, before, settings, kept, keyed.held);
        builder.image.config = before.config;
        for name in &changed.nodes {
            builder.held.nodes.remove(name);
        }
        builder.nodes(&plan);
        builder.admit_all(&numbers);
        for socket in &changed.backends {
            if services.is_reached(socket) {
                builder.write_backend(socket);
            }
        }
        let Builder {
            mut image,
            refused,
            given,
            held,
            ..
        } = builder;
        if !refused.is_empty() {
            return None;
        }
        keyed.held = held;
        keyed.held.known.extend(given);

        keyed.share_nodes(before, &mut old, &mut image);
        share_wildcards(before, services, &touched, &mut old, &mut image);
        keyed.share_lists(before, &touched, &mut old, &mut image);
        leave_tombstones(&old, &mut image);
        keyed.share_filter(before, touched, &mut old, &mut image);
        let ops = diff(&old, &image);
        let distinct = keyed.release(&old, &image);
        Some((ops, distinct.then_some(keyed)))
    }

    /// Counts what a service shares. `None` if its number is another one's.
    fn enter(&mut self, service: &ServicePlan, touched: &mut Touched) -> Option<()> {
        let number = sets::number(service);
        let known = self.numbers.insert(number, service.name.clone());
        if number == 0 || known.is_some() {
            return None;
        }
        for frontend in &service.frontends {
            self.watch(frontend.socket.address, touched);
            if frontend.kind.owns_address() {
                touched.wildcards.insert(frontend.socket.address);
            }
            if let Some(ranges) = frontend.ranges.as_ref().filter(|ranges| !ranges.nets.is_empty()) {
                *self.lists.entry(ranges.nets.clone()).or_default() += 1;
                touched.lists.insert(ranges.nets.clone());
            }
        }
        Some(())
    }

    fn leave(&mut self, service: &ServicePlan, touched: &mut Touched) {
        self.numbers.remove(&sets::number(service));
        for frontend in &service.frontends {
            self.unwatch(frontend.socket.address, touched);
            if frontend.kind.owns_address() {
                touched.wildcards.insert(frontend.socket.address);
            }
            if let Some(ranges) = frontend.ranges.as_ref().filter(|ranges| !ranges.nets.is_empty()) {
                if let Some(users) = self.lists.get_mut(&ranges.nets) {
                    *users = users.saturating_sub(1);
                }
                touched.lists.insert(ranges.nets.clone());
            }
        }
    }

    fn watch(&mut self, address: IpAddr, touched: &mut Touched) {
        let bit = bit(address);
        *self.watched.entry(bit).or_default() += 1;
        touched.bits.insert(bit);
    }

    fn unwatch(&mut self, address: IpAddr, touched: &mut Touched) {
        let bit = bit(address);
        if let Some(users) = self.watched.get_mut(&bit) {
            *users = users.saturating_sub(1);
        }
        touched.bits.insert(bit);
    }

    /// Backends and nodes that changed, as they were.
    fn copy_shared(&self, before: &MapImage, changed: &Changed, old: &mut MapImage) {
        for socket in &changed.backends {
            let Some(id) = self.held.known.get(socket) else {
                continue;
            };
            match socket.family() {
                Family::V4 => copy(&before.backends4, id.index(), &mut old.backends4),
                Family::V6 => copy(&before.backends6, id.index(), &mut old.backends6),
            }
        }
        for name in &changed.nodes {
            if let Some(place) = self.held.nodes.get(name) {
                copy(&before.nodes, *place, &mut old.nodes);
            }
        }
    }

    /// A place stays as long as any node has it.
    fn share_nodes(&self, before: &MapImage, old: &mut MapImage, image: &mut MapImage) {
        for place in image.nodes.keys() {
            copy(&before.nodes, *place, &mut old.nodes);
        }
        if old.nodes.is_empty() {
            return;
        }
        let used: BTreeSet<u32> = self.held.nodes.values().copied().collect();
        for place in old.nodes.keys().filter(|place| used.contains(*place)) {
            if !image.nodes.contains_key(place) {
                copy(&before.nodes, *place, &mut image.nodes);
            }
        }
    }

    fn share_lists(
        &mut self,
        before: &MapImage,
        touched: &Touched,
        old: &mut MapImage,
        image: &mut MapImage,
    ) {
        for nets in &touched.lists {
            let Some(list) = self.held.lists.get(nets).copied() else {
                continue;
            };
            let used = self.lists.get(nets).is_some_and(|users| *users > 0);
            let (keys4, keys6): (Vec<RangeKey<V4>>, Vec<RangeKey<V6>>) = range_keys(nets, list);
            old.ranges4
                .extend(keys4.iter().filter(|key| before.ranges4.contains(*key)));
            old.ranges6
                .extend(keys6.iter().filter(|key| before.ranges6.contains(*key)));
            if used {
                image.ranges4.extend(keys4);
                image.ranges6.extend(keys6);
            } else {
                self.lists.remove(nets);
                self.held.lists.remove(nets);
                self.held.list_numbers.release(list);
            }
        }
    }

    /// Whole words. The builder set only bits of what it saw.
    fn share_filter(
        &mut self,
        before: &MapImage,
        touched: Touched,
        old: &mut MapImage,
        image: &mut MapImage,
    ) {
        let mut touched = touched;
        for address in answering(old, self.pods) {
            self.unwatch(address, &mut touched);
        }
        for address in answering(image, self.pods) {
            self.watch(address, &mut touched);
        }
        image.filter.clear();
        for (word, bit) in touched.bits {
            copy(&before.filter, word, &mut old.filter);
            let known = before.filter.get(&word).copied().unwrap_or(0);
            let bits = image.filter.entry(word).or_insert(known);
            match self.watched.get(&(word, bit)) {
                Some(1..) => *bits |= bit,
                Some(0) | None => {
                    *bits &= !bit;
                    self.watched.remove(&(word, bit));
                }
            }
        }
        image.filter.retain(|_, bits| *bits != 0);
    }

    /// Places that come free with this step. Whether nodes can still be told apart.
    fn release(&mut self, old: &MapImage, image: &MapImage) -> bool {
        let died = |place: u32, was: BackendId, is: Option<BackendId>| {
            was.lives_at(place) && is.is_none_or(|is| !is.lives_at(place))
        };
        for (place, backend) in &old.backends4 {
            if died(*place, backend.id, image.backends4.get(place).map(|now| now.id)) {
                if let Some(socket) = old.socket(Family::V4, backend.id) {
                    self.held.known.remove(&socket);
                }
                let generation = backend.id.tombstone().generation();
                self.held.backends4.release(*place, generation);
            }
        }
        for (place, backend) in &old.backends6 {
            if died(*place, backend.id, image.backends6.get(place).map(|now| now.id)) {
                if let Some(socket) = old.socket(Family::V6, backend.id) {
                    self.held.known.remove(&socket);
                }
                let generation = backend.id.tombstone().generation();
                self.held.backends6.release(*place, generation);
            }
        }
        for (place, id) in &old.live_frontends {
            let now = image.live_frontends.get(place).map(|id| BackendId(id.0));
            if died(*place, BackendId(id.0), now) {
                let generation = id.tombstone().generation();
                self.held.frontends.release(*place, generation);
            }
        }
        for set in old.sets.keys().filter(|set| !image.sets.contains_key(set)) {
            self.held.sets.release(*set);
        }
        for (first, run) in old
            .slots
            .iter()
            .filter(|(first, _)| !image.slots.contains_key(first))
        {
            self.held.runs.give_back(*first, count(run.len()));
        }
        for (place, node) in old
            .nodes
            .iter()
            .filter(|(place, _)| !image.nodes.contains_key(place))
        {
            self.held.known_nodes.remove(&octets(node));
            self.held.node_places.release(*place);
        }
        image.nodes.iter().all(|(place, node)| {
            let known = self.held.known_nodes.insert(octets(node), *place);
            known.is_none_or(|known| known == *place)
        })
    }
}

/// What is shared and may be another now.
#[derive(Debug, Default)]
struct Touched {
    wildcards: BTreeSet<IpAddr>,
    lists: BTreeSet<Vec<IpNet>>,
    bits: BTreeSet<(u32, u64)>,
}

/// The flags of a wildcard are those of all services at the address.
fn share_wildcards(
    before: &MapImage,
    services: &services::Keyed,
    touched: &Touched,
    old: &mut MapImage,
    image: &mut MapImage,
) {
    for address in &touched.wildcards {
        let frontends = services.frontends_at(*address);
        let frontends = frontends.filter(|frontend| frontend.kind.owns_address());
        let flags = frontends
            .map(|frontend| flag::WILDCARD | kind_flag(frontend.kind) | reach_flag(frontend.reach))
            .reduce(|all, flags| all | flags);
        let frontend = flags.map(|flags| Frontend {
            flags,
            ..Frontend::default()
        });
        match address {
            IpAddr::V4(address) => {
                let key = FrontendKey::wildcard(V4::from(*address));
                copy(&before.frontends4, key, &mut old.frontends4);
                image.frontends4.remove(&key);
                image.frontends4.extend(frontend.map(|frontend| (key, frontend)));
            }
            IpAddr::V6(address) => {
                let key = FrontendKey::wildcard(V6::from(*address));
                copy(&before.frontends6, key, &mut old.frontends6);
                image.frontends6.remove(&key);
                image.frontends6.extend(frontend.map(|frontend| (key, frontend)));
            }
        }
    }
}

/// Everything that is this service's alone.
fn copy_service(before: &MapImage, service: &ServicePlan, old: &mut MapImage) {
    for frontend in &service.frontends {
        let socket = &frontend.socket;
        let Some(known) = before.frontend(socket) else {
            continue;
        };
        let (port, protocol) = (socket.port.to_be(), socket.protocol.number());
        match socket.address {
            IpAddr::V4(address) => {
                let key = FrontendKey::new(V4::from(address), port, protocol);
                old.frontends4.insert(key, *known);
            }
            IpAddr::V6(address) => {
                let key = FrontendKey::new(V6::from(address), port, protocol);
                old.frontends6.insert(key, *known);
            }
        }
        copy(&before.live_frontends, known.id.index(), &mut old.live_frontends);
        for set in known.sets() {
            copy(&before.sets, set, &mut old.sets);
            copy(&before.tables, set, &mut old.tables);
            let word = before.sets.get(&set).copied().unwrap_or_default();
            if word.total() != 0 {
                copy(&before.slots, word.first(), &mut old.slots);
            }
            let [first, last] = [BackendId::NONE, BackendId(u32::MAX)].map(|backend| Member { set, backend });
            old.members.extend(before.members.range(first..=last));
        }
    }
}

fn copy<K: Ord, V: Clone>(from: &BTreeMap<K, V>, key: K, to: &mut BTreeMap<K, V>) {
    if let Some(value) = from.get(&key) {
        to.insert(key, value.clone());
    }
}

/// Addresses of backends whose answers are seen here.
fn answering(image: &MapImage, pods: Pods) -> Vec<IpAddr> {
    let all = pods == Pods::ByPackets;
    let v4 = image.backends4.iter();
    let v4 = v4.filter(|(place, backend)| backend.id.lives_at(**place) && (all || backend.is_local()));
    let v6 = image.backends6.iter();
    let v6 = v6.filter(|(place, backend)| backend.id.lives_at(**place) && (all || backend.is_local()));
    let v4 = v4.map(|(_, backend)| IpAddr::V4(backend.address.into()));
    v4.chain(v6.map(|(_, backend)| IpAddr::V6(backend.address.into())))
        .collect()
}
