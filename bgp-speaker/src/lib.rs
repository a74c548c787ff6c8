//! A BGP-4 speaker as a library.
//!
//! The core is pure: it takes inputs and a clock reading and returns orders. It opens no socket, reads no
//! clock and builds without tokio. The shell behind the feature `net` carries those values to and from TCP.
//!
//! ```text
//!            Input (news, past tense)                         Output (orders, in order)
//!   Configured Connected Accepted Received Sent Closed   Listen Dial Send Close Tell(Event)
//!                     |                                               ^
//!                     v                                               |
//!   +--------------------------------- Speaker ----------------------------------------+
//!   |  Instance (ASN, router ID)                                                        |
//!   |    Peer  -- at most two Sessions (RFC 4271 6.8) --> wire (decode, RFC 7606)       |
//!   |      |  routes received                       ^  encoded UPDATEs, on demand       |
//!   |      v                                        |                                   |
//!   |    Rib:  AdjRibIn -> decision -> LocRib -> export policy -> AdjRibOut -> pack     |
//!   +-----------------------------------------------------------------------------------+
//! ```

pub mod config;
pub mod graceful;
#[cfg(feature = "net")]
pub mod net;
mod pack;
mod peer;
pub mod policy;
pub mod rib;
pub mod session;
pub mod speaker;
pub mod types;
pub mod wire;
