//! Every socket of a speaker. Carries out its orders and brings the news; knows nothing of BGP.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use super::Options;
use super::companions::companions;
use super::connection::{Connection, QueueFull};
use super::dial;
use super::listen::Listener;
use super::sockopt;
use crate::speaker::pace::{Pace, Tell};
use crate::speaker::{Close, ConnId, Dial, Event, Input, ListenKey, Output, Refusal, StateName};
use crate::types::{Name, Prefix};

/// News under way from the tasks. Each connection has at most two of them here, so this never fills by one.
const NEWS: usize = 1024;

/// How long a closed connection may take to send what is left.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// What the tasks tell the shell.
#[derive(Debug)]
pub(super) enum News {
    Dialled {
        conn: ConnId,
        result: Result<TcpStream, Arc<str>>,
    },
    Accepted {
        instance: Name,
        stream: TcpStream,
        remote: SocketAddr,
    },
    Received {
        conn: ConnId,
        bytes: Bytes,
    },
    Writable {
        conn: ConnId,
    },
    Ended {
        conn: ConnId,
        error: Option<Arc<str>>,
    },
}

/// The sockets.
#[derive(Debug)]
pub(super) struct Shell {
    options: Options,
    listeners: BTreeMap<Name, Listener>,
    dials: BTreeMap<ConnId, AbortHandle>,
    connections: BTreeMap<ConnId, Connection>,
    /// Connections opened, or given octets, since the last [`Shell::settle`].
    touched: BTreeSet<ConnId>,
    /// Accepted, and not yet past OpenConfirm: oldest first.
    half_open: BTreeMap<ConnId, IpAddr>,
    accepted: u64,
    refusals: Pace,
    /// Inputs that came up while an order was carried out.
    ready: VecDeque<Input>,
    tasks: JoinSet<()>,
    to_me: mpsc::Sender<News>,
    news: mpsc::Receiver<News>,
    events: mpsc::Sender<Event>,
    /// Events nobody took since the last one that was.
    lost: u64,
}

impl Shell {
    pub(super) fn new(options: Options, events: mpsc::Sender<Event>) -> Self {
        let (to_me, news) = mpsc::channel(NEWS);
        Self {
            options,
            listeners: BTreeMap::new(),
            dials: BTreeMap::new(),
            connections: BTreeMap::new(),
            touched: BTreeSet::new(),
            half_open: BTreeMap::new(),
            accepted: 0,
            refusals: Pace::default(),
            ready: VecDeque::new(),
            tasks: JoinSet::new(),
            to_me,
            news,
            events,
            lost: 0,
        }
    }

    /// Carries out one order. [`Shell::settle`] follows the last one.
    pub(super) fn carry_out(&mut self, output: Output) {
        match output {
            Output::Listen { instance, port, keys } => self.listen(instance, port, keys),
            Output::Unlisten { instance } => {
                self.listeners.remove(&instance);
            }
            Output::Dial { conn, to } => self.dial(conn, to),
            Output::SetTtl { conn, ttl } => {
                if let Some(connection) = self.connections.get(&conn)
                    && let Err(error) = connection.set_ttl(ttl)
                {
                    // Never without the TTL that was asked for.
                    self.forget(conn);
                    self.ready.push_back(Input::Closed {
                        conn,
                        error: Some(format!("TTL: {}", dial::plain(&error)).into()),
                    });
                }
            }
            Output::Send { conn, bytes } => {
                if let Some(connection) = self.connections.get_mut(&conn) {
                    match connection.queue(bytes) {
                        Ok(()) => {
                            self.touched.insert(conn);
                        }
                        Err(QueueFull) => {
                            self.forget(conn);
                            self.ready.push_back(Input::Closed {
                                conn,
                                error: Some("the peer takes nothing and asks for more".into()),
                            });
                        }
                    }
                }
            }
            Output::Close { conn, how } => self.close(conn, how),
            Output::Tell(event) => self.tell(event),
        }
    }

    /// Writes what was queued and begins to read new connections.
    pub(super) fn settle(&mut self) {
        for conn in std::mem::take(&mut self.touched) {
            if let Some(connection) = self.connections.get_mut(&conn) {
                connection.start_reading(&self.to_me, &mut self.tasks);
            }
            self.write(conn);
        }
    }

    /// The next input. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Input {
        loop {
            if let Some(input) = self.try_next() {
                return input;
            }
            tokio::select! {
                news = self.news.recv() => match news {
                    Some(news) => self.take(news),
                    None => unreachable!("the shell holds a sender itself"),
                },
                Some(ended) = self.tasks.join_next() => report(ended),
            }
        }
    }

    /// The next input, if there is one now. News and what orders led to take turns: neither a peer that
    /// floods nor one that takes a whole table at once keeps the other from its own.
    pub(super) fn try_next(&mut self) -> Option<Input> {
        while let Some(ended) = self.tasks.try_join_next() {
            report(ended);
        }
        if let Ok(news) = self.news.try_recv() {
            self.take(news);
        }
        let input = self.ready.pop_front()?;
        match &input {
            Input::Received { conn, .. } => {
                if let Some(connection) = self.connections.get(conn) {
                    connection.took();
                }
            }
            Input::Connected { conn, .. } | Input::Accepted { conn, .. } => {
                self.touched.insert(*conn);
            }
            Input::Configured(_)
            | Input::Listened { .. }
            | Input::ConnectFailed { .. }
            | Input::Sent { .. }
            | Input::Closed { .. }
            | Input::LinkDown { .. }
            | Input::Asked(_)
            | Input::TimedOut => {}
        }
        Some(input)
    }

    /// Closes everything and waits for every task: connections told to flush have their time for it.
    pub(super) async fn finish(mut self) {
        self.listeners.clear();
        self.connections.clear();
        for dial in self.dials.values() {
            dial.abort();
        }
        drop(self.news);
        while let Some(ended) = self.tasks.join_next().await {
            report(ended);
        }
    }

    fn listen(&mut self, instance: Name, port: u16, keys: Vec<ListenKey>) {
        let result = match self.listeners.get_mut(&instance) {
            Some(listener) if listener.port() == port => listener.set_keys(keys),
            Some(_) | None => {
                // First the old one: a new one may want its port.
                self.listeners.remove(&instance);
                Listener::open(&instance, port, keys, &self.to_me, &mut self.tasks).map(|listener| {
                    self.listeners.insert(instance.clone(), listener);
                })
            }
        };
        if result.is_err() {
            // A listener without one of its keys would let a stranger in.
            self.listeners.remove(&instance);
        }
        self.ready.push_back(Input::Listened { instance, result });
    }

    fn dial(&mut self, conn: ConnId, to: Dial) {
        let to_me = self.to_me.clone();
        let task = self.tasks.spawn(async move {
            let result = dial::connect(&to).await;
            // Nobody waits for it where the shell is gone.
            let _ = to_me.send(News::Dialled { conn, result }).await;
        });
        self.dials.insert(conn, task);
    }

    fn close(&mut self, conn: ConnId, how: Close) {
        if let Some(dial) = self.dials.remove(&conn) {
            dial.abort();
        }
        if let Some(connection) = self.forget(conn) {
            match how {
                Close::Flush => connection.finish(CLOSE_LIMIT, &mut self.tasks),
                Close::Abort => {}
            }
        }
    }

    fn tell(&mut self, event: Event) {
        if let Event::State { address, to, .. } = &event
            && matches!(to, StateName::OpenConfirm | StateName::Established)
        {
            self.half_open.retain(|_, source| source != address);
        }
        match self.events.try_send(event) {
            Ok(()) if self.lost > 0 => {
                tracing::warn!(events = self.lost, "events were lost: nobody took them in time");
                self.lost = 0;
            }
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
            // Told once it is over: a line per event would make it worse.
            Err(mpsc::error::TrySendError::Full(_)) => self.lost += 1,
        }
    }

    fn take(&mut self, news: News) {
        match news {
            News::Dialled { conn, result } => {
                // Closed in the meantime: the stream is dropped.
                if self.dials.remove(&conn).is_some() {
                    self.dialled(conn, result);
                }
            }
            News::Accepted {
                instance,
                stream,
                remote,
            } => self.accepted(instance, stream, remote),
            News::Received { conn, bytes } => {
                if self.connections.contains_key(&conn) {
                    self.ready.push_back(Input::Received { conn, bytes });
                }
            }
            News::Writable { conn } => {
                if let Some(connection) = self.connections.get_mut(&conn) {
                    connection.has_room();
                    self.write(conn);
                }
            }
            News::Ended { conn, error } => {
                if let Some(connection) = self.forget(conn) {
                    let error = error.or_else(|| connection.write_error());
                    self.ready.push_back(Input::Closed { conn, error });
                }
            }
        }
    }

    fn dialled(&mut self, conn: ConnId, result: Result<TcpStream, Arc<str>>) {
        let opened = result.and_then(|stream| {
            let local = stream.local_addr().map_err(|error| dial::plain(&error))?;
            let remote = stream.peer_addr().map_err(|error| dial::plain(&error))?;
            let connection = Connection::new(conn, stream, remote).map_err(|error| dial::plain(&error))?;
            Ok((connection, local, remote))
        });
        self.ready.push_back(match opened {
            Ok((connection, local, remote)) => {
                self.connections.insert(conn, connection);
                Input::Connected {
                    conn,
                    local,
                    remote,
                    companions: companions(local.ip()),
                }
            }
            Err(error) => Input::ConnectFailed { conn, error },
        });
    }

    fn accepted(&mut self, instance: Name, stream: TcpStream, remote: SocketAddr) {
        let remote = dial::canonical(remote);
        let from_there = self
            .half_open
            .values()
            .filter(|source| **source == remote.ip())
            .count();
        if from_there >= self.options.half_open_per_source {
            if self.refusals.may_tell(Instant::now()) == Tell::Yes {
                self.tell(Event::Refused {
                    instance,
                    remote,
                    why: Refusal::HalfOpen,
                });
            }
            return;
        }
        if let Err(error) = self.require_key(&instance, &stream, remote.ip()) {
            tracing::warn!(%instance, %remote, %error, "refused: its TCP-MD5 key can not be set");
            return;
        }
        // The oldest makes room: a peer that means it is past OpenConfirm in a moment.
        if self.half_open.len() >= self.options.half_open_total
            && let Some((oldest, _)) = self.half_open.first_key_value()
        {
            let oldest = *oldest;
            self.forget(oldest);
            self.ready.push_back(Input::Closed {
                conn: oldest,
                error: Some("too many connections that opened no session".into()),
            });
        }
        let conn = ConnId::Accepted(self.accepted);
        self.accepted += 1;
        let Ok(local) = stream.local_addr() else {
            return;
        };
        match Connection::new(conn, stream, remote) {
            Ok(connection) => {
                self.connections.insert(conn, connection);
                self.half_open.insert(conn, remote.ip());
                self.ready.push_back(Input::Accepted {
                    conn,
                    instance,
                    local: dial::canonical(local),
                    remote,
                    companions: companions(dial::canonical(local).ip()),
                });
            }
            Err(error) => tracing::debug!(%remote, %error, "the connection was gone at once"),
        }
    }

    /// A connection whose handshake was over before its source got a key, or another one, has none, or the
    /// old one. With the key of today no unsigned segment of it is taken any more.
    fn require_key(&self, instance: &Name, stream: &TcpStream, source: IpAddr) -> io::Result<()> {
        match self
            .listeners
            .get(instance)
            .and_then(|listener| listener.key_of(source))
        {
            Some(key) => sockopt::set_md5(stream.as_fd(), &Prefix::host(source), Some(key)),
            None => Ok(()),
        }
    }

    fn write(&mut self, conn: ConnId) {
        if let Some(connection) = self.connections.get_mut(&conn) {
            let bytes = connection.write(&self.to_me, &mut self.tasks);
            if bytes > 0 {
                self.sent(conn, bytes);
            }
        }
    }

    /// One input per connection, however often it wrote in the meantime.
    fn sent(&mut self, conn: ConnId, more: usize) {
        for input in &mut self.ready {
            if let Input::Sent { conn: same, bytes } = input
                && *same == conn
            {
                *bytes += more;
                return;
            }
        }
        self.ready.push_back(Input::Sent { conn, bytes: more });
    }

    fn forget(&mut self, conn: ConnId) -> Option<Connection> {
        self.half_open.remove(&conn);
        self.connections.remove(&conn)
    }
}

/// A task that panicked is a defect; one that was aborted is not.
fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a task of the speaker's shell panicked");
    }
}
