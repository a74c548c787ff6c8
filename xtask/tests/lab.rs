//! `cargo xtask lab`, as a person uses it. Needs root.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const SOON: Duration = Duration::from_mins(1);

/// A topology of its own name, so that tests and people do not meet; gone with its owner.
struct Topology {
    name: String,
    folder: PathBuf,
}

impl Topology {
    fn new(name: &str, exec: &str) -> Self {
        let name = format!("test-{name}-{}", std::process::id());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&name);
        fs::create_dir_all(&folder).unwrap();
        let text = format!(
            "name: {name}\ntopology:\n  nodes:\n    a:\n      exec: [ip addr add 192.0.2.1/24 dev eth1, {exec}]\n    \
             b:\n      exec: [ip addr add 192.0.2.2/24 dev eth1]\n  links:\n  - endpoints: [a:eth1, b:eth1]\n"
        );
        fs::write(folder.join("topo.yaml"), text).unwrap();
        Self { name, folder }
    }

    fn lab(&self, words: &[&str]) -> Command {
        // Whoever runs the tests in the background has them ignore Ctrl-C, and their children with them.
        let mut command = Command::new("env");
        command
            .args(["--default-signal=INT", env!("CARGO_BIN_EXE_xtask"), "lab"])
            .args(words);
        command
    }

    fn up(&self) -> Command {
        let topology = self.folder.join("topo.yaml");
        self.lab(&[
            "up",
            "--topo",
            topology.to_str().unwrap(),
            "--runner",
            "namespaces",
        ])
    }

    fn state(&self) -> PathBuf {
        Path::new("/run/stentor-lab").join(format!("{}.json", self.name))
    }

    /// Processes whose command line names this topology: servers and nodes' first processes.
    fn processes(&self) -> Vec<String> {
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let lines = entries.filter_map(|entry| fs::read_to_string(entry.path().join("cmdline")).ok());
        lines
            .filter(|line| line.contains(&self.name))
            .map(|line| line.replace('\0', " "))
            .collect()
    }
}

impl Drop for Topology {
    fn drop(&mut self) {
        if self.state().exists() {
            let _ = self.lab(&["down", &self.name]).output();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn a_lab_stays_after_up_and_is_gone_after_down() {
    let topology = Topology::new("stay", "true");
    assert!(
        topology
            .up()
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap()
            .success()
    );
    let ping = topology
        .lab(&[
            "exec",
            &topology.name,
            "a",
            "--",
            "ping",
            "-c1",
            "-W2",
            "192.0.2.2",
        ])
        .output();
    assert!(ping.unwrap().status.success());
    let status = topology
        .lab(&["exec", &topology.name, "b", "--", "sh", "-c", "exit 7"])
        .status();
    assert_eq!(status.unwrap().code(), Some(7), "the command's own exit status");
    let svg = topology
        .lab(&["graph", &topology.name, "-o", "-"])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&svg.stdout).contains("192.0.2.2/24"));
    let again = topology.up().output().unwrap();
    assert!(String::from_utf8_lossy(&again.stderr).contains("is up already"));

    assert!(
        topology
            .lab(&["down", &topology.name])
            .status()
            .unwrap()
            .success()
    );
    assert!(!topology.state().exists());
    assert_eq!(topology.processes(), Vec::<String>::new());
    let gone = topology
        .lab(&["exec", &topology.name, "a", "--", "true"])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&gone.stderr).contains("is not up"));
}

#[test]
fn ctrl_c_during_up_leaves_nothing_behind() {
    let topology = Topology::new("ctrl-c", "sleep 1000");
    let mut up = topology
        .up()
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for(&mut up, "lab: nodes: a b");
    lab::process::interrupt(up.id()).unwrap();
    assert!(!up.wait().unwrap().success());
    lab::until(SOON, "all to be gone", || match topology.processes() {
        left if left.is_empty() => Ok(()),
        left => Err(left.join("\n")),
    })
    .unwrap();
    assert!(!topology.state().exists());
}

/// `containerlab` and `docker` in one: it writes down how it is called. The containers are nodes that the test has made,
/// whose pids lie in a folder.
const FAKE: &str = r#"#!/bin/sh
name=$(basename "$0")
echo "$name $*" >>CALLS
end() { for pid in "$@"; do kill -9 "$(cat "$pid")"; rm "$pid"; done; }
cd PIDS
case "$name $1" in
    "docker inspect") cat "$4" ;;
    "docker rm") shift 2; end "$@" ;;
    "containerlab destroy") end clab-* ;;
esac
"#;

#[test]
fn containerlab_runs_the_topology_and_the_engine_the_cluster() {
    let topology = Topology::new("clab", "true");
    let (name, folder) = (&topology.name, &topology.folder);
    let own = format!("{name}-control-plane");
    fs::write(
        folder.join("topo.yaml"),
        format!(
            "name: {name}\ntopology:\n  nodes:\n    a: {{network-mode: 'container:{own}'}}\n    b: {{}}\n  \
             links:\n  - endpoints: [a:eth1, b:eth1]\n"
        ),
    )
    .unwrap();
    let cluster = format!("name: {name}\nnodes: [{{role: control-plane}}]\n");
    fs::write(folder.join("cluster.yaml"), cluster).unwrap();
    let (calls, pids, bin) = (folder.join("calls"), folder.join("pids"), folder.join("bin"));
    for made in [&pids, &bin, &folder.join("manifests")] {
        fs::create_dir_all(made).unwrap();
    }
    let fake = FAKE
        .replace("CALLS", calls.to_str().unwrap())
        .replace("PIDS", pids.to_str().unwrap());
    for program in ["containerlab", "docker"] {
        fs::write(bin.join(program), &fake).unwrap();
        fs::set_permissions(bin.join(program), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut nodes = Vec::new();
    for container in [own.clone(), format!("clab-{name}-b")] {
        let node = lab::Netns::new(&container).unwrap();
        fs::write(pids.join(&container), node.pid().to_string()).unwrap();
        nodes.push(node);
    }
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let lab = |words: &[&str]| {
        let output = topology.lab(words).env("PATH", &path).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{text}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        text
    };

    let file = folder.join("topo.yaml").canonicalize().unwrap();
    let file = file.to_str().unwrap();
    let said = lab(&["up", "--topo", file]);
    assert!(said.contains("lab: runner: containerlab with docker"), "{said}");
    // Both names of the cluster's node, and the agent in it.
    assert_eq!(lab(&["exec", name, "a", "--", "hostname"]), format!("{own}\n"));
    assert_eq!(
        lab(&["exec", name, "b", "--", "hostname"]),
        format!("clab-{name}-b\n")
    );
    lab::until(SOON, "the agent to answer", || {
        let words = ["exec", name, &own, "--", "stentor", "bgp", "peers"];
        let output = topology.lab(&words).output().unwrap();
        output
            .status
            .success()
            .then_some(())
            .ok_or_else(|| String::from_utf8_lossy(&output.stderr).into_owned())
    })
    .unwrap();
    lab(&["down", name]);
    drop(nodes);

    let calls = fs::read_to_string(&calls).unwrap();
    let calls: Vec<&str> = calls.lines().collect();
    let [run, inspect, deploy, inspect_b, destroy, remove] = calls.as_slice() else {
        panic!("{calls:#?}");
    };
    assert!(
        run.starts_with(&format!("docker run --detach --name {own} --hostname {own} ")),
        "{run}"
    );
    assert!(run.ends_with(" debian:bookworm-slim sleep infinity"), "{run}");
    assert_eq!(
        *inspect,
        format!("docker inspect --format {{{{.State.Pid}}}} {own}")
    );
    assert_eq!(*deploy, format!("containerlab deploy --runtime docker -t {file}"));
    assert!(inspect_b.ends_with(&format!(" clab-{name}-b")), "{inspect_b}");
    assert_eq!(
        *destroy,
        format!("containerlab destroy --runtime docker -t {file} --cleanup")
    );
    assert_eq!(*remove, format!("docker rm --force {own}"));
    assert_eq!(topology.processes(), Vec::<String>::new());
}

#[test]
fn a_runner_that_is_asked_for_and_missing_is_named() {
    let topology = Topology::new("no-clab", "true");
    let file = topology.folder.join("topo.yaml");
    let output = topology
        .lab(&["up", "--topo", file.to_str().unwrap(), "--runner", "containerlab"])
        .env("PATH", "/usr/bin:/bin")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    // On a machine that has it this claim can't be tested.
    if Path::new("/usr/bin/containerlab").exists() {
        println!("skipped: containerlab is installed");
        return;
    }
    assert!(!output.status.success());
    assert!(said.contains("containerlab is not installed"), "{said}");
}

#[test]
fn an_unknown_lab_is_named() {
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["lab", "down", "atlantis"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("atlantis"));
}

fn wait_for(child: &mut Child, needle: &str) {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let found = lines.map_while(Result::ok).find(|line| line.contains(needle));
    assert!(found.is_some(), "the lab says `{needle}`");
}
