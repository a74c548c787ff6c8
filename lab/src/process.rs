//! A program that runs inside a node.

use std::fmt;
use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use crate::wait::until;
use crate::{Error, Netns, system};

/// Look for the end of a child, and leave it to [`Child`] to take note of it.
const ENDED: WaitPidFlag = WaitPidFlag::WEXITED.union(WaitPidFlag::WNOWAIT);

/// A running program. Dropping it kills it.
///
/// Its stdout and stderr go to an anonymous file, see [`Process::log`]; stdin is empty.
pub struct Process {
    label: String,
    /// `nsenter`, which waits for the program and ends as it ended.
    outer: Child,
    /// The program itself, as the machine numbers it.
    pid: Pid,
    log: OwnedFd,
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("label", &self.label)
            .field("pid", &self.pid)
            .finish_non_exhaustive()
    }
}

impl Process {
    /// Starts an `nsenter` command and learns the pid of what it runs.
    pub(crate) fn spawn(label: String, mut command: Command) -> Result<Self, Error> {
        let log = new_log()?;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::from(share(&log)?))
            .stderr(Stdio::from(share(&log)?));
        Self::follow(label, command, log)
    }

    /// Starts an `nsenter` command to talk with over its stdin and stdout. Only stderr goes to the log.
    pub(crate) fn converse(
        label: String,
        mut command: Command,
    ) -> Result<(Self, ChildStdin, ChildStdout), Error> {
        let log = new_log()?;
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::from(share(&log)?));
        let mut process = Self::follow(label, command, log)?;
        let (Some(stdin), Some(stdout)) = (process.outer.stdin.take(), process.outer.stdout.take()) else {
            unreachable!("both were asked for");
        };
        Ok((process, stdin, stdout))
    }

    /// Starts the command and finds out which of the machine's processes it has become.
    fn follow(label: String, mut command: Command, log: OwnedFd) -> Result<Self, Error> {
        let outer = command.spawn().map_err(|source| Error::Start {
            program: label.clone(),
            source,
        })?;
        let own = outer_pid(&outer);
        let mut process = Self {
            label,
            outer,
            pid: own,
            log,
        };
        let children = format!("/proc/{own}/task/{own}/children");
        let pid = until(
            Duration::from_mins(1),
            format!("{} to start", process.label),
            || {
                if let Ok(Some(status)) = process.outer.try_wait() {
                    return Ok(Err(status));
                }
                let text = fs::read_to_string(&children).unwrap_or_default();
                text.split_whitespace()
                    .next()
                    .and_then(|pid| pid.parse().ok())
                    .map(Ok)
                    .ok_or(text)
            },
        )?;
        // Otherwise it is over already, and `wait` will tell how.
        if let Ok(pid) = pid {
            process.pid = Pid::from_raw(pid);
        }
        Ok(process)
    }

    /// What was started, for messages.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The program's pid, as the machine numbers it.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// All that the program wrote to stdout and stderr so far.
    #[must_use]
    pub fn log(&self) -> String {
        // A fresh open file, so that reading does not move the writers' position.
        let path = format!("/proc/self/fd/{}", self.log.as_raw_fd());
        let mut text = Vec::new();
        let read = fs::File::open(path).and_then(|mut file| {
            file.seek(SeekFrom::Start(0))?;
            file.read_to_end(&mut text)
        });
        match read {
            Ok(_) => String::from_utf8_lossy(&text).into_owned(),
            Err(error) => format!("(log unreadable: {error})"),
        }
    }

    /// The exit status, once the program has ended.
    pub fn status(&mut self) -> Option<ExitStatus> {
        self.outer.try_wait().ok().flatten()
    }

    /// Sends a signal to the program. After SIGSTOP it has stopped.
    ///
    /// # Errors
    /// The program has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<(), Error> {
        if let Some(status) = self.status() {
            return Err(Error::NotRunning {
                label: self.label.clone(),
                status: status.to_string(),
                log: self.log(),
            });
        }
        let outer = outer_pid(&self.outer);
        let sent = kill(self.pid, signal).and_then(|()| match signal {
            // `nsenter` stops itself once it sees that its child has stopped. One that gets to it only after it was to be
            // woken would sleep for ever.
            Signal::SIGSTOP => waitid(Id::Pid(outer), WaitPidFlag::WSTOPPED | ENDED).map(drop),
            Signal::SIGCONT => kill(outer, signal),
            _ => Ok(()),
        });
        sent.map_err(io::Error::from)
            .map_err(system(format!("{signal} to {}", self.label)))
    }

    /// Waits until the program has ended by itself.
    ///
    /// # Errors
    /// It still runs after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus, Error> {
        let label = self.label.clone();
        let ended = until(limit, format!("the end of {label}"), || {
            self.status().ok_or("it runs".to_owned())
        });
        Ok(ended?)
    }

    /// Kills the program (SIGKILL) and waits for its end. Does nothing if it has ended.
    pub fn kill(&mut self) {
        if self.status().is_none() {
            let _ = kill(self.pid, Signal::SIGKILL);
            // A stopped `nsenter` would not notice that its child is gone.
            let _ = kill(outer_pid(&self.outer), Signal::SIGCONT);
            let _ = self.outer.wait();
        }
    }
}

/// Asks any process to end (SIGTERM). One that is gone already has ended.
///
/// # Errors
/// It is not ours to end.
pub fn terminate(pid: u32) -> Result<(), Error> {
    send(pid, Signal::SIGTERM)
}

/// What Ctrl-C does to a process (SIGINT).
///
/// # Errors
/// It is not ours to interrupt.
pub fn interrupt(pid: u32) -> Result<(), Error> {
    send(pid, Signal::SIGINT)
}

fn send(pid: u32, signal: Signal) -> Result<(), Error> {
    match kill(Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX)), signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(system(format!("{signal} to process {pid}"))(error.into())),
    }
}

/// Runs a program of this machine to its end and returns what it wrote to stdout.
pub(crate) fn run_here(command: &mut Command) -> Result<String, Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|source| Error::Start { program, source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Error::Failed {
        node: "this machine".to_owned(),
        command: shown(command),
        status: output.status,
        stderr: String::from_utf8_lossy(&output.stderr).trim_end().to_owned(),
    })
}

/// A command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

fn new_log() -> Result<OwnedFd, Error> {
    let log = memfd_create(c"lab", MFdFlags::MFD_CLOEXEC).map_err(io::Error::from);
    log.map_err(system("create a log"))
}

fn share(log: &OwnedFd) -> Result<OwnedFd, Error> {
    log.try_clone().map_err(system("share a log"))
}

/// Linux pids fit: they are at most 2^22.
fn outer_pid(outer: &Child) -> Pid {
    Pid::from_raw(i32::try_from(outer.id()).unwrap_or(i32::MAX))
}

impl Netns {
    /// Starts a long-running program to talk with over its stdin and stdout. Its end is as with
    /// [`crate::Netns::spawn`].
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn converse(&self, argv: &[&str]) -> Result<(Process, ChildStdin, ChildStdout), Error> {
        let (program, arguments) = argv.split_first().unwrap_or((&"", &[]));
        let mut command = self.command(program);
        command.args(arguments);
        Process::converse(format!("{}: {}", self.name(), argv.join(" ")), command)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
