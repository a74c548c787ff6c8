//! The node agent: wishes in, announcements out.
//!
//! ```text
//!   folder of YAML --> source --> World --> plan --> Desired --> diff --> speaker, kernel routes
//!                                   ^                                         |
//!                                   +------------- observations --------------+
//! ```
//!
//! `world` and `plan` are pure. `source` and `shell` carry values in and out. `run` is the loop that joins
//! them. `api` answers over the unix socket; `cli` asks there and `render` sets what people read.

pub mod api;
#[cfg(test)]
mod chart_tests;
pub mod check;
pub mod cli;
pub mod config;
pub mod datapath;
mod held;
pub mod metrics;
pub mod migrate;
pub mod operator;
pub mod plan;
pub mod problem;
pub mod render;
pub mod report;
pub mod run;
pub mod shared_map;
pub mod shell;
pub mod source;
pub mod state;
pub mod world;
