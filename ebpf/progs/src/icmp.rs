//! What [`ebpf_abi::icmp`] decides, in functions of their own: none of it is on the way of packets that find their flow, and
//! each has a stack of its own.
//!
//! ```text
//!  entry ---> xdp4, from4, ... ---> the hook's word
//!    |          |
//!    |          `--> MESSAGE, or a word that holds an Answer
//!    +--> message ----------------> the hook's word
//!    |          `--> ERROR
//!    `--> translate or answer ----> the hook's word
//! ```

use aya_ebpf::bindings::{__sk_buff, xdp_action, xdp_md};
use aya_ebpf::helpers::generated::bpf_redirect;
use ebpf_abi::balance::Verdict;
use ebpf_abi::config::{ANSWERED, Direction, counter};
use ebpf_abi::event::answer as said;
use ebpf_abi::icmp::{Answer, answer, message, translate};
use ebpf_abi::packet::ETHERNET;

use crate::maps::{self, Maps4, Maps6};
use crate::packet::{Frame, Skb};
use crate::route::{Nowhere, RouteSkb, RouteXdp};
use crate::{tc_answer, xdp_answer};

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

/// The same context. The compiler would else hand a function what it reads from there, and the verifier wants to see it read.
#[inline(always)]
fn whole<T>(ctx: *mut T) -> *mut T {
    core::hint::black_box(ctx)
}

macro_rules! functions {
    ($maps:ident, $xdp:ident, $from:ident, $to:ident, $xdp_message:ident, $xdp_error:ident, $xdp_answer:ident,
     $from_message:ident, $from_error:ident, $from_answer:ident, $to_message:ident, $to_error:ident) => {
        /// Goes on with what the first function said.
        #[inline(always)]
        pub fn $xdp(ctx: *mut xdp_md, word: u32) -> u32 {
            // Where nothing can be sent from here, tc begins anew with it.
            if word & ASKS != 0 && !RouteXdp(ctx).answers() {
                return xdp_action::XDP_PASS;
            }
            let word = if word == MESSAGE {
                $xdp_message(ctx)
            } else {
                word
            };
            match word {
                ERROR => $xdp_error(ctx),
                word if word & ASKS != 0 => $xdp_answer(ctx, word),
                word => word,
            }
        }

        #[inline(never)]
        fn $xdp_message(ctx: *mut xdp_md) -> u32 {
            let ctx = whole(ctx);
            let mut frame = Frame(ctx);
            let mut maps = $maps(RouteXdp(ctx));
            let verdict = message(&mut frame, ETHERNET, Direction::Ingress, &mut maps);
            xdp_answer(&mut frame, verdict, &maps.0)
        }

        #[inline(never)]
        fn $xdp_error(ctx: *mut xdp_md) -> u32 {
            let ctx = whole(ctx);
            let mut frame = Frame(ctx);
            let mut maps = $maps(RouteXdp(ctx));
            let verdict = translate(&mut frame, ETHERNET, Direction::Ingress, &mut maps);
            xdp_answer(&mut frame, verdict, &maps.0)
        }

        #[inline(never)]
        fn $xdp_answer(ctx: *mut xdp_md, word: u32) -> u32 {
            let ctx = whole(ctx);
            // The verifier would walk all of this for each word by itself.
            let what = asked(core::hint::black_box(word));
            let mut frame = Frame(ctx);
            let mut maps = $maps(RouteXdp(ctx));
            let verdict = answer(&mut frame, ETHERNET, what, &mut maps);
            let said = xdp_answer(&mut frame, verdict, &maps.0);
            if verdict == Verdict::Answered {
                said | refused(what)
            } else {
                said
            }
        }

        /// As above, for what comes through tc.
        #[inline(always)]
        pub fn $from(ctx: *mut __sk_buff, word: i32) -> i32 {
            let word = if word as u32 == MESSAGE {
                $from_message(ctx)
            } else {
                word
            };
            match word as u32 {
                ERROR => $from_error(ctx),
                asks if asks & ASKS != 0 => $from_answer(ctx, asks),
                _ => word,
            }
        }

        #[inline(never)]
        fn $from_message(ctx: *mut __sk_buff) -> i32 {
            let ctx = whole(ctx);
            let mut maps = $maps(RouteSkb(ctx));
            match message(&mut Skb(ctx), ETHERNET, Direction::Ingress, &mut maps) {
                Verdict::Answered => send_back_skb(ctx),
                verdict => tc_answer(verdict),
            }
        }

        #[inline(never)]
        fn $from_error(ctx: *mut __sk_buff) -> i32 {
            let ctx = whole(ctx);
            let mut maps = $maps(RouteSkb(ctx));
            match translate(&mut Skb(ctx), ETHERNET, Direction::Ingress, &mut maps) {
                Verdict::Forward => maps.0.send() | said::FORWARDED as i32,
                verdict => tc_answer(verdict),
            }
        }

        #[inline(never)]
        fn $from_answer(ctx: *mut __sk_buff, word: u32) -> i32 {
            let ctx = whole(ctx);
            // The verifier would walk all of this for each word by itself.
            let what = asked(core::hint::black_box(word));
            let mut maps = $maps(RouteSkb(ctx));
            match answer(&mut Skb(ctx), ETHERNET, what, &mut maps) {
                Verdict::Answered => send_back_skb(ctx) | refused(what) as i32,
                verdict => tc_answer(verdict),
            }
        }

        /// As above, for what leaves through tc: nothing is answered there.
        #[inline(always)]
        pub fn $to(ctx: *mut __sk_buff, word: i32) -> i32 {
            let word = if word as u32 == MESSAGE {
                $to_message(ctx)
            } else {
                word
            };
            if word as u32 == ERROR {
                $to_error(ctx)
            } else {
                word
            }
        }

        #[inline(never)]
        fn $to_message(ctx: *mut __sk_buff) -> i32 {
            let ctx = whole(ctx);
            let verdict = message(
                &mut Skb(ctx),
                ETHERNET,
                Direction::Egress,
                &mut $maps(Nowhere),
            );
            tc_answer(verdict)
        }

        #[inline(never)]
        fn $to_error(ctx: *mut __sk_buff) -> i32 {
            let ctx = whole(ctx);
            let verdict = translate(
                &mut Skb(ctx),
                ETHERNET,
                Direction::Egress,
                &mut $maps(Nowhere),
            );
            tc_answer(verdict)
        }
    };
}

functions!(
    Maps4,
    xdp4,
    from4,
    to4,
    xdp_message4,
    xdp_error4,
    xdp_answer4,
    from_message4,
    from_error4,
    from_answer4,
    to_message4,
    to_error4
);
functions!(
    Maps6,
    xdp6,
    from6,
    to6,
    xdp_message6,
    xdp_error6,
    xdp_answer6,
    from_message6,
    from_error6,
    from_answer6,
    to_message6,
    to_error6
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
