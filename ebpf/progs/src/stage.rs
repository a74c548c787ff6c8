//! Going on with another program: the table of stages is [`ebpf_abi::stage`].
//!
//! A function that finds that there is more to do returns a word that says so, and what the next stage must know beside the
//! packet is in `HANDOVER`. Only entries and stages themselves go on, never functions they call: the kernel gives a function
//! that does less stack.

use aya_ebpf::bindings::{TC_ACT_SHOT, xdp_action};
use aya_ebpf::btf_maps::{PerCpuArray, ProgramArray};
use aya_ebpf::macros::btf_map;
use aya_ebpf::programs::{TcContext, XdpContext};
use ebpf_abi::balance::Found;
use ebpf_abi::config::Direction;
use ebpf_abi::dsr::{Opens, Vip};
use ebpf_abi::event::answer;
use ebpf_abi::icmp::Answer;
use ebpf_abi::stage::{TcStage, XdpStage};
use ebpf_abi::{BackendId, DropReason};

use crate::route::{Asked, RouteXdp};

#[btf_map]
static XDP_STAGES: ProgramArray<{ XdpStage::ALL.len() }> = ProgramArray::new();
#[btf_map]
static TC_STAGES: ProgramArray<{ TcStage::ALL.len() }> = ProgramArray::new();

/// What the next stage is told beside the packet.
#[repr(C)]
struct Handover {
    /// What was said of the packet so far.
    word: u32,
    /// A [`Direction`] as number.
    direction: u32,
    /// For [`DIRECT`]: [`Opens`] as number, and the place of the backend.
    opens: u32,
    backend: u32,
    /// For [`BROUGHT`]: the VIP; of IPv4 only the first word.
    vip: [u32; 4],
    /// In network order.
    vip_port: u32,
}

#[btf_map]
static HANDOVER: PerCpuArray<Handover, 1> = PerCpuArray::new();

/// No answer of a hook has this bit: there is more to do.
const ASKS: u32 = 1 << 17;
/// The packet is ICMP and is to be judged as such.
pub const MESSAGE: u32 = ASKS | 1;
/// The same: it is an ICMP error.
pub const ERROR: u32 = ASKS | 2;
const REFUSED: u32 = ASKS | 3;
const TIME_EXCEEDED: u32 = ASKS | 4;
const TOO_BIG: u32 = ASKS | 5;
const DIRECT: u32 = ASKS | 6;
/// The packet brings its VIP along.
pub const RETURNED: u32 = ASKS | 7;
/// The packet may be another node's.
pub const WRAPPED: u32 = ASKS | 8;
/// What was inside a packet of another node.
pub const INSIDE: u32 = ASKS | 9;
const BROUGHT: u32 = ASKS | 10;
/// A flow that is to begin.
const NEW: u32 = ASKS | 11;
/// The same, over what is left of another one.
const ANEW: u32 = ASKS | 12;
/// A later fragment that came before its first.
pub const HOLD: u32 = ASKS | 13;
/// The first of a datagram whose later ones are held.
pub const RELEASE: u32 = ASKS | 14;
/// Above it lies what fits, in 14 bits: more than any device takes at once.
const FITS: u32 = 18;
const KIND: u32 = (1 << FITS) - 1;

const FLOW: u32 = 1;

/// The word that says how the packet is to be answered.
#[inline(always)]
pub fn asking(answer: Answer) -> u32 {
    match answer {
        Answer::Refused => REFUSED,
        Answer::TimeExceeded => TIME_EXCEEDED,
        Answer::TooBig(fits) => TOO_BIG | u32::from(fits.min(0x3fff)) << FITS,
    }
}

/// How this packet is to be answered. The verifier would walk all of it for each word it knows: it does not know this one.
#[inline(always)]
pub fn asked() -> Answer {
    let word = handed().map_or(0, |handed| handed.word);
    match word & KIND {
        TIME_EXCEEDED => Answer::TimeExceeded,
        TOO_BIG => Answer::TooBig((word >> FITS) as u16),
        _ => Answer::Refused,
    }
}

/// The word for a packet that a flow begins with.
#[inline(always)]
pub fn new(found: Found) -> u32 {
    match found {
        Found::Nothing => NEW,
        Found::Ended => ANEW,
    }
}

/// What [`new`] was told; to a stage that another word led to, nothing.
#[inline(always)]
pub fn found() -> Found {
    match handed() {
        Some(handed) if handed.word == NEW => Found::Nothing,
        Some(_) | None => Found::Ended,
    }
}

/// The word for a packet that goes on to this backend directly.
#[inline(always)]
pub fn direct(opens: Opens, backend: BackendId) -> u32 {
    if let Some(handed) = handed_mut() {
        handed.opens = match opens {
            Opens::Flow => FLOW,
            Opens::Nothing => 0,
        };
        handed.backend = backend.index();
    }
    DIRECT
}

/// What [`direct`] was told.
#[inline(always)]
pub fn chosen() -> (Opens, u32) {
    match handed() {
        Some(handed) if handed.opens == FLOW => (Opens::Flow, handed.backend),
        Some(handed) => (Opens::Nothing, handed.backend),
        None => (Opens::Nothing, 0),
    }
}

/// The word for a packet that came with this VIP.
#[inline(always)]
pub fn brought<A: Asked>(vip: &Vip<A>) -> u32 {
    if let Some(handed) = handed_mut() {
        handed.vip = vip.address.words();
        handed.vip_port = vip.port.into();
    }
    BROUGHT
}

/// What [`brought`] was told.
#[inline(always)]
pub fn vip<A: Asked>() -> Vip<A> {
    handed().map_or_else(Vip::default, |handed| Vip {
        address: A::of(handed.vip),
        port: handed.vip_port as u16,
    })
}

/// What became of the packet, for the stage that tells.
#[inline(always)]
pub fn answer() -> u32 {
    handed().map_or(0, |handed| handed.word)
}

/// The direction of the packet, for the same.
#[inline(always)]
pub fn direction() -> Direction {
    match handed() {
        Some(handed) if handed.direction == Direction::Egress as u32 => Direction::Egress,
        _ => Direction::Ingress,
    }
}

macro_rules! families {
    ($xdp:ident $from:ident $to:ident: $message:ident $error:ident $answer:ident $new:ident $direct:ident $returned:ident
     $unwrap:ident $inside:ident $brought:ident, $hold:ident $release:ident, $to_message:ident $to_error:ident) => {
        /// Goes on with what a function said in XDP.
        #[inline(always)]
        pub fn $xdp(ctx: &XdpContext, word: u32) -> u32 {
            if word & ASKS == 0 {
                return word;
            }
            match word {
                NEW | ANEW => return xdp(ctx, XdpStage::$new, word),
                DIRECT => return xdp(ctx, XdpStage::$direct, word),
                RETURNED => return xdp(ctx, XdpStage::$returned, word),
                WRAPPED => return xdp(ctx, XdpStage::$unwrap, word),
                INSIDE => return xdp(ctx, XdpStage::$inside, word),
                BROUGHT => return xdp(ctx, XdpStage::$brought, word),
                _ => {}
            }
            // Where nothing can be sent from here, tc begins anew with it.
            if !RouteXdp::new(ctx.ctx).answers() {
                return xdp_action::XDP_PASS;
            }
            match word {
                MESSAGE => xdp(ctx, XdpStage::$message, word),
                ERROR => xdp(ctx, XdpStage::$error, word),
                _ => xdp(ctx, XdpStage::$answer, word),
            }
        }

        /// The same for what comes through tc.
        #[inline(always)]
        pub fn $from(ctx: &TcContext, word: i32) -> i32 {
            let go_on = |stage| tc(ctx, stage, Direction::Ingress, word as u32) as i32;
            match word as u32 {
                MESSAGE => go_on(TcStage::$message),
                ERROR => go_on(TcStage::$error),
                NEW | ANEW => go_on(TcStage::$new),
                DIRECT => go_on(TcStage::$direct),
                RETURNED => go_on(TcStage::$returned),
                WRAPPED => go_on(TcStage::$unwrap),
                INSIDE => go_on(TcStage::$inside),
                BROUGHT => go_on(TcStage::$brought),
                HOLD => go_on(TcStage::$hold),
                RELEASE => go_on(TcStage::$release),
                asks if asks & ASKS != 0 => go_on(TcStage::$answer),
                _ => word,
            }
        }

        /// The same for what leaves through tc: nothing is answered there.
        #[inline(always)]
        pub fn $to(ctx: &TcContext, word: i32) -> i32 {
            let go_on = |stage| tc(ctx, stage, Direction::Egress, word as u32) as i32;
            match word as u32 {
                MESSAGE => go_on(TcStage::$to_message),
                ERROR => go_on(TcStage::$to_error),
                _ => word,
            }
        }
    };
}

families!(xdp4 from4 to4: Message4 Error4 Answer4 New4 Direct4 Returned4 Unwrap4 Inside4 Brought4, Hold4 Release4,
    ToMessage4 ToError4);
families!(xdp6 from6 to6: Message6 Error6 Answer6 New6 Direct6 Returned6 Unwrap6 Inside6 Brought6, Hold6 Release6,
    ToMessage6 ToError6);

/// Goes on with a stage. Where it does not: it is not there, and the packet is dropped. The compiler must see which stage it
/// is, so that the kernel makes it a plain jump.
#[inline(always)]
pub fn xdp(ctx: &XdpContext, stage: XdpStage, word: u32) -> u32 {
    hand(word, Direction::Ingress);
    // SAFETY: the array holds programs of this kind, or nothing.
    unsafe { XDP_STAGES.tail_call(ctx, stage.index()) };
    xdp_action::XDP_DROP | answer::dropped(DropReason::MissedTailCall)
}

/// The same for tc.
#[inline(always)]
pub fn tc(ctx: &TcContext, stage: TcStage, direction: Direction, word: u32) -> u32 {
    hand(word, direction);
    // SAFETY: as above.
    unsafe { TC_STAGES.tail_call(ctx, stage.index()) };
    TC_ACT_SHOT as u32 | answer::dropped(DropReason::MissedTailCall)
}

#[inline(always)]
fn hand(word: u32, direction: Direction) {
    if let Some(handed) = handed_mut() {
        handed.word = word;
        handed.direction = direction as u32;
    }
}

#[inline(always)]
fn handed() -> Option<&'static Handover> {
    HANDOVER.get(0)
}

#[inline(always)]
fn handed_mut() -> Option<&'static mut Handover> {
    // SAFETY: the element is this processor's own, and programs do not interrupt each other here.
    HANDOVER.get_ptr_mut(0).map(|handed| unsafe { &mut *handed })
}
