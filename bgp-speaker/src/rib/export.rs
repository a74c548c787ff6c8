//! What of a route goes to a kind of peer, and in which form (RFC 4271 5 and 9.1.3, RFC 1997, RFC 4456).
//!
//! | from \ to | external | internal, client | internal, no client |
//! |---|---|---|---|
//! | here | yes | yes | yes |
//! | external peer | yes | yes | yes |
//! | internal client | yes | reflected | reflected |
//! | internal, no client | yes | reflected | no |
//!
//! Never to the peer it came from (the caller sees to that: it is the only rule about one peer, not a kind).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::attrs::{Rank, Scope};
use super::peer::{ExtendedNextHop, PeerInfo};
use crate::config::ReflectorClient;
use crate::policy::{ExportPolicy, SetAttrs, SetNextHop, same_effect};
use crate::types::{Asn, AsnWidth, Family, RouterId, SessionKind};
use crate::wire::attr::{DEFAULT_LOCAL_PREF, PARTIAL};
use crate::wire::attrs::{AsPath, AsSegment, Attrs, ExtCommunity, NextHop};

/// The kind of peer: everything export and encoding depend on. Peers of an equal kind share their
/// Adj-RIB-Out, the packing and the encoded buffers.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) policy: Arc<ExportPolicy>,
    pub(crate) form: Form,
}

/// What of a session decides about export and encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Form {
    pub(crate) family: Family,
    pub(crate) session: SessionKind,
    pub(crate) asn_width: AsnWidth,
    pub(crate) max_message: usize,
    /// The next hop that means this speaker. `None`: it has no address such a peer could use.
    pub(crate) own: Option<NextHop>,
    pub(crate) extended_next_hop: ExtendedNextHop,
    pub(crate) reflector_client: ReflectorClient,
}

/// Who this speaker is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Own {
    pub(crate) asn: Asn,
    /// Also its cluster ID (RFC 4456 7).
    pub(crate) router_id: RouterId,
}

/// Where a route comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source<'a> {
    Here,
    Peer(&'a PeerInfo),
}

/// Why a best route is not announced to a kind of peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WhyNotSent {
    #[error("it came from this peer")]
    Sender,
    #[error("its next hop is the peer itself")]
    NextHopIsPeer,
    #[error("no export statement accepts it")]
    ExportPolicy,
    #[error("it carries NO_ADVERTISE")]
    NoAdvertise,
    #[error("it carries NO_EXPORT and the peer is external")]
    NoExport,
    #[error("it came from an internal peer and neither is a reflector client")]
    InternalToInternal,
    #[error("there is no next hop the peer could use")]
    NoNextHop,
    #[error("its attributes do not fit a message to the peer")]
    TooLong,
}

impl Target {
    pub(crate) fn of(
        peer: &PeerInfo,
        family: Family,
        policy: &Arc<ExportPolicy>,
        v6: ExtendedNextHop,
    ) -> Self {
        Self {
            policy: Arc::clone(policy),
            form: Form {
                family,
                session: peer.session,
                asn_width: peer.asn_width,
                max_message: peer.max_message,
                own: own_next_hop(peer, family, v6),
                extended_next_hop: v6,
                reflector_client: peer.reflector_client,
            },
        }
    }

    /// Policies are named after their peer. Names decide nothing, so they do not keep peers apart.
    pub(crate) fn is_same_kind(&self, other: &Self) -> bool {
        self.form == other.form && same_effect(&self.policy.statements, &other.policy.statements)
    }
}

/// The rules that look at the route's origin and scope, not at the policy.
pub(crate) fn may_send(rank: &Rank, from: Source<'_>, to: &Form) -> Result<(), WhyNotSent> {
    let peer = match from {
        // RFC 1997 speaks of routes received. Those that begin here may carry NO_EXPORT for the neighbour.
        Source::Here => return Ok(()),
        Source::Peer(peer) => peer,
    };
    match (rank.scope, to.session) {
        (Scope::NoAdvertise, _) => return Err(WhyNotSent::NoAdvertise),
        (Scope::NoExport, SessionKind::External) => return Err(WhyNotSent::NoExport),
        (Scope::NoExport, SessionKind::Internal) | (Scope::Everywhere, _) => {}
    }
    match (peer.session, to.session) {
        (SessionKind::Internal, SessionKind::Internal) => {
            match (peer.reflector_client, to.reflector_client) {
                (ReflectorClient::No, ReflectorClient::No) => Err(WhyNotSent::InternalToInternal),
                (ReflectorClient::Yes, _) | (_, ReflectorClient::Yes) => Ok(()),
            }
        }
        (SessionKind::External, _) | (_, SessionKind::External) => Ok(()),
    }
}

/// The attributes as the peer gets them.
pub(crate) fn outgoing(
    attrs: &Attrs,
    from: Source<'_>,
    to: &Form,
    set: &SetAttrs,
    own: Own,
) -> Result<Attrs, WhyNotSent> {
    let next_hop = next_hop(attrs, from, to, set)?;
    let mut out = attrs.clone();
    out.next_hop = next_hop;
    match to.session {
        SessionKind::External => {
            out.as_path = prepended(&attrs.as_path, own.asn, usize::from(set.as_path_prepend) + 1);
            out.local_pref = None;
            out.originator_id = None;
            out.cluster_list.clear();
        }
        SessionKind::Internal => {
            let local_pref = set.local_pref.or(attrs.local_pref);
            out.local_pref = Some(local_pref.unwrap_or(DEFAULT_LOCAL_PREF));
        }
    }
    if let Source::Peer(peer) = from {
        match (peer.session, to.session) {
            // RFC 4456 8.
            (SessionKind::Internal, SessionKind::Internal) => {
                let id = Ipv4Addr::from_bits(peer.router_id.get());
                out.originator_id.get_or_insert(id);
                out.cluster_list
                    .insert(0, Ipv4Addr::from_bits(own.router_id.get()));
            }
            (SessionKind::External, SessionKind::Internal) => {}
            (_, SessionKind::External) => {
                // RFC 4271 5.1.4: a MED of one neighbour is not passed on to another AS.
                out.med = None;
                out.ext_communities.retain(is_transitive);
            }
        }
        for unknown in &mut out.unknown {
            unknown.flags |= PARTIAL;
        }
    }
    out.med = set.med.or(out.med);
    set.add_communities(&mut out);
    Ok(out)
}

/// What import policy makes of a route.
pub(crate) fn imported(attrs: &Attrs, set: &SetAttrs, peer: &PeerInfo) -> Attrs {
    let mut out = attrs.clone();
    out.local_pref = set.local_pref.or(out.local_pref);
    out.med = set.med.or(out.med);
    out.next_hop = match set.next_hop {
        SetNextHop::Default | SetNextHop::Unchanged => out.next_hop,
        SetNextHop::Local => NextHop::Ip(peer.local_address),
        SetNextHop::Is(given) => given,
    };
    if set.as_path_prepend > 0 {
        // On the way in the neighbour's AS is repeated: our own would be a loop.
        out.as_path = prepended(&attrs.as_path, peer.asn, set.as_path_prepend.into());
    }
    set.add_communities(&mut out);
    out
}

/// The address to compare with: an IPv4-mapped one is the IPv4 address it stands for.
pub(crate) fn global(next_hop: &NextHop) -> IpAddr {
    match next_hop {
        NextHop::Ip(address) => address.to_canonical(),
        NextHop::V6WithLinkLocal(global, _) => (*global).into(),
    }
}

/// RFC 4271 5.1.3, RFC 2545 3, RFC 4291 2.5.5.2.
fn own_next_hop(peer: &PeerInfo, family: Family, v6: ExtendedNextHop) -> Option<NextHop> {
    // A link-local address by itself is no next hop: the peer could not tell on which link (RFC 2545 3).
    let usable = |address: Ipv6Addr| match (address.is_unicast_link_local(), peer.local_ipv6) {
        (false, _) => Some(NextHop::Ip(address.into())),
        (true, Some(global)) => Some(NextHop::V6WithLinkLocal(global, address)),
        (true, None) => None,
    };
    match (family, peer.local_address) {
        (Family::IPV4_UNICAST, IpAddr::V4(address)) => Some(NextHop::Ip(address.into())),
        (Family::IPV4_UNICAST, IpAddr::V6(address)) => {
            let beside = peer.local_ipv4.map(|address| NextHop::Ip(address.into()));
            match (address.to_ipv4_mapped(), v6) {
                (Some(address), _) => Some(NextHop::Ip(address.into())),
                (None, ExtendedNextHop::Agreed) => usable(address).or(beside),
                (None, ExtendedNextHop::No) => beside,
            }
        }
        (_, IpAddr::V6(address)) => usable(address),
        (_, IpAddr::V4(address)) => {
            let address = peer.local_ipv6.unwrap_or(address.to_ipv6_mapped());
            Some(NextHop::Ip(address.into()))
        }
    }
}

fn next_hop(attrs: &Attrs, from: Source<'_>, to: &Form, set: &SetAttrs) -> Result<NextHop, WhyNotSent> {
    let given = match (from, attrs.next_hop) {
        // RFC 2545 3: the link-local address is for those on the link it was heard on.
        (Source::Peer(_), NextHop::V6WithLinkLocal(global, _)) => NextHop::Ip(global.into()),
        (Source::Peer(_) | Source::Here, given) => given,
    };
    let wished = match (set.next_hop, from, to.session) {
        (SetNextHop::Is(next_hop), _, _) => Some(next_hop),
        (SetNextHop::Local, _, _) => to.own,
        // It stands for nothing: the session's own is meant.
        _ if global(&given).is_unspecified() => to.own,
        // A local route that names its next hop means it. Between internal peers it stays (RFC 4271 5.1.3 1).
        (SetNextHop::Default, Source::Here, _)
        | (SetNextHop::Default, Source::Peer(_), SessionKind::Internal)
        | (SetNextHop::Unchanged, _, _) => Some(given),
        // Third-party next hops are legal only where they share the peer's subnet, which is not known here.
        (SetNextHop::Default, Source::Peer(_), SessionKind::External) => to.own,
    };
    match (to.family, wished.ok_or(WhyNotSent::NoNextHop)?) {
        (Family::IPV4_UNICAST, v4 @ NextHop::Ip(IpAddr::V4(_))) => Ok(v4),
        (Family::IPV4_UNICAST, v6) => match to.extended_next_hop {
            ExtendedNextHop::Agreed => Ok(v6),
            ExtendedNextHop::No => Err(WhyNotSent::NoNextHop),
        },
        (_, NextHop::Ip(IpAddr::V4(v4))) => Ok(NextHop::Ip(v4.to_ipv6_mapped().into())),
        (_, v6) => Ok(v6),
    }
}

/// RFC 4271 5.1.2 b. Confederation segments do not leave (RFC 5065 4.1).
fn prepended(path: &AsPath, asn: Asn, times: usize) -> AsPath {
    /// The count of a segment is one octet.
    const MOST: usize = 255;
    let mut segments: Vec<AsSegment> = path
        .0
        .iter()
        .filter(|segment| match segment {
            AsSegment::Sequence(_) | AsSegment::Set(_) => true,
            AsSegment::ConfedSequence(_) | AsSegment::ConfedSet(_) => false,
        })
        .cloned()
        .collect();
    let room = match segments.first() {
        Some(AsSegment::Sequence(asns)) => MOST.saturating_sub(asns.len()),
        _ => 0,
    };
    let (mut left, joined) = (times, times.min(room));
    if let Some(AsSegment::Sequence(asns)) = segments.first_mut() {
        asns.splice(0..0, std::iter::repeat_n(asn, joined));
        left -= joined;
    }
    while left > 0 {
        let part = left.min(MOST);
        segments.insert(0, AsSegment::Sequence(vec![asn; part]));
        left -= part;
    }
    AsPath(segments)
}

/// RFC 4360 2: those that are not do not cross the border of an AS.
fn is_transitive(community: &ExtCommunity) -> bool {
    community.0[0] & 0x40 == 0
}
