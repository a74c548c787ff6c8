//! Sockets of a network namespace as the kernel shows them (`sock_diag(7)`), and their end. Needs `INET_DIAG`,
//! `INET_UDP_DIAG` and `INET_DIAG_DESTROY`.
//!
//! ```text
//!   request:  nlmsghdr | inet_diag_req_v2
//!   answer:   nlmsghdr | inet_diag_msg | attributes
//! ```

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd};

use ebpf_abi::packet::{TCP, UDP};

use crate::netns::socket;

/// A socket with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) cookie: u64,
    pub(crate) protocol: u8,
    /// The other end.
    pub(crate) remote: SocketAddr,
    family: u8,
    /// `struct inet_diag_sockid`: ends and cookie, handed back as they came.
    id: [u8; ID],
}

/// Whether a socket was there to be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Now,
    /// It closed meanwhile.
    Gone,
}

/// A conversation with the kernel about the sockets of one namespace: that of the thread that begins it.
#[derive(Debug)]
pub(crate) struct Diag(OwnedFd);

const ID: usize = 48;
/// `struct nlmsghdr`.
const HEADER: usize = 16;
/// `struct inet_diag_msg`.
const BODY: usize = 72;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// States in which a socket has another end, as bits: `ESTABLISHED`, `SYN_SENT`, `FIN_WAIT1`, `FIN_WAIT2`, `CLOSE_WAIT`,
/// `LAST_ACK`, `CLOSING`. One that waits for the answer to its SYN would wait for minutes.
const CONNECTED: u32 = 1 << 1 | 1 << 2 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 11;

impl Diag {
    pub(crate) fn new() -> io::Result<Self> {
        socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_SOCK_DIAG).map(Self)
    }

    /// All connected TCP and UDP sockets of both families.
    pub(crate) fn connected(&self) -> io::Result<Vec<Shown>> {
        let mut found = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            for protocol in [TCP, UDP] {
                self.dump(family, protocol, &mut found)?;
            }
        }
        Ok(found)
    }

    fn dump(&self, family: i32, protocol: u8, found: &mut Vec<Shown>) -> io::Result<()> {
        let family = u8::try_from(family).map_err(io::Error::other)?;
        let request = request(family, protocol, CONNECTED, &[0; ID]);
        self.send(SOCK_DIAG_BY_FAMILY, REQUEST | DUMP, &request)?;
        loop {
            for (kind, body) in messages(&self.receive()?) {
                match kind {
                    DONE => return acknowledged(body),
                    ERROR => acknowledged(body)?,
                    SOCK_DIAG_BY_FAMILY => found.extend(shown(body, protocol)),
                    _ => {}
                }
            }
        }
    }

    /// Ends a socket of this namespace; who uses it hears `ECONNABORTED`.
    pub(crate) fn destroy(&self, known: &Shown) -> io::Result<Ended> {
        let request = request(known.family, known.protocol, u32::MAX, &known.id);
        self.send(SOCK_DESTROY, REQUEST | ACK, &request)?;
        loop {
            for (kind, body) in messages(&self.receive()?) {
                if kind != ERROR {
                    continue;
                }
                return match acknowledged(body) {
                    Ok(()) => Ok(Ended::Now),
                    Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(Ended::Gone),
                    Err(error) => Err(error),
                };
            }
        }
    }

    /// Whether this kernel shows and ends sockets: asked for one that nobody has.
    pub(crate) fn try_out() -> io::Result<()> {
        let diag = Self::new()?;
        for protocol in [TCP, UDP] {
            let nobody = Shown {
                cookie: 0,
                protocol,
                remote: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
                family: u8::try_from(libc::AF_INET).map_err(io::Error::other)?,
                id: [0; ID],
            };
            diag.destroy(&nobody)?;
        }
        Ok(())
    }

    fn send(&self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        let length = u32::try_from(HEADER + body.len()).map_err(io::Error::other)?;
        let mut message = Vec::with_capacity(HEADER + body.len());
        message.extend(length.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        message.extend([0; 8]);
        message.extend(body);
        // SAFETY: the message lives until the call returns, with its true length.
        #[expect(unsafe_code, reason = "the library has no netlink")]
        let sent = unsafe { libc::send(self.0.as_raw_fd(), message.as_ptr().cast(), message.len(), 0) };
        if sent < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    fn receive(&self) -> io::Result<Vec<u8>> {
        // The kernel fills no more than 32 KiB at once.
        let mut buffer = vec![0_u8; 64 * 1024];
        // SAFETY: the buffer lives until the call returns, with its true length.
        #[expect(unsafe_code, reason = "the library has no netlink")]
        let length = unsafe { libc::recv(self.0.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
        buffer.truncate(length);
        Ok(buffer)
    }
}

/// `struct inet_diag_req_v2`.
fn request(family: u8, protocol: u8, states: u32, id: &[u8; ID]) -> Vec<u8> {
    let mut request = vec![family, protocol, 0, 0];
    request.extend(states.to_ne_bytes());
    request.extend(id);
    request
}

/// `struct inet_diag_msg`. In its id: own port, the other port, own address, the other address, device, cookie.
fn shown(body: &[u8], protocol: u8) -> Option<Shown> {
    let fixed = body.get(..BODY)?;
    let family = *fixed.first()?;
    let id: [u8; ID] = fixed.get(4..4 + ID)?.try_into().ok()?;
    let port = u16::from_be_bytes(id.get(2..4)?.try_into().ok()?);
    let address: [u8; 16] = id.get(20..36)?.try_into().ok()?;
    let [a, b, c, d, ..] = address;
    let address = if i32::from(family) == libc::AF_INET {
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    } else {
        IpAddr::V6(Ipv6Addr::from(address))
    };
    Some(Shown {
        cookie: u64::from_ne_bytes(id.get(40..48)?.try_into().ok()?),
        protocol,
        remote: SocketAddr::new(address, port),
        family,
        id,
    })
}

/// Kinds and bodies of messages. One that is cut ends them.
fn messages(mut octets: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    while let Some(([l0, l1, l2, l3, k0, k1], _)) = octets.split_first_chunk::<6>() {
        let length = usize::try_from(u32::from_ne_bytes([*l0, *l1, *l2, *l3])).unwrap_or(usize::MAX);
        let Some(body) = octets.get(HEADER..length) else {
            break;
        };
        found.push((u16::from_ne_bytes([*k0, *k1]), body));
        octets = octets.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// What an answer says of the request.
fn acknowledged(body: &[u8]) -> io::Result<()> {
    let code = body
        .first_chunk::<4>()
        .map_or(0, |code| i32::from_ne_bytes(*code));
    if code == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(code.saturating_neg()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_messages_are_no_messages() {
        let mut whole = Vec::new();
        for length in [20_u32, 24] {
            whole.extend(length.to_ne_bytes());
            whole.extend(DONE.to_ne_bytes());
            whole.resize(whole.len() + usize::try_from(length).expect("small") - 6, 0);
        }
        assert_eq!(messages(&whole).len(), 2);
        for length in 0..whole.len() {
            assert!(messages(&whole[..length]).len() < 2);
        }
        let never_ends = [0; 32];
        assert!(messages(&never_ends).is_empty());
    }

    #[test]
    fn a_socket_is_named_by_its_cookie_and_its_other_end_and_never_read_from_a_cut_answer() {
        let mut body = vec![0; BODY];
        body[0] = u8::try_from(libc::AF_INET).expect("small");
        body[6..8].copy_from_slice(&80_u16.to_be_bytes());
        body[24..28].copy_from_slice(&[10, 0, 0, 1]);
        body[44..52].copy_from_slice(&7_u64.to_ne_bytes());
        let known = shown(&body, TCP).expect("a socket");
        assert_eq!((known.cookie, known.protocol), (7, TCP));
        assert_eq!(known.remote, "10.0.0.1:80".parse().expect("an address"));
        for length in 0..body.len() {
            assert_eq!(shown(&body[..length], TCP), None, "{length}");
        }
    }
}
