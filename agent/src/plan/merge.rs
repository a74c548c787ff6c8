//! From the statements of many policies to the few the speaker runs on: policies that meet in one prefix are one statement, as
//! a route is announced once only, and prefixes that are given the same stand together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bgp_speaker::policy::{ExportPolicy, PrefixMatch, Statement, Verdict};

use super::advertise::DraftStatement;
use super::attributes::RouteAttributes;

/// What a prefix is given, and the objects that say so, in order.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Given {
    attributes: Arc<RouteAttributes>,
    sources: Vec<Arc<str>>,
}

/// All statements, and the policy they come to.
#[derive(Debug, Default)]
pub(crate) struct Merged {
    /// What is asked for each prefix, and by how many.
    asked: BTreeMap<PrefixMatch, Vec<(Arc<Given>, usize)>>,
    /// Each once.
    known: BTreeSet<Arc<Given>>,
    /// What each statement of the policy gives.
    groups: Vec<Arc<Given>>,
    policy: Arc<ExportPolicy>,
    /// What is not as the policy has it, with what that says.
    changed: BTreeMap<PrefixMatch, Option<Arc<Given>>>,
}

/// Prefixes in order by what they are given.
type Groups = BTreeMap<Arc<Given>, Vec<PrefixMatch>>;

impl Merged {
    pub(crate) fn add(&mut self, statement: &DraftStatement) {
        let given = self.given(statement);
        for prefix in &statement.prefixes {
            self.note(*prefix);
            let asked = self.asked.entry(*prefix).or_default();
            match asked.iter_mut().find(|(known, _)| *known == given) {
                Some((_, count)) => *count += 1,
                None => asked.push((Arc::clone(&given), 1)),
            }
        }
    }

    /// The opposite of [`Self::add`].
    pub(crate) fn remove(&mut self, statement: &DraftStatement) {
        let given = self.given(statement);
        for prefix in &statement.prefixes {
            self.note(*prefix);
            let Some(asked) = self.asked.get_mut(prefix) else {
                continue;
            };
            if let Some((_, count)) = asked.iter_mut().find(|(known, _)| *known == given) {
                *count -= 1;
            }
            asked.retain(|(_, count)| *count > 0);
            if asked.is_empty() {
                self.asked.remove(prefix);
            }
        }
    }

    /// The policy as of now; the same one if nothing changed.
    pub(crate) fn policy(&mut self) -> &Arc<ExportPolicy> {
        let (mut less, mut more) = (Groups::new(), Groups::new());
        for (prefix, before) in std::mem::take(&mut self.changed) {
            let after = self.asked.get(&prefix).and_then(|asked| outcome(asked));
            if before != after {
                for (groups, given) in [(&mut less, before), (&mut more, after)] {
                    if let Some(given) = given {
                        groups.entry(given).or_default().push(prefix);
                    }
                }
            }
        }
        if !less.is_empty() || !more.is_empty() {
            self.regroup(&less, &more);
        }
        &self.policy
    }

    fn regroup(&mut self, less: &Groups, more: &Groups) {
        let before: BTreeMap<&Arc<Given>, &Statement> =
            self.groups.iter().zip(&self.policy.statements).collect();
        let all: BTreeSet<&Arc<Given>> = before.keys().copied().chain(more.keys()).collect();
        let (mut groups, mut statements) = (Vec::new(), Vec::new());
        for given in all {
            let statement = before.get(given);
            let had = statement.map(|statement| statement.prefixes.as_slice());
            let of = |groups: &'_ Groups| groups.get(given).cloned().unwrap_or_default();
            let prefixes = patched(had.unwrap_or_default(), &of(less), &of(more));
            if prefixes.is_empty() {
                continue;
            }
            groups.push(Arc::clone(given));
            statements.push(match statement {
                Some(statement) => Statement {
                    policy: Arc::clone(&statement.policy),
                    prefixes,
                    verdict: statement.verdict.clone(),
                },
                None => Statement {
                    policy: given.sources.join(",").into(),
                    prefixes,
                    verdict: Verdict::Accept(given.attributes.to_set()),
                },
            });
        }
        self.groups = groups;
        self.policy = Arc::new(ExportPolicy { statements });
    }

    /// Before a prefix changes.
    fn note(&mut self, prefix: PrefixMatch) {
        let asked = &self.asked;
        self.changed
            .entry(prefix)
            .or_insert_with(|| asked.get(&prefix).and_then(|asked| outcome(asked)));
    }

    fn given(&mut self, statement: &DraftStatement) -> Arc<Given> {
        let given = Arc::new(Given {
            attributes: Arc::clone(&statement.attributes),
            sources: statement.sources.clone(),
        });
        if let Some(known) = self.known.get(&given) {
            return Arc::clone(known);
        }
        self.known.insert(Arc::clone(&given));
        given
    }
}

/// What several wishes for one prefix come to, in whatever order.
fn outcome(asked: &[(Arc<Given>, usize)]) -> Option<Arc<Given>> {
    let ((first, _), more) = asked.split_first()?;
    if more.is_empty() {
        return Some(Arc::clone(first));
    }
    let mut all = Given {
        attributes: Arc::clone(&first.attributes),
        sources: first.sources.clone(),
    };
    for (given, _) in more {
        all.attributes = Arc::new(all.attributes.join(&given.attributes));
        given
            .sources
            .iter()
            .for_each(|source| unite(&mut all.sources, source));
    }
    Some(Arc::new(all))
}

/// All lists are in order.
fn patched(had: &[PrefixMatch], less: &[PrefixMatch], more: &[PrefixMatch]) -> Vec<PrefixMatch> {
    let mut prefixes = Vec::with_capacity(had.len() + more.len() - less.len().min(had.len()));
    let (mut less, mut more) = (less.iter().peekable(), more.iter().peekable());
    for prefix in had {
        while let Some(new) = more.next_if(|new| *new < prefix) {
            prefixes.push(*new);
        }
        if less.next_if_eq(&prefix).is_none() {
            prefixes.push(*prefix);
        }
    }
    prefixes.extend(more);
    prefixes
}

/// Into a list in order, once.
pub(crate) fn unite(sources: &mut Vec<Arc<str>>, source: &Arc<str>) {
    if let Err(at) = sources.binary_search(source) {
        sources.insert(at, Arc::clone(source));
    }
}
