//! Going on with another program: the table of stages is [`ebpf_abi::stage`].
//!
//! Only entries and stages themselves do so, never functions they call: the kernel gives a function that does less stack.

use aya_ebpf::bindings::{TC_ACT_SHOT, xdp_action};
use aya_ebpf::btf_maps::{PerCpuArray, ProgramArray};
use aya_ebpf::macros::btf_map;
use aya_ebpf::programs::{TcContext, XdpContext};
use ebpf_abi::DropReason;
use ebpf_abi::config::Direction;
use ebpf_abi::event::answer;
use ebpf_abi::stage::{TcStage, XdpStage};

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
}

#[btf_map]
static HANDOVER: PerCpuArray<Handover, 1> = PerCpuArray::new();

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

/// The word for this stage. The verifier would walk all of a stage for each word it knows.
#[inline(always)]
pub fn word() -> u32 {
    HANDOVER.get(0).map_or(0, |handed| handed.word)
}

/// The direction of the packet, for this stage.
#[inline(always)]
pub fn direction() -> Direction {
    match HANDOVER.get(0) {
        Some(handed) if handed.direction == Direction::Egress as u32 => Direction::Egress,
        _ => Direction::Ingress,
    }
}

#[inline(always)]
fn hand(word: u32, direction: Direction) {
    if let Some(handed) = HANDOVER.get_ptr_mut(0) {
        // SAFETY: the element is this processor's own, and programs do not interrupt each other here.
        unsafe {
            *handed = Handover {
                word,
                direction: direction as u32,
            };
        }
    }
}
