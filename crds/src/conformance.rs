//! The stock CRDs, read in place, through the same validator: what they accept ours accept, what they
//! reject ours reject, our own fields aside.

mod definitions;

use std::cell::Cell;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value as Json, json};

use crate::catalog;
use crate::object::{Kind, Version};
use crate::problem::{Reason, Severity};
use crate::schema::{Finding, Schema, validate};
use crate::yaml::{self, Node};

fn folder() -> Option<PathBuf> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/conformance");
    let folder = std::env::var_os("STENTOR_CONFORMANCE")
        .map_or(default, PathBuf::from)
        .join("crds");
    if folder.is_dir() {
        return Some(folder);
    }
    println!(
        "skipped: no stock CRDs at {}; set STENTOR_CONFORMANCE",
        folder.display()
    );
    None
}

/// Every stock definition there is a type of ours for, with ours.
fn definitions(folder: &Path) -> Vec<(Json, Json)> {
    let ours: Vec<Json> = crate::definitions()
        .iter()
        .map(|definition| serde_json::to_value(definition).unwrap())
        .collect();
    let mut found = Vec::new();
    for file in ["v2", "v2alpha1"]
        .iter()
        .flat_map(|version| std::fs::read_dir(folder.join(version)).unwrap())
    {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        for chunk in yaml::split(&text) {
            let theirs = yaml::build(chunk).unwrap().remove(0).to_json();
            let ours = ours
                .iter()
                .find(|ours| ours["metadata"]["name"] == theirs["metadata"]["name"]);
            found.extend(ours.map(|ours| (theirs, ours.clone())));
        }
    }
    found
}

/// Each version of each kind that is read: the kind, the version, the stock schema.
fn stock(folder: &Path) -> Vec<(Kind, Version, Json)> {
    let mut found = Vec::new();
    for (crd, _) in definitions(folder) {
        let Some(kind) = Kind::find("cilium.io", crd["spec"]["names"]["kind"].as_str().unwrap()) else {
            continue;
        };
        for stated in crd["spec"]["versions"].as_array().unwrap() {
            let version = kind
                .versions()
                .iter()
                .find(|version| stated["name"] == version.as_str());
            let version = version.unwrap_or_else(|| panic!("{kind} {}", stated["name"]));
            found.push((kind, *version, stated["schema"]["openAPIV3Schema"].clone()));
        }
    }
    found
}

fn findings(document: &Json, schema: &Schema) -> Vec<Finding> {
    let mut findings = Vec::new();
    validate(&Node::from_json(document, 1), schema, "", &mut findings);
    findings
}

fn errors(findings: &[Finding]) -> Vec<&Finding> {
    findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .collect()
}

fn unknown(findings: &[Finding]) -> Vec<&str> {
    let unknown = findings
        .iter()
        .filter(|finding| finding.reason == Reason::UnknownField);
    unknown.map(|finding| finding.field.as_str()).collect()
}

/// Holds both schemas against a document and compares what they say.
///
/// True if they accept it.
fn compare(kind: Kind, version: Version, stock: &Schema, document: &Json) -> bool {
    let ours = findings(document, catalog::schema(kind, version));
    let theirs = findings(document, stock);
    assert_eq!(
        errors(&ours).is_empty(),
        errors(&theirs).is_empty(),
        "{kind} {version}\nours: {:#?}\ntheirs: {:#?}\n{document:#}",
        errors(&ours),
        errors(&theirs)
    );
    assert_eq!(unknown(&ours), unknown(&theirs), "{kind} {version} {document:#}");
    let accepted = errors(&ours).is_empty();
    if accepted {
        let pruned = crate::schema::pruned(&Node::from_json(document, 1), catalog::schema(kind, version));
        let object = catalog::object(kind, pruned);
        assert!(
            object.is_ok(),
            "{kind} {version}: {:?}\n{document:#}",
            object.err()
        );
    }
    accepted
}

/// A document that uses every field a schema has, with values at random.
fn document(schema: &Json, choice: &mut Choice) -> Json {
    let of = |name: &str| schema.get(name);
    if let Some(parts) = of("allOf").and_then(Json::as_array) {
        return document(&parts[0], choice);
    }
    if let Some(values) = of("enum").and_then(Json::as_array) {
        return values[choice.below(values.len())].clone();
    }
    match of("type").and_then(Json::as_str) {
        Some("object") => {
            let mut members = serde_json::Map::new();
            let required = of("required")
                .and_then(Json::as_array)
                .cloned()
                .unwrap_or_default();
            for (name, property) in of("properties").and_then(Json::as_object).into_iter().flatten() {
                if required.contains(&json!(name)) || choice.below(3) != 0 {
                    members.insert(name.clone(), document(property, choice));
                }
            }
            if let Some(value) = of("additionalProperties") {
                members.insert("key".to_owned(), document(value, choice));
            }
            Json::Object(members)
        }
        Some("array") => {
            let few = choice.below(3);
            let least = of("minItems").and_then(Json::as_u64).unwrap_or(0);
            let length = few.max(usize::try_from(least).unwrap());
            let mut items: Vec<Json> = (0..length).map(|_| document(&schema["items"], choice)).collect();
            for (i, item) in items.iter_mut().enumerate() {
                for key in of("x-kubernetes-list-map-keys")
                    .and_then(Json::as_array)
                    .into_iter()
                    .flatten()
                {
                    item[key.as_str().unwrap()] = json!(format!("name-{i}"));
                }
            }
            Json::Array(items)
        }
        Some("integer") => {
            let bound = |name: &str, none: i64| of(name).and_then(Json::as_i64).unwrap_or(none);
            let (least, most) = (bound("minimum", -5), bound("maximum", 70_000));
            json!([least, most, least + (most - least) / 2][choice.below(3)])
        }
        Some("boolean") => json!(choice.below(2) == 0),
        Some("string") => json!(text(schema, choice)),
        other => panic!("{other:?} in {schema}"),
    }
}

fn text(schema: &Json, choice: &mut Choice) -> &'static str {
    let pattern = schema.get("pattern").and_then(Json::as_str).unwrap_or_default();
    let of_format: &[&str] = match schema.get("format").and_then(Json::as_str) {
        Some("cidr") => &["10.0.0.0/8", "10.1.2.3/24", "fd00::/64"],
        Some("ipv4") => &["10.0.0.1"],
        Some("date-time") => &["2026-01-31T12:00:00Z"],
        _ if pattern.contains("%.+") => &[
            "10.0.0.1",
            " fd00::1 ",
            "fe80::1%eth0",
            "::",
            "::ffff:10.0.0.1",
            "1:2:3:4:5:6:7:8",
            "1:2:3:4:5:6:7::",
            "1::2:10.0.0.1",
        ],
        _ if pattern.contains("4294967295") || pattern.contains("429496729") => {
            if pattern.matches(':').count() >= 2 && !pattern.contains('|') {
                &["1:2:3"]
            } else if pattern.matches("):(").count() == 2 {
                &["1:2:3", "4294967295:0:1"]
            } else {
                &["65000:1", "4294967295", "0:0"]
            }
        }
        _ if pattern.starts_with("^[A-Za-z](") => &["Reason"],
        _ => &["a", "name", "True"],
    };
    of_format[choice.below(of_format.len())]
}

/// Numbers drawn by proptest, handed out one by one.
struct Choice {
    drawn: Vec<Index>,
    next: usize,
}

impl Choice {
    fn below(&mut self, size: usize) -> usize {
        self.next += 1;
        self.drawn[self.next % self.drawn.len()].index(size)
    }
}

/// Values that stand where others should: of every type, at and beyond every bound.
fn strange() -> Vec<Json> {
    let texts = [
        "",
        " ",
        "0",
        "65536:1",
        "01:1",
        "1:2:3",
        "4294967296",
        "no-export",
        "NO-EXPORT",
        "10.0.0.1",
        "10.0.0.256",
        "10.0.0.1/33",
        "10.0.0.0/8",
        "fd00::1%",
        "fd00::1 x",
        "12345::",
        "1:2:3:4:5:6:7",
        "1::2::3",
        "::10.0.0.300",
        "\n10.0.0.1\t",
        "ipv4",
        "Ipv4",
        "DefaultGateway",
        "-bad-",
        "Reason",
        "2026-01-31",
    ];
    let mut strange: Vec<Json> = texts.map(Json::from).into();
    strange.push(json!("x".repeat(64)));
    strange.push(json!("x".repeat(256)));
    let numbers: [i64; 20] = [
        -1,
        0,
        1,
        2,
        3,
        31,
        32,
        33,
        127,
        128,
        129,
        255,
        256,
        4095,
        4096,
        65535,
        65536,
        2_147_483_647,
        4_294_967_295,
        4_294_967_296,
    ];
    strange.extend(numbers.map(Json::from));
    strange.extend([
        json!(1.5),
        json!(1e30),
        json!(true),
        json!(null),
        json!([]),
        json!({}),
        json!([null]),
        json!({"a": 1}),
    ]);
    strange
}

/// Paths of all values in a document.
fn pointers(value: &Json, at: &str, out: &mut Vec<String>) {
    out.push(at.to_owned());
    match value {
        Json::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                pointers(item, &format!("{at}/{i}"), out);
            }
        }
        Json::Object(members) => {
            for (name, member) in members {
                pointers(
                    member,
                    &format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")),
                    out,
                );
            }
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
    }
}

#[derive(Clone, Debug)]
enum Mutation {
    Replace(Index, Index),
    Remove(Index),
    Rename(Index),
    /// A list gets its first item again.
    Repeat(Index),
}

fn mutate(document: &mut Json, mutation: &Mutation) {
    let mut paths = Vec::new();
    pointers(&document["spec"], "/spec", &mut paths);
    pointers(&document["status"], "/status", &mut paths);
    let strange = strange();
    match mutation {
        Mutation::Replace(at, with) => {
            if let Some(value) = document.pointer_mut(at.get::<String>(&paths)) {
                value.clone_from(with.get(&strange));
            }
        }
        Mutation::Remove(at) | Mutation::Rename(at) => {
            let (parent, name) = at.get(&paths).rsplit_once('/').unwrap();
            if let Some(Json::Object(members)) = document.pointer_mut(parent)
                && let Some(value) = members.remove(name)
                && let Mutation::Rename(_) = mutation
            {
                members.insert(format!("{name}x"), value);
            }
        }
        Mutation::Repeat(at) => {
            if let Some(Json::Array(items)) = document.pointer_mut(at.get::<String>(&paths))
                && let Some(first) = items.first().cloned()
            {
                items.push(first);
            }
        }
    }
}

fn some_mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        6 => (any::<Index>(), any::<Index>()).prop_map(|(at, with)| Mutation::Replace(at, with)),
        1 => any::<Index>().prop_map(Mutation::Remove),
        1 => any::<Index>().prop_map(Mutation::Rename),
        1 => any::<Index>().prop_map(Mutation::Repeat),
    ]
}

#[test]
fn stock_and_own_schemas_agree_on_good_and_broken_documents() {
    let Some(folder) = folder() else { return };
    let stock = stock(&folder);
    assert_eq!(stock.len(), 14, "kinds and versions with a stock schema");
    for (kind, version, json) in &stock {
        let compiled =
            catalog::of_definition(json).unwrap_or_else(|error| panic!("{kind} {version}: {error}"));
        let config = ProptestConfig {
            cases: 400,
            failure_persistence: None,
            ..ProptestConfig::default()
        };
        let mut runner = proptest::test_runner::TestRunner::new(config);
        let input = (
            proptest::collection::vec(any::<Index>(), 97),
            proptest::collection::vec(some_mutation(), 0..4),
        );
        let counts = [Cell::new(0), Cell::new(0)];
        let outcome = runner.run(&input, |(drawn, mutations)| {
            let mut document = document(json, &mut Choice { drawn, next: 0 });
            document["apiVersion"] = json!(format!("cilium.io/{version}"));
            document["kind"] = json!(kind.as_str());
            document["metadata"] = json!({ "name": "x" });
            for mutation in &mutations {
                mutate(&mut document, mutation);
            }
            let verdict = compare(*kind, *version, &compiled, &document);
            counts[usize::from(verdict)].set(counts[usize::from(verdict)].get() + 1);
            Ok(())
        });
        outcome.unwrap_or_else(|error| panic!("{error}"));
        assert!(
            counts.iter().all(|count| count.get() > 50),
            "{kind} {version}: refused, accepted: {counts:?}"
        );
    }
}

/// The manifests of a folder of the conformance data: whole files, and the YAML within txtar files.
fn manifests(folder: &Path, out: &mut Vec<(PathBuf, String)>) {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        let extension = path.extension().and_then(|extension| extension.to_str());
        if path.is_dir() {
            manifests(&path, out);
        } else if extension == Some("yaml") {
            out.push((path.clone(), std::fs::read_to_string(&path).unwrap()));
        } else if extension == Some("txtar") {
            let text = std::fs::read_to_string(&path).unwrap();
            let mut name = None;
            let mut section = String::new();
            for line in text.lines().chain(["-- end --"]) {
                let Some(next) = line.strip_prefix("-- ").and_then(|rest| rest.strip_suffix(" --")) else {
                    section.push_str(line);
                    section.push('\n');
                    continue;
                };
                let body = std::mem::take(&mut section);
                if let Some(name) = name.replace(next).filter(|name| name.ends_with(".yaml")) {
                    out.push((path.join(name), body));
                }
            }
        }
    }
}

#[test]
fn manifests_written_for_cilium_are_read_without_an_error() {
    let Some(folder) = folder() else { return };
    let mut texts = Vec::new();
    for part in ["containerlab", "bgp", "loadbalancer"] {
        manifests(&folder.join("..").join(part), &mut texts);
    }
    let mut objects = 0;
    let mut errors: Vec<String> = Vec::new();
    for (path, text) in &texts {
        let read = crate::read::read(path, text);
        errors.extend(
            read.problems
                .iter()
                .filter(|problem| problem.is_error())
                .map(ToString::to_string),
        );
        objects += read.objects.len();
    }
    assert!(errors.is_empty(), "{}", errors.join("\n"));
    assert!(objects > 90, "{objects} objects in {} texts", texts.len());
}
