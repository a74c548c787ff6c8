//! What becomes of the maps of an earlier start that are not as this start wants them.
//!
//! ```text
//! another size     a new map, with what the old one holds and what fits of it
//! another layout   a new map, empty: the old one was made by another build of the same version
//! another version  another folder: nothing is taken over, and it is removed once its programs were replaced
//! ```
//!
//! Programs of the earlier start go on with the old map until they are replaced. What they write there meanwhile is lost:
//! some flows of those milliseconds. All that the agent writes is planned anew, by what was taken over.

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use ebpf_abi::maps::{Kind, Map};

use crate::kernel::{self, Batch, Command, MapInfo, address, bpf, number};
use crate::walk::{Chunk, walk};

/// A map that was made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remade {
    Resized {
        map: &'static str,
        from: u32,
        to: u32,
        /// Elements that were taken over; of arrays those that are not zero.
        kept: u64,
        /// Elements that did not fit.
        dropped: u64,
    },
    /// Everything in it was dropped.
    Emptied { map: &'static str },
}

impl fmt::Display for Remade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resized {
                map,
                from,
                to,
                kept,
                dropped,
            } => {
                write!(f, "the map {map} has {to} entries now instead of {from}; ")?;
                match dropped {
                    0 => write!(f, "all {kept} in use are kept"),
                    dropped => write!(f, "{kept} in use are kept, {dropped} did not fit and are dropped"),
                }
            }
            Self::Emptied { map } => write!(
                f,
                "the map {map} was of another layout: it is made anew, and what it held is dropped"
            ),
        }
    }
}

/// A map of an earlier start that cannot stay as it is.
#[derive(Debug)]
pub(crate) struct Old {
    map: Map,
    fd: OwnedFd,
    info: MapInfo,
    fits: bool,
}

/// Unpins it, so that the next one is made in its place; `None` where there is none, or it is as wanted.
pub(crate) fn take(map: Map, entries: u32, pins: &Path) -> io::Result<Option<Old>> {
    let pin = pins.join(map.name);
    let fd = match kernel::open(&pin) {
        Ok(fd) => fd,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let info = kernel::info(fd.as_fd())?;
    let fits = (info.kind, info.key_size, info.value_size) == (kind(map.kind), map.key_size, map.value_size);
    if fits && info.entries == entries {
        return Ok(None);
    }
    fs::remove_file(&pin)?;
    Ok(Some(Old { map, fd, info, fits }))
}

impl Old {
    /// Takes over what fits into the map that is pinned in its place now.
    pub(crate) fn hand_over(&self, pins: &Path) -> io::Result<Remade> {
        let map = self.map.name;
        if !self.fits {
            return Ok(Remade::Emptied { map });
        }
        let new = kernel::open(&pins.join(map))?;
        let to = kernel::info(new.as_fd())?.entries;
        let (mut kept, mut dropped) = (0, 0);
        walk(self.fd.as_fd(), &self.info, |chunk| {
            let (in_use, copied) = self.copy(new.as_fd(), to, chunk);
            kept += copied;
            dropped += in_use - copied;
        })
        .map_err(|lost| lost.source)?;
        Ok(Remade::Resized {
            map,
            from: self.info.entries,
            to,
            kept,
            dropped,
        })
    }

    /// How many elements are in use, and how many of them were copied.
    fn copy(&self, new: BorrowedFd<'_>, entries: u32, chunk: Chunk<'_>) -> (u64, u64) {
        let size = |octets: u32| usize::try_from(octets).unwrap_or(usize::MAX).max(1);
        let pairs = chunk
            .keys
            .chunks_exact(size(self.info.key_size))
            .zip(chunk.values.chunks_exact(size(self.info.value_size)));
        let in_use: Vec<(&[u8], &[u8])> = pairs
            .filter(|(_, value)| !self.is_array() || value.iter().any(|octet| *octet != 0))
            .collect();
        let fitting = in_use.iter().filter(|(key, _)| self.fits_at(key, entries));
        let (keys, values): (Vec<&[u8]>, Vec<&[u8]>) = fitting.copied().unzip();
        let copied = match self.map.kind {
            // It tells numbers of maps, and wants descriptors.
            Kind::ArrayOfArrays | Kind::ArrayOfRings => {
                let open = |id: &[u8]| kernel::map_by_id(u32::from_ne_bytes(id.try_into().ok()?)).ok();
                let maps: Vec<OwnedFd> = values.iter().filter_map(|id| open(id)).collect();
                if maps.len() != keys.len() {
                    return (count(in_use.len()), 0);
                }
                let fds: Vec<u8> = maps
                    .iter()
                    .flat_map(|map| number(map.as_fd()).to_ne_bytes())
                    .collect();
                put(new, &keys.concat(), &fds, keys.len())
            }
            // Of each processor, or of each socket; none of them can be resized.
            Kind::PerCpuArray | Kind::SocketStorage => 0,
            Kind::Array | Kind::Hash | Kind::LruHash | Kind::PrefixTree => {
                put(new, &keys.concat(), &values.concat(), keys.len())
            }
        };
        (count(in_use.len()), copied)
    }

    fn is_array(&self) -> bool {
        match self.map.kind {
            Kind::Array | Kind::PerCpuArray | Kind::ArrayOfArrays | Kind::ArrayOfRings => true,
            Kind::Hash | Kind::LruHash | Kind::PrefixTree | Kind::SocketStorage => false,
        }
    }

    fn fits_at(&self, key: &[u8], entries: u32) -> bool {
        !self.is_array()
            || key
                .try_into()
                .is_ok_and(|place| u32::from_ne_bytes(place) < entries)
    }
}

/// How many of them the map took.
fn put(map: BorrowedFd<'_>, keys: &[u8], values: &[u8], count: usize) -> u64 {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    if count == 0 {
        return 0;
    }
    let mut batch = Batch {
        keys: address(keys),
        values: address(values),
        count,
        map: number(map),
        ..Batch::default()
    };
    match bpf(Command::UpdateBatch, &mut batch) {
        Ok(_) => u64::from(count),
        // A call that is refused before it begins leaves the count as it was.
        Err(_) if batch.count == count => 0,
        Err(_) => u64::from(batch.count),
    }
}

/// The kernel's numbers.
fn kind(kind: Kind) -> u32 {
    match kind {
        Kind::Array => 2,
        Kind::PerCpuArray => 6,
        Kind::Hash => 1,
        Kind::LruHash => 9,
        Kind::PrefixTree => 11,
        Kind::ArrayOfArrays | Kind::ArrayOfRings => 12,
        Kind::SocketStorage => 24,
    }
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
