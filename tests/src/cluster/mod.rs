//! A cluster under test, from outside: its API server, and our programs as processes beside it.

mod agent;
mod api;
mod operator;

pub use agent::Agent;
pub use api::{Api, Verdict, documents, values};
pub use operator::Operator;

use std::time::Duration;

/// A watch that was refused for a while waits for up to a minute before it asks again.
pub const LIMIT: Duration = Duration::from_secs(150);
