//! What this kernel can do for BGP's TCP.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;

use socket2::{Domain, Socket, Type};

use super::sockopt;
use crate::types::{Prefix, Secret};

/// What was found, for the status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernel {
    /// TCP-MD5 (RFC 2385).
    pub tcp_md5: Support,
    /// TCP-AO (RFC 5925), Linux 6.7 with `CONFIG_TCP_AO`.
    pub tcp_ao: Support,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    Yes,
    No,
    /// No socket could be had to ask.
    Unknown,
}

/// Asks the kernel. Opens a socket and closes it; sends nothing.
#[must_use]
pub fn probe() -> Kernel {
    let Ok(socket) = Socket::new(Domain::IPV4, Type::STREAM, None) else {
        return Kernel {
            tcp_md5: Support::Unknown,
            tcp_ao: Support::Unknown,
        };
    };
    let source = Prefix::host(Ipv4Addr::LOCALHOST.into());
    let tcp_md5 = match Secret::new(b"probe") {
        Ok(key) => support(sockopt::set_md5(socket.as_fd(), &source, Some(&key))),
        Err(_) => Support::Unknown,
    };
    Kernel {
        tcp_md5,
        tcp_ao: support(sockopt::tcp_ao_info(socket.as_fd())),
    }
}

fn support(answer: io::Result<()>) -> Support {
    match answer.err().and_then(|error| error.raw_os_error()) {
        // No state on this socket: the option itself is known.
        None | Some(libc::ENOENT) => Support::Yes,
        Some(libc::ENOPROTOOPT | libc::EOPNOTSUPP) => Support::No,
        Some(_) => Support::Unknown,
    }
}
