//! One server program: started, waited for, killed.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::{Error, system};

/// Lines of a program's log that an error quotes.
const QUOTED: usize = 30;

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Server {
    label: &'static str,
    child: Child,
    log: PathBuf,
}

impl Server {
    /// Its output goes to the end of a file of that name in `folder`.
    pub(super) fn start(
        label: &'static str,
        program: &Path,
        arguments: &[String],
        folder: &Path,
    ) -> Result<Self, Error> {
        let log = folder.join(format!("{label}.log"));
        let open = || File::options().create(true).append(true).open(&log);
        let (out, err) = (
            open().map_err(system("open a log"))?,
            open().map_err(system("open a log"))?,
        );
        // The kernel ends it with the thread that started it: also after `kill -9`, where nobody drops anything.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .map_err(|source| Error::Start {
                program: label.to_owned(),
                source,
            })?;
        Ok(Self { label, child, log })
    }

    /// # Errors
    /// `Error::NotRunning` with the end of its log if it has ended.
    pub(super) fn running(&mut self) -> Result<(), Error> {
        match self.child.try_wait().map_err(system("wait for a server"))? {
            None => Ok(()),
            Some(status) => Err(Error::NotRunning {
                label: self.label.to_owned(),
                status: status.to_string(),
                log: self.log_end(),
            }),
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn log_end(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(QUOTED)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ports of 127.0.0.1 that nobody listens on now. All are held until all are known, so they differ.
///
/// They lie below those that the kernel gives to clients: a server that is killed must find its port free when it is
/// started again, while its clients try to connect all the time.
pub(super) fn free_ports<const N: usize>() -> Result<[u16; N], Error> {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    // Programs that look at the same time begin at different places.
    let begin = u16::try_from(std::process::id() % u32::from(COUNT)).unwrap_or(0);
    let mut free = (0..COUNT)
        .map(|step| FIRST + (begin + step) % COUNT)
        .filter_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok());
    let mut held = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        let none = || io::Error::other("there is none");
        let listener = free.next().ok_or_else(none).map_err(system("find a free port"))?;
        *port = listener.local_addr().map_err(system("find a free port"))?.port();
        held.push(listener);
    }
    Ok(ports)
}
