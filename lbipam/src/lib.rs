//! Which Service gets which address: one pure function.
//!
//! ```text
//!   pools (blocks, what they hold back, ----+
//!          whom they serve)                 +--> plan() --> addresses and a condition per request,
//!   requests (wish, sharing, what they -----+               counts and conflicts per pool
//!             hold today)
//! ```
//!
//! Every request carries the addresses it holds today, so there is no state to lose: a restart is a
//! plan like any other, and planning an already applied plan changes nothing. The order of the
//! inputs does not matter, so every node that plans over the same inputs comes to the same addresses.
//!
//! 1. Each request, oldest first, keeps what it holds, as long as a pool contains the address and
//!    selects the Service, the Service still wants it, and nobody incompatible has it. A pool may say
//!    that addresses stay out when their block is removed ([`Removal::Retain`]).
//! 2. Requests for particular addresses are served, then requests for any address; each oldest first.
//!    Free addresses are taken from pools by priority, then name; blocks as written, lowest address
//!    first. Who shares takes an address known for its key before a free one.
//!
//! Cost is in what is used, never in how large a pool is: a `/64` is as cheap as a `/28`, and a
//! thousand Services under one sharing key cost what a thousand without one do.
//!
//! Sources: Cilium's LB-IPAM (`CiliumLoadBalancerIPPool`, the annotations `lbipam.cilium.io/*`, the
//! condition `cilium.io/IPAMRequestSatisfied`), Kubernetes `Service` (`ipFamilies`, `ipFamilyPolicy`,
//! `loadBalancerIP`).
//!
//! [`Incremental`] comes to the same decisions from one change, without a look at the rest.
//!
//! Deliberately not here: label selectors (the caller says which pools select a request), load
//! balancer classes (the caller leaves out what is not ours), the Kubernetes API, and any memory.

mod count;
mod given;
mod incremental;
mod plan;
mod pool;
mod range;
mod report;
mod request;
mod sharing;
mod wish;

pub use count::Count;
pub use incremental::Incremental;
pub use plan::plan;
pub use pool::{AutoAssign, Conflict, FirstAndLast, Pool, PoolState, Removal};
pub use range::{Block, Range, RangeError};
pub use report::{Allocation, Condition, Decision, Plan, PoolReport, Refusal, Standing, Status};
pub use request::{Family, Port, Protocol, Request, RequestId, TrafficPolicy, Wish};
pub use sharing::{Incompatible, Permitted, Sharing};
pub use wish::{FamilyPolicy, Requested, families, requested, sharing, wish};
