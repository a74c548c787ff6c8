//! Where wishes come from. A source tells which objects were applied and deleted; what is behind it, a folder or a
//! Kubernetes API server, nobody else knows.

pub mod dir;
pub mod folder;
pub mod kept;
pub mod kube;

use std::collections::BTreeSet;
use std::sync::Arc;

use crds::{Kind, ObjectRef, Parsed};
use tokio::sync::mpsc;

use crate::problem::Problem;

pub use kept::{Kept, KeptDocument};

/// Asks a running source to look now (SIGHUP). Dropping it ends the source.
#[derive(Debug)]
pub struct Rescan(mpsc::Sender<()>);

impl Rescan {
    /// A request while one is waiting is the same request.
    pub fn now(&self) {
        let _waiting_already = self.0.try_send(());
    }
}

fn rescans() -> (Rescan, mpsc::Receiver<()>) {
    let (rescan, asked) = mpsc::channel(1);
    (Rescan(rescan), asked)
}

/// News of one object.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    Applied(Arc<Parsed>),
    Deleted(ObjectRef),
}

/// News that belong together, with everything that is wrong at the source now (not only what is new). A source's
/// first batch holds everything there is, and is sent even if it is empty.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    pub changes: Vec<Change>,
    pub problems: Vec<Problem>,
    /// Objects in force that their files do not say any more, by reference: all there are now.
    pub kept: Vec<Kept>,
    /// Kinds that can not be had now: what is known of their objects is old, or nothing.
    pub refused: BTreeSet<Kind>,
    pub allotter: Allotter,
}

/// Who gives addresses out of pools.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Allotter {
    /// Each agent for itself; all come to the same ones.
    #[default]
    Agents,
    /// An operator, ours or Cilium's: it counts what pools have, and writes addresses into Services.
    Operator,
}
