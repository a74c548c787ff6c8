//! What dies in a real cluster while clients ask: containers of ours, and the servers of the control plane. No client may
//! notice, and no route may change.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::clients::{Clients, Excuse};
use super::{ENOUGH, Faults, tell};
use crate::expect::{self, Expectations};
use crate::kubernetes::Server;
use crate::requests::Pods;
use crate::{Error, Handle, Lab, Process, frr, until};

const NAMESPACE: &str = "kube-system";

/// What is killed, one after the other, each when the one before is back.
#[derive(Clone, Copy, Debug)]
enum Kill {
    /// All containers of a component: its label, and what the container is called.
    Containers(&'static str, &'static str),
    Server(Server),
}

/// How much [`run`] tries.
pub const COUNT: usize = KILLS.len();

const KILLS: [Kill; 4] = [
    Kill::Containers("agent", "cilium-agent"),
    Kill::Containers("operator", "operator"),
    Kill::Server(Server::ApiServer),
    Kill::Server(Server::Etcd),
];

/// Kills, says what clients noticed, and returns what nobody must have noticed.
///
/// # Errors
/// The lab is no real cluster, or what died does not come back in time.
pub fn run(
    lab: &mut Lab,
    faults: &Faults,
    expectations: &Expectations,
    limit: Duration,
    say: &dyn Fn(&str),
) -> Result<Vec<String>, Error> {
    let clients = Clients::start(lab.node(&faults.from)?, &faults.to, Pods::Agnhost)?;
    let names: Vec<String> = faults.to.iter().map(ToString::to_string).collect();
    say(&format!(
        "{} clients on {} ask {} without a pause:",
        clients.count(),
        faults.from,
        names.join(" and ")
    ));
    let router = lab.node(&faults.router)?.clone();
    let mut wrong = Vec::new();
    for kill in KILLS {
        let watch = Watch::start(&router)?;
        clients.go_on(ENOUGH, limit)?;
        clients.tally();
        let before = routes(&router)?;
        let (what, alone) = match kill {
            Kill::Containers(component, container) => {
                let restarts = until_ready(lab, component, 0, limit)?;
                let mut killed = 0;
                for name in lab.cluster_nodes() {
                    killed += cluster(lab)?.kill_containers(lab.node(&name)?, container)?;
                }
                clients.go_on(ENOUGH, limit)?;
                let alone = routes(&router)?;
                until_ready(lab, component, restarts + killed, limit)?;
                (format!("all {killed} containers of {component}s killed"), alone)
            }
            Kill::Server(server) => {
                cluster_mut(lab)?.kill(server);
                clients.go_on(ENOUGH, limit)?;
                let alone = routes(&router)?;
                cluster_mut(lab)?.revive(server)?;
                for component in ["agent", "operator"] {
                    until_ready(lab, component, 0, limit)?;
                }
                (format!("{} killed and started again", server.name()), alone)
            }
        };
        expect::meet(&lab.handles(), expectations, limit, &|_| {})?;
        clients.go_on(ENOUGH, limit)?;
        let tally = clients.tally();
        say(&format!("{what}: {tally}"));
        wrong.extend(tell(tally.failed(&Excuse::None), say));
        for (when, seen) in [
            ("while it was away", alone),
            ("after it was back", routes(&router)?),
        ] {
            if seen != before {
                wrong.push(format!(
                    "{what}: routes changed {when}, from {before:?} to {seen:?}"
                ));
            }
        }
        wrong.extend(tell(watch.changes(&what), say));
    }
    let sum = clients.stop();
    say(&format!("in all {sum}"));
    Ok(wrong)
}

/// What the router learned, by prefix: who told it, and by which ways it goes on.
fn routes(router: &Handle) -> Result<BTreeMap<String, Vec<String>>, Error> {
    let all = frr::routes(router)?.into_iter();
    Ok(all
        .map(|(prefix, paths)| {
            let mut paths: Vec<String> = paths
                .iter()
                .map(|path| format!("{} via {:?} {:?}", path.peer, path.next_hops, path.communities))
                .collect();
            paths.sort();
            (prefix, paths)
        })
        .collect())
}

/// Listens to the kernel of a router, so that also a change is seen that is gone a moment later.
struct Watch(Process);

impl Watch {
    fn start(router: &Handle) -> Result<Self, Error> {
        Ok(Self(router.spawn(&["ip", "monitor", "route"])?))
    }

    /// Routes of routing protocols that went.
    fn changes(&self, what: &str) -> Vec<String> {
        let log = self.0.log();
        let gone = log
            .lines()
            .filter(|line| line.starts_with("Deleted") && line.contains("proto bgp"));
        gone.map(|line| format!("{what}: the router's kernel: {line}"))
            .collect()
    }
}

/// Waits until all pods of a component are ready and their containers were restarted so often; returns how often they were.
fn until_ready(lab: &Lab, component: &str, restarts: usize, limit: Duration) -> Result<usize, Error> {
    let selector = format!("app.kubernetes.io/component={component}");
    let words = [
        "--namespace",
        NAMESPACE,
        "get",
        "pods",
        "--selector",
        &selector,
        "-o",
        "json",
    ];
    let waited = until(limit, format!("all {component}s to be ready"), || {
        let cluster = cluster(lab).map_err(|error| error.to_string())?;
        let text = cluster.kubectl(&words).map_err(|error| error.to_string())?;
        let list: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let pods = list["items"].as_array().into_iter().flatten();
        let containers: Vec<&Value> = pods
            .flat_map(|pod| {
                pod["status"]["containerStatuses"]
                    .as_array()
                    .into_iter()
                    .flatten()
            })
            .collect();
        let is_ready = containers.iter().all(|container| container["ready"] == true);
        let count = containers
            .iter()
            .map(|container| container["restartCount"].as_u64());
        let count = count.map(|count| count.and_then(|count| usize::try_from(count).ok()));
        let count: usize = count.map(Option::unwrap_or_default).sum();
        if is_ready && !containers.is_empty() && count >= restarts {
            Ok(count)
        } else {
            Err(format!("{count} restarts of {restarts}; ready: {is_ready}"))
        }
    });
    Ok(waited?)
}

fn cluster(lab: &Lab) -> Result<&crate::kubernetes::Cluster, Error> {
    lab.kubernetes().ok_or_else(unreal)
}

fn cluster_mut(lab: &mut Lab) -> Result<&mut crate::kubernetes::Cluster, Error> {
    lab.kubernetes_mut().ok_or_else(unreal)
}

fn unreal() -> Error {
    Error::Strange {
        who: "the lab".to_owned(),
        what: "its nodes have no kubelets".to_owned(),
    }
}
