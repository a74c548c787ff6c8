//! Import and export policy: ordered statements, first match decides, default deny (RFC 8212).
//!
//! Whoever makes the statements settles what several wishes for one prefix come to; `index` finds the first
//! match fast.

pub(crate) mod index;

use crate::types::{Name, Prefix};
use crate::wire::attrs::{Attrs, ExtCommunity, LargeCommunity, NextHop};

/// Matches prefixes inside `prefix` whose length is in `min..=max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PrefixMatch {
    pub prefix: Prefix,
    pub min: u8,
    pub max: u8,
}

/// What an accepted route is given on its way out. `None`/empty = left as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetAttrs {
    /// Added to those the route has, without duplicates.
    pub communities: Vec<u32>,
    pub large_communities: Vec<LargeCommunity>,
    pub ext_communities: Vec<ExtCommunity>,
    /// Internal sessions only; external ones never carry it (RFC 4271 5.1.5).
    pub local_pref: Option<u32>,
    pub med: Option<u32>,
    /// So many times more the local ASN, on external sessions.
    pub as_path_prepend: u8,
    pub next_hop: SetNextHop,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SetNextHop {
    /// The session's local address on external sessions and for routes originated here; else unchanged.
    #[default]
    Default,
    Local,
    Unchanged,
    Is(NextHop),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Accept(SetAttrs),
    Reject,
}

/// One statement. An empty `prefixes` matches every prefix of the family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The policy this statement came from, for explanations.
    pub policy: Name,
    pub prefixes: Vec<PrefixMatch>,
    pub verdict: Verdict,
}

/// Export policy of one peer and family. Peers whose policy and session kind are equal share their
/// Adj-RIB-Out and its encoding.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExportPolicy {
    pub statements: Vec<Statement>,
}

/// Import policy of one peer and family.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImportPolicy {
    pub statements: Vec<Statement>,
}

impl PrefixMatch {
    #[must_use]
    pub fn matches(&self, prefix: &Prefix) -> bool {
        self.prefix.contains(prefix) && (self.min..=self.max).contains(&prefix.len())
    }
}

impl Statement {
    #[must_use]
    pub fn matches(&self, prefix: &Prefix) -> bool {
        self.prefixes.is_empty() || self.prefixes.iter().any(|m| m.matches(prefix))
    }
}

/// The statement that decides about a prefix, for explanations. `None`: rejected by default.
#[must_use]
pub fn first_match<'a>(statements: &'a [Statement], prefix: &Prefix) -> Option<&'a Statement> {
    statements.iter().find(|s| s.matches(prefix))
}

/// Whether two lists decide the same about every prefix because they say the same, whatever the names.
#[must_use]
pub fn same_effect(one: &[Statement], other: &[Statement]) -> bool {
    std::ptr::eq(one, other)
        || (one.len() == other.len()
            && one
                .iter()
                .zip(other)
                .all(|(a, b)| a.prefixes == b.prefixes && a.verdict == b.verdict))
}

impl SetAttrs {
    /// Adds the communities; those the route has stay where they are.
    pub(crate) fn add_communities(&self, attrs: &mut Attrs) {
        add(&mut attrs.communities, &self.communities);
        add(&mut attrs.large_communities, &self.large_communities);
        add(&mut attrs.ext_communities, &self.ext_communities);
    }
}

fn add<T: Copy + PartialEq>(have: &mut Vec<T>, more: &[T]) {
    for one in more {
        if !have.contains(one) {
            have.push(*one);
        }
    }
}
