//! What a plan is in the words of the maps, and back.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use ebpf_abi::config::{Node, RangeKey};
use ebpf_abi::service::{Backend, BackendState, backend_flag, flag};
use ebpf_abi::{BackendId, V4, V6};
use ipnet::IpNet;

use super::PEERS;
use crate::image::MapImage;
use crate::names::{Family, Socket};
use crate::services::{
    At, BackendPlan, Delegation, EndpointState, FrontendPlan, Kind, RangePolicy, Reach, Scope, ServicePlan,
};

pub(super) fn backend<A>(
    id: BackendId,
    address: A,
    socket: &Socket,
    plan: &BackendPlan,
    node: u32,
) -> Backend<A> {
    let state = match plan.state {
        EndpointState::Active => BackendState::Active,
        EndpointState::Terminating | EndpointState::TerminatingNotServing => BackendState::Terminating,
        EndpointState::Maintenance => BackendState::Maintenance,
    };
    Backend {
        id,
        address,
        port: socket.port.to_be(),
        protocol: socket.protocol.number(),
        state: state.number(),
        node,
        flags: match plan.at {
            At::Here => backend_flag::LOCAL | backend_flag::CLUSTER,
            At::Node(_) => backend_flag::CLUSTER,
            At::Unknown => 0,
        },
        zone: plan.zone,
        pad: 0,
    }
}

pub(super) fn flags(service: &ServicePlan, plan: &FrontendPlan) -> u16 {
    let mut flags = kind_flag(plan.kind) | reach_flag(plan.reach);
    let outer = service.sets.get(plan.outer);
    let local = outer.is_some_and(|set| set.key.scope == Scope::Local);
    // A host port is on this node only: no other one could have a backend for it.
    if local && plan.kind != Kind::HostPort {
        flags |= flag::LOCAL_ONLY;
    }
    if plan
        .ranges
        .as_ref()
        .is_some_and(|ranges| ranges.policy == RangePolicy::Deny)
    {
        flags |= flag::DENY_RANGES;
    }
    match plan.delegation {
        Delegation::None => {}
        Delegation::IfLocal => flags |= flag::DELEGATE,
    }
    flags
}

pub(super) fn kind_flag(kind: Kind) -> u16 {
    match kind {
        Kind::ClusterIp => 0,
        Kind::NodePort => flag::NODE_PORT,
        Kind::LoadBalancer => flag::LOAD_BALANCER,
        Kind::HostPort => flag::HOST_PORT,
        Kind::ExternalIp => flag::EXTERNAL_IP,
    }
}

pub(super) fn reach_flag(reach: Reach) -> u16 {
    match reach {
        Reach::Inside => 0,
        Reach::Everywhere => flag::ROUTABLE,
        Reach::ThisHost => flag::LOOPBACK,
    }
}

/// Node addresses have other ports that work.
pub(super) fn known_backends(before: &MapImage) -> HashMap<Socket, BackendId> {
    let v4 = before
        .backends4
        .iter()
        .map(|(index, backend)| (Family::V4, *index, backend.id));
    let v6 = before
        .backends6
        .iter()
        .map(|(index, backend)| (Family::V6, *index, backend.id));
    v4.chain(v6)
        .filter(|(_, index, id)| id.lives_at(*index))
        .filter_map(|(family, _, id)| Some((before.socket(family, id)?, id)))
        .collect()
}

pub(super) fn lists(before: &MapImage) -> BTreeMap<Vec<IpNet>, u32> {
    let mut lists: BTreeMap<u32, Vec<IpNet>> = BTreeMap::new();
    let v4 = before.ranges4.iter();
    let v4 = v4.map(|key| (key.list, key.bits, IpAddr::V4(key.address.into())));
    let v6 = before.ranges6.iter();
    let v6 = v6.map(|key| (key.list, key.bits, IpAddr::V6(key.address.into())));
    for (list, bits, address) in v4.chain(v6) {
        let bits = bits.checked_sub(RangeKey::<V4>::LIST_BITS);
        let bits = bits.and_then(|bits| u8::try_from(bits).ok());
        if let Some(net) = bits.and_then(|bits| IpNet::new(address, bits).ok()) {
            lists.entry(list).or_default().push(net);
        }
    }
    lists.remove(&PEERS);
    let mut numbers = BTreeMap::new();
    for (list, mut nets) in lists {
        nets.sort_unstable();
        numbers.entry(nets).or_insert(list);
    }
    numbers
}

/// The entries of a list.
pub(super) fn range_keys(nets: &[IpNet], list: u32) -> (Vec<RangeKey<V4>>, Vec<RangeKey<V6>>) {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for net in nets {
        let bits = RangeKey::<V4>::LIST_BITS + u32::from(net.prefix_len());
        match net.addr() {
            IpAddr::V4(address) => {
                let address = V4::from(address);
                v4.push(RangeKey { bits, list, address });
            }
            IpAddr::V6(address) => {
                let address = V6::from(address);
                v6.push(RangeKey { bits, list, address });
            }
        }
    }
    (v4, v6)
}

pub(super) fn octets(node: &Node) -> ([u8; 4], [u8; 16]) {
    (node.v4.0.to_ne_bytes(), node.v6.octets())
}
