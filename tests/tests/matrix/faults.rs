//! What goes wrong while clients are served, and whom it may disturb.
//!
//! ```text
//!   client --- router --- near --- pods a, b, c     service `many` at port 8200, `other` at port 8300
//!                    \--- far  --- pod d
//! ```
//!
//! Clients of four kinds ask without a pause: connections that stay, connections anew, datagrams of one socket, datagrams of
//! many. Each answer names its service and its pod, and each octet is checked.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::until;

use crate::bed::{Bed, Spot};
use crate::mode::{Forwarding, Hook, Mode};
use crate::plan::{Family, Site, nodes, slice};
use crate::words::{Door, Load, Order, Progress, Style};

/// Nothing here takes nearly as long.
const LIMIT: Duration = Duration::from_mins(2);

/// Both may lead to any pod; each has a port of its own there, so a pod knows whom it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Service {
    Many,
    Other,
}

impl Service {
    const ALL: [Self; 2] = [Self::Many, Self::Other];

    const fn name(self) -> &'static str {
        match self {
            Self::Many => "many",
            Self::Other => "other",
        }
    }

    const fn target(self) -> u16 {
        match self {
            Self::Many => 8200,
            Self::Other => 8300,
        }
    }

    const fn number(self) -> usize {
        match self {
            Self::Many => 100,
            Self::Other => 101,
        }
    }

    fn vip(self, family: Family) -> IpAddr {
        family.nth(["192.0.2.", "2001:db8:b::"], self.number())
    }
}

const STYLES: [Style; 4] = [Style::Stay, Style::Anew, Style::Datagrams, Style::DatagramsAnew];
/// Exchanges of every client after which it has seen enough.
const ENOUGH: u64 = 5;

/// A pod with a backend of `many`.
struct Pod {
    name: &'static str,
    site: Site,
    number: usize,
    spot: Spot,
}

struct Stage {
    // Pods go before their nodes.
    pods: Vec<Pod>,
    bed: Bed,
}

impl Stage {
    fn new(mode: Mode) -> Result<Self> {
        let mut bed = Bed::new()?;
        let mut pods = Vec::new();
        for (name, site, number) in [
            ("a", Site::Near, 21),
            ("b", Site::Near, 22),
            ("c", Site::Near, 23),
            ("d", Site::Far, 24),
        ] {
            let node = match site {
                Site::Near => &bed.near,
                Site::Far => &bed.far,
            };
            let spot = Spot::new(node.pod(name, number)?)?;
            let doors = Service::ALL.map(|service| Door {
                port: service.target(),
                service: service.name().to_owned(),
                pod: name.to_owned(),
            });
            spot.order(&Order::Serve(doors.into()))?;
            pods.push(Pod {
                name,
                site,
                number,
                spot,
            });
        }
        let all: Vec<&str> = pods.iter().map(|pod| pod.name).collect();
        let text = objects(&pods, [&all, &[]]);
        bed.start(mode, &text)?;
        Ok(Self { pods, bed })
    }

    /// Tells the agents who serves.
    fn serve_with(&self, many: &[&str], other: &[&str]) -> Result<()> {
        let text = objects(&self.pods, [many, other]);
        for node in [&self.bed.near, &self.bed.far] {
            let agent = node.agent.as_ref().context("an agent runs")?;
            agent.follow(&text)?;
        }
        Ok(())
    }

    fn load(&self, service: Service, clients: usize) -> Result<()> {
        for family in Family::ALL {
            for manner in STYLES {
                let to = SocketAddr::new(service.vip(family), 80);
                let service = service.name().to_owned();
                self.bed.client.order(&Order::Load(Load {
                    to,
                    manner,
                    clients,
                    service,
                }))?;
            }
        }
        Ok(())
    }

    /// Every client has had some more exchanges.
    fn go_on(&self) -> Result<Progress> {
        let before = self.bed.client.progress()?.exchanges;
        let mut last = Progress::default();
        let waited = until(LIMIT, "all clients to be served again and again", || {
            last = self.bed.client.progress().map_err(|error| format!("{error:#}"))?;
            let came = last
                .exchanges
                .iter()
                .zip(&before)
                .all(|(now, then)| *now >= then + ENOUGH);
            if came { Ok(()) } else { Err(format!("{last:?}")) }
        });
        waited?;
        Ok(last)
    }
}

/// Services, and the pods that serve each, and both nodes.
fn objects(pods: &[Pod], names: [&[&str]; 2]) -> String {
    let mut all: Vec<String> = Service::ALL
        .into_iter()
        .zip(names)
        .map(|(service, names)| service_of(service, pods, names))
        .collect();
    all.push(nodes());
    all.join("---\n")
}

fn service_of(service: Service, pods: &[Pod], names: &[&str]) -> String {
    let (name, n, target) = (service.name(), service.number(), service.target());
    let ingress = Family::ALL
        .map(|family| format!("{{ip: \"{}\"}}", service.vip(family)))
        .join(", ");
    let ports = ["TCP", "UDP"]
        .map(|protocol| {
            let name = protocol.to_lowercase();
            format!("{{name: {name}, protocol: {protocol}, port: 80, targetPort: {target}}}")
        })
        .join(", ");
    let mut text = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default, uid: {name}}}\nspec:\n  \
         type: LoadBalancer\n  allocateLoadBalancerNodePorts: false\n  ipFamilies: [IPv4, IPv6]\n  \
         ipFamilyPolicy: RequireDualStack\n  clusterIP: 10.96.0.{n}\n  clusterIPs: [10.96.0.{n}, \"fd96::{n}\"]\n  \
         ports: [{ports}]\nstatus: {{loadBalancer: {{ingress: [{ingress}]}}}}\n"
    );
    for family in Family::ALL {
        let endpoints: Vec<(IpAddr, Site)> = pods
            .iter()
            .filter(|pod| names.contains(&pod.name))
            .map(|pod| (family.nth(pod.site.pods(), pod.number), pod.site))
            .collect();
        text.push_str(&slice(name, family, target, &endpoints));
    }
    text
}

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
    let mut stage = Stage::new(mode)?;
    stage.load(Service::Many, 3)?;
    nobody_noticed(&stage.go_on()?)?;
    let at = stage
        .pods
        .iter()
        .position(|pod| pod.name == "b")
        .context("pod b")?;
    let dead = stage.pods.get_mut(at).context("pod b")?;
    dead.spot.kill();
    stage.serve_with(&["a", "c", "d"], &[])?;
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
    let mut stage = Stage::new(mode)?;
    stage.load(Service::Many, 3)?;
    stage.go_on()?;
    for node in stage.bed.nodes() {
        node.agent.as_mut().context("an agent runs")?.kill();
    }
    // Nobody is there but the programs.
    stage.go_on()?;
    for node in stage.bed.nodes() {
        node.agent.as_mut().context("an agent ran")?.restart()?;
    }
    stage.go_on()?;
    nobody_noticed(&stage.bed.client.rest()?)
}

fn an_agent_that_is_replaced_loses_no_packet(mode: Mode) -> Result<()> {
    let mut stage = Stage::new(mode)?;
    stage.load(Service::Many, 3)?;
    stage.go_on()?;
    for _ in 0..3 {
        for node in stage.bed.nodes() {
            let agent = node.agent.as_mut().context("an agent runs")?;
            let before = agent.programs()?;
            agent.end()?;
            agent.restart()?;
            let after = agent.programs()?;
            ensure!(
                before.len() == after.len() && before.is_disjoint(&after),
                "programs were replaced: {before:?}, {after:?}"
            );
        }
        stage.go_on()?;
    }
    nobody_noticed(&stage.bed.client.rest()?)
}

/// Both agents are on this machine, each in namespaces of its own.
fn two_agents_on_one_machine_never_touch_each_other(mode: Mode) -> Result<()> {
    let mut stage = Stage::new(mode)?;
    // From the start, so that no connection has a backend that goes.
    let own = objects(&stage.pods, [&["a", "b", "c"], &[]]);
    stage.bed.near.begin(mode, &own)?;
    stage.load(Service::Many, 2)?;
    stage.go_on()?;
    let agent = |stage: &Stage| -> Result<BTreeSet<u64>> {
        stage.bed.near.agent.as_ref().context("an agent runs")?.programs()
    };
    let before = agent(&stage)?;
    let other = Mode {
        forwarding: Forwarding::DsrIpip,
        hook: Hook::Xdp,
    };
    for mode in [other, mode] {
        // Ends the other one, with all that it has in the kernel, and begins anew.
        let text = objects(&stage.pods, [&["d"], &[]]);
        stage.bed.far.begin(mode, &text)?;
        stage.go_on()?;
    }
    ensure!(
        agent(&stage)? == before,
        "the programs of the one are what they were"
    );
    nobody_noticed(&stage.bed.client.rest()?)
}

fn a_device_that_goes_down_or_is_renamed_serves_again(mode: Mode) -> Result<()> {
    let stage = Stage::new(mode)?;
    stage.load(Service::Many, 1)?;
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
    near.sh(&format!("ip link set eth0 down; {}", back("eth0")))?;
    stage.load(Service::Many, 1)?;
    stage.go_on()?;
    nobody_noticed(&stage.bed.client.rest()?)?;
    near.sh(&format!(
        "ip link set eth0 down; ip link set eth0 name eth7; {}",
        back("eth7")
    ))?;
    stage.load(Service::Many, 1)?;
    stage.go_on()?;
    nobody_noticed(&stage.bed.client.rest()?)
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
    ]
}
