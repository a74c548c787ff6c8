//! YAML with positions: text -> documents -> trees whose every node knows its line.
//!
//! Scalars mean what `kubectl` takes them for (the YAML 1.1 of its parser): `yes` is a boolean,
//! `010` is eight, `65001` is a number and `"65001"` is text. See [`scalar`].
//!
//! Anything a file may hold is answered with a tree or a [`Fault`]: depth and the expansion of
//! aliases are bounded, and nothing recurses deeper than [`MAX_DEPTH`].

mod build;
mod scalar;
mod split;

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value as Json};

pub(crate) use build::{MAX_DEPTH, MAX_NODES, build};
pub(crate) use split::{Chunk, split};

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) value: Value,
    /// Counted from 1.
    pub(crate) line: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key of a mapping, in the order written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) line: u32,
    pub(crate) value: Node,
}

/// Why a text gives no tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) line: u32,
    pub(crate) cause: Cause,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    Syntax(String),
    TooDeep,
    TooLarge,
    DuplicateKey {
        key: String,
        first: u32,
    },
    /// A key that is a list, a mapping or null.
    BadKey,
}

impl Node {
    /// The member of this name, if this is a mapping that has one which is not null.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(entries) => entries
                .iter()
                .find(|entry| entry.key == key)
                .map(|entry| &entry.value)
                .filter(|node| !node.is_null()),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::List(_) => None,
        }
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::List(_) | Value::Map(_) => None,
        }
    }

    pub(crate) fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Map(_) => &[],
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// As JSON. Members that are null are left out, as the API server prunes them.
    pub(crate) fn to_json(&self) -> Json {
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(value) => Json::Bool(*value),
            Value::Number(number) => Json::Number(number.clone()),
            Value::String(text) => Json::String(text.clone()),
            Value::List(items) => Json::Array(items.iter().map(Self::to_json).collect()),
            Value::Map(entries) => {
                let members = entries.iter().filter(|entry| !entry.value.is_null());
                Json::Object(
                    members
                        .map(|entry| (entry.key.clone(), entry.value.to_json()))
                        .collect::<Map<_, _>>(),
                )
            }
        }
    }

    /// A tree of a JSON value, every node on the same line.
    pub(crate) fn from_json(json: &Json, line: u32) -> Self {
        let value = match json {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(number) => Value::Number(number.clone()),
            Json::String(text) => Value::String(text.clone()),
            Json::Array(items) => Value::List(items.iter().map(|item| Self::from_json(item, line)).collect()),
            Json::Object(members) => {
                let entry = |(key, value): (&String, &Json)| Entry {
                    key: key.clone(),
                    line,
                    value: Self::from_json(value, line),
                };
                Value::Map(members.iter().map(entry).collect())
            }
        };
        Self { value, line }
    }

    /// The line of the node at `path`, or of the nearest one around it.
    pub(crate) fn line_at(&self, path: &str) -> u32 {
        let mut node = self;
        for step in path.split(['.', '[', ']']).filter(|step| !step.is_empty()) {
            let inner = match &node.value {
                Value::List(items) => step.parse::<usize>().ok().and_then(|index| items.get(index)),
                Value::Map(_) => node.get(step),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
            };
            match inner {
                Some(inner) => node = inner,
                None => break,
            }
        }
        node.line
    }

    /// The line of every field below this one, by path.
    pub(crate) fn lines(&self, path: &str, out: &mut BTreeMap<String, u32>) {
        match &self.value {
            Value::Map(entries) => {
                for entry in entries {
                    let path = join(path, &entry.key);
                    out.insert(path.clone(), entry.line);
                    entry.value.lines(&path, out);
                }
            }
            Value::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    let path = format!("{path}[{index}]");
                    out.insert(path.clone(), item.line);
                    item.lines(&path, out);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

/// `path.key`, or `path[key]` where the key itself holds a dot.
pub(crate) fn join(path: &str, key: &str) -> String {
    if key.contains(['.', '[', '/']) {
        format!("{path}[{key}]")
    } else if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}
