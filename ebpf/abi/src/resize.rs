//! Making packets shorter, and making room in them for headers.
//!
//! Apart from [`Packet`], because what only reads and rewrites needs none of it.

#[cfg(any(test, feature = "model"))]
use crate::checksum::Delta;
#[cfg(any(test, feature = "model"))]
use crate::dsr::{Gap, Room};
#[cfg(any(test, feature = "model"))]
use crate::model::Growing;
use crate::packet::Packet;
#[cfg(any(test, feature = "model"))]
use crate::packet::{Checksum, ETHERNET, Octets};

/// A packet that may become another length. After each of these, offsets are those of the new packet.
pub trait Resize: Packet {
    /// Cuts what comes after `length` octets, or adds octets of any content up to there.
    fn cut(&mut self, length: usize) -> Option<()>;
    /// Makes room for `N` octets between the Ethernet header, which stays in front, and the IP header. Their content is
    /// anything.
    fn open<const N: usize>(&mut self) -> Option<()>;
    /// Whether the transport checksum, which lies at `field`, is yet to be made when the packet leaves.
    fn owed(&mut self, field: usize) -> Option<Owed>;
}

/// What a packet's transport checksum is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owed {
    /// As it will be on the wire.
    Nothing,
    /// The sum of the pseudo header, not inverted. The device sums up from the old transport header to the end of the packet
    /// and writes what comes out into the field, whatever else the packet has become meanwhile.
    ByDevice,
}

/// A packet that can change its length, outside of the kernel.
#[cfg(any(test, feature = "model"))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buffer {
    pub octets: Vec<u8>,
    pub owed: Owed,
}

#[cfg(any(test, feature = "model"))]
impl Buffer {
    pub fn new(octets: &[u8]) -> Self {
        Self {
            octets: octets.to_vec(),
            owed: Owed::Nothing,
        }
    }
}

#[cfg(any(test, feature = "model"))]
impl Packet for Buffer {
    fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.octets.get(at..)?.first_chunk().copied()
    }

    fn write<const N: usize>(&mut self, at: usize, octets: [u8; N]) -> Option<()> {
        Octets(&mut self.octets).write(at, octets)
    }

    fn length(&self) -> usize {
        self.octets.len()
    }

    fn forget(&self, number: u32) -> u32 {
        number
    }

    fn segment(&self) -> u32 {
        0
    }

    fn fix_header(&mut self, at: usize, delta: Delta) -> Option<()> {
        Octets(&mut self.octets).fix_header(at, delta)
    }

    fn fix_transport(&mut self, at: usize, pseudo: Delta, inside: Delta, kind: Checksum) -> Option<()> {
        Octets(&mut self.octets).fix_transport(at, pseudo, inside, kind)
    }
}

#[cfg(any(test, feature = "model"))]
impl Resize for Buffer {
    fn cut(&mut self, length: usize) -> Option<()> {
        self.octets.resize(length, 0);
        Some(())
    }

    fn open<const N: usize>(&mut self) -> Option<()> {
        let room = self.octets.get(..ETHERNET)?.len();
        self.octets.splice(room..room, [0; N]);
        Some(())
    }

    fn owed(&mut self, _: usize) -> Option<Owed> {
        Some(self.owed)
    }
}

#[cfg(any(test, feature = "model"))]
impl Room for Buffer {
    fn open(&mut self, gap: Gap) -> Option<()> {
        Growing(&mut self.octets).open(gap)
    }

    fn close(&mut self, octets: usize, inside: u16) -> Option<()> {
        Growing(&mut self.octets).close(octets, inside)
    }
}
