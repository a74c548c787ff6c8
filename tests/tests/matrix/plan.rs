//! Which services there are, and where. All addresses follow from small numbers, so that a person can read them.
//!
//! ```text
//!  client  198.51.100.2  2001:db8:c::2
//!     |
//!  router  (knows the way to each node, its pods, and by `near` to all addresses of services)
//!     |          \
//!  near          far              10.1.0.2  fd01::2      10.2.0.2  fd02::2
//!   | \           |
//!  pod caller,   pod              10.20.1.N fd20:1::N    10.20.2.N fd20:2::N
//! ```

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use crate::words::Door;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) const ALL: [Self; 2] = [Self::V4, Self::V6];

    const fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// The nth address of a pair of networks.
    pub(crate) fn nth(self, [four, six]: [&str; 2], n: usize) -> IpAddr {
        let text = match self {
            Self::V4 => format!("{four}{n}"),
            Self::V6 => format!("{six}{n}"),
        };
        text.parse().expect("addresses here are well-formed")
    }
}

/// A node of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Site {
    /// The one that the router sends packets for services to.
    Near,
    Far,
}

impl Site {
    pub(crate) const ALL: [Self; 2] = [Self::Near, Self::Far];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Near => "near",
            Self::Far => "far",
        }
    }

    /// Of the link to the router, whose address is the first.
    pub(crate) const fn net(self) -> [&'static str; 2] {
        match self {
            Self::Near => ["10.1.0.", "fd01::"],
            Self::Far => ["10.2.0.", "fd02::"],
        }
    }

    pub(crate) const fn pods(self) -> [&'static str; 2] {
        match self {
            Self::Near => ["10.20.1.", "fd20:1::"],
            Self::Far => ["10.20.2.", "fd20:2::"],
        }
    }

    pub(crate) fn address(self, family: Family) -> IpAddr {
        family.nth(self.net(), 2)
    }

    /// Another address of the same network.
    pub(crate) fn moved(self, family: Family) -> IpAddr {
        family.nth(self.net(), 3)
    }

    pub(crate) fn pod(self, family: Family) -> IpAddr {
        family.nth(self.pods(), 10)
    }
}

pub(crate) const CLIENT: [&str; 2] = ["198.51.100.", "2001:db8:c::"];
pub(crate) const CALLER: usize = 11;
pub(crate) const APART: usize = 12;
/// What its node calls the device that leads to it.
pub(crate) const APART_DEVICE: &str = "apart0";
/// Networks of addresses of services.
pub(crate) const VIPS: [[&str; 2]; 3] = [CLUSTER_IPS, LOAD_BALANCERS, EXTERNAL_IPS];
const CLUSTER_IPS: [&str; 2] = ["10.96.0.", "fd96::"];
const LOAD_BALANCERS: [&str; 2] = ["192.0.2.", "2001:db8:b::"];
const EXTERNAL_IPS: [&str; 2] = ["203.0.113.", "2001:db8:e::"];
const PORT: u16 = 80;
const HOST_PORT: u16 = 9001;

/// Where the only backend of a service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Pod(Site),
    /// In the node's own network.
    Host(Site),
}

impl Place {
    pub(crate) const ALL: [Self; 4] = [
        Self::Pod(Site::Near),
        Self::Pod(Site::Far),
        Self::Host(Site::Near),
        Self::Host(Site::Far),
    ];

    pub(crate) const fn site(self) -> Site {
        match self {
            Self::Pod(site) | Self::Host(site) => site,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Pod(Site::Near) => "local pod",
            Self::Pod(Site::Far) => "remote pod",
            Self::Host(Site::Near) => "local host",
            Self::Host(Site::Far) => "remote host",
        }
    }

    fn address(self, family: Family) -> IpAddr {
        match self {
            Self::Pod(site) => site.pod(family),
            Self::Host(site) => site.address(family),
        }
    }

    /// What the backend calls itself.
    pub(crate) const fn backend(self) -> &'static str {
        match self {
            Self::Pod(Site::Near) => "near-pod",
            Self::Pod(Site::Far) => "far-pod",
            Self::Host(Site::Near) => "near-host",
            Self::Host(Site::Far) => "far-host",
        }
    }
}

/// Both traffic policies of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Policy {
    Cluster,
    Local,
}

impl Policy {
    pub(crate) const ALL: [Self; 2] = [Self::Cluster, Self::Local];

    const fn name(self) -> &'static str {
        match self {
            Self::Cluster => "Cluster",
            Self::Local => "Local",
        }
    }
}

/// How a service is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    ClusterIp,
    NodePort,
    LoadBalancer,
    ExternalIp,
    HostPort,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] = [
        Self::ClusterIp,
        Self::NodePort,
        Self::LoadBalancer,
        Self::ExternalIp,
        Self::HostPort,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::ClusterIp => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
            Self::ExternalIp => "ExternalIP",
            Self::HostPort => "HostPort",
        }
    }
}

/// One service for each place and policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Service {
    pub(crate) place: Place,
    pub(crate) policy: Policy,
}

impl Service {
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        Place::ALL
            .into_iter()
            .flat_map(|place| Policy::ALL.map(|policy| Self { place, policy }))
    }

    pub(crate) fn name(self) -> String {
        format!("{}-{}", self.place.backend(), self.policy.name().to_lowercase())
    }

    /// 0 to 7.
    fn number(self) -> usize {
        Self::all().position(|other| other == self).unwrap_or_default()
    }

    fn small(self) -> u16 {
        u16::try_from(self.number()).unwrap_or_default()
    }

    /// Another one for each service, so that a backend knows what it was asked for.
    fn target(self) -> u16 {
        8000 + self.small()
    }

    fn node_port(self) -> u16 {
        30_000 + self.small()
    }

    /// Where it is asked for, by way of the near node.
    pub(crate) fn frontend(self, kind: Kind, family: Family) -> SocketAddr {
        let n = 10 + self.number();
        match kind {
            Kind::ClusterIp => SocketAddr::new(family.nth(CLUSTER_IPS, n), PORT),
            Kind::NodePort => SocketAddr::new(Site::Near.address(family), self.node_port()),
            Kind::LoadBalancer => SocketAddr::new(family.nth(LOAD_BALANCERS, n), PORT),
            Kind::ExternalIp => SocketAddr::new(family.nth(EXTERNAL_IPS, n), PORT),
            Kind::HostPort => SocketAddr::new(Site::Near.address(family), HOST_PORT),
        }
    }

    /// The Service and its slices.
    fn objects(self) -> String {
        let (name, policy, target) = (self.name(), self.policy.name(), self.target());
        let list = |kind| {
            let addresses = Family::ALL.map(|family| format!("\"{}\"", self.frontend(kind, family).ip()));
            addresses.join(", ")
        };
        let ingress: Vec<String> = Family::ALL
            .map(|family| format!("{{ip: \"{}\"}}", self.frontend(Kind::LoadBalancer, family).ip()))
            .into();
        let cluster_ips = list(Kind::ClusterIp);
        let first = self.frontend(Kind::ClusterIp, Family::V4).ip();
        let ports = ["TCP", "UDP"].map(|protocol| {
            format!(
                "{{name: {}, protocol: {protocol}, port: {PORT}, targetPort: {target}, nodePort: {}}}",
                protocol.to_lowercase(),
                self.node_port()
            )
        });
        let mut text = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default, uid: {name}}}\nspec:\n  \
             type: LoadBalancer\n  ipFamilies: [IPv4, IPv6]\n  ipFamilyPolicy: RequireDualStack\n  \
             clusterIP: \"{first}\"\n  clusterIPs: [{cluster_ips}]\n  externalIPs: [{}]\n  \
             externalTrafficPolicy: {policy}\n  internalTrafficPolicy: {policy}\n  ports: [{}]\n\
             status: {{loadBalancer: {{ingress: [{}]}}}}\n",
            list(Kind::ExternalIp),
            ports.join(", "),
            ingress.join(", "),
        );
        for family in Family::ALL {
            text.push_str(&slice(
                &name,
                family,
                target,
                &[String::new()],
                &[(self.place.address(family), self.place.site())],
            ));
        }
        text
    }
}

/// A slice of a service whose ports, of both protocols, all lead to one. Names of ports begin with that of the protocol.
pub(crate) fn slice(
    service: &str,
    family: Family,
    target: u16,
    names: &[String],
    endpoints: &[(IpAddr, Site)],
) -> String {
    let ports: Vec<String> = names
        .iter()
        .flat_map(|name| {
            ["TCP", "UDP"].map(|protocol| {
                let lower = protocol.to_lowercase();
                format!("{{name: {lower}{name}, protocol: {protocol}, port: {target}}}")
            })
        })
        .collect();
    let mut text = format!(
        "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {service}-{0}\n  \
         namespace: default\n  labels: {{kubernetes.io/service-name: {service}}}\naddressType: {1}\n\
         ports: [{2}]\nendpoints:",
        family.name().to_lowercase(),
        family.name(),
        ports.join(", "),
    );
    if endpoints.is_empty() {
        text.push_str(" []");
    }
    for (address, site) in endpoints {
        let _ = write!(
            text,
            "\n- {{addresses: [\"{address}\"], nodeName: {}, conditions: {{ready: true, serving: true, terminating: false}}}}",
            site.name()
        );
    }
    text + "\n"
}

const HOST_PORT_TARGET: u16 = 8100;
pub(crate) const HOST_PORT_SERVICE: &str = "host-port";

/// The near node's pod with a host port.
fn host_port() -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: near-pod, namespace: default, uid: near-pod}}\nspec:\n  \
         nodeName: near\n  containers:\n  - name: main\n    ports:\n    \
         - {{name: tcp, containerPort: {HOST_PORT_TARGET}, hostPort: {HOST_PORT}, protocol: TCP}}\n    \
         - {{name: udp, containerPort: {HOST_PORT_TARGET}, hostPort: {HOST_PORT}, protocol: UDP}}\n\
         status:\n  phase: Running\n  podIP: \"{0}\"\n  podIPs: [{{ip: \"{0}\"}}, {{ip: \"{1}\"}}]\n",
        Site::Near.pod(Family::V4),
        Site::Near.pod(Family::V6),
    )
}

/// Both nodes.
pub(crate) fn nodes() -> String {
    let node = |site: Site| {
        let addresses = Family::ALL
            .map(|family| format!("{{type: InternalIP, address: \"{}\"}}", site.address(family)))
            .join(", ");
        format!(
            "apiVersion: v1\nkind: Node\nmetadata: {{name: {0}, labels: {{kubernetes.io/hostname: {0}}}}}\n\
             status: {{addresses: [{addresses}]}}\n",
            site.name()
        )
    };
    Site::ALL.map(node).join("---\n")
}

/// The same objects after the near node got its other addresses.
pub(crate) fn moved(objects: &str) -> String {
    Family::ALL
        .into_iter()
        .fold(objects.to_owned(), |objects, family| {
            let quoted = |address: IpAddr| format!("\"{address}\"");
            objects.replace(
                &quoted(Site::Near.address(family)),
                &quoted(Site::Near.moved(family)),
            )
        })
}

/// All objects of the matrix.
pub(crate) fn objects() -> String {
    let mut all: Vec<String> = Service::all().map(Service::objects).collect();
    all.extend([host_port(), nodes()]);
    all.join("---\n")
}

/// Where the backend at a place listens.
pub(crate) fn doors(place: Place) -> Vec<Door> {
    let own = Service::all().filter(|service| service.place == place);
    let mut doors: Vec<Door> = own
        .map(|service| Door {
            port: service.target(),
            service: service.name(),
            pod: place.backend().to_owned(),
        })
        .collect();
    if place == Place::Pod(Site::Near) {
        doors.push(Door {
            port: HOST_PORT_TARGET,
            service: HOST_PORT_SERVICE.to_owned(),
            pod: place.backend().to_owned(),
        });
    }
    doors
}
