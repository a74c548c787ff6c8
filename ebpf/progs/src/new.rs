//! New flows, in stages: what it takes to choose a backend and a port is most of what there is to walk for the verifier.

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use ebpf_abi::balance::{Verdict, begin};
use ebpf_abi::config::Direction;
use ebpf_abi::event::answer;
use ebpf_abi::packet::ETHERNET;

use crate::maps::{Maps4, Maps6};
use crate::packet::{Frame, Skb};
use crate::route::{RouteSkb, RouteXdp};
use crate::{event, stage, tc_answer, xdp_answer};

macro_rules! stages {
    ($maps:ident, $xdp:ident $from:ident, $xdp_new:ident $from_new:ident, $xdp_begin:ident $from_begin:ident) => {
        #[xdp]
        pub fn $xdp_new(ctx: XdpContext) -> u32 {
            event::xdp(&ctx, stage::$xdp(&ctx, $xdp_begin(ctx.ctx)))
        }

        #[inline(never)]
        fn $xdp_begin(ctx: *mut xdp_md) -> u32 {
            let (mut frame, mut maps) = (Frame(ctx), $maps(RouteXdp::new(ctx)));
            let verdict = begin(&mut frame, ETHERNET, &mut maps);
            xdp_answer(&mut frame, verdict, &maps.0)
        }

        #[classifier]
        pub fn $from_new(ctx: TcContext) -> i32 {
            event::tc(
                &ctx,
                Direction::Ingress,
                stage::$from(&ctx, $from_begin(ctx.skb.skb)),
            )
        }

        #[inline(never)]
        fn $from_begin(ctx: *mut __sk_buff) -> i32 {
            let mut maps = $maps(RouteSkb(ctx));
            match begin(&mut Skb(ctx), ETHERNET, &mut maps) {
                Verdict::Forward => maps.0.send() | answer::FORWARDED as i32,
                verdict => tc_answer(verdict),
            }
        }
    };
}

stages!(Maps4, xdp4 from4, xdp_new4 from_new4, xdp_begin4 from_begin4);
stages!(Maps6, xdp6 from6, xdp_new6 from_new6, xdp_begin6 from_begin6);
