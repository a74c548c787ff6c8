//! Who answers for an address on a local network: at most one node at a time.
//!
//! ```text
//!   the record of a Lease, ---> Elector ---> what to read and write,
//!   as it was found                          since when and until when this process may act
//! ```
//!
//! So far only the election is here, [`Elector`]; the operator is led by the same one.
//!
//! Sources: Kubernetes `coordination.k8s.io/v1` `Lease` and the convention of its clients (holder, duration, empty
//! when released), so candidates of other makes can take part.
//!
//! Deliberately not here: the Kubernetes client, clocks and randomness. They are given.

mod elector;

pub use elector::{Claim, Elector, Event, Input, Loss, Output, Record, Timing, TimingError, Version};
