//! The decision process (RFC 4271 9.1.2, with RFC 4456 9 and RFC 5004): which path of a prefix is best.
//!
//! Every step takes all paths that are left and drops those that are worse than the best among them. So the
//! winner depends on the set of paths only, not on the order they came in; the MED step, where comparing
//! pairs would, groups by neighbour AS. The one exception is asked for: RFC 5004 keeps the external path
//! that was best before.

use std::net::IpAddr;

use super::attrs::Rank;
use super::view::WhyNotBest;
use crate::types::SessionKind;

/// A path that may become best. `path` is the caller's name for it.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub(crate) path: u32,
    pub(crate) origin: From,
    pub(crate) rank: Rank,
    /// To the next hop. 0: everything is as near where there is no IGP to ask.
    pub(crate) igp_cost: u32,
    /// Whether it was best until now.
    pub(crate) standing: Before,
}

/// Where a path comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    Here,
    Peer {
        session: SessionKind,
        router_id: u32,
        address: IpAddr,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Before {
    Best,
    Other,
}

/// RFC 5004: an equal external path does not take over from the one that is best already. Spares the peers
/// a change; makes the outcome depend on history.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ExistingExternal {
    #[default]
    Keep,
    Ignore,
}

/// Leaves the best candidate only, and tells why each other was dropped. Empty stays empty.
pub(crate) fn elect(
    left: &mut Vec<Candidate>,
    existing: ExistingExternal,
    mut lost: impl FnMut(&Candidate, WhyNotBest),
) {
    use WhyNotBest::{
        AsPathLength, ClusterListLength, External, IgpCost, LocalPref, NotLocal, Origin, PeerAddress,
        RouterId,
    };
    lowest(
        left,
        [NotLocal, LocalPref, AsPathLength, Origin],
        preference,
        &mut lost,
    );
    if left.len() > 1 {
        lowest_med(left, &mut lost);
    }
    lowest(left, [External, IgpCost], distance, &mut lost);
    if existing == ExistingExternal::Keep
        && left.iter().all(external)
        && let Some(before) = left.iter().find(|c| c.standing == Before::Best).map(router_id)
    {
        // RFC 5004 3: not between parallel sessions with one router, which chooses by their addresses.
        let key = |c: &Candidate| [router_id(c) != before];
        lowest(left, [WhyNotBest::ExistingExternal], key, &mut lost);
    }
    let whys = [RouterId, ClusterListLength, PeerAddress, PeerAddress];
    lowest(left, whys, identity, &mut lost);
}

/// How the paths that are equal up to the IGP cost stand among themselves: the first of them are used
/// beside the best one (multipath). Their AS paths are of equal length and need not be equal.
pub(crate) fn multipath_order(candidate: &Candidate) -> impl Ord + use<> {
    identity(candidate)
}

/// Several steps at once: keeps what is lowest in the first number, of that what is lowest in the second, and
/// so on. The number in which another is higher for the first time is the step that dropped it.
fn lowest<K: Ord + Copy, const N: usize>(
    left: &mut Vec<Candidate>,
    whys: [WhyNotBest; N],
    key: impl Fn(&Candidate) -> [K; N],
    lost: &mut impl FnMut(&Candidate, WhyNotBest),
) {
    if left.len() < 2 {
        return;
    }
    let Some(best) = left.iter().map(&key).min() else {
        return;
    };
    left.retain(|candidate| {
        let steps = key(candidate).into_iter().zip(best).zip(whys);
        let dropped = steps.into_iter().find(|((own, best), _)| own != best);
        if let Some((_, why)) = dropped {
            lost(candidate, why);
        }
        dropped.is_none()
    });
}

/// RFC 4271 9.1.1 and 9.1.2.2 a and b.
fn preference(candidate: &Candidate) -> [u32; 4] {
    let rank = &candidate.rank;
    [
        u32::from(candidate.origin != From::Here),
        !rank.local_pref,
        rank.path_length,
        rank.origin as u32,
    ]
}

/// RFC 4271 9.1.2.2 d and e.
fn distance(candidate: &Candidate) -> [u32; 2] {
    let internal = match candidate.origin {
        From::Here => false,
        From::Peer { session, .. } => session == SessionKind::Internal,
    };
    [u32::from(internal), candidate.igp_cost]
}

/// RFC 4271 9.1.2.2 f and g. RFC 4456 9: ORIGINATOR_ID stands for the router ID where there is one, and a
/// shorter CLUSTER_LIST wins before the address does.
fn identity(candidate: &Candidate) -> [u128; 4] {
    let address = match candidate.origin {
        From::Here => [0, 0],
        From::Peer {
            address: IpAddr::V4(address),
            ..
        } => [0, address.to_bits().into()],
        From::Peer {
            address: IpAddr::V6(address),
            ..
        } => [1, address.to_bits()],
    };
    let originator = candidate.rank.originator.map(|id| id.to_bits());
    [
        originator.unwrap_or_else(|| router_id(candidate)).into(),
        candidate.rank.cluster_length.into(),
        address[0],
        address[1],
    ]
}

/// Of the peer it came from.
fn router_id(candidate: &Candidate) -> u32 {
    match candidate.origin {
        From::Here => 0,
        From::Peer { router_id, .. } => router_id,
    }
}

/// RFC 4271 9.1.2.2 c: MEDs of different neighbour ASes say nothing to each other.
fn lowest_med(left: &mut Vec<Candidate>, lost: &mut impl FnMut(&Candidate, WhyNotBest)) {
    left.sort_unstable_by_key(|c| (c.rank.neighbor, c.rank.med));
    let mut group = None;
    left.retain(|candidate| {
        let Rank { neighbor, med, .. } = candidate.rank;
        match group {
            Some((same, least)) if same == neighbor && least < med => {
                lost(candidate, WhyNotBest::Med);
                false
            }
            _ => {
                group = Some((neighbor, med));
                true
            }
        }
    });
}

fn external(candidate: &Candidate) -> bool {
    match candidate.origin {
        From::Here => false,
        From::Peer { session, .. } => session == SessionKind::External,
    }
}

#[cfg(test)]
mod tests;
