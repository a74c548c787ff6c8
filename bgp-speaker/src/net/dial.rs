//! Opening a connection to a peer.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::AsFd;
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};

use super::sockopt;
use crate::speaker::Dial;
use crate::types::Prefix;

/// The connection, or a sentence that says what was tried and why it failed.
pub(super) async fn connect(dial: &Dial) -> Result<TcpStream, Arc<str>> {
    let socket = prepare(dial)?;
    let remote = scoped(dial.remote, dial.interface.as_deref());
    match tokio::time::timeout(dial.timeout, socket.connect(remote)).await {
        Err(_) => Err(unanswered(remote, dial).into()),
        Ok(Err(error)) => Err(format!("{remote}: {}", plain(&error)).into()),
        Ok(Ok(stream)) => Ok(stream),
    }
}

/// A kernel drops segments whose TCP-MD5 signature it does not expect, or misses, without a word.
fn unanswered(remote: SocketAddr, dial: &Dial) -> String {
    let seconds = dial.timeout.as_secs();
    let hint = match dial.md5 {
        Some(_) => "a password that is missing or differs on the other side looks the same",
        None => "a password that only the other side has looks the same",
    };
    format!("{remote} did not answer within {seconds} s; {hint}")
}

/// A socket with every option that matters before the first segment.
fn prepare(dial: &Dial) -> Result<TcpSocket, Arc<str>> {
    let say =
        |what: String| move |error: io::Error| -> Arc<str> { format!("{what}: {}", plain(&error)).into() };
    let domain = Domain::for_address(dial.remote);
    // Explicitly TCP: never MPTCP, which knows no MD5.
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP)).map_err(say("socket".into()))?;
    socket.set_nonblocking(true).map_err(say("socket".into()))?;
    sockopt::set_ttl(socket.as_fd(), dial.remote.ip(), dial.ttl.send).map_err(say("TTL".into()))?;
    // Before the first segment: what arrives right after the handshake must pass the check too. A listener that
    // answers with a lower TTL is not the neighbour that RFC 5082 speaks of.
    if let Some(minimum) = dial.ttl.minimum {
        sockopt::set_minimum_ttl(socket.as_fd(), dial.remote.ip(), minimum)
            .map_err(say("TTL security".into()))?;
    }
    if let Some(key) = &dial.md5 {
        sockopt::set_md5(socket.as_fd(), &Prefix::host(dial.remote.ip()), Some(key))
            .map_err(say("TCP-MD5".into()))?;
    }
    if let Some(interface) = &dial.interface {
        socket
            .bind_device(Some(interface.as_bytes()))
            .map_err(say(format!("interface {interface}")))?;
    }
    if let Some(local) = dial.local {
        let local = scoped(SocketAddr::new(local, 0), dial.interface.as_deref());
        let local = with_scope_of(local, dial.remote);
        socket
            .bind(&local.into())
            .map_err(say(format!("local address {}", local.ip())))?;
    }
    Ok(TcpSocket::from_std_stream(socket.into()))
}

/// A link-local address means something only with an interface (RFC 4007 6).
fn scoped(address: SocketAddr, interface: Option<&str>) -> SocketAddr {
    match (address, interface) {
        (SocketAddr::V6(v6), Some(name)) if v6.ip().is_unicast_link_local() && v6.scope_id() == 0 => {
            let index = sockopt::interface_index(name).unwrap_or(0);
            SocketAddrV6::new(*v6.ip(), v6.port(), v6.flowinfo(), index).into()
        }
        (other, _) => other,
    }
}

/// The scope the other end was given, where this one has none.
fn with_scope_of(address: SocketAddr, other: SocketAddr) -> SocketAddr {
    match (address, other) {
        (SocketAddr::V6(v6), SocketAddr::V6(other))
            if v6.ip().is_unicast_link_local() && v6.scope_id() == 0 =>
        {
            SocketAddrV6::new(*v6.ip(), v6.port(), v6.flowinfo(), other.scope_id()).into()
        }
        (address, _) => address,
    }
}

/// The kernel's words without their number.
pub(super) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_lowercase(),
        None => text,
    }
}

/// An IPv4 address inside an IPv6 socket is never meant here; this keeps the families apart.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::new(IpAddr::V4(v4), v6.port()),
            None => address,
        },
        SocketAddr::V4(_) => address,
    }
}
