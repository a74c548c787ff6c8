//! The HTTP interface of the agent, on a unix socket: `/v1/bgp/...` as Cilium's agent answers it, and what
//! is ours under `/v1/stentor/`.

pub mod bgp;
pub mod model;
pub mod preview;
pub mod query;
pub mod route;
pub mod view;
