//! One thing wrong, wherever it was found: in a document, between documents, in the folder or on this node.

use std::fmt;
use std::path::{Path, PathBuf};

use crds::{ObjectRef, Parsed};
use serde::Serialize;

pub use crds::Severity;

/// Ordered as a person reads: by file and line, then the rest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// `None`: not the fault of a file, but of this node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Counted from 1; 0 where the whole file is meant.
    pub line: u32,
    pub severity: Severity,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<ObjectRef>,
    /// Path within the object. Empty: the object itself.
    pub field: String,
    /// Stable, in kebab case.
    pub reason: &'static str,
    /// What, and what to do.
    pub message: String,
}

impl Problem {
    /// About a field of an object.
    #[must_use]
    pub fn at(
        parsed: &Parsed,
        field: impl Into<String>,
        severity: Severity,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        let field = field.into();
        Self {
            file: Some(parsed.file.to_path_buf()),
            line: parsed.line_of(&field),
            severity,
            object: Some(parsed.reference.clone()),
            field,
            reason,
            message: message.into(),
        }
    }

    /// About a file or a folder.
    #[must_use]
    pub fn in_file(
        file: &Path,
        severity: Severity,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self {
            file: Some(file.to_owned()),
            line: 0,
            severity,
            object: None,
            field: String::new(),
            reason,
            message: message.into(),
        }
    }

    /// About this node.
    #[must_use]
    pub fn here(severity: Severity, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            file: None,
            line: 0,
            severity,
            object: None,
            field: String::new(),
            reason,
            message: message.into(),
        }
    }

    #[must_use]
    pub fn is_error(&self) -> bool {
        match self.severity {
            Severity::Error => true,
            Severity::Warning => false,
        }
    }
}

impl From<crds::Problem> for Problem {
    fn from(problem: crds::Problem) -> Self {
        Self {
            file: Some(problem.file),
            line: problem.line,
            severity: problem.severity,
            object: problem.object,
            field: problem.field,
            reason: problem.reason.as_str(),
            message: problem.message,
        }
    }
}

impl fmt::Display for Problem {
    /// `file:line: error: object: field: message [reason]`, without the parts that are not known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}:", file.display())?;
            if self.line != 0 {
                write!(f, "{}:", self.line)?;
            }
            f.write_str(" ")?;
        }
        write!(f, "{}: ", self.severity)?;
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        write!(f, "{} [{}]", self.message, self.reason)
    }
}
