//! Which default gateway a peer found by auto-discovery stands for.
//!
//! Only the main routing table counts (other tables belong to policies this node's own traffic does not
//! follow), only links that are up, and the lowest metric wins. Equal metrics are decided by address, then by
//! link name, so that every recompute chooses the same gateway. A gateway out of a router advertisement is
//! link-local, and is peered with over its link; one with a global address is preferred to it, as Cilium knows
//! no other.

use std::fmt;
use std::net::IpAddr;

use crds::bgp::cluster_config::AddressFamily;

use crate::world::{DefaultRoute, LinkState};

/// The kernel's main routing table (`RT_TABLE_MAIN`).
pub const MAIN_TABLE: u32 = 254;

/// Why there is no gateway to peer with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoGateway {
    NoDefaultRoute,
    /// There are routes, every one over a link that is down.
    LinksDown,
}

impl NoGateway {
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::NoDefaultRoute => "no-default-route",
            Self::LinksDown => "default-route-link-down",
        }
    }
}

impl fmt::Display for NoGateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDefaultRoute => f.write_str("the main routing table has no default route of this family"),
            Self::LinksDown => f.write_str("every link a default route of this family leaves by is down"),
        }
    }
}

/// The route whose gateway to peer with.
///
/// # Errors
/// [`NoGateway`] says what is in the way.
pub fn choose(family: AddressFamily, routes: &[DefaultRoute]) -> Result<&DefaultRoute, NoGateway> {
    let wanted = |route: &&DefaultRoute| {
        route.table == MAIN_TABLE
            && match family {
                AddressFamily::Ipv4 => route.gateway.is_ipv4(),
                AddressFamily::Ipv6 => route.gateway.is_ipv6(),
            }
    };
    let mut routes = routes.iter().filter(wanted).peekable();
    if routes.peek().is_none() {
        return Err(NoGateway::NoDefaultRoute);
    }
    routes
        .filter(|route| route.link == LinkState::Up)
        .min_by_key(|route| (is_link_local(route.gateway), *route))
        .ok_or(NoGateway::LinksDown)
}

/// Whether an address is reached by its link only, as gateways out of router advertisements are.
#[must_use]
pub fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(gateway: &str, metric: u32) -> DefaultRoute {
        DefaultRoute {
            metric,
            gateway: gateway.parse().unwrap(),
            interface: "eth0".to_owned(),
            table: MAIN_TABLE,
            link: LinkState::Up,
        }
    }

    fn chosen(family: AddressFamily, routes: &[DefaultRoute]) -> Result<String, NoGateway> {
        choose(family, routes).map(|route| route.gateway.to_string())
    }

    #[test]
    fn lowest_metric_of_the_main_table_over_a_live_link_wins() {
        let down = DefaultRoute {
            link: LinkState::Down,
            ..route("10.0.0.1", 0)
        };
        let other_table = DefaultRoute {
            table: 100,
            ..route("10.0.0.2", 0)
        };
        let routes = [
            down.clone(),
            other_table.clone(),
            route("10.0.0.4", 20),
            route("10.0.0.3", 10),
            route("fd00::1", 1),
        ];
        assert_eq!(chosen(AddressFamily::Ipv4, &routes), Ok("10.0.0.3".to_owned()));
        assert_eq!(chosen(AddressFamily::Ipv6, &routes), Ok("fd00::1".to_owned()));
        assert_eq!(chosen(AddressFamily::Ipv4, &[down]), Err(NoGateway::LinksDown));
        assert_eq!(
            chosen(AddressFamily::Ipv4, &[other_table]),
            Err(NoGateway::NoDefaultRoute)
        );
    }

    #[test]
    fn equal_metrics_are_decided_by_address_in_any_order() {
        let (a, b) = (route("10.0.0.9", 5), route("10.0.0.10", 5));
        let expected = Ok("10.0.0.9".to_owned());
        assert_eq!(chosen(AddressFamily::Ipv4, &[a.clone(), b.clone()]), expected);
        assert_eq!(chosen(AddressFamily::Ipv4, &[b, a]), expected);
    }

    #[test]
    fn a_link_local_gateway_will_do_where_no_global_one_is() {
        let mut routes = vec![route("fe80::2", 1), route("fe80::1", 1)];
        assert_eq!(chosen(AddressFamily::Ipv6, &routes), Ok("fe80::1".to_owned()));
        routes.push(route("fd00::1", 1024));
        assert_eq!(chosen(AddressFamily::Ipv6, &routes), Ok("fd00::1".to_owned()));
    }
}
