//! Rules of the BGP kinds.

use std::collections::BTreeMap;

use super::Rules;
use crate::bgp::advertisement::{AdvertisementSpec, AdvertisementType, Attributes};
use crate::bgp::cluster_config::{AutoDiscoveryMode, ClusterConfigSpec, Whereabouts};
use crate::bgp::family::{Afi, Safi};
use crate::bgp::node_config::NodeConfigSpec;
use crate::bgp::node_config_override::NodeConfigOverrideSpec;
use crate::bgp::peer_config::PeerConfigSpec;
use crate::bgp::peering_policy::PeeringPolicySpec;
use crate::community;
use crate::problem::Reason;
use crate::text::{parse_ipv4, parse_prefix};

pub(super) fn cluster_config(rules: &mut Rules<'_>, spec: &ClusterConfigSpec) {
    rules.selector("spec.nodeSelector", spec.node_selector.as_ref());
    for (i, instance) in spec.bgp_instances.iter().enumerate() {
        for (j, peer) in instance.peers.iter().enumerate() {
            whereabouts(
                rules,
                &peer.whereabouts,
                &format!("spec.bgpInstances[{i}].peers[{j}]"),
            );
        }
    }
}

pub(super) fn node_config(rules: &mut Rules<'_>, spec: &NodeConfigSpec) {
    for (i, instance) in spec.bgp_instances.iter().enumerate() {
        let at = format!("spec.bgpInstances[{i}]");
        router_id(rules, &format!("{at}.routerID"), instance.router_id.as_deref());
        for (j, peer) in instance.peers.iter().enumerate() {
            let at = format!("{at}.peers[{j}]");
            whereabouts(rules, &peer.whereabouts, &at);
            rules.address(&format!("{at}.localAddress"), peer.local_address.as_deref());
        }
    }
}

fn whereabouts(rules: &mut Rules<'_>, peer: &Whereabouts, at: &str) {
    let Whereabouts {
        peer_address,
        auto_discovery,
        peer_prefix,
        dynamic_limit,
    } = peer;
    rules.peer_address(&format!("{at}.peerAddress"), peer_address.as_deref());
    if let Some(prefix) = peer_prefix {
        rules.prefix(&format!("{at}.peerPrefix"), prefix);
    } else if dynamic_limit.is_some() {
        rules.warn(
            &format!("{at}.dynamicLimit"),
            Reason::NoEffect,
            "without peerPrefix there is nothing to limit",
        );
    }
    match (peer_address, peer_prefix, auto_discovery) {
        (None, None, None) => {
            let message =
                "the peer has no address and is left out; give peerAddress, peerPrefix or autoDiscovery";
            rules.warn(at, Reason::PeerWithoutAddress, message);
        }
        (Some(_), Some(_), _) | (_, Some(_), Some(_)) => {
            let message = "peerPrefix stands alone; remove it, or peerAddress and autoDiscovery";
            rules.error(&format!("{at}.peerPrefix"), Reason::PeerAddressAmbiguous, message);
        }
        (Some(_), None, Some(_)) => {
            let message = "peerAddress is given, so autoDiscovery is not used; remove one of them";
            rules.warn(
                &format!("{at}.autoDiscovery"),
                Reason::PeerAddressAmbiguous,
                message,
            );
        }
        (None, None, Some(discovery)) => match (discovery.mode, &discovery.default_gateway) {
            (AutoDiscoveryMode::DefaultGateway, Some(_)) => {}
            (AutoDiscoveryMode::DefaultGateway, None) => {
                let message = "mode DefaultGateway needs defaultGateway.addressFamily; the peer is left out";
                rules.warn(
                    &format!("{at}.autoDiscovery"),
                    Reason::AutoDiscoveryIncomplete,
                    message,
                );
            }
        },
        (Some(_), None, None) | (None, Some(_), None) => {}
    }
}

fn router_id(rules: &mut Rules<'_>, field: &str, text: Option<&str>) {
    match text.map(parse_ipv4) {
        // RFC 6286 2.1.
        Some(Some(id)) if id.is_unspecified() => {
            rules.error(
                field,
                Reason::BadAddress,
                "a router ID must not be 0.0.0.0; choose one unique in the AS",
            );
        }
        Some(None) => rules.error(
            field,
            Reason::BadAddress,
            "a router ID is written as four numbers, as 10.0.0.1",
        ),
        Some(Some(_)) | None => {}
    }
}

pub(super) fn node_config_override(rules: &mut Rules<'_>, spec: &NodeConfigOverrideSpec) {
    for (i, instance) in spec.bgp_instances.iter().enumerate() {
        let at = format!("spec.bgpInstances[{i}]");
        router_id(rules, &format!("{at}.routerID"), instance.router_id.as_deref());
        if instance.local_port.is_some() && instance.port().is_none() {
            let message = "this is not a port and is ignored; use 1 to 65535";
            rules.warn(&format!("{at}.localPort"), Reason::BadPort, message);
        }
        for (j, peer) in instance.peers.iter().enumerate() {
            let at = format!("{at}.peers[{j}]");
            rules.address(&format!("{at}.localAddress"), peer.local_address.as_deref());
            if peer.local_port.is_some() {
                let message = "the source port of a session cannot be chosen; remove the field";
                rules.warn(&format!("{at}.localPort"), Reason::NoEffect, message);
            }
        }
    }
}

pub(super) fn peer_config(rules: &mut Rules<'_>, spec: &PeerConfigSpec) {
    if let Some(transport) = &spec.transport {
        rules.address("spec.transport.localAddress", transport.local_address.as_deref());
        if transport.local_port.is_some() {
            let message = "the source port of a session cannot be chosen; remove the field";
            rules.warn("spec.transport.localPort", Reason::NoEffect, message);
        }
    }
    if spec.ttl_security.is_some() && spec.ebgp_multihop > 1 {
        let message =
            "ttlSecurity and ebgpMultihop exclude each other; say how far with ttlSecurity.hops alone";
        rules.error("spec.ttlSecurity", Reason::TtlSecurityWithMultihop, message);
    }
    let families = spec.families.iter().map(|family| (family.afi, family.safi));
    check_families(rules, "spec.families", families);
    for (i, family) in spec.families.iter().enumerate() {
        rules.selector(
            &format!("spec.families[{i}].advertisements"),
            family.advertisements.as_ref(),
        );
    }
}

fn check_families(rules: &mut Rules<'_>, at: &str, families: impl Iterator<Item = (Afi, Safi)>) {
    let mut seen = BTreeMap::new();
    for (i, (afi, safi)) in families.enumerate() {
        let at = format!("{at}[{i}]");
        if let Some(first) = seen.insert((afi, safi), i) {
            let message = format!(
                "{afi}/{safi} is already item {first}; what either selects is announced; join the two"
            );
            rules.warn(&at, Reason::DuplicateFamily, message);
        }
        match (afi, safi) {
            (Afi::Ipv4 | Afi::Ipv6, Safi::Unicast) => {}
            (Afi::Ipv4 | Afi::Ipv6 | Afi::L2vpn | Afi::Ls | Afi::Opaque, _) => {
                let message =
                    format!("{afi}/{safi} is negotiated at most; routes are announced in unicast only");
                rules.warn(&at, Reason::UnusedFamily, message);
            }
        }
    }
}

pub(super) fn advertisement(rules: &mut Rules<'_>, spec: &AdvertisementSpec) {
    for (i, advertisement) in spec.advertisements.iter().enumerate() {
        let at = format!("spec.advertisements[{i}]");
        rules.selector(&format!("{at}.selector"), advertisement.selector.as_ref());
        match advertisement.advertisement_type {
            AdvertisementType::PodCidr | AdvertisementType::PodIpPool if advertisement.service.is_some() => {
                let kind = advertisement.advertisement_type.as_str();
                rules.warn(
                    &format!("{at}.service"),
                    Reason::NoEffect,
                    format!("type {kind} has no use for 'service'"),
                );
            }
            AdvertisementType::Service | AdvertisementType::PodIpPool if advertisement.selector.is_none() => {
                let message = "without a selector nothing is announced; write 'selector: {}' to announce all";
                rules.warn(&at, Reason::NoEffect, message);
            }
            AdvertisementType::PodCidr | AdvertisementType::PodIpPool | AdvertisementType::Service => {}
        }
        if let Some(attributes) = &advertisement.attributes {
            check_attributes(rules, &format!("{at}.attributes"), attributes);
        }
    }
}

fn check_attributes(rules: &mut Rules<'_>, at: &str, attributes: &Attributes) {
    if let (Some(written), Some(used)) = (attributes.local_preference, attributes.local_pref())
        && written != i64::from(used)
    {
        let message = format!("{written} does not fit 32 bits; {used} is used");
        rules.warn(
            &format!("{at}.localPreference"),
            Reason::LocalPreferenceOutOfRange,
            message,
        );
    }
    for (i, text) in attributes.extended_communities.iter().enumerate() {
        if let Err(error) = community::extended(text) {
            rules.error(
                &format!("{at}.extendedCommunities[{i}]"),
                Reason::BadCommunity,
                error.to_string(),
            );
        }
    }
    rules.address(&format!("{at}.nextHop"), attributes.next_hop.as_deref());
}

pub(super) fn peering_policy(rules: &mut Rules<'_>, spec: &PeeringPolicySpec) {
    rules.selector("spec.nodeSelector", spec.node_selector.as_ref());
    for (i, router) in spec.virtual_routers.iter().enumerate() {
        let at = format!("spec.virtualRouters[{i}]");
        rules.selector(
            &format!("{at}.podIPPoolSelector"),
            router.pod_ip_pool_selector.as_ref(),
        );
        rules.selector(&format!("{at}.serviceSelector"), router.service_selector.as_ref());
        for (j, neighbor) in router.neighbors.iter().enumerate() {
            let at = format!("{at}.neighbors[{j}]");
            let prefix = parse_prefix(&neighbor.peer_address).map(|written| written.prefix);
            if prefix.is_some_and(|prefix| prefix.prefix_len() != prefix.max_prefix_len()) {
                let message = "a neighbor is one address; write it with /32 or /128";
                rules.error(&format!("{at}.peerAddress"), Reason::BadAddress, message);
            }
            check_families(
                rules,
                &format!("{at}.families"),
                neighbor.families.iter().map(|f| (f.afi, f.safi)),
            );
            for (k, attributes) in neighbor.advertised_path_attributes.iter().enumerate() {
                let field = format!("{at}.advertisedPathAttributes[{k}].selector");
                rules.selector(&field, attributes.selector.as_ref());
            }
        }
    }
}
