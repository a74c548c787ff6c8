//! From a node's instances and peers to the speaker's configuration, but for routes and export policies: those come with
//! Services, and are filled in later.
//!
//! What can't be run is reported and left out; everything else goes on: an instance without an ASN does not stop
//! the others, a peer with a bad address not its neighbours. A peer whose password can't be had is configured and
//! stays down, so that it never runs without one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bgp_speaker::config::{
    Connect, FamilyConfig, InstanceConfig, PeerAddress, PeerConfig, ReflectorClient, RemoteAsn, SpeakerConfig,
};
use bgp_speaker::policy::{ExportPolicy, ImportPolicy};
use bgp_speaker::types::{Asn, Family, Name, Prefix};
use crds::bgp::cluster_config::{DEFAULT_DYNAMIC_LIMIT, Whereabouts};
use crds::text::{parse_address, parse_prefix};

use super::advertise::Offers;
use super::desired::{Discovery, PeerReport};
use super::gateway;
use super::node_config::{Instance, NodeConfig, Peer};
use super::policy_view::{InstancePolicies, Neighbor, PeerPolicies, Policies};
use super::reasons::Reason;
use super::session::{Session, session};
use crate::problem::{Problem, Severity};

/// What the peers of this node come to.
#[derive(Debug, Default)]
pub(crate) struct Peering {
    pub(crate) speaker: SpeakerConfig,
    pub(crate) policies: Policies,
    pub(crate) reports: Vec<PeerReport>,
    pub(crate) problems: Vec<Problem>,
    /// What each running peer is offered.
    pub(crate) told: Vec<Told>,
    /// What is selected for the peers of this node, whether it gives a route or not.
    pub(crate) selected: BTreeSet<usize>,
}

/// A family of a running peer, and what it is offered.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) instance: Name,
    pub(crate) peer: Name,
    pub(crate) family: Family,
    /// The number of the offer.
    pub(crate) offer: usize,
}

pub(crate) fn peering(config: &NodeConfig<'_>, offers: &mut Offers<'_>) -> Peering {
    let mut peering = Peering::default();
    for instance in &config.instances {
        let name: Name = instance.name.as_str().into();
        match instance_config(instance, &name, offers, &mut peering) {
            Ok((config, policies)) => {
                peering.speaker.instances.insert(name, config);
                peering.policies.instances.push(policies);
            }
            Err(reason) => {
                let not_run = Reason::InstanceNotRun(reason.to_string());
                peering
                    .reports
                    .extend(instance.peers.iter().map(|peer| PeerReport {
                        instance: Arc::clone(&name),
                        peer: peer.name.as_str().into(),
                        address: None,
                        discovered: discovery(peer),
                        prefixes: Vec::new(),
                        not_run: Some(not_run.clone()),
                    }));
            }
        }
    }
    peering
}

fn instance_config(
    instance: &Instance<'_>,
    name: &Name,
    offers: &mut Offers<'_>,
    peering: &mut Peering,
) -> Result<(InstanceConfig, InstancePolicies), Reason> {
    if peering.speaker.instances.contains_key(name) {
        let message = format!("instance {name} stands here twice; the first one is used");
        peering.problems.push(instance.place.problem(
            "name",
            Severity::Error,
            Reason::SameNameTwice.name(),
            message,
        ));
        return Err(Reason::SameNameTwice);
    }
    let Some(asn) = instance.local_asn.and_then(|asn| Asn::new(asn).ok()) else {
        let message =
            format!("instance {name} has no localASN, neither here nor in an override; it is not run");
        let reason = crds::Reason::MissingAsn.as_str();
        peering.problems.push(
            instance
                .place
                .problem("localASN", Severity::Error, reason, message),
        );
        return Err(Reason::NoAsn);
    };
    let router_id = match instance.router_id {
        Ok(id) => id,
        Err(why) => {
            let message = format!("instance {name} is not run: {why}");
            peering
                .problems
                .push(instance.place.problem("", Severity::Error, why.name(), message));
            return Err(Reason::NoRouterId(why.to_string()));
        }
    };
    let mut peers = BTreeMap::new();
    let mut policies = InstancePolicies {
        name: Arc::clone(name),
        asn: asn.get(),
        peers: Vec::new(),
    };
    let mut addresses: Vec<(PeerAddress, Name)> = Vec::new();
    for peer in &instance.peers {
        let peer_name: Name = peer.name.as_str().into();
        let mut report = PeerReport {
            instance: Arc::clone(name),
            peer: Arc::clone(&peer_name),
            address: None,
            discovered: discovery(peer),
            prefixes: Vec::new(),
            not_run: None,
        };
        let resolved = if peers.contains_key(&peer_name) {
            Err(Reason::SameNameTwice)
        } else {
            resolve(peer, asn, &addresses, offers, &mut report, &mut peering.problems)
        };
        match resolved {
            Err(reason) => {
                report_peer(peer, &peer_name, &reason, &mut peering.problems);
                report.not_run = Some(reason);
            }
            Ok((address, remote_asn, session)) => {
                addresses.push((address.clone(), Arc::clone(&peer_name)));
                let mut families = Vec::new();
                let mut views = Vec::new();
                for (family, chosen) in &session.families {
                    if carries_routes(*family) {
                        report.prefixes.push((*family, 0));
                        views.push((*family, Arc::default()));
                        peering.told.push(Told {
                            instance: Arc::clone(name),
                            peer: Arc::clone(&peer_name),
                            family: *family,
                            offer: offers.offer(*family, chosen),
                        });
                    }
                    peering.selected.extend(chosen);
                    families.push((
                        *family,
                        FamilyConfig {
                            export: Arc::new(ExportPolicy::default()),
                            import: Arc::new(ImportPolicy::default()),
                            max_prefixes: session.max_prefixes,
                        },
                    ));
                }
                policies.peers.push(PeerPolicies {
                    peer: Arc::clone(&peer_name),
                    neighbor: match address {
                        PeerAddress::One(address) => Neighbor::One(address),
                        PeerAddress::Prefix { prefix, limit: _ } => Neighbor::Any(prefix),
                    },
                    families: views,
                });
                peers.insert(peer_name, peer_config(address, remote_asn, session, families));
            }
        }
        peering.reports.push(report);
    }
    let config = InstanceConfig {
        asn,
        router_id,
        listen: instance.local_port,
        peers,
        routes: Arc::default(),
        maximum_paths: instance.multipath.map_or(1, |multipath| multipath.maximum_paths),
    };
    Ok((config, policies))
}

fn peer_config(
    address: PeerAddress,
    remote_asn: RemoteAsn,
    session: Session,
    families: Vec<(Family, FamilyConfig)>,
) -> PeerConfig {
    let connect = match address {
        PeerAddress::One(_) => session.connect,
        PeerAddress::Prefix { .. } => Connect::Passive,
    };
    PeerConfig {
        address,
        port: session.port,
        remote_asn,
        local_address: session.local_address,
        interface: session.interface,
        connect,
        auth: session.auth,
        ttl: session.ttl,
        timers: session.timers,
        graceful_restart: session.graceful_restart,
        families,
        shutdown: None,
        reflector_client: ReflectorClient::No,
    }
}

fn discovery(peer: &Peer<'_>) -> Discovery {
    let Whereabouts {
        peer_address,
        auto_discovery,
        peer_prefix,
        dynamic_limit: _,
    } = &*peer.whereabouts;
    match (peer_address, peer_prefix, auto_discovery) {
        (None, None, Some(_)) => Discovery::DefaultGateway,
        (Some(_), _, _) | (_, Some(_), _) | (None, None, None) => Discovery::Configured,
    }
}

/// Names what keeps a peer from running, where no check of the documents says it as exactly.
fn report_peer(peer: &Peer<'_>, name: &str, reason: &Reason, problems: &mut Vec<Problem>) {
    let message = format!("peer {name} is not run: {reason}");
    let field = match reason {
        Reason::NoGateway(_) => "autoDiscovery",
        Reason::SameNameTwice => "name",
        Reason::NoAsn => "peerASN",
        Reason::PeerConfigMissing(_) => "peerConfigRef.name",
        Reason::SameAddressAs(_) => match discovery(peer) {
            // Only here is the discovered address known.
            Discovery::DefaultGateway => "autoDiscovery",
            Discovery::Configured if peer.whereabouts.peer_prefix.is_some() => "peerPrefix",
            Discovery::Configured => "peerAddress",
        },
        // The reader of the document names these.
        Reason::NoAddress | Reason::BadAddress(_) => return,
        // Not about peers, or about their instance, which was named.
        Reason::Headless
        | Reason::NoPorts
        | Reason::ExternalName
        | Reason::NotForThisNode
        | Reason::TypeNotExposed
        | Reason::NoVip(_)
        | Reason::HostnameOnly
        | Reason::IpModeNotVip
        | Reason::FamilyOff
        | Reason::ClassNotOurs(_)
        | Reason::OnlyByL2
        | Reason::NoEndpoints
        | Reason::NoLocalEndpoints
        | Reason::NotInDatapath
        | Reason::NoAdvertisementSelectsIt
        | Reason::NoPeerTakesThisFamily
        | Reason::NoPeers
        | Reason::NoRouterId(_)
        | Reason::InstanceNotRun(_) => return,
    };
    problems.push(peer.place.problem(field, Severity::Error, reason.name(), message));
}

fn resolve(
    peer: &Peer<'_>,
    local_asn: Asn,
    known: &[(PeerAddress, Name)],
    offers: &mut Offers<'_>,
    report: &mut PeerReport,
    problems: &mut Vec<Problem>,
) -> Result<(PeerAddress, RemoteAsn, Session), Reason> {
    let Some(asn) = peer.asn else {
        return Err(Reason::NoAsn);
    };
    let remote_asn = Asn::new(asn).map_or(RemoteAsn::Any, RemoteAsn::Is);
    let (address, zone) = address(peer, offers)?;
    if let PeerAddress::One(address) = address {
        report.address = Some(address);
    }
    if let Some((_, other)) = known.iter().find(|(known, _)| is_same(known, &address)) {
        return Err(Reason::SameAddressAs(other.to_string()));
    }
    let mut session = session(peer, remote_asn, local_asn, offers, problems)?;
    // A link-local address is only reachable by its link, whatever the shared settings say.
    session.interface = zone.or(session.interface);
    Ok((address, remote_asn, session))
}

/// Prefixes may lie in each other (the longer one has its addresses), but each stands for one peer.
fn is_same(a: &PeerAddress, b: &PeerAddress) -> bool {
    match (a, b) {
        (PeerAddress::One(a), PeerAddress::One(b)) => a == b,
        (PeerAddress::Prefix { prefix: a, limit: _ }, PeerAddress::Prefix { prefix: b, limit: _ }) => a == b,
        (PeerAddress::One(_), PeerAddress::Prefix { .. })
        | (PeerAddress::Prefix { .. }, PeerAddress::One(_)) => false,
    }
}

fn address(peer: &Peer<'_>, offers: &Offers<'_>) -> Result<(PeerAddress, Option<Name>), Reason> {
    let Whereabouts {
        peer_address,
        auto_discovery,
        peer_prefix,
        dynamic_limit,
    } = &*peer.whereabouts;
    if let Some(text) = peer_address {
        let written = parse_address(text).ok_or_else(|| Reason::BadAddress(text.clone()))?;
        return Ok((PeerAddress::One(written.address), written.zone.map(Name::from)));
    }
    if let Some(text) = peer_prefix {
        let bad = || Reason::BadAddress(text.clone());
        let net = parse_prefix(text).ok_or_else(bad)?.prefix;
        let prefix = Prefix::new(net.addr(), net.prefix_len()).map_err(|_| bad())?;
        let limit = dynamic_limit.unwrap_or(DEFAULT_DYNAMIC_LIMIT);
        return Ok((PeerAddress::Prefix { prefix, limit }, None));
    }
    let Some(gateway) = auto_discovery.as_ref().and_then(|d| d.default_gateway) else {
        return Err(Reason::NoAddress);
    };
    let routes = &offers.ground().world.observed.default_routes;
    let route = gateway::choose(gateway.address_family, routes).map_err(Reason::NoGateway)?;
    let zone = gateway::is_link_local(route.gateway).then(|| Name::from(route.interface.as_str()));
    Ok((PeerAddress::One(route.gateway), zone))
}

/// Only the two unicast families carry routes of ours; others are negotiated and stay empty.
fn carries_routes(family: Family) -> bool {
    matches!(family, Family::IPV4_UNICAST | Family::IPV6_UNICAST)
}
