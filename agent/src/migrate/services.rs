//! Services keep what they have.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::pools::Pools;
use super::{Migrated, POOL};

/// Prefixes of `MetalLB`'s annotations, the newer one first.
const PREFIXES: [&str; 2] = ["metallb.io/", "metallb.universe.tf/"];

/// What is to be laid over a Service, if anything is.
pub(super) fn keep(service: &Value, pools: &Pools, migrated: &mut Migrated) {
    if service["spec"]["type"] != "LoadBalancer" {
        return;
    }
    let asked = |key: &str| {
        let annotations = &service["metadata"]["annotations"];
        PREFIXES
            .iter()
            .find_map(|prefix| annotations[format!("{prefix}{key}")].as_str())
    };
    let ingress = service["status"]["loadBalancer"]["ingress"].as_array();
    let has = ingress
        .into_iter()
        .flatten()
        .filter_map(|ingress| ingress["ip"].as_str());
    let has: Vec<&str> = has.collect();
    let wanted = asked("loadBalancerIPs").or(service["spec"]["loadBalancerIP"].as_str());
    let mut annotations = Map::new();
    let addresses = if has.is_empty() {
        wanted.unwrap_or_default().to_owned()
    } else {
        has.join(",")
    };
    if !addresses.is_empty() {
        annotations.insert("lbipam.cilium.io/ips".to_owned(), json!(addresses));
    }
    if let Some(key) = asked("allow-shared-ip") {
        annotations.insert("lbipam.cilium.io/sharing-key".to_owned(), json!(key));
    }
    if asked("address-pool").is_some() && addresses.is_empty() {
        migrated.leave_out(
            service,
            "annotation address-pool: pools choose Services by their selectors; name an address, or select the Service",
        );
    }
    if let Some(class) = service["spec"]["loadBalancerClass"].as_str()
        && class.contains("metallb")
    {
        migrated.leave_out(
            service,
            format!(
                "spec.loadBalancerClass {class}: it can not be changed; make the Service anew without it"
            ),
        );
    }
    let mut addresses = addresses
        .split(',')
        .filter_map(|text| text.trim().parse::<IpAddr>().ok());
    let pool = addresses.find_map(|address| pools.of(address));
    if annotations.is_empty() && pool.is_none() {
        return;
    }
    let metadata = &service["metadata"];
    let mut kept = json!({ "name": metadata["name"], "namespace": metadata["namespace"] });
    if !annotations.is_empty() {
        kept["annotations"] = Value::Object(annotations);
    }
    if let Some(pool) = pool {
        kept["labels"] = json!({ POOL: pool });
    }
    migrated
        .objects
        .push(json!({ "apiVersion": "v1", "kind": "Service", "metadata": kept }));
}
