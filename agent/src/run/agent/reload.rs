//! The configuration file: followed, and read at once on SIGHUP. Every key takes effect while the agent runs.

use super::Agent;
use crate::api::journal::Note;
use crate::config::follow;
use crate::shell::notify::State;

impl Agent {
    /// SIGHUP.
    pub(super) fn reload(&mut self) {
        self.notifier.tell(&State::Reloading);
        let look = self.read_config();
        self.config_file.take(look.clone());
        self.use_config(look);
        self.rescan.now();
        self.note(Note::here("reloaded", "configuration and folder are read again"));
        self.notifier.tell(&State::Ready(self.line()));
    }

    /// Whether a plan is needed.
    pub(super) fn look_at_config(&mut self) -> bool {
        let look = self.read_config();
        let Some(look) = self.config_file.see(look).cloned() else {
            return false;
        };
        self.note(Note::here(
            "reloaded",
            "the configuration changed and is read again",
        ));
        self.use_config(look);
        true
    }

    fn read_config(&self) -> follow::Look {
        let file = self.args.config.as_deref();
        tokio::task::block_in_place(|| follow::look(file, std::env::vars(), &self.args.keys.given))
    }

    /// A configuration that can't be understood leaves the present one in force.
    fn use_config(&mut self, look: follow::Look) {
        match look {
            Ok((config, warnings)) => {
                self.config = config;
                self.problems.config(warnings);
            }
            Err(problem) => self.problems.config(vec![*problem]),
        }
    }
}
