//! What this node tells its cluster.

use std::collections::BTreeMap;
use std::sync::Arc;

use bgp_speaker::net::Handle;
use crds::Kind;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use super::serving;
use crate::api::snapshot::Snapshot;
use crate::report::Beginnings;
use crate::shell::report::{self, Ground, Subject};
use crate::shell::writes::Reporter;
use crate::source::kube::{Cluster, ClusterError};

/// What is told: the speaker, what the loop last decided, and a number that grows with all that changes.
type Told = (Handle, watch::Receiver<Arc<Snapshot>>, watch::Receiver<u64>);

/// Starts to tell, where there is a cluster. What comes back: why the status of which objects is not written.
pub(super) fn start(
    tasks: &mut JoinSet<(&'static str, Result<(), JoinError>)>,
    cluster: Option<Cluster>,
    node: &str,
    (speaker, snapshots, generation): Told,
) -> Result<watch::Receiver<BTreeMap<Kind, String>>, ClusterError> {
    let (refused, reports_refused) = watch::channel(BTreeMap::new());
    let Some(cluster) = cluster else {
        return Ok(reports_refused);
    };
    let client = cluster.client()?;
    let sessions = Subject::Sessions {
        speaker,
        told: Beginnings::default(),
    };
    for (name, subject) in [("report", sessions), ("report of maps", Subject::FullMaps)] {
        let ground = Ground {
            reporter: Reporter::new(client.clone(), subject.kind(), node),
            subject,
            snapshots: snapshots.clone(),
            generation: generation.clone(),
            refused: refused.clone(),
        };
        tasks.spawn(serving(name, report::run(ground)));
    }
    Ok(reports_refused)
}
