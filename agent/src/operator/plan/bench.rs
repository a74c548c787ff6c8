//! A cluster for tests of plans: it takes writes as an API server does, and refuses those over another version.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use crds::{Kind, ObjectRef};
use serde_json::{Value, json};

use super::write::{Basis, Order, Write};
use crate::source::{Batch, Change};
use crate::world::World;

pub(crate) struct Cluster {
    pub(crate) world: World,
    version: u64,
}

impl Cluster {
    pub(crate) fn with(objects: &[Value]) -> Self {
        let mut cluster = Self {
            world: World::new(""),
            version: 0,
        };
        for object in objects {
            cluster.apply(object.clone());
        }
        cluster
    }

    pub(crate) fn apply(&mut self, mut object: Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let read = crds::read_json(Path::new("test"), &object);
        assert!(read.bad.is_empty(), "{:?}", read.problems);
        let applied = read
            .objects
            .into_iter()
            .map(|parsed| Change::Applied(Arc::new(parsed)));
        self.world.take(Batch {
            changes: applied.collect(),
            ..Batch::default()
        });
    }

    pub(crate) fn delete(&mut self, kind: Kind, name: &str) {
        self.world.objects.delete(&ObjectRef::cluster(kind, name));
    }

    pub(crate) fn json(&self, object: &ObjectRef) -> Value {
        let parsed = self.world.objects.get(object).unwrap();
        serde_json::from_str(&parsed.document().unwrap()).unwrap()
    }

    /// One plan, and its writes done. How many there were.
    pub(crate) fn settle(&mut self, plan: impl Fn(&World) -> Vec<Write>) -> usize {
        let writes = plan(&self.world);
        self.carry_out(writes)
    }

    /// Of two writes to one object the first is taken.
    pub(crate) fn carry_out(&mut self, writes: Vec<Write>) -> usize {
        let number = writes.len();
        let mut written = BTreeSet::new();
        for write in writes {
            let object = &write.target.object;
            if !written.insert(object.clone()) {
                continue;
            }
            let there = self.world.objects.get(object).is_some();
            match (&write.basis, &write.order) {
                (Basis::Absent, Order::Create(whole)) => {
                    assert!(!there, "{object} is there");
                    self.apply(whole.clone());
                }
                (Basis::Version(version), Order::Delete) => {
                    assert_eq!(self.json(object)["metadata"]["resourceVersion"], json!(version));
                    self.world.objects.delete(object);
                }
                (Basis::Version(version), Order::Merge(patch)) => {
                    let mut whole = self.json(object);
                    assert_eq!(whole["metadata"]["resourceVersion"], json!(version));
                    merged(&mut whole, &patch.value().unwrap());
                    self.apply(whole);
                }
                (Basis::Version(version), Order::Strategic(patch)) => {
                    let mut whole = self.json(object);
                    assert_eq!(whole["metadata"]["resourceVersion"], json!(version));
                    of_service(&mut whole["status"], &patch.value().unwrap()["status"]);
                    self.apply(whole);
                }
                (_, _) => panic!("{write:?}"),
            }
        }
        number
    }
}

/// RFC 7386.
fn merged(whole: &mut Value, patch: &Value) {
    let Value::Object(members) = patch else {
        *whole = patch.clone();
        return;
    };
    if !whole.is_object() {
        *whole = json!({});
    }
    for (name, value) in members {
        if value.is_null() {
            whole.as_object_mut().unwrap().remove(name);
        } else {
            merged(&mut whole[name], value);
        }
    }
}

/// What a strategic patch does to a Service: conditions by type, everything else as a merge patch.
fn of_service(status: &mut Value, patch: &Value) {
    if let Some(ingress) = patch.pointer("/loadBalancer/ingress") {
        status["loadBalancer"] = match ingress {
            Value::Null => json!({}),
            ingress => json!({ "ingress": ingress }),
        };
    }
    for entry in patch["conditions"].as_array().into_iter().flatten() {
        let mut list = status["conditions"].as_array().cloned().unwrap_or_default();
        list.retain(|condition| condition["type"] != entry["type"]);
        if entry.get("$patch").is_none() {
            list.push(entry.clone());
        }
        status["conditions"] = json!(list);
    }
}
