//! Ways out of this node: asked of the kernel's routes and neighbours, and taken.
//!
//! ```text
//! XDP   remembered, or neighbour known, device takes frames: Ethernet header written here, out by the device
//!       else: untouched to tc, which begins anew
//! tc    the kernel finds the neighbour, or asks for it and keeps the packet meanwhile
//! ```
//!
//! Back out by the device that it came in by, a frame goes by `XDP_TX` where that is known to work. At a veth it is not: its
//! driver puts such frames into the other end's ring and wakes that end only if it has an XDP program too. Frames that are
//! redirected wake it always.

use aya_ebpf::bindings::{
    __sk_buff, BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_SUCCESS,
    TC_ACT_SHOT, xdp_action, xdp_md,
};
use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::helpers::generated::{bpf_fib_lookup, bpf_redirect, bpf_redirect_neigh};
use aya_ebpf::macros::btf_map;
use ebpf_abi::config::device_flag;
use ebpf_abi::forward::{self, Ask, Gateway, LIFETIME, Routed, Serves, WAYS};
use ebpf_abi::packet::Packet;
use ebpf_abi::{V4, V6};

use crate::maps::{clock, device};
use crate::packet::Frame;

/// How a hook asks for a way out.
pub trait Router {
    /// The device that the packet came in by.
    fn came(&self) -> u32;
    fn route<A: Asked>(&mut self, ask: &Ask<A>) -> Routed;
    /// The device of the way that was found.
    fn device(&self) -> u32;
}

/// For XDP.
pub struct RouteXdp {
    ctx: *mut xdp_md,
    /// Where in `WAYS` the way lies that was found.
    way: u32,
}
/// For tc.
pub struct RouteSkb(pub *mut __sk_buff);
/// Where nothing is forwarded.
pub struct Nowhere;

/// An address as the kernel's function has it: family and words.
pub trait Asked: Copy + Default + PartialEq {
    const FAMILY: u8;
    fn words(&self) -> [u32; 4];
    fn of(words: [u32; 4]) -> Self;
}

impl Asked for V4 {
    const FAMILY: u8 = 2;
    #[inline(always)]
    fn words(&self) -> [u32; 4] {
        [self.0, 0, 0, 0]
    }
    #[inline(always)]
    fn of([first, ..]: [u32; 4]) -> Self {
        Self(first)
    }
}

impl Asked for V6 {
    const FAMILY: u8 = 10;
    #[inline(always)]
    fn words(&self) -> [u32; 4] {
        self.0
    }
    #[inline(always)]
    fn of(words: [u32; 4]) -> Self {
        Self(words)
    }
}

/// `struct bpf_fib_lookup` of the kernel, without unions: what is asked has the names before the slash, the answer those after.
#[repr(C)]
pub struct Lookup {
    family: u8,
    protocol: u8,
    source_port: u16,
    destination_port: u16,
    /// Length of the packet / what fits.
    length: u16,
    /// Where it came in / where it goes out.
    device: u32,
    /// Traffic class / metric, and then the flags of the device.
    class: u32,
    source: [u32; 4],
    /// Destination / gateway, in the family that the answer says.
    destination: [u32; 4],
    vlan: u32,
    /// Addresses of the Ethernet header, in words of two octets.
    smac: [u16; 3],
    dmac: [u16; 3],
}

const _: () = assert!(size_of::<Lookup>() == 64);

/// A way out as the kernel said it, and for whom it serves.
#[repr(C)]
struct Way {
    serves: Serves,
    lookup: Lookup,
}

/// Behind those that are remembered: what this processor asked last of all others. On the stack there is no room for it.
const LAST: u32 = WAYS;

#[btf_map]
static ROUTES: PerCpuArray<Way, { WAYS as usize + 1 }> = PerCpuArray::new();

#[inline(always)]
fn way(place: u32) -> Option<&'static mut Way> {
    // SAFETY: the element is this processor's own, and programs do not interrupt each other here.
    ROUTES.get_ptr_mut(place).map(|way| unsafe { &mut *way })
}

/// The verdict of XDP for a frame that leaves by a device with these flags.
#[inline(always)]
fn out(ctx: *mut xdp_md, device: u32, flags: u32) -> u32 {
    // SAFETY: the kernel hands a valid context to the program.
    let came = unsafe { (*ctx).ingress_ifindex };
    if device == came && flags & device_flag::RETURNS_FRAMES != 0 {
        return xdp_action::XDP_TX;
    }
    // SAFETY: a function of the kernel over numbers.
    (unsafe { bpf_redirect(device, 0) }) as u32
}

/// One of these flags the device must have to take a frame that came in by `came`.
#[inline(always)]
const fn able(device: u32, came: u32) -> u32 {
    if device == came {
        device_flag::TAKES_FRAMES | device_flag::RETURNS_FRAMES
    } else {
        device_flag::TAKES_FRAMES
    }
}

impl RouteXdp {
    #[inline(always)]
    pub fn new(ctx: *mut xdp_md) -> Self {
        Self { ctx, way: LAST }
    }

    /// The verdict of XDP for a frame that is ready to go.
    #[inline(always)]
    pub fn send(&self, frame: &mut Frame) -> u32 {
        let Some(Way { lookup, .. }) = way(self.way) else {
            return xdp_action::XDP_ABORTED;
        };
        // The header was read, so it is there.
        if frame.write(0, lookup.ethernet()).is_none() {
            return xdp_action::XDP_ABORTED;
        }
        out(self.ctx, lookup.device, lookup.class)
    }

    /// Whether an answer can leave by the device that the frame came in by.
    #[inline(always)]
    pub fn answers(&self) -> bool {
        let came = self.came();
        device(came).is_some_and(|device| device.flags & able(came, came) != 0)
    }

    /// The verdict of XDP for a frame that has become its answer.
    #[inline(always)]
    pub fn send_back(&self) -> u32 {
        let came = self.came();
        out(self.ctx, came, device(came).map_or(0, |device| device.flags))
    }
}

impl RouteSkb {
    /// The verdict of tc for a packet that is ready to go.
    #[inline(always)]
    pub fn send(&self) -> i32 {
        let Some(Way { lookup, .. }) = way(LAST) else {
            return TC_ACT_SHOT;
        };
        let mut gateway = Gateway {
            family: lookup.family.into(),
            address: lookup.destination,
        };
        // SAFETY: the struct is laid out as the kernel's `bpf_redir_neigh`, and as long as its size says.
        let done = unsafe {
            bpf_redirect_neigh(
                lookup.device,
                (&raw mut gateway).cast(),
                size_of::<Gateway>() as i32,
                0,
            )
        };
        done as i32
    }
}

impl Router for RouteXdp {
    #[inline(always)]
    fn came(&self) -> u32 {
        // SAFETY: the kernel hands a valid context to the program.
        unsafe { (*self.ctx).ingress_ifindex }
    }

    #[inline(always)]
    fn route<A: Asked>(&mut self, ask: &Ask<A>) -> Routed {
        let came = self.came();
        let words = ask.destination.words();
        // Rules that look at the source, and routes that are chosen by it, say the same to all who ask without.
        let (place, now) = if ask.source == A::default() {
            (forward::place(&words), clock())
        } else {
            (LAST, 0)
        };
        self.way = place;
        let Some(Way { serves, lookup }) = way(place) else {
            return Routed::Nowhere;
        };
        if serves.serves(now, A::FAMILY.into(), came, &words, ask.length) {
            return Routed::Found;
        }
        serves.until = 0;
        lookup.ask(ask, came);
        // SAFETY: the context is valid, and the struct is as long as its size says.
        let answer = unsafe { bpf_fib_lookup(self.ctx.cast(), core::ptr::from_mut(lookup).cast(), 64, 0) };
        match answer as u32 {
            BPF_FIB_LKUP_RET_SUCCESS => {
                let flags = device(lookup.device).map_or(0, |device| device.flags);
                // The route's metric was there, which nobody asks for.
                lookup.class = flags;
                if flags & able(lookup.device, came) == 0 {
                    return Routed::Elsewhere;
                }
                if place != LAST {
                    serves.destination = words;
                    serves.family = A::FAMILY.into();
                    serves.came = came;
                    // What fits, or the length of this packet: older kernels leave it as it was asked.
                    serves.fits = lookup.length.into();
                    serves.until = now + LIFETIME;
                }
                Routed::Found
            }
            BPF_FIB_LKUP_RET_NO_NEIGH => Routed::Elsewhere,
            BPF_FIB_LKUP_RET_FRAG_NEEDED => Routed::TooBig(lookup.length),
            _ => Routed::Nowhere,
        }
    }

    #[inline(always)]
    fn device(&self) -> u32 {
        way(self.way).map_or(0, |way| way.lookup.device)
    }
}

impl Router for RouteSkb {
    #[inline(always)]
    fn came(&self) -> u32 {
        // SAFETY: the kernel hands a valid context to the program.
        unsafe { (*self.0).ingress_ifindex }
    }

    #[inline(always)]
    fn route<A: Asked>(&mut self, ask: &Ask<A>) -> Routed {
        // SAFETY: the kernel hands a valid context to the program.
        let came = unsafe { (*self.0).ifindex };
        let Some(Way { lookup, .. }) = way(LAST) else {
            return Routed::Nowhere;
        };
        lookup.ask(ask, came);
        // SAFETY: the context is valid, and the struct is as long as its size says.
        let answer = unsafe { bpf_fib_lookup(self.0.cast(), core::ptr::from_mut(lookup).cast(), 64, 0) };
        match answer as u32 {
            BPF_FIB_LKUP_RET_SUCCESS | BPF_FIB_LKUP_RET_NO_NEIGH => Routed::Found,
            BPF_FIB_LKUP_RET_FRAG_NEEDED => Routed::TooBig(lookup.length),
            _ => Routed::Nowhere,
        }
    }

    #[inline(always)]
    fn device(&self) -> u32 {
        way(LAST).map_or(0, |way| way.lookup.device)
    }
}

impl Router for Nowhere {
    #[inline(always)]
    fn came(&self) -> u32 {
        0
    }

    #[inline(always)]
    fn route<A: Asked>(&mut self, _: &Ask<A>) -> Routed {
        Routed::Nowhere
    }

    #[inline(always)]
    fn device(&self) -> u32 {
        0
    }
}

impl Lookup {
    /// Without ports: routes of equal worth are then chosen by addresses alone, so that a flow stays on one.
    #[inline(always)]
    fn ask<A: Asked>(&mut self, ask: &Ask<A>, came: u32) {
        self.family = A::FAMILY;
        self.length = ask.length;
        self.device = came;
        self.class = 0;
        // Where it is zero, the compiler would call a function that writes octet by octet.
        self.source = ask.source.words().map(core::hint::black_box);
        self.destination = ask.destination.words();
    }

    /// The addresses of the Ethernet header, as they lie in it.
    #[inline(always)]
    fn ethernet(&self) -> [u8; 12] {
        let ([a, b, c], [d, e, f]) = (self.dmac, self.smac);
        let [[a, b], [c, d], [e, f], [g, h], [i, j], [k, l]] = [a, b, c, d, e, f].map(u16::to_ne_bytes);
        [a, b, c, d, e, f, g, h, i, j, k, l]
    }
}
