//! The agent at an API server.

use std::net::TcpListener;

use anyhow::{Context as _, Result, ensure};
use lab::kubernetes::ControlPlane;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use stentor_tests::cluster::{Agent, Api, LIMIT, connections, documents};

use crate::operator;

/// Addresses and routes come from the API server, and stay while it is away.
pub(crate) fn outlives_the_server(control_plane: &mut ControlPlane, api: &Api) -> Result<()> {
    api.block_on(async {
        for document in documents("world.yaml")? {
            api.apply(&document).await?;
        }
        anyhow::Ok(())
    })?;
    let mut agent = Agent::start(&control_plane.kubeconfig())?;
    let routes = ["bgp", "routes", "available", "ipv4"];
    // Pod prefix, two LoadBalancer addresses, two ClusterIPs, an external one.
    let before = prefixes(&agent.until("six routes", &routes, |answer| prefixes(answer).len() == 6)?);
    // One for all that is followed, one for what is reported.
    let connections = connections(agent.pid(), &control_plane.url())?;
    ensure!((1..=2).contains(&connections), "{connections} connections");
    // Killed, its connections break. Frozen, as when its power or a router in between goes, they stay and are silent.
    control_plane.kill_api_server();
    away(&agent)?;
    ensure!(
        prefixes(&agent.ask(&routes)?) == before,
        "routes changed: {before:?}"
    );
    control_plane.start_api_server()?;
    back(&agent)?;
    let server = control_plane.pids().last().copied().context("no API server")?;
    let server = Pid::from_raw(i32::try_from(server)?);
    kill(server, Signal::SIGSTOP)?;
    let noticed = away(&agent);
    kill(server, Signal::SIGCONT)?;
    noticed?;
    ensure!(
        prefixes(&agent.ask(&routes)?) == before,
        "routes changed: {before:?}"
    );
    back(&agent)?;
    let now = prefixes(&agent.ask(&routes)?);
    ensure!(now == before, "{before:?} became {now:?}");
    agent.ends_well()
}

fn away(agent: &Agent) -> Result<()> {
    let says = |status: &Value| status.to_string().contains("cluster-away");
    agent
        .until("the agent to say that the server is away", &["status"], says)
        .map(drop)
}

fn back(agent: &Agent) -> Result<()> {
    let says = |status: &Value| !status.to_string().contains("cluster-away");
    agent
        .until("the agent to say that the server is back", &["status"], says)
        .map(drop)
}

/// Two agents speak to each other. What each API object says of it is what is.
pub(crate) fn reports(control_plane: &mut ControlPlane, api: &Api) -> Result<()> {
    let [mut first, second, to_second, to_first] = pair()?;
    let mut none = to_first;
    none["spec"]["families"][0]["advertisements"]["matchLabels"]["advertise"] = json!("nothing");
    let advertisement = advertisement();
    let vip = operator::service("reported", json!({}));
    let objects = [
        first.clone(),
        second.clone(),
        none,
        to_second,
        advertisement.clone(),
        vip.clone(),
    ];
    operator::stage(api, &objects)?;
    let given = json!({ "loadBalancer": { "ingress": [{ "ip": "192.0.2.1" }] } });
    api.block_on(api.status(&vip, given))?;

    let mut one = Agent::of(&control_plane.kubeconfig(), "r0", &[])?;
    let two = Agent::of(&control_plane.kubeconfig(), "r1", &[])?;
    let until = |what: &str, config: &Value, good: &dyn Fn(&Value) -> bool| {
        let waited = lab::until(LIMIT, what, || match api.block_on(api.find(config)) {
            Ok(Some(found)) if good(&found) => Ok(found),
            Ok(found) => Err(found.map_or("nothing".to_owned(), |found| found["status"].to_string())),
            Err(error) => Err(format!("{error:#}")),
        });
        waited.with_context(|| one.log())
    };
    let found = until("the route to be sent", &first, &|found| {
        let told = peer(found);
        told["peeringState"] == "established" && told["routeCount"][0]["advertised"] == 1
    })?;
    let told = peer(&found);
    ensure!(
        told["peerAddress"] == "127.0.0.2" && told["peerASN"] == 65002,
        "{told}"
    );
    ensure!(
        told["establishedTime"].is_string() && told["timers"]["appliedHoldTimeSeconds"] == 90,
        "{told}"
    );
    let condition = &found["status"]["conditions"][0];
    ensure!(
        condition["type"] == "cilium.io/BGPReconcileError" && condition["status"] == "False",
        "{condition}"
    );
    // It takes none whose next hop is a loopback address, and has none to send.
    until("the other side", &second, &|found| {
        let told = peer(found);
        told["peeringState"] == "established" && told["routeCount"][0]["advertised"] == 0
    })?;
    let table = api.block_on(api.table("/apis/cilium.io/v2/ciliumbgpnodeconfigs"))?;
    ensure!(table[0] == ["Name", "Age"] && table.len() == 3, "{table:?}");

    // What is withdrawn is not told any more.
    api.block_on(api.delete(&vip))?;
    until("the route to be withdrawn", &first, &|found| {
        peer(found)["routeCount"][0]["advertised"] == 0
    })?;
    // What can not be run is told by name, of the generation that asks for it.
    let mut lost = first["spec"]["bgpInstances"][0]["peers"][0].clone();
    lost["name"] = json!("lost");
    lost["peerAddress"] = json!("127.0.0.9");
    lost["peerConfigRef"]["name"] = json!("nobody");
    if let Some(peers) = first["spec"]["bgpInstances"][0]["peers"].as_array_mut() {
        peers.push(lost);
    }
    api.block_on(api.apply(&first))?;
    until("the error", &first, &|found| {
        let condition = &found["status"]["conditions"][0];
        let message = condition["message"].as_str().unwrap_or_default();
        condition["status"] == "True"
            && message.starts_with("main: peer lost: ")
            && condition["observedGeneration"] == found["metadata"]["generation"]
    })?;
    // The other one dies.
    drop(two);
    until("the session to be lost", &first, &|found| {
        let peers = found["status"]["bgpInstances"][0]["peers"].as_array();
        let told = peers.and_then(|peers| peers.iter().find(|peer| peer["name"] == "other"));
        told.is_some_and(|told| told["peeringState"] != "established" && told["establishedTime"].is_null())
    })?;
    one.ends_well()?;
    let off = ["--enable-bgp-control-plane-status-report=false"];
    let mut one = Agent::of(&control_plane.kubeconfig(), "r0", &off)?;
    lab::until(LIMIT, "the report to be taken out", || {
        match api.block_on(api.find(&first)) {
            Ok(Some(found))
                if found["status"]["bgpInstances"].is_null() && found["status"]["conditions"].is_null() =>
            {
                Ok(())
            }
            other => Err(format!("{other:?}")),
        }
    })
    .with_context(|| one.log())?;
    one.ends_well()?;
    api.block_on(api.delete(&advertisement))?;
    operator::stage(api, &[])
}

/// Two nodes that speak to each other, `r0` and `r1`: how, and what is for their peers. Each sends what is advertised for `r0`.
pub(crate) fn pair() -> Result<[Value; 4]> {
    // Somebody may take one in between; the other is enough, because both dial.
    let ports: Vec<u16> = (0..2)
        .map(|_| anyhow::Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port()))
        .collect::<Result<_>>()?;
    let config = |own: usize, other: usize| {
        let address = |of: usize| format!("127.0.0.{}", of + 1);
        json!({
            "apiVersion": "cilium.io/v2",
            "kind": "CiliumBGPNodeConfig",
            "metadata": { "name": format!("r{own}") },
            "spec": { "bgpInstances": [{
                "name": "main",
                "localASN": 65001 + own,
                "routerID": format!("10.7.0.{}", own + 1),
                "localPort": ports[own],
                "peers": [{
                    "name": "other",
                    "peerAddress": address(other),
                    "localAddress": address(own),
                    "peerASN": 65001 + other,
                    "peerConfigRef": { "name": format!("to-r{other}") },
                }],
            }] },
        })
    };
    let peer_config = |to: usize| {
        json!({
            "apiVersion": "cilium.io/v2",
            "kind": "CiliumBGPPeerConfig",
            "metadata": { "name": format!("to-r{to}") },
            "spec": {
                "transport": { "peerPort": ports[to] },
                "timers": { "connectRetryTimeSeconds": 1 },
                "families": [{ "afi": "ipv4", "safi": "unicast", "advertisements": { "matchLabels": { "advertise": "r0" } } }],
            },
        })
    };
    Ok([config(0, 1), config(1, 0), peer_config(1), peer_config(0)])
}

/// Of the addresses of all Services.
pub(crate) fn advertisement() -> Value {
    json!({
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumBGPAdvertisement",
        "metadata": { "name": "reported", "labels": { "advertise": "r0" } },
        "spec": { "advertisements": [{
            "advertisementType": "Service",
            "service": { "addresses": ["LoadBalancerIP"] },
            "selector": { "matchExpressions": [{ "key": "no", "operator": "DoesNotExist" }] },
        }] },
    })
}

/// The first peer of a status.
fn peer(config: &Value) -> Value {
    config["status"]["bgpInstances"][0]["peers"][0].clone()
}

/// Of routes; their age changes.
fn prefixes(answer: &Value) -> Vec<String> {
    let routes = answer.as_array().map(Vec::as_slice).unwrap_or_default();
    routes.iter().map(|route| route["prefix"].to_string()).collect()
}
