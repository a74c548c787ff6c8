//! What each command asks the agent and how it prints the answer.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::args::{
    BgpCommand, CheckArgs, EventsArgs, Output, Print, RefreshDirection, RouteFamily, RouteTable, SocketArg,
    StatusArgs, VipCommand, Whom,
};
use super::client::{self, ClientError, Endpoint};
use super::tables;
use crate::api::view::{
    Bundle, BundleFile, Direction, Entry, Generation, Ordered, Peer, PeerOrder, PlanDiff, Policy, Problem,
    Route, Status, Verdict, Vip,
};
use crate::render::yaml;

/// How a command ended; the numbers are documented in [`super::args::EXIT_CODES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Good,
    Problems,
    Unreachable,
    Refused,
    NotStarted,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Good => 0,
            Exit::Problems => 1,
            Exit::Unreachable => 3,
            Exit::Refused => 4,
            Exit::NotStarted => 5,
        })
    }
}

/// A command that could not do its work.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub text: String,
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self {
            exit: match error {
                ClientError::Refused { .. } => Exit::Refused,
                ClientError::NotRunning(_)
                | ClientError::Permission(_)
                | ClientError::Connect(..)
                | ClientError::Silent(_)
                | ClientError::Broken(..)
                | ClientError::NotHttp(..) => Exit::Unreachable,
            },
            text: error.to_string(),
        }
    }
}

impl Failure {
    pub(super) fn problem(text: impl ToString) -> Self {
        Self {
            exit: Exit::Problems,
            text: text.to_string(),
        }
    }
}

pub(super) type Done = Result<Exit, Failure>;

pub(super) fn status(args: &StatusArgs) -> Done {
    show(
        &args.at,
        &args.print,
        "/v1/stentor/status",
        tables::status,
        |status: &Status| match status.verdict {
            Verdict::Green => Exit::Good,
            Verdict::NotGreen => Exit::Problems,
        },
    )
}

pub(super) fn events(args: &EventsArgs) -> Done {
    let table = |entries: &Vec<Entry>| tables::events(entries, now());
    show(&args.at, &args.print, "/v1/stentor/events", table, good)
}

pub(super) fn vip(command: &VipCommand) -> Done {
    match command {
        VipCommand::List { at, print } => {
            let table = |vips: &Vec<Vip>| tables::vips(vips);
            show(at, print, "/v1/stentor/vips", table, good)
        }
    }
}

pub(super) fn bgp(command: &BgpCommand) -> Done {
    match command {
        BgpCommand::Peers { at, print } => {
            let table = |peers: &Vec<Peer>| tables::peers(peers);
            show(at, print, "/v1/stentor/bgp/peers", table, good)
        }
        BgpCommand::Routes {
            at,
            print,
            table,
            family,
            instance,
            peer,
        } => {
            let mut path = format!("/v1/stentor/bgp/routes?table={}", table_name(*table));
            let mut add = |name: &str, value: &str| {
                let _ = write!(path, "&{name}={}", escape(value));
            };
            match family {
                RouteFamily::All => {}
                RouteFamily::Ipv4 => add("family", "ipv4"),
                RouteFamily::Ipv6 => add("family", "ipv6"),
            }
            if let Some(instance) = instance {
                add("instance", instance);
            }
            if let Some(peer) = peer {
                add("peer", &peer.to_string());
            }
            let table = |routes: &Vec<Route>| tables::routes(routes);
            show(at, print, &path, table, good)
        }
        BgpCommand::Policies { at, print, asn } => {
            let path = asn.map_or_else(
                || "/v1/stentor/bgp/policies".to_owned(),
                |asn| format!("/v1/stentor/bgp/policies?asn={asn}"),
            );
            let table = |policies: &Vec<Policy>| tables::policies(policies);
            show(at, print, &path, table, good)
        }
        BgpCommand::Plan { at, file, print } => repeat(file, print, || plan(at, file, print.output)),
        BgpCommand::Reset { at, whom, message } => {
            let order = PeerOrder {
                text: message.clone(),
                ..order(whom)
            };
            send(at, "/v1/stentor/bgp/reset", &order, "Reset")
        }
        BgpCommand::Refresh { at, whom, direction } => {
            let order = PeerOrder {
                direction: match direction {
                    RefreshDirection::In => Direction::In,
                    RefreshDirection::Out => Direction::Out,
                    RefreshDirection::Both => Direction::Both,
                },
                ..order(whom)
            };
            send(at, "/v1/stentor/bgp/refresh", &order, "Refreshed")
        }
    }
}

/// `stentor check`: the same reader and planner as the agent's, without an agent.
pub(super) fn check(args: &CheckArgs) -> Done {
    repeat(&args.dir, &args.print, || {
        let (config, warnings) = crate::config::load(
            args.config.as_deref(),
            std::env::vars(),
            &crate::config::Given::new(),
        )
        .map_err(Failure::problem)?;
        let found = crate::check::folder(&args.dir, args.node.as_deref(), &config.options);
        let problems: Vec<Problem> = warnings.iter().chain(&found).map(Problem::from).collect();
        print_one(&problems, args.print.output, |problems| {
            check_table(problems, &args.dir)
        })?;
        Ok(if problems.is_empty() {
            Exit::Good
        } else {
            Exit::Problems
        })
    })
}

/// Once, or with `--watch` whenever the folder says something else.
fn repeat(folder: &Path, print: &Print, once: impl Fn() -> Done) -> Done {
    if !print.watch {
        return once();
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::problem)?;
    runtime.block_on(async {
        let (rescan, mut batches, source) = crate::source::dir::start(folder.to_owned(), Vec::new());
        let mut last = Ok(Exit::Good);
        while batches.recv().await.is_some() {
            last = once();
            if last.is_err() {
                break;
            }
        }
        drop((rescan, batches));
        // It only ever ends by itself: there is nothing to tell.
        let _ = source.await;
        last
    })
}

fn check_table(problems: &[Problem], dir: &Path) -> String {
    let errors = problems.iter().filter(|p| p.severity == "error").count();
    let warnings = problems.len() - errors;
    if problems.is_empty() {
        format!("{}: no problems\n", dir.display())
    } else {
        format!(
            "{}{}: {}\n",
            tables::problems(problems),
            dir.display(),
            tables::errors_and_warnings(errors, warnings)
        )
    }
}

fn plan(at: &SocketArg, folder: &Path, output: Output) -> Done {
    let endpoint = Endpoint::Unix(at.socket.clone());
    let bundle = Bundle {
        files: crate::check::files(folder)
            .map_err(Failure::problem)?
            .into_iter()
            .map(|(path, text)| BundleFile { path, text })
            .collect(),
    };
    let body = serde_json::to_vec(&bundle).map_err(Failure::problem)?;
    let diff: PlanDiff = client::post(&endpoint, "/v1/stentor/bgp/plan", &body)?.json(&endpoint)?;
    print_one(&diff, output, tables::plan)?;
    Ok(if diff.problems.iter().any(|p| p.severity == "error") {
        Exit::Problems
    } else {
        Exit::Good
    })
}

fn order(whom: &Whom) -> PeerOrder {
    PeerOrder {
        instance: whom.instance.clone(),
        peer: whom.peer.clone(),
        ..PeerOrder::default()
    }
}

fn send(at: &SocketArg, path: &str, order: &PeerOrder, verb: &str) -> Done {
    let endpoint = Endpoint::Unix(at.socket.clone());
    let body = serde_json::to_vec(order).map_err(Failure::problem)?;
    let done: Ordered = client::post(&endpoint, path, &body)?.json(&endpoint)?;
    write(&format!("{verb}: {}\n", done.peers.join(", ")))?;
    Ok(Exit::Good)
}

fn table_name(table: RouteTable) -> &'static str {
    match table {
        RouteTable::Available => "loc-rib",
        RouteTable::Advertised => "adj-rib-out",
        RouteTable::Received => "adj-rib-in",
    }
}

fn good<T>(_: &T) -> Exit {
    Exit::Good
}

/// Asks, prints, and with `--watch` goes on whenever the agent says that something changed.
fn show<T: DeserializeOwned>(
    at: &SocketArg,
    print: &Print,
    path: &str,
    table: impl Fn(&T) -> String,
    exit: impl Fn(&T) -> Exit,
) -> Done {
    let endpoint = Endpoint::Unix(at.socket.clone());
    let mut generation = None;
    let mut last = None;
    loop {
        if print.watch {
            generation = Some(next_generation(&endpoint, generation)?);
        }
        // Printed as it came: fields this version does not know are shown too.
        let value: Value = client::get(&endpoint, path)?.json(&endpoint)?;
        let typed = || serde_json::from_value::<T>(value.clone()).map_err(Failure::problem);
        if !print.watch {
            let text = rendered(&value, print.output, || Ok(table(&typed()?)))?;
            write(&text)?;
            return Ok(exit(&typed()?));
        }
        // What only grows older did not change.
        let lasting = without_ages(&value);
        if last.as_ref() != Some(&lasting) {
            let text = rendered(&value, print.output, || Ok(table(&typed()?)))?;
            let clear = if print.output == Output::Table && std::io::stdout().is_terminal() {
                "\x1b[H\x1b[2J"
            } else {
                ""
            };
            write(&format!("{clear}{text}"))?;
            last = Some(lasting);
        }
    }
}

fn next_generation(endpoint: &Endpoint, after: Option<u64>) -> Result<u64, Failure> {
    let path = after.map_or_else(
        || "/v1/stentor/generation".to_owned(),
        |after| format!("/v1/stentor/generation?after={after}"),
    );
    let generation: Generation = client::get(endpoint, &path)?.json(endpoint)?;
    Ok(generation.generation)
}

fn without_ages(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(without_ages).collect(),
        Value::Object(fields) => fields
            .iter()
            .filter(|(key, _)| {
                !matches!(
                    key.as_str(),
                    "uptimeSeconds" | "ageSeconds" | "secondsAgo" | "messagesReceived" | "messagesSent"
                )
            })
            .map(|(key, value)| (key.clone(), without_ages(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

pub(super) fn print_one<T: Serialize>(
    value: &T,
    output: Output,
    table: impl Fn(&T) -> String,
) -> Result<(), Failure> {
    let json = serde_json::to_value(value).map_err(Failure::problem)?;
    write(&rendered(&json, output, || Ok(table(value)))?)
}

fn rendered(
    value: &Value,
    output: Output,
    table: impl FnOnce() -> Result<String, Failure>,
) -> Result<String, Failure> {
    match output {
        Output::Table => table(),
        Output::Json => serde_json::to_string_pretty(value)
            .map(|text| text + "\n")
            .map_err(Failure::problem),
        Output::Yaml => Ok(yaml::text(value)),
    }
}

/// A reader that went away (`| head`) is a good end.
pub(super) fn write(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(Failure {
            exit: Exit::Good,
            text: String::new(),
        }),
        Err(error) => Err(Failure::problem(error)),
    }
}

pub(super) fn escape(text: &str) -> String {
    let mut out = String::new();
    for octet in text.bytes() {
        if octet.is_ascii_alphanumeric() || b"-._~".contains(&octet) {
            out.push(char::from(octet));
        } else {
            let _ = write!(out, "%{octet:02X}");
        }
    }
    out
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
