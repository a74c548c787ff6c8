//! Running other programs, with a line that says so.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// The workspace's folder.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the workspace")
}

/// The very cargo that runs this program.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    // Set by `cargo run` for this package; a build script of another one must not see them.
    for (name, _) in env::vars_os() {
        if name
            .to_str()
            .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"))
        {
            command.env_remove(name);
        }
    }
    command
}

/// Where a program lies, as a shell would find it; `/usr/sbin` included, which is not on everybody's path.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    if program.starts_with('/') {
        return Some(PathBuf::from(program)).filter(|path| path.exists());
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// Runs a command to its end with its output on the terminal.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    run_as(command, &shown)
}

/// The same for a command that is shown by another text.
pub(crate) fn run_as(command: &mut Command, shown: &str) -> Result<()> {
    eprintln!("$ {shown}");
    let status = command
        .status()
        .with_context(|| format!("cannot start {shown}"))?;
    if !status.success() {
        bail!("`{shown}` ended with {status}");
    }
    Ok(())
}

/// Runs a command to its end and keeps its output.
pub(crate) fn capture(command: &mut Command) -> Result<Output> {
    let shown = show(command);
    command.output().with_context(|| format!("cannot start {shown}"))
}

/// Runs a command, silent, to its end, or to the end of its time.
pub(crate) fn succeeds_within(command: &mut Command, limit: Duration) -> Result<bool> {
    let shown = show(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {shown}"))?;
    let ended = lab::until(limit, shown, || {
        child
            .try_wait()
            .ok()
            .flatten()
            .ok_or_else(|| "it runs".to_owned())
    });
    if ended.is_err() {
        child.kill()?;
        child.wait()?;
    }
    Ok(ended.is_ok_and(|status| status.success()))
}

/// The command as a person would type it.
pub(crate) fn show(command: &Command) -> String {
    let name = Path::new(command.get_program())
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    command
        .get_args()
        .fold(name, |shown, arg| shown + " " + &arg.to_string_lossy())
}

/// Seconds with one decimal, for people.
pub(crate) fn seconds(since: Instant) -> String {
    format!(
        "{:.1} s",
        since.elapsed().max(Duration::from_millis(1)).as_secs_f64()
    )
}
