//! What is wrong with what somebody wrote: where, why, and what to do about it.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use crate::object::ObjectRef;

/// One thing wrong. Ordered as a person reads: by file, then line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    pub file: PathBuf,
    /// Counted from 1: the line of the offending field, not of its document.
    pub line: u32,
    pub severity: Severity,
    /// Missing if not even the name of the object could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<ObjectRef>,
    /// Path within the object, for example `spec.bgpInstances[0].peers[1].peerAddress`. Empty means
    /// the object itself.
    pub field: String,
    pub reason: Reason,
    /// What, and what to do.
    pub message: String,
}

impl Problem {
    pub fn is_error(&self) -> bool {
        match self.severity {
            Severity::Error => true,
            Severity::Warning => false,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: ", self.file.display(), self.line, self.severity)?;
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        write!(f, "{} [{}]", self.message, self.reason)
    }
}

/// Whether the object can still be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The object, as written, is not used.
    Error,
    /// The object is used, but probably not as meant.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// Declares [`Reason`] with its stable names, so that the names, the list and the enum cannot part.
macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal),* $(,)?) => {
        /// The kind of problem. The names are stable: scripts and tests may rely on them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(into = "&'static str")]
        pub enum Reason { $($(#[$doc])* $variant),* }

        impl Reason {
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }
    };
}

reasons! {
    // The text.
    /// The file is not UTF-8.
    NotUtf8 = "not-utf8",
    /// The text is not YAML.
    BadYaml = "bad-yaml",
    /// Nested deeper than the reader goes.
    TooDeep = "too-deep",
    /// Aliases expand to more than the reader holds.
    TooLarge = "too-large",
    /// A key stands twice in one mapping.
    DuplicateKey = "duplicate-key",
    /// A key is not text.
    BadKey = "bad-key",

    // The envelope.
    /// The document is not a mapping, or has neither `apiVersion` nor `kind`.
    NotAManifest = "not-a-manifest",
    /// `apiVersion` or `kind` is missing or not text.
    MissingKind = "missing-kind",
    /// No such kind in this group.
    UnknownKind = "unknown-kind",
    /// A kind of Cilium's that Stentor does not read.
    UnreadKind = "unread-kind",
    /// The kind exists, this version of it does not.
    UnknownVersion = "unknown-version",
    /// `metadata.name` is missing or not a name.
    BadName = "bad-name",
    /// A label key or value is malformed.
    BadLabel = "bad-label",
    /// The same object stands in two places; neither is more right.
    DuplicateObject = "duplicate-object",

    // The schema.
    WrongType = "wrong-type",
    Required = "required",
    UnknownField = "unknown-field",
    NotOneOf = "not-one-of",
    PatternMismatch = "pattern-mismatch",
    OutOfRange = "out-of-range",
    WrongLength = "wrong-length",
    WrongFormat = "wrong-format",
    /// Two items of a list carry the same key.
    DuplicateItem = "duplicate-item",
    /// The schema lets it through and the type cannot hold it.
    Unreadable = "unreadable",

    // The rules of one object.
    /// An advertisement of type Service without `service`.
    ServiceRequired = "service-required",
    /// An advertisement of type PodCIDR with `selector`.
    SelectorNotAllowed = "selector-not-allowed",
    KeepaliveAboveHold = "keepalive-above-hold",
    /// A CIDR with bits set beyond its mask.
    HostBits = "host-bits",
    /// White space around an address.
    PaddedAddress = "padded-address",
    /// An address with a zone.
    AddressZone = "address-zone",
    /// Text that should be an address or a prefix and is not.
    BadAddress = "bad-address",
    /// A peer with no address, prefix or discovery.
    PeerWithoutAddress = "peer-without-address",
    /// A peer with more than one of address, prefix and discovery.
    PeerAddressAmbiguous = "peer-address-ambiguous",
    /// Mode DefaultGateway without `defaultGateway`.
    AutoDiscoveryIncomplete = "auto-discovery-incomplete",
    /// `localPreference` does not fit 32 bits.
    LocalPreferenceOutOfRange = "local-preference-out-of-range",
    DuplicateFamily = "duplicate-family",
    /// A family no route of ours can be in.
    UnusedFamily = "unused-family",
    BadCommunity = "bad-community",
    BadSelector = "bad-selector",
    /// A block whose start is above its stop.
    ReversedRange = "reversed-range",
    /// A block whose start and stop differ in family, or a prefix of the wrong family.
    MixedFamilies = "mixed-families",
    /// A block with neither `cidr` nor `start`.
    EmptyBlock = "empty-block",
    /// A block that overlaps another of the same pool.
    OverlappingBlocks = "overlapping-blocks",
    TtlSecurityWithMultihop = "ttl-security-with-multihop",
    /// A field that is read and has no effect here.
    NoEffect = "no-effect",
    /// A port outside 1 to 65535.
    BadPort = "bad-port",
    /// A mask size shorter than the prefix it cuts.
    BadMaskSize = "bad-mask-size",

    // Between objects.
    MissingPeerConfig = "missing-peer-config",
    MissingAuthSecret = "missing-auth-secret",
    /// The Secret has no key `password`.
    NoPassword = "no-password",
    NoMatchingAdvertisement = "no-matching-advertisement",
    NoMatchingService = "no-matching-service",
    NoMatchingPool = "no-matching-pool",
    NoMatchingNode = "no-matching-node",
    UnknownInstance = "unknown-instance",
    UnknownPeer = "unknown-peer",
    /// Two cluster configs, or two peering policies, select one node.
    ConflictingClusterConfig = "conflicting-cluster-config",
    /// Two peers of one instance have one address.
    DuplicatePeerAddress = "duplicate-peer-address",
    /// Addresses of two pools overlap.
    PoolConflict = "pool-conflict",
    /// An instance without an AS, and no override that gives one.
    MissingAsn = "missing-asn",
    /// A passive or dynamic peer of an instance that does not listen.
    NotListening = "not-listening",
}

impl From<Reason> for &'static str {
    fn from(reason: Reason) -> Self {
        reason.as_str()
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_of_reasons_are_distinct_and_kebab_case() {
        let names: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(names.iter().all(|name| name.chars().all(plain)));
    }

    #[test]
    fn every_reason_is_asserted_somewhere() {
        let tests = [
            include_str!("read/tests.rs"),
            include_str!("rules/tests.rs"),
            include_str!("check/tests.rs"),
        ];
        // The reason of the folder, which alone sees two files.
        let elsewhere = [Reason::DuplicateObject];
        for reason in Reason::ALL.iter().filter(|reason| !elsewhere.contains(reason)) {
            let (name, variant) = (format!(" {reason} "), format!("Reason::{reason:?}"));
            let asserted = tests
                .iter()
                .any(|text| text.contains(&name) || text.contains(&variant));
            assert!(asserted, "no test asserts {reason}");
        }
    }
}
