//! The dirty edges: kernel routes and links, the service manager, logs. Each only carries values.

pub mod log;
pub mod netlink;
pub mod notify;
