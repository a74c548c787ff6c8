//! The agent's program, for suites that run it as a whole.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// The agent that was built with these tests, or is built now; `STENTOR_BINARY` names another one.
///
/// # Errors
/// It does not build.
pub fn program() -> Result<PathBuf> {
    if let Some(given) = std::env::var_os("STENTOR_BINARY") {
        let given = PathBuf::from(given);
        ensure!(
            given.is_file(),
            "STENTOR_BINARY: {} is not there",
            given.display()
        );
        return Ok(given);
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .args(["build", "--quiet", "--package", "stentor"])
        .status()?;
    ensure!(built.success(), "the agent does not build");
    let test = std::env::current_exe()?;
    let folder = test.parent().and_then(Path::parent).context("no target folder")?;
    let program = folder.join("stentor");
    ensure!(program.is_file(), "{} is not there", program.display());
    Ok(program)
}
