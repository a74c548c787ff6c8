//! The command line.

pub mod cilium_dbg;
