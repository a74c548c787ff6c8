//! Which pools addresses are from, where agents give them: what a pool retains is told by that.

use std::sync::Arc;

use super::Agent;
use crate::plan::origins::Remembering;
use crate::plan::{Desired, vip_changes};
use crate::state::{StateError, StateFolder};
use crate::world::{Origins, ServiceRef, World};

#[derive(Debug)]
pub(super) struct Remembered {
    following: Remembering,
    /// The plan it was brought up to date with.
    last: Arc<Desired>,
    /// What the state folder holds. `None`: the last write failed.
    written: Option<Arc<Origins>>,
}

impl Remembered {
    /// As an earlier run left it.
    pub(super) fn read(state: &StateFolder, world: &mut World) -> Result<Self, StateError> {
        let origins = Arc::new(state.origins()?);
        world.observed.origins = Arc::clone(&origins);
        Ok(Self {
            following: Remembering::default(),
            last: Arc::default(),
            written: Some(origins),
        })
    }
}

impl Agent {
    /// Before addresses are written down: one whose pool is not known may move when its block goes.
    pub(super) fn remember_origins(&mut self) {
        let desired = Arc::clone(&self.desired);
        let last = std::mem::replace(&mut self.remembered.last, Arc::clone(&desired));
        let mut origins = Arc::clone(&self.world.observed.origins);
        let changes = vip_changes(&last.vips, &desired.vips).into_iter();
        let changed = changes.map(|change| change.service);
        let held = |service: &ServiceRef| desired.vips.get(service).map(Vec::as_slice).unwrap_or_default();
        let all = desired.vips.iter();
        let following = &mut self.remembered.following;
        following.step(&self.world, &mut origins, changed, all, held);
        self.world.observed.origins = origins;
        self.write_origins();
    }

    pub(super) fn write_origins(&mut self) {
        let origins = Arc::clone(&self.world.observed.origins);
        if self.remembered.written.as_ref() == Some(&origins) {
            return;
        }
        let done = tokio::task::block_in_place(|| self.state.keep_origins(&origins));
        self.remembered.written = done.is_ok().then_some(origins);
        self.written("origins", done);
    }
}
