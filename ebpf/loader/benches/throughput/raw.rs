//! Frames by a device, many in one call: what no safe library has.
#![expect(unsafe_code, reason = "sockets of packets have no safe form")]

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use anyhow::{Context as _, Result, ensure};
use nix::net::if_::if_nametoindex;

/// Given to the kernel at once.
const BATCH: usize = 64;

/// Sends by one device, and receives nothing.
pub(crate) struct Sender(OwnedFd);

impl Sender {
    /// Of this thread's network.
    pub(crate) fn open(device: &str) -> Result<Self> {
        // SAFETY: opens a descriptor.
        let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        ensure!(socket >= 0, "socket: {}", io::Error::last_os_error());
        // SAFETY: it was opened just now, and is nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        // SAFETY: all zero is an address of nothing.
        let mut at: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        at.sll_family = libc::AF_PACKET as u16;
        at.sll_ifindex = if_nametoindex(device)? as i32;
        let length = size_of::<libc::sockaddr_ll>() as u32;
        // SAFETY: the address is one, and as long as is said.
        let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const at).cast(), length) };
        ensure!(bound == 0, "bind: {}", io::Error::last_os_error());
        Ok(Self(socket))
    }

    /// So many of these frames, one after the other and from the beginning again; both numbers are whole batches.
    pub(crate) fn send<const N: usize>(&self, frames: &mut [[u8; N]], count: usize) -> Result<()> {
        let mut parts: Vec<libc::iovec> = frames
            .iter_mut()
            .map(|frame| libc::iovec {
                iov_base: frame.as_mut_ptr().cast(),
                iov_len: N,
            })
            .collect();
        let mut messages: Vec<libc::mmsghdr> = parts
            .iter_mut()
            .map(|part| {
                // SAFETY: all zero is a message with nothing in it.
                let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
                message.msg_hdr.msg_iov = part;
                message.msg_hdr.msg_iovlen = 1;
                message
            })
            .collect();
        for n in (0..count).step_by(BATCH) {
            let first = n % messages.len();
            let mut batch = messages.get_mut(first..first + BATCH).context("a batch")?;
            while !batch.is_empty() {
                let fd = self.0.as_raw_fd();
                // SAFETY: the messages lead to parts and frames that outlive the call.
                let sent = unsafe { libc::sendmmsg(fd, batch.as_mut_ptr(), batch.len() as u32, 0) };
                ensure!(sent > 0, "sendmmsg: {}", io::Error::last_os_error());
                batch = batch.get_mut(sent as usize..).context("more than there were")?;
            }
        }
        Ok(())
    }
}
