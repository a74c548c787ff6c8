//! What a big cluster costs: `cargo xtask bench kube`.
//!
//! A real API server with its etcd, our operator and agent as processes, and FRR in a node of its own; all of it in a
//! network namespace of this process. Figures go to standard output as they come, each with its goal if it has one.
//!
//! ```text
//!   agents     many sources of agents in this process, each with its own client and cache, at a small cluster
//!   addresses  10,000 Services from nothing to their addresses; then a restart of the operator
//!   routes     an agent from nothing to all routes at FRR
//!   one more   created -> address in the status -> UPDATE on FRR's wire, a Service each second
//! ```
//!
//! `STENTOR_BENCH_SERVICES` and `STENTOR_BENCH_AGENTS` make it smaller or bigger; `cargo xtask bench kube addresses` is that part
//! alone.

mod agents;
mod one_more;
mod population;
mod weight;
mod wire;

use std::fmt::Display;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lab::kubernetes::{Assets, ControlPlane};
use nix::sched::{CloneFlags, unshare};
use stentor_tests::cluster::{Agent, Api, Operator};

use crate::population::Population;
use crate::weight::{Requests, Weight};
use crate::wire::Wire;

/// Services that are made one after the other.
const MORE: u32 = 200;
/// Endpoints of a Service.
const ENDPOINTS: u32 = 5;
/// How long anything may take that must happen.
const LIMIT: Duration = Duration::from_mins(10);

fn main() -> ExitCode {
    // It takes minutes and a machine's memory.
    if !std::env::args().any(|word| word == "kube") {
        println!("kube: skipped; `cargo xtask bench kube` runs it");
        return ExitCode::SUCCESS;
    }
    let run = match std::env::args().any(|word| word == "addresses") {
        true => run_addresses,
        false => run,
    };
    match begin().and_then(|begun| begun.map_or(Ok(()), |(control_plane, api)| run(&control_plane, &api))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// An empty cluster; `None`: its programs are not here.
fn begin() -> Result<Option<(ControlPlane, Api)>> {
    let assets = match Assets::find() {
        Ok(assets) => assets,
        Err(why) => {
            println!("skipped: {why}");
            return Ok(None);
        }
    };
    // Before any thread is there: they would stay behind.
    unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace (are you root?)")?;
    let up = std::process::Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status()?;
    ensure!(up.success(), "the loopback device does not come up");
    let control_plane = ControlPlane::start(&assets)?;
    let api = Api::new(&control_plane.kubeconfig())?;
    api.block_on(population::prepare(&api))?;
    Ok(Some((control_plane, api)))
}

fn run_addresses(control_plane: &ControlPlane, api: &Api) -> Result<()> {
    let services = size("STENTOR_BENCH_SERVICES", 10_000)?;
    Population {
        from: 0,
        to: services,
    }
    .create(api)?;
    addresses(control_plane, api, services)?.ends_well()
}

fn run(control_plane: &ControlPlane, api: &Api) -> Result<()> {
    let services = size("STENTOR_BENCH_SERVICES", 10_000)?;
    let agents = size("STENTOR_BENCH_AGENTS", 1000)?;
    let wire = Wire::new()?;
    let few = Population {
        from: 0,
        to: services.min(100),
    };
    few.create(api)?;
    agents::run(control_plane, api, agents)?;
    Population {
        from: few.to,
        to: services,
    }
    .create(api)?;
    let mut operator = addresses(control_plane, api, services)?;
    let agent = routes(control_plane, api, &wire, services)?;
    one_more::run(api, &wire, services, MORE)?;
    println!("afterwards");
    tell(
        "  operator, resident set",
        Weight::of(operator.pid())?.resident(),
        "<= 150 MB",
    );
    tell(
        "  agent, resident set",
        Weight::of(agent.pid())?.resident(),
        "<= 80 MB",
    );
    operator.ends_well()
}

/// From no operator at all to an address for every Service, and then once more with nothing to do.
fn addresses(control_plane: &ControlPlane, api: &Api, services: u32) -> Result<Operator> {
    println!(
        "addresses: {services} Services, {} endpoints, 3 pools",
        services * ENDPOINTS
    );
    let before = Requests::now(control_plane)?;
    let start = Instant::now();
    let mut operator = Operator::start(control_plane, &[])?;
    operator.settled_within(LIMIT)?;
    tell(
        "  cold start to all allocated",
        seconds(start.elapsed()),
        "<= 60 s",
    );
    let weight = Weight::of(operator.pid())?;
    tell("  operator, CPU", seconds(weight.cpu), "<= 5 s");
    tell("  operator, resident set, most", weight.most(), "<= 150 MB");
    tell(
        "    of it plans",
        format!(
            "{:.2} s in {}",
            operator.metric("stentor_operator_plan_seconds_sum")?,
            operator.metric("stentor_operator_plan_seconds_count")?
        ),
        "",
    );
    let after = Requests::now(control_plane)?;
    let status = after.status_writes_of_services - before.status_writes_of_services;
    tell("  status writes of Services", status, &services.to_string());
    tell("  requests that write, in all", after.writes - before.writes, "");
    ensure!(
        population::allocated(api)? == services as usize,
        "a Service has no address"
    );
    operator.ends_well()?;

    let before = Requests::now(control_plane)?;
    let start = Instant::now();
    let operator = Operator::start(control_plane, &[])?;
    operator.settled_within(LIMIT)?;
    tell("  restart to nothing left to do", seconds(start.elapsed()), "");
    tell("  operator, CPU", seconds(Weight::of(operator.pid())?.cpu), "");
    tell(
        "  its writes, Leases and Events aside",
        operator.metric("stentor_operator_writes_total")?.abs(),
        "0",
    );
    let after = Requests::now(control_plane)?;
    let status = after.status_writes_of_services - before.status_writes_of_services;
    tell("  status writes of Services", status, "0");
    Ok(operator)
}

/// From no agent at all to every route at FRR.
fn routes(control_plane: &ControlPlane, api: &Api, wire: &Wire, services: u32) -> Result<Agent> {
    println!("routes: an agent without a datapath, one session");
    api.block_on(wire.configure(api))?;
    let start = Instant::now();
    let agent = Agent::of(&control_plane.kubeconfig(), wire::NODE, &[])?;
    wire.has(services as usize, LIMIT).with_context(|| agent.log())?;
    tell("  cold start to all routes at FRR", seconds(start.elapsed()), "");
    let weight = Weight::of(agent.pid())?;
    tell("  agent, CPU", seconds(weight.cpu), "");
    tell("  agent, resident set, most", weight.most(), "");
    tell("  agent, resident set", weight.resident(), "<= 80 MB");
    Ok(agent)
}

/// One figure, and what it should be.
fn tell(what: &str, figure: impl Display, goal: &str) {
    let goal = if goal.is_empty() {
        String::new()
    } else {
        format!("   goal {goal}")
    };
    println!("{what:44} {figure:>12}{goal}");
}

/// Median, 99th percentile and most of times in seconds.
fn spread(mut times: Vec<f64>) -> String {
    times.sort_by(f64::total_cmp);
    let at = |percent: usize| {
        let index = (times.len() * percent / 100).min(times.len().saturating_sub(1));
        times.get(index).copied().unwrap_or_default() * 1e3
    };
    format!("{:.1} / {:.1} / {:.1} ms", at(50), at(99), at(100))
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

fn size(name: &str, usual: u32) -> Result<u32> {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .with_context(|| format!("{name}={text} is no number")),
        Err(_) => Ok(usual),
    }
}
