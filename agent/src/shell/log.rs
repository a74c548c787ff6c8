//! Logs to standard error: text for people, JSON for collectors.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// `--log-format`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    #[default]
    Text,
    Json,
}

/// The filter is not one.
#[derive(Debug, thiserror::Error)]
#[error(
    "--log {filter:?} is no filter: {why}; write for example info, debug or stentor=debug,bgp_speaker=trace"
)]
pub struct BadFilter {
    filter: String,
    why: String,
}

/// `filter` in the syntax of RUST_LOG.
///
/// # Errors
/// [`BadFilter`].
pub fn start(format: Format, filter: &str) -> Result<(), BadFilter> {
    let parsed = EnvFilter::try_new(filter).map_err(|error| BadFilter {
        filter: filter.to_owned(),
        why: error.to_string(),
    })?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(parsed)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // A second start (tests in one process) keeps the first.
    let _ = match format {
        Format::Text => log.try_init(),
        Format::Json => log.json().flatten_event(true).try_init(),
    };
    Ok(())
}
