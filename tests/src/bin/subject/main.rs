//! A bare speaker for the interop tests: `bgp_speaker::net`, driven by lines of JSON. See
//! [`stentor_tests::subject`].

mod wish;

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Result, bail};
use bgp_speaker::net;
use bgp_speaker::speaker::{Event, PeerStatus, Request, Shutdown, Start, Table};
use bgp_speaker::types::{Family, Name};
use stentor_tests::subject::{FamilyState, Happening, Order, PeerState, Said};
use tokio::io::{AsyncBufReadExt, BufReader};

const INSTANCE: &str = "subject";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let start = match std::env::args().nth(1).as_deref() {
        Some("cold") => Start::Cold,
        Some("restarted") => Start::Restarted,
        other => bail!("start {other:?}: `cold` or `restarted`"),
    };
    let seed = u64::from(std::process::id());
    let (handle, mut events, driver) = net::start(start, seed, net::Options::default());
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Some(event) => happened(&event)?,
                None => break,
            },
            line = lines.next_line() => match line? {
                Some(line) => {
                    let answer = obey(&handle, serde_json::from_str(&line)?).await;
                    say(&answer.unwrap_or_else(|error| Said::Refused(format!("{error:#}"))))?;
                }
                // Whoever drove this is gone, or has said all there is.
                None => break,
            },
        }
    }
    drop(handle);
    driver.await?;
    Ok(())
}

fn say(said: &Said) -> Result<()> {
    println!("{}", serde_json::to_string(said)?);
    Ok(())
}

async fn obey(handle: &net::Handle, order: Order) -> Result<Said> {
    let every = |request: fn(Name, Option<Name>) -> Request| request(Name::from(INSTANCE), None);
    match order {
        Order::Configure(wish) => handle.configure(Arc::new(wish::config(&wish)?)),
        Order::Peers => {
            let peers = handle.peers().await?;
            return Ok(Said::Peers(peers.iter().map(peer).collect()));
        }
        Order::Received(neighbor) => return Ok(Said::Routes(received(handle, neighbor).await?)),
        Order::AskRefresh => {
            handle
                .ask(every(|instance, peer| Request::RefreshIn { instance, peer }))
                .await?;
        }
        Order::Reset => {
            handle
                .ask(every(|instance, peer| Request::Reset {
                    instance,
                    peer,
                    text: "a test".into(),
                }))
                .await?;
        }
        Order::LinkDown { interface, peers } => handle.link_down(Name::from(interface), peers).await?,
        Order::EndForRestart => handle.shutdown(Shutdown::Restart).await?,
        Order::EndForGood => handle.shutdown(Shutdown::Stop).await?,
    }
    Ok(Said::Done)
}

async fn received(handle: &net::Handle, neighbor: IpAddr) -> Result<Vec<lab::router::Seen>> {
    let mut found = Vec::new();
    for family in [Family::IPV4_UNICAST, Family::IPV6_UNICAST] {
        let query = net::RouteQuery {
            instance: Some(Name::from(INSTANCE)),
            table: Table::AdjRibIn,
            family,
            peer: Some(neighbor),
        };
        for view in handle.routes(query).await? {
            let seen = wish::seen(&view)?;
            // Some daemons send our own routes back, which the speaker refuses.
            if !seen.as_path.contains(&view.local_asn.get()) {
                found.push(seen);
            }
        }
    }
    Ok(found)
}

fn peer(status: &PeerStatus) -> PeerState {
    let family = |family: &bgp_speaker::speaker::FamilyStatus| FamilyState {
        family: family.family.to_string(),
        negotiated: family.negotiated,
        received: family.received,
        accepted: family.accepted,
        advertised: family.advertised,
        stale: family.stale,
        end_of_rib_received: family.end_of_rib_received,
        end_of_rib_sent: family.end_of_rib_sent,
    };
    PeerState {
        address: status.address,
        state: format!("{:?}", status.state),
        times_established: status.times_established,
        last_down: status.last_down.as_ref().map(|(_, why)| why.to_string()),
        applied_hold: status.applied_hold,
        families: status.families.iter().map(family).collect(),
    }
}

fn happened(event: &Event) -> Result<()> {
    let happening = match event {
        Event::State {
            address,
            from,
            to,
            why,
            ..
        } => Happening::State {
            peer: *address,
            from: format!("{from:?}"),
            to: format!("{to:?}"),
            why: why.as_ref().map(|why| why.to_string()),
        },
        Event::EndOfRib { address, family, .. } => Happening::EndOfRib {
            peer: *address,
            family: family.to_string(),
        },
        Event::Changed { .. } => return Ok(()),
        Event::MaxPrefixes { .. }
        | Event::Malformed { .. }
        | Event::Refused { .. }
        | Event::ListenFailed { .. } => Happening::Other(format!("{event:?}")),
    };
    say(&Said::Happened(happening))
}
