//! What must outlive the process, in the state folder (`--state`):
//!
//! - `vips.json`: the LoadBalancer address each Service holds, so that no restart moves one.
//! - `origins.json`: the pool each of these addresses is from, where agents give them.
//! - `kept.json`: the last good versions of documents that are broken now, so that a restart loses nothing of
//!   them. Empty while every document is sound; never a Secret.
//! - `run.json`: when this agent was last seen alive, so that a start soon after knows that the peers still hold
//!   its routes (RFC 4724 4.1) and says so in its OPEN.
//! - `lock`: held while the agent runs; a second agent on the same folder is refused.
//!
//! Files are replaced as a whole (written beside, synced, renamed), so a crash leaves the old or the new content.
//! A file this version can not read stops the start instead of being overwritten: starting without it could give
//! a Service another address. The files are for their owner alone.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bgp_speaker::speaker::Start;
use nix::fcntl::{Flock, FlockArg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::shared_map::SharedMap;
use crate::source::KeptDocument;
use crate::world::{Origins, ServiceRef};

/// The layout of the files. Another number is another layout.
const VERSION: u32 = 1;

/// The folder, locked for this process.
#[derive(Debug)]
pub struct StateFolder {
    path: PathBuf,
    _lock: Flock<File>,
}

/// How the last run is known to have gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// It was alive when it was last seen: it runs, or it was killed.
    Running,
    /// It ended to be started again: peers were left believing the routes come back.
    Restarting,
}

/// The last sign of life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastRun {
    pub node: String,
    /// `/proc/sys/kernel/random/boot_id`: after a boot nothing was forwarded in between.
    pub boot_id: String,
    /// Seconds since 1970.
    pub seen: u64,
    pub ended: Ended,
}

/// Each says what, where and what to do.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("the state folder {path} can not be used: {source}; create it, or choose another with --state")]
    Folder { path: PathBuf, source: io::Error },
    #[error(
        "another agent ({holder}) uses the state folder {path}; stop it, or give this one another folder with --state"
    )]
    InUse { path: PathBuf, holder: String },
    #[error(
        "{path} was written by another version of Stentor (layout {found}, this one knows {VERSION}); run that version, \
         or move the file away: what it keeps is lost then, and Services may get other addresses"
    )]
    Version { path: PathBuf, found: u32 },
    #[error(
        "{path} can not be understood: {why}; restore it, or move it away: what it keeps is lost then, and Services \
         may get other addresses"
    )]
    Content { path: PathBuf, why: String },
    #[error("{path} can not be read: {source}; the agent needs to read and write it")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} can not be written: {source}; what it would say is kept in memory and tried again")]
    Write { path: PathBuf, source: io::Error },
}

impl StateError {
    /// Stable, in kebab case.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Folder { .. } => "state-folder-unusable",
            Self::InUse { .. } => "state-folder-in-use",
            Self::Version { .. } => "state-of-another-version",
            Self::Content { .. } => "state-not-understood",
            Self::Read { .. } => "state-not-readable",
            Self::Write { .. } => "state-not-writable",
        }
    }
}

impl StateFolder {
    /// Makes the folder if need be and locks it.
    ///
    /// # Errors
    /// [`StateError::Folder`] and [`StateError::InUse`].
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let folder = |source| StateError::Folder {
            path: path.to_owned(),
            source,
        };
        fs::create_dir_all(path).map_err(folder)?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path.join("lock"))
            .map_err(folder)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut lock) => {
                // Only for the message of whoever comes second.
                let pid = std::process::id();
                lock.set_len(0)
                    .and_then(|()| lock.write_all(format!("process {pid}").as_bytes()))
                    .map_err(folder)?;
                Ok(Self {
                    path: path.to_owned(),
                    _lock: lock,
                })
            }
            Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
                let mut holder = String::new();
                let told = file.read_to_string(&mut holder).is_ok() && !holder.is_empty();
                Err(StateError::InUse {
                    path: path.to_owned(),
                    holder: if told {
                        holder
                    } else {
                        "its process is not known".to_owned()
                    },
                })
            }
            Err((_, errno)) => Err(folder(errno.into())),
        }
    }

    /// The addresses Services held when they were last kept. Empty if they never were.
    ///
    /// # Errors
    /// [`StateError::Version`], [`StateError::Content`], [`StateError::Read`].
    pub fn vips(&self) -> Result<SharedMap<ServiceRef, Vec<IpAddr>>, StateError> {
        read_by_service(&self.path.join("vips.json"))
    }

    /// # Errors
    /// [`StateError::Write`].
    pub fn keep_vips(&self, vips: &SharedMap<ServiceRef, Vec<IpAddr>>) -> Result<(), StateError> {
        write_by_service(&self.path.join("vips.json"), vips.iter())
    }

    /// The documents that were kept when the folder was last written.
    ///
    /// # Errors
    /// As [`Self::vips`].
    pub fn kept(&self) -> Result<Vec<KeptDocument>, StateError> {
        Ok(read(&self.path.join("kept.json"))?.unwrap_or_default())
    }

    /// # Errors
    /// [`StateError::Write`].
    pub fn keep(&self, documents: &[KeptDocument]) -> Result<(), StateError> {
        write(&self.path.join("kept.json"), &documents)
    }

    /// The pools that addresses are from, as they were last kept. Empty if they never were.
    ///
    /// # Errors
    /// As [`Self::vips`].
    pub fn origins(&self) -> Result<Origins, StateError> {
        read_by_service(&self.path.join("origins.json"))
    }

    /// # Errors
    /// [`StateError::Write`].
    pub fn keep_origins(&self, origins: &Origins) -> Result<(), StateError> {
        write_by_service(&self.path.join("origins.json"), origins.iter())
    }

    /// The last sign of life, `None` before the first start.
    ///
    /// # Errors
    /// As [`Self::vips`].
    pub fn last_run(&self) -> Result<Option<LastRun>, StateError> {
        read(&self.path.join("run.json"))
    }

    /// # Errors
    /// [`StateError::Write`].
    pub fn mark(&self, run: &LastRun) -> Result<(), StateError> {
        write(&self.path.join("run.json"), run)
    }
}

/// Whether peers may still hold routes of the last run: what [`left`] says.
#[must_use]
pub fn start(left: Option<Duration>) -> Start {
    match left {
        Some(_) => Start::Restarted,
        None => Start::Cold,
    }
}

/// How long peers still hold routes of the last run, if they may: same node, same boot, and seen within `restart_time` (the
/// longest any peer was asked to wait). However it ended, it did not say good-bye.
#[must_use]
pub fn left(
    last: Option<&LastRun>,
    node: &str,
    boot_id: &str,
    now: SystemTime,
    restart_time: Duration,
) -> Option<Duration> {
    let last = last.filter(|last| last.node == node && last.boot_id == boot_id)?;
    restart_time.checked_sub(Duration::from_secs(seconds(now).abs_diff(last.seen)))
}

/// Seconds since 1970; 0 for a clock before that.
#[must_use]
pub fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// A file's first member is its layout, so that a later layout can be told from a broken file.
#[derive(Deserialize)]
struct Layout {
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    version: u32,
    content: T,
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StateError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(StateError::Read {
                path: path.to_owned(),
                source,
            });
        }
    };
    let content = |error: serde_json::Error| StateError::Content {
        path: path.to_owned(),
        why: error.to_string(),
    };
    let layout: Layout = serde_json::from_str(&text).map_err(content)?;
    if layout.version != VERSION {
        return Err(StateError::Version {
            path: path.to_owned(),
            found: layout.version,
        });
    }
    let file: Versioned<T> = serde_json::from_str(&text).map_err(content)?;
    Ok(Some(file.content))
}

/// Where the members are Services, as `namespace/name`. Nothing, if it was never written.
fn read_by_service<T, C>(path: &Path) -> Result<C, StateError>
where
    T: DeserializeOwned,
    C: FromIterator<(ServiceRef, T)>,
{
    let kept: Option<BTreeMap<String, T>> = read(path)?;
    let named = |(service, value): (String, T)| match service.split_once('/') {
        Some((namespace, name)) => Ok((ServiceRef::new(namespace, name), value)),
        None => Err(StateError::Content {
            path: path.to_owned(),
            why: format!("{service:?} is not namespace/name"),
        }),
    };
    kept.unwrap_or_default().into_iter().map(named).collect()
}

fn write_by_service<'a, T: Serialize + 'a>(
    path: &Path,
    all: impl Iterator<Item = (&'a ServiceRef, &'a T)>,
) -> Result<(), StateError> {
    let all: BTreeMap<String, &T> = all.map(|(service, value)| (service.to_string(), value)).collect();
    write(path, &all)
}

fn write<T: Serialize>(path: &Path, content: &T) -> Result<(), StateError> {
    let replace = || -> io::Result<()> {
        // At once: each piece of a text would be a call of the kernel.
        let mut text = serde_json::to_vec_pretty(&Versioned {
            version: VERSION,
            content,
        })?;
        text.push(b'\n');
        let beside = path.with_extension("json.new");
        let mut file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    replace().map_err(|source| StateError::Write {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn folder() -> (tempfile::TempDir, StateFolder) {
        let dir = tempfile::tempdir().unwrap();
        let state = StateFolder::open(&dir.path().join("state")).unwrap();
        (dir, state)
    }

    fn run(ended: Ended, seen: u64) -> LastRun {
        LastRun {
            node: "node-a".to_owned(),
            boot_id: "b1".to_owned(),
            seen,
            ended,
        }
    }

    #[test]
    fn what_was_kept_is_read_back() {
        let (_dir, state) = folder();
        assert!(state.vips().unwrap().is_empty());
        assert_eq!(state.last_run().unwrap(), None);
        let service = ServiceRef {
            namespace: "ns".into(),
            name: "svc".into(),
        };
        let addresses = vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        let vips = SharedMap::from_iter([(service, addresses)]);
        state.keep_vips(&vips).unwrap();
        state.mark(&run(Ended::Running, 7)).unwrap();
        assert_eq!(state.vips().unwrap(), vips);
        let documents = vec![KeptDocument {
            file: "/m/x.yaml".to_owned(),
            line: 3,
            since: 7,
            text: "{}".to_owned(),
        }];
        assert_eq!(state.kept().unwrap(), []);
        state.keep(&documents).unwrap();
        assert_eq!(state.kept().unwrap(), documents);
        for entry in fs::read_dir(&state.path).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name() != "lock" {
                assert_eq!(
                    entry.metadata().unwrap().permissions().mode() & 0o777,
                    0o600,
                    "{entry:?}"
                );
            }
        }
        assert_eq!(state.last_run().unwrap(), Some(run(Ended::Running, 7)));
    }

    #[test]
    fn the_pools_of_addresses_are_read_back() {
        let (_dir, state) = folder();
        assert_eq!(state.origins().unwrap(), Origins::new());
        let service = ServiceRef {
            namespace: "ns".into(),
            name: "svc".into(),
        };
        let pools = BTreeMap::from([("192.0.2.1".parse().unwrap(), "blue".to_owned())]);
        let origins = Origins::from([(service, pools)]);
        state.keep_origins(&origins).unwrap();
        assert_eq!(state.origins().unwrap(), origins);
    }

    #[test]
    fn a_second_agent_on_the_folder_is_refused() {
        let (_dir, state) = folder();
        let second = StateFolder::open(&state.path).unwrap_err();
        assert_eq!(second.name(), "state-folder-in-use");
    }

    #[test]
    fn another_version_and_broken_content_are_told_apart_and_left_alone() {
        let (_dir, state) = folder();
        let path = state.path.join("vips.json");
        for (text, name) in [
            (
                r#"{"version": 2, "content": {"addresses": 1}}"#,
                "state-of-another-version",
            ),
            (r#"{"version": 1, "content": {"#, "state-not-understood"),
            (
                r#"{"version": 1, "content": {"svc": []}}"#,
                "state-not-understood",
            ),
            ("", "state-not-understood"),
        ] {
            fs::write(&path, text).unwrap();
            let error = state.vips().unwrap_err();
            assert_eq!(error.name(), name, "{error}");
            assert!(error.to_string().contains("vips.json"), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn a_folder_that_can_not_be_made_is_named() {
        let (dir, _state) = folder();
        fs::write(dir.path().join("file"), "").unwrap();
        let error = StateFolder::open(&dir.path().join("file/state")).unwrap_err();
        assert_eq!(error.name(), "state-folder-unusable");
    }

    #[test]
    fn only_a_recent_run_of_this_node_and_boot_is_continued() {
        let at = |s| UNIX_EPOCH + Duration::from_secs(s);
        let wait = Duration::from_secs(120);
        let decide = |run: Option<&LastRun>, now| start(left(run, "node-a", "b1", at(now), wait));
        assert_eq!(decide(None, 100), Start::Cold);
        assert_eq!(decide(Some(&run(Ended::Running, 100)), 220), Start::Restarted);
        assert_eq!(decide(Some(&run(Ended::Restarting, 100)), 101), Start::Restarted);
        assert_eq!(decide(Some(&run(Ended::Running, 100)), 221), Start::Cold);
        let other_boot = LastRun {
            boot_id: "b0".to_owned(),
            ..run(Ended::Running, 100)
        };
        assert_eq!(decide(Some(&other_boot), 101), Start::Cold);
        let other_node = LastRun {
            node: "node-b".to_owned(),
            ..run(Ended::Running, 100)
        };
        assert_eq!(decide(Some(&other_node), 101), Start::Cold);
    }
}
