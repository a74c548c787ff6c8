//! Services, EndpointSlices, Nodes and Pods in; the contents of the load balancer's maps out, and the way there.
//!
//! ```text
//!  objects --> services::plan --> Plan --> image::build --> MapImage --> diff --> [Op, Op, ...] --> loader
//!                                             ^                            ^
//!                                             +------ what the maps hold --+
//! ```
//!
//! That is the definition, and computes everything anew; [`incremental`] comes to the same steps, change by change.
//!
//! All of it is pure: no clock, no socket, no map. What is in the maps is read back by the loader and handed in, so a start
//! is an ordinary difference, and ids are the same after it.
//!
//! Deliberately not here: policy, identities, tunnels (they will write maps of their own), and health checks.

pub mod diff;
pub mod image;
pub mod incremental;
mod names;
mod problem;
pub mod services;
mod settings;
pub mod sizes;
pub mod sweep;

pub use names::{Family, Protocol, ServiceName, Socket};
pub use problem::Problem;
pub use settings::{ClusterIps, Forwarding, Honour, Limits, Pods, Settings, SourceRanges, ThisNode};
