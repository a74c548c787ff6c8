//! Octets to [`Update`], judged as RFC 7606 says.

use std::net::{IpAddr, Ipv6Addr};

use bytes::Bytes;

use super::{Announced, Context, Update};
use crate::types::{Family, Prefix};
use crate::wire::attr::{
    self, Action, AttrError, AttrFault, Draft, MP_REACH_NLRI, MP_UNREACH_NLRI, OPTIONAL, Outcome, Tlv,
};
use crate::wire::attrs::{Attrs, NextHop};
use crate::wire::error::{Error, MultiprotocolFault, UpdateField};
use crate::wire::nlri::{self, Malformed, Width};
use crate::wire::octets::Octets;

/// Decodes the body of an UPDATE.
///
/// # Errors
/// What RFC 7606 answers with a session reset. Everything milder is in [`Update::errors`].
pub fn decode(body: &Bytes, context: &Context) -> Result<Update, Error> {
    let (withdrawn, attributes, nlri) = fields(body)?;
    let mut update = Update::default();
    if withdrawn.is_empty() && attributes.is_empty() && nlri.is_empty() {
        update.end_of_rib = Some(Family::IPV4_UNICAST);
        return Ok(update);
    }
    prefixes_v4(
        withdrawn,
        UpdateField::Withdrawn,
        &mut update.withdrawn,
        &mut update.errors,
    )?;
    let mut announced = Vec::new();
    prefixes_v4(nlri, UpdateField::Nlri, &mut announced, &mut update.errors)?;
    let carries = !withdrawn.is_empty() || !nlri.is_empty();
    if carries && !context.families.contains(&Family::IPV4_UNICAST) {
        update.withdrawn.clear();
        announced.clear();
        update
            .errors
            .push(prefix_fields(AttrFault::Family(Family::IPV4_UNICAST)));
    }
    let walk = walk(attributes, nlri, context, &mut update)?;
    settle(walk, announced, nlri, context, &mut update)?;
    Ok(update)
}

/// MP_REACH_NLRI by itself; `None` if it is malformed or of a family that is not in `context`.
pub(crate) fn decode_reach(tlv: &Tlv<'_>, context: &Context) -> Option<(Family, NextHop, Vec<Prefix>)> {
    let reach = reach(tlv, context, &mut Vec::new()).ok()?;
    let (family, next_hop) = reach.next_hop?;
    Some((family, next_hop, reach.prefixes))
}

/// MP_UNREACH_NLRI by itself; `None` if it is malformed.
pub(crate) fn decode_unreach(tlv: &Tlv<'_>, context: &Context) -> Option<(Family, Vec<Prefix>)> {
    let unreach = unreach(tlv, context, &mut Vec::new()).ok()?;
    Some((unreach.family, unreach.prefixes))
}

/// What the path attributes of one UPDATE said.
#[derive(Default)]
struct Walk {
    draft: Draft,
    reach: Option<Reach>,
    unreach: Option<Unreach>,
    /// Attributes but MP_UNREACH_NLRI.
    others: usize,
}

struct Reach {
    /// `None`: of a family that is not carried here.
    next_hop: Option<(Family, NextHop)>,
    prefixes: Vec<Prefix>,
}

struct Unreach {
    family: Family,
    /// The attribute ends after the family.
    empty: bool,
    prefixes: Vec<Prefix>,
}

type Fields<'a> = (&'a [u8], &'a [u8], &'a [u8]);

/// RFC 7606 4: a length that reaches past the message leaves nothing to trust.
fn fields(body: &[u8]) -> Result<Fields<'_>, Error> {
    let mut octets = Octets::new(body);
    let mut field = |which| {
        let length = octets.u16().map_err(|_| Error::UpdateLengths(which))?;
        octets.take(length).map_err(|_| Error::UpdateLengths(which))
    };
    let withdrawn = field(UpdateField::Withdrawn)?;
    let attributes = field(UpdateField::Attributes)?;
    Ok((withdrawn.rest(), attributes.rest(), octets.rest()))
}

fn prefixes_v4(
    octets: &[u8],
    field: UpdateField,
    into: &mut Vec<Prefix>,
    errors: &mut Vec<AttrError>,
) -> Result<(), Error> {
    // RFC 7606 3j: what follows a malformed prefix can't be found.
    let ignored = nlri::decode(Width::V4, octets, into).map_err(|Malformed| Error::Network(field))?;
    if ignored > 0 {
        errors.push(prefix_fields(AttrFault::NoDestination(ignored)));
    }
    Ok(())
}

fn walk(attributes: &[u8], nlri: &[u8], context: &Context, update: &mut Update) -> Result<Walk, Error> {
    let mut walk = Walk::default();
    let mut octets = Octets::new(attributes);
    while !octets.is_empty() {
        let code = octets.rest().get(1).copied().unwrap_or(attr::NO_ATTRIBUTE);
        let Ok(tlv) = attr::next(&mut octets) else {
            // RFC 7606 4: the total length still tells where the NLRI begins.
            walk.others = walk.others.saturating_add(1);
            update.errors.push(AttrError {
                code,
                name: attr::name(code),
                fault: AttrFault::Overrun,
                action: Action::Withdraw,
            });
            break;
        };
        match tlv.code {
            MP_REACH_NLRI => {
                walk.others = walk.others.saturating_add(1);
                if walk.reach.is_some() {
                    return Err(Error::RepeatedMultiprotocol {
                        name: attr::name(tlv.code),
                    });
                }
                check_flags(&tlv, &mut update.errors);
                walk.reach = Some(reach(&tlv, context, &mut update.errors)?);
            }
            MP_UNREACH_NLRI => {
                if walk.unreach.is_some() {
                    return Err(Error::RepeatedMultiprotocol {
                        name: attr::name(tlv.code),
                    });
                }
                check_flags(&tlv, &mut update.errors);
                walk.unreach = Some(unreach(&tlv, context, &mut update.errors)?);
            }
            // RFC 4760 3: ignored where it is for no prefix; some fill it with anything then.
            attr::NEXT_HOP if nlri.is_empty() => walk.others = walk.others.saturating_add(1),
            _ => {
                walk.others = walk.others.saturating_add(1);
                match walk.draft.take(&tlv, context) {
                    Outcome::Taken => {}
                    Outcome::Faulty(error) => update.errors.push(error),
                    Outcome::UnrecognizedWellKnown => {
                        return Err(Error::UnrecognizedWellKnown {
                            code: tlv.code,
                            attribute: Bytes::copy_from_slice(tlv.whole),
                        });
                    }
                }
            }
        }
    }
    Ok(walk)
}

fn check_flags(tlv: &Tlv<'_>, errors: &mut Vec<AttrError>) {
    if attr::flags_conflict(tlv.flags, OPTIONAL) {
        errors.push(AttrError {
            code: tlv.code,
            name: attr::name(tlv.code),
            fault: AttrFault::Flags(tlv.flags),
            action: Action::Withdraw,
        });
    }
}

/// RFC 4760 3, RFC 7606 7.11.
fn reach(tlv: &Tlv<'_>, context: &Context, errors: &mut Vec<AttrError>) -> Result<Reach, Error> {
    let malformed = |fault| Error::Multiprotocol {
        name: attr::name(tlv.code),
        fault,
        attribute: Bytes::copy_from_slice(tlv.whole),
    };
    let short = |_| malformed(MultiprotocolFault::Short);
    let mut octets = Octets::new(tlv.value);
    let afi = octets.u16().map_err(short)?;
    let safi = octets.u8().map_err(short)?;
    let length = octets.u8().map_err(short)?;
    let next_hop = octets.take(length).map_err(short)?;
    let _reserved = octets.u8().map_err(short)?;
    let family = Family { afi, safi };
    let Some(width) = width(family, context) else {
        errors.push(not_negotiated(tlv.code, family));
        return Ok(Reach {
            next_hop: None,
            prefixes: Vec::new(),
        });
    };
    let next_hop = decode_next_hop(family, next_hop.rest(), context)
        .ok_or_else(|| malformed(MultiprotocolFault::NextHopLength(length)))?;
    let mut prefixes = Vec::new();
    let ignored = nlri::decode(width, octets.rest(), &mut prefixes)
        .map_err(|Malformed| malformed(MultiprotocolFault::Network))?;
    note_ignored(tlv.code, ignored, errors);
    if let Err(fault) = check_next_hop(global(&next_hop), context) {
        errors.push(AttrError {
            code: tlv.code,
            name: attr::name(tlv.code),
            fault,
            action: Action::Withdraw,
        });
    }
    Ok(Reach {
        next_hop: Some((family, next_hop)),
        prefixes,
    })
}

/// RFC 4760 4.
fn unreach(tlv: &Tlv<'_>, context: &Context, errors: &mut Vec<AttrError>) -> Result<Unreach, Error> {
    let malformed = |fault| Error::Multiprotocol {
        name: attr::name(tlv.code),
        fault,
        attribute: Bytes::copy_from_slice(tlv.whole),
    };
    let mut octets = Octets::new(tlv.value);
    let afi = octets.u16().map_err(|_| malformed(MultiprotocolFault::Short))?;
    let safi = octets.u8().map_err(|_| malformed(MultiprotocolFault::Short))?;
    let family = Family { afi, safi };
    let mut prefixes = Vec::new();
    let empty = octets.is_empty();
    match width(family, context) {
        Some(width) => {
            let ignored = nlri::decode(width, octets.rest(), &mut prefixes)
                .map_err(|Malformed| malformed(MultiprotocolFault::Network))?;
            note_ignored(tlv.code, ignored, errors);
        }
        None => errors.push(not_negotiated(tlv.code, family)),
    }
    Ok(Unreach {
        family,
        empty,
        prefixes,
    })
}

/// Announces what is sound, withdraws what is not.
fn settle(
    walk: Walk,
    announced: Vec<Prefix>,
    nlri: &[u8],
    context: &Context,
    update: &mut Update,
) -> Result<(), Error> {
    let mut any_reachable = !nlri.is_empty();
    if let Some(unreach) = walk.unreach {
        // RFC 4724 2: nothing but an empty MP_UNREACH_NLRI.
        if unreach.empty && walk.others == 0 && update.withdrawn.is_empty() && nlri.is_empty() {
            update.end_of_rib = Some(unreach.family);
        }
        update.withdrawn.extend(unreach.prefixes);
    }
    // Each with the next hop it needs. A missing NEXT_HOP is the last thing that can be wrong.
    let mut wanted = Vec::with_capacity(2);
    if !announced.is_empty() {
        match walk.draft.next_hop {
            Some(address) => wanted.push((Family::IPV4_UNICAST, NextHop::Ip(address.into()), announced)),
            None => {
                if !update.errors.iter().any(|error| error.code == attr::NEXT_HOP) {
                    update.errors.push(AttrError {
                        code: attr::NEXT_HOP,
                        name: attr::name(attr::NEXT_HOP),
                        fault: AttrFault::Missing,
                        action: Action::Withdraw,
                    });
                }
                update.withdrawn.extend(announced);
            }
        }
    }
    if let Some(reach) = walk.reach {
        any_reachable = any_reachable || reach.next_hop.is_none() || !reach.prefixes.is_empty();
        if let Some((family, next_hop)) = reach.next_hop
            && !reach.prefixes.is_empty()
        {
            wanted.push((family, next_hop, reach.prefixes));
        }
    }
    let fatal = |update: &Update| {
        update
            .errors
            .iter()
            .copied()
            .find(|error| error.action == Action::Withdraw)
    };
    if let (Some(error), false, true) = (fatal(update), any_reachable, walk.others > 0) {
        return Err(Error::NothingToWithdraw(error));
    }
    let mut wanted = wanted.into_iter();
    let Some((family, next_hop, prefixes)) = wanted.next() else {
        return Ok(());
    };
    let attrs = if fatal(update).is_none() {
        walk.draft.finish(next_hop, context, &mut update.errors)
    } else {
        None
    };
    match attrs {
        None => {
            update.withdrawn.extend(prefixes);
            update
                .withdrawn
                .extend(wanted.flat_map(|(_, _, prefixes)| prefixes));
        }
        Some(attrs) => {
            for (family, next_hop, prefixes) in wanted {
                let attrs = Attrs {
                    next_hop,
                    ..attrs.clone()
                };
                update.announced.push(Announced {
                    family,
                    attrs,
                    prefixes,
                });
            }
            update.announced.insert(
                0,
                Announced {
                    family,
                    attrs,
                    prefixes,
                },
            );
        }
    }
    Ok(())
}

/// How to read the prefixes of a family; `None` if it was not negotiated or is not carried here.
fn width(family: Family, context: &Context) -> Option<Width> {
    if !context.families.contains(&family) {
        return None;
    }
    match family {
        Family::IPV4_UNICAST => Some(Width::V4),
        Family::IPV6_UNICAST => Some(Width::V6),
        Family { .. } => None,
    }
}

/// `None`: a length this family can't have here.
fn decode_next_hop(family: Family, octets: &[u8], context: &Context) -> Option<NextHop> {
    let v6 = family == Family::IPV6_UNICAST || context.ipv6_next_hop.contains(&family);
    if let Ok(v4) = <[u8; 4]>::try_from(octets) {
        return (family == Family::IPV4_UNICAST).then(|| NextHop::Ip(IpAddr::V4(v4.into())));
    }
    let mut octets = Octets::new(octets);
    let global: Ipv6Addr = octets.array::<16>().ok()?.into();
    let local: Option<Ipv6Addr> = octets.array::<16>().ok().map(Ipv6Addr::from);
    if !v6 || !octets.is_empty() {
        return None;
    }
    Some(match local {
        // Some send the link-local address twice, or no global one: it is the only one then (RFC 2545 3).
        Some(local) if local.is_unicast_link_local() && (global == local || global.is_unspecified()) => {
            NextHop::Ip(local.into())
        }
        Some(local) if local.is_unicast_link_local() => NextHop::V6WithLinkLocal(global, local),
        Some(_) | None => NextHop::Ip(global.into()),
    })
}

fn global(next_hop: &NextHop) -> IpAddr {
    match next_hop {
        NextHop::Ip(address) => *address,
        NextHop::V6WithLinkLocal(global, _) => (*global).into(),
    }
}

/// RFC 4271 6.3: a host's address, and not our own.
pub(crate) fn check_next_hop(address: IpAddr, context: &Context) -> Result<(), AttrFault> {
    let host = match address {
        IpAddr::V4(v4) => {
            !(v4.is_unspecified() || v4.is_loopback() || v4.is_multicast() || v4.is_broadcast())
        }
        IpAddr::V6(v6) => !(v6.is_unspecified() || v6.is_loopback() || v6.is_multicast()),
    };
    if host && context.local_address != Some(address) {
        Ok(())
    } else {
        Err(AttrFault::NextHop(address))
    }
}

/// What costs only prefixes of the fields outside the attributes.
fn prefix_fields(fault: AttrFault) -> AttrError {
    AttrError {
        code: attr::NO_ATTRIBUTE,
        name: "NLRI",
        fault,
        action: Action::Discard,
    }
}

fn not_negotiated(code: u8, family: Family) -> AttrError {
    AttrError {
        code,
        name: attr::name(code),
        fault: AttrFault::Family(family),
        action: Action::Discard,
    }
}

fn note_ignored(code: u8, ignored: usize, errors: &mut Vec<AttrError>) {
    if ignored > 0 {
        errors.push(AttrError {
            code,
            name: attr::name(code),
            fault: AttrFault::NoDestination(ignored),
            action: Action::Discard,
        });
    }
}
