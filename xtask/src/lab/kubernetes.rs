//! `cargo xtask lab up --kubernetes`: the nodes of the topology are a real cluster's, and Stentor comes to it as to any
//! other: by its chart, in its image.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use lab::expect::{self, Expectations};
use lab::kind::Role;
use lab::kubernetes::{Assets, CGROUP, KUBECONFIG, Programs};
use lab::requests::{self, Pods};
use lab::{Handle, Lab, Spec, faults};

use super::state::State;
use crate::image::{self, Build, Start};
use crate::setup::{self, Goal, go, nodes};
use crate::{manifests, step, test};

/// What pods of the topologies run.
const AGNHOST: &str = "registry.k8s.io/e2e-test-images/agnhost:2.53";
const PAUSE: &str = "localhost/pause:1";
const CURL: &str = "docker.io/curlimages/curl:latest";
const IMAGES: [&str; 4] = ["pause", "agnhost", "curl", "stentor"];

/// Where programs of nodes lie, made or not.
pub(crate) fn programs() -> Option<PathBuf> {
    go::cache("nodes", &[nodes::CLUSTER, nodes::NODES])
}

/// Gets all that is needed, and returns the program that is in the image.
pub(super) fn build() -> Result<PathBuf> {
    setup::run(Goal::Kubernetes)?;
    let program = image::program(Build::Quick)?;
    make_images(&program)?;
    Ok(program)
}

/// Makes the images that nodes have, with this program in ours.
pub(crate) fn make_images(stentor: &Path) -> Result<()> {
    let programs = installed()?;
    let folder = images()?;
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    image::archive(stentor, &folder.join("stentor.tar"))?;
    let pause = folder.join("pause");
    let source = step::root().join("lab/kubernetes/pause.c");
    step::run(
        Command::new("cc")
            .args(["-static", "-Os", "-o"])
            .arg(&pause)
            .arg(source),
    )?;
    save("pause", PAUSE, "/pause", &[(&pause, "pause")])?;
    let agnhost = programs.join("agnhost");
    save("agnhost", AGNHOST, "/agnhost", &[(&agnhost, "agnhost")])?;
    // What such pods are told to run sleeps for ever.
    let curl = step::find("curl").context("there is no curl")?;
    save(
        "curl",
        CURL,
        "curl",
        &[(&curl, "usr/bin/curl"), (&pause, "usr/bin/sleep")],
    )
}

/// Writes an image of these programs.
fn save(name: &str, tag: &str, entry: &'static str, programs: &[(&Path, &str)]) -> Result<()> {
    let folder = images()?;
    let root = folder.join(format!("{name}.root"));
    fs::create_dir_all(root.join("tmp"))?;
    for (program, place) in programs {
        image::install(&root, program, place)?;
    }
    let archive = folder.join(format!("{name}.tar"));
    image::save(&root, &[tag], Start::of(entry), &archive)
}

/// The folder of programs, where all is there that a cluster needs.
pub(crate) fn installed() -> Result<PathBuf> {
    Assets::find()?;
    manifests::helm().context("there is no helm; `cargo xtask setup kubernetes` makes it")?;
    programs()
        .filter(|folder| folder.is_dir())
        .context("there is no kubelet; `cargo xtask setup kubernetes` makes it")
}

fn images() -> Result<PathBuf> {
    Ok(test::target_folder()?.join("image/lab"))
}

/// Brings the cluster up, Stentor into it, and applies the manifests of the topology.
pub(super) fn up(spec: Spec, say: &dyn Fn(&str)) -> Result<Lab> {
    let lab = start(spec, &[], say)?;
    install(&lab, say)?;
    apply(&lab, say)?;
    Ok(lab)
}

/// Brings the cluster up, with nothing in it. Its nodes have these images beside those of every lab.
pub(crate) fn start(spec: Spec, more: &[PathBuf], say: &dyn Fn(&str)) -> Result<Lab> {
    let programs = Programs {
        assets: Assets::find()?,
        folder: installed()?,
    };
    let folder = images()?;
    let mut images = IMAGES.map(|name| folder.join(format!("{name}.tar"))).to_vec();
    images.extend_from_slice(more);
    Ok(Lab::up_kubernetes(spec, &programs, &images, say)?)
}

/// Stentor comes by its chart.
pub(crate) fn install(lab: &Lab, say: &dyn Fn(&str)) -> Result<()> {
    let values = lab.spec().folder.join("values.yaml");
    let cluster = lab.kubernetes().context("the lab has a cluster")?;
    let (address, port) = cluster.api_server();
    let helm = manifests::helm().context("there is no helm")?;
    let set = format!(
        "k8sServiceHost={address},k8sServicePort={port},image.pullPolicy=Never,cgroup.hostRoot={CGROUP},\
         daemon.statePath=/run/stentor-state"
    );
    let chart = step::root().join(manifests::CHART);
    let (helm, chart, values) = (
        shown(&helm),
        shown(&chart),
        values.exists().then(|| shown(&values)),
    );
    let mut words = vec![
        helm.as_str(),
        "--kubeconfig",
        KUBECONFIG,
        "install",
        "stentor",
        &chart,
    ];
    words.extend([
        "--namespace",
        "kube-system",
        "--set",
        &set,
        "--wait",
        "--timeout",
        "300s",
    ]);
    if let Some(values) = &values {
        words.extend(["--values", values]);
    }
    lab.node(&control_plane(lab.spec())?)?.exec(&words)?;
    say("helm: stentor is installed");
    Ok(())
}

/// Applies the manifests of the topology.
pub(crate) fn apply(lab: &Lab, say: &dyn Fn(&str)) -> Result<()> {
    let file = "/run/kubernetes/manifests.yaml";
    let node = lab.node(&control_plane(lab.spec())?)?;
    fs::write(node.path(file), lab.manifests()?)?;
    let cluster = lab.kubernetes().context("the lab has a cluster")?;
    // The operator has installed the definitions of most of these; of all, in a moment.
    lab::until(super::PATIENCE, "the manifests to be taken", || {
        cluster
            .kubectl(&["apply", "--filename", file])
            .map_err(|error| error.to_string())
    })?;
    say("kubectl: the manifests of the topology are applied");
    Ok(())
}

/// `lab test --kubernetes`: a lab of its own, as what is killed in it must be nobody else's. Returns how much it tried.
pub(super) fn check(spec: Spec, say: &dyn Fn(&str)) -> Result<usize> {
    let name = spec.topology.name.clone();
    let mut lab = up(spec.clone(), say)?;
    let judged = judge(&mut lab, &spec, say);
    if judged.is_err() {
        tell_logs(&lab, say);
    }
    judged.with_context(|| format!("lab {name}"))
}

fn judge(lab: &mut Lab, spec: &Spec, say: &dyn Fn(&str)) -> Result<usize> {
    let nodes = lab.handles();
    let written = spec
        .expectations
        .clone()
        .context("nothing is expected: no expect.yaml")?;
    let mut expectations = expected(spec, &nodes, &written)?;
    let mut passed = expect::meet(&nodes, &expectations, super::PATIENCE, say)?.met;
    ask(&nodes, &expectations, say)?;
    passed += expectations.requests.len();
    if let Some(faults) = expectations.faults.take() {
        let wrong = faults::run_kubernetes(lab, &faults, &expectations, super::PATIENCE, say)?;
        if !wrong.is_empty() {
            bail!("noticed what nobody must notice:\n{}", wrong.join("\n"));
        }
        passed += faults::KILLS;
    }
    Ok(passed)
}

/// Until all is answered as expected: an address is announced before its pods are ready, and refuses until then.
pub(super) fn ask(
    nodes: &BTreeMap<String, Handle>,
    expectations: &Expectations,
    say: &dyn Fn(&str),
) -> Result<()> {
    lab::until(super::PATIENCE, "all pods to answer as expected", || {
        let asked = requests::ask_all(nodes, &expectations.requests, Pods::Agnhost, say);
        let faults = asked.map_err(|error| error.to_string())?;
        match faults.is_empty() {
            true => Ok(()),
            false => Err(faults.join("\n")),
        }
    })?;
    Ok(())
}

/// What is expected of this very cluster.
pub(super) fn expected(
    spec: &Spec,
    nodes: &BTreeMap<String, Handle>,
    expectations: &Expectations,
) -> Result<Expectations> {
    let node = nodes
        .get(&control_plane(spec)?)
        .context("the control plane is not up")?;
    let kubectl = installed()?.join("kubectl");
    Ok(lab::running::expected(spec, expectations, node, &kubectl)?)
}

/// What a person would ask for first, into a file.
pub(crate) fn write_logs(lab: &Lab, file: &Path) -> Result<()> {
    let lines = RefCell::new(String::new());
    tell_logs(lab, &|line| {
        lines.borrow_mut().push_str(line);
        lines.borrow_mut().push('\n');
    });
    fs::write(file, lines.take()).with_context(|| format!("write {}", file.display()))
}

/// The same, line by line.
fn tell_logs(lab: &Lab, say: &dyn Fn(&str)) {
    let Some(cluster) = lab.kubernetes() else { return };
    let questions: [&[&str]; 4] = [
        &["get", "nodes,pods,services", "-A", "-o", "wide"],
        &["get", "events", "-A", "--sort-by=.lastTimestamp"],
        &[
            "logs",
            "-n",
            "kube-system",
            "-l",
            "app.kubernetes.io/component=agent",
            "--prefix",
            "--tail=60",
        ],
        &[
            "logs",
            "-n",
            "kube-system",
            "-l",
            "app.kubernetes.io/component=operator",
            "--prefix",
            "--tail=30",
        ],
    ];
    for words in questions {
        say(&format!("--- kubectl {}", words.join(" ")));
        let text = cluster.kubectl(words).unwrap_or_else(|error| error.to_string());
        text.lines().for_each(say);
    }
}

/// Whether a lab that is up is a real cluster.
pub(super) fn is_real(nodes: &BTreeMap<String, Handle>) -> bool {
    nodes.values().any(|node| node.path(KUBECONFIG).exists())
}

/// `lab kubectl NAME -- WORDS`
pub(super) fn kubectl(spec: &Spec, state: &State, words: &[String]) -> Result<()> {
    let handles = state.handles();
    let node = handles
        .get(&control_plane(spec)?)
        .context("the control plane is not up")?;
    let program = installed()?.join("kubectl");
    // Files that are named are those of here.
    let status = node
        .command("sh")
        .args(["-c", "cd \"$1\"; shift; exec \"$@\"", "sh"])
        .arg(std::env::current_dir()?)
        .arg(program)
        .args(["--kubeconfig", KUBECONFIG])
        .args(words)
        .stdin(Stdio::inherit())
        .status()?;
    if status.success() {
        return Ok(());
    }
    std::process::exit(status.code().unwrap_or(1))
}

/// The name of the node that the control plane is on.
pub(crate) fn control_plane(spec: &Spec) -> Result<String> {
    let nodes = spec.cluster.iter().flat_map(|cluster| &cluster.nodes);
    let mut names = nodes.filter(|node| node.role == Role::ControlPlane);
    Ok(names
        .next()
        .context("the topology has no control plane")?
        .name
        .clone())
}

pub(crate) fn shown(path: &Path) -> String {
    path.display().to_string()
}
