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

use aya_ebpf::bindings::{__sk_buff, xdp_action};
use aya_ebpf::helpers::generated::bpf_redirect;
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use ebpf_abi::balance::Verdict;
use ebpf_abi::config::{ANSWERED, Direction, counter};
use ebpf_abi::event::answer as said;
use ebpf_abi::icmp::{Answer, answer, message, translate};
use ebpf_abi::packet::ETHERNET;
use ebpf_abi::stage::{TcStage, XdpStage};

use crate::maps::{self, Maps4, Maps6};
use crate::packet::{Frame, Skb};
use crate::route::{Nowhere, RouteSkb, RouteXdp};
use crate::{event, stage, tc_answer, xdp_answer};

/// No answer of a hook has this bit: there is more to do.
const ASKS: u32 = 1 << 17;
/// The packet is ICMP and is to be judged as such.
pub const MESSAGE: u32 = ASKS | 1;
/// The same: it is an ICMP error.
pub const ERROR: u32 = ASKS | 2;
const REFUSED: u32 = ASKS | 3;
const TIME_EXCEEDED: u32 = ASKS | 4;
const TOO_BIG: u32 = ASKS | 5;
/// Above it lies what fits, in 14 bits: more than any device takes at once.
const FITS: u32 = 18;
const KIND: u32 = (1 << FITS) - 1;

/// The word that says how the packet is to be answered.
#[inline(always)]
pub fn word(answer: Answer) -> u32 {
    match answer {
        Answer::Refused => REFUSED,
        Answer::TimeExceeded => TIME_EXCEEDED,
        Answer::TooBig(fits) => TOO_BIG | u32::from(fits.min(0x3fff)) << FITS,
    }
}

/// Back from the word.
#[inline(always)]
fn asked(word: u32) -> Answer {
    match word & KIND {
        TIME_EXCEEDED => Answer::TimeExceeded,
        TOO_BIG => Answer::TooBig((word >> FITS) as u16),
        _ => Answer::Refused,
    }
}

macro_rules! stages {
    ($maps:ident, $xdp:ident, $from:ident, $to:ident,
     $xdp_message:ident $xdp_error:ident $xdp_answer:ident, $from_message:ident $from_error:ident $from_answer:ident,
     $to_message:ident $to_error:ident,
     $XdpMessage:ident $XdpError:ident $XdpAnswer:ident, $FromMessage:ident $FromError:ident $FromAnswer:ident,
     $ToMessage:ident $ToError:ident) => {
        /// Goes on with what a function said.
        #[inline(always)]
        pub fn $xdp(ctx: &XdpContext, word: u32) -> u32 {
            // Where nothing can be sent from here, tc begins anew with it.
            if word & ASKS != 0 && !RouteXdp(ctx.ctx).answers() {
                return xdp_action::XDP_PASS;
            }
            match word {
                MESSAGE => stage::xdp(ctx, XdpStage::$XdpMessage, word),
                ERROR => stage::xdp(ctx, XdpStage::$XdpError, word),
                word if word & ASKS != 0 => stage::xdp(ctx, XdpStage::$XdpAnswer, word),
                word => word,
            }
        }

        #[xdp]
        pub fn $xdp_message(ctx: XdpContext) -> u32 {
            let mut frame = Frame(ctx.ctx);
            let mut maps = $maps(RouteXdp(ctx.ctx));
            let verdict = message(&mut frame, ETHERNET, Direction::Ingress, &mut maps);
            let word = xdp_answer(&mut frame, verdict, &maps.0);
            event::xdp(&ctx, $xdp(&ctx, word))
        }

        #[xdp]
        pub fn $xdp_error(ctx: XdpContext) -> u32 {
            let mut frame = Frame(ctx.ctx);
            let mut maps = $maps(RouteXdp(ctx.ctx));
            let verdict = translate(&mut frame, ETHERNET, Direction::Ingress, &mut maps);
            let word = xdp_answer(&mut frame, verdict, &maps.0);
            event::xdp(&ctx, $xdp(&ctx, word))
        }

        #[xdp]
        pub fn $xdp_answer(ctx: XdpContext) -> u32 {
            let what = asked(stage::word());
            let mut frame = Frame(ctx.ctx);
            let mut maps = $maps(RouteXdp(ctx.ctx));
            let verdict = answer(&mut frame, ETHERNET, what, &mut maps);
            let said = xdp_answer(&mut frame, verdict, &maps.0);
            let said = if verdict == Verdict::Answered {
                said | refused(what)
            } else {
                said
            };
            event::xdp(&ctx, said)
        }

        /// As above, for what comes through tc.
        #[inline(always)]
        pub fn $from(ctx: &TcContext, word: i32) -> i32 {
            let go_on = |stage| stage::tc(ctx, stage, Direction::Ingress, word as u32) as i32;
            match word as u32 {
                MESSAGE => go_on(TcStage::$FromMessage),
                ERROR => go_on(TcStage::$FromError),
                asks if asks & ASKS != 0 => go_on(TcStage::$FromAnswer),
                _ => word,
            }
        }

        #[classifier]
        pub fn $from_message(ctx: TcContext) -> i32 {
            let skb = ctx.skb.skb;
            let mut maps = $maps(RouteSkb(skb));
            let word = match message(&mut Skb(skb), ETHERNET, Direction::Ingress, &mut maps) {
                Verdict::Answered => send_back_skb(skb),
                verdict => tc_answer(verdict),
            };
            event::tc(&ctx, Direction::Ingress, $from(&ctx, word))
        }

        #[classifier]
        pub fn $from_error(ctx: TcContext) -> i32 {
            let skb = ctx.skb.skb;
            let mut maps = $maps(RouteSkb(skb));
            let word = match translate(&mut Skb(skb), ETHERNET, Direction::Ingress, &mut maps) {
                Verdict::Forward => maps.0.send() | said::FORWARDED as i32,
                verdict => tc_answer(verdict),
            };
            event::tc(&ctx, Direction::Ingress, $from(&ctx, word))
        }

        #[classifier]
        pub fn $from_answer(ctx: TcContext) -> i32 {
            let skb = ctx.skb.skb;
            let what = asked(stage::word());
            let mut maps = $maps(RouteSkb(skb));
            let said = match answer(&mut Skb(skb), ETHERNET, what, &mut maps) {
                Verdict::Answered => send_back_skb(skb) | refused(what) as i32,
                verdict => tc_answer(verdict),
            };
            event::tc(&ctx, Direction::Ingress, said)
        }

        /// As above, for what leaves through tc: nothing is answered there.
        #[inline(always)]
        pub fn $to(ctx: &TcContext, word: i32) -> i32 {
            let go_on = |stage| stage::tc(ctx, stage, Direction::Egress, word as u32) as i32;
            match word as u32 {
                MESSAGE => go_on(TcStage::$ToMessage),
                ERROR => go_on(TcStage::$ToError),
                _ => word,
            }
        }

        #[classifier]
        pub fn $to_message(ctx: TcContext) -> i32 {
            let mut skb = Skb(ctx.skb.skb);
            let verdict = message(&mut skb, ETHERNET, Direction::Egress, &mut $maps(Nowhere));
            event::tc(&ctx, Direction::Egress, $to(&ctx, tc_answer(verdict)))
        }

        #[classifier]
        pub fn $to_error(ctx: TcContext) -> i32 {
            let mut skb = Skb(ctx.skb.skb);
            let verdict = translate(&mut skb, ETHERNET, Direction::Egress, &mut $maps(Nowhere));
            event::tc(&ctx, Direction::Egress, tc_answer(verdict))
        }
    };
}

stages!(
    Maps4, xdp4, from4, to4,
    xdp_message4 xdp_error4 xdp_answer4, from_message4 from_error4 from_answer4, to_message4 to_error4,
    Message4 Error4 Answer4, FromMessage4 FromError4 FromAnswer4, ToMessage4 ToError4
);
stages!(
    Maps6, xdp6, from6, to6,
    xdp_message6 xdp_error6 xdp_answer6, from_message6 from_error6 from_answer6, to_message6 to_error6,
    Message6 Error6 Answer6, FromMessage6 FromError6 FromAnswer6, ToMessage6 ToError6
);

/// What was answered did not go on all the same, for its own reason.
#[inline(always)]
fn refused(what: Answer) -> u32 {
    said::dropped(what.reason())
}

/// The frame has become its answer.
#[inline(always)]
pub fn send_back_frame(frame: &Frame) -> u32 {
    maps::count(counter(Direction::Ingress, ANSWERED), frame.len());
    RouteXdp(frame.0).send_back()
}

/// The packet has become its answer: out by the device it came in by.
#[inline(always)]
fn send_back_skb(ctx: *mut __sk_buff) -> i32 {
    maps::count(counter(Direction::Ingress, ANSWERED), Skb(ctx).len());
    // SAFETY: the kernel hands a valid context to the program; the function is one over numbers.
    (unsafe { bpf_redirect((*ctx).ifindex, 0) }) as i32
}
