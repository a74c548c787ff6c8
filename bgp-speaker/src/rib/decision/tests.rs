use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;
use crate::rib::attrs::Scope;
use crate::types::Asn;
use crate::wire::attrs::Origin;

fn rank() -> Rank {
    Rank {
        local_pref: 100,
        path_length: 1,
        origin: Origin::Igp,
        neighbor: Some(Asn::new(65001).unwrap()),
        med: 0,
        originator: None,
        cluster_length: 0,
        scope: Scope::Everywhere,
    }
}

fn peer(path: u32, session: SessionKind) -> Candidate {
    Candidate {
        path,
        origin: From::Peer {
            session,
            router_id: path,
            address: IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + path)),
        },
        rank: rank(),
        igp_cost: 0,
        standing: Before::Other,
    }
}

fn external(path: u32) -> Candidate {
    peer(path, SessionKind::External)
}

fn with(mut candidate: Candidate, change: impl FnOnce(&mut Candidate)) -> Candidate {
    change(&mut candidate);
    candidate
}

fn decide(candidates: &[Candidate], existing: ExistingExternal) -> (Option<u32>, Vec<(u32, WhyNotBest)>) {
    let mut left = candidates.to_vec();
    let mut lost = Vec::new();
    elect(&mut left, existing, |c, why| lost.push((c.path, why)));
    lost.sort_unstable();
    (left.first().map(|c| c.path), lost)
}

/// `a` beats `b` for `why`, whichever comes first.
#[track_caller]
fn beats(a: Candidate, b: Candidate, why: WhyNotBest) {
    let expected = (Some(a.path), vec![(b.path, why)]);
    for existing in [ExistingExternal::Keep, ExistingExternal::Ignore] {
        assert_eq!(decide(&[a.clone(), b.clone()], existing), expected);
        assert_eq!(decide(&[b.clone(), a.clone()], existing), expected);
    }
}

#[test]
fn each_step_decides_where_those_before_are_equal() {
    let local = with(external(9), |c| {
        c.origin = From::Here;
        c.rank.local_pref = 1;
    });
    beats(local, external(1), WhyNotBest::NotLocal);
    let preferred = with(external(9), |c| {
        c.rank.local_pref = 101;
        c.rank.path_length = 9;
    });
    beats(preferred, external(1), WhyNotBest::LocalPref);
    let longer = with(external(1), |c| c.rank.path_length = 2);
    beats(
        with(external(9), |c| c.rank.origin = Origin::Egp),
        longer,
        WhyNotBest::AsPathLength,
    );
    let incomplete = with(external(1), |c| c.rank.origin = Origin::Incomplete);
    beats(
        with(external(9), |c| c.rank.med = 7),
        incomplete,
        WhyNotBest::Origin,
    );
    let med = with(external(1), |c| c.rank.med = 1);
    beats(peer(9, SessionKind::Internal), med, WhyNotBest::Med);
    let far = with(external(9), |c| c.igp_cost = 7);
    beats(far.clone(), peer(1, SessionKind::Internal), WhyNotBest::External);
    beats(external(9), with(far, |c| c.path = 1), WhyNotBest::IgpCost);
    beats(external(1), external(2), WhyNotBest::RouterId);
    let originated = with(external(9), |c| c.rank.originator = Some(Ipv4Addr::from_bits(0)));
    beats(originated, external(1), WhyNotBest::RouterId);
    let same_router = with(external(9), |c| {
        c.rank.originator = Some(Ipv4Addr::from_bits(1));
    });
    let reflected = with(external(1), |c| c.rank.cluster_length = 1);
    beats(same_router.clone(), reflected, WhyNotBest::ClusterListLength);
    beats(external(1), same_router, WhyNotBest::PeerAddress);
}

#[test]
fn meds_of_different_neighbours_are_not_compared() {
    let other = with(external(1), |c| {
        c.rank.med = 900;
        c.rank.neighbor = Some(Asn::new(65002).unwrap());
    });
    beats(other, external(2), WhyNotBest::RouterId);
}

/// The classical case in which comparing pairs makes the outcome depend on the order (RFC 4451 1.1).
#[test]
fn med_is_settled_within_each_neighbour_first() {
    let a = with(external(1), |c| c.rank.med = 10);
    let b = with(external(2), |c| c.rank.neighbor = Some(Asn::new(65002).unwrap()));
    let c = with(external(3), |c| c.rank.med = 5);
    let expected = (Some(2), vec![(1, WhyNotBest::Med), (3, WhyNotBest::RouterId)]);
    for order in [[&a, &b, &c], [&c, &b, &a], [&b, &a, &c]] {
        let order: Vec<_> = order.into_iter().cloned().collect();
        assert_eq!(decide(&order, ExistingExternal::Keep), expected);
    }
}

#[test]
fn existing_external_path_stays_best_unless_an_internal_one_is_as_good() {
    let before = with(external(5), |c| c.standing = Before::Best);
    let pair = [before.clone(), external(1)];
    assert_eq!(
        decide(&pair, ExistingExternal::Keep),
        (Some(5), vec![(1, WhyNotBest::ExistingExternal)])
    );
    assert_eq!(decide(&pair, ExistingExternal::Ignore).0, Some(1));
    let better = with(external(1), |c| c.rank.path_length = 0);
    assert_eq!(decide(&[before, better], ExistingExternal::Keep).0, Some(1));
    // RFC 5004 3 speaks of external paths only.
    let internal = with(peer(5, SessionKind::Internal), |c| c.standing = Before::Best);
    let other = peer(1, SessionKind::Internal);
    assert_eq!(decide(&[internal, other], ExistingExternal::Keep).0, Some(1));
}

/// RFC 5004 3: their addresses are how the router on the other side chooses.
#[test]
fn existing_path_gives_way_to_a_parallel_session_with_the_same_router() {
    let one_router = |path| {
        with(external(path), |c| {
            let From::Peer { router_id, .. } = &mut c.origin else {
                unreachable!()
            };
            *router_id = 7;
        })
    };
    let before = with(one_router(5), |c| c.standing = Before::Best);
    let all = [before, one_router(1), external(3)];
    assert_eq!(
        decide(&all, ExistingExternal::Keep),
        (
            Some(1),
            vec![(3, WhyNotBest::ExistingExternal), (5, WhyNotBest::PeerAddress)]
        )
    );
}

fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
    let one = (
        0..8_u32,
        99..101_u32,
        0..2_u32,
        0..2_u32,
        1..3_u32,
        0..2_u32,
        any::<bool>(),
    );
    prop::collection::vec(one, 1..8).prop_map(|all| {
        (0..)
            .zip(all)
            .map(
                |(path, (router, local_pref, length, med, neighbor, clusters, internal))| {
                    let session = if internal {
                        SessionKind::Internal
                    } else {
                        SessionKind::External
                    };
                    with(peer(path, session), |c| {
                        c.rank.local_pref = local_pref;
                        c.rank.path_length = length;
                        c.rank.med = med;
                        c.rank.neighbor = Asn::new(neighbor).ok();
                        c.rank.cluster_length = clusters;
                        c.rank.originator = Some(Ipv4Addr::from_bits(router));
                    })
                },
            )
            .collect()
    })
}

proptest! {
    #[test]
    fn winner_and_reasons_are_independent_of_arrival_order(
        (given, shuffled) in candidates().prop_flat_map(|c| (Just(c.clone()), Just(c).prop_shuffle())),
    ) {
        let outcome = decide(&given, ExistingExternal::Ignore);
        prop_assert_eq!(outcome.1.len(), given.len() - 1);
        prop_assert_eq!(outcome, decide(&shuffled, ExistingExternal::Ignore));
    }
}
