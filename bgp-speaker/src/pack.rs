//! Routes into UPDATEs: as many prefixes per message as fit, one attribute block per distinct set.
//!
//! Work is a slice of [`Item`]s sorted so that what can share a message stands together. [`fill`] encodes from
//! its front until a buffer is full; the buffer is then shared by every peer of the kind.

use bytes::{Bytes, BytesMut};

use crate::rib::PeerId;
use crate::rib::attrs::AttrsId;
use crate::types::{AsnWidth, Family, Prefix, SessionKind};
use crate::wire::attr::{self, EncodeContext};
use crate::wire::attrs::Attrs;
use crate::wire::update::{self, Announce, Carrier};

/// One prefix to announce, or to withdraw where `attrs` is none.
///
/// The order is the order of encoding: what has the same receivers together, withdrawals first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Item {
    pub(crate) to: Audience,
    pub(crate) attrs: AttrsId,
    pub(crate) dest: u32,
}

/// Who gets a message among the peers of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Audience {
    /// This one alone.
    Only(PeerId),
    /// All but the one the routes came from and the one they lead to.
    Except(PeerId, PeerId),
}

impl Audience {
    pub(crate) fn includes(self, peer: PeerId) -> bool {
        match self {
            Self::Only(one) => one == peer,
            Self::Except(one, other) => one != peer && other != peer,
        }
    }
}

/// Whole messages for one audience.
#[derive(Debug, Clone)]
pub(crate) struct Chunk {
    pub(crate) to: Audience,
    pub(crate) bytes: Bytes,
    pub(crate) messages: u32,
}

impl Chunk {
    /// Octets it takes in a queue.
    pub(crate) fn cost(&self) -> usize {
        self.bytes.len() + size_of::<Self>()
    }
}

/// What of a session decides the encoding.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Format {
    pub(crate) family: Family,
    pub(crate) session: SessionKind,
    pub(crate) asn_width: AsnWidth,
    pub(crate) max_message: usize,
}

/// Buffers kept from one use to the next.
#[derive(Debug)]
pub(crate) struct Scratch {
    /// A chunk is complete when it has so many octets.
    pub(crate) chunk: usize,
    pub(crate) buffer: BytesMut,
    attributes: BytesMut,
    prefixes: Vec<Prefix>,
    /// For each of `prefixes`: how many items are done with it.
    done: Vec<usize>,
}

impl Scratch {
    pub(crate) fn new(chunk: usize) -> Self {
        Self {
            chunk,
            buffer: BytesMut::new(),
            attributes: BytesMut::new(),
            prefixes: Vec::new(),
            done: Vec::new(),
        }
    }

    /// What was encoded. Little is copied: as a part of the buffer it would keep all of it in memory for as long
    /// as some peer has not taken it.
    fn take(&mut self) -> Bytes {
        if self.buffer.len() < self.chunk / 2 {
            let bytes = Bytes::copy_from_slice(&self.buffer);
            self.buffer.clear();
            bytes
        } else {
            self.buffer.split().freeze()
        }
    }
}

impl Format {
    /// The attributes alone, as [`update::encode_announce`] wants them.
    fn attributes(&self, attrs: &Attrs, out: &mut BytesMut) {
        let context = EncodeContext {
            asn_width: self.asn_width,
            session: self.session,
            carrier: Carrier::of(self.family, &attrs.next_hop),
        };
        out.clear();
        attr::encode(attrs, &context, out);
    }

    /// Whether a message with these attributes has room for the longest prefix.
    pub(crate) fn fits(&self, attrs: &Attrs, scratch: &mut Scratch) -> bool {
        let longest = match self.family {
            Family::IPV4_UNICAST => Prefix::V4 { bits: 0, len: 32 },
            _ => Prefix::V6 {
                bits: [0; 16],
                len: 128,
            },
        };
        self.attributes(attrs, &mut scratch.attributes);
        let announce = self.announce(&scratch.attributes, attrs);
        let before = scratch.buffer.len();
        let fits = update::encode_announce(&announce, &[longest], &mut scratch.buffer).is_ok();
        scratch.buffer.truncate(before);
        fits
    }

    fn announce<'a>(&self, attributes: &'a [u8], attrs: &'a Attrs) -> Announce<'a> {
        Announce {
            family: self.family,
            attributes,
            next_hop: &attrs.next_hop,
            max_message: self.max_message,
        }
    }
}

/// Encodes from the front of `work` into one chunk: until it is full, the audience changes or the work ends.
/// Gives the items done with, at least one where there is one; `None` for the chunk if all were skipped.
pub(crate) fn fill<'a>(
    work: &[Item],
    format: Format,
    scratch: &mut Scratch,
    attrs_of: impl Fn(AttrsId) -> Option<&'a Attrs>,
    prefix_of: impl Fn(u32) -> Option<Prefix>,
) -> (usize, Option<Chunk>) {
    let Some(&Item { to, .. }) = work.first() else {
        return (0, None);
    };
    let (mut at, mut messages) = (0, 0);
    if scratch.buffer.capacity() < scratch.chunk / 4 {
        scratch.buffer.reserve(2 * scratch.chunk);
    }
    while let Some(&Item { attrs, .. }) = work.get(at).filter(|item| item.to == to) {
        if scratch.buffer.len() >= scratch.chunk {
            break;
        }
        gather(&work[at..], format, scratch, &prefix_of);
        let ended = work
            .get(at + scratch.done.last().map_or(0, |d| *d))
            .is_none_or(|next| next.to != to || next.attrs != attrs);
        if scratch.prefixes.is_empty() {
            // All were skipped; their attributes may be gone.
            at += scratch.done.last().copied().unwrap_or(1);
            continue;
        }
        let taken = encode(attrs_of(attrs), format, scratch, ended, &mut messages);
        at += scratch.done[taken - 1];
    }
    let chunk = (messages > 0).then(|| Chunk {
        to,
        bytes: scratch.take(),
        messages,
    });
    (at, chunk)
}

/// Collects prefixes of the run at the front of `work`, enough for a chunk.
fn gather(work: &[Item], format: Format, scratch: &mut Scratch, prefix_of: &impl Fn(u32) -> Option<Prefix>) {
    // A prefix takes 4 octets (a /24) or more, but for few.
    let enough = scratch.chunk.max(format.max_message) / 4;
    let Some(&Item { to, attrs, .. }) = work.first() else {
        return;
    };
    scratch.prefixes.clear();
    scratch.done.clear();
    for (number, item) in (1..).zip(work) {
        if item.to != to || item.attrs != attrs || scratch.prefixes.len() >= enough {
            break;
        }
        match (prefix_of(item.dest), scratch.done.last_mut()) {
            (Some(prefix), _) => {
                scratch.prefixes.push(prefix);
                scratch.done.push(number);
            }
            // Skipped ones go with the one before.
            (None, Some(last)) => *last = number,
            (None, None) => {}
        }
    }
    if scratch.prefixes.is_empty() {
        let skipped = work.iter().take_while(|i| i.to == to && i.attrs == attrs);
        scratch.done.push(skipped.count().max(1));
    }
}

/// Messages until the chunk is full. A message that could take more of the same run is left for the next
/// chunk, unless the run has ended.
fn encode(
    attrs: Option<&Attrs>,
    format: Format,
    scratch: &mut Scratch,
    ended: bool,
    messages: &mut u32,
) -> usize {
    let mut taken = 0;
    if let Some(attrs) = attrs {
        format.attributes(attrs, &mut scratch.attributes);
    }
    while taken < scratch.prefixes.len() && scratch.buffer.len() < scratch.chunk {
        let left = &scratch.prefixes[taken..];
        let start = scratch.buffer.len();
        let more = match attrs {
            Some(attrs) => {
                let announce = format.announce(&scratch.attributes, attrs);
                // What does not fit was refused before it became an item.
                update::encode_announce(&announce, left, &mut scratch.buffer).unwrap_or(left.len())
            }
            None => {
                let carrier = match format.family {
                    Family::IPV4_UNICAST => Carrier::Fields,
                    _ => Carrier::MultiProtocol,
                };
                update::encode_withdraw(
                    format.family,
                    carrier,
                    format.max_message,
                    left,
                    &mut scratch.buffer,
                )
            }
        };
        if more == left.len() && !ended && taken > 0 {
            scratch.buffer.truncate(start);
            break;
        }
        taken += more;
        *messages += 1;
    }
    taken
}
