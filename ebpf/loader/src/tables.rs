//! The maps as plain tables, for people who look and for decisions asked outside the kernel.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::AsFd as _;

use ebpf_abi::balance::Balanced;
use ebpf_abi::config::{Device, Node};
use ebpf_abi::maps::{self, Maps};
use ebpf_abi::model::Model;
use ebpf_abi::plain::{Plain, from_octets};
use ebpf_abi::service::Set;
use ebpf_abi::{BackendId, V4, V6};

use crate::kernel::{self, Batch, Command, address_mut, bpf, number};
use crate::pinned::Pinned;
use crate::{Error, MapFd};

/// A family with its maps, whose addresses people can read.
pub trait Pins: Balanced + Maps {
    /// The address as everybody writes it.
    fn ip(self) -> IpAddr;
    /// The address, if it is of this family.
    fn of(address: IpAddr) -> Option<Self>;
}

impl Pins for V4 {
    fn ip(self) -> IpAddr {
        IpAddr::V4(self.into())
    }

    fn of(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(address) => Some(address.into()),
            IpAddr::V6(_) => None,
        }
    }
}

impl Pins for V6 {
    fn ip(self) -> IpAddr {
        IpAddr::V6(self.into())
    }

    fn of(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V6(address) => Some(address.into()),
            IpAddr::V4(_) => None,
        }
    }
}

/// Everything an agent writes for a family, but for the tables of Maglev, which are large: [`table`] reads one. What programs
/// write is not read: `flows` and the like are empty.
pub fn read<A: Pins>(pinned: &Pinned) -> Result<Model<A>, Error> {
    let config = pinned.map(maps::CONFIG)?.get(&0_u32)?.unwrap_or_default();
    Ok(Model {
        config,
        filter: all(pinned, maps::FILTER, |_, bits: &u64| *bits != 0)?,
        frontends: all(pinned, A::FRONTENDS, |_, _| true)?,
        live_frontends: all(pinned, maps::LIVE_FRONTENDS, |_, id: &ebpf_abi::FrontendId| {
            !id.is_none()
        })?,
        sets: all(pinned, maps::SETS, |_, set: &Set| *set != Set::default())?,
        slots: all(pinned, maps::SLOTS, |_, id: &BackendId| !id.is_none())?,
        backends: all(
            pinned,
            A::BACKENDS,
            |place: &u32, backend: &ebpf_abi::service::Backend<A>| backend.id.lives_at(*place),
        )?,
        members: all(pinned, maps::MEMBERS, |_, _| true)?,
        ranges: all(pinned, A::RANGES, |_, _| true)?,
        devices: all(pinned, maps::DEVICES, |_, device: &Device| {
            *device != Device::default()
        })?,
        nodes: all(pinned, maps::NODES, |_, node: &Node| *node != Node::default())?,
        ..Model::default()
    })
}

/// The Maglev table of a set; empty if it has none.
pub fn table(pinned: &Pinned, set: u32, size: u32) -> Result<Vec<BackendId>, Error> {
    let Some(id) = pinned.map(maps::MAGLEV)?.get::<u32, u32>(&set)? else {
        return Ok(Vec::new());
    };
    let failed = |call| {
        move |source| Error::Access {
            map: maps::MAGLEV.name,
            call,
            source,
        }
    };
    let inner = kernel::map_by_id(id).map_err(failed("BPF_MAP_GET_FD_BY_ID"))?;
    let info = kernel::info(inner.as_fd()).map_err(failed("BPF_OBJ_GET_INFO_BY_FD"))?;
    let (value, count) = (info.value_size as usize, info.entries as usize);
    let (mut keys, mut values) = (vec![0_u32; count], vec![0_u8; value * count]);
    let mut place = [0_u64];
    let mut batch = Batch {
        to: address_mut(&mut place),
        keys: address_mut(&mut keys),
        values: address_mut(&mut values),
        count: info.entries,
        map: number(inner.as_fd()),
        ..Batch::default()
    };
    match bpf(Command::LookupBatch, &mut batch) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            return Err(failed("BPF_MAP_LOOKUP_BATCH")(source));
        }
        Ok(_) | Err(_) => {}
    }
    // However many ids lie in an element, they follow each other.
    let ids = values
        .chunks_exact(4)
        .filter_map(from_octets::<u32>)
        .map(BackendId);
    Ok(ids.take(size as usize).collect())
}

/// The number that the kernel gave a map.
pub fn id(pinned: &Pinned, map: maps::Map) -> Result<u32, Error> {
    let failed = |call| {
        move |source| Error::Access {
            map: map.name,
            call,
            source,
        }
    };
    let fd = kernel::open(&pinned.folder().join("maps").join(map.name)).map_err(failed("BPF_OBJ_GET"))?;
    let info = kernel::info(fd.as_fd()).map_err(failed("BPF_OBJ_GET_INFO_BY_FD"))?;
    Ok(info.id)
}

/// How many elements a hash or a tree has, whatever they are.
pub fn count(pinned: &Pinned, map: maps::Map) -> Result<usize, Error> {
    let failed = |call| {
        move |source| Error::Access {
            map: map.name,
            call,
            source,
        }
    };
    let fd = kernel::open(&pinned.folder().join("maps").join(map.name)).map_err(failed("BPF_OBJ_GET"))?;
    let room = kernel::info(fd.as_fd())
        .map_err(failed("BPF_OBJ_GET_INFO_BY_FD"))?
        .entries
        .clamp(1, 4096);
    let (mut keys, mut values) = (
        vec![0_u8; map.key_size as usize * room as usize],
        vec![0_u8; map.value_size as usize * room as usize],
    );
    // The kernel's place to go on from: a key, or a bucket's number.
    let (mut token, mut next) = ([0_u64; 8], [0_u64; 8]);
    let (mut count, mut started) = (0, false);
    loop {
        let mut batch = Batch {
            from: if started { address_mut(&mut token) } else { 0 },
            to: address_mut(&mut next),
            keys: address_mut(&mut keys),
            values: address_mut(&mut values),
            count: room,
            map: number(fd.as_fd()),
            ..Batch::default()
        };
        let done = match bpf(Command::LookupBatch, &mut batch) {
            Ok(_) => false,
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => true,
            Err(source) => return Err(failed("BPF_MAP_LOOKUP_BATCH")(source)),
        };
        count += batch.count as usize;
        if done {
            return Ok(count);
        }
        std::mem::swap(&mut token, &mut next);
        started = true;
    }
}

/// All elements of a map that are wanted.
fn all<K: Plain + Ord, V: Plain>(
    pinned: &Pinned,
    map: maps::Map,
    wanted: impl Fn(&K, &V) -> bool,
) -> Result<BTreeMap<K, V>, Error> {
    let map: MapFd = pinned.map(map)?;
    let elements = map.all::<K, V>()?;
    Ok(elements
        .into_iter()
        .filter(|(key, value)| wanted(key, value))
        .collect())
}
