//! Maglev tables: filled aside, then put in place of the old ones, many with one grace period.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::thread;

use ebpf_abi::BackendId;
use ebpf_abi::maglev::elements;
use ebpf_datapath::image::{MapImage, Table};

use super::Store;
use super::failure::Cause;
use super::write::Stopped;
use crate::kernel::{INNER_MAP, MMAPABLE, array, number};
use crate::mapped::Mapped;

/// How many tables are made before they are put in place together.
const AT_ONCE: usize = 256;

/// Filling is the dearest thing an agent does, and seldom. More would take processors from others.
const THREADS: usize = 2;

impl Store {
    /// Returns after the last program that may have read one of the old tables.
    pub(super) fn write_tables(&self, tables: &[(u32, &Table)], image: &MapImage) -> Result<(), Stopped> {
        for (done, lot) in (0..).step_by(AT_ONCE).zip(tables.chunks(AT_ONCE)) {
            let stopped = |source| Stopped {
                done,
                cause: Cause::Refused {
                    call: "BPF_MAP_CREATE",
                    source,
                },
            };
            let maps = fill(lot, image).map_err(stopped)?;
            let sets: Vec<u32> = lot.iter().map(|(set, _)| *set).collect();
            self.put_maps(&sets, &maps).map_err(|stopped| Stopped {
                done: done + stopped.done,
                ..stopped
            })?;
        }
        Ok(())
    }

    /// Puts a table of nothing in their place: the kernel lets many elements be replaced with one grace period, but not
    /// be deleted.
    pub(super) fn remove_tables(&self, sets: &[u32]) -> Result<(), Stopped> {
        let blank = blank().map_err(|source| Stopped {
            done: 0,
            cause: Cause::Refused {
                call: "BPF_MAP_CREATE",
                source,
            },
        })?;
        let fds = vec![number(blank.as_fd()); sets.len()];
        Ok(self.maglev.put_many(sets, &fds)?)
    }

    fn put_maps(&self, sets: &[u32], maps: &[OwnedFd]) -> Result<(), Stopped> {
        let fds: Vec<u32> = maps.iter().map(|map| number(map.as_fd())).collect();
        Ok(self.maglev.put_many(sets, &fds)?)
    }
}

/// An inner map with this table in it, and the word that says what it was filled from.
pub(crate) fn inner(table: &[BackendId], fingerprint: u64) -> io::Result<OwnedFd> {
    let entries = elements(u32::try_from(table.len()).map_err(io::Error::other)?);
    let map = array(8, entries, INNER_MAP | MMAPABLE)?;
    let elements = Mapped::of(map.as_raw_fd(), 8, entries)?;
    for (element, pair) in (0..).zip(table.chunks(2)) {
        let mut pair = pair.iter().map(|id| id.0);
        let [first, second] = [(); 2].map(|()| pair.next().unwrap_or(0).to_ne_bytes());
        let [a, b, c, d] = first;
        let [e, f, g, h] = second;
        elements.store_long(element, u64::from_ne_bytes([a, b, c, d, e, f, g, h]));
    }
    elements.store_long(entries - 1, fingerprint);
    Ok(map)
}

/// A table without a place.
fn blank() -> io::Result<OwnedFd> {
    array(8, BLANK, INNER_MAP | MMAPABLE)
}

/// Elements of a table of nothing; no other table has so few.
pub(super) const BLANK: u32 = 1;

fn fill(tables: &[(u32, &Table)], image: &MapImage) -> io::Result<Vec<OwnedFd>> {
    let make = |tables: &[(u32, &Table)]| -> io::Result<Vec<OwnedFd>> {
        tables
            .iter()
            .map(|(_, table)| inner(&image.fill(table), image.fingerprint(table)))
            .collect()
    };
    let share = tables.len().div_ceil(THREADS).max(1);
    let Some((mine, others)) = tables.split_at_checked(share) else {
        return make(tables);
    };
    thread::scope(|scope| {
        let started: Vec<_> = others
            .chunks(share)
            .map(|share| scope.spawn(move || make(share)))
            .collect();
        let mut maps = make(mine)?;
        for thread in started {
            let made = thread
                .join()
                .map_err(|_| io::Error::other("filling a table panicked"))?;
            maps.extend(made?);
        }
        Ok(maps)
    })
}
