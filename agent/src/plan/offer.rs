//! What a family of some peers is told: the sum of what this node and each Service add to it, kept so that one of them costs
//! no look at the others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bgp_speaker::policy::ExportPolicy;
use bgp_speaker::types::{Family, Prefix};
use bgp_speaker::wire::attrs::Origin;

use super::advertise::{Draft, DraftStatement};
use super::merge::Merged;
use super::policy_view::{FamilyPolicies, PolicyStatement};

/// By the advertisements that a family of a peer selects.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) family: Family,
    /// The entries it is of, ascending.
    pub(crate) chosen: Vec<usize>,
    /// How many want each route, and with which origin.
    routes: BTreeMap<(Prefix, Origin), usize>,
    /// How many prefixes there are routes of.
    prefixes: usize,
    aggregates: BTreeMap<Prefix, usize>,
    merged: Merged,
    view: Arc<FamilyPolicies>,
    /// Since it was last asked.
    changed: Changed,
}

/// What of an offer is not as it was.
#[derive(Debug, Default)]
pub(crate) struct Changed {
    pub(crate) prefixes: BTreeSet<Prefix>,
    policies: bool,
}

impl Changed {
    pub(crate) fn is_nothing(&self) -> bool {
        self.prefixes.is_empty() && !self.policies
    }
}

impl Offer {
    pub(crate) fn new(family: Family, chosen: Vec<usize>) -> Self {
        Self {
            family,
            chosen,
            routes: BTreeMap::new(),
            prefixes: 0,
            aggregates: BTreeMap::new(),
            merged: Merged::default(),
            view: Arc::default(),
            changed: Changed::default(),
        }
    }

    pub(crate) fn add(&mut self, draft: &Draft) {
        for (prefix, origin) in &draft.routes {
            self.prefixes += usize::from(self.origin(*prefix).is_none());
            *self.routes.entry((*prefix, *origin)).or_default() += 1;
            self.changed.prefixes.insert(*prefix);
        }
        for prefix in &draft.aggregates {
            *self.aggregates.entry(*prefix).or_default() += 1;
        }
        for (subject, statements) in &draft.policies {
            statements.iter().for_each(|statement| self.merged.add(statement));
            let statements = statements.iter().map(shown).collect();
            let view = Arc::make_mut(&mut self.view);
            view.0.insert(subject.clone(), in_order(statements));
            self.changed.policies = true;
        }
    }

    /// The opposite of [`Self::add`].
    pub(crate) fn remove(&mut self, draft: &Draft) {
        for (prefix, origin) in &draft.routes {
            one_less(&mut self.routes, &(*prefix, *origin));
            self.prefixes -= usize::from(self.origin(*prefix).is_none());
            self.changed.prefixes.insert(*prefix);
        }
        for prefix in &draft.aggregates {
            one_less(&mut self.aggregates, prefix);
        }
        for (subject, statements) in &draft.policies {
            statements
                .iter()
                .for_each(|statement| self.merged.remove(statement));
            Arc::make_mut(&mut self.view).0.remove(subject);
            self.changed.policies = true;
        }
    }

    /// What changed since this was last asked.
    pub(crate) fn take_changed(&mut self) -> Changed {
        std::mem::take(&mut self.changed)
    }

    /// The origin that is most wanted wins where several say different things. `None`: there is no such route.
    pub(crate) fn origin(&self, prefix: Prefix) -> Option<Origin> {
        let mut of = self.routes.range((prefix, Origin::Igp)..);
        let ((found, origin), _) = of.next()?;
        (*found == prefix).then_some(*origin)
    }

    /// How many prefixes there are routes of.
    pub(crate) fn len(&self) -> usize {
        self.prefixes
    }

    /// Prefixes coarser than the addresses they are announced for.
    pub(crate) fn aggregates(&self) -> impl Iterator<Item = Prefix> {
        self.aggregates.keys().copied()
    }

    pub(crate) fn export(&mut self) -> Arc<ExportPolicy> {
        Arc::clone(self.merged.policy())
    }

    pub(crate) fn view(&self) -> Arc<FamilyPolicies> {
        Arc::clone(&self.view)
    }
}

fn one_less<K: Ord>(counts: &mut BTreeMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

fn shown(statement: &DraftStatement) -> PolicyStatement {
    let mut prefixes = statement.prefixes.clone();
    prefixes.sort_unstable_by_key(|m| (std::cmp::Reverse(m.prefix.len()), *m));
    PolicyStatement {
        prefixes,
        attributes: Arc::clone(&statement.attributes),
    }
}

/// Longest prefixes first.
fn in_order(mut statements: Vec<PolicyStatement>) -> Vec<PolicyStatement> {
    if statements.len() > 1 {
        let longest = |s: &PolicyStatement| std::cmp::Reverse(s.prefixes.first().map(|m| m.prefix.len()));
        statements.sort_by(|a, b| (longest(a), a).cmp(&(longest(b), b)));
    }
    statements
}
