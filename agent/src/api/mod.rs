//! The HTTP interface of the agent, on a unix socket: `/v1/bgp/...` as Cilium's agent answers it, and what
//! is ours under `/v1/stentor/`.

pub mod bgp;
pub mod handle;
pub mod journal;
pub mod model;
pub mod preview;
pub mod query;
pub mod reason;
pub mod route;
pub mod serve;
pub mod snapshot;
pub mod status;
pub mod view;
