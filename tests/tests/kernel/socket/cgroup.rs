//! A cgroup of a test, for single threads: the test's process stays where it is.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use anyhow::{Context as _, Result};
use nix::mount::{MsFlags, mount};
use tempfile::TempDir;

pub(super) struct Cgroup {
    path: PathBuf,
    parent: PathBuf,
    _mount: TempDir,
}

impl Cgroup {
    /// Below the cgroup of this process. The caller has mounts of its own. `None`: the machine has no such cgroups.
    pub(super) fn new() -> Result<Option<Self>> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let folder = tempfile::tempdir()?;
        if mount(
            Some("cgroup2"),
            folder.path(),
            Some("cgroup2"),
            MsFlags::empty(),
            None::<&Path>,
        )
        .is_err()
        {
            return Ok(None);
        }
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
        let parent = folder.path().join(own.context("a cgroup of version 2")?);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("stentor-test-{}-{count}", std::process::id()));
        if fs::create_dir(&path).is_err() {
            return Ok(None);
        }
        let cgroup = Self {
            path,
            parent,
            _mount: folder,
        };
        if fs::write(cgroup.path.join("cgroup.type"), "threaded").is_err() {
            return Ok(None);
        }
        Ok(Some(cgroup))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// On a thread in this cgroup. Threads that it spawns are there too; all of them end with it.
    pub(super) fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        thread::scope(|scope| {
            let done = scope.spawn(|| {
                self.enter(&self.path)?;
                let done = work();
                // Else it would still be there for a moment after it was joined.
                self.enter(&self.parent)?;
                done
            });
            done.join().expect("work does not panic")
        })
    }

    fn enter(&self, cgroup: &Path) -> Result<()> {
        let thread = nix::unistd::gettid().to_string();
        fs::write(cgroup.join("cgroup.threads"), thread).context("enter a cgroup")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Who ended is in it for a moment more. Threads of a test that failed may stay, and then the cgroup does.
        for _ in 0..10_000 {
            if fs::remove_dir(&self.path).is_ok() {
                break;
            }
            thread::yield_now();
        }
        let _ = nix::mount::umount2(self._mount.path(), nix::mount::MntFlags::MNT_DETACH);
    }
}
