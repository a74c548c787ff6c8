//! Ends sockets whose backend went, on a thread of its own: where there are many sockets a look at all of them takes long,
//! and maps must not wait for it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ebpf_loader::{Datapath, Orphans};

use super::trouble;
use crate::problem::Problem;
use crate::source::kube::chain;

/// A socket that just connected may not be seen the first time.
const ONCE_MORE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Ending {
    bell: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    ended: Arc<AtomicU64>,
}

impl Ending {
    /// Looks once, and from then on whenever it is told to.
    pub fn begin(datapath: &Datapath, cgroup: PathBuf) -> Result<Self, Box<Problem>> {
        let orphans = Orphans::open(datapath).map_err(|error| trouble("sockets-not-ended", &error))?;
        let (bell, rung) = sync_channel(1);
        let ended = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&ended);
        let thread = thread::Builder::new()
            .name("orphans".into())
            .spawn(move || run(&orphans, &cgroup, &rung, &count))
            .map_err(|error| trouble("sockets-not-ended", &error))?;
        let ending = Self {
            bell: Some(bell),
            thread: Some(thread),
            ended,
        };
        ending.look();
        Ok(ending)
    }

    /// A backend may have gone. Returns at once; several calls may be one look.
    pub fn look(&self) {
        if let Some(bell) = &self.bell {
            // Where one waits already, it will see what is in the maps then.
            let _ = bell.try_send(());
        }
    }

    /// Sockets ended so far. Goes on counting in the copy.
    pub fn ended(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.ended)
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        drop(self.bell.take());
        if let Some(thread) = self.thread.take() {
            // A panic was printed when it happened.
            let _ = thread.join();
        }
    }
}

fn run(orphans: &Orphans, cgroup: &Path, rung: &Receiver<()>, ended: &AtomicU64) {
    let mut once_more = false;
    loop {
        let heard = if once_more {
            rung.recv_timeout(ONCE_MORE)
        } else {
            rung.recv().map_err(|_| RecvTimeoutError::Disconnected)
        };
        once_more = match heard {
            Ok(()) => true,
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        match orphans.abort(cgroup) {
            Ok(aborted) => {
                for one in &aborted {
                    tracing::debug!(
                        asked = %one.asked,
                        backend = %one.real,
                        protocol = one.protocol,
                        "a socket is ended: its backend is gone"
                    );
                }
                let count = u64::try_from(aborted.len()).unwrap_or(u64::MAX);
                ended.fetch_add(count, Ordering::Relaxed);
            }
            // `stentor status` says it of kernels that can not.
            Err(error) => tracing::warn!(
                error = chain(&error),
                "sockets whose backend went can not be ended; it is tried again when another one goes"
            ),
        }
    }
}
