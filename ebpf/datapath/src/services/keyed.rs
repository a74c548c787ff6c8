//! The plan kept, object by object: a change computes anew only what it touches. [`super::plan`] says what must come out.
//!
//! ```text
//!  object --> wish of its service --> rivals for its sockets --> their frontends and sets --> backends they share --> nodes
//! ```
//!
//! Each arrow leads to few: rivals are judged by the rules of [`conflicts`], with only those around them in sight.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crds::k8s_openapi::api::core::v1::{Node, Pod, Service};
use crds::k8s_openapi::api::discovery::v1::EndpointSlice;
use crds::{Opened, Stowed};

use super::endpoints::{Endpoints, Hints, SERVICE_NAME, Slices};
use super::{
    At, BackendPlan, FrontendPlan, Kind, Peers, Plan, ServicePlan, Wish, addresses, conflicts, host_ports,
    peers, serve, unwrappable, wishes,
};
use crate::incremental::Change;
use crate::names::{Family, Protocol, ServiceName, Socket};
use crate::problem::Problem;
use crate::settings::{Settings, ThisNode};

/// Objects, and everything that was computed from each.
#[derive(Debug, Default)]
pub(crate) struct Keyed {
    services: BTreeMap<ServiceName, Stowed<Service>>,
    granted: BTreeMap<ServiceName, BTreeSet<IpAddr>>,
    /// By the Service they belong to, then by their own name.
    slices: BTreeMap<ServiceName, BTreeMap<Option<String>, Stowed<EndpointSlice>>>,
    /// Where each slice is in `slices`.
    slice_of: BTreeMap<ServiceName, ServiceName>,
    pods: BTreeMap<ServiceName, (Arc<Pod>, HostPorts)>,
    nodes: BTreeMap<String, Arc<Node>>,
    /// Names may be taken from pods by Services.
    host_ports: BTreeMap<ServiceName, Wish>,
    wished: BTreeMap<ServiceName, Wished>,
    claims: BTreeMap<Socket, BTreeSet<ServiceName>>,
    served: BTreeMap<ServiceName, Served>,
    /// Services that have the backend.
    backend_of: BTreeMap<Socket, BTreeSet<ServiceName>>,
    backends: BTreeMap<Socket, BackendPlan>,
    /// Backends on other nodes.
    on_node: BTreeMap<String, BTreeSet<Socket>>,
    /// Addresses of nodes that have backends.
    node_addresses: BTreeMap<String, BTreeMap<Family, IpAddr>>,
    /// `None`: not known since this node became another.
    peers: Option<Peers>,
    touched: BTreeSet<ServiceName>,
    touched_pods: BTreeSet<ServiceName>,
    touched_nodes: BTreeSet<String>,
}

#[derive(Debug, Default)]
struct HostPorts {
    wishes: Vec<ServiceName>,
    problems: Vec<Problem>,
}

#[derive(Debug)]
struct Wished {
    wish: Option<Wish>,
    problems: Vec<Problem>,
}

#[derive(Debug, PartialEq, Eq)]
struct Served {
    plan: ServicePlan,
    backends: BTreeMap<Socket, BackendPlan>,
    problems: Vec<Problem>,
}

/// What is not as it was.
#[derive(Debug, Default)]
pub(crate) struct Changed {
    /// With what they were before.
    pub(crate) services: BTreeMap<ServiceName, Option<ServicePlan>>,
    pub(crate) backends: BTreeSet<Socket>,
    pub(crate) nodes: BTreeSet<String>,
    pub(crate) peers: Same,
}

/// Whether something is as it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Same {
    #[default]
    Yes,
    No,
}

impl Keyed {
    pub(crate) fn handle(&mut self, change: Change) {
        match change {
            Change::Service(service) => {
                let name = wishes::name(&service.open().metadata);
                self.touched.insert(name.clone());
                self.services.insert(name, service);
            }
            Change::ServiceGone(name) => {
                self.services.remove(&name);
                self.touched.insert(name);
            }
            Change::Slice(slice) => {
                let opened = slice.open();
                let name = wishes::name(&opened.metadata);
                self.forget_slice(&name);
                let labels = opened.metadata.labels.as_ref();
                if let Some(service) = labels.and_then(|labels| labels.get(SERVICE_NAME)) {
                    let service = ServiceName {
                        namespace: name.namespace.clone(),
                        name: service.clone(),
                    };
                    let of = self.slices.entry(service.clone()).or_default();
                    of.insert(opened.metadata.name.clone(), slice.clone());
                    self.touched.insert(service.clone());
                    self.slice_of.insert(name, service);
                }
            }
            Change::SliceGone(name) => self.forget_slice(&name),
            Change::Pod(pod) => {
                let name = wishes::name(&pod.metadata);
                let before = self.pods.remove(&name).map(|(_, ports)| ports);
                self.pods.insert(name.clone(), (pod, before.unwrap_or_default()));
                self.touched_pods.insert(name);
            }
            Change::PodGone(name) => {
                if let Some((_, ports)) = self.pods.remove(&name) {
                    self.forget_host_ports(&ports);
                }
            }
            Change::Node(node) => {
                if let Some(name) = node.metadata.name.clone() {
                    self.touched_nodes.insert(name.clone());
                    self.nodes.insert(name, node);
                }
            }
            Change::NodeGone(name) => {
                self.nodes.remove(&name);
                self.touched_nodes.insert(name);
            }
            Change::Granted(name, addresses) => {
                self.touched.insert(name.clone());
                self.granted.insert(name, addresses);
            }
        }
    }

    /// Other settings, or another self: everything is touched.
    pub(crate) fn touch_all(&mut self) {
        self.touched.extend(self.services.keys().cloned());
        self.touched_pods.extend(self.pods.keys().cloned());
        self.peers = None;
    }

    fn forget_slice(&mut self, name: &ServiceName) {
        let Some(service) = self.slice_of.remove(name) else {
            return;
        };
        if let Some(of) = self.slices.get_mut(&service) {
            of.retain(|own, _| own.as_deref().unwrap_or_default() != name.name);
            if of.is_empty() {
                self.slices.remove(&service);
            }
        }
        self.touched.insert(service);
    }

    fn forget_host_ports(&mut self, ports: &HostPorts) {
        for name in &ports.wishes {
            self.host_ports.remove(name);
            self.touched.insert(name.clone());
        }
    }

    /// Computes what was touched, and says what came out otherwise.
    pub(crate) fn update(&mut self, node: &ThisNode, settings: &Settings) -> Changed {
        self.update_host_ports(node, settings);
        let mut judged = BTreeSet::new();
        for name in std::mem::take(&mut self.touched) {
            self.update_wish(&name, node, settings, &mut judged);
            judged.insert(name);
        }
        let mut changed = self.judge(judged, node, settings);
        if self.peers.is_none() || !self.touched_nodes.is_empty() {
            let now = Some(peers(self.nodes.values().map(|node| &**node), node));
            if now != self.peers {
                self.peers = now;
                changed.peers = Same::No;
            }
        }
        self.update_backends(&mut changed);
        self.update_nodes(&mut changed);
        changed
    }

    fn update_host_ports(&mut self, node: &ThisNode, settings: &Settings) {
        for name in std::mem::take(&mut self.touched_pods) {
            let Some((pod, before)) = self.pods.remove(&name) else {
                continue;
            };
            self.forget_host_ports(&before);
            let mut ports = HostPorts::default();
            for wish in host_ports::wishes(&[&pod], node, settings, &mut ports.problems) {
                ports.wishes.push(wish.name.clone());
                self.touched.insert(wish.name.clone());
                self.host_ports.insert(wish.name.clone(), wish);
            }
            self.pods.insert(name, (pod, ports));
        }
    }

    fn update_wish(
        &mut self,
        name: &ServiceName,
        node: &ThisNode,
        settings: &Settings,
        judged: &mut BTreeSet<ServiceName>,
    ) {
        let mut problems = Vec::new();
        let mut wish = self.services.get(name).and_then(|service| {
            let slices = self.slices.get(name).into_iter().flat_map(BTreeMap::values);
            let slices: Vec<Opened<'_, EndpointSlice>> = slices.map(Stowed::open).collect();
            let slices = Slices::of(slices.iter().map(|slice| &**slice), &settings.proxy_name);
            let granted = self.granted.get(name);
            wishes::wish(&service.open(), granted, &slices, node, settings, &mut problems)
        });
        if wish.is_none() {
            wish = self.host_ports.get(name).cloned();
        }
        let before = self.wished.get(name).and_then(|wished| wished.wish.as_ref());
        let same_claims = match (before, &wish) {
            (Some(before), Some(wish)) => before.age == wish.age && before.frontends == wish.frontends,
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !same_claims && let Some(before) = before {
            judged.extend(self.rivals(before));
            for socket in before.frontends.keys() {
                if let Some(claims) = self.claims.get_mut(socket) {
                    claims.remove(name);
                    if claims.is_empty() {
                        self.claims.remove(socket);
                    }
                }
            }
        }
        if wish.is_none() && problems.is_empty() {
            self.wished.remove(name);
            return;
        }
        if !same_claims && let Some(wish) = &wish {
            for socket in wish.frontends.keys() {
                self.claims.entry(*socket).or_default().insert(name.clone());
            }
        }
        self.wished.insert(name.clone(), Wished { wish, problems });
        if !same_claims && let Some(wish) = self.wish(name) {
            judged.extend(self.rivals(wish));
        }
    }

    fn wish(&self, name: &ServiceName) -> Option<&Wish> {
        self.wished.get(name)?.wish.as_ref()
    }

    /// Whose frontends may be won or lost with those of this wish. An address that gets or loses an owner decides about
    /// external IPs, and they about everybody who asks for the same socket.
    fn rivals(&self, wish: &Wish) -> BTreeSet<ServiceName> {
        let mut rivals = BTreeSet::new();
        let mut owned = BTreeSet::new();
        for (socket, frontend) in &wish.frontends {
            rivals.extend(self.claims.get(socket).into_iter().flatten().cloned());
            if frontend.kind.owns_address() {
                owned.insert(socket.address);
            }
        }
        for address in owned {
            for (socket, claims) in self.claims.range(all_ports(address)) {
                if claims
                    .iter()
                    .any(|name| self.kind(name, socket) == Some(Kind::ExternalIp))
                {
                    rivals.extend(claims.iter().cloned());
                }
            }
        }
        rivals
    }

    fn kind(&self, name: &ServiceName, socket: &Socket) -> Option<Kind> {
        Some(self.wish(name)?.frontends.get(socket)?.kind)
    }

    /// Settles conflicts and chooses sets for these services.
    fn judge(&mut self, judged: BTreeSet<ServiceName>, node: &ThisNode, settings: &Settings) -> Changed {
        let mut problems: BTreeMap<ServiceName, Vec<Problem>> = BTreeMap::new();
        let mut found = Vec::new();
        let mut around = self.around(&judged);
        conflicts::settle(&mut around, &mut found);
        for problem in found {
            if let Some(name) = problem.service() {
                problems.entry(name.clone()).or_default().push(problem);
            }
        }
        let mut changed = Changed::default();
        for name in judged {
            let served = around.remove(&name).and_then(|wish| {
                let mut plan = Plan::default();
                let mut problems = problems.remove(&name).unwrap_or_default();
                serve(wish, node, settings, &mut plan, &mut problems);
                Some(Served {
                    plan: plan.services.pop()?,
                    backends: plan.backends,
                    problems,
                })
            });
            let before = self.served.remove(&name);
            if before != served {
                self.move_backends(&name, before.as_ref(), served.as_ref(), &mut changed);
                let before = before.map(|served| served.plan);
                changed.services.insert(name.clone(), before);
            }
            if let Some(served) = served {
                self.served.insert(name, served);
            }
        }
        changed
    }

    /// These wishes, and of others what decides about them.
    fn around(&self, judged: &BTreeSet<ServiceName>) -> BTreeMap<ServiceName, Wish> {
        let whole = judged.iter().filter_map(|name| self.wish(name));
        let mut around: BTreeMap<ServiceName, Wish> =
            whole.map(|wish| (wish.name.clone(), wish.clone())).collect();
        let sockets: BTreeSet<Socket> = around
            .values()
            .flat_map(|wish| wish.frontends.keys().copied())
            .collect();
        let mut show = |name: &ServiceName, socket: &Socket| {
            if judged.contains(name) {
                return;
            }
            let Some(wish) = self.wish(name) else { return };
            let shown = around.entry(name.clone()).or_insert_with(|| Wish {
                name: name.clone(),
                uid: String::new(),
                age: wish.age,
                frontends: BTreeMap::new(),
                endpoints: Endpoints::default(),
                hints: Hints::Ignored,
            });
            if let Some(frontend) = wish.frontends.get(socket) {
                shown.frontends.insert(*socket, frontend.clone());
            }
        };
        let mut external = BTreeSet::new();
        for socket in sockets {
            for name in self.claims.get(&socket).into_iter().flatten() {
                show(name, &socket);
                if self.kind(name, &socket) == Some(Kind::ExternalIp) {
                    external.insert(socket.address);
                }
            }
        }
        for address in external {
            for (socket, claims) in self.claims.range(all_ports(address)) {
                for name in claims {
                    if self.kind(name, socket).is_some_and(Kind::owns_address) {
                        show(name, socket);
                    }
                }
            }
        }
        around
    }

    fn move_backends(
        &mut self,
        name: &ServiceName,
        before: Option<&Served>,
        now: Option<&Served>,
        changed: &mut Changed,
    ) {
        for socket in before.iter().flat_map(|served| served.backends.keys()) {
            changed.backends.insert(*socket);
            if let Some(of) = self.backend_of.get_mut(socket) {
                of.remove(name);
            }
        }
        for socket in now.iter().flat_map(|served| served.backends.keys()) {
            changed.backends.insert(*socket);
            self.backend_of.entry(*socket).or_default().insert(name.clone());
        }
    }

    /// A backend is as the best of its services sees it; among equals the first name decides.
    fn update_backends(&mut self, changed: &mut Changed) {
        for socket in &changed.backends {
            let of = self.backend_of.get(socket).into_iter().flatten();
            let seen = of.filter_map(|name| self.served.get(name)?.backends.get(socket));
            let now = seen.min_by_key(|backend| backend.state).cloned();
            if now.is_none() {
                self.backend_of.remove(socket);
            }
            let before = match &now {
                Some(now) => self.backends.insert(*socket, now.clone()),
                None => self.backends.remove(socket),
            };
            let at = |backend: Option<BackendPlan>| match backend?.at {
                At::Node(name) => Some(name),
                At::Here | At::Unknown => None,
            };
            let (from, to) = (at(before), at(now));
            if from == to {
                continue;
            }
            if let Some(name) = from {
                if let Some(backends) = self.on_node.get_mut(&name) {
                    backends.remove(socket);
                    if backends.is_empty() {
                        self.on_node.remove(&name);
                    }
                }
                self.touched_nodes.insert(name);
            }
            if let Some(name) = to {
                self.on_node.entry(name.clone()).or_default().insert(*socket);
                self.touched_nodes.insert(name);
            }
        }
    }

    fn update_nodes(&mut self, changed: &mut Changed) {
        for name in std::mem::take(&mut self.touched_nodes) {
            let backends = self.on_node.get(&name);
            let node = self.nodes.get(&name).filter(|_| backends.is_some());
            let now = node.map(|node| addresses(node));
            let before = match &now {
                Some(now) => self.node_addresses.insert(name.clone(), now.clone()),
                None => self.node_addresses.remove(&name),
            };
            if before != now {
                changed.backends.extend(backends.into_iter().flatten());
                changed.nodes.insert(name);
            }
        }
    }

    /// Everything.
    pub(crate) fn plan(&self) -> Plan {
        Plan {
            services: self.served.values().map(|served| served.plan.clone()).collect(),
            backends: self.backends.clone(),
            nodes: self.node_addresses.clone(),
            peers: self.peers.clone().unwrap_or_default(),
            problems: self.problems(),
        }
    }

    /// The problems of [`Self::plan`], without what it holds beside them.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let wished = self.wished.values().flat_map(|wished| &wished.problems);
        let pods = self.pods.values().flat_map(|(_, ports)| &ports.problems);
        let served = self.served.values().flat_map(|served| &served.problems);
        let mut problems: Vec<Problem> = wished.chain(pods).chain(served).cloned().collect();
        let services = self.served.values().map(|served| &served.plan);
        let unknown = Peers::default();
        let peers = self.peers.as_ref().unwrap_or(&unknown);
        problems.extend(unwrappable(services, &self.backends, &self.node_addresses, peers));
        problems.sort();
        problems.dedup();
        problems
    }

    /// How many services have frontends.
    pub(crate) fn count(&self) -> usize {
        let all = self.served.values();
        all.filter(|served| !served.plan.frontends.is_empty()).count()
    }

    /// What changed, as it is now.
    pub(crate) fn part(&self, changed: &Changed) -> Plan {
        let services = changed.services.keys().filter_map(|name| self.served.get(name));
        let backends = changed.backends.iter();
        let nodes = changed.nodes.iter();
        Plan {
            services: services.map(|served| served.plan.clone()).collect(),
            backends: backends
                .filter_map(|socket| Some((*socket, self.backends.get(socket)?.clone())))
                .collect(),
            nodes: nodes
                .filter_map(|name| Some((name.clone(), self.node_addresses.get(name)?.clone())))
                .collect(),
            peers: Peers::default(),
            problems: Vec::new(),
        }
    }

    /// Whether a service that has frontends has this backend.
    pub(crate) fn is_reached(&self, backend: &Socket) -> bool {
        let mut of = self.backend_of.get(backend).into_iter().flatten();
        of.any(|name| {
            let served = self.served.get(name);
            served.is_some_and(|served| !served.plan.frontends.is_empty())
        })
    }

    /// All frontends at an address.
    pub(crate) fn frontends_at(&self, address: IpAddr) -> impl Iterator<Item = &FrontendPlan> {
        let claims = self.claims.range(all_ports(address));
        claims.flat_map(move |(socket, names)| {
            names.iter().filter_map(move |name| {
                let frontends = &self.served.get(name)?.plan.frontends;
                let at = frontends.binary_search_by_key(socket, |frontend| frontend.socket);
                frontends.get(at.ok()?)
            })
        })
    }
}

fn all_ports(address: IpAddr) -> std::ops::RangeInclusive<Socket> {
    Socket::new(address, 0, Protocol::Tcp)..=Socket::new(address, u16::MAX, Protocol::Sctp)
}
