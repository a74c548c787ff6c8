//! Encoded messages that several peers read: the log of changes, and batches.

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;

use bytes::Bytes;

use super::PeerId;
use super::attrs::AttrsId;
use super::bits::Bits;
use super::export::global;
use super::shared::Shared;
use super::table::Table;
use crate::pack::{self, Audience, Chunk, Format, Item};
use crate::types::{Asn, Family, Prefix};
use crate::wire::attrs::NextHop;
use crate::wire::framing::HEADER;
use crate::wire::update::{self, Context, FirstAs};

/// What is kept for others and done at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Octets a follower may be behind before it loses the log.
    pub(crate) lag: usize,
    /// Octets of a batch that are kept for others to read.
    pub(crate) keep: usize,
    /// A change of more prefixes than this becomes a batch.
    pub(crate) big: usize,
    /// Prefixes, and octets, encoded at a time for one that catches up.
    pub(crate) slice: usize,
    pub(crate) slice_octets: usize,
    /// Prefixes that may be dirty before nobody joins a batch any more, beside 256 per buffer.
    pub(crate) dirty: usize,
    /// Octets of a buffer.
    pub(crate) chunk: usize,
}

impl Limits {
    pub(crate) const USUAL: Self = Self {
        lag: 4 << 20,
        keep: 8 << 20,
        big: 32 << 10,
        slice: 8 << 10,
        slice_octets: 256 << 10,
        dirty: 1024,
        chunk: 32 << 10,
    };
}

/// Changes, encoded once for all followers. A chunk goes when the last of them has read it.
#[derive(Debug, Default)]
pub(crate) struct Log {
    chunks: VecDeque<Unread>,
    /// The number of the first chunk.
    first: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Unread {
    chunk: Chunk,
    readers: usize,
}

/// Many prefixes, encoded on demand and once for all that read it.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) kind: Kind,
    pub(crate) items: Vec<Item>,
    /// Items encoded.
    pub(crate) at: usize,
    pub(crate) chunks: VecDeque<Chunk>,
    /// The number of the first chunk kept.
    pub(crate) base: usize,
    pub(crate) bytes: usize,
    /// What changed since the items were listed: not sent from here.
    pub(crate) dirty: Bits,
    /// Prefixes withdrawn by the items: nothing else keeps their numbers from being given to others.
    pub(crate) withdrawn: Bits,
    /// Where routes that are sent from here lead to, other than to this speaker, and to whom they go.
    leads: BTreeSet<(IpAddr, Audience)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The whole Adj-RIB-Out. Others may join as long as its beginning is kept.
    Table,
    Change,
}

impl Log {
    /// One more than the number of the last chunk.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.chunks.len() as u64
    }

    /// The number of the first chunk that somebody has not read.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// Octets held.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn push(&mut self, chunk: Chunk, readers: usize) {
        self.bytes += chunk.cost();
        self.chunks.push_back(Unread { chunk, readers });
        self.forget_read();
    }

    /// For one of the readers.
    pub(crate) fn read(&mut self, number: u64) -> Option<Chunk> {
        let unread = self.chunks.get_mut((number - self.first) as usize)?;
        unread.readers -= 1;
        let chunk = unread.chunk.clone();
        self.forget_read();
        Some(chunk)
    }

    /// One of the readers will not read on from `number`. Gives what it has not read.
    pub(crate) fn leave(&mut self, number: u64) -> Vec<Chunk> {
        let rest = self.chunks.range_mut((number - self.first) as usize..);
        let left = rest
            .map(|unread| {
                unread.readers -= 1;
                unread.chunk.clone()
            })
            .collect();
        self.forget_read();
        left
    }

    fn forget_read(&mut self) {
        while self.chunks.front().is_some_and(|unread| unread.readers == 0)
            && let Some(Unread { chunk, .. }) = self.chunks.pop_front()
        {
            self.first += 1;
            self.bytes -= chunk.cost();
        }
    }
}

impl Batch {
    /// The whole of what is announced, sorted.
    pub(crate) fn table(items: Vec<Item>, own: Option<NextHop>, shared: &Shared) -> Self {
        let alike = items.chunk_by(|a, b| (a.to, a.attrs) == (b.to, b.attrs));
        let leads = alike
            .map(|alike| (shared.attrs.get(alike[0].attrs).next_hop, alike[0].to))
            .filter(|(next_hop, _)| Some(*next_hop) != own)
            .map(|(next_hop, to)| (global(&next_hop), to));
        Self {
            leads: leads.collect(),
            ..Self::of(Kind::Table, items)
        }
    }

    /// A change, sorted. Only who is told of it now ever reads it.
    pub(crate) fn change(items: Vec<Item>) -> Self {
        Self::of(Kind::Change, items)
    }

    fn of(kind: Kind, items: Vec<Item>) -> Self {
        let mut withdrawn = Bits::default();
        for item in items.iter().filter(|item| item.attrs == AttrsId::NONE) {
            withdrawn.set(item.dest);
        }
        Self {
            kind,
            items,
            withdrawn,
            leads: BTreeSet::new(),
            at: 0,
            chunks: VecDeque::new(),
            base: 0,
            bytes: 0,
            dirty: Bits::default(),
        }
    }

    pub(crate) fn is_encoded(&self) -> bool {
        self.at == self.items.len()
    }

    /// A reader from the beginning would get the table as it was, and not much more to correct it.
    pub(crate) fn can_be_joined(&self, limits: Limits) -> bool {
        let few = self.dirty.count() as usize <= self.chunks.len() * 256 + limits.dirty;
        self.kind == Kind::Table && self.base == 0 && few
    }

    /// Whether it would send a peer routes that lead to the peer itself (RFC 4271 5.1.3). When they were listed, that
    /// peer was not there, or had another address.
    pub(crate) fn leads_back(&self, peer: PeerId, address: IpAddr) -> bool {
        let mut all = self.leads.iter();
        all.any(|(to, audience)| *to == address && audience.includes(peer))
    }

    /// Encodes the next chunk.
    pub(crate) fn encode(&mut self, format: Format, table: &Table, shared: &mut Shared) {
        let (dirty, attrs) = (&self.dirty, &shared.attrs);
        let (done, chunk) = pack::fill(
            &self.items[self.at..],
            format,
            &mut shared.scratch,
            |id| (id != AttrsId::NONE).then(|| attrs.get(id).as_ref()),
            |dest| (!dirty.holds(dest)).then(|| *table.prefix(dest)),
        );
        self.at += done;
        if let Some(chunk) = chunk {
            self.bytes += chunk.cost();
            self.chunks.push_back(chunk);
        }
        if self.is_encoded() {
            self.items = Vec::new();
            self.at = 0;
        }
    }
}

/// The prefixes in messages encoded here: the log is its own record of what a reader has missed.
pub(crate) fn prefixes(messages: &Bytes, format: Format) -> Vec<Prefix> {
    let context = Context {
        asn_width: format.asn_width,
        session: format.session,
        peer_asn: Asn::new(1).unwrap_or_else(|_| unreachable!("1 is not 0")),
        first_as: FirstAs::Any,
        local_address: None,
        families: vec![format.family],
        ipv6_next_hop: vec![Family::IPV4_UNICAST],
    };
    let mut all = Vec::new();
    let mut rest = messages.clone();
    while let Some(length) = rest.get(16..18) {
        let length = usize::from(length[0]) << 8 | usize::from(length[1]);
        let message = rest.split_to(length);
        let Ok(update) = update::decode(&message.slice(HEADER..), &context) else {
            unreachable!("what was encoded here can be decoded");
        };
        all.extend(update.withdrawn);
        all.extend(update.announced.into_iter().flat_map(|a| a.prefixes));
    }
    all
}
