//! Sessions and what goes through them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::pools::Pools;
use super::{Migrated, about, name, only_selector, strings};

/// Of advertisements, one for each peer that they are for: a peer's families select by it.
const FOR: &str = "stentor.io/for-";

/// Names of communities, and what they stand for.
pub(super) fn communities(objects: &[&Value]) -> BTreeMap<String, String> {
    let all = objects
        .iter()
        .flat_map(|object| object["spec"]["communities"].as_array().into_iter().flatten());
    all.filter_map(|alias| {
        Some((
            alias["name"].as_str()?.to_owned(),
            alias["value"].as_str()?.to_owned(),
        ))
    })
    .collect()
}

/// Nodes, and what they run.
struct Place {
    selector: Option<Value>,
    /// Peers by our AS.
    instances: BTreeMap<u64, Vec<Value>>,
}

/// The sessions: one cluster config for all peers of the same nodes, with an instance for each AS of ours.
pub(super) fn peers(peers: &[&Value], migrated: &mut Migrated) {
    let mut places: BTreeMap<String, Place> = BTreeMap::new();
    for peer in peers {
        let own = peer["spec"]["myASN"].as_u64().unwrap_or_default();
        let selector =
            only_selector(peer, "nodeSelectors", migrated).filter(|selector| *selector != json!({}));
        let key = selector.as_ref().map(Value::to_string).unwrap_or_default();
        let place = places.entry(key).or_insert_with(|| Place {
            selector,
            instances: BTreeMap::new(),
        });
        place
            .instances
            .entry(own)
            .or_default()
            .push(session(peer, own, migrated));
        let spec = settings(peer, migrated);
        migrated.objects.push(peer_config(peer, spec));
    }
    if places.len() > 1 {
        let first = peers.first().copied().unwrap_or(&Value::Null);
        migrated.leave_out(
            first,
            "spec.nodeSelectors of the peers differ: a node that several of the CiliumBGPClusterConfigs select runs the oldest \
             alone; make their selectors exclude one another, and name peers of all nodes in each",
        );
    }
    for (number, place) in places.into_values().enumerate() {
        let instances: Vec<Value> = place
            .instances
            .into_iter()
            .map(|(own, peers)| json!({ "name": format!("as-{own}"), "localASN": own, "peers": peers }))
            .collect();
        let mut spec = json!({ "bgpInstances": instances });
        if let Some(selector) = place.selector {
            spec["nodeSelector"] = selector;
        }
        migrated.objects.push(json!({
            "apiVersion": "cilium.io/v2",
            "kind": "CiliumBGPClusterConfig",
            "metadata": { "name": format!("metallb-{number}") },
            "spec": spec,
        }));
    }
}

/// The peer as its instance names it.
fn session(peer: &Value, own: u64, migrated: &mut Migrated) -> Value {
    let spec = &peer["spec"];
    let asn = match spec["dynamicASN"].as_str() {
        Some("internal") => own,
        Some(_) => 0,
        None => spec["peerASN"].as_u64().unwrap_or_default(),
    };
    if spec["peerAddress"].as_str().unwrap_or_default().is_empty() {
        migrated.leave_out(
            peer,
            "spec.peerAddress: there is none; name it in the cluster config",
        );
    }
    json!({
        "name": name(peer),
        "peerASN": asn,
        "peerAddress": spec["peerAddress"],
        "peerConfigRef": { "name": name(peer) },
    })
}

fn peer_config(peer: &Value, spec: Value) -> Value {
    json!({
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumBGPPeerConfig",
        "metadata": { "name": name(peer) },
        "spec": spec,
    })
}

fn settings(peer: &Value, migrated: &mut Migrated) -> Value {
    let spec = &peer["spec"];
    let mut new = Map::new();
    let mut transport = Map::new();
    for (theirs, ours) in [
        ("peerPort", "peerPort"),
        ("sourceAddress", "localAddress"),
        ("interface", "interface"),
    ] {
        let value = &spec[theirs];
        if !value.is_null() && value.as_str() != Some("") && value.as_u64() != Some(0) {
            transport.insert(ours.to_owned(), value.clone());
        }
    }
    if !transport.is_empty() {
        new.insert("transport".to_owned(), Value::Object(transport));
    }
    let mut timers = Map::new();
    for (theirs, ours) in [
        ("holdTime", "holdTimeSeconds"),
        ("keepaliveTime", "keepAliveTimeSeconds"),
        ("connectTime", "connectRetryTimeSeconds"),
    ] {
        if let Some(text) = spec[theirs].as_str() {
            match seconds(text) {
                Some(seconds) => {
                    timers.insert(ours.to_owned(), json!(seconds));
                }
                None => migrated.leave_out(
                    peer,
                    format!("spec.{theirs}: {text:?} is no duration in whole seconds"),
                ),
            }
        }
    }
    // RFC 4271, 10: a third of the hold time, where only that was said.
    if let (Some(hold), None) = (
        timers.get("holdTimeSeconds").and_then(Value::as_u64),
        timers.get("keepAliveTimeSeconds"),
    ) {
        timers.insert("keepAliveTimeSeconds".to_owned(), json!((hold / 3).max(1)));
    }
    if !timers.is_empty() {
        new.insert("timers".to_owned(), Value::Object(timers));
    }
    if spec["ebgpMultiHop"] == json!(true) {
        new.insert("ebgpMultihop".to_owned(), json!(255));
    }
    if spec["enableGracefulRestart"] == json!(true) {
        new.insert("gracefulRestart".to_owned(), json!({ "enabled": true }));
    }
    if let Some(secret) = spec["passwordSecret"]["name"]
        .as_str()
        .filter(|name| !name.is_empty())
    {
        new.insert("authSecretRef".to_owned(), json!(secret));
        migrated.leave_out(
            peer,
            format!("spec.passwordSecret: copy Secret {secret} to the namespace of bgp-secrets-namespace"),
        );
    }
    let families = ["ipv4", "ipv6"].map(|afi| {
        json!({
            "afi": afi,
            "safi": "unicast",
            "advertisements": { "matchLabels": { format!("{FOR}{}", name(peer)): "yes" } },
        })
    });
    new.insert("families".to_owned(), json!(families));
    migrated.leave_out_fields(
        peer,
        &[
            (
                "password",
                "make a Secret with the key password, and name it in authSecretRef",
            ),
            (
                "routerID",
                "is of a node: say it in its CiliumBGPNodeConfigOverride",
            ),
            (
                "bfdProfile",
                "BFD is not run: the session ends with its hold timer",
            ),
            ("vrf", "sessions run in the node's main routing table"),
            (
                "disableMP",
                "families are negotiated: take out of families what the peer must not be offered",
            ),
        ],
    );
    Value::Object(new)
}

/// As Go writes durations: `90s`, `1m30s`.
fn seconds(text: &str) -> Option<u64> {
    let mut sum = 0_u64;
    let mut rest = text.trim();
    while !rest.is_empty() {
        let digits = rest.find(|sign: char| !sign.is_ascii_digit())?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail
            .find(|sign: char| sign.is_ascii_digit())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let unit = match unit {
            "h" => 3600,
            "m" => 60,
            "s" => 1,
            _ => return None,
        };
        sum = sum.checked_add(number.parse::<u64>().ok()?.checked_mul(unit)?)?;
        rest = tail;
    }
    (sum > 0).then_some(sum)
}

pub(super) fn advertisement(
    theirs: &Value,
    peers: &BTreeSet<&str>,
    communities: &BTreeMap<String, String>,
    pools: &Pools,
    migrated: &mut Migrated,
) {
    let spec = &theirs["spec"];
    let mut service = json!({ "addresses": ["LoadBalancerIP"] });
    for (field, ours, whole) in [
        ("aggregationLength", "aggregationLengthIPv4", 32),
        ("aggregationLengthV6", "aggregationLengthIPv6", 128),
    ] {
        if let Some(length) = spec[field].as_u64().filter(|length| *length < whole) {
            service[ours] = json!(length);
        }
    }
    let mut attributes = Map::new();
    if let Some(preference) = spec["localPref"].as_u64().filter(|preference| *preference > 0) {
        attributes.insert("localPreference".to_owned(), json!(preference));
    }
    let (mut standard, mut large) = (Vec::new(), Vec::new());
    for text in strings(&spec["communities"]) {
        let value = communities.get(text).map_or(text, String::as_str);
        match value.strip_prefix("large:") {
            Some(value) => large.push(value.to_owned()),
            None if value.contains(':') => standard.push(value.to_owned()),
            None => migrated.leave_out(
                theirs,
                format!("spec.communities: no Community names {text:?} among what was read"),
            ),
        }
    }
    let mut all = Map::new();
    for (name, list) in [("standard", standard), ("large", large)] {
        if !list.is_empty() {
            all.insert(name.to_owned(), json!(list));
        }
    }
    if !all.is_empty() {
        attributes.insert("communities".to_owned(), Value::Object(all));
    }
    let mut advertisement = json!({
        "advertisementType": "Service",
        "service": service,
        "selector": about(theirs, pools, migrated).unwrap_or_else(|| json!({})),
    });
    if !attributes.is_empty() {
        advertisement["attributes"] = Value::Object(attributes);
    }
    let named = strings(&spec["peers"]);
    let chosen = if named.is_empty() {
        peers.iter().copied().collect()
    } else {
        named
    };
    let labels: Map<String, Value> = chosen
        .into_iter()
        .map(|peer| (format!("{FOR}{peer}"), json!("yes")))
        .collect();
    migrated.leave_out_fields(
        theirs,
        &[(
            "nodeSelectors",
            "advertisements go by peers: let only the peers of these nodes select it",
        )],
    );
    migrated.objects.push(json!({
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumBGPAdvertisement",
        "metadata": { "name": name(theirs), "labels": labels },
        "spec": { "advertisements": [advertisement] },
    }));
}

/// Without BGP: who answers ARP and NDP.
pub(super) fn announcement(theirs: &Value, pools: &Pools, migrated: &mut Migrated) {
    let mut spec = json!({ "loadBalancerIPs": true });
    if let Some(selector) = about(theirs, pools, migrated) {
        spec["serviceSelector"] = selector;
    }
    if let Some(selector) = only_selector(theirs, "nodeSelectors", migrated) {
        spec["nodeSelector"] = selector;
    }
    // Ours are regular expressions.
    let interfaces: Vec<String> = strings(&theirs["spec"]["interfaces"])
        .into_iter()
        .map(|interface| format!("^{}$", interface.replace('.', "\\.")))
        .collect();
    if !interfaces.is_empty() {
        spec["interfaces"] = json!(interfaces);
    }
    migrated.leave_out(
        theirs,
        "this version does not answer ARP and NDP yet; the policy waits for one that does",
    );
    migrated.objects.push(json!({
        "apiVersion": "cilium.io/v2alpha1",
        "kind": "CiliumL2AnnouncementPolicy",
        "metadata": { "name": name(theirs) },
        "spec": spec,
    }));
}
