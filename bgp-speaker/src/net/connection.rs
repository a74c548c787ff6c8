//! One open connection: a task that reads, and a queue that the shell writes out.
//!
//! ```text
//!   peer --> kernel --> reader task --(2 buffers at most)--> shell --> Speaker
//!   peer <-- kernel <-- try_write_vectored <-- queue <------ shell <-- Speaker
//!                 \---> writable task: tells the shell that there is room again
//! ```

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};

use super::shell::News;
use super::sockopt;
use crate::speaker::{ConnId, TtlOption};

/// Octets of one read.
const READ: usize = 64 * 1024;

/// Buffers a peer may have read and not handled. More stay in the kernel, whose window slows the peer down:
/// one that floods waits for itself and for nobody else.
const UNHANDLED: usize = 2;

/// Octets the kernel may hold unsent. A KEEPALIVE never waits behind more than this.
const UNSENT: u32 = 128 * 1024;

/// Octets that may wait for the kernel. Routes never come near: the speaker has credit for far less. A peer that
/// takes nothing and keeps asking does.
const QUEUE: usize = 4 * 1024 * 1024;

/// Buffers of one vectored write.
const VECTOR: usize = 64;

/// More than [`QUEUE`] octets wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct QueueFull;

/// An open connection.
#[derive(Debug)]
pub(super) struct Connection {
    id: ConnId,
    stream: Arc<TcpStream>,
    remote: SocketAddr,
    queue: VecDeque<Bytes>,
    queued: usize,
    unhandled: Arc<Semaphore>,
    reader: Option<AbortHandle>,
    room: Room,
}

/// Whether the kernel takes more.
#[derive(Debug)]
enum Room {
    Maybe,
    /// A task waits until it does.
    None(AbortHandle),
    /// It never will; the reader says why the connection ended.
    Broken(io::ErrorKind),
}

impl Connection {
    pub(super) fn new(id: ConnId, stream: TcpStream, remote: SocketAddr) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT)?;
        Ok(Self {
            id,
            stream: Arc::new(stream),
            remote,
            queue: VecDeque::new(),
            queued: 0,
            unhandled: Arc::new(Semaphore::new(UNHANDLED)),
            reader: None,
            room: Room::Maybe,
        })
    }

    pub(super) fn source(&self) -> IpAddr {
        self.remote.ip()
    }

    /// An accepted connection may hold octets that came before its minimum TTL was in force, so its SYN has to
    /// pass the check as well (RFC 5082 3).
    pub(super) fn set_ttl(&self, ttl: TtlOption) -> io::Result<()> {
        let socket = self.stream.as_fd();
        sockopt::set_ttl(socket, self.source(), ttl.send)?;
        sockopt::set_minimum_ttl(socket, self.source(), ttl.minimum.unwrap_or(0))?;
        match (ttl.minimum, sockopt::syn_ttl(socket, self.source())?) {
            (Some(minimum), Some(syn)) if syn < minimum => Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("the connection came with {syn}, at least {minimum} is required (RFC 5082)"),
            )),
            (Some(_) | None, Some(_) | None) => Ok(()),
        }
    }

    /// Reading begins only when what the speaker ordered for the new connection (its TTL) is in force.
    pub(super) fn start_reading(&mut self, news: &mpsc::Sender<News>, tasks: &mut JoinSet<()>) {
        if self.reader.is_none() {
            let reader = read(
                self.id,
                Arc::clone(&self.stream),
                Arc::clone(&self.unhandled),
                news.clone(),
            );
            self.reader = Some(tasks.spawn(reader));
        }
    }

    /// A buffer was taken over: the reader may read one more.
    pub(super) fn took(&self) {
        self.unhandled.add_permits(1);
    }

    pub(super) fn queue(&mut self, bytes: Bytes) -> Result<(), QueueFull> {
        match self.room {
            Room::Maybe | Room::None(_) => {
                self.queued += bytes.len();
                self.queue.push_back(bytes);
            }
            Room::Broken(_) => {}
        }
        if self.queued > QUEUE {
            Err(QueueFull)
        } else {
            Ok(())
        }
    }

    /// The waiting task has seen room.
    pub(super) fn has_room(&mut self) {
        if let Room::None(_) = self.room {
            self.room = Room::Maybe;
        }
    }

    /// Gives the kernel what it takes of the queue; says how many octets that were.
    pub(super) fn write(&mut self, news: &mpsc::Sender<News>, tasks: &mut JoinSet<()>) -> usize {
        let mut written = 0;
        while !self.queue.is_empty() && matches!(self.room, Room::Maybe) {
            match self.stream.try_write_vectored(&slices(&self.queue)) {
                Ok(count) => {
                    written += count;
                    self.queued = self.queued.saturating_sub(count);
                    drop_front(&mut self.queue, count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let wait = wait_for_room(self.id, Arc::clone(&self.stream), news.clone());
                    self.room = Room::None(tasks.spawn(wait));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.queue.clear();
                    self.room = Room::Broken(error.kind());
                }
            }
        }
        written
    }

    /// Why writing failed, where it did: the reader may only see the end.
    pub(super) fn write_error(&self) -> Option<Arc<str>> {
        match &self.room {
            Room::Broken(kind) => Some(kind.to_string().into()),
            Room::Maybe | Room::None(_) => None,
        }
    }

    /// Sends what is queued, then the end, and waits for the peer's end: all within `limit`. Without the wait
    /// the kernel would answer octets still under way with a reset, and the peer would never read a
    /// NOTIFICATION.
    pub(super) fn finish(mut self, limit: Duration, tasks: &mut JoinSet<()>) {
        let queue = std::mem::take(&mut self.queue);
        let stream = Arc::clone(&self.stream);
        drop(self);
        tasks.spawn(async move {
            // Late or failed: the connection is dropped either way.
            let _ = tokio::time::timeout(limit, flush(&stream, queue)).await;
        });
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(reader) = &self.reader {
            reader.abort();
        }
        if let Room::None(waiting) = &self.room {
            waiting.abort();
        }
    }
}

async fn read(id: ConnId, stream: Arc<TcpStream>, unhandled: Arc<Semaphore>, news: mpsc::Sender<News>) {
    let mut buffer = BytesMut::new();
    let error = loop {
        // Before the read: while the permits are out, the peer's octets stay in the kernel.
        let Ok(permit) = unhandled.acquire().await else {
            return;
        };
        permit.forget();
        match read_some(&stream, &mut buffer).await {
            Ok(0) => break None,
            Ok(_) => {
                let bytes = buffer.split().freeze();
                if news.send(News::Received { conn: id, bytes }).await.is_err() {
                    return;
                }
            }
            Err(error) => break Some(super::dial::plain(&error).into()),
        }
    };
    // The shell is gone where this fails, and with it whom it could concern.
    let _ = news.send(News::Ended { conn: id, error }).await;
}

async fn read_some(stream: &TcpStream, buffer: &mut BytesMut) -> io::Result<usize> {
    loop {
        stream.readable().await?;
        // Small reads share a block until it is used up.
        if buffer.capacity() < READ / 4 {
            buffer.reserve(READ);
        }
        match stream.try_read_buf(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => return other,
        }
    }
}

async fn wait_for_room(id: ConnId, stream: Arc<TcpStream>, news: mpsc::Sender<News>) {
    // An error makes it writable too; the next write sees it.
    let _ = stream.writable().await;
    let _ = news.send(News::Writable { conn: id }).await;
}

async fn flush(stream: &TcpStream, mut queue: VecDeque<Bytes>) -> io::Result<()> {
    while !queue.is_empty() {
        stream.writable().await?;
        match stream.try_write_vectored(&slices(&queue)) {
            Ok(count) => drop_front(&mut queue, count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    SockRef::from(stream).shutdown(std::net::Shutdown::Write)?;
    let mut rest = BytesMut::new();
    while read_some(stream, &mut rest).await? > 0 {
        rest.clear();
    }
    Ok(())
}

fn slices(queue: &VecDeque<Bytes>) -> Vec<IoSlice<'_>> {
    queue
        .iter()
        .take(VECTOR)
        .map(|bytes| IoSlice::new(bytes))
        .collect()
}

fn drop_front(queue: &mut VecDeque<Bytes>, mut count: usize) {
    while let Some(front) = queue.front_mut() {
        if count < front.len() {
            front.advance(count);
            return;
        }
        count -= front.len();
        queue.pop_front();
    }
}
