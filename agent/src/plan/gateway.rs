//! Which default gateway a peer found by auto-discovery stands for.
//!
//! Only the main routing table counts (other tables belong to policies this node's own traffic does not
//! follow), only links that are up, and the lowest metric wins. Equal metrics are decided by address, then by
//! link name, so that every recompute chooses the same gateway.

use std::fmt;
use std::net::IpAddr;

use crds::bgp::cluster_config::AddressFamily;

/// The kernel's main routing table (`RT_TABLE_MAIN`).
pub const MAIN_TABLE: u32 = 254;

/// A default route of this kernel, one per next hop.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DefaultRoute {
    pub metric: u32,
    pub gateway: IpAddr,
    pub interface: String,
    pub table: u32,
    pub link: LinkState,
}

/// Whether the link a route leaves by can carry packets (`IFLA_OPERSTATE` up).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkState {
    Up,
    Down,
}

/// Why there is no gateway to peer with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoGateway {
    NoDefaultRoute,
    /// There are routes, every one over a link that is down.
    LinksDown,
    /// Every usable gateway is link-local, as router advertisements make them. Such an address needs an
    /// interface to be reached, so it is named instead of tried.
    LinkLocal {
        gateway: IpAddr,
        interface: String,
    },
}

impl NoGateway {
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::NoDefaultRoute => "no-default-route",
            Self::LinksDown => "default-route-link-down",
            Self::LinkLocal { .. } => "gateway-is-link-local",
        }
    }
}

impl fmt::Display for NoGateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDefaultRoute => f.write_str("the main routing table has no default route of this family"),
            Self::LinksDown => f.write_str("every link a default route of this family leaves by is down"),
            Self::LinkLocal { gateway, interface } => write!(
                f,
                "the default gateway {gateway} on {interface} is link-local; a route by a global address is needed"
            ),
        }
    }
}

/// The gateway to peer with.
///
/// # Errors
/// [`NoGateway`] says what is in the way.
pub fn choose(family: AddressFamily, routes: &[DefaultRoute]) -> Result<IpAddr, NoGateway> {
    let wanted = |route: &&DefaultRoute| {
        route.table == MAIN_TABLE
            && match family {
                AddressFamily::Ipv4 => route.gateway.is_ipv4(),
                AddressFamily::Ipv6 => route.gateway.is_ipv6(),
            }
    };
    let mut routes: Vec<&DefaultRoute> = routes.iter().filter(wanted).collect();
    if routes.is_empty() {
        return Err(NoGateway::NoDefaultRoute);
    }
    routes.retain(|route| route.link == LinkState::Up);
    routes.sort();
    let global = routes.iter().find(|route| !is_link_local(route.gateway));
    match (global, routes.first()) {
        (Some(route), _) => Ok(route.gateway),
        (None, Some(route)) => Err(NoGateway::LinkLocal {
            gateway: route.gateway,
            interface: route.interface.clone(),
        }),
        (None, None) => Err(NoGateway::LinksDown),
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
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
        assert_eq!(
            choose(AddressFamily::Ipv4, &routes),
            Ok("10.0.0.3".parse().unwrap())
        );
        assert_eq!(
            choose(AddressFamily::Ipv6, &routes),
            Ok("fd00::1".parse().unwrap())
        );
        assert_eq!(choose(AddressFamily::Ipv4, &[down]), Err(NoGateway::LinksDown));
        assert_eq!(
            choose(AddressFamily::Ipv4, &[other_table]),
            Err(NoGateway::NoDefaultRoute)
        );
    }

    #[test]
    fn equal_metrics_are_decided_by_address_in_any_order() {
        let (a, b) = (route("10.0.0.9", 5), route("10.0.0.10", 5));
        let expected = Ok("10.0.0.9".parse().unwrap());
        assert_eq!(choose(AddressFamily::Ipv4, &[a.clone(), b.clone()]), expected);
        assert_eq!(choose(AddressFamily::Ipv4, &[b, a]), expected);
    }

    #[test]
    fn a_link_local_gateway_is_named_and_a_global_one_preferred_to_it() {
        let routes = [route("fe80::1", 1)];
        assert_eq!(
            choose(AddressFamily::Ipv6, &routes),
            Err(NoGateway::LinkLocal {
                gateway: "fe80::1".parse().unwrap(),
                interface: "eth0".to_owned()
            })
        );
        let routes = [route("fe80::1", 1), route("fd00::1", 1024)];
        assert_eq!(
            choose(AddressFamily::Ipv6, &routes),
            Ok("fd00::1".parse().unwrap())
        );
    }
}
