//! What one object must keep to beyond its schema.
//!
//! Where Cilium takes a document and trips over it later, the trip is named here. An object is refused
//! only if it cannot be used at all; if one peer or one attribute of it cannot, that is a warning, and
//! the rest is used.

mod bgp;
mod core;
mod pool;

use std::net::IpAddr;

use crate::object::Object;
use crate::problem::{Reason, Severity};
use crate::schema::{Finding, quote};
use crate::selector::LabelSelector;
use crate::text::{parse_address, parse_prefix};
use crate::yaml::Node;

/// Checks an object that its schema accepts. `node` gives the lines.
pub(crate) fn check(object: &Object, node: &Node, out: &mut Vec<Finding>) {
    let mut rules = Rules { node, out };
    match object {
        Object::CiliumBGPClusterConfig(object) => bgp::cluster_config(&mut rules, &object.spec),
        Object::CiliumBGPPeerConfig(object) => bgp::peer_config(&mut rules, &object.spec),
        Object::CiliumBGPAdvertisement(object) => bgp::advertisement(&mut rules, &object.spec),
        Object::CiliumBGPNodeConfig(object) => bgp::node_config(&mut rules, &object.spec),
        Object::CiliumBGPNodeConfigOverride(object) => bgp::node_config_override(&mut rules, &object.spec),
        Object::CiliumBGPPeeringPolicy(object) => bgp::peering_policy(&mut rules, &object.spec),
        Object::CiliumLoadBalancerIPPool(object) => pool::load_balancer_ip_pool(&mut rules, &object.spec),
        Object::CiliumPodIPPool(object) => pool::pod_ip_pool(&mut rules, &object.spec),
        Object::CiliumNode(object) => pool::cilium_node(&mut rules, &object.spec),
        Object::Service(object) => core::service(&mut rules, &object.open()),
        Object::EndpointSlice(object) => core::endpoint_slice(&mut rules, &object.open()),
        Object::Node(object) => core::node(&mut rules, object),
        Object::Secret(_) | Object::Namespace(_) | Object::Pod(_) => {}
    }
}

struct Rules<'a> {
    node: &'a Node,
    out: &'a mut Vec<Finding>,
}

impl Rules<'_> {
    fn error(&mut self, field: &str, reason: Reason, message: impl Into<String>) {
        self.push(Severity::Error, field, reason, message.into());
    }

    fn warn(&mut self, field: &str, reason: Reason, message: impl Into<String>) {
        self.push(Severity::Warning, field, reason, message.into());
    }

    fn push(&mut self, severity: Severity, field: &str, reason: Reason, message: String) {
        let line = self.node.line_at(field);
        self.out.push(Finding {
            severity,
            line,
            field: field.to_owned(),
            reason,
            message,
        });
    }

    fn selector(&mut self, field: &str, selector: Option<&LabelSelector>) {
        for error in selector.into_iter().flat_map(LabelSelector::errors) {
            self.error(
                &format!("{field}.{}", error.field()),
                Reason::BadSelector,
                error.to_string(),
            );
        }
    }

    /// An address that the pattern of the schema lets through. A zone has no meaning here.
    fn address(&mut self, field: &str, text: Option<&str>) {
        if let Some((address, zone)) = self.written_address(field, text) {
            let message = format!("the zone '%{zone}' is no part of the address '{address}' and is ignored");
            self.warn(field, Reason::AddressZone, message);
        }
    }

    /// The address of a peer: where it is link-local, its zone is the interface it is reached by.
    fn peer_address(&mut self, field: &str, text: Option<&str>) {
        match self.written_address(field, text) {
            Some((IpAddr::V6(address), _)) if address.is_unicast_link_local() => {}
            Some((address, zone)) => {
                let message = format!(
                    "'{address}' is not link-local, so it needs no zone; '%{zone}' binds the session to that interface"
                );
                self.warn(field, Reason::AddressZone, message);
            }
            None => {}
        }
    }

    /// Reports what is no address, and white space. Gives the address if it has a zone, and the zone.
    fn written_address<'t>(&mut self, field: &str, text: Option<&'t str>) -> Option<(IpAddr, &'t str)> {
        let text = text?;
        let Some(written) = parse_address(text) else {
            let message = format!("{} is not an address", quote(text));
            self.error(field, Reason::BadAddress, message);
            return None;
        };
        if written.padded {
            let message = format!(
                "there is white space around the address; '{}' is used",
                written.address
            );
            self.warn(field, Reason::PaddedAddress, message);
        }
        written.zone.map(|zone| (written.address, zone))
    }

    /// A prefix that the format of the schema lets through.
    fn prefix(&mut self, field: &str, text: &str) {
        if let Some(written) = parse_prefix(text)
            && written.host_bits
        {
            let message = format!(
                "{} has bits set beyond its mask; '{}' is used",
                quote(text),
                written.prefix
            );
            self.warn(field, Reason::HostBits, message);
        }
    }
}

#[cfg(test)]
mod tests;
