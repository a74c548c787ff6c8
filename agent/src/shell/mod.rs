//! The dirty edges: kernel routes and links, the service manager, Leases and other objects at an API server, logs. Each
//! only carries values.

pub mod definitions;
pub mod health;
pub(crate) mod http;
pub mod lease;
pub mod log;
pub(crate) mod memory;
pub mod netlink;
pub mod notify;
pub(crate) mod report;
pub(crate) mod signals;
pub mod writes;
