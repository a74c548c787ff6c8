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
//!
//! # How to read it
//!
//! From the outside in: [`speaker`] (what goes in and out, the top machine), `peer` (two sessions and what
//! outlives them), [`session`] (one connection's machine, its timers, what OPENs agree on), [`rib`] (routes),
//! `pack` (routes to UPDATEs), [`wire`] (octets). [`graceful`] is what restarts mean; [`config::change`] is what
//! a new configuration costs.
//!
//! A machine has two verbs: `handle` (or a past participle, `accepted`, `received`, `timed_out`) and
//! `next_timeout`. Time and randomness come from outside, so a run can be repeated exactly.
//!
//! # What it speaks
//!
//! | Standard | What of it |
//! |---|---|
//! | RFC 4271 | all; DelayOpen, TrackTcpState and CollisionDetectEstablishedState off (8.1.1), jitter (10) |
//! | RFC 1997, 4360, 8092 | standard, extended and large communities, passed on and set by policy |
//! | RFC 2385, 5082 | TCP-MD5 and GTSM, on dialled and accepted connections |
//! | RFC 2545, 4760, 8950 | IPv4 and IPv6 unicast; IPv6 next hops of IPv4 routes |
//! | RFC 2918, 7313 | route refresh, plain and enhanced, both ways |
//! | RFC 4456 | route reflection: ORIGINATOR_ID, CLUSTER_LIST, clients |
//! | RFC 4486, 8203, 9003, 6608 | subcodes and texts of Cease, subcodes of the FSM error |
//! | RFC 4724, 8538 | graceful restart as restarter and helper, N bit, Hard Reset |
//! | RFC 5004, 8212 | the oldest external path stays; nothing is accepted or announced without a policy |
//! | RFC 5492, 9072 | capabilities, and retrying without; long optional parameters |
//! | RFC 6286, 6793, 7607 | router IDs unique per AS, 4-octet ASNs, no AS 0 |
//! | RFC 7606 | malformed attributes cost routes, not sessions |
//! | RFC 8654, 9687 | messages of 65535 octets; the send hold timer |
//!
//! # What it deliberately lacks
//!
//! Add-path (RFC 7911), long-lived graceful restart (RFC 9494), roles (RFC 9234), BFD, unnumbered peers,
//! confederations (RFC 5065), TCP-AO (RFC 5925), route flap damping, and every family but the two unicast ones.
//! It writes no kernel routes: next hops are taken as reachable.

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
