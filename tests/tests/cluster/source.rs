//! The Kubernetes source of the agent: what an API server tells leads to what a folder leads to, and nothing is lost
//! while it is away.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use crds::{Kind, ObjectRef};
use lab::kubernetes::ControlPlane;
use serde_json::{Value, json};
use stentor::plan::{Options, plan};
use stentor::source::kube::{Cluster, Nodes, Scope, start};
use stentor::source::{Batch, Change, Rescan, dir};
use stentor::world::World;
use stentor_tests::cluster::{Api, LIMIT, documents};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

const NODE: &str = "n1";

/// A source under way and the World it leads to.
struct Follower {
    world: World,
    deleted: Vec<ObjectRef>,
    batches: mpsc::Receiver<Batch>,
    /// Dropping it ends the source.
    _rescan: Rescan,
    task: JoinHandle<()>,
}

impl Follower {
    async fn new(control_plane: &ControlPlane) -> Result<Self> {
        Self::of(&control_plane.kubeconfig()).await
    }

    async fn of(kubeconfig: &Path) -> Result<Self> {
        let cluster = Cluster::find(Some(kubeconfig)).await?;
        let scope = Scope {
            nodes: Nodes::Own,
            node_configs: Nodes::Own,
            node: NODE.to_owned(),
            secrets_namespace: Some("kube-system".to_owned()),
        };
        let (rescan, batches, task) = start(cluster, &scope)?;
        Ok(Self {
            world: World::new(NODE),
            deleted: Vec::new(),
            batches,
            _rescan: rescan,
            task,
        })
    }

    /// Takes in what is told until something holds.
    async fn until(&mut self, what: &str, holds: impl Fn(&World) -> bool) -> Result<()> {
        let wait = async {
            loop {
                let batch = self.batches.recv().await.context("the source ended")?;
                let deleted = batch.changes.iter().filter_map(|change| match change {
                    Change::Deleted(reference) => Some(reference.clone()),
                    Change::Applied(_) => None,
                });
                self.deleted.extend(deleted);
                self.world.take(batch);
                if holds(&self.world) {
                    return anyhow::Ok(());
                }
            }
        };
        let waited = timeout(LIMIT, wait).await;
        waited.unwrap_or_else(|_| {
            let problems = &self.world.source_problems;
            anyhow::bail!("waited for {what}; problems: {problems:#?}")
        })
    }

    fn reasons(&self) -> Vec<&'static str> {
        let problems = &self.world.source_problems;
        problems.iter().map(|problem| problem.reason).collect()
    }

    async fn end(self) -> Result<()> {
        let Self { batches, task, .. } = self;
        drop(batches);
        Ok(timeout(LIMIT, task).await??)
    }
}

fn has(world: &World, reference: &ObjectRef) -> bool {
    world.objects.get(reference).is_some()
}

/// Before any definition of ours is there: everything else works, and when they come they are followed.
pub(crate) fn not_served(control_plane: &mut ControlPlane, api: &Api) -> Result<()> {
    let service = service("early", "10.96.9.1");
    api.block_on(async {
        api.apply(&service).await?;
        let mut follower = Follower::new(control_plane).await?;
        follower.until("the first batch", |_| true).await?;
        let early = ObjectRef::namespaced(Kind::Service, "tenant-a", "early");
        ensure!(has(&follower.world, &early), "the Service is followed");
        let kinds = follower
            .reasons()
            .iter()
            .filter(|reason| **reason == "kind-not-served")
            .count();
        // All of ours but the one that Cilium has no longer.
        let ours = Kind::ALL.iter().filter(|kind| kind.group() == "cilium.io");
        ensure!(kinds == ours.count() - 1, "{kinds} kinds are not served");
        for definition in crds::definitions() {
            api.define(&definition).await?;
        }
        let all_served = |world: &World| world.source_problems.is_empty();
        follower.until("all kinds to be followed", all_served).await?;
        api.delete(&service).await?;
        follower
            .until("the Service to go", |world| !has(world, &early))
            .await?;
        follower.end().await
    })
}

/// An agent without any right starts, has nothing to say and says why.
pub(crate) fn forbidden(control_plane: &mut ControlPlane, api: &Api) -> Result<()> {
    api.block_on(async {
        let mut follower = Follower::of(&control_plane.kubeconfig_without_rights()).await?;
        follower.until("the first batch", |_| true).await?;
        ensure!(follower.world.objects.iter().count() == 0, "nothing may be seen");
        let reasons = follower.reasons();
        ensure!(reasons.contains(&"kind-forbidden"), "{reasons:?}");
        follower.end().await
    })
}

pub(crate) fn same_as_folder(control_plane: &mut ControlPlane, api: &Api) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/cluster/world.yaml"))?;
    std::fs::write(folder.path().join("world.yaml"), text)?;
    let mut of_folder = World::new(NODE);
    of_folder.take(dir::read_once(folder.path()));
    ensure!(
        of_folder.source_problems.is_empty(),
        "{:?}",
        of_folder.source_problems
    );
    let written = documents("world.yaml")?;
    api.block_on(async {
        // Half of it before the source starts, half of it after.
        let (before, after) = written.split_at(written.len() / 2);
        for document in before {
            api.apply(document).await?;
        }
        let mut follower = Follower::new(control_plane).await?;
        for document in after {
            api.apply(document).await?;
        }
        let all: Vec<ObjectRef> = of_folder
            .objects
            .iter()
            .map(|parsed| parsed.reference.clone())
            .collect();
        follower
            .until("every object", |world| all.iter().all(|one| has(world, one)))
            .await?;
        std::fs::write(folder.path().join("world.yaml"), aged(api, &written).await?)?;
        let mut of_folder = World::new(NODE);
        of_folder.take(dir::read_once(folder.path()));
        compare(&of_folder, &follower.world)?;
        // A change, and a deletion.
        let mut moved = written
            .iter()
            .find(|document| document["kind"] == "CiliumLoadBalancerIPPool")
            .context("there is a pool")?
            .clone();
        moved["spec"]["blocks"] = json!([{ "cidr": "172.16.2.0/29" }]);
        api.apply(&moved).await?;
        let other = |world: &World| vips(world).iter().any(|vip| vip.starts_with("172.16.2."));
        follower.until("addresses of the other block", other).await?;
        for document in &written {
            api.delete(document).await?;
        }
        follower
            .until("nothing to be left", |world| {
                !all.iter().any(|one| has(world, one))
            })
            .await?;
        follower.end().await
    })
}

/// The same, as old as the API server says: of two Services that ask for an address the older one comes first.
async fn aged(api: &Api, written: &[Value]) -> Result<String> {
    let mut text = String::new();
    for document in written {
        let found = api.find(document).await?.context("it was applied")?;
        let mut document = document.clone();
        document["metadata"]["creationTimestamp"] = found["metadata"]["creationTimestamp"].clone();
        text.push_str(&format!("---\n{document}\n"));
    }
    Ok(text)
}

pub(crate) fn killed(control_plane: &mut ControlPlane, api: &Api) -> Result<()> {
    let written = documents("world.yaml")?;
    let mut follower = api.block_on(async {
        for document in &written {
            api.apply(document).await?;
        }
        let mut follower = Follower::new(control_plane).await?;
        follower
            .until("an address", |world| vips(world).len() == 2)
            .await?;
        anyhow::Ok(follower)
    })?;
    let before = desired(&follower.world);

    control_plane.kill_api_server();
    let away = |world: &World| {
        let mut problems = world.source_problems.iter();
        problems.any(|problem| problem.reason == "cluster-away")
    };
    api.block_on(follower.until("the source to notice", away))?;
    ensure!(
        desired(&follower.world) == before,
        "the plan changed while the server is away"
    );

    // etcd goes too, and comes back with what it wrote.
    control_plane.kill_etcd();
    control_plane.start_etcd()?;
    control_plane.start_api_server()?;
    let back = |world: &World| world.source_problems.is_empty();
    api.block_on(follower.until("the source to notice that it is back", back))?;
    let late = ObjectRef::namespaced(Kind::Service, "tenant-a", "late");
    let began = Instant::now();
    api.block_on(async {
        api.apply(&service("late", "10.96.9.2")).await?;
        follower
            .until("what was applied after", |world| has(world, &late))
            .await
    })?;
    println!(
        "a Service applied after the restart was seen {:?} later",
        began.elapsed()
    );
    ensure!(follower.deleted.is_empty(), "deleted: {:?}", follower.deleted);
    let added: Vec<String> = desired(&follower.world)
        .into_iter()
        .filter(|line| !before.contains(line))
        .collect();
    ensure!(
        before.iter().all(|line| desired(&follower.world).contains(line)),
        "something changed beside what was added: {added:#?}"
    );
    api.block_on(follower.end())
}

fn service(name: &str, cluster_ip: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name, "namespace": "tenant-a" },
        "spec": { "clusterIP": cluster_ip, "ports": [{ "name": "http", "port": 80 }] },
    })
}

fn vips(world: &World) -> Vec<String> {
    let desired = plan(world, &Options::default());
    desired.vips.values().flatten().map(ToString::to_string).collect()
}

/// What the plan comes to, a line per part. The API server's own Service is left out: no folder has it.
fn desired(world: &World) -> Vec<String> {
    let desired = plan(world, &Options::default());
    let mut lines = vec![format!("{:?}", desired.origin), format!("{:?}", desired.peers)];
    lines.extend(desired.vips.iter().map(|vip| format!("{vip:?}")));
    let services = desired
        .services
        .values()
        .filter(|report| &*report.service.namespace != "default");
    lines.extend(services.map(|service| format!("{service:?}")));
    lines
}

fn compare(folder: &World, cluster: &World) -> Result<()> {
    let (left, right) = (
        plan(folder, &Options::default()),
        plan(cluster, &Options::default()),
    );
    ensure!(
        left.speaker == right.speaker,
        "folder: {:#?}\ncluster: {:#?}",
        left.speaker,
        right.speaker
    );
    ensure!(left.vips.len() == 2, "{:?}", left.vips);
    let (left, right) = (desired(folder), desired(cluster));
    ensure!(left == right, "folder: {left:#?}\ncluster: {right:#?}");
    Ok(())
}
