//! Which Service gets which address: one pure function.
//!
//! ```text
//!   pools (blocks, first/last, disabled) ---+
//!                                           +--> plan() --> addresses and a condition per request,
//!   requests (wish, sharing, what they -----+               counts and conflicts per pool
//!             hold today)
//! ```
//!
//! Every request carries the addresses it holds today, so there is no state to lose: a restart is a
//! plan like any other, and planning an already applied plan changes nothing. The order of the
//! inputs does not matter, so every node that plans over the same inputs comes to the same addresses.
//!
//! 1. Each request, oldest first, keeps what it holds, as long as a pool contains the address and
//!    selects the Service, the Service still wants it, and nobody incompatible has it.
//! 2. Requests for particular addresses are served, then requests for any address; each oldest first.
//!    Free addresses are taken from pools by name, blocks as written, lowest address first.
//!
//! Cost is in what is used, never in how large a pool is: a `/64` is as cheap as a `/28`.
//!
//! Sources: Cilium's LB-IPAM (`CiliumLoadBalancerIPPool`, the annotations `lbipam.cilium.io/*`, the
//! condition `cilium.io/IPAMRequestSatisfied`), Kubernetes `Service` (`ipFamilies`, `ipFamilyPolicy`,
//! `loadBalancerIP`).
//!
//! Deliberately not here: label selectors (the caller says which pools select a request), load
//! balancer classes (the caller leaves out what is not ours), the Kubernetes API, and any memory.

mod count;
mod plan;
mod pool;
mod range;
mod request;
mod wish;

pub use count::Count;
pub use plan::{Allocation, Decision, Plan, PoolReport, Refusal, plan};
pub use pool::{Conflict, FirstAndLast, Pool, PoolState};
pub use range::{Block, Range, RangeError};
pub use request::{
    Family, Incompatible, Permitted, Port, Protocol, Request, RequestId, Sharing, TrafficPolicy, Wish,
};
pub use wish::{FamilyPolicy, Requested, families, requested, sharing, wish};
