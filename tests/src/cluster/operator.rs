//! The operator, as a process, at a real API server.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::kubernetes::ControlPlane;

use super::{Clock, LIMIT};
use crate::agent::program;

/// A running replica; dropping it kills it.
#[derive(Debug)]
pub struct Operator {
    child: Child,
    log: PathBuf,
    metrics: u16,
    _folder: tempfile::TempDir,
}

impl Operator {
    pub fn start(control_plane: &ControlPlane, options: &[&str]) -> Result<Self> {
        Self::of(&control_plane.kubeconfig(), options)
    }

    pub fn of(kubeconfig: &Path, options: &[&str]) -> Result<Self> {
        Self::by(None, kubeconfig, options)
    }

    /// One that reads this clock, or the machine's.
    pub fn by(clock: Option<&Clock>, kubeconfig: &Path, options: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let log = folder.path().join("log");
        // Somebody may take it in between; then the operator says so and the test fails by name.
        let metrics = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new("setpriv");
        if let Some(clock) = clock {
            clock.rule(&mut command);
        }
        let child = command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program()?)
            .args(["operator", "--kubeconfig"])
            .arg(kubeconfig)
            .args(["--metrics", &format!("127.0.0.1:{metrics}")])
            .args(["--leader-election-lease-duration", "8s"])
            .args(["--leader-election-renew-deadline", "6s"])
            .args(["--leader-election-retry-period", "1s"])
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log)?)
            .spawn()?;
        Ok(Self {
            child,
            log,
            metrics,
            _folder: folder,
        })
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// A restart that finds all as it left it.
    pub fn settled_without_a_write(&self) -> Result<()> {
        self.settled()?;
        let writes = self.metric("stentor_operator_writes_total")?;
        ensure!(writes == 0.0, "a restart wrote {writes} times: {}", self.log());
        Ok(())
    }

    /// The sum of a metric over its labels.
    pub fn metric(&self, name: &str) -> Result<f64> {
        let url = format!("http://127.0.0.1:{}/metrics", self.metrics);
        let output = Command::new("curl").args(["--silent", "--fail", &url]).output()?;
        ensure!(output.status.success(), "no metrics: {}", self.log());
        let page = String::from_utf8(output.stdout)?;
        let of =
            |line: &&str| line.starts_with(&format!("{name} ")) || line.starts_with(&format!("{name}{{"));
        let values = page
            .lines()
            .filter(of)
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        Ok(values.sum())
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// It leads, has planned, and has nothing left to write.
    pub fn settled(&self) -> Result<()> {
        self.settled_within(LIMIT)
    }

    pub fn settled_within(&self, limit: Duration) -> Result<()> {
        lab::until(limit, "the operator to have nothing left to do", || {
            let metric = |name: &str| self.metric(name).map_err(|error| format!("{error:#}"));
            let done = (
                metric("stentor_operator_plan_seconds_count")? > 0.0,
                metric("stentor_operator_writes_pending")?,
            );
            if done == (true, 0.0) {
                Ok(())
            } else {
                Err(format!("{done:?}"))
            }
        })
        .with_context(|| self.log())
    }

    /// As `kill -9`: nobody gives the Lease back.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    pub fn ends_well(&mut self) -> Result<()> {
        super::ends_well(&mut self.child, "the operator").with_context(|| self.log())
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
