//! `cargo xtask test`, `fuzz`, `bench` and `build`.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::lab::kubernetes;
use crate::setup::Goal;
use crate::step;
use crate::suite::{Count, Suite, count, run_all};
use crate::{check, ebpf, setup};

/// How long one decoder is fuzzed, in seconds.
const LONG: u32 = 600;
const SHORT: u32 = 60;

const CLIPPY: [&str; 8] = [
    "clippy",
    "--quiet",
    "--workspace",
    "--all-targets",
    "--all-features",
    "--",
    "-D",
    "warnings",
];
const FMT_PROGS: [&str; 4] = ["fmt", "--check", "--manifest-path", "ebpf/progs/Cargo.toml"];
const DENY: [&str; 7] = [
    "deny",
    "--log-level",
    "error",
    "check",
    "licenses",
    "bans",
    "sources",
];

/// A machine without a way out must not wait for its name server for ever.
const FETCH: Duration = Duration::from_secs(60);

/// Everything that must hold. The last line is the count of all of it.
pub(crate) fn run() -> Result<()> {
    let start = Instant::now();
    setup::run(Goal::Test)?;
    let mut counts = vec![
        cargo_step("formatting", &["fmt", "--all", "--check"])?,
        cargo_step("clippy", &CLIPPY)?,
        cargo_step(
            "bgp-speaker without its feature net",
            &["check", "--quiet", "-p", "bgp-speaker"],
        )?,
        step_of("architecture", || check::run().map(|()| count("", true))),
        cargo_step("licences, bans and sources", &DENY)?,
        advisories()?,
    ];
    counts.push(cargo_step("formatting of the kernel programs", &FMT_PROGS)?);
    counts.push(step_of("kernel programs", || {
        ebpf::build().map(|_| count("", true))
    }));
    println!("--- real clusters, by themselves; the output of each goes to target/suites");
    counts.push(step_of("clusters", || match kubernetes::installed() {
        Ok(_) => {
            build_bins()?;
            run_all(clusters()?)
        }
        Err(error) => {
            println!("skip   clusters: {error:#}");
            Ok(Count {
                skipped: 1,
                ..Count::default()
            })
        }
    }));
    println!("--- suites, side by side");
    counts.push(step_of("suites", || {
        build_bins()?;
        run_all(suites()?)
    }));
    println!("--- fuzzing, {SHORT} s per decoder");
    counts.push(step_of("fuzzing", || run_all(fuzzers(SHORT, None)?)));
    let sum: Count = counts.into_iter().sum();
    println!("--- done in {}", step::seconds(start));
    println!("stentor: {sum}");
    if sum.failed > 0 {
        bail!("{} failed", sum.failed);
    }
    Ok(())
}

/// Builds the agent; returns when `stentor` is in the target folder.
pub(crate) fn build(release: bool) -> Result<()> {
    let profile: &[&str] = if release { &["--release"] } else { &[] };
    step::run(
        step::cargo()
            .args(["build", "--package", "stentor"])
            .args(profile),
    )
}

/// All programs of the workspace, as suites run them.
fn build_bins() -> Result<()> {
    step::run(step::cargo().args(["build", "--workspace", "--all-features", "--bins"]))
}

/// Mutates golden input of the decoders.
pub(crate) fn fuzz(short: bool, target: Option<&str>) -> Result<()> {
    let sum = run_all(fuzzers(if short { SHORT } else { LONG }, target)?)?;
    println!("fuzz: {sum}");
    if sum.failed > 0 {
        bail!("{} failed", sum.failed);
    }
    Ok(())
}

/// Runs the benches. Programs that others run (the kernel ours, we those of a cluster) are measured from outside: what
/// drives them is not optimised.
pub(crate) fn bench(name: Option<&str>, part: Option<&str>) -> Result<()> {
    let whole = ["bench", "--workspace", "--all-features"];
    let run = |words: &[&str]| step::run(step::cargo().args(whole).args(words));
    match name {
        Some("lb") => {
            let parts = ["packets", "throughput", "control"];
            if let Some(part) = part
                && !parts.contains(&part)
            {
                bail!("`lb` has these parts: {}", parts.join(", "));
            }
            let asked = |name| part.is_none_or(|part| part == name);
            ebpf::build()?;
            if asked("packets") {
                run(&["--bench", "lb", "--profile", "dev"])?;
            }
            if asked("throughput") {
                throughput(&whole)?;
            }
            if asked("control") {
                run(&["--bench", "control"])?;
            }
            Ok(())
        }
        Some("kube") => {
            if let Some(part) = part
                && part != "addresses"
            {
                bail!("of `kube`, `addresses` can be run alone, and not `{part}`");
            }
            build(true)?;
            let program = target_folder()?.join("release/stentor");
            let mut command = step::cargo();
            command
                .args(whole)
                .args(["--bench", "kube", "--profile", "dev", "--", "kube"])
                .args(part);
            step::run(command.env("STENTOR_BINARY", program))
        }
        Some(_) if part.is_some() => bail!("only `lb` and `kube` have parts"),
        Some(name) => run(&["--benches", "--", name]),
        None => {
            ebpf::build()?;
            run(&["--benches"])
        }
    }
}

/// The agent only says what to do; whether it was optimised makes no difference to what the kernel does.
fn throughput(whole: &[&str]) -> Result<()> {
    build(false)?;
    let program = target_folder()?.join("debug/stentor");
    let mut command = step::cargo();
    command
        .args(whole)
        .args(["--bench", "throughput", "--profile", "dev", "--", "throughput"]);
    step::run(command.env("STENTOR_BINARY", program))
}

/// One cargo command that counts as one test.
fn cargo_step(name: &str, args: &[&str]) -> Result<Count> {
    let start = Instant::now();
    let mut command = step::cargo();
    let output = step::capture(command.args(args))?;
    let verdict = if output.status.success() { "ok" } else { "FAILED" };
    println!("{verdict:6} {name} ({})", step::seconds(start));
    if !output.status.success() {
        println!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(count("", output.status.success()))
}

/// What cannot even be tried has failed; the rest is still tried.
fn step_of(name: &str, work: impl FnOnce() -> Result<Count>) -> Count {
    match work() {
        Ok(count) => {
            println!(
                "{:6} {name}: {count}",
                if count.failed == 0 { "ok" } else { "FAILED" }
            );
            count
        }
        Err(error) => {
            println!("FAILED {name}: {error:#}");
            count("", false)
        }
    }
}

/// The advisory database is a git repository elsewhere. Where it cannot be had, that is a skip, not a pass.
fn advisories() -> Result<Count> {
    let fetched = step::succeeds_within(
        step::cargo().args(["deny", "--log-level", "off", "fetch", "db"]),
        FETCH,
    )?;
    if !fetched {
        println!("skip   advisories: their database cannot be had from here");
        return Ok(Count {
            skipped: 1,
            ..Count::default()
        });
    }
    cargo_step(
        "advisories",
        &["deny", "--log-level", "error", "check", "advisories"],
    )
}

/// Builds all test programs and lists them, and the documentation tests.
fn suites() -> Result<Vec<Suite>> {
    let mut command = step::cargo();
    command.args([
        "test",
        "--workspace",
        "--all-features",
        "--no-run",
        "--message-format=json",
    ]);
    command.stderr(std::process::Stdio::inherit());
    let output = step::capture(&mut command)?;
    if !output.status.success() {
        bail!("the tests do not build");
    }
    let mut suites = Vec::new();
    let text = String::from_utf8_lossy(&output.stdout);
    for message in text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
    {
        let Some(executable) = message["executable"]
            .as_str()
            .filter(|_| message["profile"]["test"] == true)
        else {
            continue;
        };
        let manifest = Path::new(
            message["manifest_path"]
                .as_str()
                .context("a test has a package")?,
        );
        let folder = manifest.parent().context("a manifest has a folder")?;
        let target = message["target"]["name"].as_str().unwrap_or_default();
        let kind = message["target"]["kind"][0].as_str().unwrap_or_default();
        if target == "fuzz" {
            continue;
        }
        let package = folder.file_name().unwrap_or_default().to_string_lossy();
        let mut command = Command::new(executable);
        command.current_dir(folder).arg("--show-output");
        let name = if kind == "test" {
            format!("{package}: {target}")
        } else {
            format!("{package}: inside")
        };
        suites.push(Suite { name, command });
    }
    // The longest come first, so that the others fill the gaps: interop takes minutes, the other whole-system suites
    // seconds.
    suites.sort_by_key(|suite| {
        let is_longest = suite.name.ends_with(": interop");
        (!is_longest, suite.name.ends_with(": inside"), suite.name.clone())
    });
    let mut command = step::cargo();
    command.args(["test", "--quiet", "--workspace", "--all-features", "--doc"]);
    suites.push(Suite {
        name: "documentation".into(),
        command,
    });
    Ok(suites)
}

/// Topologies as real clusters, each a suite of its own: ours, one that was written for others, where that is there, and one for
/// a few of Kubernetes' own tests. They are not for a machine that is busy with all the rest: a kubelet restarts what gets no time to answer it.
fn clusters() -> Result<Vec<Suite>> {
    let built = target_folder()?.join("debug");
    let xtask = built.join("xtask");
    let conformance = env::var_os("STENTOR_CONFORMANCE")
        .map_or_else(|| step::root().join("../shared/conformance"), PathBuf::from);
    let foreign = conformance.join("containerlab/service/topo.yaml");
    // Once for all: suites that run side by side must not find the program half written.
    kubernetes::make_images(&built.join("stentor"))?;
    let own = step::root().join("containerlab/service/topo.clab.yml");
    let mut suites = Vec::new();
    for (name, topology) in [("service", own), ("service, unmodified", foreign)] {
        if topology.exists() {
            // The file of this very process may have been replaced by the build.
            let mut command = Command::new(&xtask);
            command
                .args(["lab", "test", "--kubernetes", "--built", "--topo"])
                .arg(topology);
            suites.push(Suite {
                name: format!("cluster: {name}"),
                command,
            });
        }
    }
    let mut command = Command::new(&xtask);
    command.args(["conformance", "--few", "--built"]);
    suites.push(Suite {
        name: "cluster: Kubernetes' own tests".to_owned(),
        command,
    });
    Ok(suites)
}

/// One suite per decoder. `tests/` has a program `fuzz` that lists its targets with `--list`.
fn fuzzers(seconds: u32, only: Option<&str>) -> Result<Vec<Suite>> {
    step::run(step::cargo().args(["build", "--quiet", "--package", "stentor-tests", "--bin", "fuzz"]))?;
    let program = target_folder()?.join("debug/fuzz");
    let list = step::capture(Command::new(&program).arg("--list"))?;
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    let names: Vec<&str> = list
        .split_whitespace()
        .filter(|name| only.is_none_or(|only| only == *name))
        .collect();
    if names.is_empty() {
        bail!(
            "no such decoder; there are: {}",
            list.split_whitespace().collect::<Vec<_>>().join(" ")
        );
    }
    let suite = |name: &str| {
        let mut command = Command::new(&program);
        command
            .args(["--seconds", &seconds.to_string(), name])
            .current_dir(step::root());
        Suite {
            name: format!("fuzz: {name}"),
            command,
        }
    };
    Ok(names.into_iter().map(suite).collect())
}

/// Where cargo puts what it builds.
pub(crate) fn target_folder() -> Result<PathBuf> {
    let metadata = metadata()?;
    Ok(PathBuf::from(
        metadata["target_directory"]
            .as_str()
            .context("cargo knows its target folder")?,
    ))
}

/// `cargo metadata` of this workspace, without what it depends on.
pub(crate) fn metadata() -> Result<Value> {
    let output = step::capture(step::cargo().args(["metadata", "--format-version", "1", "--no-deps"]))?;
    serde_json::from_slice(&output.stdout).context("cargo metadata does not parse")
}

/// Package name to the names of the workspace packages it uses in its code (not only in its tests).
pub(crate) fn imports(metadata: &Value) -> BTreeMap<String, Vec<String>> {
    let packages = metadata["packages"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let name = |package: &Value| package["name"].as_str().unwrap_or_default().to_owned();
    let ours: Vec<String> = packages.iter().map(name).collect();
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"]
                .as_array()
                .map(Vec::as_slice)
                .unwrap_or_default();
            let used = dependencies
                .iter()
                .filter(|dependency| dependency["kind"] != "dev")
                .map(name);
            (name(package), used.filter(|used| ours.contains(used)).collect())
        })
        .collect()
}
