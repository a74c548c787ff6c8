//! Which source the command line asks for.

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::cli::args::AgentArgs;
use crate::cli::commands::{Exit, Failure};
use crate::config::Config;
use crate::config::datapath::Switch;
use crate::run::StartError;
use crate::source::kube::{self, Cluster, ClusterError, Nodes, Scope};
use crate::source::{Batch, KeptDocument, Rescan, dir};

use super::keeping;

type Source = (Rescan, mpsc::Receiver<Batch>, JoinHandle<()>);

/// Starts to follow it.
///
/// `kept` is what an earlier run kept of broken documents; an API server lets few through, and has them itself.
pub(super) async fn follow(
    args: &AgentArgs,
    config: &Config,
    kept: &[KeptDocument],
) -> Result<Source, Failure> {
    match &args.manifests {
        Some(folder) => Ok(dir::start(folder.clone(), keeping::read(kept))),
        None => follow_cluster(args, config).await.map_err(|error| Failure {
            exit: Exit::NotStarted,
            text: StartError::from(error).to_string(),
        }),
    }
}

async fn follow_cluster(args: &AgentArgs, config: &Config) -> Result<Source, ClusterError> {
    let cluster = Cluster::find(args.kubeconfig.as_deref()).await?;
    tracing::info!(server = cluster.url(), "following a Kubernetes API server");
    let scope = Scope {
        node: args.node.clone(),
        nodes: match config.datapath.switch {
            Switch::Off => Nodes::Own,
            Switch::On => Nodes::All,
        },
        secrets_namespace: config.options.secrets_namespace.clone(),
    };
    kube::start(cluster, &scope)
}

/// For the log.
pub(super) fn place(args: &AgentArgs) -> String {
    match &args.manifests {
        Some(folder) => folder.display().to_string(),
        None => "Kubernetes".to_owned(),
    }
}
