//! Folders of other versions of the layouts, which an upgrade or its opposite leaves behind.

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use crate::attach::{pin_name, read_name, take_off};
use crate::{Datapath, Error, kernel, stages};

/// A folder of another version that was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    pub version: u32,
    /// Links of devices that are not ours any more; others were taken over when programs were attached.
    pub links: usize,
    pub maps: usize,
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} maps and {} links of version {} of the layouts are removed: services were planned anew, connections that were \
             open are tracked anew or end, and clients lose their affinity",
            self.maps, self.links, self.version
        )
    }
}

/// What the folder of a version is called.
pub(crate) fn name(version: u32) -> String {
    format!("v{version}")
}

fn number(name: &str) -> Option<u32> {
    let number = name.strip_prefix('v')?.parse().ok()?;
    (name == self::name(number)).then_some(number)
}

impl Datapath {
    /// Removes what other versions left. To be called once programs are attached to all devices: a link that is still in
    /// use is taken over then, without a gap.
    pub fn drop_other_versions(&self) -> Result<Vec<Dropped>, Error> {
        let mut dropped = Vec::new();
        for folder in self.other_versions()? {
            let version = folder.file_name().and_then(|name| number(name.to_str()?));
            let failed = |source| Error::Folder {
                path: folder.clone(),
                source,
            };
            dropped.push(Dropped {
                version: version.unwrap_or_default(),
                links: take_off_all(&folder.join("links")).map_err(failed)?,
                maps: empty(&folder.join("maps")).map_err(failed)?,
            });
            // Nothing goes on with them any more. Older versions had none.
            empty(&folder.join(stages::FOLDER)).map_err(failed)?;
            fs::remove_dir(&folder).map_err(failed)?;
        }
        Ok(dropped)
    }

    pub(crate) fn other_versions(&self) -> Result<Vec<PathBuf>, Error> {
        let all = self.folder().parent().unwrap_or(Path::new("/"));
        let mut found = versions(all).map_err(|source| Error::Folder {
            path: all.to_owned(),
            source,
        })?;
        found.retain(|path| path != self.folder());
        Ok(found)
    }
}

/// Takes everything of every version off and removes the folder, [`crate::Settings::folder`]: when this returns, no packet and
/// no socket meets a program any more. Unpinning alone would leave filters where they are, and links until the kernel has
/// time.
pub fn remove(folder: &Path) -> Result<(), Error> {
    let done = versions(folder).and_then(|versions| {
        for version in versions {
            take_off_all(&version.join("links"))?;
        }
        fs::remove_dir_all(folder)
    });
    done.map_err(|source| Error::Folder {
        path: folder.to_owned(),
        source,
    })
}

/// The folders of all versions in a folder, in order.
fn versions(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.file_name().and_then(|name| number(name.to_str()?)).is_some() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Takes off what hangs by the pins of a folder, and removes it. Off first: a program must not outlive its stages.
fn take_off_all(folder: &Path) -> io::Result<usize> {
    let names = match fs::read_dir(folder) {
        Ok(entries) => entries
            .map(|entry| Ok(entry?.file_name()))
            .collect::<io::Result<Vec<_>>>()?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    for name in &names {
        let Some((hook, index)) = name.to_str().and_then(read_name) else {
            // One of sockets. Where there is no link, the pin is all there is to remove.
            if let Ok(link) = kernel::open(&folder.join(name)) {
                drop(kernel::unlink(link.as_fd()));
            }
            continue;
        };
        for mode in hook.modes() {
            let pin = folder.join(pin_name(hook, index, mode));
            if pin.file_name() == Some(name) {
                take_off(&pin, hook, index, mode)?;
            }
        }
    }
    empty(folder)?;
    Ok(names.len())
}

/// Removes a folder, and counts what was in it.
fn empty(folder: &Path) -> io::Result<usize> {
    let mut removed = 0;
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    for entry in entries {
        fs::remove_file(entry?.path())?;
        removed += 1;
    }
    fs::remove_dir(folder)?;
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_of_versions_are_taken_for_them() {
        assert_eq!(number("v12"), Some(12));
        for name in ["v", "12", "v01", "vv1", "v1x", "maps"] {
            assert_eq!(number(name), None, "{name}");
        }
    }
}
