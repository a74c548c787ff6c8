//! What the maps should hold, given what they hold: places for everything, and nothing that does not fit.
//!
//! ```text
//!  a frontend keeps its id    while its service keeps the address
//!  a set keeps its place      while all frontends that used it use it together
//!  a backend keeps its id     while any service has it
//!  a list keeps its number    always: it never changes, another content is another list
//! ```
//!
//! Places in use in `before` are never given to another owner, because programs may still be reading them. They become
//! free when the difference was applied. So a new image needs room for both, and what did not fit can be tried again
//! with the image then applied.

mod build;
mod dangling;
mod places;
mod sets;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ebpf_abi::config::{Config, Member, Node, RangeKey};
use ebpf_abi::hash::murmur3;
use ebpf_abi::maglev::{self, DEFAULT_WEIGHT, Seeds, Walker};
use ebpf_abi::service::{Backend, Frontend, FrontendKey, Set};
use ebpf_abi::{BackendId, FrontendId, V4, V6, filter};

pub(crate) use self::build::Keyed;
pub use self::build::{Built, build};
pub use self::dangling::Dangling;
use crate::names::{Family, Protocol, Socket};

/// The contents of all maps that the agent writes, but for `DEVICES`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MapImage {
    pub config: Config,
    /// Words that are not zero.
    pub filter: BTreeMap<u32, u64>,
    pub frontends4: BTreeMap<FrontendKey<V4>, Frontend>,
    pub frontends6: BTreeMap<FrontendKey<V6>, Frontend>,
    /// Ids and tombstones by place.
    pub live_frontends: BTreeMap<u32, FrontendId>,
    /// Every set that a frontend names is here, those without members too.
    pub sets: BTreeMap<u32, Set>,
    /// Slots that sets point to, by the first of each range.
    pub slots: BTreeMap<u32, Arc<[BackendId]>>,
    pub tables: BTreeMap<u32, Table>,
    /// Backends and tombstones by place.
    pub backends4: BTreeMap<u32, Backend<V4>>,
    pub backends6: BTreeMap<u32, Backend<V6>>,
    pub members: BTreeSet<Member>,
    pub ranges4: BTreeSet<RangeKey<V4>>,
    pub ranges6: BTreeSet<RangeKey<V6>>,
    /// Place 0 is nobody's.
    pub nodes: BTreeMap<u32, Node>,
}

/// A Maglev table by what it is filled from: a thousand of them fit into the memory that one would take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub family: Family,
    pub size: u32,
    pub seed: u32,
    /// In the order in which they are filled in.
    pub members: Arc<[BackendId]>,
}

impl MapImage {
    /// Completes what was read from the maps: arrays were read as they are, here their meaning is added.
    ///
    /// `slot` reads an element of `SLOTS`. Frontends, sets, backends, ids, members, lists and nodes must be filled in; zero
    /// elements do not matter. Sets of `with_table` are taken to have the table that belongs to their members; who doubts it
    /// compares it with [`MapImage::fill`] before.
    pub fn adopt(
        &mut self,
        slot: impl Fn(u32) -> Option<BackendId>,
        with_table: &BTreeSet<u32>,
        seeds: &Seeds,
    ) {
        self.filter.retain(|_, bits| *bits != 0);
        self.live_frontends.retain(|_, id| !id.is_none());
        self.backends4.retain(|_, backend| !backend.id.is_none());
        self.backends6.retain(|_, backend| !backend.id.is_none());
        self.nodes.retain(|_, node| *node != Node::default());
        self.sets.retain(|_, set| *set != Set::default());
        let mut named: BTreeMap<u32, Family> = BTreeMap::new();
        for (socket, frontend) in self.frontends() {
            for set in frontend.sets() {
                self.sets.entry(set).or_default();
                named.insert(set, socket.family());
            }
        }
        // What an agent wrote before it died and nobody names yet is known too, so that it is removed.
        for set in with_table {
            self.sets.entry(*set).or_default();
        }
        self.slots.clear();
        self.tables.clear();
        for (index, set) in &self.sets {
            let last = set.first().saturating_add(set.total());
            let run: Arc<[BackendId]> = (set.first()..last).filter_map(&slot).collect();
            let family = named.get(index).copied().unwrap_or(Family::V4);
            if with_table.contains(index) {
                let count = usize::try_from(set.count()).unwrap_or(usize::MAX);
                let serving = run.get(..count).unwrap_or_default();
                let table = Table {
                    family,
                    size: self.config.maglev_size,
                    seed: seeds.table,
                    members: self.in_order(family, serving).into(),
                };
                self.tables.insert(*index, table);
            }
            if !run.is_empty() {
                self.slots.insert(set.first(), run);
            }
        }
    }

    /// The Maglev table of a set, element by element.
    pub fn fill(&self, table: &Table) -> Vec<BackendId> {
        let seeds = Seeds {
            table: table.seed,
            ..Seeds::default()
        };
        let walker = |id: &BackendId| {
            let name = maglev_name(&self.socket(table.family, *id)?);
            Walker::new(*id, DEFAULT_WEIGHT, name.as_bytes(), table.size, &seeds)
        };
        let mut walkers: Vec<Walker> = table.members.iter().filter_map(walker).collect();
        let mut places = vec![BackendId::NONE; usize::try_from(table.size).unwrap_or_default()];
        maglev::fill(&mut places, &mut walkers);
        places
    }

    /// A word for what [`Self::fill`] makes the table from. It is kept beside the table, so that a start knows it again.
    pub fn fingerprint(&self, table: &Table) -> u64 {
        let mut text = format!("{}/{}", table.size, table.seed);
        for id in table.members.iter() {
            let name = self.socket(table.family, *id).map(|socket| maglev_name(&socket));
            text.push_str(&format!("/{}{}", id.0, name.unwrap_or_default()));
        }
        murmur3(text.as_bytes(), table.seed).0
    }

    /// All frontends but wildcards.
    pub fn frontends(&self) -> Vec<(Socket, Frontend)> {
        let v4 = self.frontends4.iter().filter_map(|(key, frontend)| {
            let address = IpAddr::V4(Ipv4Addr::from(key.address));
            Some((address, key.port, Protocol::from_number(key.protocol)?, *frontend))
        });
        let v6 = self.frontends6.iter().filter_map(|(key, frontend)| {
            let address = IpAddr::V6(Ipv6Addr::from(key.address));
            Some((address, key.port, Protocol::from_number(key.protocol)?, *frontend))
        });
        v4.chain(v6)
            .map(|(address, port, protocol, frontend)| {
                (Socket::new(address, u16::from_be(port), protocol), frontend)
            })
            .collect()
    }

    /// The frontend at this address, port and protocol.
    pub fn frontend(&self, socket: &Socket) -> Option<&Frontend> {
        let (port, protocol) = (socket.port.to_be(), socket.protocol.number());
        match socket.address {
            IpAddr::V4(a) => self
                .frontends4
                .get(&FrontendKey::new(V4::from(a), port, protocol)),
            IpAddr::V6(a) => self
                .frontends6
                .get(&FrontendKey::new(V6::from(a), port, protocol)),
        }
    }

    /// Where the backend with this id is; `None` for ids that are not alive.
    pub fn socket(&self, family: Family, id: BackendId) -> Option<Socket> {
        let (address, port, protocol) = match family {
            Family::V4 => {
                let backend = self
                    .backends4
                    .get(&id.index())
                    .filter(|backend| backend.id == id)?;
                (IpAddr::V4(backend.address.into()), backend.port, backend.protocol)
            }
            Family::V6 => {
                let backend = self
                    .backends6
                    .get(&id.index())
                    .filter(|backend| backend.id == id)?;
                (IpAddr::V6(backend.address.into()), backend.port, backend.protocol)
            }
        };
        Some(Socket::new(
            address,
            u16::from_be(port),
            Protocol::from_number(protocol)?,
        ))
    }

    /// The members of a set: those that new connections may choose, and those that only drain.
    pub fn members_of(&self, set: u32) -> (&[BackendId], &[BackendId]) {
        let word = self.sets.get(&set).copied().unwrap_or_default();
        let count = usize::try_from(word.count()).unwrap_or(usize::MAX);
        let run = self.slots.get(&word.first()).filter(|_| word.total() != 0);
        run.and_then(|run| run.split_at_checked(count))
            .unwrap_or_default()
    }

    /// As all nodes order them: by the text that stands for them.
    fn in_order(&self, family: Family, ids: &[BackendId]) -> Vec<BackendId> {
        let mut named: Vec<(String, BackendId)> = ids
            .iter()
            .filter_map(|id| Some((maglev_name(&self.socket(family, *id)?), *id)))
            .collect();
        named.sort_unstable();
        named.into_iter().map(|(_, id)| id).collect()
    }

    fn watch(&mut self, address: IpAddr) {
        let (word, bit) = bit(address);
        *self.filter.entry(word).or_default() |= bit;
    }
}

/// The word of `FILTER` that an address has a bit in, and the bit.
fn bit(address: IpAddr) -> (u32, u64) {
    match address {
        IpAddr::V4(address) => filter::place(&V4::from(address)),
        IpAddr::V6(address) => filter::place(&V6::from(address)),
    }
}

/// What Cilium hashes for a backend, so that its nodes and ours fill alike.
fn maglev_name(socket: &Socket) -> String {
    format!("[{socket},State:active]")
}
