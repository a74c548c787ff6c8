//! Deleting what programs remember in vain: at once what is of backends that are gone, and little by little what expired.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::AsFd as _;

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
        Ok(Self {
            maps: [
                open(Kind::Flows4, maps::FLOWS4)?,
                open(Kind::Flows6, maps::FLOWS6)?,
                open(Kind::Opening4, maps::OPENING4)?,
                open(Kind::Opening6, maps::OPENING6)?,
                open(Kind::Affinity4, maps::AFFINITY4)?,
                open(Kind::Affinity6, maps::AFFINITY6)?,
                open(Kind::Fragments4, maps::FRAGMENTS4)?,
                open(Kind::Fragments6, maps::FRAGMENTS6)?,
            ],
            at: 0,
            walk: None,
        })
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
        let mut walk = self.walk.take().unwrap_or_else(|| Walk::new(&map.info()));
        if step(*kind, map, &mut walk, &judge, &mut swept)? {
            self.walk = Some(walk);
        } else {
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
