//! Annotations that keep a Service away from some nodes, or to some of its address types.

use std::collections::BTreeMap;

use crds::LabelSelector;
use crds::selector::NotASelector;

use super::desired::AddressKind;

/// Comma separated: `ClusterIP`, `NodePort`, `LoadBalancer`. Unset: all. External IPs are not limited by it.
const TYPE: &str = "service.cilium.io/type";
/// The value the node's label of the same name must have.
const NODE: &str = "service.cilium.io/node";
/// A label selector over the node's labels, in the text form of `kubectl -l`. Wins over [`NODE`].
const NODE_SELECTOR: &str = "service.cilium.io/node-selector";

/// Whether this node serves the Service at all. What cannot be understood leaves it off every node, as in Cilium, and is to
/// be reported.
pub(crate) fn on_node(
    annotations: &BTreeMap<String, String>,
    labels: &BTreeMap<&str, &str>,
) -> Result<bool, NotASelector> {
    if let Some(text) = annotations.get(NODE_SELECTOR) {
        let selector: LabelSelector = text.parse()?;
        return Ok(selector.matches_with(|key| labels.get(key).copied()));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn annotation(key: &str, value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(key.to_owned(), value.to_owned())])
    }

    #[test]
    fn a_selector_over_the_nodes_labels_decides() {
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
