//! What faults are tried on: services whose backends may be any of four pods, and clients that ask them without a pause.
//!
//! ```text
//!   client --- router --- near --- pods a, b, c     service `many` at port 8200 of each pod, `other` at port 8201, ...
//!                    \--- far  --- pod d
//! ```
//!
//! Clients of four kinds ask without a pause: connections that stay, connections anew, datagrams of one socket, datagrams of
//! many. Each answer names its service and its pod, and each octet is checked.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result};
use lab::until;

use crate::bed::{Bed, Node, Spot};
use crate::mode::Config;
use crate::plan::{Family, Site, nodes, slice};
use crate::words::{Door, Load, Order, Progress, Style};

/// Nothing here takes nearly as long.
pub(crate) const LIMIT: Duration = Duration::from_mins(2);
/// Who is not answered for so long is not answered.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// All may lead to any pod; each has a port of its own there, so a pod knows whom it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) name: &'static str,
    number: u16,
}

pub(crate) const MANY: Service = Service {
    name: "many",
    number: 0,
};
/// All there are; a stage begins with the first.
pub(crate) const SERVICES: [Service; 5] = [
    MANY,
    Service {
        name: "other",
        number: 1,
    },
    Service {
        name: "third",
        number: 2,
    },
    Service {
        name: "fourth",
        number: 3,
    },
    Service {
        name: "fifth",
        number: 4,
    },
];

impl Service {
    pub(crate) const fn target(self) -> u16 {
        8200 + self.number
    }

    pub(crate) const fn node_port(self) -> u16 {
        30_100 + self.number
    }

    /// The last part of its addresses.
    fn last(self) -> usize {
        100 + usize::from(self.number)
    }

    pub(crate) fn vip(self, family: Family) -> IpAddr {
        family.nth(["192.0.2.", "2001:db8:b::"], self.last())
    }

    /// With the pods that serve it.
    pub(crate) fn objects(self, pods: &[&Pod]) -> String {
        self.objects_with(pods, &[80])
    }

    /// The same at other ports.
    pub(crate) fn objects_with(self, pods: &[&Pod], ports: &[u16]) -> String {
        let (name, n, target, node_port) = (self.name, self.last(), self.target(), self.node_port());
        let ingress = Family::ALL
            .map(|family| format!("{{ip: \"{}\"}}", self.vip(family)))
            .join(", ");
        // Only the first has a node port: there are more ports than those.
        let names: Vec<String> = ports
            .iter()
            .map(|port| match port {
                80 => String::new(),
                port => port.to_string(),
            })
            .collect();
        let ports: Vec<String> = ports
            .iter()
            .zip(&names)
            .flat_map(|(port, name)| {
                ["TCP", "UDP"].map(|protocol| {
                    let node_port = match port {
                        80 => format!(", nodePort: {node_port}"),
                        _ => String::new(),
                    };
                    let lower = protocol.to_lowercase();
                    format!(
                        "{{name: {lower}{name}, protocol: {protocol}, port: {port}, targetPort: {target}{node_port}}}"
                    )
                })
            })
            .collect();
        let ports = ports.join(", ");
        let mut text = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default, uid: {name}}}\nspec:\n  \
             type: LoadBalancer\n  allocateLoadBalancerNodePorts: false\n  ipFamilies: [IPv4, IPv6]\n  \
             ipFamilyPolicy: RequireDualStack\n  clusterIP: 10.96.0.{n}\n  clusterIPs: [10.96.0.{n}, \"fd96::{n}\"]\n  \
             ports: [{ports}]\nstatus: {{loadBalancer: {{ingress: [{ingress}]}}}}\n"
        );
        for family in Family::ALL {
            let endpoints: Vec<(IpAddr, Site)> =
                pods.iter().map(|pod| (pod.address(family), pod.site)).collect();
            text.push_str(&slice(name, family, target, &names, &endpoints));
        }
        text
    }
}

pub(crate) const STYLES: [Style; 4] = [Style::Stay, Style::Anew, Style::Datagrams, Style::DatagramsAnew];
/// Exchanges of every client after which it has seen enough.
const ENOUGH: u64 = 5;

/// A pod with backends.
pub(crate) struct Pod {
    pub(crate) name: &'static str,
    pub(crate) site: Site,
    number: usize,
    pub(crate) spot: Spot,
}

impl Pod {
    pub(crate) fn address(&self, family: Family) -> IpAddr {
        family.nth(self.site.pods(), self.number)
    }
}

pub(crate) struct Stage {
    // Pods go before their nodes.
    pub(crate) pods: Vec<Pod>,
    pub(crate) bed: Bed,
}

impl Stage {
    /// All pods serve `many`.
    pub(crate) fn new(config: &Config) -> Result<Self> {
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
            let doors = SERVICES.map(|service| Door {
                port: service.target(),
                service: service.name.to_owned(),
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
        let all: Vec<&Pod> = pods.iter().collect();
        bed.start(config, &world(&[MANY.objects(&all)]))?;
        Ok(Self { pods, bed })
    }

    pub(crate) fn pods(&self, names: &[&str]) -> Vec<&Pod> {
        self.pods.iter().filter(|pod| names.contains(&pod.name)).collect()
    }

    pub(crate) fn pod(&mut self, name: &str) -> Result<&mut Pod> {
        let mut pods = self.pods.iter_mut();
        pods.find(|pod| pod.name == name).context("no such pod")
    }

    /// Tells the agents what there is.
    pub(crate) fn tell(&mut self, text: &str) -> Result<()> {
        for node in self.bed.nodes() {
            node.agent()?.follow(text)?;
        }
        Ok(())
    }

    /// Clients of all kinds.
    pub(crate) fn load(&self, service: Service, clients: usize) -> Result<()> {
        self.load_with(service, 80, clients, &STYLES, PATIENCE)
    }

    pub(crate) fn load_with(
        &self,
        service: Service,
        port: u16,
        clients: usize,
        styles: &[Style],
        patience: Duration,
    ) -> Result<()> {
        for family in Family::ALL {
            for style in styles {
                self.bed.client.order(&Order::Load(Load {
                    to: SocketAddr::new(service.vip(family), port),
                    manner: *style,
                    clients,
                    service: service.name.to_owned(),
                    patience,
                }))?;
            }
        }
        Ok(())
    }

    /// Every client has had some more exchanges.
    pub(crate) fn go_on(&self) -> Result<Progress> {
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

    /// Until a node is as it should be.
    pub(crate) fn until(
        &mut self,
        site: Site,
        what: &str,
        mut good: impl FnMut(&mut Node) -> Result<Result<(), String>>,
    ) -> Result<()> {
        let node = match site {
            Site::Near => &mut self.bed.near,
            Site::Far => &mut self.bed.far,
        };
        until(LIMIT, what, || match good(node) {
            Ok(done) => done,
            Err(error) => Err(format!("{error:#}")),
        })?;
        Ok(())
    }
}

/// Services and both nodes.
pub(crate) fn world(services: &[String]) -> String {
    let mut all = services.to_vec();
    all.push(nodes());
    all.join("---\n")
}
