//! Which addresses a Service has on this node, and whether each may be announced.
//!
//! An address is announced when traffic sent to this node for it would be served: with traffic policy `Local` that
//! takes an active endpoint on this node; with `Cluster` any endpoint of the cluster will do, and by default not
//! even that is asked for. Where the load balancer in the kernel is ours, its maps must hold the address. Endpoints count for an address of their own family, and for a port of the Service they
//! serve.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crds::k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use crds::k8s_openapi::api::discovery::v1::EndpointSlice;
use crds::{EndpointState, NotReady};
use ebpf_datapath::{Protocol, Socket};

use super::desired::{AddressKind, HealthCheck};
use super::exposure;
use super::node::NodeFacts;
use super::options::{Options, WithoutEndpoints};
use super::reasons::Reason;
use super::vips::{self, Answer, Ingress, Vips};
use crate::datapath::Served;
use crate::problem::{Problem, Severity};
use crate::world::{ServiceRef, Stored, World};

/// The class of Services meant for BGP alone.
pub(crate) const BGP_CLASS: &str = "io.cilium/bgp-control-plane";
/// The class of Services meant for L2 announcement alone.
pub(crate) const L2_CLASS: &str = "io.cilium/l2-announcer";

/// The label of Services and of slices that no proxy serves.
const HEADLESS: &str = "service.kubernetes.io/headless";

/// A Service as seen from this node.
#[derive(Debug)]
pub(crate) struct ServiceFacts<'a> {
    pub(crate) reference: ServiceRef,
    labels: &'a BTreeMap<String, String>,
    pub(crate) frontends: Vec<Frontend>,
    /// Why it has no frontends at all, or none of a kind it asks for.
    pub(crate) reasons: Vec<Reason>,
    health_check: Option<(u16, usize)>,
}

/// An address of a Service, on every port of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frontend {
    pub(crate) address: IpAddr,
    pub(crate) kind: AddressKind,
    pub(crate) policy: TrafficPolicy,
    pub(crate) verdict: Result<(), Reason>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TrafficPolicy {
    Cluster,
    Local,
}

impl ServiceFacts<'_> {
    /// A label as selectors see it: name and namespace are labels too, and can't be overridden.
    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        match key {
            "io.kubernetes.service.name" => Some(&self.reference.name),
            "io.kubernetes.service.namespace" => Some(&self.reference.namespace),
            key => self.labels.get(key).map(String::as_str),
        }
    }
}

/// Every Service, by namespace and name.
pub(crate) fn services<'a>(
    world: &'a World,
    options: &Options,
    me: &NodeFacts<'_>,
    vips: &Vips,
    problems: &mut Vec<Problem>,
) -> Vec<ServiceFacts<'a>> {
    let slices = Slices::of(world);
    // Services, answers and slices come in one order: nothing is looked up.
    let mut slices = slices.all.chunk_by(|a, b| a.service == b.service).peekable();
    let mut answers = vips.answers().peekable();
    let mut all: Vec<ServiceFacts<'a>> = Vec::new();
    for service in world.objects.services() {
        let name = (service.namespace(), service.name());
        while answers.next_if(|(other, _)| other.key() < name).is_some() {}
        let answer = answers.next_if(|(other, _)| other.key() == name);
        while slices.next_if(|of| service_of(of) < Some(name)).is_some() {}
        let slices = slices
            .next_if(|of| service_of(of) == Some(name))
            .unwrap_or_default();
        let mut facts = ServiceFacts {
            reference: match answer {
                Some((reference, _)) => reference.clone(),
                None => vips::service_ref(service, all.last().map(|last| &last.reference)),
            },
            labels: service.labels(),
            frontends: Vec::new(),
            reasons: Vec::new(),
            health_check: None,
        };
        match absent(service, me, problems) {
            Some(reason) => facts.reasons.push(reason),
            None => {
                let seen = Seen {
                    me,
                    slices,
                    answer: answer.map_or(&vips::NOTHING, |(_, answer)| answer),
                    served: &world.observed.served,
                };
                addresses(service, options, seen, &mut facts);
            }
        }
        all.push(facts);
    }
    all
}

/// What `healthCheckNodePort`s answer. Of two Services with one port the first by name has it.
pub(crate) fn health_checks(world: &World, services: &[ServiceFacts<'_>]) -> BTreeMap<u16, HealthCheck> {
    let mut checks = BTreeMap::new();
    if world.observed.served == Served::ByOthers {
        return checks;
    }
    for service in services {
        if let Some((port, local_endpoints)) = service.health_check {
            checks.entry(port).or_insert_with(|| HealthCheck {
                service: service.reference.clone(),
                local_endpoints,
            });
        }
    }
    checks
}

/// Why a Service has no address on this node, whatever its type.
fn absent(service: Stored<'_, Service>, me: &NodeFacts<'_>, problems: &mut Vec<Problem>) -> Option<Reason> {
    let spec = service.object.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return Some(Reason::ExternalName);
    }
    let cluster_ip = spec.cluster_ip.as_deref();
    if cluster_ip.is_some_and(|ip| ip.eq_ignore_ascii_case("none")) || service.labels().contains_key(HEADLESS)
    {
        return Some(Reason::Headless);
    }
    if spec.ports.as_deref().unwrap_or_default().is_empty() {
        return Some(Reason::NoPorts);
    }
    let annotations = service.object.metadata.annotations.as_ref()?;
    match exposure::on_node(annotations, &me.labels) {
        Ok(true) => None,
        Ok(false) => Some(Reason::NotForThisNode),
        Err(bad) => {
            problems.push(Problem::at(
                service.parsed,
                "metadata.annotations[service.cilium.io/node-selector]",
                Severity::Error,
                "bad-node-selector",
                bad.to_string(),
            ));
            Some(Reason::NotForThisNode)
        }
    }
}

/// What else is known.
#[derive(Clone, Copy)]
struct Seen<'a> {
    me: &'a NodeFacts<'a>,
    /// Of this Service.
    slices: &'a [Slice<'a>],
    answer: &'a Answer,
    served: &'a Served,
}

fn addresses(service: Stored<'_, Service>, options: &Options, seen: Seen<'_>, facts: &mut ServiceFacts<'_>) {
    let Some(spec) = &service.object.spec else { return };
    let Seen {
        me, slices, answer, ..
    } = seen;
    let external = policy(spec.external_traffic_policy.as_deref());
    let internal = policy(spec.internal_traffic_policy.as_deref());
    let mut endpoints = Lazy {
        service,
        slices,
        node: me.name,
        v4: None,
        v6: None,
    };
    let mut add = |address: IpAddr, kind: AddressKind, policy: TrafficPolicy, first: Result<(), Reason>| {
        let verdict = first.and_then(|()| {
            if !options.families.has(address) {
                return Err(Reason::FamilyOff);
            }
            served(policy, options, endpoints.of(address))?;
            in_datapath(seen.served, address, spec)
        });
        if facts
            .frontends
            .iter()
            .all(|known| (known.address, known.kind) != (address, kind))
        {
            facts.frontends.push(Frontend {
                address,
                kind,
                policy,
                verdict,
            });
        }
    };
    let no_annotations = BTreeMap::new();
    let annotations = service
        .object
        .metadata
        .annotations
        .as_ref()
        .unwrap_or(&no_annotations);
    let exposed = |kind: AddressKind| {
        if exposure::has_type(annotations, kind) {
            Ok(())
        } else {
            Err(Reason::TypeNotExposed)
        }
    };

    if spec.type_.as_deref() == Some("LoadBalancer") {
        facts.health_check = health_check(service, spec, me, slices);
        let ours = match spec.load_balancer_class.as_deref() {
            None | Some(BGP_CLASS) => Ok(()),
            Some(L2_CLASS) => Err(Reason::OnlyByL2),
            Some(class) => Err(Reason::ClassNotOurs(class.to_owned())),
        };
        for ingress in &answer.ingress {
            match ingress {
                Ingress::Vip(address) => {
                    let first = exposed(AddressKind::LoadBalancerIp).and_then(|()| ours.clone());
                    add(*address, AddressKind::LoadBalancerIp, external, first);
                }
                Ingress::NotVip(address) => {
                    add(
                        *address,
                        AddressKind::LoadBalancerIp,
                        external,
                        Err(Reason::IpModeNotVip),
                    );
                }
                Ingress::Hostname => {}
            }
        }
        let only_names = !answer.ingress.is_empty() && answer.ingress.iter().all(|i| *i == Ingress::Hostname);
        if only_names {
            facts.reasons.push(Reason::HostnameOnly);
        }
        if let Some(why) = &answer.lacking {
            facts.reasons.push(Reason::NoVip(why.clone()));
        }
    }
    for address in spec
        .external_ips
        .iter()
        .flatten()
        .filter_map(|text| text.parse().ok())
    {
        add(address, AddressKind::ExternalIp, external, Ok(()));
    }
    let several = spec.cluster_ips.as_deref().unwrap_or_default();
    let one = spec.cluster_ip.iter().filter(|_| several.is_empty());
    for address in several.iter().chain(one).filter_map(|text| text.parse().ok()) {
        add(
            address,
            AddressKind::ClusterIp,
            internal,
            exposed(AddressKind::ClusterIp),
        );
    }
}

/// The port, and how many endpoints of this node are ready; of two families those of the better one.
fn health_check(
    service: Stored<'_, Service>,
    spec: &ServiceSpec,
    me: &NodeFacts<'_>,
    slices: &[Slice<'_>],
) -> Option<(u16, usize)> {
    if policy(spec.external_traffic_policy.as_deref()) != TrafficPolicy::Local {
        return None;
    }
    let port = u16::try_from(spec.health_check_node_port?)
        .ok()
        .filter(|port| *port > 0)?;
    let local = ["IPv4", "IPv6"].map(|family| count(service, slices, me.name, family).local_active);
    Some((port, local.into_iter().max().unwrap_or(0)))
}

fn policy(text: Option<&str>) -> TrafficPolicy {
    match text {
        Some("Local") => TrafficPolicy::Local,
        Some(_) | None => TrafficPolicy::Cluster,
    }
}

fn served(policy: TrafficPolicy, options: &Options, endpoints: Endpoints) -> Result<(), Reason> {
    if policy == TrafficPolicy::Local && endpoints.local_active == 0 {
        return Err(Reason::NoLocalEndpoints);
    }
    match options.without_endpoints {
        WithoutEndpoints::Withdrawn if endpoints.any == 0 => Err(Reason::NoEndpoints),
        WithoutEndpoints::Withdrawn | WithoutEndpoints::Announced => Ok(()),
    }
}

/// Whether the load balancer of this node knows the address on every port. Where it is another's, nobody is asked.
fn in_datapath(served: &Served, address: IpAddr, spec: &ServiceSpec) -> Result<(), Reason> {
    let Served::Here(served) = served else {
        return Ok(());
    };
    let is_served = |port: &ServicePort| {
        let protocol = match port.protocol.as_deref() {
            None | Some("TCP") => Protocol::Tcp,
            Some("UDP") => Protocol::Udp,
            Some("SCTP") => Protocol::Sctp,
            // Nobody serves it, and it is named as a problem.
            Some(_) => return true,
        };
        let port = u16::try_from(port.port).unwrap_or_default();
        served.contains(&Socket::new(address, port, protocol))
    };
    if spec.ports.iter().flatten().all(is_served) {
        Ok(())
    } else {
        Err(Reason::NotInDatapath)
    }
}

/// Endpoints that count for one family of a Service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Endpoints {
    /// Active ones, and terminating ones that still serve: the datapath falls back on those.
    any: usize,
    /// Active on this node.
    local_active: usize,
}

/// Endpoint slices by the Service they belong to.
struct Slices<'a> {
    all: Vec<Slice<'a>>,
}

struct Slice<'a> {
    /// By namespace and name.
    service: (&'a str, &'a str),
    object: &'a EndpointSlice,
}

impl<'a> Slices<'a> {
    fn of(world: &'a World) -> Self {
        let mut all = Vec::new();
        for slice in world.objects.endpoint_slices() {
            let labels = slice.labels();
            // No proxy serves what is marked so.
            if let Some(service) = labels.get("kubernetes.io/service-name")
                && !labels.contains_key(HEADLESS)
            {
                all.push(Slice {
                    service: (slice.namespace(), service.as_str()),
                    object: slice.object,
                });
            }
        }
        all.sort_by_key(|slice| slice.service);
        Self { all }
    }
}

fn service_of<'a>(slices: &[Slice<'a>]) -> Option<(&'a str, &'a str)> {
    slices.first().map(|slice| slice.service)
}

/// Counts each family once, and only if an address asks.
struct Lazy<'a> {
    service: Stored<'a, Service>,
    slices: &'a [Slice<'a>],
    node: &'a str,
    v4: Option<Endpoints>,
    v6: Option<Endpoints>,
}

impl Lazy<'_> {
    fn of(&mut self, address: IpAddr) -> Endpoints {
        match address {
            IpAddr::V4(_) => *self
                .v4
                .get_or_insert_with(|| count(self.service, self.slices, self.node, "IPv4")),
            IpAddr::V6(_) => *self
                .v6
                .get_or_insert_with(|| count(self.service, self.slices, self.node, "IPv6")),
        }
    }
}

fn count(service: Stored<'_, Service>, slices: &[Slice<'_>], node: &str, family: &str) -> Endpoints {
    let mut endpoints = Endpoints::default();
    let Some(spec) = &service.object.spec else {
        return endpoints;
    };
    let ports = spec.ports.as_deref().unwrap_or_default();
    let not_ready = NotReady::of(spec.publish_not_ready_addresses);
    for slice in slices.iter().map(|slice| slice.object) {
        if slice.address_type != family || !serves(slice, ports) {
            continue;
        }
        for endpoint in slice.endpoints.iter().flatten() {
            let weight = endpoint.addresses.len();
            let local = endpoint.node_name.as_deref() == Some(node);
            match EndpointState::of(endpoint, not_ready) {
                EndpointState::Active => {
                    endpoints.any += weight;
                    endpoints.local_active += if local { weight } else { 0 };
                }
                EndpointState::Terminating => endpoints.any += weight,
                EndpointState::TerminatingNotServing | EndpointState::Maintenance => {}
            }
        }
    }
    endpoints
}

/// Whether the slice is about a port of the Service. A slice without ports says nothing about them.
fn serves(slice: &EndpointSlice, ports: &[ServicePort]) -> bool {
    let slice_ports = slice.ports.as_deref().unwrap_or_default();
    slice_ports.is_empty()
        || slice_ports.iter().any(|served| {
            let name = served.name.as_deref().unwrap_or_default();
            ports
                .iter()
                .any(|port| port.name.as_deref().unwrap_or_default() == name)
        })
}
