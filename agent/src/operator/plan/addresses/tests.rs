//! Twice is once, order does not matter, and what is not ours is not touched.

use crate::shared_map::SharedMap;

use proptest::prelude::*;

use super::super::bench::Cluster;
use super::*;

fn settle(cluster: &mut Cluster) -> usize {
    let found = addresses(&cluster.world, &Options::default(), Timestamp::UNIX_EPOCH);
    cluster.world.observed.held_vips = found.held.into_iter().collect();
    cluster.carry_out(found.writes)
}

/// As after a restart: nothing is remembered.
fn forget(cluster: &mut Cluster) {
    cluster.world.observed.held_vips = SharedMap::new();
}

/// `name: addresses | reason | from`, by name.
fn shown(cluster: &Cluster) -> Vec<String> {
    let shown = |service: Fetched<'_, Service>| {
        let service = service.stored();
        let entries = vips::entries(service.object).iter();
        let ips: Vec<&str> = entries
            .filter_map(|entry| entry.ip.as_deref().or(entry.hostname.as_deref()))
            .collect();
        let seen = of_service(service.object);
        let of = |kind: &str| seen.iter().find(|seen| seen.kind == kind);
        let reason = of(SATISFIED).map_or("-", |seen| seen.reason.as_str());
        let from = of(FROM).map_or("-", |seen| seen.message.as_str());
        format!("{}: {} | {reason} | {from}", service.name(), ips.join(" "))
    };
    cluster.world.objects.services().map(shown).collect()
}

fn pool(name: &str, cidrs: &[&str]) -> Value {
    let blocks: Vec<Value> = cidrs.iter().map(|cidr| json!({ "cidr": cidr })).collect();
    json!({
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumLoadBalancerIPPool",
        "metadata": { "name": name, "creationTimestamp": "2026-01-01T00:00:00Z" },
        "spec": { "blocks": blocks },
    })
}

fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name, "namespace": "ns" },
        "spec": { "type": "LoadBalancer", "ports": [{ "port": 80, "name": "http" }] },
    })
}

/// Conditions of the first pool whose type begins so, with their messages.
fn of_pool(cluster: &Cluster, kind: &str) -> Vec<String> {
    let pool = cluster.world.objects.lb_pools().next().unwrap();
    let conditions = pool.object.status.iter().flat_map(|status| &status.conditions);
    let found = conditions.filter(|condition| condition.kind.starts_with(kind));
    found
        .map(|found| format!("{} {}", found.kind, found.message))
        .collect()
}

fn holding(name: &str, address: &str) -> Value {
    let mut service = service(name);
    service["status"] = json!({ "loadBalancer": { "ingress": [{ "ip": address }] } });
    service
}

#[test]
fn a_service_gets_an_address_a_condition_and_the_name_of_its_pool_in_one_write() {
    let mut cluster = Cluster::with(&[pool("blue", &["10.0.0.0/28"]), service("a")]);
    assert_eq!(settle(&mut cluster), 2);
    assert_eq!(shown(&cluster), ["a: 10.0.0.0 | satisfied | 10.0.0.0 from blue"]);
    assert_eq!(settle(&mut cluster), 0);
    forget(&mut cluster);
    assert_eq!(settle(&mut cluster), 0);
}

#[test]
fn without_a_pool_nothing_is_written() {
    let mut cluster = Cluster::with(&[service("a"), holding("b", "192.0.2.1")]);
    assert_eq!(settle(&mut cluster), 0);
}

#[test]
fn an_address_of_somebody_else_stays_and_counts() {
    let mut cluster = Cluster::with(&[pool("blue", &["10.0.0.0/28"]), holding("a", "192.0.2.1")]);
    settle(&mut cluster);
    assert_eq!(shown(&cluster), ["a: 192.0.2.1 | satisfied | "]);
}

#[test]
fn a_hostname_stays_beside_an_address() {
    let mut named = service("a");
    named["status"] = json!({ "loadBalancer": { "ingress": [{ "hostname": "lb.example" }] } });
    let mut cluster = Cluster::with(&[pool("blue", &["10.0.0.0/28"]), named]);
    settle(&mut cluster);
    assert_eq!(
        shown(&cluster),
        ["a: lb.example 10.0.0.0 | satisfied | 10.0.0.0 from blue"]
    );
}

#[test]
fn what_cilium_gave_is_taken_over() {
    let mut given = holding("a", "10.0.0.9");
    given["status"]["conditions"] = json!([{
        "type": SATISFIED, "status": "True", "reason": "satisfied", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }]);
    let mut disabled = pool("blue", &["10.0.0.0/28"]);
    disabled["spec"]["disabled"] = json!(true);
    let mut cluster = Cluster::with(&[disabled, given]);
    settle(&mut cluster);
    assert_eq!(shown(&cluster), ["a: 10.0.0.9 | satisfied | 10.0.0.9 from blue"]);
}

#[test]
fn a_service_that_asks_no_more_loses_what_came_from_here_and_nothing_else() {
    let mut cluster = Cluster::with(&[pool("blue", &["10.0.0.0/28"]), service("a")]);
    settle(&mut cluster);
    let mut other = cluster.json(&crds::ObjectRef::namespaced(crds::Kind::Service, "ns", "a"));
    other["spec"]["loadBalancerClass"] = json!("example.com/other");
    let ingress = other["status"]["loadBalancer"]["ingress"].as_array_mut().unwrap();
    ingress.push(json!({ "ip": "192.0.2.7" }));
    cluster.apply(other);
    settle(&mut cluster);
    assert_eq!(shown(&cluster), ["a: 192.0.2.7 | - | -"]);
    assert_eq!(settle(&mut cluster), 0);
}

#[test]
fn a_block_that_is_removed_moves_its_services_once_and_says_so() {
    let mut cluster = Cluster::with(&[pool("blue", &["10.0.0.0/28"]), service("a")]);
    settle(&mut cluster);
    cluster.apply(pool("blue", &["10.0.1.0/28"]));
    let found = addresses(&cluster.world, &Options::default(), Timestamp::UNIX_EPOCH);
    let notes: Vec<&str> = found
        .writes
        .iter()
        .flat_map(|write| &write.notes)
        .map(|note| note.reason)
        .collect();
    assert_eq!(notes, ["AddressAllocated", "AddressReleased"]);
    settle(&mut cluster);
    assert_eq!(shown(&cluster), ["a: 10.0.1.0 | satisfied | 10.0.1.0 from blue"]);
    assert_eq!(settle(&mut cluster), 0);
}

#[test]
fn a_pool_that_retains_moves_nobody_and_says_what_it_retains() {
    let retaining = |cidrs: &[&str]| {
        let mut pool = pool("blue", cidrs);
        pool["spec"]["blockRemoval"] = json!("Retain");
        pool
    };
    let mut cluster = Cluster::with(&[retaining(&["10.0.0.0/28"]), service("a")]);
    settle(&mut cluster);
    cluster.apply(retaining(&["10.0.1.0/28"]));
    let found = addresses(&cluster.world, &Options::default(), Timestamp::UNIX_EPOCH);
    let notes = found.writes.iter().flat_map(|write| &write.notes);
    let notes: Vec<&str> = notes.map(|note| note.reason).collect();
    assert_eq!(notes, ["AddressRetained", "AddressesRetained"]);
    settle(&mut cluster);
    let kept = "a: 10.0.0.0 | satisfied | 10.0.0.0 from blue (retained, its block is gone)";
    assert_eq!(shown(&cluster), [kept]);
    assert_eq!(of_pool(&cluster, "stentor.io/AddressesRetained").len(), 1);
    // A restart knows, and others get addresses of the new block.
    forget(&mut cluster);
    cluster.apply(service("b"));
    assert_eq!(settle(&mut cluster), 2);
    assert_eq!(shown(&cluster)[0], kept);
    assert_eq!(shown(&cluster)[1], "b: 10.0.1.0 | satisfied | 10.0.1.0 from blue");
    assert_eq!(settle(&mut cluster), 0);
    // The block comes back, and all is as it was.
    cluster.apply(retaining(&["10.0.1.0/28", "10.0.0.0/28"]));
    settle(&mut cluster);
    assert_eq!(shown(&cluster)[0], "a: 10.0.0.0 | satisfied | 10.0.0.0 from blue");
    assert_eq!(
        of_pool(&cluster, "stentor.io/AddressesRetained"),
        Vec::<String>::new()
    );
    // A pool that is deleted has no say any more.
    cluster.delete(crds::Kind::CiliumLoadBalancerIPPool, "blue");
    settle(&mut cluster);
    assert_eq!(shown(&cluster)[0], "a:  | no_pool | ");
}

#[test]
fn the_last_pool_that_goes_takes_its_addresses_with_it() {
    let mut cluster = Cluster::with(&[pool("blue", &["10.0.0.0/28"]), service("a")]);
    settle(&mut cluster);
    cluster.delete(crds::Kind::CiliumLoadBalancerIPPool, "blue");
    settle(&mut cluster);
    assert_eq!(shown(&cluster), ["a:  | no_pool | "]);
    // And gives it back, if it comes again.
    cluster.apply(service("b"));
    cluster.apply(pool("blue", &["10.0.0.0/28"]));
    settle(&mut cluster);
    assert_eq!(shown(&cluster)[0], "a: 10.0.0.0 | satisfied | 10.0.0.0 from blue");
}

#[test]
fn a_write_that_is_not_seen_yet_is_not_forgotten() {
    let mut cluster = Cluster::with(&[pool("blue", &["10.0.0.0/28"]), service("b")]);
    let found = addresses(&cluster.world, &Options::default(), Timestamp::UNIX_EPOCH);
    cluster.world.observed.held_vips = found.held.into_iter().collect();
    // First by name, and would have got the address of `b`.
    cluster.apply(service("a"));
    settle(&mut cluster);
    assert_eq!(
        shown(&cluster),
        [
            "a: 10.0.0.1 | satisfied | 10.0.0.1 from blue",
            "b: 10.0.0.0 | satisfied | 10.0.0.0 from blue",
        ]
    );
}

#[test]
fn counts_of_a_pool_are_written_with_the_addresses() {
    let mut cluster = Cluster::with(&[pool("blue", &["10.0.0.0/28"]), service("a"), service("b")]);
    settle(&mut cluster);
    assert_eq!(
        of_pool(&cluster, ""),
        [
            "cilium.io/IPsAvailable 14",
            "cilium.io/IPsTotal 16",
            "cilium.io/IPsUsed 2",
            "cilium.io/PoolConflict ",
        ]
    );
}

/// Services of every sort: shared, dual stack, with a wish, with a status of their own.
fn any_service() -> impl Strategy<Value = Value> {
    let held = prop_oneof![Just(None), (0..24_u8).prop_map(Some)];
    let asked = prop_oneof![3 => Just(None), 1 => (0..24_u8).prop_map(Some)];
    (0..6_u8, held, asked, 0..3_u8, 0..3_u8, 0..4_u8).prop_map(|(name, held, asked, key, class, stack)| {
        let mut service = service(&format!("s{name}"));
        if let Some(held) = held {
            service["status"] =
                json!({ "loadBalancer": { "ingress": [{ "ip": format!("10.0.0.{held}") }] } });
        }
        let mut annotations = serde_json::Map::new();
        if let Some(asked) = asked {
            annotations.insert(
                "lbipam.cilium.io/ips".to_owned(),
                json!(format!("10.0.0.{asked}")),
            );
        }
        if key > 0 {
            annotations.insert("lbipam.cilium.io/sharing-key".to_owned(), json!(key.to_string()));
        }
        service["metadata"]["annotations"] = Value::Object(annotations);
        service["spec"]["ports"][0]["port"] = json!(80 + u16::from(name));
        if class == 1 {
            service["spec"]["loadBalancerClass"] = json!("io.cilium/bgp-control-plane");
        }
        if stack == 1 {
            service["spec"]["ipFamilyPolicy"] = json!("PreferDualStack");
            service["spec"]["ipFamilies"] = json!(["IPv4", "IPv6"]);
        }
        service
    })
}

fn any_pool() -> impl Strategy<Value = Value> {
    (0..3_u8, 0..4_u8, any::<bool>()).prop_map(|(name, block, disabled)| {
        let mut pool = pool(
            &format!("p{name}"),
            &[&format!("10.0.0.{}/29", block * 8), "fd00::/120"],
        );
        pool["spec"]["disabled"] = json!(disabled);
        pool
    })
}

/// The same pools with other blocks and options, all of them retaining.
fn any_retaining_pool() -> impl Strategy<Value = Value> {
    let shape = (any::<bool>(), any::<bool>(), -1..2_i32);
    (0..2_u8, 0..8_u8, 0..8_u8, shape).prop_map(|(name, one, other, (disabled, named, priority))| {
        let blocks = [one, other].map(|block| format!("10.0.{}.{}/29", name, block * 8));
        let mut pool = pool(&format!("p{name}"), &[&blocks[0], &blocks[1]]);
        pool["spec"]["disabled"] = json!(disabled);
        pool["spec"]["autoAssign"] = json!(!named);
        pool["spec"]["priority"] = json!(priority);
        pool["spec"]["reserved"] = json!([{ "cidr": format!("10.0.{name}.0/30") }]);
        pool["spec"]["blockRemoval"] = json!("Retain");
        pool
    })
}

proptest! {
    /// Blocks come and go, pools are switched off, held back and on again, the operator restarts.
    #[test]
    fn where_pools_retain_an_address_never_moves(
        steps in proptest::collection::vec(
            prop_oneof![
                3 => any_retaining_pool().prop_map(Some),
                2 => (0..6_u8).prop_map(|name| Some(service(&format!("s{name}")))),
                1 => Just(None),
            ],
            1..24,
        )
    ) {
        let mut cluster = Cluster::with(&[]);
        let mut given: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
        for step in steps {
            match step {
                None => forget(&mut cluster),
                Some(object) if object["kind"] == "Service" => {
                    let name = object["metadata"]["name"].as_str().unwrap();
                    let there = crds::ObjectRef::namespaced(crds::Kind::Service, "ns", name);
                    if cluster.world.objects.get(&there).is_none() {
                        cluster.apply(object);
                    }
                }
                Some(pool) => cluster.apply(pool),
            }
            settle(&mut cluster);
            prop_assert_eq!(settle(&mut cluster), 0);
            let mut all = BTreeSet::new();
            for service in cluster.world.objects.services() {
                let service = service.stored();
                let entries = vips::entries(service.object).iter();
                let has: Vec<IpAddr> = entries.filter_map(|entry| vips::ingress(entry)?.vip()).collect();
                for address in &has {
                    prop_assert!(all.insert(*address), "{} twice", address);
                }
                let before = given.insert(service.name().to_owned(), has.clone()).unwrap_or_default();
                prop_assert!(before.is_empty() || before == has, "{:?} became {:?}", before, has);
            }
        }
    }

    /// A restart is a plan like any other, whatever happened before and in whatever order objects are told.
    #[test]
    fn planned_twice_is_planned_once_and_a_restart_writes_nothing(
        steps in proptest::collection::vec(prop_oneof![3 => any_service(), 1 => any_pool()], 1..24)
    ) {
        let mut cluster = Cluster::with(&[]);
        for step in steps {
            cluster.apply(step);
            settle(&mut cluster);
            prop_assert_eq!(settle(&mut cluster), 0);
        }
        let before = shown(&cluster);
        forget(&mut cluster);
        prop_assert_eq!(settle(&mut cluster), 0);
        prop_assert_eq!(shown(&cluster), before);
    }
}
