//! Who has which place in an image, turned around so that it can be asked for.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ebpf_abi::BackendId;
use ipnet::IpNet;

use super::entries::{known_backends, lists, octets};
use super::{PEERS, count};
use crate::image::MapImage;
use crate::image::places::{Alive, Free, Known, Places, Runs};
use crate::names::Socket;
use crate::settings::Limits;

#[derive(Debug)]
pub(super) struct Holdings {
    /// Ids of backends that are in the maps.
    pub(super) known: HashMap<Socket, BackendId>,
    pub(super) backends4: Places,
    pub(super) backends6: Places,
    pub(super) frontends: Places,
    pub(super) sets: Free,
    pub(super) runs: Runs,
    pub(super) lists: BTreeMap<Vec<IpNet>, u32>,
    pub(super) list_numbers: Free,
    /// Nodes that are in the maps, by their addresses.
    pub(super) known_nodes: HashMap<([u8; 4], [u8; 16]), u32>,
    pub(super) node_places: Free,
    /// Nodes of the plan, by name.
    pub(super) nodes: BTreeMap<String, u32>,
    pub(super) filled: Filled,
}

/// Entries that the hash maps will hold at once.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Filled {
    pub(super) frontends4: u32,
    pub(super) frontends6: u32,
    pub(super) members: u32,
    pub(super) ranges4: u32,
    pub(super) ranges6: u32,
}

impl Filled {
    pub(super) fn of(image: &MapImage) -> Self {
        Self {
            frontends4: count(image.frontends4.len()),
            frontends6: count(image.frontends6.len()),
            members: count(image.members.len()),
            ranges4: count(image.ranges4.len()),
            ranges6: count(image.ranges6.len()),
        }
    }
}

impl Holdings {
    pub(super) fn of(image: &MapImage, limits: &Limits) -> Self {
        let place = |index: u32, id: BackendId| Known {
            index,
            generation: id.generation(),
            alive: if id.lives_at(index) { Alive::Yes } else { Alive::No },
        };
        let backends4 = image.backends4.iter();
        let backends4 = backends4.map(|(index, backend)| place(*index, backend.id));
        let backends6 = image.backends6.iter();
        let backends6 = backends6.map(|(index, backend)| place(*index, backend.id));
        let frontends = image.live_frontends.iter();
        let frontends = frontends.map(|(index, id)| place(*index, BackendId(id.0)));
        let ranges4 = image.ranges4.iter().map(|key| key.list);
        let list_numbers = ranges4.chain(image.ranges6.iter().map(|key| key.list)).collect();
        let runs = image.slots.iter().map(|(first, run)| (*first, count(run.len())));
        let nodes = image.nodes.iter();
        // After a failure a table or a member may be left of a set that is gone.
        let mut sets: BTreeSet<u32> = image.sets.keys().chain(image.tables.keys()).copied().collect();
        sets.extend(image.members.iter().map(|member| member.set));
        Self {
            known: known_backends(image),
            backends4: Places::new(backends4, limits.backends),
            backends6: Places::new(backends6, limits.backends),
            frontends: Places::new(frontends, limits.places),
            sets: Free::new(sets, limits.sets),
            runs: Runs::new(runs, limits.slots),
            lists: lists(image),
            list_numbers: Free::new(list_numbers, PEERS),
            known_nodes: nodes.map(|(index, node)| (octets(node), *index)).collect(),
            node_places: Free::new(image.nodes.keys().copied().collect(), limits.nodes),
            nodes: BTreeMap::new(),
            filled: Filled::of(image),
        }
    }
}
