//! News about a folder: something in it, or below it, has changed.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::{Error, system};

/// Watches a folder and its subfolders.
#[derive(Debug)]
pub struct Watch {
    inotify: Inotify,
    folder: PathBuf,
}

impl Watch {
    /// Begins to watch.
    ///
    /// # Errors
    /// The folder is not there, or the machine's limit of watches is reached.
    pub fn new(folder: &Path) -> Result<Self, Error> {
        let inotify =
            Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(std::io::Error::from);
        let watch = Self {
            inotify: inotify.map_err(system("watch files"))?,
            folder: folder.to_owned(),
        };
        watch.add(folder)?;
        Ok(watch)
    }

    /// Takes all news there is. To be called when the descriptor is readable.
    ///
    /// # Errors
    /// A new subfolder cannot be watched.
    pub fn take(&self) -> Result<(), Error> {
        while self.inotify.read_events().is_ok_and(|events| !events.is_empty()) {}
        // A folder that is watched already is not watched twice.
        self.add(&self.folder)
    }

    fn add(&self, folder: &Path) -> Result<(), Error> {
        let flags = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_CREATE;
        let what = || format!("watch {}", folder.display());
        self.inotify
            .add_watch(folder, flags)
            .map_err(std::io::Error::from)
            .map_err(system(what()))?;
        for entry in fs::read_dir(folder).map_err(system(what()))?.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.add(&entry.path())?;
            }
        }
        Ok(())
    }
}

/// What [`wait`] woke up for; either is a good moment to look after processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// Files have changed: [`Watch::take`] the news.
    Files,
    /// A second has passed.
    Nothing,
}

/// How often processes are looked after that nobody tells of. A supervisor's usual pause before a restart.
const ROUND: u16 = 1000;

/// Waits for news of files, at most a second.
///
/// # Errors
/// The kernel refuses to wait.
pub fn wait(watch: &Watch) -> Result<News, Error> {
    let mut fds = [PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, PollTimeout::from(ROUND)) {
        Ok(0) | Err(Errno::EINTR) => Ok(News::Nothing),
        Ok(_) => Ok(News::Files),
        Err(error) => Err(system("wait for news")(error.into())),
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}
