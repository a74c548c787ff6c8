//! JSON of a schema -> [`Schema`].

use serde_json::{Map, Value as Json};

use super::format::Format;
use super::rule::Rule;
use super::{Others, Pattern, Schema, Type};

/// Why a schema cannot be used. Schemas come from the program or from CRD files, so this is a
/// defect of one of them and not of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SchemaError {
    #[error("{at}: the schema is not an object")]
    NotAnObject { at: String },
    #[error("{at}: {what} is not understood")]
    Unsupported { at: String, what: String },
    #[error("{at}: nested too deeply, or refers to itself")]
    TooDeep { at: String },
}

/// What an object schema without properties means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// In a CRD: an object without members.
    Structural,
    /// In the API server's own types: any object.
    OpenApi,
}

/// References within the document (`$ref: "#/..."`) are followed.
pub(crate) fn compile(root: &Json, dialect: Dialect) -> Result<Schema, SchemaError> {
    Compiler { root, dialect }.schema(root, "", 0)
}

struct Compiler<'a> {
    root: &'a Json,
    dialect: Dialect,
}

impl Compiler<'_> {
    fn schema(&self, json: &Json, at: &str, depth: usize) -> Result<Schema, SchemaError> {
        if depth > 64 {
            return Err(SchemaError::TooDeep { at: at.to_owned() });
        }
        if json == &Json::Bool(true) {
            return Ok(Schema {
                others: Others::Any,
                ..Schema::default()
            });
        }
        let Json::Object(members) = json else {
            return Err(SchemaError::NotAnObject { at: at.to_owned() });
        };
        if let Some(Json::String(reference)) = members.get("$ref") {
            let target = reference
                .strip_prefix('#')
                .and_then(|pointer| self.root.pointer(pointer));
            let target = target.ok_or_else(|| unsupported(at, reference))?;
            let mut schema = self.schema(target, at, depth.saturating_add(1))?;
            // May be written as a number and is held as text.
            schema.number_as_text = reference.ends_with("resource.Quantity");
            return Ok(schema);
        }
        let mut schema = Schema::default();
        // A reference with a description beside it, and controller-gen's doubled enums.
        if let Some(Json::Array(parts)) = members.get("allOf") {
            for part in parts {
                schema = merged(schema, self.schema(part, at, depth.saturating_add(1))?);
            }
        }
        self.own_members(schema, members, at, depth)
    }

    fn own_members(
        &self,
        mut schema: Schema,
        members: &Map<String, Json>,
        at: &str,
        depth: usize,
    ) -> Result<Schema, SchemaError> {
        let depth = depth.saturating_add(1);
        for (name, value) in members {
            match (name.as_str(), value) {
                ("type", value) => self.types(&mut schema, value, at)?,
                ("nullable", Json::Bool(value)) => schema.nullable = *value,
                ("properties", Json::Object(properties)) => {
                    for (name, property) in properties {
                        let compiled = self.schema(property, &format!("{at}.{name}"), depth)?;
                        schema.properties.insert(name.clone(), compiled);
                    }
                }
                ("required", Json::Array(names)) => {
                    schema.required = names
                        .iter()
                        .filter_map(|name| name.as_str().map(str::to_owned))
                        .collect();
                }
                ("additionalProperties", Json::Bool(false)) => schema.others = Others::Unknown,
                ("additionalProperties", value) => {
                    schema.others =
                        Others::Like(Box::new(self.schema(value, &format!("{at}{{}}"), depth)?));
                }
                ("items", value) => {
                    schema.items = Some(Box::new(self.schema(value, &format!("{at}[]"), depth)?));
                }
                ("enum", Json::Array(values)) => schema.one_of.clone_from(values),
                ("const", value) => schema.one_of = vec![value.clone()],
                ("pattern", Json::String(text)) => schema.pattern = Some(pattern(text, at)?),
                ("format", Json::String(name)) => schema.format = Format::of(name),
                ("minimum", Json::Number(number)) => schema.minimum = number.as_f64(),
                ("maximum", Json::Number(number)) => schema.maximum = number.as_f64(),
                ("minLength" | "minItems" | "minProperties", Json::Number(number)) => {
                    schema.at_least = number.as_u64().and_then(|number| usize::try_from(number).ok());
                }
                ("maxLength" | "maxItems" | "maxProperties", Json::Number(number)) => {
                    schema.at_most = number.as_u64().and_then(|number| usize::try_from(number).ok());
                }
                ("default", value) => schema.default = Some(value.clone()),
                ("x-kubernetes-int-or-string", Json::Bool(true)) => schema.int_or_string = true,
                ("x-kubernetes-preserve-unknown-fields", Json::Bool(true)) => schema.others = Others::Any,
                ("x-kubernetes-list-map-keys", Json::Array(keys)) => {
                    schema.list_keys = keys
                        .iter()
                        .filter_map(|key| key.as_str().map(str::to_owned))
                        .collect();
                }
                ("x-kubernetes-validations", Json::Array(rules)) => {
                    for rule in rules {
                        let text = rule.get("rule").and_then(Json::as_str).unwrap_or_default();
                        schema
                            .rules
                            .push(Rule::of(text).ok_or_else(|| unsupported(at, text))?);
                    }
                }
                (
                    "allOf"
                    | "description"
                    | "title"
                    | "$schema"
                    | "$defs"
                    | "definitions"
                    | "x-kubernetes-list-type"
                    | "x-kubernetes-map-type",
                    _,
                ) => {}
                // k8s-openapi says "a number or text" this way.
                ("oneOf" | "anyOf", _) if schema.int_or_string || is_int_or_string(members) => {
                    schema.int_or_string = true;
                }
                (name, _) => return Err(unsupported(at, name)),
            }
        }
        let is_open = match (self.dialect, schema.kind) {
            (_, None) | (Dialect::OpenApi, Some(Type::Object)) => true,
            (Dialect::OpenApi | Dialect::Structural, Some(_)) => false,
        };
        if is_open && schema.others.is_unknown() && schema.properties.is_empty() {
            schema.others = Others::Any;
        }
        Ok(schema)
    }

    /// `type` is a name, or in JSON Schema proper a list of names in which null may stand.
    fn types(&self, schema: &mut Schema, value: &Json, at: &str) -> Result<(), SchemaError> {
        let names = match value {
            Json::String(name) => vec![name.as_str()],
            Json::Array(names) => names.iter().filter_map(Json::as_str).collect(),
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::Object(_) => Vec::new(),
        };
        for name in names {
            schema.kind = Some(match name {
                "null" => {
                    schema.nullable = true;
                    continue;
                }
                "object" => Type::Object,
                "array" => Type::Array,
                "string" => Type::String,
                "integer" => Type::Integer,
                "number" => Type::Number,
                "boolean" => Type::Boolean,
                name => return Err(unsupported(at, name)),
            });
        }
        Ok(())
    }
}

impl Others {
    fn is_unknown(&self) -> bool {
        match self {
            Self::Unknown => true,
            Self::Any | Self::Like(_) => false,
        }
    }
}

fn is_int_or_string(members: &Map<String, Json>) -> bool {
    let names = |value: &Json| -> Option<Vec<String>> {
        let parts = value.as_array()?;
        parts
            .iter()
            .map(|part| part.get("type").and_then(Json::as_str).map(str::to_owned))
            .collect()
    };
    let parts = members
        .get("oneOf")
        .or_else(|| members.get("anyOf"))
        .and_then(names);
    parts.is_some_and(|mut parts| {
        parts.sort();
        parts == ["integer", "string"]
    })
}

/// Both must hold. Only the combinations that occur are kept: one side describes, the other adds.
fn merged(mut left: Schema, right: Schema) -> Schema {
    left.kind = left.kind.or(right.kind);
    left.nullable |= right.nullable;
    left.int_or_string |= right.int_or_string;
    left.properties.extend(right.properties);
    left.required.extend(right.required);
    if !right.others.is_unknown() {
        left.others = right.others;
    }
    left.items = left.items.or(right.items);
    if left.one_of.is_empty() {
        left.one_of = right.one_of;
    } else if !right.one_of.is_empty() {
        left.one_of.retain(|value| right.one_of.contains(value));
    }
    left.pattern = left.pattern.or(right.pattern);
    left.format = left.format.or(right.format);
    left.minimum = left.minimum.or(right.minimum);
    left.maximum = left.maximum.or(right.maximum);
    left.at_least = left.at_least.or(right.at_least);
    left.at_most = left.at_most.or(right.at_most);
    left.list_keys.extend(right.list_keys);
    left.rules.extend(right.rules);
    left.default = left.default.or(right.default);
    left
}

/// RE2 and this engine agree but for the classes, which are ASCII there.
fn pattern(text: &str, at: &str) -> Result<Pattern, SchemaError> {
    let ascii = text
        .replace(r"\d", "[0-9]")
        .replace(r"\s", r"[\t\n\f\r ]")
        .replace(r"\w", "[0-9A-Za-z_]");
    let regex = regex::Regex::new(&ascii).map_err(|_| unsupported(at, text))?;
    Ok(Pattern {
        text: text.to_owned(),
        regex,
    })
}

fn unsupported(at: &str, what: &str) -> SchemaError {
    SchemaError::Unsupported {
        at: at.to_owned(),
        what: what.to_owned(),
    }
}
