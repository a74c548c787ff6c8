//! What `cargo xtask bench lb` runs around the programs: a wrapper that puts the packet back as it was, since a test run does
//! not, and floors that say what single steps cost on this machine. No agent loads this file.
//!
//! ```text
//! program        hook    does
//! wrap_xdp       XDP     the packet anew, one of many flows, then PROGRAM_XDP
//! wrap_tc        tc      the same, then PROGRAM_TC
//! floor_keep     XDP     one entry for floor_lookup
//! floor_lookup   XDP     one lookup of a flow's key in an LRU hash, and a look at the whole value
//! floor_new      XDP     the same lookup, and where nothing was found, one insertion into another one
//! floor_insert   XDP     one insertion there
//! ```

#![no_std]
#![no_main]

mod object;

use aya_ebpf::bindings::{TC_ACT_OK, TC_ACT_SHOT, xdp_action};
use aya_ebpf::btf_maps::{Array, LruHashMap, ProgramArray};
use aya_ebpf::helpers::generated::bpf_xdp_adjust_head;
use aya_ebpf::macros::{btf_map, classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};

/// Octets of every packet here, in words.
const WORDS: usize = 10;

/// The packet, and which flow is next.
#[repr(C)]
pub struct Template {
    words: [u64; WORDS],
    /// Raised by each packet.
    next: u64,
    /// How many flows there are, less one.
    mask: u64,
    /// Whose address and port make the flow: IPv4 source, IPv4 destination, IPv6 source, IPv6 destination.
    end: u64,
}

#[btf_map]
static TEMPLATE: Array<Template, 1> = Array::new();
#[btf_map]
static PROGRAM_XDP: ProgramArray<1> = ProgramArray::new();
#[btf_map]
static PROGRAM_TC: ProgramArray<1> = ProgramArray::new();
/// As large as `FLOWS4`, and its entries as large as there.
#[btf_map]
static FLOOR_KEPT: LruHashMap<[u32; 4], [u32; 7], 524_288> = LruHashMap::new();
/// The same for `OPENING4`.
#[btf_map]
static FLOOR_OPENING: LruHashMap<[u32; 4], [u32; 7], 32_768> = LruHashMap::new();

#[xdp]
pub fn wrap_xdp(ctx: XdpContext) -> u32 {
    if shrink(&ctx)
        .and_then(|()| rewind(ctx.data(), ctx.data_end()))
        .is_none()
    {
        return xdp_action::XDP_ABORTED;
    }
    // SAFETY: the map holds programs of this kind, or nothing.
    unsafe { PROGRAM_XDP.tail_call(&ctx, 0) };
    xdp_action::XDP_PASS
}

#[classifier]
pub fn wrap_tc(ctx: TcContext) -> i32 {
    if rewind(ctx.data(), ctx.data_end()).is_none() {
        return TC_ACT_SHOT;
    }
    // SAFETY: as above.
    unsafe { PROGRAM_TC.tail_call(&ctx, 0) };
    TC_ACT_OK
}

/// Takes off what the program put around the packet the last time.
#[inline(always)]
fn shrink(ctx: &XdpContext) -> Option<()> {
    let more = (ctx.data_end() - ctx.data()).checked_sub(WORDS * 8)?;
    // SAFETY: a function of the kernel, which looks at the number.
    (more == 0 || unsafe { bpf_xdp_adjust_head(ctx.ctx, more as i32) } == 0).then_some(())
}

/// Ports count 16,384 flows, addresses the rest.
#[inline(always)]
fn rewind(start: usize, end: usize) -> Option<()> {
    let template = TEMPLATE.get_ptr_mut(0)?;
    if start + WORDS * 8 > end {
        return None;
    }
    // SAFETY: the element is there, one processor runs this, and the packet has all these octets.
    unsafe {
        let packet = start as *mut u64;
        let mut word = 0;
        while word < WORDS {
            packet.add(word).write_unaligned((*template).words[word]);
            word += 1;
        }
        let flow = ((*template).next & (*template).mask) as u32;
        (*template).next += 1;
        match (*template).end {
            0 => vary(start + 26, start + 34, flow),
            1 => vary(start + 30, start + 36, flow),
            2 => vary(start + 34, start + 54, flow),
            _ => vary(start + 50, start + 56, flow),
        }
    }
    Some(())
}

/// # Safety
/// Both fields lie in the packet.
#[inline(always)]
unsafe fn vary(address: usize, port: usize, flow: u32) {
    let (address, port) = (address as *mut u32, port as *mut u16);
    // SAFETY: the caller has seen them.
    unsafe {
        let first = u32::from_be(address.read_unaligned());
        address.write_unaligned((first + (flow >> 14)).to_be());
        let first = u16::from_be(port.read_unaligned());
        port.write_unaligned((first + (flow & 0x3fff) as u16).to_be());
    }
}

#[xdp]
pub fn floor_keep(ctx: XdpContext) -> u32 {
    match key(&ctx) {
        Some(key) if FLOOR_KEPT.insert(&key, &VALUE, 0).is_ok() => xdp_action::XDP_PASS,
        _ => xdp_action::XDP_DROP,
    }
}

#[xdp]
pub fn floor_lookup(ctx: XdpContext) -> u32 {
    // SAFETY: the value is looked at once.
    match key(&ctx).and_then(|key| unsafe { FLOOR_KEPT.get(&key) }) {
        Some(value) if value.iter().fold(0, |all, word| all ^ word) != 0 => xdp_action::XDP_PASS,
        _ => xdp_action::XDP_DROP,
    }
}

#[xdp]
pub fn floor_new(ctx: XdpContext) -> u32 {
    let Some(key) = key(&ctx) else {
        return xdp_action::XDP_DROP;
    };
    if FLOOR_KEPT.get_ptr(&key).is_some() || FLOOR_OPENING.insert(&key, &VALUE, 0).is_err() {
        return xdp_action::XDP_DROP;
    }
    xdp_action::XDP_PASS
}

#[xdp]
pub fn floor_insert(ctx: XdpContext) -> u32 {
    match key(&ctx) {
        Some(key) if FLOOR_OPENING.insert(&key, &VALUE, 0).is_ok() => xdp_action::XDP_PASS,
        _ => xdp_action::XDP_DROP,
    }
}

const VALUE: [u32; 7] = [1; 7];

#[inline(always)]
fn key(ctx: &XdpContext) -> Option<[u32; 4]> {
    let start = ctx.data();
    if start + 38 > ctx.data_end() {
        return None;
    }
    let word = |at: usize| {
        // SAFETY: all words lie before the 38th octet.
        unsafe { ((start + at) as *const u32).read_unaligned() }
    };
    Some([word(26), word(30), word(34), 6])
}
