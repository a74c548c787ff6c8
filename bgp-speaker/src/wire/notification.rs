//! NOTIFICATION (RFC 4271 4.5): codes, subcodes and the data that belongs to them.

use std::borrow::Cow;
use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use super::error::Error;
use super::framing::{HEADER, MAX_MESSAGE, MessageType, begin, end};
use super::octets::Octets;
use crate::types::Family;

/// Why a session ends, as one side tells the other. The numbers stay as they came: a peer may send some
/// that have no name here.
#[derive(Clone, PartialEq, Eq)]
pub struct Notification {
    pub code: u8,
    pub subcode: u8,
    pub data: Bytes,
}

/// Subcodes of Cease (RFC 4486, RFC 8538, RFC 9384).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cease {
    MaximumPrefixes,
    AdministrativeShutdown,
    PeerDeconfigured,
    AdministrativeReset,
    ConnectionRejected,
    OtherConfigurationChange,
    ConnectionCollisionResolution,
    OutOfResources,
    HardReset,
    BfdDown,
}

/// The state a message was not expected in (RFC 6608).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnexpectedIn {
    Other,
    OpenSent,
    OpenConfirm,
    Established,
}

/// The longest shutdown communication (RFC 9003 2).
pub const MAX_COMMUNICATION: usize = 255;

impl Cease {
    #[must_use]
    pub const fn subcode(self) -> u8 {
        match self {
            Self::MaximumPrefixes => 1,
            Self::AdministrativeShutdown => 2,
            Self::PeerDeconfigured => 3,
            Self::AdministrativeReset => 4,
            Self::ConnectionRejected => 5,
            Self::OtherConfigurationChange => 6,
            Self::ConnectionCollisionResolution => 7,
            Self::OutOfResources => 8,
            Self::HardReset => 9,
            Self::BfdDown => 10,
        }
    }
}

impl Notification {
    /// # Errors
    /// [`Error::NotificationLength`] without a code and a subcode.
    pub fn decode(body: &Bytes) -> Result<Self, Error> {
        let mut octets = Octets::new(body);
        let (Ok(code), Ok(subcode)) = (octets.u8(), octets.u8()) else {
            return Err(Error::NotificationLength);
        };
        Ok(Self {
            code,
            subcode,
            // A copy: a session keeps it for the status, and must not keep a read buffer alive with it.
            data: Bytes::copy_from_slice(octets.rest()),
        })
    }

    /// The message. Data that would not fit is cut.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(HEADER.saturating_add(2).saturating_add(self.data.len()));
        let start = begin(MessageType::Notification, &mut out);
        out.put_u8(self.code);
        out.put_u8(self.subcode);
        let room = MAX_MESSAGE.saturating_sub(HEADER).saturating_sub(2);
        out.put_slice(self.data.get(..room).unwrap_or(&self.data));
        end(start, &mut out);
        out.freeze()
    }

    /// Message Header Error / Connection Not Synchronized.
    #[must_use]
    pub fn connection_not_synchronized() -> Self {
        Self::new(1, 1, &[])
    }

    /// Message Header Error / Bad Message Length, with the length.
    #[must_use]
    pub fn bad_message_length(length: u16) -> Self {
        Self::new(1, 2, &length.to_be_bytes())
    }

    /// Message Header Error / Bad Message Type, with the type.
    #[must_use]
    pub fn bad_message_type(kind: u8) -> Self {
        Self::new(1, 3, &[kind])
    }

    /// OPEN Message Error / Unspecific: an optional parameter is known and malformed (RFC 4271 6.2).
    #[must_use]
    pub fn open_unspecific() -> Self {
        Self::new(2, 0, &[])
    }

    /// OPEN Message Error / Unsupported Version Number, with ours.
    #[must_use]
    pub fn unsupported_version() -> Self {
        Self::new(2, 1, &[0, 4])
    }

    /// OPEN Message Error / Bad Peer AS.
    #[must_use]
    pub fn bad_peer_as() -> Self {
        Self::new(2, 2, &[])
    }

    /// OPEN Message Error / Bad BGP Identifier.
    #[must_use]
    pub fn bad_identifier() -> Self {
        Self::new(2, 3, &[])
    }

    /// OPEN Message Error / Unsupported Optional Parameter.
    #[must_use]
    pub fn unsupported_optional_parameter() -> Self {
        Self::new(2, 4, &[])
    }

    /// OPEN Message Error / Unacceptable Hold Time.
    #[must_use]
    pub fn unacceptable_hold_time() -> Self {
        Self::new(2, 6, &[])
    }

    /// OPEN Message Error / Unsupported Capability, with the capabilities we require (RFC 5492 5).
    #[must_use]
    pub fn unsupported_capability(required: &[super::Capability]) -> Self {
        let mut data = BytesMut::new();
        for capability in required {
            capability.encode(&mut data);
        }
        Self::new(2, 7, &data)
    }

    /// UPDATE Message Error / Malformed Attribute List.
    #[must_use]
    pub fn malformed_attribute_list() -> Self {
        Self::new(3, 1, &[])
    }

    /// UPDATE Message Error / Unrecognized Well-known Attribute, with the attribute.
    #[must_use]
    pub fn unrecognized_well_known(attribute: Bytes) -> Self {
        Self {
            code: 3,
            subcode: 2,
            data: attribute,
        }
    }

    /// UPDATE Message Error / Optional Attribute Error, with the attribute.
    #[must_use]
    pub fn optional_attribute(attribute: Bytes) -> Self {
        Self {
            code: 3,
            subcode: 9,
            data: attribute,
        }
    }

    /// UPDATE Message Error / Invalid Network Field.
    #[must_use]
    pub fn invalid_network_field() -> Self {
        Self::new(3, 10, &[])
    }

    /// Hold Timer Expired.
    #[must_use]
    pub fn hold_timer_expired() -> Self {
        Self::new(4, 0, &[])
    }

    /// Finite State Machine Error (RFC 6608), with the type of the message.
    #[must_use]
    pub fn unexpected_message(state: UnexpectedIn, kind: MessageType) -> Self {
        let subcode = match state {
            UnexpectedIn::Other => 0,
            UnexpectedIn::OpenSent => 1,
            UnexpectedIn::OpenConfirm => 2,
            UnexpectedIn::Established => 3,
        };
        Self::new(5, subcode, &[kind.code()])
    }

    /// Cease (RFC 4486).
    #[must_use]
    pub fn cease(why: Cease) -> Self {
        Self::new(6, why.subcode(), &[])
    }

    /// Cease with words for the people on the other side (RFC 9003). They are cut at a character where they
    /// have more than [`MAX_COMMUNICATION`] octets.
    #[must_use]
    pub fn cease_with_text(why: Cease, text: &str) -> Self {
        let text = text
            .get(..text.floor_char_boundary(MAX_COMMUNICATION))
            .unwrap_or("");
        if text.is_empty() {
            return Self::cease(why);
        }
        let mut data = BytesMut::with_capacity(text.len().saturating_add(1));
        data.put_u8(u8::try_from(text.len()).unwrap_or(u8::MAX));
        data.put_slice(text.as_bytes());
        Self {
            code: 6,
            subcode: why.subcode(),
            data: data.freeze(),
        }
    }

    /// Cease / Maximum Number of Prefixes Reached, with the limit (RFC 4486 4).
    #[must_use]
    pub fn maximum_prefixes(family: Family, limit: u32) -> Self {
        let mut data = BytesMut::with_capacity(7);
        data.put_u16(family.afi);
        data.put_u8(family.safi);
        data.put_u32(limit);
        Self::new(6, 1, &data)
    }

    /// Cease / Hard Reset: the peer flushes our routes even where it would have kept them (RFC 8538 3).
    #[must_use]
    pub fn hard_reset(inner: &Self) -> Self {
        let mut data = BytesMut::with_capacity(inner.data.len().saturating_add(2));
        data.put_u8(inner.code);
        data.put_u8(inner.subcode);
        data.put_slice(&inner.data);
        Self {
            code: 6,
            subcode: Cease::HardReset.subcode(),
            data: data.freeze(),
        }
    }

    /// ROUTE-REFRESH Message Error / Invalid Message Length, with the message (RFC 7313 5).
    #[must_use]
    pub fn route_refresh_length(message: &[u8]) -> Self {
        Self::new(7, 1, message)
    }

    /// Whether the peer flushes our routes on this one, graceful restart or not (RFC 8538 4).
    #[must_use]
    pub fn is_hard_reset(&self) -> bool {
        self.code == 6 && self.subcode == Cease::HardReset.subcode()
    }

    /// What a Hard Reset carries; itself otherwise.
    #[must_use]
    pub fn inner(&self) -> Cow<'_, Self> {
        if !self.is_hard_reset() {
            return Cow::Borrowed(self);
        }
        match Self::decode(&self.data) {
            Ok(inner) => Cow::Owned(inner),
            // RFC 8538 3.1 asks for both octets; without them there is just the reset.
            Err(_) => Cow::Borrowed(self),
        }
    }

    /// The words of an administrative shutdown or reset (RFC 9003), in a hard reset too. Octets that are no
    /// UTF-8 become replacement characters and control characters are dropped: the text goes to a terminal.
    #[must_use]
    pub fn communication(&self) -> Option<String> {
        let inner = self.inner();
        let carries = inner.code == 6
            && (inner.subcode == Cease::AdministrativeShutdown.subcode()
                || inner.subcode == Cease::AdministrativeReset.subcode());
        if !carries {
            return None;
        }
        let mut data = Octets::new(&inner.data);
        let length = data.u8().ok()?;
        let text = data.take(length).ok()?;
        let text: String = String::from_utf8_lossy(text.rest())
            .chars()
            .filter(|c| !c.is_control())
            .collect();
        (!text.is_empty()).then_some(text)
    }

    /// Name of the code, as the standards write it.
    #[must_use]
    pub const fn code_name(&self) -> &'static str {
        match self.code {
            1 => "Message Header Error",
            2 => "OPEN Message Error",
            3 => "UPDATE Message Error",
            4 => "Hold Timer Expired",
            5 => "Finite State Machine Error",
            6 => "Cease",
            7 => "ROUTE-REFRESH Message Error",
            8 => "Send Hold Timer Expired",
            _ => "unknown error",
        }
    }

    /// Name of the subcode, as the standards write it; `None` for 0 and those without a name.
    #[must_use]
    pub const fn subcode_name(&self) -> Option<&'static str> {
        Some(match (self.code, self.subcode) {
            (1, 1) => "Connection Not Synchronized",
            (1, 2) => "Bad Message Length",
            (1, 3) => "Bad Message Type",
            (2, 1) => "Unsupported Version Number",
            (2, 2) => "Bad Peer AS",
            (2, 3) => "Bad BGP Identifier",
            (2, 4) => "Unsupported Optional Parameter",
            (2, 6) => "Unacceptable Hold Time",
            (2, 7) => "Unsupported Capability",
            (2, 11) => "Role Mismatch",
            (3, 1) => "Malformed Attribute List",
            (3, 2) => "Unrecognized Well-known Attribute",
            (3, 3) => "Missing Well-known Attribute",
            (3, 4) => "Attribute Flags Error",
            (3, 5) => "Attribute Length Error",
            (3, 6) => "Invalid ORIGIN Attribute",
            (3, 8) => "Invalid NEXT_HOP Attribute",
            (3, 9) => "Optional Attribute Error",
            (3, 10) => "Invalid Network Field",
            (3, 11) => "Malformed AS_PATH",
            (5, 1) => "Receive Unexpected Message in OpenSent State",
            (5, 2) => "Receive Unexpected Message in OpenConfirm State",
            (5, 3) => "Receive Unexpected Message in Established State",
            (6, 1) => "Maximum Number of Prefixes Reached",
            (6, 2) => "Administrative Shutdown",
            (6, 3) => "Peer De-configured",
            (6, 4) => "Administrative Reset",
            (6, 5) => "Connection Rejected",
            (6, 6) => "Other Configuration Change",
            (6, 7) => "Connection Collision Resolution",
            (6, 8) => "Out of Resources",
            (6, 9) => "Hard Reset",
            (6, 10) => "BFD Down",
            (7, 1) => "Invalid Message Length",
            _ => return None,
        })
    }

    fn new(code: u8, subcode: u8, data: &[u8]) -> Self {
        Self {
            code,
            subcode,
            data: Bytes::copy_from_slice(data),
        }
    }
}

impl fmt::Display for Notification {
    /// `Cease / Hard Reset (Cease / Administrative Shutdown: "maintenance")`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code_name())?;
        match (self.subcode_name(), self.subcode) {
            (Some(name), _) => write!(f, " / {name}")?,
            (None, 0) => {}
            (None, other) => write!(f, " / {other}")?,
        }
        if let Cow::Owned(inner) = self.inner() {
            // One level only: a hard reset inside a hard reset has no meaning and could be 2000 deep.
            write!(f, " ({}", inner.code_name())?;
            if let Some(name) = inner.subcode_name() {
                write!(f, " / {name}")?;
            }
            f.write_str(")")?;
        }
        match self.communication() {
            Some(text) => write!(f, ": {text:?}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} {self} {:02x?}", self.code, self.subcode, &*self.data)
    }
}
