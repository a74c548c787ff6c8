//! The programs of sockets. What they decide is [`ebpf_abi::socket`]'s; here is how the kernel shows them a socket.
//!
//! ```text
//! program                  hook (cgroup)          asks
//! sock{4,6}_connect        connect                forward
//! sock{4,6}_sendmsg        sendmsg, with address  forward
//! sock{4,6}_recvmsg        recvmsg, with address  reverse
//! sock{4,6}_getpeername    getpeername            reverse
//! sock{4,6}_post_bind      after bind             may_bind
//! sock_release             close                  release
//! ```
//!
//! An IPv6 socket that asks for `::ffff:a.b.c.d` speaks IPv4: it is served by the tables of IPv4. The kernel itself calls
//! the hook of IPv4 when such a socket sends a datagram, and that of IPv6 when it receives one.

use aya_ebpf::bindings::{BPF_SK_STORAGE_GET_F_CREATE, bpf_sock, bpf_sock_addr};
use aya_ebpf::helpers::generated::{
    bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_set_retval, bpf_sk_storage_delete, bpf_sk_storage_get,
};
use aya_ebpf::macros::{cgroup_sock, cgroup_sock_addr};
use aya_ebpf::programs::{SockAddrContext, SockContext};
use ebpf_abi::balance::Tables;
use ebpf_abi::config::FORWARDED;
use ebpf_abi::event::answer;
use ebpf_abi::packet::{TCP, UDP};
use ebpf_abi::service::FrontendKey;
use ebpf_abi::socket::{
    Answer, Asked, Bond, Memory, Peer, Promise, Reached, Refusal, Socket, forward, mapped, may_bind,
    promised, release, reverse,
};
use ebpf_abi::{BackendId, FrontendId, V4, V6};

use crate::event::{self, Call, tell_call};
use crate::maps::{Maps4, Maps6, SOCKET_PEERS};
use crate::route::Nowhere;

/// The system call goes on.
const GO_ON: i32 = 1;
/// It fails.
const FAIL: i32 = 0;
/// Multipath TCP, as far as sockets are concerned TCP.
const MPTCP: u32 = 262;

#[cgroup_sock_addr(connect4)]
pub fn sock4_connect(ctx: SockAddrContext) -> i32 {
    ask4(ctx.sock_addr, Bond::Connection)
}

#[cgroup_sock_addr(sendmsg4)]
pub fn sock4_sendmsg(ctx: SockAddrContext) -> i32 {
    ask4(ctx.sock_addr, Bond::Datagram)
}

#[cgroup_sock_addr(connect6)]
pub fn sock6_connect(ctx: SockAddrContext) -> i32 {
    ask6(ctx.sock_addr, Bond::Connection)
}

#[cgroup_sock_addr(sendmsg6)]
pub fn sock6_sendmsg(ctx: SockAddrContext) -> i32 {
    ask6(ctx.sock_addr, Bond::Datagram)
}

#[cgroup_sock_addr(recvmsg4)]
pub fn sock4_recvmsg(ctx: SockAddrContext) -> i32 {
    show4(ctx.sock_addr, Memory::All)
}

#[cgroup_sock_addr(getpeername4)]
pub fn sock4_getpeername(ctx: SockAddrContext) -> i32 {
    show4(ctx.sock_addr, Memory::Connection)
}

#[cgroup_sock_addr(recvmsg6)]
pub fn sock6_recvmsg(ctx: SockAddrContext) -> i32 {
    show6(ctx.sock_addr, Memory::All)
}

#[cgroup_sock_addr(getpeername6)]
pub fn sock6_getpeername(ctx: SockAddrContext) -> i32 {
    show6(ctx.sock_addr, Memory::Connection)
}

#[cgroup_sock(post_bind4)]
pub fn sock4_post_bind(ctx: SockContext) -> i32 {
    let (address, port, protocol) = {
        // SAFETY: the kernel hands a valid context to the program.
        let sock = unsafe { &*ctx.sock };
        (V4(sock.src_ip4), sock.src_port as u16, sock.protocol)
    };
    let Some(protocol) = balanced(protocol) else {
        return GO_ON;
    };
    bound(may_bind(
        address,
        port.to_be(),
        protocol,
        namespace(ctx.sock),
        &Maps4(Nowhere),
    ))
}

#[cgroup_sock(post_bind6)]
pub fn sock6_post_bind(ctx: SockContext) -> i32 {
    let (address, port, protocol) = {
        // SAFETY: as above.
        let sock = unsafe { &*ctx.sock };
        let address = V6(words(&raw const sock.src_ip6));
        (address, sock.src_port as u16, sock.protocol)
    };
    let Some(protocol) = balanced(protocol) else {
        return GO_ON;
    };
    let (port, namespace) = (port.to_be(), namespace(ctx.sock));
    if let Some(address) = mapped(address) {
        return bound(may_bind(address, port, protocol, namespace, &Maps4(Nowhere)));
    }
    let six = may_bind(address, port, protocol, namespace, &Maps6(Nowhere));
    if six.is_err() || address != V6::default() {
        return bound(six);
    }
    // Bound to everything: to every IPv4 address too. One that is for IPv6 only is refused too much, and can name an address.
    bound(may_bind(
        V4::default(),
        port,
        protocol,
        namespace,
        &Maps4(Nowhere),
    ))
}

#[cgroup_sock(sock_release)]
pub fn sock_release(ctx: SockContext) -> i32 {
    release::<V4, _, _>(&Leaving(ctx.sock), &mut Maps4(Nowhere));
    GO_ON
}

#[inline(always)]
fn bound(verdict: Result<(), Refusal>) -> i32 {
    match verdict {
        Ok(()) => GO_ON,
        Err(refusal) => refuse(refusal),
    }
}

#[inline(always)]
fn namespace(sock: *mut bpf_sock) -> u64 {
    // SAFETY: the kernel hands a valid context to the program.
    unsafe { bpf_get_netns_cookie(sock.cast()) }
}

/// The protocol, if it is one that sockets are balanced for. SCTP's associations have many addresses.
#[inline(always)]
fn balanced(protocol: u32) -> Option<u8> {
    match protocol {
        6 | MPTCP => Some(TCP),
        17 => Some(UDP),
        _ => None,
    }
}

#[inline(always)]
fn ask4(ctx: *mut bpf_sock_addr, bond: Bond) -> i32 {
    let mut socket = Asking(ctx);
    let Some(asked) = socket.asked(bond, socket.address4()) else {
        return GO_ON;
    };
    let answer = forward(&asked, &mut socket, &mut Maps4(Nowhere));
    let answer = done(answer, |address, port| {
        // SAFETY: the context is valid, and these fields may be written in these hooks.
        unsafe {
            (&raw mut (*ctx).user_ip4).write_volatile(address.0);
            (&raw mut (*ctx).user_port).write_volatile(port.into());
        }
    });
    event::socket(answer, |what| tell4(ctx, bond, what))
}

#[inline(always)]
fn ask6(ctx: *mut bpf_sock_addr, bond: Bond) -> i32 {
    let answer = match mapped(Asking(ctx).address6()) {
        Some(address) => ask_mapped(ctx, bond, address.0),
        None => ask_six(ctx, bond),
    };
    event::socket(answer, |what| tell6(ctx, bond, what))
}

#[inline(never)]
fn ask_six(ctx: *mut bpf_sock_addr, bond: Bond) -> u32 {
    let mut socket = Asking(ctx);
    let Some(asked) = socket.asked(bond, socket.address6()) else {
        return GO_ON as u32;
    };
    let answer = forward(&asked, &mut socket, &mut Maps6(Nowhere));
    done(answer, |address, port| write6(ctx, address, port))
}

#[inline(never)]
fn ask_mapped(ctx: *mut bpf_sock_addr, bond: Bond, address: u32) -> u32 {
    let mut socket = Asking(ctx);
    let Some(asked) = socket.asked(bond, V4(address)) else {
        return GO_ON as u32;
    };
    let answer = forward(&asked, &mut socket, &mut Maps4(Nowhere));
    done(answer, |address, port| write6(ctx, address.wide(), port))
}

/// What to return, and what to count.
#[inline(always)]
fn done<A>(answer: Answer<A>, write: impl FnOnce(A, u16)) -> u32 {
    match answer {
        Answer::Untouched(_) => GO_ON as u32,
        Answer::To(address, port) => {
            write(address, port);
            GO_ON as u32 | answer::FORWARDED
        }
        Answer::Refused(refusal) => {
            let verdict = refuse(refusal) as u32;
            verdict | refusal.reason().map_or(0, answer::dropped)
        }
    }
}

#[inline(always)]
fn refuse(refusal: Refusal) -> i32 {
    // SAFETY: a function of the kernel; the number is an error's.
    unsafe { bpf_set_retval(-refusal.errno()) };
    FAIL
}

#[inline(never)]
fn tell4(ctx: *mut bpf_sock_addr, bond: Bond, what: u32) -> u32 {
    let socket = Asking(ctx);
    let (bound, port) = Socket::<V4>::bound(&socket);
    tell(
        &socket,
        bond,
        socket.address4().wide(),
        (bound.wide(), port),
        what,
    )
}

#[inline(never)]
fn tell6(ctx: *mut bpf_sock_addr, bond: Bond, what: u32) -> u32 {
    let socket = Asking(ctx);
    let bound = Socket::<V6>::bound(&socket);
    tell(&socket, bond, socket.address6(), bound, what)
}

/// The socket's address is the backend's now, or, where it was refused, still what it asked for.
#[inline(always)]
fn tell(socket: &Asking, bond: Bond, address: V6, bound: (V6, u16), what: u32) -> u32 {
    let Some(Asked { port, protocol, .. }) = socket.asked(bond, ()) else {
        return 0;
    };
    let what = what as u8;
    let asked = if what == FORWARDED {
        promised::<V6, _, _>(address, port, bond, socket, &Maps6(Nowhere))
    } else {
        Some(Promise {
            asked: address,
            port,
            frontend: addressed(address, port, protocol),
            backend: BackendId::NONE,
        })
    };
    let Some(asked) = asked else { return 0 };
    tell_call(&Call {
        bound,
        asked,
        protocol,
        what,
    })
}

/// Which service has this very address and port.
#[inline(always)]
fn addressed(address: V6, port: u16, protocol: u8) -> FrontendId {
    let frontend = match mapped(address) {
        Some(address) => Maps4(Nowhere).frontend(&FrontendKey::new(address, port, protocol)),
        None => Maps6(Nowhere).frontend(&FrontendKey::new(address, port, protocol)),
    };
    frontend.map_or(FrontendId::NONE, |frontend| frontend.id)
}

#[inline(always)]
fn show4(ctx: *mut bpf_sock_addr, memory: Memory) -> i32 {
    let socket = Asking(ctx);
    let (address, port) = (socket.address4(), socket.port());
    if let Some((address, port)) = reverse::<V4, _, _>(address.wide(), port, memory, &socket, &Maps4(Nowhere))
        && let Some(address) = mapped(address)
    {
        // SAFETY: the context is valid, and these fields may be written in these hooks.
        unsafe {
            (&raw mut (*ctx).user_ip4).write_volatile(address.0);
            (&raw mut (*ctx).user_port).write_volatile(port.into());
        }
    }
    GO_ON
}

/// Also for what an IPv6 socket hears over IPv4: both are in one table.
#[inline(always)]
fn show6(ctx: *mut bpf_sock_addr, memory: Memory) -> i32 {
    let socket = Asking(ctx);
    let (address, port) = (socket.address6(), socket.port());
    if let Some((address, port)) = reverse::<V6, _, _>(address, port, memory, &socket, &Maps6(Nowhere)) {
        write6(ctx, address, port);
    }
    GO_ON
}

#[inline(always)]
fn write6(ctx: *mut bpf_sock_addr, address: V6, port: u16) {
    // SAFETY: the context is valid, and these fields may be written in these hooks.
    unsafe {
        let to = (&raw mut (*ctx).user_ip6).cast::<u32>();
        to.write_volatile(address.0[0]);
        to.add(1).write_volatile(address.0[1]);
        to.add(2).write_volatile(address.0[2]);
        to.add(3).write_volatile(address.0[3]);
        (&raw mut (*ctx).user_port).write_volatile(port.into());
    }
}

/// Reads a context's words one by one, as the verifier wants them read.
#[inline(always)]
fn words(from: *const [u32; 4]) -> [u32; 4] {
    let from = from.cast::<u32>();
    // SAFETY: the caller's pointer is to four words.
    unsafe {
        [
            from.read_volatile(),
            from.add(1).read_volatile(),
            from.add(2).read_volatile(),
            from.add(3).read_volatile(),
        ]
    }
}

/// A socket in the hooks that have an address.
struct Asking(*mut bpf_sock_addr);

impl Asking {
    #[inline(always)]
    fn asked<A>(&self, bond: Bond, address: A) -> Option<Asked<A>> {
        // SAFETY: the kernel hands a valid context to the program.
        let protocol = balanced(unsafe { (*self.0).protocol })?;
        Some(Asked {
            address,
            port: self.port(),
            protocol,
            bond,
        })
    }

    #[inline(always)]
    fn address4(&self) -> V4 {
        // SAFETY: as above.
        V4(unsafe { (&raw const (*self.0).user_ip4).read_volatile() })
    }

    #[inline(always)]
    fn address6(&self) -> V6 {
        // SAFETY: as above.
        V6(words(unsafe { &raw const (*self.0).user_ip6 }))
    }

    #[inline(always)]
    fn port(&self) -> u16 {
        // SAFETY: as above.
        unsafe { (&raw const (*self.0).user_port).read_volatile() as u16 }
    }

    #[inline(always)]
    fn sock(&self) -> *mut bpf_sock {
        // SAFETY: as above; every hook has a socket.
        unsafe { (*self.0).__bindgen_anon_1.sk }
    }
}

/// The part of a socket that differs by family.
trait Source: Reached {
    fn bound(sock: *mut bpf_sock) -> Self;
}

impl Source for V4 {
    #[inline(always)]
    fn bound(sock: *mut bpf_sock) -> Self {
        // SAFETY: the kernel's own pointer.
        Self(unsafe { (&raw const (*sock).src_ip4).read_volatile() })
    }
}

impl Source for V6 {
    #[inline(always)]
    fn bound(sock: *mut bpf_sock) -> Self {
        // SAFETY: the kernel's own pointer.
        Self(words(unsafe { &raw const (*sock).src_ip6 }))
    }
}

impl<A: Source> Socket<A> for Asking {
    #[inline(always)]
    fn cookie(&self) -> u64 {
        // SAFETY: the context is valid.
        unsafe { bpf_get_socket_cookie(self.0.cast()) }
    }

    #[inline(always)]
    fn namespace(&self) -> u64 {
        // SAFETY: the context is valid.
        unsafe { bpf_get_netns_cookie(self.0.cast()) }
    }

    #[inline(always)]
    fn bound(&self) -> (A, u16) {
        let sock = self.sock();
        // SAFETY: the kernel's own pointer.
        let port = unsafe { (&raw const (*sock).src_port).read_volatile() as u16 };
        (A::bound(sock), port.to_be())
    }

    #[inline(always)]
    fn peer(&self) -> Option<Peer> {
        peer(self.sock())
    }

    /// The kernel makes room with this value, or shows the one there is.
    #[inline(always)]
    fn set_peer(&mut self, peer: &Peer) -> Option<()> {
        let create = u64::from(BPF_SK_STORAGE_GET_F_CREATE);
        let value = core::ptr::from_ref(peer).cast_mut().cast();
        // SAFETY: a map of the kernel, its socket, and a value of the map's size that the kernel only reads.
        let known = unsafe { bpf_sk_storage_get(peers(), self.sock().cast(), value, create) };
        let known = known.cast::<Peer>();
        if known.is_null() {
            return None;
        }
        // SAFETY: the kernel's pointer to a value, which lives as long as the program runs.
        unsafe { *known = *peer };
        Some(())
    }

    #[inline(always)]
    fn forget_peer(&mut self) {
        // SAFETY: a map of the kernel, and its socket. Gone is gone.
        let _ = unsafe { bpf_sk_storage_delete(peers(), self.sock().cast()) };
    }
}

/// The library offers socket storage only where there is an address.
#[inline(always)]
fn peers() -> *mut core::ffi::c_void {
    (&raw const SOCKET_PEERS).cast_mut().cast()
}

#[inline(always)]
fn peer(sock: *mut bpf_sock) -> Option<Peer> {
    // SAFETY: a map of the kernel, and its socket.
    let known = unsafe { bpf_sk_storage_get(peers(), sock.cast(), core::ptr::null_mut(), 0) };
    // SAFETY: null, or the kernel's pointer to a value, which lives as long as the program runs.
    unsafe { known.cast::<Peer>().as_ref().copied() }
}

/// A socket on its way out.
struct Leaving(*mut bpf_sock);

impl Socket<V4> for Leaving {
    #[inline(always)]
    fn cookie(&self) -> u64 {
        // SAFETY: the context is valid.
        unsafe { bpf_get_socket_cookie(self.0.cast()) }
    }

    #[inline(always)]
    fn namespace(&self) -> u64 {
        namespace(self.0)
    }

    #[inline(always)]
    fn bound(&self) -> (V4, u16) {
        (V4::default(), 0)
    }

    #[inline(always)]
    fn peer(&self) -> Option<Peer> {
        peer(self.0)
    }

    /// What is promised now is never asked for.
    #[inline(always)]
    fn set_peer(&mut self, _: &Peer) -> Option<()> {
        None
    }

    #[inline(always)]
    fn forget_peer(&mut self) {}
}
