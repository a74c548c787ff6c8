//! Maglev tables: filled aside, then put in place of the old ones, many with one grace period.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::thread;

use ebpf_abi::BackendId;
use ebpf_abi::maglev::elements;
use ebpf_datapath::image::{MapImage, Table};

use super::Store;
use super::failure::Cause;
use super::write::Stopped;
use crate::kernel::{self, INNER_MAP, MMAPABLE, array, number};
use crate::mapped::Mapped;

/// How many tables are made before they are put in place together.
const AT_ONCE: usize = 256;

/// Filling is the dearest thing an agent does, and seldom. More would take processors from others.
const THREADS: usize = 2;

/// A set that has the table with this fingerprint, or had it.
pub(super) type Known = HashMap<u64, u32>;

impl Store {
    /// Returns after the last program that may have read one of the old tables. Sets of the same members share a table: as
    /// tables never change, each set goes its own way with the next one.
    pub(super) fn write_tables(&mut self, tables: &[(u32, &Table)], image: &MapImage) -> Result<(), Stopped> {
        for (done, lot) in (0..).step_by(AT_ONCE).zip(tables.chunks(AT_ONCE)) {
            let stopped = |source| Stopped {
                done,
                cause: Cause::Refused {
                    call: "BPF_MAP_CREATE",
                    source,
                },
            };
            let prints: Vec<u64> = lot.iter().map(|(_, table)| image.fingerprint(table)).collect();
            let mut maps: HashMap<u64, OwnedFd> = HashMap::new();
            let mut new: BTreeMap<u64, &Table> = BTreeMap::new();
            for (print, (_, table)) in prints.iter().zip(lot) {
                match self.shared(*print, table, image) {
                    Some(map) => drop(maps.insert(*print, map)),
                    None => drop(new.insert(*print, table)),
                }
            }
            let new: Vec<(u64, &Table)> = new.into_iter().collect();
            let made = fill(&new, image).map_err(stopped)?;
            maps.extend(new.iter().map(|(print, _)| *print).zip(made));
            let sets: Vec<u32> = lot.iter().map(|(set, _)| *set).collect();
            let fds = prints.iter().filter_map(|print| maps.get(print));
            let fds: Vec<u32> = fds.map(|map| number(map.as_fd())).collect();
            self.maglev.put_many(&sets, &fds).map_err(|stopped| {
                let stopped = Stopped::from(stopped);
                Stopped {
                    done: done + stopped.done,
                    ..stopped
                }
            })?;
            self.known.extend(prints.into_iter().zip(sets));
        }
        if self.known.len() > 2 * (image.tables.len() + tables.len()) {
            let known = |print: &u64, set: &u32| {
                let table = image.tables.get(set);
                table.is_some_and(|table| image.fingerprint(table) == *print)
            };
            self.known.retain(|print, set| known(print, set));
        }
        Ok(())
    }

    /// The map that another set has, with this very table.
    fn shared(&self, print: u64, table: &Table, image: &MapImage) -> Option<OwnedFd> {
        let set = self.known.get(&print)?;
        image.tables.get(set).filter(|known| *known == table)?;
        let id = self.maglev.get::<u32, u32>(set).ok()??;
        kernel::map_by_id(id).ok()
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

fn fill(tables: &[(u64, &Table)], image: &MapImage) -> io::Result<Vec<OwnedFd>> {
    let make = |tables: &[(u64, &Table)]| -> io::Result<Vec<OwnedFd>> {
        tables
            .iter()
            .map(|(print, table)| inner(&image.fill(table), *print))
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
