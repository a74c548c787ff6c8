//! `cargo xtask lab`: topologies as namespaces of this machine, or as containers.
//!
//! ```text
//!   lab up ---> starts ---> lab serve (owns the namespaces, stays)
//!     |                        |
//!     | lines of progress <----+
//!     | "keep" ---------------->    from here on it outlives `up`
//!
//!   lab exec, test, graph:  find the nodes' pids in /run/stentor-lab/NAME.json
//!   lab down:               ends `lab serve`; the kernel does the rest, or containerlab
//! ```

pub(crate) mod kubernetes;
mod runner;
mod serve;
mod state;
mod view;

use std::collections::BTreeMap;
use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, Subcommand};
use lab::expect::{self, Expectations};
use lab::graph::Graph;
use lab::requests::Pods;
use lab::{Handle, Lab, Runner, Spec, faults, requests, spec};

use self::runner::Wanted;
use self::state::State;
use crate::setup::Goal;
use crate::{ebpf, setup, step, test};

/// Sessions come up in seconds; a busy machine may take longer. Nothing waits this long unless something is wrong.
const PATIENCE: Duration = Duration::from_mins(5);

#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Start a lab, wait for its sessions, show what came of it. The lab stays.
    Up {
        #[command(flatten)]
        start: Start,
        /// A real cluster on its nodes: kubelets, pods, and Stentor from its chart and image.
        #[arg(long, conflicts_with = "runner")]
        kubernetes: bool,
    },
    /// Run kubectl in a lab that is a real cluster: `lab kubectl NAME -- get nodes`.
    Kubectl {
        /// The lab.
        lab: String,
        #[arg(last = true)]
        words: Vec<String>,
    },
    /// Run a command in a node: `lab exec NAME NODE -- COMMAND`.
    Exec {
        /// The lab: a folder of `containerlab/`, or the name of a topology that is up.
        lab: String,
        /// A node by its name in the topology or in the cluster.
        node: String,
        /// A shell, if none is given.
        #[arg(last = true)]
        command: Vec<String>,
    },
    /// Check the topology's expectations; brings the lab up for as long as that takes if it is not.
    Test {
        #[command(flatten)]
        start: Start,
        /// As a real cluster, always one of its own: containers and servers of it are killed.
        #[arg(long, conflicts_with = "runner")]
        kubernetes: bool,
        /// Everything that a real cluster needs is built already, and what cannot be had is skipped.
        #[arg(long, hide = true, requires = "kubernetes")]
        built: bool,
    },
    /// Draw nodes, links, session states and prefixes as SVG.
    Graph {
        #[command(flatten)]
        which: Which,
        /// The drawing; `-` is standard output.
        #[arg(short, long, default_value = "lab.svg")]
        output: PathBuf,
    },
    /// End a lab and all that belongs to it.
    Down(Which),
    /// Own the namespaces of a lab until told to end; started by `up`.
    #[command(hide = true)]
    Serve {
        #[arg(long)]
        topo: PathBuf,
        #[arg(long)]
        manifests: PathBuf,
        #[arg(long)]
        agent: PathBuf,
        #[arg(long, value_parser = runner::parse)]
        runner: Runner,
        #[arg(long)]
        kubernetes: bool,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Start {
    #[command(flatten)]
    which: Which,
    /// What runs it; containerlab where that and a container engine are installed, unless said otherwise.
    #[arg(long, value_enum)]
    runner: Option<Wanted>,
}

#[derive(Args, Debug)]
pub(crate) struct Which {
    /// A folder of `containerlab/`, or the name of a topology that is up.
    #[arg(required_unless_present = "topo")]
    name: Option<String>,
    /// A topology file anywhere.
    #[arg(long, conflicts_with = "name")]
    topo: Option<PathBuf>,
    /// Its folder of manifests, unless they lie beside it.
    #[arg(long, requires = "topo")]
    manifests: Option<PathBuf>,
}

pub(crate) fn run(task: Task) -> Result<()> {
    match task {
        Task::Up { start, kubernetes } => {
            let nodes = if kubernetes {
                Nodes::Kubelets
            } else {
                Nodes::Agents
            };
            up(&start.which.spec()?, start.runner, nodes)
        }
        Task::Kubectl { lab, words } => {
            let state = running(&lab)?;
            kubernetes::kubectl(&Spec::read(&state.topology, None)?, &state, &words)
        }
        Task::Exec { lab, node, command } => exec(&lab, &node, &command),
        Task::Test {
            start,
            kubernetes: false,
            ..
        } => check(start.which.spec()?.1, start.runner),
        Task::Test { start, built, .. } => {
            if !built {
                kubernetes::build()?;
            }
            check_kubernetes(start.which.spec()?.1)
        }
        Task::Graph { which, output } => graph(&which.spec()?.1, &output),
        Task::Down(which) => down(&which.topology_name()?),
        Task::Serve {
            topo,
            manifests,
            agent,
            runner,
            kubernetes,
        } => {
            if kubernetes {
                serve::run_kubernetes(&topo, &manifests, &agent, runner)
            } else {
                serve::run(&topo, &manifests, &agent, runner)
            }
        }
    }
}

impl Which {
    /// The topology's file and all that was read with it.
    fn spec(&self) -> Result<(PathBuf, Spec)> {
        let file = match (&self.topo, &self.name) {
            (Some(topo), _) => topo.clone(),
            (None, Some(name)) => match State::read(name) {
                Ok(state) => state.topology,
                Err(_) => spec::find_topology(&folder(name))?,
            },
            (None, None) => bail!("no lab named"),
        };
        let read = Spec::read(&file, self.manifests.as_deref())?;
        // Topologies that are not ours to change keep their expectations with the lab's own tests.
        let ours = step::root()
            .join("lab/tests/expectations")
            .join(format!("{}.yaml", read.topology.name));
        let read = if read.expectations.is_none() && ours.exists() {
            read.expecting(&ours)?
        } else {
            read
        };
        Ok((file, read))
    }

    /// What the lab is called in the machine's list of labs.
    fn topology_name(&self) -> Result<String> {
        match &self.name {
            Some(name) if State::read(name).is_ok() => Ok(name.clone()),
            _ => Ok(self.spec()?.1.topology.name),
        }
    }
}

fn folder(name: &str) -> PathBuf {
    step::root().join("containerlab").join(name)
}

/// What `exec` and `down` are given may be the folder's name or the topology's.
fn running(name: &str) -> Result<State> {
    State::read(name).or_else(|error| match spec::find_topology(&folder(name)) {
        Ok(file) => State::read(&Spec::read(&file, None)?.topology.name),
        Err(_) => Err(error),
    })
}

/// What runs on the nodes of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nodes {
    /// Agents that read a folder, and what stands for pods.
    Agents,
    Kubelets,
}

fn up((file, spec): &(PathBuf, Spec), wanted: Option<Wanted>, nodes: Nodes) -> Result<()> {
    let name = &spec.topology.name;
    if State::read(name).is_ok() {
        bail!("lab {name} is up already; `cargo xtask lab down {name}` ends it");
    }
    let start = Instant::now();
    let (runner, agent) = match nodes {
        Nodes::Agents => (choose(wanted)?, build(spec)?),
        Nodes::Kubelets => (choose(Some(Wanted::Namespaces))?, kubernetes::build()?),
    };
    // One pipe for all it says, errors too: it must not hold the terminal, or the pipe, of `up` when that is over.
    let (from_server, to_up) = io::pipe()?;
    let mut server = Command::new(env::current_exe()?)
        .args(["lab", "serve", "--topo"])
        .arg(file.canonicalize()?)
        .arg("--manifests")
        .arg(
            spec.manifests
                .canonicalize()
                .with_context(|| format!("no folder {}", spec.manifests.display()))?,
        )
        .arg("--agent")
        .arg(&agent)
        .args(["--runner", runner::word(runner)])
        .args(match nodes {
            Nodes::Agents => None,
            Nodes::Kubelets => Some("--kubernetes"),
        })
        .stdin(Stdio::piped())
        .stdout(to_up.try_clone()?)
        .stderr(to_up)
        // Ctrl-C is for `up` alone: the server notices that its pipe is closed, and cleans up.
        .process_group(0)
        .spawn()?;
    let mut leash = server.stdin.take().context("the server has a pipe")?;
    let mut said = BufReader::new(from_server).lines();
    if hear(&mut said, &[serve::READY])?.is_none() {
        server.wait()?;
        bail!("lab {name} did not start");
    }
    let state = State::read(name)?;
    let mut came = wait(spec, &state.handles());
    if came.is_ok() && nodes == Nodes::Agents && spec.expectations.iter().any(|all| all.faults.is_some()) {
        writeln!(leash, "{}", serve::FAULTS)?;
        let word = hear(&mut said, &[serve::DONE, serve::FAILED])?;
        if word.as_deref() != Some(serve::DONE) {
            came = Err(anyhow!("clients noticed what they must not notice"));
        }
    }
    view::print(spec, &state)?;
    writeln!(leash, "{}", serve::KEEP)?;
    println!("lab: {name} is up after {}", step::seconds(start));
    println!(
        "lab: cargo xtask lab exec {name} NODE -- COMMAND; NODE is one of {}",
        state.names().join(" ")
    );
    println!("lab: cargo xtask lab test|graph|down {name}");
    came
}

/// Prints what the server says, until one of these words.
fn hear(said: &mut impl Iterator<Item = io::Result<String>>, words: &[&str]) -> Result<Option<String>> {
    for line in said {
        let line = line?;
        if words.contains(&line.as_str()) {
            return Ok(Some(line));
        }
        println!("lab: {line}");
    }
    Ok(None)
}

/// Gets what the lab needs. Kernel programs, which take a compiler of their own, only where nodes balance.
fn build(spec: &Spec) -> Result<PathBuf> {
    if spec.values.balances() {
        setup::run(Goal::Balance)?;
        ebpf::build()?;
    } else {
        setup::run(Goal::Lab)?;
    }
    test::build(false)?;
    Ok(test::target_folder()?.join("debug/stentor"))
}

/// What runs the lab; says so, and why.
fn choose(wanted: Option<Wanted>) -> Result<Runner> {
    if !setup::is_root() {
        bail!("a lab needs root: it makes namespaces and interfaces");
    }
    let (runner, why) = runner::choose(wanted, |program| step::find(program).is_some())?;
    println!("lab: runner: {why}");
    Ok(runner)
}

/// Until the expectations hold, where there are any; else until all sessions are up.
fn wait(spec: &Spec, nodes: &BTreeMap<String, Handle>) -> Result<()> {
    let expectations = match &spec.expectations {
        Some(expectations) => expectations.clone(),
        None => expect::all_sessions(spec, nodes)?,
    };
    let expectations = if kubernetes::is_real(nodes) {
        kubernetes::expected(spec, nodes, &expectations)?
    } else {
        expectations
    };
    expect::meet(nodes, &expectations, PATIENCE, &|line| println!("lab: {line}"))?;
    ask(nodes, &expectations).map(drop)
}

/// As the clients of the topology do; returns how many requests that were.
fn ask(nodes: &BTreeMap<String, Handle>, expectations: &Expectations) -> Result<usize> {
    let say = |line: &str| println!("lab: {line}");
    if kubernetes::is_real(nodes) {
        kubernetes::ask(nodes, expectations, &say)?;
        return Ok(expectations.requests.len());
    }
    let faults = requests::ask_all(nodes, &expectations.requests, Pods::Echo, &say)?;
    if !faults.is_empty() {
        bail!("not answered as expected:\n{}", faults.join("\n"));
    }
    Ok(expectations.requests.len())
}

fn exec(lab: &str, node: &str, command: &[String]) -> Result<()> {
    let state = running(lab)?;
    let handles = state.handles();
    let names = || state.names().join(" ");
    let handle = handles
        .get(node)
        .with_context(|| format!("no node {node}; there are: {}", names()))?;
    let shell = ["bash".to_owned()];
    let words = if command.is_empty() { &shell } else { command };
    // The agent's folder comes first, so that `stentor bgp peers` works as on a node.
    let path = format!(
        "PATH={}:{}",
        state.agent_folder().display(),
        env::var("PATH").unwrap_or_default()
    );
    let status = handle
        .command("env")
        .arg(path)
        .args(words)
        .stdin(Stdio::inherit())
        .status()?;
    if status.success() {
        return Ok(());
    }
    // As a shell would say it.
    std::process::exit(
        status
            .code()
            .unwrap_or_else(|| 128 + status.signal().unwrap_or_default()),
    )
}

fn check(spec: Spec, wanted: Option<Wanted>) -> Result<()> {
    let name = spec.topology.name.clone();
    let Some(expectations) = spec.expectations.clone() else {
        bail!("lab {name} has no expectations: no expect.yaml beside its topology");
    };
    let say = |line: &str| println!("lab: {line}");
    let mut own = None;
    let nodes = if let Ok(state) = State::read(&name) {
        state.handles()
    } else {
        let runner = choose(wanted)?;
        let agent = build(&spec)?;
        let lab = Lab::up(spec, runner, &agent, &say)?;
        let nodes = lab.handles();
        own = Some((lab, agent));
        nodes
    };
    let met = expect::meet(&nodes, &expectations, PATIENCE, &say)
        .map_err(|error| anyhow!("lab {name}: {error}"))?
        .met;
    let asked = ask(&nodes, &expectations).with_context(|| format!("lab {name}"))?;
    let mut passed = met + asked;
    match (&expectations.faults, &mut own) {
        (Some(faults), Some((lab, agent))) => {
            let wrong = faults::run(lab, faults, &expectations, agent, PATIENCE, &say)?;
            if !wrong.is_empty() {
                bail!(
                    "lab {name}: clients noticed what they must not notice:\n{}",
                    wrong.join("\n")
                );
            }
            passed += faults.kills.len();
        }
        (Some(_), None) => say(
            "its nodes are not killed: others may be at it; `lab up` did that, and `lab test` does when it is down",
        ),
        (None, _) => {}
    }
    println!("lab {name}: {passed} passed, 0 failed, 0 skipped");
    Ok(())
}

fn check_kubernetes(spec: Spec) -> Result<()> {
    let name = spec.topology.name.clone();
    let passed = kubernetes::check(spec, &|line| println!("lab: {line}"))?;
    println!("lab {name}: {passed} passed, 0 failed, 0 skipped");
    Ok(())
}

fn graph(spec: &Spec, output: &Path) -> Result<()> {
    let mut graph = Graph::of(spec, &lab::running::pods(spec)?);
    match State::read(&spec.topology.name) {
        Ok(state) => graph.observe(spec, &state.handles())?,
        Err(_) => eprintln!(
            "lab: {} is not up; drawn without states and addresses",
            spec.topology.name
        ),
    }
    let svg = graph.to_svg();
    if output == Path::new("-") {
        print!("{svg}");
    } else {
        std::fs::write(output, svg).with_context(|| format!("write {}", output.display()))?;
        println!("lab: drawn to {}", output.display());
    }
    Ok(())
}

fn down(name: &str) -> Result<()> {
    let state = running(name)?;
    state.end()?;
    println!("lab: {name} is down");
    Ok(())
}
