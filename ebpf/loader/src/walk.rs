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

/// A way through a map, that may be gone in pieces. It meets every element that is there all the while; others may be
/// written meanwhile.
#[derive(Debug)]
pub(crate) struct Walk {
    key: usize,
    value: usize,
    room: u32,
    keys: Vec<u8>,
    values: Vec<u8>,
    /// The kernel's place to go on from: a key, or a bucket's number.
    token: Vec<u8>,
    next: Vec<u8>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Begin,
    Between,
    /// The kernel has no batches for this kind of map.
    KeyByKey,
    End,
}

impl Walk {
    pub(crate) fn new(info: &MapInfo) -> Self {
        let (key, value) = (size(info.key_size), size(info.value_size));
        let room = CHUNK.min(info.entries.max(1));
        Self {
            key,
            value,
            room,
            keys: vec![0; key * size(room)],
            values: vec![0; value * size(room)],
            token: vec![0; key.max(8)],
            next: vec![0; key.max(8)],
            state: State::Begin,
        }
    }

    /// The next elements; `None` at the end.
    pub(crate) fn next(&mut self, map: BorrowedFd<'_>) -> Result<Option<Chunk<'_>>, Lost> {
        match self.state {
            State::Begin | State::Between => self.batch(map),
            State::KeyByKey => self.step(map),
            State::End => Ok(None),
        }
    }

    fn batch(&mut self, map: BorrowedFd<'_>) -> Result<Option<Chunk<'_>>, Lost> {
        let mut batch = Batch {
            from: if self.state == State::Between {
                address(&self.token)
            } else {
                0
            },
            to: address_mut(&mut self.next),
            keys: address_mut(&mut self.keys),
            values: address_mut(&mut self.values),
            count: self.room,
            map: number(map),
            ..Batch::default()
        };
        match bpf(Command::LookupBatch, &mut batch) {
            Ok(_) => self.state = State::Between,
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.state = State::End,
            Err(error) if self.state == State::Begin && lacks_batches(&error) => {
                self.state = State::KeyByKey;
                self.token.clear();
                return self.step(map);
            }
            Err(source) => {
                return Err(Lost {
                    call: "BPF_MAP_LOOKUP_BATCH",
                    source,
                });
            }
        }
        std::mem::swap(&mut self.token, &mut self.next);
        Ok(Some(self.chunk(size(batch.count))))
    }

    fn step(&mut self, map: BorrowedFd<'_>) -> Result<Option<Chunk<'_>>, Lost> {
        loop {
            let mut next = vec![0_u8; self.key];
            let mut element = Element {
                map: number(map),
                key: if self.token.is_empty() {
                    0
                } else {
                    address(&self.token)
                },
                value: address_mut(&mut next),
                ..Element::default()
            };
            match bpf(Command::NextKey, &mut element) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.state = State::End;
                    return Ok(None);
                }
                Err(source) => {
                    return Err(Lost {
                        call: "BPF_MAP_GET_NEXT_KEY",
                        source,
                    });
                }
            }
            let mut element = Element {
                map: number(map),
                key: address(&next),
                value: address_mut(&mut self.values),
                ..Element::default()
            };
            // It may be gone since.
            let found = bpf(Command::Lookup, &mut element).is_ok();
            if let Some(key) = self.keys.get_mut(..self.key) {
                key.copy_from_slice(&next);
            }
            self.token = next;
            if found {
                return Ok(Some(self.chunk(1)));
            }
        }
    }

    fn chunk(&self, count: usize) -> Chunk<'_> {
        Chunk {
            keys: self.keys.get(..count * self.key).unwrap_or_default(),
            values: self.values.get(..count * self.value).unwrap_or_default(),
        }
    }
}

/// Shows all elements.
pub(crate) fn walk(map: BorrowedFd<'_>, info: &MapInfo, mut show: impl FnMut(Chunk<'_>)) -> Result<(), Lost> {
    let mut walk = Walk::new(info);
    while let Some(chunk) = walk.next(map)? {
        show(chunk);
    }
    Ok(())
}

fn size(octets: u32) -> usize {
    usize::try_from(octets).unwrap_or(usize::MAX)
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
        let mut walk = Walk {
            state: State::KeyByKey,
            token: Vec::new(),
            ..Walk::new(&info)
        };
        while let Some(chunk) = walk.next(map.as_fd()).expect("it is readable") {
            keep(&mut other, chunk);
        }
        assert_eq!(one.len(), 8 * 5000);
        assert_eq!(one, other);
    }
}
