//! The operator, as a process, at a real API server.

use anyhow::{Context as _, Result, ensure};
use crds::k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use crds::{ADDITIONS_LABEL, Kind, SCHEMA_VERSION, SCHEMA_VERSION_LABEL};
use lab::kubernetes::ControlPlane;
use serde_json::{Value, json};
use stentor_tests::cluster::{Api, LIMIT, Operator, documents};

const NAMESPACE: &str = "operated";

/// Only what this test applies is there, and nothing of it afterwards.
pub(crate) fn stage(api: &Api, objects: &[Value]) -> Result<()> {
    api.block_on(async {
        for definition in crds::definitions() {
            let name = definition.metadata.name.clone().unwrap_or_default();
            if api.definition(&name).await.is_err() {
                api.define(&definition).await?;
            }
        }
        for document in documents("world.yaml")? {
            api.remove(&document).await?;
        }
        let of_cilium =
            |kind: &str| json!({ "apiVersion": "cilium.io/v2", "kind": kind, "metadata": { "name": "any" } });
        let bgp = [
            "CiliumBGPClusterConfig",
            "CiliumBGPNodeConfig",
            "CiliumBGPPeerConfig",
            "CiliumNode",
        ];
        let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "any" } });
        let core = [
            pool("any", &[]),
            pod_pool("any", &[]),
            service("any", json!({})),
            node,
        ];
        for kind in bgp.into_iter().map(of_cilium).chain(core) {
            for found in api.all(&kind).await? {
                api.remove(&whole(&kind, &found)).await?;
            }
        }
        for object in objects {
            api.apply(object).await?;
        }
        anyhow::Ok(())
    })
}

/// Items of a list do not say what they are.
fn whole(kind: &Value, found: &Value) -> Value {
    json!({ "apiVersion": kind["apiVersion"], "kind": kind["kind"], "metadata": {
        "name": found["metadata"]["name"], "namespace": found["metadata"]["namespace"] } })
}

pub(crate) fn pool(name: &str, cidrs: &[&str]) -> Value {
    let blocks: Vec<Value> = cidrs.iter().map(|cidr| json!({ "cidr": cidr })).collect();
    json!({
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumLoadBalancerIPPool",
        "metadata": { "name": name },
        "spec": { "blocks": blocks },
    })
}

pub(crate) fn pod_pool(name: &str, cidrs: &[&str]) -> Value {
    json!({
        "apiVersion": "cilium.io/v2alpha1",
        "kind": "CiliumPodIPPool",
        "metadata": { "name": name },
        "spec": { "ipv4": { "cidrs": cidrs, "maskSize": 28 } },
    })
}

pub(crate) fn service(name: &str, spec: Value) -> Value {
    let mut service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name, "namespace": NAMESPACE },
        "spec": { "type": "LoadBalancer", "selector": { "app": name }, "ports": [{ "name": "http", "port": 80 }] },
    });
    if let Value::Object(fields) = spec {
        for (field, value) in fields {
            service["spec"][field] = value;
        }
    }
    service
}

fn annotated(mut service: Value, name: &str, value: &str) -> Value {
    service["metadata"]["annotations"][name] = json!(value);
    service
}

pub(crate) fn ips(service: &Value) -> Vec<String> {
    let ingress = service
        .pointer("/status/loadBalancer/ingress")
        .and_then(Value::as_array);
    let ips = ingress
        .into_iter()
        .flatten()
        .filter_map(|entry| entry["ip"].as_str());
    ips.map(str::to_owned).collect()
}

/// `status reason message` of a condition, or nothing.
pub(crate) fn condition(object: &Value, kind: &str) -> String {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    let found = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == kind);
    let text = |name: &str| found.and_then(|found| found[name].as_str()).unwrap_or_default();
    format!("{} {} {}", text("status"), text("reason"), text("message"))
        .trim()
        .to_owned()
}

/// Waits until an object is as it should be.
pub(crate) fn until(
    api: &Api,
    operator: &Operator,
    what: &str,
    document: &Value,
    good: impl Fn(&Value) -> bool,
) -> Result<Value> {
    lab::until(LIMIT, what, || match api.block_on(api.find(document)) {
        Ok(Some(found)) if good(&found) => Ok(found),
        Ok(found) => Err(found.map_or("nothing".to_owned(), |found| found["status"].to_string())),
        Err(error) => Err(format!("{error:#}")),
    })
    .with_context(|| operator.log())
}

fn version(api: &Api, document: &Value) -> Result<String> {
    let found = api.block_on(api.find(document))?.context("it is there")?;
    Ok(found["metadata"]["resourceVersion"].to_string())
}

/// An older definition is upgraded, Cilium's own of the same version gains our fields, a newer one stays.
pub(crate) fn definitions(control_plane: &mut ControlPlane, api: &Api) -> Result<()> {
    let named = |kind: Kind| crds::definition(kind).context("it is ours");
    let labelled = |kind: Kind, schema: Option<&str>| -> Result<CustomResourceDefinition> {
        let mut definition = named(kind)?;
        let label = schema.map(|schema| (SCHEMA_VERSION_LABEL.to_owned(), schema.to_owned()));
        definition.metadata.labels = Some(label.into_iter().collect());
        Ok(definition)
    };
    let made = [
        labelled(Kind::CiliumLoadBalancerIPPool, Some("1.30.0"))?,
        labelled(Kind::CiliumBGPPeerConfig, Some(SCHEMA_VERSION))?,
        labelled(Kind::CiliumPodIPPool, Some("9.0.0"))?,
    ];
    api.block_on(async {
        for definition in &made {
            api.define(definition).await?;
        }
        anyhow::Ok(())
    })?;
    stage(api, &[])?;
    let mut operator = Operator::start(control_plane, &[])?;
    operator.settled()?;
    let labels = |kind: Kind| -> Result<[Option<String>; 2]> {
        let name = named(kind)?.metadata.name.context("a definition has a name")?;
        let found = api
            .block_on(api.definition(&name))?
            .metadata
            .labels
            .unwrap_or_default();
        Ok([SCHEMA_VERSION_LABEL, ADDITIONS_LABEL].map(|label| found.get(label).cloned()))
    };
    let ours = [Some(SCHEMA_VERSION.to_owned()), Some(crds::ADDITIONS.to_owned())];
    ensure!(
        labels(Kind::CiliumLoadBalancerIPPool)? == ours,
        "the older one: {}",
        operator.log()
    );
    ensure!(
        labels(Kind::CiliumBGPPeerConfig)? == ours,
        "the equal one: {}",
        operator.log()
    );
    let newer = labels(Kind::CiliumPodIPPool)?;
    ensure!(newer[0].as_deref() == Some("9.0.0"), "the newer one: {newer:?}");
    operator.ends_well()?;
    api.block_on(api.define(&named(Kind::CiliumPodIPPool)?))
}

pub(crate) fn addresses(control_plane: &mut ControlPlane, api: &Api) -> Result<()> {
    let key = "lbipam.cilium.io/sharing-key";
    let dual = json!({ "ipFamilyPolicy": "RequireDualStack" });
    let shared = |name: &str, port: u16| {
        annotated(
            service(name, json!({ "ports": [{ "name": "p", "port": port }] })),
            key,
            "one",
        )
    };
    let plain = service("plain", json!({}));
    let held = service("held", json!({}));
    let both = service("dual", dual);
    let foreign = service("foreign", json!({ "loadBalancerClass": "example.com/other" }));
    let greedy = annotated(service("greedy", json!({})), "lbipam.cilium.io/ips", "192.0.2.1");
    let (left, right) = (shared("left", 80), shared("right", 81));
    let all = [&plain, &held, &both, &foreign, &greedy, &left, &right].map(Clone::clone);
    stage(api, &all)?;
    // What a predecessor of another make gave, from a pool that is switched off now.
    api.block_on(api.status(
        &held,
        json!({ "loadBalancer": { "ingress": [{ "ip": "10.99.1.7" }] } }),
    ))?;
    let mut off = pool("off", &["10.99.1.0/28"]);
    off["spec"]["disabled"] = json!(true);
    let main = pool("main", &["10.99.0.0/28", "fd00:99::/120"]);
    api.block_on(async {
        api.apply(&off).await?;
        api.apply(&main).await
    })?;
    let mut operator = Operator::start(control_plane, &[])?;
    let satisfied = |object: &Value| condition(object, "cilium.io/IPAMRequestSatisfied") == "True satisfied";
    let found = until(api, &operator, "an address", &plain, satisfied)?;
    let address = ips(&found).pop().context("an address")?;
    ensure!(address.starts_with("10.99.0."), "{address}");
    let from = condition(&found, "stentor.io/AddressesFrom");
    ensure!(from == format!("True allocated {address} from main"), "{from}");
    let found = until(
        api,
        &operator,
        "the address that was there to stay",
        &held,
        satisfied,
    )?;
    ensure!(ips(&found) == ["10.99.1.7"], "{found}");
    let found = until(api, &operator, "both families", &both, satisfied)?;
    let [v4, v6] = [".", ":"].map(|mark| ips(&found).iter().filter(|ip| ip.contains(mark)).count());
    ensure!((v4, v6) == (1, 1), "{found}");
    let one = until(api, &operator, "a shared address", &left, satisfied)?;
    let other = until(api, &operator, "a shared address", &right, satisfied)?;
    ensure!(ips(&one) == ips(&other), "{one} {other}");
    let refused = until(api, &operator, "a refusal", &greedy, |object| {
        condition(object, "cilium.io/IPAMRequestSatisfied").starts_with("False")
    })?;
    let said = condition(&refused, "cilium.io/IPAMRequestSatisfied");
    ensure!(
        said == "False no_pool No pool exists with a CIDR containing '192.0.2.1'",
        "{said}"
    );
    // 16 IPv4 and 256 IPv6 addresses; plain, dual (two) and the shared one are out.
    let counts = |object: &Value| condition(object, "cilium.io/IPsUsed") == "Unknown noreason 4";
    let found = until(api, &operator, "the counts of the pool", &main, counts)?;
    let available = condition(&found, "cilium.io/IPsAvailable");
    ensure!(available == "Unknown noreason 268", "{available}");
    let events =
        json!({ "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": { "namespace": NAMESPACE } });
    lab::until(LIMIT, "Events of what was decided", || {
        let events = api
            .block_on(api.all(&events))
            .map_err(|error| format!("{error:#}"))?;
        let of = |name: &str, reason: &str| {
            events
                .iter()
                .any(|event| event["regarding"]["name"] == name && event["reason"] == reason)
        };
        if of("plain", "AddressAllocated") && of("greedy", "AddressRefused") {
            Ok(())
        } else {
            Err(format!("{events:?}"))
        }
    })?;
    operator.settled()?;
    let untouched = api.block_on(api.find(&foreign))?.context("it is there")?;
    ensure!(untouched["status"]["conditions"].is_null(), "{untouched}");

    let watched = [&all[..], &[main.clone(), off.clone()]].concat();
    let before = watched
        .iter()
        .map(|one| version(api, one))
        .collect::<Result<Vec<_>>>()?;
    operator.ends_well()?;
    let mut operator = Operator::start(control_plane, &[])?;
    operator.settled_without_a_write()?;
    let after = watched
        .iter()
        .map(|one| version(api, one))
        .collect::<Result<Vec<_>>>()?;
    ensure!(before == after, "{before:?} became {after:?}");
    // A Service that is not a load balancer any more is cleared.
    let mut inside = service("plain", json!({ "type": "ClusterIP" }));
    inside["spec"]["ports"] = plain["spec"]["ports"].clone();
    api.block_on(api.apply(&inside))?;
    until(api, &operator, "the conditions to go", &plain, |object| {
        ips(object).is_empty() && condition(object, "cilium.io/IPAMRequestSatisfied").is_empty()
    })?;
    operator.ends_well()
}

pub(crate) fn pools(control_plane: &mut ControlPlane, api: &Api) -> Result<()> {
    let (a, b) = (service("a", json!({})), service("b", json!({})));
    let first = pool("first", &["10.99.0.0/30"]);
    stage(api, &[a.clone(), b.clone(), first.clone()])?;
    let mut operator = Operator::start(control_plane, &[])?;
    let has = |start: &'static str| move |object: &Value| ips(object).iter().any(|ip| ip.starts_with(start));
    let a_has = ips(&until(api, &operator, "an address", &a, has("10.99.0."))?);
    // The younger one conflicts, and says with whom; nobody moves.
    let second = pool("second", &["10.99.0.0/29", "10.99.2.0/29"]);
    api.block_on(api.apply(&second))?;
    let found = until(api, &operator, "the conflict to be said", &second, |object| {
        condition(object, "cilium.io/PoolConflict").starts_with("True")
    })?;
    let said = condition(&found, "cilium.io/PoolConflict");
    let words = "Pool conflicts since range '10.99.0.0 - 10.99.0.7' overlaps range '10.99.0.0 - 10.99.0.3' from IP Pool 'first'";
    ensure!(said == format!("True cidr_overlap {words}"), "{said}");
    operator.settled()?;
    let now = ips(&api.block_on(api.find(&a))?.context("it is there")?);
    ensure!(now == a_has, "{a_has:?} became {now:?}");
    // The pool that goes takes its part of the conflict with it: the other has the addresses, and nobody moves.
    api.block_on(api.delete(&first))?;
    until(api, &operator, "the conflict to be over", &second, |object| {
        condition(object, "cilium.io/PoolConflict") == "False resolved"
    })?;
    operator.settled()?;
    let now = ips(&api.block_on(api.find(&a))?.context("it is there")?);
    ensure!(now == a_has, "{a_has:?} became {now:?}");
    // A block that goes moves who had an address of it.
    let mut shrunk = second.clone();
    shrunk["spec"]["blocks"] = json!([{ "cidr": "10.99.2.0/29" }]);
    api.block_on(api.apply(&shrunk))?;
    until(api, &operator, "another address", &a, has("10.99.2."))?;
    until(api, &operator, "another address", &b, has("10.99.2."))?;
    // Somebody takes the address out of the status: it comes back.
    let mine = ips(&api.block_on(api.find(&a))?.context("it is there")?);
    api.block_on(api.status(&a, json!({ "loadBalancer": { "ingress": null } })))?;
    until(api, &operator, "the same address", &a, |object| {
        ips(object) == mine
    })?;
    api.block_on(api.delete(&second))?;
    let gone = until(
        api,
        &operator,
        "the address to go with the last pool",
        &a,
        |object| ips(object).is_empty(),
    )?;
    let said = condition(&gone, "cilium.io/IPAMRequestSatisfied");
    ensure!(said.starts_with("False no_pool"), "{said}");
    operator.ends_well()
}

/// Priority, what is reserved, what is given by name only, and what stays when its block goes.
pub(crate) fn pool_options(control_plane: &mut ControlPlane, api: &Api) -> Result<()> {
    let with = |name: &str, cidr: &str, options: Value| {
        let mut pool = pool(name, &[cidr]);
        if let (Value::Object(options), Some(spec)) = (options, pool["spec"].as_object_mut()) {
            spec.extend(options);
        }
        pool
    };
    let first = with(
        "z-first",
        "10.99.0.0/30",
        json!({ "priority": 10, "reserved": [{ "cidr": "10.99.0.0/31" }], "blockRemoval": "Retain" }),
    );
    let by_name = with(
        "a-by-name",
        "10.99.1.0/30",
        json!({ "autoAssign": false, "priority": 20 }),
    );
    let named = annotated(service("named", json!({})), "lbipam.cilium.io/ips", "10.99.1.2");
    let plain = service("plain", json!({}));
    stage(api, &[first.clone(), by_name, named.clone(), plain.clone()])?;
    let mut operator = Operator::start(control_plane, &[])?;
    let has = |ip: &'static str| move |object: &Value| ips(object) == [ip];
    until(api, &operator, "the address it names", &named, has("10.99.1.2"))?;
    until(
        api,
        &operator,
        "the first that is not reserved",
        &plain,
        has("10.99.0.2"),
    )?;
    // Its block goes: the address stays, and three places say so.
    let mut moved = first.clone();
    moved["spec"]["blocks"] = json!([{ "cidr": "10.99.2.0/30" }]);
    moved["spec"]["reserved"] = json!([]);
    api.block_on(api.apply(&moved))?;
    let kept = "True retained 10.99.0.2 from z-first (retained, its block is gone)";
    let found = until(api, &operator, "the Service to say so", &plain, |object| {
        condition(object, "stentor.io/AddressesFrom") == kept
    })?;
    ensure!(ips(&found) == ["10.99.0.2"], "{found}");
    until(api, &operator, "the pool to say so", &first, |object| {
        condition(object, "stentor.io/AddressesRetained").starts_with("True ")
    })?;
    let events =
        json!({ "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": { "namespace": NAMESPACE } });
    lab::until(LIMIT, "an Event that says so", || {
        let events = api.block_on(api.all(&events));
        let events = events.map_err(|error| format!("{error:#}"))?;
        let told =
            |event: &Value| event["regarding"]["name"] == "plain" && event["reason"] == "AddressRetained";
        if events.iter().any(told) {
            Ok(())
        } else {
            Err(format!("{events:?}"))
        }
    })?;
    // Who is new gets what is there now.
    let late = service("late", json!({}));
    api.block_on(api.apply(&late))?;
    until(
        api,
        &operator,
        "an address of the new block",
        &late,
        has("10.99.2.0"),
    )?;
    operator.settled()?;
    operator.ends_well()?;
    // Without the operator the pool changes its mind; it finds out when it is back.
    moved["spec"]["blockRemoval"] = json!("Reassign");
    api.block_on(api.apply(&moved))?;
    let mut operator = Operator::start(control_plane, &[])?;
    until(api, &operator, "another address", &plain, has("10.99.2.1"))?;
    until(api, &operator, "the pool to retain nothing", &first, |object| {
        condition(object, "stentor.io/AddressesRetained").is_empty()
    })?;
    operator.ends_well()?;
    stage(api, &[])
}

pub(crate) fn takes_over(control_plane: &mut ControlPlane, api: &Api) -> Result<()> {
    let early = service("early", json!({}));
    stage(api, &[pool("main", &["10.99.0.0/24"]), early.clone()])?;
    let mut replicas = [
        Operator::start(control_plane, &["--identity", "one"])?,
        Operator::start(control_plane, &["--identity", "two"])?,
    ];
    let leader = lab::until(LIMIT, "one of them to act", || {
        let leads = |operator: &Operator| operator.metric("stentor_operator_leader").unwrap_or_default();
        match (leads(&replicas[0]), leads(&replicas[1])) {
            (1.0, 0.0) => Ok(0),
            (0.0, 1.0) => Ok(1),
            seen => Err(format!("{seen:?}")),
        }
    })?;
    let has = |object: &Value| !ips(object).is_empty();
    let before = ips(&until(api, &replicas[leader], "an address", &early, has)?);
    replicas[leader].kill()?;
    let late = service("late", json!({}));
    api.block_on(api.apply(&late))?;
    let other = 1 - leader;
    until(
        api,
        &replicas[other],
        "an address from the other replica",
        &late,
        has,
    )?;
    let after = ips(&api.block_on(api.find(&early))?.context("it is there")?);
    ensure!(before == after, "{before:?} became {after:?}");
    replicas[other].ends_well()?;
    let lease = api.block_on(api.leases("kube-system").get("stentor-operator"))?;
    let holder = lease
        .spec
        .and_then(|spec| spec.holder_identity)
        .unwrap_or_default();
    ensure!(holder.is_empty(), "{holder} left and has the Lease");
    stage(api, &[])
}

pub(crate) fn cluster_config(name: &str, group: &str) -> Value {
    json!({
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumBGPClusterConfig",
        "metadata": { "name": name },
        "spec": {
            "nodeSelector": { "matchLabels": { "group": group } },
            "bgpInstances": [{
                "name": "main",
                "localASN": 64512,
                "peers": [{ "name": "tor", "peerAddress": "10.0.0.254", "peerASN": 65000, "peerConfigRef": { "name": "tor" } }],
            }],
        },
    })
}

pub(crate) fn cilium_node(name: &str, labels: &[(&str, &str)]) -> Value {
    let labels: serde_json::Map<String, Value> = labels
        .iter()
        .map(|(key, value)| ((*key).to_owned(), json!(value)))
        .collect();
    json!({
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNode",
        "metadata": { "name": name, "labels": labels },
        "spec": { "addresses": [{ "type": "InternalIP", "ip": "10.0.0.1" }] },
    })
}

pub(crate) fn node_config(name: &str) -> Value {
    json!({ "apiVersion": "cilium.io/v2", "kind": "CiliumBGPNodeConfig", "metadata": { "name": name } })
}

pub(crate) fn bgp(control_plane: &mut ControlPlane, api: &Api) -> Result<()> {
    let rack = cluster_config("rack", "a");
    let tor = json!({
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumBGPPeerConfig",
        "metadata": { "name": "tor" },
        "spec": { "authSecretRef": "password-of-tor" },
    });
    let (one, two) = (
        cilium_node("one", &[("group", "a")]),
        cilium_node("two", &[("group", "b")]),
    );
    stage(api, &[rack.clone(), one.clone(), two.clone()])?;
    let ids = [
        "--bgp-router-id-allocation-mode",
        "ip-pool",
        "--bgp-router-id-allocation-ip-pool",
        "10.7.0.0/24",
    ];
    let mut operator = Operator::start(control_plane, &ids)?;
    let made = until(api, &operator, "the node config", &node_config("one"), |_| true)?;
    let owner = &made["metadata"]["ownerReferences"][0];
    ensure!(
        owner["kind"] == "CiliumBGPClusterConfig" && owner["name"] == "rack" && owner["controller"] == true,
        "{made}"
    );
    let id = made["spec"]["bgpInstances"][0]["routerID"].clone();
    ensure!(id.as_str().is_some_and(|id| id.starts_with("10.7.0.")), "{made}");
    let says = |kind: &'static str, text: &'static str| move |object: &Value| condition(object, kind) == text;
    let missing = "True MissingPeerConfigs Referenced CiliumBGPPeerConfig(s) are missing: [tor]";
    until(
        api,
        &operator,
        "the missing peer config",
        &rack,
        says("cilium.io/MissingPeerConfigs", missing),
    )?;
    until(
        api,
        &operator,
        "nodes that match",
        &rack,
        says("cilium.io/NoMatchingNode", "False NoMatchingNode"),
    )?;

    // What was missing comes: first the peer config, then its Secret.
    api.block_on(api.apply(&tor))?;
    until(
        api,
        &operator,
        "the peer config to be seen",
        &rack,
        says("cilium.io/MissingPeerConfigs", "False MissingPeerConfigs"),
    )?;
    let missing = "True MissingAuthSecret Referenced Auth Secret \"password-of-tor\" is missing";
    until(
        api,
        &operator,
        "the missing Secret",
        &tor,
        says("cilium.io/MissingAuthSecret", missing),
    )?;
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": "password-of-tor", "namespace": "kube-system" },
        "stringData": { "password": "x" },
    });
    api.block_on(api.apply(&secret))?;
    until(
        api,
        &operator,
        "the Secret to be seen",
        &tor,
        says("cilium.io/MissingAuthSecret", "False MissingAuthSecret"),
    )?;

    // Another one, younger: the node stays with the older, and each names the other.
    let mut everywhere = cluster_config("everywhere", "a");
    if let Some(spec) = everywhere["spec"].as_object_mut() {
        spec.remove("nodeSelector");
    }
    lab::until(LIMIT, "another second", || {
        let age = api
            .block_on(api.find(&rack))
            .ok()
            .flatten()
            .map(|found| found["metadata"]["creationTimestamp"].to_string());
        api.block_on(api.remove(&everywhere))
            .map_err(|error| error.to_string())?;
        api.block_on(api.apply(&everywhere))
            .map_err(|error| error.to_string())?;
        let found = api.block_on(api.find(&everywhere)).ok().flatten();
        let other = found.map(|found| found["metadata"]["creationTimestamp"].to_string());
        if age == other {
            Err("equally old".to_owned())
        } else {
            Ok(())
        }
    })?;
    let rival =
        "True ConflictingClusterConfigs Selecting the same node(s) with ClusterConfig(s): [everywhere]";
    until(
        api,
        &operator,
        "the older to name the younger",
        &rack,
        says("cilium.io/ConflictingClusterConfig", rival),
    )?;
    let rival = "True ConflictingClusterConfigs Selecting the same node(s) with ClusterConfig(s): [rack]";
    until(
        api,
        &operator,
        "the younger to name the older",
        &everywhere,
        says("cilium.io/ConflictingClusterConfig", rival),
    )?;
    let owned_by =
        |name: &'static str| move |object: &Value| object["metadata"]["ownerReferences"][0]["name"] == name;
    until(
        api,
        &operator,
        "the other node's config",
        &node_config("two"),
        owned_by("everywhere"),
    )?;
    let now = api
        .block_on(api.find(&node_config("one")))?
        .context("it is there")?;
    ensure!(owned_by("rack")(&now), "{now}");

    // The node leaves the group, and then the cluster.
    api.block_on(api.apply(&cilium_node("one", &[("group", "c")])))?;
    let moved = until(
        api,
        &operator,
        "the younger to take over",
        &node_config("one"),
        owned_by("everywhere"),
    )?;
    ensure!(
        moved["spec"]["bgpInstances"][0]["routerID"] == id,
        "{id} became {moved}"
    );
    let none = "True NoMatchingNode No node matches spec.nodeSelector";
    until(
        api,
        &operator,
        "no node to be left",
        &rack,
        says("cilium.io/NoMatchingNode", none),
    )?;
    api.block_on(api.delete(&two))?;
    lab::until(LIMIT, "the node config to go with its node", || {
        match api.block_on(api.find(&node_config("two"))) {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .with_context(|| operator.log())?;
    // A restart knows the IDs it gave out, and writes nothing.
    operator.settled()?;
    operator.ends_well()?;
    let mut operator = Operator::start(control_plane, &ids)?;
    operator.settled_without_a_write()?;
    operator.ends_well()?;
    api.block_on(api.delete(&secret))?;
    stage(api, &[])
}

pub(crate) fn node_ipam(control_plane: &mut ControlPlane, api: &Api) -> Result<()> {
    let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "outside" } });
    let ours = service("at-nodes", json!({ "loadBalancerClass": "io.cilium/node" }));
    stage(
        api,
        &[pool("main", &["10.99.0.0/24"]), node.clone(), ours.clone()],
    )?;
    let addresses = json!([{ "type": "InternalIP", "address": "10.0.0.7" }, { "type": "ExternalIP", "address": "192.0.2.7" }]);
    api.block_on(api.status(&node, json!({ "addresses": addresses })))?;
    let mut operator = Operator::start(control_plane, &["--enable-node-ipam"])?;
    until(api, &operator, "the address of the node", &ours, |object| {
        ips(object) == ["192.0.2.7"]
    })?;
    // The class of a Service can not be changed while it is a load balancer.
    let mut inside = service("at-nodes", json!({ "type": "ClusterIP" }));
    inside["spec"]["ports"] = ours["spec"]["ports"].clone();
    api.block_on(api.apply(&inside))?;
    until(api, &operator, "the condition to go", &ours, |object| {
        ips(object).is_empty() && condition(object, "stentor.io/NodeAddresses").is_empty()
    })?;
    operator.ends_well()?;
    api.block_on(api.delete(&node))?;
    stage(api, &[])
}

/// Nodes get prefixes for their pods out of the cluster's and out of pools, keep them, and share none.
pub(crate) fn pod_prefixes(control_plane: &mut ControlPlane, api: &Api) -> Result<()> {
    let node = |name: &str| json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name } });
    let with = |name: &str, ipam: Value| {
        let mut node = cilium_node(name, &[]);
        node["spec"]["ipam"] = ipam;
        node
    };
    let had = with("b", json!({ "podCIDRs": ["10.8.1.0/24"] }));
    stage(api, &[node("a"), had.clone()])?;
    let mode = [
        "--ipam",
        "cluster-pool",
        "--cluster-pool-ipv4-cidr",
        "10.8.0.0/22",
        "--cluster-pool-ipv4-mask-size",
        "24",
        "--enable-ipv6=false",
    ];
    let has = |cidr: &'static str| move |object: &Value| object["spec"]["ipam"]["podCIDRs"] == json!([cidr]);
    let mut operator = Operator::start(control_plane, &mode)?;
    let made = until(
        api,
        &operator,
        "a prefix",
        &with("a", json!({})),
        has("10.8.0.0/24"),
    )?;
    ensure!(made["metadata"]["ownerReferences"][0]["kind"] == "Node", "{made}");
    operator.settled()?;
    operator.ends_well()?;
    let mut operator = Operator::start(control_plane, &mode)?;
    operator.settled_without_a_write()?;
    let late = with("0", json!({}));
    api.block_on(api.apply(&late))?;
    until(api, &operator, "the next prefix", &late, has("10.8.2.0/24"))?;
    let kept = api.block_on(api.find(&had))?.context("it is there")?;
    ensure!(has("10.8.1.0/24")(&kept), "{kept}");
    operator.ends_well()?;

    let asking = json!({ "pools": { "requested": [{ "pool": "blue", "needed": { "ipv4-addrs": 20 } }] } });
    let asking = with("c", asking);
    stage(api, &[pod_pool("blue", &["10.20.0.0/24"]), asking.clone()])?;
    let mut operator = Operator::start(control_plane, &["--ipam", "multi-pool"])?;
    let enough = json!([{ "pool": "blue", "cidrs": ["10.20.0.0/28", "10.20.0.16/28"] }]);
    until(api, &operator, "prefixes of the pool", &asking, |object| {
        object["spec"]["ipam"]["pools"]["allocated"] == enough
    })?;
    operator.ends_well()?;
    stage(api, &[])
}
