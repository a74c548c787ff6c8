//! What should be served here: objects in, frontends and their backends out. Nothing of maps yet.
//!
//! ```text
//!  Service ----+--> annotations --> frontends wished ---+
//!  Pod --------+                                        +--> conflicts --> frontends --> their sets --> Plan
//!  EndpointSlice --> endpoints of each port ------------------------------------------------^
//! ```
//!
//! Everything is computed anew each time, so a frontend that lost its address gets it as soon as the winner goes, and a
//! problem vanishes with its cause.
//!
//! Two traffic policies make two views of a Service: what clients outside reach, and what pods and sockets reach.
//! `externalTrafficPolicy` speaks of the outer view of node ports, load balancer addresses and external IPs;
//! `internalTrafficPolicy` of everything else.

mod annotations;
mod conflicts;
mod endpoints;
mod host_ports;
mod keyed;
mod wishes;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crds::k8s_openapi::api::core::v1::{Node, Pod, Service};
use crds::k8s_openapi::api::discovery::v1::EndpointSlice;
use ebpf_abi::service::{Dispatch, Selection};
use ipnet::IpNet;

use self::endpoints::{Endpoints, Hints, Slices, follow_hints, is_local};
pub(crate) use self::keyed::{Changed, Keyed, Same};
use crate::names::{Family, Protocol, ServiceName, Socket};
use crate::problem::Problem;
use crate::settings::{Settings, ThisNode};
pub use crds::EndpointState;

/// A Service with this label belongs to the proxy it names.
pub(crate) const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";

/// Everything known, in any order.
#[derive(Clone, Debug, Default)]
pub struct Objects<'a> {
    pub services: Vec<&'a Service>,
    pub slices: Vec<&'a EndpointSlice>,
    /// Where encapsulated packets for backends go.
    pub nodes: Vec<&'a Node>,
    /// For host ports; only pods of this node count.
    pub pods: Vec<&'a Pod>,
    /// Addresses that this agent gives to Services of type LoadBalancer, beside those in their status.
    pub granted: BTreeMap<ServiceName, BTreeSet<std::net::IpAddr>>,
}

/// Frontends and backends as they should be. Equal plans lead to equal maps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// By name.
    pub services: Vec<ServicePlan>,
    /// Every backend of every set.
    pub backends: BTreeMap<Socket, BackendPlan>,
    /// Addresses of nodes that have backends.
    pub nodes: BTreeMap<String, BTreeMap<Family, std::net::IpAddr>>,
    /// Who may send wrapped packets, and where they go here.
    pub peers: Peers,
    /// Sorted, each once.
    pub problems: Vec<Problem>,
}

/// Nodes that wrap packets for each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peers {
    /// This node, as the others know it.
    pub here: BTreeMap<Family, std::net::IpAddr>,
    /// All addresses of all other nodes.
    pub others: BTreeSet<std::net::IpAddr>,
}

/// A Service, or a host port of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePlan {
    pub name: ServiceName,
    /// Empty where the source has none. Another object of the same name is another service.
    pub uid: String,
    pub age: Age,
    /// By socket, each once.
    pub frontends: Vec<FrontendPlan>,
    /// Frontends point here.
    pub sets: Vec<SetPlan>,
}

/// Seconds since 1970 of the creation; objects without time are the youngest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Age(pub i64);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrontendPlan {
    pub socket: Socket,
    pub kind: Kind,
    /// Index into the sets of the service: for clients outside.
    pub outer: usize,
    /// The same for pods and sockets.
    pub inner: usize,
    /// The same for packets that another node wrapped and sent here.
    pub local: Option<usize>,
    /// Seconds a client stays with its backend; `None`: no session affinity.
    pub affinity: Option<u32>,
    /// Who may come, or who may not; `None`: no list.
    pub ranges: Option<Ranges>,
    pub reach: Reach,
    pub selection: Selection,
    pub dispatch: Dispatch,
    pub delegation: Delegation,
}

/// Where an address comes from. The order is the order of precedence within one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    ClusterIp,
    NodePort,
    LoadBalancer,
    HostPort,
    ExternalIp,
}

impl Kind {
    /// Whether the whole address is the service's, not just some of its ports.
    pub(crate) fn owns_address(self) -> bool {
        match self {
            Self::ClusterIp | Self::LoadBalancer => true,
            Self::NodePort | Self::HostPort | Self::ExternalIp => false,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClusterIp => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
            Self::HostPort => "HostPort",
            Self::ExternalIp => "ExternalIP",
        })
    }
}

/// From where a frontend can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    Inside,
    Everywhere,
    /// A host port on a loopback address: by sockets of the host.
    ThisHost,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ranges {
    pub policy: RangePolicy,
    /// Sorted, host bits cleared.
    pub nets: Vec<IpNet>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RangePolicy {
    Allow,
    Deny,
}

/// Whether a proxy in user space takes packets for local backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delegation {
    None,
    IfLocal,
}

/// Backends that belong together: all frontends of a port with the same view share one set, and one Maglev table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetPlan {
    pub key: SetKey,
    /// Those that new connections may choose, at most 65535 with the next: the active ones, or, where there are none,
    /// those that are shutting down and still answer. Sorted.
    pub serving: Vec<Socket>,
    /// Those that keep what they have. Sorted.
    pub draining: Vec<Socket>,
    /// Not ready: they have no slot, but their flows live on. Sorted.
    pub held: Vec<Socket>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SetKey {
    /// Name of the port of the Service; often empty.
    pub port: String,
    pub protocol: Protocol,
    pub family: Family,
    pub scope: Scope,
}

/// Which backends a view has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    Cluster,
    /// Those on this node.
    Local,
}

/// A backend, as the best of the services sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendPlan {
    pub state: EndpointState,
    pub at: At,
    pub zone: u8,
}

/// Where a backend is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum At {
    Here,
    /// On the node of this name.
    Node(String),
    Unknown,
}

/// What a service wants, before anybody else was asked.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    name: ServiceName,
    uid: String,
    age: Age,
    frontends: BTreeMap<Socket, WishedFrontend>,
    endpoints: Endpoints,
    hints: Hints,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WishedFrontend {
    kind: Kind,
    port: String,
    outer: Scope,
    inner: Scope,
    affinity: Option<u32>,
    ranges: Option<Ranges>,
    reach: Reach,
    selection: Selection,
    dispatch: Dispatch,
    delegation: Delegation,
}

/// All services of this node.
pub fn plan(objects: &Objects<'_>, node: &ThisNode, settings: &Settings) -> Plan {
    let mut problems = Vec::new();
    let slices = Slices::of(objects.slices.iter().copied(), &settings.proxy_name);
    let mut wishes: BTreeMap<ServiceName, Wish> = BTreeMap::new();
    let mut ordered: Vec<&Service> = objects.services.clone();
    ordered.sort_by_key(|service| {
        (
            service.metadata.creation_timestamp.clone(),
            service.metadata.uid.clone(),
        )
    });
    for service in ordered {
        let granted = objects.granted.get(&wishes::name(&service.metadata));
        if let Some(wish) = wishes::wish(service, granted, &slices, node, settings, &mut problems) {
            wishes.entry(wish.name.clone()).or_insert(wish);
        }
    }
    for wish in host_ports::wishes(&objects.pods, node, settings, &mut problems) {
        wishes.entry(wish.name.clone()).or_insert(wish);
    }
    conflicts::settle(&mut wishes, &mut problems);
    let mut plan = Plan::default();
    for wish in wishes.into_values() {
        serve(wish, node, settings, &mut plan, &mut problems);
    }
    plan.nodes = nodes(&objects.nodes, &plan.backends);
    plan.peers = peers(objects.nodes.iter().copied(), node);
    problems.extend(unwrappable(
        &plan.services,
        &plan.backends,
        &plan.nodes,
        &plan.peers,
    ));
    problems.sort();
    problems.dedup();
    plan.problems = problems;
    plan
}

/// Gives each frontend its two sets.
fn serve(wish: Wish, node: &ThisNode, settings: &Settings, plan: &mut Plan, problems: &mut Vec<Problem>) {
    let mut service = ServicePlan {
        name: wish.name,
        uid: wish.uid,
        age: wish.age,
        frontends: Vec::with_capacity(wish.frontends.len()),
        sets: Vec::new(),
    };
    let mut backends: Vec<Vec<(Socket, BackendPlan)>> = Vec::new();
    for (socket, wished) in wish.frontends {
        let known_sets = service.sets.len();
        let mut set = |scope| {
            let key = SetKey {
                port: wished.port.clone(),
                protocol: socket.protocol,
                family: socket.family(),
                scope,
            };
            if let Some(known) = service.sets.iter().position(|set| set.key == key) {
                return known;
            }
            let (set, seen) = select(
                key,
                &service.name,
                &wish.endpoints,
                wish.hints,
                node,
                settings,
                problems,
            );
            service.sets.push(set);
            backends.push(seen);
            service.sets.len() - 1
        };
        let (outer, inner) = (set(wished.outer), set(wished.inner));
        let local = (wished.dispatch == Dispatch::DsrIpip).then(|| set(Scope::Local));
        if let Some(target) = rewritten(&socket, [outer, inner], &service.sets) {
            problems.push(Problem::SctpPortDiffers {
                service: service.name.clone(),
                frontend: socket,
                target,
            });
            // A set that no frontend leads to would get another place each time.
            service.sets.truncate(known_sets);
            backends.truncate(known_sets);
            continue;
        }
        service.frontends.push(FrontendPlan {
            socket,
            kind: wished.kind,
            outer,
            inner,
            local,
            affinity: wished.affinity,
            ranges: wished.ranges,
            reach: wished.reach,
            selection: wished.selection,
            dispatch: wished.dispatch,
            delegation: wished.delegation,
        });
    }
    for (socket, seen) in backends.into_iter().flatten() {
        let known = plan.backends.entry(socket).or_insert_with(|| seen.clone());
        if seen.state < known.state {
            *known = seen;
        }
    }
    plan.services.push(service);
}

/// The port that an SCTP packet would have to get, and cannot: its checksum covers everything.
fn rewritten(socket: &Socket, sets: [usize; 2], all: &[SetPlan]) -> Option<u16> {
    if socket.protocol != Protocol::Sctp {
        return None;
    }
    let sets = sets.iter().filter_map(|set| all.get(*set));
    let mut members = sets.flat_map(|set| set.serving.iter().chain(&set.draining).chain(&set.held));
    members
        .find(|backend| backend.port != socket.port)
        .map(|backend| backend.port)
}

/// A set, and its backends as this service sees them.
fn select(
    key: SetKey,
    service: &ServiceName,
    endpoints: &Endpoints,
    hints: Hints,
    node: &ThisNode,
    settings: &Settings,
    problems: &mut Vec<Problem>,
) -> (SetPlan, Vec<(Socket, BackendPlan)>) {
    let mut candidates = endpoints.of(&key.port, key.protocol);
    candidates.retain(|socket, endpoint| {
        socket.family() == key.family
            && (key.scope == Scope::Cluster || is_local(endpoint, socket.address, node))
    });
    match key.scope {
        Scope::Cluster => follow_hints(&mut candidates, hints, node),
        Scope::Local => {}
    }
    let mut set = SetPlan {
        key,
        serving: Vec::new(),
        draining: Vec::new(),
        held: Vec::new(),
    };
    let mut ending = Vec::new();
    for (socket, endpoint) in &candidates {
        match endpoint.state {
            EndpointState::Active => set.serving.push(*socket),
            EndpointState::Terminating => ending.push(*socket),
            EndpointState::TerminatingNotServing => set.draining.push(*socket),
            EndpointState::Maintenance => set.held.push(*socket),
        }
    }
    if set.serving.is_empty() {
        set.serving = ending;
    } else {
        set.draining.extend(ending);
        set.draining.sort_unstable();
    }
    let most = usize::from(ebpf_abi::service::Set::MAX_MEMBERS);
    let all = set.serving.len() + set.draining.len();
    set.serving.truncate(most);
    set.draining.truncate(most - set.serving.len());
    if all > most {
        problems.push(Problem::TooManyEndpoints {
            service: service.clone(),
            all,
            left_out: all - most,
        });
    }
    let mut backends = Vec::with_capacity(candidates.len());
    for socket in set.serving.iter().chain(&set.draining).chain(&set.held) {
        let Some(endpoint) = candidates.get(socket) else {
            continue;
        };
        let zone = endpoint.zone.as_ref().and_then(|zone| settings.zones.get(zone));
        let here = is_local(endpoint, socket.address, node);
        let seen = BackendPlan {
            state: endpoint.state,
            at: match &endpoint.node {
                _ if here => At::Here,
                Some(name) => At::Node(name.clone()),
                None => At::Unknown,
            },
            zone: zone.copied().unwrap_or(0),
        };
        backends.push((*socket, seen));
    }
    (set, backends)
}

/// The addresses of nodes that have backends.
fn nodes(
    nodes: &[&Node],
    backends: &BTreeMap<Socket, BackendPlan>,
) -> BTreeMap<String, BTreeMap<Family, std::net::IpAddr>> {
    let used: BTreeSet<&str> = backends
        .values()
        .filter_map(|backend| match &backend.at {
            At::Node(name) => Some(name.as_str()),
            At::Here | At::Unknown => None,
        })
        .collect();
    let mut found = BTreeMap::new();
    for node in nodes {
        let Some(name) = node.metadata.name.as_deref().filter(|name| used.contains(name)) else {
            continue;
        };
        found.insert(name.to_owned(), addresses(node));
    }
    found
}

/// Every address counts where a packet comes from; the first of each family where one goes to.
fn peers<'a>(nodes: impl Iterator<Item = &'a Node>, this: &ThisNode) -> Peers {
    let mut peers = Peers::default();
    for node in nodes {
        if node.metadata.name.as_deref() == Some(this.name.as_str()) {
            peers.here = addresses(node);
        } else {
            peers.others.extend(internal_addresses(node));
        }
    }
    for address in &this.node_port_addresses {
        peers.here.entry(Family::of(*address)).or_insert(*address);
    }
    peers
}

/// Names the nodes that packets cannot be wrapped for, where any frontend wraps them.
fn unwrappable<'a>(
    services: impl IntoIterator<Item = &'a ServicePlan>,
    backends: &BTreeMap<Socket, BackendPlan>,
    nodes: &BTreeMap<String, BTreeMap<Family, std::net::IpAddr>>,
    peers: &Peers,
) -> Vec<Problem> {
    let mut frontends = services.into_iter().flat_map(|service| &service.frontends);
    let wraps = |dispatch| match dispatch {
        Dispatch::DsrIpip | Dispatch::DsrGeneve => true,
        Dispatch::Snat | Dispatch::DsrOption => false,
    };
    if !frontends.any(|frontend| wraps(frontend.dispatch)) {
        return Vec::new();
    }
    let named: BTreeSet<&String> = backends
        .values()
        .filter_map(|backend| match &backend.at {
            At::Node(name) => Some(name),
            At::Here | At::Unknown => None,
        })
        .collect();
    let is_shared = |name: &&String| {
        let addresses = nodes.get(*name);
        addresses.is_some_and(|addresses| addresses.keys().any(|family| peers.here.contains_key(family)))
    };
    let left_out = named.into_iter().filter(|name| !is_shared(name));
    left_out
        .map(|name| Problem::NoUnderlay { node: name.clone() })
        .collect()
}

fn addresses(node: &Node) -> BTreeMap<Family, std::net::IpAddr> {
    let mut addresses = BTreeMap::new();
    for address in internal_addresses(node) {
        addresses.entry(Family::of(address)).or_insert(address);
    }
    addresses
}

fn internal_addresses(node: &Node) -> impl Iterator<Item = std::net::IpAddr> {
    let told = node.status.as_ref().and_then(|status| status.addresses.as_ref());
    let internal = told
        .into_iter()
        .flatten()
        .filter(|address| address.type_ == "InternalIP");
    internal.filter_map(|address| address.address.parse().ok())
}
