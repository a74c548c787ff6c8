//! Statements compiled so that a prefix finds its first match without walking them.
//!
//! Every match is filed under its prefix. A lookup asks once per prefix length that occurs among the matches
//! (a node that announces Services has one or two: /32, and the aggregate's), however many statements there are.
//! The lowest statement number among the hits is the first match: the result is that of the linear walk.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;

use super::{SetAttrs, Statement, Verdict};
use crate::rib::hash::Seed;
use crate::types::Prefix;

/// A policy ready to be asked.
#[derive(Debug)]
pub(crate) struct Index {
    /// Per statement: what an accepted route gets, or `None` to reject.
    statements: Vec<Option<SetId>>,
    /// Distinct ones: statements that set the same share an entry.
    sets: Vec<SetAttrs>,
    /// The first statement that matches every prefix.
    any: Option<u32>,
    filed: HashMap<Prefix, Ranges, Seed>,
    /// Lengths that occur among the filed prefixes.
    v4_lengths: Vec<u8>,
    v6_lengths: Vec<u8>,
}

/// A position in [`Index::set`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SetId(u32);

/// In the order of the statements. Most prefixes have one: it takes no memory of its own.
#[derive(Debug)]
struct Ranges {
    first: Range,
    more: Vec<Range>,
}

#[derive(Debug, Clone, Copy)]
struct Range {
    statement: u32,
    min: u8,
    max: u8,
}

impl Index {
    pub(crate) fn new(statements: &[Statement], seed: Seed) -> Self {
        let mut index = Self {
            statements: Vec::with_capacity(statements.len()),
            sets: Vec::new(),
            any: None,
            filed: HashMap::with_hasher(seed),
            v4_lengths: Vec::new(),
            v6_lengths: Vec::new(),
        };
        let mut known: HashMap<&SetAttrs, SetId, Seed> = HashMap::with_hasher(seed);
        for (number, statement) in (0..).zip(statements) {
            index.statements.push(match &statement.verdict {
                Verdict::Accept(set) => Some(*known.entry(set).or_insert_with(|| {
                    index.sets.push(set.clone());
                    SetId(index.sets.len() as u32 - 1)
                })),
                Verdict::Reject => None,
            });
            if statement.prefixes.is_empty() {
                index.any.get_or_insert(number);
            }
            for m in &statement.prefixes {
                let range = Range {
                    statement: number,
                    min: m.min,
                    max: m.max,
                };
                match index.filed.entry(m.prefix) {
                    Entry::Occupied(mut known) => known.get_mut().more.push(range),
                    Entry::Vacant(new) => {
                        let more = Vec::new();
                        new.insert(Ranges { first: range, more });
                    }
                }
                let lengths = match m.prefix.addr() {
                    IpAddr::V4(_) => &mut index.v4_lengths,
                    IpAddr::V6(_) => &mut index.v6_lengths,
                };
                if !lengths.contains(&m.prefix.len()) {
                    lengths.push(m.prefix.len());
                }
            }
        }
        index
    }

    /// What the first matching statement says; no match is a rejection (RFC 8212).
    pub(crate) fn find(&self, prefix: &Prefix) -> Option<SetId> {
        let first = self.first(prefix)?;
        self.statements[first as usize]
    }

    pub(crate) fn set(&self, id: SetId) -> &SetAttrs {
        &self.sets[id.0 as usize]
    }

    /// Whether the route gets anything it does not have.
    pub(crate) fn changes(&self, id: SetId) -> bool {
        *self.set(id) != SetAttrs::default()
    }

    /// The number of the first statement that matches.
    fn first(&self, prefix: &Prefix) -> Option<u32> {
        let mut first = self.any;
        let len = prefix.len();
        let lengths = match prefix {
            Prefix::V4 { .. } => &self.v4_lengths,
            Prefix::V6 { .. } => &self.v6_lengths,
        };
        for &filed in lengths.iter().filter(|l| **l <= len) {
            let Some(ranges) = self.filed.get(&prefix.shortened(filed)) else {
                continue;
            };
            let mut ranges = std::iter::once(&ranges.first).chain(&ranges.more);
            let hit = ranges.find(|r| r.min <= len && len <= r.max);
            if let Some(hit) = hit {
                first = Some(first.map_or(hit.statement, |f| f.min(hit.statement)));
            }
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::{PrefixMatch, first_match};

    fn prefix() -> impl Strategy<Value = Prefix> {
        // Few distinct addresses, so that matches nest and collide.
        (0..4_u32, 0..4_u32, 8..=32_u8, any::<bool>()).prop_map(|(a, b, len, v4)| {
            if v4 {
                Prefix::new(IpAddr::V4((10 << 24 | a << 22 | b).into()), len).unwrap()
            } else {
                let bits = 0xfd_u128 << 120 | u128::from(a) << 118 | u128::from(b);
                Prefix::new(IpAddr::V6(bits.into()), if len == 32 { 128 } else { len }).unwrap()
            }
        })
    }

    fn statement() -> impl Strategy<Value = Statement> {
        let matches = prop::collection::vec(
            (prefix(), 0..=32_u8, 0..=128_u8).prop_map(|(prefix, min, max)| PrefixMatch { prefix, min, max }),
            0..4,
        );
        (matches, prop::option::of(0..3_u32)).prop_map(|(prefixes, pref)| Statement {
            policy: "p".into(),
            prefixes,
            verdict: pref.map_or(Verdict::Reject, |p| {
                Verdict::Accept(SetAttrs {
                    local_pref: Some(p),
                    ..SetAttrs::default()
                })
            }),
        })
    }

    proptest! {
        #[test]
        fn indexed_policy_decides_as_the_linear_walk(
            statements in prop::collection::vec(statement(), 0..20),
            asked in prop::collection::vec(prefix(), 1..50),
        ) {
            let index = Index::new(&statements, Seed::new(3));
            for prefix in asked {
                let linear = first_match(&statements, &prefix).map(|s| &s.verdict);
                let linear = match linear {
                    Some(Verdict::Accept(set)) => Some(set),
                    Some(Verdict::Reject) | None => None,
                };
                prop_assert_eq!(index.find(&prefix).map(|id| index.set(id)), linear);
            }
        }
    }
}
