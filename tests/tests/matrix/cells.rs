//! What is asked in every mode, by whom, and what must come of it.

use std::net::{IpAddr, SocketAddr};

use crate::mode::{Forwarding, Mode};
use crate::plan::{APART, CALLER, CLIENT, Family, HOST_PORT_SERVICE, Kind, Place, Policy, Service, Site};
use crate::words::{Answer, Hope, Manner, Outcome, Question};

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Asker {
    External,
    /// The near node itself.
    NearHost,
    FarHost,
    /// A pod of the near node.
    Pod,
    /// Another one, whose sockets are out of the programs' reach: its packets are balanced where they leave it.
    Apart,
}

impl Asker {
    /// Those that sockets and the network lead to services.
    pub(crate) const USUAL: [Self; 4] = [Self::External, Self::NearHost, Self::FarHost, Self::Pod];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::External => "external",
            Self::NearHost => "same host",
            Self::FarHost => "other host",
            Self::Pod => "pod",
            Self::Apart => "pod, packets",
        }
    }

    fn address(self, family: Family) -> IpAddr {
        match self {
            Self::External => family.nth(CLIENT, 2),
            Self::NearHost => Site::Near.address(family),
            Self::FarHost => Site::Far.address(family),
            Self::Pod => family.nth(Site::Near.pods(), CALLER),
            Self::Apart => family.nth(Site::Near.pods(), APART),
        }
    }

    /// Which node chooses the backend, and for whom it takes the asker.
    fn chooser(self, kind: Kind, policy: Policy) -> (Site, View) {
        match (self, kind, policy) {
            (Self::External, _, _) | (Self::FarHost, Kind::ExternalIp | Kind::HostPort, _) => {
                (Site::Near, View::Outside)
            }
            // Only what runs on the node that was named may answer.
            (Self::FarHost, Kind::NodePort, Policy::Local) => (Site::Near, View::Outside),
            (Self::NearHost | Self::Pod | Self::Apart, _, _) => (Site::Near, View::Inside),
            // A socket knows the node ports of all nodes.
            (Self::FarHost, Kind::ClusterIp | Kind::LoadBalancer | Kind::NodePort, _) => {
                (Site::Far, View::Inside)
            }
        }
    }
}

/// Whether a packet comes by the network, or a socket of the node is translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum View {
    Outside,
    Inside,
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Row {
    pub(crate) asker: Asker,
    pub(crate) place: Place,
    pub(crate) what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    /// Streams and datagrams.
    Flows(Kind),
    /// Datagrams of several fragments, to a load balancer's address.
    Fragments,
    /// Datagrams with every TTL that is too short, and the first that is not.
    Probes,
    /// Echo requests to a load balancer's address. The node that they come to answers them.
    Ping,
}

impl What {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Flows(kind) => kind.name(),
            Self::Fragments => "fragments",
            Self::Probes => "traceroute",
            Self::Ping => "ping",
        }
    }
}

/// Why a cell is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Note {
    HostPortElsewhere,
    HostPortOfHost,
    ExternalInside,
}

impl Note {
    pub(crate) const ALL: [Self; 3] = [
        Self::HostPortElsewhere,
        Self::HostPortOfHost,
        Self::ExternalInside,
    ];

    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::HostPortElsewhere => {
                "a host port leads to pods of its own node only: there is no remote backend"
            }
            Self::HostPortOfHost => {
                "a pod in the host's network listens on the port itself: nothing is translated"
            }
            Self::ExternalInside => {
                "external addresses are not taken from the network for sockets of nodes and pods; here it leads back to the \
                 node they came from"
            }
        }
    }

    pub(crate) fn number(self) -> usize {
        1 + Self::ALL
            .iter()
            .position(|note| *note == self)
            .unwrap_or_default()
    }
}

/// A question and what must come of it.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) row: Row,
    pub(crate) question: Question,
    pub(crate) wanted: Wanted,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Answer(Answer),
    /// The octets of an echo request, come back.
    Echo,
    /// Silence, or a refusal.
    Nothing,
    /// Expiry, or the answer: all probes of a way are judged together.
    Either(Answer),
}

impl Case {
    /// How the near node lists the connection: protocol, and how it is forwarded. `None`: the case has none that leads from
    /// there to another node.
    pub(crate) fn listed(&self, mode: Mode) -> Option<(&'static str, &'static str)> {
        let answered = matches!(self.wanted, Wanted::Answer(_));
        if self.row.asker != Asker::External || self.row.place.site() == Site::Near || !answered {
            return None;
        }
        let protocol = match self.question.manner {
            Manner::Tcp => "TCP",
            Manner::Udp => "UDP",
            Manner::Fragments | Manner::Reversed | Manner::Probe(_) | Manner::Ping => return None,
        };
        let forwarding = match (mode.forwarding, keeps_source(mode, self.question.manner)) {
            (_, Source::Node) => "snat",
            (Forwarding::DsrIpip, Source::Client) => "dsr ipip",
            (Forwarding::DsrGeneve, Source::Client) => "dsr geneve",
            (Forwarding::DsrOption | Forwarding::Hybrid | Forwarding::Snat, Source::Client) => "dsr opt",
        };
        Some((protocol, forwarding))
    }

    /// Whether it is this address that asks.
    pub(crate) fn is_asked_by(&self, address: IpAddr) -> bool {
        let mut own = Family::ALL.iter().map(|family| self.row.asker.address(*family));
        own.any(|own| own == address)
    }

    pub(crate) fn is_met(&self, outcome: &Outcome) -> bool {
        match (&self.wanted, outcome) {
            (Wanted::Answer(wanted) | Wanted::Either(wanted), Outcome::Answered(answer)) => wanted == answer,
            (Wanted::Nothing, Outcome::Silence | Outcome::Refused(_)) => true,
            (Wanted::Either(_), Outcome::Expired) => true,
            (Wanted::Echo, Outcome::Echoed) => true,
            (Wanted::Answer(_) | Wanted::Either(_) | Wanted::Echo | Wanted::Nothing, _) => false,
        }
    }
}

/// The longest way is asker, router, near, router, far, pod.
const HOPS: u32 = 8;

/// Everything that one asker asks, and the rows that it has nothing to ask for.
pub(crate) fn cases(mode: Mode, asker: Asker) -> (Vec<Case>, Vec<(Row, Note)>) {
    let (mut cases, mut notes) = (Vec::new(), Vec::new());
    for place in Place::ALL {
        for kind in Kind::ALL {
            let row = Row {
                asker,
                place,
                what: What::Flows(kind),
            };
            if kind == Kind::HostPort && place != Place::Pod(Site::Near) {
                notes.push((
                    row,
                    match place {
                        Place::Pod(_) => Note::HostPortElsewhere,
                        Place::Host(_) => Note::HostPortOfHost,
                    },
                ));
                continue;
            }
            if kind == Kind::ExternalIp && matches!(asker, Asker::NearHost | Asker::Pod) {
                notes.push((row, Note::ExternalInside));
                continue;
            }
            for policy in Policy::ALL {
                let service = Service { place, policy };
                // There is one host port, whatever policies services have.
                if kind == Kind::HostPort && policy == Policy::Local {
                    continue;
                }
                for family in Family::ALL {
                    for manner in [Manner::Tcp, Manner::Udp] {
                        cases.push(case(mode, row, service, kind, family, manner));
                    }
                }
            }
        }
        let service = Service {
            place,
            policy: Policy::Cluster,
        };
        for what in [What::Fragments, What::Probes] {
            let row = Row { asker, place, what };
            let manners: Vec<Manner> = match what {
                What::Probes => (1..=HOPS)
                    .filter(|hops| !is_between(mode, row, *hops))
                    .map(Manner::Probe)
                    .collect(),
                // What a node sends by raw sockets no socket leads to a service.
                What::Fragments if matches!(asker, Asker::External | Asker::Apart) => {
                    vec![Manner::Fragments, Manner::Reversed]
                }
                What::Fragments | What::Ping | What::Flows(_) => vec![Manner::Fragments],
            };
            for family in Family::ALL {
                for manner in &manners {
                    cases.push(case(mode, row, service, Kind::LoadBalancer, family, *manner));
                }
            }
        }
        let row = Row {
            asker,
            place,
            what: What::Ping,
        };
        for family in Family::ALL {
            cases.push(case(mode, row, service, Kind::LoadBalancer, family, Manner::Ping));
        }
    }
    (cases, notes)
}

/// Whether it ends at the router between the nodes, when the option has sent it on to the backend's own address: the router
/// speaks of an address that the client has never asked for, and nobody translates that.
fn is_between(mode: Mode, row: Row, hops: u32) -> bool {
    let (chooser, view) = row.asker.chooser(Kind::LoadBalancer, Policy::Cluster);
    let remote = view == View::Outside && row.place.site() != chooser;
    remote && mode.forwarding == Forwarding::DsrOption && hops == 3
}

fn case(mode: Mode, row: Row, service: Service, kind: Kind, family: Family, manner: Manner) -> Case {
    let (chooser, view) = row.asker.chooser(kind, service.policy);
    let closed = kind == Kind::ClusterIp && view == View::Outside;
    let foreign = service.policy == Policy::Local && service.place.site() != chooser;
    let unanswered = kind != Kind::HostPort && (closed || foreign);
    let own = row.asker.address(family);
    let remote = service.place.site() != chooser;
    let client = match view {
        // What one node asks another is answered through that one: its own pods may be who answers.
        View::Outside if remote && row.asker == Asker::FarHost => chooser.address(family),
        View::Outside if remote && keeps_source(mode, manner) == Source::Node => chooser.address(family),
        View::Outside | View::Inside => own,
    };
    let answer = Answer {
        service: match kind {
            Kind::HostPort => HOST_PORT_SERVICE.to_owned(),
            Kind::ClusterIp | Kind::NodePort | Kind::LoadBalancer | Kind::ExternalIp => service.name(),
        },
        pod: service.place.backend().to_owned(),
        client,
    };
    let to: SocketAddr = service.frontend(kind, family);
    let (wanted, hope) = match manner {
        _ if unanswered => (Wanted::Nothing, Hope::Unanswered),
        Manner::Ping => (Wanted::Echo, Hope::Answered),
        Manner::Probe(_) => (Wanted::Either(answer), Hope::Answered),
        Manner::Tcp | Manner::Udp | Manner::Fragments | Manner::Reversed => {
            (Wanted::Answer(answer), Hope::Answered)
        }
    };
    Case {
        row,
        question: Question { to, manner, hope },
        wanted,
    }
}

/// Whose address a backend on another node sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Client,
    Node,
}

fn keeps_source(mode: Mode, manner: Manner) -> Source {
    match mode.forwarding {
        Forwarding::Snat => Source::Node,
        Forwarding::DsrOption | Forwarding::DsrIpip | Forwarding::DsrGeneve => Source::Client,
        Forwarding::Hybrid => match manner {
            Manner::Tcp => Source::Client,
            Manner::Udp | Manner::Fragments | Manner::Reversed | Manner::Probe(_) | Manner::Ping => {
                Source::Node
            }
        },
    }
}
