//! The values of path attributes, one pair of functions per row of [`attr`](super::attr)'s table.

use std::net::{IpAddr, Ipv4Addr};

use bytes::{BufMut, BytesMut};

use super::as_path as path;
use super::attr::{AttrFault, Carried, DEFAULT_LOCAL_PREF, Draft, EncodeContext};
use super::attrs::{Aggregator, Attrs, ExtCommunity, LargeCommunity, NextHop, Origin};
use super::octets::Octets;
use super::update::{Carrier, Context, check_next_hop};
use crate::types::{AS_TRANS, Asn, AsnWidth, SessionKind};

/// A value of exactly `N` octets.
fn exact<const N: usize>(value: &[u8]) -> Result<[u8; N], AttrFault> {
    value.try_into().map_err(|_| AttrFault::Length(value.len()))
}

/// A value that is one or more groups of `N` octets.
fn groups<const N: usize>(value: &[u8]) -> Result<&[[u8; N]], AttrFault> {
    match value.as_chunks::<N>() {
        (groups, []) if !groups.is_empty() => Ok(groups),
        _ => Err(AttrFault::Length(value.len())),
    }
}

fn carried<T>(items: &[T], put: impl FnOnce(&[T])) -> Carried {
    if items.is_empty() {
        return Carried::No;
    }
    put(items);
    Carried::Yes
}

pub(super) fn origin(value: &[u8], _: &Context, draft: &mut Draft) -> Result<(), AttrFault> {
    draft.origin = Some(match exact::<1>(value)? {
        [0] => Origin::Igp,
        [1] => Origin::Egp,
        [2] => Origin::Incomplete,
        _ => return Err(AttrFault::Value),
    });
    Ok(())
}

pub(super) fn put_origin(attrs: &Attrs, _: &EncodeContext, out: &mut BytesMut) -> Carried {
    out.put_u8(match attrs.origin {
        Origin::Igp => 0,
        Origin::Egp => 1,
        Origin::Incomplete => 2,
    });
    Carried::Yes
}

pub(super) fn as_path(value: &[u8], context: &Context, draft: &mut Draft) -> Result<(), AttrFault> {
    draft.as_path = Some(path::decode(value, context.asn_width)?);
    Ok(())
}

pub(super) fn put_as_path(attrs: &Attrs, context: &EncodeContext, out: &mut BytesMut) -> Carried {
    path::encode(&attrs.as_path, context.asn_width, out);
    Carried::Yes
}

pub(super) fn as4_path(value: &[u8], _: &Context, draft: &mut Draft) -> Result<(), AttrFault> {
    draft.as4_path = Some(path::decode_as4(value)?);
    Ok(())
}

pub(super) fn put_as4_path(attrs: &Attrs, context: &EncodeContext, out: &mut BytesMut) -> Carried {
    match context.asn_width {
        AsnWidth::Two if path::needs_as4(&attrs.as_path) => {
            path::encode(&path::without_confederations(&attrs.as_path), AsnWidth::Four, out);
            Carried::Yes
        }
        AsnWidth::Two | AsnWidth::Four => Carried::No,
    }
}

pub(super) fn next_hop(value: &[u8], context: &Context, draft: &mut Draft) -> Result<(), AttrFault> {
    let address = Ipv4Addr::from(exact::<4>(value)?);
    check_next_hop(address.into(), context)?;
    draft.next_hop = Some(address);
    Ok(())
}

pub(super) fn put_next_hop(attrs: &Attrs, context: &EncodeContext, out: &mut BytesMut) -> Carried {
    match (context.carrier, attrs.next_hop) {
        (Carrier::Fields, NextHop::Ip(IpAddr::V4(address))) => {
            out.put_slice(&address.octets());
            Carried::Yes
        }
        (Carrier::Fields | Carrier::MultiProtocol, NextHop::Ip(_) | NextHop::V6WithLinkLocal(..)) => {
            Carried::No
        }
    }
}

pub(super) fn med(value: &[u8], _: &Context, draft: &mut Draft) -> Result<(), AttrFault> {
    draft.med = Some(u32::from_be_bytes(exact(value)?));
    Ok(())
}

pub(super) fn put_med(attrs: &Attrs, _: &EncodeContext, out: &mut BytesMut) -> Carried {
    carried(attrs.med.as_slice(), |med| {
        med.iter().for_each(|med| out.put_u32(*med))
    })
}

pub(super) fn local_pref(value: &[u8], _: &Context, draft: &mut Draft) -> Result<(), AttrFault> {
    draft.local_pref = Some(u32::from_be_bytes(exact(value)?));
    Ok(())
}

pub(super) fn put_local_pref(attrs: &Attrs, context: &EncodeContext, out: &mut BytesMut) -> Carried {
    match context.session {
        // RFC 4271 5.1.5: always inside an AS, never outside.
        SessionKind::Internal => {
            out.put_u32(attrs.local_pref.unwrap_or(DEFAULT_LOCAL_PREF));
            Carried::Yes
        }
        SessionKind::External => Carried::No,
    }
}

pub(super) fn atomic_aggregate(value: &[u8], _: &Context, draft: &mut Draft) -> Result<(), AttrFault> {
    exact::<0>(value)?;
    draft.atomic_aggregate = Some(());
    Ok(())
}

pub(super) fn put_atomic_aggregate(attrs: &Attrs, _: &EncodeContext, _: &mut BytesMut) -> Carried {
    if attrs.atomic_aggregate {
        Carried::Yes
    } else {
        Carried::No
    }
}

pub(super) fn aggregator(value: &[u8], context: &Context, draft: &mut Draft) -> Result<(), AttrFault> {
    let (number, address) = match context.asn_width {
        AsnWidth::Two => {
            let [a, b, address @ ..] = exact::<6>(value)?;
            (u32::from(u16::from_be_bytes([a, b])), address)
        }
        AsnWidth::Four => four_octet_aggregator(value)?,
    };
    draft.aggregator = Some(make_aggregator(number, address)?);
    Ok(())
}

pub(super) fn put_aggregator(attrs: &Attrs, context: &EncodeContext, out: &mut BytesMut) -> Carried {
    let Some(aggregator) = attrs.aggregator else {
        return Carried::No;
    };
    match context.asn_width {
        AsnWidth::Two => out.put_u16(u16::try_from(aggregator.asn.get()).unwrap_or(AS_TRANS)),
        AsnWidth::Four => out.put_u32(aggregator.asn.get()),
    }
    out.put_slice(&aggregator.address.octets());
    Carried::Yes
}

pub(super) fn as4_aggregator(value: &[u8], _: &Context, draft: &mut Draft) -> Result<(), AttrFault> {
    let (number, address) = four_octet_aggregator(value)?;
    draft.as4_aggregator = Some(make_aggregator(number, address)?);
    Ok(())
}

pub(super) fn put_as4_aggregator(attrs: &Attrs, context: &EncodeContext, out: &mut BytesMut) -> Carried {
    match (context.asn_width, attrs.aggregator) {
        (AsnWidth::Two, Some(aggregator)) if u16::try_from(aggregator.asn.get()).is_err() => {
            out.put_u32(aggregator.asn.get());
            out.put_slice(&aggregator.address.octets());
            Carried::Yes
        }
        (AsnWidth::Two | AsnWidth::Four, _) => Carried::No,
    }
}

fn four_octet_aggregator(value: &[u8]) -> Result<(u32, [u8; 4]), AttrFault> {
    let [a, b, c, d, address @ ..] = exact::<8>(value)?;
    Ok((u32::from_be_bytes([a, b, c, d]), address))
}

fn make_aggregator(number: u32, address: [u8; 4]) -> Result<Aggregator, AttrFault> {
    Ok(Aggregator {
        // RFC 7607 2.
        asn: Asn::new(number).map_err(|_| AttrFault::AsZero)?,
        address: address.into(),
    })
}

pub(super) fn communities(value: &[u8], _: &Context, draft: &mut Draft) -> Result<(), AttrFault> {
    draft.communities = groups::<4>(value)?
        .iter()
        .map(|group| u32::from_be_bytes(*group))
        .collect();
    Ok(())
}

pub(super) fn put_communities(attrs: &Attrs, _: &EncodeContext, out: &mut BytesMut) -> Carried {
    carried(&attrs.communities, |all| {
        all.iter().for_each(|one| out.put_u32(*one))
    })
}

pub(super) fn originator_id(value: &[u8], _: &Context, draft: &mut Draft) -> Result<(), AttrFault> {
    draft.originator_id = Some(exact::<4>(value)?.into());
    Ok(())
}

pub(super) fn put_originator_id(attrs: &Attrs, context: &EncodeContext, out: &mut BytesMut) -> Carried {
    match (context.session, attrs.originator_id) {
        (SessionKind::Internal, Some(id)) => {
            out.put_slice(&id.octets());
            Carried::Yes
        }
        (SessionKind::Internal | SessionKind::External, _) => Carried::No,
    }
}

pub(super) fn cluster_list(value: &[u8], _: &Context, draft: &mut Draft) -> Result<(), AttrFault> {
    draft.cluster_list = groups::<4>(value)?.iter().map(|group| (*group).into()).collect();
    Ok(())
}

pub(super) fn put_cluster_list(attrs: &Attrs, context: &EncodeContext, out: &mut BytesMut) -> Carried {
    match context.session {
        SessionKind::Internal => carried(&attrs.cluster_list, |all| {
            all.iter().for_each(|id| out.put_slice(&id.octets()));
        }),
        SessionKind::External => Carried::No,
    }
}

pub(super) fn ext_communities(value: &[u8], _: &Context, draft: &mut Draft) -> Result<(), AttrFault> {
    draft.ext_communities = groups::<8>(value)?
        .iter()
        .map(|group| ExtCommunity(*group))
        .collect();
    Ok(())
}

pub(super) fn put_ext_communities(attrs: &Attrs, _: &EncodeContext, out: &mut BytesMut) -> Carried {
    carried(&attrs.ext_communities, |all| {
        all.iter().for_each(|one| out.put_slice(&one.0))
    })
}

pub(super) fn large_communities(value: &[u8], _: &Context, draft: &mut Draft) -> Result<(), AttrFault> {
    for group in groups::<12>(value)? {
        let mut octets = Octets::new(group);
        let (Ok(global), Ok(one), Ok(two)) = (octets.u32(), octets.u32(), octets.u32()) else {
            return Err(AttrFault::Length(value.len()));
        };
        let community = LargeCommunity(global, one, two);
        draft.large_communities.push(community);
    }
    // RFC 8092 3: a receiver silently removes repeated ones. Sorted, as the order says nothing and a peer
    // could make a quadratic search of thousands.
    draft.large_communities.sort_unstable();
    draft.large_communities.dedup();
    Ok(())
}

pub(super) fn put_large_communities(attrs: &Attrs, _: &EncodeContext, out: &mut BytesMut) -> Carried {
    carried(&attrs.large_communities, |all| {
        for LargeCommunity(global, one, two) in all {
            out.put_u32(*global);
            out.put_u32(*one);
            out.put_u32(*two);
        }
    })
}
