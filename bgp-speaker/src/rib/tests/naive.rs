//! The rules once more, in the plainest form: no index, no sharing, no history. For what the model can say.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use super::model::Model;
use super::world::LOCAL_ASN;
use crate::config::ReflectorClient;
use crate::policy::{SetAttrs, SetNextHop, Statement, Verdict, first_match};
use crate::rib::PeerInfo;
use crate::rib::attrs::{NO_ADVERTISE, NO_EXPORT};
use crate::types::{Asn, Prefix, SessionKind};
use crate::wire::attrs::{AsPath, AsSegment, Attrs, NextHop};

const ROUTER_ID: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);

#[derive(Clone, Copy)]
struct Route<'a> {
    /// `None`: from here.
    from: Option<&'a PeerInfo>,
    attrs: &'a Attrs,
}

/// All that peer `to` is to hold.
pub(super) fn told(model: &Model, to: u16) -> BTreeMap<Prefix, Attrs> {
    let heard = model.heard.values().flat_map(BTreeMap::keys);
    let all: BTreeSet<Prefix> = heard.chain(model.local.keys()).copied().collect();
    let to = &model.infos[usize::from(to)];
    let due = all.into_iter().filter_map(|prefix| {
        let candidates = candidates(model, &prefix);
        let routes = candidates
            .iter()
            .map(|(from, attrs)| Route { from: *from, attrs });
        let attrs = exported(best(routes.collect())?, &prefix, to)?;
        Some((prefix, attrs))
    });
    due.collect()
}

/// The path to a prefix that each source offers, after import.
fn candidates<'a>(model: &'a Model, prefix: &Prefix) -> Vec<(Option<&'a PeerInfo>, Attrs)> {
    let local = model.local.get(prefix);
    let mut all: Vec<_> = local
        .map(|l| (None, l.attrs.as_ref().clone()))
        .into_iter()
        .collect();
    for (n, heard) in &model.heard {
        let Some((attrs, _)) = heard.get(prefix) else {
            continue;
        };
        let peer = &model.infos[usize::from(*n)];
        let own = model
            .met
            .iter()
            .map(|n| model.infos[usize::from(*n)].local_address);
        let looped = asns(attrs).contains(&LOCAL_ASN)
            || attrs.originator_id == Some(ROUTER_ID)
            || attrs.cluster_list.contains(&ROUTER_ID)
            || own.into_iter().any(|own| own == address(attrs));
        let policy = &family(peer, prefix).import.statements;
        if let (false, Some(set)) = (looped, accepted(policy, prefix)) {
            let mut attrs = attrs.clone();
            attrs.local_pref = set.local_pref.or(attrs.local_pref);
            add_communities(&mut attrs, set);
            all.push((Some(peer), attrs));
        }
    }
    all
}

/// RFC 4271 9.1.2.2, one step after the other.
fn best(mut left: Vec<Route<'_>>) -> Option<Route<'_>> {
    least(&mut left, |r| u8::from(r.from.is_some()));
    least(&mut left, |r| u32::MAX - r.attrs.local_pref.unwrap_or(100));
    least(&mut left, |r| asns(r.attrs).len());
    least(&mut left, |r| r.attrs.origin as u8);
    let all = left.clone();
    left.retain(|r| {
        let neighbour = |r: &Route<'_>| asns(r.attrs).first().copied();
        let med = |r: &Route<'_>| r.attrs.med.unwrap_or(0);
        !all.iter()
            .any(|o| neighbour(o) == neighbour(r) && med(o) < med(r))
    });
    least(&mut left, |r| {
        r.from.is_some_and(|p| p.session == SessionKind::Internal)
    });
    let router = |r: &Route<'_>| r.from.map(|p| Ipv4Addr::from_bits(p.router_id.get()));
    least(&mut left, |r| r.attrs.originator_id.or(router(r)));
    least(&mut left, |r| r.attrs.cluster_list.len());
    least(&mut left, |r| r.from.map(|p| p.address));
    assert!(left.len() < 2, "two paths from one source");
    left.pop()
}

fn least<K: Ord>(left: &mut Vec<Route<'_>>, key: impl Fn(&Route<'_>) -> K) {
    if let Some(least) = left.iter().map(&key).min() {
        left.retain(|route| key(route) == least);
    }
}

/// The route as the peer gets it; `None`: not at all.
fn exported(best: Route<'_>, prefix: &Prefix, to: &PeerInfo) -> Option<Attrs> {
    let set = accepted(&family(to, prefix).export.statements, prefix)?;
    let mut attrs = best.attrs.clone();
    if let Some(from) = best.from {
        let said = |community| best.attrs.communities.contains(&community);
        let outside = to.session == SessionKind::External;
        if from.address == to.address || said(NO_ADVERTISE) || (said(NO_EXPORT) && outside) {
            return None;
        }
        match (from.session, to.session) {
            (SessionKind::Internal, SessionKind::Internal) => {
                let clients = [from.reflector_client, to.reflector_client];
                if !clients.contains(&ReflectorClient::Yes) {
                    return None;
                }
                let router = Ipv4Addr::from_bits(from.router_id.get());
                attrs.originator_id = attrs.originator_id.or(Some(router));
                attrs.cluster_list.insert(0, ROUTER_ID);
            }
            (SessionKind::External, SessionKind::Internal) => {}
            (_, SessionKind::External) => attrs.med = None,
        }
    }
    match to.session {
        SessionKind::Internal => {
            attrs.local_pref = set.local_pref.or(attrs.local_pref).or(Some(100));
        }
        SessionKind::External => {
            let own = vec![LOCAL_ASN; usize::from(set.as_path_prepend) + 1];
            let path = own.into_iter().chain(asns(best.attrs));
            let path = path.map(|asn| Asn::new(asn).unwrap()).collect();
            attrs.as_path = AsPath(vec![AsSegment::Sequence(path)]);
            (attrs.local_pref, attrs.originator_id) = (None, None);
            attrs.cluster_list.clear();
        }
    }
    let kept = match (&set.next_hop, best.from, to.session) {
        (SetNextHop::Unchanged, Some(_), _) | (_, Some(_), SessionKind::Internal) => true,
        (_, Some(_), SessionKind::External) | (_, None, _) => false,
    };
    let next_hop = if kept { address(&attrs) } else { to.local_address };
    if next_hop == to.address {
        return None;
    }
    attrs.next_hop = NextHop::Ip(match (prefix, next_hop) {
        (Prefix::V6 { .. }, IpAddr::V4(v4)) => v4.to_ipv6_mapped().into(),
        (Prefix::V4 { .. } | Prefix::V6 { .. }, other) => other,
    });
    add_communities(&mut attrs, set);
    Some(attrs)
}

fn family<'a>(peer: &'a PeerInfo, prefix: &Prefix) -> &'a crate::rib::FamilyInfo {
    let found = peer.families.iter().find(|(f, _)| *f == prefix.family());
    &found.unwrap().1
}

fn accepted<'a>(statements: &'a [Statement], prefix: &Prefix) -> Option<&'a SetAttrs> {
    match &first_match(statements, prefix)?.verdict {
        Verdict::Accept(set) => Some(set),
        Verdict::Reject => None,
    }
}

fn add_communities(attrs: &mut Attrs, set: &SetAttrs) {
    for community in &set.communities {
        if !attrs.communities.contains(community) {
            attrs.communities.push(*community);
        }
    }
}

fn asns(attrs: &Attrs) -> Vec<u32> {
    let segments = attrs.as_path.0.iter().map(|segment| match segment {
        AsSegment::Sequence(asns) => asns.iter().map(|asn| asn.get()),
        other => panic!("the model has no {other:?}"),
    });
    segments.flatten().collect()
}

fn address(attrs: &Attrs) -> IpAddr {
    match attrs.next_hop {
        NextHop::Ip(address) => address.to_canonical(),
        NextHop::V6WithLinkLocal(global, _) => global.into(),
    }
}
