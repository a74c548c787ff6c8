//! From the command line to a running agent, and back to an exit code.
//!
//! Everything that can be refused is refused here, before the first socket to a peer is opened, with one line
//! that says what, where and what to do.

mod agent;

use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

use crate::api::serve::Surface;
use crate::cli::args::AgentArgs;
use crate::cli::commands::{Exit, Failure};
use crate::config::{self, ConfigError};
use crate::shell::{log, memory};
use crate::source::kube::ClusterError;
use crate::state::{StateError, StateFolder};

/// Threads: one for the speaker, one for everything else. A long plan never delays a keepalive.
const THREADS: usize = 2;

/// Why the agent does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Log(#[from] log::BadFilter),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error("the folder {path} of --manifests can not be read: {source}; create it, or give another")]
    Manifests { path: PathBuf, source: std::io::Error },
    #[error(
        "another agent (process {pid}) listens on {path}; stop it, or give this one another --socket and --state"
    )]
    SocketInUse { path: PathBuf, pid: i32 },
    #[error(
        "can not listen on {path}: {source}; its folder must exist and be writable, or give another --socket"
    )]
    Socket { path: PathBuf, source: std::io::Error },
    #[error("{path} is there and no socket; it is left alone: give another --socket")]
    NotASocket { path: PathBuf },
    #[error("can not serve {option} at {address}: {source}; give --{option} another address or port")]
    Listen {
        option: &'static str,
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error("the runtime can not be started: {0}")]
    Runtime(std::io::Error),
}

/// Everything that was had before the agent runs.
struct Prepared {
    args: AgentArgs,
    config: config::Config,
    warnings: Vec<crate::problem::Problem>,
    state: StateFolder,
    socket: UnixListener,
    /// Over TCP, and which part of the API.
    listeners: Vec<(Surface, std::net::TcpListener)>,
}

/// Runs the agent until it is told to end.
///
/// # Errors
/// [`Failure`] with the line to print.
pub fn start(args: AgentArgs) -> Result<Exit, Failure> {
    let not_started = |error: StartError| Failure {
        exit: Exit::NotStarted,
        text: error.to_string(),
    };
    memory::share();
    let prepared = prepare(args).map_err(not_started)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()
        .map_err(|error| not_started(StartError::Runtime(error)))?;
    runtime.block_on(agent::run(prepared))
}

fn prepare(args: AgentArgs) -> Result<Prepared, StartError> {
    log::start(args.log_format, &args.log)?;
    let (config, warnings) = config::load(args.config.as_deref(), std::env::vars(), &args.keys.given)?;
    if let Some(path) = args.manifests.clone() {
        std::fs::read_dir(&path).map_err(|source| StartError::Manifests { path, source })?;
    }
    let state = StateFolder::open(&args.state)?;
    let socket = listen(&args.socket)?;
    let asked = [
        ("metrics", args.metrics, Surface::Metrics),
        ("health", args.health, Surface::Health),
    ];
    let asked = asked
        .into_iter()
        .filter_map(|(option, address, surface)| Some((option, address?, surface)));
    let listeners = asked
        .map(|(option, address, surface)| Ok((surface, listen_tcp(option, address)?)))
        .collect::<Result<_, StartError>>()?;
    Ok(Prepared {
        args,
        config,
        warnings,
        state,
        socket,
        listeners,
    })
}

/// A socket file that nobody listens on is left from a run that was killed; one that answers is not ours.
fn listen(path: &Path) -> Result<UnixListener, StartError> {
    let failed = |source| StartError::Socket {
        path: path.to_owned(),
        source,
    };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    match UnixStream::connect(path) {
        Ok(other) => {
            let pid = getsockopt(&other, PeerCredentials).map_or(0, |credentials| credentials.pid());
            return Err(StartError::SocketInUse {
                path: path.to_owned(),
                pid,
            });
        }
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            // Also the answer of what is no socket; that is somebody else's.
            let kind = std::fs::symlink_metadata(path).map_err(failed)?.file_type();
            if !kind.is_socket() {
                return Err(StartError::NotASocket {
                    path: path.to_owned(),
                });
            }
            std::fs::remove_file(path).map_err(failed)?;
        }
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return Err(failed(error)),
        // Not there: binding tells.
        Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

fn listen_tcp(option: &'static str, address: SocketAddr) -> Result<std::net::TcpListener, StartError> {
    let failed = |source| StartError::Listen {
        option,
        address,
        source,
    };
    let listener = std::net::TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_left_behind_is_taken_over_and_one_in_use_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/agent.sock");
        drop(listen(&path).unwrap());
        let listening = listen(&path).unwrap();
        match listen(&path) {
            Err(StartError::SocketInUse { pid, .. }) => {
                assert_eq!(pid, i32::try_from(std::process::id()).unwrap());
            }
            other => panic!("{other:?}"),
        }
        drop(listening);
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("precious");
        std::fs::write(&path, "data").unwrap();
        let error = listen(&path).unwrap_err();
        assert!(matches!(error, StartError::NotASocket { .. }), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "data");
    }

    #[test]
    fn a_port_in_use_names_the_address_and_the_option() {
        let first = listen_tcp("metrics", "127.0.0.1:0".parse().unwrap()).unwrap();
        let error = listen_tcp("metrics", first.local_addr().unwrap()).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("can not serve metrics at 127.0.0.1:"),
            "{error}"
        );
    }
}
