//! A datagram whose fragments are sent last first, as no stack does it: a router with several ways may.

use std::io;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, bail};
use ebpf_abi::checksum;
use ebpf_abi::packet::UDP;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, sendto, socket,
};
use tokio::net::UdpSocket;

/// Octets of data in a fragment. They fit beside what direct return adds.
const PART: usize = 1200;

/// Sends `data` as one datagram from a connected socket to its peer.
pub(crate) fn send(from: &UdpSocket, data: &[u8]) -> Result<()> {
    let (source, destination) = (from.local_addr()?, from.peer_addr()?);
    let datagram = datagram(source, destination, data)?;
    let family = match destination {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let raw =
        socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw).context("a raw socket")?;
    let to = SockaddrStorage::from(SocketAddr::new(destination.ip(), 0));
    // Another one each time: a port asks once.
    let id = source.port();
    for (place, part) in datagram.chunks(PART).enumerate().rev() {
        let offset = u16::try_from(place * PART)?;
        let more = usize::from(offset) + part.len() < datagram.len();
        let packet = fragment(source.ip(), destination.ip(), (id, offset, more), part)?;
        let sent = sendto(
            std::os::fd::AsRawFd::as_raw_fd(&raw),
            &packet,
            &to,
            MsgFlags::empty(),
        );
        sent.map_err(io::Error::from).context("send a fragment")?;
    }
    Ok(())
}

fn datagram(source: SocketAddr, destination: SocketAddr, data: &[u8]) -> Result<Vec<u8>> {
    let length = u16::try_from(8 + data.len())?;
    let words = [source.port(), destination.port(), length, 0].map(u16::to_be_bytes);
    let mut datagram = [words.as_flattened(), data].concat();
    let mut pseudo = [octets(source.ip()), octets(destination.ip())].concat();
    pseudo.extend([0, UDP]);
    pseudo.extend(length.to_be_bytes());
    let sum = checksum::of(&[pseudo, datagram.clone()].concat(), 0);
    datagram[6..8].copy_from_slice(&sum.to_ne_bytes());
    Ok(datagram)
}

/// With its IP header. The kernel sums up that of IPv4.
fn fragment(
    source: IpAddr,
    destination: IpAddr,
    (id, offset, more): (u16, u16, bool),
    part: &[u8],
) -> Result<Vec<u8>> {
    let length = u16::try_from(part.len())?;
    let mut packet = Vec::new();
    match (source, destination) {
        (IpAddr::V4(_), IpAddr::V4(_)) => {
            packet.extend([0x45, 0]);
            packet.extend((20 + length).to_be_bytes());
            packet.extend(id.to_be_bytes());
            packet.extend(((u16::from(more) << 13) | (offset / 8)).to_be_bytes());
            packet.extend([64, UDP, 0, 0]);
            packet.extend(octets(source));
            packet.extend(octets(destination));
        }
        (IpAddr::V6(_), IpAddr::V6(_)) => {
            const FRAGMENT: u8 = 44;
            packet.extend([0x60, 0, 0, 0]);
            packet.extend((8 + length).to_be_bytes());
            packet.extend([FRAGMENT, 64]);
            packet.extend(octets(source));
            packet.extend(octets(destination));
            packet.extend([UDP, 0]);
            packet.extend((offset | u16::from(more)).to_be_bytes());
            packet.extend(u32::from(id).to_be_bytes());
        }
        _ => bail!("{source} and {destination} are of two families"),
    }
    packet.extend(part);
    Ok(packet)
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
