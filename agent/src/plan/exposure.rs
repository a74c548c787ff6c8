//! Annotations that keep a Service away from some nodes, or to some of its address types.

use std::collections::{BTreeMap, BTreeSet};

use super::desired::AddressKind;

/// Comma separated: `ClusterIP`, `NodePort`, `LoadBalancer`. Unset: all. External IPs are not limited by it.
const TYPE: &str = "service.cilium.io/type";
/// The value the node's label of the same name must have.
const NODE: &str = "service.cilium.io/node";
/// A label selector over the node's labels, in the text form of `kubectl -l`. Wins over [`NODE`].
const NODE_SELECTOR: &str = "service.cilium.io/node-selector";

/// What cannot be understood leaves the Service off every node, as in Cilium, and is reported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a label selector; write it as for kubectl -l: a=b,c!=d,e in (f,g),h,!i")]
pub(crate) struct BadSelector {
    pub(crate) text: String,
}

/// Whether this node serves the Service at all.
pub(crate) fn on_node(
    annotations: &BTreeMap<String, String>,
    labels: &BTreeMap<&str, &str>,
) -> Result<bool, BadSelector> {
    if let Some(text) = annotations.get(NODE_SELECTOR) {
        let bad = || BadSelector { text: text.clone() };
        let requirements = parse(text).ok_or_else(bad)?;
        return Ok(requirements.iter().all(|r| r.holds(labels)));
    }
    Ok(annotations
        .get(NODE)
        .is_none_or(|wanted| labels.get(NODE) == Some(&wanted.as_str())))
}

/// Whether addresses of this kind exist.
pub(crate) fn has_type(annotations: &BTreeMap<String, String>, kind: AddressKind) -> bool {
    let Some(text) = annotations.get(TYPE) else {
        return true;
    };
    let wanted = match kind {
        AddressKind::LoadBalancerIp => "LoadBalancer",
        AddressKind::ClusterIp => "ClusterIP",
        AddressKind::ExternalIp => return true,
    };
    text.split(',').any(|one| one.trim() == wanted)
}

#[derive(Debug, PartialEq, Eq)]
enum Requirement<'a> {
    In(&'a str, BTreeSet<&'a str>),
    NotIn(&'a str, BTreeSet<&'a str>),
    Exists(&'a str),
    Missing(&'a str),
}

impl Requirement<'_> {
    fn holds(&self, labels: &BTreeMap<&str, &str>) -> bool {
        match self {
            Self::In(key, values) => labels.get(key).is_some_and(|v| values.contains(v)),
            // An absent label satisfies `!=` and `notin`.
            Self::NotIn(key, values) => labels.get(key).is_none_or(|v| !values.contains(v)),
            Self::Exists(key) => labels.contains_key(key),
            Self::Missing(key) => !labels.contains_key(key),
        }
    }
}

fn parse(text: &str) -> Option<Vec<Requirement<'_>>> {
    if text.trim().is_empty() {
        return Some(Vec::new());
    }
    split(text)
        .into_iter()
        .map(|part| requirement(part.trim()))
        .collect()
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
        let values = values?;
        let head = head.trim();
        return match head.rsplit_once(char::is_whitespace)? {
            (key, "in") => Some(Requirement::In(label(key)?, values)),
            (key, "notin") => Some(Requirement::NotIn(label(key)?, values)),
            (_, _) => None,
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
    crds::selector::key_error(key).is_none().then_some(key)
}

fn value(text: &str) -> Option<&str> {
    let text = text.trim();
    crds::selector::value_error(text).is_none().then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotation(key: &str, value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(key.to_owned(), value.to_owned())])
    }

    #[test]
    fn a_selector_is_read_as_kubectl_reads_it() {
        let labels = BTreeMap::from([("rack", "r1"), ("zone", "a")]);
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
            let found = on_node(&annotation(NODE_SELECTOR, text), &labels);
            assert_eq!(found, Ok(expected), "{text}");
        }
        for bad in ["rack in r1", "=r1", "rack within (a)", "a b", "rack=(x", ","] {
            assert!(
                on_node(&annotation(NODE_SELECTOR, bad), &labels).is_err(),
                "{bad}"
            );
        }
    }

    #[test]
    fn the_plain_annotation_compares_with_the_label_of_its_name() {
        let asked = annotation(NODE, "beefy");
        assert_eq!(on_node(&asked, &BTreeMap::from([(NODE, "beefy")])), Ok(true));
        assert_eq!(on_node(&asked, &BTreeMap::from([(NODE, "slow")])), Ok(false));
        assert_eq!(on_node(&asked, &BTreeMap::new()), Ok(false));
        assert_eq!(on_node(&BTreeMap::new(), &BTreeMap::new()), Ok(true));
    }

    #[test]
    fn types_limit_cluster_and_load_balancer_addresses_only() {
        let asked = annotation(TYPE, "NodePort, LoadBalancer");
        assert!(has_type(&asked, AddressKind::LoadBalancerIp));
        assert!(!has_type(&asked, AddressKind::ClusterIp));
        assert!(has_type(&asked, AddressKind::ExternalIp));
        assert!(has_type(&BTreeMap::new(), AddressKind::ClusterIp));
    }
}
