//! Prefixes as a length in bits and just the octets needed (RFC 4271 4.3, RFC 4760 5).

use bytes::{BufMut, BytesMut};

use super::octets::Octets;
use crate::types::Prefix;

/// A length over the family's, or fewer octets than the length needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// The families whose prefixes can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Width {
    V4,
    V6,
}

/// Decodes every prefix and gives those that can be a destination; the rest are counted.
///
/// RFC 4271 6.3: a prefix that is no destination (multicast, link-local) is ignored by itself.
pub(crate) fn decode(width: Width, octets: &[u8], into: &mut Vec<Prefix>) -> Result<usize, Malformed> {
    // Mostly 4 octets of an IPv4 prefix and 9 to 17 of an IPv6 one.
    into.reserve(match width {
        Width::V4 => octets.len() / 4,
        Width::V6 => octets.len() / 9,
    });
    match width {
        Width::V4 => decode_v4(octets, into),
        Width::V6 => decode_v6(octets, into),
    }
}

/// Length and octets.
pub fn encode(prefix: &Prefix, out: &mut BytesMut) {
    match prefix {
        Prefix::V4 { bits, len } => {
            let [a, b, c, d] = bits.to_be_bytes();
            put(*len, &[*len, a, b, c, d], out);
        }
        Prefix::V6 { bits, len } => {
            let mut all = [0; 17];
            let [first, rest @ ..] = &mut all;
            (*first, *rest) = (*len, *bits);
            put(*len, &all, out);
        }
    }
}

/// Octets [`encode`] writes.
#[must_use]
pub fn encoded_len(prefix: &Prefix) -> usize {
    1_usize.saturating_add(octets_of(prefix.len()))
}

fn octets_of(bits: u8) -> usize {
    usize::from(bits.div_ceil(8))
}

/// Writes all octets and takes back those not needed: a copy of fixed length costs less than one of any.
fn put<const N: usize>(len: u8, all: &[u8; N], out: &mut BytesMut) {
    out.put_slice(all);
    let unused = N.saturating_sub(1).saturating_sub(octets_of(len));
    out.truncate(out.len().saturating_sub(unused));
}

fn decode_v4(mut octets: &[u8], into: &mut Vec<Prefix>) -> Result<usize, Malformed> {
    let mut ignored: usize = 0;
    while let Some((&len, rest)) = octets.split_first() {
        let shift = 32_u8.checked_sub(len).ok_or(Malformed)?;
        let (value, tail) = rest.split_at_checked(octets_of(len)).ok_or(Malformed)?;
        octets = tail;
        let mask = u32::MAX.checked_shl(u32::from(shift)).unwrap_or(0);
        // Four octets can be read at once everywhere but at the end: what is behind the prefix is masked off.
        let bits = match rest.first_chunk::<4>() {
            Some(four) => u32::from_be_bytes(*four),
            None => u32::from_be_bytes(padded(value)),
        } & mask;
        // 224.0.0.0/4 and 240.0.0.0/4.
        if bits >= 0xe000_0000 {
            ignored = ignored.saturating_add(1);
        } else {
            into.push(Prefix::V4 { bits, len });
        }
    }
    Ok(ignored)
}

fn decode_v6(octets: &[u8], into: &mut Vec<Prefix>) -> Result<usize, Malformed> {
    let mut ignored: usize = 0;
    let mut octets = Octets::new(octets);
    while let Ok(len) = octets.u8() {
        let shift = 128_u8.checked_sub(len).ok_or(Malformed)?;
        let value = octets.take(octets_of(len)).map_err(|_| Malformed)?;
        let mask = u128::MAX.checked_shl(u32::from(shift)).unwrap_or(0);
        let bits = u128::from_be_bytes(padded(value.rest())) & mask;
        // ff00::/8 and fe80::/10.
        if bits >> 120 == 0xff || bits >> 118 == 0x3fa {
            ignored = ignored.saturating_add(1);
        } else {
            into.push(Prefix::V6 {
                bits: bits.to_be_bytes(),
                len,
            });
        }
    }
    Ok(ignored)
}

/// The octets with zeros behind them.
fn padded<const N: usize>(value: &[u8]) -> [u8; N] {
    let mut all = [0; N];
    if let Some(head) = all.get_mut(..value.len()) {
        head.copy_from_slice(value);
    }
    all
}
