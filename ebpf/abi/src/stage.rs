//! Stages: programs that others go on with by tail calls, because the verifier walks each program by itself, within a budget.
//!
//! ```text
//!  xdp_netdev ---> its verdict                         most packets, and all that find their flow
//!      |
//!      `--> XDP_STAGES[Message4] --> XDP_STAGES[Error4] --> its verdict
//!                  |                        `------------> somebody listens: XDP_STAGES[Tell]
//!                  `--> XDP_STAGES[Answer4] --> its verdict
//! ```
//!
//! A program array holds programs of one hook, so XDP and tc have one each. What a stage needs beside the packet is in
//! `HANDOVER`, which is the processor's own. A stage that is not there drops the packet:
//! [`crate::DropReason::MissedTailCall`].
//!
//! The kernel empties an array when nobody in user space holds it, also while programs use it. So each start makes arrays of
//! its own, fills them before any program hangs anywhere, and pins them: one that ran before goes on with its own stages.

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
    Tell = "xdp_tell",
}

stages! {
    /// After `from_netdev` and `to_netdev`.
    TcStage, "TC_STAGES":
    FromMessage4 = "from_message4",
    FromMessage6 = "from_message6",
    FromError4 = "from_error4",
    FromError6 = "from_error6",
    FromAnswer4 = "from_answer4",
    FromAnswer6 = "from_answer6",
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
