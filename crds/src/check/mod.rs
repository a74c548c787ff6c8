//! What is wrong between objects: references to nothing, selectors that match nothing, two objects
//! that want the same.
//!
//! All of it is warnings: each object is sound by itself, and the other one may still be on its way.
//! What keeps a part of the configuration from working says so in its message.

mod index;
mod peering;
mod pools;
mod selection;

use crate::object::Parsed;
use crate::problem::{Problem, Reason, Severity};
use index::Index;

/// What the checks need to know of the agent's configuration.
#[derive(Clone, Copy, Debug)]
pub struct CheckOptions<'a> {
    /// Where `authSecretRef` is looked up (`bgp-secrets-namespace`).
    pub secrets_namespace: &'a str,
}

impl Default for CheckOptions<'_> {
    fn default() -> Self {
        Self {
            secrets_namespace: "kube-system",
        }
    }
}

/// Checks all objects against each other. Ordered by file and line.
pub fn check<'a>(objects: impl IntoIterator<Item = &'a Parsed>, options: CheckOptions<'_>) -> Vec<Problem> {
    let index = Index::new(objects);
    let mut found = Found { problems: Vec::new() };
    peering::check(&index, options, &mut found);
    selection::check(&index, &mut found);
    pools::check(&index, &mut found);
    found.problems.sort();
    found.problems
}

struct Found {
    problems: Vec<Problem>,
}

impl Found {
    fn warn(&mut self, parsed: &Parsed, field: &str, reason: Reason, message: impl Into<String>) {
        self.problems.push(Problem {
            file: parsed.file.to_path_buf(),
            line: parsed.line_of(field),
            severity: Severity::Warning,
            object: Some(parsed.reference.clone()),
            field: field.to_owned(),
            reason,
            message: message.into(),
        });
    }
}

#[cfg(test)]
mod tests;
