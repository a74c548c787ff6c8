//! The CEL rules of Cilium's CRDs, as plain Rust, found by their text.
//!
//! A schema whose rule is not in this table is refused when it is compiled, so a rule cannot be
//! forgotten silently.

use serde_json::Value as Json;

use super::Schema;
use crate::problem::Reason;
use crate::yaml::{Node, Value};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    ServiceRequired,
    SelectorNotAllowed,
    KeepaliveWithinHold,
}

/// A broken rule, with the words the API server would use.
pub(super) struct Broken {
    /// The member to look at, if it is there.
    pub(super) member: &'static str,
    pub(super) reason: Reason,
    pub(super) message: String,
}

impl Rule {
    pub(super) fn of(text: &str) -> Option<Self> {
        match text {
            "self.advertisementType != 'Service' || has(self.service)" => Some(Self::ServiceRequired),
            "self.advertisementType != 'PodCIDR' || !has(self.selector)" => Some(Self::SelectorNotAllowed),
            "self.keepAliveTimeSeconds <= self.holdTimeSeconds" => Some(Self::KeepaliveWithinHold),
            _ => None,
        }
    }

    pub(super) fn check(self, node: &Node, schema: &Schema) -> Option<Broken> {
        let is = |value: &str| node.get("advertisementType").and_then(Node::as_str) == Some(value);
        match self {
            Self::ServiceRequired => (is("Service") && node.get("service").is_none()).then_some(Broken {
                member: "advertisementType",
                reason: Reason::ServiceRequired,
                message: "service field is required for the 'Service' advertisementType".to_owned(),
            }),
            Self::SelectorNotAllowed => (is("PodCIDR") && node.get("selector").is_some()).then_some(Broken {
                member: "selector",
                reason: Reason::SelectorNotAllowed,
                message: "selector field is not allowed for the 'PodCIDR' advertisementType".to_owned(),
            }),
            Self::KeepaliveWithinHold => {
                let keepalive = number(node, schema, "keepAliveTimeSeconds")?;
                let hold = number(node, schema, "holdTimeSeconds")?;
                (keepalive > hold).then_some(Broken {
                    member: if node.get("keepAliveTimeSeconds").is_some() {
                        "keepAliveTimeSeconds"
                    } else {
                        "holdTimeSeconds"
                    },
                    reason: Reason::KeepaliveAboveHold,
                    // One of them may be a default the writer does not have in mind.
                    message: format!(
                        "keepAliveTimeSeconds can not be larger than holdTimeSeconds ({keepalive} and {hold})"
                    ),
                })
            }
        }
    }
}

/// A member as written, or its default: the API server applies defaults before rules.
fn number(node: &Node, schema: &Schema, name: &str) -> Option<i64> {
    match node.get(name) {
        Some(Node {
            value: Value::Number(number),
            ..
        }) => number.as_i64(),
        Some(_) => None,
        None => schema
            .property(name)
            .and_then(Schema::default_value)
            .and_then(Json::as_i64),
    }
}
