//! The speaker under test, as a process of its own inside a node.
//!
//! ```text
//!   test                                          node
//!   Subject --Order, a line of JSON--> stdin  |  bin `subject`: bgp_speaker::net
//!   Subject <--Said, a line of JSON--- stdout |
//! ```
//!
//! A process, not a thread: it can be frozen, killed and weighed, as a real agent is. It takes the same
//! [`RouterConfig`] as the daemons it is tested against.

mod handle;

pub use handle::{Moment, Subject};

use std::net::IpAddr;

use lab::router::{Origination, RouterConfig, Seen};
use serde::{Deserialize, Serialize};

/// What the speaker should be. A new wish replaces the old one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Wish {
    pub router: RouterConfig,
    /// Announced to every neighbour. What a route carries is set by export policy, as the agent does it.
    pub routes: Vec<Origination>,
    /// So many /32 of 100.64.0.0/10 are announced beside them.
    pub many: u32,
}

/// Said to the speaker. Each order has one answer: [`Said::Done`], unless named otherwise.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Order {
    Configure(Wish),
    /// Answer: [`Said::Peers`].
    Peers,
    /// The Adj-RIB-In of a neighbour, without routes of our own that it sent back. Answer: [`Said::Routes`].
    Received(IpAddr),
    /// Send ROUTE-REFRESH to every neighbour.
    AskRefresh,
    /// Cease / Administrative Reset to every neighbour.
    Reset,
    /// An interface went down that leads to these neighbours.
    LinkDown {
        interface: String,
        peers: Vec<IpAddr>,
    },
    /// Ends as at an upgrade: graceful restart where it was negotiated.
    EndForRestart,
    /// Ends for good.
    EndForGood,
}

/// Said by the speaker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Said {
    Done,
    Peers(Vec<PeerState>),
    Routes(Vec<Seen>),
    /// The order was refused.
    Refused(String),
    /// Not an answer: something happened.
    Happened(Happening),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Happening {
    State {
        peer: IpAddr,
        from: String,
        to: String,
        why: Option<String>,
    },
    EndOfRib {
        peer: IpAddr,
        family: String,
    },
    Other(String),
}

/// A peer as the speaker reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerState {
    pub address: IpAddr,
    pub state: String,
    pub times_established: u64,
    pub last_down: Option<String>,
    pub applied_hold: Option<u16>,
    pub families: Vec<FamilyState>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FamilyState {
    pub family: String,
    pub negotiated: bool,
    pub received: u32,
    pub accepted: u32,
    pub advertised: u32,
    pub stale: u32,
    pub end_of_rib_received: bool,
    pub end_of_rib_sent: bool,
}
