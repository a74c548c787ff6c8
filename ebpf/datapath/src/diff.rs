//! The way from one image to another, in steps none of which leaves a reader with a dangling id.
//!
//! The order is the one that `ebpf_abi::maps` prescribes: everything that is referred to is written before what refers to
//! it, and goes after it. [`Op::Wait`] is an RCU grace period: after it, no program runs that read what was there before.
//!
//! A step that fails ends the sequence. What was applied until then is an image too, and the next difference begins there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ebpf_abi::config::{Config, Member, Node, RangeKey};
use ebpf_abi::service::{Backend, Frontend, FrontendKey, Set};
use ebpf_abi::{BackendId, FrontendId, V4, V6};

use crate::image::{MapImage, Table};

/// A step. Zero values of arrays (filter, nodes, backends, ids) mean that there is nothing any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    WriteConfig(Config),
    WriteFilter {
        word: u32,
        bits: u64,
    },
    WriteNode {
        place: u32,
        node: Node,
    },
    WriteBackend4 {
        place: u32,
        backend: Backend<V4>,
    },
    WriteBackend6 {
        place: u32,
        backend: Backend<V6>,
    },
    AddRange4(RangeKey<V4>),
    AddRange6(RangeKey<V6>),
    RemoveRange4(RangeKey<V4>),
    RemoveRange6(RangeKey<V6>),
    /// No set points there yet.
    WriteSlots {
        first: u32,
        ids: Arc<[BackendId]>,
    },
    /// Nothing is written: the slots are free now.
    ForgetSlots {
        first: u32,
    },
    /// A new inner map, filled by [`MapImage::fill`] of the wished image, or of one with all earlier steps
    /// applied.
    WriteTable {
        set: u32,
        table: Table,
    },
    RemoveTable {
        set: u32,
    },
    AddMember(Member),
    RemoveMember(Member),
    WriteSet {
        set: u32,
        word: Set,
    },
    /// The word becomes zero.
    RemoveSet {
        set: u32,
    },
    WriteLive {
        place: u32,
        id: FrontendId,
    },
    WriteFrontend4 {
        key: FrontendKey<V4>,
        frontend: Frontend,
    },
    WriteFrontend6 {
        key: FrontendKey<V6>,
        frontend: Frontend,
    },
    RemoveFrontend4(FrontendKey<V4>),
    RemoveFrontend6(FrontendKey<V6>),
    Wait,
}

/// All steps from what is applied to what is wished; none if they are equal.
pub fn diff(applied: &MapImage, wished: &MapImage) -> Vec<Op> {
    let filter = changes(&applied.filter, &wished.filter);
    let nodes = changes(&applied.nodes, &wished.nodes);
    let backends4 = changes(&applied.backends4, &wished.backends4);
    let backends6 = changes(&applied.backends6, &wished.backends6);
    let slots = changes(&applied.slots, &wished.slots);
    let tables = changes(&applied.tables, &wished.tables);
    let sets = changes(&applied.sets, &wished.sets);
    let live = changes(&applied.live_frontends, &wished.live_frontends);
    let frontends4 = changes(&applied.frontends4, &wished.frontends4);
    let frontends6 = changes(&applied.frontends6, &wished.frontends6);

    let mut ops = Vec::new();
    for (word, bits) in &filter.written {
        let bits = applied.filter.get(word).copied().unwrap_or(0) | **bits;
        if applied.filter.get(word) != Some(&bits) {
            ops.push(Op::WriteFilter { word: *word, bits });
        }
    }
    ops.extend(nodes.written(|place, node| Op::WriteNode { place, node: *node }));
    let lives = |place: &u32, id: BackendId| id.lives_at(*place);
    ops.extend(
        backends4
            .only(|place, backend| lives(place, backend.id))
            .map(write_backend4),
    );
    ops.extend(
        backends6
            .only(|place, backend| lives(place, backend.id))
            .map(write_backend6),
    );
    ops.extend(
        wished
            .ranges4
            .difference(&applied.ranges4)
            .copied()
            .map(Op::AddRange4),
    );
    ops.extend(
        wished
            .ranges6
            .difference(&applied.ranges6)
            .copied()
            .map(Op::AddRange6),
    );
    ops.extend(slots.written(|first, ids| Op::WriteSlots {
        first,
        ids: ids.clone(),
    }));
    ops.extend(tables.written(|set, table| Op::WriteTable {
        set,
        table: table.clone(),
    }));
    ops.extend(
        wished
            .members
            .difference(&applied.members)
            .copied()
            .map(Op::AddMember),
    );
    ops.extend(sets.written(|set, word| Op::WriteSet { set, word: *word }));
    ops.extend(
        live.only(|place, id| id.lives_at(*place))
            .map(|(place, id)| Op::WriteLive { place, id: *id }),
    );
    ops.extend(frontends4.written(|key, frontend| Op::WriteFrontend4 {
        key,
        frontend: *frontend,
    }));
    ops.extend(frontends6.written(|key, frontend| Op::WriteFrontend6 {
        key,
        frontend: *frontend,
    }));
    if applied.config != wished.config {
        ops.push(Op::WriteConfig(wished.config));
    }

    ops.extend(frontends4.removed.iter().copied().map(Op::RemoveFrontend4));
    ops.extend(frontends6.removed.iter().copied().map(Op::RemoveFrontend6));
    ops.extend(
        live.only(|place, id| !id.lives_at(*place))
            .map(|(place, id)| Op::WriteLive { place, id: *id }),
    );
    ops.extend(live.removed.iter().map(|place| Op::WriteLive {
        place: *place,
        id: FrontendId::NONE,
    }));

    // Programs may hold a frontend or a set that was replaced above.
    let mut unused: Vec<Op> = sets
        .removed
        .iter()
        .map(|set| Op::RemoveSet { set: *set })
        .collect();
    unused.extend(tables.removed.iter().map(|set| Op::RemoveTable { set: *set }));
    unused.extend(removed(&applied.members, &wished.members).map(Op::RemoveMember));
    unused.extend(removed(&applied.ranges4, &wished.ranges4).map(Op::RemoveRange4));
    unused.extend(removed(&applied.ranges6, &wished.ranges6).map(Op::RemoveRange6));
    unused.extend(
        backends4
            .only(|place, backend| !lives(place, backend.id))
            .map(write_backend4),
    );
    unused.extend(
        backends6
            .only(|place, backend| !lives(place, backend.id))
            .map(write_backend6),
    );
    unused.extend(
        backends4
            .removed
            .iter()
            .map(|place| write_backend4((*place, &Backend::default()))),
    );
    unused.extend(
        backends6
            .removed
            .iter()
            .map(|place| write_backend6((*place, &Backend::default()))),
    );
    unused.extend(nodes.removed.iter().map(|place| Op::WriteNode {
        place: *place,
        node: Node::default(),
    }));
    unused.extend(
        slots
            .removed
            .iter()
            .map(|first| Op::ForgetSlots { first: *first }),
    );
    wait_then(&mut ops, unused);

    // Flows of what was just removed are over for every program only now.
    let mut unwatched = Vec::new();
    for (word, bits) in filter.written {
        if applied.filter.get(&word).is_some_and(|old| old | bits != *bits) {
            unwatched.push(Op::WriteFilter { word, bits: *bits });
        }
    }
    unwatched.extend(
        filter
            .removed
            .into_iter()
            .map(|word| Op::WriteFilter { word, bits: 0 }),
    );
    if ends_with_removal(&ops) || !unwatched.is_empty() {
        ops.push(Op::Wait);
        ops.extend(unwatched);
    }
    ops
}

/// Whether something was taken away after the last grace period, whose place may be given away after the next one.
fn ends_with_removal(ops: &[Op]) -> bool {
    ops.iter()
        .rev()
        .take_while(|op| **op != Op::Wait)
        .any(|op| match op {
            Op::WriteBackend4 { place, backend } => !backend.id.lives_at(*place),
            Op::WriteBackend6 { place, backend } => !backend.id.lives_at(*place),
            Op::RemoveSet { .. } | Op::RemoveTable { .. } => true,
            Op::RemoveRange4(_) | Op::RemoveRange6(_) | Op::RemoveMember(_) => true,
            Op::WriteNode { node, .. } => *node == Node::default(),
            Op::WriteLive { place, id } => !id.lives_at(*place),
            Op::WriteConfig(_)
            | Op::WriteFilter { .. }
            | Op::AddRange4(_)
            | Op::AddRange6(_)
            | Op::WriteSlots { .. }
            | Op::ForgetSlots { .. }
            | Op::WriteTable { .. }
            | Op::AddMember(_)
            | Op::WriteSet { .. }
            | Op::WriteFrontend4 { .. }
            | Op::WriteFrontend6 { .. }
            | Op::RemoveFrontend4(_)
            | Op::RemoveFrontend6(_)
            | Op::Wait => false,
        })
}

fn wait_then(ops: &mut Vec<Op>, then: Vec<Op>) {
    if !then.is_empty() {
        ops.push(Op::Wait);
        ops.extend(then);
    }
}

fn write_backend4((place, backend): (u32, &Backend<V4>)) -> Op {
    Op::WriteBackend4 {
        place,
        backend: *backend,
    }
}

fn write_backend6((place, backend): (u32, &Backend<V6>)) -> Op {
    Op::WriteBackend6 {
        place,
        backend: *backend,
    }
}

fn removed<'a, T: Ord + Copy>(
    old: &'a BTreeSet<T>,
    new: &'a BTreeSet<T>,
) -> impl Iterator<Item = T> + use<'a, T> {
    old.difference(new).copied()
}

struct Changes<'a, K, V> {
    /// New, or other than before.
    written: Vec<(K, &'a V)>,
    removed: Vec<K>,
}

impl<'a, K: Copy, V> Changes<'a, K, V> {
    fn written(&self, op: impl Fn(K, &V) -> Op) -> impl Iterator<Item = Op> {
        self.written.iter().map(move |(key, value)| op(*key, value))
    }

    fn only(&self, wanted: impl Fn(&K, &V) -> bool) -> impl Iterator<Item = (K, &'a V)> {
        self.written
            .iter()
            .filter(move |(key, value)| wanted(key, value))
            .copied()
    }
}

/// Walks both maps at once.
fn changes<'a, K: Ord + Copy, V: PartialEq>(
    old: &BTreeMap<K, V>,
    new: &'a BTreeMap<K, V>,
) -> Changes<'a, K, V> {
    let mut changes = Changes {
        written: Vec::new(),
        removed: Vec::new(),
    };
    let mut old = old.iter().peekable();
    for (key, value) in new {
        while let Some((gone, _)) = old.next_if(|(old, _)| *old < key) {
            changes.removed.push(*gone);
        }
        let known = old.next_if(|(old, _)| *old == key);
        if known.is_none_or(|(_, known)| known != value) {
            changes.written.push((*key, value));
        }
    }
    changes.removed.extend(old.map(|(gone, _)| *gone));
    changes
}

/// Takes one step; what the loader does to the maps, done to an image.
pub fn apply(op: &Op, image: &mut MapImage) {
    match op {
        Op::WriteConfig(config) => image.config = *config,
        Op::WriteFilter { word, bits } => put(&mut image.filter, *word, *bits),
        Op::WriteNode { place, node } => put(&mut image.nodes, *place, *node),
        Op::WriteBackend4 { place, backend } => put(&mut image.backends4, *place, *backend),
        Op::WriteBackend6 { place, backend } => put(&mut image.backends6, *place, *backend),
        Op::AddRange4(key) => {
            image.ranges4.insert(*key);
        }
        Op::AddRange6(key) => {
            image.ranges6.insert(*key);
        }
        Op::RemoveRange4(key) => {
            image.ranges4.remove(key);
        }
        Op::RemoveRange6(key) => {
            image.ranges6.remove(key);
        }
        Op::WriteSlots { first, ids } => {
            image.slots.insert(*first, ids.clone());
        }
        Op::ForgetSlots { first } => {
            image.slots.remove(first);
        }
        Op::WriteTable { set, table } => {
            image.tables.insert(*set, table.clone());
        }
        Op::RemoveTable { set } => {
            image.tables.remove(set);
        }
        Op::AddMember(member) => {
            image.members.insert(*member);
        }
        Op::RemoveMember(member) => {
            image.members.remove(member);
        }
        Op::WriteSet { set, word } => {
            image.sets.insert(*set, *word);
        }
        Op::RemoveSet { set } => {
            image.sets.remove(set);
        }
        Op::WriteLive { place, id } => put(&mut image.live_frontends, *place, *id),
        Op::WriteFrontend4 { key, frontend } => {
            image.frontends4.insert(*key, *frontend);
        }
        Op::WriteFrontend6 { key, frontend } => {
            image.frontends6.insert(*key, *frontend);
        }
        Op::RemoveFrontend4(key) => {
            image.frontends4.remove(key);
        }
        Op::RemoveFrontend6(key) => {
            image.frontends6.remove(key);
        }
        Op::Wait => {}
    }
}

/// Arrays have no absence: zero is nothing.
fn put<V: Default + PartialEq>(map: &mut BTreeMap<u32, V>, key: u32, value: V) {
    if value == V::default() {
        map.remove(&key);
    } else {
        map.insert(key, value);
    }
}
