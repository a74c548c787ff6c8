//! The loop.

use crate::cli::args::AgentArgs;
use crate::cli::commands::{Exit, Failure};

pub fn start(_args: AgentArgs) -> Result<Exit, Failure> {
    Ok(Exit::NotStarted)
}
