//! What lists show, computed from the maps: pure.

use std::collections::{BTreeMap, BTreeSet};

use ebpf_abi::BackendId;
use ebpf_abi::config::{Affinity, AffinityKey};
use ebpf_abi::flow::{Flow, Tuple, Way};
use ebpf_abi::model::Model;
use ebpf_abi::service::{Backend, BackendState, Dispatch, Frontend, Selection, flag};
use ebpf_abi::track::State;
use ebpf_loader::tables::Pins;
use serde::Serialize;

use super::args::Filter;
use super::look::{Names, place, socket};

/// A frontend.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    pub service: Option<String>,
    /// The same for all frontends of a Service.
    pub number: u32,
    pub frontend: String,
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Whether clients outside of the cluster may come.
    pub routable: bool,
    /// `Local`: only backends of this node serve clients from outside.
    pub external_policy: &'static str,
    pub selection: &'static str,
    pub forwarding: &'static str,
    /// Seconds a client stays with its backend; 0: it does not.
    pub affinity_seconds: u32,
    /// How many prefixes say who may come, or who may not; `None`: nobody is asked where he comes from.
    pub source_ranges: Option<usize>,
    pub deny_ranges: bool,
    pub backends: Vec<String>,
    /// They keep what they have and get nothing new.
    pub draining: Vec<String>,
    /// Where pods and sockets go, if elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inner_backends: Option<Vec<String>>,
    pub set: u32,
}

/// A backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendRow {
    pub id: u32,
    pub backend: String,
    pub state: &'static str,
    pub local: bool,
    pub zone: u8,
    pub services: Vec<String>,
}

/// A backend's part of a Maglev table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Share {
    pub set: u32,
    pub services: Vec<String>,
    pub size: usize,
    pub backend: String,
    pub places: usize,
}

/// An entry of the connection table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Track {
    pub service: Option<String>,
    /// `forward`: from the client; `reply`: to the client.
    pub way: &'static str,
    pub source: String,
    pub destination: String,
    pub new_source: String,
    pub new_destination: String,
    pub state: &'static str,
    /// 0: it counts as absent.
    pub expires_seconds: u32,
    /// With IP in IP it only says which node packets go to: that node chooses anew, among its own.
    pub backend: String,
    pub forwarding: &'static str,
}

/// A connection whose source is translated.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Translation {
    pub service: Option<String>,
    pub client: String,
    pub frontend: String,
    /// What the backend sees instead of the client.
    pub source: String,
    pub backend: String,
    pub expires_seconds: u32,
}

/// A client that stays.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stay {
    pub service: Option<String>,
    pub number: u32,
    pub client: String,
    pub backend: String,
    pub idle_seconds: u32,
    /// 0: over.
    pub left_seconds: u32,
}

/// Frontends; those that only say that an address is a service's are left out.
#[must_use]
pub fn services<A: Pins>(model: &Model<A>, names: &Names, filter: &Filter) -> Vec<Service> {
    let mut rows = Vec::new();
    for (key, frontend) in &model.frontends {
        let (address, port) = (key.address.ip(), u16::from_be(key.port));
        if frontend.flags & flag::WILDCARD != 0 || !filter.has(names, frontend, address, port) {
            continue;
        }
        let (serving, draining) = members(model, frontend.set);
        let inner = members(model, frontend.inner_set);
        let all = || serving.iter().chain(&draining).chain(&inner.0);
        if filter.backend.is_some() && !all().any(|id| filter.has_backend(found(model, *id))) {
            continue;
        }
        let places = |ids: &[BackendId]| ids.iter().map(|id| place(model, *id)).collect::<Vec<_>>();
        rows.push(Service {
            service: names.get(frontend.service),
            number: frontend.service,
            frontend: socket(address, port, key.protocol),
            kind: kind(frontend),
            routable: frontend.flags & flag::ROUTABLE != 0,
            external_policy: if frontend.flags & flag::LOCAL_ONLY != 0 {
                "Local"
            } else {
                "Cluster"
            },
            selection: selection(frontend),
            forwarding: forwarding(frontend.dispatch),
            affinity_seconds: frontend.affinity,
            source_ranges: ranges(model, frontend),
            deny_ranges: frontend.flags & flag::DENY_RANGES != 0,
            backends: places(&serving),
            draining: places(&draining),
            inner_backends: (frontend.inner_set != frontend.set).then(|| places(&inner.0)),
            set: frontend.set,
        });
    }
    rows.sort_by(|a, b| (&a.service, a.number, &a.frontend).cmp(&(&b.service, b.number, &b.frontend)));
    rows
}

/// Backends that are alive.
#[must_use]
pub fn backends<A: Pins>(model: &Model<A>, names: &Names, filter: &Filter) -> Vec<BackendRow> {
    let mut users: BTreeMap<BackendId, BTreeSet<u32>> = BTreeMap::new();
    for (key, frontend) in &model.frontends {
        if !filter.has(names, frontend, key.address.ip(), u16::from_be(key.port)) {
            continue;
        }
        for set in [frontend.set, frontend.inner_set] {
            let (serving, draining) = members(model, set);
            for id in serving.into_iter().chain(draining) {
                users.entry(id).or_default().insert(frontend.service);
            }
        }
    }
    let all = filter.service.is_none() && filter.vip.is_none();
    let wanted = model
        .backends
        .values()
        .filter(|backend| all || users.contains_key(&backend.id))
        .filter(|backend| filter.has_backend(Some(*backend)));
    wanted
        .map(|backend| BackendRow {
            id: backend.id.0,
            backend: place(model, backend.id),
            state: backend_state(backend),
            local: backend.is_local(),
            zone: backend.zone,
            services: users
                .get(&backend.id)
                .into_iter()
                .flatten()
                .map(|service| named(names, *service))
                .collect(),
        })
        .collect()
}

/// The part of each backend in a table; `tables` by set.
#[must_use]
pub fn shares<A: Pins>(
    model: &Model<A>,
    names: &Names,
    filter: &Filter,
    tables: &BTreeMap<u32, Vec<BackendId>>,
) -> Vec<Share> {
    let mut rows = Vec::new();
    for (set, services) in tabled(model, names, filter) {
        let Some(table) = tables.get(&set).filter(|table| !table.is_empty()) else {
            continue;
        };
        let mut places: BTreeMap<BackendId, usize> = BTreeMap::new();
        for id in table {
            *places.entry(*id).or_default() += 1;
        }
        for (id, count) in places {
            if filter.has_backend(found(model, id)) {
                rows.push(Share {
                    set,
                    services: services.iter().map(|service| named(names, *service)).collect(),
                    size: table.len(),
                    backend: if id.is_none() {
                        "nobody".to_owned()
                    } else {
                        place(model, id)
                    },
                    places: count,
                });
            }
        }
    }
    rows
}

/// Sets that frontends choose from by a table, and whose they are.
#[must_use]
pub fn tabled<A: Pins>(model: &Model<A>, names: &Names, filter: &Filter) -> BTreeMap<u32, BTreeSet<u32>> {
    let mut sets: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    for (key, frontend) in &model.frontends {
        let is_meant = filter.has(names, frontend, key.address.ip(), u16::from_be(key.port));
        if is_meant && Selection::from_number(frontend.selection) == Selection::Maglev {
            for set in [frontend.set, frontend.inner_set]
                .into_iter()
                .filter(|set| *set != 0)
            {
                sets.entry(set).or_default().insert(frontend.service);
            }
        }
    }
    sets
}

/// Entries of connections.
#[must_use]
pub fn tracks<A: Pins>(
    model: &Model<A>,
    names: &Names,
    filter: &Filter,
    now: u32,
    flows: &[(Tuple<A>, Flow<A>)],
) -> Vec<Track> {
    let services = by_id(model);
    let mut rows: Vec<Track> = flows
        .iter()
        .filter(|(tuple, flow)| is_meant(model, names, filter, &services, tuple, flow))
        .map(|(tuple, flow)| {
            let source = end(tuple.source, tuple.source_port, tuple.protocol);
            let destination = end(tuple.destination, tuple.destination_port, tuple.protocol);
            let (new_source, new_destination) = match Dispatch::from_number(flow.dispatch) {
                // Nothing is changed inside; the entry says which backend's node it goes to.
                Dispatch::DsrIpip => (source.clone(), destination.clone()),
                Dispatch::Snat | Dispatch::DsrOption | Dispatch::DsrGeneve => (
                    end(flow.source, flow.source_port, tuple.protocol),
                    end(flow.destination, flow.destination_port, tuple.protocol),
                ),
            };
            Track {
                service: services
                    .get(&flow.frontend.0)
                    .and_then(|service| names.get(*service)),
                way: if flow.way == Way::Reply.number() {
                    "reply"
                } else {
                    "forward"
                },
                source,
                destination,
                new_source,
                new_destination,
                state: state(flow.state),
                expires_seconds: flow.expires.saturating_sub(now),
                backend: place(model, flow.backend),
                forwarding: forwarding(flow.dispatch),
            }
        })
        .collect();
    rows.sort();
    rows
}

/// Connections whose source is translated.
#[must_use]
pub fn translations<A: Pins>(
    model: &Model<A>,
    names: &Names,
    filter: &Filter,
    now: u32,
    flows: &[(Tuple<A>, Flow<A>)],
) -> Vec<Translation> {
    let services = by_id(model);
    let mut rows: Vec<Translation> = flows
        .iter()
        .filter(|(_, flow)| flow.way == Way::Forward.number())
        .filter(|(tuple, flow)| (flow.source, flow.source_port) != (tuple.source, tuple.source_port))
        .filter(|(tuple, flow)| is_meant(model, names, filter, &services, tuple, flow))
        .map(|(tuple, flow)| Translation {
            service: services
                .get(&flow.frontend.0)
                .and_then(|service| names.get(*service)),
            client: end(tuple.source, tuple.source_port, tuple.protocol),
            frontend: end(tuple.destination, tuple.destination_port, tuple.protocol),
            source: end(flow.source, flow.source_port, tuple.protocol),
            backend: end(flow.destination, flow.destination_port, tuple.protocol),
            expires_seconds: flow.expires.saturating_sub(now),
        })
        .collect();
    rows.sort();
    rows
}

/// Clients that stay with their backend.
#[must_use]
pub fn stays<A: Pins>(
    model: &Model<A>,
    names: &Names,
    filter: &Filter,
    now: u32,
    entries: &[(AffinityKey<A>, Affinity)],
) -> Vec<Stay> {
    // Wildcards of a service say nothing of time.
    let mut times: BTreeMap<u32, u32> = BTreeMap::new();
    for frontend in model.frontends.values() {
        let time = times.entry(frontend.service).or_default();
        *time = frontend.affinity.max(*time);
    }
    let mut rows: Vec<Stay> = entries
        .iter()
        .filter(|(key, _)| filter.has_service(names, key.service))
        .filter(|(_, affinity)| filter.has_backend(found(model, affinity.backend)))
        .map(|(key, affinity)| {
            let idle = now.saturating_sub(affinity.used);
            Stay {
                service: names.get(key.service),
                number: key.service,
                client: key.client.ip().to_string(),
                backend: place(model, affinity.backend),
                idle_seconds: idle,
                left_seconds: times
                    .get(&key.service)
                    .map_or(0, |time| time.saturating_sub(idle)),
            }
        })
        .collect();
    rows.sort();
    rows
}

/// Those that new connections may choose, and those that only drain.
#[must_use]
pub fn members<A: Pins>(model: &Model<A>, set: u32) -> (Vec<BackendId>, Vec<BackendId>) {
    let word = model.sets.get(&set).copied().unwrap_or_default();
    let ids = |from: u32, count: u32| {
        let first = word.first().saturating_add(from);
        (first..first.saturating_add(count))
            .filter_map(|slot| model.slots.get(&slot).copied())
            .collect()
    };
    let draining = word.total().saturating_sub(word.count());
    (ids(0, word.count()), ids(word.count(), draining))
}

/// The backend with this id, if it is still this one.
#[must_use]
pub fn found<A: Pins>(model: &Model<A>, id: BackendId) -> Option<&Backend<A>> {
    model.backends.get(&id.index()).filter(|backend| backend.id == id)
}

#[must_use]
pub fn kind(frontend: &Frontend) -> &'static str {
    let has = |bit| frontend.flags & bit != 0;
    if has(flag::LOAD_BALANCER) {
        "LoadBalancer"
    } else if has(flag::EXTERNAL_IP) {
        "ExternalIP"
    } else if has(flag::NODE_PORT) {
        "NodePort"
    } else if has(flag::HOST_PORT) {
        "HostPort"
    } else {
        "ClusterIP"
    }
}

#[must_use]
pub fn selection(frontend: &Frontend) -> &'static str {
    match Selection::from_number(frontend.selection) {
        Selection::Random => "random",
        Selection::Maglev => "maglev",
    }
}

#[must_use]
pub fn forwarding(dispatch: u8) -> &'static str {
    match Dispatch::from_number(dispatch) {
        Dispatch::Snat => "snat",
        Dispatch::DsrOption => "dsr opt",
        Dispatch::DsrIpip => "dsr ipip",
        Dispatch::DsrGeneve => "dsr geneve",
    }
}

#[must_use]
pub fn backend_state<A>(backend: &Backend<A>) -> &'static str {
    let states = [
        (BackendState::Active, "active"),
        (BackendState::Terminating, "terminating"),
        (BackendState::Quarantined, "quarantined"),
        (BackendState::Maintenance, "maintenance"),
    ];
    let known = states
        .into_iter()
        .find(|(state, _)| state.number() == backend.state);
    known.map_or("unknown", |(_, text)| text)
}

/// A service by name, or else by number.
#[must_use]
pub fn named(names: &Names, service: u32) -> String {
    names.get(service).unwrap_or_else(|| format!("#{service}"))
}

/// How many prefixes the list of a frontend has.
#[must_use]
pub fn ranges<A: Pins>(model: &Model<A>, frontend: &Frontend) -> Option<usize> {
    let list = Some(frontend.ranges).filter(|list| *list != 0)?;
    Some(model.ranges.keys().filter(|range| range.list == list).count())
}

fn state(state: State) -> &'static str {
    if state.is_closed() {
        "closed"
    } else if state.is_closing() {
        "closing"
    } else if state.is_open() {
        "open"
    } else {
        "opening"
    }
}

fn by_id<A: Pins>(model: &Model<A>) -> BTreeMap<u32, u32> {
    model.frontends.values().map(|f| (f.id.0, f.service)).collect()
}

fn is_meant<A: Pins>(
    model: &Model<A>,
    names: &Names,
    filter: &Filter,
    services: &BTreeMap<u32, u32>,
    tuple: &Tuple<A>,
    flow: &Flow<A>,
) -> bool {
    // The frontend is where the client's packets go, and where answers come from.
    let (address, port) = if flow.way == Way::Reply.number() {
        (flow.source, flow.source_port)
    } else {
        (tuple.destination, tuple.destination_port)
    };
    let service = services.get(&flow.frontend.0).copied().unwrap_or(0);
    filter.has_service(names, service)
        && filter
            .vip
            .is_none_or(|vip| vip.is(address.ip(), u16::from_be(port)))
        && filter.has_backend(found(model, flow.backend))
}

fn end<A: Pins>(address: A, port: u16, protocol: u8) -> String {
    socket(address.ip(), u16::from_be(port), protocol)
}
