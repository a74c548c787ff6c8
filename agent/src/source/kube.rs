//! The shell around [`mirror`]: follows, at an API server, the kinds a node needs.
//!
//! ```text
//!   watch of Services -------+
//!   watch of EndpointSlices -+--> news (bounded) --> Mirror --> Batch, at once or once per flood
//!   watch of ... ------------+                         ^
//!   probe, when a watch broke -------------------------+
//! ```
//!
//! One watch per kind, each with its own backoff and jitter: a kind that can not be had (no such CRD, no permission)
//! costs the others nothing. A watch that breaks goes on from where it was; where the server has forgotten that, the
//! kind is listed again and compared. Nothing is taken away before a list is whole, and nothing at all while the server
//! is away: however long that lasts, the last state is served.
//!
//! Objects are cut to what planning reads before they are held; Secrets come from one namespace only.

mod client;
mod item;
mod mirror;
mod trim;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use crds::{Kind, Version};
use futures_util::StreamExt as _;
use kube::api::{Api, ApiResource, GroupVersionKind};
use kube::runtime::watcher::{self, DefaultBackoff, Event};
use kube::runtime::{WatchStreamExt as _, watcher as follow};
use kube::{Client, Config, Resource as _};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{Batch, Rescan, rescans};
use item::Item;
use mirror::{Failure, Mirror, News};
use trim::Reader;

/// News under way from all watches. Each has a whole object.
const NEWS: usize = 128;
/// Objects of a list that are asked for at once. As they come, they are many times as big as they are held.
const PAGE: u32 = 250;
/// No news for this long ends a flood.
const QUIET: Duration = Duration::from_millis(5);
/// A flood that never ends is cut here.
const LONGEST_BURST: Duration = Duration::from_millis(100);
/// More news than this in [`LONGEST_BURST`] are a flood, which is gathered. Fewer are told at once: each is cheap, and somebody
/// may wait for it.
const FEW: usize = 32;
/// How long the API server may take to say that it is ready.
const ANSWER: Duration = Duration::from_secs(10);

/// Why an API server can not be followed at all. What may pass, such as one that does not answer yet, is no reason.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    #[error("the kubeconfig {path} can not be used: {why}")]
    Kubeconfig { path: String, why: String },
    #[error(
        "there is no cluster: {0}; run it in a pod with a service account, set KUBECONFIG, or give --kubeconfig"
    )]
    NoCluster(String),
    #[error("the credentials of the cluster can not be used: {0}")]
    Credentials(String),
}

/// What of the cluster is this node's business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    pub node: String,
    pub nodes: Nodes,
    /// Whose BGP configuration is followed. Of others only what was wished, never what they report.
    pub node_configs: Nodes,
    /// `None`: no Secret is read.
    pub secrets_namespace: Option<String>,
}

/// Which nodes are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nodes {
    Own,
    /// For the load balancer: their addresses are where packets for their backends go. Of CiliumNodes only the own one is
    /// followed, and the pods of this node are.
    All,
}

/// What of the cluster an operator follows: of these kinds everything, but of Secrets only names, and of one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorScope {
    pub kinds: BTreeSet<Kind>,
    /// `None`: no Secret is read.
    pub secrets_namespace: Option<String>,
}

/// A cluster that can be connected to.
#[derive(Clone)]
pub struct Cluster(Config);

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Cluster").field(&self.0.cluster_url).finish()
    }
}

impl Cluster {
    /// Finds out where the API server is and who this agent is to it. Nothing is connected.
    ///
    /// # Errors
    /// [`ClusterError`]
    pub async fn find(kubeconfig: Option<&Path>) -> Result<Self, ClusterError> {
        let config = match kubeconfig {
            Some(path) => {
                let failed = |why: String| ClusterError::Kubeconfig {
                    path: path.display().to_string(),
                    why,
                };
                let read =
                    kube::config::Kubeconfig::read_from(path).map_err(|error| failed(chain(&error)))?;
                let options = kube::config::KubeConfigOptions::default();
                Config::from_custom_kubeconfig(read, &options)
                    .await
                    .map_err(|error| failed(chain(&error)))?
            }
            None => Config::infer()
                .await
                .map_err(|error| ClusterError::NoCluster(chain(&error)))?,
        };
        Ok(Self(config))
    }

    /// For whoever must know what became of each single request: nothing is tried twice.
    pub(crate) fn client(self) -> Result<Client, ClusterError> {
        client::client(self.0).map_err(|error| ClusterError::Credentials(chain(&error)))
    }

    /// For log lines.
    #[must_use]
    pub fn url(&self) -> String {
        self.0.cluster_url.to_string()
    }
}

/// Starts to follow. The first batch comes when every kind was listed, or turned out not to be had here. The task ends
/// when the receiver or the [`Rescan`] is dropped; whoever starts it awaits it.
///
/// # Errors
/// [`ClusterError::Credentials`]
pub fn start(
    cluster: Cluster,
    scope: &Scope,
) -> Result<(Rescan, mpsc::Receiver<Batch>, JoinHandle<()>), ClusterError> {
    spawn(cluster, watches(scope), Reader::Agent)
}

/// The same for an operator: objects keep their versions, so that they can be written over, and their status.
///
/// # Errors
/// [`ClusterError::Credentials`]
pub fn start_operator(
    cluster: Cluster,
    scope: &OperatorScope,
) -> Result<(Rescan, mpsc::Receiver<Batch>, JoinHandle<()>), ClusterError> {
    spawn(cluster, operator_watches(scope), Reader::Operator)
}

fn spawn(
    cluster: Cluster,
    watches: Vec<Watch>,
    reader: Reader,
) -> Result<(Rescan, mpsc::Receiver<Batch>, JoinHandle<()>), ClusterError> {
    let client = cluster.client()?;
    let (rescan, asked) = rescans();
    let (out, batches) = mpsc::channel(1);
    let task = tokio::spawn(run(client, watches, reader, asked, out));
    Ok((rescan, batches, task))
}

/// One kind to follow, and which objects of it.
struct Watch {
    kind: Kind,
    version: Version,
    /// Of whoever follows; `None`: an operator.
    node: Option<String>,
    namespace: Option<String>,
    /// Of fields; `None`: all of them.
    fields: Option<String>,
}

fn watches(scope: &Scope) -> Vec<Watch> {
    let watch = |kind: Kind| {
        let (namespace, fields) = match kind {
            Kind::Secret => (Some(scope.secrets_namespace.clone()?), None),
            Kind::Node if scope.nodes == Nodes::All => (None, None),
            Kind::Node | Kind::CiliumNode => (None, Some(format!("metadata.name={}", scope.node))),
            // For their host ports, which are served here.
            Kind::Pod if scope.nodes == Nodes::All => (None, Some(format!("spec.nodeName={}", scope.node))),
            Kind::CiliumBGPNodeConfig if scope.node_configs == Nodes::Own => {
                (None, Some(format!("metadata.name={}", scope.node)))
            }
            // Planning has no use for them.
            Kind::Namespace | Kind::Pod => return None,
            Kind::CiliumBGPClusterConfig
            | Kind::CiliumBGPPeerConfig
            | Kind::CiliumBGPAdvertisement
            | Kind::CiliumBGPNodeConfig
            | Kind::CiliumBGPNodeConfigOverride
            | Kind::CiliumBGPPeeringPolicy
            | Kind::CiliumLoadBalancerIPPool
            | Kind::CiliumPodIPPool
            | Kind::Service
            | Kind::EndpointSlice => (None, None),
        };
        Some(Watch {
            kind,
            version: *kind.versions().first()?,
            node: Some(scope.node.clone()),
            namespace,
            fields,
        })
    };
    Kind::ALL.into_iter().filter_map(watch).collect()
}

/// Groups and resources that an agent follows, for whoever makes roles of it.
#[cfg(test)]
pub(crate) fn followed(nodes: Nodes, secrets_namespace: Option<&str>) -> BTreeSet<(String, String)> {
    let scope = Scope {
        node: "node".to_owned(),
        nodes,
        secrets_namespace: secrets_namespace.map(str::to_owned),
        node_configs: Nodes::All,
    };
    watches(&scope)
        .into_iter()
        .map(|watch| (watch.kind.group().to_owned(), watch.kind.plural().to_owned()))
        .collect()
}

fn operator_watches(scope: &OperatorScope) -> Vec<Watch> {
    let watch = |kind: &Kind| {
        let namespace = match kind {
            Kind::Secret => Some(scope.secrets_namespace.clone()?),
            Kind::CiliumBGPClusterConfig
            | Kind::CiliumBGPPeerConfig
            | Kind::CiliumBGPAdvertisement
            | Kind::CiliumBGPNodeConfig
            | Kind::CiliumBGPNodeConfigOverride
            | Kind::CiliumBGPPeeringPolicy
            | Kind::CiliumLoadBalancerIPPool
            | Kind::CiliumPodIPPool
            | Kind::CiliumNode
            | Kind::Service
            | Kind::EndpointSlice
            | Kind::Node
            | Kind::Namespace
            | Kind::Pod => None,
        };
        Some(Watch {
            kind: *kind,
            version: *kind.versions().first()?,
            node: None,
            namespace,
            fields: None,
        })
    };
    scope.kinds.iter().filter_map(watch).collect()
}

async fn run(
    client: Client,
    watches: Vec<Watch>,
    reader: Reader,
    mut asked: mpsc::Receiver<()>,
    out: mpsc::Sender<Batch>,
) {
    let mut mirror = Mirror::new(watches.iter().map(|watch| watch.kind), reader);
    let (tell, mut news) = mpsc::channel(NEWS);
    let mut tasks = JoinSet::new();
    // The connection that this makes is the one that all watches use. What it says does not matter yet.
    tokio::select! {
        () = out.closed() => return,
        _ = timeout(ANSWER, ask(&client)) => {}
    }
    for watch in watches {
        tasks.spawn(follow_one(client.clone(), watch, reader, tell.clone()));
    }
    let mut probing = false;
    let mut warned = false;
    let mut recent = Recent::new();
    loop {
        tokio::select! {
            () = out.closed() => return,
            // There is nothing to look at again: what changed was told.
            request = asked.recv() => if request.is_none() { return } else { continue },
            // A probe ends when it has its answer. A watch only ends by a defect, which must not pass unseen.
            Some(ended) = tasks.join_next() => match ended {
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Ok(()) | Err(_) => continue,
            },
            first = news.recv() => match first {
                Some(first) => mirror.take(first),
                None => return,
            },
        }
        let end = Instant::now() + LONGEST_BURST;
        recent.one_more();
        while let Ok(next) = news.try_recv() {
            mirror.take(next);
            recent.one_more();
        }
        while recent.is_flood()
            && let Ok(Some(next)) = timeout_at(end.min(Instant::now() + QUIET), news.recv()).await
        {
            mirror.take(next);
            recent.one_more();
            if Instant::now() >= end {
                break;
            }
        }
        if mirror.is_doubted() && !probing {
            tasks.spawn(probe(client.clone(), tell.clone()));
        }
        probing = mirror.is_doubted();
        let awaited = mirror.awaited();
        if mirror.is_silent() && !awaited.is_empty() && !warned {
            tracing::warn!(
                kinds = awaited.len(),
                "the API server does not answer; nothing is announced before it has told everything once"
            );
            warned = true;
        }
        if let Some(batch) = mirror.settle()
            && out.send(batch).await.is_err()
        {
            return;
        }
    }
}

/// How many news came of late.
struct Recent {
    since: Instant,
    news: usize,
}

impl Recent {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            news: 0,
        }
    }

    fn one_more(&mut self) {
        if self.since.elapsed() > LONGEST_BURST {
            *self = Self::new();
        }
        self.news += 1;
    }

    fn is_flood(&self) -> bool {
        self.news > FEW
    }
}

/// Follows one kind for as long as somebody listens.
async fn follow_one(client: Client, watch: Watch, reader: Reader, tell: mpsc::Sender<News>) {
    let group = watch.kind.group();
    let gvk = GroupVersionKind::gvk(group, watch.version.as_str(), watch.kind.as_str());
    let resource = ApiResource::from_gvk_with_plural(&gvk, watch.kind.plural());
    let api: Api<Item> = match &watch.namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, &resource),
        None => Api::all_with(client, &resource),
    };
    let mut config = watcher::Config::default().page_size(PAGE);
    if let Some(fields) = &watch.fields {
        config = config.fields(fields);
    }
    let mut stream = std::pin::pin!(follow(api, config).backoff(DefaultBackoff::default()));
    while let Some(told) = stream.next().await {
        let news = match told {
            Ok(event) => news(&watch, reader, &resource.api_version, event),
            Err(error) => News::Failed {
                kind: watch.kind,
                failure: failure(&error),
            },
        };
        if tell.send(news).await.is_err() {
            return;
        }
    }
}

fn news(watch: &Watch, reader: Reader, api_version: &str, event: Event<Item>) -> News {
    let kind = watch.kind;
    let json = |object| whole(watch, reader, api_version, object);
    match event {
        Event::Init => News::ListBegan { kind },
        Event::InitApply(object) => News::Listed {
            kind,
            object: json(object),
        },
        Event::InitDone => News::ListEnded { kind },
        Event::Apply(object) => News::Applied {
            kind,
            object: json(object),
        },
        Event::Delete(object) => News::Deleted {
            kind,
            namespace: object.meta().namespace.clone().unwrap_or_default(),
            name: object.meta().name.clone().unwrap_or_default(),
        },
    }
}

/// The object as its manifest would be. Items of a list do not say what they are.
fn whole(watch: &Watch, reader: Reader, api_version: &str, object: Item) -> Value {
    let is_own = watch.node.is_some() && watch.node == object.meta().name;
    let mut members = object.members;
    members.insert("apiVersion".to_owned(), json!(api_version));
    members.insert("kind".to_owned(), json!(watch.kind.as_str()));
    if watch.kind == Kind::CiliumBGPNodeConfig && !is_own {
        members.remove("status");
    }
    trim::trimmed(watch.kind, reader, Value::Object(members))
}

fn failure(error: &watcher::Error) -> Failure {
    let status = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => Some(status),
        watcher::Error::InitialListFailed(_)
        | watcher::Error::WatchStartFailed(_)
        | watcher::Error::WatchFailed(_)
        | watcher::Error::NoResourceVersion => None,
    };
    match status {
        Some(status) if status.code == 404 => Failure::NotServed,
        Some(status) if matches!(status.code, 401 | 403) => Failure::Forbidden(status.message.clone()),
        // The history was compacted: the kind is listed again, and that is all.
        Some(status) if status.code == 410 => Failure::Forgotten,
        Some(_) | None => {
            tracing::debug!(error = chain(error), "a watch broke");
            Failure::Other
        }
    }
}

/// Asks at once and then ever less often, until the server answers.
async fn probe(client: Client, tell: mpsc::Sender<News>) {
    for pause in DefaultBackoff::default() {
        let news = match timeout(ANSWER, ask(&client)).await {
            Ok(Ok(())) => News::Answered,
            Ok(Err(error)) => News::Silent(silence(&error)),
            Err(_) => News::Silent(format!("no answer within {} s", ANSWER.as_secs())),
        };
        let answered = news == News::Answered;
        if tell.send(news).await.is_err() || answered {
            return;
        }
        sleep(pause).await;
    }
}

/// Whether the server is ready: one that runs without its etcd is not.
async fn ask(client: &Client) -> kube::Result<()> {
    let request = hyper::Request::get("/readyz").body(Vec::new());
    let request = request.map_err(kube::Error::HttpError)?;
    match client.request_text(request).await {
        Ok(_) => Ok(()),
        // It answers, if only that this is none of our business.
        Err(kube::Error::Api(status)) if matches!(status.code, 401 | 403 | 404) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Of a server that is not ready only what is not: it lists all that is, too.
fn silence(error: &kube::Error) -> String {
    let lines = match error {
        kube::Error::Api(status) => status.message.as_str(),
        _ => "",
    };
    let failed: Vec<&str> = lines
        .lines()
        .filter_map(|line| line.strip_prefix("[-]"))
        .collect();
    if failed.is_empty() {
        chain(error)
    } else {
        failed.join("; ")
    }
}

/// An error with its causes: the outermost alone says little.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let inner = error.to_string();
        if !text.contains(&inner) {
            text = format!("{text}: {inner}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_server_that_is_not_ready_only_what_is_not_is_told() {
        let says = |text: &str| {
            let status = json!({ "status": "Failure", "message": text, "reason": "", "code": 500 });
            silence(&kube::Error::Api(serde_json::from_value(status).unwrap()))
        };
        let text = "[+]ping ok\n[-]etcd failed: reason withheld\n[+]log ok\nreadyz check failed";
        assert_eq!(says(text), "etcd failed: reason withheld");
        assert!(says("no room").contains("no room"));
    }

    #[test]
    fn of_nodes_only_this_one_and_of_secrets_only_one_namespace_are_followed() {
        let scope = Scope {
            node: "n1".to_owned(),
            nodes: Nodes::Own,
            node_configs: Nodes::Own,
            secrets_namespace: Some("bgp".to_owned()),
        };
        let all = watches(&scope);
        let of = |kind| all.iter().find(|watch| watch.kind == kind).unwrap();
        assert_eq!(of(Kind::CiliumNode).fields.as_deref(), Some("metadata.name=n1"));
        assert_eq!(of(Kind::Secret).namespace.as_deref(), Some("bgp"));
        assert_eq!(of(Kind::Node).fields.as_deref(), Some("metadata.name=n1"));
        let node_configs = of(Kind::CiliumBGPNodeConfig);
        assert_eq!(node_configs.fields.as_deref(), Some("metadata.name=n1"));
        let everywhere = Scope {
            nodes: Nodes::All,
            node_configs: Nodes::All,
            ..scope.clone()
        };
        let all = watches(&everywhere);
        let of = |kind| all.iter().find(|watch| watch.kind == kind).unwrap();
        assert_eq!(of(Kind::Node).fields, None);
        assert_eq!(of(Kind::CiliumBGPNodeConfig).fields, None);
        assert_eq!(of(Kind::Pod).fields.as_deref(), Some("spec.nodeName=n1"));
        let scope = Scope {
            secrets_namespace: None,
            ..scope
        };
        assert!(watches(&scope).iter().all(|watch| watch.kind != Kind::Secret));
    }
}
