//! A small validator for structural schemas, the subset of OpenAPI v3 that CRDs are written in.
//!
//! A [`Schema`] is compiled once from the JSON that a type (or a CRD) yields, and walks a positioned
//! YAML tree. It answers as the API server would: null members are pruned, defaults count for the
//! rules, unknown members are dropped (here: with a warning that guesses what was meant).
//!
//! Source: Kubernetes API, `apiextensions/v1 JSONSchemaProps`; "structural schema" in the
//! documentation of custom resources.

mod compile;
mod format;
mod near;
mod prune;
mod rule;
mod walk;

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value as Json;

use crate::problem::{Reason, Severity};

pub(crate) use compile::{Dialect, SchemaError, compile};
pub(crate) use near::nearest;
pub(crate) use prune::pruned;
pub(crate) use walk::{quote, validate};

/// What a value must look like.
#[derive(Clone, Debug, Default)]
pub(crate) struct Schema {
    kind: Option<Type>,
    /// Null stands for a value here, rather than for nothing.
    nullable: bool,
    int_or_string: bool,
    /// The type holds text where a number may be written.
    number_as_text: bool,
    properties: BTreeMap<String, Schema>,
    required: Vec<String>,
    /// What members without a property of their own must look like.
    others: Others,
    items: Option<Box<Schema>>,
    one_of: Vec<Json>,
    pattern: Option<Pattern>,
    format: Option<format::Format>,
    minimum: Option<f64>,
    maximum: Option<f64>,
    /// Characters, items or members, whichever the type has.
    at_least: Option<usize>,
    at_most: Option<usize>,
    /// Members that together must differ between the items of a list.
    list_keys: Vec<String>,
    rules: Vec<rule::Rule>,
    default: Option<Json>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

#[derive(Clone, Debug, Default)]
enum Others {
    /// They are pruned, and reported.
    #[default]
    Unknown,
    Any,
    Like(Box<Schema>),
}

#[derive(Clone, Debug)]
struct Pattern {
    /// As the schema spells it.
    text: String,
    regex: Regex,
}

/// Something the schema does not like. Becomes a [`crate::Problem`] once file and object are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) severity: Severity,
    pub(crate) line: u32,
    pub(crate) field: String,
    pub(crate) reason: Reason,
    pub(crate) message: String,
}

impl Schema {
    pub(crate) fn set_property(&mut self, name: &str, schema: Schema) {
        self.properties.insert(name.to_owned(), schema);
    }

    /// The schema of a member that has a property of its own.
    pub(crate) fn property(&self, name: &str) -> Option<&Schema> {
        self.properties.get(name)
    }

    pub(crate) fn default_value(&self) -> Option<&Json> {
        self.default.as_ref()
    }
}
