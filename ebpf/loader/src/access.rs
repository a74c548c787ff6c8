//! Reading and writing maps: one element, or thousands in one call.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use ebpf_abi::BackendId;
use ebpf_abi::config::Counter;
use ebpf_abi::maps::{self, Map};
use ebpf_abi::plain::{Plain, from_octets, octets};

use crate::Error;
use crate::kernel::{self, Batch, Command, Element, MapInfo, address, address_mut, bpf, number};
use crate::store::inner;
use crate::walk::{Lost, lacks_batches, walk};

/// A map of the programs.
#[derive(Debug)]
pub struct MapFd {
    map: Map,
    fd: OwnedFd,
    entries: u32,
}

impl MapFd {
    /// As it is pinned.
    pub fn name(&self) -> &'static str {
        self.map.name
    }

    /// The map pinned under its name in this folder.
    pub(crate) fn open(map: Map, folder: &Path) -> Result<Self, Error> {
        let failed = |call| {
            move |source| Error::Access {
                map: map.name,
                call,
                source,
            }
        };
        let fd = kernel::open(&folder.join(map.name)).map_err(failed("BPF_OBJ_GET"))?;
        let info = kernel::info(fd.as_fd()).map_err(failed("BPF_OBJ_GET_INFO_BY_FD"))?;
        if (info.key_size, info.value_size) != (map.key_size, map.value_size) {
            return Err(Error::Layout {
                name: map.name,
                key: info.key_size,
                value: info.value_size,
            });
        }
        Ok(Self {
            map,
            fd,
            entries: info.entries,
        })
    }

    pub(crate) fn map(&self) -> Map {
        self.map
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// How many elements there may be; what was asked for, or what an older start asked for.
    pub fn entries(&self) -> u32 {
        self.entries
    }

    /// The value of a key.
    pub fn get<K: Plain, V: Plain>(&self, key: &K) -> Result<Option<V>, Error> {
        self.check::<K, V>()?;
        let mut value = vec![0; size_of::<V>()];
        match self.element(Command::Lookup, octets(key), &mut value) {
            Ok(()) => Ok(from_octets(&value)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed("BPF_MAP_LOOKUP_ELEM", error)),
        }
    }

    /// Writes a value, whether there is one or not.
    pub fn put<K: Plain, V: Plain>(&self, key: &K, value: &V) -> Result<(), Error> {
        self.check::<K, V>()?;
        self.element(Command::Update, octets(key), &mut octets(value).to_vec())
            .map_err(|error| self.failed("BPF_MAP_UPDATE_ELEM", error))
    }

    /// Deletes a key; it may be gone already.
    pub fn remove<K: Plain>(&self, key: &K) -> Result<(), Error> {
        match self.element(Command::Delete, octets(key), &mut []) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(self.failed("BPF_MAP_DELETE_ELEM", error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Writes many values, in one call where the kernel can. The two slices have the same length.
    pub fn put_all<K: Plain, V: Plain>(&self, keys: &[K], values: &[V]) -> Result<(), Error> {
        self.check::<K, V>()?;
        self.put_many(keys, values)
            .map_err(|stopped| self.stopped(stopped))
    }

    /// Deletes many keys, in one call where the kernel can; some may be gone already.
    pub fn remove_all<K: Plain>(&self, keys: &[K]) -> Result<(), Error> {
        self.remove_many(keys).map_err(|stopped| self.stopped(stopped))
    }

    /// As [`Self::put_all`], for types that are known to fit, and tells how far it came.
    pub(crate) fn put_many<K: Plain, V: Plain>(&self, keys: &[K], values: &[V]) -> Result<(), Stopped> {
        let count = keys.len().min(values.len());
        if count > 1 {
            match self.batch(Command::UpdateBatch, keys, address(values)) {
                Err(stopped) if stopped.done == 0 && lacks_batches(&stopped.source) => {}
                done => return done,
            }
        }
        for (done, (key, value)) in keys.iter().zip(values).enumerate() {
            self.element(Command::Update, octets(key), &mut octets(value).to_vec())
                .map_err(|source| Stopped {
                    done,
                    call: "BPF_MAP_UPDATE_ELEM",
                    source,
                })?;
        }
        Ok(())
    }

    /// As [`Self::remove_all`], and tells how far it came.
    pub(crate) fn remove_many<K: Plain>(&self, keys: &[K]) -> Result<(), Stopped> {
        let mut done = 0;
        while let Some(rest) = keys.get(done..).filter(|rest| rest.len() > 1) {
            match self.batch(Command::DeleteBatch, rest, 0) {
                Ok(()) => return Ok(()),
                // It ends at a key that is gone. That one is done too.
                Err(stopped) if stopped.source.kind() == io::ErrorKind::NotFound => done += stopped.done + 1,
                Err(stopped) if stopped.done == 0 && lacks_batches(&stopped.source) => break,
                Err(stopped) => {
                    return Err(Stopped {
                        done: done + stopped.done,
                        ..stopped
                    });
                }
            }
        }
        for (at, key) in keys.iter().enumerate().skip(done) {
            match self.element(Command::Delete, octets(key), &mut []) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(Stopped {
                        done: at,
                        call: "BPF_MAP_DELETE_ELEM",
                        source,
                    });
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    fn batch<K: Plain>(&self, command: Command, keys: &[K], values: u64) -> Result<(), Stopped> {
        let count = u32::try_from(keys.len()).unwrap_or(u32::MAX);
        let mut batch = Batch {
            keys: address(keys),
            values,
            count,
            map: number(self.fd.as_fd()),
            ..Batch::default()
        };
        let call = match command {
            Command::DeleteBatch => "BPF_MAP_DELETE_BATCH",
            _ => "BPF_MAP_UPDATE_BATCH",
        };
        bpf(command, &mut batch).map(drop).map_err(|source| Stopped {
            // A call that is refused before it begins leaves the count as it was.
            done: if batch.count < count {
                batch.count as usize
            } else {
                0
            },
            call,
            source,
        })
    }

    /// All elements, as they were met; others may be written meanwhile.
    pub fn all<K: Plain, V: Plain>(&self) -> Result<Vec<(K, V)>, Error> {
        self.check::<K, V>()?;
        let mut found = Vec::new();
        walk(self.fd.as_fd(), &self.info(), |chunk| {
            let keys = chunk.keys.chunks_exact(size_of::<K>());
            let pairs = keys.zip(chunk.values.chunks_exact(size_of::<V>()));
            found.extend(pairs.filter_map(|(key, value)| Some((from_octets(key)?, from_octets(value)?))));
        })
        .map_err(|lost| self.lost(lost))?;
        Ok(found)
    }

    /// Puts a table of backends at a place of `MAGLEV`, in place of the one that is there, at once. Returns after
    /// the last program that may have read the old one.
    pub fn put_table(&self, set: u32, table: &[BackendId]) -> Result<(), Error> {
        self.check::<u32, u32>()?;
        let inner = inner(table, 0).map_err(|error| self.failed("BPF_MAP_CREATE", error))?;
        self.put(&set, &number(inner.as_fd()))
    }

    /// A counter, all processors together.
    pub fn counter(&self, place: u32) -> Result<Counter, Error> {
        let size = size_of::<Counter>();
        let mut values = vec![0; size * processors()?];
        self.element(Command::Lookup, octets(&place), &mut values)
            .map_err(|error| self.failed("BPF_MAP_LOOKUP_ELEM", error))?;
        let each = values.chunks_exact(size).filter_map(from_octets::<Counter>);
        Ok(each.fold(Counter::default(), |sum, one| Counter {
            packets: sum.packets + one.packets,
            bytes: sum.bytes + one.bytes,
        }))
    }

    fn element(&self, command: Command, key: &[u8], value: &mut [u8]) -> io::Result<()> {
        let mut element = Element {
            map: number(self.fd.as_fd()),
            key: address(key),
            // The kernel wants to see zeros where a command has nothing to say.
            value: if value.is_empty() { 0 } else { address_mut(value) },
            ..Element::default()
        };
        bpf(command, &mut element).map(drop)
    }

    /// The kernel reads and writes as much as the map's sizes say, so the types must have them.
    fn check<K, V>(&self) -> Result<(), Error> {
        let size = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
        let asked = (size(size_of::<K>()), size(size_of::<V>()));
        if asked == (self.map.key_size, self.map.value_size) && self.map.kind != maps::Kind::PerCpuArray {
            return Ok(());
        }
        Err(Error::Layout {
            name: self.map.name,
            key: asked.0,
            value: asked.1,
        })
    }

    pub(crate) fn info(&self) -> MapInfo {
        MapInfo {
            key_size: self.map.key_size,
            value_size: self.map.value_size,
            entries: self.entries,
            ..MapInfo::default()
        }
    }

    pub(crate) fn lost(&self, lost: Lost) -> Error {
        self.failed(lost.call, lost.source)
    }

    fn stopped(&self, stopped: Stopped) -> Error {
        self.failed(stopped.call, stopped.source)
    }

    fn failed(&self, call: &'static str, source: io::Error) -> Error {
        Error::Access {
            map: self.map.name,
            call,
            source,
        }
    }
}

/// How far a call on many elements came.
#[derive(Debug)]
pub(crate) struct Stopped {
    /// Elements that were written or deleted.
    pub(crate) done: usize,
    pub(crate) call: &'static str,
    pub(crate) source: io::Error,
}

/// How many values an element for each processor has.
fn processors() -> Result<usize, Error> {
    let path = "/sys/devices/system/cpu/possible";
    let failed = |source| Error::Access {
        map: maps::COUNTERS.name,
        call: path,
        source,
    };
    let text = fs::read_to_string(path).map_err(failed)?;
    // Ranges as in `0-3` or `0,2-3`; the last number counts.
    let last = text.trim().rsplit([',', '-']).next().unwrap_or_default();
    let last: usize = last.parse().map_err(|error| failed(io::Error::other(error)))?;
    Ok(last + 1)
}
