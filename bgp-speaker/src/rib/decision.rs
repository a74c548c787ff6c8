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
    let mut step = |left: &mut Vec<Candidate>, why, key: &dyn Fn(&Candidate) -> u64| {
        if left.len() > 1 {
            lowest(left, why, key, &mut lost);
        }
    };
    step(left, WhyNotBest::NotLocal, &|c| u64::from(c.origin != From::Here));
    step(left, WhyNotBest::LocalPref, &|c| u64::from(!c.rank.local_pref));
    step(left, WhyNotBest::AsPathLength, &|c| c.rank.path_length.into());
    step(left, WhyNotBest::Origin, &|c| c.rank.origin as u64);
    if left.len() > 1 {
        lowest_med(left, &mut lost);
    }
    let mut step = |left: &mut Vec<Candidate>, why, key: &dyn Fn(&Candidate) -> u64| {
        if left.len() > 1 {
            lowest(left, why, key, &mut lost);
        }
    };
    step(left, WhyNotBest::External, &|c| match c.origin {
        From::Here => 0,
        From::Peer { session, .. } => match session {
            SessionKind::External => 0,
            SessionKind::Internal => 1,
        },
    });
    step(left, WhyNotBest::IgpCost, &|c| c.igp_cost.into());
    if existing == ExistingExternal::Keep && left.iter().all(external) {
        step(left, WhyNotBest::ExistingExternal, &|c| {
            u64::from(c.standing != Before::Best)
        });
    }
    // RFC 4456 9: ORIGINATOR_ID stands for the router ID where there is one.
    step(left, WhyNotBest::RouterId, &|c| router_id(c).into());
    step(left, WhyNotBest::ClusterListLength, &|c| {
        c.rank.cluster_length.into()
    });
    if left.len() > 1 {
        lowest(left, WhyNotBest::PeerAddress, address, &mut lost);
    }
}

/// How the paths that are equal up to the IGP cost stand among themselves: the first of them are used
/// beside the best one (multipath). Their AS paths are of equal length and need not be equal.
pub(crate) fn multipath_order(candidate: &Candidate) -> impl Ord + use<> {
    (
        router_id(candidate),
        candidate.rank.cluster_length,
        address(candidate),
    )
}

/// Drops what has not the lowest key.
fn lowest<K: Ord>(
    left: &mut Vec<Candidate>,
    why: WhyNotBest,
    key: impl Fn(&Candidate) -> K,
    lost: &mut impl FnMut(&Candidate, WhyNotBest),
) {
    let Some(best) = left.iter().map(&key).min() else {
        return;
    };
    left.retain(|candidate| {
        let stays = key(candidate) == best;
        if !stays {
            lost(candidate, why);
        }
        stays
    });
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

fn router_id(candidate: &Candidate) -> u32 {
    match (candidate.rank.originator, candidate.origin) {
        (Some(originator), _) => originator.to_bits(),
        (None, From::Peer { router_id, .. }) => router_id,
        (None, From::Here) => 0,
    }
}

fn address(candidate: &Candidate) -> Option<IpAddr> {
    match candidate.origin {
        From::Here => None,
        From::Peer { address, .. } => Some(address),
    }
}

#[cfg(test)]
mod tests;
