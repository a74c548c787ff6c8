//! The dirty edges: kernel routes and links, the service manager, Leases, logs. Each only carries values.

pub mod health;
pub mod lease;
pub mod log;
pub mod netlink;
pub mod notify;
