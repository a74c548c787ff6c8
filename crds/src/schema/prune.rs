//! A value as the API server would store it: without nulls and without what the schema does not know.

use serde_json::{Map, Value as Json};

use super::{Others, Schema};
use crate::yaml::{Node, Value};

/// JSON of the node. Members that its version of the kind does not have must not reach the type, which
/// holds the fields of all versions.
pub(crate) fn pruned(node: &Node, schema: &Schema) -> Json {
    match &node.value {
        Value::List(items) => match &schema.items {
            Some(item) => Json::Array(items.iter().map(|node| pruned(node, item)).collect()),
            None => node.to_json(),
        },
        Value::Map(entries) => {
            let mut members = Map::new();
            for entry in entries.iter().filter(|entry| !entry.value.is_null()) {
                let value = match (schema.properties.get(&entry.key), &schema.others) {
                    (Some(property), _) => pruned(&entry.value, property),
                    (None, Others::Like(other)) => pruned(&entry.value, other),
                    (None, Others::Any) => entry.value.to_json(),
                    (None, Others::Unknown) => continue,
                };
                members.insert(entry.key.clone(), value);
            }
            Json::Object(members)
        }
        Value::Number(number) if schema.number_as_text => Json::String(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => node.to_json(),
    }
}
