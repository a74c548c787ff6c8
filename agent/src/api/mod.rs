//! The HTTP interface of the agent, on a unix socket: `/v1/bgp/...` as Cilium's agent answers it, and what
//! is ours under `/v1/stentor/`.

mod answer;
pub mod bgp;
pub mod datapath;
pub mod explain;
pub mod handle;
pub mod journal;
pub mod model;
pub mod policy;
pub mod preview;
pub mod query;
pub mod reason;
pub mod route;
pub mod serve;
pub mod snapshot;
pub mod status;
pub mod view;
