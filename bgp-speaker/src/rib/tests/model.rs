//! Random histories against the plainest model: a table of what each peer announced last. What receivers hold is
//! held against a RIB that is told everything at once, and against the rules written down once more (`naive`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::naive;
use super::world::*;
use crate::config::{LocalRoute, ReflectorClient};
use crate::policy::{ExportPolicy, ImportPolicy, SetAttrs, SetNextHop, Statement, Verdict};
use crate::rib::buffers::Limits;
use crate::rib::{Down, ExistingExternal, PeerId, PeerInfo, Standing};
use crate::types::{AsnWidth, Family, Prefix};
use crate::wire::attrs::{Attrs, NextHop, Origin};

pub(super) const PEERS: u16 = 5;
/// The local address of the session with peer 3.
const OTHER_OWN: &str = "10.0.0.253";
const FAMILIES: [Family; 2] = [Family::IPV4_UNICAST, Family::IPV6_UNICAST];

#[derive(Debug, Clone)]
enum Op {
    Announce { peer: u16, attrs: u8, prefixes: Vec<u8> },
    Withdraw { peer: u16, prefixes: Vec<u8> },
    Local { attrs: u8, prefixes: Vec<u8> },
    Up { peer: u16, width: AsnWidth },
    Down { peer: u16 },
    Restart { peer: u16, family: usize },
    BeginRefresh { peer: u16, family: usize },
    Sweep { peer: u16, family: usize },
    Export { peer: u16, family: usize, policy: u8 },
    ExportOfAll { family: usize, policy: u8 },
    Import { peer: u16, family: usize, policy: u8 },
    Client { peer: u16, client: bool },
    Refresh { peer: u16, family: usize },
    Defer { family: usize },
    Release { family: usize },
    Pull { peer: u16, budget: usize },
}

fn op() -> impl Strategy<Value = Op> {
    let peer = || 0..PEERS;
    let prefixes = || prop::collection::vec(0..24_u8, 1..12);
    let family = || 0..2_usize;
    prop_oneof![
        8 => (peer(), 0..13_u8, prefixes())
            .prop_map(|(peer, attrs, prefixes)| Op::Announce { peer, attrs, prefixes }),
        4 => (peer(), prefixes()).prop_map(|(peer, prefixes)| Op::Withdraw { peer, prefixes }),
        3 => (0..3_u8, prefixes()).prop_map(|(attrs, prefixes)| Op::Local { attrs, prefixes }),
        3 => (peer(), prop_oneof![Just(AsnWidth::Two), Just(AsnWidth::Four)])
            .prop_map(|(peer, width)| Op::Up { peer, width }),
        1 => peer().prop_map(|peer| Op::Down { peer }),
        1 => (peer(), family()).prop_map(|(peer, family)| Op::Restart { peer, family }),
        1 => (peer(), family()).prop_map(|(peer, family)| Op::BeginRefresh { peer, family }),
        2 => (peer(), family()).prop_map(|(peer, family)| Op::Sweep { peer, family }),
        2 => (peer(), family(), 0..5_u8).prop_map(|(peer, family, policy)| Op::Export { peer, family, policy }),
        1 => (family(), 0..5_u8).prop_map(|(family, policy)| Op::ExportOfAll { family, policy }),
        1 => (peer(), family(), 0..3_u8).prop_map(|(peer, family, policy)| Op::Import { peer, family, policy }),
        1 => (peer(), any::<bool>()).prop_map(|(peer, client)| Op::Client { peer, client }),
        2 => (peer(), family()).prop_map(|(peer, family)| Op::Refresh { peer, family }),
        1 => family().prop_map(|family| Op::Defer { family }),
        2 => family().prop_map(|family| Op::Release { family }),
        12 => (peer(), prop_oneof![Just(1_usize), 1..2000_usize])
            .prop_map(|(peer, budget)| Op::Pull { peer, budget }),
    ]
}

/// Even numbers are IPv4, odd ones IPv6.
fn numbered(number: u8) -> Prefix {
    if number.is_multiple_of(2) {
        prefix(&format!("203.0.{number}.0/24"))
    } else {
        prefix(&format!("2001:db8:{number:x}::/48"))
    }
}

fn next_hop(prefix: &Prefix, n: u16) -> String {
    match prefix {
        Prefix::V4 { .. } => format!("10.0.0.{}", n + 1),
        Prefix::V6 { .. } => format!("fd00::{}", n + 1),
    }
}

fn ip(text: &str) -> NextHop {
    NextHop::Ip(text.parse().unwrap())
}

/// Peers 0 to 2 are external, the others internal.
fn is_external(n: u16) -> bool {
    n < 3
}

fn peer_attrs(n: u16, kind: u8, prefix: &Prefix) -> Attrs {
    let own = if is_external(n) {
        LOCAL_ASN + u32::from(n) + 1
    } else {
        64999
    };
    let mut attrs = learned(&[own], &next_hop(prefix, n));
    attrs.med = (kind & 1 == 1).then_some(u32::from(kind));
    if kind & 2 == 2 {
        attrs.as_path = path(&[own, 7]);
    }
    match kind {
        4 => attrs.communities = vec![crate::rib::attrs::NO_EXPORT],
        5 => attrs.communities = vec![crate::rib::attrs::NO_ADVERTISE],
        6 => attrs.as_path = path(&[own, LOCAL_ASN]),
        8 => attrs.origin = Origin::Incomplete,
        9 => attrs.as_path = path(&[own, 4_200_000_000]),
        // A third party, which may be another peer.
        10 => attrs.next_hop = ip(&next_hop(prefix, (n + 1) % PEERS)),
        // This node, by the address that peer 3 knows.
        11 => attrs.next_hop = ip(OTHER_OWN),
        12 if !is_external(n) => {
            attrs.originator_id = "10.0.0.77".parse().ok();
            attrs.cluster_list = vec!["10.9.9.9".parse().unwrap()];
        }
        _ => {}
    }
    if !is_external(n) {
        attrs.local_pref = Some(100 + u32::from(kind & 1));
    }
    attrs
}

fn statement(number: u8, verdict: Verdict) -> Statement {
    Statement {
        policy: "model".into(),
        prefixes: (0..24)
            .filter(|n| n % 3 == number % 3)
            .map(|n| crate::policy::PrefixMatch {
                prefix: numbered(n),
                min: 0,
                max: 128,
            })
            .collect(),
        verdict,
    }
}

fn statements(kind: u8) -> Vec<Statement> {
    let with = |communities, local_pref| {
        Verdict::Accept(SetAttrs {
            communities,
            local_pref,
            ..SetAttrs::default()
        })
    };
    match kind {
        0 => vec![accept(&[], SetAttrs::default())],
        1 => Vec::new(),
        2 => vec![
            statement(0, with(vec![1], Some(50))),
            statement(1, with(vec![2], None)),
        ],
        3 => vec![statement(0, Verdict::Reject), accept(&[], SetAttrs::default())],
        _ => vec![accept(
            &[],
            SetAttrs {
                next_hop: SetNextHop::Unchanged,
                as_path_prepend: 1,
                ..SetAttrs::default()
            },
        )],
    }
}

/// What was said, with nothing worked out.
pub(super) struct Model {
    pub(super) heard: BTreeMap<u16, BTreeMap<Prefix, (Attrs, Stale)>>,
    pub(super) local: BTreeMap<Prefix, LocalRoute>,
    pub(super) infos: Vec<PeerInfo>,
    up: BTreeSet<u16>,
    /// Those that were up at any time.
    pub(super) met: BTreeSet<u16>,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Stale {
    No,
    Yes,
}

fn apply(world: &mut World, model: &mut Model, op: Op) {
    let id = PeerId;
    match op {
        Op::Announce {
            peer,
            attrs,
            prefixes,
        } if model.up.contains(&peer) => {
            for number in prefixes {
                let prefix = numbered(number);
                let attrs = peer_attrs(peer, attrs, &prefix);
                world.announce_all(id(peer), &attrs, vec![prefix]);
                let heard = model.heard.entry(peer).or_default();
                heard.insert(prefix, (attrs, Stale::No));
            }
        }
        Op::Withdraw { peer, prefixes } if model.up.contains(&peer) => {
            for number in prefixes {
                let prefix = numbered(number);
                world.withdraw(id(peer), &[&prefix.to_string()]);
                model.heard.entry(peer).or_default().remove(&prefix);
            }
        }
        Op::Local { attrs, prefixes } => {
            let route = local((attrs > 0).then_some(u32::from(attrs)));
            model.local = prefixes
                .into_iter()
                .map(|n| (numbered(n), route.clone()))
                .collect();
            world.rib.set_local(world.now, &Arc::new(model.local.clone()));
        }
        Op::Up { peer, width } if !model.up.contains(&peer) => {
            let info = &mut model.infos[usize::from(peer)];
            info.asn_width = width;
            world.up(peer, info.clone());
            model.up.insert(peer);
            model.met.insert(peer);
        }
        Op::Down { peer } => {
            world.rib.peer_down(id(peer), &Down::Flush);
            model.up.remove(&peer);
            model.heard.remove(&peer);
        }
        Op::Restart { peer, family } if model.up.remove(&peer) => {
            let keep = FAMILIES[family];
            world.rib.peer_down(id(peer), &Down::KeepStale(vec![keep]));
            let heard = model.heard.entry(peer).or_default();
            heard.retain(|prefix, _| prefix.family() == keep);
            heard.values_mut().for_each(|(_, stale)| *stale = Stale::Yes);
        }
        Op::BeginRefresh { peer, family } if model.up.contains(&peer) => {
            world.rib.mark_stale(id(peer), FAMILIES[family]);
            let heard = model.heard.entry(peer).or_default();
            for (prefix, (_, stale)) in heard {
                if prefix.family() == FAMILIES[family] {
                    *stale = Stale::Yes;
                }
            }
        }
        Op::Sweep { peer, family } => {
            world.rib.sweep_stale(id(peer), FAMILIES[family]);
            let heard = model.heard.entry(peer).or_default();
            heard.retain(|prefix, (_, stale)| prefix.family() != FAMILIES[family] || *stale == Stale::No);
        }
        Op::Export { peer, family, policy } => {
            let policy = Arc::new(ExportPolicy {
                statements: statements(policy),
            });
            world.rib.set_export(id(peer), FAMILIES[family], &policy);
            model.infos[usize::from(peer)].families[family].1.export = policy;
        }
        Op::ExportOfAll { family, policy } => {
            for peer in 0..PEERS {
                apply(world, model, Op::Export { peer, family, policy });
            }
        }
        // One that is down brings its policy when it comes up; until then its stale routes keep theirs.
        Op::Import { peer, family, policy }
            if model.up.contains(&peer) || model.heard.get(&peer).is_none_or(BTreeMap::is_empty) =>
        {
            let policy = Arc::new(ImportPolicy {
                statements: statements(policy),
            });
            world.rib.set_import(id(peer), FAMILIES[family], &policy);
            model.infos[usize::from(peer)].families[family].1.import = policy;
        }
        Op::Client { peer, client } => {
            let client = if client {
                ReflectorClient::Yes
            } else {
                ReflectorClient::No
            };
            world.rib.set_reflector_client(id(peer), client);
            model.infos[usize::from(peer)].reflector_client = client;
        }
        Op::Refresh { peer, family } => world.rib.refresh(id(peer), FAMILIES[family]),
        Op::Defer { family } => world.rib.defer(FAMILIES[family]),
        Op::Release { family } => world.rib.release(FAMILIES[family]),
        Op::Pull { peer, budget } if model.up.contains(&peer) => {
            world.pull(id(peer), budget);
        }
        Op::Announce { .. }
        | Op::Withdraw { .. }
        | Op::Up { .. }
        | Op::Restart { .. }
        | Op::BeginRefresh { .. }
        | Op::Import { .. }
        | Op::Pull { .. } => {}
    }
}

/// Told everything at once, in an order of its own, and never anything else.
fn recomputed(model: &Model) -> World {
    let mut world = World::new();
    for n in model.met.iter().copied().rev() {
        world.up(n, model.infos[usize::from(n)].clone());
        for (prefix, (attrs, _)) in model.heard.get(&n).into_iter().flatten() {
            world.announce_all(PeerId(n), attrs, vec![*prefix]);
        }
    }
    world.rib.set_local(world.now, &Arc::new(model.local.clone()));
    world.rib.settle();
    world
}

fn check(tight: Limits, ops: Vec<Op>) {
    let mut world = World::new();
    world.rib.shared.limits = tight;
    world.rib.shared.scratch.chunk = tight.chunk;
    let mut model = Model {
        heard: BTreeMap::new(),
        local: BTreeMap::new(),
        infos: (0..PEERS)
            .map(|n| {
                let mut info = if is_external(n) {
                    external(n + 1)
                } else {
                    internal(n + 1)
                };
                // Peer 2 is of another kind than 0 and 1, 3 of another than 4.
                info.max_message = if n == 2 { 65535 } else { 4096 };
                if n == 3 {
                    info.local_address = OTHER_OWN.parse().unwrap();
                }
                info
            })
            .collect(),
        up: BTreeSet::new(),
        met: BTreeSet::new(),
    };
    for op in ops {
        apply(&mut world, &mut model, op);
    }
    for family in FAMILIES {
        world.rib.release(family);
    }
    let fresh = recomputed(&model);
    for n in model.up.clone() {
        world.drain(PeerId(n));
        let out = world.adj_out(PeerId(n));
        assert_eq!(*world.held(PeerId(n)), out, "what {n} was sent");
        assert_eq!(out, fresh.adj_out(PeerId(n)), "what {n} should be told");
        assert_eq!(out, naive::told(&model, n), "what {n} is due by the rules");
        for family in FAMILIES {
            let counts = world.rib.counts(PeerId(n), family);
            let routes = world.rib.adj_in(PeerId(n), family);
            let advertised = out.keys().filter(|p| p.family() == family).count();
            assert_eq!(counts.advertised as usize, advertised);
            assert_eq!(counts.received as usize, routes.len());
            assert_eq!(counts.stale as usize, routes.iter().filter(|r| r.stale).count());
            let refused = |r: &&crate::rib::RouteView| match r.standing {
                Standing::Refused(_) => true,
                Standing::Best | Standing::Multipath | Standing::Lost(_) => false,
            };
            let refused = routes.iter().filter(refused).count();
            assert_eq!(counts.accepted as usize, routes.len() - refused);
        }
    }
    let bare = |world: &World| -> Vec<_> {
        let all = world.loc_rib();
        all.into_iter()
            .map(|v| (v.prefix, v.source, v.attrs, v.standing))
            .collect()
    };
    assert_eq!(bare(&world), bare(&fresh));
    world.set_local(&[]);
    for n in 0..PEERS {
        world.rib.peer_down(PeerId(n), &Down::Flush);
    }
    for family in FAMILIES {
        assert_eq!(world.rib.prefixes(family), 0, "prefixes nobody speaks of");
    }
    assert_eq!(world.rib.attribute_sets(), 0, "attributes nobody holds");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn receivers_hold_what_a_recomputation_and_the_plain_rules_give(ops in prop::collection::vec(op(), 1..120)) {
        check(Limits::USUAL, ops);
    }

    /// With limits so low that peers fall out of logs and batches all the time.
    #[test]
    fn slow_receivers_converge_all_the_same(
        ops in prop::collection::vec(op(), 1..120),
        lag in 0..300_usize,
        keep in 0..300_usize,
        big in 0..6_usize,
        slice in 1..5_usize,
        slice_octets in 1..100_usize,
        dirty in 0..4_usize,
        chunk in 50..400_usize,
    ) {
        check(Limits { lag, keep, big, slice, slice_octets, dirty, chunk }, ops);
    }
}

#[test]
fn existing_external_route_stays_until_a_better_one_comes() {
    let mut options = options();
    options.existing_external = ExistingExternal::Keep;
    let mut world = World::with(options);
    let (a, b) = (world.up(1, external(1)), world.up(2, external(2)));
    world.announce(b, &learned(&[65002], "10.0.0.2"), &["203.0.113.0/24"]);
    world.announce(a, &learned(&[65001], "10.0.0.1"), &["203.0.113.0/24"]);
    assert_eq!(world.loc_rib()[0].source, Some(b));
    world.announce(a, &learned(&[65001], "10.0.0.1"), &["203.0.113.0/24"]);
    assert_eq!(world.loc_rib()[0].source, Some(b));
    world.withdraw(b, &["203.0.113.0/24"]);
    world.announce(b, &learned(&[65002], "10.0.0.2"), &["203.0.113.0/24"]);
    assert_eq!(world.loc_rib()[0].source, Some(a));
}
