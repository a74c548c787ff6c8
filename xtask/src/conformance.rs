//! `cargo xtask conformance`: Kubernetes' own end-to-end tests, once with kube-proxy and once with Stentor in its place, in two
//! clusters that are otherwise the same.
//!
//! ```text
//!   lab/kubernetes/conformance (two nodes) --> kube-proxy --> e2e.test --+
//!                                          --> Stentor ----> e2e.test --+--> one table
//! ```
//!
//! What kube-proxy does not pass there says something about such a lab, and nothing about Stentor. What it does pass, Stentor
//! must. All of it takes too long for `cargo xtask test`, which runs a few with Stentor alone.

mod outcome;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use lab::kubernetes::KUBECONFIG;
use lab::{Lab, Spec};

use self::outcome::Outcome;
use crate::image::{self, Build, Start};
use crate::lab::kubernetes::{self, control_plane, shown};
use crate::setup::{self, Goal, conformance::TESTS, conformance::programs};
use crate::{step, test};

/// What of the network's tests a service proxy has a part in.
const FOCUS: &str = r"\[sig-network\] (Services|EndpointSlice|Networking|HostPort|DNS)";
/// Quick ones, each another way to a Service.
const FEW: [&str; 8] = [
    "Services should serve endpoints on same port and different protocols",
    "Services should have session affinity work for NodePort service",
    "Services should be able to change the type from ExternalName to NodePort",
    "Services should fallback to local terminating endpoints when there are no ready endpoints with externalTrafficPolicy=Local",
    "Services should be rejected when no endpoints exist",
    "EndpointSlice should create Endpoints and EndpointSlices for Pods matching a Service",
    "DNS should provide DNS for services",
    "HostPort validates that there is no conflict",
];
const SKIP: &str = "Feature:|Serial|Slow|Disruptive|Flaky";
/// They mostly wait.
const SIDE_BY_SIDE: &str = "4";
/// Images of the tests, as far as these tests use them, and what they run by themselves. One image serves for all.
const IMAGES: [(&[&str], Start); 2] = [
    (
        &["/agnhost:", "/busybox:", "/glibc-dns-testing:"],
        Start {
            program: "/agnhost",
            words: &["pause"],
        },
    ),
    (
        &["/nginx:"],
        Start {
            program: "/agnhost",
            words: &["netexec", "--http-port=80"],
        },
    ),
];
const COREFILE: &str = "\
.:53 {
    bind {ADDRESS}
    errors
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        kubeconfig {KUBECONFIG}
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
    }
}
";

/// Who serves Services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proxy {
    KubeProxy,
    Stentor,
}

impl Proxy {
    fn name(self) -> &'static str {
        match self {
            Self::KubeProxy => "kube-proxy",
            Self::Stentor => "stentor",
        }
    }
}

/// Installs and builds all that both runs need.
pub(crate) fn build() -> Result<()> {
    setup::run(Goal::Conformance)?;
    let program = image::program(Build::Quick)?;
    kubernetes::make_images(&program)
}

/// Runs the tests whose names match, shows them side by side, and fails where Stentor does.
pub(crate) fn run(focus: Option<&str>) -> Result<()> {
    build()?;
    let stage = Stage::set()?;
    let focus = focus.unwrap_or(FOCUS);
    let kube_proxy = &stage.run(Proxy::KubeProxy, focus)?;
    let stentor = &stage.run(Proxy::Stentor, focus)?;
    let table = outcome::table(kube_proxy, stentor);
    fs::write(stage.folder.join("table.txt"), &table)?;
    print!("{table}");
    let worse = outcome::worse(kube_proxy, stentor);
    if kube_proxy.is_empty() {
        bail!("no test is called so");
    }
    if worse > 0 {
        bail!("{worse} that pass with kube-proxy fail with Stentor");
    }
    Ok(())
}

/// Runs a few with Stentor alone. Whatever they need is built already; where it cannot be had, they are skipped.
pub(crate) fn run_few() -> Result<()> {
    if !programs().is_some_and(|folder| folder.is_dir()) {
        println!(
            "there are no end-to-end tests; `cargo xtask setup test` makes them\n0 passed, 0 failed, {} skipped",
            FEW.len()
        );
        return Ok(());
    }
    let outcomes = Stage::set()?.run(Proxy::Stentor, &FEW.join("|"))?;
    print!("{}", outcome::list(&outcomes));
    let passed = outcomes
        .values()
        .filter(|outcome| **outcome == Outcome::Passed)
        .count();
    // One that is not there, or says that it does not apply, has not passed.
    let failed = FEW.len().max(outcomes.len()) - passed;
    println!("conformance: {passed} passed, {failed} failed, 0 skipped");
    if failed > 0 {
        bail!("{failed} failed");
    }
    Ok(())
}

/// What all runs share.
struct Stage {
    /// Where reports and logs go.
    folder: PathBuf,
    programs: PathBuf,
    images: Vec<PathBuf>,
}

impl Stage {
    fn set() -> Result<Self> {
        let programs = programs().context("no folder of programs")?;
        let folder = test::target_folder()?.join("conformance");
        fs::create_dir_all(&folder)?;
        let images = make_images(&folder, &programs)?;
        Ok(Self {
            folder,
            programs,
            images,
        })
    }

    fn run(&self, proxy: Proxy, focus: &str) -> Result<BTreeMap<String, Outcome>> {
        let (folder, programs) = (&self.folder, &self.programs);
        let began = Instant::now();
        let say = |line: &str| println!("{}: {line}", proxy.name());
        let file = step::root().join(TESTS).join("topo.clab.yml");
        let spec = Spec::read(&file, None)?;
        let mut lab = kubernetes::start(spec, &self.images, &say)?;
        start_dns(&mut lab, programs)?;
        kubernetes::apply(&lab, &say)?;
        match proxy {
            Proxy::KubeProxy => start_kube_proxy(&mut lab, programs)?,
            Proxy::Stentor => kubernetes::install(&lab, &say)?,
        }
        let report = folder.join(format!("{}.json", proxy.name()));
        let log = folder.join(format!("{}.log", proxy.name()));
        if report.exists() {
            fs::remove_file(&report)?;
        }
        say(&format!("the tests run; what they say goes to {}", log.display()));
        test_in(&lab, focus, programs, &report, &log)?;
        let text = fs::read_to_string(&report)
            .with_context(|| format!("the tests left no report; see {}", log.display()))?;
        if proxy == Proxy::Stentor {
            kubernetes::write_logs(&lab, &folder.join("agents.log"))?;
        }
        let outcomes = outcome::read(&text)?;
        let count =
            |wanted: fn(&Outcome) -> bool| outcomes.values().filter(|outcome| wanted(outcome)).count();
        say(&format!(
            "{} pass, {} fail, {} do not apply ({})",
            count(|outcome| *outcome == Outcome::Passed),
            count(|outcome| matches!(outcome, Outcome::Failed(_))),
            count(|outcome| matches!(outcome, Outcome::Skipped(_))),
            step::seconds(began)
        ));
        Ok(outcomes)
    }
}

/// Beside the API server; its Service is a manifest of the topology.
fn start_dns(lab: &mut Lab, programs: &Path) -> Result<()> {
    let node = lab.node(&control_plane(lab.spec())?)?.clone();
    let cluster = lab.kubernetes_mut().context("the lab has a cluster")?;
    let (address, _) = cluster.api_server();
    let corefile = COREFILE
        .replace("{ADDRESS}", &address.to_string())
        .replace("{KUBECONFIG}", KUBECONFIG);
    fs::write(node.path("/run/kubernetes/Corefile"), corefile)?;
    let words = [
        shown(&programs.join("coredns")),
        "-conf".to_owned(),
        "/run/kubernetes/Corefile".to_owned(),
    ];
    Ok(cluster.run(&node, "coredns", &words)?)
}

fn start_kube_proxy(lab: &mut Lab, programs: &Path) -> Result<()> {
    let spec = lab.spec().cluster.clone().context("the lab has a cluster")?;
    let pods: Vec<String> = spec.pod_subnets.iter().map(ToString::to_string).collect();
    for member in &spec.nodes {
        let node = lab.node(&member.name)?.clone();
        let words = [
            shown(&programs.join("kube-proxy")),
            "--kubeconfig=/run/kubernetes/proxy.kubeconfig".to_owned(),
            format!("--hostname-override={}", member.name),
            "--proxy-mode=nftables".to_owned(),
            format!("--cluster-cidr={}", pods.join(",")),
            // Limits of the machine, which are not a node's to set.
            "--conntrack-max-per-core=0".to_owned(),
            "--conntrack-tcp-timeout-established=0".to_owned(),
            "--conntrack-tcp-timeout-close-wait=0".to_owned(),
        ];
        let cluster = lab.kubernetes_mut().context("the lab has a cluster")?;
        cluster.run(&node, "kube-proxy", &words)?;
    }
    Ok(())
}

/// Runs the tests beside the API server. That some fail is no error.
fn test_in(lab: &Lab, focus: &str, programs: &Path, report: &Path, log: &Path) -> Result<()> {
    let name = control_plane(lab.spec())?;
    let cluster = lab.kubernetes().context("the lab has a cluster")?;
    // All nodes are for pods here.
    cluster.kubectl(&["taint", "node", &name, "node-role.kubernetes.io/control-plane-"])?;
    let kubectl = kubernetes::installed()?.join("kubectl");
    let log = File::create(log)?;
    let mut command = lab.node(&name)?.command(programs.join("ginkgo"));
    command
        .args([
            "run",
            "--no-color",
            "--keep-going",
            "--timeout=3h",
            "--procs",
            SIDE_BY_SIDE,
        ])
        // What fails for once only was hit by something else on this machine.
        .args(["--flake-attempts=2", "--focus", focus, "--skip", SKIP])
        .args([
            "--output-dir",
            &shown(report.parent().context("a report has a folder")?),
        ])
        .args([
            "--json-report",
            &report.file_name().unwrap_or_default().to_string_lossy(),
        ])
        .arg(programs.join("e2e.test"))
        .args([
            "--",
            "--provider=skeleton",
            "--num-nodes=2",
            "--allowed-not-ready-nodes=0",
        ])
        .arg(format!("--kubeconfig={KUBECONFIG}"))
        .arg(format!("--kubectl-path={}", kubectl.display()))
        .stdout(log.try_clone()?)
        .stderr(log);
    command.status().context("cannot start the tests")?;
    Ok(())
}

/// agnhost, and what the tests run in its containers; under all the names by which they ask for it.
fn make_images(folder: &Path, programs: &Path) -> Result<Vec<PathBuf>> {
    let root = folder.join("root");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    for name in ["etc", "tmp", "uploads", "usr/bin"] {
        fs::create_dir_all(root.join(name))?;
    }
    symlink("usr/bin", root.join("bin"))?;
    fs::write(root.join("etc/nsswitch.conf"), "hosts: files dns\n")?;
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n")?;
    fs::write(root.join("etc/group"), "root:x:0:\n")?;
    let agnhost = kubernetes::installed()?.join("agnhost");
    image::install(&root, &agnhost, "agnhost")?;
    // Tests of pods' own name servers run it.
    image::install(&root, &programs.join("coredns"), "coredns")?;
    // Not busybox' own: its shell runs its own nc, which has other options, and its wget ends badly.
    for (program, name) in [
        ("dash", "sh"),
        ("nc.openbsd", "nc"),
        ("busybox", "busybox"),
        ("curl", "curl"),
        ("dig", "dig"),
        ("getent", "getent"),
        ("wget", "wget"),
    ] {
        let found = step::find(program).with_context(|| format!("there is no {program}"))?;
        image::install(&root, &found, &format!("usr/bin/{name}"))?;
    }
    let list = step::capture(Command::new("busybox").arg("--list"))?;
    for applet in String::from_utf8_lossy(&list.stdout).split_whitespace() {
        let place = root.join("usr/bin").join(applet);
        if !place.exists() {
            symlink("busybox", place)?;
        }
    }
    let list = step::capture(Command::new(programs.join("e2e.test")).arg("--list-images"))?;
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    let mut archives = Vec::new();
    for (number, (names, start)) in IMAGES.into_iter().enumerate() {
        let tags: Vec<&str> = list
            .split_whitespace()
            .filter(|tag| names.iter().any(|name| tag.contains(name)))
            .collect();
        let archive = folder.join(format!("image-{number}.tar"));
        image::save(&root, &tags, start, &archive)?;
        archives.push(archive);
    }
    Ok(archives)
}
