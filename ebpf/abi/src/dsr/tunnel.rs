//! Headers around a packet: IP in IP (RFC 2003, RFC 2473), and Geneve (RFC 8926) with the VIP in an option.
//!
//! ```text
//!  Geneve   | words of options, critical | 0x6558 | VNI 2 | class 0x014b | type 0x81 | words | address | port | 0 | Ethernet
//! ```
//!
//! The VNI is Cilium's identity of "the world". All fields are in network order.

use super::{ETHERTYPE_V4, ETHERTYPE_V6, Gap, Room, Underlay, Vip};
use crate::checksum::Delta;
use crate::packet::{ETHERNET, Family, Network, Packet, UDP};
use crate::reason::DropReason;
use crate::{V4, V6};

/// Outer protocol of IPv4 and of IPv6 inside.
pub const IPIP: u8 = 4;
pub const IP6IP: u8 = 41;
/// UDP's port of Geneve, in network order.
pub const PORT: u16 = 6081_u16.to_be();
/// Octets of UDP and of Geneve without options.
pub const GENEVE: usize = 16;

/// An Ethernet frame inside.
const FRAME: u16 = 0x6558;
const CLASS: u16 = 0x014b;
const KIND: u8 = 0x81;
const WORLD: u8 = 2;
const TTL: u8 = 64;

/// A family whose packets can travel inside.
pub trait Inside: Family {
    const ETHERTYPE: u16;
    const PROTOCOL: u8;
    /// Words of the option that brings the VIP along, its own header too.
    const WORDS: u8;
    /// The same in octets.
    const OPTION: usize;
    /// Total length and traffic class of the packet at `at`.
    fn measure<P: Packet>(packet: &P, at: usize) -> Option<(u16, u8)>;
    /// The address of the option that begins at `at`.
    fn write_vip<P: Packet>(packet: &mut P, at: usize, vip: &Vip<Self>) -> Option<()>;
    fn read_vip<P: Packet>(packet: &P, at: usize) -> Option<Vip<Self>>;
}

impl Inside for V4 {
    const ETHERTYPE: u16 = ETHERTYPE_V4;
    const PROTOCOL: u8 = IPIP;
    const WORDS: u8 = 3;
    const OPTION: usize = 12;

    #[inline(always)]
    fn measure<P: Packet>(packet: &P, at: usize) -> Option<(u16, u8)> {
        let [_, class, long, short] = packet.read::<4>(at)?;
        Some((u16::from_be_bytes([long, short]), class))
    }

    #[inline(always)]
    fn write_vip<P: Packet>(packet: &mut P, at: usize, vip: &Vip<Self>) -> Option<()> {
        let ([a, b, c, d], [e, f]) = (vip.address.0.to_ne_bytes(), vip.port.to_ne_bytes());
        packet.write(at, [a, b, c, d, e, f, 0, 0])
    }

    #[inline(always)]
    fn read_vip<P: Packet>(packet: &P, at: usize) -> Option<Vip<Self>> {
        let [a, b, c, d, e, f] = packet.read::<6>(at)?;
        Some(Vip {
            address: Self(u32::from_ne_bytes([a, b, c, d])),
            port: u16::from_ne_bytes([e, f]),
        })
    }
}

impl Inside for V6 {
    const ETHERTYPE: u16 = ETHERTYPE_V6;
    const PROTOCOL: u8 = IP6IP;
    const WORDS: u8 = 6;
    const OPTION: usize = 24;

    #[inline(always)]
    fn measure<P: Packet>(packet: &P, at: usize) -> Option<(u16, u8)> {
        let [first, second, _, _, long, short] = packet.read::<6>(at)?;
        let length = u16::from_be_bytes([long, short]).checked_add(40)?;
        Some((length, first << 4 | second >> 4))
    }

    #[inline(always)]
    fn write_vip<P: Packet>(packet: &mut P, at: usize, vip: &Vip<Self>) -> Option<()> {
        packet.write(at, vip.address.octets())?;
        let [e, f] = vip.port.to_ne_bytes();
        packet.write(at + 16, [e, f, 0, 0])
    }

    #[inline(always)]
    fn read_vip<P: Packet>(packet: &P, at: usize) -> Option<Vip<Self>> {
        let address = packet.read::<16>(at)?;
        let [e, f] = packet.read::<2>(at + 16)?;
        Some(Vip {
            address: Self::from_octets(address),
            port: u16::from_ne_bytes([e, f]),
        })
    }
}

/// Wraps the packet behind Ethernet into an outer IP header. `hash` spreads flows over paths where the header has room.
#[inline(always)]
pub fn wrap_ipip<A: Inside, P: Room>(
    packet: &mut P,
    underlay: &Underlay,
    hash: u32,
) -> Result<(), DropReason> {
    let (length, class) = A::measure(packet, ETHERNET).ok_or(DropReason::Invalid)?;
    let gap = match underlay {
        Underlay::V4 { .. } => Gap::Ipip4,
        Underlay::V6 { .. } => Gap::Ipip6,
    };
    packet.open(gap).ok_or(DropReason::WriteError)?;
    outer(packet, underlay, length, class, A::PROTOCOL, hash)
}

/// Wraps the packet behind Ethernet, and that Ethernet header, into Geneve.
#[inline(always)]
pub fn wrap_geneve<A: Inside, P: Room>(
    packet: &mut P,
    underlay: &Underlay,
    vip: &Vip<A>,
    hash: u32,
) -> Result<(), DropReason> {
    let (length, class) = A::measure(packet, ETHERNET).ok_or(DropReason::Invalid)?;
    let (gap, ip) = match (underlay, A::PROTOCOL) {
        (Underlay::V4 { .. }, IPIP) => (Gap::Geneve4V4, 20),
        (Underlay::V4 { .. }, _) => (Gap::Geneve4V6, 20),
        (Underlay::V6 { .. }, IPIP) => (Gap::Geneve6V4, 40),
        (Underlay::V6 { .. }, _) => (Gap::Geneve6V6, 40),
    };
    let added = short(GENEVE + A::OPTION + ETHERNET);
    let length = length.checked_add(added).ok_or(DropReason::FragmentationNeeded)?;
    packet.open(gap).ok_or(DropReason::WriteError)?;
    let write = DropReason::WriteError;
    let frame = packet.read::<12>(0).ok_or(write)?;
    let udp = ETHERNET + ip;
    let [a, b] = (0xc000 | crate::low16(hash) & 0x3fff).to_be_bytes();
    let [c, d] = PORT.to_ne_bytes();
    let [e, f] = length.to_be_bytes();
    // No sum: the packet inside has its own (RFC 6935 allows it over IPv6 too).
    packet.write(udp, [a, b, c, d, e, f, 0, 0]).ok_or(write)?;
    let [g, h] = FRAME.to_be_bytes();
    let critical = 0x40;
    packet
        .write(udp + 8, [A::WORDS, critical, g, h, 0, 0, WORLD, 0])
        .ok_or(write)?;
    let [i, j] = CLASS.to_be_bytes();
    packet
        .write(udp + GENEVE, [i, j, KIND, A::WORDS - 1])
        .ok_or(write)?;
    A::write_vip(packet, udp + GENEVE + 4, vip).ok_or(write)?;
    let inner = udp + GENEVE + A::OPTION;
    packet.write(inner, frame).ok_or(write)?;
    packet
        .write(inner + 12, A::ETHERTYPE.to_be_bytes())
        .ok_or(write)?;
    outer(packet, underlay, length, class, UDP, hash)
}

/// Ethernet type and IP header in front of `length` octets.
#[inline(always)]
fn outer<P: Packet>(
    packet: &mut P,
    underlay: &Underlay,
    length: u16,
    class: u8,
    protocol: u8,
    hash: u32,
) -> Result<(), DropReason> {
    let write = DropReason::WriteError;
    match underlay {
        Underlay::V4 { source, destination } => {
            let total = length.checked_add(20).ok_or(DropReason::FragmentationNeeded)?;
            let [long, short] = total.to_be_bytes();
            let ([a, b, c, d], [e, f, g, h]) = (source.0.to_ne_bytes(), destination.0.to_ne_bytes());
            // Never in fragments, so the id says nothing (RFC 6864).
            let sum = Delta::of(0, u32::from_ne_bytes([0x45, class, long, short]))
                .and(0, u32::from_ne_bytes([0, 0, 0x40, 0]))
                .and(0, u32::from_ne_bytes([TTL, protocol, 0, 0]))
                .and(0, source.0)
                .and(0, destination.0);
            let [sum0, sum1] = sum.apply(u16::MAX).to_ne_bytes();
            packet.write(12, ETHERTYPE_V4.to_be_bytes()).ok_or(write)?;
            packet
                .write(
                    ETHERNET,
                    [
                        0x45, class, long, short, 0, 0, 0x40, 0, TTL, protocol, sum0, sum1, a, b, c, d, e, f,
                        g, h,
                    ],
                )
                .ok_or(write)
        }
        Underlay::V6 { source, destination } => {
            let [long, short] = length.to_be_bytes();
            let [_, label1, label2, label3] = (hash & 0xf_ffff).to_be_bytes();
            packet.write(12, ETHERTYPE_V6.to_be_bytes()).ok_or(write)?;
            let start = [
                0x60 | class >> 4,
                class << 4 | label1,
                label2,
                label3,
                long,
                short,
                protocol,
                TTL,
            ];
            packet.write(ETHERNET, start).ok_or(write)?;
            packet.write(ETHERNET + 8, source.octets()).ok_or(write)?;
            packet.write(ETHERNET + 24, destination.octets()).ok_or(write)
        }
    }
}

/// What a packet brings inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Envelope {
    /// Nothing this code would take out.
    None,
    /// An IP packet, of this Ethernet type, behind this many octets.
    Ipip { kind: u16, octets: usize },
    /// An Ethernet frame with an IP packet of this type behind this many octets, and the VIP of the family `kind` names at
    /// `vip`.
    Geneve { kind: u16, octets: usize, vip: usize },
}

/// Looks into a packet whose outer IP header follows Ethernet. Fragments bring nothing: they are the stack's.
#[inline(always)]
pub fn look<P: Packet>(packet: &P, network: &Network) -> Envelope {
    if network.fragment != crate::packet::Fragment::Whole {
        return Envelope::None;
    }
    let octets = network.transport - ETHERNET;
    match network.protocol {
        IPIP => Envelope::Ipip {
            kind: ETHERTYPE_V4,
            octets,
        },
        IP6IP => Envelope::Ipip {
            kind: ETHERTYPE_V6,
            octets,
        },
        UDP => look_geneve(packet, network.transport).unwrap_or(Envelope::None),
        _ => Envelope::None,
    }
}

#[inline(always)]
fn look_geneve<P: Packet>(packet: &P, udp: usize) -> Option<Envelope> {
    let [_, _, c, d] = packet.read::<4>(udp)?;
    if u16::from_ne_bytes([c, d]) != PORT {
        return None;
    }
    let [version, control, g, h, _, _, vni, _, i, j, kind, words] = packet.read::<12>(udp + 8)?;
    // One option, and a frame. Messages to the other end itself are not for us.
    if u16::from_be_bytes([g, h]) != FRAME
        || control & 0x80 != 0
        || vni != WORLD
        || u16::from_be_bytes([i, j]) != CLASS
        || kind != KIND
        || words & 0x1f != version.wrapping_sub(1)
    {
        return None;
    }
    let option = match version {
        V4::WORDS => V4::OPTION,
        V6::WORDS => V6::OPTION,
        _ => return None,
    };
    let inner = udp + GENEVE + option;
    let kind = u16::from_be_bytes(packet.read::<2>(inner + 12)?);
    // The VIP is of the family that is inside.
    match (kind, version) {
        (ETHERTYPE_V4, V4::WORDS) | (ETHERTYPE_V6, V6::WORDS) => Some(Envelope::Geneve {
            kind,
            octets: inner,
            vip: udp + GENEVE + 4,
        }),
        _ => None,
    }
}

/// Takes the headers off.
#[inline(always)]
pub fn unwrap<P: Room>(packet: &mut P, octets: usize, kind: u16) -> Result<(), DropReason> {
    packet.close(octets, kind).ok_or(DropReason::WriteError)?;
    packet.write(12, kind.to_be_bytes()).ok_or(DropReason::WriteError)
}

#[inline(always)]
const fn short(length: usize) -> u16 {
    // Lengths of headers, all below a hundred.
    let [low, high, ..] = length.to_le_bytes();
    u16::from_le_bytes([low, high])
}
