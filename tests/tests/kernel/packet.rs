//! Frames to send into programs, and what frames say, for people.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use ebpf_abi::checksum;
use ebpf_abi::packet::{Family, Fragment, Octets, TCP, UDP, transport};
use ebpf_abi::track::{Seen, tcp};
use ebpf_abi::{V4, V6};

/// A frame in the making. Everything not said is as an ordinary host would send it.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    source: SocketAddr,
    destination: SocketAddr,
    protocol: u8,
    flags: u8,
    data: Vec<u8>,
    /// Offset in octets, more to come, id.
    fragment: Option<(u16, bool, u16)>,
    /// Number and octets of each IPv6 extension header, or options of IPv4.
    extensions: Vec<(u8, Vec<u8>)>,
    sum: Sum,
    hops: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sum {
    Right,
    /// UDP without one.
    None,
}

impl Frame {
    fn new(protocol: u8, flags: u8, source: SocketAddr, destination: SocketAddr) -> Self {
        Self {
            source,
            destination,
            protocol,
            flags,
            data: b"data".to_vec(),
            fragment: None,
            extensions: Vec::new(),
            sum: Sum::Right,
            hops: 64,
        }
    }

    pub(crate) fn tcp(flags: u8, source: SocketAddr, destination: SocketAddr) -> Self {
        Self::new(TCP, flags, source, destination)
    }

    pub(crate) fn udp(source: SocketAddr, destination: SocketAddr) -> Self {
        Self::new(UDP, 0, source, destination)
    }

    pub(crate) fn of(protocol: u8, flags: u8, source: SocketAddr, destination: SocketAddr) -> Self {
        Self::new(protocol, flags, source, destination)
    }

    pub(crate) fn data(mut self, data: &[u8]) -> Self {
        self.data = data.to_vec();
        self
    }

    pub(crate) fn fragment(mut self, offset: u16, more: bool, id: u16) -> Self {
        self.fragment = Some((offset, more, id));
        self
    }

    pub(crate) fn extension(mut self, number: u8, octets: &[u8]) -> Self {
        self.extensions.push((number, octets.to_vec()));
        self
    }

    pub(crate) fn without_sum(mut self) -> Self {
        self.sum = Sum::None;
        self
    }

    pub(crate) fn hops(mut self, hops: u8) -> Self {
        self.hops = hops;
        self
    }

    /// The octets, from the Ethernet header on.
    pub(crate) fn build(&self) -> Vec<u8> {
        let kind: u16 = if self.source.is_ipv4() { 0x0800 } else { 0x86dd };
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        frame.extend(kind.to_be_bytes());
        let payload = self.payload();
        match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let options: Vec<u8> = self
                    .extensions
                    .iter()
                    .flat_map(|(_, octets)| octets.clone())
                    .collect();
                let words = 5 + options.len() / 4;
                let (offset, more, id) = self.fragment.unwrap_or((0, false, 7));
                let more = if more { 0x2000 } else { 0 };
                let part = (offset / 8) | more;
                let mut header = vec![0x40 | octet(words), 0];
                header.extend(short(words * 4 + payload.len()));
                header.extend(id.to_be_bytes());
                header.extend(part.to_be_bytes());
                header.extend([self.hops, self.protocol, 0, 0]);
                header.extend(source.octets());
                header.extend(destination.octets());
                header.extend(options);
                let sum = checksum::of(&header, 0).to_ne_bytes();
                header[10..12].copy_from_slice(&sum);
                frame.extend(header);
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let mut extensions = self.extensions.clone();
                if let Some((offset, more, id)) = self.fragment {
                    let part = offset & 0xfff8 | u16::from(more);
                    let id = u32::from(id).to_be_bytes();
                    extensions.push((44, [&[0, 0], &part.to_be_bytes()[..], &id].concat()));
                }
                let length: usize = extensions.iter().map(|(_, octets)| octets.len()).sum();
                frame.extend([0x60, 0, 0, 0]);
                frame.extend(short(length + payload.len()));
                let next = extensions.first().map_or(self.protocol, |(number, _)| *number);
                frame.extend([next, self.hops]);
                frame.extend(source.octets());
                frame.extend(destination.octets());
                for (place, (_, octets)) in extensions.iter().enumerate() {
                    let next = extensions
                        .get(place + 1)
                        .map_or(self.protocol, |(number, _)| *number);
                    frame.push(next);
                    frame.extend(&octets[1..]);
                }
            }
            _ => panic!("addresses of two families"),
        }
        frame.extend(payload);
        frame
    }

    /// Transport header and data; of a later fragment, only data.
    fn payload(&self) -> Vec<u8> {
        if self.fragment.is_some_and(|(offset, ..)| offset > 0) {
            return self.data.clone();
        }
        let mut payload = Vec::new();
        payload.extend(self.source.port().to_be_bytes());
        payload.extend(self.destination.port().to_be_bytes());
        let field = if self.protocol == TCP {
            payload.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, self.flags, 1, 0, 0, 0, 0, 0]);
            16
        } else {
            payload.extend(short(8 + self.data.len()));
            payload.extend([0, 0]);
            6
        };
        payload.extend(&self.data);
        if self.sum == Sum::Right {
            let sum = transport_sum(self.source.ip(), self.destination.ip(), self.protocol, &payload);
            payload[field..field + 2].copy_from_slice(&sum.to_ne_bytes());
        }
        payload
    }
}

/// The checksum over pseudo header and payload; 0 if the one in the payload is right.
pub(crate) fn transport_sum(source: IpAddr, destination: IpAddr, protocol: u8, payload: &[u8]) -> u16 {
    let octets = |address| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let mut all = octets(source);
    all.extend(octets(destination));
    all.extend([0, protocol]);
    all.extend(short(payload.len()));
    all.extend(payload);
    checksum::of(&all, 0)
}

/// What a frame says, in one line, checksums judged.
pub(crate) fn decode(frame: &[u8]) -> String {
    let mut copy = frame.to_vec();
    let text = match frame.get(12..14) {
        Some([0x08, 0x00]) => decode_as::<V4>(&mut copy, |source, destination| {
            (
                std::net::Ipv4Addr::from(source).into(),
                std::net::Ipv4Addr::from(destination).into(),
            )
        }),
        Some([0x86, 0xdd]) => decode_as::<V6>(&mut copy, |source, destination| {
            (
                std::net::Ipv6Addr::from(source).into(),
                std::net::Ipv6Addr::from(destination).into(),
            )
        }),
        Some([0x81, 0x00]) => Some("VLAN".into()),
        _ => None,
    };
    text.unwrap_or_else(|| "no packet this can read".into()) + &format!(", {} octets", frame.len())
}

fn decode_as<A: Family>(frame: &mut [u8], addresses: impl Fn(A, A) -> (IpAddr, IpAddr)) -> Option<String> {
    let whole = frame.to_vec();
    let packet = Octets(frame);
    let (source, destination) = A::addresses(&packet, 14)?;
    let (source, destination) = addresses(source, destination);
    let mut text = format!("{source} > {destination}");
    if source.is_ipv4() {
        let length = usize::from(whole[14] & 0xf) * 4;
        let right = whole
            .get(14..14 + length)
            .is_some_and(|header| checksum::of(header, 0) == 0);
        text += if right {
            ", header sum right"
        } else {
            ", header sum WRONG"
        };
    }
    let network = match A::network(&packet, 14) {
        Ok(network) => network,
        Err(malformed) => return Some(format!("{text}, malformed: {malformed:?}")),
    };
    if network.fragment != Fragment::Whole {
        let _ = write!(text, ", {:?}", network.fragment);
    }
    let _ = write!(text, ", protocol {}", network.protocol);
    if let Fragment::Later(_) = network.fragment {
        return Some(text);
    }
    if network.protocol == A::ICMP {
        return Some(text + &decode_message(source, destination, whole.get(network.transport..)?)?);
    }
    if let Ok((from, to, seen)) = transport(&packet, &network) {
        let _ = write!(text, " {} > {}", u16::from_be(from), u16::from_be(to));
        if let Seen::Tcp(flags) = seen {
            let names = [(tcp::SYN, 'S'), (tcp::ACK, 'A'), (tcp::FIN, 'F'), (tcp::RST, 'R')];
            let flags: String = names
                .iter()
                .filter(|(bit, _)| flags & bit != 0)
                .map(|(_, name)| name)
                .collect();
            let _ = write!(text, " [{flags}]");
        }
        if network.fragment == Fragment::Whole
            && let Some(payload) = whole.get(network.transport..)
        {
            let none = network.protocol == UDP && payload[6..8] == [0, 0];
            let right = transport_sum(source, destination, network.protocol, payload) == 0;
            text += match (none, right) {
                (true, _) => ", no sum",
                (false, true) => ", sum right",
                (false, false) => ", sum WRONG",
            };
        }
    }
    Some(text)
}

fn decode_message(source: IpAddr, destination: IpAddr, message: &[u8]) -> Option<String> {
    let [kind, code, ..] = message else { return None };
    let name = match (source.is_ipv4(), kind, code) {
        (true, 8, 0) | (false, 128, 0) => ", echo request".into(),
        (true, 0, 0) | (false, 129, 0) => ", echo reply".into(),
        _ => format!(", ICMP {kind}/{code}"),
    };
    let sum = if source.is_ipv4() {
        checksum::of(message, 0)
    } else {
        transport_sum(source, destination, 58, message)
    };
    Some(name + if sum == 0 { ", sum right" } else { ", sum WRONG" })
}

fn octet(number: usize) -> u8 {
    u8::try_from(number).expect("small")
}

fn short(number: usize) -> [u8; 2] {
    u16::try_from(number).expect("small").to_be_bytes()
}
