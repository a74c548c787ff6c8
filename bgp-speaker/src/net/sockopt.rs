//! Socket options that need `setsockopt` itself. The only `unsafe` of the crate.
#![expect(unsafe_code, reason = "TCP-MD5 and GTSM have no safe wrapper")]

use std::io;
use std::mem::size_of;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{c_int, c_void, socklen_t};

use crate::types::{Prefix, Secret};

/// `TCP_MD5SIG_FLAG_PREFIX` of linux/tcp.h.
const FLAG_PREFIX: u8 = 1;

/// `TCP_AO_INFO` of linux/tcp.h (Linux 6.7); libc does not name it.
const TCP_AO_INFO: c_int = 40;

/// `struct tcp_md5sig` of linux/tcp.h, in full, so that one write fills it.
#[repr(C)]
struct TcpMd5Sig {
    addr: libc::sockaddr_storage,
    flags: u8,
    prefix_len: u8,
    key_len: u16,
    ifindex: c_int,
    key: [u8; libc::TCP_MD5SIG_MAXKEYLEN],
}

// The kernel reads exactly this many octets.
const _: () = assert!(size_of::<TcpMd5Sig>() == 216);

/// Which key signs the segments to and from a source; `None` removes it.
///
/// # Errors
/// What the kernel says: `ENOPROTOOPT` without TCP-MD5, `ENOMEM` over `net.core.optmem_max`, `ENOENT` for
/// the removal of what is not there.
pub(crate) fn set_md5(socket: BorrowedFd<'_>, source: &Prefix, key: Option<&Secret>) -> io::Result<()> {
    let key = key.map_or(&[][..], Secret::expose);
    let mut sig = TcpMd5Sig {
        addr: storage(source.addr()),
        flags: FLAG_PREFIX,
        prefix_len: source.len(),
        key_len: 0,
        ifindex: 0,
        key: [0; libc::TCP_MD5SIG_MAXKEYLEN],
    };
    for (to, from) in sig.key.iter_mut().zip(key) {
        *to = *from;
        sig.key_len += 1;
    }
    set(socket, libc::IPPROTO_TCP, libc::TCP_MD5SIG_EXT, &sig)
}

/// The smallest TTL or hop limit accepted (RFC 5082); 0 accepts all.
///
/// # Errors
/// What the kernel says.
pub(crate) fn set_minimum_ttl(socket: BorrowedFd<'_>, remote: IpAddr, minimum: u8) -> io::Result<()> {
    let minimum = c_int::from(minimum);
    match remote {
        IpAddr::V4(_) => set(socket, libc::IPPROTO_IP, libc::IP_MINTTL, &minimum),
        IpAddr::V6(_) => set(socket, libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT, &minimum),
    }
}

/// The TTL or hop limit of what is sent; `None` is the system's default.
///
/// # Errors
/// What the kernel says.
pub(crate) fn set_ttl(socket: BorrowedFd<'_>, remote: IpAddr, ttl: Option<u8>) -> io::Result<()> {
    let ttl = ttl.map_or(-1, c_int::from);
    match remote {
        IpAddr::V4(_) => set(socket, libc::IPPROTO_IP, libc::IP_TTL, &ttl),
        IpAddr::V6(_) => set(socket, libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS, &ttl),
    }
}

/// Makes a listener keep the SYN of each connection it accepts, for [`syn_ttl`].
///
/// # Errors
/// What the kernel says.
pub(crate) fn save_syn(listener: BorrowedFd<'_>) -> io::Result<()> {
    let on: c_int = 1;
    set(listener, libc::IPPROTO_TCP, libc::TCP_SAVE_SYN, &on)
}

/// The TTL or hop limit of the SYN that opened an accepted connection. `None` where it was not kept or was
/// asked for before.
///
/// # Errors
/// What the kernel says.
pub(crate) fn syn_ttl(socket: BorrowedFd<'_>, remote: IpAddr) -> io::Result<Option<u8>> {
    // The IP header and the TCP header, each with its options: at most 60 octets; IPv6 extensions are few.
    let mut value = [0_u8; 512];
    let mut len = socklen_t::try_from(value.len()).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open as it is borrowed, `value` has `len` octets, and both outlive the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_SAVED_SYN,
            value.as_mut_ptr().cast::<c_void>(),
            &raw mut len,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let syn = value.get(..usize::try_from(len).map_err(io::Error::other)?);
    let offset = match remote {
        IpAddr::V4(_) => 8,
        IpAddr::V6(_) => 7,
    };
    Ok(syn.and_then(|syn| syn.get(offset)).copied())
}

/// Asks for the TCP-AO state of a socket that has none.
///
/// # Errors
/// `ENOENT` where the kernel knows TCP-AO, `ENOPROTOOPT` where it does not.
pub(crate) fn tcp_ao_info(socket: BorrowedFd<'_>) -> io::Result<()> {
    // `struct tcp_ao_info_opt` has 56 octets; more room does no harm.
    let mut value = [0_u8; 128];
    let mut len: socklen_t = 56;
    // SAFETY: the descriptor is open as it is borrowed, `value` has at least `len` octets, and both outlive
    // the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            TCP_AO_INFO,
            value.as_mut_ptr().cast::<c_void>(),
            &raw mut len,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Index of an interface by its name.
///
/// # Errors
/// `ENODEV` where there is none, or the name can't be one.
pub(crate) fn interface_index(name: &str) -> io::Result<u32> {
    let name = std::ffi::CString::new(name).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?;
    // SAFETY: `name` ends with a zero and outlives the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

fn set<T>(socket: BorrowedFd<'_>, level: c_int, option: c_int, value: &T) -> io::Result<()> {
    let len = socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open as it is borrowed, `value` is a whole `T` that outlives the call, and the
    // kernel only reads it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(value).cast::<c_void>(),
            len,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The address as the kernel reads it, port 0.
fn storage(address: IpAddr) -> libc::sockaddr_storage {
    let address = socket2::SockAddr::from(SocketAddr::new(address, 0));
    // SAFETY: both are `struct sockaddr_storage` of this system, plain octets, and the source is whole.
    unsafe { address.as_ptr().cast::<libc::sockaddr_storage>().read() }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use socket2::{Domain, Socket, Type};

    use super::*;

    #[test]
    fn the_kernel_takes_keys_for_prefixes_of_both_families_and_gives_them_back_up() {
        for (domain, source) in [(Domain::IPV4, "10.0.0.0"), (Domain::IPV6, "fd00::")] {
            let socket = Socket::new(domain, Type::STREAM, None).unwrap();
            let source = Prefix::new(source.parse().unwrap(), 16).unwrap();
            let key = Secret::new(&[7; 80]).unwrap();
            set_md5(socket.as_fd(), &source, Some(&key)).unwrap();
            set_md5(socket.as_fd(), &source, None).unwrap();
            let twice = set_md5(socket.as_fd(), &source, None).unwrap_err();
            assert_eq!(twice.raw_os_error(), Some(libc::ENOENT));
        }
    }

    #[test]
    fn ttl_goes_back_to_the_default() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let default = socket.ttl_v4().unwrap();
        let remote = "10.0.0.1".parse().unwrap();
        set_ttl(socket.as_fd(), remote, Some(1)).unwrap();
        assert_eq!(socket.ttl_v4().unwrap(), 1);
        set_ttl(socket.as_fd(), remote, None).unwrap();
        assert_eq!(socket.ttl_v4().unwrap(), default);
    }
}
