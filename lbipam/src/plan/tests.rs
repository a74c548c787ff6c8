use proptest::prelude::*;

use super::*;
use crate::count::Count;
use crate::pool::{FirstAndLast, PoolState};
use crate::range::{Block, Range};
use crate::request::{Protocol, RequestId};
use crate::sharing::{Incompatible, Sharing};

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn prefix(text: &str) -> Block {
    Block::Prefix(text.parse().unwrap())
}

fn pool(name: &str, blocks: &[Block]) -> Pool {
    Pool::new(name, blocks.to_vec())
}

/// Asks for one IPv4 address of the pools named.
fn request(name: &str, pools: &[&str]) -> Request {
    Request {
        id: RequestId {
            namespace: "ns".to_owned(),
            name: name.to_owned(),
        },
        created: None,
        wish: Wish::Families([Family::Ipv4].into()),
        pools: pools.iter().map(|pool| (*pool).to_owned()).collect(),
        sharing: None,
        ports: BTreeSet::new(),
        traffic_policy: TrafficPolicy::Cluster,
        selector: BTreeMap::new(),
        held: Vec::new(),
        origins: BTreeMap::new(),
    }
}

fn asking(mut request: Request, addresses: &[&str]) -> Request {
    request.wish = Wish::Addresses(addresses.iter().map(|text| address(text)).collect());
    request
}

fn holding(mut request: Request, addresses: &[&str]) -> Request {
    request.held = addresses.iter().map(|text| address(text)).collect();
    request
}

fn sharing(mut request: Request, key: &str, port: u16) -> Request {
    request.sharing = Some(Sharing {
        key: key.to_owned(),
        namespaces: Permitted::Own,
    });
    request.ports = [Port {
        number: port,
        protocol: Protocol::Tcp,
    }]
    .into();
    request
}

fn addresses(plan: &Plan, name: &str) -> Vec<String> {
    let id = RequestId {
        namespace: "ns".to_owned(),
        name: name.to_owned(),
    };
    plan.decisions[&id]
        .addresses
        .iter()
        .map(|given| given.address.to_string())
        .collect()
}

fn condition(plan: &Plan, name: &str) -> (&'static str, String) {
    let id = RequestId {
        namespace: "ns".to_owned(),
        name: name.to_owned(),
    };
    (plan.decisions[&id].reason(), plan.decisions[&id].message())
}

#[test]
fn the_oldest_gets_the_lowest_address_of_the_first_pool() {
    let pools = [
        pool("b", &[prefix("10.0.1.0/30")]),
        pool("a", &[prefix("10.0.0.0/31")]),
    ];
    let mut requests = vec![
        request("x", &["a", "b"]),
        request("y", &["a", "b"]),
        request("z", &["a", "b"]),
    ];
    requests[2].created = Some(5);
    let plan = plan(&pools, &requests);
    assert_eq!(addresses(&plan, "z"), ["10.0.0.0"]);
    assert_eq!(addresses(&plan, "x"), ["10.0.0.1"]);
    assert_eq!(addresses(&plan, "y"), ["10.0.1.0"]);
    assert_eq!(condition(&plan, "x"), ("satisfied", String::new()));
}

#[test]
fn both_families_are_served_ipv4_first() {
    let pools = [pool("a", &[prefix("fd00::/64"), prefix("10.0.0.0/24")])];
    let mut both = request("x", &["a"]);
    both.wish = Wish::Families([Family::Ipv4, Family::Ipv6].into());
    let plan = plan(&pools, &[both]);
    assert_eq!(addresses(&plan, "x"), ["10.0.0.0", "fd00::"]);
}

#[test]
fn half_of_a_wish_is_granted_and_the_rest_refused() {
    let pools = [pool("a", &[prefix("10.0.0.0/24")])];
    let mut both = request("x", &["a"]);
    both.wish = Wish::Families([Family::Ipv4, Family::Ipv6].into());
    let some = asking(request("y", &["a"]), &["10.0.0.9", "10.9.9.9"]);
    let plan = plan(&pools, &[both, some]);
    assert_eq!(addresses(&plan, "x"), ["10.0.0.0"]);
    assert_eq!(condition(&plan, "x").0, "no_pool");
    assert_eq!(addresses(&plan, "y"), ["10.0.0.9"]);
    assert_eq!(
        condition(&plan, "y"),
        (
            "no_pool",
            "No pool exists with a CIDR containing '10.9.9.9'".to_owned()
        )
    );
}

#[test]
fn each_refusal_has_its_reason_and_text() {
    let mut disabled = pool("off", &[prefix("10.9.0.0/24")]);
    disabled.state = PoolState::Disabled;
    let pools = [
        pool("a", &[prefix("10.0.0.0/32")]),
        pool("b", &[prefix("10.0.1.0/32")]),
        disabled,
    ];
    let mut first = request("1", &["a"]);
    first.created = Some(1);
    let requests = [
        first,
        request("full", &["a"]),
        request("none", &["off"]),
        asking(request("other-pool", &["a"]), &["10.0.1.0"]),
        asking(request("nowhere", &["a"]), &["10.9.0.1"]),
    ];
    let plan = plan(&pools, &requests);
    assert_eq!(
        condition(&plan, "full"),
        (
            "out_of_ips",
            "All enabled CiliumLoadBalancerIPPools that match this service ran out of allocatable IPs"
                .to_owned()
        )
    );
    assert_eq!(
        condition(&plan, "none"),
        (
            "no_pool",
            "There are no enabled CiliumLoadBalancerIPPools that match this service".to_owned()
        )
    );
    assert_eq!(
        condition(&plan, "other-pool"),
        (
            "pool_selector_mismatch",
            "The pool with the CIDR containing '10.0.1.0', doesn't select this service".to_owned()
        )
    );
    assert_eq!(condition(&plan, "nowhere").0, "no_pool");
}

#[test]
fn an_address_of_another_is_refused_and_incompatible_sharers_are_told_why() {
    let pools = [pool("a", &[prefix("10.0.0.0/24")])];
    let owner = holding(sharing(request("owner", &["a"]), "k", 80), &["10.0.0.1"]);
    let stranger = asking(request("stranger", &["a"]), &["10.0.0.1"]);
    let same_port = asking(sharing(request("same-port", &["a"]), "k", 80), &["10.0.0.1"]);
    let other_key = asking(sharing(request("other-key", &["a"]), "q", 81), &["10.0.0.1"]);
    let friend = asking(sharing(request("friend", &["a"]), "k", 81), &["10.0.0.1"]);
    let plan = plan(&pools, &[owner, stranger, same_port, other_key, friend]);
    assert_eq!(
        condition(&plan, "stranger"),
        (
            "already_allocated",
            "The IP '10.0.0.1' is already allocated to another service".to_owned()
        )
    );
    let incompatible = |reason: &str| {
        let text =
            format!("The IP '10.0.0.1' is already allocated to an incompatible service. Reason: {reason}");
        ("already_allocated_incompatible_service", text)
    };
    assert_eq!(
        condition(&plan, "same-port"),
        incompatible("same port and protocol")
    );
    assert_eq!(
        condition(&plan, "other-key"),
        incompatible("different sharing key")
    );
    assert_eq!(addresses(&plan, "friend"), ["10.0.0.1"]);
}

#[test]
fn all_five_rules_of_sharing_hold_in_order() {
    let base = sharing(request("a", &[]), "k", 80);
    let other = |change: fn(&mut Request)| {
        let mut other = sharing(request("b", &[]), "k", 81);
        change(&mut other);
        other
    };
    assert_eq!(base.incompatible(&other(|_| {})), None);
    assert_eq!(
        base.incompatible(&other(|r| r.sharing = None)),
        Some(Incompatible::SharingKey)
    );
    assert_eq!(
        base.incompatible(&other(|r| r.id.namespace = "x".to_owned())),
        Some(Incompatible::Namespace)
    );
    assert_eq!(
        base.incompatible(&other(|r| r
            .ports
            .clone_from(&sharing(request("", &[]), "", 80).ports))),
        Some(Incompatible::Port)
    );
    let udp = other(|r| {
        r.ports = [Port {
            number: 80,
            protocol: Protocol::Udp,
        }]
        .into()
    });
    assert_eq!(base.incompatible(&udp), None);
    let local = other(|r| r.traffic_policy = TrafficPolicy::Local);
    assert_eq!(base.incompatible(&local), Some(Incompatible::TrafficPolicy));
    let mut base = base;
    base.traffic_policy = TrafficPolicy::Local;
    assert_eq!(base.incompatible(&local), Some(Incompatible::Pods));
    let mut local = local;
    base.selector = [("app".to_owned(), "a".to_owned())].into();
    local.selector.clone_from(&base.selector);
    assert_eq!(base.incompatible(&local), None);
}

#[test]
fn sharing_across_namespaces_needs_both_sides() {
    let mut here = sharing(request("a", &[]), "k", 80);
    let mut there = sharing(request("b", &[]), "k", 81);
    there.id.namespace = "x".to_owned();
    let permit = |request: &mut Request, namespaces| {
        request.sharing.as_mut().unwrap().namespaces = namespaces;
    };
    permit(&mut here, Permitted::Any);
    assert_eq!(here.incompatible(&there), Some(Incompatible::Namespace));
    permit(&mut there, Permitted::Listed(["ns".to_owned()].into()));
    assert_eq!(here.incompatible(&there), None);
    assert_eq!(there.incompatible(&here), None);
}

#[test]
fn sharers_without_a_wish_for_an_address_find_each_other() {
    let pools = [pool("a", &[prefix("10.0.0.0/24")])];
    let requests = [
        sharing(request("a", &["a"]), "k", 80),
        sharing(request("b", &["a"]), "k", 81),
        sharing(request("c", &["a"]), "k", 80),
        sharing(request("d", &["a"]), "q", 82),
    ];
    let plan = plan(&pools, &requests);
    assert_eq!(addresses(&plan, "a"), ["10.0.0.0"]);
    assert_eq!(addresses(&plan, "b"), ["10.0.0.0"]);
    assert_eq!(addresses(&plan, "c"), ["10.0.0.1"]);
    assert_eq!(addresses(&plan, "d"), ["10.0.0.2"]);
    assert_eq!(plan.pools["a"].used, Count::new(3));
}

#[test]
fn first_and_last_addresses_are_held_back_on_demand() {
    let mut held_back = pool("a", &[prefix("10.0.0.0/30"), prefix("10.0.1.0/31")]);
    held_back.first_and_last = FirstAndLast::Reserved;
    let requests = [
        asking(sharing(request("0", &["a"]), "k", 1), &["10.0.0.0"]),
        request("1", &["a"]),
        request("2", &["a"]),
        request("3", &["a"]),
        holding(request("9", &["a"]), &["10.0.0.3"]),
    ];
    let plan = plan(&[held_back], &requests);
    assert_eq!(condition(&plan, "0").0, "reserved");
    assert_eq!(addresses(&plan, "1"), ["10.0.0.1"]);
    assert_eq!(addresses(&plan, "2"), ["10.0.0.2"]);
    // A prefix of two has nothing to hold back.
    assert_eq!(addresses(&plan, "3"), ["10.0.1.0"]);
    // Turning the option on takes nothing away.
    assert_eq!(addresses(&plan, "9"), ["10.0.0.3"]);
    let report = &plan.pools["a"];
    assert_eq!(
        (report.total, report.used, report.available),
        (6.into(), 5.into(), 1.into())
    );
}

#[test]
fn a_disabled_pool_keeps_what_is_out_and_gives_nothing_new() {
    let mut disabled = pool("a", &[prefix("10.0.0.0/24")]);
    disabled.state = PoolState::Disabled;
    let requests = [
        holding(request("old", &["a"]), &["10.0.0.7"]),
        request("new", &["a"]),
    ];
    let plan = plan(&[disabled], &requests);
    assert_eq!(addresses(&plan, "old"), ["10.0.0.7"]);
    assert_eq!(addresses(&plan, "new"), [] as [&str; 0]);
}

#[test]
fn of_two_overlapping_pools_the_younger_loses_the_overlap_only() {
    let mut old = pool("z-old", &[prefix("10.0.0.0/31")]);
    old.created = Some(1);
    let mut young = pool("a-young", &[prefix("10.0.0.0/30")]);
    young.created = Some(2);
    let requests = [
        request("1", &["a-young"]),
        holding(request("2", &["a-young"]), &["10.0.0.1"]),
    ];
    let plan = plan(&[young, old], &requests);
    assert_eq!(addresses(&plan, "1"), ["10.0.0.2"]);
    assert_eq!(addresses(&plan, "2"), ["10.0.0.1"]);
    assert_eq!(plan.pools["z-old"].conflicts, []);
    assert_eq!(
        plan.pools["a-young"].conflicts[0].message(),
        "Pool conflicts since range '10.0.0.0 - 10.0.0.3' overlaps range '10.0.0.0 - 10.0.0.1' from IP Pool 'z-old'"
    );
    assert_eq!(plan.pools["a-young"].total, Count::new(4));
}

#[test]
fn equally_old_pools_settle_by_name_and_blocks_of_one_pool_with_themselves() {
    let pools = [
        pool("b", &[prefix("10.0.0.0/30")]),
        pool("a", &[prefix("10.0.0.0/31"), prefix("10.0.0.0/31")]),
    ];
    let plan = plan(&pools, &[]);
    assert_eq!(plan.pools["a"].conflicts[0].other_pool, "a");
    assert_eq!(plan.pools["b"].conflicts[0].other_pool, "a");
    assert_eq!(plan.pools["a"].total, Count::new(2));
}

#[test]
fn what_is_held_outside_of_every_pool_or_against_the_wish_is_given_up() {
    let pools = [
        pool("a", &[prefix("10.0.0.0/24")]),
        pool("b", &[prefix("10.0.1.0/24")]),
    ];
    let requests = [
        holding(request("gone", &["a"]), &["192.0.2.1"]),
        holding(request("unselected", &["a"]), &["10.0.1.5"]),
        holding(asking(request("other", &["a"]), &["10.0.0.9"]), &["10.0.0.8"]),
        holding(request("family", &["a"]), &["fd00::1"]),
    ];
    let plan = plan(&pools, &requests);
    assert_eq!(addresses(&plan, "other"), ["10.0.0.9"]);
    for name in ["gone", "unselected", "family"] {
        assert!(addresses(&plan, name)[0].starts_with("10.0.0."), "{name}");
    }
}

#[test]
fn huge_ranges_cost_what_is_used() {
    let pools = [
        pool("a", &[prefix("fd00::/8")]),
        pool("b", &[prefix("::/0"), prefix("::/0")]),
    ];
    let mut six = request("x", &["a", "b"]);
    six.wish = Wish::Families([Family::Ipv6].into());
    let plan = plan(&pools, &[six]);
    assert_eq!(addresses(&plan, "x"), ["fd00::"]);
    assert_eq!(
        plan.pools["b"].total.to_string(),
        "340282366920938463463374607431768211456"
    );
    assert_eq!(
        plan.pools["a"].available.to_string(),
        "1329227995784915872903807060280344575"
    );
}

#[test]
fn pools_of_a_higher_priority_are_drawn_from_first() {
    let mut second = pool("b", &[prefix("10.0.1.0/32")]);
    second.priority = 5;
    let pools = [pool("a", &[prefix("10.0.0.0/24")]), second];
    let requests = [request("1", &["a", "b"]), request("2", &["a", "b"])];
    let plan = plan(&pools, &requests);
    assert_eq!(addresses(&plan, "1"), ["10.0.1.0"]);
    assert_eq!(addresses(&plan, "2"), ["10.0.0.0"]);
}

#[test]
fn a_pool_without_auto_assign_serves_those_who_name_an_address_and_who_share_with_them() {
    let mut manual = pool("a", &[prefix("10.0.0.0/24")]);
    manual.auto_assign = AutoAssign::OnlyNamed;
    let requests = [
        asking(sharing(request("named", &["a"]), "k", 80), &["10.0.0.9"]),
        sharing(request("friend", &["a"]), "k", 81),
        holding(request("held", &["a"]), &["10.0.0.7"]),
        request("any", &["a"]),
    ];
    let plan = plan(&[manual], &requests);
    assert_eq!(addresses(&plan, "named"), ["10.0.0.9"]);
    assert_eq!(addresses(&plan, "friend"), ["10.0.0.9"]);
    assert_eq!(addresses(&plan, "held"), ["10.0.0.7"]);
    assert_eq!(condition(&plan, "any").0, "not_auto_assigned");
}

#[test]
fn reserved_blocks_are_skipped_refused_by_name_and_counted_as_used() {
    let mut some = pool("a", &[prefix("10.0.0.0/29"), prefix("fd00::/64")]);
    some.reserved = vec![
        prefix("10.0.0.0/30"),
        prefix("10.9.0.0/16"),
        prefix("fd00::/65"),
        prefix("10.0.0.3/32"),
    ];
    let mut both = request("any", &["a"]);
    both.wish = Wish::Families([Family::Ipv4, Family::Ipv6].into());
    let requests = [
        both,
        asking(request("named", &["a"]), &["10.0.0.2"]),
        holding(request("held", &["a"]), &["10.0.0.1"]),
    ];
    let plan = plan(&[some], &requests);
    assert_eq!(addresses(&plan, "any"), ["10.0.0.4", "fd00::8000:0:0:0"]);
    assert_eq!(condition(&plan, "named").0, "reserved");
    assert_eq!(addresses(&plan, "held"), ["10.0.0.1"]);
    let half = 1_u128 << 63;
    assert_eq!(plan.pools["a"].used, (4 + 1 + half + 1).into());
    assert_eq!(plan.pools["a"].available, (3 + half - 1).into());
}

#[test]
fn what_a_removed_block_gave_stays_where_the_pool_retains_and_moves_where_not() {
    let from = |mut request: Request, pool: &str| {
        let held = request.held.iter().map(|address| (*address, pool.to_owned()));
        request.origins = held.collect();
        request
    };
    let held = |name, pools| from(holding(request(name, pools), &["10.9.0.1"]), "a");
    let mut retaining = pool("a", &[prefix("10.0.0.0/24")]);
    retaining.removal = Removal::Retain;
    let kept = plan(&[retaining.clone()], &[held("x", &["a"])]);
    assert_eq!(addresses(&kept, "x"), ["10.9.0.1"]);
    let id = &held("x", &["a"]).id;
    assert_eq!(kept.decisions[id].addresses[0].standing, Standing::Retained);
    assert_eq!(kept.pools["a"].retained, [address("10.9.0.1")]);
    assert_eq!(kept.pools["a"].used, Count::default());
    // Nobody else gets it, also from a pool that has it now.
    let other = pool("b", &[prefix("10.9.0.1/32")]);
    let both = plan(
        &[retaining.clone(), other],
        &[held("x", &["a"]), request("y", &["b"])],
    );
    assert_eq!(addresses(&both, "x"), ["10.9.0.1"]);
    assert_eq!(condition(&both, "y").0, "out_of_ips");
    assert_eq!(both.pools["b"].available, Count::default());
    // The owner asks for it no longer, or the pool does not select the owner.
    let asks = plan(&[retaining.clone()], &[asking(held("x", &["a"]), &["10.0.0.5"])]);
    assert_eq!(addresses(&asks, "x"), ["10.0.0.5"]);
    assert_eq!(
        addresses(&plan(&[retaining], &[held("x", &[])]), "x"),
        [] as [&str; 0]
    );
    let moved = plan(&[pool("a", &[prefix("10.0.0.0/24")])], &[held("x", &["a"])]);
    assert_eq!(addresses(&moved, "x"), ["10.0.0.0"]);
}

#[test]
fn sharers_of_an_overlap_have_it_each_from_a_pool_of_their_own_also_when_planned_again() {
    let mut old = pool("old", &[prefix("10.0.0.0/24")]);
    old.created = Some(1);
    let pools = [old, pool("young", &[prefix("10.0.0.0/24")])];
    let mut first = sharing(request("a", &["old"]), "k", 80);
    first.created = Some(1);
    let second = holding(sharing(request("b", &["young"]), "k", 81), &["10.0.0.0"]);
    let requests = [first, second];
    let plan_once = plan(&pools, &requests);
    for name in ["a", "b"] {
        assert_eq!(addresses(&plan_once, name), ["10.0.0.0"]);
    }
    let from = |plan: &Plan| -> Vec<String> {
        let all = plan.decisions.values().flat_map(|d| &d.addresses);
        all.map(|given| given.pool.clone()).collect()
    };
    assert_eq!(from(&plan_once), ["old", "young"]);
    assert_eq!(plan(&pools, &applied(&requests, &plan_once)), plan_once);
}

#[test]
fn sharers_of_one_key_and_port_each_get_their_own_and_later_ones_still_find_room() {
    let pools = [pool("a", &[prefix("10.0.0.0/24")])];
    let mut requests: Vec<Request> = (0..20)
        .map(|n| sharing(request(&format!("{n:02}"), &["a"]), "k", 80))
        .collect();
    requests.extend((20..40).map(|n| sharing(request(&format!("{n:02}"), &["a"]), "k", 81)));
    let plan = plan(&pools, &requests);
    for n in 0..20 {
        let (first, second) = (format!("{n:02}"), format!("{:02}", n + 20));
        assert_eq!(addresses(&plan, &first), [format!("10.0.0.{n}")]);
        assert_eq!(addresses(&plan, &second), addresses(&plan, &first));
    }
}

fn some_address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (0u8..24).prop_map(|last| IpAddr::from([10, 0, 0, last])),
        (0u16..24).prop_map(|last| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, last])),
    ]
}

fn some_block() -> impl Strategy<Value = Block> {
    prop_oneof![
        (0u8..24, 27u8..=32).prop_map(|(last, length)| prefix(&format!("10.0.0.{last}/{length}"))),
        (0u16..24, 122u8..=128).prop_map(|(last, length)| prefix(&format!("fd00::{last:x}/{length}"))),
        (0u8..20, 0u8..5).prop_map(|(first, more)| {
            let (first, last) = (
                IpAddr::from([10, 0, 0, first]),
                IpAddr::from([10, 0, 0, first + more]),
            );
            Block::Range(Range::new(first, last).unwrap())
        }),
    ]
}

pub(crate) const POOLS: [&str; 4] = ["p0", "p1", "p2", "p3"];

prop_compose! {
    pub(crate) fn some_pool(name: &'static str)(
        created in proptest::option::of(0i64..3),
        blocks in proptest::collection::vec(some_block(), 0..4),
        reserved: bool,
        held_back in proptest::collection::vec(some_block(), 0..2),
        disabled in proptest::bool::weighted(0.2),
        priority in 0i32..2,
        named in proptest::bool::weighted(0.2),
        retain: bool,
    ) -> Pool {
        Pool {
            created,
            first_and_last: if reserved { FirstAndLast::Reserved } else { FirstAndLast::Usable },
            reserved: held_back,
            state: if disabled { PoolState::Disabled } else { PoolState::Enabled },
            priority,
            auto_assign: if named { AutoAssign::OnlyNamed } else { AutoAssign::Yes },
            removal: if retain { Removal::Retain } else { Removal::Reassign },
            ..Pool::new(name, blocks)
        }
    }
}

fn some_wish() -> impl Strategy<Value = Wish> {
    prop_oneof![
        proptest::collection::vec(some_address(), 1..4).prop_map(Wish::Addresses),
        proptest::collection::btree_set(prop_oneof![Just(Family::Ipv4), Just(Family::Ipv6)], 1..3)
            .prop_map(Wish::Families),
    ]
}

fn some_sharing() -> impl Strategy<Value = Option<Sharing>> {
    let namespaces = prop_oneof![
        Just(Permitted::Own),
        Just(Permitted::Any),
        Just(Permitted::Listed(["a".to_owned()].into())),
    ];
    let key = prop_oneof![Just("k"), Just("q")];
    proptest::option::of((key, namespaces).prop_map(|(key, namespaces)| Sharing {
        key: key.to_owned(),
        namespaces,
    }))
}

prop_compose! {
    pub(crate) fn some_request(name: usize)(
        namespace in prop_oneof![Just("a"), Just("b")],
        created in proptest::option::of(0i64..3),
        wish in some_wish(),
        pools in proptest::collection::btree_set(prop::sample::select(&POOLS[..]), 0..=4),
        sharing in some_sharing(),
        ports in proptest::collection::btree_set(80u16..84, 0..3),
        local: bool,
        selected in proptest::option::of(0u8..2),
        held in proptest::collection::vec(some_address(), 0..4),
        origin in proptest::option::of(prop::sample::select(&POOLS[..])),
    ) -> Request {
        let origins = origin.into_iter().flat_map(|pool| held.iter().map(|address| (*address, pool.to_owned())));
        Request {
            id: RequestId { namespace: namespace.to_owned(), name: format!("s{name}") },
            created,
            wish,
            pools: pools.into_iter().map(str::to_owned).collect(),
            sharing,
            ports: ports.into_iter().map(|number| Port { number, protocol: Protocol::Tcp }).collect(),
            traffic_policy: if local { TrafficPolicy::Local } else { TrafficPolicy::Cluster },
            selector: selected.into_iter().map(|n| ("app".to_owned(), n.to_string())).collect(),
            origins: origins.collect(),
            held,
        }
    }
}

fn some_input() -> impl Strategy<Value = (Vec<Pool>, Vec<Request>)> {
    let pools = (
        some_pool("p0"),
        some_pool("p1"),
        some_pool("p2"),
        some_pool("p3"),
        0usize..=4,
    );
    let pools = pools.prop_map(|(a, b, c, d, n)| [a, b, c, d].into_iter().take(n).collect());
    let requests = (0usize..10).prop_flat_map(|n| (0..n).map(some_request).collect::<Vec<_>>());
    (pools, requests)
}

/// The requests as they are after the plan has been carried out.
fn applied(requests: &[Request], plan: &Plan) -> Vec<Request> {
    let mut requests = requests.to_vec();
    for request in &mut requests {
        request.held = plan.decisions[&request.id]
            .addresses
            .iter()
            .map(|given| given.address)
            .collect();
        request.origins = plan.decisions[&request.id]
            .addresses
            .iter()
            .map(|given| (given.address, given.pool.clone()))
            .collect();
    }
    requests
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn planning_an_applied_plan_changes_nothing((pools, requests) in some_input()) {
        let first = plan(&pools, &requests);
        prop_assert_eq!(&plan(&pools, &applied(&requests, &first)), &first);
    }

    #[test]
    fn the_order_of_the_inputs_does_not_matter((pools, requests) in some_input(), turn in 0usize..10) {
        let expected = plan(&pools, &requests);
        let (mut pools, mut requests) = (pools, requests);
        if !pools.is_empty() {
            let by = turn % pools.len();
            pools.rotate_left(by);
        }
        requests.reverse();
        if !requests.is_empty() {
            let by = turn % requests.len();
            requests.rotate_left(by);
        }
        prop_assert_eq!(plan(&pools, &requests), expected);
    }

    #[test]
    fn no_address_has_two_incompatible_owners((pools, requests) in some_input()) {
        let plan = plan(&pools, &requests);
        for (at, a) in requests.iter().enumerate() {
            for b in &requests[at + 1..] {
                let has = |id: &RequestId| -> BTreeSet<IpAddr> {
                    plan.decisions[id].addresses.iter().map(|given| given.address).collect()
                };
                prop_assert!(has(&a.id).is_disjoint(&has(&b.id)) || a.incompatible(b).is_none());
                prop_assert_eq!(a.incompatible(b), b.incompatible(a));
            }
        }
    }

    #[test]
    fn held_addresses_never_move_while_a_pool_has_them_and_selects_the_service(
        (pools, requests) in some_input()
    ) {
        let plan = plan(&pools, &requests);
        for request in &requests {
            for held in request.held.iter().filter(|held| request.wants(**held)) {
                let contested = requests.iter().any(|other| {
                    other.id != request.id && other.held.contains(held) && other.incompatible(request).is_some()
                });
                let contained = pools.iter().any(|pool| {
                    request.pools.contains(&pool.name)
                        && pool.blocks.iter().any(|block| block.range().contains(*held))
                });
                let retained = pools.iter().any(|pool| {
                    request.origins.get(held) == Some(&pool.name)
                        && pool.removal == Removal::Retain
                        && request.pools.contains(&pool.name)
                });
                if (contained || retained) && !contested {
                    let given = &plan.decisions[&request.id].addresses;
                    prop_assert!(given.iter().any(|given| given.address == *held));
                }
            }
        }
    }

    #[test]
    fn what_is_given_is_wished_for_selected_and_counted((pools, requests) in some_input()) {
        let plan = plan(&pools, &requests);
        for request in &requests {
            let decision = &plan.decisions[&request.id];
            for given in &decision.addresses {
                prop_assert!(request.wants(given.address));
                let pool = pools.iter().find(|pool| pool.name == given.pool).unwrap();
                let stated = pool.blocks.iter().any(|block| block.range().contains(given.address));
                prop_assert_eq!(given.standing, if stated { Standing::InPool } else { Standing::Retained });
                let new = !request.held.contains(&given.address);
                let joined = requests.iter().any(|other| {
                    other.id != request.id && plan.decisions[&other.id].addresses.iter().any(|g| g.address == given.address)
                });
                if new {
                    prop_assert!(stated && pool.state == PoolState::Enabled);
                    let reserved = pool.reserved.iter().any(|block| block.range().contains(given.address));
                    prop_assert!(joined || !reserved);
                    let named = match &request.wish {
                        Wish::Addresses(_) => true,
                        Wish::Families(_) => false,
                    };
                    prop_assert!(joined || named || pool.auto_assign == AutoAssign::Yes);
                }
            }
            let granted = match &request.wish {
                Wish::Addresses(addresses) => addresses.iter().all(|address| decision.addresses.iter().any(|g| g.address == *address)),
                Wish::Families(families) => families.iter().all(|family| decision.addresses.iter().any(|g| Family::of(g.address) == *family)),
            };
            prop_assert_eq!(granted, decision.is_satisfied());
        }
        let out: BTreeSet<IpAddr> = plan.decisions.values().flat_map(|d| &d.addresses).map(|g| g.address).collect();
        for pool in &pools {
            let report = &plan.pools[&pool.name];
            // All addresses of the tests, one by one.
            let all = (0..=255).map(|last| IpAddr::from([10, 0, 0, last]));
            let all = all.chain((0..=255).map(|last| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, last])));
            let inside = |blocks: &[Block], address| blocks.iter().any(|block| block.range().contains(address));
            let stated: Vec<IpAddr> = all.filter(|address| inside(&pool.blocks, *address)).collect();
            let edge = |address| pool.first_and_last == FirstAndLast::Reserved && pool.blocks.iter().any(|block| {
                let range = block.range();
                matches!(block, Block::Prefix(_)) && range.steps() > 1 && [range.first(), range.last()].contains(&address)
            });
            let used = stated.iter().filter(|address| {
                out.contains(address) || inside(&pool.reserved, **address) || edge(**address)
            });
            prop_assert_eq!(report.used.to_u128(), Some(used.count() as u128));
            prop_assert_eq!(report.total.to_u128(), Some(stated.len() as u128));
            let mut sum = report.used;
            sum += report.available;
            prop_assert_eq!(sum, report.total);
        }
    }
}
