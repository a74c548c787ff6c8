//! The message header (RFC 4271 4.1) and the cutting of a stream into messages.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::error::Error;
use super::octets::Octets;

/// Octets of the header: marker, length, type.
pub const HEADER: usize = 19;

/// The longest message without RFC 8654.
pub const MAX_MESSAGE: usize = 4096;

/// The longest message where both sides offered RFC 8654.
pub const MAX_EXTENDED_MESSAGE: usize = 65535;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MessageType {
    Open,
    Update,
    Notification,
    Keepalive,
    RouteRefresh,
}

impl MessageType {
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Open => 1,
            Self::Update => 2,
            Self::Notification => 3,
            Self::Keepalive => 4,
            Self::RouteRefresh => 5,
        }
    }

    fn from_code(code: u8) -> Result<Self, Error> {
        match code {
            1 => Ok(Self::Open),
            2 => Ok(Self::Update),
            3 => Ok(Self::Notification),
            4 => Ok(Self::Keepalive),
            5 => Ok(Self::RouteRefresh),
            other => Err(Error::MessageType(other)),
        }
    }
}

impl fmt::Display for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "OPEN",
            Self::Update => "UPDATE",
            Self::Notification => "NOTIFICATION",
            Self::Keepalive => "KEEPALIVE",
            Self::RouteRefresh => "ROUTE-REFRESH",
        })
    }
}

/// One whole message: its type and what follows the header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: MessageType,
    pub body: Bytes,
}

/// Cuts a stream into messages. Push what was read, then take messages until there is none.
///
/// Holds at most one unfinished message besides what was pushed last. Whole messages inside one pushed
/// buffer are not copied.
#[derive(Debug)]
pub struct Framer {
    /// A message that began in an earlier buffer.
    partial: BytesMut,
    /// What was pushed and not taken yet.
    current: Bytes,
    limit: usize,
}

impl Default for Framer {
    fn default() -> Self {
        Self::new()
    }
}

impl Framer {
    #[must_use]
    pub fn new() -> Self {
        Self {
            partial: BytesMut::new(),
            current: Bytes::new(),
            limit: MAX_MESSAGE,
        }
    }

    /// [`MAX_MESSAGE`] at first, [`MAX_EXTENDED_MESSAGE`] once both OPENs offered it (RFC 8654 4).
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    pub fn push(&mut self, bytes: Bytes) {
        if self.current.is_empty() {
            self.current = bytes;
        } else {
            let mut joined = BytesMut::with_capacity(self.current.len().saturating_add(bytes.len()));
            joined.extend_from_slice(&self.current);
            joined.extend_from_slice(&bytes);
            self.current = joined.freeze();
        }
    }

    /// The next whole message, or `None` until more is pushed.
    ///
    /// # Errors
    /// RFC 4271 6.1. The stream is of no use afterwards.
    #[expect(
        clippy::should_implement_trait,
        reason = "None is not the end: more can be pushed"
    )]
    pub fn next(&mut self) -> Result<Option<Frame>, Error> {
        if self.partial.is_empty() {
            let Some((kind, length)) = self.header(&self.current)? else {
                self.keep_rest();
                return Ok(None);
            };
            if self.current.len() < length {
                self.keep_rest();
                return Ok(None);
            }
            let mut body = self.current.split_to(length);
            body.advance(HEADER);
            return Ok(Some(Frame { kind, body }));
        }
        self.fill(HEADER);
        let Some((kind, length)) = self.header(&self.partial)? else {
            return Ok(None);
        };
        self.fill(length);
        if self.partial.len() < length {
            return Ok(None);
        }
        let mut body = self.partial.split_to(length).freeze();
        body.advance(HEADER);
        Ok(Some(Frame { kind, body }))
    }

    /// Moves octets of `current` until `partial` has `length`.
    fn fill(&mut self, length: usize) {
        let missing = length.saturating_sub(self.partial.len()).min(self.current.len());
        self.partial.extend_from_slice(&self.current.split_to(missing));
    }

    fn keep_rest(&mut self) {
        self.partial.extend_from_slice(&self.current);
        self.current = Bytes::new();
    }

    /// Type and whole length of the message that begins here; `None` if the header is not whole yet.
    fn header(&self, octets: &[u8]) -> Result<Option<(MessageType, usize)>, Error> {
        let mut octets = Octets::new(octets);
        let (Ok(marker), Ok(length), Ok(code)) = (octets.array::<16>(), octets.u16(), octets.u8()) else {
            return Ok(None);
        };
        if marker != [0xff; 16] {
            return Err(Error::NotSynchronized);
        }
        let whole = usize::from(length);
        if !(HEADER..=self.limit).contains(&whole) {
            return Err(Error::HeaderLength {
                length,
                limit: self.limit,
            });
        }
        let kind = MessageType::from_code(code)?;
        // RFC 4271 6.1; RFC 8654 4: OPEN and KEEPALIVE never grow. RFC 7313 5 judges ROUTE-REFRESH itself.
        let fits = match kind {
            MessageType::Open => (29..=MAX_MESSAGE).contains(&whole),
            MessageType::Update => whole >= 23,
            MessageType::Notification => whole >= 21,
            MessageType::Keepalive => whole == HEADER,
            MessageType::RouteRefresh => true,
        };
        if fits {
            Ok(Some((kind, whole)))
        } else {
            Err(Error::MessageLength { kind, length })
        }
    }
}

/// Begins a message; [`end`] writes its length. Returns where it began.
pub(crate) fn begin(kind: MessageType, out: &mut BytesMut) -> usize {
    let start = out.len();
    out.put_slice(&[0xff; 16]);
    out.put_u16(0);
    out.put_u8(kind.code());
    start
}

/// Ends the message that began at `start`: everything after it is its body.
pub(crate) fn end(start: usize, out: &mut BytesMut) {
    let length = u16::try_from(out.len().saturating_sub(start)).unwrap_or(u16::MAX);
    put_u16_at(start.saturating_add(16), length, out);
}

/// Overwrites two octets written before.
pub(crate) fn put_u16_at(at: usize, value: u16, out: &mut BytesMut) {
    if let Some(field) = out.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<2>) {
        *field = value.to_be_bytes();
    }
}

/// A whole message around a body.
pub(crate) fn message(kind: MessageType, body: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(HEADER.saturating_add(body.len()));
    let start = begin(kind, &mut out);
    out.put_slice(body);
    end(start, &mut out);
    out.freeze()
}
