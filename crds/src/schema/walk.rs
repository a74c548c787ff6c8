//! A value beside its schema.

use std::collections::BTreeMap;

use serde_json::{Number, Value as Json};

use super::{Finding, Others, Schema, Type, nearest};
use crate::problem::{Reason, Severity};
use crate::yaml::{Node, Value, join};

/// Everything the schema does not like about the value at `path`.
pub(crate) fn validate(node: &Node, schema: &Schema, path: &str, out: &mut Vec<Finding>) {
    Walk { out }.node(node, schema, path);
}

struct Walk<'a> {
    out: &'a mut Vec<Finding>,
}

impl Walk<'_> {
    fn node(&mut self, node: &Node, schema: &Schema, path: &str) {
        if node.is_null() && schema.nullable {
            return;
        }
        if schema.int_or_string {
            if !matches!(node.value, Value::Number(_) | Value::String(_)) {
                self.wrong_type(node, "a number or text", path);
            }
            return;
        }
        match (schema.kind, &node.value) {
            (Some(Type::Object) | None, Value::Map(_)) => self.object(node, schema, path),
            (Some(Type::Array) | None, Value::List(items)) => self.list(node, items, schema, path),
            (Some(Type::String) | None, Value::String(text)) => self.text(node, text, schema, path),
            (Some(Type::Integer), Value::Number(number)) if is_integer(number) => {
                self.number(node, number, schema, path)
            }
            (Some(Type::Number) | None, Value::Number(number)) => self.number(node, number, schema, path),
            (Some(Type::Boolean) | None, Value::Bool(_)) | (None, Value::Null) => {}
            (Some(kind), _) => return self.wrong_type(node, kind.name(), path),
        }
        if !schema.one_of.is_empty() {
            self.one_of(node, schema, path);
        }
    }

    fn object(&mut self, node: &Node, schema: &Schema, path: &str) {
        let Value::Map(entries) = &node.value else { return };
        for name in &schema.required {
            if node.get(name).is_none() {
                let message = format!("the field is required; add '{name}'");
                self.error(node.line, join(path, name), Reason::Required, message);
            }
        }
        self.length(node, entries.len(), "members", schema, path);
        for entry in entries.iter().filter(|entry| !entry.value.is_null()) {
            let field = join(path, &entry.key);
            match (schema.properties.get(&entry.key), &schema.others) {
                (Some(property), _) => self.node(&entry.value, property, &field),
                (None, Others::Like(other)) => self.node(&entry.value, other, &field),
                (None, Others::Any) => {}
                (None, Others::Unknown) => {
                    let message = match nearest(&entry.key, schema.properties.keys().map(String::as_str)) {
                        Some(near) => format!(
                            "there is no field '{}', it is ignored; did you mean '{near}'?",
                            entry.key
                        ),
                        None => format!("there is no field '{}', it is ignored; remove it", entry.key),
                    };
                    let (severity, reason) = (Severity::Warning, Reason::UnknownField);
                    self.out.push(Finding {
                        severity,
                        line: entry.line,
                        field,
                        reason,
                        message,
                    });
                }
            }
        }
        for rule in &schema.rules {
            if let Some(broken) = rule.check(node, schema) {
                let at = node.get(broken.member).map_or(node.line, |member| member.line);
                self.error(at, join(path, broken.member), broken.reason, broken.message);
            }
        }
    }

    fn list(&mut self, node: &Node, items: &[Node], schema: &Schema, path: &str) {
        self.length(node, items.len(), "items", schema, path);
        if let Some(item_schema) = &schema.items {
            for (index, item) in items.iter().enumerate() {
                self.node(item, item_schema, &format!("{path}[{index}]"));
            }
        }
        if !schema.list_keys.is_empty() {
            self.distinct(items, &schema.list_keys, path);
        }
    }

    /// List type `map`: no two items with the same keys.
    fn distinct(&mut self, items: &[Node], keys: &[String], path: &str) {
        let mut seen = BTreeMap::new();
        for (index, item) in items.iter().enumerate() {
            let key: Vec<String> = keys
                .iter()
                .filter_map(|key| Some(item.get(key)?.to_json().to_string()))
                .collect();
            if key.is_empty() {
                continue;
            }
            if let Some(first) = seen.get(&key) {
                let message = format!(
                    "{} is already the {} of item {first}; choose another",
                    key.join(", "),
                    keys.join(", ")
                );
                let member = keys.first().and_then(|key| Some((key, item.get(key)?)));
                let (field, line) = match member {
                    Some((key, member)) => (join(&format!("{path}[{index}]"), key), member.line),
                    None => (format!("{path}[{index}]"), item.line),
                };
                self.error(line, field, Reason::DuplicateItem, message);
            } else {
                seen.insert(key, index);
            }
        }
    }

    fn text(&mut self, node: &Node, text: &str, schema: &Schema, path: &str) {
        self.length(node, text.chars().count(), "characters", schema, path);
        if let Some(pattern) = &schema.pattern
            && !pattern.regex.is_match(text)
        {
            let expected = match pattern.text.len() {
                0..100 => format!("does not match {}", pattern.text),
                _ => "does not have the form this field needs".to_owned(),
            };
            self.error(
                node.line,
                path.to_owned(),
                Reason::PatternMismatch,
                format!("{} {expected}", quote(text)),
            );
        }
        if let Some(expected) = schema.format.and_then(|format| format.refuses_text(text)) {
            self.error(
                node.line,
                path.to_owned(),
                Reason::WrongFormat,
                format!("{} is not {expected}", quote(text)),
            );
        }
    }

    fn number(&mut self, node: &Node, number: &Number, schema: &Schema, path: &str) {
        #[expect(clippy::as_conversions, reason = "bounds of schemas are far below 2^53")]
        let bound = |bound: Option<f64>| bound.map(|bound| bound as i128);
        // Whatever reads an integer without a stated width reads 64 bits.
        let unstated =
            (schema.kind == Some(Type::Integer)).then_some((i128::from(i64::MIN), i128::from(i64::MAX)));
        let format = schema.format.and_then(|format| format.range()).or(unstated);
        let least = bound(schema.minimum).max(format.map(|range| range.0));
        let most = match (bound(schema.maximum), format.map(|range| range.1)) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let value = number.as_i128().or_else(|| {
            #[expect(
                clippy::as_conversions,
                reason = "only compared with bounds; the cast saturates"
            )]
            number.as_f64().map(|value| value as i128)
        });
        let Some(value) = value else { return };
        let message = match (least, most) {
            (Some(least), _) if value < least => format!("{number} is too small; the least is {least}"),
            (_, Some(most)) if value > most => format!("{number} is too large; the most is {most}"),
            (_, _) => return,
        };
        self.error(node.line, path.to_owned(), Reason::OutOfRange, message);
    }

    fn one_of(&mut self, node: &Node, schema: &Schema, path: &str) {
        let value = node.to_json();
        if schema.one_of.contains(&value) {
            return;
        }
        let names: Vec<&str> = schema.one_of.iter().filter_map(Json::as_str).collect();
        let near = value
            .as_str()
            .and_then(|text| nearest(text, names.iter().copied()));
        let message = match near {
            Some(near) => format!("{} is not known here; did you mean '{near}'?", short(&value)),
            None => format!(
                "{} is not known here; use one of {}",
                short(&value),
                names.join(", ")
            ),
        };
        self.error(node.line, path.to_owned(), Reason::NotOneOf, message);
    }

    fn length(&mut self, node: &Node, length: usize, what: &str, schema: &Schema, path: &str) {
        let message = match (schema.at_least, schema.at_most) {
            (Some(least), _) if length < least => format!("has {length} {what}; it needs at least {least}"),
            (_, Some(most)) if length > most => format!("has {length} {what}; it may have at most {most}"),
            (_, _) => return,
        };
        self.error(node.line, path.to_owned(), Reason::WrongLength, message);
    }

    fn wrong_type(&mut self, node: &Node, expected: &str, path: &str) {
        let hint = match (&node.value, expected) {
            (Value::Number(_) | Value::Bool(_), "text") => "; put it in quotes",
            (Value::String(text), "an integer" | "a number") if text.parse::<f64>().is_ok() => {
                "; remove the quotes"
            }
            (Value::String(text), "true or false") if matches!(text.as_str(), "true" | "false") => {
                "; remove the quotes"
            }
            (_, "a list") => "; start each item with '- '",
            (_, _) => "",
        };
        let message = format!("expected {expected}, found {}{hint}", describe(node));
        self.error(node.line, path.to_owned(), Reason::WrongType, message);
    }

    fn error(&mut self, line: u32, field: String, reason: Reason, message: String) {
        self.out.push(Finding {
            severity: Severity::Error,
            line,
            field,
            reason,
            message,
        });
    }
}

impl Type {
    fn name(self) -> &'static str {
        match self {
            Self::Object => "a mapping",
            Self::Array => "a list",
            Self::String => "text",
            Self::Integer => "an integer",
            Self::Number => "a number",
            Self::Boolean => "true or false",
        }
    }
}

fn is_integer(number: &Number) -> bool {
    number.is_i64() || number.is_u64() || number.as_f64().is_some_and(|value| value.fract() == 0.0)
}

fn describe(node: &Node) -> String {
    match &node.value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(value) => format!("the boolean {value}"),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => format!("the text {}", quote(text)),
        Value::List(_) => "a list".to_owned(),
        Value::Map(_) => "a mapping".to_owned(),
    }
}

/// Quoted, escaped, and cut if long.
pub(crate) fn quote(text: &str) -> String {
    if text.chars().count() > 60 {
        let start: String = text.chars().take(57).collect();
        format!("{:?}", format!("{start}..."))
    } else {
        format!("{text:?}")
    }
}

fn short(value: &Json) -> String {
    match value {
        Json::String(text) => quote(text),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Array(_) | Json::Object(_) => value.to_string(),
    }
}
