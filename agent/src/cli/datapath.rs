//! `stentor datapath`: what agents left in the kernel.

use std::path::Path;

use super::args::DatapathCommand;
use super::commands::{Exit, Failure};
use super::lb::failed;
use crate::datapath::task::FOLDER;

pub(super) fn run(command: &DatapathCommand) -> Result<Exit, Failure> {
    match command {
        DatapathCommand::Detach { bpf_root } => detach(&bpf_root.join(FOLDER)),
    }
}

/// Programs are off when this returns.
fn detach(folder: &Path) -> Result<Exit, Failure> {
    if !folder.exists() {
        println!(
            "There is no {}: nothing of Stentor is in the kernel.",
            folder.display()
        );
        return Ok(Exit::Good);
    }
    ebpf_loader::remove(folder).map_err(|error| failed(&error))?;
    println!(
        "Removed {} and everything that was pinned there.",
        folder.display()
    );
    Ok(Exit::Good)
}
