//! Selectors that match nothing.

use super::Found;
use super::index::{Held, Index};
use crate::bgp::advertisement::{AdvertisementType, CiliumBGPAdvertisement};
use crate::bgp::peer_config::CiliumBGPPeerConfig;
use crate::object::{Parsed, labels};
use crate::problem::Reason;
use crate::selector::LabelSelector;

pub(super) fn check(index: &Index<'_>, found: &mut Found) {
    for config in &index.cluster_configs {
        node_selector(
            index,
            config.parsed,
            config.object.spec.node_selector.as_ref(),
            found,
        );
    }
    for policy in &index.peering_policies {
        node_selector(
            index,
            policy.parsed,
            policy.object.spec.node_selector.as_ref(),
            found,
        );
    }
    for config in index.peer_configs.values() {
        advertisements_of(index, config, found);
    }
    for advertisement in &index.advertisements {
        targets_of(index, advertisement, found);
    }
    for pool in &index.load_balancer_pools {
        let selector = pool.object.spec.service_selector.as_ref();
        let is_load_balancer = |service: &k8s_openapi::api::core::v1::Service| {
            service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("LoadBalancer")
        };
        if let Some(selector) = selector.filter(|selector| !index.any_service(selector, is_load_balancer)) {
            let message = format!("no Service of type LoadBalancer matches {}", describe(selector));
            found.warn(
                pool.parsed,
                "spec.serviceSelector",
                Reason::NoMatchingService,
                message,
            );
        }
    }
}

fn node_selector(index: &Index<'_>, parsed: &Parsed, selector: Option<&LabelSelector>, found: &mut Found) {
    if !index.nodes_of(selector).is_empty() {
        return;
    }
    let message = match selector {
        _ if index.nodes.is_empty() => format!("there is no {} to select", Index::node_kinds()),
        Some(selector) => format!("no node matches {}", describe(selector)),
        None => "no node matches".to_owned(),
    };
    found.warn(parsed, "spec.nodeSelector", Reason::NoMatchingNode, message);
}

fn advertisements_of(index: &Index<'_>, config: &Held<'_, CiliumBGPPeerConfig>, found: &mut Found) {
    for (i, family) in config.object.spec.families.iter().enumerate() {
        let Some(selector) = &family.advertisements else {
            continue;
        };
        let mut labels = index
            .advertisements
            .iter()
            .map(|held| labels(&held.object.metadata));
        if !labels.any(|labels| selector.matches(labels)) {
            let message = format!(
                "no CiliumBGPAdvertisement matches {}, so nothing is announced",
                describe(selector)
            );
            let field = format!("spec.families[{i}].advertisements");
            found.warn(config.parsed, &field, Reason::NoMatchingAdvertisement, message);
        }
    }
}

fn targets_of(index: &Index<'_>, held: &Held<'_, CiliumBGPAdvertisement>, found: &mut Found) {
    for (i, advertisement) in held.object.spec.advertisements.iter().enumerate() {
        let Some(selector) = &advertisement.selector else {
            continue;
        };
        let (any, reason, what) = match advertisement.advertisement_type {
            AdvertisementType::PodCidr => continue,
            AdvertisementType::Service => (
                index.any_service(selector, |_| true),
                Reason::NoMatchingService,
                "Service",
            ),
            AdvertisementType::PodIpPool => (
                index.any_pod_pool(selector),
                Reason::NoMatchingPool,
                "CiliumPodIPPool",
            ),
        };
        if !any {
            let message = format!(
                "no {what} matches {}, so nothing is announced",
                describe(selector)
            );
            found.warn(
                held.parsed,
                &format!("spec.advertisements[{i}].selector"),
                reason,
                message,
            );
        }
    }
}

/// The selector in the notation of `kubectl get -l`.
fn describe(selector: &LabelSelector) -> String {
    match selector.to_string() {
        text if text.is_empty() => "the empty selector".to_owned(),
        text => format!("'{text}'"),
    }
}
