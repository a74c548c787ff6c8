//! Carries the operator's writes, and the reports of agents, to an API server, and says what became of each.
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
const AGENT: &str = "stentor-agent";
/// Of a report.
const REPORT: Duration = Duration::from_secs(10);
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
        Part::Status | Part::Condition => api.patch_status(name, &params, &patch).await.map(drop),
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

/// Writes the status of an object that has the name of a node. What it writes is this node's alone, so no version is named.
pub(crate) struct Reporter {
    api: Api<DynamicObject>,
    node: String,
}

impl std::fmt::Debug for Reporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Reporter").field(&self.node).finish()
    }
}

/// Why a report was not written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotReported {
    /// There is no such object any more.
    Gone,
    /// The API server says so.
    Refused(String),
    /// Nobody answers.
    Away(String),
}

impl Reporter {
    pub(crate) fn new(client: Client, kind: Kind, node: &str) -> Self {
        Self {
            api: api(client, kind, ""),
            node: node.to_owned(),
        }
    }

    /// The status as it is then.
    pub(crate) async fn write(&self, change: &Value) -> Result<Value, NotReported> {
        let params = PatchParams {
            field_manager: Some(AGENT.to_owned()),
            ..PatchParams::default()
        };
        let patch = Patch::Merge(change);
        let written = self.api.patch_status(&self.node, &params, &patch);
        match timeout(REPORT, written).await {
            Ok(Ok(object)) => Ok(object.data["status"].clone()),
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => Err(NotReported::Gone),
            // It asks for patience, or is not ready.
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 429 | 500..=599) => {
                Err(NotReported::Away(status.message.clone()))
            }
            Ok(Err(kube::Error::Api(status))) => Err(NotReported::Refused(status.message.clone())),
            Ok(Err(error)) => Err(NotReported::Away(chain(&error))),
            Err(_) => Err(NotReported::Away(format!("no answer within {REPORT:?}"))),
        }
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
