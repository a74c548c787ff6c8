//! Carries what this node tells to the API server: of its sessions, and of its load balancer; of neither faster than one
//! write in [`PAUSE`].
//!
//! ```text
//!   something changed --gather--> difference to what was seen --> write --pause--> ...
//! ```
//!
//! A write that fails is tried again, ever less often; nothing else waits for it.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bgp_speaker::net::Handle;
use crds::Kind;
use crds::cilium_node::FullMap;
use crds::k8s_openapi::jiff::Timestamp;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::writes::{NotReported, Reporter};
use crate::api::snapshot::Snapshot;
use crate::config::BgpControlPlane;
use crate::config::datapath::Switch;
use crate::report::{Beginnings, Facts, full_maps, patch};

/// Between writes. With jitter, so that nodes that heard of the same do not write at the same time.
const PAUSE: Duration = Duration::from_secs(5);
/// After failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// What changes together is told together.
const GATHER: Duration = Duration::from_millis(500);
/// Also without news: what others took out comes back.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// What is told.
#[derive(Debug)]
pub(crate) enum Subject {
    /// In the status of the `CiliumBGPNodeConfig`.
    Sessions { speaker: Handle, told: Beginnings },
    /// What the load balancer has no room for, in the status of the `CiliumNode`.
    FullMaps,
}

/// The speaker is gone.
struct Ended;

/// What it reads, and where it says why it can not write.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) subject: Subject,
    pub(crate) reporter: Reporter,
    pub(crate) snapshots: watch::Receiver<Arc<Snapshot>>,
    pub(crate) generation: watch::Receiver<u64>,
    /// Why the API server refuses which of the reports.
    pub(crate) refused: watch::Sender<BTreeMap<Kind, String>>,
}

/// Returns when the loop or the speaker is gone.
pub(crate) async fn run(mut ground: Ground) {
    let mut pause = PAUSE;
    loop {
        let Ok(change) = ground.subject.change(&ground.snapshots).await else {
            return;
        };
        let Some(change) = change else {
            ground.tell(None);
            let changed = timeout(LOOK_AGAIN, ground.generation.changed());
            if let Ok(Err(_)) = changed.await {
                return;
            }
            sleep(GATHER).await;
            continue;
        };
        let written = ground.reporter.write(&change).await;
        let taken = written.and_then(|status| ground.subject.taken(&change, &status));
        pause = match taken {
            Ok(()) => {
                ground.tell(None);
                PAUSE
            }
            // The object went; its news is on the way.
            Err(NotReported::Gone) => PAUSE,
            Err(NotReported::Refused(why)) => {
                ground.tell(Some(why));
                (pause * 2).min(LONGEST_PAUSE)
            }
            Err(NotReported::Away(error)) => {
                tracing::debug!(
                    error,
                    kind = ground.subject.kind().as_str(),
                    "a status was not written; it is tried again"
                );
                (pause * 2).min(LONGEST_PAUSE)
            }
        };
        tokio::select! {
            () = sleep(jittered(pause)) => {}
            () = ended(&mut ground.generation) => return,
        }
    }
}

impl Subject {
    /// In whose status it is told.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Sessions { .. } => Kind::CiliumBGPNodeConfig,
            Self::FullMaps => Kind::CiliumNode,
        }
    }

    /// What is to be written; `None`: nothing.
    async fn change(&mut self, snapshots: &watch::Receiver<Arc<Snapshot>>) -> Result<Option<Value>, Ended> {
        let latest = || Arc::clone(&snapshots.borrow());
        match self {
            Self::Sessions { speaker, told } => {
                let peers = speaker.peers().await.map_err(|_| Ended)?;
                let snapshot = latest();
                let (Some(seen), BgpControlPlane::Enabled) = (&snapshot.node_config, snapshot.config.bgp)
                else {
                    return Ok(None);
                };
                let facts = Facts {
                    seen,
                    desired: &snapshot.desired,
                    listen_errors: &snapshot.listen_errors,
                    peers: &peers,
                    report: snapshot.config.operator.report,
                };
                Ok(patch(facts, told, Instant::now(), Timestamp::now()))
            }
            Self::FullMaps => {
                let snapshot = latest();
                let full: Option<&[FullMap]> = match snapshot.config.datapath.switch {
                    Switch::Off => Some(&[]),
                    Switch::On => snapshot.datapath.refused.as_deref(),
                };
                let both = snapshot.full_maps.as_deref().zip(full);
                Ok(both.and_then(|(seen, full)| full_maps(seen, full)))
            }
        }
    }

    /// Whether the object says what was written: a definition that is not ours drops what it does not know.
    fn taken(&self, change: &Value, status: &Value) -> Result<(), NotReported> {
        match self {
            Self::Sessions { .. } => Ok(()),
            Self::FullMaps => {
                let member = "load-balancer";
                if change["status"][member].is_null() || !status[member].is_null() {
                    return Ok(());
                }
                Err(NotReported::Refused(format!(
                    "the definition of {} in the cluster does not have status.{member}; let the operator install ours",
                    self.kind()
                )))
            }
        }
    }
}

impl Ground {
    fn tell(&self, why: Option<String>) {
        let kind = self.subject.kind();
        self.refused.send_if_modified(|told| {
            let before = match why.clone() {
                Some(why) => told.insert(kind, why),
                None => told.remove(&kind),
            };
            before != why
        });
    }
}

/// Comes back when nothing can change any more.
async fn ended(generation: &mut watch::Receiver<u64>) {
    // Marks what it sees as seen, which costs nothing: who waits for it looks first.
    while generation.changed().await.is_ok() {}
}

/// Between nine and eleven tenths.
fn jittered(pause: Duration) -> Duration {
    let random = std::hash::RandomState::new().build_hasher().finish();
    let tenths = u32::try_from(random % 200).unwrap_or(100);
    pause * (900 + tenths) / 1000
}
