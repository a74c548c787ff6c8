//! What goes wrong while clients are served, and whom it may disturb.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use lab::until;
use serde_json::Value;

use crate::mode::{Forwarding, Hook, Mode};
use crate::plan::{Family, Site, moved};
use crate::stage::{LIMIT, MANY, PATIENCE, SERVICES, STYLES, Service, Stage, world};
use crate::words::{Answer, Hope, Manner, Order, Outcome, Progress, Question, Report, Style};
use crate::{agent, build};

fn none_is_wrong(progress: &Progress) -> Result<()> {
    ensure!(progress.wrong.is_empty(), "{:?}", progress.wrong);
    Ok(())
}

fn nobody_noticed(progress: &Progress) -> Result<()> {
    none_is_wrong(progress)?;
    ensure!(progress.broken.is_empty(), "{:?}", progress.broken);
    Ok(())
}

/// The pod's process dies: its kernel resets what it had, and refuses what comes.
fn a_backend_that_dies_disturbs_no_flow_of_another(mode: Mode) -> Result<()> {
    let mut stage = Stage::new(&mode.config())?;
    stage.load(MANY, 3)?;
    nobody_noticed(&stage.go_on()?)?;
    stage.pod("b")?.spot.kill();
    let text = world(&[MANY.objects(&stage.pods(&["a", "c", "d"]))]);
    stage.tell(&text)?;
    // What asks anew may meet the dead one until its endpoint is gone; who was with another one never does.
    let waited = until(LIMIT, "the dead pod to be forgotten", || {
        let before = stage.bed.client.progress().map_err(|error| error.to_string())?;
        let after = stage.go_on().map_err(|error| error.to_string())?;
        if before.broken.len() == after.broken.len() {
            Ok(())
        } else {
            Err(format!("{:?}", after.broken))
        }
    });
    waited?;
    let progress = stage.bed.client.rest()?;
    none_is_wrong(&progress)?;
    let others: Vec<_> = progress
        .broken
        .iter()
        .filter(|broken| broken.style == Style::Stay && broken.last != "b")
        .collect();
    ensure!(others.is_empty(), "flows of other pods: {others:?}");
    Ok(())
}

fn an_agent_that_is_killed_loses_no_packet(mode: Mode) -> Result<()> {
    let mut stage = Stage::new(&mode.config())?;
    stage.load(MANY, 3)?;
    stage.go_on()?;
    for node in stage.bed.nodes() {
        node.agent()?.kill();
    }
    // Nobody is there but the programs.
    stage.go_on()?;
    for node in stage.bed.nodes() {
        node.agent()?.restart()?;
    }
    stage.go_on()?;
    nobody_noticed(&stage.bed.client.rest()?)
}

fn an_agent_that_is_replaced_loses_no_packet(mode: Mode) -> Result<()> {
    let mut stage = Stage::new(&mode.config())?;
    stage.load(MANY, 3)?;
    stage.go_on()?;
    for _ in 0..3 {
        for node in stage.bed.nodes() {
            let agent = node.agent()?;
            let before = agent.programs()?;
            agent.end()?;
            agent.restart()?;
            replaced(&before, &agent.programs()?)?;
        }
        stage.go_on()?;
    }
    nobody_noticed(&stage.bed.client.rest()?)
}

/// Each hook has another program than before.
fn replaced(before: &BTreeMap<u64, String>, after: &BTreeMap<u64, String>) -> Result<()> {
    ensure!(
        before.len() == after.len() && before.keys().all(|id| !after.contains_key(id)),
        "programs were replaced: {before:?}, {after:?}"
    );
    Ok(())
}

/// Both agents are on this machine, each in namespaces of its own.
fn two_agents_on_one_machine_never_touch_each_other(mode: Mode) -> Result<()> {
    let mut stage = Stage::new(&mode.config())?;
    // From the start, so that no connection has a backend that goes.
    let own = world(&[MANY.objects(&stage.pods(&["a", "b", "c"]))]);
    stage.bed.near.begin(&mode.config(), &own)?;
    stage.load(MANY, 2)?;
    stage.go_on()?;
    let before = stage.bed.near.agent()?.programs()?;
    let other = Mode {
        forwarding: Forwarding::DsrIpip,
        hook: Hook::Xdp,
    };
    for mode in [other, mode] {
        // Ends the other one, with all that it has in the kernel, and begins anew.
        let text = world(&[MANY.objects(&stage.pods(&["d"]))]);
        stage.bed.far.begin(&mode.config(), &text)?;
        stage.go_on()?;
    }
    ensure!(
        stage.bed.near.agent()?.programs()? == before,
        "the programs of the one are what they were"
    );
    nobody_noticed(&stage.bed.client.rest()?)
}

fn a_device_that_goes_down_or_is_renamed_serves_again(mode: Mode) -> Result<()> {
    let stage = Stage::new(&mode.config())?;
    stage.load(MANY, 1)?;
    stage.go_on()?;
    stage.bed.client.rest()?;
    let near = &stage.bed.near.host.netns;
    let back = |device: &str| {
        format!(
            "ip link set {device} up; ip addr replace {0}/64 dev {device} nodad; \
             ip route replace default via {1}; ip -6 route replace default via {2}",
            Site::Near.address(Family::V6),
            Family::V4.nth(Site::Near.net(), 1),
            Family::V6.nth(Site::Near.net(), 1),
        )
    };
    let serves_again = || {
        // A datagram that is sent before all is back is lost, and nobody sends it again.
        stage.load(MANY, 1)?;
        stage.go_on()?;
        stage.bed.client.rest()?;
        stage.load(MANY, 1)?;
        stage.go_on()?;
        nobody_noticed(&stage.bed.client.rest()?)
    };
    near.sh(&format!("ip link set eth0 down; {}", back("eth0")))?;
    serves_again()?;
    near.sh(&format!(
        "ip link set eth0 down; ip link set eth0 name eth7; {}",
        back("eth7")
    ))?;
    serves_again()
}

/// What the maps have room for is served, as before; what does not fit is there as a whole or not at all.
fn a_service_that_does_not_fit_is_named_and_disturbs_no_other(mode: Mode) -> Result<()> {
    let mut config = mode.config();
    config.insert("bpf-lb-map-max", "1024");
    let mut stage = Stage::new(&config)?;
    // Clients that stay: sockets by the thousand are another story.
    let styles = [Style::Stay, Style::Datagrams];
    stage.load_with(MANY, 80, 3, &styles, PATIENCE)?;
    stage.go_on()?;
    let all = stage.pods(&["a", "b", "c", "d"]);
    let [_, wide, late, ..] = SERVICES;
    let many = MANY.objects(&all);
    // Both protocols at two addresses: 1000 of 1024 frontends of each family, and 20 more than there is room for.
    let wide_ports: Vec<u16> = (1000..1250).collect();
    let late_ports: Vec<u16> = (2000..2005).collect();
    let (wide_text, late_text) = (
        wide.objects_with(&all, &wide_ports),
        late.objects_with(&all, &late_ports),
    );
    let door = |service: Service, port| SocketAddr::new(service.vip(Family::V4), port);
    stage.tell(&world(&[many.clone(), wide_text.clone()]))?;
    for site in Site::ALL {
        stage.until(site, "the wide service to be in the maps", |node| {
            let there = node.agent()?.frontends()?;
            let missing = wide_ports
                .iter()
                .filter(|port| !there.contains(&door(wide, **port)));
            Ok(match missing.count() {
                0 => Ok(()),
                missing => Err(format!("{missing} frontends are missing of {wide_ports:?}")),
            })
        })?;
    }
    stage.tell(&world(&[many.clone(), wide_text, late_text.clone()]))?;
    for site in Site::ALL {
        stage.until(site, "the late service to be refused", |node| {
            let agent = node.agent()?;
            let (problems, vips) = (agent.ask("problems")?, agent.ask("vips")?);
            let items = |list: &Value| list.as_array().cloned().unwrap_or_default();
            let named = items(&problems).iter().any(|problem| {
                problem["reason"] == "map-full" && problem["object"].to_string().contains("third")
            });
            let vips: Vec<Value> = items(&vips)
                .into_iter()
                .filter(|vip| vip["service"] == "default/third")
                .collect();
            let kept_back = vips.len() == 2
                && vips.iter().all(|vip| {
                    items(&vip["reasons"])
                        .iter()
                        .any(|why| why["reason"] == "not-in-datapath")
                });
            let frontends = agent.frontends()?;
            let half: Vec<&SocketAddr> = frontends
                .iter()
                .filter(|at| late_ports.contains(&at.port()))
                .collect();
            let ready = named && kept_back && half.is_empty();
            Ok(if ready {
                Ok(())
            } else {
                Err(format!("{problems:#}\n{vips:#?}\n{half:?}"))
            })
        })?;
    }
    nobody_noticed(&stage.go_on()?)?;
    stage.tell(&world(&[many, late_text]))?;
    for site in Site::ALL {
        stage.until(site, "the late service to be served", |node| {
            let there = node.agent()?.frontends()?;
            let served = late_ports.iter().all(|port| there.contains(&door(late, *port)));
            Ok(if served {
                Ok(())
            } else {
                Err(format!("{} frontends", there.len()))
            })
        })?;
    }
    for port in late_ports {
        stage.load_with(late, port, 1, &styles, PATIENCE)?;
    }
    stage.go_on()?;
    nobody_noticed(&stage.bed.client.rest()?)
}

/// A device gets other addresses: node ports are there, and packets to other nodes leave as they.
fn an_address_that_changes_is_followed(mode: Mode) -> Result<()> {
    let mut stage = Stage::new(&mode.config())?;
    let services = [
        MANY.objects(&stage.pods(&["d"])),
        SERVICES[1].objects(&stage.pods(&["a"])),
    ];
    let (before, after) = (world(&services), moved(&world(&services)));
    stage.tell(&before)?;
    let ends: BTreeSet<SocketAddr> = [(MANY, "d"), (SERVICES[1], "a")]
        .into_iter()
        .flat_map(|(service, name)| {
            let pods = stage.pods(&[name]);
            let of = |family| {
                pods.iter()
                    .map(move |pod| pod.address(family))
                    .collect::<Vec<_>>()
            };
            let addresses = Family::ALL.map(of).concat();
            addresses
                .into_iter()
                .map(move |address| SocketAddr::new(address, service.target()))
        })
        .collect();
    stage.until(Site::Near, "the pods to be the wished ones", |node| {
        let there = node.agent()?.backends()?;
        Ok(if there == ends {
            Ok(())
        } else {
            Err(format!("{there:?}, not {ends:?}"))
        })
    })?;
    for family in Family::ALL {
        let old = Site::Near.address(family);
        until_seen(&mut stage, old, old)?;
    }
    stage.load(MANY, 2)?;
    stage.load(SERVICES[1], 2)?;
    stage.go_on()?;
    stage.bed.renumber()?;
    stage.tell(&after)?;
    for family in Family::ALL {
        until_seen(&mut stage, Site::Near.moved(family), Site::Near.moved(family))?;
    }
    stage.until(Site::Near, "the old addresses to be forgotten", |node| {
        let old = Family::ALL.map(|family| Site::Near.address(family));
        let mut left = node.agent()?.frontends()?;
        left.retain(|at| old.contains(&at.ip()));
        Ok(if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        })
    })?;
    stage.go_on()?;
    let before = stage.go_on()?;
    stage.go_on()?;
    let progress = stage.bed.client.rest()?;
    none_is_wrong(&progress)?;
    ensure!(
        progress.broken.len() == before.broken.len(),
        "flows break without end: {:?}",
        progress.broken
    );
    // Packets to backends of this node never had the old addresses.
    let local: Vec<_> = progress
        .broken
        .iter()
        .filter(|broken| broken.last == "a")
        .collect();
    ensure!(local.is_empty(), "flows of local backends: {local:?}");
    Ok(())
}

/// Until the node port at an address is answered by the remote pod, which sees this client.
fn until_seen(stage: &mut Stage, at: IpAddr, client: IpAddr) -> Result<()> {
    let to = SocketAddr::new(at, MANY.node_port());
    let questions: Vec<Question> = [Manner::Tcp, Manner::Udp]
        .map(|manner| Question {
            to,
            manner,
            hope: Hope::Answered,
        })
        .into();
    let wanted = Outcome::Answered(Answer {
        service: MANY.name.to_owned(),
        pod: "d".to_owned(),
        client,
    });
    stage.until(Site::Near, "the node port", |node| {
        let there = node.agent()?.frontends()?;
        Ok(if there.contains(&to) {
            Ok(())
        } else {
            Err(format!("{there:?}"))
        })
    })?;
    let Report::Outcomes(outcomes) = stage.bed.client.order(&Order::Ask(questions))? else {
        bail!("outcomes come of questions");
    };
    ensure!(
        outcomes.iter().all(|outcome| *outcome == wanted),
        "node port {to}: {outcomes:?}, not {wanted:?}"
    );
    Ok(())
}

/// Other programs take the place of those that run, under load, and back.
fn an_agent_of_another_build_takes_over_without_a_lost_packet(mode: Mode) -> Result<()> {
    let (_folder, another) = build::another()?;
    let mut stage = Stage::new(&mode.config())?;
    stage.load(MANY, 3)?;
    stage.go_on()?;
    for program in [another, agent::program()?] {
        for node in stage.bed.nodes() {
            let agent = node.agent()?;
            let before = agent.programs()?;
            agent.upgrade(program.clone());
            agent.end()?;
            agent.restart()?;
            let after = agent.programs()?;
            replaced(&before, &after)?;
            let old: BTreeSet<&String> = before.values().collect();
            ensure!(
                after.values().any(|tag| !old.contains(tag)),
                "the instructions are others: {before:?}, {after:?}"
            );
        }
        stage.go_on()?;
    }
    nobody_noticed(&stage.bed.client.rest()?)
}

/// Backends go from service to service: numbers of backends, and so the flows that remember them, would lead to another
/// service if they were taken for what they were.
fn a_thousand_replaced_backends_never_lead_to_another_service(mode: Mode) -> Result<()> {
    const ROUNDS: usize = 1000 / SERVICES.len();
    const NAMES: [&str; 4] = ["a", "b", "c", "d"];
    let mut stage = Stage::new(&mode.config())?;
    // Connections anew, a thousand a second, from one address.
    stage
        .bed
        .client
        .netns
        .sh("sysctl -qw net.ipv4.ip_local_port_range='1024 65535' net.ipv4.tcp_tw_reuse=1")?;
    // Each round takes one backend of two from each service, and gives it another.
    let serving = |service: usize, round: usize| [0, 1].map(|n| NAMES[(service + round + n) % NAMES.len()]);
    let turn = |stage: &mut Stage, round: usize| -> Result<()> {
        let mut texts = Vec::new();
        let mut wanted = BTreeSet::new();
        for (number, service) in SERVICES.into_iter().enumerate() {
            let pods = stage.pods(&serving(number, round));
            texts.push(service.objects(&pods));
            for family in Family::ALL {
                let ends = pods
                    .iter()
                    .map(|pod| SocketAddr::new(pod.address(family), service.target()));
                wanted.extend(ends);
            }
        }
        stage.tell(&world(&texts))?;
        for site in Site::ALL {
            stage.until(site, "the maps to have the backends", |node| {
                let there = node.agent()?.backends()?;
                Ok(if there == wanted {
                    Ok(())
                } else {
                    Err(format!("{there:?}, not {wanted:?}"))
                })
            })?;
        }
        Ok(())
    };
    turn(&mut stage, 0)?;
    for service in SERVICES {
        // Who gives up soon asks anew soon: this is about who answers.
        stage.load_with(service, 80, 3, &STYLES, Duration::from_secs(2))?;
    }
    stage.go_on()?;
    for round in 1..=ROUNDS {
        turn(&mut stage, round)?;
    }
    stage.go_on()?;
    let progress = stage.bed.client.rest()?;
    none_is_wrong(&progress)?;
    let sum: u64 = progress.exchanges.iter().sum();
    println!(
        "{} clients of {} services, {} backends replaced: {sum} exchanges, none with another service; {} were cut off with \
         their backend",
        progress.exchanges.len(),
        SERVICES.len(),
        ROUNDS * SERVICES.len(),
        progress.broken.len(),
    );
    Ok(())
}

/// A name that is a claim, and its proof.
type Fault = (&'static str, fn(Mode) -> Result<()>);

/// By name.
pub(crate) fn all() -> Vec<Fault> {
    vec![
        (
            "a_backend_that_dies_disturbs_no_flow_of_another",
            a_backend_that_dies_disturbs_no_flow_of_another,
        ),
        (
            "an_agent_that_is_killed_loses_no_packet",
            an_agent_that_is_killed_loses_no_packet,
        ),
        (
            "an_agent_that_is_replaced_loses_no_packet",
            an_agent_that_is_replaced_loses_no_packet,
        ),
        (
            "two_agents_on_one_machine_never_touch_each_other",
            two_agents_on_one_machine_never_touch_each_other,
        ),
        (
            "a_device_that_goes_down_or_is_renamed_serves_again",
            a_device_that_goes_down_or_is_renamed_serves_again,
        ),
        (
            "a_service_that_does_not_fit_is_named_and_disturbs_no_other",
            a_service_that_does_not_fit_is_named_and_disturbs_no_other,
        ),
        (
            "an_address_that_changes_is_followed",
            an_address_that_changes_is_followed,
        ),
        (
            "an_agent_of_another_build_takes_over_without_a_lost_packet",
            an_agent_of_another_build_takes_over_without_a_lost_packet,
        ),
        (
            "a_thousand_replaced_backends_never_lead_to_another_service",
            a_thousand_replaced_backends_never_lead_to_another_service,
        ),
    ]
}
