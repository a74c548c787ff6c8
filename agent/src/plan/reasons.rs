//! Why something is not announced, or not run. Each reason has a stable name for the CLI, metrics and tests, and a
//! sentence for people.

use std::fmt;

use super::frontends::{BGP_CLASS, L2_CLASS};

/// Ordered as they are looked for: the first one in the way is the one shown first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    // Services
    Headless,
    NoPorts,
    ExternalName,
    /// `service.cilium.io/node` or `/node-selector` leaves this node out.
    NotForThisNode,
    /// `service.cilium.io/type` leaves this type of address out.
    TypeNotExposed,
    /// A LoadBalancer Service without an address; the text is LB-IPAM's.
    NoVip(String),
    /// Only a host name was given as ingress.
    HostnameOnly,
    /// `ipMode` of the ingress is not `VIP`: the load balancer in front does not deliver to the address.
    IpModeNotVip,
    /// The cluster has the family switched off.
    FamilyOff,
    /// `loadBalancerClass` belongs to somebody else.
    ClassNotOurs(String),
    /// The class asks for L2 announcement, which this version lacks.
    OnlyByL2,
    NoEndpoints,
    NoLocalEndpoints,
    /// The load balancer in the kernel does not serve it, or not yet.
    NotInDatapath,
    NoAdvertisementSelectsIt,
    /// Peers are there, but none of them exchanges this family.
    NoPeerTakesThisFamily,
    /// This node runs no BGP peer.
    NoPeers,
    // Peers
    NoAsn,
    NoRouterId(String),
    NoAddress,
    BadAddress(String),
    /// From auto-discovery: see [`super::gateway::NoGateway`].
    NoGateway(super::gateway::NoGateway),
    PeerConfigMissing(String),
    SameAddressAs(String),
    SameNameTwice,
    InstanceNotRun(String),
}

impl Reason {
    /// Stable, in kebab case.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Headless => "headless",
            Self::NoPorts => "no-ports",
            Self::ExternalName => "external-name",
            Self::NotForThisNode => "not-for-this-node",
            Self::TypeNotExposed => "type-not-exposed",
            Self::NoVip(_) => "no-vip",
            Self::HostnameOnly => "hostname-only",
            Self::IpModeNotVip => "ip-mode-not-vip",
            Self::FamilyOff => "family-off",
            Self::ClassNotOurs(_) => "class-not-ours",
            Self::OnlyByL2 => "l2-not-available",
            Self::NoEndpoints => "no-endpoints",
            Self::NoLocalEndpoints => "no-local-endpoints",
            Self::NotInDatapath => "not-in-datapath",
            Self::NoAdvertisementSelectsIt => "no-advertisement-selects-it",
            Self::NoPeerTakesThisFamily => "no-peer-takes-this-family",
            Self::NoPeers => "no-peers",
            Self::NoAsn => "missing-asn",
            Self::NoRouterId(_) => "no-router-id",
            Self::NoAddress => "peer-without-address",
            Self::BadAddress(_) => "bad-address",
            Self::NoGateway(why) => why.name(),
            Self::PeerConfigMissing(_) => "missing-peer-config",
            Self::SameAddressAs(_) => "duplicate-peer-address",
            Self::SameNameTwice => "same-name-twice",
            Self::InstanceNotRun(_) => "instance-not-run",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Headless => f.write_str("headless Services have no address"),
            Self::NoPorts => f.write_str("the Service has no port"),
            Self::ExternalName => f.write_str("ExternalName Services have no address"),
            Self::NotForThisNode => {
                f.write_str("the annotation service.cilium.io/node or /node-selector leaves this node out")
            }
            Self::TypeNotExposed => {
                f.write_str("the annotation service.cilium.io/type leaves this type of address out")
            }
            Self::NoVip(why) => write!(f, "no LoadBalancer address: {why}"),
            Self::HostnameOnly => f.write_str("the ingress is a host name, not an address"),
            Self::IpModeNotVip => f.write_str("ipMode of the ingress is not VIP"),
            Self::FamilyOff => f.write_str("the address family is switched off (enable-ipv4, enable-ipv6)"),
            Self::ClassNotOurs(class) => {
                write!(f, "loadBalancerClass {class} belongs to another implementation")
            }
            Self::OnlyByL2 => write!(
                f,
                "loadBalancerClass {L2_CLASS} is announced by L2 only, which this version does not do; use \
                 {BGP_CLASS}, or no class, to announce it by BGP"
            ),
            Self::NoEndpoints => {
                f.write_str("the Service has no endpoint (enable-no-service-endpoints-routable is false)")
            }
            Self::NoLocalEndpoints => {
                f.write_str("the traffic policy is Local and no endpoint on this node is ready")
            }
            Self::NotInDatapath => f.write_str(
                "the load balancer in the kernel does not serve it (yet); the problems of `stentor status` say why",
            ),
            Self::NoAdvertisementSelectsIt => {
                f.write_str("no CiliumBGPAdvertisement of this node's peers selects it")
            }
            Self::NoPeerTakesThisFamily => {
                f.write_str("no peer it is meant for exchanges this address family")
            }
            Self::NoPeers => f.write_str("this node has no BGP peer"),
            Self::NoAsn => f.write_str("no ASN is given"),
            Self::NoRouterId(why) => write!(f, "no router ID: {why}"),
            Self::NoAddress => f.write_str("neither an address nor a way to discover one is given"),
            Self::BadAddress(text) => write!(f, "{text:?} is not an address"),
            Self::NoGateway(why) => why.fmt(f),
            Self::PeerConfigMissing(name) => write!(f, "CiliumBGPPeerConfig {name} does not exist"),
            Self::SameAddressAs(peer) => write!(f, "peer {peer} of this instance has the same address"),
            Self::SameNameTwice => f.write_str("the name is used twice"),
            Self::InstanceNotRun(why) => write!(f, "the instance is not run: {why}"),
        }
    }
}
