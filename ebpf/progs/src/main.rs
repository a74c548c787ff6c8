//! The programs of the kernel. Each is a thin entry: it finds the IP header, asks [`ebpf_abi::balance`], counts, and answers
//! in the words of its hook. What decides is in `ebpf-abi`; maps are in [`maps`]; packets in [`packet`];
//! ways out in [`route`].
//!
//! ```text
//! program       hook           asks
//! xdp_netdev    XDP            arrive
//! from_netdev   tc ingress     arrive
//! to_netdev     tc egress      egress
//! ```
//!
//! What is not on the way of packets that find their flow is in programs of their own, by [`stage`]: the verifier walks each
//! within a budget of its own.
//!
//! IPv4 and IPv6 are functions of their own, not inlined, so that each has a stack of its own. What becomes of
//! a packet is counted and told after they returned, by [`event`]: they need all of their stack themselves.

#![no_std]
#![no_main]

mod direct;
mod event;
mod held;
mod icmp;
mod maps;
mod new;
mod object;
mod packet;
mod route;
mod socket;
mod stage;

use aya_ebpf::bindings::{__sk_buff, TC_ACT_OK, TC_ACT_SHOT, xdp_action, xdp_md};
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use ebpf_abi::balance::{Verdict, arrive, egress};
use ebpf_abi::config::Direction;
use ebpf_abi::event::answer;
use ebpf_abi::packet::{ETHERNET, Packet};

use crate::maps::{Maps4, Maps6};
use crate::packet::{Frame, Skb};
use crate::route::{Nowhere, RouteSkb, RouteXdp};

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

/// Before the stack has seen the packet.
#[xdp]
pub fn xdp_netdev(ctx: XdpContext) -> u32 {
    let frame = Frame(ctx.ctx);
    // A VLAN's packet is of the VLAN's device: it passes here, and is judged there.
    let Some(kind) = frame.read::<2>(12) else {
        return xdp_action::XDP_PASS;
    };
    let answer = match u16::from_be_bytes(kind) {
        IPV4 => stage::xdp4(&ctx, xdp4(ctx.ctx)),
        IPV6 => stage::xdp6(&ctx, xdp6(ctx.ctx)),
        _ => return xdp_action::XDP_PASS,
    };
    event::xdp(&ctx, answer)
}

#[inline(never)]
fn xdp4(ctx: *mut xdp_md) -> u32 {
    let mut frame = Frame(ctx);
    let mut maps = Maps4(RouteXdp::new(ctx));
    let verdict = arrive(&mut frame, ETHERNET, &mut maps);
    xdp_answer(&mut frame, verdict, &maps.0)
}

#[inline(never)]
fn xdp6(ctx: *mut xdp_md) -> u32 {
    let mut frame = Frame(ctx);
    let mut maps = Maps6(RouteXdp::new(ctx));
    let verdict = arrive(&mut frame, ETHERNET, &mut maps);
    xdp_answer(&mut frame, verdict, &maps.0)
}

#[inline(always)]
fn xdp_answer(frame: &mut Frame, verdict: Verdict, route: &RouteXdp) -> u32 {
    match verdict {
        Verdict::Pass(_) => xdp_action::XDP_PASS,
        Verdict::Local | Verdict::Reply => xdp_action::XDP_PASS | answer::FORWARDED,
        Verdict::Forward => route.send(frame) | answer::FORWARDED,
        Verdict::Message => stage::MESSAGE,
        Verdict::Error => stage::ERROR,
        Verdict::Answer(what) => stage::asking(what),
        Verdict::New(found) => stage::new(found),
        Verdict::Direct(opens, backend) => stage::direct(opens, backend),
        Verdict::Returned => stage::RETURNED,
        Verdict::Wrapped => stage::WRAPPED,
        // Only tc can keep a packet.
        Verdict::Hold | Verdict::Release => xdp_action::XDP_PASS,
        Verdict::Answered => icmp::send_back_frame(frame),
        Verdict::Drop(reason) => xdp_action::XDP_DROP | answer::dropped(reason),
    }
}

/// What comes from the network.
#[classifier]
pub fn from_netdev(ctx: TcContext) -> i32 {
    let answer = match kind(ctx.skb.skb) {
        Some(IPV4) => stage::from4(&ctx, from4(ctx.skb.skb)),
        Some(IPV6) => stage::from6(&ctx, from6(ctx.skb.skb)),
        _ => return TC_ACT_OK,
    };
    event::tc(&ctx, Direction::Ingress, answer)
}

/// What goes to the network.
#[classifier]
pub fn to_netdev(ctx: TcContext) -> i32 {
    let answer = match kind(ctx.skb.skb) {
        Some(IPV4) => stage::to4(&ctx, to4(ctx.skb.skb)),
        Some(IPV6) => stage::to6(&ctx, to6(ctx.skb.skb)),
        _ => return TC_ACT_OK,
    };
    event::tc(&ctx, Direction::Egress, answer)
}

/// The protocol of the packet, its headers pulled to where they can be read; `None` for a VLAN's packet.
#[inline(always)]
fn kind(ctx: *mut __sk_buff) -> Option<u16> {
    let skb = Skb(ctx);
    if skb.is_tagged() {
        return None;
    }
    skb.pull();
    Some(skb.protocol())
}

#[inline(never)]
fn from4(ctx: *mut __sk_buff) -> i32 {
    let mut maps = Maps4(RouteSkb(ctx));
    match arrive(&mut Skb(ctx), ETHERNET, &mut maps) {
        Verdict::Forward => maps.0.send() | answer::FORWARDED as i32,
        verdict => tc_answer(verdict),
    }
}

#[inline(never)]
fn from6(ctx: *mut __sk_buff) -> i32 {
    let mut maps = Maps6(RouteSkb(ctx));
    match arrive(&mut Skb(ctx), ETHERNET, &mut maps) {
        Verdict::Forward => maps.0.send() | answer::FORWARDED as i32,
        verdict => tc_answer(verdict),
    }
}

#[inline(never)]
fn to4(ctx: *mut __sk_buff) -> i32 {
    let verdict = egress(&mut Skb(ctx), ETHERNET, &mut Maps4(Nowhere));
    tc_answer(verdict)
}

#[inline(never)]
fn to6(ctx: *mut __sk_buff) -> i32 {
    let verdict = egress(&mut Skb(ctx), ETHERNET, &mut Maps6(Nowhere));
    tc_answer(verdict)
}

#[inline(always)]
fn tc_answer(verdict: Verdict) -> i32 {
    match verdict {
        Verdict::Pass(_) => TC_ACT_OK,
        // Whoever knows a way out has taken it.
        Verdict::Local | Verdict::Reply | Verdict::Forward => TC_ACT_OK | answer::FORWARDED as i32,
        Verdict::Message => stage::MESSAGE as i32,
        Verdict::Error => stage::ERROR as i32,
        Verdict::Answer(what) => stage::asking(what) as i32,
        Verdict::New(found) => stage::new(found) as i32,
        Verdict::Direct(opens, backend) => stage::direct(opens, backend) as i32,
        Verdict::Returned => stage::RETURNED as i32,
        Verdict::Wrapped => stage::WRAPPED as i32,
        Verdict::Hold => stage::HOLD as i32,
        Verdict::Release => stage::RELEASE as i32,
        // Sent back by whoever made the answer.
        Verdict::Answered => TC_ACT_SHOT,
        Verdict::Drop(reason) => TC_ACT_SHOT | answer::dropped(reason) as i32,
    }
}
