//! Path attributes: one row per attribute in `TABLE`.
//!
//! ```text
//!  code | name | flags | accepted from | malformed (RFC 7606) | decode | encode
//! ```
//!
//! MP_REACH_NLRI and MP_UNREACH_NLRI carry prefixes and live in `update`; every other attribute is a row.

use std::net::{IpAddr, Ipv4Addr};

use bytes::{BufMut, Bytes, BytesMut};

use super::as_path as path;
use super::attr_values::{
    aggregator, as_path, as4_aggregator, as4_path, atomic_aggregate, cluster_list, communities,
    ext_communities, large_communities, local_pref, med, next_hop, origin, originator_id, put_aggregator,
    put_as_path, put_as4_aggregator, put_as4_path, put_atomic_aggregate, put_cluster_list, put_communities,
    put_ext_communities, put_large_communities, put_local_pref, put_med, put_next_hop, put_origin,
    put_originator_id,
};
use super::attrs::{Aggregator, AsPath, Attrs, ExtCommunity, LargeCommunity, NextHop, Origin, UnknownAttr};
use super::octets::{Octets, Short};
use super::update::{self, Carrier, Context};
use crate::types::{AsnWidth, Family, Prefix, SessionKind};

/// Not well-known.
pub const OPTIONAL: u8 = 0x80;
/// Passed on to other speakers.
pub const TRANSITIVE: u8 = 0x40;
/// Someone on the way did not know it.
pub const PARTIAL: u8 = 0x20;
/// The length has two octets.
pub const EXTENDED: u8 = 0x10;

/// A reserved code, where no attribute is meant.
pub const NO_ATTRIBUTE: u8 = 0;

pub const ORIGIN: u8 = 1;
pub const AS_PATH: u8 = 2;
pub const NEXT_HOP: u8 = 3;
pub const MULTI_EXIT_DISC: u8 = 4;
pub const LOCAL_PREF: u8 = 5;
pub const ATOMIC_AGGREGATE: u8 = 6;
pub const AGGREGATOR: u8 = 7;
pub const COMMUNITIES: u8 = 8;
pub const ORIGINATOR_ID: u8 = 9;
pub const CLUSTER_LIST: u8 = 10;
pub const MP_REACH_NLRI: u8 = 14;
pub const MP_UNREACH_NLRI: u8 = 15;
pub const EXTENDED_COMMUNITIES: u8 = 16;
pub const AS4_PATH: u8 = 17;
pub const AS4_AGGREGATOR: u8 = 18;
pub const LARGE_COMMUNITIES: u8 = 32;

/// LOCAL_PREF where none was given.
pub const DEFAULT_LOCAL_PREF: u32 = 100;

/// What a malformed attribute costs (RFC 7606 2), the mildest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Attribute discard: the route lives on without it. Prefixes: ignored one by one.
    Discard,
    /// Treat-as-withdraw: the routes of this UPDATE are gone.
    Withdraw,
}

/// A malformed attribute the session survived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{} {fault}: {}", place(*code, name), match action {
    Action::Discard => "discarded",
    Action::Withdraw => "treated as withdraw",
})]
pub struct AttrError {
    /// [`NO_ATTRIBUTE`] for the prefixes outside the attributes, and where it ends before its code.
    pub code: u8,
    pub name: &'static str,
    pub fault: AttrFault,
    pub action: Action,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AttrFault {
    #[error("has flags {0:#04x}")]
    Flags(u8),
    #[error("has {0} octets")]
    Length(usize),
    #[error("has an undefined value")]
    Value,
    #[error("has a malformed segment")]
    Segment,
    #[error("has a segment of a confederation this session is not in")]
    Confederation,
    #[error("names AS 0 (RFC 7607)")]
    AsZero,
    #[error("does not begin with the peer's AS")]
    FirstAs,
    #[error("reaches past the end of the attributes")]
    Overrun,
    #[error("appears again")]
    Repeated,
    #[error("is missing")]
    Missing,
    #[error("came from an external peer")]
    FromExternal,
    #[error("came from a speaker of 4-octet AS numbers")]
    FromNewSpeaker,
    #[error("is {0}, which can not be a next hop")]
    NextHop(IpAddr),
    #[error("is for {0}, which was not negotiated")]
    Family(Family),
    #[error("has {0} prefixes that are no destination")]
    NoDestination(usize),
}

/// How attributes are written for one kind of session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EncodeContext {
    pub asn_width: AsnWidth,
    pub session: SessionKind,
    /// [`Carrier::Fields`] writes NEXT_HOP; with MP_REACH_NLRI the next hop is in there.
    pub carrier: Carrier,
}

/// An attribute taken from a row of octets: header and value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tlv<'a> {
    pub(crate) flags: u8,
    pub(crate) code: u8,
    pub(crate) value: &'a [u8],
    /// Flags, code, length and value.
    pub(crate) whole: &'a [u8],
}

/// The attributes of one UPDATE as they are found.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub(super) origin: Option<Origin>,
    pub(super) as_path: Option<AsPath>,
    pub(super) next_hop: Option<Ipv4Addr>,
    pub(super) med: Option<u32>,
    pub(super) local_pref: Option<u32>,
    pub(super) atomic_aggregate: Option<()>,
    /// The ASN may be AS_TRANS.
    pub(super) aggregator: Option<Aggregator>,
    pub(super) communities: Vec<u32>,
    pub(super) ext_communities: Vec<ExtCommunity>,
    pub(super) large_communities: Vec<LargeCommunity>,
    pub(super) originator_id: Option<Ipv4Addr>,
    pub(super) cluster_list: Vec<Ipv4Addr>,
    pub(super) as4_path: Option<AsPath>,
    pub(super) as4_aggregator: Option<Aggregator>,
    pub(super) unknown: Vec<UnknownAttr>,
    /// One bit per code seen.
    seen: [u128; 2],
}

/// From whom an attribute is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Anyone,
    Internal,
    /// A speaker of 2-octet AS numbers (RFC 6793 4.1).
    OldSpeaker,
}

/// Whether a route has the attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carried {
    Yes,
    No,
}

/// One path attribute.
struct Row {
    code: u8,
    name: &'static str,
    /// Optional and Transitive bits.
    flags: u8,
    from: From,
    /// What a malformed value costs.
    malformed: Action,
    decode: fn(&[u8], &Context, &mut Draft) -> Result<(), AttrFault>,
    /// Writes the value.
    encode: fn(&Attrs, &EncodeContext, &mut BytesMut) -> Carried,
}

/// In the order of codes, which is the order they are sent in (RFC 4271 5).
#[rustfmt::skip]
const TABLE: &[Row] = &[
    // RFC 4271 5.1, RFC 7606 7.1-7.7
    Row { code: ORIGIN, name: "ORIGIN", flags: TRANSITIVE, from: From::Anyone, malformed: Action::Withdraw, decode: origin, encode: put_origin },
    Row { code: AS_PATH, name: "AS_PATH", flags: TRANSITIVE, from: From::Anyone, malformed: Action::Withdraw, decode: as_path, encode: put_as_path },
    Row { code: NEXT_HOP, name: "NEXT_HOP", flags: TRANSITIVE, from: From::Anyone, malformed: Action::Withdraw, decode: next_hop, encode: put_next_hop },
    Row { code: MULTI_EXIT_DISC, name: "MULTI_EXIT_DISC", flags: OPTIONAL, from: From::Anyone, malformed: Action::Withdraw, decode: med, encode: put_med },
    Row { code: LOCAL_PREF, name: "LOCAL_PREF", flags: TRANSITIVE, from: From::Internal, malformed: Action::Withdraw, decode: local_pref, encode: put_local_pref },
    Row { code: ATOMIC_AGGREGATE, name: "ATOMIC_AGGREGATE", flags: TRANSITIVE, from: From::Anyone, malformed: Action::Discard, decode: atomic_aggregate, encode: put_atomic_aggregate },
    Row { code: AGGREGATOR, name: "AGGREGATOR", flags: OPTIONAL | TRANSITIVE, from: From::Anyone, malformed: Action::Discard, decode: aggregator, encode: put_aggregator },
    // RFC 1997, RFC 7606 7.8
    Row { code: COMMUNITIES, name: "COMMUNITIES", flags: OPTIONAL | TRANSITIVE, from: From::Anyone, malformed: Action::Withdraw, decode: communities, encode: put_communities },
    // RFC 4456 8, RFC 7606 7.9-7.10
    Row { code: ORIGINATOR_ID, name: "ORIGINATOR_ID", flags: OPTIONAL, from: From::Internal, malformed: Action::Withdraw, decode: originator_id, encode: put_originator_id },
    Row { code: CLUSTER_LIST, name: "CLUSTER_LIST", flags: OPTIONAL, from: From::Internal, malformed: Action::Withdraw, decode: cluster_list, encode: put_cluster_list },
    // RFC 4360, RFC 7606 7.14
    Row { code: EXTENDED_COMMUNITIES, name: "EXTENDED_COMMUNITIES", flags: OPTIONAL | TRANSITIVE, from: From::Anyone, malformed: Action::Withdraw, decode: ext_communities, encode: put_ext_communities },
    // RFC 6793 6
    Row { code: AS4_PATH, name: "AS4_PATH", flags: OPTIONAL | TRANSITIVE, from: From::OldSpeaker, malformed: Action::Discard, decode: as4_path, encode: put_as4_path },
    Row { code: AS4_AGGREGATOR, name: "AS4_AGGREGATOR", flags: OPTIONAL | TRANSITIVE, from: From::OldSpeaker, malformed: Action::Discard, decode: as4_aggregator, encode: put_as4_aggregator },
    // RFC 8092 5
    Row { code: LARGE_COMMUNITIES, name: "LARGE_COMMUNITIES", flags: OPTIONAL | TRANSITIVE, from: From::Anyone, malformed: Action::Withdraw, decode: large_communities, encode: put_large_communities },
];

/// Name of an attribute as the standards write it.
#[must_use]
pub fn name(code: u8) -> &'static str {
    match code {
        MP_REACH_NLRI => "MP_REACH_NLRI",
        MP_UNREACH_NLRI => "MP_UNREACH_NLRI",
        _ => row(code).map_or("unknown attribute", |row| row.name),
    }
}

/// Writes every attribute of a route but MP_REACH_NLRI, in the order of their codes.
pub fn encode(attrs: &Attrs, context: &EncodeContext, out: &mut BytesMut) {
    let mut unknown = attrs.unknown.iter().peekable();
    for row in TABLE {
        while let Some(other) = unknown.next_if(|other| other.code < row.code) {
            put(other.flags, other.code, &other.value, out);
        }
        put_row(row, attrs, context, out);
    }
    for other in unknown {
        put(other.flags, other.code, &other.value, out);
    }
}

/// Each attribute of a route by itself, as flags, code, length and value, with 4-octet ASNs and with the
/// prefixes in MP_REACH_NLRI where `carrier` says so: how the API shows a path.
#[must_use]
pub fn encode_each(attrs: &Attrs, carrier: Carrier, family: Family, prefixes: &[Prefix]) -> Vec<Bytes> {
    let context = EncodeContext {
        asn_width: AsnWidth::Four,
        session: SessionKind::Internal,
        carrier,
    };
    let mut each = Vec::new();
    for row in TABLE {
        if row.code == LOCAL_PREF && attrs.local_pref.is_none() {
            continue;
        }
        let mut out = BytesMut::new();
        put_row(row, attrs, &context, &mut out);
        if !out.is_empty() {
            each.push((row.code, out.freeze()));
        }
    }
    if carrier == Carrier::MultiProtocol {
        let mut out = BytesMut::new();
        update::put_reach(family, &attrs.next_hop, prefixes, &mut out);
        each.push((MP_REACH_NLRI, out.freeze()));
    }
    for other in &attrs.unknown {
        let mut out = BytesMut::new();
        put(other.flags, other.code, &other.value, &mut out);
        each.push((other.code, out.freeze()));
    }
    each.sort_by_key(|(code, _)| *code);
    each.into_iter().map(|(_, tlv)| tlv).collect()
}

/// Cuts the next attribute off. `Err`: the length reaches past the end (RFC 7606 4).
pub(crate) fn next<'a>(octets: &mut Octets<'a>) -> Result<Tlv<'a>, Short> {
    let whole = octets.rest();
    let flags = octets.u8()?;
    let code = octets.u8()?;
    let length = if flags & EXTENDED == 0 {
        usize::from(octets.u8()?)
    } else {
        usize::from(octets.u16()?)
    };
    let value = octets.take(length)?.rest();
    let used = whole.len().saturating_sub(octets.len());
    Ok(Tlv {
        flags,
        code,
        value,
        whole: whole.get(..used).unwrap_or(whole),
    })
}

/// The Optional and Transitive bits an attribute must have.
pub(crate) const fn flags_conflict(flags: u8, expected: u8) -> bool {
    flags & (OPTIONAL | TRANSITIVE) != expected
}

/// What the table says about an attribute.
pub(crate) enum Outcome {
    Taken,
    Faulty(AttrError),
    /// Not in the table, and not optional: nothing can be said about the route (RFC 4271 6.3).
    UnrecognizedWellKnown,
}

impl Draft {
    /// Takes one attribute that is not one of the two multiprotocol ones.
    pub(crate) fn take(&mut self, tlv: &Tlv<'_>, context: &Context) -> Outcome {
        let row = row(tlv.code);
        let error = |fault, action| {
            Outcome::Faulty(AttrError {
                code: tlv.code,
                name: name(tlv.code),
                fault,
                action,
            })
        };
        // RFC 7606 3g: the first one counts.
        if self.was_seen(tlv.code) {
            return error(AttrFault::Repeated, Action::Discard);
        }
        let Some(row) = row else {
            return self.take_unknown(tlv);
        };
        let refused = match row.from {
            From::Anyone => None,
            From::Internal if context.session == SessionKind::Internal => None,
            // RFC 7606 7.5, 7.9, 7.10: whatever it says.
            From::Internal => Some(AttrFault::FromExternal),
            From::OldSpeaker if context.asn_width == AsnWidth::Two => None,
            From::OldSpeaker => Some(AttrFault::FromNewSpeaker),
        };
        if let Some(fault) = refused {
            return error(fault, Action::Discard);
        }
        // RFC 7606 3c: also where a malformed value would only be discarded.
        if flags_conflict(tlv.flags, row.flags) {
            return error(AttrFault::Flags(tlv.flags), Action::Withdraw);
        }
        match (row.decode)(tlv.value, context, self) {
            Ok(()) => Outcome::Taken,
            Err(fault) => error(fault, row.malformed),
        }
    }

    /// The attributes without a next hop, and what is wrong with them as a whole.
    pub(crate) fn finish(
        mut self,
        next_hop: NextHop,
        context: &Context,
        errors: &mut Vec<AttrError>,
    ) -> Option<Attrs> {
        let mut missing = |code: u8| {
            errors.push(AttrError {
                code,
                name: name(code),
                fault: AttrFault::Missing,
                action: Action::Withdraw,
            });
        };
        if self.origin.is_none() {
            missing(ORIGIN);
        }
        if self.as_path.is_none() {
            missing(AS_PATH);
        }
        let (origin, as_path) = (self.origin?, self.as_path.take()?);
        let (as_path, aggregator) = path::merge(
            as_path,
            self.as4_path.take(),
            self.aggregator,
            self.as4_aggregator,
        );
        if let Err(fault) = path::check_first(&as_path, context) {
            errors.push(AttrError {
                code: AS_PATH,
                name: name(AS_PATH),
                fault,
                action: Action::Withdraw,
            });
            return None;
        }
        self.unknown.sort_by_key(|other| other.code);
        Some(Attrs {
            origin,
            as_path,
            next_hop,
            med: self.med,
            local_pref: self.local_pref,
            atomic_aggregate: self.atomic_aggregate.is_some(),
            aggregator,
            communities: self.communities,
            ext_communities: self.ext_communities,
            large_communities: self.large_communities,
            originator_id: self.originator_id,
            cluster_list: self.cluster_list,
            unknown: self.unknown,
        })
    }

    fn take_unknown(&mut self, tlv: &Tlv<'_>) -> Outcome {
        if tlv.flags & OPTIONAL == 0 {
            return Outcome::UnrecognizedWellKnown;
        }
        // RFC 4271 5: optional and not transitive is quietly ignored.
        if tlv.flags & TRANSITIVE != 0 {
            self.unknown.push(UnknownAttr {
                flags: OPTIONAL | TRANSITIVE | PARTIAL,
                code: tlv.code,
                // A copy: a route must not keep a read buffer alive.
                value: Bytes::copy_from_slice(tlv.value),
            });
        }
        Outcome::Taken
    }

    /// Whether the code was here before; from now on it was.
    fn was_seen(&mut self, code: u8) -> bool {
        let [low, high] = &mut self.seen;
        let (word, bit) = if code < 128 {
            (low, code)
        } else {
            (high, code.saturating_sub(128))
        };
        let mask = 1_u128.checked_shl(u32::from(bit)).unwrap_or(0);
        let before = *word & mask != 0;
        *word |= mask;
        before
    }
}

fn place(code: u8, name: &str) -> String {
    match code {
        NO_ATTRIBUTE => name.to_owned(),
        code => format!("{name} ({code})"),
    }
}

fn row(code: u8) -> Option<&'static Row> {
    TABLE.iter().find(|row| row.code == code)
}

fn put_row(row: &Row, attrs: &Attrs, context: &EncodeContext, out: &mut BytesMut) {
    let start = out.len();
    out.put_slice(&[row.flags, row.code, 0]);
    match (row.encode)(attrs, context, out) {
        Carried::No => out.truncate(start),
        Carried::Yes => {
            let value = start.saturating_add(3);
            let length = out.len().saturating_sub(value);
            if let Ok(length) = u8::try_from(length) {
                if let Some(field) = out.get_mut(start.saturating_add(2)) {
                    *field = length;
                }
            } else {
                // Seldom: over 255 octets the length needs one octet more.
                let octets = out.split_off(value);
                out.truncate(start);
                put(row.flags, row.code, &octets, out);
            }
        }
    }
}

/// Header and value.
fn put(flags: u8, code: u8, value: &[u8], out: &mut BytesMut) {
    let flags = flags & !EXTENDED;
    if let Ok(length) = u8::try_from(value.len()) {
        out.put_slice(&[flags, code, length]);
    } else {
        out.put_slice(&[flags | EXTENDED, code]);
        out.put_u16(u16::try_from(value.len()).unwrap_or(u16::MAX));
    }
    out.put_slice(value);
}
