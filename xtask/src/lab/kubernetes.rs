//! `cargo xtask lab up --kubernetes`: the nodes of the topology are a real cluster's, and Stentor comes to it as to any
//! other: by its chart, in its image.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use lab::kind::Role;
use lab::kubernetes::{Assets, CGROUP, KUBECONFIG, Programs};
use lab::{Handle, Lab, Spec};

use super::state::State;
use crate::image::{self, Build};
use crate::setup::{self, Goal, go, nodes};
use crate::{manifests, step, test};

/// What pods of the topologies run.
const AGNHOST: &str = "registry.k8s.io/e2e-test-images/agnhost:2.53";
const PAUSE: &str = "localhost/pause:1";

/// Where programs of nodes lie, made or not.
pub(crate) fn programs() -> Option<PathBuf> {
    go::cache("nodes", &[nodes::CLUSTER, nodes::NODES])
}

/// Gets all that is needed, and returns the program that is in the image.
pub(super) fn build() -> Result<PathBuf> {
    setup::run(Goal::Kubernetes)?;
    let folder = images()?;
    fs::create_dir_all(&folder)?;
    image::run(Build::Quick, Some(&folder.join("stentor.tar")), None)?;
    let pause = folder.join("pause");
    let source = step::root().join("lab/kubernetes/pause.c");
    step::run(
        Command::new("cc")
            .args(["-static", "-Os", "-o"])
            .arg(&pause)
            .arg(source),
    )?;
    let agnhost = programs().context("no folder of programs")?.join("agnhost");
    for (program, tag) in [(&pause, PAUSE), (&agnhost, AGNHOST)] {
        let name = program
            .file_name()
            .context("a program has a name")?
            .to_string_lossy();
        let root = folder.join(format!("{name}-root"));
        fs::create_dir_all(root.join("tmp"))?;
        fs::copy(program, root.join(&*name))?;
        image::save(
            &root,
            tag,
            &format!("/{name}"),
            &folder.join(format!("{name}.tar")),
        )?;
    }
    image::program(Build::Quick)
}

fn images() -> Result<PathBuf> {
    Ok(test::target_folder()?.join("image/lab"))
}

/// Brings the cluster up, Stentor into it, and applies the manifests of the topology.
pub(super) fn up(spec: Spec, say: &dyn Fn(&str)) -> Result<Lab> {
    let programs = Programs {
        assets: Assets::find()?,
        folder: programs().context("no folder of programs")?,
    };
    let images = images()?;
    let images = ["pause", "agnhost", "stentor"].map(|name| images.join(format!("{name}.tar")));
    let values = spec.folder.join("values.yaml");
    let control_plane = control_plane(&spec)?;
    let lab = Lab::up_kubernetes(spec, &programs, &images, say)?;
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
        "120s",
    ]);
    if let Some(values) = &values {
        words.extend(["--values", values]);
    }
    let node = lab.node(&control_plane)?;
    node.exec(&words)?;
    say("helm: stentor is installed");
    let file = "/run/kubernetes/manifests.yaml";
    fs::write(node.path(file), lab.manifests()?)?;
    // The operator has installed the definitions of most of these; of all, in a moment.
    lab::until(super::PATIENCE, "the manifests to be taken", || {
        cluster
            .kubectl(&["apply", "--filename", file])
            .map_err(|error| error.to_string())
    })?;
    say("kubectl: the manifests of the topology are applied");
    Ok(lab)
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
    let program = programs().context("no folder of programs")?.join("kubectl");
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

fn control_plane(spec: &Spec) -> Result<String> {
    let nodes = spec.cluster.iter().flat_map(|cluster| &cluster.nodes);
    let mut names = nodes.filter(|node| node.role == Role::ControlPlane);
    Ok(names
        .next()
        .context("the topology has no control plane")?
        .name
        .clone())
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
