//! One lot of steps of one kind, into the map that they are about.

use std::mem::discriminant;

use ebpf_abi::config::PRESENT;
use ebpf_abi::plain::Plain;
use ebpf_abi::service::{Backend, Set};
use ebpf_abi::{Address, V4, V6};
use ebpf_datapath::diff::Op;
use ebpf_datapath::image::MapImage;

use super::Store;
use super::failure::Cause;
use crate::MapFd;
use crate::access;
use crate::mapped::Mapped;

/// The steps at the beginning that are of one kind; none if there is no step.
pub(super) fn lot(ops: &[Op]) -> Option<&[Op]> {
    ops.chunk_by(|a, b| discriminant(a) == discriminant(b)).next()
}

/// Whether a backend went.
pub(super) fn is_death(op: &Op) -> bool {
    matches!(op, Op::WriteBackend4 { place, backend } if !backend.id.lives_at(*place))
        || matches!(op, Op::WriteBackend6 { place, backend } if !backend.id.lives_at(*place))
}

/// A lot that did not come to its end.
#[derive(Debug)]
pub(super) struct Stopped {
    /// Steps that were carried out.
    pub(super) done: usize,
    pub(super) cause: Cause,
}

impl From<access::Stopped> for Stopped {
    fn from(stopped: access::Stopped) -> Self {
        Self {
            done: stopped.done,
            cause: Cause::Refused {
                call: stopped.call,
                source: stopped.source,
            },
        }
    }
}

/// What all steps of the lot have, which are of this form.
macro_rules! each {
    ($lot:expr, $step:pat => $value:expr) => {
        $lot.iter()
            .filter_map(|op| if let $step = op { Some($value) } else { None })
            .collect::<Vec<_>>()
    };
}

impl Store {
    /// `image` is what the maps hold before.
    pub(super) fn write(&mut self, lot: &[Op], image: &MapImage) -> Result<(), Stopped> {
        let Some(first) = lot.first() else { return Ok(()) };
        match first {
            Op::WriteFilter { .. }
            | Op::WriteBackend4 { .. }
            | Op::WriteBackend6 { .. }
            | Op::WriteSlots { .. }
            | Op::ForgetSlots { .. }
            | Op::WriteSet { .. }
            | Op::RemoveSet { .. }
            | Op::WriteLive { .. } => self.in_place(lot),
            Op::WriteConfig(_) => put(
                &self.config,
                &each!(lot, Op::WriteConfig(config) => (0_u32, *config)),
            ),
            Op::WriteNode { .. } => put(
                &self.nodes,
                &each!(lot, Op::WriteNode { place, node } => (*place, *node)),
            ),
            Op::AddRange4(_) => put(&self.ranges4, &each!(lot, Op::AddRange4(key) => (*key, PRESENT))),
            Op::AddRange6(_) => put(&self.ranges6, &each!(lot, Op::AddRange6(key) => (*key, PRESENT))),
            Op::RemoveRange4(_) => remove(&self.ranges4, &each!(lot, Op::RemoveRange4(key) => *key)),
            Op::RemoveRange6(_) => remove(&self.ranges6, &each!(lot, Op::RemoveRange6(key) => *key)),
            Op::AddMember(_) => put(
                &self.members,
                &each!(lot, Op::AddMember(member) => (*member, PRESENT)),
            ),
            Op::RemoveMember(_) => remove(&self.members, &each!(lot, Op::RemoveMember(member) => *member)),
            Op::WriteFrontend4 { .. } => put(
                &self.frontends4,
                &each!(lot, Op::WriteFrontend4 { key, frontend } => (*key, *frontend)),
            ),
            Op::WriteFrontend6 { .. } => put(
                &self.frontends6,
                &each!(lot, Op::WriteFrontend6 { key, frontend } => (*key, *frontend)),
            ),
            Op::RemoveFrontend4(_) => remove(&self.frontends4, &each!(lot, Op::RemoveFrontend4(key) => *key)),
            Op::RemoveFrontend6(_) => remove(&self.frontends6, &each!(lot, Op::RemoveFrontend6(key) => *key)),
            Op::WriteTable { .. } => {
                self.write_tables(&each!(lot, Op::WriteTable { set, table } => (*set, table)), image)
            }
            Op::RemoveTable { .. } => self.remove_tables(&each!(lot, Op::RemoveTable { set } => *set)),
            // Two in a row are one.
            Op::Wait => self.grace.wait().map_err(|source| Stopped {
                done: 0,
                cause: Cause::Refused {
                    call: "BPF_MAP_UPDATE_ELEM",
                    source,
                },
            }),
        }
    }

    /// Steps on arrays that are mapped.
    fn in_place(&self, lot: &[Op]) -> Result<(), Stopped> {
        for (done, op) in lot.iter().enumerate() {
            self.store(op).ok_or(Stopped {
                done,
                cause: Cause::Beyond,
            })?;
        }
        Ok(())
    }

    /// `None` if it is beyond the end of its map.
    fn store(&self, op: &Op) -> Option<()> {
        match op {
            Op::WriteFilter { word, bits } => self.filter.store_long(*word, *bits),
            Op::WriteBackend4 { place, backend } => store_backend::<V4>(&self.backends4, *place, backend),
            Op::WriteBackend6 { place, backend } => store_backend::<V6>(&self.backends6, *place, backend),
            Op::WriteSlots { first, ids } => {
                let places = *first..first.checked_add(u32::try_from(ids.len()).ok()?)?;
                if places.end > self.slots.entries() {
                    return None;
                }
                places
                    .zip(ids.iter())
                    .try_for_each(|(place, id)| self.slots.store_first(place, id.0))
            }
            Op::WriteSet { set, word } => self.sets.store_long(*set, word.0),
            Op::RemoveSet { set } => self.sets.store_long(*set, Set::default().0),
            Op::WriteLive { place, id } => self.live.store_first(*place, id.0),
            Op::ForgetSlots { .. }
            | Op::WriteConfig(_)
            | Op::WriteNode { .. }
            | Op::AddRange4(_)
            | Op::AddRange6(_)
            | Op::RemoveRange4(_)
            | Op::RemoveRange6(_)
            | Op::AddMember(_)
            | Op::RemoveMember(_)
            | Op::WriteFrontend4 { .. }
            | Op::WriteFrontend6 { .. }
            | Op::RemoveFrontend4(_)
            | Op::RemoveFrontend6(_)
            | Op::WriteTable { .. }
            | Op::RemoveTable { .. }
            | Op::Wait => Some(()),
        }
    }
}

/// Of a tombstone only the id counts. The rest stays as it was: a program may be reading it together with the old id.
fn store_backend<A: Address>(map: &Mapped, place: u32, backend: &Backend<A>) -> Option<()> {
    if backend.id.lives_at(place) {
        map.store(place, backend)
    } else {
        map.store_first(place, backend.id.0)
    }
}

fn put<K: Plain, V: Plain>(map: &MapFd, entries: &[(K, V)]) -> Result<(), Stopped> {
    let (keys, values): (Vec<K>, Vec<V>) = entries.iter().copied().unzip();
    Ok(map.put_many(&keys, &values)?)
}

fn remove<K: Plain>(map: &MapFd, keys: &[K]) -> Result<(), Stopped> {
    Ok(map.remove_many(keys)?)
}
