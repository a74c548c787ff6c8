//! For each kind: its schema, and how a checked value becomes the typed object.

use std::sync::OnceLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::CustomResourceExt;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use crate::bgp::advertisement::CiliumBGPAdvertisement;
use crate::bgp::cluster_config::CiliumBGPClusterConfig;
use crate::bgp::node_config::CiliumBGPNodeConfig;
use crate::bgp::node_config_override::CiliumBGPNodeConfigOverride;
use crate::bgp::peer_config::CiliumBGPPeerConfig;
use crate::bgp::peering_policy::CiliumBGPPeeringPolicy;
use crate::cilium_node::CiliumNode;
use crate::lb_ip_pool::CiliumLoadBalancerIPPool;
use crate::object::{Kind, Object, Version};
use crate::pod_ip_pool::CiliumPodIPPool;
use crate::schema::{Dialect, Schema, SchemaError, compile};
use k8s_openapi::api::core::v1::{Namespace, Node, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

/// The custom resource definition of a kind of ours, as generated from its type.
pub fn definition(kind: Kind) -> Option<CustomResourceDefinition> {
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
        Kind::Service | Kind::EndpointSlice | Kind::Node | Kind::Secret | Kind::Namespace => None,
    }
}

/// The schema that documents of this kind and version are held against.
pub(crate) fn schema(kind: Kind, version: Version) -> &'static Schema {
    type Slot = OnceLock<Schema>;
    static SLOTS: [[Slot; 2]; Kind::ALL.len()] = [const { [const { OnceLock::new() }; 2] }; Kind::ALL.len()];
    let row = Kind::ALL
        .iter()
        .position(|other| *other == kind)
        .and_then(|row| SLOTS.get(row));
    let column = match version {
        Version::V1 | Version::V2 => 0,
        Version::V2Alpha1 => 1,
    };
    static ANYTHING: Slot = OnceLock::new();
    let slot = row.and_then(|row| row.get(column)).unwrap_or(&ANYTHING);
    // The test `schemas_of_all_kinds_compile` holds this: schemas depend on the program alone.
    slot.get_or_init(|| build(kind, version).unwrap_or_default())
}

fn build(kind: Kind, version: Version) -> Result<Schema, SchemaError> {
    match definition(kind) {
        Some(definition) => {
            let schema = definition
                .spec
                .versions
                .first()
                .and_then(|version| version.schema.as_ref());
            let schema = schema.and_then(|schema| schema.open_api_v3_schema.as_ref());
            let mut compiled = of_definition(&serde_json::to_value(schema).unwrap_or_default())?;
            for path in absent_fields(kind, version) {
                compiled.remove(path);
            }
            Ok(compiled)
        }
        None => match kind {
            Kind::Service => of_type::<Service>(),
            Kind::EndpointSlice => of_type::<EndpointSlice>(),
            Kind::Node => of_type::<Node>(),
            Kind::Secret => of_type::<Secret>(),
            Kind::Namespace => of_type::<Namespace>(),
            Kind::CiliumBGPClusterConfig
            | Kind::CiliumBGPPeerConfig
            | Kind::CiliumBGPAdvertisement
            | Kind::CiliumBGPNodeConfig
            | Kind::CiliumBGPNodeConfigOverride
            | Kind::CiliumBGPPeeringPolicy
            | Kind::CiliumLoadBalancerIPPool
            | Kind::CiliumPodIPPool
            | Kind::CiliumNode => Ok(Schema::default()),
        },
    }
}

/// A CRD's schema says nothing about `metadata`; the API server holds it against its own type, and knows the two
/// fields that say which object it is.
pub(crate) fn of_definition(schema: &Json) -> Result<Schema, SchemaError> {
    let mut schema = compile(schema, Dialect::Structural)?;
    schema.set_property("metadata", of_type::<ObjectMeta>()?);
    for name in ["apiVersion", "kind"] {
        schema.set_property(
            name,
            compile(&serde_json::json!({ "type": "string" }), Dialect::Structural)?,
        );
    }
    Ok(schema)
}

fn of_type<T: JsonSchema>() -> Result<Schema, SchemaError> {
    compile(&schemars::schema_for!(T).to_value(), Dialect::OpenApi)
}

/// Fields of the one type that this version of the kind does not have.
fn absent_fields(kind: Kind, version: Version) -> &'static [&'static str] {
    match (kind, version) {
        (Kind::CiliumBGPClusterConfig | Kind::CiliumBGPNodeConfig, Version::V2) => &[
            "spec.bgpInstances[].peers[].peerConfigRef.group",
            "spec.bgpInstances[].peers[].peerConfigRef.kind",
        ],
        (Kind::CiliumBGPClusterConfig | Kind::CiliumBGPNodeConfig, Version::V2Alpha1) => {
            &["spec.bgpInstances[].peers[].autoDiscovery"]
        }
        (Kind::CiliumBGPPeerConfig, Version::V2) => &["spec.transport.localPort"],
        (
            Kind::CiliumBGPClusterConfig
            | Kind::CiliumBGPNodeConfig
            | Kind::CiliumBGPPeerConfig
            | Kind::CiliumBGPAdvertisement
            | Kind::CiliumBGPNodeConfigOverride
            | Kind::CiliumBGPPeeringPolicy
            | Kind::CiliumLoadBalancerIPPool
            | Kind::CiliumPodIPPool
            | Kind::CiliumNode
            | Kind::Service
            | Kind::EndpointSlice
            | Kind::Node
            | Kind::Secret
            | Kind::Namespace,
            Version::V1 | Version::V2 | Version::V2Alpha1,
        ) => &[],
    }
}

/// The typed object of a value that its schema accepts.
pub(crate) fn object(kind: Kind, json: Json) -> Result<Object, serde_json::Error> {
    fn read<T: DeserializeOwned>(
        json: Json,
        wrap: fn(Box<T>) -> Object,
    ) -> Result<Object, serde_json::Error> {
        serde_json::from_value(json).map(|object| wrap(Box::new(object)))
    }
    match kind {
        Kind::CiliumBGPClusterConfig => read(json, Object::CiliumBGPClusterConfig),
        Kind::CiliumBGPPeerConfig => read(json, Object::CiliumBGPPeerConfig),
        Kind::CiliumBGPAdvertisement => read(json, Object::CiliumBGPAdvertisement),
        Kind::CiliumBGPNodeConfig => read(json, Object::CiliumBGPNodeConfig),
        Kind::CiliumBGPNodeConfigOverride => read(json, Object::CiliumBGPNodeConfigOverride),
        Kind::CiliumBGPPeeringPolicy => read(json, Object::CiliumBGPPeeringPolicy),
        Kind::CiliumLoadBalancerIPPool => read(json, Object::CiliumLoadBalancerIPPool),
        Kind::CiliumPodIPPool => read(json, Object::CiliumPodIPPool),
        Kind::CiliumNode => read(json, Object::CiliumNode),
        Kind::Service => read(json, Object::Service),
        Kind::EndpointSlice => read(json, Object::EndpointSlice),
        Kind::Node => read(json, Object::Node),
        Kind::Secret => read(json, Object::Secret),
        Kind::Namespace => read(json, Object::Namespace),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemas_of_all_kinds_compile() {
        for kind in Kind::ALL {
            for version in kind.versions() {
                let built = build(kind, *version);
                assert!(built.is_ok(), "{kind} {version}: {:?}", built.err());
                assert!(
                    schema(kind, *version).property("metadata").is_some(),
                    "{kind} {version}"
                );
            }
        }
    }
}
