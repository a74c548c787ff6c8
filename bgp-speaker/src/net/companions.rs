//! The addresses beside a connection's own: what a session over IPv6 gives as the next hop of IPv4 routes when the
//! peer does not speak RFC 8950, and the other way round.

use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;

use crate::speaker::Companions;

/// The first usable address of each family, which is the one the kernel calls primary, on the interface that has
/// `local`. None where the kernel does not say.
pub(super) fn companions(local: IpAddr) -> Companions {
    let Ok(entries) = getifaddrs() else {
        return Companions::default();
    };
    let addresses: Vec<(String, IpAddr)> = entries
        .filter_map(|entry| {
            let address = entry.address?;
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            let v6 = address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip()));
            Some((entry.interface_name, v4.or(v6)?))
        })
        .collect();
    beside(local, &addresses)
}

fn beside(local: IpAddr, addresses: &[(String, IpAddr)]) -> Companions {
    let mut found = Companions::default();
    let Some((interface, _)) = addresses.iter().find(|(_, address)| *address == local) else {
        return found;
    };
    for (_, address) in addresses.iter().filter(|(name, _)| name == interface) {
        match address {
            IpAddr::V4(v4) if !v4.is_loopback() => {
                found.ipv4.get_or_insert(*v4);
            }
            IpAddr::V6(v6) if !v6.is_loopback() && !v6.is_unicast_link_local() => {
                found.ipv6.get_or_insert(*v6);
            }
            IpAddr::V4(_) | IpAddr::V6(_) => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(local: &str) -> Companions {
        let all = [
            ("lo", "127.0.0.1"),
            ("lo", "::1"),
            ("eth0", "fe80::1"),
            ("eth0", "10.0.0.1"),
            ("eth0", "10.0.0.9"),
            ("eth0", "2001:db8::1"),
            ("eth1", "10.1.0.1"),
        ];
        let all = all.map(|(name, address)| (name.to_owned(), address.parse().unwrap()));
        beside(local.parse().unwrap(), &all)
    }

    #[test]
    fn companions_are_the_first_addresses_of_the_same_interface() {
        let both = Companions {
            ipv4: "10.0.0.1".parse().ok(),
            ipv6: "2001:db8::1".parse().ok(),
        };
        for local in ["2001:db8::1", "fe80::1", "10.0.0.9"] {
            assert_eq!(found(local), both);
        }
        assert_eq!(found("10.1.0.1").ipv6, None);
    }

    #[test]
    fn loopback_addresses_are_no_companions() {
        assert_eq!(found("127.0.0.1"), Companions::default());
        assert_eq!(found("192.0.2.1"), Companions::default());
    }
}
