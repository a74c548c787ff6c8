//! Which ways out of this node XDP may take. What it sends to a device that takes none is lost without a word, so each device
//! is asked first, and tc forwards where the answer is not yes.
//!
//! ```text
//!                     takes frames of others        sends its own ones back
//! all XDP generic     always: they are packets      always
//! some XDP native     its driver says so            native and no veth: always
//!                                                   veth: as it takes those of others
//! ```
//!
//! A veth says so while its other end has GRO or an XDP program, which nobody can see from here.

use std::collections::BTreeMap;
use std::fmt;

use ebpf_abi::config::device_flag;
use ebpf_loader::Mode;

use super::devices::Device;

/// What the driver of a device says of frames that XDP sends to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Frames {
    /// Kernels before 6.3 do not tell.
    #[default]
    Untold,
    Taken,
    Refused,
}

/// Who forwards what leaves by a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Out {
    /// XDP, wherever it came in.
    Xdp,
    /// XDP what came in by the same device, tc the rest.
    XdpBack(Unfit),
    Tc(Unfit),
}

/// Why XDP does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unfit {
    /// No XDP program of ours is at the device.
    NoXdp,
    KernelUntold,
    DriverRefuses,
    /// A veth whose other end neither has GRO nor an XDP program.
    OtherEnd,
}

impl Unfit {
    /// Stable, in kebab case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NoXdp => "no-xdp",
            Self::KernelUntold => "kernel-does-not-tell",
            Self::DriverRefuses => "driver-takes-no-frames",
            Self::OtherEnd => "other-end-takes-no-frames",
        }
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoXdp => "no XDP program hangs there",
            Self::KernelUntold => "the kernel does not tell whether its driver takes frames of XDP (6.3 does)",
            Self::DriverRefuses => "its driver takes no frames of XDP",
            Self::OtherEnd => {
                "the other end of this veth takes no frames of XDP: `ethtool -K NAME gro on` there, while both ends are \
                 up, lets it"
            }
        })
    }
}

impl Out {
    /// `xdp`, `xdp-back` or `tc`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::XdpBack(_) => "xdp-back",
            Self::Tc(_) => "tc",
        }
    }

    #[must_use]
    pub fn unfit(self) -> Option<Unfit> {
        match self {
            Self::Xdp => None,
            Self::XdpBack(why) | Self::Tc(why) => Some(why),
        }
    }
}

/// What each device can do for XDP, by index: bits of [`device_flag`], and who forwards. `modes` says how XDP hangs at a
/// device.
#[must_use]
pub fn judge(devices: &[&Device], modes: &BTreeMap<u32, Mode>) -> BTreeMap<u32, (u32, Out)> {
    let generic = modes.values().all(|mode| *mode == Mode::Generic);
    let judged = devices.iter().map(|device| {
        let own = modes.get(&device.index);
        let takes = match device.frames {
            Frames::Taken => Ok(()),
            Frames::Untold | Frames::Refused if generic => Ok(()),
            Frames::Untold => Err(Unfit::KernelUntold),
            Frames::Refused if device.kind == VETH => Err(Unfit::OtherEnd),
            Frames::Refused => Err(Unfit::DriverRefuses),
        };
        let returns = own.is_some_and(|mode| *mode == Mode::Generic || device.kind != VETH);
        let flag = |has: bool, bit| if has { bit } else { 0 };
        let flags =
            flag(takes.is_ok(), device_flag::TAKES_FRAMES) | flag(returns, device_flag::RETURNS_FRAMES);
        let out = match (own, takes) {
            _ if modes.is_empty() => Out::Tc(Unfit::NoXdp),
            // What others send out by it goes by XDP all the same.
            (None | Some(_), Ok(())) => Out::Xdp,
            (Some(_), Err(why)) if returns => Out::XdpBack(why),
            (None | Some(_), Err(why)) => Out::Tc(why),
        };
        (device.index, (flags, out))
    });
    judged.collect()
}

const VETH: &str = "veth";

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: u32 = device_flag::TAKES_FRAMES | device_flag::RETURNS_FRAMES;

    fn device(index: u32, kind: &str, frames: Frames) -> Device {
        Device {
            index,
            kind: kind.to_owned(),
            frames,
            ..Device::default()
        }
    }

    fn alone(kind: &str, frames: Frames, mode: Mode) -> (u32, Out) {
        judge(&[&device(2, kind, frames)], &BTreeMap::from([(2, mode)]))[&2]
    }

    #[test]
    fn a_card_sends_its_own_frames_back_whatever_it_takes_of_others() {
        let card = |frames| alone("", frames, Mode::Native);
        assert_eq!(card(Frames::Taken), (BOTH, Out::Xdp));
        let back = device_flag::RETURNS_FRAMES;
        assert_eq!(card(Frames::Refused), (back, Out::XdpBack(Unfit::DriverRefuses)));
        assert_eq!(card(Frames::Untold), (back, Out::XdpBack(Unfit::KernelUntold)));
    }

    #[test]
    fn a_veth_sends_nothing_that_its_other_end_does_not_take() {
        let veth = |frames| alone("veth", frames, Mode::Native);
        assert_eq!(veth(Frames::Taken), (device_flag::TAKES_FRAMES, Out::Xdp));
        assert_eq!(veth(Frames::Refused), (0, Out::Tc(Unfit::OtherEnd)));
        assert_eq!(veth(Frames::Untold), (0, Out::Tc(Unfit::KernelUntold)));
    }

    #[test]
    fn after_the_driver_every_device_takes_everything_but_not_from_drivers() {
        assert_eq!(alone("veth", Frames::Refused, Mode::Generic), (BOTH, Out::Xdp));
        let (generic, native) = (device(2, "", Frames::Refused), device(3, "", Frames::Taken));
        let modes = BTreeMap::from([(2, Mode::Generic), (3, Mode::Native)]);
        let judged = judge(&[&generic, &native], &modes);
        assert_eq!(
            judged[&2],
            (device_flag::RETURNS_FRAMES, Out::XdpBack(Unfit::DriverRefuses))
        );
        assert_eq!(judged[&3], (BOTH, Out::Xdp));
    }

    #[test]
    fn without_xdp_tc_forwards() {
        let card = device(2, "", Frames::Taken);
        assert_eq!(judge(&[&card], &BTreeMap::new())[&2].1, Out::Tc(Unfit::NoXdp));
    }
}
