//! Statements of several origins made one list whose meaning does not depend on the order they came in.
//!
//! Two Services that share a VIP or an aggregate each bring a statement for the same prefix, perhaps with
//! different attributes. The route can be announced once only, so it gets what both ask for:
//!
//! | attribute | result |
//! |---|---|
//! | communities of all kinds | union, sorted by number |
//! | local preference | highest |
//! | MED | lowest |
//! | AS path prepend | highest |
//! | next hop | the given one; of several the one that orders first |
//! | accept and reject | reject: someone said no by name |

use std::collections::BTreeMap;

use super::{PrefixMatch, SetAttrs, SetNextHop, Statement, Verdict};
use crate::types::Name;

/// One statement per distinct match, most specific first. A statement that matches every prefix comes last.
#[must_use]
pub fn merge(statements: impl IntoIterator<Item = Statement>) -> Vec<Statement> {
    let mut merged: BTreeMap<Key, (Name, Verdict)> = BTreeMap::new();
    for statement in statements {
        let keys = if statement.prefixes.is_empty() {
            vec![Key::Any]
        } else {
            statement.prefixes.iter().map(|m| Key::of(*m)).collect()
        };
        for key in keys {
            merged
                .entry(key)
                .and_modify(|(policy, verdict)| {
                    *policy = policy.clone().min(statement.policy.clone());
                    unite(verdict, &statement.verdict);
                })
                .or_insert_with(|| (statement.policy.clone(), sorted(statement.verdict.clone())));
        }
    }
    merged
        .into_iter()
        .map(|(key, (policy, verdict))| Statement {
            policy,
            prefixes: match key {
                Key::Match(_, m) => vec![m],
                Key::Any => Vec::new(),
            },
            verdict,
        })
        .collect()
}

/// Orders the longest prefix first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Match(std::cmp::Reverse<u8>, PrefixMatch),
    Any,
}

impl Key {
    fn of(m: PrefixMatch) -> Self {
        Self::Match(std::cmp::Reverse(m.prefix.len()), m)
    }
}

fn sorted(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::Accept(set) => {
            let mut all = SetAttrs::default();
            unite_sets(&mut all, &set);
            Verdict::Accept(all)
        }
        Verdict::Reject => Verdict::Reject,
    }
}

fn unite(one: &mut Verdict, other: &Verdict) {
    match (&mut *one, other) {
        (Verdict::Accept(one), Verdict::Accept(other)) => unite_sets(one, other),
        (_, Verdict::Reject) => *one = Verdict::Reject,
        (Verdict::Reject, Verdict::Accept(_)) => {}
    }
}

fn unite_sets(one: &mut SetAttrs, other: &SetAttrs) {
    union(&mut one.communities, &other.communities);
    union(&mut one.large_communities, &other.large_communities);
    union(&mut one.ext_communities, &other.ext_communities);
    one.local_pref = one.local_pref.max(other.local_pref);
    one.med = match (one.med, other.med) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    one.as_path_prepend = one.as_path_prepend.max(other.as_path_prepend);
    one.next_hop = match (one.next_hop, other.next_hop) {
        (SetNextHop::Default, given) | (given, SetNextHop::Default) => given,
        (a, b) => a.min(b),
    };
}

fn union<T: Copy + Ord>(one: &mut Vec<T>, other: &[T]) {
    one.extend_from_slice(other);
    one.sort_unstable();
    one.dedup();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Prefix;

    fn statement(policy: &str, prefixes: &[&str], set: SetAttrs) -> Statement {
        let prefixes = prefixes
            .iter()
            .map(|p| {
                let (addr, len) = p.split_once('/').unwrap();
                let len = len.parse().unwrap();
                PrefixMatch {
                    prefix: Prefix::new(addr.parse().unwrap(), len).unwrap(),
                    min: len,
                    max: len,
                }
            })
            .collect();
        Statement {
            policy: policy.into(),
            prefixes,
            verdict: Verdict::Accept(set),
        }
    }

    #[test]
    fn shared_aggregate_gets_what_every_service_asks_for_in_any_order() {
        let a = statement(
            "a",
            &["192.0.2.0/24", "198.51.100.1/32"],
            SetAttrs {
                communities: vec![65000 << 16 | 102, 65000 << 16 | 98],
                local_pref: Some(90),
                med: Some(20),
                ..SetAttrs::default()
            },
        );
        let b = statement(
            "b",
            &["192.0.2.0/24"],
            SetAttrs {
                communities: vec![65000 << 16 | 98, 7],
                local_pref: Some(110),
                as_path_prepend: 2,
                ..SetAttrs::default()
            },
        );
        let one = merge([a.clone(), b.clone()]);
        assert_eq!(one, merge([b, a]));
        assert_eq!(one.len(), 2);
        assert_eq!(one[0].prefixes[0].prefix.to_string(), "198.51.100.1/32");
        let Verdict::Accept(set) = &one[1].verdict else {
            panic!("rejected")
        };
        // By number, not as strings: 98 comes before 102.
        assert_eq!(set.communities, [7, 65000 << 16 | 98, 65000 << 16 | 102]);
        assert_eq!(set.local_pref, Some(110));
        assert_eq!(set.med, Some(20));
        assert_eq!(set.as_path_prepend, 2);
    }

    #[test]
    fn reject_wins_over_accept_for_the_same_match() {
        let yes = statement("a", &["192.0.2.0/24"], SetAttrs::default());
        let no = Statement {
            verdict: Verdict::Reject,
            ..yes.clone()
        };
        assert_eq!(merge([yes.clone(), no.clone()])[0].verdict, Verdict::Reject);
        assert_eq!(merge([no, yes])[0].verdict, Verdict::Reject);
    }
}
