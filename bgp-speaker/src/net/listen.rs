//! Listeners: one socket per family and instance, with TCP-MD5 keys by source.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use super::dial::plain;
use super::shell::News;
use super::sockopt;
use crate::speaker::ListenKey;
use crate::types::{Name, Prefix, Secret};

/// Connections the kernel completes before they are accepted.
const BACKLOG: i32 = 128;

/// SYN-ACKs leave with this: a peer with GTSM drops them otherwise, before an accepted socket could say so.
const LISTENER_TTL: u8 = 255;

/// How long accepting rests when the process has no descriptor left: an error that does not go away by asking.
const NO_DESCRIPTOR_PAUSE: Duration = Duration::from_millis(200);

/// The listener of one instance.
#[derive(Debug)]
pub(super) struct Listener {
    port: u16,
    sockets: Vec<Arc<TcpListener>>,
    keys: Vec<ListenKey>,
    acceptors: Vec<AbortHandle>,
}

impl Listener {
    /// Listens on every address of both families. A system without IPv6 has a listener for IPv4.
    pub(super) fn open(
        instance: &Name,
        port: u16,
        keys: Vec<ListenKey>,
        news: &mpsc::Sender<News>,
        tasks: &mut JoinSet<()>,
    ) -> Result<Self, Arc<str>> {
        let mut bound =
            vec![bind(Ipv4Addr::UNSPECIFIED.into(), port).map_err(|error| explain(port, &error))?];
        match bind(Ipv6Addr::UNSPECIFIED.into(), port) {
            Ok(v6) => bound.push(v6),
            Err(error) if no_such_family(&error) => {}
            Err(error) => return Err(explain(port, &error)),
        }
        let mut sockets = Vec::with_capacity(bound.len());
        for socket in bound {
            // Before it listens: a handshake that began without its key would end without it.
            for entry in &keys {
                set_key(socket.as_fd(), entry, Some(&entry.key))?;
            }
            let listening = socket
                .listen(BACKLOG)
                .and_then(|()| TcpListener::from_std(socket.into()));
            sockets.push(Arc::new(listening.map_err(|error| explain(port, &error))?));
        }
        let mut listener = Self {
            port,
            sockets,
            keys,
            acceptors: Vec::new(),
        };
        for socket in &listener.sockets {
            let task = accept(instance.clone(), Arc::clone(socket), news.clone());
            listener.acceptors.push(tasks.spawn(task));
        }
        Ok(listener)
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Replaces the keys. Connections that were accepted before live on with the key they have.
    pub(super) fn set_keys(&mut self, keys: Vec<ListenKey>) -> Result<(), Arc<str>> {
        for old in &self.keys {
            if !keys.iter().any(|new| new.from == old.from) {
                self.set_key(old, None)?;
            }
        }
        for new in &keys {
            if !self.keys.contains(new) {
                self.set_key(new, Some(&new.key))?;
            }
        }
        self.keys = keys;
        Ok(())
    }

    fn set_key(&self, entry: &ListenKey, key: Option<&Secret>) -> Result<(), Arc<str>> {
        self.sockets
            .iter()
            .try_for_each(|socket| set_key(socket.as_fd(), entry, key))
    }

    /// The key of a source: that of the longest prefix, as the kernel chooses it.
    pub(super) fn key_of(&self, source: IpAddr) -> Option<&Secret> {
        let source = Prefix::host(source);
        self.keys
            .iter()
            .filter(|entry| entry.from.contains(&source))
            .max_by_key(|entry| entry.from.len())
            .map(|entry| &entry.key)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // The sockets close when the runtime lets go of the acceptors. Until then they must not hold the
        // port: the next listener may want it now.
        for socket in &self.sockets {
            let _ = SockRef::from(&**socket).shutdown(std::net::Shutdown::Read);
        }
        for acceptor in &self.acceptors {
            acceptor.abort();
        }
    }
}

/// Sets or removes a key on the socket of its family; does nothing on the other one.
fn set_key(socket: BorrowedFd<'_>, entry: &ListenKey, key: Option<&Secret>) -> Result<(), Arc<str>> {
    let local = SockRef::from(&socket)
        .local_addr()
        .map_err(|error| explain_key(entry, &error))?;
    if local.is_ipv4() == entry.from.addr().is_ipv4() {
        sockopt::set_md5(socket, &entry.from, key).map_err(|error| explain_key(entry, &error))?;
    }
    Ok(())
}

fn bind(address: IpAddr, port: u16) -> io::Result<Socket> {
    let address = SocketAddr::new(address, port);
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    sockopt::set_ttl(socket.as_fd(), address.ip(), Some(LISTENER_TTL))?;
    sockopt::save_syn(socket.as_fd())?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Whether accepting rested just now: told once in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Paused {
    No,
    Yes,
}

async fn accept(instance: Name, socket: Arc<TcpListener>, news: mpsc::Sender<News>) {
    let mut paused = Paused::No;
    loop {
        match socket.accept().await {
            Ok((stream, remote)) => {
                paused = Paused::No;
                let accepted = News::Accepted {
                    instance: instance.clone(),
                    stream,
                    remote,
                };
                if news.send(accepted).await.is_err() {
                    return;
                }
            }
            Err(error) if no_descriptor(&error) => {
                if paused == Paused::No {
                    tracing::warn!(%instance, %error, "connections wait: no descriptor left");
                    paused = Paused::Yes;
                }
                tokio::time::sleep(NO_DESCRIPTOR_PAUSE).await;
            }
            // Shut down: this listener has ended.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return,
            // The connection was gone before it was accepted.
            Err(error) => tracing::debug!(%instance, %error, "accept"),
        }
    }
}

fn no_descriptor(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
    )
}

fn no_such_family(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL | libc::EPROTONOSUPPORT)
    )
}

fn explain(port: u16, error: &io::Error) -> Arc<str> {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "TCP port {port} is in use by another program (`ss -ltnp 'sport = :{port}'` names it); stop it or \
             give this instance another localPort"
        ),
        io::ErrorKind::PermissionDenied => format!(
            "TCP port {port} may not be opened: run as root or with the capability CAP_NET_BIND_SERVICE, or \
             give this instance a localPort over 1023"
        ),
        _ => format!("TCP port {port}: {}", plain(error)),
    }
    .into()
}

fn explain_key(entry: &ListenKey, error: &io::Error) -> Arc<str> {
    match error.raw_os_error() {
        Some(libc::ENOMEM | libc::ENOBUFS) => format!(
            "no room for the TCP-MD5 key of {}: raise the sysctl net.core.optmem_max",
            entry.from
        ),
        Some(libc::ENOPROTOOPT) => "this kernel has no TCP-MD5 (CONFIG_TCP_MD5SIG)".to_owned(),
        _ => format!("TCP-MD5 key of {}: {}", entry.from, plain(error)),
    }
    .into()
}
