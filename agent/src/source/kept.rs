//! Versions that stay in force though their file no longer says them, and what of them outlives the process.
//!
//! Only what is kept at the moment is written down, so the state folder holds no copy of what is sound. A Secret is
//! never written down.

use std::path::Path;
use std::sync::Arc;

use crds::k8s_openapi::jiff::Timestamp;
use crds::{Kind, Parsed};
use serde::{Deserialize, Serialize};

/// Longer files are not written by hand; this many line feeds are made when a document is read back.
const LAST_LINE: u32 = 10_000_000;

/// An object in its last good version.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    pub parsed: Arc<Parsed>,
    /// When its file was first seen without it; seconds since 1970.
    pub since: u64,
}

/// A kept object as the state folder has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeptDocument {
    pub file: String,
    /// Where the document began.
    pub line: u32,
    pub since: u64,
    pub text: String,
}

impl Kept {
    /// `None` for what is not to be written down: Secrets, and files whose path is no text.
    #[must_use]
    pub fn document(&self) -> Option<KeptDocument> {
        if outlives(&self.parsed) == Outlives::No {
            return None;
        }
        Some(KeptDocument {
            file: self.parsed.file.to_str()?.to_owned(),
            line: self.parsed.line,
            since: self.since,
            text: self.parsed.document().ok()?,
        })
    }

    /// `None` for what this version of the program does not take any more.
    #[must_use]
    pub fn read(document: &KeptDocument) -> Option<Self> {
        let above = usize::try_from(document.line.clamp(1, LAST_LINE) - 1).ok()?;
        let text = "\n".repeat(above) + &document.text;
        let mut read = crds::read(Path::new(&document.file), &text);
        let parsed = read.objects.pop().filter(|_| read.objects.is_empty())?;
        Some(Self {
            parsed: Arc::new(parsed),
            since: document.since,
        })
    }
}

/// Whether a version that is kept is still there after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outlives {
    Yes,
    No,
}

pub(super) fn outlives(parsed: &Parsed) -> Outlives {
    if parsed.reference.kind == Kind::Secret {
        Outlives::No
    } else {
        Outlives::Yes
    }
}

/// `2026-11-21T17:00:00Z`
pub(super) fn time(since: u64) -> String {
    let time = i64::try_from(since)
        .ok()
        .and_then(|s| Timestamp::from_second(s).ok());
    time.map_or_else(|| format!("{since} s since 1970"), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(text: &str) -> Kept {
        let mut read = crds::read(Path::new("/m/x.yaml"), text);
        Kept {
            parsed: Arc::new(read.objects.pop().unwrap()),
            since: 1_700_000_000,
        }
    }

    #[test]
    fn what_is_written_down_reads_back_with_its_place() {
        let kept = kept(
            "# note\n\n---\napiVersion: cilium.io/v2\nkind: CiliumLoadBalancerIPPool\nmetadata: {name: p}\n\
             spec: {blocks: [{cidr: 192.0.2.0/24}]}\n",
        );
        let document = kept.document().unwrap();
        assert_eq!((document.file.as_str(), document.line), ("/m/x.yaml", 4));
        let back = Kept::read(&document).unwrap();
        assert_eq!(back.since, kept.since);
        assert_eq!(back.parsed.object, kept.parsed.object);
        assert_eq!((&back.parsed.file, back.parsed.line), (&kept.parsed.file, 4));
        // Whatever the file in the state folder says.
        let broken = KeptDocument {
            text: "kind: [".to_owned(),
            line: 0,
            ..document
        };
        assert_eq!(Kept::read(&broken), None);
    }

    #[test]
    fn a_secret_is_not_written_down() {
        let secret = kept(
            "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: web}\nstringData: {password: hush}\n",
        );
        assert_eq!(secret.document(), None);
    }

    #[test]
    fn times_are_those_of_rfc_3339() {
        assert_eq!(time(0), "1970-01-01T00:00:00Z");
        assert_eq!(time(u64::MAX), "18446744073709551615 s since 1970");
    }
}
