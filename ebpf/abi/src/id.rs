//! Ids of backends and frontends: a place in an array and how often that place was given away.
//!
//! A flow remembers ids for hours. When an object goes, its place is given to another one with the next generation, so
//! the old id matches nothing: a flow can lose its service, but never land at a wrong one.
//!
//! ```text
//! bits 31..20  generation 1..=4095; 0 is nobody, so the id 0 is never given
//! bits 19..0   index into the array
//! ```
//!
//! Whoever gives ids away takes a place that was given away least often, and raises its generation by one, from 4095 to 1.
//! So that a start knows the generations, a tombstone stays where an owner went: an id that belongs to the neighbouring
//! place, which no flow can hold for this one.

use crate::plain::plain;

const INDEX_BITS: u32 = 20;

/// How many places an array can have at most.
pub const MAX_PLACES: u32 = 1 << INDEX_BITS;
/// The generation after which counting starts again at 1.
pub const LAST_GENERATION: u32 = (1 << (32 - INDEX_BITS)) - 1;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[repr(transparent)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u32);

        plain!($name, 4);

        impl $name {
            /// Nobody.
            pub const NONE: Self = Self(0);

            /// `None` where the index or the generation does not fit.
            pub const fn new(index: u32, generation: u32) -> Option<Self> {
                if index < MAX_PLACES && generation >= 1 && generation <= LAST_GENERATION {
                    Some(Self(generation << INDEX_BITS | index))
                } else {
                    None
                }
            }

            /// The place in the array.
            #[inline(always)]
            pub const fn index(self) -> u32 {
                self.0 & (MAX_PLACES - 1)
            }

            /// How often the place was given away.
            #[inline(always)]
            pub const fn generation(self) -> u32 {
                self.0 >> INDEX_BITS
            }

            #[inline(always)]
            pub const fn is_none(self) -> bool {
                self.0 == 0
            }

            /// What stands at the place once its owner is gone: not an id of this place, and it keeps the generation.
            pub const fn tombstone(self) -> Self {
                Self(self.0 ^ 1)
            }

            /// Whether this, found at place `index`, is the id of an owner: neither nobody nor a tombstone.
            #[inline(always)]
            pub const fn lives_at(self, index: u32) -> bool {
                !self.is_none() && self.index() == index
            }

            /// The id of the next owner of this place.
            pub const fn successor(self) -> Self {
                let next = if self.generation() == LAST_GENERATION { 1 } else { self.generation() + 1 };
                Self(next << INDEX_BITS | self.index())
            }
        }
    };
}

id! {
    /// Names a backend: place in `BACKENDS4` or `BACKENDS6`.
    BackendId
}
id! {
    /// Names a frontend: place in `LIVE_FRONTENDS`.
    FrontendId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_keeps_index_and_generation() {
        let id = BackendId::new(MAX_PLACES - 1, LAST_GENERATION).expect("it fits");
        assert_eq!((id.index(), id.generation()), (MAX_PLACES - 1, LAST_GENERATION));
        assert_eq!(BackendId::new(MAX_PLACES, 1), None);
        assert_eq!(BackendId::new(0, 0), None);
        assert_eq!(BackendId::new(0, LAST_GENERATION + 1), None);
    }

    #[test]
    fn a_tombstone_keeps_the_generation_and_is_no_id_of_its_place() {
        for index in [0, 1, MAX_PLACES - 1] {
            let id = BackendId::new(index, 7).expect("it fits");
            assert!(id.lives_at(index));
            let tombstone = id.tombstone();
            assert!(!tombstone.lives_at(index) && !tombstone.is_none());
            assert_eq!(tombstone.generation(), 7);
        }
        assert!(!BackendId::NONE.lives_at(0));
    }

    #[test]
    fn a_successor_is_never_nobody_and_never_the_same() {
        let mut id = FrontendId::new(0, 1).expect("it fits");
        for _ in 0..=LAST_GENERATION {
            assert_ne!(id.successor(), id);
            assert_eq!(id.successor().index(), id.index());
            id = id.successor();
            assert!(!id.is_none());
        }
    }
}
