//! What things are called: services, and addresses with port and protocol.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ebpf_abi::packet;

/// Namespace and name of a Service, or of what stands for one, such as the host port of a pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName {
    pub namespace: String,
    pub name: String,
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A protocol that is balanced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// As Kubernetes writes it; a missing one is TCP.
    pub(crate) fn read(text: Option<&str>) -> Option<Self> {
        match text {
            None | Some("TCP") => Some(Self::Tcp),
            Some("UDP") => Some(Self::Udp),
            Some("SCTP") => Some(Self::Sctp),
            Some(_) => None,
        }
    }

    /// The number IANA gave it.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => packet::TCP,
            Self::Udp => packet::UDP,
            Self::Sctp => packet::SCTP,
        }
    }

    /// The protocol with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::Tcp, Self::Udp, Self::Sctp]
            .into_iter()
            .find(|protocol| protocol.number() == number)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// As in `ipFamilies` and `addressType`.
    pub(crate) fn read(text: &str) -> Option<Self> {
        match text {
            "IPv4" => Some(Self::V4),
            "IPv6" => Some(Self::V6),
            _ => None,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// Where a frontend listens, or a backend: printed as `10.0.0.1:80/TCP` and `[2001:db8::1]:80/TCP`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Socket {
    pub address: IpAddr,
    /// In host order.
    pub port: u16,
    pub protocol: Protocol,
}

impl Socket {
    pub fn new(address: IpAddr, port: u16, protocol: Protocol) -> Self {
        Self {
            address,
            port,
            protocol,
        }
    }

    pub fn family(&self) -> Family {
        Family::of(self.address)
    }
}

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            IpAddr::V4(address) => write!(f, "{address}:{}/{}", self.port, self.protocol),
            IpAddr::V6(address) => write!(f, "[{address}]:{}/{}", self.port, self.protocol),
        }
    }
}

/// Whether a packet from the network may ever carry the address as its destination. Kubernetes refuses the others too;
/// a folder of files has nobody who does.
pub(crate) fn is_servable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => {
            !(a.is_unspecified()
                || a.is_loopback()
                || a.is_multicast()
                || a.is_link_local()
                || a == Ipv4Addr::BROADCAST)
        }
        IpAddr::V6(a) => {
            !(a.is_unspecified()
                || a.is_loopback()
                || a.is_multicast()
                || a.is_unicast_link_local()
                || mapped(a))
        }
    }
}

/// `::ffff:10.0.0.1` never is on the wire; the socket layer turns it into IPv4.
fn mapped(address: Ipv6Addr) -> bool {
    address.to_ipv4_mapped().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_print_as_cilium_prints_them() {
        let v4 = Socket::new("10.0.0.1".parse().expect("v4"), 80, Protocol::Tcp);
        let v6 = Socket::new("2001:db8::1".parse().expect("v6"), 53, Protocol::Udp);
        assert_eq!(v4.to_string(), "10.0.0.1:80/TCP");
        assert_eq!(v6.to_string(), "[2001:db8::1]:53/UDP");
    }

    #[test]
    fn only_addresses_that_packets_can_go_to_are_served() {
        for good in ["10.0.0.1", "100.64.0.1", "2001:db8::1", "fd00::1"] {
            assert!(is_servable(good.parse().expect("an address")), "{good}");
        }
        for bad in [
            "0.0.0.0",
            "127.0.0.1",
            "224.0.0.1",
            "169.254.1.1",
            "255.255.255.255",
            "::",
            "::1",
            "ff02::1",
            "fe80::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(!is_servable(bad.parse().expect("an address")), "{bad}");
        }
    }

    #[test]
    fn protocols_are_found_by_their_numbers() {
        for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
            assert_eq!(Protocol::from_number(protocol.number()), Some(protocol));
        }
        assert_eq!(Protocol::from_number(1), None);
    }
}
