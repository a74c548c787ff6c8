//! The built binary, used as a person uses it: in a node of its own, with a folder of YAML and, where a
//! router is needed, a real one beside it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test ends where something is not as it should be"
)]

mod balancer;
mod compat;
mod gateway;
mod live;
mod maps;
mod refusals;
mod router;
mod stage;
