//! Routes to octets.

use std::net::IpAddr;

use bytes::{BufMut, Bytes, BytesMut};

use super::{Announce, AttrsTooLong, Carrier};
use crate::types::{Family, Prefix};
use crate::wire::attr::{self, MP_REACH_NLRI, MP_UNREACH_NLRI, OPTIONAL};
use crate::wire::attrs::NextHop;
use crate::wire::framing::{HEADER, MAX_MESSAGE, MessageType, begin, end, put_u16_at};
use crate::wire::nlri;

/// Writes one UPDATE with as many of `prefixes` as fit and says how many; call again with the others.
///
/// # Errors
/// [`AttrsTooLong`] where not even one fits.
pub fn encode_announce(
    announce: &Announce<'_>,
    prefixes: &[Prefix],
    out: &mut BytesMut,
) -> Result<usize, AttrsTooLong> {
    let start = begin(MessageType::Update, out);
    out.put_u16(0);
    let length = out.len();
    out.put_u16(0);
    let taken = match Carrier::of(announce.family, announce.next_hop) {
        Carrier::Fields => {
            out.put_slice(announce.attributes);
            put_length(length, out);
            put_prefixes(prefixes, start.saturating_add(announce.max_message), out)
        }
        Carrier::MultiProtocol => {
            // RFC 7606 5.1: first, so that its prefixes are found whatever follows.
            let limit = start
                .saturating_add(announce.max_message)
                .saturating_sub(announce.attributes.len());
            let head = put_reach_head(announce.family, announce.next_hop, out);
            let taken = put_prefixes(prefixes, limit, out);
            put_length(head, out);
            out.put_slice(announce.attributes);
            put_length(length, out);
            taken
        }
    };
    if taken == 0 && !prefixes.is_empty() {
        out.truncate(start);
        return Err(AttrsTooLong {
            attributes: announce.attributes.len(),
            max_message: announce.max_message,
        });
    }
    end(start, out);
    Ok(taken)
}

/// Writes one UPDATE that withdraws as many of `prefixes` as fit and says how many.
pub fn encode_withdraw(
    family: Family,
    carrier: Carrier,
    max_message: usize,
    prefixes: &[Prefix],
    out: &mut BytesMut,
) -> usize {
    let start = begin(MessageType::Update, out);
    let length = out.len();
    out.put_u16(0);
    let limit = start.saturating_add(max_message);
    let taken = match carrier {
        Carrier::Fields => {
            let taken = put_prefixes(prefixes, limit.saturating_sub(2), out);
            put_length(length, out);
            out.put_u16(0);
            taken
        }
        Carrier::MultiProtocol => {
            let total = out.len();
            out.put_u16(0);
            let head = put_unreach_head(family, out);
            let taken = put_prefixes(prefixes, limit, out);
            put_length(head, out);
            put_length(total, out);
            taken
        }
    };
    end(start, out);
    taken
}

/// The End-of-RIB marker of a family (RFC 4724 2).
#[must_use]
pub fn encode_end_of_rib(family: Family) -> Bytes {
    let mut out = BytesMut::with_capacity(HEADER.saturating_add(11));
    let carrier = if family == Family::IPV4_UNICAST {
        Carrier::Fields
    } else {
        Carrier::MultiProtocol
    };
    encode_withdraw(family, carrier, MAX_MESSAGE, &[], &mut out);
    out.freeze()
}

/// MP_REACH_NLRI by itself.
pub(crate) fn put_reach(family: Family, next_hop: &NextHop, prefixes: &[Prefix], out: &mut BytesMut) {
    let head = put_reach_head(family, next_hop, out);
    put_prefixes(prefixes, usize::from(u16::MAX), out);
    put_length(head, out);
}

/// Everything of MP_REACH_NLRI before its prefixes; gives the place of its length.
fn put_reach_head(family: Family, next_hop: &NextHop, out: &mut BytesMut) -> usize {
    out.put_slice(&[OPTIONAL | attr::EXTENDED, MP_REACH_NLRI]);
    let length = out.len();
    out.put_u16(0);
    out.put_u16(family.afi);
    out.put_u8(family.safi);
    match next_hop {
        NextHop::Ip(IpAddr::V4(address)) => {
            out.put_u8(4);
            out.put_slice(&address.octets());
        }
        NextHop::Ip(IpAddr::V6(address)) => {
            out.put_u8(16);
            out.put_slice(&address.octets());
        }
        NextHop::V6WithLinkLocal(global, local) => {
            out.put_u8(32);
            out.put_slice(&global.octets());
            out.put_slice(&local.octets());
        }
    }
    out.put_u8(0);
    length
}

fn put_unreach_head(family: Family, out: &mut BytesMut) -> usize {
    out.put_slice(&[OPTIONAL | attr::EXTENDED, MP_UNREACH_NLRI]);
    let length = out.len();
    out.put_u16(0);
    out.put_u16(family.afi);
    out.put_u8(family.safi);
    length
}

/// Writes prefixes as long as `out` stays within `limit`; says how many.
fn put_prefixes(prefixes: &[Prefix], limit: usize, out: &mut BytesMut) -> usize {
    // One prefix more than fits: `nlri::encode` takes back what it does not need.
    let most = prefixes.len().saturating_add(1).saturating_mul(17);
    out.reserve(limit.saturating_sub(out.len()).saturating_add(17).min(most));
    let mut room = limit.saturating_sub(out.len());
    let mut taken: usize = 0;
    for prefix in prefixes {
        let Some(left) = room.checked_sub(nlri::encoded_len(prefix)) else {
            break;
        };
        room = left;
        nlri::encode(prefix, out);
        taken = taken.saturating_add(1);
    }
    taken
}

/// Writes the two octets at `at`: how many follow them.
fn put_length(at: usize, out: &mut BytesMut) {
    let length = out.len().saturating_sub(at).saturating_sub(2);
    put_u16_at(at, u16::try_from(length).unwrap_or(u16::MAX), out);
}
