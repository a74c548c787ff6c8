//! The shell around [`super::folder`]: looks at a real folder whenever the kernel says something changed there.
//!
//! Subfolders are followed, symbolic links too, so the `..data` links of a mounted ConfigMap work: replacing the
//! link is one change. Names that begin with a dot and names that end in anything but `.yaml`, `.yml` or `.json`
//! are passed over; editors keep their temporary files there. News is gathered until the folder is quiet, so
//! that a copy of many files is one batch.
//!
//! The kernel's news (inotify) only says when to look; a look compares sizes and times of all files and reads
//! those that differ. So a lost event costs time, never correctness, and there is a look every minute anyway:
//! network file systems send no news.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::folder::{Folder, Found, Look};
use super::{Batch, Kept, Rescan, rescans};
use crate::problem::Problem;
use crds::Severity;

/// No news for this long ends a burst.
const QUIET: Duration = Duration::from_millis(50);
/// A burst that never ends is cut here.
const LONGEST_BURST: Duration = Duration::from_millis(500);
/// How often to look without news, with and without the kernel's help.
const LOOK_EVERY: Duration = Duration::from_secs(60);
const LOOK_EVERY_BLIND: Duration = Duration::from_secs(2);
/// Files above this are refused: nobody writes them by hand, and each is held in memory while it is parsed.
const LARGEST_FILE: u64 = 64 << 20;
const DEEPEST_FOLDER: usize = 32;

/// Starts to watch, with what an earlier run kept. The first batch comes at once and holds everything; later ones
/// only come with news. The task ends when the receiver or the [`Rescan`] is dropped; whoever starts it awaits it.
#[must_use]
pub fn start(root: PathBuf, kept: Vec<Kept>) -> (Rescan, mpsc::Receiver<Batch>, JoinHandle<()>) {
    let (rescan, asked) = rescans();
    let (out, batches) = mpsc::channel(1);
    let task = tokio::spawn(watch(root, kept, asked, out));
    (rescan, batches, task)
}

/// One look at a folder, without watching it: what `stentor check` uses.
#[must_use]
pub fn read_once(root: &Path) -> Batch {
    Folder::new(root.to_owned()).take(now(), look_once(root))
}

/// The files an agent would read from this folder: what `stentor bgp plan` sends to one.
#[must_use]
pub fn look_once(root: &Path) -> Look {
    Eyes::new(root.to_owned(), None).look()
}

async fn watch(root: PathBuf, kept: Vec<Kept>, mut asked: mpsc::Receiver<()>, out: mpsc::Sender<Batch>) {
    let (watches, blind) = match Watches::new() {
        Ok(watches) => (Some(watches), None),
        Err(error) => (None, Some(error)),
    };
    let blind = blind.map(|error| {
        Problem::in_file(
            &root,
            Severity::Warning,
            "folder-not-watched",
            format!(
                "the kernel can not watch it ({error}); it is looked at every {} s",
                LOOK_EVERY_BLIND.as_secs()
            ),
        )
    });
    let every = if watches.is_some() {
        LOOK_EVERY
    } else {
        LOOK_EVERY_BLIND
    };
    let mut state = (Eyes::new(root.clone(), watches), Folder::new(root));
    // Of these files a first look that does not find them tells that they are gone.
    let files = kept.iter().map(|kept| (kept.parsed.file.to_path_buf(), None));
    state.0.known.extend(files);
    state.1.resume(kept);
    let mut told: Option<Vec<Problem>> = None;
    loop {
        // Reading thousands of documents takes a while; sessions run on the other threads meanwhile.
        let looked = tokio::task::spawn_blocking(move || {
            let look = state.0.look();
            let batch = state.1.take(now(), look);
            (state, batch)
        });
        let Ok((back, mut batch)) = looked.await else {
            return;
        };
        state = back;
        batch.problems.extend(blind.clone());
        batch.problems.extend(state.0.watch_problem.clone());
        batch.problems.sort();
        if told.as_ref() != Some(&batch.problems) || !batch.changes.is_empty() {
            told = Some(batch.problems.clone());
            if out.send(batch).await.is_err() {
                return;
            }
        }
        tokio::select! {
            () = out.closed() => return,
            request = asked.recv() => if request.is_none() { return },
            () = tokio::time::sleep(every) => {}
            () = news(state.0.watches.as_ref()) => {}
        }
    }
}

/// Returns when a burst of news is over.
async fn news(watches: Option<&Watches>) {
    let Some(watches) = watches else {
        return std::future::pending().await;
    };
    if watches.next().await.is_err() {
        return std::future::pending().await;
    }
    let end = Instant::now() + LONGEST_BURST;
    while let Ok(Ok(())) = timeout_at(end.min(Instant::now() + QUIET), watches.next()).await {
        if Instant::now() >= end {
            return;
        }
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

/// The kernel's news of folders.
#[derive(Debug)]
struct Watches(AsyncFd<Fd>);

/// What is news of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Interest {
    /// Entries that come and go: of the folder around the manifests, which others may write in all day.
    Names,
    Content,
}

#[derive(Debug)]
struct Fd(Inotify);

impl AsRawFd for Fd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Watches {
    #[expect(
        deprecated,
        reason = "its successor is unsafe; the descriptor lives as long as the registration here"
    )]
    fn new() -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        Ok(Self(AsyncFd::new(Fd(inotify))?))
    }

    /// Adding the same folder again changes nothing; the kernel drops watches of folders that are gone.
    fn add(&self, folder: &Path, of: Interest) -> nix::Result<()> {
        let names = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVE;
        let flags = match of {
            // What is watched there already stays watched.
            Interest::Names => names | AddWatchFlags::from_bits_retain(nix::libc::IN_MASK_ADD),
            Interest::Content => {
                names
                    | AddWatchFlags::IN_CLOSE_WRITE
                    | AddWatchFlags::IN_ATTRIB
                    | AddWatchFlags::IN_DELETE_SELF
                    | AddWatchFlags::IN_MOVE_SELF
            }
        };
        self.0.get_ref().0.add_watch(folder, flags).map(drop)
    }

    /// Waits for news and takes all there is.
    async fn next(&self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            match self.0.get_ref().0.read_events() {
                Ok(_) => return Ok(()),
                Err(nix::errno::Errno::EAGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Tells one content of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

#[derive(Debug)]
struct Eyes {
    root: PathBuf,
    watches: Option<Watches>,
    watch_problem: Option<Problem>,
    /// `None`: look into it again, its time is too young to be trusted.
    known: BTreeMap<PathBuf, Option<Stamp>>,
}

impl Eyes {
    fn new(root: PathBuf, watches: Option<Watches>) -> Self {
        Self {
            root,
            watches,
            watch_problem: None,
            known: BTreeMap::new(),
        }
    }

    fn look(&mut self) -> Look {
        self.watch_problem = None;
        // The folder may be replaced as a whole; only its parent tells that.
        let root = self.root.clone();
        match root.parent() {
            Some(parent) if parent.as_os_str().is_empty() => self.watch_only(Path::new("."), Interest::Names),
            Some(parent) => self.watch_only(parent, Interest::Names),
            None => {}
        }
        let mut seen = BTreeMap::new();
        if let Err(error) = self.walk(&root, &mut BTreeSet::new(), &mut seen) {
            return Look::FolderUnreadable(error.to_string());
        }
        // What lies below a folder that can't be read is not gone: it can't be read either.
        let hidden: Vec<(PathBuf, String)> = self
            .known
            .keys()
            .filter(|path| !seen.contains_key(*path))
            .filter_map(|path| {
                let above = path.ancestors().skip(1);
                let why = above
                    .into_iter()
                    .find_map(|folder| seen.get(folder)?.as_ref().err())?;
                Some((path.clone(), why.clone()))
            })
            .collect();
        seen.extend(hidden.into_iter().map(|(path, why)| (path, Err(why))));
        let mut files: Vec<(PathBuf, Found)> = self
            .known
            .keys()
            .filter(|path| !seen.contains_key(*path))
            .map(|path| (path.clone(), Found::Gone))
            .collect();
        self.known.retain(|path, _| seen.contains_key(path));
        for (path, entry) in seen {
            if let Some((found, stamp)) = self.visit(&path, entry) {
                self.known.insert(path.clone(), stamp);
                files.push((path, found));
            }
        }
        Look::Files(files)
    }

    /// Content of a file that is new or differs from what is known.
    fn visit(&self, path: &Path, entry: Result<Stamp, String>) -> Option<(Found, Option<Stamp>)> {
        let stamp = match entry {
            Ok(stamp) => stamp,
            Err(why) => return Some((Found::Unreadable(why), None)),
        };
        if self.known.get(path) == Some(&Some(stamp)) {
            return None;
        }
        if stamp.size > LARGEST_FILE {
            let why = format!("the file has {} bytes, more than {LARGEST_FILE}", stamp.size);
            return Some((Found::Unreadable(why), Some(stamp)));
        }
        match fs::read(path) {
            Ok(bytes) => Some((Found::Text(bytes), settled(stamp).then_some(stamp))),
            // Gone between the look and the read: the next look tells.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Some((Found::Gone, None)),
            Err(error) => Some((Found::Unreadable(error.to_string()), None)),
        }
    }

    fn walk(
        &mut self,
        folder: &Path,
        above: &mut BTreeSet<(u64, u64)>,
        seen: &mut BTreeMap<PathBuf, Result<Stamp, String>>,
    ) -> io::Result<()> {
        let meta = fs::metadata(folder)?;
        let identity = (meta.dev(), meta.ino());
        // A link back to a folder above would never end.
        if above.contains(&identity) {
            return Ok(());
        }
        if above.len() >= DEEPEST_FOLDER {
            return Err(io::Error::other(format!(
                "it lies more than {DEEPEST_FOLDER} folders deep"
            )));
        }
        above.insert(identity);
        // Watched before it is read: what happens in between is news.
        self.watch_only(folder, Interest::Content);
        let read = self.entries(folder, above, seen);
        above.remove(&identity);
        read
    }

    fn entries(
        &mut self,
        folder: &Path,
        above: &mut BTreeSet<(u64, u64)>,
        seen: &mut BTreeMap<PathBuf, Result<Stamp, String>>,
    ) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let path = entry.path();
            match fs::metadata(&path) {
                Ok(meta) if meta.is_dir() => {
                    if let Err(error) = self.walk(&path, above, seen) {
                        seen.insert(path, Err(error.to_string()));
                    }
                }
                Ok(meta) if meta.is_file() && is_manifest(&path) => {
                    self.watch_target(&path);
                    seen.insert(path, Ok(stamp(&meta)));
                }
                Ok(_) if is_manifest(&path) => {
                    seen.insert(path, Err("it is no regular file".to_owned()));
                }
                Ok(_) => {}
                Err(error) if is_manifest(&path) || self.leads_to_files(&path) => {
                    seen.insert(path, Err(error.to_string()));
                }
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// A link to a folder that was read before: its target may be a mount that is missing.
    fn leads_to_files(&self, path: &Path) -> bool {
        let below = self.known.range(path.to_owned()..).next();
        below.is_some_and(|(known, _)| known.starts_with(path))
            && fs::symlink_metadata(path).is_ok_and(|meta| meta.is_symlink())
    }

    /// A link to a file elsewhere: its changes are news of its own folder.
    fn watch_target(&mut self, path: &Path) {
        if self.watches.is_some()
            && fs::symlink_metadata(path).is_ok_and(|meta| meta.is_symlink())
            && let Ok(target) = fs::canonicalize(path)
            && let Some(folder) = target.parent()
        {
            self.watch_only(folder, Interest::Content);
        }
    }

    fn watch_only(&mut self, folder: &Path, of: Interest) {
        let Some(watches) = &self.watches else { return };
        match watches.add(folder, of) {
            // The walk itself says so.
            Ok(())
            | Err(nix::errno::Errno::ENOENT | nix::errno::Errno::EACCES | nix::errno::Errno::ENOTDIR) => {}
            Err(error) => {
                self.watch_problem = Some(Problem::in_file(
                    folder,
                    Severity::Warning,
                    "folder-not-watched",
                    format!(
                        "the kernel can not watch it ({error}); it is looked at every {} s",
                        LOOK_EVERY.as_secs()
                    ),
                ));
            }
        }
    }
}

fn is_manifest(path: &Path) -> bool {
    let ending = path.extension().and_then(|e| e.to_str());
    matches!(ending, Some("yaml" | "yml" | "json"))
}

fn stamp(meta: &fs::Metadata) -> Stamp {
    Stamp {
        inode: (meta.dev(), meta.ino()),
        size: meta.size(),
        modified: (meta.mtime(), meta.mtime_nsec()),
        changed: (meta.ctime(), meta.ctime_nsec()),
    }
}

/// Times come in steps of a few milliseconds: a file changed twice within one keeps its stamp. So one that changed
/// just now is read again at the next look.
fn settled(stamp: Stamp) -> bool {
    let changed = u64::try_from(stamp.changed.0).unwrap_or_default();
    now().saturating_sub(changed) >= 2
}

#[cfg(test)]
mod tests;
