//! A Service that does not fit into the maps of a node says so itself, on Kubernetes.

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use lab::kubernetes::ControlPlane;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};
use stentor_tests::cluster::{Agent, Api, Operator};

use crate::operator::{cilium_node, condition, ips, pool, service, stage, until};

const READY: &str = "stentor.io/DatapathReady";
const NODE: &str = "full";

/// The agent runs its load balancer in earnest, over maps that are as small as they can be, and serves at no device.
pub(crate) fn said(control_plane: &mut ControlPlane, api: &Api) -> Result<()> {
    if let Some(why) = lacking() {
        println!("skipped: {why}");
        return Ok(());
    }
    // The pins go with the mounts of this thread.
    let run = || -> Result<()> {
        let folder = tempfile::tempdir()?;
        own_bpffs(folder.path())?;
        all(control_plane, api, folder.path())
    };
    let ended = thread::scope(|scope| scope.spawn(run).join());
    ended.map_err(|_| anyhow!("it panicked"))?
}

fn lacking() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("kernel programs need root".to_owned());
    }
    ebpf_loader::probe()
        .into_iter()
        .find_map(|(feature, support)| match support {
            ebpf_loader::Support::Missing(why) if feature.without() == ebpf_loader::Without::Nothing => {
                Some(format!("the kernel has no {}: {why}", feature.name()))
            }
            ebpf_loader::Support::Used | ebpf_loader::Support::Missing(_) => None,
        })
}

fn own_bpffs(folder: &Path) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("mounts")?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&Path>, "/", None::<&Path>, private, None::<&Path>).context("private mounts")?;
    mount(Some("bpf"), folder, Some("bpf"), MsFlags::empty(), None::<&Path>).context("a BPF file system")
}

/// So many ports that two do not fit into 1,024 frontends.
fn wide(name: &str, spec: Value, ports: u16) -> Value {
    let ports: Vec<Value> = (0..ports)
        .map(|number| json!({ "name": format!("p{number}"), "port": 1000 + number }))
        .collect();
    let mut wide = service(name, spec);
    wide["spec"]["ports"] = json!(ports);
    wide
}

fn all(control_plane: &ControlPlane, api: &Api, bpf_root: &Path) -> Result<()> {
    let inside = json!({ "type": "ClusterIP" });
    // By name it would be the last of the two.
    let older = wide("older", inside.clone(), 600);
    // With its address it has 900 frontends.
    let younger = wide("new", json!({ "allocateLoadBalancerNodePorts": false }), 450);
    let small = wide("small", inside, 2);
    let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": NODE } });
    stage(
        api,
        &[pool("main", &["10.99.0.0/28"]), node.clone(), older.clone()],
    )?;
    // The age of objects is told in seconds.
    thread::sleep(Duration::from_millis(1100));
    api.block_on(async {
        api.apply(&younger).await?;
        api.apply(&small).await
    })?;
    let bpf_root = format!("--bpf-root={}", bpf_root.display());
    let balances = [
        "--kube-proxy-replacement=true",
        "--bpf-lb-sock=false",
        "--devices=none-such",
        "--bpf-lb-map-max=1024",
        &bpf_root,
    ];
    let mut operator = Operator::start(control_plane, &balances[..1])?;
    let of_node = cilium_node(NODE, &[]);
    until(api, &operator, "the CiliumNode", &of_node, |_| true)?;
    let agent = || Agent::of(&control_plane.kubeconfig(), NODE, &balances);
    let mut running = agent()?;

    let found = until(api, &operator, "the condition", &younger, |found| {
        !condition(found, READY).is_empty() && !ips(found).is_empty()
    })
    .with_context(|| running.log())?;
    let words = "False map_full Nothing of this Service is served where it does not fit: no room in map FRONTENDS4 on node \
                 full; raise bpf-lb-service-map-max (now 1024); or remove other Services";
    ensure!(condition(&found, READY) == words, "{}", condition(&found, READY));
    let satisfied = condition(&found, "cilium.io/IPAMRequestSatisfied");
    ensure!(satisfied == "True satisfied", "{satisfied}");
    for good in [&older, &small] {
        let found = api.block_on(api.find(good))?.context("it is there")?;
        ensure!(condition(&found, READY).is_empty(), "{found}");
    }
    let told = until(api, &operator, "the node to say it", &of_node, |found| {
        found["status"]["load-balancer"]["refused"][0]["services"] == json!(["operated/new"])
    })?;
    ensure!(
        told["status"]["load-balancer"]["refused"][0]["limit"] == 1024,
        "{told}"
    );
    let problems = running.ask(&["status"])?.to_string();
    ensure!(problems.contains("map-full"), "{problems}");

    // All of them anew: they find what they said, and say it no second time.
    operator.settled()?;
    operator.ends_well()?;
    running.ends_well()?;
    let versions = || -> Result<Vec<Value>> {
        let version = |document: &Value| -> Result<Value> {
            let found = api.block_on(api.find(document))?.context("it is there")?;
            Ok(found["metadata"]["resourceVersion"].clone())
        };
        [&younger, &older, &small, &of_node]
            .into_iter()
            .map(version)
            .collect()
    };
    let before = versions()?;
    let mut operator = Operator::start(control_plane, &balances[..1])?;
    let mut running = agent()?;
    running.until("the refusal", &["status"], |status| {
        status.to_string().contains("map-full")
    })?;
    // A status is told half a second after it changed.
    thread::sleep(Duration::from_secs(2));
    operator.settled_without_a_write()?;
    let after = versions()?;
    ensure!(before == after, "{before:?} became {after:?}: {}", running.log());

    // Room comes.
    api.block_on(api.delete(&older))?;
    let found = until(api, &operator, "the condition to go", &younger, |found| {
        condition(found, READY).is_empty()
    })
    .with_context(|| running.log())?;
    ensure!(!ips(&found).is_empty(), "{found}");
    let told = api.block_on(api.find(&of_node))?.context("it is there")?;
    ensure!(told["status"]["load-balancer"].is_null(), "{told}");

    // It is full again; then the load balancer is switched off, and nobody says anything any more.
    api.block_on(api.apply(&older))?;
    until(
        api,
        &operator,
        "the condition of who comes now",
        &older,
        |found| condition(found, READY).starts_with("False map_full"),
    )?;
    running.ends_well()?;
    let mut running = Agent::of(&control_plane.kubeconfig(), NODE, &[])?;
    until(
        api,
        &operator,
        "the condition to go with the cause",
        &older,
        |found| condition(found, READY).is_empty(),
    )?;
    running.ends_well()?;
    operator.ends_well()?;
    stage(api, &[])
}
