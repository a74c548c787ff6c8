//! Text of a file -> objects and problems.
//!
//! ```text
//!  text -> chunks (one per '---') -> trees with lines -> envelope -> schema -> typed object -> rules
//!              |                          |                 |          |            |            |
//!              +--------------------------+------ problems -+----------+------------+------------+
//! ```
//! A chunk that fails anywhere does not touch the others. If its kind and name can be made out all
//! the same, it is listed in [`Read::bad`], so that the caller can keep the version it had.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value as Json;

use crate::catalog;
use crate::envelope::{Envelope, Foreign, envelope, salvage};
use crate::object::{Kind, Lines, Object, ObjectRef, Parsed, Version};
use crate::problem::{Problem, Reason, Severity};
use crate::rules;
use crate::schema::{Finding, pruned, validate};
use crate::yaml::{self, Cause, Chunk, Fault, MAX_DEPTH, MAX_NODES, Node};

/// What a file holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Read {
    pub objects: Vec<Parsed>,
    pub problems: Vec<Problem>,
    /// Objects that stand in the file and cannot be used as they are written.
    pub bad: Vec<ObjectRef>,
    /// Documents of kinds Stentor has no use for, such as Deployments.
    pub foreign: usize,
}

/// Reads every document of a file. The file is only named, never opened.
pub fn read(file: &Path, text: &str) -> Read {
    let mut reader = Reader {
        file: Arc::from(file),
        read: Read::default(),
    };
    for chunk in yaml::split(text) {
        reader.chunk(chunk);
    }
    reader.read.problems.sort();
    reader.read
}

/// The same for bytes that may not be text: what precedes the first bad byte is still read.
pub fn read_bytes(file: &Path, bytes: &[u8]) -> Read {
    let error = match std::str::from_utf8(bytes) {
        Ok(text) => return read(file, text),
        Err(error) => error,
    };
    let text = String::from_utf8_lossy(bytes);
    let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
    let newlines = before.iter().filter(|byte| **byte == b'\n').count();
    let line = u32::try_from(newlines).unwrap_or(u32::MAX).saturating_add(1);
    let mut reader = Reader {
        file: Arc::from(file),
        read: Read::default(),
    };
    let mut finding = Some(Finding {
        severity: Severity::Error,
        line,
        field: String::new(),
        reason: Reason::NotUtf8,
        message: "the file is not UTF-8 from here on; save it as UTF-8".to_owned(),
    });
    for chunk in yaml::split(&text) {
        if chunk.text.contains(char::REPLACEMENT_CHARACTER) {
            let reference = salvage(chunk.text);
            reader.read.bad.extend(reference.clone());
            if let Some(finding) = finding.take() {
                reader.report(reference.as_ref(), finding);
            }
        } else {
            reader.chunk(chunk);
        }
    }
    if let Some(finding) = finding {
        reader.report(None, finding);
    }
    reader.read.problems.sort();
    reader.read
}

/// The same for one object that is JSON already, as an API server tells it. There are no lines; `source` stands where
/// a file would.
pub fn read_json(source: &Path, object: &Json) -> Read {
    let mut reader = Reader {
        file: Arc::from(source),
        read: Read::default(),
    };
    reader.document(&Node::from_json(object, 0), "");
    reader.read
}

/// Every document of a text as JSON, of whatever kind it is. `Err`: what is wrong, and in which line.
pub fn documents(text: &str) -> Vec<Result<Json, NotYaml>> {
    let mut found = Vec::new();
    for chunk in yaml::split(text) {
        match yaml::build(chunk) {
            Ok(nodes) => found.extend(
                nodes
                    .iter()
                    .filter(|node| !node.is_null())
                    .map(|node| Ok(node.to_json())),
            ),
            Err(fault) => {
                let finding = syntax_finding(fault);
                found.push(Err(NotYaml {
                    line: finding.line,
                    message: finding.message,
                }));
            }
        }
    }
    found
}

/// A document that is no YAML, or none that is safe to build.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct NotYaml {
    pub line: u32,
    pub message: String,
}

struct Reader {
    file: Arc<Path>,
    read: Read,
}

impl Reader {
    fn report(&mut self, object: Option<&ObjectRef>, finding: Finding) {
        let Finding {
            severity,
            line,
            field,
            reason,
            message,
        } = finding;
        let file = self.file.to_path_buf();
        self.read.problems.push(Problem {
            file,
            line,
            severity,
            object: object.cloned(),
            field,
            reason,
            message,
        });
    }

    fn chunk(&mut self, chunk: Chunk<'_>) {
        match yaml::build(chunk) {
            Ok(documents) => {
                for document in documents.iter().filter(|document| !document.is_null()) {
                    self.document(document, "");
                }
            }
            Err(fault) => {
                let reference = salvage(chunk.text);
                self.report(reference.as_ref(), syntax_finding(fault));
                self.read.bad.extend(reference);
            }
        }
    }

    /// `prefix` is where in the document the object stands: empty, or `items[2]`.
    fn document(&mut self, node: &Node, prefix: &str) {
        match envelope(node) {
            Envelope::Known {
                kind,
                version,
                reference,
                findings,
            } => {
                let before = self.read.problems.len();
                for finding in findings {
                    self.report(Some(&reference), prefixed(finding, prefix));
                }
                self.known(node, kind, version, reference, prefix, before);
            }
            Envelope::List => {
                self.list(node);
            }
            Envelope::Foreign(Foreign::Quiet) => self.read.foreign = self.read.foreign.saturating_add(1),
            Envelope::Foreign(Foreign::Reported(finding)) => {
                self.read.foreign = self.read.foreign.saturating_add(1);
                self.report(None, prefixed(finding, prefix));
            }
            Envelope::Broken { reference, finding } => {
                self.report(reference.as_ref(), prefixed(finding, prefix));
                self.read.bad.extend(reference);
            }
        }
    }

    fn list(&mut self, node: &Node) {
        let Some(items) = node.get("items") else { return };
        for (index, item) in items.items().iter().enumerate() {
            // A list within a list is no manifest; it must not make the reader recurse.
            match envelope(item) {
                Envelope::List => self.read.foreign = self.read.foreign.saturating_add(1),
                Envelope::Known { .. } | Envelope::Foreign(_) | Envelope::Broken { .. } => {
                    self.document(item, &format!("items[{index}]"));
                }
            }
        }
    }

    fn known(
        &mut self,
        node: &Node,
        kind: Kind,
        version: Version,
        reference: ObjectRef,
        prefix: &str,
        before: usize,
    ) {
        let mut findings = Vec::new();
        let schema = catalog::schema(kind, version);
        validate(node, schema, "", &mut findings);
        let mut parsed = None;
        if findings.iter().all(|finding| finding.severity != Severity::Error) {
            match catalog::object(kind, pruned(node, schema)) {
                Ok(object) => {
                    rules::check(&object, node, &mut findings);
                    parsed = Some(object);
                }
                Err(error) => findings.push(Finding {
                    severity: Severity::Error,
                    line: node.line,
                    field: String::new(),
                    reason: Reason::Unreadable,
                    message: format!("the document cannot be used: {error}"),
                }),
            }
        }
        for finding in findings {
            let finding = if kind == Kind::Secret {
                discreet(finding)
            } else {
                finding
            };
            self.report(Some(&reference), prefixed(finding, prefix));
        }
        let sound = self
            .read
            .problems
            .get(before..)
            .unwrap_or_default()
            .iter()
            .all(|problem| !problem.is_error());
        match parsed {
            Some(object) if sound => {
                let lines = match node.line {
                    0 => Lines::default(),
                    _ => lines_of(&object, node),
                };
                let (file, line) = (Arc::clone(&self.file), node.line);
                self.read.objects.push(Parsed {
                    reference,
                    version,
                    object,
                    file,
                    line,
                    lines,
                });
            }
            Some(_) | None => self.read.bad.push(reference),
        }
    }
}

/// Messages quote what they found, and what a Secret holds must not be seen.
fn discreet(mut finding: Finding) -> Finding {
    let concerns_data = ["data", "stringData"]
        .iter()
        .filter_map(|name| finding.field.strip_prefix(name))
        .any(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
    if concerns_data || finding.reason == Reason::Unreadable {
        finding.message = match finding.reason {
            Reason::WrongFormat => "the value (not shown) is not base64; plain text goes into stringData",
            Reason::WrongType => "the value (not shown) is not text; put it in quotes",
            _ => "the value (not shown) can not be used",
        }
        .to_owned();
    }
    finding
}

/// Kept only where a check between objects points at a field.
fn lines_of(object: &Object, node: &Node) -> Lines {
    let mut lines = BTreeMap::new();
    match object {
        Object::CiliumBGPClusterConfig(_)
        | Object::CiliumBGPPeerConfig(_)
        | Object::CiliumBGPAdvertisement(_)
        | Object::CiliumBGPNodeConfig(_)
        | Object::CiliumBGPNodeConfigOverride(_)
        | Object::CiliumBGPPeeringPolicy(_)
        | Object::CiliumLoadBalancerIPPool(_)
        | Object::CiliumPodIPPool(_) => {
            if let Some(name) = node.get("metadata").and_then(|metadata| metadata.get("name")) {
                lines.insert("metadata.name".to_owned(), name.line);
            }
            if let Some(spec) = node.get("spec") {
                lines.insert("spec".to_owned(), spec.line);
                spec.lines("spec", &mut lines);
            }
        }
        Object::CiliumNode(_)
        | Object::Service(_)
        | Object::EndpointSlice(_)
        | Object::Node(_)
        | Object::Secret(_)
        | Object::Namespace(_)
        | Object::Pod(_) => {}
    }
    Lines(lines)
}

fn prefixed(mut finding: Finding, prefix: &str) -> Finding {
    if !prefix.is_empty() {
        finding.field = match finding.field.as_str() {
            "" => prefix.to_owned(),
            field => format!("{prefix}.{field}"),
        };
    }
    finding
}

fn syntax_finding(fault: Fault) -> Finding {
    let (reason, message) = match fault.cause {
        Cause::Syntax(what) => (Reason::BadYaml, format!("this is not YAML: {what}")),
        Cause::TooDeep => (
            Reason::TooDeep,
            format!("nested deeper than {MAX_DEPTH} levels; no kind needs that"),
        ),
        Cause::TooLarge => (
            Reason::TooLarge,
            format!("more than {MAX_NODES} values once aliases are expanded; split the document"),
        ),
        Cause::DuplicateKey { key, first } => (
            Reason::DuplicateKey,
            format!("the key '{key}' stands twice, first on line {first}; remove one of them"),
        ),
        Cause::BadKey => (Reason::BadKey, "a key must be text; put it in quotes".to_owned()),
    };
    Finding {
        severity: Severity::Error,
        line: fault.line,
        field: String::new(),
        reason,
        message,
    }
}

impl Read {
    /// Adds what another file holds.
    pub fn extend(&mut self, other: Self) {
        self.objects.extend(other.objects);
        self.problems.extend(other.problems);
        self.bad.extend(other.bad);
        self.foreign = self.foreign.saturating_add(other.foreign);
    }
}

#[cfg(test)]
mod tests;
