//! UPDATE (RFC 4271 4.3) with multiprotocol prefixes (RFC 4760), judged as RFC 7606 says.

mod decode;
mod encode;

use std::net::IpAddr;

use super::attr::AttrError;
use super::attrs::{Attrs, NextHop};
use crate::types::{Asn, AsnWidth, Family, Prefix, SessionKind};

pub use decode::decode;
pub(crate) use decode::{check_next_hop, decode_reach, decode_unreach};
pub(crate) use encode::put_reach;
pub use encode::{encode_announce, encode_end_of_rib, encode_withdraw};

/// What a session has agreed on that decides how an UPDATE reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    pub asn_width: AsnWidth,
    pub session: SessionKind,
    pub peer_asn: Asn,
    pub first_as: FirstAs,
    /// Our own address: no next hop for us (RFC 4271 5.1.3).
    pub local_address: Option<IpAddr>,
    /// Families both sides offered.
    pub families: Vec<Family>,
    /// Families of these whose next hop may be IPv6 while they are not (RFC 8950).
    pub ipv6_next_hop: Vec<Family>,
}

/// Which AS an external peer must put first in AS_PATH.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstAs {
    Peer,
    /// Route servers do not add themselves (RFC 7947).
    Any,
}

/// Where prefixes stand in an UPDATE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Carrier {
    /// The fields of RFC 4271: IPv4 unicast with an IPv4 next hop.
    Fields,
    /// MP_REACH_NLRI and MP_UNREACH_NLRI.
    MultiProtocol,
}

impl Carrier {
    /// What a family with this next hop needs.
    #[must_use]
    pub fn of(family: Family, next_hop: &NextHop) -> Self {
        match next_hop {
            NextHop::Ip(IpAddr::V4(_)) if family == Family::IPV4_UNICAST => Self::Fields,
            NextHop::Ip(_) | NextHop::V6WithLinkLocal(..) => Self::MultiProtocol,
        }
    }
}

/// A decoded UPDATE. `withdrawn` goes first: a prefix that is also announced is announced (RFC 4271 4.3).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Update {
    /// Also what RFC 7606 treats as withdrawn.
    pub withdrawn: Vec<Prefix>,
    /// At most two: NLRI and MP_REACH_NLRI.
    pub announced: Vec<Announced>,
    pub end_of_rib: Option<Family>,
    /// What was wrong and did not end the session.
    pub errors: Vec<AttrError>,
}

/// Prefixes of one family that share everything else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announced {
    pub family: Family,
    pub attrs: Attrs,
    pub prefixes: Vec<Prefix>,
}

/// The attributes leave no room for a prefix in one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the attributes of this route need {attributes} octets and do not fit a message of {max_message}")]
pub struct AttrsTooLong {
    pub attributes: usize,
    pub max_message: usize,
}

/// What all prefixes of an UPDATE share, encoded.
#[derive(Debug, Clone, Copy)]
pub struct Announce<'a> {
    pub family: Family,
    /// The attributes as [`encode`](super::attr::encode) wrote them for `Carrier::of(family, next_hop)`.
    pub attributes: &'a [u8],
    pub next_hop: &'a NextHop,
    pub max_message: usize,
}
