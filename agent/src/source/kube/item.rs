//! An object as an API server sends it, read in one go.
//!
//! Who wrote which field and when (`managedFields`) is half of what it sends and nobody's business here: it is passed over.

use std::borrow::Cow;
use std::fmt;

use crds::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::api::ApiResource;
use kube::core::DynamicResourceScope;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

const MANAGED_FIELDS: &str = "managedFields";

/// All members of an object.
#[derive(Clone)]
pub(super) struct Item {
    pub(super) members: Map<String, Value>,
    /// Where a watch goes on: name, namespace and version. The rest is in `members` alone.
    place: ObjectMeta,
}

/// The name only: it may be a Secret.
impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Item").field(&self.place.name).finish()
    }
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let members = from.deserialize_map(Members)?;
        let text = |name: &str| {
            let text = members.get("metadata")?.get(name)?.as_str()?;
            Some(text.to_owned())
        };
        let place = ObjectMeta {
            name: text("name"),
            namespace: text("namespace"),
            resource_version: text("resourceVersion"),
            ..ObjectMeta::default()
        };
        Ok(Self { members, place })
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = from.next_key::<String>()? {
            let value = match name.as_str() {
                "metadata" => Value::Object(from.next_value::<Metadata>()?.0),
                _ => from.next_value()?,
            };
            members.insert(name, value);
        }
        Ok(members)
    }
}

#[derive(Default)]
struct Metadata(Map<String, Value>);

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(MetadataMembers).map(Self)
    }
}

struct MetadataMembers;

impl<'de> Visitor<'de> for MetadataMembers {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("metadata")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = from.next_key::<String>()? {
            if name == MANAGED_FIELDS {
                from.next_value::<IgnoredAny>()?;
                continue;
            }
            let value: Value = from.next_value()?;
            // Nothing is the same as not there.
            if !value.is_null() {
                members.insert(name, value);
            }
        }
        Ok(members)
    }
}

impl Resource for Item {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(of: &ApiResource) -> Cow<'_, str> {
        of.kind.as_str().into()
    }

    fn group(of: &ApiResource) -> Cow<'_, str> {
        of.group.as_str().into()
    }

    fn version(of: &ApiResource) -> Cow<'_, str> {
        of.version.as_str().into()
    }

    fn api_version(of: &ApiResource) -> Cow<'_, str> {
        of.api_version.as_str().into()
    }

    fn plural(of: &ApiResource) -> Cow<'_, str> {
        of.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.place
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.place
    }
}

#[cfg(test)]
mod tests {
    use kube::ResourceExt as _;
    use serde_json::json;

    use super::*;

    #[test]
    fn everything_is_there_but_who_wrote_it() {
        let mut object = json!({
            "kind": "Service",
            "metadata": {
                "name": "a", "namespace": "ns", "resourceVersion": "7", "labels": { "x": "y" }, "annotations": null,
                "managedFields": [{ "manager": "m", "fieldsV1": { "f:spec": { "f:ports": {} } } }],
            },
            "spec": { "managedFields": 1, "none": null },
        });
        let item: Item = serde_json::from_str(&object.to_string()).unwrap();
        let place = (item.name_any(), item.namespace(), item.resource_version());
        assert_eq!(
            place,
            ("a".to_owned(), Some("ns".to_owned()), Some("7".to_owned()))
        );
        let metadata = object["metadata"].as_object_mut().unwrap();
        metadata.retain(|name, _| !matches!(name.as_str(), "annotations" | "managedFields"));
        assert_eq!(Value::Object(item.members), object);
        assert_eq!(
            format!("{:?}", Item::clone(&serde_json::from_value(object).unwrap())),
            "Item(Some(\"a\"))"
        );
        assert!(serde_json::from_str::<Item>("[]").is_err());
    }
}
