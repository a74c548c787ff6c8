//! From the statements of many policies to the few the speaker runs on.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use bgp_speaker::policy::{PrefixMatch, Statement, Verdict};

use super::attributes::RouteAttributes;

/// A statement, and the objects that asked for it.
pub(crate) struct DraftStatement<'a> {
    pub(crate) prefixes: Vec<PrefixMatch>,
    pub(crate) attributes: Arc<RouteAttributes>,
    /// In order.
    pub(crate) sources: Vec<&'a str>,
}

/// What a prefix is given, and the objects that say so, in order.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Given<'a> {
    attributes: Arc<RouteAttributes>,
    sources: Cow<'a, [&'a str]>,
}

/// For the speaker: policies that meet in one prefix are one statement, as a route is announced once only, and
/// prefixes that are given the same stand together.
pub(crate) fn merged<'a>(statements: impl Iterator<Item = &'a DraftStatement<'a>>) -> Vec<Statement> {
    let mut given: BTreeMap<PrefixMatch, Given<'a>> = BTreeMap::new();
    for statement in statements {
        for prefix in &statement.prefixes {
            match given.entry(*prefix) {
                Entry::Vacant(new) => {
                    new.insert(Given {
                        attributes: Arc::clone(&statement.attributes),
                        sources: Cow::Borrowed(&statement.sources),
                    });
                }
                Entry::Occupied(mut known) => {
                    let Given { attributes, sources } = known.get_mut();
                    if *attributes != statement.attributes {
                        *attributes = Arc::new(attributes.merge(&statement.attributes));
                    }
                    if **sources != statement.sources {
                        statement
                            .sources
                            .iter()
                            .for_each(|source| unite(sources.to_mut(), source));
                    }
                }
            }
        }
    }
    let mut groups: BTreeMap<Given<'a>, Vec<PrefixMatch>> = BTreeMap::new();
    let mut given = given.into_iter().peekable();
    while let Some((prefix, key)) = given.next() {
        // Neighbours mostly are given the same: one look-up for the whole run.
        let mut run = vec![prefix];
        while let Some((prefix, _)) = given.next_if(|(_, next)| *next == key) {
            run.push(prefix);
        }
        groups.entry(key).or_default().append(&mut run);
    }
    let statements = groups
        .into_iter()
        .map(|(Given { attributes, sources }, prefixes)| Statement {
            policy: sources.join(",").into(),
            prefixes,
            verdict: Verdict::Accept(attributes.to_set()),
        });
    statements.collect()
}

/// Into a list in order, once.
pub(crate) fn unite<'a>(sources: &mut Vec<&'a str>, source: &'a str) {
    if let Err(at) = sources.binary_search(&source) {
        sources.insert(at, source);
    }
}
