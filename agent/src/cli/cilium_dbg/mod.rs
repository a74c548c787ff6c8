//! `cilium-dbg bgp ...`.

pub mod tables;
