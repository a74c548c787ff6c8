//! Carries the operator's writes, and the reports of agents, to an API server, and says what became of each.
//!
//! A write names the version that the plan saw, so one that comes late changes nothing. It is not repeated here: whoever
//! ordered it plans anew.

use std::time::Duration;

use crds::k8s_openapi::jiff::Timestamp;
use crds::{Kind, Version};
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams,
    Preconditions, Request,
};
use kube::{Client, Resource as _};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::operator::outbox::Outcome;
use crate::operator::plan;
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
    let request = request(write)?;
    // What it is then is told by the watch; here it is read and forgotten.
    client.request_text(request).await.map(drop)
}

fn request(write: &Write) -> kube::Result<hyper::Request<Vec<u8>>> {
    let object = &write.target.object;
    let name = object.name.as_str();
    let namespace = Some(object.namespace.as_str()).filter(|namespace| !namespace.is_empty());
    let requests = Request::new(DynamicObject::url_path(&resource(object.kind), namespace));
    let version = match &write.basis {
        Basis::Absent => None,
        Basis::Version(version) => Some(version.clone()),
    };
    let over = |patch: &plan::write::Patch| -> kube::Result<Value> {
        let mut patch = patch.value().map_err(kube::Error::SerdeError)?;
        patch["metadata"]["resourceVersion"] = json!(version);
        Ok(patch)
    };
    let patch = match &write.order {
        Order::Create(whole) => {
            let params = PostParams {
                field_manager: Some(FIELD_MANAGER.to_owned()),
                ..PostParams::default()
            };
            let request = requests.create(&params, whole.to_string().into_bytes());
            return request.map_err(kube::Error::BuildRequest);
        }
        Order::Delete => {
            let mut params = DeleteParams::background();
            params.preconditions = Some(Preconditions {
                resource_version: version,
                uid: None,
            });
            return requests.delete(name, &params).map_err(kube::Error::BuildRequest);
        }
        Order::Merge(patch) => Patch::Merge(over(patch)?),
        Order::Strategic(patch) => Patch::Strategic(over(patch)?),
    };
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let request = match write.target.part {
        Part::Object => requests.patch(name, &params, &patch),
        Part::Status | Part::Condition => requests.patch_subresource("status", name, &params, &patch),
    };
    request.map_err(kube::Error::BuildRequest)
}

fn resource(kind: Kind) -> ApiResource {
    let version = kind.versions().first().copied().unwrap_or(Version::V1);
    let gvk = GroupVersionKind::gvk(kind.group(), version.as_str(), kind.as_str());
    ApiResource::from_gvk_with_plural(&gvk, kind.plural())
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
            api: Api::all_with(client, &resource(kind)),
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
    use crds::ObjectRef;

    use super::*;
    use crate::operator::plan::write::Target;

    /// Method, path and body.
    fn sent(object: ObjectRef, part: Part, basis: Basis, order: Order) -> (String, String, Value) {
        let write = Write {
            target: Target { object, part },
            basis,
            order,
            notes: Vec::new(),
        };
        let request = request(&write).unwrap();
        let uri = request.uri().to_string();
        let body = serde_json::from_slice(request.body()).unwrap();
        (request.method().to_string(), uri, body)
    }

    #[test]
    fn a_write_is_sent_to_its_part_of_the_object_over_the_version_that_was_seen() {
        let service = || ObjectRef::namespaced(Kind::Service, "ns", "s");
        let pool = || ObjectRef::cluster(Kind::CiliumLoadBalancerIPPool, "p");
        let seven = || Basis::Version("7".to_owned());
        let words = |method: &str, path: &str| {
            let path = path.replace("...", "&fieldManager=stentor-operator");
            (method.to_owned(), path)
        };
        let status = || json!({ "status": { "conditions": [] } });
        let over = json!({ "metadata": { "resourceVersion": "7" }, "status": { "conditions": [] } });
        for part in [Part::Status, Part::Condition] {
            let (method, path, body) = sent(service(), part, seven(), Order::Strategic(status().into()));
            assert_eq!(
                (method, path),
                words("PATCH", "/api/v1/namespaces/ns/services/s/status?...")
            );
            assert_eq!(body, over);
        }
        let (method, path, body) = sent(pool(), Part::Object, seven(), Order::Merge(status().into()));
        let of_pool = "/apis/cilium.io/v2/ciliumloadbalancerippools";
        assert_eq!((method, path), words("PATCH", &format!("{of_pool}/p?...")));
        assert_eq!(body, over);
        let (method, path, body) = sent(pool(), Part::Object, Basis::Absent, Order::Create(status()));
        assert_eq!((method, path), words("POST", &format!("{of_pool}?...")));
        assert_eq!(body, status());
        let (method, path, body) = sent(pool(), Part::Object, seven(), Order::Delete);
        assert_eq!((method, path), words("DELETE", &format!("{of_pool}/p?")));
        assert_eq!(body["preconditions"], json!({ "resourceVersion": "7" }));
    }

    #[test]
    fn a_note_is_cut_between_characters() {
        assert_eq!(shortened("gr\u{fc}n", 3), "gr");
        assert_eq!(shortened("gr\u{fc}n", 4), "gr\u{fc}");
        assert_eq!(shortened("short", NOTE), "short");
    }
}
