//! Interned attributes: one entry per distinct set, counted, known by a small number.
//!
//! A route holds numbers, never attributes. What the decision process compares is worked out once per set
//! ([`Rank`]), not once per route.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use hashbrown::HashTable;

use super::PeerId;
use super::export::global;
use super::hash::Seed;
use super::table::HERE;
use crate::types::Asn;
use crate::wire::attr::DEFAULT_LOCAL_PREF;
use crate::wire::attrs::{AsPath, AsSegment, Attrs, NextHop, Origin};

/// A set of attributes in the [`Interner`]. Whoever stores one holds a count of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct AttrsId(u32);

impl AttrsId {
    /// No attributes: a withdrawn route. Orders first.
    pub(crate) const NONE: Self = Self(0);
}

/// What the decision process and the export rules ask of attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rank {
    pub(crate) local_pref: u32,
    /// RFC 4271 9.1.2.2 a: a set counts 1; RFC 5065 5.3: confederation segments count 0.
    pub(crate) path_length: u32,
    pub(crate) origin: Origin,
    /// Of the neighbour AS the MED may be compared within; `None` for a path that begins here.
    pub(crate) neighbor: Option<Asn>,
    /// RFC 4271 9.1.2.2 c: a missing one is the lowest.
    pub(crate) med: u32,
    pub(crate) originator: Option<Ipv4Addr>,
    pub(crate) cluster_length: u32,
    pub(crate) scope: Scope,
}

/// How far the well-known communities let a route go (RFC 1997), the nearest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    NoAdvertise,
    /// NO_EXPORT and NO_EXPORT_SUBCONFED: without confederations the same.
    NoExport,
    Everywhere,
}

pub(crate) const NO_EXPORT: u32 = 0xffff_ff01;
pub(crate) const NO_ADVERTISE: u32 = 0xffff_ff02;
pub(crate) const NO_EXPORT_SUBCONFED: u32 = 0xffff_ff03;

/// Octets of attributes one peer may bring into the table: far more than any real table has, far less than
/// what distinct attributes on every prefix could take.
pub(crate) const MOST_OCTETS: u64 = 256 << 20;

/// A peer's attributes are more than [`MOST_OCTETS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OverBudget;

#[derive(Debug)]
struct Entry {
    /// Who brought it first, and what it takes. [`HERE`]: this node.
    owner: PeerId,
    octets: u32,
    attrs: Arc<Attrs>,
    hash: u64,
    /// 0: the place is free.
    count: u32,
    rank: Rank,
}

#[derive(Debug)]
pub(crate) struct Interner {
    seed: Seed,
    table: HashTable<u32>,
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    /// Octets by the number of the peer that brought them.
    owned: Vec<u64>,
    pub(crate) most_octets: u64,
}

impl Interner {
    pub(crate) fn new(seed: Seed) -> Self {
        Self {
            seed,
            table: HashTable::new(),
            // Place 0 is `AttrsId::NONE`.
            entries: vec![None],
            free: Vec::new(),
            owned: Vec::new(),
            most_octets: MOST_OCTETS,
        }
    }

    /// The number of these attributes, with one count for the caller.
    pub(crate) fn intern(&mut self, attrs: &Arc<Attrs>) -> AttrsId {
        let hash = self.seed.of(attrs.as_ref());
        if let Some(id) = self.find(hash, attrs) {
            self.retain(id);
            return id;
        }
        self.insert(hash, Arc::clone(attrs), HERE)
    }

    /// As [`Self::intern`] for attributes just decoded: they are shared only if they are new.
    pub(crate) fn intern_owned(&mut self, attrs: Attrs) -> AttrsId {
        let hash = self.seed.of(&attrs);
        if let Some(id) = self.find(hash, &attrs) {
            self.retain(id);
            return id;
        }
        self.insert(hash, Arc::new(attrs), HERE)
    }

    /// As [`Self::intern_owned`] for what a peer sent. Only what nobody sent before counts against it.
    pub(crate) fn intern_received(&mut self, attrs: Attrs, peer: PeerId) -> Result<AttrsId, OverBudget> {
        let hash = self.seed.of(&attrs);
        if let Some(id) = self.find(hash, &attrs) {
            self.retain(id);
            return Ok(id);
        }
        let owned = self.owned.get(usize::from(peer.0)).copied().unwrap_or(0);
        if owned + u64::from(octets(&attrs)) > self.most_octets {
            return Err(OverBudget);
        }
        Ok(self.insert(hash, Arc::new(attrs), peer))
    }

    pub(crate) fn retain(&mut self, id: AttrsId) {
        if let Some(entry) = &mut self.entries[id.0 as usize] {
            entry.count += 1;
        }
    }

    pub(crate) fn release(&mut self, id: AttrsId) {
        let place = &mut self.entries[id.0 as usize];
        let Some(entry) = place else { return };
        entry.count -= 1;
        if entry.count == 0 {
            if let Ok(found) = self.table.find_entry(entry.hash, |other| *other == id.0) {
                found.remove();
            }
            if let Some(owned) = self.owned.get_mut(usize::from(entry.owner.0)) {
                *owned -= u64::from(entry.octets);
            }
            *place = None;
            self.free.push(id.0);
        }
    }

    pub(crate) fn get(&self, id: AttrsId) -> &Arc<Attrs> {
        &self.entry(id).attrs
    }

    pub(crate) fn rank(&self, id: AttrsId) -> &Rank {
        &self.entry(id).rank
    }

    /// Whether any set has this next hop.
    pub(crate) fn any_lead_to(&self, address: IpAddr) -> bool {
        let mut entries = self.entries.iter().flatten();
        entries.any(|entry| global(&entry.attrs.next_hop) == address)
    }

    /// Distinct sets held.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    fn entry(&self, id: AttrsId) -> &Entry {
        self.entries[id.0 as usize]
            .as_ref()
            .unwrap_or_else(|| unreachable!("whoever stores an AttrsId holds a count of it"))
    }

    fn find(&self, hash: u64, attrs: &Attrs) -> Option<AttrsId> {
        let same = |id: &u32| {
            self.entries[*id as usize]
                .as_ref()
                .is_some_and(|e| e.hash == hash && *e.attrs == *attrs)
        };
        self.table.find(hash, same).map(|id| AttrsId(*id))
    }

    fn insert(&mut self, hash: u64, attrs: Arc<Attrs>, owner: PeerId) -> AttrsId {
        let octets = octets(&attrs);
        if owner != HERE {
            let slot = usize::from(owner.0);
            if self.owned.len() <= slot {
                self.owned.resize(slot + 1, 0);
            }
            self.owned[slot] += u64::from(octets);
        }
        let entry = Entry {
            owner,
            octets,
            rank: Rank::of(&attrs),
            attrs,
            hash,
            count: 1,
        };
        let id = if let Some(id) = self.free.pop() {
            self.entries[id as usize] = Some(entry);
            id
        } else {
            self.entries.push(Some(entry));
            self.entries.len() as u32 - 1
        };
        let entries = &self.entries;
        self.table.insert_unique(hash, id, |other| {
            entries[*other as usize].as_ref().map_or(0, |e| e.hash)
        });
        AttrsId(id)
    }
}

impl Rank {
    pub(crate) fn of(attrs: &Attrs) -> Self {
        Self {
            local_pref: attrs.local_pref.unwrap_or(DEFAULT_LOCAL_PREF),
            path_length: path_length(&attrs.as_path),
            origin: attrs.origin,
            neighbor: neighbor(&attrs.as_path),
            med: attrs.med.unwrap_or(0),
            originator: attrs.originator_id,
            cluster_length: attrs.cluster_list.len() as u32,
            scope: Scope::of(&attrs.communities),
        }
    }
}

impl Scope {
    fn of(communities: &[u32]) -> Self {
        communities
            .iter()
            .map(|community| match *community {
                NO_ADVERTISE => Self::NoAdvertise,
                NO_EXPORT | NO_EXPORT_SUBCONFED => Self::NoExport,
                _ => Self::Everywhere,
            })
            .min()
            .unwrap_or(Self::Everywhere)
    }
}

/// About what an entry takes.
fn octets(attrs: &Attrs) -> u32 {
    let path: usize = attrs
        .as_path
        .0
        .iter()
        .map(|segment| match segment {
            AsSegment::Sequence(asns)
            | AsSegment::Set(asns)
            | AsSegment::ConfedSequence(asns)
            | AsSegment::ConfedSet(asns) => size_of::<AsSegment>() + size_of_val(asns.as_slice()),
        })
        .sum();
    let lists = size_of_val(attrs.communities.as_slice())
        + size_of_val(attrs.ext_communities.as_slice())
        + size_of_val(attrs.large_communities.as_slice())
        + size_of_val(attrs.cluster_list.as_slice());
    let unknown: usize = attrs.unknown.iter().map(|u| size_of_val(u) + u.value.len()).sum();
    (size_of::<Entry>() + size_of::<Attrs>() + path + lists + unknown) as u32
}

fn path_length(path: &AsPath) -> u32 {
    path.0
        .iter()
        .map(|segment| match segment {
            AsSegment::Sequence(asns) => asns.len() as u32,
            AsSegment::Set(_) => 1,
            AsSegment::ConfedSequence(_) | AsSegment::ConfedSet(_) => 0,
        })
        .sum()
}

/// RFC 4271 9.1.2.2 c: the first AS of a path that begins with a sequence, else none (the local AS).
fn neighbor(path: &AsPath) -> Option<Asn> {
    let outside = path.0.iter().find(|segment| match segment {
        AsSegment::Sequence(_) | AsSegment::Set(_) => true,
        AsSegment::ConfedSequence(_) | AsSegment::ConfedSet(_) => false,
    })?;
    match outside {
        AsSegment::Sequence(asns) => asns.first().copied(),
        AsSegment::Set(_) | AsSegment::ConfedSequence(_) | AsSegment::ConfedSet(_) => None,
    }
}

/// Whether the path names an AS, in whatever segment (RFC 4271 9.1.2).
pub(crate) fn path_holds(path: &AsPath, asn: Asn) -> bool {
    path.0.iter().any(|segment| match segment {
        AsSegment::Sequence(asns)
        | AsSegment::Set(asns)
        | AsSegment::ConfedSequence(asns)
        | AsSegment::ConfedSet(asns) => asns.contains(&asn),
    })
}

/// Attributes of a route that begins here, with nothing but what is mandatory.
impl Attrs {
    #[must_use]
    pub fn originated(origin: Origin, next_hop: NextHop) -> Self {
        Self {
            origin,
            as_path: AsPath::default(),
            next_hop,
            med: None,
            local_pref: None,
            atomic_aggregate: false,
            aggregator: None,
            communities: Vec::new(),
            ext_communities: Vec::new(),
            large_communities: Vec::new(),
            originator_id: None,
            cluster_list: Vec::new(),
            unknown: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attrs(med: u32) -> Attrs {
        let next_hop = NextHop::Ip(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        Attrs {
            med: Some(med),
            ..Attrs::originated(Origin::Igp, next_hop)
        }
    }

    #[test]
    fn equal_attributes_are_one_entry_until_the_last_count_goes() {
        let mut interner = Interner::new(Seed::new(1));
        let one = interner.intern_owned(attrs(1));
        let same = interner.intern(&Arc::new(attrs(1)));
        let other = interner.intern_owned(attrs(2));
        assert_eq!(one, same);
        assert_ne!(one, other);
        assert_eq!(interner.len(), 2);
        interner.release(one);
        assert_eq!(interner.len(), 2);
        interner.release(same);
        interner.release(other);
        assert_eq!(interner.len(), 0);
        // Places are used again.
        assert_eq!(interner.intern_owned(attrs(3)), other);
    }

    #[test]
    fn what_a_peer_brings_counts_until_it_is_gone() {
        let mut interner = Interner::new(Seed::new(1));
        interner.most_octets = u64::from(octets(&attrs(1))) * 2;
        let (a, b) = (PeerId(1), PeerId(2));
        let first = interner.intern_received(attrs(1), a).unwrap();
        interner.intern_received(attrs(2), a).unwrap();
        assert_eq!(interner.intern_received(attrs(3), a), Err(OverBudget));
        // Known ones cost nothing, and the other peer has its own budget.
        assert_eq!(interner.intern_received(attrs(1), a), Ok(first));
        interner.intern_received(attrs(3), b).unwrap();
        interner.release(first);
        interner.release(first);
        assert!(interner.intern_received(attrs(4), a).is_ok());
    }

    #[test]
    fn as_set_counts_one_and_confederation_segments_nothing() {
        let asn = |n| Asn::new(n).unwrap();
        let path = AsPath(vec![
            AsSegment::ConfedSequence(vec![asn(9)]),
            AsSegment::Sequence(vec![asn(1), asn(2)]),
            AsSegment::Set(vec![asn(3), asn(4), asn(5)]),
        ]);
        assert_eq!(path_length(&path), 3);
        assert_eq!(neighbor(&path), Some(asn(1)));
        assert_eq!(neighbor(&AsPath(vec![AsSegment::Set(vec![asn(3)])])), None);
        assert!(path_holds(&path, asn(9)) && path_holds(&path, asn(4)) && !path_holds(&path, asn(6)));
    }

    #[test]
    fn nearest_well_known_community_wins() {
        assert_eq!(Scope::of(&[NO_EXPORT, NO_ADVERTISE, 5]), Scope::NoAdvertise);
        assert_eq!(Scope::of(&[NO_EXPORT_SUBCONFED]), Scope::NoExport);
        assert_eq!(Scope::of(&[5]), Scope::Everywhere);
    }
}
