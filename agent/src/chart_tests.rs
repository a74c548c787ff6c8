//! The Helm chart, held against the program it starts: its rights, its command lines, its keys, its metrics.
//!
//! What helm makes of the chart is checked in (`deploy/manifests`), and `cargo xtask check` says when that is old.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser as _;
use serde_json::Value;

use crate::cli::args::{Cli, Command};
use crate::config::{self, Given};

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(path)
}

fn read(path: &str) -> String {
    let path = deploy(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// Every rendering, by name: its documents.
fn manifests() -> BTreeMap<String, Vec<Value>> {
    let files = fs::read_dir(deploy("manifests")).unwrap();
    let read = |path: PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).unwrap();
        let documents = text.split("\n---\n").map(yaml).filter(|value| !value.is_null());
        (name, documents.collect())
    };
    let manifests: BTreeMap<_, _> = files.map(|entry| read(entry.unwrap().path())).collect();
    assert!(manifests.len() >= 3, "{:?}", manifests.keys());
    manifests
}

fn of_kind<'a>(documents: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    documents.iter().filter(move |document| document["kind"] == kind)
}

fn words(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// What may be done: group, resource, verb.
type Right = (String, String, String);

fn rights(files: &[&str]) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for file in files {
        let rules = yaml(&read(&format!("helm/stentor/rbac/{file}.yaml")));
        for rule in rules.as_array().unwrap() {
            for group in words(&rule["apiGroups"]) {
                for resource in words(&rule["resources"]) {
                    for verb in words(&rule["verbs"]) {
                        rights.insert((group.to_owned(), resource.to_owned(), verb.to_owned()));
                    }
                }
            }
        }
    }
    rights
}

#[test]
fn agents_may_follow_what_they_follow_and_nothing_else() {
    let reading = |files: &[&str]| -> BTreeSet<(String, String)> {
        let rights = rights(files);
        let both = |verb: &str| -> BTreeSet<(String, String)> {
            let with = rights.iter().filter(|right| right.2 == verb);
            with.map(|(group, resource, _)| (group.clone(), resource.clone()))
                .collect()
        };
        assert_eq!(both("list"), both("watch"));
        both("list")
    };
    use crate::source::kube::{Nodes, followed};
    let announces = followed(Nodes::Own, None);
    let serves = followed(Nodes::All, None);
    let with_secrets = followed(Nodes::All, Some("kube-system"));
    assert_eq!(reading(&["agent"]), announces);
    assert_eq!(reading(&["agent", "agent-load-balancer"]), serves);
    assert_eq!(
        reading(&["agent", "agent-load-balancer", "agent-secrets"]),
        with_secrets
    );
}

#[test]
fn every_key_is_known_and_every_value_possible() {
    let folder = tempfile::tempdir().unwrap();
    for (name, documents) in manifests() {
        let config = of_kind(&documents, "ConfigMap").find(|map| map["data"]["ipam"].is_string());
        let path = folder.path().join(&name);
        fs::write(&path, config.unwrap().to_string()).unwrap();
        // As a file, where a key that nobody knows is a warning; a folder may be another program's too.
        let (_, warnings) = config::load(Some(&path), [], &Given::new()).unwrap();
        assert!(warnings.is_empty(), "{name}: {warnings:?}");
    }
}

#[test]
fn every_option_is_one() {
    let mut agents = 0;
    for (name, documents) in manifests() {
        for kind in ["DaemonSet", "Deployment"] {
            for workload in of_kind(&documents, kind) {
                let container = &workload["spec"]["template"]["spec"]["containers"][0];
                let line = words(&container["command"]).chain(words(&container["args"]));
                let line: Vec<&str> = line.collect();
                let parsed = Cli::try_parse_from(&line).unwrap_or_else(|error| panic!("{name}: {error}"));
                match parsed.command {
                    Command::Agent(args) => {
                        assert!(args.kubernetes && args.health.is_some(), "{name}: {line:?}");
                        agents += 1;
                    }
                    Command::Operator(args) => assert!(args.health.is_some(), "{name}: {line:?}"),
                    other => panic!("{name}: {other:?}"),
                }
            }
        }
    }
    assert!(agents > 0);
}

#[test]
fn containers_may_do_little() {
    for (name, documents) in manifests() {
        for kind in ["DaemonSet", "Deployment"] {
            for workload in of_kind(&documents, kind) {
                let pod = &workload["spec"]["template"]["spec"];
                assert_eq!(
                    pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault",
                    "{name}"
                );
                let context = &pod["containers"][0]["securityContext"];
                assert_eq!(context["readOnlyRootFilesystem"], true, "{name}");
                assert_eq!(context["allowPrivilegeEscalation"], false, "{name}");
                assert!(context["privileged"].is_null(), "{name}");
                let dropped: Vec<&str> = words(&context["capabilities"]["drop"]).collect();
                assert_eq!(dropped, ["ALL"], "{name}");
                let added = words(&context["capabilities"]["add"]).count();
                let balances = documents
                    .iter()
                    .any(|map| map["data"]["kube-proxy-replacement"] == "true");
                let most = match (kind, balances) {
                    ("DaemonSet", true) => 6,
                    ("DaemonSet", false) => 3,
                    _ => 0,
                };
                assert_eq!(added, most, "{name} {kind}");
            }
        }
    }
}

#[test]
fn the_stock_command_line_finds_agents() {
    for (name, documents) in manifests() {
        let agents = of_kind(&documents, "DaemonSet").next().unwrap();
        let template = &agents["spec"]["template"];
        assert_eq!(template["metadata"]["labels"]["k8s-app"], "cilium", "{name}");
        assert_eq!(
            template["spec"]["containers"][0]["name"], "cilium-agent",
            "{name}"
        );
    }
}

#[test]
fn notes_know_every_value() {
    let notes = read("helm/stentor/templates/NOTES.txt");
    let list = notes
        .split("list ")
        .nth(1)
        .and_then(|rest| rest.split(" -}}").next());
    let known: BTreeSet<&str> = list
        .unwrap()
        .split(' ')
        .map(|word| word.trim_matches('"'))
        .collect();
    let values = yaml(&read("helm/stentor/values.yaml"));
    let schema: Value = serde_json::from_str(&read("helm/stentor/values.schema.json")).unwrap();
    for name in values.as_object().unwrap().keys() {
        assert!(known.contains(name.as_str()), "NOTES.txt: {name}");
        assert!(
            schema["properties"][name].is_object(),
            "values.schema.json: {name}"
        );
    }
}

#[test]
fn dashboards_and_alerts_ask_for_metrics_that_are_there() {
    let mut families = crate::metrics::families();
    families.extend(crate::operator::families());
    let mut asked = 0;
    let mut check = |place: &str, query: &str| {
        for name in metrics_of(query) {
            let of_histogram = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| families.get(name.strip_suffix(suffix)?));
            let known = families.contains_key(&name) || of_histogram.is_some_and(|kind| kind == "histogram");
            assert!(known, "{place}: there is no metric {name} ({query})");
            asked += 1;
        }
    };
    let dashboard: Value = serde_json::from_str(&read("helm/stentor/dashboards/stentor.json")).unwrap();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            check(panel["title"].as_str().unwrap(), target["expr"].as_str().unwrap());
        }
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        if let Some(query) = variable["definition"].as_str() {
            let inside = query.trim_start_matches("label_values(").split(',').next();
            check("variable", inside.unwrap());
        }
    }
    let alerts = yaml(&read("helm/stentor/alerts/rules.yaml"));
    for rule in alerts["groups"][0]["rules"].as_array().unwrap() {
        check(rule["alert"].as_str().unwrap(), rule["expr"].as_str().unwrap());
    }
    assert!(asked > 40, "{asked}");
}

/// Names of metrics in a query: words that are no function, no keyword, no label and no text.
fn metrics_of(query: &str) -> BTreeSet<String> {
    const KEYWORDS: [&str; 14] = [
        "and",
        "bool",
        "by",
        "group_left",
        "group_right",
        "ignoring",
        "inf",
        "nan",
        "offset",
        "on",
        "or",
        "unless",
        "without",
        "atan2",
    ];
    // What may stand before a list.
    const AGGREGATES: [&str; 10] = [
        "avg", "bottomk", "count", "group", "max", "min", "quantile", "stddev", "sum", "topk",
    ];
    const LISTS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
    let mut names = BTreeSet::new();
    let mut rest = query;
    let mut last = "";
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        if is_word(first) {
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            rest = after.trim_start();
            let is_name = !first.is_ascii_digit() && !KEYWORDS.contains(&word) && !AGGREGATES.contains(&word);
            if is_name && !rest.starts_with('(') {
                names.insert(word.to_owned());
            }
            last = word;
        } else {
            // Labels and their values, ranges, lists of labels.
            let close = match first {
                '{' => Some('}'),
                '[' => Some(']'),
                '(' if LISTS.contains(&last) => Some(')'),
                _ => None,
            };
            let end = close.and_then(|close| rest.find(close)).unwrap_or(0) + 1;
            rest = rest[end..].trim_start();
            last = "";
        }
    }
    names
}

#[test]
fn names_of_metrics_are_found_in_queries() {
    let found = |query: &str| metrics_of(query).into_iter().collect::<Vec<_>>();
    assert_eq!(
        found("sum by (node, a) (rate(x_total{b=~\"$c\"}[5m])) > 0.9"),
        ["x_total"]
    );
    assert_eq!(
        found("max(a) == 0 or absent(b) and on (instance) c"),
        ["a", "b", "c"]
    );
    assert_eq!(found("count(a{x=\"y\"} == 0) or vector(0)"), ["a"]);
}
