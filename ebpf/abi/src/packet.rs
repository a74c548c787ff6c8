//! Reading and rewriting headers, the same code for a packet in the kernel and for octets in a test.
//!
//! Nothing is read that was not seen to be there. Nothing is rewritten before all that must be rewritten was seen.

use crate::address::{Address, V4, V6};
use crate::checksum::{Delta, ports};
use crate::flow::Tuple;
use crate::reason::DropReason;
use crate::track::Seen;

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const SCTP: u8 = 132;
/// Ethernet's own header.
pub const ETHERNET: usize = 14;

/// Octets of a packet. Implemented by the kernel's two kinds of packets and by plain octets.
pub trait Packet {
    /// `N` octets from `at` on; `None` if the packet ends before. By value, so that the kernel's packets can be read in words.
    fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]>;
    /// Writes them; `None`, and nothing is written, if the packet ends before.
    fn write<const N: usize>(&mut self, at: usize, octets: [u8; N]) -> Option<()>;
    /// Octets from the link header on.
    fn length(&self) -> usize;
    /// The same number, of which the kernel's verifier then knows nothing. It walks all that follows once for each set of
    /// things it knows, so where many ways meet, what they found out must be forgotten.
    fn forget(&self, number: u32) -> u32;
    /// Octets of data in each packet that the device will make of this one; 0: it is one packet.
    fn segment(&self) -> u32;
    /// Brings the checksum of an IPv4 header, at `at`, up to date.
    fn fix_header(&mut self, at: usize, delta: Delta) -> Option<()>;
    /// Brings the checksum of a transport header, at `at`, up to date: `pseudo` for addresses, `inside` for ports.
    fn fix_transport(&mut self, at: usize, pseudo: Delta, inside: Delta, kind: Checksum) -> Option<()>;
}

/// Which rules a transport checksum follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    Tcp,
    /// 0 means there is none.
    Udp,
    /// As UDP, but over IPv6.
    Udp6,
    /// As TCP, but over IPv6.
    Tcp6,
}

/// Why the octets of a packet are no packet one can judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Malformed {
    /// Ends inside the IP header, or lies about its version or length.
    Network,
    /// More extension headers than are looked at, or one that ends outside the packet.
    Extensions,
    /// Ends inside the transport header.
    Transport,
}

/// Where a packet stands in its datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    Whole,
    /// The first one, which has the ports. Holds the datagram's id.
    First(u32),
    /// Another one.
    Later(u32),
}

/// What the IP header and what belongs to it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Where the transport header is, or would be.
    pub transport: usize,
    /// Of the whole IP packet, as its header says. 0: it says nothing, as of packets inside a machine that are longer than the
    /// field can say (BIG TCP).
    pub length: u32,
    /// How many routers it may still pass.
    pub hops: u8,
    pub protocol: u8,
    pub fragment: Fragment,
}

impl Network {
    /// Whether all that the header, at `at`, promises is there, and no less than the headers. The stack drops what is not
    /// whole, so nobody else takes it either.
    #[inline(always)]
    pub fn is_all_in<P: Packet>(&self, packet: &P, at: usize) -> bool {
        if self.length == 0 {
            return self.protocol == TCP;
        }
        usize::try_from(self.length)
            .is_ok_and(|length| self.transport <= at + length && at + length <= packet.length())
    }
}

/// Whether a packet passes a router here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// To the stack, which is one itself or the end.
    None,
    /// Its time to live goes down by one.
    Counted,
}

/// The address family as the programs see it in packets.
pub trait Family: Address {
    /// The protocol number of its ICMP.
    const ICMP: u8;
    /// Source and destination of the packet whose IP header is at `at`.
    fn addresses<P: Packet>(packet: &P, at: usize) -> Option<(Self, Self)>;
    /// The number of what follows the base header.
    fn follows<P: Packet>(packet: &P, at: usize) -> Option<u8>;
    /// Walks to the transport header.
    fn network<P: Packet>(packet: &P, at: usize) -> Result<Network, Malformed>;
    /// Replaces the addresses, counts the hop, and brings the IP header's checksum up to date where there is one.
    fn readdress<P: Packet>(
        packet: &mut P,
        at: usize,
        network: &Network,
        delta: Delta,
        new: &Tuple<Self>,
        hop: Hop,
    ) -> Option<()>;
    /// The family's rules for the checksum of this protocol; `None`: nothing this code may rewrite.
    fn checksum(protocol: u8) -> Option<Checksum>;
}

impl Family for V4 {
    const ICMP: u8 = 1;

    #[inline(always)]
    fn addresses<P: Packet>(packet: &P, at: usize) -> Option<(Self, Self)> {
        let header = packet.read::<20>(at)?;
        let [_, _, _, _, _, _, _, _, _, _, _, _, a, b, c, d, e, f, g, h] = header;
        Some((
            Self(u32::from_ne_bytes([a, b, c, d])),
            Self(u32::from_ne_bytes([e, f, g, h])),
        ))
    }

    #[inline(always)]
    fn follows<P: Packet>(packet: &P, at: usize) -> Option<u8> {
        packet.read::<1>(at + 9).map(|[number]| number)
    }

    #[inline(always)]
    fn network<P: Packet>(packet: &P, at: usize) -> Result<Network, Malformed> {
        let [first, _, total0, total1, id0, id1, part0, part1, hops, protocol] =
            packet.read::<10>(at).ok_or(Malformed::Network)?;
        let length = usize::from(first & 0xf) * 4;
        if first >> 4 != 4 || length < 20 {
            return Err(Malformed::Network);
        }
        let part = u16::from_be_bytes([part0, part1]);
        let id = u32::from(u16::from_ne_bytes([id0, id1]));
        let fragment = match (part & 0x1fff, part & 0x2000) {
            (0, 0) => Fragment::Whole,
            (0, _) => Fragment::First(id),
            _ => Fragment::Later(id),
        };
        Ok(Network {
            transport: at + length,
            length: u16::from_be_bytes([total0, total1]).into(),
            hops,
            protocol,
            fragment,
        })
    }

    #[inline(always)]
    fn readdress<P: Packet>(
        packet: &mut P,
        at: usize,
        network: &Network,
        delta: Delta,
        new: &Tuple<Self>,
        hop: Hop,
    ) -> Option<()> {
        let ([a, b, c, d], [e, f, g, h]) = (new.source.0.to_ne_bytes(), new.destination.0.to_ne_bytes());
        packet.write(at + 12, [a, b, c, d, e, f, g, h])?;
        let delta = match hop {
            Hop::None => delta,
            Hop::Counted => {
                let left = network.hops.wrapping_sub(1);
                packet.write(at + 8, [left])?;
                let word = |hops| u32::from_ne_bytes([hops, network.protocol, 0, 0]);
                delta.and(word(network.hops), word(left))
            }
        };
        packet.fix_header(at + 10, delta)
    }

    #[inline(always)]
    fn checksum(protocol: u8) -> Option<Checksum> {
        match protocol {
            TCP => Some(Checksum::Tcp),
            UDP => Some(Checksum::Udp),
            _ => None,
        }
    }
}

/// Offset and "more to come" of an IPv6 fragment header, as there.
#[derive(Clone, Copy)]
struct Part(u16);

impl Part {
    const WHOLE: Self = Self(0);

    #[inline(always)]
    fn of(self, id: u32) -> Fragment {
        match (self.0 >> 3, self.0 & 1) {
            // An atomic fragment (RFC 6946) is whole.
            (0, 0) => Fragment::Whole,
            (0, _) => Fragment::First(id),
            _ => Fragment::Later(id),
        }
    }
}

/// IPv6 extension headers that are looked at; RFC 8200 names six, nobody sends more than a few.
const EXTENSIONS: usize = 6;

impl Family for V6 {
    const ICMP: u8 = 58;

    #[inline(always)]
    fn addresses<P: Packet>(packet: &P, at: usize) -> Option<(Self, Self)> {
        let source = packet.read::<16>(at + 8)?;
        let destination = packet.read::<16>(at + 24)?;
        Some((Self::from_octets(source), Self::from_octets(destination)))
    }

    #[inline(always)]
    fn follows<P: Packet>(packet: &P, at: usize) -> Option<u8> {
        packet.read::<1>(at + 6).map(|[number]| number)
    }

    #[inline(always)]
    fn network<P: Packet>(packet: &P, at: usize) -> Result<Network, Malformed> {
        let [first, _, _, _, length0, length1, mut protocol, hops] =
            packet.read::<8>(at).ok_or(Malformed::Network)?;
        let total = match u16::from_be_bytes([length0, length1]) {
            0 => 0,
            length => u32::from(length) + 40,
        };
        if first >> 4 != 6 {
            return Err(Malformed::Network);
        }
        let mut transport = at + 40;
        let mut part = Part::WHOLE;
        let mut id = 0;
        for _ in 0..EXTENSIONS {
            let length = match protocol {
                // Hop-by-hop options, routing, destination options, mobility, HIP, Shim6.
                0 | 43 | 60 | 135 | 139 | 140 => {
                    let [next, length] = packet.read::<2>(transport).ok_or(Malformed::Extensions)?;
                    protocol = next;
                    (u32::from(length) + 1) * 8
                }
                // The authentication header counts in words of four, less two.
                51 => {
                    let [next, length] = packet.read::<2>(transport).ok_or(Malformed::Extensions)?;
                    protocol = next;
                    (u32::from(length) + 2) * 4
                }
                44 => {
                    let [next, _, part0, part1, id0, id1, id2, id3] =
                        packet.read::<8>(transport).ok_or(Malformed::Extensions)?;
                    protocol = next;
                    // Without the two reserved bits.
                    part = Part(u16::from_be_bytes([part0, part1]) & 0xfff9);
                    id = u32::from_ne_bytes([id0, id1, id2, id3]);
                    8
                }
                _ => {
                    return Ok(Network {
                        transport,
                        length: total,
                        hops,
                        protocol,
                        fragment: part.of(id),
                    });
                }
            };
            transport += usize::try_from(packet.forget(length)).map_err(|_| Malformed::Extensions)?;
            if part.0 >> 3 != 0 {
                // What follows is data from the middle of the datagram; headers are only in the first fragment.
                return Ok(Network {
                    transport,
                    length: total,
                    hops,
                    protocol,
                    fragment: part.of(id),
                });
            }
        }
        Err(Malformed::Extensions)
    }

    #[inline(always)]
    fn readdress<P: Packet>(
        packet: &mut P,
        at: usize,
        network: &Network,
        _: Delta,
        new: &Tuple<Self>,
        hop: Hop,
    ) -> Option<()> {
        packet.write(at + 8, new.source.octets())?;
        packet.write(at + 24, new.destination.octets())?;
        match hop {
            Hop::None => Some(()),
            Hop::Counted => packet.write(at + 7, [network.hops.wrapping_sub(1)]),
        }
    }

    #[inline(always)]
    fn checksum(protocol: u8) -> Option<Checksum> {
        match protocol {
            TCP => Some(Checksum::Tcp6),
            UDP => Some(Checksum::Udp6),
            _ => None,
        }
    }
}

/// Ports, and what the packet is to its connection. Not for later fragments, whose ports are elsewhere.
#[inline(always)]
pub fn transport<P: Packet>(packet: &P, network: &Network) -> Result<(u16, u16, Seen), Malformed> {
    let [a, b, c, d] = packet.read::<4>(network.transport).ok_or(Malformed::Transport)?;
    let seen = if network.protocol == TCP {
        let header = packet.read::<20>(network.transport).ok_or(Malformed::Transport)?;
        let [_, _, _, _, _, _, _, _, _, _, _, _, _, flags, _, _, _, _, _, _] = header;
        Seen::Tcp(flags)
    } else {
        packet.read::<8>(network.transport).ok_or(Malformed::Transport)?;
        Seen::Other
    };
    Ok((u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d]), seen))
}

/// Makes the packet `old` the packet `new`.
#[inline(always)]
pub fn rewrite<A: Family, P: Packet>(
    packet: &mut P,
    at: usize,
    network: &Network,
    old: &Tuple<A>,
    new: &Tuple<A>,
    hop: Hop,
) -> Result<(), DropReason> {
    let addresses = Delta::default()
        .address(&old.source, &new.source)
        .address(&old.destination, &new.destination);
    A::readdress(packet, at, network, addresses, new, hop).ok_or(DropReason::WriteError)?;
    // The checksum of SCTP knows no addresses, and is over ports and all else (RFC 9260 6.8), so ports never change.
    if matches!(network.fragment, Fragment::Later(_)) || network.protocol == SCTP {
        return Ok(());
    }
    let kind = A::checksum(network.protocol).ok_or(DropReason::NatProtocol)?;
    let ([a, b], [c, d]) = (new.source_port.to_ne_bytes(), new.destination_port.to_ne_bytes());
    packet
        .write(network.transport, [a, b, c, d])
        .ok_or(DropReason::WriteError)?;
    let inside = Delta::of(
        ports(old.source_port, old.destination_port),
        ports(new.source_port, new.destination_port),
    );
    let field = match kind {
        Checksum::Tcp | Checksum::Tcp6 => 16,
        Checksum::Udp | Checksum::Udp6 => 6,
    };
    packet
        .fix_transport(network.transport + field, addresses, inside, kind)
        .ok_or(DropReason::L4Checksum)
}

/// A packet that is just octets.
#[derive(Debug)]
pub struct Octets<'a>(pub &'a mut [u8]);

impl Packet for Octets<'_> {
    fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..)?.first_chunk().copied()
    }

    fn write<const N: usize>(&mut self, at: usize, octets: [u8; N]) -> Option<()> {
        *self.0.get_mut(at..)?.first_chunk_mut()? = octets;
        Some(())
    }

    fn length(&self) -> usize {
        self.0.len()
    }

    fn forget(&self, number: u32) -> u32 {
        number
    }

    fn segment(&self) -> u32 {
        0
    }

    fn fix_header(&mut self, at: usize, delta: Delta) -> Option<()> {
        fix_header(self, at, delta)
    }

    fn fix_transport(&mut self, at: usize, pseudo: Delta, inside: Delta, kind: Checksum) -> Option<()> {
        fix_transport(self, at, pseudo, inside, kind)
    }
}

/// [`Packet::fix_header`] for packets whose checksums are simply there: octets and XDP.
#[inline(always)]
pub fn fix_header<P: Packet>(packet: &mut P, at: usize, delta: Delta) -> Option<()> {
    let old = u16::from_ne_bytes(packet.read(at)?);
    packet.write(at, delta.apply(old).to_ne_bytes())
}

/// [`Packet::fix_transport`] for packets whose checksums are simply there: octets and XDP.
#[inline(always)]
pub fn fix_transport<P: Packet>(
    packet: &mut P,
    at: usize,
    pseudo: Delta,
    inside: Delta,
    kind: Checksum,
) -> Option<()> {
    let delta = pseudo.plus(inside);
    let old = u16::from_ne_bytes(packet.read(at)?);
    let new = match kind {
        Checksum::Tcp | Checksum::Tcp6 => delta.apply(old),
        Checksum::Udp | Checksum::Udp6 => delta.apply_udp(old),
    };
    packet.write(at, new.to_ne_bytes())
}

#[cfg(test)]
mod tests;
