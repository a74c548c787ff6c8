//! Stages: programs that others go on with by tail calls, because the verifier walks each program by itself, within a budget.
//!
//! ```text
//!  xdp_netdev --------------------> its verdict        most packets, and all that find their flow
//!      |
//!      +---> New ----> Direct ----> its verdict        a new flow; headers that bring its VIP along
//!      |
//!      +---> Message ---> Error --> its verdict        ICMP
//!      |
//!      +---> Answer --------------> its verdict        the packet becomes its own answer, from wherever
//!      |
//!      +---> Unwrap ---> Inside, Brought; Returned     packets of other nodes
//!      |
//!      +---> Hold, Release                             fragments in the wrong order; in tc only
//!      |
//!      `---> Tell                                      from the end of each, where somebody listens
//! ```
//!
//! A program array holds programs of one hook, so XDP and tc have one each. What a stage needs beside the packet is in
//! `HANDOVER`, which is the processor's own. A stage that is not there drops the packet:
//! [`crate::DropReason::MissedTailCall`].
//!
//! The kernel empties an array when nobody in user space holds it, also while programs use it. So each start makes arrays of
//! its own, fills them before any program hangs anywhere, and pins them: one that ran before goes on with its own stages.

#[cfg(any(test, feature = "model"))]
use crate::balance::{
    Opened, Pass, Verdict, arrive, begin, brought, egress, inside, remember, send_on, unwrap,
};
#[cfg(any(test, feature = "model"))]
use crate::config::Direction;
#[cfg(any(test, feature = "model"))]
use crate::dsr::Vip;
#[cfg(any(test, feature = "model"))]
use crate::icmp::{Answers, Control, answer, message, translate};
#[cfg(any(test, feature = "model"))]
use crate::packet::ETHERNET;
#[cfg(any(test, feature = "model"))]
use crate::resize::Buffer;

macro_rules! stages {
    ($(#[$doc:meta])* $kind:ident, $array:literal: $($name:ident = $program:literal,)*) => {
        $(#[$doc])*
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $kind {
            $($name,)*
        }

        impl $kind {
            /// All of them, by index.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];
            /// The map that holds them.
            pub const ARRAY: &'static str = $array;

            /// Where in the array it is.
            #[expect(clippy::as_conversions, reason = "the number of a variant, in a constant")]
            #[inline(always)]
            pub const fn index(self) -> u32 {
                self as u32
            }

            /// The program of the stage.
            pub const fn program(self) -> &'static str {
                match self {
                    $(Self::$name => $program,)*
                }
            }
        }
    };
}

stages! {
    /// After `xdp_netdev`.
    XdpStage, "XDP_STAGES":
    Message4 = "xdp_message4",
    Message6 = "xdp_message6",
    Error4 = "xdp_error4",
    Error6 = "xdp_error6",
    Answer4 = "xdp_answer4",
    Answer6 = "xdp_answer6",
    New4 = "xdp_new4",
    New6 = "xdp_new6",
    Direct4 = "xdp_direct4",
    Direct6 = "xdp_direct6",
    Returned4 = "xdp_returned4",
    Returned6 = "xdp_returned6",
    Unwrap4 = "xdp_unwrap4",
    Unwrap6 = "xdp_unwrap6",
    Inside4 = "xdp_inside4",
    Inside6 = "xdp_inside6",
    Brought4 = "xdp_brought4",
    Brought6 = "xdp_brought6",
    Tell = "xdp_tell",
}

stages! {
    /// After `from_netdev` and `to_netdev`.
    TcStage, "TC_STAGES":
    Message4 = "from_message4",
    Message6 = "from_message6",
    Error4 = "from_error4",
    Error6 = "from_error6",
    Answer4 = "from_answer4",
    Answer6 = "from_answer6",
    New4 = "from_new4",
    New6 = "from_new6",
    Direct4 = "from_direct4",
    Direct6 = "from_direct6",
    Returned4 = "from_returned4",
    Returned6 = "from_returned6",
    Unwrap4 = "from_unwrap4",
    Unwrap6 = "from_unwrap6",
    Inside4 = "from_inside4",
    Inside6 = "from_inside6",
    Brought4 = "from_brought4",
    Brought6 = "from_brought6",
    Hold4 = "from_hold4",
    Hold6 = "from_hold6",
    Release4 = "from_release4",
    Release6 = "from_release6",
    ToMessage4 = "to_message4",
    ToMessage6 = "to_message6",
    ToError4 = "to_error4",
    ToError6 = "to_error6",
    Tell = "tc_tell",
}

/// A stage of either hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Xdp(XdpStage),
    Tc(TcStage),
}

impl Stage {
    /// The arrays, by name.
    pub const ARRAYS: [&'static str; 2] = [TcStage::ARRAY, XdpStage::ARRAY];

    /// All of them, those of one array together.
    pub fn all() -> impl Iterator<Item = Self> {
        let xdp = XdpStage::ALL.iter().copied().map(Self::Xdp);
        xdp.chain(TcStage::ALL.iter().copied().map(Self::Tc))
    }

    /// The map that holds it.
    pub const fn array(self) -> &'static str {
        match self {
            Self::Xdp(_) => XdpStage::ARRAY,
            Self::Tc(_) => TcStage::ARRAY,
        }
    }

    /// Where in the array it is.
    pub const fn index(self) -> u32 {
        match self {
            Self::Xdp(stage) => stage.index(),
            Self::Tc(stage) => stage.index(),
        }
    }

    /// The program of the stage.
    pub const fn program(self) -> &'static str {
        match self {
            Self::Xdp(stage) => stage.program(),
            Self::Tc(stage) => stage.program(),
        }
    }
}

/// What a program and all its stages make of a packet, outside of the kernel. What tc would hold or release is up to the
/// caller.
#[cfg(any(test, feature = "model"))]
pub fn whole<A: Control, T: Answers<A>>(
    packet: &mut Buffer,
    direction: Direction,
    tables: &mut T,
) -> Verdict {
    let mut verdict = match direction {
        Direction::Ingress => arrive(packet, ETHERNET, tables),
        Direction::Egress | Direction::Socket => egress(packet, ETHERNET, tables),
    };
    loop {
        verdict = match verdict {
            Verdict::Message => message(packet, ETHERNET, direction, tables),
            Verdict::Error => translate(packet, ETHERNET, direction, tables),
            Verdict::New(_) => begin(packet, ETHERNET, tables),
            Verdict::Answer(what) => return answer(packet, ETHERNET, what, tables),
            Verdict::Direct(opens, backend) => send_on(packet, opens, backend.index(), tables),
            Verdict::Returned => remember(packet, tables),
            Verdict::Wrapped => {
                let mut vip = Vip::default();
                match unwrap(packet, tables, &mut vip) {
                    Opened::Nothing => Verdict::Pass(Pass::Protocol),
                    Opened::Inside => inside(packet, ETHERNET, tables),
                    Opened::Brought => brought(packet, &vip, tables),
                    Opened::Drop(reason) => Verdict::Drop(reason),
                }
            }
            Verdict::Pass(_)
            | Verdict::Local
            | Verdict::Reply
            | Verdict::Forward
            | Verdict::Drop(_)
            | Verdict::Answered
            | Verdict::Hold
            | Verdict::Release => return verdict,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_stages_fit_the_kernel_and_are_nobody_elses() {
        let mut names: Vec<&str> = Stage::all().map(Stage::program).collect();
        assert!(names.iter().all(|name| name.len() <= 15), "{names:?}");
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn stages_are_listed_by_index() {
        assert!(XdpStage::ALL.is_sorted() && TcStage::ALL.is_sorted());
        let last = XdpStage::ALL.last().expect("there are some");
        assert_eq!(last.index() as usize, XdpStage::ALL.len() - 1);
    }
}
