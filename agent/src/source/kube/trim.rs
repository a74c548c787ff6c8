//! What is held of an object: what planning reads, and nothing that changes without a wish.
//!
//! A node writes its status every few minutes, everybody's last change bumps a version: without these an object that
//! says the same again is the same.

use crds::Kind;
use serde_json::{Map, Value, json};

use super::mirror::COUNTED;

/// Who will read what is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    Agent,
    /// It writes: over the version it saw, and not what the status says already.
    Operator,
}

/// Metadata that is held.
const METADATA: [&str; 8] = [
    "annotations",
    "creationTimestamp",
    "deletionTimestamp",
    "labels",
    "name",
    "namespace",
    // Who made it.
    "ownerReferences",
    // Another object of the same name is another Service.
    "uid",
];
/// The same, for who writes.
const METADATA_TO_WRITE: [&str; 2] = ["generation", "resourceVersion"];
/// A copy of the whole object, which `kubectl apply` leaves.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

pub(super) fn trimmed(kind: Kind, reader: Reader, mut object: Value) -> Value {
    if let Some(metadata) = members(&mut object, "metadata") {
        metadata.retain(|name, _| {
            let name = name.as_str();
            METADATA.contains(&name)
                || (reader == Reader::Operator && METADATA_TO_WRITE.contains(&name))
                // Its status, which an agent writes, says of which generation it speaks.
                || (kind == Kind::CiliumBGPNodeConfig && name == "generation")
        });
        if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
            annotations.remove(LAST_APPLIED);
        }
    }
    let (spec, status) = match reader {
        Reader::Agent => for_agent(kind),
        Reader::Operator => for_operator(kind),
    };
    let counted = kind == Kind::CiliumLoadBalancerIPPool && is_counted(&object);
    keep(&mut object, "spec", spec);
    keep(&mut object, "status", status);
    if counted && reader == Reader::Agent {
        object["status"] = json!({ "conditions": [{
            "type": COUNTED,
            "status": "Unknown",
            "reason": "noreason",
            "message": "",
            "lastTransitionTime": "1970-01-01T00:00:00Z",
        }] });
    }
    match (kind, reader) {
        (Kind::CiliumNode, _) => {
            if let Some(spec) = members(&mut object, "spec")
                && let Some(Value::Object(ipam)) = spec.get_mut("ipam")
            {
                // `pool` has every address a pod may get.
                ipam.remove("pool");
                if reader == Reader::Agent {
                    ipam.retain(|name, _| matches!(name.as_str(), "podCIDRs" | "pools"));
                }
            }
        }
        (Kind::Node, Reader::Operator) => without_heartbeats(&mut object),
        (Kind::EndpointSlice, _) => without_subjects(&mut object),
        // That it is there is all that counts.
        (Kind::Secret, Reader::Operator) => {
            if let Value::Object(members) = &mut object {
                members.retain(|name, _| matches!(name.as_str(), "apiVersion" | "kind" | "metadata"));
            }
        }
        (_, Reader::Agent | Reader::Operator) => {}
    }
    object
}

fn is_counted(pool: &Value) -> bool {
    let conditions = pool.pointer("/status/conditions").and_then(Value::as_array);
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == COUNTED)
}

fn for_agent(kind: Kind) -> (Kept, Kept) {
    match kind {
        Kind::Service => (Kept::All, Kept::Only(&["loadBalancer"])),
        Kind::Node => (Kept::Only(&["podCIDR", "podCIDRs"]), Kept::Only(&["addresses"])),
        // What agents say of their load balancers.
        Kind::CiliumNode => (Kept::Only(&["addresses", "ipam"]), Kept::Only(&["load-balancer"])),
        // What it wrote there itself.
        Kind::CiliumBGPNodeConfig => (Kept::All, Kept::All),
        Kind::Pod => (
            Kept::Only(&["containers", "initContainers", "hostNetwork", "nodeName"]),
            Kept::Only(&["phase", "podIP", "podIPs"]),
        ),
        Kind::CiliumBGPClusterConfig
        | Kind::CiliumBGPPeerConfig
        | Kind::CiliumBGPAdvertisement
        | Kind::CiliumBGPNodeConfigOverride
        | Kind::CiliumBGPPeeringPolicy
        | Kind::CiliumLoadBalancerIPPool
        | Kind::CiliumPodIPPool
        | Kind::EndpointSlice
        | Kind::Secret
        | Kind::Namespace => (Kept::All, Kept::Nothing),
    }
}

fn for_operator(kind: Kind) -> (Kept, Kept) {
    match kind {
        Kind::Service => (Kept::All, Kept::Only(&["conditions", "loadBalancer"])),
        Kind::Node => (
            Kept::Only(&["podCIDR", "podCIDRs", "taints"]),
            Kept::Only(&["addresses", "conditions"]),
        ),
        Kind::CiliumBGPClusterConfig | Kind::CiliumBGPPeerConfig | Kind::CiliumLoadBalancerIPPool => {
            (Kept::All, Kept::All)
        }
        // What agents say of their load balancers.
        Kind::CiliumNode => (Kept::Only(&["addresses", "ipam"]), Kept::Only(&["load-balancer"])),
        // An agent's report is no business of who made the object.
        Kind::CiliumBGPNodeConfig
        | Kind::CiliumBGPAdvertisement
        | Kind::CiliumBGPNodeConfigOverride
        | Kind::CiliumBGPPeeringPolicy
        | Kind::CiliumPodIPPool
        | Kind::EndpointSlice
        | Kind::Secret
        | Kind::Namespace
        | Kind::Pod => (Kept::All, Kept::Nothing),
    }
}

/// Of the conditions only whether the node is ready. Its version goes too: nobody writes Nodes here, and each sign of
/// life has a new one.
fn without_heartbeats(node: &mut Value) {
    if let Some(metadata) = members(node, "metadata") {
        metadata.retain(|name, _| !METADATA_TO_WRITE.contains(&name.as_str()));
    }
    let Some(status) = members(node, "status") else {
        return;
    };
    if let Some(Value::Array(conditions)) = status.get_mut("conditions") {
        conditions.retain(|condition| condition["type"] == "Ready");
        for condition in conditions {
            *condition = json!({ "type": "Ready", "status": condition["status"] });
        }
    }
}

/// Of endpoints not which pod they are: there are more of them than of anything else. And nothing that changes with them and
/// says nothing about them, such as when that was.
fn without_subjects(slice: &mut Value) {
    if let Some(metadata) = members(slice, "metadata") {
        metadata.retain(|name, _| matches!(name.as_str(), "labels" | "name" | "namespace"));
    }
    if let Some(Value::Array(endpoints)) = slice.get_mut("endpoints") {
        for endpoint in endpoints.iter_mut().filter_map(Value::as_object_mut) {
            endpoint
                .retain(|name, _| !matches!(name.as_str(), "deprecatedTopology" | "hostname" | "targetRef"));
        }
    }
}

#[derive(Clone, Copy)]
enum Kept {
    All,
    Only(&'static [&'static str]),
    Nothing,
}

fn keep(object: &mut Value, part: &str, kept: Kept) {
    match kept {
        Kept::All => {}
        Kept::Only(names) => {
            if let Some(part) = members(object, part) {
                part.retain(|name, _| names.contains(&name.as_str()));
            }
        }
        Kept::Nothing => {
            if let Value::Object(object) = object {
                object.remove(part);
            }
        }
    }
}

fn members<'a>(object: &'a mut Value, name: &str) -> Option<&'a mut Map<String, Value>> {
    object.get_mut(name)?.as_object_mut()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_that_only_reports_that_it_lives_has_not_changed() {
        let node = |version: &str, heartbeat: &str| {
            json!({
                "metadata": { "name": "n1", "resourceVersion": version, "managedFields": [{ "time": heartbeat }] },
                "spec": { "podCIDRs": ["10.1.0.0/24"], "taints": [] },
                "status": {
                    "addresses": [{ "type": "InternalIP", "address": "10.0.0.1" }],
                    "conditions": [{ "type": "Ready", "lastHeartbeatTime": heartbeat }],
                },
            })
        };
        let held = trimmed(Kind::Node, Reader::Agent, node("7", "2026-01-01T00:00:00Z"));
        assert_eq!(
            held,
            trimmed(Kind::Node, Reader::Agent, node("8", "2026-01-01T00:05:00Z"))
        );
        assert_eq!(held["status"]["addresses"][0]["address"], "10.0.0.1");
        assert_eq!(held["spec"], json!({ "podCIDRs": ["10.1.0.0/24"] }));
    }

    #[test]
    fn a_slice_that_only_says_when_its_pods_changed_has_not_changed() {
        let slice = |at: &str, pod: &str| {
            json!({
                "metadata": {
                    "name": "s", "namespace": "ns", "labels": { "kubernetes.io/service-name": "s" }, "uid": "1",
                    "annotations": { "endpoints.kubernetes.io/last-change-trigger-time": at }, "generation": 7,
                },
                "addressType": "IPv4",
                "endpoints": [{
                    "addresses": ["10.0.0.1"], "conditions": { "ready": true }, "nodeName": "n1", "zone": "z",
                    "targetRef": { "kind": "Pod", "name": pod },
                }],
            })
        };
        for reader in [Reader::Agent, Reader::Operator] {
            let held = trimmed(Kind::EndpointSlice, reader, slice("2026-01-01T00:00:00Z", "a"));
            let later = slice("2026-01-01T00:05:00Z", "b");
            assert_eq!(held, trimmed(Kind::EndpointSlice, reader, later));
            assert_eq!(
                held["endpoints"],
                json!([{
                    "addresses": ["10.0.0.1"], "conditions": { "ready": true }, "nodeName": "n1", "zone": "z",
                }])
            );
            assert_eq!(
                held["metadata"],
                json!({ "name": "s", "namespace": "ns", "labels": { "kubernetes.io/service-name": "s" } })
            );
        }
    }

    #[test]
    fn a_service_keeps_its_addresses_and_loses_the_copy_of_itself() {
        let service = json!({
            "metadata": { "name": "s", "annotations": { LAST_APPLIED: "{}", "lbipam.cilium.io/ips": "10.0.0.1" } },
            "spec": { "type": "LoadBalancer" },
            "status": { "loadBalancer": { "ingress": [{ "ip": "10.0.0.1" }] }, "conditions": [] },
        });
        let held = trimmed(Kind::Service, Reader::Agent, service);
        assert_eq!(
            held["metadata"]["annotations"],
            json!({ "lbipam.cilium.io/ips": "10.0.0.1" })
        );
        assert_eq!(
            held["status"],
            json!({ "loadBalancer": { "ingress": [{ "ip": "10.0.0.1" }] } })
        );
    }
}
