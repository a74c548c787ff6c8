//! Direct server return, in stages: [`ebpf_abi::dsr`] has the picture. What needs no headers that bring its VIP along, as by
//! IP in IP, goes on in the entry or in the stage of new flows, and comes to none of these on the node of its client.
//!
//! ```text
//!  entry ---> direct ---------------------> out, or an answer
//!    |
//!    +------> returned ------------------->  to the stack
//!    |
//!    `------> unwrap ---> inside, brought -> to the stack
//! ```

use aya_ebpf::bindings::{TC_ACT_OK, TC_ACT_SHOT, xdp_action};
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use ebpf_abi::balance::{Opened, Verdict, brought, inside, remember, send_on, unwrap};
use ebpf_abi::config::Direction;
use ebpf_abi::dsr::Vip;
use ebpf_abi::event::answer;
use ebpf_abi::packet::ETHERNET;
use ebpf_abi::{V4, V6};

use crate::maps::{Maps4, Maps6};
use crate::packet::{Frame, Skb};
use crate::route::{Nowhere, RouteSkb, RouteXdp};
use crate::{event, stage, tc_answer, xdp_answer};

macro_rules! stages {
    ($address:ty, $maps:ident, $xdp:ident $from:ident,
     $xdp_direct:ident $xdp_returned:ident $xdp_unwrap:ident $xdp_inside:ident $xdp_brought:ident,
     $from_direct:ident $from_returned:ident $from_unwrap:ident $from_inside:ident $from_brought:ident) => {
        #[xdp]
        pub fn $xdp_direct(ctx: XdpContext) -> u32 {
            let (mut frame, mut maps) = (Frame(ctx.ctx), $maps(RouteXdp::new(ctx.ctx)));
            let (opens, backend) = stage::chosen();
            let verdict = send_on(&mut frame, opens, backend, &mut maps);
            let word = xdp_answer(&mut frame, verdict, &maps.0);
            event::xdp(&ctx, stage::$xdp(&ctx, word))
        }

        #[xdp]
        pub fn $xdp_returned(ctx: XdpContext) -> u32 {
            let mut frame = Frame(ctx.ctx);
            let verdict = remember(&mut frame, &mut $maps(Nowhere));
            event::xdp(
                &ctx,
                xdp_answer(&mut frame, verdict, &RouteXdp::new(ctx.ctx)),
            )
        }

        #[xdp]
        pub fn $xdp_unwrap(ctx: XdpContext) -> u32 {
            let mut vip = Vip::<$address>::default();
            let word = match unwrap(&mut Frame(ctx.ctx), &$maps(Nowhere), &mut vip) {
                Opened::Nothing => xdp_action::XDP_PASS,
                Opened::Inside => stage::INSIDE,
                Opened::Brought => stage::brought(&vip),
                Opened::Drop(reason) => xdp_action::XDP_DROP | answer::dropped(reason),
            };
            event::xdp(&ctx, stage::$xdp(&ctx, word))
        }

        #[xdp]
        pub fn $xdp_inside(ctx: XdpContext) -> u32 {
            let mut frame = Frame(ctx.ctx);
            let verdict = inside(&mut frame, ETHERNET, &mut $maps(Nowhere));
            event::xdp(
                &ctx,
                xdp_answer(&mut frame, verdict, &RouteXdp::new(ctx.ctx)),
            )
        }

        #[xdp]
        pub fn $xdp_brought(ctx: XdpContext) -> u32 {
            let mut frame = Frame(ctx.ctx);
            let verdict = brought(&mut frame, &stage::vip::<$address>(), &mut $maps(Nowhere));
            event::xdp(
                &ctx,
                xdp_answer(&mut frame, verdict, &RouteXdp::new(ctx.ctx)),
            )
        }

        #[classifier]
        pub fn $from_direct(ctx: TcContext) -> i32 {
            let skb = ctx.skb.skb;
            let mut maps = $maps(RouteSkb(skb));
            let (opens, backend) = stage::chosen();
            let word = match send_on(&mut Skb(skb), opens, backend, &mut maps) {
                Verdict::Forward => maps.0.send() | answer::FORWARDED as i32,
                verdict => tc_answer(verdict),
            };
            event::tc(&ctx, Direction::Ingress, stage::$from(&ctx, word))
        }

        #[classifier]
        pub fn $from_returned(ctx: TcContext) -> i32 {
            let verdict = remember(&mut Skb(ctx.skb.skb), &mut $maps(Nowhere));
            event::tc(&ctx, Direction::Ingress, tc_answer(verdict))
        }

        #[classifier]
        pub fn $from_unwrap(ctx: TcContext) -> i32 {
            let mut vip = Vip::<$address>::default();
            let word = match unwrap(&mut Skb(ctx.skb.skb), &$maps(Nowhere), &mut vip) {
                Opened::Nothing => TC_ACT_OK,
                Opened::Inside => stage::INSIDE as i32,
                Opened::Brought => stage::brought(&vip) as i32,
                Opened::Drop(reason) => TC_ACT_SHOT | answer::dropped(reason) as i32,
            };
            event::tc(&ctx, Direction::Ingress, stage::$from(&ctx, word))
        }

        #[classifier]
        pub fn $from_inside(ctx: TcContext) -> i32 {
            let verdict = inside(&mut Skb(ctx.skb.skb), ETHERNET, &mut $maps(Nowhere));
            event::tc(&ctx, Direction::Ingress, tc_answer(verdict))
        }

        #[classifier]
        pub fn $from_brought(ctx: TcContext) -> i32 {
            let verdict = brought(
                &mut Skb(ctx.skb.skb),
                &stage::vip::<$address>(),
                &mut $maps(Nowhere),
            );
            event::tc(&ctx, Direction::Ingress, tc_answer(verdict))
        }
    };
}

stages!(V4, Maps4, xdp4 from4,
    xdp_direct4 xdp_returned4 xdp_unwrap4 xdp_inside4 xdp_brought4,
    from_direct4 from_returned4 from_unwrap4 from_inside4 from_brought4);
stages!(V6, Maps6, xdp6 from6,
    xdp_direct6 xdp_returned6 xdp_unwrap6 xdp_inside6 xdp_brought6,
    from_direct6 from_returned6 from_unwrap6 from_inside6 from_brought6);
