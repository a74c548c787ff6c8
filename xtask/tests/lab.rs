//! `cargo xtask lab`, as a person uses it. Needs root.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

use std::fs;
use std::io::{BufRead, BufReader};
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
        self.lab(&["up", "--topo", topology.to_str().unwrap()])
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
