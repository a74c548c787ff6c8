//! EndpointSlices merged to the endpoints of each port of a Service, and which of them a set gets.
//!
//! An endpoint that moves between slices stands in both for a while, or its new slice comes first and the old one goes
//! later. All slices are merged anew each time, so it is there as long as any slice has it, with the best state that any
//! of them tells.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crds::k8s_openapi::api::discovery::v1::{Endpoint as ApiEndpoint, EndpointSlice};
use crds::{EndpointState, NotReady};

use super::PROXY_NAME;
use super::wishes::HEADLESS;
use crate::names::{Family, Protocol, ServiceName, Socket, is_servable};
use crate::problem::Problem;
use crate::settings::ThisNode;

/// Ingress controllers write it so that a Service has an endpoint at all.
const DUMMY: (&str, u16) = ("192.192.192.192", 9999);

/// The label that says which Service a slice belongs to.
pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// An endpoint of one port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) state: EndpointState,
    pub(crate) node: Option<String>,
    pub(crate) zone: Option<String>,
    pub(crate) for_zones: BTreeSet<String>,
    pub(crate) for_nodes: BTreeSet<String>,
}

/// All endpoints of one Service.
#[derive(Clone, Debug, Default)]
pub(crate) struct Endpoints {
    /// By name of the port. A name may have several numbers, each with endpoints of its own.
    ports: BTreeMap<(String, Protocol), BTreeMap<Socket, Endpoint>>,
}

impl Endpoints {
    /// An endpoint of a port without name.
    pub(crate) fn add(&mut self, socket: Socket, endpoint: Endpoint) {
        let sockets = self.ports.entry((String::new(), socket.protocol)).or_default();
        sockets.insert(socket, endpoint);
    }

    /// Endpoints of a port. A Service whose only port has no name takes them under any name, as Cilium does.
    pub(crate) fn of(&self, port: &str, protocol: Protocol) -> BTreeMap<Socket, &Endpoint> {
        let mut found: BTreeMap<Socket, &Endpoint> = BTreeMap::new();
        for ((name, of), endpoints) in &self.ports {
            let named = port.is_empty() || name.is_empty() || name == port;
            if *of != protocol || !named {
                continue;
            }
            for (socket, endpoint) in endpoints {
                let best = found.entry(*socket).or_insert(endpoint);
                if endpoint.state < best.state {
                    *best = endpoint;
                }
            }
        }
        found
    }
}

/// Slices by the Service they belong to, but for those that are another proxy's, or no proxy's: also a Service that has an address
/// may have slices that are marked headless.
pub(crate) struct Slices<'a>(BTreeMap<(&'a str, &'a str), Vec<&'a EndpointSlice>>);

impl<'a> Slices<'a> {
    pub(crate) fn of(slices: impl IntoIterator<Item = &'a EndpointSlice>, proxy_name: &str) -> Self {
        let mut by_service: BTreeMap<_, Vec<&EndpointSlice>> = BTreeMap::new();
        for slice in slices {
            let Some(labels) = &slice.metadata.labels else {
                continue;
            };
            let proxy = labels.get(PROXY_NAME).map_or("", String::as_str);
            if let Some(service) = labels.get(SERVICE_NAME)
                && proxy == proxy_name
                && !labels.contains_key(HEADLESS)
            {
                let namespace = slice.metadata.namespace.as_deref().unwrap_or("default");
                by_service
                    .entry((namespace, service.as_str()))
                    .or_default()
                    .push(slice);
            }
        }
        // What is said of one endpoint twice must not depend on the order of objects.
        for slices in by_service.values_mut() {
            slices.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        }
        Self(by_service)
    }

    /// The endpoints of a Service, whether it exists or not.
    pub(crate) fn endpoints(
        &self,
        service: &ServiceName,
        not_ready: NotReady,
        problems: &mut Vec<Problem>,
    ) -> Endpoints {
        let key = (service.namespace.as_str(), service.name.as_str());
        let slices = self.0.get(&key).map(Vec::as_slice).unwrap_or_default();
        let mut merged = Endpoints::default();
        for slice in slices {
            merge(service, slice, not_ready, &mut merged, problems);
        }
        merged
    }
}

fn merge(
    service: &ServiceName,
    slice: &EndpointSlice,
    not_ready: NotReady,
    merged: &mut Endpoints,
    problems: &mut Vec<Problem>,
) {
    // The third type is FQDN, which nobody resolves.
    let Some(family) = Family::read(&slice.address_type) else {
        return;
    };
    let ports = ports(service, slice, problems);
    for endpoint in slice.endpoints.iter().flatten() {
        let known = read(endpoint, not_ready);
        for text in &endpoint.addresses {
            let address = text.parse().ok();
            let address = address.filter(|address| Family::of(*address) == family && is_servable(*address));
            let Some(address) = address else {
                problems.push(Problem::BadEndpoint {
                    service: service.clone(),
                    family,
                    text: text.clone(),
                });
                continue;
            };
            for (name, number, protocol) in &ports {
                if (text.as_str(), *number) == DUMMY {
                    continue;
                }
                let sockets = merged.ports.entry((name.clone(), *protocol)).or_default();
                match sockets.entry(Socket::new(address, *number, *protocol)) {
                    Entry::Vacant(place) => {
                        place.insert(known.clone());
                    }
                    Entry::Occupied(mut other) => {
                        if known.state < other.get().state {
                            other.insert(known.clone());
                        }
                    }
                }
            }
        }
    }
}

fn ports(
    service: &ServiceName,
    slice: &EndpointSlice,
    problems: &mut Vec<Problem>,
) -> Vec<(String, u16, Protocol)> {
    let mut ports = Vec::new();
    for port in slice.ports.iter().flatten() {
        let Some(protocol) = Protocol::read(port.protocol.as_deref()) else {
            problems.push(Problem::UnknownProtocol {
                service: service.clone(),
                protocol: port.protocol.clone().unwrap_or_default(),
            });
            continue;
        };
        // A port without number stands for all ports, which only headless Services can use.
        let Some(number) = port.port else { continue };
        match u16::try_from(number) {
            Ok(number) if number != 0 => {
                ports.push((port.name.clone().unwrap_or_default(), number, protocol))
            }
            Ok(_) | Err(_) => problems.push(Problem::BadPort {
                service: service.clone(),
                port: number,
            }),
        }
    }
    ports
}

fn read(endpoint: &ApiEndpoint, not_ready: NotReady) -> Endpoint {
    let hints = endpoint.hints.as_ref();
    let zones = hints.and_then(|hints| hints.for_zones.as_ref());
    let nodes = hints.and_then(|hints| hints.for_nodes.as_ref());
    Endpoint {
        state: EndpointState::of(endpoint, not_ready),
        node: endpoint.node_name.clone(),
        zone: endpoint.zone.clone(),
        for_zones: zones
            .into_iter()
            .flatten()
            .map(|zone| zone.name.clone())
            .collect(),
        for_nodes: nodes
            .into_iter()
            .flatten()
            .map(|node| node.name.clone())
            .collect(),
    }
}

/// How hints about zones and nodes count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hints {
    Ignored,
    Zone,
    /// Endpoints of this node, then of its zone.
    NodeThenZone,
}

/// Removes active endpoints that are meant for others. Only active ones are asked: endpoints that are starting or ending
/// have no hints, and a rollout must not make everybody leave the zone. If one has no hint, or none is for us, all stay
/// (Kubernetes, topology aware routing, safeguards).
pub(crate) fn follow_hints(endpoints: &mut BTreeMap<Socket, &Endpoint>, hints: Hints, node: &ThisNode) {
    let is_active = |endpoint: &&Endpoint| endpoint.state == EndpointState::Active;
    let keep_only = |endpoints: &mut BTreeMap<Socket, &Endpoint>, ours: &dyn Fn(&Endpoint) -> bool| {
        let some = endpoints.values().filter(|e| is_active(e)).any(|e| ours(e));
        if some {
            endpoints.retain(|_, e| !is_active(&&**e) || ours(e));
        }
        some
    };
    match hints {
        Hints::Ignored => return,
        Hints::Zone => {}
        Hints::NodeThenZone => {
            if keep_only(endpoints, &|e| e.for_nodes.contains(&node.name)) {
                return;
            }
        }
    }
    let Some(zone) = node.zone() else { return };
    let all_hinted = endpoints
        .values()
        .filter(|e| is_active(e))
        .all(|e| !e.for_zones.is_empty());
    if all_hinted {
        keep_only(endpoints, &|e| e.for_zones.contains(zone));
    }
}

/// Whether the endpoint is on this node. One that does not say where it is, is where its address is.
pub(crate) fn is_local(endpoint: &Endpoint, address: IpAddr, node: &ThisNode) -> bool {
    match endpoint.node.as_deref() {
        Some(name) => name == node.name,
        None => node.addresses.contains(&address),
    }
}
