//! What [`ebpf_abi::icmp`] decides, in stages: none of it is on the way of packets that find their flow.
//!
//! ```text
//!  entry ---> xdp4, from4, ... ---> the hook's word
//!    |          |
//!    |          `--> MESSAGE, ERROR, or a word that holds an Answer: on to the stage
//!    +--> message ----------------> the hook's word
//!    |          `--> ERROR
//!    `--> translate or answer ----> the hook's word
//! ```

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::bpf_redirect;
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use ebpf_abi::balance::Verdict;
use ebpf_abi::config::{ANSWERED, Direction, counter};
use ebpf_abi::event::answer as said;
use ebpf_abi::icmp::{Answer, answer, message, translate};
use ebpf_abi::packet::ETHERNET;

use crate::maps::{self, Maps4, Maps6};
use crate::packet::{Frame, Skb};
use crate::route::{Nowhere, RouteSkb, RouteXdp};
use crate::{event, stage, tc_answer, xdp_answer};

macro_rules! stages {
    ($maps:ident, $xdp:ident $from:ident $to:ident,
     $xdp_message:ident $xdp_error:ident $xdp_answer:ident, $from_message:ident $from_error:ident $from_answer:ident,
     $to_message:ident $to_error:ident) => {
        #[xdp]
        pub fn $xdp_message(ctx: XdpContext) -> u32 {
            let mut frame = Frame(ctx.ctx);
            let mut maps = $maps(RouteXdp::new(ctx.ctx));
            let verdict = message(&mut frame, ETHERNET, Direction::Ingress, &mut maps);
            let word = xdp_answer(&mut frame, verdict, &maps.0);
            event::xdp(&ctx, stage::$xdp(&ctx, word))
        }

        #[xdp]
        pub fn $xdp_error(ctx: XdpContext) -> u32 {
            let mut frame = Frame(ctx.ctx);
            let mut maps = $maps(RouteXdp::new(ctx.ctx));
            let verdict = translate(&mut frame, ETHERNET, Direction::Ingress, &mut maps);
            let word = xdp_answer(&mut frame, verdict, &maps.0);
            event::xdp(&ctx, stage::$xdp(&ctx, word))
        }

        #[xdp]
        pub fn $xdp_answer(ctx: XdpContext) -> u32 {
            let what = stage::asked();
            let mut frame = Frame(ctx.ctx);
            let mut maps = $maps(RouteXdp::new(ctx.ctx));
            let verdict = answer(&mut frame, ETHERNET, what, &mut maps);
            let said = xdp_answer(&mut frame, verdict, &maps.0);
            let said = if verdict == Verdict::Answered {
                said | refused(what)
            } else {
                said
            };
            event::xdp(&ctx, said)
        }

        #[classifier]
        pub fn $from_message(ctx: TcContext) -> i32 {
            let skb = ctx.skb.skb;
            let mut maps = $maps(RouteSkb(skb));
            let word = match message(&mut Skb(skb), ETHERNET, Direction::Ingress, &mut maps) {
                Verdict::Answered => send_back_skb(skb),
                verdict => tc_answer(verdict),
            };
            event::tc(&ctx, Direction::Ingress, stage::$from(&ctx, word))
        }

        #[classifier]
        pub fn $from_error(ctx: TcContext) -> i32 {
            let skb = ctx.skb.skb;
            let mut maps = $maps(RouteSkb(skb));
            let word = match translate(&mut Skb(skb), ETHERNET, Direction::Ingress, &mut maps) {
                Verdict::Forward => maps.0.send() | said::FORWARDED as i32,
                verdict => tc_answer(verdict),
            };
            event::tc(&ctx, Direction::Ingress, stage::$from(&ctx, word))
        }

        #[classifier]
        pub fn $from_answer(ctx: TcContext) -> i32 {
            let skb = ctx.skb.skb;
            let what = stage::asked();
            Skb(skb).pull_quoted();
            let mut maps = $maps(RouteSkb(skb));
            let said = match answer(&mut Skb(skb), ETHERNET, what, &mut maps) {
                Verdict::Answered => send_back_skb(skb) | refused(what) as i32,
                verdict => tc_answer(verdict),
            };
            event::tc(&ctx, Direction::Ingress, said)
        }

        #[classifier]
        pub fn $to_message(ctx: TcContext) -> i32 {
            let mut skb = Skb(ctx.skb.skb);
            let verdict = message(&mut skb, ETHERNET, Direction::Egress, &mut $maps(Nowhere));
            event::tc(
                &ctx,
                Direction::Egress,
                stage::$to(&ctx, tc_answer(verdict)),
            )
        }

        #[classifier]
        pub fn $to_error(ctx: TcContext) -> i32 {
            let mut skb = Skb(ctx.skb.skb);
            let verdict = translate(&mut skb, ETHERNET, Direction::Egress, &mut $maps(Nowhere));
            event::tc(&ctx, Direction::Egress, tc_answer(verdict))
        }
    };
}

stages!(Maps4, xdp4 from4 to4,
    xdp_message4 xdp_error4 xdp_answer4, from_message4 from_error4 from_answer4, to_message4 to_error4);
stages!(Maps6, xdp6 from6 to6,
    xdp_message6 xdp_error6 xdp_answer6, from_message6 from_error6 from_answer6, to_message6 to_error6);

/// What was answered did not go on all the same, for its own reason.
#[inline(always)]
fn refused(what: Answer) -> u32 {
    said::dropped(what.reason())
}

/// The frame has become its answer.
#[inline(always)]
pub fn send_back_frame(frame: &Frame) -> u32 {
    maps::count(counter(Direction::Ingress, ANSWERED), frame.len());
    RouteXdp::new(frame.0).send_back()
}

/// The packet has become its answer: out by the device it came in by.
#[inline(always)]
fn send_back_skb(ctx: *mut __sk_buff) -> i32 {
    maps::count(counter(Direction::Ingress, ANSWERED), Skb(ctx).len());
    // SAFETY: the kernel hands a valid context to the program; the function is one over numbers.
    (unsafe { bpf_redirect((*ctx).ifindex, 0) }) as i32
}
