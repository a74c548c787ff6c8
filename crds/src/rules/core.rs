//! Rules of the core kinds: what the API server checks in code and not in a schema, as far as
//! Stentor depends on it (Kubernetes API validation of Service, EndpointSlice and Node).

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::Rules;
use crate::problem::Reason;
use crate::schema::{nearest, quote};
use crate::selector;
use crate::text::parse_prefix;

/// Addresses asked of LB-IPAM, under the newer and the older name.
const REQUESTED_IPS: [&str; 2] = ["lbipam.cilium.io/ips", "io.cilium/lb-ipam-ips"];

pub(super) fn service(rules: &mut Rules<'_>, service: &Service) {
    for name in REQUESTED_IPS {
        let value = service
            .metadata
            .annotations
            .as_ref()
            .and_then(|annotations| annotations.get(name));
        for text in value
            .into_iter()
            .flat_map(|value| value.split(','))
            .map(str::trim)
        {
            if !text.is_empty() && text.parse::<IpAddr>().is_err() {
                let message = format!("{} is not an address and is left out", quote(text));
                rules.warn(
                    &format!("metadata.annotations[{name}]"),
                    Reason::BadAddress,
                    message,
                );
            }
        }
    }
    let Some(spec) = &service.spec else { return };
    one_of(
        rules,
        "spec.type",
        spec.type_.as_deref(),
        &["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"],
    );
    let policies = ["Cluster", "Local"];
    one_of(
        rules,
        "spec.externalTrafficPolicy",
        spec.external_traffic_policy.as_deref(),
        &policies,
    );
    one_of(
        rules,
        "spec.internalTrafficPolicy",
        spec.internal_traffic_policy.as_deref(),
        &policies,
    );
    let policies = ["SingleStack", "PreferDualStack", "RequireDualStack"];
    // The addresses a Service has still stand, so it is not lost over this.
    if let Some(message) = spec
        .ip_family_policy
        .as_deref()
        .and_then(|policy| unknown(policy, &policies))
    {
        rules.warn(
            "spec.ipFamilyPolicy",
            Reason::NotOneOf,
            format!("{message}; taken as not set"),
        );
    }
    let mut families = BTreeSet::new();
    for (i, family) in spec.ip_families.iter().flatten().enumerate() {
        let field = format!("spec.ipFamilies[{i}]");
        one_of(rules, &field, Some(family), &["IPv4", "IPv6"]);
        if !families.insert(family) {
            rules.error(
                &field,
                Reason::DuplicateFamily,
                format!("{family} stands twice; remove one"),
            );
        }
    }
    for (i, text) in spec.external_ips.iter().flatten().enumerate() {
        address(rules, &format!("spec.externalIPs[{i}]"), text);
    }
    for (i, text) in spec.cluster_ips.iter().flatten().enumerate() {
        cluster_ip(rules, &format!("spec.clusterIPs[{i}]"), text);
    }
    if let Some(text) = &spec.cluster_ip {
        cluster_ip(rules, "spec.clusterIP", text);
    }
    if let Some(text) = spec
        .load_balancer_ip
        .as_deref()
        .filter(|text| text.trim().parse::<IpAddr>().is_err())
        && !text.is_empty()
    {
        let message = format!("{} is not an address and is left out", quote(text));
        rules.warn("spec.loadBalancerIP", Reason::BadAddress, message);
    }
    for (key, value) in spec.selector.iter().flatten() {
        if let Some(why) = selector::key_error(key).or_else(|| selector::value_error(value)) {
            rules.error(&format!("spec.selector[{key}]"), Reason::BadSelector, why);
        }
    }
    let mut seen = BTreeSet::new();
    for (i, service_port) in spec.ports.iter().flatten().enumerate() {
        let at = format!("spec.ports[{i}]");
        port(rules, &format!("{at}.port"), service_port.port);
        if let Some(number) = service_port.node_port.filter(|number| *number != 0) {
            port(rules, &format!("{at}.nodePort"), number);
        }
        protocol(rules, &format!("{at}.protocol"), service_port.protocol.as_deref());
        let protocol = service_port.protocol.as_deref().unwrap_or("TCP");
        if !seen.insert((service_port.port, protocol)) {
            let message = format!("port {} {protocol} stands twice; remove one", service_port.port);
            rules.error(&format!("{at}.port"), Reason::DuplicateItem, message);
        }
    }
}

pub(super) fn endpoint_slice(rules: &mut Rules<'_>, slice: &EndpointSlice) {
    one_of(
        rules,
        "addressType",
        Some(&slice.address_type),
        &["IPv4", "IPv6", "FQDN"],
    );
    for (i, endpoint) in slice.endpoints.iter().flatten().enumerate() {
        for (j, text) in endpoint.addresses.iter().enumerate() {
            let field = format!("endpoints[{i}].addresses[{j}]");
            let fits = match (slice.address_type.as_str(), text.parse::<IpAddr>()) {
                ("IPv4", Ok(address)) => address.is_ipv4(),
                ("IPv6", Ok(address)) => address.is_ipv6(),
                ("IPv4" | "IPv6", Err(_)) => false,
                (_, _) => true,
            };
            if !fits {
                let message = format!("{} is not an address of type {}", quote(text), slice.address_type);
                rules.error(&field, Reason::BadAddress, message);
            }
        }
    }
    for (i, endpoint_port) in slice.ports.iter().flatten().enumerate() {
        if let Some(number) = endpoint_port.port {
            port(rules, &format!("ports[{i}].port"), number);
        }
        protocol(
            rules,
            &format!("ports[{i}].protocol"),
            endpoint_port.protocol.as_deref(),
        );
    }
}

pub(super) fn node(rules: &mut Rules<'_>, node: &Node) {
    let Some(spec) = &node.spec else { return };
    let listed = spec
        .pod_cidrs
        .iter()
        .flatten()
        .enumerate()
        .map(|(i, text)| (format!("spec.podCIDRs[{i}]"), text));
    for (field, text) in listed.chain(spec.pod_cidr.iter().map(|text| ("spec.podCIDR".to_owned(), text))) {
        match parse_prefix(text) {
            Some(_) => rules.prefix(&field, text),
            None => rules.error(
                &field,
                Reason::BadAddress,
                format!("{} is not a CIDR", quote(text)),
            ),
        }
    }
}

fn one_of(rules: &mut Rules<'_>, field: &str, value: Option<&str>, known: &[&str]) {
    if let Some(message) = value.and_then(|value| unknown(value, known)) {
        rules.error(field, Reason::NotOneOf, message);
    }
}

fn unknown(value: &str, known: &[&str]) -> Option<String> {
    if known.contains(&value) {
        return None;
    }
    Some(match nearest(value, known.iter().copied()) {
        Some(near) => format!("{} is not known here; did you mean '{near}'?", quote(value)),
        None => format!(
            "{} is not known here; use one of {}",
            quote(value),
            known.join(", ")
        ),
    })
}

fn address(rules: &mut Rules<'_>, field: &str, text: &str) {
    if text.parse::<IpAddr>().is_err() {
        rules.error(
            field,
            Reason::BadAddress,
            format!("{} is not an address", quote(text)),
        );
    }
}

/// `None` makes a Service headless. Cilium takes it in any case, the API server does not.
fn cluster_ip(rules: &mut Rules<'_>, field: &str, text: &str) {
    if text.is_empty() || text == "None" || text.parse::<IpAddr>().is_ok() {
        return;
    }
    let message = match text.eq_ignore_ascii_case("None") {
        true => "a headless Service is written 'None'".to_owned(),
        false => format!("{} is not an address and is left out", quote(text)),
    };
    rules.warn(field, Reason::BadAddress, message);
}

fn port(rules: &mut Rules<'_>, field: &str, number: i32) {
    if !(1..=65535).contains(&number) {
        rules.error(
            field,
            Reason::BadPort,
            format!("{number} is not a port; use 1 to 65535"),
        );
    }
}

fn protocol(rules: &mut Rules<'_>, field: &str, protocol: Option<&str>) {
    one_of(rules, field, protocol, &["TCP", "UDP", "SCTP"]);
}
