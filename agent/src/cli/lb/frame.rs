//! The first packet of a connection, as a host would send it.

use std::net::{IpAddr, SocketAddr};

use ebpf_abi::checksum;
use ebpf_abi::packet::{TCP, UDP};
use ebpf_abi::track::tcp;

const IPV4: [u8; 2] = [8, 0];
const IPV6: [u8; 2] = [0x86, 0xdd];

/// From the Ethernet header on; `None` if the two ends are of different families.
#[must_use]
pub fn first(source: SocketAddr, destination: SocketAddr, protocol: u8) -> Option<Vec<u8>> {
    let mut transport = Vec::new();
    transport.extend(source.port().to_be_bytes());
    transport.extend(destination.port().to_be_bytes());
    let sum_at = if protocol == TCP {
        // Sequence and acknowledgement, header of five words, flags, window, checksum, urgent pointer.
        transport.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, tcp::SYN, 0xff, 0xff, 0, 0, 0, 0]);
        16
    } else {
        // Length with four octets of data, checksum, data.
        transport.extend([0, 12, 0, 0, 0, 0, 0, 0]);
        6
    };
    let length = u16::try_from(transport.len()).ok()?;
    // Locally administered addresses of nobody.
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    let mut pseudo = Vec::new();
    match (source.ip(), destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            frame.extend(IPV4);
            let mut header = vec![0x45, 0];
            header.extend((length + 20).to_be_bytes());
            header.extend([0, 1, 0, 0, 64, protocol, 0, 0]);
            header.extend(source.octets());
            header.extend(destination.octets());
            let sum = checksum::of(&header, 0).to_ne_bytes();
            header.splice(10..12, sum);
            frame.extend(header);
            pseudo.extend(source.octets());
            pseudo.extend(destination.octets());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            frame.extend(IPV6);
            frame.extend([0x60, 0, 0, 0]);
            frame.extend(length.to_be_bytes());
            frame.extend([protocol, 64]);
            frame.extend(source.octets());
            frame.extend(destination.octets());
            pseudo.extend(source.octets());
            pseudo.extend(destination.octets());
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return None,
    }
    pseudo.extend([0, protocol]);
    pseudo.extend(length.to_be_bytes());
    pseudo.extend(&transport);
    let sum = match (protocol, checksum::of(&pseudo, 0)) {
        // In UDP zero says that there is no sum.
        (UDP, 0) => 0xffff,
        (_, sum) => sum,
    };
    transport.splice(sum_at..sum_at + 2, sum.to_ne_bytes());
    frame.extend(transport);
    Some(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_right_for_both_families_and_protocols() {
        for (source, destination) in [
            ("198.51.100.7:4711", "192.0.2.1:80"),
            ("[2001:db8::7]:4711", "[2001:db8:f::1]:80"),
        ] {
            let (source, destination): (SocketAddr, SocketAddr) =
                (source.parse().unwrap(), destination.parse().unwrap());
            for protocol in [TCP, UDP] {
                let frame = first(source, destination, protocol).unwrap();
                let (at, addresses) = if source.is_ipv4() {
                    (34, 26..34)
                } else {
                    (54, 22..54)
                };
                let transport = &frame[at..];
                let mut all = frame[addresses].to_vec();
                all.extend([0, protocol]);
                all.extend(u16::try_from(transport.len()).unwrap().to_be_bytes());
                all.extend(transport);
                assert_eq!(checksum::of(&all, 0), 0, "{source} {protocol}");
                if source.is_ipv4() {
                    assert_eq!(checksum::of(&frame[14..34], 0), 0);
                }
            }
        }
        let (v4, v6) = ("192.0.2.1:80".parse().unwrap(), "[::1]:80".parse().unwrap());
        assert_eq!(first(v4, v6, TCP), None);
    }
}
