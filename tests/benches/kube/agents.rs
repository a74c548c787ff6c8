//! Many agents at one API server. Each has its own client, connections, watches and cache, as on a node of its own; only
//! the process is one. The cluster is small, so that memory allows for many.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use crds::{Kind, ObjectRef};
use lab::kubernetes::ControlPlane;
use stentor::source::kube::{Cluster, Nodes, Scope, start};
use stentor::world::World;
use stentor_tests::cluster::{Api, connections};
use tokio::runtime::Builder;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::population::{self, NAMESPACE, Population};
use crate::weight::{Requests, Weight};
use crate::{LIMIT, seconds, spread, tell};

/// How long nothing is changed and requests are counted.
const CALM: Duration = Duration::from_secs(60);
/// A Service that comes while all are looking.
const LATE: u32 = 1_000_000;

/// What an agent says.
enum Said {
    /// It has everything.
    Whole,
    /// It has the Service that came late.
    Late(Instant),
}

pub(crate) fn run(control_plane: &ControlPlane, api: &Api, agents: u32) -> Result<()> {
    println!("agents: {agents} of them, 100 Services");
    let [_, api_server] = control_plane.pids()[..] else {
        anyhow::bail!("the control plane is not two processes");
    };
    let per_agent = |count: u64| format!("{:.2}", count as f64 / f64::from(agents));
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let (said, mut heard) = mpsc::channel(1024);
    let (over, is_over) = watch::channel(());
    let (before, light) = (Requests::now(control_plane)?, Weight::of(api_server)?);
    let ours = Weight::of(std::process::id())?;
    let begun = Instant::now();
    let kubeconfig = control_plane.kubeconfig();
    for number in 0..agents {
        let (said, mut is_over, kubeconfig) = (said.clone(), is_over.clone(), kubeconfig.clone());
        runtime.spawn(async move {
            tokio::select! {
                ended = follow(&kubeconfig, number, said) => if let Err(error) = ended { eprintln!("agent {number}: {error:#}") },
                _ = is_over.changed() => {}
            }
        });
    }
    drop(said);
    let mut hear = |what: &str| {
        let all = async {
            let mut said = Vec::new();
            while said.len() < agents as usize {
                said.push(heard.recv().await.context("an agent ended")?);
            }
            anyhow::Ok(said)
        };
        runtime
            .block_on(async { timeout(LIMIT, all).await })
            .with_context(|| format!("wait for {what}"))?
    };
    hear("all agents to have everything")?;
    tell("  start to all have everything", seconds(begun.elapsed()), "");
    let heavy = Weight::of(api_server)?;
    tell(
        "  requests per agent until then",
        per_agent(Requests::now(control_plane)?.all - before.all),
        "",
    );
    tell(
        "  connections per agent",
        per_agent(connections(std::process::id(), &control_plane.url())? as u64),
        "",
    );
    tell("  API server, CPU until then", seconds(heavy.cpu - light.cpu), "");
    tell(
        "  API server, resident set",
        format!("{} (before: {})", heavy.resident(), light.resident()),
        "",
    );
    let grown = Weight::of(std::process::id())?.kib_over(ours);
    tell(
        "  memory per agent",
        format!("{} KB", grown / u64::from(agents)),
        "",
    );

    let (before, light) = (Requests::now(control_plane)?, Weight::of(api_server)?);
    std::thread::sleep(CALM);
    let (after, heavy) = (Requests::now(control_plane)?, Weight::of(api_server)?);
    // The page itself was asked for once.
    let rate = (after.all - before.all - 1) as f64 / CALM.as_secs_f64() / f64::from(agents);
    tell(
        "  while nothing changes: requests/s per agent",
        format!("{rate:.4}"),
        "",
    );
    tell(
        "  API server, CPU in that minute",
        seconds(heavy.cpu - light.cpu),
        "",
    );

    let late = Instant::now();
    Population {
        from: LATE,
        to: LATE + 1,
    }
    .create(api)?;
    let mut times = Vec::new();
    for said in hear("all agents to have the new Service")? {
        match said {
            Said::Late(at) => times.push((at - late).as_secs_f64()),
            Said::Whole => anyhow::bail!("an agent began anew"),
        }
    }
    tell("  one Service made: median / p99 / last agent", spread(times), "");
    api.block_on(population::services(api).delete(&population::name(LATE), &Default::default()))?;
    over.send(()).context("all agents have ended")?;
    runtime.shutdown_timeout(LIMIT);
    Ok(())
}

async fn follow(kubeconfig: &std::path::Path, number: u32, said: mpsc::Sender<Said>) -> Result<()> {
    let scope = Scope {
        node: format!("n{number}"),
        nodes: Nodes::Own,
        node_configs: Nodes::Own,
        secrets_namespace: Some("kube-system".to_owned()),
    };
    let first = ObjectRef::namespaced(Kind::Service, NAMESPACE, population::name(0));
    let (_rescan, mut batches, _task) = start(Cluster::find(Some(kubeconfig)).await?, &scope)?;
    let mut world = World::new(scope.node.as_str());
    // A server that is asked by all at once does not answer each at once.
    while world.objects.get(&first).is_none() || !world.source_problems.is_empty() {
        world.take(batches.recv().await.context("the source ended")?);
    }
    said.send(Said::Whole).await?;
    let late = ObjectRef::namespaced(Kind::Service, NAMESPACE, population::name(LATE));
    while world.objects.get(&late).is_none() {
        world.take(batches.recv().await.context("the source ended")?);
    }
    said.send(Said::Late(Instant::now())).await?;
    // Until all are done.
    while let Some(batch) = batches.recv().await {
        world.take(batch);
    }
    Ok(())
}
