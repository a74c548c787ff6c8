//! Ways out of this node: asked of the kernel's routes and neighbours, and taken.
//!
//! ```text
//! XDP   neighbour known, device takes frames: Ethernet header written here, out by the device
//!       else: untouched to tc, which begins anew
//! tc    the kernel finds the neighbour, or asks for it and keeps the packet meanwhile
//! ```

use core::mem::MaybeUninit;

use aya_ebpf::bindings::{
    __sk_buff, BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_SUCCESS, xdp_action,
    xdp_md,
};
use aya_ebpf::helpers::generated::{bpf_fib_lookup, bpf_redirect, bpf_redirect_neigh};
use ebpf_abi::config::device_flag;
use ebpf_abi::forward::{Ask, Gateway, Routed};
use ebpf_abi::packet::Packet;
use ebpf_abi::{V4, V6};

use crate::maps::device;
use crate::packet::Frame;

/// How a hook asks for a way out.
pub trait Router {
    fn route<A: Asked>(&mut self, ask: &Ask<A>) -> Routed;
    /// The device of the way that was found.
    fn device(&self) -> u32;
}

/// For XDP.
pub struct RouteXdp(*mut xdp_md, MaybeUninit<Lookup>);
/// For tc.
pub struct RouteSkb(*mut __sk_buff, MaybeUninit<Lookup>);
/// Where nothing is forwarded.
pub struct Nowhere;

/// An address as the kernel's function has it: family and words.
pub trait Asked: Copy {
    const FAMILY: u8;
    fn words(&self) -> [u32; 4];
}

impl Asked for V4 {
    const FAMILY: u8 = 2;
    #[inline(always)]
    fn words(&self) -> [u32; 4] {
        [self.0, 0, 0, 0]
    }
}

impl Asked for V6 {
    const FAMILY: u8 = 10;
    #[inline(always)]
    fn words(&self) -> [u32; 4] {
        self.0
    }
}

/// `struct bpf_fib_lookup` of the kernel, without unions: what is asked has the names before the slash, the answer those after.
#[repr(C)]
struct Lookup {
    family: u8,
    protocol: u8,
    source_port: u16,
    destination_port: u16,
    /// Length of the packet / what fits.
    length: u16,
    /// Where it came in / where it goes out.
    device: u32,
    /// Traffic class / metric.
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

impl RouteXdp {
    #[inline(always)]
    pub fn new(ctx: *mut xdp_md) -> Self {
        Self(ctx, MaybeUninit::uninit())
    }

    /// The verdict of XDP for a frame that is ready to go.
    #[inline(always)]
    pub fn send(&self, frame: &mut Frame) -> u32 {
        // SAFETY: it goes on only where a way was found.
        let lookup = unsafe { self.1.assume_init_ref() };
        // The header was read, so it is there.
        if frame.write(0, lookup.ethernet()).is_none() {
            return xdp_action::XDP_ABORTED;
        }
        // SAFETY: the kernel hands a valid context to the program.
        if lookup.device == unsafe { (*self.0).ingress_ifindex } {
            return xdp_action::XDP_TX;
        }
        // SAFETY: a function of the kernel over numbers.
        (unsafe { bpf_redirect(lookup.device, 0) }) as u32
    }
}

impl RouteSkb {
    #[inline(always)]
    pub fn new(ctx: *mut __sk_buff) -> Self {
        Self(ctx, MaybeUninit::uninit())
    }

    /// The verdict of tc for a packet that is ready to go.
    #[inline(always)]
    pub fn send(&self) -> i32 {
        // SAFETY: it goes on only where a way was found.
        let lookup = unsafe { self.1.assume_init_ref() };
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
    fn route<A: Asked>(&mut self, ask: &Ask<A>) -> Routed {
        // SAFETY: the kernel hands a valid context to the program.
        let came = unsafe { (*self.0).ingress_ifindex };
        let lookup = self.1.write(Lookup::new(ask, came));
        // SAFETY: the context is valid, and the struct is as long as its size says.
        let answer = unsafe { bpf_fib_lookup(self.0.cast(), (&raw mut *lookup).cast(), 64, 0) };
        match answer as u32 {
            BPF_FIB_LKUP_RET_SUCCESS => {
                let takes =
                    device(lookup.device).is_some_and(|device| device.flags & device_flag::TAKES_FRAMES != 0);
                if takes { Routed::Found } else { Routed::Elsewhere }
            }
            BPF_FIB_LKUP_RET_NO_NEIGH => Routed::Elsewhere,
            BPF_FIB_LKUP_RET_FRAG_NEEDED => Routed::TooBig(lookup.length),
            _ => Routed::Nowhere,
        }
    }

    #[inline(always)]
    fn device(&self) -> u32 {
        // SAFETY: asked only where a way was found.
        unsafe { self.1.assume_init_ref() }.device
    }
}

impl Router for RouteSkb {
    #[inline(always)]
    fn route<A: Asked>(&mut self, ask: &Ask<A>) -> Routed {
        // SAFETY: the kernel hands a valid context to the program.
        let came = unsafe { (*self.0).ingress_ifindex };
        let lookup = self.1.write(Lookup::new(ask, came));
        // SAFETY: the context is valid, and the struct is as long as its size says.
        let answer = unsafe { bpf_fib_lookup(self.0.cast(), (&raw mut *lookup).cast(), 64, 0) };
        match answer as u32 {
            BPF_FIB_LKUP_RET_SUCCESS | BPF_FIB_LKUP_RET_NO_NEIGH => Routed::Found,
            BPF_FIB_LKUP_RET_FRAG_NEEDED => Routed::TooBig(lookup.length),
            _ => Routed::Nowhere,
        }
    }

    #[inline(always)]
    fn device(&self) -> u32 {
        // SAFETY: asked only where a way was found.
        unsafe { self.1.assume_init_ref() }.device
    }
}

impl Router for Nowhere {
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
    fn new<A: Asked>(ask: &Ask<A>, came: u32) -> Self {
        Self {
            family: A::FAMILY,
            protocol: 0,
            source_port: 0,
            destination_port: 0,
            length: ask.length,
            device: came,
            class: 0,
            source: ask.source.words(),
            destination: ask.destination.words(),
            vlan: 0,
            smac: [0; 3],
            dmac: [0; 3],
        }
    }

    /// The addresses of the Ethernet header, as they lie in it.
    #[inline(always)]
    fn ethernet(&self) -> [u8; 12] {
        let ([a, b, c], [d, e, f]) = (self.dmac, self.smac);
        let [[a, b], [c, d], [e, f], [g, h], [i, j], [k, l]] = [a, b, c, d, e, f].map(u16::to_ne_bytes);
        [a, b, c, d, e, f, g, h, i, j, k, l]
    }
}
