//! What can be wrong with a message, in words, and the NOTIFICATION a standard answers it with.

use bytes::Bytes;

use super::framing::MessageType;
use super::notification::Notification;

/// A message that ends the session. [`Error::answer`] is what the peer is told.
///
/// Errors a session survives (RFC 7606) are no [`Error`] but an [`AttrError`](super::attr::AttrError).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the message does not begin with the marker: this is no BGP, or the stream lost its place")]
    NotSynchronized,
    #[error("{kind} of {length} octets: too short or too long")]
    MessageLength { kind: MessageType, length: u16 },
    #[error("message length {length} is outside 19..={limit}")]
    HeaderLength { length: u16, limit: usize },
    #[error("unknown message type {0}")]
    MessageType(u8),

    #[error("BGP version {0}; only 4 is spoken")]
    Version(u8),
    #[error("AS 0 in OPEN (RFC 7607)")]
    AsZero,
    #[error("BGP identifier 0.0.0.0 (RFC 6286)")]
    IdentifierZero,
    #[error("hold time of {0} s (RFC 4271 6.2)")]
    HoldTime(u16),
    #[error("optional parameter {0} is not known")]
    OptionalParameter(u8),
    #[error("OPEN is malformed: {0}")]
    Open(OpenFault),

    #[error("UPDATE: the length of the {0} reaches past the end of the message")]
    UpdateLengths(UpdateField),
    #[error("UPDATE: a prefix in the {0} is malformed")]
    Network(UpdateField),
    #[error("UPDATE: {name} appears more than once (RFC 7606 3g)")]
    RepeatedMultiprotocol { name: &'static str },
    #[error("UPDATE: {name} is malformed: {fault}")]
    Multiprotocol {
        name: &'static str,
        fault: MultiprotocolFault,
        /// The whole attribute: flags, code, length, value.
        attribute: Bytes,
    },
    #[error("UPDATE: well-known attribute {code} is not known")]
    UnrecognizedWellKnown {
        code: u8,
        /// The whole attribute.
        attribute: Bytes,
    },
    #[error("UPDATE: {0}, and no prefix that could be withdrawn (RFC 7606 5.2)")]
    NothingToWithdraw(super::attr::AttrError),

    #[error("NOTIFICATION without code and subcode")]
    NotificationLength,
    #[error("ROUTE-REFRESH of {length} octets")]
    RouteRefreshLength {
        length: usize,
        /// The message without its header.
        body: Bytes,
        rules: super::route_refresh::Rules,
    },
}

/// A part of an OPEN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenFault {
    #[error("it ends too early")]
    Short,
    #[error("the optional parameters do not fill their length")]
    ParametersLength,
    #[error("a capability reaches past its parameter")]
    CapabilityLength,
    #[error("capability {code} has {length} octets")]
    Capability { code: u8, length: usize },
}

/// A part of an UPDATE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UpdateField {
    #[error("withdrawn routes")]
    Withdrawn,
    #[error("path attributes")]
    Attributes,
    #[error("NLRI")]
    Nlri,
}

/// A part of MP_REACH_NLRI or MP_UNREACH_NLRI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MultiprotocolFault {
    #[error("it ends too early")]
    Short,
    #[error("a next hop of {0} octets")]
    NextHopLength(u8),
    #[error("a prefix is malformed")]
    Network,
}

impl Error {
    /// The NOTIFICATION for this error (RFC 4271 6, RFC 5492, RFC 7313).
    #[must_use]
    pub fn answer(&self) -> Notification {
        match self {
            Self::NotSynchronized => Notification::connection_not_synchronized(),
            Self::MessageLength { length, .. } | Self::HeaderLength { length, .. } => {
                Notification::bad_message_length(*length)
            }
            Self::MessageType(kind) => Notification::bad_message_type(*kind),
            Self::Version(_) => Notification::unsupported_version(),
            Self::AsZero => Notification::bad_peer_as(),
            Self::IdentifierZero => Notification::bad_identifier(),
            Self::HoldTime(_) => Notification::unacceptable_hold_time(),
            Self::OptionalParameter(_) => Notification::unsupported_optional_parameter(),
            Self::Open(_) => Notification::open_unspecific(),
            Self::UpdateLengths(_) | Self::RepeatedMultiprotocol { .. } | Self::NothingToWithdraw(_) => {
                Notification::malformed_attribute_list()
            }
            Self::Network(_) => Notification::invalid_network_field(),
            Self::Multiprotocol { attribute, .. } => Notification::optional_attribute(attribute.clone()),
            Self::UnrecognizedWellKnown { attribute, .. } => {
                Notification::unrecognized_well_known(attribute.clone())
            }
            // RFC 4271 6.1: the length of the header is what is wrong with it.
            Self::NotificationLength => Notification::bad_message_length(19),
            Self::RouteRefreshLength { length, body, rules } => match rules {
                super::route_refresh::Rules::Plain => Notification::bad_message_length(
                    u16::try_from(length.saturating_add(19)).unwrap_or(u16::MAX),
                ),
                super::route_refresh::Rules::Enhanced => Notification::route_refresh_length(
                    &super::framing::message(MessageType::RouteRefresh, body),
                ),
            },
        }
    }
}

impl From<Error> for Notification {
    fn from(error: Error) -> Self {
        error.answer()
    }
}
