//! Which backend serves a new flow.

use super::{Balanced, Tables};
use crate::config::{Affinity, AffinityKey, Config, Member};
use crate::flow::Tuple;
use crate::id::BackendId;
use crate::service::{Backend, Frontend, Selection, Set};

/// How many places are tried before a set counts as having no backend.
pub const ATTEMPTS: u32 = 4;

/// The backend of a new flow.
#[inline(always)]
pub fn choose<A: Balanced, T: Tables<A>>(
    now: u32,
    tuple: &Tuple<A>,
    frontend: &Frontend,
    set_index: u32,
    config: &Config,
    tables: &mut T,
) -> Option<Backend<A>> {
    let set = tables.set(set_index)?;
    if set.count() == 0 {
        return None;
    }
    if frontend.affinity == 0 {
        return select(tuple, tuple.source_port, frontend, set_index, set, config, tables);
    }
    let key = AffinityKey {
        client: tuple.source,
        service: frontend.service,
    };
    let known = tables.affinity(&key).filter(|known| {
        let member = Member {
            set: set_index,
            backend: known.backend,
        };
        known.used.saturating_add(frontend.affinity) > now && tables.is_member(&member)
    });
    let known = known.and_then(|known| {
        tables
            .backend(known.backend.index())
            .filter(|backend| backend.id == known.backend)
    });
    // Without the port in the hash, all connections of a client choose alike on every node.
    let backend = known.or_else(|| select(tuple, 0, frontend, set_index, set, config, tables))?;
    let affinity = Affinity {
        backend: backend.id,
        used: now,
    };
    tables.set_affinity(&key, &affinity);
    Some(backend)
}

#[inline(always)]
fn select<A: Balanced, T: Tables<A>>(
    tuple: &Tuple<A>,
    source_port: u16,
    frontend: &Frontend,
    set_index: u32,
    set: Set,
    config: &Config,
    tables: &mut T,
) -> Option<Backend<A>> {
    if Selection::from_number(frontend.selection) == Selection::Maglev {
        let hash = A::hash(tuple, source_port, config);
        for attempt in 0..ATTEMPTS {
            let place = hash.wrapping_add(attempt).checked_rem(config.maglev_size)?;
            if let Some(backend) = tables.maglev(set_index, place).and_then(|id| live(id, tables)) {
                return Some(backend);
            }
        }
    }
    let mut place = scaled(tables.random(), set.count());
    for _ in 0..ATTEMPTS {
        let slot = tables.slot(set.first().wrapping_add(place));
        if let Some(backend) = slot.and_then(|id| live(id, tables)) {
            return Some(backend);
        }
        place += 1;
        if place >= set.count() {
            place = 0;
        }
    }
    None
}

/// A number below `count`, as evenly as `random` is spread over all: a multiplication where a division takes far longer.
#[inline(always)]
fn scaled(random: u32, count: u32) -> u32 {
    crate::low32((u64::from(random) * u64::from(count)) >> 32)
}

/// The backend with this id, if it is still this one.
#[inline(always)]
pub(super) fn live<A: Balanced, T: Tables<A>>(id: BackendId, tables: &T) -> Option<Backend<A>> {
    tables
        .backend(id.index())
        .filter(|backend| !id.is_none() && backend.id == id)
}
