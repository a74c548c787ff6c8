//! The HTTP interface of the agent, on a unix socket: `/v1/bgp/...` as Cilium's agent answers it, and what
//! is ours under `/v1/stentor/`.

pub mod model;
