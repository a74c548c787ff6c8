//! `service.cilium.io/...`: what a Service asks of its load balancing. Each key, each value; what is neither is named.

use std::collections::{BTreeMap, BTreeSet};

use crds::LabelSelector;
use ebpf_abi::service::Selection;

use super::{Delegation, Kind, RangePolicy};
use crate::names::ServiceName;
use crate::problem::Problem;
use crate::settings::{Forwarding, Honour, Settings, ThisNode};

const PREFIX: &str = "service.cilium.io/";
const TYPE: &str = "service.cilium.io/type";
const NODE: &str = "service.cilium.io/node";
const NODE_SELECTOR: &str = "service.cilium.io/node-selector";
const ALGORITHM: &str = "service.cilium.io/lb-algorithm";
const FORWARDING: &str = "service.cilium.io/forwarding-mode";
const RANGES_POLICY: &str = "service.cilium.io/src-ranges-policy";
const DELEGATION: &str = "service.cilium.io/proxy-delegation";

/// Keys of a cluster mesh with the aliases of old, and the values they may have; empty: true or false.
const MESH: [(&str, &str); 7] = [
    ("service.cilium.io/global", ""),
    ("service.cilium.io/global-sync-endpoint-slices", ""),
    ("service.cilium.io/shared", ""),
    ("service.cilium.io/affinity", "local, remote, none"),
    ("io.cilium/global-service", ""),
    ("io.cilium/shared-service", ""),
    ("io.cilium/service-affinity", "local, remote, none"),
];

/// The answer to all annotations of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Annotations {
    pub(crate) on_node: OnNode,
    pub(crate) selection: Selection,
    pub(crate) forwarding: Forwarding,
    pub(crate) ranges: RangePolicy,
    pub(crate) delegation: Delegation,
    /// The only kinds to have; `None`: all.
    types: Option<BTreeSet<Kind>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnNode {
    Served,
    NotServed,
}

impl Annotations {
    /// External IPs and host ports are not limited by the annotation.
    pub(crate) fn has(&self, kind: Kind) -> bool {
        match kind {
            Kind::ClusterIp | Kind::NodePort | Kind::LoadBalancer => {
                self.types.as_ref().is_none_or(|types| types.contains(&kind))
            }
            Kind::HostPort | Kind::ExternalIp => true,
        }
    }
}

/// Reads all annotations; doubts go to `problems`.
pub(crate) fn read(
    service: &ServiceName,
    annotations: &BTreeMap<String, String>,
    node: &ThisNode,
    settings: &Settings,
    problems: &mut Vec<Problem>,
) -> Annotations {
    let mut reader = Reader {
        service,
        annotations,
        problems,
    };
    reader.unknown_keys();
    reader.mesh();
    let selection = reader.choose(
        ALGORITHM,
        "random, maglev",
        settings.selection_annotation,
        |text| match text {
            "random" => Some(Selection::Random),
            "maglev" => Some(Selection::Maglev),
            _ => None,
        },
    );
    let forwarding = reader.choose(
        FORWARDING,
        "dsr, snat",
        settings.forwarding_annotation,
        |text| match text {
            "dsr" => Some(Forwarding::Dsr),
            "snat" => Some(Forwarding::Snat),
            _ => None,
        },
    );
    let ranges = reader.choose(RANGES_POLICY, "allow, deny", Honour::Yes, |text| match text {
        "allow" => Some(RangePolicy::Allow),
        "deny" => Some(RangePolicy::Deny),
        _ => None,
    });
    let delegation = reader.choose(
        DELEGATION,
        "none, delegate-if-local",
        Honour::Yes,
        |text| match text {
            "none" => Some(Delegation::None),
            "delegate-if-local" => Some(Delegation::IfLocal),
            _ => None,
        },
    );
    Annotations {
        on_node: reader.on_node(node),
        selection: selection.unwrap_or(settings.selection),
        forwarding: forwarding.unwrap_or(settings.forwarding),
        ranges: ranges.unwrap_or(RangePolicy::Allow),
        delegation: delegation.unwrap_or(Delegation::None),
        types: reader.types(),
    }
}

struct Reader<'a> {
    service: &'a ServiceName,
    annotations: &'a BTreeMap<String, String>,
    problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    fn unknown_keys(&mut self) {
        let ours = [
            TYPE,
            NODE,
            NODE_SELECTOR,
            ALGORITHM,
            FORWARDING,
            RANGES_POLICY,
            DELEGATION,
        ];
        for key in self.annotations.keys().filter(|key| key.starts_with(PREFIX)) {
            let mesh = MESH.iter().any(|(name, _)| name == key);
            if !mesh && !ours.contains(&key.as_str()) {
                self.problems.push(Problem::UnknownAnnotation {
                    service: self.service.clone(),
                    annotation: key.clone(),
                });
            }
        }
    }

    fn mesh(&mut self) {
        for (key, known) in MESH {
            let Some(value) = self.annotations.get(key) else {
                continue;
            };
            let value = value.to_ascii_lowercase();
            let (fits, asks) = if known.is_empty() {
                (matches!(value.as_str(), "true" | "false"), value == "true")
            } else {
                let fits = known.split(", ").any(|one| one == value);
                (fits, fits && value != "none")
            };
            let service = self.service.clone();
            if !fits {
                self.problems.push(Problem::UnknownAnnotationValue {
                    service,
                    annotation: key,
                    value,
                    known: if known.is_empty() { "true, false" } else { known },
                });
            } else if asks {
                self.problems.push(Problem::NoClusterMesh {
                    service,
                    annotation: key,
                });
            }
        }
    }

    fn choose<T>(
        &mut self,
        annotation: &'static str,
        known: &'static str,
        honour: Honour,
        read: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let value = self.annotations.get(annotation)?;
        let service = self.service.clone();
        if honour == Honour::No {
            self.problems
                .push(Problem::AnnotationNotEnabled { service, annotation });
            return None;
        }
        let chosen = read(value.trim().to_ascii_lowercase().as_str());
        if chosen.is_none() {
            self.problems.push(Problem::UnknownAnnotationValue {
                service,
                annotation,
                value: value.clone(),
                known,
            });
        }
        chosen
    }

    /// What is no selector leaves the Service off every node, as in Cilium.
    fn on_node(&mut self, node: &ThisNode) -> OnNode {
        let served = if let Some(text) = self.annotations.get(NODE_SELECTOR) {
            let selector = text.parse::<LabelSelector>();
            if selector.is_err() {
                self.problems.push(Problem::BadNodeSelector {
                    service: self.service.clone(),
                    text: text.clone(),
                });
            }
            selector.is_ok_and(|selector| selector.matches(&node.labels))
        } else {
            self.annotations
                .get(NODE)
                .is_none_or(|wanted| node.labels.get(NODE) == Some(wanted))
        };
        if served { OnNode::Served } else { OnNode::NotServed }
    }

    fn types(&mut self) -> Option<BTreeSet<Kind>> {
        let text = self.annotations.get(TYPE)?;
        let mut types = BTreeSet::new();
        for one in text.split(',') {
            match one.trim() {
                "ClusterIP" => types.insert(Kind::ClusterIp),
                "NodePort" => types.insert(Kind::NodePort),
                "LoadBalancer" => types.insert(Kind::LoadBalancer),
                other => {
                    self.problems.push(Problem::UnknownAnnotationValue {
                        service: self.service.clone(),
                        annotation: TYPE,
                        value: other.to_owned(),
                        known: "ClusterIP, NodePort, LoadBalancer",
                    });
                    false
                }
            };
        }
        // Nothing understood is as nothing said.
        (!types.is_empty()).then_some(types)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(pairs: &[(&str, &str)], settings: &Settings) -> (Annotations, Vec<&'static str>) {
        let annotations = pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let service = ServiceName {
            namespace: "a".to_owned(),
            name: "b".to_owned(),
        };
        let node = ThisNode {
            labels: BTreeMap::from([(NODE.to_owned(), "beefy".to_owned())]),
            ..ThisNode::default()
        };
        let mut problems = Vec::new();
        let answer = read(&service, &annotations, &node, settings, &mut problems);
        (answer, problems.iter().map(Problem::reason).collect())
    }

    #[test]
    fn each_annotation_overrides_the_setting() {
        let (found, problems) = answer(
            &[
                (ALGORITHM, "maglev"),
                (FORWARDING, "dsr"),
                (RANGES_POLICY, "deny"),
                (DELEGATION, "delegate-if-local"),
                (TYPE, "NodePort, LoadBalancer"),
            ],
            &Settings::default(),
        );
        assert_eq!(problems, Vec::<&str>::new());
        assert_eq!(found.selection, Selection::Maglev);
        assert_eq!(found.forwarding, Forwarding::Dsr);
        assert_eq!(found.ranges, RangePolicy::Deny);
        assert_eq!(found.delegation, Delegation::IfLocal);
        assert!(found.has(Kind::NodePort) && found.has(Kind::ExternalIp));
        assert!(!found.has(Kind::ClusterIp));
    }

    #[test]
    fn unknown_keys_and_values_are_named_and_change_nothing() {
        let (plain, _) = answer(&[], &Settings::default());
        for (key, value, reason) in [
            (ALGORITHM, "best", "unknown-annotation-value"),
            (FORWARDING, "fast", "unknown-annotation-value"),
            (RANGES_POLICY, "", "unknown-annotation-value"),
            (DELEGATION, "yes", "unknown-annotation-value"),
            (TYPE, "ExternalName", "unknown-annotation-value"),
            ("service.cilium.io/affinity", "near", "unknown-annotation-value"),
            ("service.cilium.io/global", "true", "no-cluster-mesh"),
            ("io.cilium/global-service", "maybe", "unknown-annotation-value"),
            ("service.cilium.io/lb-algoritm", "maglev", "unknown-annotation"),
        ] {
            let (found, problems) = answer(&[(key, value)], &Settings::default());
            assert_eq!(problems, [reason], "{key}={value}");
            assert_eq!(found, plain, "{key}={value}");
        }
    }

    #[test]
    fn what_the_settings_do_not_enable_is_named_and_ignored() {
        let settings = Settings {
            selection_annotation: Honour::No,
            forwarding_annotation: Honour::No,
            ..Settings::default()
        };
        let (found, problems) = answer(&[(ALGORITHM, "maglev"), (FORWARDING, "dsr")], &settings);
        assert_eq!(problems, ["annotation-not-enabled"; 2]);
        assert_eq!(found.selection, Selection::Random);
        assert_eq!(found.forwarding, Forwarding::Snat);
    }

    #[test]
    fn the_selector_wins_over_the_plain_node_annotation() {
        let settings = Settings::default();
        for (pairs, served) in [
            (vec![(NODE, "beefy")], OnNode::Served),
            (vec![(NODE, "slow")], OnNode::NotServed),
            (
                vec![(NODE, "slow"), (NODE_SELECTOR, "service.cilium.io/node=beefy")],
                OnNode::Served,
            ),
            (
                vec![(NODE, "beefy"), (NODE_SELECTOR, "!service.cilium.io/node")],
                OnNode::NotServed,
            ),
        ] {
            let (found, problems) = answer(&pairs, &settings);
            assert_eq!(found.on_node, served, "{pairs:?}");
            assert!(problems.is_empty());
        }
        let (found, problems) = answer(&[(NODE_SELECTOR, "a in b")], &settings);
        assert_eq!(found.on_node, OnNode::NotServed);
        assert_eq!(problems, ["bad-node-selector"]);
    }
}
