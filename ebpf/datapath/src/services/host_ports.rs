//! Host ports of pods: each becomes a service of its own with one local backend for each family.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crds::EndpointState;
use crds::k8s_openapi::api::core::v1::{ContainerPort, Pod};

use super::endpoints::{Endpoint, Endpoints, Hints};
use super::{Delegation, Kind, Reach, Scope, Wish, WishedFrontend, wishes};
use crate::names::{Family, Protocol, ServiceName, Socket, is_servable};
use crate::problem::Problem;
use crate::settings::{Settings, ThisNode};

/// The wishes of all pods that run here.
pub(crate) fn wishes(
    pods: &[&Pod],
    node: &ThisNode,
    settings: &Settings,
    problems: &mut Vec<Problem>,
) -> Vec<Wish> {
    let mut all: BTreeMap<ServiceName, Wish> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| runs_here(pod, node)) {
        let Some(spec) = &pod.spec else { continue };
        let containers = spec
            .containers
            .iter()
            .chain(spec.init_containers.iter().flatten());
        for port in containers.flat_map(|container| container.ports.iter().flatten()) {
            if port.host_port.is_some_and(|number| number != 0) {
                add(pod, port, node, settings, &mut all, problems);
            }
        }
    }
    all.into_values().collect()
}

fn runs_here(pod: &Pod, node: &ThisNode) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let spec = pod.spec.as_ref();
    phase == Some("Running")
        && pod.metadata.deletion_timestamp.is_none()
        && spec.is_some_and(|spec| {
            spec.node_name.as_deref() == Some(node.name.as_str()) && spec.host_network != Some(true)
        })
}

fn add(
    pod: &Pod,
    port: &ContainerPort,
    node: &ThisNode,
    settings: &Settings,
    all: &mut BTreeMap<ServiceName, Wish>,
    problems: &mut Vec<Problem>,
) {
    let of = wishes::name(&pod.metadata);
    let Some(protocol) = Protocol::read(port.protocol.as_deref()) else {
        problems.push(Problem::UnknownProtocol {
            service: of,
            protocol: port.protocol.clone().unwrap_or_default(),
        });
        return;
    };
    let mut number = |port: i32| {
        let number = u16::try_from(port).ok().filter(|number| *number != 0);
        if number.is_none() {
            problems.push(Problem::BadPort {
                service: of.clone(),
                port,
            });
        }
        number
    };
    let Some(host_port) = number(port.host_port.unwrap_or_default()) else {
        return;
    };
    let Some(target) = number(port.container_port) else {
        return;
    };
    if settings.node_ports.contains(&host_port) {
        problems.push(Problem::HostPortInNodePortRange {
            service: of,
            port: host_port,
        });
        return;
    }
    let pod_ips = pod_ips(pod);
    let addresses = match listening(port, &pod_ips, node, settings) {
        Ok(addresses) => addresses,
        Err(text) => {
            problems.push(Problem::BadAddress {
                service: of,
                field: "spec.containers.ports.hostIP",
                text: text.to_owned(),
            });
            return;
        }
    };
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let name = ServiceName {
        namespace: of.namespace,
        name: format!("{}:host-port:{host_port}:{uid}", of.name),
    };
    let wish = all.entry(name.clone()).or_insert_with(|| Wish {
        name,
        uid,
        age: wishes::age(&pod.metadata),
        frontends: BTreeMap::new(),
        endpoints: Endpoints::default(),
        hints: Hints::Ignored,
    });
    for address in pod_ips {
        let endpoint = Endpoint {
            state: EndpointState::Active,
            node: Some(node.name.clone()),
            zone: None,
            for_zones: BTreeSet::new(),
            for_nodes: BTreeSet::new(),
        };
        wish.endpoints
            .add(Socket::new(address, target, protocol), endpoint);
    }
    for (address, reach) in addresses {
        let frontend = WishedFrontend {
            kind: Kind::HostPort,
            port: String::new(),
            outer: Scope::Local,
            inner: Scope::Local,
            affinity: None,
            ranges: None,
            reach,
            selection: settings.selection,
            dispatch: settings.dispatch(settings.forwarding, protocol),
            delegation: Delegation::None,
        };
        let socket = Socket::new(address, host_port, protocol);
        wish.frontends.entry(socket).or_insert(frontend);
    }
}

fn pod_ips(pod: &Pod) -> BTreeSet<IpAddr> {
    let Some(status) = &pod.status else {
        return BTreeSet::new();
    };
    let several = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
    several
        .chain(status.pod_ip.as_deref())
        .filter_map(|text| text.parse().ok())
        .filter(|address| is_servable(*address))
        .collect()
}

/// Where the port listens: nothing said, and `0.0.0.0` and `::`, mean all node addresses (the latter two of one family).
/// The error is the text that is no address.
fn listening<'a>(
    port: &'a ContainerPort,
    pod_ips: &BTreeSet<IpAddr>,
    node: &ThisNode,
    settings: &Settings,
) -> Result<Vec<(IpAddr, Reach)>, &'a str> {
    let text = port.host_ip.as_deref().unwrap_or_default();
    let on_nodes = |family: Option<Family>| {
        let wanted = |address: &&IpAddr| {
            let of = Family::of(**address);
            family.is_none_or(|family| family == of) && pod_ips.iter().any(|pod| Family::of(*pod) == of)
        };
        let addresses = node.node_port_addresses.iter().filter(wanted);
        addresses.map(|address| (*address, Reach::Everywhere)).collect()
    };
    let mut addresses: Vec<(IpAddr, Reach)> = if text.is_empty() {
        on_nodes(None)
    } else {
        let address: IpAddr = text.parse().map_err(|_| text)?;
        if address.is_unspecified() {
            on_nodes(Some(Family::of(address)))
        } else if address.is_loopback() {
            vec![(address, Reach::ThisHost)]
        } else if is_servable(address) {
            vec![(address, Reach::Everywhere)]
        } else {
            return Err(text);
        }
    };
    addresses.retain(|(address, _)| settings.families.contains(&Family::of(*address)));
    Ok(addresses)
}
