//! The command line.

pub mod cilium_dbg;
pub mod client;
