//! What the operator wants written, as values.

use crds::ObjectRef;
use serde_json::Value;

/// One write, and what to tell people once it is done.
#[derive(Debug, Clone, PartialEq)]
pub struct Write {
    pub target: Target,
    pub basis: Basis,
    pub order: Order,
    pub notes: Vec<Note>,
}

/// What is written to. Of each there is at most one write in a plan.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    pub object: ObjectRef,
    pub part: Part,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// All but its status.
    Object,
    Status,
    /// Of the status one condition, which is not for who writes the rest.
    Condition,
}

/// The state of the object that the plan saw. A write over any other is refused by the API server, and planned anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Basis {
    Absent,
    /// Its `resourceVersion`.
    Version(String),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Order {
    /// The whole object.
    Create(Value),
    /// JSON merge patch (RFC 7386): members that are named are replaced, lists as a whole.
    Merge(Patch),
    /// Strategic merge patch: of lists with keys, the entries that are named. Only core kinds know it.
    Strategic(Patch),
    Delete,
}

/// A patch as text: ten thousand may wait, and as a tree each takes as much memory as its object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch(Box<str>);

impl From<Value> for Patch {
    fn from(patch: Value) -> Self {
        Self(patch.to_string().into())
    }
}

impl Patch {
    /// As it was made.
    ///
    /// # Errors
    /// Those of text that is no JSON, which no patch is.
    pub fn value(&self) -> serde_json::Result<Value> {
        serde_json::from_str(&self.0)
    }
}

/// A decision and its reason, for a Kubernetes Event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    pub weight: Weight,
    /// What was done, in one word of upper camel case.
    pub action: &'static str,
    /// Stable, in upper camel case.
    pub reason: &'static str,
    pub text: String,
    pub about: About,
}

impl Note {
    #[must_use]
    pub fn of(
        parsed: &crds::Parsed,
        weight: Weight,
        action: &'static str,
        reason: &'static str,
        text: String,
    ) -> Self {
        Self {
            weight,
            action,
            reason,
            text,
            about: About::of(parsed),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    Normal,
    /// A person may have to act.
    Warning,
}

/// The object an Event is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    pub object: ObjectRef,
    pub api_version: String,
    pub uid: Option<String>,
}

impl About {
    #[must_use]
    pub fn of(parsed: &crds::Parsed) -> Self {
        Self {
            object: parsed.reference.clone(),
            api_version: parsed.reference.kind.api_version(parsed.version),
            uid: parsed.object.metadata().uid.clone(),
        }
    }
}

impl Target {
    #[must_use]
    pub fn status(parsed: &crds::Parsed) -> Self {
        Self {
            object: parsed.reference.clone(),
            part: Part::Status,
        }
    }
}

impl Basis {
    /// What was seen of an object. `None`: it has no version, so nothing can be written over it.
    #[must_use]
    pub fn of(parsed: &crds::Parsed) -> Option<Self> {
        let metadata = parsed.object.metadata();
        let version = metadata.resource_version.as_deref();
        version
            .filter(|version| !version.is_empty())
            .map(|version| Self::Version(version.to_owned()))
    }
}
