//! What this node tells the cluster of its BGP sessions: the status of its `CiliumBGPNodeConfig`; and of its load balancer:
//! a member of the status of its `CiliumNode`.
//!
//! ```text
//!   speaker: peers, Adj-RIB-In, Adj-RIB-Out --+
//!   plan: peers that are not run, and why ----+--> status --> difference to the status that was seen
//!   ports that can not be listened on --------+
//! ```
//!
//! It tells effects, never wishes: what is counted as advertised is in the Adj-RIB-Out of that peer. An End-of-RIB marker
//! is no route, so the number can be one less than what `cilium bgp peers` shows.
//!
//! The status that was seen is what watches told, so a restart over the same sessions writes only their new beginnings,
//! and what somebody else took out comes back.

use std::collections::BTreeMap;
use std::time::Instant;

use bgp_speaker::speaker::{PeerStatus, StateName};
use bgp_speaker::types::Name;
use crds::bgp::node_config::{
    CiliumBGPNodeConfig, InstanceStatus, NodeConfigStatus, PeerStatus as ToldPeer, RouteCount, TimersStatus,
};
use crds::cilium_node::FullMap;
use crds::condition::{Condition, ConditionStatus};
use crds::k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::api::bgp;
use crate::config::operator::StatusReport;
use crate::operator::plan::conditions::{Conditions, Wanted};
use crate::plan::{Desired, PeerReport};
use crate::world::{Objects, Stored};

/// Cilium's: whether something of the configuration is not run.
const ERROR: &str = "cilium.io/BGPReconcileError";
/// Of the condition's message, in octets; longer ones are cut between lines.
const LONGEST: usize = 32 * 1024 - 1;

/// What to change in the status of the own `CiliumNode`, which says what the load balancer has no room for; `None`: it says
/// what is so.
pub(crate) fn full_maps(seen: &[FullMap], full: &[FullMap]) -> Option<Value> {
    let told = match full {
        [] => Value::Null,
        [..] => json!({ "refused": full }),
    };
    (seen != full).then(|| json!({ "status": { "load-balancer": told } }))
}

/// What the own `CiliumNode` says, if there is one.
pub(crate) fn seen_full_maps(objects: &Objects, node: &str) -> Option<Vec<FullMap>> {
    let node = objects.cilium_node(node)?;
    let status = node.object.status.as_ref();
    let told = status.and_then(|status| status.load_balancer.as_ref());
    Some(told.map(|told| told.refused.clone()).unwrap_or_default())
}

/// The own node config as it was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    generation: Option<i64>,
    status: NodeConfigStatus,
}

impl Seen {
    pub(crate) fn of(config: Stored<'_, CiliumBGPNodeConfig>) -> Self {
        Self {
            generation: config.object.metadata.generation,
            status: config.object.status.clone().unwrap_or_default(),
        }
    }
}

/// What the status is made of.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    pub seen: &'a Seen,
    pub desired: &'a Desired,
    pub listen_errors: &'a BTreeMap<Name, String>,
    pub peers: &'a [PeerStatus],
    pub report: StatusReport,
}

/// Since when sessions are established, as it was told: the clock may be set, and what is told must not follow it.
#[derive(Debug, Default)]
pub struct Beginnings(BTreeMap<(Name, Name), (Instant, String)>);

impl Beginnings {
    fn of(&mut self, peer: &PeerStatus, now: Instant, clock: Timestamp) -> Option<String> {
        let key = (peer.instance.clone(), peer.name.clone());
        let since = peer
            .established_since
            .filter(|_| peer.state == StateName::Established);
        let Some(since) = since else {
            self.0.remove(&key);
            return None;
        };
        let ago = SignedDuration::try_from(now.saturating_duration_since(since)).unwrap_or_default();
        let told = || (since, format!("{:.0}", clock.checked_sub(ago).unwrap_or(clock)));
        let entry = self.0.entry(key).or_insert_with(told);
        if entry.0 != since {
            *entry = told();
        }
        Some(entry.1.clone())
    }
}

/// The patch that makes the status what it should be; `None`: it is.
#[must_use]
pub fn patch(facts: Facts<'_>, told: &mut Beginnings, now: Instant, clock: Timestamp) -> Option<Value> {
    let wanted = match facts.report {
        StatusReport::Written => NodeConfigStatus {
            bgp_instances: instances(facts, told, now, clock),
            conditions: conditions(facts, &[condition(facts)], clock),
        },
        StatusReport::TakenOut => NodeConfigStatus {
            bgp_instances: Vec::new(),
            conditions: conditions(facts, &[], clock),
        },
    };
    if wanted == facts.seen.status {
        return None;
    }
    // A list that is left out of a merge patch stays as it is.
    let list = |list: Value| if list == json!([]) { Value::Null } else { list };
    Some(json!({ "status": {
        "bgpInstances": list(json!(wanted.bgp_instances)),
        "conditions": list(json!(wanted.conditions)),
    } }))
}

fn instances(facts: Facts<'_>, told: &mut Beginnings, now: Instant, clock: Timestamp) -> Vec<InstanceStatus> {
    let mut instances: BTreeMap<&str, InstanceStatus> = BTreeMap::new();
    let empty = |name: &Name| InstanceStatus {
        name: name.to_string(),
        local_asn: None,
        peers: Vec::new(),
    };
    for (name, instance) in &facts.desired.speaker.instances {
        let entry = instances.entry(name).or_insert_with(|| empty(name));
        entry.local_asn = Some(instance.asn.get().into());
    }
    for peer in facts.peers {
        let entry = instances
            .entry(&peer.instance)
            .or_insert_with(|| empty(&peer.instance));
        entry.peers.push(ToldPeer {
            name: peer.name.to_string(),
            peer_address: peer.address.to_string(),
            peer_asn: Some(peer.remote_asn.map_or(0, |asn| asn.get().into())),
            peering_state: Some(bgp::state(peer.state).to_owned()),
            timers: Some(TimersStatus {
                applied_hold_time_seconds: Some(peer.applied_hold.map_or(0, i32::from)),
                applied_keepalive_seconds: Some(
                    peer.applied_keepalive
                        .map_or(0, |interval| interval.as_secs().try_into().unwrap_or(i32::MAX)),
                ),
            }),
            established_time: told.of(peer, now, clock),
            route_count: peer.families.iter().filter_map(count).collect(),
        });
    }
    // Those that the speaker does not run have no state; the condition says why.
    for report in &facts.desired.peers {
        let entry = instances
            .entry(&report.instance)
            .or_insert_with(|| empty(&report.instance));
        let is_there = entry.peers.iter().any(|peer| *peer.name == *report.peer);
        if let (Some(address), Some(_), false) = (report.address, &report.not_run, is_there) {
            entry.peers.push(ToldPeer {
                name: report.peer.to_string(),
                peer_address: address.to_string(),
                peer_asn: None,
                peering_state: None,
                timers: None,
                established_time: None,
                route_count: Vec::new(),
            });
        }
    }
    let mut instances: Vec<InstanceStatus> = instances.into_values().collect();
    for instance in &mut instances {
        instance.peers.sort_by(|a, b| a.name.cmp(&b.name));
        // The list is one by name; two sessions of one name are one that replaces the other.
        instance.peers.dedup_by(|a, b| a.name == b.name);
    }
    instances
}

fn count(family: &bgp_speaker::speaker::FamilyStatus) -> Option<RouteCount> {
    let number = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    let (afi, safi) = bgp::words(family.family);
    Some(RouteCount {
        afi: word(afi)?,
        safi: word(safi)?,
        received: Some(number(family.received)),
        advertised: Some(number(family.advertised)),
    })
}

/// A family that the schema has no word for is not told.
fn word<T: DeserializeOwned>(text: String) -> Option<T> {
    serde_json::from_value(Value::String(text)).ok()
}

fn conditions(facts: Facts<'_>, wanted: &[Wanted], clock: Timestamp) -> Vec<Condition> {
    let seen = &facts.seen.status.conditions;
    let conditions = Conditions {
        seen,
        ours: &[ERROR],
        wanted,
        generation: facts.seen.generation,
        now: clock,
    };
    conditions.list().unwrap_or_else(|| seen.clone())
}

fn condition(facts: Facts<'_>) -> Wanted {
    let listening = facts.listen_errors.iter();
    let listening = listening.map(|(instance, error)| format!("{instance}: can not listen: {error}\n"));
    let not_run = facts.desired.peers.iter().filter_map(|report: &PeerReport| {
        let why = report.not_run.as_ref()?;
        Some(format!("{}: peer {}: {why}\n", report.instance, report.peer))
    });
    let mut lines: Vec<String> = listening.chain(not_run).collect();
    lines.sort();
    let mut message = String::new();
    for line in lines {
        if message.len() + line.len() > LONGEST {
            break;
        }
        message.push_str(&line);
    }
    Wanted {
        kind: ERROR,
        status: if message.is_empty() {
            ConditionStatus::False
        } else {
            ConditionStatus::True
        },
        reason: "BGPReconcileError",
        message,
    }
}

#[cfg(test)]
mod tests;
