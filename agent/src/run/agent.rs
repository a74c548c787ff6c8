//! The loop: news in, World, plan, difference out.
//!
//! ```text
//!   source --batch--+                              +--> speaker  (watch: only the latest wish matters)
//!   netlink --news--+--> World --> plan --> diff --+--> discard routes (watch)
//!   speaker --event-+       (once per burst)       +--> state folder
//!   datapath -report+                              +--> datapath (mailbox)
//!   signals, ticks--+                              +--> snapshot for API and metrics (watch)
//! ```
//!
//! The speaker begins with the first plan: until then this node has nothing to say, and whether peers may
//! still hold routes of the last run depends on the restart time the configuration asks of them.

mod balancing;
mod events;
mod keeping;
mod planning;
mod problems;
mod reload;
mod retaining;
mod telling;
mod wishes;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, Hasher as _};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bgp_speaker::config::SpeakerConfig;
use bgp_speaker::net::{self, Handle, Support};
use bgp_speaker::speaker::{Event, Shutdown};
use bgp_speaker::types::{Name, Prefix};
use crds::Kind;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{MissedTickBehavior, interval};

use super::Prepared;
use crate::api::handle::Api;
use crate::api::journal::{Journal, Note};
use crate::api::serve::{self, Surface};
use crate::api::snapshot::Snapshot;
use crate::api::status::Identity;
use crate::api::view::Feature;
use crate::cli::args::AgentArgs;
use crate::cli::commands::{Exit, Failure};
use crate::config::Config;
use crate::config::follow::Follower;
use crate::metrics::Metrics;
use crate::plan::{Desired, Planner};
use crate::report::{Seen, seen_full_maps};
use crate::shared_map::SharedMap;
use crate::shell::memory;
use crate::shell::netlink::{self, News};
use crate::shell::notify::{Notifier, State};
use crate::shell::signals::{Heard, Signals};
use crate::source::{Batch, Kept, KeptDocument, Rescan};
use crate::state::{self, Ended, StateFolder};
use crate::world::{ServiceRef, Touched, World};

use balancing::Balancer;
use planning::timed_plan;
use problems::Problems;

/// News of the kernel under way.
const NEWS: usize = 64;
/// How often the state folder learns that this agent is alive, and failed writes are tried again.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);
/// Of more changes than this at once the journal tells the number.
const AT_ONCE: usize = 50;
/// Refused connections are logged this far apart.
const REFUSED_PAUSE: Duration = Duration::from_secs(10);
/// The configuration file is looked at this often.
const LOOK_AT_CONFIG: Duration = Duration::from_secs(3);
/// How long sessions may take to close.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(5);
/// A speaker that does not answer in this time is stuck, and the watchdog hears nothing.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Runs until a signal says to end.
pub(super) async fn run(prepared: Prepared) -> Result<Exit, Failure> {
    let failed = |what: &str, error: &dyn std::fmt::Display| Failure {
        exit: Exit::NotStarted,
        text: format!("{what}: {error}"),
    };
    let mut signals = Signals::new().map_err(|error| failed("signals can not be taken", &error))?;
    let Prepared {
        args,
        config,
        warnings,
        state,
        socket,
        listeners,
    } = prepared;
    let held = state.vips().map_err(|error| failed("state", &error))?;
    let last = state.last_run().map_err(|error| failed("state", &error))?;
    let kept = state.kept().map_err(|error| failed("state", &error))?;

    let mut tasks = JoinSet::new();
    let (cluster, (rescan, mut batches, source)) = wishes::follow(&args, &config, &kept).await?;
    tasks.spawn(own("source", source));
    let (discards, discards_wished) = watch::channel(None);
    let (news_out, mut news) = mpsc::channel(NEWS);
    tasks.spawn(async move {
        netlink::run(discards_wished, news_out).await;
        ("netlink", Ok(()))
    });

    // The first plan needs all wishes, and the kernel's routes where they can be had.
    let mut world = World::new(args.node.as_str());
    world.observed.held_vips = held;
    let mut problems = Problems::default();
    problems.config(warnings.clone());
    let remembered =
        retaining::Remembered::read(&state, &mut world).map_err(|error| failed("state", &error))?;
    let first = async {
        // Without it there is nothing to say; with an empty one everything would be withdrawn.
        let batch = batches.recv().await?;
        Some((batch, news.recv().await))
    };
    let (batch, first_news) = tokio::select! {
        first = first => first.ok_or_else(|| failed("nothing can be read", &"the reader of wishes ended"))?,
        _ = signals.end() => return Ok(Exit::Good),
    };
    let now_kept = batch.kept.clone();
    world.take(batch);
    if let Some(news) = first_news {
        observe(&mut world, &mut problems, &news);
    }

    let mut balancer = Balancer::start(&mut tasks);
    let left = |speaker: &SpeakerConfig| {
        let longest = longest_restart(speaker);
        state::left(last.as_ref(), &args.node, &boot_id(), SystemTime::now(), longest)
    };
    tokio::select! {
        () = balancer.begin(&mut world, &config, &left) => {}
        _ = signals.end() => return Ok(Exit::Good),
    }
    let metrics_counted = Arc::new(Metrics::default());
    let mut planner = Planner::default();
    let first = timed_plan(
        &mut planner,
        &world,
        &config,
        &Touched::everything(),
        &metrics_counted,
    );
    let desired = Arc::new(first.unwrap_or_default());
    let start = state::start(left(&desired.speaker));
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        node = args.node,
        wishes = wishes::place(&args),
        ?start,
        "started"
    );
    let options = net::Options {
        host_name: Some(args.node.as_str().into()),
        ..net::Options::default()
    };
    let (speaker, events, driver) = net::start(start, seed(), options);
    tasks.spawn(own("speaker", driver));

    let (snapshot, snapshots) = watch::channel(Arc::new(Snapshot::default()));
    let (generation, generations) = watch::channel(0);
    let journal = Arc::new(Journal::default());
    let mut agent = Agent {
        world,
        config: config.clone(),
        config_file: Follower::new(Ok((config, warnings))),
        problems,
        state,
        speaker: speaker.clone(),
        discards,
        snapshot,
        generation,
        journal: Arc::clone(&journal),
        metrics: Arc::clone(&metrics_counted),
        planner,
        touched: Touched::default(),
        desired: Arc::default(),
        listen_errors: BTreeMap::new(),
        vips_written: None,
        kept: now_kept,
        kept_written: Some(kept),
        notifier: Notifier::from_environment(),
        rescan,
        args,
        refused_logged: None,
        refused_dropped: 0,
        balancer,
        remembered,
    };
    agent.note(Note::here(
        "started",
        match start {
            bgp_speaker::speaker::Start::Cold => "from nothing",
            bgp_speaker::speaker::Start::Restarted => "after a restart: peers may still hold our routes",
        },
    ));
    agent.apply(desired).await;
    agent.write_kept();
    // Objects were read for it that are not needed any more.
    tokio::task::block_in_place(memory::give_back);

    let told = (speaker.clone(), snapshots.clone(), generations.clone());
    let reports_refused = telling::start(&mut tasks, cluster, &agent.args.node, told)
        .map_err(|error| failed("cluster", &error))?;
    let api = Arc::new(Api {
        speaker,
        snapshot: snapshots,
        generation: generations,
        journal,
        metrics: metrics_counted,
        identity: Identity {
            node: agent.args.node.clone(),
            started: Instant::now(),
            features: features(),
        },
    });
    let listening = |error: std::io::Error| failed("the API can not be served", &error);
    let unix = tokio::net::UnixListener::from_std(socket).map_err(listening)?;
    tasks.spawn(serving("api", serve::unix(unix, Arc::clone(&api))));
    for (surface, listener) in listeners {
        let tcp = tokio::net::TcpListener::from_std(listener).map_err(listening)?;
        let name = match surface {
            Surface::Everything => "api",
            Surface::Metrics => "metrics",
            Surface::Health => "health",
        };
        tasks.spawn(serving(name, serve::tcp(tcp, Arc::clone(&api), surface)));
    }
    agent.mark(Ended::Running);
    agent.notifier.tell(&State::Ready(agent.line()));
    let inputs = Inputs {
        batches,
        news,
        events,
        signals,
        reports_refused,
        tasks,
    };
    agent.run(inputs).await
}

/// What the loop listens to.
struct Inputs {
    batches: mpsc::Receiver<Batch>,
    news: mpsc::Receiver<News>,
    events: mpsc::Receiver<Event>,
    signals: Signals,
    /// Why the status of which objects is not written.
    reports_refused: watch::Receiver<BTreeMap<Kind, String>>,
    tasks: JoinSet<(&'static str, Result<(), JoinError>)>,
}

struct Agent {
    world: World,
    config: Config,
    config_file: Follower,
    problems: Problems,
    state: StateFolder,
    speaker: Handle,
    discards: watch::Sender<Option<BTreeSet<Prefix>>>,
    snapshot: watch::Sender<Arc<Snapshot>>,
    /// Grows with everything that can change an answer of the API.
    generation: watch::Sender<u64>,
    journal: Arc<Journal>,
    metrics: Arc<Metrics>,
    planner: Planner,
    /// What changed since the last plan.
    touched: Touched,
    /// The last plan that was applied.
    desired: Arc<Desired>,
    listen_errors: BTreeMap<Name, String>,
    /// What the state folder holds. `None`: the last write failed.
    vips_written: Option<SharedMap<ServiceRef, Vec<IpAddr>>>,
    /// Versions in force that their files do not say any more.
    kept: Vec<Kept>,
    /// What of them the state folder holds. `None`: the last write failed.
    kept_written: Option<Vec<KeptDocument>>,
    notifier: Notifier,
    rescan: Rescan,
    args: AgentArgs,
    /// When a refused connection was last logged, and how many were not since.
    refused_logged: Option<Instant>,
    refused_dropped: u64,
    balancer: Balancer,
    remembered: retaining::Remembered,
}

impl Agent {
    async fn run(mut self, mut inputs: Inputs) -> Result<Exit, Failure> {
        let mut life = interval(SIGN_OF_LIFE);
        life.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watchdog = interval(self.notifier.watchdog.unwrap_or(Duration::from_secs(3600)));
        watchdog.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut config = interval(LOOK_AT_CONFIG);
        config.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let mut stale = false;
            tokio::select! {
                Some(batch) = inputs.batches.recv() => stale = self.take(batch),
                Some(news) = inputs.news.recv() => stale |= self.hear(news).await,
                Some(event) = inputs.events.recv() => self.told(&event),
                Ok(()) = self.balancer.reports.changed() => stale = self.reported(),
                Some(refused) = self.balancer.refused.recv() => {
                    self.problems.health_checks(&refused);
                    self.publish();
                }
                Ok(()) = inputs.reports_refused.changed() => {
                    let refused = inputs.reports_refused.borrow_and_update().clone();
                    self.problems.reports(&refused);
                    self.publish();
                }
                _ = life.tick() => {
                    self.mark(Ended::Running);
                    self.write_vips();
                    self.write_kept();
                    self.write_origins();
                }
                _ = config.tick(), if self.args.config.is_some() => {
                    if self.look_at_config() {
                        self.touched = Touched::everything();
                        stale = true;
                    }
                }
                _ = watchdog.tick(), if self.notifier.watchdog.is_some() => self.feed_watchdog().await,
                heard = inputs.signals.next() => match heard {
                    Heard::Reload => {
                        self.reload();
                        self.touched = Touched::everything();
                        stale = true;
                    }
                    Heard::End(name) => return self.end(name, inputs).await,
                },
                Some(ended) = inputs.tasks.join_next() => return Err(unexpected(ended)),
            }
            // A burst is one plan.
            while let Ok(batch) = inputs.batches.try_recv() {
                stale |= self.take(batch);
            }
            while let Ok(news) = inputs.news.try_recv() {
                stale |= self.hear(news).await;
            }
            while let Ok(event) = inputs.events.try_recv() {
                self.told(&event);
            }
            if stale {
                self.plan().await;
            }
        }
    }

    /// Whether a plan is needed.
    fn take(&mut self, batch: Batch) -> bool {
        self.kept.clone_from(&batch.kept);
        self.balancer.take(&batch);
        let touched = self.world.take(batch);
        self.write_kept();
        let stale = !touched.is_nothing();
        self.touched.extend(touched);
        if !stale {
            self.publish();
        }
        stale
    }

    /// Whether a plan is needed.
    async fn hear(&mut self, news: News) -> bool {
        if let News::LinkDown { interface, prefixes } = &news {
            tracing::warn!(%interface, "a link went down");
            self.note(Note::here("link-down", format!("{interface} went down")));
            let peers = match self.speaker.peers().await {
                Ok(peers) => peers.into_iter().map(|peer| peer.address).collect(),
                Err(_) => Vec::new(),
            };
            let reached = netlink::reached_through(prefixes, peers);
            if !reached.is_empty() {
                // A speaker that has ended is noticed as a task that has.
                let _ = self.speaker.link_down(interface.as_str().into(), reached).await;
            }
        }
        let stale = observe(&mut self.world, &mut self.problems, &news);
        if !stale {
            self.balance().await;
            self.publish();
        }
        stale
    }

    fn publish(&mut self) {
        let report = self.report();
        let of_balancer = self.balancer_problems(&report);
        let problems = self.problems.all(&self.world, &self.desired, of_balancer);
        problems::log_news(&self.snapshot.borrow().problems, &problems);
        self.snapshot.send_modify(|snapshot| {
            *snapshot = Arc::new(Snapshot {
                number: snapshot.number + 1,
                config: self.config.clone(),
                desired: Arc::clone(&self.desired),
                problems: problems.into(),
                objects: self.world.objects.len(),
                observed: Arc::new(self.world.observed.clone()),
                listen_errors: self.listen_errors.clone(),
                datapath: report,
                node_config: self.world.objects.node_config(&self.world.node).map(Seen::of),
                full_maps: seen_full_maps(&self.world.objects, &self.world.node),
            });
        });
        self.generation.send_modify(|generation| *generation += 1);
        self.notifier.tell(&State::Status(self.line()));
    }

    /// The line of `systemctl status`.
    fn line(&self) -> String {
        let peers = self.desired.peers.len();
        let problems = self.snapshot.borrow().problems.len();
        format!(
            "{peers} peers, {} Services with addresses, {problems} problems; see `stentor status`",
            self.desired.vips.len()
        )
    }

    fn note(&self, note: Note) {
        self.journal.write(state::seconds(SystemTime::now()), note);
    }

    /// Only a speaker that answers is alive.
    async fn feed_watchdog(&self) {
        match tokio::time::timeout(ANSWER_LIMIT, self.speaker.peers()).await {
            Ok(Ok(_)) => self.notifier.tell(&State::Watchdog),
            Ok(Err(_)) | Err(_) => tracing::error!("the speaker does not answer"),
        }
    }

    /// Peers that agreed to graceful restart keep the routes; so do the discard routes of this kernel stay.
    async fn end(mut self, signal: &'static str, mut inputs: Inputs) -> Result<Exit, Failure> {
        tracing::info!(signal, "ending");
        self.notifier.tell(&State::Stopping);
        self.mark(Ended::Restarting);
        let speaker = self.speaker.clone();
        let closing = async {
            if speaker.shutdown(Shutdown::Restart).await.is_ok() {
                while let Some(ended) = inputs.tasks.join_next().await {
                    if matches!(ended, Ok(("speaker", _))) {
                        break;
                    }
                }
            }
        };
        tokio::select! {
            closed = tokio::time::timeout(SHUTDOWN_LIMIT, closing) => {
                if closed.is_err() {
                    tracing::warn!("sessions did not close in time");
                }
            }
            _ = inputs.signals.end() => tracing::warn!("told twice: ending at once"),
        }
        // The other tasks hold nothing that must be finished; what is in the kernel stays there and serves.
        self.balancer.close();
        inputs.tasks.shutdown().await;
        let _ = std::fs::remove_file(&self.args.socket);
        Ok(Exit::Good)
    }
}

/// Takes in what the kernel told; whether a plan is needed.
fn observe(world: &mut World, problems: &mut Problems, news: &News) -> bool {
    match news {
        News::Seen(seen) => {
            let differs = world.observed.default_routes != seen.default_routes
                || world.observed.cilium_host_mac != seen.cilium_host_mac;
            world.observed.default_routes.clone_from(&seen.default_routes);
            world.observed.cilium_host_mac = seen.cilium_host_mac;
            world.observed.devices = Arc::clone(&seen.devices);
            problems.netlink(None);
            differs
        }
        News::LinkDown { .. } => false,
        News::Discards(failed) => {
            problems.discards(failed);
            false
        }
        News::Broken(error) => {
            problems.netlink(Some(error));
            false
        }
    }
}

/// The longest any peer is asked to keep our routes, and the age a sign of life may have. Zero where no peer
/// is asked.
fn longest_restart(config: &SpeakerConfig) -> Duration {
    let seconds = config
        .instances
        .values()
        .flat_map(|instance| instance.peers.values())
        .filter_map(|peer| peer.graceful_restart)
        .map(|graceful| graceful.restart_time)
        .max();
    seconds.map_or(Duration::ZERO, |seconds| {
        Duration::from_secs(u64::from(seconds)) + SIGN_OF_LIFE
    })
}

/// Identity of this boot; empty where the kernel does not tell.
fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

/// The standard library's hasher is seeded by the kernel.
fn seed() -> u64 {
    std::hash::RandomState::new().build_hasher().finish()
}

fn features() -> Vec<Feature> {
    let kernel = net::probe();
    let feature = |name: &str, support: Support, note: &str| Feature {
        name: name.to_owned(),
        available: support == Support::Yes,
        note: match support {
            Support::Yes => None,
            Support::No => Some(note.to_owned()),
            Support::Unknown => Some("could not be found out".to_owned()),
        },
    };
    vec![
        feature("TCP-MD5", kernel.tcp_md5, "peers with a password stay down"),
        feature("TCP-AO", kernel.tcp_ao, "not used"),
    ]
}

async fn own(name: &'static str, task: tokio::task::JoinHandle<()>) -> (&'static str, Result<(), JoinError>) {
    (name, task.await)
}

async fn serving(
    name: &'static str,
    server: impl Future<Output = ()>,
) -> (&'static str, Result<(), JoinError>) {
    server.await;
    (name, Ok(()))
}

/// A task that ends while the agent runs took a part of it along.
fn unexpected(ended: Result<(&'static str, Result<(), JoinError>), JoinError>) -> Failure {
    let text = match ended {
        Ok((name, Ok(()))) => format!("the task {name} ended"),
        Ok((name, Err(error))) => format!("the task {name} failed: {error}"),
        Err(error) => format!("a task failed: {error}"),
    };
    Failure {
        exit: Exit::Problems,
        text: format!("{text}; this is a defect of the agent, which ends to be started again"),
    }
}
