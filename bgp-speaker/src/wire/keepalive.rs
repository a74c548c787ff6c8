//! KEEPALIVE (RFC 4271 4.4): a header and nothing else.

use bytes::Bytes;

use super::framing::{MessageType, message};

/// The message.
#[must_use]
pub fn encode() -> Bytes {
    message(MessageType::Keepalive, &[])
}
