//! Every topology, end to end: real agents, a real FRR, and its expectations met. Needs root and FRR.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use lab::requests::Pods;
use lab::{Lab, Runner, Spec, expect, faults, requests, spec, until};

/// Sessions come up in seconds; a busy machine that runs six labs at once takes longer.
const PATIENCE: Duration = Duration::from_mins(5);

#[test]
fn service() {
    meets_its_expectations(&own("service"), None);
}

#[test]
fn multi_homing() {
    meets_its_expectations(&own("multi-homing"), None);
}

#[test]
fn pod_ip_pool() {
    meets_its_expectations(&own("pod-ip-pool"), None);
}

#[test]
fn default_gateway() {
    meets_its_expectations(&own("default-gateway"), None);
}

#[test]
fn the_service_topology_of_the_conformance_suite_runs_unmodified() {
    if let Some(folder) = shared("service") {
        meets_its_expectations(&folder, Some("bgp-cplane-dev-service.yaml"));
    }
}

#[test]
fn the_pod_ip_pool_topology_of_the_conformance_suite_runs_unmodified() {
    if let Some(folder) = shared("pod-ip-pool") {
        meets_its_expectations(&folder, Some("bgp-cplane-dev-pod-ip-pool.yaml"));
    }
}

#[test]
fn a_nodes_variables_reach_its_daemon_and_its_exec_lines() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("variables-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("topo.yaml");
    let write = |name: &str| format!("sh -c 'echo $WORD >/run/{name}'");
    fs::write(
        &file,
        format!(
            "name: variables\ntopology:\n  nodes:\n    a:\n      env: {{WORD: 1}}\n      cmd: {}\n      exec: [\"{}\"]\n",
            write("cmd"),
            write("exec")
        ),
    )
    .unwrap();
    let spec = Spec::read(&file, None).unwrap();
    let lab = Lab::up(spec, Runner::Namespaces, Path::new("/nowhere"), &|_| {}).unwrap();
    let node = lab.node("a").unwrap();
    for name in ["cmd", "exec"] {
        let words = until(
            PATIENCE,
            format!("the word of {name}"),
            || match fs::read_to_string(node.path(&format!("/run/{name}"))) {
                Ok(words) if !words.is_empty() => Ok(words),
                other => Err(format!("{other:?}")),
            },
        );
        assert_eq!(words.unwrap(), "1\n", "{name}");
    }
    drop(lab);
    fs::remove_dir_all(&folder).unwrap();
}

fn meets_its_expectations(folder: &Path, expectations: Option<&str>) {
    let mut spec = Spec::read(&spec::find_topology(folder).unwrap(), None).unwrap();
    if let Some(file) = expectations {
        spec = spec
            .expecting(&root().join("lab/tests/expectations").join(file))
            .unwrap();
    }
    let expectations = spec.expectations.clone().expect("the topology has expectations");
    let name = spec.topology.name.clone();
    let mut lab = Lab::up(spec, Runner::Namespaces, &AGENT, &|line| {
        println!("{name}: {line}")
    })
    .unwrap();
    let say = |line: &str| println!("{name}: {line}");
    let nodes = lab.handles();
    let asked = expect::meet(&nodes, &expectations, PATIENCE, &say)
        .and_then(|_| requests::ask_all(&nodes, &expectations.requests, Pods::Echo, &say))
        .map_err(|error| error.to_string())
        .and_then(|faults| faults.is_empty().then_some(()).ok_or(faults.join("\n")));
    if let Err(error) = asked {
        for node in lab.cluster_nodes() {
            println!("--- agent on {node}\n{}", lab.agent_log(&node));
        }
        panic!("{error}");
    }
    assert_eq!(lab.ended_agents(), Vec::<String>::new());
    if let Some(faults) = &expectations.faults {
        let wrong = faults::run(&mut lab, faults, &expectations, &AGENT, PATIENCE, &say);
        if !matches!(&wrong, Ok(wrong) if wrong.is_empty()) {
            for node in lab.cluster_nodes() {
                println!("--- agent on {node}\n{}", lab.agent_log(&node));
            }
            panic!("{wrong:?}");
        }
    }
}

/// Built once, into the folder these tests were built into.
static AGENT: LazyLock<PathBuf> = LazyLock::new(|| {
    let test = env::current_exe().unwrap();
    let profile = test.ancestors().nth(2).unwrap();
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--package", "stentor"])
        .current_dir(root())
        .env("CARGO_TARGET_DIR", profile.parent().unwrap())
        .status();
    assert!(built.unwrap().success());
    profile.join("stentor")
});

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn own(name: &str) -> PathBuf {
    root().join("containerlab").join(name)
}

/// The folder of a topology that is not part of this repository.
fn shared(name: &str) -> Option<PathBuf> {
    let conformance = env::var_os("STENTOR_CONFORMANCE")
        .map_or_else(|| root().join("../shared/conformance"), PathBuf::from);
    let folder = conformance.join("containerlab").join(name);
    if folder.exists() {
        return Some(folder);
    }
    println!("skipped: {} is not there", folder.display());
    None
}
