//! What an agent of this node has pinned, for those who only look: it need not run for that.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ebpf_abi::maps::Map;

use crate::{Error, MapFd};

/// The maps and links that are pinned in a folder of a BPF file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    folder: PathBuf,
}

impl Pinned {
    /// In this folder, which is the one an agent was given; only those of this version.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let folder = root.join(format!("v{}", ebpf_abi::ABI_VERSION));
        match fs::metadata(folder.join("maps")) {
            Ok(_) => Ok(Self { folder }),
            Err(source) => Err(Error::NotPinned {
                path: folder,
                others: versions(root),
                source,
            }),
        }
    }

    /// The folder of this version.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A map, by its row in the table of maps.
    pub fn map(&self, map: Map) -> Result<MapFd, Error> {
        MapFd::open(map, &self.folder.join("maps"))
    }

    /// Names of the pinned links, in order.
    pub fn links(&self) -> Result<Vec<String>, Error> {
        let path = self.folder.join("links");
        let failed = |source| Error::Folder {
            path: path.clone(),
            source,
        };
        let mut names = Vec::new();
        for entry in fs::read_dir(&path).map_err(failed)? {
            names.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }
}

/// Folders of other versions, for the message.
fn versions(root: &Path) -> String {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| {
            name.strip_prefix('v')
                .is_some_and(|rest| rest.parse::<u32>().is_ok())
        })
        .collect();
    names.sort();
    if names.is_empty() {
        "nothing".into()
    } else {
        names.join(", ")
    }
}

/// The clock of the programs: since this machine started, without the time it slept.
pub fn now() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel writes one timespec; this clock always exists.
    #[expect(unsafe_code, reason = "the standard library does not tell this clock")]
    unsafe {
        libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time);
    }
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let rest = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(seconds, rest)
}
