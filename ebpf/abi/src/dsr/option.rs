//! The VIP as an option: of the IPv4 header, or in a header of destination options of IPv6 (RFC 8200, 4.6).
//!
//! ```text
//!  IPv4   | 0x9a | 8 | port, octets reversed (2) | address, octets reversed (4) |    behind the 20 octets of the base header
//!  IPv6   | next | 2 | 0x1b | 0x14 | address (16) | port (2) | 0 (2) |              the first extension header
//! ```
//!
//! IPv4's fields are reversed because Cilium writes them so on all machines it is made for, and nodes must agree. What a
//! router does not know it forwards (0x9a: not for control, copied to fragments; 0x1b: skip and do not change).

use super::{Gap, Room, Vip};
use crate::checksum::Delta;
use crate::packet::{ETHERNET, Family, Packet};
use crate::reason::DropReason;
use crate::{V4, V6};

/// Octets of the option.
pub const LENGTH4: usize = 8;
pub const LENGTH6: usize = 24;

const KIND4: u8 = 0x9a;
const KIND6: u8 = 0x1b;
/// Destination options.
const HEADER6: u8 = 60;

/// A family whose packets can bring the VIP along as an option.
pub trait Optional: Family {
    /// Puts the option into a packet whose IP header follows Ethernet.
    fn insert<P: Room>(packet: &mut P, vip: &Vip<Self>) -> Result<(), DropReason>;
    /// Whether the packet whose IP header is at `at` begins with the option.
    fn has<P: Packet>(packet: &P, at: usize) -> bool;
    /// The option of the packet whose IP header is at `at`, if it is the first one.
    fn find<P: Packet>(packet: &P, at: usize) -> Option<Vip<Self>>;
}

impl Optional for V4 {
    #[inline(always)]
    fn insert<P: Room>(packet: &mut P, vip: &Vip<Self>) -> Result<(), DropReason> {
        let [first, class, long, short] = packet.read::<4>(ETHERNET).ok_or(DropReason::Invalid)?;
        // Sixty octets are the longest header there is.
        if first & 0xf > 13 {
            return Err(DropReason::InvalidHeader);
        }
        let length = u16::from_be_bytes([long, short])
            .checked_add(8)
            .ok_or(DropReason::FragmentationNeeded)?;
        let [new_long, new_short] = length.to_be_bytes();
        let header = [first + 2, class, new_long, new_short];
        let ([a, b, c, d], [e, f]) = (vip.address.0.to_ne_bytes(), vip.port.to_ne_bytes());
        let option = [KIND4, 8, f, e, d, c, b, a];
        let (high, low) = words(option);
        let delta = Delta::of(
            u32::from_ne_bytes([first, class, long, short]),
            u32::from_ne_bytes(header),
        )
        .and(0, high)
        .and(0, low);
        packet.open(Gap::Option4).ok_or(DropReason::WriteError)?;
        packet.write(ETHERNET, header).ok_or(DropReason::WriteError)?;
        packet
            .write(Gap::Option4.at(), option)
            .ok_or(DropReason::WriteError)?;
        packet
            .fix_header(ETHERNET + 10, delta)
            .ok_or(DropReason::L3Checksum)
    }

    #[inline(always)]
    fn has<P: Packet>(packet: &P, at: usize) -> bool {
        packet.read::<1>(at).is_some_and(|[first]| first >= 0x47)
            && packet.read::<2>(at + 20) == Some([KIND4, 8])
    }

    #[inline(always)]
    fn find<P: Packet>(packet: &P, at: usize) -> Option<Vip<Self>> {
        if !Self::has(packet, at) {
            return None;
        }
        let [kind, length, f, e, d, c, b, a] = packet.read::<8>(at + 20)?;
        (kind == KIND4 && length == 8).then_some(Vip {
            address: Self(u32::from_ne_bytes([a, b, c, d])),
            port: u16::from_ne_bytes([e, f]),
        })
    }
}

impl Optional for V6 {
    #[inline(always)]
    fn insert<P: Room>(packet: &mut P, vip: &Vip<Self>) -> Result<(), DropReason> {
        let [long, short, next] = packet.read::<3>(ETHERNET + 4).ok_or(DropReason::Invalid)?;
        let length = u16::from_be_bytes([long, short])
            .checked_add(24)
            .ok_or(DropReason::FragmentationNeeded)?;
        packet.open(Gap::Option6).ok_or(DropReason::WriteError)?;
        let [long, short] = length.to_be_bytes();
        packet
            .write(ETHERNET + 4, [long, short, HEADER6])
            .ok_or(DropReason::WriteError)?;
        let ([e, f], at) = (vip.port.to_ne_bytes(), Gap::Option6.at());
        packet
            .write(at, [next, 2, KIND6, 0x14])
            .ok_or(DropReason::WriteError)?;
        packet
            .write(at + 4, vip.address.octets())
            .ok_or(DropReason::WriteError)?;
        packet.write(at + 20, [e, f, 0, 0]).ok_or(DropReason::WriteError)
    }

    #[inline(always)]
    fn has<P: Packet>(packet: &P, at: usize) -> bool {
        packet.read::<1>(at + 6) == Some([HEADER6])
            && packet
                .read::<4>(at + 40)
                .is_some_and(|[_, length, kind, inside]| [length, kind, inside] == [2, KIND6, 0x14])
    }

    #[inline(always)]
    fn find<P: Packet>(packet: &P, at: usize) -> Option<Vip<Self>> {
        if !Self::has(packet, at) {
            return None;
        }
        let address = packet.read::<16>(at + 44)?;
        let [e, f] = packet.read::<2>(at + 60)?;
        Some(Vip {
            address: Self::from_octets(address),
            port: u16::from_ne_bytes([e, f]),
        })
    }
}

#[inline(always)]
fn words(octets: [u8; 8]) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = octets;
    (u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h]))
}
