//! The agent itself, as a process, with an API server instead of a folder.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use lab::kubernetes::ControlPlane;
use serde_json::Value;
use stentor_tests::agent::program;

use crate::api::{Api, LIMIT, documents};

/// A running agent; dropping it kills it.
struct Agent {
    child: Child,
    program: PathBuf,
    folder: tempfile::TempDir,
}

impl Agent {
    fn start(kubeconfig: &Path) -> Result<Self> {
        let program = program()?;
        let folder = tempfile::tempdir()?;
        let at = |name: &str| folder.path().join(name);
        let log = std::fs::File::create(at("log"))?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(&program)
            .args(["agent", "--kubernetes", "--node", "n1", "--kubeconfig"])
            .arg(kubeconfig)
            .arg("--state")
            .arg(at("state"))
            .arg("--socket")
            .arg(at("socket"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        Ok(Self {
            child,
            program,
            folder,
        })
    }

    fn ask(&self, words: &[&str]) -> Result<Value> {
        let output = Command::new(&self.program)
            .args(words)
            .args(["-o", "json", "--socket"])
            .arg(self.folder.path().join("socket"))
            .output()?;
        serde_json::from_slice(&output.stdout)
            .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Asks until the answer is as wished.
    fn until(&self, what: &str, words: &[&str], good: impl Fn(&Value) -> bool) -> Result<Value> {
        let asked = lab::until(LIMIT, what, || match self.ask(words) {
            Ok(answer) if good(&answer) => Ok(answer),
            Ok(answer) => Err(answer.to_string()),
            Err(error) => Err(format!("{error:#}")),
        });
        asked.with_context(|| std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default())
    }

    fn ends_well(&mut self) -> Result<()> {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id())?);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
        let ended = lab::until(LIMIT, "the agent to end", || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err("it runs".to_owned()),
            Err(error) => Err(error.to_string()),
        })?;
        ensure!(ended.success(), "the agent ended with {ended}");
        Ok(())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Addresses and routes come from the API server, and stay while it is away.
pub(crate) fn outlives_the_server(control_plane: &mut ControlPlane, api: &Api) -> Result<()> {
    api.block_on(async {
        for document in documents("world.yaml")? {
            api.apply(&document).await?;
        }
        anyhow::Ok(())
    })?;
    let mut agent = Agent::start(&control_plane.kubeconfig())?;
    let routes = ["bgp", "routes", "available", "ipv4"];
    // Pod prefix, two LoadBalancer addresses, two ClusterIPs, an external one.
    let before = prefixes(&agent.until("six routes", &routes, |answer| prefixes(answer).len() == 6)?);
    control_plane.kill_api_server();
    agent.until(
        "the agent to say that the server is away",
        &["status"],
        |status| status.to_string().contains("cluster-away"),
    )?;
    let now = prefixes(&agent.ask(&routes)?);
    ensure!(now == before, "{before:?} became {now:?}");
    control_plane.start_api_server()?;
    agent.until(
        "the agent to say that the server is back",
        &["status"],
        |status| !status.to_string().contains("cluster-away"),
    )?;
    let now = prefixes(&agent.ask(&routes)?);
    ensure!(now == before, "{before:?} became {now:?}");
    agent.ends_well()
}

/// Of routes; their age changes.
fn prefixes(answer: &Value) -> Vec<String> {
    let routes = answer.as_array().map(Vec::as_slice).unwrap_or_default();
    routes.iter().map(|route| route["prefix"].to_string()).collect()
}
