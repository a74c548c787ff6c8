//! Which object a document is: `apiVersion`, `kind`, and the name in `metadata`.

use crate::object::{Kind, ObjectRef, Version};
use crate::problem::{Reason, Severity};
use crate::schema::{Finding, nearest};
use crate::selector;
use crate::yaml::{Node, Value};

/// What kind of document this is.
pub(crate) enum Envelope {
    /// An object of a kind that is read. `findings` concern its name and labels.
    Known {
        kind: Kind,
        version: Version,
        reference: ObjectRef,
        findings: Vec<Finding>,
    },
    /// `kind: List` and its like: the objects are in `items`.
    List,
    Foreign(Foreign),
    /// Meant to be a manifest and not recognisable, or without a name.
    Broken {
        reference: Option<ObjectRef>,
        finding: Finding,
    },
}

/// A document of a kind that is not read.
pub(crate) enum Foreign {
    /// Belongs to others: a Deployment, a kind cluster.
    Quiet,
    /// Looks as if it were meant for us.
    Reported(Finding),
}

/// Kinds of Cilium's that this program has no use for yet.
const UNREAD: [&str; 13] = [
    "CiliumCIDRGroup",
    "CiliumClusterwideEnvoyConfig",
    "CiliumClusterwideNetworkPolicy",
    "CiliumEgressGatewayPolicy",
    "CiliumEndpoint",
    "CiliumEndpointSlice",
    "CiliumEnvoyConfig",
    "CiliumGatewayClassConfig",
    "CiliumIdentity",
    "CiliumL2AnnouncementPolicy",
    "CiliumLocalRedirectPolicy",
    "CiliumNetworkPolicy",
    "CiliumNodeConfig",
];

/// Kinds of the core group, which has no room for others.
const CORE: [&str; 17] = [
    "Binding",
    "ComponentStatus",
    "ConfigMap",
    "Endpoints",
    "Event",
    "LimitRange",
    "Namespace",
    "Node",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "Pod",
    "PodTemplate",
    "ReplicationController",
    "ResourceQuota",
    "Secret",
    "Service",
    "ServiceAccount",
];

pub(crate) fn envelope(node: &Node) -> Envelope {
    if !matches!(node.value, Value::Map(_)) {
        let message = "a manifest is a mapping with apiVersion, kind and metadata".to_owned();
        return broken(None, error(node.line, "", Reason::NotAManifest, message));
    }
    let (api_version, kind) = match (text(node, "apiVersion"), text(node, "kind")) {
        (Some(api_version), Some(kind)) => (api_version, kind),
        (None, None) if node.get("apiVersion").is_none() && node.get("kind").is_none() => {
            let message =
                "neither apiVersion nor kind; if this is no manifest, keep it out of the folder".to_owned();
            let (severity, reason) = (Severity::Warning, Reason::NotAManifest);
            return Envelope::Foreign(Foreign::Reported(Finding {
                severity,
                line: node.line,
                field: String::new(),
                reason,
                message,
            }));
        }
        (None, _) => return broken(None, missing(node, "apiVersion")),
        (Some(_), None) => return broken(None, missing(node, "kind")),
    };
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    match Kind::find(group, kind) {
        Some(kind) => named(node, kind, version, api_version),
        None if is_list(group, kind, node) => Envelope::List,
        None => Envelope::Foreign(foreign(node, group, kind)),
    }
}

/// `kind: List`, or `ServiceList` and the like.
fn is_list(group: &str, kind: &str, node: &Node) -> bool {
    let of_known = || {
        kind.strip_suffix("List")
            .is_some_and(|kind| Kind::find(group, kind).is_some())
    };
    ((group.is_empty() && kind == "List") || of_known()) && node.get("items").is_some()
}

fn named(node: &Node, kind: Kind, version: &str, api_version: &str) -> Envelope {
    let metadata = node.get("metadata");
    let name = metadata.and_then(|metadata| text(metadata, "name"));
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        let at = metadata
            .and_then(|metadata| metadata.get("name"))
            .or(metadata)
            .unwrap_or(node);
        let message = match at.value {
            Value::Number(_) | Value::Bool(_) => "the name must be text; put it in quotes",
            Value::Null | Value::String(_) | Value::List(_) | Value::Map(_) => "the object needs a name",
        };
        return broken(
            None,
            error(at.line, "metadata.name", Reason::BadName, message.to_owned()),
        );
    };
    let namespace = match kind.is_namespaced() {
        true => metadata
            .and_then(|metadata| text(metadata, "namespace"))
            .unwrap_or("default"),
        false => "",
    };
    let reference = ObjectRef::namespaced(kind, namespace, name);
    let Some(known) = kind.versions().iter().find(|known| known.as_str() == version) else {
        let line = node.get("apiVersion").map_or(node.line, |node| node.line);
        let versions: Vec<String> = kind
            .versions()
            .iter()
            .map(|version| kind.api_version(*version))
            .collect();
        let message = format!(
            "there is no {kind} in '{api_version}'; use {}",
            versions.join(" or ")
        );
        return broken(
            Some(reference),
            error(line, "apiVersion", Reason::UnknownVersion, message),
        );
    };
    let findings = metadata
        .map(|metadata| metadata_findings(metadata, kind, name))
        .unwrap_or_default();
    Envelope::Known {
        kind,
        version: *known,
        reference,
        findings,
    }
}

/// What the API server checks of names and labels beyond their schema.
fn metadata_findings(metadata: &Node, kind: Kind, name: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !selector::is_dns_subdomain(name) {
        let line = metadata.get("name").map_or(metadata.line, |node| node.line);
        let message = format!(
            "{name:?} is not a name of a {kind}: lower-case letters, digits, '-' and '.', starting and ending with a letter or digit"
        );
        findings.push(error(line, "metadata.name", Reason::BadName, message));
    }
    let Some(Value::Map(labels)) = metadata.get("labels").map(|labels| &labels.value) else {
        return findings;
    };
    for label in labels {
        let field = format!("metadata.labels[{}]", label.key);
        if let Some(why) = selector::key_error(&label.key) {
            let message = format!("{:?} is not a label key: {why}", label.key);
            findings.push(error(label.line, &field, Reason::BadLabel, message));
        }
        if let Some((value, why)) = label
            .value
            .as_str()
            .and_then(|value| Some((value, selector::value_error(value)?)))
        {
            let message = format!("{value:?} is not a label value: {why}");
            findings.push(error(label.line, &field, Reason::BadLabel, message));
        }
    }
    findings
}

fn foreign(node: &Node, group: &str, kind: &str) -> Foreign {
    let line = node.get("kind").map_or(node.line, |node| node.line);
    let warning = |reason, message| {
        let severity = Severity::Warning;
        Foreign::Reported(Finding {
            severity,
            line,
            field: "kind".to_owned(),
            reason,
            message,
        })
    };
    let ours = Kind::ALL
        .into_iter()
        .filter(|known| known.group() == group)
        .map(Kind::as_str);
    match group {
        "cilium.io" if UNREAD.contains(&kind) => warning(
            Reason::UnreadKind,
            format!("Stentor does not read {kind}; the object has no effect"),
        ),
        "cilium.io" => warning(
            Reason::UnknownKind,
            unknown(kind, group, nearest(kind, ours.chain(UNREAD))),
        ),
        "" if !CORE.contains(&kind) => warning(Reason::UnknownKind, unknown(kind, "v1", nearest(kind, CORE))),
        _ => Foreign::Quiet,
    }
}

fn unknown(kind: &str, group: &str, near: Option<&str>) -> String {
    match near {
        Some(near) => format!("there is no kind '{kind}' in {group}; did you mean '{near}'?"),
        None => format!("there is no kind '{kind}' in {group}; the object is ignored"),
    }
}

fn text<'a>(node: &'a Node, name: &str) -> Option<&'a str> {
    node.get(name).and_then(Node::as_str)
}

fn missing(node: &Node, name: &str) -> Finding {
    let line = node.get(name).map_or(node.line, |node| node.line);
    error(
        line,
        name,
        Reason::MissingKind,
        format!("'{name}' is missing or not text; a manifest needs apiVersion and kind"),
    )
}

fn error(line: u32, field: &str, reason: Reason, message: String) -> Finding {
    Finding {
        severity: Severity::Error,
        line,
        field: field.to_owned(),
        reason,
        message,
    }
}

fn broken(reference: Option<ObjectRef>, finding: Finding) -> Envelope {
    Envelope::Broken { reference, finding }
}

/// The name of an object whose document is not YAML, read line by line: block style, top level.
pub(crate) fn salvage(text: &str) -> Option<ObjectRef> {
    let mut api_version = None;
    let mut kind = None;
    let mut name = None;
    let mut namespace = None;
    let mut in_metadata = false;
    let mut indent = None;
    for line in text.lines() {
        let body = line.trim_start_matches(' ');
        if body.is_empty() || body.starts_with('#') {
            continue;
        }
        let width = line.len().saturating_sub(body.len());
        if width == 0 {
            in_metadata = field(body, "metadata").is_some();
            api_version = api_version.or_else(|| field(body, "apiVersion"));
            kind = kind.or_else(|| field(body, "kind"));
        } else if in_metadata && *indent.get_or_insert(width) == width {
            name = name.or_else(|| field(body, "name"));
            namespace = namespace.or_else(|| field(body, "namespace"));
        }
    }
    let (group, _) = api_version?.split_once('/').unwrap_or(("", ""));
    let kind = Kind::find(group, kind?)?;
    let namespace = if kind.is_namespaced() {
        namespace.unwrap_or("default")
    } else {
        ""
    };
    let name = name.filter(|name| !name.is_empty())?;
    Some(ObjectRef::namespaced(kind, namespace, name))
}

/// The scalar after `key:`, without quotes and comment.
fn field<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let value = line.strip_prefix(key)?.strip_prefix(':')?;
    let value = value.split(" #").next().unwrap_or(value).trim();
    Some(value.trim_matches(['"', '\'']))
}
