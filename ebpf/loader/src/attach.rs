//! Where programs hang, and how they are replaced there without a gap.

use std::io;
use std::path::{Path, PathBuf};

use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::tc::TcAttachOptions;
use aya::programs::xdp::XdpLink;
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType, Xdp, XdpMode};
use ebpf_abi::config::Direction;

use crate::{Datapath, Error};

/// A place of a device that programs hang at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// Before the stack has seen a packet.
    Xdp,
    /// What comes in (TCX, Linux 6.6).
    Ingress,
    /// What goes out (TCX).
    Egress,
}

/// How a program hangs there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// In the device's driver.
    Native,
    /// After the driver: works with every device, and is slower.
    Generic,
    Tcx,
}

/// What an attachment came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    pub mode: Mode,
    /// Where its link is pinned.
    pub pin: PathBuf,
}

impl Hook {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Xdp, Self::Ingress, Self::Egress];

    /// The program that hangs there.
    pub const fn program(self) -> &'static str {
        match self {
            Self::Xdp => "xdp_netdev",
            Self::Ingress => "from_netdev",
            Self::Egress => "to_netdev",
        }
    }

    /// Where its packets are counted.
    pub const fn direction(self) -> Direction {
        match self {
            Self::Xdp | Self::Ingress => Direction::Ingress,
            Self::Egress => Direction::Egress,
        }
    }
}

impl Datapath {
    /// Hangs the program of a hook at a device of this namespace. Where a link of an earlier start is pinned, the program
    /// behind it is replaced: every packet meets the old program or the new one.
    pub fn attach(&mut self, hook: Hook, device: &str, index: u32) -> Result<Attached, Error> {
        // By number: names may have dots, which this file system keeps for itself.
        let pin = self
            .folder
            .join("links")
            .join(format!("{}-{index}", hook.program()));
        let failed = |source| Error::Attach {
            program: hook.program(),
            device: device.to_owned(),
            source,
        };
        let mode = match hook {
            Hook::Xdp => xdp(self.xdp()?, index, &pin).map_err(failed)?,
            Hook::Ingress => {
                tcx(self.classifier(hook)?, device, TcAttachType::Ingress, &pin).map_err(failed)?;
                Mode::Tcx
            }
            Hook::Egress => {
                tcx(self.classifier(hook)?, device, TcAttachType::Egress, &pin).map_err(failed)?;
                Mode::Tcx
            }
        };
        Ok(Attached { mode, pin })
    }

    /// Takes the program of a hook off a device; it may be off already.
    pub fn detach(&mut self, hook: Hook, device: &str, index: u32) -> Result<(), Error> {
        let pin = self
            .folder
            .join("links")
            .join(format!("{}-{index}", hook.program()));
        unpin(&pin).map_err(|source| Error::Attach {
            program: hook.program(),
            device: device.to_owned(),
            source,
        })
    }
}

/// Which mode a link of an earlier start has is not asked: it was the best there was.
fn xdp(program: &mut Xdp, index: u32, pin: &Path) -> io::Result<Mode> {
    let generic = pin.with_file_name(format!("{}-generic", name(pin)));
    for (path, mode) in [(pin, Mode::Native), (&*generic, Mode::Generic)] {
        let Some(old) = pinned(path)? else { continue };
        let link = XdpLink::try_from(old).map_err(io::Error::other)?;
        if let Ok(id) = program.attach_to_link(link) {
            let link = program.take_link(id).map_err(io::Error::other)?;
            pin_link(link.try_into().map_err(io::Error::other)?, path)?;
            return Ok(mode);
        }
        // Its device is gone, and another one has the number.
        unpin(path)?;
    }
    let (id, mode, path) = match program.attach_to_if_index(index, XdpMode::Driver) {
        Ok(id) => (id, Mode::Native, pin),
        Err(_) => {
            let id = program.attach_to_if_index(index, XdpMode::Skb).map_err(words)?;
            (id, Mode::Generic, &*generic)
        }
    };
    let link = program.take_link(id).map_err(io::Error::other)?;
    pin_link(link.try_into().map_err(io::Error::other)?, path)?;
    Ok(mode)
}

fn tcx(program: &mut SchedClassifier, device: &str, side: TcAttachType, pin: &Path) -> io::Result<()> {
    let replaced = match pinned(pin)? {
        Some(old) => {
            let link = old.try_into().map_err(io::Error::other)?;
            let replaced = program.attach_to_link(link).ok();
            if replaced.is_none() {
                unpin(pin)?;
            }
            replaced
        }
        None => None,
    };
    let id = match replaced {
        Some(id) => id,
        None => {
            let last = TcAttachOptions::TcxOrder(LinkOrder::last());
            program.attach_with_options(device, side, last).map_err(words)?
        }
    };
    let link = program.take_link(id).map_err(io::Error::other)?;
    pin_link(link.try_into().map_err(io::Error::other)?, pin)
}

fn pinned(path: &Path) -> io::Result<Option<FdLink>> {
    match PinnedLink::from_pin(path) {
        Ok(link) => Ok(Some(link.into())),
        Err(LinkError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io::Error::other(error)),
    }
}

/// The link lives as long as its file.
fn pin_link(link: FdLink, path: &Path) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    link.pin(path).map(drop).map_err(io::Error::other)
}

fn unpin(path: &Path) -> io::Result<()> {
    let generic = path.with_file_name(format!("{}-generic", name(path)));
    for path in [path, &generic] {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// The kernel's own answer, where there is one.
fn words(error: ProgramError) -> io::Error {
    match error {
        ProgramError::SyscallError(error) => error.io_error,
        other => io::Error::other(other),
    }
}
