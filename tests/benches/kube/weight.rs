//! What processes cost: ours as the kernel says it, the API server as it counts itself.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use lab::kubernetes::ControlPlane;
use nix::unistd::{SysconfVar, sysconf};

/// What a process has used until now.
#[derive(Clone, Copy)]
pub(crate) struct Weight {
    /// In user mode and in the kernel.
    pub cpu: Duration,
    /// KiB.
    resident: u64,
    most: u64,
}

impl Weight {
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the process is gone")?;
        // The second field is a name in brackets, which may have anything in it; utime and stime are fields 14 and 15.
        let (_, fields) = stat.rsplit_once(')').context("no name in stat")?;
        let ticks: u64 = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<u64>().ok())
            .sum();
        let each = sysconf(SysconfVar::CLK_TCK)?
            .and_then(|ticks| u64::try_from(ticks).ok())
            .unwrap_or(100);
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next());
            number
                .and_then(|number| number.parse().ok())
                .with_context(|| format!("no {name} in status"))
        };
        Ok(Self {
            cpu: Duration::from_millis(ticks * 1000 / each),
            resident: kib("VmRSS:")?,
            most: kib("VmHWM:")?,
        })
    }

    /// KiB that it has more now than it had then.
    pub(crate) fn kib_over(&self, then: Self) -> u64 {
        self.resident.saturating_sub(then.resident)
    }

    pub(crate) fn resident(&self) -> String {
        mebibytes(self.resident)
    }

    /// The most it ever was.
    pub(crate) fn most(&self) -> String {
        mebibytes(self.most)
    }
}

fn mebibytes(kib: u64) -> String {
    format!("{} MB", kib.div_ceil(1024))
}

/// Requests that the API server has answered until now.
#[derive(Clone, Copy, Default)]
pub(crate) struct Requests {
    pub all: u64,
    /// POST, PUT, PATCH and DELETE of anything.
    pub writes: u64,
    pub status_writes_of_services: u64,
}

impl Requests {
    pub(crate) fn now(control_plane: &ControlPlane) -> Result<Self> {
        let mut requests = Self::default();
        for line in control_plane.metrics()?.lines() {
            let Some(counted) = line.strip_prefix("apiserver_request_total{") else {
                continue;
            };
            let (labels, count) = counted
                .rsplit_once("} ")
                .with_context(|| format!("no count: {line}"))?;
            // The page writes big counts as 1.2345e+06.
            let count = count.parse::<f64>()?.round() as u64;
            let has = |name: &str, value: &str| labels.contains(&format!("{name}=\"{value}\""));
            let writes = ["POST", "PUT", "PATCH", "DELETE", "APPLY"]
                .iter()
                .any(|verb| has("verb", verb));
            requests.all += count;
            if writes {
                requests.writes += count;
                if has("resource", "services") && has("subresource", "status") {
                    requests.status_writes_of_services += count;
                }
            }
        }
        Ok(requests)
    }
}
