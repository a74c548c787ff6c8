//! What the kernel programs and user space share: the layout of every map, the drop reasons, and the decisions.
//!
//! ```text
//!   ebpf/datapath  -- writes by these layouts -->  maps  <-- reads by these layouts --  ebpf/progs
//!                                                                                         |
//!                                     balance: one function from (packet, tables) to a verdict
//!                                     packet, checksum, track, hash, forward: what it is made of
//! ```
//!
//! The decisions are pure. A program hands in its packet and its maps; a test hands in octets and a `BTreeMap`. So the very
//! code that the kernel runs is unit-tested, property-tested and fuzzed here, and a test holds both against each other.
//!
//! [`maps`] is the place to start: all maps in one table, and the order in which they are written.
//!
//! Deliberately not here: floats, clocks, kernel functions, and (but for the feature `model`) anything that allocates. No
//! dependency, also not in user space.

#![cfg_attr(not(any(test, feature = "model")), no_std)]
#![deny(clippy::as_conversions, clippy::indexing_slicing, clippy::unwrap_used)]
#![cfg_attr(
    test,
    allow(clippy::as_conversions, clippy::indexing_slicing, reason = "tests may")
)]

pub mod address;
pub mod balance;
pub mod bucket;
pub mod checksum;
pub mod config;
pub mod dsr;
pub mod event;
pub mod filter;
pub mod flow;
pub mod forward;
pub mod hash;
pub mod icmp;
pub mod id;
pub mod maglev;
pub mod maps;
#[cfg(any(test, feature = "model"))]
pub mod model;
pub mod packet;
pub mod plain;
pub mod reason;
pub mod resize;
pub mod service;
pub mod socket;
pub mod stage;
pub mod track;

pub use address::{Address, V4, V6};
pub use id::{BackendId, FrontendId};
pub use plain::Plain;
pub use reason::DropReason;

/// Raised whenever a layout or the meaning of a value changes: maps of another version are never used. Pins lie in a folder
/// named after it.
pub const ABI_VERSION: u32 = 1;

#[expect(clippy::as_conversions, reason = "cutting off is what it is for")]
#[inline(always)]
const fn low32(word: u64) -> u32 {
    word as u32
}

#[expect(clippy::as_conversions, reason = "cutting off is what it is for")]
#[inline(always)]
const fn low16(word: u32) -> u16 {
    word as u16
}
