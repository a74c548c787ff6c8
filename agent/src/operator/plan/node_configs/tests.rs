//! Node configs follow the cluster's, one node at a time.

use proptest::prelude::*;

use super::super::bench::Cluster;
use super::*;

fn cluster_config(name: &str, second: u8, group: Option<&str>) -> Value {
    let mut config = json!({
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumBGPClusterConfig",
        "metadata": {
            "name": name,
            "uid": format!("uid-{name}"),
            "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z"),
        },
        "spec": { "bgpInstances": [{
            "name": "main",
            "localASN": 64512,
            "peers": [{ "name": "tor", "peerAddress": "10.0.0.254", "peerASN": 65000, "peerConfigRef": { "name": "tor" } }],
        }] },
    });
    if let Some(group) = group {
        config["spec"]["nodeSelector"] = json!({ "matchLabels": { "group": group } });
    }
    config
}

fn node(name: &str, group: &str) -> Value {
    json!({
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNode",
        "metadata": { "name": name, "labels": { "group": group } },
        "spec": {},
    })
}

fn over(node: &str, router_id: &str) -> Value {
    json!({
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumBGPNodeConfigOverride",
        "metadata": { "name": node },
        "spec": { "bgpInstances": [{
            "name": "main",
            "routerID": router_id,
            "localPort": 1790,
            "localASN": 64999,
            "peers": [{ "name": "tor", "localAddress": "10.0.0.1" }],
        }] },
    })
}

fn options(pool: Option<&str>) -> Options {
    Options {
        router_id: pool.map_or(RouterIdMode::Default, |pool| {
            RouterIdMode::IpPool(pool.parse().unwrap())
        }),
        ..Options::default()
    }
}

fn settle(cluster: &mut Cluster, options: &Options) -> usize {
    cluster.settle(|world| plan(world, &BTreeMap::new(), options).writes)
}

fn plan(world: &World, before: &BTreeMap<String, RouterId>, options: &Options) -> NodeConfigs {
    node_configs(
        world,
        before,
        options,
        StatusReport::Written,
        Timestamp::UNIX_EPOCH,
    )
}

/// `node: owner, router ID` for each node config.
fn shown(cluster: &Cluster) -> Vec<String> {
    let shown = |config: Stored<'_, CiliumBGPNodeConfig>| {
        let id = config.object.spec.bgp_instances[0].router_id.clone();
        let owner = owners(config.object).join(" ");
        format!("{}: {owner}, {}", config.name(), id.as_deref().unwrap_or("-"))
    };
    cluster.world.objects.node_configs().map(shown).collect()
}

/// The conditions that are true, as `type: message`.
fn conditions(cluster: &Cluster, name: &str) -> Vec<String> {
    let config = cluster.world.objects.cluster_config(name).unwrap();
    let all = config.object.status.iter().flat_map(|status| &status.conditions);
    let held = all.filter(|condition| condition.status == ConditionStatus::True);
    held.map(|condition| format!("{}: {}", condition.kind, condition.message))
        .collect()
}

#[test]
fn a_node_gets_what_the_cluster_config_and_its_override_say() {
    let mut cluster = Cluster::with(&[
        cluster_config("rack", 0, Some("a")),
        node("n1", "a"),
        node("n2", "b"),
        over("n1", "10.0.0.99"),
    ]);
    assert_eq!(settle(&mut cluster, &options(None)), 2);
    assert_eq!(shown(&cluster), ["n1: uid-rack, 10.0.0.99"]);
    let made = cluster.world.objects.node_config("n1").unwrap();
    let instance = &made.object.spec.bgp_instances[0];
    assert_eq!(
        (instance.local_asn, instance.local_port),
        (Some(64999), Some(1790))
    );
    assert_eq!(instance.peers[0].local_address.as_deref(), Some("10.0.0.1"));
    assert_eq!(
        conditions(&cluster, "rack"),
        ["cilium.io/MissingPeerConfigs: Referenced CiliumBGPPeerConfig(s) are missing: [tor]"]
    );
    assert_eq!(settle(&mut cluster, &options(None)), 0);
}

#[test]
fn the_older_of_two_has_a_node_and_both_name_the_other() {
    let mut cluster = Cluster::with(&[
        cluster_config("a-late", 9, None),
        cluster_config("b-early", 1, Some("a")),
        node("n1", "a"),
        node("n2", "b"),
    ]);
    settle(&mut cluster, &options(None));
    assert_eq!(shown(&cluster), ["n1: uid-b-early, -", "n2: uid-a-late, -"]);
    for (name, other) in [("a-late", "b-early"), ("b-early", "a-late")] {
        let said = conditions(&cluster, name).join("\n");
        assert!(
            said.contains(&format!("with ClusterConfig(s): [{other}]")),
            "{said}"
        );
    }
    // The one that had it goes: the other takes it over, and nobody names anybody.
    cluster.delete(Kind::CiliumBGPClusterConfig, "b-early");
    settle(&mut cluster, &options(None));
    assert_eq!(shown(&cluster), ["n1: uid-a-late, -", "n2: uid-a-late, -"]);
    assert_eq!(conditions(&cluster, "a-late").len(), 1);
}

#[test]
fn a_node_config_goes_with_its_node_or_its_label_and_one_by_hand_stays() {
    let mut by_hand = json!({
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumBGPNodeConfig",
        "metadata": { "name": "n3" },
        "spec": { "bgpInstances": [{ "name": "mine", "localASN": 1 }] },
    });
    let mut cluster = Cluster::with(&[
        cluster_config("rack", 0, Some("a")),
        node("n1", "a"),
        node("n2", "a"),
        node("n3", "a"),
        by_hand.clone(),
    ]);
    settle(&mut cluster, &options(None));
    assert_eq!(shown(&cluster).len(), 3);
    let said = conditions(&cluster, "rack").join("\n");
    assert!(
        said.contains("stentor.io/NodeConfigsByHand") && said.ends_with(": n3"),
        "{said}"
    );
    cluster.apply(node("n1", "b"));
    cluster.delete(Kind::CiliumNode, "n2");
    settle(&mut cluster, &options(None));
    assert_eq!(shown(&cluster), ["n3: , -"]);
    by_hand["metadata"]["name"] = json!("n9");
    cluster.apply(by_hand);
    assert_eq!(settle(&mut cluster, &options(None)), 0);
}

#[test]
fn router_ids_of_a_pool_stay_and_come_back_and_a_node_without_one_is_named() {
    let pool = options(Some("10.7.0.0/30"));
    let mut cluster = Cluster::with(&[cluster_config("rack", 0, None), node("n1", "a"), node("n2", "a")]);
    settle(&mut cluster, &pool);
    let before = shown(&cluster);
    assert!(before.iter().all(|line| line.contains("10.7.0.")), "{before:?}");
    // No address is left for a third, and the others do not notice.
    cluster.apply(node("n0", "a"));
    settle(&mut cluster, &pool);
    assert_eq!(shown(&cluster)[0], "n0: uid-rack, -");
    assert_eq!(shown(&cluster)[1..], before);
    let said = conditions(&cluster, "rack").join("\n");
    assert!(
        said.contains("stentor.io/RouterIDsExhausted") && said.contains("n0/main"),
        "{said}"
    );
    cluster.delete(Kind::CiliumNode, "n1");
    settle(&mut cluster, &pool);
    settle(&mut cluster, &pool);
    assert!(shown(&cluster)[0].contains("10.7.0."), "{:?}", shown(&cluster));
    assert_eq!(conditions(&cluster, "rack").len(), 1);
}

/// Nodes whose cluster config goes and that another one selects go on as they are.
#[test]
fn router_ids_survive_a_change_of_owner() {
    let pool = options(Some("10.7.0.0/29"));
    let mut cluster = Cluster::with(&[
        cluster_config("first", 0, None),
        cluster_config("second", 1, None),
        node("n0", "a"),
        node("n1", "a"),
        node("n2", "a"),
    ]);
    settle(&mut cluster, &pool);
    let before = shown(&cluster).join("\n");
    cluster.delete(Kind::CiliumBGPClusterConfig, "first");
    settle(&mut cluster, &pool);
    assert_eq!(shown(&cluster).join("\n"), before.replace("first", "second"));
    assert_eq!(settle(&mut cluster, &pool), 0);
}

#[test]
fn a_router_id_on_its_way_to_one_node_is_not_given_to_another() {
    let pool = options(Some("10.7.0.0/30"));
    let mut cluster = Cluster::with(&[cluster_config("rack", 0, None), node("n1", "a")]);
    let one = plan(&cluster.world, &BTreeMap::new(), &pool);
    let id = one.ids["n1/main"];
    // Two more come before the first write is seen. One of them is before it by name, and finds its ID or another.
    cluster.apply(node("n0", "a"));
    cluster.apply(node("n2", "a"));
    let two = plan(&cluster.world, &one.ids, &pool);
    assert_eq!(two.ids["n1/main"], id);
    assert_eq!(two.ids.len(), 2, "the pool has two");
    // It went with its node.
    cluster.delete(Kind::CiliumNode, "n1");
    let three = plan(&cluster.world, &two.ids, &pool);
    assert!(!three.ids.contains_key("n1/main"));
}

#[test]
fn a_cluster_config_without_nodes_says_so_and_a_silenced_one_loses_its_conditions_and_no_others() {
    let mut config = cluster_config("rack", 0, Some("nobody"));
    config["status"] = json!({ "conditions": [{
        "type": "example.com/Theirs", "status": "True", "reason": "theirs", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }] });
    let mut cluster = Cluster::with(&[config, node("n1", "a")]);
    settle(&mut cluster, &options(None));
    assert_eq!(conditions(&cluster, "rack").len(), 3);
    let silent = |world: &World| {
        let before = BTreeMap::new();
        let silent = StatusReport::TakenOut;
        node_configs(world, &before, &options(None), silent, Timestamp::UNIX_EPOCH).writes
    };
    assert_eq!(cluster.settle(silent), 1);
    assert_eq!(conditions(&cluster, "rack"), ["example.com/Theirs: "]);
    assert_eq!(cluster.settle(silent), 0);
}

fn any_object() -> impl Strategy<Value = Value> {
    let group = prop_oneof![Just("a"), Just("b")];
    prop_oneof![
        3 => (0..5_u8, group.clone()).prop_map(|(name, group)| node(&format!("n{name}"), group)),
        2 => (0..3_u8, 0..3_u8, proptest::option::of(group))
            .prop_map(|(name, second, group)| cluster_config(&format!("c{name}"), second, group)),
        1 => (0..5_u8, 1..4_u8).prop_map(|(name, id)| over(&format!("n{name}"), &format!("10.7.0.{id}"))),
    ]
}

proptest! {
    /// Whatever comes and goes: twice is once, every selected node has a config, and no ID out of the pool is given twice.
    #[test]
    fn configs_settle_at_once_and_ids_of_the_pool_are_unique(
        steps in proptest::collection::vec((any_object(), any::<bool>()), 1..20)
    ) {
        let options = options(Some("10.7.0.0/29"));
        let mut cluster = Cluster::with(&[]);
        for (object, goes) in steps {
            let kind = object["kind"].as_str().unwrap().to_owned();
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            if goes {
                cluster.delete(Kind::find("cilium.io", &kind).unwrap(), &name);
            } else {
                cluster.apply(object);
            }
            settle(&mut cluster, &options);
            prop_assert_eq!(settle(&mut cluster, &options), 0);
        }
        let objects = &cluster.world.objects;
        let mut given = BTreeSet::new();
        for config in objects.node_configs() {
            let over = objects.node_override(config.name()).is_some();
            let id = config.object.spec.bgp_instances[0].router_id.clone();
            if let Some(id) = id.filter(|_| !over) {
                prop_assert!(given.insert(id.clone()), "{} twice", id);
            }
        }
        for (name, facts) in node::all(objects) {
            let selected = selecting(objects.cluster_configs(), |config| config.spec.node_selector.as_ref(), &facts);
            prop_assert_eq!(objects.node_config(name).is_some(), !selected.is_empty());
        }
    }
}
