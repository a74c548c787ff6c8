//! The words of `stentor operator`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::args::KeyArgs;
use crate::shell::log::Format;

const AFTER_OPERATOR: &str = "\
Replicas: run as many as you like. One at a time acts, the one that holds the Lease stentor-operator in
--namespace; the others wait, and one of them takes over when it is gone.

Signals:
  SIGTERM, SIGINT  stop to write, give the Lease back, end

Configuration file: as for `stentor agent`, read at the start. What the operator must be allowed to do
is in the files operator*.yaml of deploy/helm/stentor/rbac.";

#[derive(Debug, Args)]
#[command(after_help = AFTER_OPERATOR)]
pub struct OperatorArgs {
    /// How to reach the API server; default: as the pod's service account, or as KUBECONFIG says.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Namespace of the Lease.
    #[arg(
        long,
        value_name = "NAME",
        env = "CILIUM_K8S_NAMESPACE",
        default_value = "kube-system"
    )]
    pub namespace: String,
    /// Name of this replica, unlike that of any other; default: host name and a number.
    #[arg(long, value_name = "NAME")]
    pub identity: Option<String>,
    /// How long the others wait for a leader that gives no sign of life.
    #[arg(long, value_name = "TIME", value_parser = seconds, default_value = "15s")]
    pub leader_election_lease_duration: Duration,
    /// How long a leader acts that can not renew its Lease.
    #[arg(long, value_name = "TIME", value_parser = seconds, default_value = "10s")]
    pub leader_election_renew_deadline: Duration,
    /// How often a leader renews, and the others look.
    #[arg(long, value_name = "TIME", value_parser = seconds, default_value = "2s")]
    pub leader_election_retry_period: Duration,
    /// Leave custom resource definitions alone; somebody else installs them.
    #[arg(long)]
    pub skip_crd_creation: bool,
    /// Serve /healthz at this address, for example 127.0.0.1:9234.
    #[arg(long, value_name = "ADDR")]
    pub health: Option<SocketAddr>,
    /// Serve Prometheus metrics at this address, for example 0.0.0.0:9963.
    #[arg(long, value_name = "ADDR")]
    pub metrics: Option<SocketAddr>,
    /// Configuration file, or folder of files (a mounted ConfigMap).
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Form of the log lines on standard error.
    #[arg(long, value_enum, default_value_t)]
    pub log_format: Format,
    /// What to log: error, warn, info, debug, trace, or per module (stentor=debug).
    #[arg(long, value_name = "FILTER", env = "RUST_LOG", default_value = "info")]
    pub log: String,
    #[command(flatten)]
    pub keys: KeyArgs,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = crate::config::datapath::duration(text).filter(|seconds| *seconds > 0);
    seconds
        .map(|seconds| Duration::from_secs(seconds.into()))
        .ok_or_else(|| "write a time of at least one second, such as 15s or 1m30s".to_owned())
}
