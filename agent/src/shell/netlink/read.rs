//! What the kernel holds, read as a whole.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bgp_speaker::types::Prefix;
use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, State};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use rtnetlink::{Handle, RouteMessageBuilder};

use super::Link;
use crate::datapath::devices::{AdminState, Role};
use crate::world::{DefaultRoute, LinkState};

/// Links by index, with the prefixes connected to them.
pub(super) async fn links(handle: &Handle) -> Result<BTreeMap<u32, Link>, rtnetlink::Error> {
    let mut links = BTreeMap::new();
    let mut messages = std::pin::pin!(handle.link().get().execute());
    while let Some(message) = messages.try_next().await? {
        links.insert(message.header.index, link(&message));
    }
    let mut messages = std::pin::pin!(handle.address().get().execute());
    while let Some(message) = messages.try_next().await? {
        let Some(link) = links.get_mut(&message.header.index) else {
            continue;
        };
        let address = message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        });
        let prefix = address.and_then(|a| Prefix::new(a, message.header.prefix_len).ok());
        link.prefixes.extend(prefix);
        // Of a link between two, `Address` is the other side's.
        let own = message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Local(address) => Some(*address),
            _ => None,
        });
        if in_use(&message) {
            link.device.addresses.extend(own.or(address));
        }
    }
    Ok(links)
}

fn link(message: &LinkMessage) -> Link {
    let mut link = Link::default();
    let device = &mut link.device;
    device.index = message.header.index;
    if message.header.flags.contains(LinkFlags::Up) {
        device.state = AdminState::Up;
    }
    if message.header.flags.contains(LinkFlags::Loopback) {
        device.role = Role::Loopback;
    }
    let mut state = State::Unknown;
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => {
                link.name.clone_from(name);
                device.name.clone_from(name);
            }
            LinkAttribute::Address(mac) => {
                link.mac.clone_from(mac);
                if message.header.link_layer_type == LinkLayerType::Ether {
                    device.mac = mac.as_slice().try_into().ok();
                }
            }
            LinkAttribute::OperState(oper) => state = *oper,
            LinkAttribute::Mtu(mtu) => device.mtu = *mtu,
            LinkAttribute::Controller(_) => device.role = Role::Part,
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    if let LinkInfo::Kind(kind) = info {
                        device.kind = kind.to_string();
                    }
                }
            }
            _ => {}
        }
    }
    // Tunnels and the like never say `up`: for them the administrator's word counts.
    link.up = match state {
        State::Up => true,
        State::Unknown => message.header.flags.contains(LinkFlags::Up),
        _ => false,
    };
    link
}

/// Whether others can reach it, and the kernel is sure that it is nobody else's.
fn in_use(message: &AddressMessage) -> bool {
    let doubtful = AddressHeaderFlags::Tentative | AddressHeaderFlags::Dadfailed;
    message.header.scope == AddressScope::Universe && !message.header.flags.intersects(doubtful)
}

/// Default routes of every table, one entry a next hop, in a fixed order.
pub(super) async fn default_routes(
    handle: &Handle,
    links: &BTreeMap<u32, Link>,
) -> Result<Vec<DefaultRoute>, rtnetlink::Error> {
    let mut found = Vec::new();
    for message in routes(handle).await? {
        if message.header.destination_prefix_length == 0 && message.header.kind == RouteType::Unicast {
            found.extend(next_hops(&message, links));
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// Every route of both families.
pub(super) async fn routes(handle: &Handle) -> Result<Vec<RouteMessage>, rtnetlink::Error> {
    let mut found = Vec::new();
    let wanted = [
        RouteMessageBuilder::<Ipv4Addr>::new().build(),
        RouteMessageBuilder::<Ipv6Addr>::new().build(),
    ];
    for mut wanted in wanted {
        // The builder presets what a new route needs; a dump is for all of them.
        wanted.header.table = 0;
        wanted.header.kind = RouteType::Unspec;
        wanted.header.protocol = rtnetlink::packet_route::route::RouteProtocol::Unspec;
        let mut messages = std::pin::pin!(handle.route().get(wanted).execute());
        while let Some(message) = messages.try_next().await? {
            if message.header.destination_prefix_length == 0
                || message.header.protocol
                    == rtnetlink::packet_route::route::RouteProtocol::Other(super::PROTOCOL)
            {
                found.push(message);
            }
        }
    }
    Ok(found)
}

/// The table a route is in: the attribute counts, the header has only eight bits.
pub(super) fn table(message: &RouteMessage) -> u32 {
    message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Table(table) => Some(*table),
            _ => None,
        })
        .unwrap_or_else(|| u32::from(message.header.table))
}

fn next_hops(message: &RouteMessage, links: &BTreeMap<u32, Link>) -> Vec<DefaultRoute> {
    let table = table(message);
    let metric = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Priority(metric) => Some(*metric),
            _ => None,
        })
        .unwrap_or(0);
    let mut found = Vec::new();
    let mut hop = |attributes: &[RouteAttribute], interface: Option<u32>| {
        let gateway = attributes.iter().find_map(gateway);
        let link = interface.and_then(|index| links.get(&index));
        if let (Some(gateway), Some(link)) = (gateway, link) {
            found.push(DefaultRoute {
                metric,
                gateway,
                interface: link.name.clone(),
                table,
                link: if link.up { LinkState::Up } else { LinkState::Down },
            });
        }
    };
    let interface = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    });
    hop(&message.attributes, interface);
    for attribute in &message.attributes {
        if let RouteAttribute::MultiPath(hops) = attribute {
            for one in hops {
                hop(&one.attributes, Some(one.interface_index));
            }
        }
    }
    found
}

fn gateway(attribute: &RouteAttribute) -> Option<IpAddr> {
    match attribute {
        RouteAttribute::Gateway(address) => ip(address),
        // An IPv6 gateway of an IPv4 route (RFC 8950).
        RouteAttribute::Via(rtnetlink::packet_route::route::RouteVia::Inet6(address)) => {
            Some(IpAddr::V6(*address))
        }
        _ => None,
    }
}

pub(super) fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}
