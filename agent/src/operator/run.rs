//! The life of a replica: waits for the Lease, acts while it has it, gives it back.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, Hasher as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use l2announce::{Timing, TimingError};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::plan::Report;
use super::serve::{Surface, listen, serve};
use super::term::{Definitions, Term};
use crate::cli::commands::{Exit, Failure};
use crate::cli::operator::OperatorArgs;
use crate::config::{self, Config, ConfigError};
use crate::metrics::exposition::Histogram;
use crate::shell::lease::{self, Place, Standing};
use crate::shell::signals::Signals;
use crate::shell::{log, memory};
use crate::source::kube::{Cluster, ClusterError};

/// The name of the Lease.
const LEASE: &str = "stentor-operator";
/// Threads: one plans, the others carry.
const THREADS: usize = 2;
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

/// Why the operator does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Log(#[from] log::BadFilter),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error("the times of the election do not fit: {0}; see --leader-election-lease-duration and its like")]
    Timing(#[from] TimingError),
    #[error("can not listen at {address}: {source}; give --{option} another address or port")]
    Listen {
        option: &'static str,
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error("signals can not be taken: {0}")]
    Signals(std::io::Error),
    #[error("the runtime can not be started: {0}")]
    Runtime(std::io::Error),
}

/// What metrics and health tell.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) leader: Leader,
    pub(super) alive: Instant,
    pub(super) report: Report,
    /// By kind and outcome.
    pub(super) writes: BTreeMap<(&'static str, &'static str), u64>,
    pub(super) events: BTreeMap<&'static str, u64>,
    pub(super) pending: usize,
    pub(super) failing: usize,
    pub(super) planned: Histogram,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leader {
    Waits,
    Acts,
}

impl State {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            leader: Leader::Waits,
            alive: now,
            report: Report::default(),
            writes: BTreeMap::new(),
            events: BTreeMap::new(),
            pending: 0,
            failing: 0,
            planned: Histogram::default(),
        }
    }
}

/// Runs until it is told to end.
///
/// # Errors
/// [`Failure`] with the line to print.
pub fn start(args: OperatorArgs) -> Result<Exit, Failure> {
    run(args).map_err(|error| Failure {
        exit: Exit::NotStarted,
        text: error.to_string(),
    })
}

fn run(args: OperatorArgs) -> Result<Exit, StartError> {
    log::start(args.log_format, &args.log)?;
    let (config, warnings) = config::load(args.config.as_deref(), std::env::vars(), &args.keys.given)?;
    for warning in warnings {
        tracing::warn!(reason = warning.reason, "{warning}");
    }
    let timing = Timing::new(
        args.leader_election_lease_duration,
        args.leader_election_renew_deadline,
        args.leader_election_retry_period,
    )?;
    let mut listeners = Vec::new();
    let asked = [
        ("health", args.health, Surface::Health),
        ("metrics", args.metrics, Surface::Metrics),
    ];
    for (option, address, surface) in asked {
        let Some(address) = address else { continue };
        let listener = listen(address).map_err(|source| StartError::Listen {
            option,
            address,
            source,
        })?;
        listeners.push((surface, listener));
    }
    memory::share();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()
        .map_err(StartError::Runtime)?;
    runtime.block_on(replica(args, config, timing, listeners))
}

async fn replica(
    args: OperatorArgs,
    config: Config,
    timing: Timing,
    listeners: Vec<(Surface, std::net::TcpListener)>,
) -> Result<Exit, StartError> {
    let mut signals = Signals::new().map_err(StartError::Signals)?;
    let cluster = Cluster::find(args.kubeconfig.as_deref()).await?;
    let me = args.identity.unwrap_or_else(identity);
    let (state, states) = watch::channel(Arc::new(State::new(Instant::now())));
    let mut servers = JoinSet::new();
    for (surface, listener) in listeners {
        let listener = tokio::net::TcpListener::from_std(listener).map_err(StartError::Runtime)?;
        servers.spawn(serve(listener, surface, states.clone()));
    }
    let place = Place {
        namespace: args.namespace,
        name: LEASE.to_owned(),
    };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        server = cluster.url(),
        me,
        namespace = place.namespace,
        "started; waiting for the Lease"
    );
    let candidacy = lease::start(cluster.clone(), place, &me, timing, random())?;
    let standing = candidacy.standing();
    let mut election = candidacy.standing();
    let mut beat = interval(SIGN_OF_LIFE);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let term = Term {
        cluster,
        config,
        me,
        definitions: match args.skip_crd_creation {
            true => Definitions::OfOthers,
            false => Definitions::Ours,
        },
        state: state.clone(),
    };
    let signal = loop {
        tokio::select! {
            signal = signals.end() => break signal,
            _ = beat.tick() => alive(&state),
            held = election.wait_for(is_holder) => {
                // The candidacy ends when it is told to, and not before.
                drop(held.map_err(|_| StartError::Runtime(std::io::Error::other("the election ended")))?);
                lead(&state, Leader::Acts);
                let ended = tokio::select! {
                    done = term.run(standing.clone()) => done.map(|()| None)?,
                    signal = signals.end() => Some(signal),
                };
                // Whatever was under way is dropped by here.
                lead(&state, Leader::Waits);
                if let Some(signal) = ended {
                    break signal;
                }
            }
        }
    };
    tracing::info!(signal, "ending");
    candidacy.resign().await;
    Ok(Exit::Good)
}

fn is_holder(standing: &Standing) -> bool {
    match standing {
        Standing::Holder { until } => *until > Instant::now(),
        Standing::Candidate { .. } => false,
    }
}

fn alive(state: &watch::Sender<Arc<State>>) {
    change(state, |state| state.alive = Instant::now());
}

fn lead(state: &watch::Sender<Arc<State>>, leader: Leader) {
    change(state, |state| {
        state.leader = leader;
        state.alive = Instant::now();
        // Who waits knows nothing.
        state.report = Report::default();
        (state.pending, state.failing) = (0, 0);
    });
}

pub(super) fn change(state: &watch::Sender<Arc<State>>, change: impl FnOnce(&mut State)) {
    state.send_modify(|state| change(Arc::make_mut(state)));
}

/// Nobody else has it, also after a restart of the same host.
fn identity() -> String {
    let host = nix::unistd::gethostname().ok();
    let host = host.and_then(|host| host.into_string().ok());
    format!("{}_{:016x}", host.as_deref().unwrap_or("stentor"), random())
}

pub(super) fn random() -> u64 {
    std::hash::RandomState::new().build_hasher().finish()
}
