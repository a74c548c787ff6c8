//! Definitions as a whole: each field with what constrains it, and what stands around the schemas.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::{definitions, folder};

/// Fields that are ours alone, by their last step.
const OURS: [&str; 18] = [
    "asPathPrepend",
    "autoAssign",
    "blockRemoval",
    "dynamicLimit",
    "extendedCommunities",
    "interface",
    "load-balancer",
    "localAddress",
    "maxPrefixes",
    "maximumPaths",
    "med",
    "multipath",
    "nextHop",
    "passive",
    "peerPrefix",
    "priority",
    "reserved",
    "ttlSecurity",
];

/// Every property, with what constrains it, by path.
///
/// How a schema is spelled does not count: one enum or two equal ones, `1` or `1.0`.
fn properties(schema: &Json, at: &str, out: &mut BTreeMap<String, String>) {
    let kept = [
        "type",
        "enum",
        "pattern",
        "format",
        "minimum",
        "maximum",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "default",
        "required",
        "oneOf",
        "anyOf",
        "x-kubernetes-int-or-string",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-list-type",
        "x-kubernetes-map-type",
        "x-kubernetes-validations",
    ];
    let mut members: Vec<String> = kept
        .iter()
        .filter_map(|name| {
            let value = schema
                .get(name)
                .or_else(|| schema.get("allOf")?.get(0)?.get(name))?;
            let value = match value {
                Json::Array(_) if matches!(*name, "oneOf" | "anyOf") => alternatives(value),
                Json::Array(items) => {
                    Json::Array(items.iter().filter(|item| !item.is_null()).cloned().collect())
                }
                Json::Number(number) => json!(number.as_f64()),
                Json::Null | Json::Bool(_) | Json::String(_) | Json::Object(_) => value.clone(),
            };
            let is_format = |text: &str| *name == "format" && value.as_str() == Some(text);
            // Widths of numbers follow from their bounds, and API servers know no such host names.
            let is_idle = is_format("int32") || is_format("int64") || is_format("idn-hostname");
            // How API servers read the mark for both types anyway.
            let is_said = *name == "anyOf" && schema.get("x-kubernetes-int-or-string").is_some();
            (!is_idle && !is_said).then(|| format!("{name}={value}"))
        })
        .collect();
    members.sort();
    out.insert(at.to_owned(), members.join(" "));
    for (name, property) in schema
        .get("properties")
        .and_then(Json::as_object)
        .into_iter()
        .flatten()
    {
        properties(property, &format!("{at}.{name}"), out);
    }
    if let Some(items) = schema.get("items") {
        properties(items, &format!("{at}[]"), out);
    }
    if let Some(other) = schema
        .get("additionalProperties")
        .filter(|other| other.is_object())
    {
        properties(other, &format!("{at}{{}}"), out);
    }
}

/// What each alternative requires. That it names properties without saying anything about them counts for nothing.
fn alternatives(value: &Json) -> Json {
    let alternatives = value.as_array().into_iter().flatten().map(|alternative| {
        let of = alternative.get("properties").and_then(Json::as_object);
        let says_more = of
            .into_iter()
            .flatten()
            .any(|(_, property)| *property != json!({}));
        let known = ["properties", "required"];
        let is_plain = alternative
            .as_object()
            .is_some_and(|members| members.keys().all(|name| known.contains(&name.as_str())));
        if is_plain && !says_more {
            alternative["required"].clone()
        } else {
            alternative.clone()
        }
    });
    Json::Array(alternatives.collect())
}

/// Members of the whole that each kind has for itself, and which of them it must have.
fn body(schema: &Json) -> (Vec<String>, Vec<String>) {
    let members = schema["properties"].as_object().into_iter().flatten();
    let members = members.map(|(name, _)| name.clone());
    let required = schema["required"].as_array().into_iter().flatten();
    let required = required.filter_map(|name| name.as_str().map(str::to_owned));
    let own = |name: &String| !matches!(name.as_str(), "apiVersion" | "kind" | "metadata");
    (members.filter(own).collect(), required.filter(own).collect())
}

#[test]
fn generated_definitions_have_every_stock_field_and_only_ours_besides() {
    let Some(folder) = folder() else { return };
    let mut differences = Vec::new();
    let all = definitions(&folder);
    let versions = all.iter().flat_map(|(theirs, ours)| {
        let of = |definition: &Json| definition["spec"]["versions"].as_array().unwrap().clone();
        let kind = ours["spec"]["names"]["kind"].as_str().unwrap().to_owned();
        of(theirs)
            .into_iter()
            .zip(of(ours))
            .map(move |(theirs, ours)| (kind.clone(), theirs, ours))
    });
    for (kind, json, own) in versions {
        let version = json["name"].as_str().unwrap();
        let schema = |version: &Json| version["schema"]["openAPIV3Schema"].clone();
        let (json, own) = (schema(&json), schema(&own));
        let (parts, required) = body(&json);
        if required != body(&own).1 {
            differences.push(format!("{kind} {version}: stock requires {required:?}"));
        }
        for part in body(&own).0.iter().filter(|part| !parts.contains(part)) {
            differences.push(format!("{kind} {version}: {part} is not in the stock schema"));
        }
        let (mut theirs, mut ours) = (BTreeMap::new(), BTreeMap::new());
        for part in &parts {
            properties(&json["properties"][part], part, &mut theirs);
            properties(&own["properties"][part], part, &mut ours);
        }
        for path in theirs.keys().filter(|path| !ours.contains_key(*path)) {
            differences.push(format!("{kind} {version}: {path} is missing"));
        }
        for path in ours.keys().filter(|path| !theirs.contains_key(*path)) {
            let ours = path.split(['.', '[']).any(|step| OURS.contains(&step));
            if !ours {
                differences.push(format!("{kind} {version}: {path} is not in the stock schema"));
            }
        }
        for (path, stated) in &theirs {
            if let Some(own) = ours.get(path).filter(|own| *own != stated) {
                differences.push(format!(
                    "{kind} {version}: {path}\n  stock {stated}\n  own   {own}"
                ));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// Names, scope and, per version, everything but the schema. To have no subresources is to have none listed.
fn frame(definition: &Json) -> Json {
    let spec = &definition["spec"];
    let version = |version: &Json| {
        let members = version.as_object().unwrap().clone();
        Json::Object(
            members
                .into_iter()
                .filter(|(name, value)| name != "schema" && *value != json!({}))
                .collect(),
        )
    };
    let versions: Vec<Json> = spec["versions"].as_array().unwrap().iter().map(version).collect();
    json!({
        "name": definition["metadata"]["name"],
        "group": spec["group"],
        "scope": spec["scope"],
        "plural": spec["names"]["plural"],
        "singular": spec["names"]["singular"],
        "shortNames": spec["names"]["shortNames"],
        "categories": spec["names"]["categories"],
        "versions": versions,
    })
}

#[test]
fn names_versions_columns_and_subresources_are_those_of_the_stock_definitions() {
    let Some(folder) = folder() else { return };
    let mut compared = 0;
    for (theirs, ours) in definitions(&folder) {
        assert_eq!(frame(&ours), frame(&theirs), "{}", theirs["metadata"]["name"]);
        compared += 1;
    }
    assert_eq!(compared, 16);
}
