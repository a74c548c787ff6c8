//! The custom resource definitions as an API server gets them: what the types generate, finished.
//!
//! A type generates the definition of its stored version. Here it gains its other versions, each without the
//! fields it does not have, and loses what only JSON Schema knows.

mod unread;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Map, Value as Json, json};

use crate::bgp::advertisement::CiliumBGPAdvertisement;
use crate::bgp::cluster_config::CiliumBGPClusterConfig;
use crate::bgp::node_config::CiliumBGPNodeConfig;
use crate::bgp::node_config_override::CiliumBGPNodeConfigOverride;
use crate::bgp::peer_config::CiliumBGPPeerConfig;
use crate::bgp::peering_policy::CiliumBGPPeeringPolicy;
use crate::cilium_node::CiliumNode;
use crate::lb_ip_pool::CiliumLoadBalancerIPPool;
use crate::object::{Kind, Version};
use crate::pod_ip_pool::CiliumPodIPPool;

/// The label by which an operator, ours or Cilium's, sees whether a definition in the cluster is older than its own.
pub const SCHEMA_VERSION_LABEL: &str = "io.cilium.k8s.crd.schema.version";
/// Cilium's number for the schemas ours accept documents of.
pub const SCHEMA_VERSION: &str = "1.32.3";
/// The same for what is ours in them: optional fields, which Cilium's definition of the same number lacks.
pub const ADDITIONS_LABEL: &str = "stentor.io/additions";
/// Counts up with every change of a definition that leaves [`SCHEMA_VERSION`] as it is.
pub const ADDITIONS: &str = "3";

/// The definition of every kind of ours, read or not, by name.
#[must_use]
pub fn definitions() -> Vec<CustomResourceDefinition> {
    let read = Kind::ALL.into_iter().filter_map(definition);
    let unread = unread::outlines()
        .into_iter()
        .filter_map(|outline| serde_json::from_value(finished(outline)).ok());
    let mut all: Vec<CustomResourceDefinition> = read.chain(unread).collect();
    all.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    all
}

/// The definition of a kind, if it is one of ours.
#[must_use]
pub fn definition(kind: Kind) -> Option<CustomResourceDefinition> {
    let finished = serde_json::from_value(finished(outline(kind)?));
    // The test `definitions_survive_being_finished` holds this: it depends on the program alone.
    finished.ok()
}

/// The schema of one version, as JSON.
pub(crate) fn schema(kind: Kind, version: Version) -> Option<Json> {
    let mut definition = finished(outline(kind)?);
    let versions = definition.pointer_mut("/spec/versions")?.as_array_mut()?;
    let stated = versions
        .iter_mut()
        .find(|stated| stated["name"] == version.as_str())?;
    stated.pointer_mut("/schema/openAPIV3Schema").map(Json::take)
}

/// What a type does not say about its definition.
struct Outline {
    generated: CustomResourceDefinition,
    /// The stored one first.
    versions: &'static [Version],
    absent: fn(Version) -> &'static [&'static str],
    body: Body,
}

/// What an object has beside its metadata.
enum Body {
    /// A spec, and it must.
    Spec,
    /// A spec, and it may go without.
    OptionalSpec,
    /// Fields of its own. The type says which it must have.
    Fields,
}

fn outline(kind: Kind) -> Option<Outline> {
    Some(Outline {
        generated: generated(kind)?,
        versions: kind.versions(),
        absent: absent_fields(kind),
        body: Body::Spec,
    })
}

fn generated(kind: Kind) -> Option<CustomResourceDefinition> {
    match kind {
        Kind::CiliumBGPClusterConfig => Some(CiliumBGPClusterConfig::crd()),
        Kind::CiliumBGPPeerConfig => Some(CiliumBGPPeerConfig::crd()),
        Kind::CiliumBGPAdvertisement => Some(CiliumBGPAdvertisement::crd()),
        Kind::CiliumBGPNodeConfig => Some(CiliumBGPNodeConfig::crd()),
        Kind::CiliumBGPNodeConfigOverride => Some(CiliumBGPNodeConfigOverride::crd()),
        Kind::CiliumBGPPeeringPolicy => Some(CiliumBGPPeeringPolicy::crd()),
        Kind::CiliumLoadBalancerIPPool => Some(CiliumLoadBalancerIPPool::crd()),
        Kind::CiliumPodIPPool => Some(CiliumPodIPPool::crd()),
        Kind::CiliumNode => Some(CiliumNode::crd()),
        Kind::Service | Kind::EndpointSlice | Kind::Node | Kind::Secret | Kind::Namespace | Kind::Pod => None,
    }
}

fn finished(outline: Outline) -> Json {
    let mut definition = serde_json::to_value(outline.generated).unwrap_or_default();
    definition["metadata"]["labels"] = json!({
        SCHEMA_VERSION_LABEL: SCHEMA_VERSION,
        ADDITIONS_LABEL: ADDITIONS,
    });
    let stored = definition["spec"]["versions"][0].take();
    let version = |(number, version): (usize, &Version)| {
        let mut stated = stored.clone();
        stated["name"] = json!(version.as_str());
        stated["served"] = json!(true);
        stated["storage"] = json!(number == 0);
        if number > 0 {
            stated["deprecated"] = json!(true);
        }
        let schema = &mut stated["schema"]["openAPIV3Schema"];
        tidy(schema);
        match outline.body {
            // The derive describes the whole as derived; what `kubectl explain` should say stands at the spec.
            Body::Spec => describe_as_spec(schema),
            Body::OptionalSpec => {
                describe_as_spec(schema);
                // It is the only member that the derive requires.
                if let Some(members) = schema.as_object_mut() {
                    members.remove("required");
                }
            }
            Body::Fields => {}
        }
        for path in (outline.absent)(*version) {
            remove(schema, path);
        }
        stated
    };
    definition["spec"]["versions"] = outline.versions.iter().enumerate().map(version).collect();
    definition
}

fn describe_as_spec(schema: &mut Json) {
    schema["description"] = schema["properties"]["spec"]["description"].clone();
}

/// Brings a schema to the words an API server knows.
///
/// - `nullable`: for Cilium a null member is no member, and a stored null would reach readers that do not expect it.
/// - `title`: the name of our type, which says nothing to users.
/// - Widths: `uint16` and its like draw a warning at each `kubectl apply`; their bounds say the same.
fn tidy(schema: &mut Json) {
    let Json::Object(members) = schema else { return };
    if let Some(Json::Array(values)) = members.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    members.remove("nullable");
    members.remove("title");
    if members.get("type") == Some(&json!("integer")) {
        width(members);
    }
    if let Some(Json::Object(properties)) = members.get_mut("properties") {
        properties.values_mut().for_each(tidy);
    }
    for name in ["items", "additionalProperties"] {
        if let Some(inner) = members.get_mut(name) {
            tidy(inner);
        }
    }
}

fn width(integer: &mut Map<String, Json>) {
    let (width, most) = match integer.get("format").and_then(Json::as_str) {
        Some("uint8") => ("int32", Some(i64::from(u8::MAX))),
        Some("uint16") => ("int32", Some(i64::from(u16::MAX))),
        Some("uint32") => ("int64", Some(i64::from(u32::MAX))),
        Some("uint" | "uint64") => ("int64", None),
        Some(_) | None => return,
    };
    integer.insert("format".to_owned(), json!(width));
    integer.entry("minimum").or_insert(json!(0));
    if let Some(most) = most {
        integer.entry("maximum").or_insert(json!(most));
    }
}

/// Fields of the one type that a version of the kind does not have.
fn absent_fields(kind: Kind) -> fn(Version) -> &'static [&'static str] {
    match kind {
        Kind::CiliumBGPClusterConfig | Kind::CiliumBGPNodeConfig => |version| match version {
            Version::V1 | Version::V2 => &[
                "spec.bgpInstances[].peers[].peerConfigRef.group",
                "spec.bgpInstances[].peers[].peerConfigRef.kind",
            ],
            Version::V2Alpha1 => &["spec.bgpInstances[].peers[].autoDiscovery"],
        },
        Kind::CiliumBGPPeerConfig => |version| match version {
            Version::V1 | Version::V2 => &["spec.transport.localPort"],
            Version::V2Alpha1 => &[],
        },
        Kind::CiliumBGPAdvertisement
        | Kind::CiliumBGPNodeConfigOverride
        | Kind::CiliumBGPPeeringPolicy
        | Kind::CiliumLoadBalancerIPPool
        | Kind::CiliumPodIPPool
        | Kind::CiliumNode
        | Kind::Service
        | Kind::EndpointSlice
        | Kind::Node
        | Kind::Secret
        | Kind::Namespace
        | Kind::Pod => |_| &[],
    }
}

/// Takes a field out, named by a path such as `spec.peers[].group`.
fn remove(schema: &mut Json, path: &str) {
    let (first, rest) = path
        .split_once('.')
        .map_or((path, None), |(first, rest)| (first, Some(rest)));
    let (name, is_item) = match first.strip_suffix("[]") {
        Some(name) => (name, true),
        None => (first, false),
    };
    let Some(Json::Object(properties)) = schema.get_mut("properties") else {
        return;
    };
    let Some(rest) = rest else {
        properties.remove(name);
        return;
    };
    if let Some(property) = properties.get_mut(name) {
        let inner = if is_item { &mut property["items"] } else { property };
        remove(inner, rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_survive_being_finished() {
        let kinds = Kind::ALL.into_iter().filter(|kind| kind.group() == "cilium.io");
        for kind in kinds.clone() {
            let definition = definition(kind).unwrap();
            assert_eq!(definition.spec.versions.len(), kind.versions().len(), "{kind}");
            let stored = definition.spec.versions.iter().filter(|version| version.storage);
            assert_eq!(stored.count(), 1, "{kind}");
        }
        assert_eq!(definitions().len(), kinds.count() + unread::outlines().len());
    }

    #[test]
    fn no_schema_says_what_an_api_server_does_not_know() {
        fn walk(schema: &Json, at: &str) {
            for word in ["nullable", "title", "anyOf", "oneOf", "allOf", "$ref"] {
                assert!(schema.get(word).is_none(), "{at}: {word}");
            }
            let format = schema.get("format").and_then(Json::as_str).unwrap_or("int32");
            let known = ["int32", "int64", "cidr", "ipv4", "date-time"];
            assert!(known.contains(&format), "{at}: {format}");
            let properties = schema.get("properties").and_then(Json::as_object);
            for (name, property) in properties.into_iter().flatten() {
                walk(property, &format!("{at}.{name}"));
            }
            for name in ["items", "additionalProperties"] {
                if let Some(inner) = schema.get(name) {
                    walk(inner, &format!("{at}.{name}"));
                }
            }
        }
        for kind in Kind::ALL {
            for version in kind.versions() {
                if let Some(schema) = schema(kind, *version) {
                    walk(&schema, &format!("{kind} {version}"));
                }
            }
        }
    }

    #[test]
    fn a_version_lacks_the_fields_it_never_had() {
        let peer = "/properties/spec/properties/bgpInstances/items/properties/peers/items/properties";
        let has = |version, field: &str| {
            let schema = schema(Kind::CiliumBGPClusterConfig, version).unwrap();
            schema.pointer(&format!("{peer}/{field}")).is_some()
        };
        assert!(has(Version::V2, "autoDiscovery"));
        assert!(!has(Version::V2Alpha1, "autoDiscovery"));
        assert!(has(Version::V2Alpha1, "peerConfigRef/properties/kind"));
        assert!(!has(Version::V2, "peerConfigRef/properties/kind"));
    }
}
