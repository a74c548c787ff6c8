//! One Service after the other, one a second, at full size: how long until the network knows it.
//!
//! ```text
//!   created      POST is sent
//!   seen         a watch says that it is there
//!   addressed    a watch says that its status has an address
//!   on the wire  FRR's interface gets the UPDATE
//! ```

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::pin::pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use crds::k8s_openapi::api::core::v1::Service;
use futures_util::StreamExt as _;
use kube::api::{PostParams, WatchEvent, WatchParams};
use stentor_tests::cluster::Api;
use tokio::time::{interval, timeout};

use crate::wire::Wire;
use crate::{LIMIT, population, spread, tell};

/// From one to the next, unless it takes longer.
const BEAT: Duration = Duration::from_secs(1);

/// Seconds since 1970, as captures have it.
#[derive(Clone, Copy)]
struct Times {
    created: f64,
    seen: f64,
    addressed: f64,
}

pub(crate) fn run(api: &Api, wire: &Wire, services: u32, more: u32) -> Result<()> {
    println!("one more: {more} times, at {services} Services");
    let mut times = BTreeMap::new();
    let mut beat = api.block_on(async { interval(BEAT) });
    for number in services..services + more {
        let (address, taken) = api.block_on(async {
            beat.tick().await;
            timeout(LIMIT, one(api, number)).await
        })??;
        times.insert(address, taken);
    }
    wire.has((services + more) as usize, LIMIT)?;
    let arrivals = wire.arrivals()?;
    let mut steps: [Vec<f64>; 4] = Default::default();
    for (address, at) in times {
        let arrived = arrivals
            .get(&address)
            .with_context(|| format!("no UPDATE had {address}"))?;
        let [whole, api_server, operator, agent] = &mut steps;
        whole.push(arrived - at.created);
        api_server.push(at.seen - at.created);
        operator.push(at.addressed - at.seen);
        agent.push(arrived - at.addressed);
    }
    let names = [
        ("  created to on the wire", "p99 <= 150 ms"),
        ("    created to seen: API server and etcd", ""),
        ("    seen to addressed: operator, a write", ""),
        ("    addressed to on the wire: agent", ""),
    ];
    for ((name, goal), step) in names.into_iter().zip(steps) {
        tell(name, spread(step), goal);
    }
    println!("    (median / p99 / most)");
    Ok(())
}

/// Makes it and waits for its address.
async fn one(api: &Api, number: u32) -> Result<(IpAddr, Times)> {
    let services = population::services(api);
    let name = population::name(number);
    let only = WatchParams::default().fields(&format!("metadata.name={name}"));
    // Nothing of this name is there: everything that ever happens to it comes.
    let mut events = pin!(services.watch(&only, "0").await?);
    let created = now();
    services
        .create(&PostParams::default(), &population::service(number)?)
        .await?;
    let mut seen = None;
    while let Some(event) = events.next().await {
        let service: Service = match event? {
            WatchEvent::Added(service) | WatchEvent::Modified(service) => service,
            WatchEvent::Deleted(_) | WatchEvent::Bookmark(_) => continue,
            WatchEvent::Error(error) => anyhow::bail!("the watch of {name}: {error:?}"),
        };
        let seen = *seen.get_or_insert_with(now);
        if let Some(address) = population::address(&service) {
            let addressed = now();
            return Ok((
                address.parse()?,
                Times {
                    created,
                    seen,
                    addressed,
                },
            ));
        }
    }
    anyhow::bail!("the watch of {name} ended")
}

fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_secs_f64()
}
