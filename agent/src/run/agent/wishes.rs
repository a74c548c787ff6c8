//! Which source the command line asks for.

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::cli::args::AgentArgs;
use crate::cli::commands::{Exit, Failure};
use crate::config::Config;
use crate::config::datapath::Switch;
use crate::plan::router_id::RouterIdMode;
use crate::run::StartError;
use crate::source::kube::{self, Cluster, ClusterError, Nodes, Scope};
use crate::source::{Batch, KeptDocument, Rescan, dir};

use super::keeping;

type Source = (Rescan, mpsc::Receiver<Batch>, JoinHandle<()>);

/// Starts to follow it. Where it is a cluster, that too: this node reports there.
///
/// `kept` is what an earlier run kept of broken documents; an API server lets few through, and has them itself.
pub(super) async fn follow(
    args: &AgentArgs,
    config: &Config,
    kept: &[KeptDocument],
) -> Result<(Option<Cluster>, Source), Failure> {
    match &args.manifests {
        Some(folder) => Ok((None, dir::start(folder.clone(), keeping::read(kept)))),
        None => follow_cluster(args, config).await.map_err(|error| Failure {
            exit: Exit::NotStarted,
            text: StartError::from(error).to_string(),
        }),
    }
}

async fn follow_cluster(
    args: &AgentArgs,
    config: &Config,
) -> Result<(Option<Cluster>, Source), ClusterError> {
    let cluster = Cluster::find(args.kubeconfig.as_deref()).await?;
    tracing::info!(server = cluster.url(), "following a Kubernetes API server");
    let scope = Scope {
        node: args.node.clone(),
        nodes: match config.datapath.switch {
            Switch::Off => Nodes::Own,
            Switch::On => Nodes::All,
        },
        node_configs: match config.options.router_id {
            RouterIdMode::Default => Nodes::Own,
            RouterIdMode::IpPool(_) => Nodes::All,
        },
        secrets_namespace: config.options.secrets_namespace.clone(),
    };
    let source = kube::start(cluster.clone(), &scope)?;
    Ok((Some(cluster), source))
}

/// For the log.
pub(super) fn place(args: &AgentArgs) -> String {
    match &args.manifests {
        Some(folder) => folder.display().to_string(),
        None => "Kubernetes".to_owned(),
    }
}
