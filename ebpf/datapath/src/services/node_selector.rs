//! Label selectors in the text form of `kubectl -l`: `a=b,c!=d,e in (f,g),h,!i`.

use std::collections::{BTreeMap, BTreeSet};

use crds::selector::{key_error, value_error};

/// Whether all requirements hold; `None` if the text is no selector. An empty one matches everything.
pub(crate) fn matches(text: &str, labels: &BTreeMap<String, String>) -> Option<bool> {
    if text.trim().is_empty() {
        return Some(true);
    }
    let mut all = true;
    for part in split(text) {
        all &= requirement(part.trim())?.holds(labels);
    }
    Some(all)
}

enum Requirement<'a> {
    In(&'a str, BTreeSet<&'a str>),
    NotIn(&'a str, BTreeSet<&'a str>),
    Exists(&'a str),
    Missing(&'a str),
}

impl Requirement<'_> {
    fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        let label = |key: &str| labels.get(key).map(String::as_str);
        match self {
            Self::In(key, values) => label(key).is_some_and(|value| values.contains(value)),
            // An absent label satisfies `!=` and `notin`.
            Self::NotIn(key, values) => label(key).is_none_or(|value| !values.contains(value)),
            Self::Exists(key) => label(key).is_some(),
            Self::Missing(key) => label(key).is_none(),
        }
    }
}

/// At commas that are not within parentheses.
fn split(text: &str) -> Vec<&str> {
    let mut depth = 0_i32;
    text.split(|c: char| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    })
    .collect()
}

fn requirement(part: &str) -> Option<Requirement<'_>> {
    if let Some(key) = part.strip_prefix('!') {
        return label(key).map(Requirement::Missing);
    }
    if let Some((head, list)) = part.split_once('(') {
        let values: Option<BTreeSet<&str>> = list.strip_suffix(')')?.split(',').map(value).collect();
        let (key, operator) = head.trim().rsplit_once(char::is_whitespace)?;
        return match operator {
            "in" => Some(Requirement::In(label(key)?, values?)),
            "notin" => Some(Requirement::NotIn(label(key)?, values?)),
            _ => None,
        };
    }
    if let Some((key, one)) = part.split_once("!=") {
        return Some(Requirement::NotIn(label(key)?, BTreeSet::from([value(one)?])));
    }
    if let Some((key, one)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return Some(Requirement::In(label(key)?, BTreeSet::from([value(one)?])));
    }
    label(part).map(Requirement::Exists)
}

fn label(key: &str) -> Option<&str> {
    let key = key.trim();
    key_error(key).is_none().then_some(key)
}

fn value(text: &str) -> Option<&str> {
    let text = text.trim();
    value_error(text).is_none().then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_is_read_as_kubectl_reads_it() {
        let labels = [("rack", "r1"), ("zone", "a")];
        let labels = labels
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        for (text, expected) in [
            ("rack=r1", true),
            ("rack==r1,zone=a", true),
            ("rack=r2", false),
            ("rack!=r2,other!=x", true),
            ("rack in (r1, r2),zone notin (b,c)", true),
            ("rack in (r2)", false),
            ("rack,!other", true),
            ("!rack", false),
            ("", true),
        ] {
            assert_eq!(matches(text, &labels), Some(expected), "{text}");
        }
        for bad in ["rack in r1", "=r1", "rack within (a)", "a b", "rack=(x", ","] {
            assert_eq!(matches(bad, &labels), None, "{bad}");
        }
    }
}
