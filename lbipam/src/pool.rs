//! Pools, and which addresses each of them may hand out.
//!
//! Where two pools state the same addresses, the older pool has them (the first by name among equally
//! old ones) and the other stops there: only the overlapping part of the younger pool is lost to it,
//! and addresses already given from that part stay with their owners.

use std::collections::BTreeSet;
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
    pub state: PoolState,
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
pub(crate) struct Prepared<'a> {
    pub(crate) pool: &'a Pool,
    pub(crate) conflicts: Vec<Conflict>,
    /// Everything the pool states, overlapping parts included.
    ranges: Vec<Range>,
    /// What it may hand out, in the order of its blocks, each with the lowest address not yet tried.
    free: Vec<Free>,
    reserved: BTreeSet<IpAddr>,
    pub(crate) total: Count,
}

#[derive(Debug)]
struct Free {
    range: Range,
    next: Option<IpAddr>,
}

/// Settles conflicts. The result is in order of name, the order in which pools are drawn from.
pub(crate) fn prepare(pools: &[Pool]) -> Vec<Prepared<'_>> {
    let mut by_age: Vec<&Pool> = pools.iter().collect();
    by_age.sort_by(|a, b| {
        (a.created.is_none(), a.created, &a.name).cmp(&(b.created.is_none(), b.created, &b.name))
    });
    let mut claims = Claims::default();
    let mut prepared: Vec<Prepared<'_>> = by_age.into_iter().map(|pool| claims.take(pool)).collect();
    prepared.sort_by(|a, b| a.pool.name.cmp(&b.pool.name));
    prepared
}

/// Who has which addresses: ascending, none overlapping another.
#[derive(Default)]
struct Claims<'a> {
    claims: Vec<(Range, &'a Pool)>,
}

impl<'a> Claims<'a> {
    fn take(&mut self, pool: &'a Pool) -> Prepared<'a> {
        let mut prepared = Prepared {
            pool,
            conflicts: Vec::new(),
            ranges: Vec::new(),
            free: Vec::new(),
            reserved: BTreeSet::new(),
            total: Count::default(),
        };
        for block in &pool.blocks {
            let range = block.range();
            let others: Vec<_> = self
                .claims
                .iter()
                .filter(|(claim, _)| claim.overlaps(&range))
                .copied()
                .collect();
            // Pieces of one other block count as one conflict.
            for (other_range, other) in others.iter().map(|(claim, other)| (stated(other, claim), *other)) {
                let conflict = Conflict {
                    range,
                    other_range,
                    other_pool: other.name.clone(),
                };
                if !prepared.conflicts.contains(&conflict) {
                    prepared.conflicts.push(conflict);
                }
            }
            let own: Vec<Range> = sorted(&prepared.ranges);
            for part in disjoint(range, &own) {
                prepared.total += Count::new(part.steps());
                prepared.total += Count::new(1);
            }
            let left = range.without(others.iter().map(|(claim, _)| claim));
            self.claims.extend(left.iter().map(|range| (*range, pool)));
            self.claims.sort_by_key(|(claim, _)| *claim);
            prepared.free.extend(left.into_iter().map(|range| Free {
                range,
                next: Some(range.first()),
            }));
            prepared.ranges.push(range);
            prepared.reserve(block);
        }
        prepared
    }
}

/// The block of `pool` that `claim` is a piece of.
fn stated(pool: &Pool, claim: &Range) -> Range {
    pool.blocks
        .iter()
        .map(Block::range)
        .find(|range| range.overlaps(claim))
        .unwrap_or(*claim)
}

fn sorted(ranges: &[Range]) -> Vec<Range> {
    let mut sorted = ranges.to_vec();
    sorted.sort();
    sorted
}

/// What `range` adds to `ranges`, which are ascending but may overlap each other.
fn disjoint(range: Range, ranges: &[Range]) -> Vec<Range> {
    ranges.iter().fold(vec![range], |left, other| {
        left.into_iter().flat_map(|part| part.without([other])).collect()
    })
}

impl Prepared<'_> {
    fn reserve(&mut self, block: &Block) {
        let range = block.range();
        match (block, self.pool.first_and_last) {
            (Block::Prefix(_), FirstAndLast::Reserved) if range.steps() > 1 => {
                self.reserved.extend([range.first(), range.last()]);
            }
            (Block::Prefix(_) | Block::Range(_), FirstAndLast::Reserved | FirstAndLast::Usable) => {}
        }
    }

    /// Whether the pool states this address, be it usable or not.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        self.ranges.iter().any(|range| range.contains(address))
    }

    /// Whether the pool may hand out this address: it has it, and is not disabled.
    pub(crate) fn offers(&self, address: IpAddr) -> bool {
        self.is_enabled() && self.free.iter().any(|free| free.range.contains(address))
    }

    pub(crate) fn offers_family(&self, family: Family) -> bool {
        self.is_enabled()
            && self
                .free
                .iter()
                .any(|free| Family::of(free.range.first()) == family)
    }

    pub(crate) fn reserves(&self, address: IpAddr) -> bool {
        self.reserved.contains(&address)
    }

    pub(crate) fn reserved(&self) -> &BTreeSet<IpAddr> {
        &self.reserved
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
        for free in self
            .free
            .iter_mut()
            .filter(|free| Family::of(free.range.first()) == family)
        {
            while let Some(address) = free.next {
                if !taken(address) && !self.reserved.contains(&address) {
                    return Some(address);
                }
                free.next = next(address).filter(|address| free.range.contains(*address));
            }
        }
        None
    }
}
