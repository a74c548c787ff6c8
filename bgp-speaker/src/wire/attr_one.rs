//! One attribute by itself, as the API carries them: flags, code, length and value, with 4-octet ASNs.

use std::net::Ipv4Addr;

use bytes::Bytes;

use super::attr::{self, AttrFault, Draft, MP_REACH_NLRI, MP_UNREACH_NLRI, NEXT_HOP, Outcome, Tlv};
use super::attrs::{Aggregator, AsPath, ExtCommunity, LargeCommunity, NextHop, Origin};
use super::octets::Octets;
use super::update::{self, Context, FirstAs};
use crate::types::{Asn, AsnWidth, Family, Prefix, SessionKind};

/// A decoded attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OneAttr {
    Origin(Origin),
    AsPath(AsPath),
    NextHop(Ipv4Addr),
    Med(u32),
    LocalPref(u32),
    AtomicAggregate,
    Aggregator(Aggregator),
    Communities(Vec<u32>),
    OriginatorId(Ipv4Addr),
    ClusterList(Vec<Ipv4Addr>),
    MpReach {
        family: Family,
        next_hop: NextHop,
        prefixes: Vec<Prefix>,
    },
    /// No prefixes: End-of-RIB.
    MpUnreach {
        family: Family,
        prefixes: Vec<Prefix>,
    },
    ExtCommunities(Vec<ExtCommunity>),
    LargeCommunities(Vec<LargeCommunity>),
    Unknown {
        flags: u8,
        code: u8,
        value: Bytes,
    },
}

/// The octets are not one whole attribute, or its value is malformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("attribute {code} {fault}")]
pub struct NotOneAttr {
    pub code: u8,
    pub fault: AttrFault,
}

/// Decodes one attribute. The next hop may be unspecified here: routes originated by a node show it so.
///
/// # Errors
/// [`NotOneAttr`].
pub fn decode_one(octets: &[u8]) -> Result<OneAttr, NotOneAttr> {
    let mut rest = Octets::new(octets);
    let tlv = attr::next(&mut rest)
        .ok()
        .filter(|_| rest.is_empty())
        .ok_or(NotOneAttr {
            code: octets.get(1).copied().unwrap_or(0),
            fault: AttrFault::Overrun,
        })?;
    let malformed = |fault| NotOneAttr {
        code: tlv.code,
        fault,
    };
    let context = context();
    match tlv.code {
        NEXT_HOP => <[u8; 4]>::try_from(tlv.value)
            .map(|address| OneAttr::NextHop(address.into()))
            .map_err(|_| malformed(AttrFault::Length(tlv.value.len()))),
        MP_REACH_NLRI => update::decode_reach(&tlv, &context)
            .map(|(family, next_hop, prefixes)| OneAttr::MpReach {
                family,
                next_hop,
                prefixes,
            })
            .ok_or(malformed(AttrFault::Value)),
        MP_UNREACH_NLRI => update::decode_unreach(&tlv, &context)
            .map(|(family, prefixes)| OneAttr::MpUnreach { family, prefixes })
            .ok_or(malformed(AttrFault::Value)),
        _ => {
            let mut draft = Draft::default();
            match draft.take(&tlv, &context) {
                Outcome::Taken => Ok(one_of(draft).unwrap_or_else(|| unknown(&tlv))),
                Outcome::Faulty(error) => Err(malformed(error.fault)),
                Outcome::UnrecognizedWellKnown => Ok(unknown(&tlv)),
            }
        }
    }
}

/// Everything is allowed.
fn context() -> Context {
    Context {
        asn_width: AsnWidth::Four,
        session: SessionKind::Internal,
        peer_asn: Asn::TRANS,
        first_as: FirstAs::Any,
        local_address: None,
        families: vec![Family::IPV4_UNICAST, Family::IPV6_UNICAST],
        ipv6_next_hop: vec![Family::IPV4_UNICAST],
    }
}

/// What the only attribute of a draft was; `None` if it was none of the table.
fn one_of(draft: Draft) -> Option<OneAttr> {
    let list = |present: bool, one: OneAttr| present.then_some(one);
    draft
        .origin
        .map(OneAttr::Origin)
        .or(draft.as_path.map(OneAttr::AsPath))
        .or(draft.med.map(OneAttr::Med))
        .or(draft.local_pref.map(OneAttr::LocalPref))
        .or(draft.atomic_aggregate.map(|()| OneAttr::AtomicAggregate))
        .or(draft.aggregator.map(OneAttr::Aggregator))
        .or(list(
            !draft.communities.is_empty(),
            OneAttr::Communities(draft.communities),
        ))
        .or(draft.originator_id.map(OneAttr::OriginatorId))
        .or(list(
            !draft.cluster_list.is_empty(),
            OneAttr::ClusterList(draft.cluster_list),
        ))
        .or(list(
            !draft.ext_communities.is_empty(),
            OneAttr::ExtCommunities(draft.ext_communities),
        ))
        .or(list(
            !draft.large_communities.is_empty(),
            OneAttr::LargeCommunities(draft.large_communities),
        ))
}

fn unknown(tlv: &Tlv<'_>) -> OneAttr {
    OneAttr::Unknown {
        flags: tlv.flags,
        code: tlv.code,
        value: Bytes::copy_from_slice(tlv.value),
    }
}
