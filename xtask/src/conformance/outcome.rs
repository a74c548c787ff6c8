//! What came of tests, as ginkgo reports it, and two runs of them side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::{Context, Result};
use serde_json::Value;

/// Of one test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Passed,
    /// The first line of why.
    Failed(String),
    /// It says by itself that it does not apply, and why.
    Skipped(String),
}

impl Outcome {
    fn word(&self) -> &'static str {
        match self {
            Self::Passed => "pass",
            Self::Failed(_) => "FAIL",
            Self::Skipped(_) => "-",
        }
    }
}

/// Reads ginkgo's report, by the whole names of tests. Those that were not asked for are left out.
pub(super) fn read(report: &str) -> Result<BTreeMap<String, Outcome>> {
    let report: Value = serde_json::from_str(report).context("the tests' report is not readable")?;
    let suites = report.as_array().into_iter().flatten();
    let specs = suites.flat_map(|suite| suite["SpecReports"].as_array().into_iter().flatten());
    Ok(specs
        .filter(|spec| spec["LeafNodeType"] == "It")
        .filter_map(|spec| Some((name(spec), outcome(spec)?)))
        .collect())
}

fn name(spec: &Value) -> String {
    let around = spec["ContainerHierarchyTexts"].as_array().into_iter().flatten();
    let words = around.chain(std::iter::once(&spec["LeafNodeText"]));
    words.filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
}

/// `None` for one that was not asked for.
fn outcome(spec: &Value) -> Option<Outcome> {
    let why = spec["Failure"]["Message"].as_str().unwrap_or_default();
    let first = || why.lines().next().unwrap_or_default().to_owned();
    match spec["State"].as_str()? {
        "passed" => Some(Outcome::Passed),
        "pending" => None,
        "skipped" if why.is_empty() => None,
        "skipped" => Some(Outcome::Skipped(first())),
        _ => Some(Outcome::Failed(first())),
    }
}

/// For people: a line for each test, and why it failed.
pub(super) fn list(run: &BTreeMap<String, Outcome>) -> String {
    let lines = run.iter().map(|(name, outcome)| {
        let why = match outcome {
            Outcome::Failed(why) | Outcome::Skipped(why) => format!(": {why}"),
            Outcome::Passed => String::new(),
        };
        format!("{:>7}  {name}{why}\n", outcome.word())
    });
    lines.collect()
}

/// For people: a line for each test, the reasons of those that differ, and the sums.
pub(super) fn table(kube_proxy: &BTreeMap<String, Outcome>, stentor: &BTreeMap<String, Outcome>) -> String {
    let mut text = format!("{:>10}  {:>7}  test\n", "kube-proxy", "stentor");
    let word = |run: &BTreeMap<String, Outcome>, name: &str| run.get(name).map_or("?", Outcome::word);
    let names: BTreeSet<&String> = kube_proxy.keys().chain(stentor.keys()).collect();
    for name in names {
        let (theirs, ours) = (word(kube_proxy, name), word(stentor, name));
        let _ = writeln!(text, "{theirs:>10}  {ours:>7}  {name}");
        if theirs != ours {
            for outcome in [kube_proxy.get(name), stentor.get(name)].into_iter().flatten() {
                match outcome {
                    Outcome::Failed(why) | Outcome::Skipped(why) => {
                        let _ = writeln!(text, "{:>21}{why}", "");
                    }
                    Outcome::Passed => {}
                }
            }
        }
    }
    let passed =
        |run: &BTreeMap<String, Outcome>| run.values().filter(|one| **one == Outcome::Passed).count();
    let (theirs, ours) = (passed(kube_proxy), passed(stentor));
    let _ = writeln!(
        text,
        "{theirs:>10}  {ours:>7}  pass; {} pass with kube-proxy and not with Stentor",
        worse(kube_proxy, stentor)
    );
    text
}

/// How many pass with kube-proxy and not with Stentor.
pub(super) fn worse(kube_proxy: &BTreeMap<String, Outcome>, stentor: &BTreeMap<String, Outcome>) -> usize {
    let passed = kube_proxy
        .iter()
        .filter(|(_, outcome)| **outcome == Outcome::Passed);
    passed
        .filter(|(name, _)| stentor.get(*name) != Some(&Outcome::Passed))
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = r#"[{"SpecReports": [
        {"LeafNodeType": "SynchronizedBeforeSuite", "State": "passed"},
        {"LeafNodeType": "It", "ContainerHierarchyTexts": ["[sig-network] Services"], "LeafNodeText": "a", "State": "passed"},
        {"LeafNodeType": "It", "ContainerHierarchyTexts": ["DNS"], "LeafNodeText": "b", "State": "failed",
         "Failure": {"Message": "no answer\nfrom 10.0.0.10"}},
        {"LeafNodeType": "It", "ContainerHierarchyTexts": [], "LeafNodeText": "c", "State": "skipped"},
        {"LeafNodeType": "It", "ContainerHierarchyTexts": [], "LeafNodeText": "d", "State": "skipped",
         "Failure": {"Message": "not on this cloud"}}]}]"#;

    #[test]
    fn tests_that_were_not_asked_for_are_no_outcomes() {
        let outcomes = read(REPORT).unwrap();
        let expected = [
            ("DNS b".to_owned(), Outcome::Failed("no answer".to_owned())),
            ("[sig-network] Services a".to_owned(), Outcome::Passed),
            ("d".to_owned(), Outcome::Skipped("not on this cloud".to_owned())),
        ];
        assert_eq!(outcomes, BTreeMap::from(expected));
    }

    #[test]
    fn only_what_passes_with_kube_proxy_counts_and_what_was_never_run_does_too() {
        let theirs = read(REPORT).unwrap();
        let mut ours = theirs.clone();
        assert_eq!(worse(&theirs, &ours), 0);
        ours.remove("[sig-network] Services a");
        assert_eq!(worse(&theirs, &ours), 1);
        assert!(table(&theirs, &ours).contains("pass        ?  [sig-network] Services a\n"));
    }
}
