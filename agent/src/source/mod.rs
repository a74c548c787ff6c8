//! Where wishes come from. A source tells which objects were applied and deleted; what is behind it, a folder
//! today, a Kubernetes API server later, nobody else knows.

pub mod dir;
pub mod folder;
pub mod kept;

use std::sync::Arc;

use crds::{ObjectRef, Parsed};

use crate::problem::Problem;

pub use kept::{Kept, KeptDocument};

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
}
