//! `cargo xtask check`: the rules of ARCHITECTURE.md that a program can check.
//!
//! Each rule below is one row of a table or one function; a violation names the file, the line and the rule.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::CommandFactory;

use crate::{crds, manifests, step, test};

/// Who may import whom. A package that is not listed is new: it must be given its place here first.
const IMPORTS: [(&str, &[&str]); 11] = [
    ("bgp-speaker", &[]),
    ("crds", &[]),
    ("ebpf-abi", &[]),
    ("ebpf-datapath", &["crds", "ebpf-abi"]),
    ("ebpf-loader", &["ebpf-abi", "ebpf-datapath"]),
    ("l2announce", &[]),
    ("lab", &[]),
    ("lbipam", &[]),
    (
        "stentor",
        &[
            "bgp-speaker",
            "crds",
            "ebpf-abi",
            "ebpf-datapath",
            "ebpf-loader",
            "l2announce",
            "lbipam",
        ],
    ),
    (
        "stentor-tests",
        &["bgp-speaker", "crds", "lab", "lbipam", "stentor"],
    ),
    ("xtask", &["lab"]),
];

/// A word that may appear in code only in some places.
struct Place {
    word: &'static str,
    /// Path prefixes, relative to the workspace.
    only_in: &'static [&'static str],
    tests: Tests,
    why: &'static str,
}

/// Whether a rule is for tests too.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tests {
    Too,
    /// A test has to begin at some instant, and may play the peer.
    Free,
}

const PLACES: [Place; 9] = [
    Place {
        word: "tokio",
        only_in: &["bgp-speaker/src/net", "agent/", "tests/"],
        tests: Tests::Free,
        why: "cores know no runtime",
    },
    Place {
        word: "TcpStream",
        only_in: &["bgp-speaker/src/net", "agent/", "tests/", "lab/"],
        tests: Tests::Free,
        why: "sockets are shells",
    },
    Place {
        word: "unsafe",
        only_in: &[
            "agent/src/shell/memory.rs",
            "bgp-speaker/src/net/sockopt.rs",
            "ebpf/",
        ],
        tests: Tests::Too,
        why: "unsafe has one home per crate",
    },
    Place {
        word: "rtnetlink",
        only_in: &["agent/src/shell/netlink"],
        tests: Tests::Too,
        why: "one place talks to the kernel's routes",
    },
    Place {
        word: "Instant::now",
        only_in: &[
            "bgp-speaker/src/net",
            "bgp-speaker/benches",
            "agent/",
            // A listener waits for a message, and not for ever.
            "ebpf/loader/src/events.rs",
            "tests/",
            "lab/",
            "xtask/",
        ],
        tests: Tests::Free,
        why: "cores are given the time",
    },
    Place {
        word: "SystemTime::now",
        only_in: &["agent/", "lab/", "tests/"],
        tests: Tests::Free,
        why: "cores are given the time",
    },
    Place {
        word: "unbounded_channel",
        only_in: &[],
        tests: Tests::Too,
        why: "a queue without a bound is a leak",
    },
    Place {
        word: "todo!",
        only_in: &[],
        tests: Tests::Too,
        why: "what is not there is not there",
    },
    Place {
        word: "unimplemented!",
        only_in: &[],
        tests: Tests::Too,
        why: "what is not there is not there",
    },
];

/// Folders of pure functions and what must not be in them, tests aside.
const PURE: [&str; 6] = [
    "agent/src/operator/plan",
    "agent/src/plan",
    "ebpf/abi/src",
    "ebpf/datapath/src",
    "l2announce/src",
    "lbipam/src",
];
const IMPURE: [&str; 7] = [
    "std::fs",
    "std::env",
    "tokio",
    "Instant::now",
    "SystemTime::now",
    "TcpStream",
    "UdpSocket",
];

/// What the modules that read a peer's bytes must deny.
const FOREIGN: (&str, [&str; 3]) = (
    "bgp-speaker/src/wire/mod.rs",
    [
        "clippy::indexing_slicing",
        "clippy::unwrap_used",
        "clippy::as_conversions",
    ],
);

/// Names that say nothing about what a module answers.
const EMPTY_NAMES: [&str; 7] = ["base", "common", "helper", "helpers", "manager", "util", "utils"];

/// Texts whose paths and commands must be right.
const DOCUMENTS: [&str; 5] = [
    "ARCHITECTURE.md",
    "README.md",
    "containerlab/README.md",
    "deploy/MIGRATING.md",
    "tests/fuzz/README.md",
];

/// Lines of one source file; tests and benches aside.
const LENGTH: usize = 600;

pub(crate) fn run() -> Result<()> {
    let mut faults = imports()?;
    let sources = sources()?;
    for source in &sources {
        check_source(source, &mut faults);
    }
    let (path, lints) = FOREIGN;
    let text = fs::read_to_string(step::root().join(path)).with_context(|| format!("read {path}"))?;
    for lint in lints.into_iter().filter(|lint| !text.contains(lint)) {
        faults.push(format!(
            "{path}: must deny {lint}: what a peer sent is never unwrapped, indexed or cast"
        ));
    }
    let documents = DOCUMENTS.map(PathBuf::from);
    for document in &documents {
        check_document(document, &mut faults)?;
    }
    faults.extend(crds::stale()?);
    faults.extend(manifests::stale()?);
    println!(
        "check: {} source files, {} documents, {} faults",
        sources.len(),
        documents.len(),
        faults.len()
    );
    if faults.is_empty() {
        return Ok(());
    }
    bail!("the architecture is violated:\n{}", faults.join("\n"))
}

fn imports() -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for (package, used) in test::imports(&test::metadata()?) {
        let Some((_, allowed)) = IMPORTS.iter().find(|(name, _)| *name == package) else {
            faults.push(format!(
                "{package}: has no row in the table of imports (xtask/src/check.rs)"
            ));
            continue;
        };
        for other in used.iter().filter(|other| !allowed.contains(&other.as_str())) {
            faults.push(format!("{package}: must not import {other}"));
        }
    }
    Ok(faults)
}

/// One file of Rust.
struct Source {
    path: PathBuf,
    text: String,
}

fn sources() -> Result<Vec<Source>> {
    let output = step::capture(
        Command::new("git")
            .args(["ls-files", "-z", "--", "*.rs"])
            .current_dir(step::root()),
    )?;
    let list = String::from_utf8(output.stdout).context("file names are UTF-8")?;
    let paths = list
        .split('\0')
        .filter(|path| !path.is_empty())
        .map(PathBuf::from);
    let mut sources = Vec::new();
    for path in paths {
        // Deleted but not yet committed.
        if let Ok(text) = fs::read_to_string(step::root().join(&path)) {
            sources.push(Source { path, text });
        }
    }
    Ok(sources)
}

fn check_source(source: &Source, faults: &mut Vec<String>) {
    let shown = source.path.display();
    let stem = source
        .path
        .file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or_default();
    let folders = source.path.iter().filter_map(|part| part.to_str());
    if EMPTY_NAMES
        .iter()
        .any(|name| *name == stem || folders.clone().any(|folder| folder == *name))
    {
        faults.push(format!(
            "{shown}: a name that says nothing; name it by the question it answers"
        ));
    }
    // House style: tests come last in a file, so all before them is what the file is for.
    let tests = source
        .text
        .lines()
        .position(|line| line == "#[cfg(test)]")
        .unwrap_or(usize::MAX);
    let lines = source.text.lines().count().min(tests);
    if lines > LENGTH && !is_test(&source.path) {
        faults.push(format!(
            "{shown}: {lines} lines, more than {LENGTH}; split it by the question answered"
        ));
    }
    // This file spells the words it forbids.
    if source.path.ends_with("xtask/src/check.rs") {
        return;
    }
    for (number, line) in source.text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        let is_test_code = number >= tests || is_test(&source.path);
        if PURE.iter().any(|folder| source.path.starts_with(folder)) && !is_test_code {
            for word in IMPURE.iter().filter(|word| has_word(code, word)) {
                faults.push(format!(
                    "{shown}:{}: `{word}` here: planners read what they are given",
                    number + 1
                ));
            }
        }
        for place in &PLACES {
            let allowed = place
                .only_in
                .iter()
                .any(|prefix| source.path.to_string_lossy().starts_with(prefix));
            let exempt = place.tests == Tests::Free && is_test_code;
            if !allowed && !exempt && has_word(code, place.word) {
                faults.push(format!(
                    "{shown}:{}: `{}` here: {}",
                    number + 1,
                    place.word,
                    place.why
                ));
            }
        }
    }
}

fn is_test(path: &Path) -> bool {
    let named = path.file_stem().is_some_and(|stem| stem == "tests");
    named || path.iter().any(|part| part == "tests" || part == "benches")
}

/// Whether `word` stands in `code` by itself, not as part of a longer name or of a quoted text.
fn has_word(code: &str, word: &str) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        let quoted = code[..at].matches('"').count() % 2 == 1;
        !quoted && !before.is_some_and(is_name) && !after.is_some_and(is_name)
    })
}

fn check_document(path: &Path, faults: &mut Vec<String>) -> Result<()> {
    let text = fs::read_to_string(step::root().join(path))?;
    let stentor = test::target_folder()?.join("debug/stentor");
    for (number, line) in text.lines().enumerate() {
        let at = format!("{}:{}", path.display(), number + 1);
        for named in quoted(line).filter(|named| is_path(named)) {
            let named = named.trim_end_matches('/');
            if !step::root().join(named).exists() {
                faults.push(format!("{at}: `{named}` does not exist"));
            }
        }
        for words in commands(line, "cargo xtask ") {
            if let Some(unknown) = unknown_task(&words) {
                faults.push(format!(
                    "{at}: `cargo xtask {}`: there is no `{unknown}`",
                    words.join(" ")
                ));
            }
        }
        // The agent's own words are known only to the agent; without a build of it there is nobody to ask.
        for words in commands(line, "stentor ").filter(|_| stentor.exists()) {
            let asked = step::capture(Command::new(&stentor).args(&words).arg("--help"))?;
            if !asked.status.success() {
                faults.push(format!(
                    "{at}: `stentor {}`: the program does not know it",
                    words.join(" ")
                ));
            }
        }
    }
    Ok(())
}

/// What stands between backticks.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// Whether a quoted text claims to be a path of this repository: its first part is one of our folders.
fn is_path(text: &str) -> bool {
    const ODD: [char; 9] = [' ', '*', '{', '<', '$', '(', ':', '|', ','];
    let plain = !text.contains(ODD) && !text.is_empty();
    let first = text.split('/').next().unwrap_or_default();
    let folders = IMPORTS.map(|(name, _)| name);
    let known = folders.contains(&first)
        || ["agent", "ebpf", "tests", "containerlab", ".ci", "deploy"].contains(&first);
    plain && text.contains('/') && known
}

/// The lower-case words after each `prefix` in quotes or at the start of a line of code: a command's subcommands.
fn commands<'a>(line: &'a str, prefix: &'a str) -> impl Iterator<Item = Vec<&'a str>> {
    let indented = line.starts_with("    ") || line.starts_with("$ ");
    let code = line.trim_start_matches("$ ").trim_start();
    let whole = indented.then_some(code).into_iter();
    quoted(line)
        .chain(whole)
        .filter_map(move |text| text.trim_start_matches("$ ").strip_prefix(prefix))
        .map(|rest| {
            let is_word = |word: &&str| {
                word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with('-')
            };
            rest.split(' ')
                .take_while(is_word)
                .filter(|word| !word.is_empty())
                .collect()
        })
}

/// The first word that is no subcommand of ours, where one is needed.
fn unknown_task<'a>(words: &[&'a str]) -> Option<&'a str> {
    let mut command = crate::Cli::command();
    for word in words {
        if !command.has_subcommands() {
            return None;
        }
        match command.find_subcommand(word) {
            Some(found) => command = found.clone(),
            None => return Some(word),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_counts_only_by_itself_and_outside_quotes() {
        assert!(has_word("unsafe { x }", "unsafe"));
        assert!(has_word("use tokio::net;", "tokio"));
        assert!(!has_word("#![deny(unsafe_code)]", "unsafe"));
        assert!(!has_word("call(\"tokio\")", "tokio"));
    }

    #[test]
    fn commands_of_documents_are_found_in_quotes_and_in_code_blocks() {
        let found: Vec<_> = commands("run `cargo xtask lab up service` now", "cargo xtask ").collect();
        assert_eq!(found, [["lab", "up", "service"]]);
        let found: Vec<_> = commands("    cargo xtask test   # all", "cargo xtask ").collect();
        assert_eq!(found, [["test"]]);
        assert_eq!(commands("the cargo xtask tool", "cargo xtask ").count(), 0);
    }

    #[test]
    fn unknown_tasks_are_named() {
        assert_eq!(unknown_task(&["test"]), None);
        assert_eq!(unknown_task(&["tset"]), Some("tset"));
    }
}
