//! What the test says to a program in a namespace, and what it hears: a line of JSON each.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// An order; each is answered with one [`Report`].
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) enum Order {
    /// Listens on all addresses, TCP and UDP, and answers until the end.
    Serve(Vec<Door>),
    /// Puts all questions at once. Those that must not be answered are put first and looked at last: whatever would have
    /// come had the time that all the others took.
    Ask(Vec<Question>),
    /// Starts clients that ask again and again.
    Load(Load),
    /// How the load is doing.
    Progress,
    /// Ends the load.
    Rest,
}

/// Where a backend listens.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Door {
    pub(crate) port: u16,
    pub(crate) service: String,
    pub(crate) pod: String,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Question {
    pub(crate) to: SocketAddr,
    pub(crate) manner: Manner,
    pub(crate) hope: Hope,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub(crate) enum Manner {
    /// 64 kB there, and 64 kB back.
    Tcp,
    /// Datagrams of a connected socket and of one that is not; one of them fills a packet.
    Udp,
    /// One datagram in several fragments, both ways.
    Fragments,
    /// The same, the last fragment of the question first.
    Reversed,
    /// A datagram whose TTL ends at the hop of this number. Whoever drops it must say so.
    Probe(u32),
    /// Echo requests, one of which nearly fills a packet, and one that comes in fragments.
    Ping,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) enum Hope {
    Answered,
    Unanswered,
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) enum Outcome {
    Answered(Answer),
    /// All echo requests came back, each octet as it was sent.
    Echoed,
    /// The kernel refused at once, or was told so by another one.
    Refused(String),
    /// The probe ended on its way, and its sender heard of it.
    Expired,
    /// Nothing came.
    Silence,
    /// What came was not what was sent, or not from where it was asked.
    Wrong(String),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub(crate) struct Answer {
    pub(crate) service: String,
    pub(crate) pod: String,
    /// The client's address as the backend saw it.
    pub(crate) client: IpAddr,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Load {
    pub(crate) to: SocketAddr,
    pub(crate) manner: Style,
    pub(crate) clients: usize,
    pub(crate) service: String,
    /// How long an exchange may take; then its client gives it up.
    pub(crate) patience: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub(crate) enum Style {
    /// A connection for all exchanges.
    Stay,
    /// A new connection for each exchange.
    Anew,
    /// Datagrams from one socket; each must be answered.
    Datagrams,
    /// A new socket for each datagram.
    DatagramsAnew,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Progress {
    /// Whole exchanges so far, of each client.
    pub(crate) exchanges: Vec<u64>,
    /// Pods that served clients that begin anew, since the last look.
    pub(crate) fresh: BTreeSet<String>,
    /// Connections that ended, and datagrams that were not answered.
    pub(crate) broken: Vec<Broken>,
    /// Answers of a service that was not asked, or octets that were not sent.
    pub(crate) wrong: Vec<String>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Broken {
    pub(crate) style: Style,
    /// The pod that had served last.
    pub(crate) last: String,
    pub(crate) error: String,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) enum Report {
    Done,
    Outcomes(Vec<Outcome>),
    Progress(Progress),
    /// The order could not be carried out.
    Failed(String),
}
