//! What goes wrong while clients ask without a pause, and which of them may notice.
//!
//! ```yaml
//! faults:
//!   from: client                    # a node of the topology
//!   to: [203.0.113.1]               # addresses of Services, port 80
//!   router: router0                 # whose routes lead there
//!   kills:                          # one after the other, each when the one before is back
//!   - agent: service-worker         # kill -9: nobody may notice
//!   - node: service-worker          # cables, processes, programs: only requests that are with it may fail
//! ```
//!
//! Two kinds of requests may fail. Those that were with a node when it died, or with a pod of it: they began before the
//! cluster knew. And connections that are reset because the router moves them to the node that came back: connections do not
//! follow routes, unless nodes return directly and choose alike.

mod clients;
mod cluster;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;

use self::clients::{Clients, Excuse};
pub use self::cluster::{COUNT as KILLS, run as run_kubernetes};
use crate::expect::{self, Expectations};
use crate::requests::Pods;
use crate::{Error, Handle, Lab, until};

/// Answers of each client after which something has been seen enough.
const ENOUGH: u64 = 20;

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Faults {
    pub from: String,
    pub to: Vec<IpAddr>,
    pub router: String,
    pub kills: Vec<Kill>,
}

/// What is killed.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Kill {
    /// The agent of a node.
    Agent(String),
    /// The node, with all that it has.
    Node(String),
}

/// Kills and revives, says what clients noticed, and returns what they must not have noticed.
///
/// # Errors
/// The lab has no such node, or what died does not come back in time.
pub fn run(
    lab: &mut Lab,
    faults: &Faults,
    expectations: &Expectations,
    agent: &Path,
    limit: Duration,
    say: &dyn Fn(&str),
) -> Result<Vec<String>, Error> {
    let names: Vec<String> = faults.to.iter().map(ToString::to_string).collect();
    let clients = Clients::start(lab.node(&faults.from)?, &faults.to, Pods::Echo)?;
    say(&format!(
        "{} clients on {} ask {} without a pause, while nodes go and come back:",
        clients.count(),
        faults.from,
        names.join(" and ")
    ));
    let router = lab.node(&faults.router)?.clone();
    let before = routes(&router, &faults.to)?;
    let mut wrong = Vec::new();
    for kill in &faults.kills {
        clients.go_on(ENOUGH, limit)?;
        clients.tally();
        match kill {
            Kill::Agent(name) => {
                lab.kill_agent(name);
                clients.go_on(ENOUGH, limit)?;
                let alone = routes(&router, &faults.to)?;
                lab.start_agent(name, agent)?;
                lab.until_established(name, agent, limit)?;
                expect::meet(&lab.handles(), expectations, limit, &|_| {})?;
                clients.go_on(ENOUGH, limit)?;
                let tally = clients.tally();
                say(&format!(
                    "agent of {name} killed (kill -9) and started again: {tally}"
                ));
                wrong.extend(tell(tally.failed(&Excuse::None), say));
                if alone != before {
                    wrong.push(format!(
                        "{}: without the agent of {name} routes changed to {alone:?}",
                        faults.router
                    ));
                }
            }
            Kill::Node(name) => {
                let own: BTreeSet<IpAddr> = lab
                    .spec()
                    .cluster
                    .iter()
                    .flat_map(|cluster| cluster.addresses(name))
                    .collect();
                let began = Instant::now();
                lab.power_off(name)?;
                let moved = until_routes(&router, faults, limit, |routes| {
                    routes
                        .values()
                        .all(|hops| !hops.is_empty() && hops.is_disjoint(&own))
                })?;
                lab.until_forgotten(name, agent, limit)?;
                let dying = began..=Instant::now();
                clients.go_on(ENOUGH, limit)?;
                let gone = clients.tally();
                say(&format!(
                    "{name} dead (cables out, processes killed, programs gone): {}",
                    gone.with(&Excuse::Dead(dying.clone()), "were with it or its pods")
                ));
                wrong.extend(tell(gone.failed(&Excuse::Dead(dying)), say));
                let plugged = lab.power_on(name, agent, limit)?;
                let taken = until_routes(&router, faults, limit, |routes| *routes == before)?;
                // As the kubelet says that pods are ready when its node can be reached.
                lab.until_established(name, agent, limit)?;
                expect::meet(&lab.handles(), &sessions(expectations), limit, &|_| {})?;
                until_reached(&router, &lab.pod_addresses(name)?, limit)?;
                lab.revive(name)?;
                expect::meet(&lab.handles(), expectations, limit, &|_| {})?;
                let moving = plugged..=Instant::now();
                clients.go_on(ENOUGH, limit)?;
                let back = clients.tally();
                say(&format!(
                    "{name} back with nothing: {}",
                    back.with(&Excuse::Moved(moving.clone()), "were moved to it by the router")
                ));
                wrong.extend(tell(back.failed(&Excuse::Moved(moving)), say));
                say(&format!(
                    "the router left it {} after it died, and took it back {} after its cable was in",
                    seconds(moved.saturating_duration_since(began)),
                    seconds(taken.saturating_duration_since(plugged))
                ));
            }
        }
    }
    let sum = clients.stop();
    say(&format!("in all {sum}"));
    Ok(wrong)
}

fn tell(lines: Vec<String>, say: &dyn Fn(&str)) -> Vec<String> {
    lines.iter().for_each(|line| say(line));
    lines
}

/// All that is expected, but for routes.
fn sessions(expectations: &Expectations) -> Expectations {
    let mut sessions = expectations.clone();
    for router in sessions.routers.values_mut() {
        router.routes = None;
    }
    sessions
}

/// Returns when the router has a way to each of these addresses.
fn until_reached(router: &Handle, addresses: &[IpAddr], limit: Duration) -> Result<(), Error> {
    let words: Vec<String> = addresses
        .iter()
        .map(|address| format!("ip route get {address}"))
        .collect();
    until(limit, format!("{} to reach the pods", router.name()), || {
        let asked = router.sh_in_network(&words.join("\n"));
        asked.map(drop).map_err(|error| error.to_string())
    })?;
    Ok(())
}

/// Returns when the router's routes are good.
fn until_routes(
    router: &Handle,
    faults: &Faults,
    limit: Duration,
    good: impl Fn(&Routes) -> bool,
) -> Result<Instant, Error> {
    let what = format!("{} to route otherwise", router.name());
    let waited = until(limit, what, || {
        let routes = routes(router, &faults.to).map_err(|error| error.to_string())?;
        if good(&routes) {
            Ok(Instant::now())
        } else {
            Err(format!("{routes:?}"))
        }
    });
    Ok(waited?)
}

/// Where packets for each address go.
type Routes = BTreeMap<IpAddr, BTreeSet<IpAddr>>;

/// Where the router's kernel sends packets for each address.
fn routes(router: &Handle, to: &[IpAddr]) -> Result<Routes, Error> {
    let mut routes = BTreeMap::new();
    for address in to {
        let family = if address.is_ipv4() { "-4" } else { "-6" };
        let text = router.sh_in_network(&format!("ip -j {family} route show {address}"))?;
        // An empty answer is no JSON in some versions.
        let answer: Value = serde_json::from_str(&text).unwrap_or_default();
        let mut hops = BTreeSet::new();
        gateways(&answer, &mut hops);
        routes.insert(*address, hops);
    }
    Ok(routes)
}

/// Of one way or of several; those whose cable is out are none.
fn gateways(answer: &Value, hops: &mut BTreeSet<IpAddr>) {
    match answer {
        Value::Array(all) => all.iter().for_each(|one| gateways(one, hops)),
        Value::Object(fields) => {
            let flags = fields.get("flags").and_then(Value::as_array);
            let is_out =
                flags.is_some_and(|flags| flags.iter().any(|flag| flag == "dead" || flag == "linkdown"));
            if is_out {
                return;
            }
            let gateway = fields.get("gateway").and_then(Value::as_str);
            hops.extend(gateway.and_then(|text| text.parse::<IpAddr>().ok()));
            if let Some(more) = fields.get("nexthops") {
                gateways(more, hops);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read() {
        let faults: Faults = serde_saphyr::from_str(
            "{from: c, to: [192.0.2.1, '2001:db8::1'], router: r, kills: [{agent: a}, {node: b}]}",
        )
        .unwrap();
        assert_eq!(faults.kills, [Kill::Agent("a".into()), Kill::Node("b".into())]);
        assert_eq!(faults.to.len(), 2);
    }

    #[test]
    fn gateways_of_one_way_and_of_several_are_found_unless_their_cable_is_out() {
        let found = |text: &str| {
            let mut hops = BTreeSet::new();
            gateways(&serde_json::from_str(text).unwrap(), &mut hops);
            hops.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            found(r#"[{"dst":"192.0.2.1","gateway":"10.0.0.1","flags":[]}]"#),
            ["10.0.0.1"]
        );
        let several = r#"[{"dst":"192.0.2.1","nexthops":[{"gateway":"10.0.0.1","flags":[]},
            {"gateway":"10.0.0.2","flags":["dead","linkdown"]},{"gateway":"10.0.0.3","flags":[]}]}]"#;
        assert_eq!(found(several), ["10.0.0.1", "10.0.0.3"]);
        assert_eq!(found("[]"), Vec::<String>::new());
    }
}
