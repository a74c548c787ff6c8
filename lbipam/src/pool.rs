//! Pools, and which addresses each of them may hand out.
//!
//! Where two pools state the same addresses, the older pool has them (the first by name among equally
//! old ones) and the other stops there: only the overlapping part of the younger pool is lost to it,
//! and addresses already given from that part stay with their owners.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::count::Count;
use crate::range::{Block, Range, next};
use crate::request::Family;

/// Addresses to hand out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    pub name: String,
    /// Unix seconds of `creationTimestamp`; pools without a time count as youngest.
    pub created: Option<i64>,
    pub blocks: Vec<Block>,
    pub first_and_last: FirstAndLast,
    /// Held back as well: never handed out anew, what is out stays out.
    pub reserved: Vec<Block>,
    pub state: PoolState,
    /// Pools of a higher one are drawn from first, equal ones by name.
    pub priority: i32,
    pub auto_assign: AutoAssign,
    pub removal: Removal,
}

impl Pool {
    /// A pool with nothing but what every pool has.
    pub fn new(name: impl Into<String>, blocks: Vec<Block>) -> Self {
        Self {
            name: name.into(),
            created: None,
            blocks,
            first_and_last: FirstAndLast::default(),
            reserved: Vec::new(),
            state: PoolState::default(),
            priority: 0,
            auto_assign: AutoAssign::default(),
            removal: Removal::default(),
        }
    }
}

/// `spec.allowFirstLastIPs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FirstAndLast {
    #[default]
    Usable,
    /// The first and last address of every prefix of more than two are held back.
    Reserved,
}

/// `spec.disabled`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PoolState {
    #[default]
    Enabled,
    /// Nothing new is handed out; what is out stays out.
    Disabled,
}

/// Who gets addresses of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AutoAssign {
    /// Whoever the pool selects.
    #[default]
    Yes,
    /// Of these, those who name the address, or share it with one who did.
    OnlyNamed,
}

/// What becomes of addresses in use when no block has them any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Removal {
    /// Their owners get others, as in Cilium.
    #[default]
    Reassign,
    /// They stay with their owners, as long as those want them and the pool selects them.
    Retain,
}

/// Part of a pool that another pool (or an earlier block of the same pool) already has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    pub range: Range,
    pub other_range: Range,
    pub other_pool: String,
}

impl Conflict {
    /// The message of Cilium's condition `cilium.io/PoolConflict`.
    pub fn message(&self) -> String {
        let Self {
            range,
            other_range,
            other_pool,
        } = self;
        format!(
            "Pool conflicts since range '{range}' overlaps range '{other_range}' from IP Pool '{other_pool}'"
        )
    }
}

/// A pool prepared for planning.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) pool: Pool,
    pub(crate) conflicts: Vec<Conflict>,
    /// Everything the pool states, overlapping parts included: ascending, none overlapping another.
    stated: Vec<Range>,
    /// What it may hand out: ascending, none overlapping another.
    offered: Vec<Range>,
    /// The same in the order of its blocks, without what is held back.
    supply: BTreeMap<Family, Supply>,
    /// Of what is stated: ascending, none overlapping another.
    held_back: Vec<Range>,
}

/// Ranges to draw from, one after the other.
#[derive(Debug, Default)]
struct Supply {
    ranges: Vec<Range>,
    /// The range being drawn from; those before it are used up.
    at: usize,
    /// The lowest address of it not yet tried.
    next: Option<IpAddr>,
}

/// Settles conflicts. The result is in the order in which pools are drawn from.
pub(crate) fn prepare(pools: &[Pool]) -> Vec<Prepared> {
    let mut by_age: Vec<&Pool> = pools.iter().collect();
    by_age.sort_by(|a, b| {
        (a.created.is_none(), a.created, &a.name).cmp(&(b.created.is_none(), b.created, &b.name))
    });
    let mut claims = Claims::default();
    let mut prepared: Vec<Prepared> = by_age.into_iter().map(|pool| claims.take(pool)).collect();
    prepared.sort_by(|a, b| {
        let key = |prepared: &Prepared| Reverse(prepared.pool.priority);
        (key(a), &a.pool.name).cmp(&(key(b), &b.pool.name))
    });
    prepared
}

/// Who has which addresses. The claims do not overlap, so their first addresses order them.
#[derive(Default)]
struct Claims<'a> {
    by_first: BTreeMap<IpAddr, Claim<'a>>,
}

#[derive(Clone, Copy)]
struct Claim<'a> {
    /// What is claimed of the block: all of it, or what others left.
    part: Range,
    block: Range,
    pool: &'a Pool,
}

impl<'a> Claims<'a> {
    fn take(&mut self, pool: &'a Pool) -> Prepared {
        let mut conflicts = Vec::new();
        let mut offered = Vec::new();
        let mut supply: BTreeMap<Family, Supply> = BTreeMap::new();
        let stated = union(pool.blocks.iter().map(Block::range).collect());
        let reserved = reserved(pool);
        let usable = without(&stated, &reserved);
        for block in pool.blocks.iter().map(Block::range) {
            let others = self.overlapping(block);
            let mut found: Vec<Conflict> = Vec::new();
            for other in &others {
                let (range, other_range, other_pool) = (block, other.block, other.pool.name.clone());
                let conflict = Conflict {
                    range,
                    other_range,
                    other_pool,
                };
                // What is left of one other block may be several parts; it is one conflict.
                if !found.contains(&conflict) {
                    found.push(conflict);
                }
            }
            conflicts.extend(found);
            let others: Vec<Range> = others.iter().map(|other| other.part).collect();
            for part in block.without(&others) {
                self.by_first.insert(part.first(), Claim { part, block, pool });
                let ranges = &mut supply.entry(Family::of(part.first())).or_default().ranges;
                ranges.extend(part.without(&reserved));
                offered.push(part);
            }
        }
        supply.values_mut().for_each(Supply::rewind);
        offered.sort();
        let held_back = without(&stated, &usable);
        Prepared {
            pool: pool.clone(),
            conflicts,
            stated,
            offered,
            supply,
            held_back,
        }
    }

    /// The claims that share an address with `range`, in ascending order.
    fn overlapping(&self, range: Range) -> Vec<Claim<'a>> {
        let before = self.by_first.range(..range.first()).next_back().into_iter();
        let within = self.by_first.range(range.first()..=range.last());
        let overlapping = before
            .chain(within)
            .map(|(_, claim)| claim)
            .filter(|claim| claim.part.overlaps(&range));
        overlapping.copied().collect()
    }
}

/// The same addresses without overlaps, ascending.
fn union(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort();
    let mut union: Vec<Range> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match union.last_mut() {
            Some(last) if last.overlaps(&range) => *last = last.with(&range),
            Some(_) | None => union.push(range),
        }
    }
    union
}

/// Each range without the others, all ascending and none overlapping another of its own.
fn without(ranges: &[Range], others: &[Range]) -> Vec<Range> {
    ranges.iter().flat_map(|range| range.without(others)).collect()
}

fn size(ranges: &[Range]) -> Count {
    let mut size = Count::default();
    for range in ranges {
        size += Count::new(range.steps());
        size += Count::new(1);
    }
    size
}

/// What the pool holds back, ascending, also where it states no such address.
fn reserved(pool: &Pool) -> Vec<Range> {
    let mut ranges: Vec<Range> = pool.reserved.iter().map(Block::range).collect();
    match pool.first_and_last {
        FirstAndLast::Usable => {}
        FirstAndLast::Reserved => {
            let prefixes = pool.blocks.iter().filter(|block| match block {
                Block::Prefix(_) => true,
                Block::Range(_) => false,
            });
            let large = prefixes.map(Block::range).filter(|range| range.steps() > 1);
            ranges.extend(large.flat_map(|range| [Range::one(range.first()), Range::one(range.last())]));
        }
    }
    union(ranges)
}

/// Whether one of the ranges, which are ascending and do not overlap, has the address.
fn any_contains(ranges: &[Range], address: IpAddr) -> bool {
    let after = ranges.partition_point(|range| range.first() <= address);
    after
        .checked_sub(1)
        .and_then(|at| ranges.get(at))
        .is_some_and(|range| range.contains(address))
}

impl Supply {
    fn rewind(&mut self) {
        self.at = 0;
        self.next = self.ranges.first().map(Range::first);
    }
}

impl Prepared {
    /// Addresses may have been freed: all are tried again.
    pub(crate) fn rewind(&mut self) {
        self.supply.values_mut().for_each(Supply::rewind);
    }

    /// Whether the pool states this address, be it usable or not.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        any_contains(&self.stated, address)
    }

    /// Whether the pool may hand out this address: it has it, and is not disabled.
    pub(crate) fn offers(&self, address: IpAddr) -> bool {
        self.is_enabled() && any_contains(&self.offered, address)
    }

    /// Whether it may hand out addresses of a family, now or before it ran out.
    pub(crate) fn offers_family(&self, family: Family) -> bool {
        self.is_enabled() && self.supply.contains_key(&family)
    }

    pub(crate) fn holds_back(&self, address: IpAddr) -> bool {
        any_contains(&self.held_back, address)
    }

    /// How many addresses it states.
    pub(crate) fn total(&self) -> Count {
        size(&self.stated)
    }

    /// How many of them it holds back.
    pub(crate) fn held_back(&self) -> Count {
        size(&self.held_back)
    }

    fn is_enabled(&self) -> bool {
        match self.pool.state {
            PoolState::Enabled => true,
            PoolState::Disabled => false,
        }
    }

    /// The lowest address that is not taken. Nothing is freed while a plan is made, so an address
    /// found taken is never looked at again.
    pub(crate) fn lowest_free(&mut self, family: Family, taken: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
        if !self.is_enabled() {
            return None;
        }
        let supply = self.supply.get_mut(&family)?;
        while let (Some(range), Some(address)) = (supply.ranges.get(supply.at), supply.next) {
            if !taken(address) {
                return Some(address);
            }
            supply.next = next(address).filter(|address| range.contains(*address));
            if supply.next.is_none() {
                supply.at = supply.at.saturating_add(1);
                supply.next = supply.ranges.get(supply.at).map(Range::first);
            }
        }
        None
    }
}
