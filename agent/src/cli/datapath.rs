//! `stentor datapath`: what agents left in the kernel.

use std::io::ErrorKind;
use std::path::Path;

use super::args::DatapathCommand;
use super::commands::{Exit, Failure};
use crate::datapath::task::FOLDER;

pub(super) fn run(command: &DatapathCommand) -> Result<Exit, Failure> {
    match command {
        DatapathCommand::Detach { bpf_root } => detach(&bpf_root.join(FOLDER)),
    }
}

/// A link lives as long as its file, and a map as long as its file or a program that uses it.
fn detach(folder: &Path) -> Result<Exit, Failure> {
    match std::fs::remove_dir_all(folder) {
        Ok(()) => {
            println!(
                "Removed {} and everything that was pinned there.",
                folder.display()
            );
            Ok(Exit::Good)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            println!(
                "There is no {}: nothing of Stentor is in the kernel.",
                folder.display()
            );
            Ok(Exit::Good)
        }
        Err(error) => Err(Failure {
            exit: Exit::Problems,
            text: format!("{} can not be removed: {error}", folder.display()),
        }),
    }
}
