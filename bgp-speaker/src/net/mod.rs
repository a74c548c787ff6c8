//! The TCP shell: carries a [`Speaker`](crate::speaker::Speaker)'s orders to sockets and their news back.
//!
//! ```text
//!    Handle (Clone) --wish (watch), questions (mpsc)--> drive: owns the Speaker, one sleep
//!                                                         |  orders        ^ news
//!                                                         v                |
//!    Receiver<Event> <-- what happened ----------------- shell: owns every socket
//!                                                         |        ^       ^
//!                                                listeners, dials, readers: tasks in one JoinSet
//! ```
//!
//! - One task owns the speaker and writes; nothing is locked. Other tasks only wait: to accept, to connect, to
//!   read, for room to write.
//! - Every queue has a bound. A peer may have two unhandled reads; more stay in the kernel. What a peer does
//!   not take stays in its queue, and the speaker gives no more routes than the queue has credit for.
//! - Every task is in the shell's `JoinSet`, which is awaited.
//!
//! It deliberately lacks TCP-AO (no kernel in reach has it; [`probe`] says whether this one does).

mod companions;
mod connection;
mod dial;
mod drive;
mod listen;
mod probe;
mod shell;
mod sockopt;

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::config::SpeakerConfig;
use crate::speaker::{
    Event, PathView, PeerStatus, QueryError, Request, RequestError, Shutdown, Start, Table,
};
use crate::types::{Family, Name};

pub use probe::{Kernel, Support, probe};

/// Events that wait for whoever takes them. More are lost, with a warning: the status tells the rest.
const EVENTS: usize = 4096;

/// Questions under way.
const QUESTIONS: usize = 64;

/// Limits of the shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Sent in the FQDN capability; `None` leaves the capability out.
    pub host_name: Option<Name>,
    /// Accepted connections from one address that are not past OpenConfirm; one more is refused.
    pub half_open_per_source: usize,
    /// The same from all addresses; one more closes the oldest.
    pub half_open_total: usize,
}

impl Default for Options {
    /// No host name, 4 per source, 256 in total.
    fn default() -> Self {
        Self {
            host_name: None,
            half_open_per_source: 4,
            half_open_total: 256,
        }
    }
}

/// Which routes to show. Without `instance` or `peer`: of all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteQuery {
    pub instance: Option<Name>,
    pub table: Table,
    pub family: Family,
    pub peer: Option<IpAddr>,
}

/// Talks with a running speaker. Clones talk with the same one.
#[derive(Debug, Clone)]
pub struct Handle {
    wish: watch::Sender<Arc<SpeakerConfig>>,
    questions: mpsc::Sender<Question>,
}

/// The speaker has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the speaker has ended")]
pub struct Ended;

/// Why there are no routes to show.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RoutesError {
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error(transparent)]
    Ended(#[from] Ended),
}

/// Why an order was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Ended(#[from] Ended),
}

#[derive(Debug)]
enum Question {
    Peers(oneshot::Sender<Vec<PeerStatus>>),
    Routes(RouteQuery, oneshot::Sender<Result<Vec<PathView>, QueryError>>),
    Ask(Request, oneshot::Sender<Result<(), RequestError>>),
    LinkDown { interface: Name, peers: Vec<IpAddr> },
    Shutdown(Shutdown),
}

/// Starts a speaker of nothing on the running tokio runtime; [`Handle::configure`] tells it what to be.
///
/// `seed` decides all jitter. Await the `JoinHandle`: it ends after [`Handle::shutdown`], or when every handle
/// is dropped (as [`Shutdown::Stop`]).
#[must_use]
pub fn start(start: Start, seed: u64, options: Options) -> (Handle, mpsc::Receiver<Event>, JoinHandle<()>) {
    let (wish, wished) = watch::channel(Arc::default());
    let (questions, asked) = mpsc::channel(QUESTIONS);
    let (events, told) = mpsc::channel(EVENTS);
    let driver = drive::Driver::new(start, seed, options, events);
    let task = tokio::spawn(driver.run(wished, asked));
    (Handle { wish, questions }, told, task)
}

impl Handle {
    /// Replaces the configuration. Of several in a row only the last may ever be seen.
    pub fn configure(&self, config: Arc<SpeakerConfig>) {
        self.wish.send_replace(config);
    }

    /// Every peer.
    ///
    /// # Errors
    /// [`Ended`].
    pub async fn peers(&self) -> Result<Vec<PeerStatus>, Ended> {
        let (answer, answered) = oneshot::channel();
        self.send(Question::Peers(answer)).await?;
        answered.await.map_err(|_| Ended)
    }

    /// # Errors
    /// [`RoutesError::Query`] where the instance or peer does not exist.
    pub async fn routes(&self, query: RouteQuery) -> Result<Vec<PathView>, RoutesError> {
        let (answer, answered) = oneshot::channel();
        self.send(Question::Routes(query, answer)).await?;
        Ok(answered.await.map_err(|_| Ended)??)
    }

    /// Gives an operator's order.
    ///
    /// # Errors
    /// [`AskError::Request`] where whom it names does not exist.
    pub async fn ask(&self, request: Request) -> Result<(), AskError> {
        let (answer, answered) = oneshot::channel();
        self.send(Question::Ask(request, answer)).await?;
        Ok(answered.await.map_err(|_| Ended)??)
    }

    /// Tells that an interface went down that reaches these peers.
    ///
    /// # Errors
    /// [`Ended`].
    pub async fn link_down(&self, interface: Name, peers: Vec<IpAddr>) -> Result<(), Ended> {
        self.send(Question::LinkDown { interface, peers }).await
    }

    /// Ends every session and then the speaker. Await the `JoinHandle` of [`start`] to know when.
    ///
    /// # Errors
    /// [`Ended`] where it has ended already.
    pub async fn shutdown(&self, how: Shutdown) -> Result<(), Ended> {
        self.send(Question::Shutdown(how)).await
    }

    async fn send(&self, question: Question) -> Result<(), Ended> {
        self.questions.send(question).await.map_err(|_| Ended)
    }
}
