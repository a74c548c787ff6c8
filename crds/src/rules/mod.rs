//! What one object must keep to beyond its schema.
//!
//! Where Cilium takes a document and trips over it later, the trip is named here. An object is refused
//! only if it cannot be used at all; if one peer or one attribute of it cannot, that is a warning, and
//! the rest is used.

mod bgp;
mod core;
mod pool;

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
        Object::Service(object) => core::service(&mut rules, object),
        Object::EndpointSlice(object) => core::endpoint_slice(&mut rules, object),
        Object::Node(object) => core::node(&mut rules, object),
        Object::Secret(_) | Object::Namespace(_) => {}
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

    /// An address that the pattern of the schema lets through.
    fn address(&mut self, field: &str, text: Option<&str>) {
        let Some(text) = text else { return };
        let Some(written) = parse_address(text) else {
            return self.error(
                field,
                Reason::BadAddress,
                format!("{} is not an address", quote(text)),
            );
        };
        if written.padded {
            let message = format!(
                "there is white space around the address; '{}' is used",
                written.address
            );
            self.warn(field, Reason::PaddedAddress, message);
        }
        if let Some(zone) = written.zone {
            let message = format!(
                "the zone '%{zone}' is no part of the address '{}'; of a peer it names the interface, elsewhere it is ignored",
                written.address
            );
            self.warn(field, Reason::AddressZone, message);
        }
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
