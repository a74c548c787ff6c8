//! The agent itself, as a process, with an API server instead of a folder.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{Clock, LIMIT};
use crate::agent::program;

/// A running agent; dropping it kills it.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    program: PathBuf,
    folder: tempfile::TempDir,
}

impl Agent {
    pub fn start(kubeconfig: &Path) -> Result<Self> {
        Self::of(kubeconfig, "n1", &[])
    }

    pub fn of(kubeconfig: &Path, node: &str, options: &[&str]) -> Result<Self> {
        Self::by(None, kubeconfig, node, options)
    }

    /// One that reads this clock, or the machine's.
    pub fn by(clock: Option<&Clock>, kubeconfig: &Path, node: &str, options: &[&str]) -> Result<Self> {
        let program = program()?;
        let folder = tempfile::tempdir()?;
        let at = |name: &str| folder.path().join(name);
        let log = std::fs::File::create(at("log"))?;
        let mut command = Command::new("setpriv");
        if let Some(clock) = clock {
            clock.rule(&mut command);
        }
        let child = command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(&program)
            .args(["agent", "--kubernetes", "--node", node, "--kubeconfig"])
            .arg(kubeconfig)
            .args(options)
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

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn ask(&self, words: &[&str]) -> Result<Value> {
        let output = Command::new(&self.program)
            .args(words)
            .args(["-o", "json", "--socket"])
            .arg(self.folder.path().join("socket"))
            .output()?;
        serde_json::from_slice(&output.stdout)
            .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Asks until the answer is as wished.
    pub fn until(&self, what: &str, words: &[&str], good: impl Fn(&Value) -> bool) -> Result<Value> {
        let asked = lab::until(LIMIT, what, || match self.ask(words) {
            Ok(answer) if good(&answer) => Ok(answer),
            Ok(answer) => Err(answer.to_string()),
            Err(error) => Err(format!("{error:#}")),
        });
        asked.with_context(|| self.log())
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    pub fn ends_well(&mut self) -> Result<()> {
        super::ends_well(&mut self.child, "the agent").with_context(|| self.log())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
