//! Carries the report of this node's sessions to the API server, never faster than one write in [`PAUSE`].
//!
//! ```text
//!   something changed --gather--> report::patch --> write --pause--> ...
//! ```
//!
//! A write that fails is tried again, ever less often; nothing else waits for it.

use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bgp_speaker::net::Handle;
use crds::k8s_openapi::jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::writes::{NotReported, Reporter};
use crate::api::snapshot::Snapshot;
use crate::config::BgpControlPlane;
use crate::report::{Beginnings, Facts, patch};

/// Between writes. With jitter, so that nodes that heard of the same do not write at the same time.
const PAUSE: Duration = Duration::from_secs(5);
/// After failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// What changes together is told together.
const GATHER: Duration = Duration::from_millis(500);
/// Also without news: what others took out comes back.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// What it reads, and where it says why it can not write.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) reporter: Reporter,
    pub(crate) speaker: Handle,
    pub(crate) snapshots: watch::Receiver<Arc<Snapshot>>,
    pub(crate) generation: watch::Receiver<u64>,
    /// Why the API server refuses the report, if it does.
    pub(crate) refused: watch::Sender<Option<String>>,
}

/// Returns when the loop or the speaker is gone.
pub(crate) async fn run(mut ground: Ground) {
    let mut told = Beginnings::default();
    let mut pause = PAUSE;
    loop {
        let Ok(peers) = ground.speaker.peers().await else {
            return;
        };
        let snapshot = Arc::clone(&ground.snapshots.borrow());
        let change = match (&snapshot.node_config, snapshot.config.bgp) {
            (Some(seen), BgpControlPlane::Enabled) => {
                let facts = Facts {
                    seen,
                    desired: &snapshot.desired,
                    listen_errors: &snapshot.listen_errors,
                    peers: &peers,
                    report: snapshot.config.operator.report,
                };
                patch(facts, &mut told, Instant::now(), Timestamp::now())
            }
            (Some(_), BgpControlPlane::Disabled) | (None, _) => None,
        };
        let Some(change) = change else {
            let changed = timeout(LOOK_AGAIN, ground.generation.changed());
            if let Ok(Err(_)) = changed.await {
                return;
            }
            sleep(GATHER).await;
            continue;
        };
        pause = match ground.reporter.write(&change).await {
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
                    "the report of the sessions was not written; it is tried again"
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

impl Ground {
    fn tell(&self, why: Option<String>) {
        self.refused.send_if_modified(|told| {
            let differs = *told != why;
            *told = why;
            differs
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
