//! A node's wall clock is set while everything runs, as it is after a boot without a network.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lab::kubernetes::ControlPlane;
use serde_json::{Value, json};
use stentor_tests::cluster::{Agent, Api, Clock, LIMIT, Operator};

use crate::agent::{advertisement, pair};
use crate::operator::{ips, pool, service, stage};

/// Longer than the Lease of an operator under test is good for.
const LONG: Duration = Duration::from_secs(10);

/// The agent and the operator that leads run under a clock that is set; their peer and the other replica see the true time.
pub(crate) fn set(control_plane: &mut ControlPlane, api: &Api) -> Result<()> {
    let kubeconfig = control_plane.kubeconfig();
    let early = service("early", json!({}));
    let mut objects = vec![pool("main", &["10.99.0.0/24"]), advertisement(), early.clone()];
    objects.extend(pair()?);
    stage(api, &objects)?;
    let clock = Clock::new()?;
    let mut leader = Operator::by(Some(&clock), &kubeconfig, &["--identity", "under-a-clock"])?;
    leader.settled()?;
    let mut other = Operator::of(&kubeconfig, &["--identity", "of-the-machine"])?;
    let mut agent = Agent::by(Some(&clock), &kubeconfig, "r0", &[])?;
    let mut peer = Agent::of(&kubeconfig, "r1", &[])?;
    let uptime = |agent: &Agent, than: Duration| {
        let answer = agent.until("the session to be up for longer", &["bgp", "peers"], |answer| {
            up(answer).is_some_and(|up| up > than)
        })?;
        up(&answer).context("it is up")
    };
    let since = (uptime(&agent, Duration::ZERO)?, Instant::now());
    let before = (address(api, &early)?, lease(api)?);

    for (number, off) in ["+2h", "+0", "-10m"].into_iter().enumerate() {
        clock.set(off)?;
        // Both still do their work.
        let late = service(&format!("late{number}"), json!({}));
        api.block_on(api.apply(&late))?;
        lab::until(LIMIT, format!("an address at {off}"), || {
            address(api, &late).map_err(|error| format!("{error:#}"))
        })
        .with_context(|| leader.log())?;
        let sent = ["bgp", "routes", "advertised", "ipv4"];
        agent.until("the route to be sent", &sent, |answer| {
            answer.as_array().is_some_and(|sent| sent.len() == number + 2)
        })?;
        // Nothing that was is new.
        let now = uptime(&agent, since.0 + since.1.elapsed() + LONG)?;
        let most = since.0 + since.1.elapsed();
        ensure!(
            now <= most + Duration::from_secs(1),
            "{now:?} is more than {most:?}"
        );
        let after = (address(api, &early)?, lease(api)?);
        ensure!(before == after, "at {off}, {before:?} became {after:?}");
        let leads = (
            leader.metric("stentor_operator_leader")?,
            other.metric("stentor_operator_leader")?,
        );
        ensure!(leads == (1.0, 0.0), "at {off}, {leads:?} lead\n{}", leader.log());
    }
    agent.ends_well()?;
    peer.ends_well()?;
    leader.ends_well()?;
    other.ends_well()?;
    api.block_on(api.delete(&advertisement()))?;
    stage(api, &[])
}

/// For how long the only session is up, if it is the first one.
fn up(peers: &Value) -> Option<Duration> {
    let peer = &peers[0];
    let first = peer["state"] == "established" && peer["timesEstablished"] == 1;
    peer["uptimeSeconds"]
        .as_u64()
        .filter(|_| first)
        .map(Duration::from_secs)
}

fn address(api: &Api, service: &Value) -> Result<Vec<String>> {
    let has = ips(&api.block_on(api.find(service))?.context("it is there")?);
    ensure!(!has.is_empty(), "it has no address");
    Ok(has)
}

/// Who leads, and how often that changed.
fn lease(api: &Api) -> Result<(Option<String>, Option<i32>)> {
    let lease = api.block_on(api.leases("kube-system").get("stentor-operator"))?;
    let spec = lease.spec.context("a Lease says something")?;
    Ok((spec.holder_identity, spec.lease_transitions))
}
