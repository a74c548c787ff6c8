//! Carries the operator's writes to an API server, and says what became of each.
//!
//! A write names the version that the plan saw, so one that comes late changes nothing. It is not repeated here: whoever
//! ordered it plans anew.

use std::time::Duration;

use crds::k8s_openapi::jiff::Timestamp;
use crds::{Kind, Version};
use kube::Client;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams,
    Preconditions,
};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::operator::outbox::Outcome;
use crate::operator::plan::write::{Basis, Note, Order, Part, Weight, Write};
use crate::source::kube::chain;

/// By this name the API server remembers who wrote a field.
pub const FIELD_MANAGER: &str = "stentor-operator";
/// Of the note of an Event, in octets.
const NOTE: usize = 1024;

/// Does it, within a time.
pub async fn carry_out(client: Client, write: &Write, limit: Duration) -> Outcome {
    match timeout(limit, send(client, write)).await {
        Ok(Ok(())) => Outcome::Written,
        Ok(Err(kube::Error::Api(status))) => match (status.code, &write.order) {
            (409, _) | (404, Order::Merge(_) | Order::Strategic(_) | Order::Delete) => Outcome::Outdated,
            (_, _) => Outcome::Failed(status.message.clone()),
        },
        Ok(Err(error)) => Outcome::Failed(chain(&error)),
        Err(_) => Outcome::Failed(format!("no answer within {limit:?}")),
    }
}

async fn send(client: Client, write: &Write) -> kube::Result<()> {
    let object = &write.target.object;
    let api = api(client, object.kind, &object.namespace);
    let name = object.name.as_str();
    let version = match &write.basis {
        Basis::Absent => None,
        Basis::Version(version) => Some(version.clone()),
    };
    let over = |patch: &Value| {
        let mut patch = patch.clone();
        patch["metadata"]["resourceVersion"] = json!(version);
        patch
    };
    let patch = match &write.order {
        Order::Create(whole) => {
            let whole: DynamicObject =
                serde_json::from_value(whole.clone()).map_err(kube::Error::SerdeError)?;
            let params = PostParams {
                field_manager: Some(FIELD_MANAGER.to_owned()),
                ..PostParams::default()
            };
            return api.create(&params, &whole).await.map(drop);
        }
        Order::Delete => {
            let mut params = DeleteParams::background();
            params.preconditions = Some(Preconditions {
                resource_version: version,
                uid: None,
            });
            return api.delete(name, &params).await.map(drop);
        }
        Order::Merge(patch) => Patch::Merge(over(patch)),
        Order::Strategic(patch) => Patch::Strategic(over(patch)),
    };
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    match write.target.part {
        Part::Object => api.patch(name, &params, &patch).await.map(drop),
        Part::Status => api.patch_status(name, &params, &patch).await.map(drop),
    }
}

fn api(client: Client, kind: Kind, namespace: &str) -> Api<DynamicObject> {
    let version = kind.versions().first().copied().unwrap_or(Version::V1);
    let gvk = GroupVersionKind::gvk(kind.group(), version.as_str(), kind.as_str());
    let resource = ApiResource::from_gvk_with_plural(&gvk, kind.plural());
    match namespace {
        "" => Api::all_with(client, &resource),
        namespace => Api::namespaced_with(client, namespace, &resource),
    }
}

/// Writes an Event. `me`: this replica. `number` tells it from all others about the same object.
///
/// # Errors
/// What the API server or the way to it said.
pub async fn tell(client: Client, note: &Note, me: &str, number: u64) -> Result<(), String> {
    let gvk = GroupVersionKind::gvk("events.k8s.io", "v1", "Event");
    let resource = ApiResource::from_gvk_with_plural(&gvk, "events");
    let about = &note.about;
    // Objects of the cluster have their Events there, as kubectl expects.
    let namespace = match about.object.namespace.as_str() {
        "" => "default",
        namespace => namespace,
    };
    let api: Api<DynamicObject> = Api::namespaced_with(client, namespace, &resource);
    let event = json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": { "name": format!("{}.{number:016x}", about.object.name), "namespace": namespace },
        "type": match note.weight {
            Weight::Normal => "Normal",
            Weight::Warning => "Warning",
        },
        "eventTime": format!("{:.6}", Timestamp::now()),
        "reportingController": "stentor.io/operator",
        "reportingInstance": shortened(me, 128),
        "action": note.action,
        "reason": note.reason,
        "note": shortened(&note.text, NOTE),
        "regarding": {
            "apiVersion": about.api_version,
            "kind": about.object.kind.as_str(),
            "name": about.object.name,
            "namespace": about.object.namespace,
            "uid": about.uid,
        },
    });
    let event: DynamicObject = serde_json::from_value(event).map_err(|error| error.to_string())?;
    let written = api.create(&PostParams::default(), &event).await;
    written.map(drop).map_err(|error| chain(&error))
}

fn shortened(text: &str, octets: usize) -> &str {
    let end = (0..=octets.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_cut_between_characters() {
        assert_eq!(shortened("gr\u{fc}n", 3), "gr");
        assert_eq!(shortened("gr\u{fc}n", 4), "gr\u{fc}");
        assert_eq!(shortened("short", NOTE), "short");
    }
}
