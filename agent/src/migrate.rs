//! What objects of another program say, in ours: `stentor migrate`.
//!
//! ```text
//!   IPAddressPool -----------------> CiliumLoadBalancerIPPool
//!   BGPPeer -----------------------> CiliumBGPClusterConfig, CiliumBGPPeerConfig
//!   BGPAdvertisement, Community ---> CiliumBGPAdvertisement
//!   L2Advertisement ---------------> CiliumL2AnnouncementPolicy
//!   Service -----------------------> annotations that keep its addresses, and a label that says its pool
//! ```
//!
//! What cannot be said in ours is left out, and named: nobody finds out later what is missing. Nothing is announced more
//! widely than before.

mod bgp;
mod pools;
mod services;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

/// Of Services: the pool that their address is of. Advertisements of single pools select by it.
const POOL: &str = "stentor.io/pool";

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Migrated {
    pub objects: Vec<Value>,
    pub left_out: Vec<LeftOut>,
}

/// Something that the new objects do not say.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeftOut {
    /// `Kind namespace/name`
    pub object: String,
    /// The field and what to do about it.
    pub what: String,
}

/// From what `kubectl get -o yaml` prints of `MetalLB`'s objects and of Services. Sources: the API reference of `MetalLB` 0.15,
/// `metallb.io/v1beta1` and `v1beta2`.
#[must_use]
pub fn metallb(documents: &[Value]) -> Migrated {
    let mut given: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    let mut migrated = Migrated::default();
    for object in documents.iter().flat_map(items) {
        given.entry(kind(object)).or_default().push(object);
    }
    let of = |kind: &str| given.get(kind).map(Vec::as_slice).unwrap_or_default();
    let pools = pools::read(of("metallb.io/IPAddressPool"), &mut migrated);
    let communities = bgp::communities(of("metallb.io/Community"));
    let peers: BTreeSet<&str> = of("metallb.io/BGPPeer").iter().map(|peer| name(peer)).collect();
    bgp::peers(of("metallb.io/BGPPeer"), &mut migrated);
    for advertisement in of("metallb.io/BGPAdvertisement") {
        bgp::advertisement(advertisement, &peers, &communities, &pools, &mut migrated);
    }
    for advertisement in of("metallb.io/L2Advertisement") {
        bgp::announcement(advertisement, &pools, &mut migrated);
    }
    for service in of("v1/Service") {
        services::keep(service, &pools, &mut migrated);
    }
    for profile in of("metallb.io/BFDProfile") {
        migrated.leave_out(profile, "BFD is not run: sessions end with their hold timer");
    }
    for config in of("v1/ConfigMap") {
        migrated.leave_out(
            config,
            "configuration of MetalLB 0.12 and older: let a newer MetalLB make objects of it first",
        );
    }
    migrated.left_out.sort();
    migrated
}

impl Migrated {
    fn leave_out(&mut self, object: &Value, what: impl Into<String>) {
        let namespace = object["metadata"]["namespace"].as_str();
        let place = namespace.map_or_else(|| name(object).to_owned(), |it| format!("{it}/{}", name(object)));
        self.left_out.push(LeftOut {
            object: format!("{} {place}", object["kind"].as_str().unwrap_or("?")),
            what: what.into(),
        });
    }

    /// Names those of the fields that are there.
    fn leave_out_fields(&mut self, object: &Value, fields: &[(&str, &str)]) {
        for (field, what) in fields {
            let value = &object["spec"][*field];
            let says_nothing = matches!(value, Value::Null | Value::Bool(false))
                || value.as_str() == Some("")
                || value.as_array().is_some_and(Vec::is_empty);
            if !says_nothing {
                self.leave_out(object, format!("spec.{field}: {what}"));
            }
        }
    }
}

/// The object, or those of a list.
fn items(document: &Value) -> Vec<&Value> {
    match document["items"].as_array() {
        Some(items) => items.iter().collect(),
        None => vec![document],
    }
}

/// The group, without the version where it is `MetalLB`'s, and the kind.
fn kind(object: &Value) -> String {
    let version = object["apiVersion"].as_str().unwrap_or_default();
    let group = version.split_once('/').map_or(version, |(group, _)| group);
    format!("{group}/{}", object["kind"].as_str().unwrap_or_default())
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

fn strings(value: &Value) -> Vec<&str> {
    let items = value.as_array().into_iter().flatten();
    items.filter_map(Value::as_str).collect()
}

/// A list of selectors of which one must hold, as the one that ours take.
fn only_selector(object: &Value, field: &str, migrated: &mut Migrated) -> Option<Value> {
    let selectors = object["spec"][field].as_array()?;
    if selectors.len() > 1 {
        migrated.leave_out(
            object,
            format!("spec.{field}: ours has one selector; all but the first are left out: copy the object for each"),
        );
    }
    selectors.first().cloned()
}

/// Which Services an advertisement is about; `None`: all of them.
fn about(object: &Value, pools: &pools::Pools, migrated: &mut Migrated) -> Option<Value> {
    let named = strings(&object["spec"]["ipAddressPools"]);
    let selected = object["spec"]["ipAddressPoolSelectors"].as_array();
    if named.is_empty() && selected.is_none_or(Vec::is_empty) {
        return None;
    }
    if selected.is_some_and(|selectors| !selectors.is_empty()) {
        migrated.leave_out(
            object,
            format!(
                "spec.ipAddressPoolSelectors: name the pools in the selector, by the label {POOL} of Services"
            ),
        );
    }
    if named.len() < pools.count() {
        migrated.leave_out(
            object,
            format!(
                "spec.ipAddressPools: advertisements select Services, not pools: new Services of {} need the label \
                 {POOL}; those that were read get it",
                named.join(", ")
            ),
        );
    }
    Some(json!({ "matchExpressions": [{ "key": POOL, "operator": "In", "values": named }] }))
}

#[cfg(test)]
mod tests;
