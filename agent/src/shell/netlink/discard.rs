//! Blackhole routes: those of the kernel that carry our protocol number against those wished for.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bgp_speaker::types::Prefix;
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage, RouteProtocol, RouteType};
use rtnetlink::{Handle, RouteMessageBuilder};

use super::{Action, Failed, PROTOCOL, read};
use crate::plan::gateway::MAIN_TABLE;

/// A route of the same prefix that somebody else made wins over this one.
const METRIC: u32 = 1 << 30;

/// Makes the kernel's discard routes `wish`; returns what did not work.
pub(super) async fn apply(handle: &Handle, wish: &BTreeSet<Prefix>) -> Vec<Failed> {
    let have = match read::routes(handle).await {
        Ok(messages) => messages.iter().filter_map(ours).collect::<BTreeSet<_>>(),
        Err(error) => {
            let failed = |prefix: &Prefix| Failed {
                prefix: *prefix,
                action: Action::Add,
                error: text(&error),
            };
            return wish.iter().map(failed).collect();
        }
    };
    let mut failed = Vec::new();
    for prefix in wish.difference(&have) {
        if let Err(error) = handle.route().add(message(*prefix)).replace().execute().await {
            failed.push(Failed {
                prefix: *prefix,
                action: Action::Add,
                error: text(&error),
            });
        }
    }
    for prefix in have.difference(wish) {
        if let Err(error) = handle.route().del(message(*prefix)).execute().await {
            failed.push(Failed {
                prefix: *prefix,
                action: Action::Remove,
                error: text(&error),
            });
        }
    }
    failed
}

/// The prefix of a discard route of this program.
fn ours(message: &RouteMessage) -> Option<Prefix> {
    let is_ours = message.header.protocol == RouteProtocol::Other(PROTOCOL)
        && message.header.kind == RouteType::BlackHole
        && read::table(message) == MAIN_TABLE;
    let address = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Destination(address) => read::ip(address),
            _ => None,
        })
        // The kernel leaves an all-zero destination out.
        .unwrap_or(match message.header.address_family {
            rtnetlink::packet_route::AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            _ => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        });
    Prefix::new(address, message.header.destination_prefix_length)
        .ok()
        .filter(|_| is_ours)
}

fn message(prefix: Prefix) -> RouteMessage {
    let protocol = RouteProtocol::Other(PROTOCOL);
    match prefix.addr() {
        IpAddr::V4(address) => RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(address, prefix.len())
            .kind(RouteType::BlackHole)
            .protocol(protocol)
            .priority(METRIC)
            .build(),
        IpAddr::V6(address) => RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(address, prefix.len())
            .kind(RouteType::BlackHole)
            .protocol(protocol)
            .priority(METRIC)
            .build(),
    }
}

fn text(error: &rtnetlink::Error) -> String {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io().to_string(),
        other => other.to_string(),
    }
}
