//! Where programs hang, and how they are replaced there without a gap.
//!
//! ```text
//! hook      first choice          else                        kept by
//! Xdp       in the driver         after it (generic)          links/xdp_netdev-INDEX, ...-generic
//! Ingress   TCX                   clsact with a bpf filter    links/from_netdev-INDEX, ...-filter
//! Egress    TCX                   clsact with a bpf filter    links/to_netdev-INDEX, ...-filter
//! ```
//!
//! A pinned link outlives the agent. The next start replaces the program behind it: every packet meets the old program or
//! the new one. A filter lives in the device; what is pinned for it is the program, as a mark that it is ours.
//!
//! Links are pinned by the device's number, so another name changes nothing. A device that went took its programs along: its
//! pins are found dead, and removed. Programs of others stay where they are. XDP has one place only; where it is taken,
//! [`Error::Occupied`] says so, and tc does the work.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle, qdisc_add_clsact};
use aya::programs::{ProgramError, TcAttachType};
use ebpf_abi::config::Direction;

use crate::{Datapath, Error, kernel};

/// A place of a device that programs hang at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// Before the stack has seen a packet.
    Xdp,
    /// What comes in.
    Ingress,
    /// What goes out.
    Egress,
}

/// How a program hangs there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// In the device's driver.
    Native,
    /// After the driver: works with every device, and is slower.
    Generic,
    /// A link for tc programs (Linux 6.6).
    Tcx,
    /// A bpf filter of a clsact queueing discipline.
    Filter,
}

/// What an attachment came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    pub mode: Mode,
    /// What keeps it.
    pub pin: PathBuf,
    /// What the kernel said to the first choice, where this is the second one.
    pub fell_back: Option<String>,
}

/// Something that was taken off a device that is not ours any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detached {
    pub program: &'static str,
    pub index: u32,
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

    /// The better one first.
    pub const fn modes(self) -> [Mode; 2] {
        match self {
            Self::Xdp => [Mode::Native, Mode::Generic],
            Self::Ingress | Self::Egress => [Mode::Tcx, Mode::Filter],
        }
    }

    const fn filter_side(self) -> TcAttachType {
        match self {
            Self::Xdp | Self::Ingress => TcAttachType::Ingress,
            Self::Egress => TcAttachType::Egress,
        }
    }
}

impl Mode {
    /// What it is called in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Tcx => "tcx",
            Self::Filter => "clsact",
        }
    }

    pub(crate) const fn suffix(self) -> &'static str {
        match self {
            Self::Native | Self::Tcx => "",
            Self::Generic => "-generic",
            Self::Filter => "-filter",
        }
    }
}

impl Datapath {
    /// Hangs the program of a hook at a device of this namespace, in the mode that an earlier start found, or in the best
    /// one there is.
    pub fn attach(&mut self, hook: Hook, device: &str, index: u32) -> Result<Attached, Error> {
        let attached = self.attach_best(hook, device, index)?;
        self.drop_old_stages()?;
        Ok(attached)
    }

    fn attach_best(&mut self, hook: Hook, device: &str, index: u32) -> Result<Attached, Error> {
        for mode in hook.modes() {
            if self.replace(hook, device, index, mode)? {
                let pin = self.pin(hook, index, mode);
                return Ok(Attached {
                    mode,
                    pin,
                    fell_back: None,
                });
            }
        }
        let [first, second] = hook.modes();
        match self.create(hook, device, index, first) {
            Err(Error::Attach { source, .. }) => {
                let mut attached = self.create(hook, device, index, second)?;
                attached.fell_back = Some(source.to_string());
                Ok(attached)
            }
            done => done,
        }
    }

    /// The same in this mode and no other. Where it hung in another one, it is taken off there; tc without a gap.
    pub fn attach_as(&mut self, hook: Hook, device: &str, index: u32, mode: Mode) -> Result<Attached, Error> {
        let others = hook.modes().into_iter().filter(|other| *other != mode);
        let off = |datapath: &Self| {
            let mut pins = others
                .clone()
                .map(|other| take_off(&datapath.pin(hook, index, other), hook, index, other));
            pins.try_for_each(|done| done).map_err(failed(hook, device))
        };
        // The two modes of XDP exclude each other.
        if hook == Hook::Xdp {
            off(self)?;
        }
        let attached = if self.replace(hook, device, index, mode)? {
            Attached {
                mode,
                pin: self.pin(hook, index, mode),
                fell_back: None,
            }
        } else {
            self.create(hook, device, index, mode)?
        };
        off(self)?;
        self.drop_old_stages()?;
        Ok(attached)
    }

    /// Takes the program of a hook off a device; it may be off already.
    pub fn detach(&mut self, hook: Hook, device: &str, index: u32) -> Result<(), Error> {
        for mode in hook.modes() {
            take_off(&self.pin(hook, index, mode), hook, index, mode).map_err(failed(hook, device))?;
        }
        self.drop_old_stages()
    }

    /// Takes all programs off devices that are not among these, which are gone, or were left out of the settings since.
    pub fn detach_others(&mut self, devices: &BTreeSet<u32>) -> Result<Vec<Detached>, Error> {
        let folder = self.links();
        let unreadable = |source| Error::Folder {
            path: folder.clone(),
            source,
        };
        let mut found = BTreeSet::new();
        for entry in fs::read_dir(&folder).map_err(unreadable)? {
            let name = entry.map_err(unreadable)?.file_name();
            found.extend(name.to_str().and_then(read_name));
        }
        found.retain(|(_, index)| !devices.contains(index));
        for (hook, index) in &found {
            self.detach(*hook, &format!("device {index}"), *index)?;
        }
        let detached = found.into_iter().map(|(hook, index)| Detached {
            program: hook.program(),
            index,
        });
        Ok(detached.collect())
    }

    /// Whether there was a link that was ours, and that has the program of now.
    fn replace(&mut self, hook: Hook, device: &str, index: u32, mode: Mode) -> Result<bool, Error> {
        let pin = self.pin(hook, index, mode);
        let mut old = None;
        // A link that another version left is as good as our own.
        for folder in std::iter::once(self.folder().to_owned()).chain(self.other_versions()?) {
            let path = folder.join("links").join(pin.file_name().unwrap_or_default());
            match kernel::open(&path) {
                Ok(fd) => {
                    old = Some((fd, path));
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(hook, device)(error)),
            }
        }
        let Some((old, path)) = old else {
            return Ok(false);
        };
        let replaced = match mode {
            Mode::Native | Mode::Generic | Mode::Tcx => {
                let program = self.program_fd(hook)?.as_fd();
                // Without its device, or with another one that has the number now, it is worth nothing.
                kernel::link_info(old.as_fd())
                    .is_ok_and(|info| info.device == index && kernel::relink(old.as_fd(), program).is_ok())
            }
            Mode::Filter => self.filter(hook, index, Filter::Old).is_ok(),
        };
        let keep = || -> io::Result<()> {
            match mode {
                Mode::Native | Mode::Generic | Mode::Tcx if replaced && path != pin => {
                    kernel::pin(old.as_fd(), &pin)?;
                }
                Mode::Filter if replaced => self.mark(hook, &pin)?,
                Mode::Native | Mode::Generic | Mode::Tcx | Mode::Filter => {}
            }
            if replaced && path == pin {
                Ok(())
            } else {
                kernel::unpin(&path)
            }
        };
        keep().map_err(failed(hook, device))?;
        Ok(replaced)
    }

    fn create(&mut self, hook: Hook, device: &str, index: u32, mode: Mode) -> Result<Attached, Error> {
        const NATIVE: u32 = 1 << 2;
        const GENERIC: u32 = 1 << 1;
        const XDP: u32 = 37;
        const TCX_INGRESS: u32 = 46;
        const TCX_EGRESS: u32 = 47;
        let pin = self.pin(hook, index, mode);
        let place = match hook {
            Hook::Xdp => XDP,
            Hook::Ingress => TCX_INGRESS,
            Hook::Egress => TCX_EGRESS,
        };
        let link = |datapath: &Self, flags| -> Result<io::Result<OwnedFd>, Error> {
            let program = datapath.program_fd(hook)?.as_fd();
            Ok(kernel::link(program, index, place, flags))
        };
        let done = match mode {
            Mode::Native => link(self, NATIVE)?.and_then(|link| kernel::pin(link.as_fd(), &pin)),
            Mode::Generic => link(self, GENERIC)?.and_then(|link| kernel::pin(link.as_fd(), &pin)),
            Mode::Tcx => link(self, 0)?.and_then(|link| kernel::pin(link.as_fd(), &pin)),
            Mode::Filter => self
                .filter(hook, index, Filter::New)
                .and_then(|()| self.mark(hook, &pin)),
        };
        let attached = Attached {
            mode,
            pin,
            fell_back: None,
        };
        done.map(|()| attached)
            .map_err(|error| match (error.raw_os_error(), hook) {
                (Some(libc::EBUSY | libc::EEXIST), Hook::Xdp) => Error::Occupied {
                    program: hook.program(),
                    device: device.to_owned(),
                },
                (Some(libc::ENODEV | libc::ENXIO), _) => Error::DeviceGone {
                    program: hook.program(),
                    device: device.to_owned(),
                    index,
                },
                _ => failed(hook, device)(error),
            })
    }

    /// Makes the filter, or puts the program of now behind it.
    fn filter(&mut self, hook: Hook, index: u32, filter: Filter) -> io::Result<()> {
        // The library wants a name.
        let device = kernel::device_name(index)?;
        let side = hook.filter_side();
        let program = self.classifier(hook).map_err(io::Error::other)?;
        let id = match filter {
            Filter::New => {
                if let Err(error) = qdisc_add_clsact(&device) {
                    // There may be one already. If not, the filter says what is wrong.
                    drop(error);
                }
                let options = NlOptions {
                    priority: PRIORITY,
                    handle: TcHandle::from(HANDLE),
                    classid: None,
                };
                program.attach_with_options(&device, side, TcAttachOptions::Netlink(options))
            }
            Filter::Old => program.attach_to_link(known_filter(&device, hook)?),
        };
        let link = program.take_link(id.map_err(words)?).map_err(io::Error::other)?;
        // It would take the filter off at the end of this function.
        std::mem::forget(link);
        Ok(())
    }

    fn mark(&self, hook: Hook, pin: &Path) -> io::Result<()> {
        kernel::unpin(pin)?;
        let program = self.program_fd(hook).map_err(io::Error::other)?;
        kernel::pin(program.as_fd(), pin)
    }

    fn pin(&self, hook: Hook, index: u32, mode: Mode) -> PathBuf {
        self.links().join(pin_name(hook, index, mode))
    }

    fn links(&self) -> PathBuf {
        self.folder().join("links")
    }
}

/// Whether a filter is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filter {
    New,
    Old,
}

/// As other programs of this kind do it, in case something is to come before or behind them.
const PRIORITY: u16 = 1;

/// Ours among the filters of that priority.
const HANDLE: u32 = 0x5354;

/// Takes the filter off when it is dropped.
fn known_filter(device: &str, hook: Hook) -> io::Result<SchedClassifierLink> {
    SchedClassifierLink::attached(device, hook.filter_side(), PRIORITY, TcHandle::from(HANDLE), None)
}

/// What keeps a program at a device. By number: names may have dots, which this file system keeps for itself.
pub(crate) fn pin_name(hook: Hook, index: u32, mode: Mode) -> String {
    format!("{}-{index}{}", hook.program(), mode.suffix())
}

/// Takes off what hangs by this pin, and removes it; both may be gone.
pub(crate) fn take_off(pin: &Path, hook: Hook, index: u32, mode: Mode) -> io::Result<()> {
    match mode {
        Mode::Native | Mode::Generic | Mode::Tcx => {
            if let Ok(link) = kernel::open(pin) {
                // Of a device that is gone it is off already.
                drop(kernel::unlink(link.as_fd()));
            }
        }
        Mode::Filter => {
            // A device that is gone took its filters along.
            if pin.exists()
                && let Ok(device) = kernel::device_name(index)
            {
                drop(known_filter(&device, hook)?);
            }
        }
    }
    kernel::unpin(pin)
}

/// The hook and the device of a pin.
pub(crate) fn read_name(name: &str) -> Option<(Hook, u32)> {
    let mut parts = name.split('-');
    let (program, index) = (parts.next()?, parts.next()?);
    let hook = Hook::ALL.into_iter().find(|hook| hook.program() == program)?;
    Some((hook, index.parse().ok()?))
}

fn failed(hook: Hook, device: &str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Attach {
        program: hook.program(),
        device: device.to_owned(),
        source,
    }
}

/// The kernel's own answer, where there is one.
fn words(error: ProgramError) -> io::Error {
    match error {
        ProgramError::SyscallError(error) => error.io_error,
        other => io::Error::other(other),
    }
}
