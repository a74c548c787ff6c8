//! `cilium-dbg bgp ...` (also as `cilium`): the same words, the same bytes.
//!
//! Kept byte for byte because programs read it: tables, JSON, YAML, JSONPath, error texts, an empty standard
//! error on success. Done better where the imitated tool prints garbage: a peer without families keeps a
//! line of its own, and a capability that can't be read does not end the program.

pub mod args;
pub mod tables;

mod full;

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::client::{self, ClientError, DEFAULT_SOCKET, Endpoint};
use crate::api::model::{BgpPeer, BgpRoute, BgpRoutePolicy};
use crate::render::{jsonpath, yaml};

use args::{Command, Invocation, Output, PeersView, RoutesQuery};

/// Where Cilium's agent listens; used when it is there.
const CILIUM_SOCKET: &str = "/var/run/cilium/cilium.sock";

/// Runs one command line (without the program's name).
#[must_use]
pub fn run(words: &[String]) -> ExitCode {
    let done = args::parse(words)
        .map_err(|error| error.0)
        .and_then(|invocation| answer(&invocation));
    match done {
        Ok(printed) => {
            // A reader that went away (`| head`) is no error of ours.
            let _ = std::io::stdout().write_all(printed.stdout.as_bytes());
            let _ = std::io::stderr().write_all(printed.stderr.as_bytes());
            ExitCode::SUCCESS
        }
        Err(text) => {
            eprintln!("Error: {text}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Debug, Default)]
struct Printed {
    stdout: String,
    stderr: String,
}

impl From<String> for Printed {
    fn from(stdout: String) -> Self {
        Self {
            stdout,
            stderr: String::new(),
        }
    }
}

fn answer(invocation: &Invocation) -> Result<Printed, String> {
    let endpoint = endpoint(invocation.host.as_deref());
    match &invocation.command {
        Command::Help(text) => Ok((*text).to_owned().into()),
        Command::Version => Ok(format!("Client: Stentor {}\n", env!("CARGO_PKG_VERSION")).into()),
        Command::Peers(view) => peers(&endpoint, *view, &invocation.output),
        Command::Routes(query) => routes(&endpoint, query, &invocation.output),
        Command::RoutePolicies { asn } => policies(&endpoint, *asn, &invocation.output),
    }
}

fn endpoint(host: Option<&str>) -> Endpoint {
    if let Some(host) = host {
        return Endpoint::parse(host);
    }
    match std::env::var("CILIUM_SOCK") {
        Ok(socket) if !socket.is_empty() => Endpoint::parse(&socket),
        _ if Path::new(CILIUM_SOCKET).exists() => Endpoint::parse(CILIUM_SOCKET),
        _ => Endpoint::parse(DEFAULT_SOCKET),
    }
}

fn peers(endpoint: &Endpoint, view: PeersView, output: &Output) -> Result<Printed, String> {
    let Some(peers) = fetch::<BgpPeer>(endpoint, "/bgp/peers", "", "getBgpPeers")? else {
        return Ok(disabled());
    };
    if let Some(text) = structured(&peers, &full::PEERS, output)? {
        return Ok(text.into());
    }
    Ok(match view {
        PeersView::Sessions => tables::peers(&peers).into(),
        PeersView::Capabilities => {
            let (stdout, unreadable) = tables::peer_capabilities(&peers);
            Printed {
                stdout,
                stderr: unreadable.into_iter().map(|line| line + "\n").collect(),
            }
        }
    })
}

fn routes(endpoint: &Endpoint, query: &RoutesQuery, output: &Output) -> Result<Printed, String> {
    let mut parameters = format!(
        "?table_type={}&afi={}&safi={}",
        query.table, query.afi, query.safi
    );
    if let Some(asn) = query.asn {
        parameters.push_str(&format!("&router_asn={asn}"));
    }
    if let Some(peer) = query.peer {
        parameters.push_str(&format!("&neighbor={peer}"));
    }
    let Some(routes) = fetch::<BgpRoute>(endpoint, "/bgp/routes", &parameters, "getBgpRoutes")? else {
        return Ok(disabled());
    };
    if let Some(text) = structured(&routes, &full::ROUTES, output)? {
        return Ok(text.into());
    }
    let note = query.note.map_or_else(String::new, |note| format!("{note}\n\n"));
    Ok((note + &tables::routes(&routes, query.peer_column())).into())
}

fn policies(endpoint: &Endpoint, asn: Option<u32>, output: &Output) -> Result<Printed, String> {
    let parameters = asn.map_or_else(String::new, |asn| format!("?router_asn={asn}"));
    let operation = "getBgpRoutePolicies";
    let Some(policies) = fetch::<BgpRoutePolicy>(endpoint, "/bgp/route-policies", &parameters, operation)?
    else {
        return Ok(disabled());
    };
    if let Some(text) = structured(&policies, &full::POLICIES, output)? {
        return Ok(text.into());
    }
    Ok(tables::route_policies(&policies).into())
}

fn disabled() -> Printed {
    String::from("BGP Control Plane is disabled\n").into()
}

/// `None`: the control plane is disabled (501).
fn fetch<T: DeserializeOwned>(
    endpoint: &Endpoint,
    path: &str,
    parameters: &str,
    operation: &str,
) -> Result<Option<Vec<T>>, String> {
    let answer =
        client::get(endpoint, &format!("/v1{path}{parameters}")).map_err(|error| unreachable(&error))?;
    if answer.status == 501 {
        return Ok(None);
    }
    match answer.json::<Option<Vec<T>>>(endpoint) {
        Ok(list) => Ok(Some(list.unwrap_or_default())),
        Err(ClientError::Refused { status: 500, text }) => Err(format!(
            "[GET {path}][500] {operation}InternalServerError {}\n",
            serde_json::Value::from(text)
        )),
        Err(ClientError::Refused { status, text }) => Err(format!(
            "[GET {path}][{status}] {operation} {}\n",
            serde_json::Value::from(text)
        )),
        Err(other) => Err(format!("{other}\n")),
    }
}

fn unreachable(error: &ClientError) -> String {
    format!("{error}\n")
}

/// JSON, YAML or JSONPath; `None` where text is wanted.
fn structured<T: Serialize>(
    list: &[T],
    shape: &full::Shape,
    output: &Output,
) -> Result<Option<String>, String> {
    let failed = |error: serde_json::Error| format!("{error}\n");
    Ok(Some(match output {
        Output::Text => return Ok(None),
        Output::Json => serde_json::to_string_pretty(list).map_err(failed)? + "\n\n",
        Output::Yaml => {
            let value = serde_json::to_value(list).map_err(failed)?;
            yaml::text(&full::complete(&value, shape)) + "\n"
        }
        Output::JsonPath(template) => {
            let value = serde_json::to_value(list).map_err(failed)?;
            jsonpath::fill(template, &value).map_err(|error| format!("{error}\n"))? + "\n"
        }
        Output::Unknown => return Err("couldn't find output printer\n".to_owned()),
    }))
}
