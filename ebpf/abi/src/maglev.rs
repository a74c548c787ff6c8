//! Maglev tables (NSDI 2016, 3.4) as Cilium fills them, element for element: nodes of both kinds in one cluster must send a
//! client to the same backend.
//!
//! A table is filled in user space and read by programs. Filling needs 32 octets per backend instead of a permutation
//! of the whole table: each backend's walk is computed as it goes.

use crate::hash::murmur3;
use crate::id::BackendId;

/// Lengths a table may have; all primes, so that every walk visits every place.
pub const SIZES: [u32; 10] = [251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521, 131_071];

/// Weight of a backend that was given none.
pub const DEFAULT_WEIGHT: u32 = 100;

/// How many elements the inner map of a table has. Each holds two places, as the kernel lets elements begin at multiples of
/// eight octets. The last one is not read by programs: it says what the table was filled from.
pub const fn elements(size: u32) -> u32 {
    size.div_ceil(2) + 1
}

/// The element that a place is in; in its first half if the place is even.
#[inline(always)]
pub const fn element(place: u32) -> u32 {
    place / 2
}

/// When no more places than this are free, a walker computes which of them it meets first. The few last places would cost
/// it half of all steps.
const FEW: usize = 64;

/// The three seeds that all nodes of a cluster share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seeds {
    pub table: u32,
    pub v4: u32,
    pub v6: u32,
}

impl Seeds {
    /// From the 12 octets that the setting `bpf-lb-maglev-hash-seed` holds in base64.
    pub fn from_octets(octets: [u8; 12]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = octets;
        Self {
            table: u32::from_be_bytes([a, b, c, d]),
            v4: u32::from_be_bytes([e, f, g, h]),
            v6: u32::from_be_bytes([i, j, k, l]),
        }
    }
}

impl Default for Seeds {
    /// `JLfvgnHc2kaSUFaI`.
    fn default() -> Self {
        Self::from_octets([
            0x24, 0xb7, 0xef, 0x82, 0x71, 0xdc, 0xda, 0x46, 0x92, 0x50, 0x56, 0x88,
        ])
    }
}

/// A backend on its walk through a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walker {
    id: BackendId,
    weight: u64,
    /// Where it tries next, and how far it goes from there.
    place: u32,
    skip: u32,
    /// Times `skip` it is 1, modulo the length of the table; 0 = not computed yet.
    inverse: u32,
    /// With weights: places that must be full before it may take its next one.
    due: u64,
}

impl Walker {
    /// `name` is the text all nodes agree on: `[10.0.0.1:80/TCP,State:active]`. Walkers must be sorted by it.
    ///
    /// `None` if `size` is none of [`SIZES`].
    pub fn new(id: BackendId, weight: u32, name: &[u8], size: u32, seeds: &Seeds) -> Option<Self> {
        if !SIZES.contains(&size) {
            return None;
        }
        let (h1, h2) = murmur3(name, seeds.table);
        let rest = |hash: u64, size: u32| u32::try_from(hash % u64::from(size)).unwrap_or(0);
        Some(Self {
            id,
            weight: u64::from(weight),
            place: rest(h1, size),
            skip: rest(h2, size - 1) + 1,
            inverse: 0,
            due: 0,
        })
    }

    /// The next place of its walk.
    fn walk(&mut self, size: u32) -> u32 {
        let here = self.place;
        self.leave(here, size);
        here
    }

    fn leave(&mut self, here: u32, size: u32) {
        // Both are below `size`, which is far from overflowing.
        let next = here + self.skip;
        self.place = if next >= size { next - size } else { next };
    }

    /// How many steps it is from `place`. As the length is a prime, there is exactly one number below it.
    fn steps_to(&self, place: u32, size: u32) -> u64 {
        let ahead = if place >= self.place {
            place - self.place
        } else {
            place + size - self.place
        };
        u64::from(ahead) * u64::from(self.inverse) % u64::from(size)
    }
}

/// Fills a table. Its length must be the `size` the walkers were made for. Without walkers it is left as it is.
pub fn fill(table: &mut [BackendId], walkers: &mut [Walker]) {
    let Ok(count) = u64::try_from(walkers.len()) else {
        return;
    };
    let Ok(size) = u32::try_from(table.len()) else {
        return;
    };
    let sum: u64 = walkers.iter().map(|walker| walker.weight).sum();
    let Some(mean) = sum.checked_div(count) else {
        return;
    };
    let weighted = mean > 1;
    for walker in &mut *walkers {
        walker.due = walker.weight / count;
    }
    table.fill(BackendId::NONE);
    let mut few = Few::default();
    let mut free = table.len();
    let mut turn = 0;
    for full in 1..=u64::from(size) {
        if free == FEW {
            few.find(table);
        }
        free -= 1;
        let mut at = turn;
        loop {
            let Some(walker) = walkers.get_mut(at) else {
                return;
            };
            if weighted && full * walker.weight < walker.due {
                at = if at + 1 == walkers.len() { 0 } else { at + 1 };
                continue;
            }
            match few.left {
                0 => take(table, walker, size),
                _ => few.take(table, walker, size),
            }
            walker.due += sum;
            break;
        }
        turn = if turn + 1 == walkers.len() { 0 } else { turn + 1 };
    }
}

/// Gives the walker the first free place of its walk. There is one: a walk visits all, and not all are full.
fn take(table: &mut [BackendId], walker: &mut Walker, size: u32) {
    for _ in 0..size {
        let place = walker.walk(size);
        let cell = usize::try_from(place).ok().and_then(|place| table.get_mut(place));
        if let Some(cell) = cell
            && cell.is_none()
        {
            *cell = walker.id;
            return;
        }
    }
}

/// The places that are free.
struct Few {
    places: [u32; FEW],
    left: usize,
}

impl Default for Few {
    fn default() -> Self {
        Self {
            places: [0; FEW],
            left: 0,
        }
    }
}

impl Few {
    fn find(&mut self, table: &[BackendId]) {
        let free = (0..).zip(table).filter(|(_, id)| id.is_none());
        for ((place, _), known) in free.zip(&mut self.places) {
            *known = place;
            self.left += 1;
        }
    }

    /// As [`take`].
    fn take(&mut self, table: &mut [BackendId], walker: &mut Walker, size: u32) {
        if walker.inverse == 0 {
            walker.inverse = inverse(walker.skip, size);
        }
        let free = self.places.get(..self.left).unwrap_or_default();
        let first = (0..)
            .zip(free)
            .min_by_key(|(_, place)| walker.steps_to(**place, size));
        let Some((at, place)) = first.map(|(at, place)| (at, *place)) else {
            return;
        };
        self.left -= 1;
        self.places.swap(at, self.left);
        walker.leave(place, size);
        let cell = usize::try_from(place).ok().and_then(|place| table.get_mut(place));
        if let Some(cell) = cell {
            *cell = walker.id;
        }
    }
}

/// Modulo a prime, by Fermat's little theorem.
fn inverse(number: u32, prime: u32) -> u32 {
    let prime = u64::from(prime);
    let (mut power, mut square, mut exponent) = (1, u64::from(number), prime - 2);
    while exponent != 0 {
        if exponent & 1 == 1 {
            power = power * square % prime;
        }
        square = square * square % prime;
        exponent >>= 1;
    }
    u32::try_from(power).unwrap_or(0)
}

#[cfg(test)]
mod tests;
