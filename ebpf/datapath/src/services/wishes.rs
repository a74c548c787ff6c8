//! What one Service asks for: its addresses, ports and policies.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crds::NotReady;
use crds::k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use crds::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use ipnet::IpNet;

use super::annotations::{self, Annotations, OnNode};
use super::endpoints::{Hints, Slices};
use super::{Age, Kind, PROXY_NAME, Ranges, Reach, Scope, Wish, WishedFrontend};
use crate::names::{Family, Protocol, ServiceName, Socket, is_servable};
use crate::problem::Problem;
use crate::settings::{ClusterIps, Honour, Settings, SourceRanges, ThisNode};

pub(super) const HEADLESS: &str = "service.kubernetes.io/headless";
const DEFAULT_AFFINITY: u32 = 10_800;
/// The longest affinity Kubernetes accepts: a day.
const MAX_AFFINITY: u32 = 86_400;

pub(crate) fn name(metadata: &ObjectMeta) -> ServiceName {
    ServiceName {
        namespace: metadata.namespace.clone().unwrap_or_else(|| "default".to_owned()),
        name: metadata.name.clone().unwrap_or_default(),
    }
}

pub(crate) fn age(metadata: &ObjectMeta) -> Age {
    let created = metadata.creation_timestamp.as_ref();
    Age(created.map_or(i64::MAX, |time| time.0.as_second()))
}

/// `None` if the Service has nothing to serve on this node.
pub(crate) fn wish(
    service: &Service,
    granted: Option<&BTreeSet<IpAddr>>,
    slices: &Slices<'_>,
    node: &ThisNode,
    settings: &Settings,
    problems: &mut Vec<Problem>,
) -> Option<Wish> {
    let spec = service.spec.as_ref()?;
    let name = name(&service.metadata);
    if !is_ours(service, spec, settings) {
        return None;
    }
    if spec.ports.as_deref().unwrap_or_default().is_empty() {
        problems.push(Problem::NoPorts { service: name });
        return None;
    }
    let none = BTreeMap::new();
    let texts = service.metadata.annotations.as_ref().unwrap_or(&none);
    let annotations = annotations::read(&name, texts, node, settings, problems);
    if annotations.on_node == OnNode::NotServed {
        return None;
    }
    let not_ready = NotReady::of(spec.publish_not_ready_addresses);
    let endpoints = slices.endpoints(&name, not_ready, problems);
    let mut asking = Asking {
        spec,
        name: &name,
        annotations: &annotations,
        affinity: affinity(spec, &name, problems),
        ranges: ranges(spec, &name, &annotations, problems),
        settings,
        frontends: BTreeMap::new(),
        problems,
    };
    asking.all(service, granted, node);
    let frontends = asking.frontends;
    Some(Wish {
        uid: service.metadata.uid.clone().unwrap_or_default(),
        age: age(&service.metadata),
        frontends,
        endpoints,
        hints: hints(spec, texts, settings),
        name,
    })
}

/// Not another proxy's, and neither a DNS name nor headless.
fn is_ours(service: &Service, spec: &ServiceSpec, settings: &Settings) -> bool {
    let label = |key: &str| {
        service
            .metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(key))
    };
    let headless = spec
        .cluster_ip
        .as_deref()
        .is_some_and(|ip| ip.eq_ignore_ascii_case("none"));
    label(PROXY_NAME).map_or("", String::as_str) == settings.proxy_name
        && spec.type_.as_deref() != Some("ExternalName")
        && !headless
        && label(HEADLESS).is_none()
}

struct Asking<'a> {
    spec: &'a ServiceSpec,
    name: &'a ServiceName,
    annotations: &'a Annotations,
    affinity: Option<u32>,
    ranges: Option<Ranges>,
    settings: &'a Settings,
    frontends: BTreeMap<Socket, WishedFrontend>,
    problems: &'a mut Vec<Problem>,
}

impl Asking<'_> {
    /// In the order of [`Kind`]: what is asked for twice is of the first kind.
    fn all(&mut self, service: &Service, granted: Option<&BTreeSet<IpAddr>>, node: &ThisNode) {
        let ports = self.ports();
        let cluster_ips = self.cluster_ips();
        for address in &cluster_ips {
            self.add(Kind::ClusterIp, *address, &ports);
        }
        let kind = self.spec.type_.as_deref();
        if matches!(kind, Some("NodePort" | "LoadBalancer")) && self.annotations.has(Kind::NodePort) {
            self.node_ports(&cluster_ips, &ports, node);
        }
        if kind == Some("LoadBalancer") {
            let mut addresses: BTreeSet<IpAddr> = granted.into_iter().flatten().copied().collect();
            addresses.extend(self.ingress(service));
            for address in addresses {
                self.add(Kind::LoadBalancer, address, &ports);
            }
        }
        for text in self.spec.external_ips.iter().flatten() {
            if let Some(address) = self.address("spec.externalIPs", text) {
                self.add(Kind::ExternalIp, address, &ports);
            }
        }
    }

    /// Ports that can be served; a port and protocol that come twice count once.
    fn ports(&mut self) -> Vec<Port> {
        let mut ports: Vec<Port> = Vec::new();
        for port in self.spec.ports.iter().flatten() {
            let Some(protocol) = Protocol::read(port.protocol.as_deref()) else {
                self.problems.push(Problem::UnknownProtocol {
                    service: self.name.clone(),
                    protocol: port.protocol.clone().unwrap_or_default(),
                });
                continue;
            };
            let Some(number) = self.number(port.port) else {
                continue;
            };
            let node_port = match port.node_port {
                None | Some(0) => None,
                Some(number) => self.number(number),
            };
            ports.push(Port {
                name: name_of(port),
                number,
                node_port,
                protocol,
            });
        }
        ports
    }

    fn number(&mut self, port: i32) -> Option<u16> {
        let number = u16::try_from(port).ok().filter(|number| *number != 0);
        if number.is_none() {
            self.problems.push(Problem::BadPort {
                service: self.name.clone(),
                port,
            });
        }
        number
    }

    fn cluster_ips(&mut self) -> Vec<IpAddr> {
        let spec = self.spec;
        let several = spec.cluster_ips.as_deref().unwrap_or_default();
        let one = spec.cluster_ip.iter().filter(|_| several.is_empty());
        let texts = several.iter().chain(one).filter(|text| !text.is_empty());
        texts
            .filter_map(|text| self.address("spec.clusterIPs", text))
            .collect()
    }

    fn ingress(&mut self, service: &Service) -> Vec<IpAddr> {
        let status = service
            .status
            .as_ref()
            .and_then(|status| status.load_balancer.as_ref());
        let ingress = status.and_then(|status| status.ingress.as_ref());
        // With ipMode Proxy packets arrive with another destination.
        let vips = ingress
            .into_iter()
            .flatten()
            .filter(|ingress| ingress.ip_mode.as_deref().is_none_or(|mode| mode == "VIP"));
        vips.filter_map(|ingress| ingress.ip.as_ref())
            .filter_map(|text| self.address("status.loadBalancer.ingress", text))
            .collect()
    }

    fn address(&mut self, field: &'static str, text: &str) -> Option<IpAddr> {
        let address = text.parse().ok().filter(|address| is_servable(*address));
        if address.is_none() {
            self.problems.push(Problem::BadAddress {
                service: self.name.clone(),
                field,
                text: text.to_owned(),
            });
        }
        address
    }

    fn node_ports(&mut self, cluster_ips: &[IpAddr], ports: &[Port], node: &ThisNode) {
        let told: BTreeSet<Family> = self
            .spec
            .ip_families
            .iter()
            .flatten()
            .filter_map(|text| Family::read(text))
            .collect();
        let families = if told.is_empty() {
            cluster_ips.iter().map(|address| Family::of(*address)).collect()
        } else {
            told
        };
        let asked: Vec<Port> = ports.iter().filter_map(Port::on_nodes).collect();
        for family in families.intersection(&self.settings.families).copied() {
            let mut addresses = node
                .node_port_addresses
                .iter()
                .filter(|address| Family::of(**address) == family)
                .peekable();
            if addresses.peek().is_none() && !asked.is_empty() {
                self.problems.push(Problem::NoNodeAddress {
                    service: self.name.clone(),
                    family,
                });
            }
            for address in addresses {
                self.add(Kind::NodePort, *address, &asked);
            }
        }
    }

    fn add(&mut self, kind: Kind, address: IpAddr, ports: &[Port]) {
        if !self.annotations.has(kind) || !self.settings.families.contains(&Family::of(address)) {
            return;
        }
        let (outer, inner) = self.scopes(kind);
        for port in ports {
            let socket = Socket::new(address, port.number, port.protocol);
            if let Some(known) = self.frontends.get(&socket) {
                if known.kind == kind {
                    self.problems.push(Problem::DuplicatePort {
                        service: self.name.clone(),
                        frontend: socket,
                    });
                }
                continue;
            }
            let closed = kind == Kind::ClusterIp && self.settings.cluster_ips == ClusterIps::Inside;
            let ranged = match self.settings.source_ranges {
                SourceRanges::LoadBalancer => kind == Kind::LoadBalancer,
                SourceRanges::All => !closed,
            };
            let frontend = WishedFrontend {
                kind,
                port: port.name.clone(),
                outer,
                inner,
                affinity: self.affinity,
                ranges: self.ranges.clone().filter(|_| ranged),
                reach: if closed { Reach::Inside } else { Reach::Everywhere },
                selection: self.annotations.selection,
                dispatch: self.settings.dispatch(self.annotations.forwarding, port.protocol),
                delegation: self.annotations.delegation,
            };
            self.frontends.insert(socket, frontend);
        }
    }

    fn scopes(&self, kind: Kind) -> (Scope, Scope) {
        let external = scope(self.spec.external_traffic_policy.as_deref());
        let internal = scope(self.spec.internal_traffic_policy.as_deref());
        match kind {
            Kind::ClusterIp => (internal, internal),
            Kind::NodePort | Kind::LoadBalancer | Kind::ExternalIp => (external, internal),
            Kind::HostPort => (Scope::Local, Scope::Local),
        }
    }
}

/// A port of a Service that is well-formed.
struct Port {
    name: String,
    number: u16,
    node_port: Option<u16>,
    protocol: Protocol,
}

impl Port {
    /// The same under its node port.
    fn on_nodes(&self) -> Option<Self> {
        Some(Self {
            name: self.name.clone(),
            number: self.node_port?,
            node_port: None,
            protocol: self.protocol,
        })
    }
}

fn name_of(port: &ServicePort) -> String {
    port.name.clone().unwrap_or_default()
}

fn scope(policy: Option<&str>) -> Scope {
    match policy {
        Some("Local") => Scope::Local,
        Some(_) | None => Scope::Cluster,
    }
}

fn affinity(spec: &ServiceSpec, name: &ServiceName, problems: &mut Vec<Problem>) -> Option<u32> {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let config = spec.session_affinity_config.as_ref();
    let Some(seconds) = config
        .and_then(|config| config.client_ip.as_ref())
        .and_then(|client| client.timeout_seconds)
    else {
        return Some(DEFAULT_AFFINITY);
    };
    let fits = u32::try_from(seconds)
        .ok()
        .filter(|seconds| (1..=MAX_AFFINITY).contains(seconds));
    if fits.is_none() {
        problems.push(Problem::BadAffinityTimeout {
            service: name.clone(),
            seconds,
        });
    }
    Some(fits.unwrap_or(DEFAULT_AFFINITY))
}

/// A range that cannot be read lets nobody in: where it was the only one, the list is empty, but it is there.
fn ranges(
    spec: &ServiceSpec,
    name: &ServiceName,
    annotations: &Annotations,
    problems: &mut Vec<Problem>,
) -> Option<Ranges> {
    let texts = spec.load_balancer_source_ranges.as_deref().unwrap_or_default();
    if texts.is_empty() {
        return None;
    }
    let mut nets: Vec<IpNet> = Vec::with_capacity(texts.len());
    for text in texts {
        match text.trim().parse::<IpNet>() {
            Ok(net) => nets.push(net.trunc()),
            Err(_) => problems.push(Problem::BadSourceRange {
                service: name.clone(),
                text: text.clone(),
            }),
        }
    }
    nets.sort_unstable();
    nets.dedup();
    Some(Ranges {
        policy: annotations.ranges,
        nets,
    })
}

/// The annotation of old wins over the field, and any value but `disabled` turns hints on.
fn hints(spec: &ServiceSpec, annotations: &BTreeMap<String, String>, settings: &Settings) -> Hints {
    if settings.topology == Honour::No || scope(spec.internal_traffic_policy.as_deref()) == Scope::Local {
        return Hints::Ignored;
    }
    let text = ["topology-aware-hints", "topology-mode"]
        .iter()
        .find_map(|key| annotations.get(&format!("service.kubernetes.io/{key}")));
    match text {
        Some(text) if text.is_empty() || text.eq_ignore_ascii_case("disabled") => Hints::Ignored,
        Some(_) => Hints::Zone,
        None => match spec.traffic_distribution.as_deref() {
            Some("PreferClose" | "PreferSameZone") => Hints::Zone,
            Some("PreferSameNode") => Hints::NodeThenZone,
            Some(_) | None => Hints::Ignored,
        },
    }
}
