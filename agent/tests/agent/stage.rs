//! A node with an agent in it, its folders, and the command line that asks it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use lab::{Netns, Process, until};
use serde_json::Value;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_stentor");
pub(crate) const LIMIT: Duration = Duration::from_mins(1);

/// What a command printed and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Printed {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) code: i32,
}

pub(crate) fn run(words: &[&str]) -> Printed {
    run_with(words, &[])
}

pub(crate) fn run_with(words: &[&str], environment: &[(&str, &str)]) -> Printed {
    let output = Command::new(BINARY)
        .args(words)
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    Printed {
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
        code: output.status.code().unwrap(),
    }
}

pub(crate) struct Stage {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) node: Arc<Netns>,
    pub(crate) agent: Option<Process>,
}

impl Stage {
    pub(crate) fn new(hint: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("manifests")).unwrap();
        Self {
            dir,
            node: Arc::new(Netns::new(hint).unwrap()),
            agent: None,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn text_path(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// A file of the watched folder.
    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path("manifests").join(name), text).unwrap();
    }

    pub(crate) fn remove(&self, name: &str) {
        fs::remove_file(self.path("manifests").join(name)).unwrap();
    }

    /// Starts the agent and waits until it answers.
    pub(crate) fn start(&mut self, more: &[&str]) {
        self.spawn(&[], more);
        until(LIMIT, "the agent to answer", || {
            let printed = self.ask(&["bgp", "peers"]);
            if printed.code == 3 {
                Err(format!("{printed:?}\n{}", self.log()))
            } else {
                Ok(())
            }
        })
        .unwrap();
    }

    pub(crate) fn spawn(&mut self, environment: &[&str], more: &[&str]) {
        let (manifests, state) = (self.text_path("manifests"), self.text_path("state"));
        let socket = self.text_path("agent.sock");
        let mut words = vec!["env", "RUST_LOG=debug"];
        words.extend(environment);
        words.extend([BINARY, "agent", "--node", "node-a"]);
        words.extend(["--manifests", &manifests, "--state", &state, "--socket", &socket]);
        words.extend(more);
        self.agent = Some(self.node.spawn(&words).unwrap());
    }

    pub(crate) fn agent(&mut self) -> &mut Process {
        self.agent.as_mut().unwrap()
    }

    pub(crate) fn log(&self) -> String {
        self.agent.as_ref().map_or_else(String::new, Process::log)
    }

    /// A client command, with the agent's socket.
    pub(crate) fn ask(&self, words: &[&str]) -> Printed {
        let socket = self.text_path("agent.sock");
        let mut words = words.to_vec();
        words.extend(["--socket", &socket]);
        run(&words)
    }

    pub(crate) fn json(&self, words: &[&str]) -> Value {
        let mut words = words.to_vec();
        words.extend(["-o", "json"]);
        let printed = self.ask(&words);
        serde_json::from_str(&printed.stdout).unwrap_or_else(|error| panic!("{error}: {printed:?}"))
    }

    pub(crate) fn cilium(&self, words: &[&str]) -> Printed {
        let mut all = vec!["cilium-dbg"];
        all.extend(words);
        run_with(&all, &[("CILIUM_SOCK", &self.text_path("agent.sock"))])
    }

    /// Waits until the JSON of a command satisfies `good`.
    pub(crate) fn until(&self, what: &str, words: &[&str], good: impl Fn(&Value) -> bool) -> Value {
        until(LIMIT, what, || {
            let seen = self.json(words);
            if good(&seen) {
                Ok(seen)
            } else {
                Err(format!("{seen:#}\n{}", self.log()))
            }
        })
        .unwrap()
    }
}

/// A Service of type LoadBalancer, and what announces it.
pub(crate) fn service(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: web, labels: {{announce: host}}}}\n\
         spec: {{type: LoadBalancer, ports: [{{port: 80}}], selector: {{app: x}}}}\n"
    )
}

pub(crate) const POOL: &str = "\
apiVersion: cilium.io/v2
kind: CiliumLoadBalancerIPPool
metadata: {name: pool}
spec: {blocks: [{cidr: 192.0.2.0/24}]}
";

pub(crate) const NODE: &str = "\
apiVersion: v1
kind: Node
metadata: {name: node-a, labels: {bgp: \"on\"}}
status: {addresses: [{type: InternalIP, address: 10.9.0.1}]}
";

/// One instance, one peer at 10.9.0.2, and the advertisement of every Service labelled `announce: host`,
/// aggregated where it is labelled `announce: block`.
pub(crate) const BGP: &str = "\
apiVersion: cilium.io/v2
kind: CiliumBGPClusterConfig
metadata: {name: rack}
spec:
  nodeSelector: {matchLabels: {bgp: \"on\"}}
  bgpInstances:
    - name: main
      localASN: 65001
      peers: [{name: tor, peerASN: 65010, peerAddress: 10.9.0.2, peerConfigRef: {name: tor}}]
---
apiVersion: cilium.io/v2
kind: CiliumBGPPeerConfig
metadata: {name: tor}
spec:
  timers: {connectRetryTimeSeconds: 1, holdTimeSeconds: 9, keepAliveTimeSeconds: 3}
  gracefulRestart: {enabled: true, restartTimeSeconds: 60}
  families: [{afi: ipv4, safi: unicast, advertisements: {matchLabels: {advertise: bgp}}}]
---
apiVersion: cilium.io/v2
kind: CiliumBGPAdvertisement
metadata: {name: services, labels: {advertise: bgp}}
spec:
  advertisements:
    - advertisementType: Service
      service: {addresses: [LoadBalancerIP]}
      selector: {matchLabels: {announce: host}}
      attributes: {communities: {standard: [\"65000:99\"]}}
    - advertisementType: Service
      service: {addresses: [LoadBalancerIP], aggregationLengthIPv4: 28}
      selector: {matchLabels: {announce: block}}
";
