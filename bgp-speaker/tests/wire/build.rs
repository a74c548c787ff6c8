//! Messages written by hand.

use bgp_speaker::types::{Asn, AsnWidth, Family, Prefix, SessionKind};
use bgp_speaker::wire::update::{Context, FirstAs};
use bgp_speaker::wire::{Error, Update, update};
use bytes::Bytes;

pub(crate) const PEER: u32 = 65020;

/// An external session of 4-octet ASNs with both families.
pub(crate) fn external() -> Context {
    Context {
        asn_width: AsnWidth::Four,
        session: SessionKind::External,
        peer_asn: asn(PEER),
        first_as: FirstAs::Peer,
        local_address: Some("10.98.0.2".parse().unwrap()),
        families: vec![Family::IPV4_UNICAST, Family::IPV6_UNICAST],
        ipv6_next_hop: vec![],
    }
}

pub(crate) fn internal() -> Context {
    Context {
        session: SessionKind::Internal,
        ..external()
    }
}

pub(crate) fn asn(number: u32) -> Asn {
    Asn::new(number).unwrap()
}

pub(crate) fn prefix(text: &str) -> Prefix {
    let (addr, len) = text.split_once('/').unwrap();
    Prefix::new(addr.parse().unwrap(), len.parse().unwrap()).unwrap()
}

/// One attribute.
pub(crate) fn attr(flags: u8, code: u8, value: &[u8]) -> Vec<u8> {
    let mut out = vec![flags, code, u8::try_from(value.len()).unwrap()];
    out.extend(value);
    out
}

pub(crate) fn origin() -> Vec<u8> {
    attr(0x40, 1, &[0])
}

pub(crate) fn as_path() -> Vec<u8> {
    let [a, b, c, d] = PEER.to_be_bytes();
    attr(0x40, 2, &[2, 1, a, b, c, d])
}

pub(crate) fn next_hop() -> Vec<u8> {
    attr(0x40, 3, &[10, 98, 0, 1])
}

pub(crate) fn sound() -> Vec<u8> {
    [origin(), as_path(), next_hop()].concat()
}

/// 192.0.2.0/24.
pub(crate) const NLRI: &[u8] = &[24, 192, 0, 2];

/// fd00:1::/32 by way of fd98::1.
pub(crate) fn mp_reach() -> Vec<u8> {
    let mut value = vec![0, 2, 1, 16];
    value.extend([0xfd, 0x98, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
    value.extend([32, 0xfd, 0, 0, 1]);
    attr(0x80, 14, &value)
}

/// fd00:2::/32.
pub(crate) fn mp_unreach() -> Vec<u8> {
    attr(0x80, 15, &[0, 2, 1, 32, 0xfd, 0, 0, 2])
}

/// The body of an UPDATE.
pub(crate) fn body(withdrawn: &[u8], attributes: &[u8], nlri: &[u8]) -> Bytes {
    let mut out = Vec::new();
    out.extend(u16::try_from(withdrawn.len()).unwrap().to_be_bytes());
    out.extend(withdrawn);
    out.extend(u16::try_from(attributes.len()).unwrap().to_be_bytes());
    out.extend(attributes);
    out.extend(nlri);
    out.into()
}

/// Decodes an announcement of 192.0.2.0/24 with these attributes.
pub(crate) fn announce(context: &Context, attributes: &[Vec<u8>]) -> Result<Update, Error> {
    update::decode(&body(&[], &attributes.concat(), NLRI), context)
}
