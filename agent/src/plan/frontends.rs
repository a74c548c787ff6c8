//! Which addresses a Service has on this node, and whether each may be announced.
//!
//! An address is announced when traffic sent to this node for it would be served: with traffic policy `Local` that
//! takes an active endpoint on this node; with `Cluster` any endpoint of the cluster will do, and by default not
//! even that is asked for. Where the load balancer in the kernel is ours, its maps must hold the address. Endpoints count for an address of their own family, and for a port of the Service they
//! serve.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crds::k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use crds::k8s_openapi::api::discovery::v1::EndpointSlice;
use crds::{EndpointState, NotReady};
use ebpf_datapath::{Protocol, Socket};

use super::desired::AddressKind;
use super::exposure;
use super::node::NodeFacts;
use super::options::{Options, WithoutEndpoints};
use super::reasons::Reason;
use super::vips::{self, Answer, Ingress};
use crate::datapath::Served;
use crate::problem::{Problem, Severity};
use crate::world::{Fetched, Stored, World};

/// The class of Services meant for BGP alone.
pub(crate) const BGP_CLASS: &str = "io.cilium/bgp-control-plane";
/// The class of Services meant for L2 announcement alone.
pub(crate) const L2_CLASS: &str = "io.cilium/l2-announcer";

/// The label of Services and of slices that no proxy serves.
const HEADLESS: &str = "service.kubernetes.io/headless";

/// A Service as seen from this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceFacts {
    pub(crate) frontends: Vec<Frontend>,
    /// Why it has no frontends at all, or none of a kind it asks for.
    pub(crate) reasons: Vec<Reason>,
    /// The port, and how many endpoints of this node are ready.
    pub(crate) health_check: Option<(u16, usize)>,
    pub(crate) problem: Option<Problem>,
    /// Numbers of the entries that select it, ascending. Mostly many Services share them.
    pub(crate) selected: Arc<[usize]>,
    /// Likewise of the selectors that are to find somebody.
    pub(crate) matched: Arc<[usize]>,
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

/// A label as selectors see it: name and namespace are labels too, and can't be overridden.
pub(crate) fn label<'a>(service: Stored<'a, Service>, key: &str) -> Option<&'a str> {
    match key {
        "io.kubernetes.service.name" => Some(service.name()),
        "io.kubernetes.service.namespace" => Some(service.namespace()),
        key => service.labels().get(key).map(String::as_str),
    }
}

/// What else is known, of all Services.
#[derive(Clone, Copy)]
pub(crate) struct Around<'a> {
    pub(crate) world: &'a World,
    pub(crate) options: &'a Options,
    pub(crate) me: &'a NodeFacts<'a>,
}

/// One Service, but for what selects it.
pub(crate) fn facts(around: Around<'_>, service: Stored<'_, Service>, answer: &Answer) -> ServiceFacts {
    let Around { world, options, me } = around;
    let mut facts = ServiceFacts {
        frontends: Vec::new(),
        reasons: Vec::new(),
        health_check: None,
        problem: None,
        selected: Arc::new([]),
        matched: Arc::new([]),
    };
    match absent(service, me, &mut facts.problem) {
        Some(reason) => facts.reasons.push(reason),
        None => {
            let reference = vips::service_ref(service);
            // No proxy serves what is marked so.
            let slices = world.objects.slices_of(&reference);
            let slices: Vec<Fetched<'_, EndpointSlice>> = slices
                .filter(|slice| !slice.stored().labels().contains_key(HEADLESS))
                .collect();
            let slices: Vec<&EndpointSlice> = slices.iter().map(|slice| slice.stored().object).collect();
            let seen = Seen {
                me,
                slices: &slices,
                answer,
                served: &world.observed.served,
            };
            addresses(service, options, seen, &mut facts);
            facts.frontends.shrink_to_fit();
        }
    }
    facts
}

/// Why a Service has no address on this node, whatever its type.
fn absent(service: Stored<'_, Service>, me: &NodeFacts<'_>, problem: &mut Option<Problem>) -> Option<Reason> {
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
            *problem = Some(Problem::at(
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
    slices: &'a [&'a EndpointSlice],
    answer: &'a Answer,
    served: &'a Served,
}

fn addresses(service: Stored<'_, Service>, options: &Options, seen: Seen<'_>, facts: &mut ServiceFacts) {
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
    slices: &[&EndpointSlice],
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

/// Counts each family once, and only if an address asks.
struct Lazy<'a> {
    service: Stored<'a, Service>,
    slices: &'a [&'a EndpointSlice],
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

fn count(service: Stored<'_, Service>, slices: &[&EndpointSlice], node: &str, family: &str) -> Endpoints {
    let mut endpoints = Endpoints::default();
    let Some(spec) = &service.object.spec else {
        return endpoints;
    };
    let ports = spec.ports.as_deref().unwrap_or_default();
    let not_ready = NotReady::of(spec.publish_not_ready_addresses);
    for slice in slices {
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
