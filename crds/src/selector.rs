//! Label selectors, in the reduced form Cilium's kinds use.
//!
//! A missing selector and an empty one mean different things, and what a missing one means differs
//! from field to field. This type therefore only answers "does this selector match these labels";
//! an empty selector matches everything, and `Option::None` is the business of the field's owner.
//!
//! Source: Kubernetes API, `meta/v1 LabelSelector`.

mod text;

use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

pub use text::NotASelector;

/// All requirements must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct LabelSelector {
    /// Each label must be present with exactly this value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "match_labels_schema")]
    pub match_labels: BTreeMap<String, String>,
    /// Each expression must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub match_expressions: Vec<Requirement>,
}

/// One expression over one label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Requirement {
    /// The label the expression looks at.
    pub key: String,
    pub operator: Operator,
    /// Must have members for `In` and `NotIn`, must have none for `Exists` and `DoesNotExist`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub values: Vec<String>,
}

/// How a requirement relates the label to its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

/// What makes a selector unusable: the API server lets it through and the user of the object fails
/// on it later, so it is named here. `field` is relative to the selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    #[error("operator In or NotIn needs at least one value")]
    NoValues { field: String },
    #[error("operator Exists or DoesNotExist takes no values")]
    UnwantedValues { field: String },
    #[error("{key:?} is not a label key: {why}")]
    BadKey {
        field: String,
        key: String,
        why: &'static str,
    },
    #[error("{value:?} is not a label value: {why}")]
    BadValue {
        field: String,
        value: String,
        why: &'static str,
    },
}

impl SelectorError {
    /// Where, relative to the selector, for example `matchExpressions[1].values`.
    pub fn field(&self) -> &str {
        match self {
            Self::NoValues { field }
            | Self::UnwantedValues { field }
            | Self::BadKey { field, .. }
            | Self::BadValue { field, .. } => field,
        }
    }
}

impl LabelSelector {
    /// True if every requirement holds. An empty selector matches every set of labels.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.matches_with(|key| labels.get(key).map(String::as_str))
    }

    /// The same for labels that are not in a map, such as a service's labels overlaid with
    /// `io.kubernetes.service.name`.
    pub fn matches_with<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.match_labels
            .iter()
            .all(|(key, value)| label(key) == Some(value.as_str()))
            && self
                .match_expressions
                .iter()
                .all(|requirement| requirement.holds(label(&requirement.key)))
    }

    /// No requirement at all: matches everything.
    pub fn is_empty(&self) -> bool {
        self.match_labels.is_empty() && self.match_expressions.is_empty()
    }

    /// Everything that makes this selector unusable.
    pub fn errors(&self) -> Vec<SelectorError> {
        let mut errors = Vec::new();
        for (key, value) in &self.match_labels {
            let field = format!("matchLabels[{key}]");
            if let Some(why) = key_error(key) {
                errors.push(SelectorError::BadKey {
                    field: field.clone(),
                    key: key.clone(),
                    why,
                });
            }
            if let Some(why) = value_error(value) {
                errors.push(SelectorError::BadValue {
                    field,
                    value: value.clone(),
                    why,
                });
            }
        }
        for (index, requirement) in self.match_expressions.iter().enumerate() {
            let field = format!("matchExpressions[{index}]");
            if let Some(why) = key_error(&requirement.key) {
                let key = requirement.key.clone();
                errors.push(SelectorError::BadKey {
                    field: format!("{field}.key"),
                    key,
                    why,
                });
            }
            match (requirement.operator, requirement.values.is_empty()) {
                (Operator::In | Operator::NotIn, true) => {
                    errors.push(SelectorError::NoValues {
                        field: format!("{field}.values"),
                    });
                }
                (Operator::Exists | Operator::DoesNotExist, false) => {
                    errors.push(SelectorError::UnwantedValues {
                        field: format!("{field}.values"),
                    });
                }
                (Operator::In | Operator::NotIn, false)
                | (Operator::Exists | Operator::DoesNotExist, true) => {}
            }
            for (at, value) in requirement.values.iter().enumerate() {
                if let Some(why) = value_error(value) {
                    let field = format!("{field}.values[{at}]");
                    errors.push(SelectorError::BadValue {
                        field,
                        value: value.clone(),
                        why,
                    });
                }
            }
        }
        errors
    }
}

impl fmt::Display for LabelSelector {
    /// The notation of `kubectl get -l`: `a=b,c in (d,e),!f`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels = self
            .match_labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"));
        let expressions = self.match_expressions.iter().map(|requirement| {
            let Requirement {
                key,
                operator,
                values,
            } = requirement;
            match operator {
                Operator::In => format!("{key} in ({})", values.join(",")),
                Operator::NotIn => format!("{key} notin ({})", values.join(",")),
                Operator::Exists => key.clone(),
                Operator::DoesNotExist => format!("!{key}"),
            }
        });
        f.write_str(&labels.chain(expressions).collect::<Vec<_>>().join(","))
    }
}

impl Requirement {
    fn holds(&self, value: Option<&str>) -> bool {
        let listed = |value: &str| self.values.iter().any(|v| v == value);
        match self.operator {
            Operator::In => value.is_some_and(listed),
            // Kubernetes: an absent label satisfies NotIn.
            Operator::NotIn => !value.is_some_and(listed),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

/// Why this is not a label key: `[prefix/]name`, the name 1 to 63 characters, the prefix a DNS
/// subdomain of at most 253.
pub fn key_error(key: &str) -> Option<&'static str> {
    let name = match key.split_once('/') {
        Some((prefix, name)) => {
            if !is_dns_subdomain(prefix) {
                return Some("the part before '/' must be a lower-case DNS name");
            }
            name
        }
        None => key,
    };
    if name.is_empty() {
        return Some("the name is empty");
    }
    value_error(name)
}

/// Why this is not a label value: empty, or up to 63 letters, digits, `-`, `_` and `.`, starting
/// and ending with a letter or digit.
pub fn value_error(value: &str) -> Option<&'static str> {
    if value.len() > 63 {
        return Some("it is longer than 63 characters");
    }
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !value.chars().all(inner) {
        return Some("only letters, digits, '-', '_' and '.' are allowed");
    }
    let edge = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    if !edge(value.chars().next()) || !edge(value.chars().next_back()) {
        return Some("it must start and end with a letter or digit");
    }
    None
}

/// RFC 1123 subdomain as Kubernetes checks it: at most 253 lower-case characters.
pub fn is_dns_subdomain(name: &str) -> bool {
    !name.is_empty() && name.len() <= 253 && name.split('.').all(is_dns_label_of_any_length)
}

fn is_dns_label_of_any_length(label: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
}

fn match_labels_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "description": "Each label must be present with exactly this value.",
        "additionalProperties": {
            "type": "string",
            "maxLength": 63,
            "pattern": "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$",
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    fn requirement(operator: Operator, values: &[&str]) -> LabelSelector {
        LabelSelector {
            match_labels: BTreeMap::new(),
            match_expressions: vec![Requirement {
                key: "color".to_owned(),
                operator,
                values: values.iter().map(|v| (*v).to_owned()).collect(),
            }],
        }
    }

    #[test]
    fn each_operator_answers_for_present_and_absent_labels() {
        let blue = labels(&[("color", "blue")]);
        let none = labels(&[]);
        for (operator, values, on_blue, on_none) in [
            (Operator::In, &["blue", "red"][..], true, false),
            (Operator::In, &["red"][..], false, false),
            (Operator::NotIn, &["blue"][..], false, true),
            (Operator::NotIn, &["red"][..], true, true),
            (Operator::Exists, &[][..], true, false),
            (Operator::DoesNotExist, &[][..], false, true),
        ] {
            let selector = requirement(operator, values);
            assert_eq!(selector.matches(&blue), on_blue, "{operator:?} {values:?}");
            assert_eq!(selector.matches(&none), on_none, "{operator:?} {values:?}");
            assert_eq!(selector.errors(), []);
        }
    }

    #[test]
    fn an_empty_selector_matches_everything() {
        assert!(LabelSelector::default().matches(&labels(&[])));
        assert!(LabelSelector::default().matches(&labels(&[("a", "b")])));
    }

    #[test]
    fn unusable_requirements_are_named() {
        assert!(matches!(
            requirement(Operator::In, &[]).errors()[..],
            [SelectorError::NoValues { .. }]
        ));
        assert!(matches!(
            requirement(Operator::Exists, &["x"]).errors()[..],
            [SelectorError::UnwantedValues { .. }]
        ));
        let mut selector = requirement(Operator::In, &["not valid"]);
        selector.match_expressions[0].key = "Bad/-key".to_owned();
        let errors = selector.errors();
        assert!(matches!(
            errors[..],
            [SelectorError::BadKey { .. }, SelectorError::BadValue { .. }]
        ));
        assert_eq!(errors[1].field(), "matchExpressions[0].values[0]");
    }
}
