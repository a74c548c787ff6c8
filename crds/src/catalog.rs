//! For each kind: its schema, and how a checked value becomes the typed object.

use std::sync::OnceLock;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use crate::definition;
use crate::object::{Kind, Object, Version};
use crate::schema::{Dialect, Schema, SchemaError, compile};
use crate::stowed::Stowed;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

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
    match definition::schema(kind, version) {
        Some(schema) => of_definition(&schema),
        None => match kind {
            Kind::Service => of_type::<Service>(),
            Kind::EndpointSlice => of_type::<EndpointSlice>(),
            Kind::Node => of_type::<Node>(),
            Kind::Secret => of_type::<Secret>(),
            Kind::Namespace => of_type::<Namespace>(),
            Kind::Pod => of_type::<Pod>(),
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
        Kind::Service => serde_json::from_value(json).map(|object| Object::Service(Stowed::new(object))),
        Kind::EndpointSlice => {
            serde_json::from_value(json).map(|object| Object::EndpointSlice(Stowed::new(object)))
        }
        Kind::Node => read(json, Object::Node),
        Kind::Secret => read(json, Object::Secret),
        Kind::Namespace => read(json, Object::Namespace),
        Kind::Pod => read(json, Object::Pod),
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
