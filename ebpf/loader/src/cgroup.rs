//! The programs of sockets at a cgroup: every socket of a process in it, or below it, is theirs.
//!
//! A link for each, pinned beside those of devices. A start replaces the program behind a link, so no call meets an empty
//! hook. A kernel without such links (before 5.7) gets attachments, whose programs are pinned instead. Other programs at the
//! cgroup, and agents at other cgroups, keep what they have.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use aya::programs::{CgroupSock, CgroupSockAddr, ProgramError, ProgramFd};

use crate::kernel::{self, Command, ProgAttach, bpf, number};
use crate::run::Size;
use crate::{Datapath, Error};

/// A call on sockets that programs hang at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SocketHook {
    Release,
    Peername4,
    Peername6,
    Receive4,
    Receive6,
    Bind4,
    Bind6,
    Send4,
    Send6,
    Connect4,
    Connect6,
}

/// How the programs hang at the cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Means {
    /// Each by a link, which is replaced at once.
    Link,
    /// Each by an attachment, replaced at once since Linux 5.6.
    Attachment,
}

impl SocketHook {
    /// All of them: those that translate back before those that translate, so that a program is never shown a backend.
    pub const ALL: [Self; 11] = [
        Self::Release,
        Self::Peername4,
        Self::Peername6,
        Self::Receive4,
        Self::Receive6,
        Self::Bind4,
        Self::Bind6,
        Self::Send4,
        Self::Send6,
        Self::Connect4,
        Self::Connect6,
    ];

    /// The program that hangs there.
    pub const fn program(self) -> &'static str {
        match self {
            Self::Release => "sock_release",
            Self::Peername4 => "sock4_getpeername",
            Self::Peername6 => "sock6_getpeername",
            Self::Receive4 => "sock4_recvmsg",
            Self::Receive6 => "sock6_recvmsg",
            Self::Bind4 => "sock4_post_bind",
            Self::Bind6 => "sock6_post_bind",
            Self::Send4 => "sock4_sendmsg",
            Self::Send6 => "sock6_sendmsg",
            Self::Connect4 => "sock4_connect",
            Self::Connect6 => "sock6_connect",
        }
    }

    /// The kernel's number of the hook.
    const fn attach_type(self) -> u32 {
        match self {
            Self::Connect4 => 10,
            Self::Connect6 => 11,
            Self::Bind4 => 12,
            Self::Bind6 => 13,
            Self::Send4 => 14,
            Self::Send6 => 15,
            Self::Receive4 => 19,
            Self::Receive6 => 20,
            Self::Peername4 => 29,
            Self::Peername6 => 30,
            Self::Release => 34,
        }
    }
}

/// `BPF_F_ALLOW_MULTI`: others may hang here too.
const MULTI: u32 = 2;
/// `BPF_F_REPLACE`: in place of another one.
const REPLACE: u32 = 4;

impl Datapath {
    /// Hangs the programs of sockets at a cgroup (of version 2), by links where the kernel has them.
    pub fn attach_sockets(&mut self, cgroup: &Path) -> Result<Means, Error> {
        match self.attach_sockets_by(Means::Link, cgroup) {
            Ok(()) => Ok(Means::Link),
            Err(Error::Attach { source, .. }) if source.raw_os_error() == Some(libc::EINVAL) => {
                self.attach_sockets_by(Means::Attachment, cgroup)?;
                Ok(Means::Attachment)
            }
            Err(error) => Err(error),
        }
    }

    /// The same by means that the caller chooses.
    pub fn attach_sockets_by(&mut self, means: Means, cgroup: &Path) -> Result<(), Error> {
        self.load_sockets()?;
        let place = Place::open(cgroup).map_err(failed(SocketHook::Connect4, cgroup))?;
        for hook in SocketHook::ALL {
            let program = self.socket_program(hook)?;
            let program = program.as_fd();
            let done = match means {
                Means::Link => link(program, hook, &place, &self.socket_pin(hook, means)),
                Means::Attachment => attachment(program, hook, &place, &self.socket_pin(hook, means)),
            };
            done.map_err(failed(hook, cgroup))?;
        }
        Ok(())
    }

    /// Takes the programs of sockets off a cgroup; they may be off already. Sockets keep the backends they have.
    pub fn detach_sockets(&mut self, cgroup: &Path) -> Result<(), Error> {
        for hook in SocketHook::ALL.into_iter().rev() {
            let failed = failed(hook, cgroup);
            let attached = self.socket_pin(hook, Means::Attachment);
            match kernel::open(&attached) {
                Ok(program) => Place::open(cgroup)
                    .and_then(|place| detach(program.as_fd(), hook, &place))
                    .map_err(&failed)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error)),
            }
            kernel::unpin(&attached).map_err(&failed)?;
            let pin = self.socket_pin(hook, Means::Link);
            match kernel::open(&pin) {
                // Before Linux 5.9 it goes some time later.
                Ok(link) => drop(kernel::unlink(link.as_fd())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error)),
            }
            kernel::unpin(&pin).map_err(&failed)?;
        }
        Ok(())
    }

    /// How large the program of a hook is.
    pub fn socket_size(&mut self, hook: SocketHook) -> Result<Size, Error> {
        self.load_sockets()?;
        self.size_of(hook.program())
    }

    fn load_sockets(&mut self) -> Result<(), Error> {
        for hook in SocketHook::ALL {
            let name = hook.program();
            let program = self.ebpf.program_mut(name).ok_or(Error::NoProgram(name))?;
            let loaded = match hook {
                SocketHook::Release | SocketHook::Bind4 | SocketHook::Bind6 => {
                    let program: &mut CgroupSock = program.try_into().map_err(|_| Error::NoProgram(name))?;
                    program.load()
                }
                SocketHook::Peername4
                | SocketHook::Peername6
                | SocketHook::Receive4
                | SocketHook::Receive6
                | SocketHook::Send4
                | SocketHook::Send6
                | SocketHook::Connect4
                | SocketHook::Connect6 => {
                    let program: &mut CgroupSockAddr =
                        program.try_into().map_err(|_| Error::NoProgram(name))?;
                    program.load()
                }
            };
            match loaded {
                Ok(()) | Err(ProgramError::AlreadyLoaded) => {}
                Err(source) => {
                    return Err(Error::Refused {
                        program: name,
                        source: Box::new(source),
                    });
                }
            }
        }
        Ok(())
    }

    fn socket_program(&self, hook: SocketHook) -> Result<&ProgramFd, Error> {
        let name = hook.program();
        let program = self.ebpf.program(name).ok_or(Error::NoProgram(name))?;
        program.fd().map_err(|source| Error::Refused {
            program: name,
            source: Box::new(source),
        })
    }

    fn socket_pin(&self, hook: SocketHook, means: Means) -> PathBuf {
        let name = match means {
            Means::Link => hook.program().to_owned(),
            Means::Attachment => format!("{}-attached", hook.program()),
        };
        self.folder().join("links").join(name)
    }
}

fn failed(hook: SocketHook, cgroup: &Path) -> impl Fn(io::Error) -> Error {
    move |source| Error::Attach {
        program: hook.program(),
        device: cgroup.display().to_string(),
        source,
    }
}

/// A cgroup.
struct Place {
    folder: File,
    /// The kernel's number of it is that of its folder.
    id: u64,
}

impl Place {
    fn open(path: &Path) -> io::Result<Self> {
        let folder = File::open(path)?;
        let id = folder.metadata()?.ino();
        Ok(Self { folder, id })
    }

    fn fd(&self) -> u32 {
        number(self.folder.as_fd())
    }
}

fn link(program: BorrowedFd<'_>, hook: SocketHook, place: &Place, pin: &Path) -> io::Result<()> {
    let old = match kernel::open(pin) {
        Ok(old) => Some(old),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    if let Some(old) = &old
        && kernel::cgroup_link_info(old.as_fd())?.cgroup == place.id
        && kernel::relink(old.as_fd(), program).is_ok()
    {
        return Ok(());
    }
    let link = kernel::link(program, place.fd(), hook.attach_type(), 0)?;
    // At another cgroup, or at one that is no more. Only now, so that calls that are in both meet no empty hook.
    kernel::unpin(pin)?;
    if let Some(old) = old {
        // Before Linux 5.9 it goes some time later.
        let _ = kernel::unlink(old.as_fd());
    }
    kernel::pin(link.as_fd(), pin)
}

fn attachment(program: BorrowedFd<'_>, hook: SocketHook, place: &Place, pin: &Path) -> io::Result<()> {
    let mut attach = ProgAttach {
        target: place.fd(),
        program: number(program),
        attach_type: hook.attach_type(),
        flags: MULTI,
        replaced: 0,
    };
    let replaced = match kernel::open(pin) {
        Ok(old) => {
            let mut replace = ProgAttach {
                flags: MULTI | REPLACE,
                replaced: number(old.as_fd()),
                ..attach
            };
            bpf(Command::ProgAttach, &mut replace).is_ok()
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(error),
    };
    if !replaced {
        bpf(Command::ProgAttach, &mut attach)?;
    }
    kernel::unpin(pin)?;
    kernel::pin(program, pin)
}

fn detach(program: BorrowedFd<'_>, hook: SocketHook, place: &Place) -> io::Result<()> {
    let mut attach = ProgAttach {
        target: place.fd(),
        program: number(program),
        attach_type: hook.attach_type(),
        ..ProgAttach::default()
    };
    match bpf(Command::ProgDetach, &mut attach) {
        // Off already, as when the cgroup is another one.
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}
