//! What is the same for all services: settings of the agent, and the node it runs on.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use ebpf_abi::balance::Balanced as _;
use ebpf_abi::config::Config;
use ebpf_abi::maglev::Seeds;
use ebpf_abi::maps;
use ebpf_abi::service::{Dispatch, Selection};
use ebpf_abi::{V4, V6};

use crate::names::{Family, Protocol};

/// In parentheses: the key of Cilium's ConfigMap that it comes from. The defaults are Cilium's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// (`enable-ipv4`, `enable-ipv6`)
    pub families: BTreeSet<Family>,
    /// (`bpf-lb-algorithm`)
    pub selection: Selection,
    /// (`bpf-lb-algorithm-annotation`)
    pub selection_annotation: Honour,
    /// (`bpf-lb-mode`)
    pub forwarding: Forwarding,
    /// (`bpf-lb-mode-annotation`)
    pub forwarding_annotation: Honour,
    /// How packets travel under direct server return (`bpf-lb-dsr-dispatch`).
    pub dsr: Dispatch,
    /// (`bpf-lb-external-clusterip`)
    pub cluster_ips: ClusterIps,
    /// (`enable-service-topology`)
    pub topology: Honour,
    /// (`bpf-lb-source-range-all-types`)
    pub source_ranges: SourceRanges,
    /// Whose packets are translated to all backends (`bpf-lb-container-devices`).
    pub pods: Pods,
    /// (`node-port-range`)
    pub node_ports: RangeInclusive<u16>,
    /// Only Services with this `service.kubernetes.io/service-proxy-name` (`k8s-service-proxy-name`); empty: only those
    /// without.
    pub proxy_name: String,
    /// Numbers of zones, for counters (`fixed-zone-mapping`).
    pub zones: BTreeMap<String, u8>,
    /// (`bpf-lb-maglev-table-size`); one of [`ebpf_abi::maglev::SIZES`].
    pub maglev_size: u32,
    /// (`bpf-lb-maglev-hash-seed`)
    pub seeds: Seeds,
    /// Lifetimes and switches of the programs. Its other fields are filled from those above.
    pub config: Config,
    pub limits: Limits,
}

/// Answers that each processor makes in a second, as Cilium limits ICMPv6 errors.
const ANSWER_RATE: u32 = 100;

/// Flows that each processor remembers in a second while direct return could do without. Writing an entry of a flood costs
/// about half a microsecond: so no more than a twentieth of a processor.
const FLOW_RATE: u32 = 100_000;

impl Default for Settings {
    fn default() -> Self {
        Self {
            families: Family::ALL.into(),
            selection: Selection::Random,
            selection_annotation: Honour::Yes,
            forwarding: Forwarding::Snat,
            forwarding_annotation: Honour::Yes,
            dsr: Dispatch::DsrOption,
            cluster_ips: ClusterIps::Inside,
            topology: Honour::No,
            source_ranges: SourceRanges::LoadBalancer,
            pods: Pods::BySockets,
            node_ports: 30_000..=32_767,
            proxy_name: String::new(),
            zones: BTreeMap::new(),
            maglev_size: 16_381,
            seeds: Seeds::default(),
            config: Config {
                answer_rate: ANSWER_RATE,
                flow_rate: FLOW_RATE,
                ..Config::default()
            },
            limits: Limits::default(),
        }
    }
}

impl Settings {
    /// Ports of this node for flows that leave as from it: below those of node ports, and below those that the kernel gives to
    /// sockets of its own (`net.ipv4.ip_local_port_range`, from 32768 on). Else a connection of this node to a backend could have
    /// the very port that a client's flow to that backend has, and the answers of one would go to the other. Where node ports
    /// leave no room there, those behind them.
    pub(crate) fn nat_ports(&self) -> RangeInclusive<u16> {
        const FIRST: u16 = 1024;
        const LAST: u16 = 32_767;
        const ENOUGH: u16 = 4096;
        let last = self.node_ports.start().saturating_sub(1).min(LAST);
        if last >= FIRST + ENOUGH {
            FIRST..=last
        } else {
            self.node_ports.end().saturating_add(1)..=u16::MAX
        }
    }

    /// How packets of this protocol travel to other nodes.
    pub(crate) fn dispatch(&self, forwarding: Forwarding, protocol: Protocol) -> Dispatch {
        match (forwarding, protocol) {
            (Forwarding::Snat, _) | (Forwarding::Hybrid, Protocol::Udp | Protocol::Sctp) => Dispatch::Snat,
            (Forwarding::Dsr, _) | (Forwarding::Hybrid, Protocol::Tcp) => self.dsr,
        }
    }
}

/// Whether a wish that objects can have is listened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Honour {
    Yes,
    No,
}

/// How packets get to backends on other nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarding {
    Snat,
    Dsr,
    /// Direct server return for TCP only.
    Hybrid,
}

/// From where cluster addresses can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterIps {
    Inside,
    Outside,
}

/// Which frontends look at `loadBalancerSourceRanges`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceRanges {
    LoadBalancer,
    /// All but cluster addresses that are closed to the outside anyway.
    All,
}

/// Where connections of pods of this node are balanced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pods {
    /// Where they ask for them.
    BySockets,
    /// Packet by packet at their devices too, because some of them have sockets that cannot be reached.
    ByPackets,
}

impl Pods {
    /// As whom pods hear themselves: their answers are to be seen.
    pub(crate) fn to_oneself(self) -> impl Iterator<Item = IpAddr> {
        let (v4, v6) = (Ipv4Addr::from(V4::LOOPBACK), Ipv6Addr::from(V6::LOOPBACK));
        let both = match self {
            Self::ByPackets => Some([IpAddr::V4(v4), IpAddr::V6(v6)]),
            Self::BySockets => None,
        };
        both.into_iter().flatten()
    }
}

/// How many entries the maps were made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of each family, as all that differ by family.
    pub frontends: u32,
    /// Places for frontends of both families.
    pub places: u32,
    pub sets: u32,
    pub slots: u32,
    pub backends: u32,
    pub members: u32,
    pub ranges: u32,
    pub nodes: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frontends: maps::FRONTENDS4.entries,
            places: maps::LIVE_FRONTENDS.entries,
            sets: maps::SETS.entries.min(maps::MAGLEV.entries),
            slots: maps::SLOTS.entries,
            backends: maps::BACKENDS4.entries,
            members: maps::MEMBERS.entries,
            ranges: maps::RANGES4.entries,
            nodes: maps::NODES.entries,
        }
    }
}

/// The node whose maps are filled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThisNode {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    /// Where node ports and host ports listen.
    pub node_port_addresses: BTreeSet<IpAddr>,
    /// All addresses of its devices: translated packets come back to them, and an endpoint there is local.
    pub addresses: BTreeSet<IpAddr>,
}

impl ThisNode {
    pub(crate) fn zone(&self) -> Option<&str> {
        let zone = self.labels.get("topology.kubernetes.io/zone")?;
        (!zone.is_empty()).then_some(zone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_of_clients_get_no_port_that_a_socket_of_the_node_may_have() {
        for (node_ports, expected) in [
            (30_000..=32_767, 1024..=29_999),
            (40_000..=41_000, 1024..=32_767),
            (8000..=9000, 1024..=7999),
            (2000..=3000, 3001..=65_535),
        ] {
            let settings = Settings {
                node_ports,
                ..Settings::default()
            };
            assert_eq!(settings.nat_ports(), expected);
        }
    }
}
