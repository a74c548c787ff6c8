//! Everything that is refused or left out, by name.

use std::net::IpAddr;

use crate::names::{Family, ServiceName, Socket};
use crate::services::Kind;

/// What a user asked for and does not get. The rest of the object keeps working unless the text says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Problem {
    #[error("{service}: no port, so nothing is served; add spec.ports")]
    NoPorts { service: ServiceName },
    #[error("{service}: port {port} is not between 1 and 65535; the port is left out")]
    BadPort { service: ServiceName, port: i32 },
    #[error("{service}: protocol {protocol:?} is not TCP, UDP or SCTP; the port is left out")]
    UnknownProtocol { service: ServiceName, protocol: String },
    #[error("{service}: {frontend} is there twice; the first one counts")]
    DuplicatePort { service: ServiceName, frontend: Socket },
    #[error("{service}: {text:?} in {field} is not an address that can be served; it is left out")]
    BadAddress {
        service: ServiceName,
        field: &'static str,
        text: String,
    },
    #[error("{service}: endpoint {text:?} is not an {family} address that can be reached; it is left out")]
    BadEndpoint {
        service: ServiceName,
        family: Family,
        text: String,
    },
    #[error("{service}: {left_out} of {all} endpoints are left out; a service has at most 65535")]
    TooManyEndpoints {
        service: ServiceName,
        all: usize,
        left_out: usize,
    },
    #[error("{service}: {text:?} is not a source range; nobody gets in by it")]
    BadSourceRange { service: ServiceName, text: String },
    #[error("{service}: session affinity of {seconds} seconds is not between 1 and 86400; 10800 are used")]
    BadAffinityTimeout { service: ServiceName, seconds: i32 },
    #[error("{service}: {annotation} is {value:?}, which is none of {known}; it is ignored")]
    UnknownAnnotationValue {
        service: ServiceName,
        annotation: &'static str,
        value: String,
        known: &'static str,
    },
    #[error("{service}: there is no annotation {annotation}; it is ignored")]
    UnknownAnnotation {
        service: ServiceName,
        annotation: String,
    },
    #[error("{service}: {annotation} is not enabled by the settings; it is ignored")]
    AnnotationNotEnabled {
        service: ServiceName,
        annotation: &'static str,
    },
    #[error("{service}: {annotation} needs a cluster mesh, and there is none; it is ignored")]
    NoClusterMesh {
        service: ServiceName,
        annotation: &'static str,
    },
    #[error(
        "{service}: {text:?} is no label selector; the service is on no node. Write it as for kubectl -l: a=b,c in (d,e),!f"
    )]
    BadNodeSelector { service: ServiceName, text: String },
    #[error("{service}: this node has no {family} address for node ports")]
    NoNodeAddress { service: ServiceName, family: Family },
    #[error(
        "{service}: {frontend} ({kind}) belongs to {owner} ({owner_kind}), which is older or has it from the cluster"
    )]
    Taken {
        service: ServiceName,
        frontend: Socket,
        kind: Kind,
        owner: ServiceName,
        owner_kind: Kind,
    },
    #[error("{service}: external IP {address} is a {owner_kind} address of {owner}, and cannot be taken")]
    ForeignAddress {
        service: ServiceName,
        address: IpAddr,
        owner: ServiceName,
        owner_kind: Kind,
    },
    #[error("{service}: host port {port} is in the range of node ports; choose another")]
    HostPortInNodePortRange { service: ServiceName, port: u16 },
    #[error(
        "{service}: {frontend} leads to port {target}; ports of SCTP cannot be changed, so they must be equal"
    )]
    SctpPortDiffers {
        service: ServiceName,
        frontend: Socket,
        target: u16,
    },
    #[error(
        "{service}: map {map} has {used} of {limit} entries in use and {needed} more are needed; nothing of the service is \
         written. Raise the size of the map"
    )]
    MapFull {
        service: ServiceName,
        map: &'static str,
        used: u32,
        needed: u32,
        limit: u32,
    },
    #[error(
        "node {node} has no place in NODES (limit {limit}); nothing is encapsulated for it. Raise the size of the map"
    )]
    NodesFull { node: String, limit: u32 },
    #[error(
        "node {node} and this one have no InternalIP of the same family, so packets for its backends cannot be wrapped and are \
         dropped (No tunnel/encapsulation endpoint); add one to the Node, or set bpf-lb-dsr-dispatch to opt"
    )]
    NoUnderlay { node: String },
}

impl Problem {
    /// A word that stays the same from version to version.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoPorts { .. } => "no-ports",
            Self::BadPort { .. } => "bad-port",
            Self::UnknownProtocol { .. } => "unknown-protocol",
            Self::DuplicatePort { .. } => "duplicate-port",
            Self::BadAddress { .. } => "bad-address",
            Self::BadEndpoint { .. } => "bad-endpoint",
            Self::TooManyEndpoints { .. } => "too-many-endpoints",
            Self::BadSourceRange { .. } => "bad-source-range",
            Self::BadAffinityTimeout { .. } => "bad-affinity-timeout",
            Self::UnknownAnnotationValue { .. } => "unknown-annotation-value",
            Self::UnknownAnnotation { .. } => "unknown-annotation",
            Self::AnnotationNotEnabled { .. } => "annotation-not-enabled",
            Self::NoClusterMesh { .. } => "no-cluster-mesh",
            Self::BadNodeSelector { .. } => "bad-node-selector",
            Self::NoNodeAddress { .. } => "no-node-address",
            Self::Taken { .. } => "taken",
            Self::ForeignAddress { .. } => "foreign-address",
            Self::HostPortInNodePortRange { .. } => "host-port-in-node-port-range",
            Self::SctpPortDiffers { .. } => "sctp-port-differs",
            Self::MapFull { .. } => "map-full",
            Self::NodesFull { .. } => "nodes-full",
            Self::NoUnderlay { .. } => "no-underlay",
        }
    }

    /// Whose problem it is; `None` for problems of nodes.
    pub fn service(&self) -> Option<&ServiceName> {
        match self {
            Self::NoPorts { service }
            | Self::BadPort { service, .. }
            | Self::UnknownProtocol { service, .. }
            | Self::DuplicatePort { service, .. }
            | Self::BadAddress { service, .. }
            | Self::BadEndpoint { service, .. }
            | Self::TooManyEndpoints { service, .. }
            | Self::BadSourceRange { service, .. }
            | Self::BadAffinityTimeout { service, .. }
            | Self::UnknownAnnotationValue { service, .. }
            | Self::UnknownAnnotation { service, .. }
            | Self::AnnotationNotEnabled { service, .. }
            | Self::NoClusterMesh { service, .. }
            | Self::BadNodeSelector { service, .. }
            | Self::NoNodeAddress { service, .. }
            | Self::Taken { service, .. }
            | Self::ForeignAddress { service, .. }
            | Self::HostPortInNodePortRange { service, .. }
            | Self::SctpPortDiffers { service, .. }
            | Self::MapFull { service, .. } => Some(service),
            Self::NodesFull { .. } | Self::NoUnderlay { .. } => None,
        }
    }
}
