//! Fragments in the wrong order, in stages of tc: [`ebpf_abi::balance::wait`] and [`ebpf_abi::balance::come`] have the picture.
//!
//! What is held is taken from its packet, and the packet is dropped. Once the first fragment is there, it and then those that
//! waited come in again by the devices they came in by, as copies of one packet that is written over each time. So whoever
//! listens at the device sees them twice.

use aya_ebpf::bindings::{
    __sk_buff, BPF_EXIST, BPF_F_INGRESS, BPF_F_INVALIDATE_HASH, BPF_F_RECOMPUTE_CSUM, BPF_NOEXIST,
    TC_ACT_SHOT,
};
use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::helpers::generated::{
    bpf_clone_redirect, bpf_skb_change_tail, bpf_skb_load_bytes, bpf_skb_store_bytes,
};
use aya_ebpf::macros::{btf_map, classifier};
use aya_ebpf::programs::TcContext;
use ebpf_abi::DropReason;
use ebpf_abi::balance::{Tables, come, has_come, wait};
use ebpf_abi::config::{Direction, HELD as HELD_PACKETS, RELEASED, counter};
use ebpf_abi::event::answer;
use ebpf_abi::flow::{FRAGMENT_LIFETIME, FragmentKey, HELD_OCTETS, HELD_PLACES, Held, HeldKey};
use ebpf_abi::packet::ETHERNET;
use ebpf_abi::socket::Reached;
use ebpf_abi::track;

use crate::event;
use crate::maps::{EXISTS, HELD, Maps4, Maps6, count};
use crate::packet::Skb;
use crate::route::Nowhere;

/// A packet on its way into [`HELD`].
#[btf_map]
static HOLDING: PerCpuArray<Held, 1> = PerCpuArray::new();

macro_rules! stages {
    ($maps:ident: $from_hold:ident $from_release:ident) => {
        #[classifier]
        pub fn $from_hold(ctx: TcContext) -> i32 {
            let skb = ctx.skb.skb;
            let mut maps = $maps(Nowhere);
            let now = maps.now();
            let held = wait(&Skb(skb), ETHERNET, &mut maps).is_some_and(|datagram| {
                let mut key = key(&datagram);
                if keep(skb, &mut key, now) == 0 {
                    return false;
                }
                count(counter(Direction::Ingress, HELD_PACKETS), Skb(skb).len());
                if has_come(&datagram, &maps) {
                    // While it was on its way into the map.
                    give_back(skb, &mut key, now);
                }
                true
            });
            let answer = if held {
                TC_ACT_SHOT
            } else {
                TC_ACT_SHOT | answer::dropped(DropReason::FirstFragmentMissing) as i32
            };
            event::tc(&ctx, Direction::Ingress, answer)
        }

        #[classifier]
        pub fn $from_release(ctx: TcContext) -> i32 {
            let skb = ctx.skb.skb;
            let mut maps = $maps(Nowhere);
            let answer = match come(&Skb(skb), ETHERNET, &mut maps) {
                Some(datagram) => {
                    // SAFETY: the kernel hands a valid context to the program, and checks the device.
                    let _ = unsafe { bpf_clone_redirect(skb, (*skb).ifindex, BPF_F_INGRESS.into()) };
                    give_back(skb, &mut key(&datagram), maps.now());
                    TC_ACT_SHOT
                }
                None => TC_ACT_SHOT | answer::dropped(DropReason::InvalidHeader) as i32,
            };
            event::tc(&ctx, Direction::Ingress, answer)
        }
    };
}

stages!(Maps4: from_hold4 from_release4);
stages!(Maps6: from_hold6 from_release6);

/// Where the first fragment of a datagram that is held lies.
#[inline(always)]
fn key<A: Reached>(datagram: &FragmentKey<A>) -> HeldKey {
    HeldKey {
        source: datagram.source.wide(),
        destination: datagram.destination.wide(),
        id: datagram.id,
        protocol: datagram.protocol,
        pad: 0,
        place: 0,
    }
}

/// Puts the packet into the map. Whether there was room for it.
#[inline(never)]
fn keep(ctx: *mut __sk_buff, key: &mut HeldKey, now: u32) -> u32 {
    let Some(held) = HOLDING.get_ptr_mut(0) else {
        return 0;
    };
    let Some(length) = bounded(Skb(ctx).len() as u32) else {
        return 0;
    };
    // SAFETY: the element is this processor's own, and programs do not interrupt each other here.
    unsafe {
        (*held).expires = now.saturating_add(FRAGMENT_LIFETIME);
        (*held).length = length;
        (*held).device = (*ctx).ifindex;
        if bpf_skb_load_bytes(ctx.cast(), 0, (&raw mut (*held).octets).cast(), length) != 0 {
            return 0;
        }
    }
    for place in 0..HELD_PLACES {
        key.place = place;
        // SAFETY: as above.
        let held = unsafe { &*held };
        match HELD.insert(&*key, held, BPF_NOEXIST.into()) {
            Ok(()) => return 1,
            Err(EXISTS) if is_over(key, now) => {
                return u32::from(HELD.insert(&*key, held, BPF_EXIST.into()).is_ok());
            }
            Err(_) => {}
        }
    }
    0
}

/// Whether what lies there has waited too long.
#[inline(always)]
fn is_over(key: &HeldKey, now: u32) -> bool {
    // SAFETY: a word of an element; one that is replaced meanwhile lives until the program ends.
    HELD.get_ptr(key)
        .is_some_and(|held| track::is_expired(now, unsafe { (*held).expires }))
}

/// Gives back all that is held of a datagram. The packet is written over.
#[inline(never)]
fn give_back(ctx: *mut __sk_buff, key: &mut HeldKey, now: u32) -> u32 {
    let mut given = 0;
    for place in 0..HELD_PLACES {
        key.place = place;
        let Some(held) = HELD.get_ptr(&*key) else { continue };
        // SAFETY: as above.
        let (expires, length, device) = unsafe { ((*held).expires, (*held).length, (*held).device) };
        if !track::is_expired(now, expires)
            && let Some(length) = bounded(length)
        {
            // SAFETY: the context is valid, and the kernel checks lengths and the device.
            let done = unsafe {
                bpf_skb_change_tail(ctx, length, 0) == 0
                    && bpf_skb_store_bytes(
                        ctx,
                        0,
                        (&raw const (*held).octets).cast(),
                        length,
                        (BPF_F_RECOMPUTE_CSUM | BPF_F_INVALIDATE_HASH).into(),
                    ) == 0
                    && bpf_clone_redirect(ctx, device, BPF_F_INGRESS.into()) == 0
            };
            if done {
                given += 1;
                count(counter(Direction::Ingress, RELEASED), length.into());
            }
        }
        // Gone is gone.
        let _ = HELD.remove(&*key);
    }
    given
}

/// A length that there is room for; the verifier wants to see it.
#[inline(always)]
fn bounded(length: u32) -> Option<u32> {
    let length = core::hint::black_box(length);
    (length > 0 && length <= HELD_OCTETS as u32).then_some(length)
}
