//! What goes wrong while the operator works: it is killed, it is there twice, the API server and etcd go and come back.
//! No address is lost, none is given twice and none moves.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use lab::kubernetes::ControlPlane;
use serde_json::{Value, json};
use stentor_tests::cluster::{Agent, Api, LIMIT, Operator};

use crate::operator::{condition, ips, pool, service, stage};
use crate::rights::{ACCOUNTS, Account, SECRETS, cleared, rendered};

/// Addresses by Service.
type Map = BTreeMap<String, Vec<String>>;

/// In the audit log.
const LIST: &str = r#""verb":"list""#;
const TOO_MANY_REQUESTS: &str = r#""code":429"#;

/// What Services have now, and how many of them have nothing.
fn given(api: &Api) -> Result<(Map, usize)> {
    let all = api.block_on(api.all(&service("any", json!({}))))?;
    let asking = all.iter().filter(|found| found["spec"]["type"] == "LoadBalancer");
    let mut given = Map::new();
    let mut without = 0;
    for found in asking {
        let name = found["metadata"]["name"].as_str().unwrap_or_default();
        let has = ips(found);
        let satisfied = condition(found, "cilium.io/IPAMRequestSatisfied").starts_with("True");
        if has.is_empty() || !satisfied {
            without += 1;
        } else {
            given.insert(name.to_owned(), has);
        }
    }
    Ok((given, without))
}

/// Waits until so many Services have what they ask for, and no two the same.
fn until_given(api: &Api, number: usize, log: impl Fn() -> String) -> Result<Map> {
    let found = lab::until(LIMIT, "every Service to have an address of its own", || {
        let (found, without) = given(api).map_err(|error| format!("{error:#}"))?;
        let distinct: BTreeSet<&String> = found.values().flatten().collect();
        if without == 0 && found.len() == number && distinct.len() == number {
            Ok(found)
        } else {
            Err(format!("{without} lack one; {found:?}"))
        }
    });
    found.with_context(log)
}

/// Nobody who had an address has another one now.
fn stayed(before: &Map, after: &Map) -> Result<()> {
    for (name, has) in before {
        ensure!(
            after.get(name) == Some(has),
            "{name} had {has:?} and has {:?}",
            after.get(name)
        );
    }
    Ok(())
}

fn services(names: std::ops::Range<usize>) -> Vec<Value> {
    names
        .map(|number| service(&format!("s{number:02}"), json!({})))
        .collect()
}

/// A pool, five Services, and the service accounts with what they may do.
fn stage_with_rights(api: &Api, documents: &[Value]) -> Result<()> {
    stage(
        api,
        &[vec![pool("main", &["10.99.0.0/24"])], services(0..5)].concat(),
    )?;
    api.block_on(async {
        for document in documents {
            api.apply(document).await?;
        }
        anyhow::Ok(())
    })
}

/// After the API server was away: connections of before may be tried first.
fn until_taken(api: &Api, services: &[Value]) -> Result<()> {
    for service in services {
        lab::until(LIMIT, "a Service to be taken", || {
            api.block_on(api.apply(service))
                .map_err(|error| format!("{error:#}"))
        })?;
    }
    Ok(())
}

/// Waits until an account has made more such requests than it had.
fn until_more(account: &Account, control_plane: &ControlPlane, with: &str, had: usize) -> Result<()> {
    lab::until(LIMIT, format!("more requests with {with}"), || {
        match account.requests(control_plane, with) {
            Ok(now) if now > had => Ok(()),
            Ok(now) => Err(format!("{now}")),
            Err(error) => Err(format!("{error:#}")),
        }
    })?;
    Ok(())
}

/// The operator is killed while it gives addresses; then the API server and etcd are, under the next one.
pub(crate) fn killed_in_the_middle(control_plane: &mut ControlPlane, api: &Api) -> Result<()> {
    stage(
        api,
        &[vec![pool("main", &["10.99.0.0/24"])], services(0..40)].concat(),
    )?;
    // So slow that it is killed in the middle; where it is not, nothing else is wrong.
    let slow = [
        "--operator-k8s-client-qps",
        "5",
        "--operator-k8s-client-burst",
        "5",
    ];
    let mut operator = Operator::start(control_plane, &slow)?;
    let before = lab::until(LIMIT, "some addresses", || match given(api) {
        Ok((found, _)) if found.len() >= 5 => Ok(found),
        Ok((found, without)) => Err(format!("{without} lack one; {found:?}")),
        Err(error) => Err(format!("{error:#}")),
    })
    .with_context(|| operator.log())?;
    operator.kill()?;
    let mut operator = Operator::start(control_plane, &[])?;
    let all = until_given(api, 40, || operator.log())?;
    stayed(&before, &all)?;

    operator.settled()?;
    control_plane.kill_api_server();
    control_plane.kill_etcd();
    control_plane.start_etcd()?;
    control_plane.start_api_server()?;
    until_taken(api, &services(40..44))?;
    let after = until_given(api, 44, || operator.log())?;
    stayed(&all, &after)?;
    operator.settled()?;
    operator.ends_well()?;
    stage(api, &[])
}

/// While the API server is away etcd forgets what was, so watches can not go on from where they were.
pub(crate) fn history_forgotten(control_plane: &mut ControlPlane, api: &Api) -> Result<()> {
    let documents = rendered()?;
    let changes = (0..5).map(|number| {
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": { "name": format!("change-{number}"), "namespace": "default" },
        })
    });
    let changes: Vec<Value> = changes.collect();
    stage_with_rights(api, &documents)?;
    let [_, name] = ACCOUNTS;
    let account = Account::new(control_plane, api, &documents, name)?;
    let mut operator = Operator::of(&account.kubeconfig, &[])?;
    let before = until_given(api, 5, || operator.log())?;
    operator.settled()?;
    let lists = account.requests(control_plane, LIST)?;
    // Of kinds that nobody follows: the history goes on, and no watch hears of it.
    for change in &changes {
        api.block_on(api.apply(change))?;
    }
    control_plane.kill_api_server();
    control_plane.forget_history()?;
    control_plane.start_api_server()?;
    until_taken(api, &services(5..6))?;
    let after = until_given(api, 6, || operator.log())?;
    stayed(&before, &after)?;
    until_more(&account, control_plane, LIST, lists).with_context(|| operator.log())?;
    operator.settled()?;
    operator.ends_well()?;
    cleared(api, &documents, &changes)
}

/// Two act at once, each with a Lease of its own: what a clock that went wrong or a Lease that was deleted could lead to.
pub(crate) fn two_at_once(control_plane: &mut ControlPlane, api: &Api) -> Result<()> {
    stage(
        api,
        &[vec![pool("main", &["10.99.0.0/24"])], services(0..10)].concat(),
    )?;
    let mut one = Operator::start(control_plane, &[])?;
    let first = until_given(api, 10, || one.log())?;
    let mut other = Operator::start(control_plane, &["--namespace", "default"])?;
    for late in services(10..40) {
        api.block_on(api.apply(&late))?;
    }
    other.settled()?;
    let logs = || format!("{}\n\n{}", one.log(), other.log());
    let all = until_given(api, 40, logs)?;
    stayed(&first, &all)?;
    one.settled()?;
    one.ends_well()?;
    other.settled()?;
    stayed(&all, &until_given(api, 40, || other.log())?)?;
    other.ends_well()?;
    stage(api, &[])
}

/// The API server has no time for us: 429 to whatever we ask, watches ended. It serves everybody else.
pub(crate) fn too_many_requests(control_plane: &mut ControlPlane, api: &Api) -> Result<()> {
    let documents = rendered()?;
    stage_with_rights(api, &documents)?;
    let [agent, operator] = ACCOUNTS;
    let agent = Account::new(control_plane, api, &documents, agent)?;
    let account = Account::new(control_plane, api, &documents, operator)?;
    let mut operator = Operator::of(&account.kubeconfig, &[])?;
    let mut node = Agent::of(&agent.kubeconfig, "n1", &["--bgp-secrets-namespace", SECRETS])?;
    let before = until_given(api, 5, || operator.log())?;
    operator.settled()?;
    let vips =
        |number: usize| move |answer: &Value| answer.as_array().is_some_and(|vips| vips.len() == number);
    node.until("five addresses", &["vip", "list"], vips(5))?;

    let [level, schema] = no_time_for(&ACCOUNTS);
    api.block_on(api.apply(&level))?;
    api.block_on(api.apply(&schema))?;
    // Writes are refused, and when watches are begun anew they are too.
    control_plane.kill_api_server();
    control_plane.start_api_server()?;
    // It serves for a moment before it knows whom to refuse.
    until_more(&account, control_plane, TOO_MANY_REQUESTS, 2).with_context(|| operator.log())?;
    until_taken(api, &services(5..10))?;
    until_more(&agent, control_plane, TOO_MANY_REQUESTS, 2)
        .with_context(|| format!("{}\n\n{}", operator.log(), node.log()))?;
    let (now, without) = given(api)?;
    ensure!(
        now == before && without == 5,
        "{without} have none; {before:?} became {now:?}"
    );
    let answer = node.ask(&["vip", "list"])?;
    ensure!(vips(5)(&answer), "{answer}");

    for refusal in [schema, level] {
        api.block_on(api.delete(&refusal))?;
    }
    let after = until_given(api, 10, || operator.log())?;
    stayed(&before, &after)?;
    operator.settled()?;
    node.until("ten addresses", &["vip", "list"], vips(10))?;
    node.ends_well()?;
    operator.ends_well()?;
    cleared(api, &documents, &[])
}

/// A level of priority at which nothing is served, and who is put there.
fn no_time_for(accounts: &[&str]) -> [Value; 2] {
    let level = json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
        "kind": "PriorityLevelConfiguration",
        "metadata": { "name": "no-time" },
        "spec": { "type": "Limited", "limited": {
            "nominalConcurrencyShares": 0,
            "lendablePercent": 0,
            "borrowingLimitPercent": 0,
            "limitResponse": { "type": "Reject" },
        } },
    });
    let subjects: Vec<Value> = accounts
        .iter()
        .map(|name| {
            json!({ "kind": "ServiceAccount", "serviceAccount": { "namespace": "kube-system", "name": name } })
        })
        .collect();
    let schema = json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
        "kind": "FlowSchema",
        "metadata": { "name": "no-time" },
        "spec": {
            "priorityLevelConfiguration": { "name": "no-time" },
            "matchingPrecedence": 2,
            "rules": [{
                "subjects": subjects,
                "resourceRules": [{
                    "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"],
                    "namespaces": ["*"], "clusterScope": true,
                }],
                "nonResourceRules": [{ "verbs": ["*"], "nonResourceURLs": ["*"] }],
            }],
        },
    });
    [level, schema]
}
