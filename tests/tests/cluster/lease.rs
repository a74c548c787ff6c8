//! Who holds a Lease, at a real API server: candidates are processes, and are killed as processes are.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use kube::api::DeleteParams;
use l2announce::Timing;
use lab::kubernetes::ControlPlane;
use nix::time::{ClockId, clock_gettime};
use stentor::shell::lease::{Place, Standing, start};
use stentor::source::kube::Cluster;
use stentor_tests::cluster::{Api, LIMIT};
use tokio::io::AsyncReadExt as _;

/// Makes this program a candidate: its kubeconfig and its name.
const CANDIDATE: &str = "STENTOR_TEST_CANDIDATE";
const NAMESPACE: &str = "default";
const NAME: &str = "stentor-test";

fn timing() -> Result<Timing> {
    let (lease, renew) = (Duration::from_secs(4), Duration::from_millis(2500));
    Ok(Timing::new(lease, renew, Duration::from_millis(500))?)
}

/// If this program was started as a candidate, it is one, until its input ends.
pub(crate) fn candidate() -> Option<Result<()>> {
    let given = std::env::var(CANDIDATE).ok()?;
    Some(run_candidate(&given))
}

/// Prints a line per news: when it is, and until when it acts (nothing: it does not), in nanoseconds of the clock that
/// all processes share.
fn run_candidate(given: &str) -> Result<()> {
    let (kubeconfig, me) = given.rsplit_once(':').context("KUBECONFIG:NAME")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let cluster = Cluster::find(Some(Path::new(kubeconfig))).await?;
        let place = Place {
            namespace: NAMESPACE.to_owned(),
            name: NAME.to_owned(),
        };
        let candidacy = start(cluster, place, me, timing()?, u64::from(std::process::id()))?;
        let mut standing = candidacy.standing();
        let mut input = tokio::io::stdin();
        let mut octet = [0];
        loop {
            tokio::select! {
                changed = standing.changed() => changed?,
                _ = input.read(&mut octet) => break,
            }
            let now = monotonic()?;
            match standing.borrow_and_update().clone() {
                Standing::Candidate { .. } => println!("{now}"),
                Standing::Holder { until } => {
                    let left = until.saturating_duration_since(Instant::now()).as_nanos();
                    println!("{now} {}", now + left);
                }
            }
        }
        // It acts no more from here on.
        println!("{}", monotonic()?);
        candidacy.resign().await;
        Ok(())
    })
}

fn monotonic() -> Result<u128> {
    Ok(Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?).as_nanos())
}

/// A process that wants the Lease.
struct Candidate {
    name: &'static str,
    child: Child,
    /// Closing it asks the process to resign.
    input: Option<ChildStdin>,
    log: PathBuf,
}

/// From when until when a process acted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reign {
    name: &'static str,
    from: u128,
    until: u128,
}

impl Candidate {
    fn start(name: &'static str, kubeconfig: &Path, folder: &Path) -> Result<Self> {
        let log = folder.join(name);
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(std::env::current_exe()?)
            .env(CANDIDATE, format!("{}:{name}", kubeconfig.display()))
            .stdin(Stdio::piped())
            .stdout(File::create(&log)?)
            .spawn()?;
        let input = child.stdin.take();
        Ok(Self {
            name,
            child,
            input,
            log,
        })
    }

    fn reigns(&self) -> Result<Vec<Reign>> {
        let text = std::fs::read_to_string(&self.log)?;
        let mut reigns: Vec<Reign> = Vec::new();
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        for line in text[..whole].lines() {
            let mut numbers = line.split(' ').map(str::parse::<u128>);
            let now = numbers.next().context("a line begins with the time")??;
            let running = reigns.last_mut().filter(|reign| now < reign.until);
            match (numbers.next().transpose()?, running) {
                (Some(until), Some(running)) => running.until = until,
                (Some(until), None) => reigns.push(Reign {
                    name: self.name,
                    from: now,
                    until,
                }),
                (None, Some(running)) => running.until = now,
                (None, None) => {}
            }
        }
        Ok(reigns)
    }

    fn acts(&self) -> Result<bool> {
        let now = monotonic()?;
        Ok(self.reigns()?.last().is_some_and(|reign| now < reign.until))
    }

    fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    fn resign(&mut self) -> Result<()> {
        self.input = None;
        let ended = lab::until(LIMIT, "a candidate to resign", || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err("it runs".to_owned()),
            Err(error) => Err(error.to_string()),
        })?;
        ensure!(ended.success(), "{} ended with {ended}", self.name);
        Ok(())
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Killed, cut off and resigned: whoever comes next comes after the one before, and somebody comes.
pub(crate) fn one_holder_at_a_time(control_plane: &mut ControlPlane, api: &Api) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let kubeconfig = control_plane.kubeconfig();
    let start = |name| Candidate::start(name, &kubeconfig, folder.path());
    let mut past = Vec::new();

    let mut all = vec![start("a")?, start("b")?];
    let first = acting(&all)?;
    all[first].kill()?;
    let second = acting_other_than(&all, first)?;
    past.extend(all.remove(first).reigns()?);
    ensure!(all.len() == 1 && second != first, "the one that lives acts");

    all.push(start("c")?);
    control_plane.kill_api_server();
    lab::until(LIMIT, "the holder to stop without an API server", || {
        match all[0].acts() {
            Ok(false) => Ok(()),
            Ok(true) => Err("it acts".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    })?;
    control_plane.start_api_server()?;
    let third = acting(&all)?;

    all[third].resign()?;
    past.extend(all.remove(third).reigns()?);
    acting(&all)?;
    let last = all[0].name;
    ensure!(
        holder(api)?.as_deref() == Some(last),
        "the Lease says who holds it"
    );
    all[0].resign()?;
    past.extend(all[0].reigns()?);
    ensure!(holder(api)?.is_none(), "the last one released it");

    past.sort_by_key(|reign| reign.from);
    ensure!(past.len() >= 4, "{past:#?}");
    for (before, after) in past.iter().zip(past.iter().skip(1)) {
        ensure!(before.until <= after.from, "{before:?} overlaps {after:?}");
    }
    api.block_on(async {
        let leases = api.leases(NAMESPACE);
        leases.delete(NAME, &DeleteParams::default()).await?;
        Ok(())
    })
}

fn acting(all: &[Candidate]) -> Result<usize> {
    acting_other_than(all, usize::MAX)
}

fn acting_other_than(all: &[Candidate], not: usize) -> Result<usize> {
    let found = lab::until(LIMIT, "a candidate to act", || {
        let of = |(index, candidate): (usize, &Candidate)| (index, candidate.acts());
        for (index, acts) in all.iter().enumerate().map(of).filter(|(index, _)| *index != not) {
            match acts {
                Ok(true) => return Ok(index),
                Ok(false) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        Err("nobody acts".to_owned())
    });
    Ok(found?)
}

fn holder(api: &Api) -> Result<Option<String>> {
    api.block_on(async {
        let lease = api.leases(NAMESPACE).get(NAME).await?;
        Ok(lease.spec.and_then(|spec| spec.holder_identity))
    })
}
