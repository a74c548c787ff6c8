//! Deleting what programs remember in vain: at once what is of backends that are gone, and little by little what expired.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use ebpf_abi::maps;
use ebpf_abi::plain::{Plain, from_octets};
use ebpf_abi::{V4, V6};
use ebpf_datapath::image::MapImage;
use ebpf_datapath::sweep::{Judge, Worthless};

use crate::walk::Walk;
use crate::{Datapath, Error, MapFd};

/// The maps that programs write.
#[derive(Debug)]
pub struct Sweeper {
    maps: [(Kind, MapFd); 8],
    /// The map that is swept now, and how far.
    at: usize,
    walk: Option<Walk>,
    /// Entries that were left on the way.
    left: usize,
    fills: Arc<[Fill]>,
}

/// How full a map is. The kernel does not say it; it is counted whenever the sweep has been through all of it.
#[derive(Debug)]
pub struct Fill {
    pub map: &'static str,
    /// How many entries have room.
    pub entries: u32,
    used: AtomicU32,
}

impl Fill {
    /// Entries at the last count.
    pub fn used(&self) -> u32 {
        self.used.load(Ordering::Relaxed)
    }
}

/// What was looked at, and what was deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    pub seen: usize,
    pub deleted: BTreeMap<Worthless, usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Flows4,
    Flows6,
    Opening4,
    Opening6,
    Affinity4,
    Affinity6,
    Fragments4,
    Fragments6,
}

impl Sweeper {
    /// Over the maps of these programs.
    pub fn open(datapath: &Datapath) -> Result<Self, Error> {
        let open = |kind, map| Ok::<_, Error>((kind, datapath.map(map)?));
        let maps = [
            open(Kind::Flows4, maps::FLOWS4)?,
            open(Kind::Flows6, maps::FLOWS6)?,
            open(Kind::Opening4, maps::OPENING4)?,
            open(Kind::Opening6, maps::OPENING6)?,
            open(Kind::Affinity4, maps::AFFINITY4)?,
            open(Kind::Affinity6, maps::AFFINITY6)?,
            open(Kind::Fragments4, maps::FRAGMENTS4)?,
            open(Kind::Fragments6, maps::FRAGMENTS6)?,
        ];
        let fill = |(_, map): &(Kind, MapFd)| Fill {
            map: map.name(),
            entries: map.info().entries,
            used: AtomicU32::default(),
        };
        Ok(Self {
            fills: maps.iter().map(fill).collect(),
            maps,
            at: 0,
            walk: None,
            left: 0,
        })
    }

    /// How full the maps are; to be looked at at any time.
    pub fn fills(&self) -> Arc<[Fill]> {
        Arc::clone(&self.fills)
    }

    /// Goes through everything: to be called when a backend went ([`crate::Done::deaths`]), so that a pod that gets its
    /// address begins with nothing. `now` are seconds of the clock of the programs, [`crate::clock`].
    pub fn sweep(&self, image: &MapImage, now: u32) -> Result<Swept, Error> {
        self.sweep_all(&Judge::new(image, now))
    }

    /// The same, and flows whose packets left with addresses that this node had until now.
    pub fn sweep_without(&self, image: &MapImage, now: u32, gone: BTreeSet<IpAddr>) -> Result<Swept, Error> {
        self.sweep_all(&Judge::new(image, now).without(gone))
    }

    fn sweep_all(&self, judge: &Judge<'_>) -> Result<Swept, Error> {
        let mut swept = Swept::default();
        for (kind, map) in &self.maps {
            let mut walk = Walk::new(&map.info());
            while step(*kind, map, &mut walk, judge, &mut swept)? {}
        }
        Ok(swept)
    }

    /// Looks at some thousand entries, and goes on there the next time. To be called every now and then.
    pub fn sweep_some(&mut self, image: &MapImage, now: u32) -> Result<Swept, Error> {
        let judge = Judge::new(image, now);
        let mut swept = Swept::default();
        let Some((kind, map)) = self.maps.get(self.at) else {
            return Ok(swept);
        };
        let mut walk = match self.walk.take() {
            Some(walk) => walk,
            None => {
                self.left = 0;
                Walk::new(&map.info())
            }
        };
        let more = step(*kind, map, &mut walk, &judge, &mut swept)?;
        self.left += swept.seen - swept.deleted.values().sum::<usize>();
        if more {
            self.walk = Some(walk);
        } else {
            if let Some(fill) = self.fills.get(self.at) {
                let left = u32::try_from(self.left).unwrap_or(u32::MAX);
                fill.used.store(left, Ordering::Relaxed);
            }
            self.at = (self.at + 1) % self.maps.len();
        }
        Ok(swept)
    }
}

/// Whether there is more.
fn step(
    kind: Kind,
    map: &MapFd,
    walk: &mut Walk,
    judge: &Judge<'_>,
    swept: &mut Swept,
) -> Result<bool, Error> {
    match kind {
        Kind::Flows4 | Kind::Opening4 => delete(map, walk, swept, |_: &ebpf_abi::flow::Tuple<V4>, flow| {
            judge.flow4(flow)
        }),
        Kind::Flows6 | Kind::Opening6 => delete(map, walk, swept, |_: &ebpf_abi::flow::Tuple<V6>, flow| {
            judge.flow6(flow)
        }),
        Kind::Affinity4 => delete(map, walk, swept, |key, affinity| judge.affinity4(key, affinity)),
        Kind::Affinity6 => delete(map, walk, swept, |key, affinity| judge.affinity6(key, affinity)),
        Kind::Fragments4 => delete(map, walk, swept, |_: &ebpf_abi::flow::FragmentKey<V4>, ports| {
            judge.fragment(ports)
        }),
        Kind::Fragments6 => delete(map, walk, swept, |_: &ebpf_abi::flow::FragmentKey<V6>, ports| {
            judge.fragment(ports)
        }),
    }
}

fn delete<K: Plain, V: Plain>(
    map: &MapFd,
    walk: &mut Walk,
    swept: &mut Swept,
    judge: impl Fn(&K, &V) -> Option<Worthless>,
) -> Result<bool, Error> {
    let chunk = walk.next(map.fd().as_fd());
    let Some(chunk) = chunk.map_err(|lost| map.lost(lost))? else {
        return Ok(false);
    };
    let keys = chunk.keys.chunks_exact(size_of::<K>());
    for (key, value) in keys.zip(chunk.values.chunks_exact(size_of::<V>())) {
        swept.seen += 1;
        let (Some(key), Some(value)) = (from_octets::<K>(key), from_octets::<V>(value)) else {
            continue;
        };
        if judge(&key, &value).is_none() {
            continue;
        }
        // A program may have written it anew since the chunk was read.
        let Some(value) = map.get::<K, V>(&key)? else {
            continue;
        };
        if let Some(why) = judge(&key, &value) {
            map.remove(&key)?;
            *swept.deleted.entry(why).or_default() += 1;
        }
    }
    Ok(true)
}
