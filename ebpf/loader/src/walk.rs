//! All elements of a map, thousands per call, as octets.

use std::io;
use std::os::fd::BorrowedFd;

use crate::kernel::{Batch, Command, Element, MapInfo, address, address_mut, bpf, number};

/// Elements per call.
const CHUNK: u32 = 4096;

/// What a call gave: keys and values, one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunk<'a> {
    pub(crate) keys: &'a [u8],
    pub(crate) values: &'a [u8],
}

/// Where a walk stopped.
#[derive(Debug)]
pub(crate) struct Lost {
    pub(crate) call: &'static str,
    pub(crate) source: io::Error,
}

/// Shows every element that is there all the while; others may be written meanwhile.
pub(crate) fn walk(map: BorrowedFd<'_>, info: &MapInfo, mut show: impl FnMut(Chunk<'_>)) -> Result<(), Lost> {
    let size = |octets: u32| usize::try_from(octets).unwrap_or(usize::MAX);
    let (key, value) = (size(info.key_size), size(info.value_size));
    let room = CHUNK.min(info.entries.max(1));
    let mut keys = vec![0_u8; key * size(room)];
    let mut values = vec![0_u8; value * size(room)];
    // The kernel's place to go on from: a key, or a bucket's number.
    let mut token = vec![0_u8; key.max(8)];
    let mut next = vec![0_u8; key.max(8)];
    let mut started = false;
    loop {
        let mut batch = Batch {
            from: if started { address(&token) } else { 0 },
            to: address_mut(&mut next),
            keys: address_mut(&mut keys),
            values: address_mut(&mut values),
            count: room,
            map: number(map),
            ..Batch::default()
        };
        let done = match bpf(Command::LookupBatch, &mut batch) {
            Ok(_) => false,
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) if !started && lacks_batches(&error) => return step(map, key, value, show),
            Err(source) => {
                return Err(Lost {
                    call: "BPF_MAP_LOOKUP_BATCH",
                    source,
                });
            }
        };
        let count = size(batch.count);
        show(Chunk {
            keys: keys.get(..count * key).unwrap_or_default(),
            values: values.get(..count * value).unwrap_or_default(),
        });
        if done {
            return Ok(());
        }
        std::mem::swap(&mut token, &mut next);
        started = true;
    }
}

/// Kernels know batches for some kinds of maps, and for more of them over the years.
pub(crate) fn lacks_batches(error: &io::Error) -> bool {
    /// `ENOTSUPP`, which is the kernel's own and has no name outside.
    const NOT_SUPPORTED: i32 = 524;
    matches!(
        error.raw_os_error(),
        Some(NOT_SUPPORTED | libc::EOPNOTSUPP | libc::EINVAL)
    )
}

/// As [`walk`], key by key.
fn step(map: BorrowedFd<'_>, key: usize, value: usize, mut show: impl FnMut(Chunk<'_>)) -> Result<(), Lost> {
    let mut here: Option<Vec<u8>> = None;
    loop {
        let mut next = vec![0_u8; key];
        let mut element = Element {
            map: number(map),
            key: here.as_deref().map_or(0, address),
            value: address_mut(&mut next),
            ..Element::default()
        };
        match bpf(Command::NextKey, &mut element) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(source) => {
                return Err(Lost {
                    call: "BPF_MAP_GET_NEXT_KEY",
                    source,
                });
            }
        }
        let mut found = vec![0_u8; value];
        let mut element = Element {
            map: number(map),
            key: address(&next),
            value: address_mut(&mut found),
            ..Element::default()
        };
        // It may be gone since.
        if bpf(Command::Lookup, &mut element).is_ok() {
            show(Chunk {
                keys: &next,
                values: &found,
            });
        }
        here = Some(next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd as _;

    use crate::kernel::{array, info};

    #[test]
    fn a_walk_by_keys_meets_what_a_walk_by_thousands_meets() {
        if !std::path::Path::new("/sys/fs/bpf").exists() {
            return;
        }
        // Without the right to make maps there is nothing to see.
        let Ok(map) = array(8, 5000, 0) else { return };
        for place in [0_u32, 7, 4999] {
            let value = u64::from(place) + 1;
            let mut element = Element {
                map: number(map.as_fd()),
                key: address(&place.to_ne_bytes()),
                value: address(&value.to_ne_bytes()),
                ..Element::default()
            };
            bpf(Command::Update, &mut element).expect("an element of an array");
        }
        let info = info(map.as_fd()).expect("a map says what it is");
        let (mut one, mut other) = (Vec::new(), Vec::new());
        let keep = |all: &mut Vec<u8>, chunk: Chunk<'_>| all.extend_from_slice(chunk.values);
        walk(map.as_fd(), &info, |chunk| keep(&mut one, chunk)).expect("it is readable");
        step(map.as_fd(), 4, 8, |chunk| keep(&mut other, chunk)).expect("it is readable");
        assert_eq!(one.len(), 8 * 5000);
        assert_eq!(one, other);
    }
}
