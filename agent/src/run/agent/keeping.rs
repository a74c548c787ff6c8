//! What the state folder is told: addresses, last good versions, signs of life. What could not be written is a problem
//! until it could.

use std::time::SystemTime;

use super::{Agent, boot_id};
use crate::problem::{Problem, Severity};
use crate::source::{Allotter, Kept, KeptDocument};
use crate::state::{self, Ended, LastRun, StateError};

/// What an earlier run kept, as far as this version takes it.
pub(super) fn read(documents: &[KeptDocument]) -> Vec<Kept> {
    let mut kept = Vec::new();
    for document in documents {
        match Kept::read(document) {
            Some(read) => kept.push(read),
            None => tracing::warn!(
                file = document.file,
                line = document.line,
                "the last good version in the state folder is not one for this version of Stentor; it is dropped"
            ),
        }
    }
    kept
}

impl Agent {
    /// At once where this agent gives addresses: whoever has one now has it after a restart. What an operator gave stands
    /// in the status of the Service, and is written with the next sign of life.
    pub(super) fn write_given_vips(&mut self) {
        self.remember_origins();
        match self.world.allotter {
            Allotter::Agents => self.write_vips(),
            Allotter::Operator => {}
        }
    }

    pub(super) fn write_vips(&mut self) {
        if self.vips_written.as_ref() == Some(&self.desired.vips) {
            return;
        }
        let done = tokio::task::block_in_place(|| self.state.keep_vips(&self.desired.vips));
        self.vips_written = done.is_ok().then(|| self.desired.vips.clone());
        self.written("vips", done);
    }

    pub(super) fn write_kept(&mut self) {
        let documents: Vec<KeptDocument> = self.kept.iter().filter_map(Kept::document).collect();
        if self.kept_written.as_ref() == Some(&documents) {
            return;
        }
        let done = tokio::task::block_in_place(|| self.state.keep(&documents));
        self.kept_written = done.is_ok().then_some(documents);
        self.written("kept", done);
    }

    pub(super) fn mark(&mut self, ended: Ended) {
        let run = LastRun {
            node: self.args.node.clone(),
            boot_id: boot_id(),
            seen: state::seconds(SystemTime::now()),
            ended,
        };
        let done = tokio::task::block_in_place(|| self.state.mark(&run));
        self.written("run", done);
    }

    pub(super) fn written(&mut self, what: &'static str, done: Result<(), StateError>) {
        let problem = done
            .err()
            .map(|error| Problem::here(Severity::Error, error.name(), error.to_string()));
        if self.problems.written(what, problem) {
            self.publish();
        }
    }
}
