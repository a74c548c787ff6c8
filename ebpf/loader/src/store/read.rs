//! What the maps hold, as the image that the next step begins with.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd as _, AsRawFd as _};

use ebpf_abi::FrontendId;
use ebpf_abi::config::Config;
use ebpf_abi::maglev::Seeds;
use ebpf_abi::plain::Plain;
use ebpf_abi::service::{Backend, Set};
use ebpf_datapath::image::MapImage;

use super::Store;
use super::tables::BLANK;
use crate::mapped::Mapped;
use crate::{Error, MapFd, kernel};

impl Store {
    /// Reads everything back. An image that nothing was written for since is the one that was carried out, so a start
    /// with the same wishes writes nothing. The seeds are those that tables are to be filled with.
    pub fn read(&self, seeds: &Seeds) -> Result<MapImage, Error> {
        let mut image = MapImage {
            config: self.config.get(&0_u32)?.unwrap_or_else(Config::default),
            filter: (0..)
                .zip(longs(&self.filter))
                .filter(|(_, bits)| *bits != 0)
                .collect(),
            frontends4: all(&self.frontends4)?,
            frontends6: all(&self.frontends6)?,
            live_frontends: elements(&self.live, |id: &FrontendId| !id.is_none()),
            sets: (0..)
                .zip(longs(&self.sets).map(Set))
                .filter(|(_, set)| *set != Set::default())
                .collect(),
            backends4: elements(&self.backends4, |backend: &Backend<_>| !backend.id.is_none()),
            backends6: elements(&self.backends6, |backend: &Backend<_>| !backend.id.is_none()),
            members: keys::<_, u32>(&self.members)?,
            ranges4: keys::<_, u32>(&self.ranges4)?,
            ranges6: keys::<_, u32>(&self.ranges6)?,
            nodes: all(&self.nodes)?,
            ..MapImage::default()
        };
        // Of a tombstone only the id counts.
        for (place, backend) in &mut image.backends4 {
            strip(*place, backend);
        }
        for (place, backend) in &mut image.backends6 {
            strip(*place, backend);
        }
        let tables = self.fingerprints()?;
        image.adopt(
            |slot| self.slots.load(slot),
            &tables.keys().copied().collect(),
            seeds,
        );
        let unknown: Vec<u32> = image
            .tables
            .iter()
            .filter(|(set, table)| tables.get(set) != Some(&image.fingerprint(table)))
            .map(|(set, _)| *set)
            .collect();
        for set in unknown {
            // It was filled from something else, whatever it was: by other seeds, or for a set that was never written.
            if let Some(table) = image.tables.get_mut(&set) {
                table.size = 0;
            }
        }
        Ok(image)
    }

    /// What the tables that are there were filled from.
    fn fingerprints(&self) -> Result<BTreeMap<u32, u64>, Error> {
        let mut found = BTreeMap::new();
        for (set, id) in self.maglev.all::<u32, u32>()? {
            let failed = |call| {
                move |source| Error::Access {
                    map: "MAGLEV",
                    call,
                    source,
                }
            };
            let map = kernel::map_by_id(id).map_err(failed("BPF_MAP_GET_FD_BY_ID"))?;
            let info = kernel::info(map.as_fd()).map_err(failed("BPF_OBJ_GET_INFO_BY_FD"))?;
            if info.entries == BLANK {
                continue;
            }
            let elements =
                Mapped::of(map.as_raw_fd(), info.value_size, info.entries).map_err(failed("mmap"))?;
            let fingerprint = info
                .entries
                .checked_sub(1)
                .and_then(|last| elements.load_long(last));
            found.insert(set, fingerprint.unwrap_or(0));
        }
        Ok(found)
    }
}

fn strip<A: Default>(place: u32, backend: &mut Backend<A>) {
    if !backend.id.lives_at(place) {
        let id = backend.id;
        *backend = Backend {
            id,
            ..Backend::default()
        };
    }
}

fn longs(map: &Mapped) -> impl Iterator<Item = u64> {
    (0..map.entries()).filter_map(|place| map.load_long(place))
}

fn elements<V: Plain>(map: &Mapped, wanted: impl Fn(&V) -> bool) -> BTreeMap<u32, V> {
    (0..map.entries())
        .filter_map(|place| Some((place, map.load(place)?)))
        .filter(|(_, value)| wanted(value))
        .collect()
}

fn all<K: Plain + Ord, V: Plain>(map: &MapFd) -> Result<BTreeMap<K, V>, Error> {
    Ok(map.all()?.into_iter().collect())
}

fn keys<K: Plain + Ord, V: Plain>(map: &MapFd) -> Result<BTreeSet<K>, Error> {
    Ok(map.all::<K, V>()?.into_iter().map(|(key, _)| key).collect())
}
