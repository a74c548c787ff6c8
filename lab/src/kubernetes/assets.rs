//! Where the programs are.

use std::env;
use std::path::{Path, PathBuf};

/// What a folder of assets holds; the convention of Kubernetes' envtest.
pub const PROGRAMS: [&str; 2] = ["etcd", "kube-apiserver"];

const GO_MOD: &str = include_str!("../../kubernetes/go.mod");
const GO_SUM: &str = include_str!("../../kubernetes/go.sum");

/// A folder with every program of [`PROGRAMS`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assets {
    folder: PathBuf,
}

/// There is no such folder.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAssets {
    #[error("KUBEBUILDER_ASSETS is {folder}, and there is no {program} in it")]
    Incomplete { folder: PathBuf, program: &'static str },
    #[error("no etcd and kube-apiserver in {folder}; `cargo xtask setup` makes them")]
    NotMade { folder: PathBuf },
    #[error("no etcd and kube-apiserver: neither KUBEBUILDER_ASSETS nor HOME is set")]
    NoHome,
}

impl Assets {
    /// The programs of this machine: those `KUBEBUILDER_ASSETS` names, else those that `cargo xtask setup` made.
    ///
    /// # Errors
    /// What is missing, and what to do.
    pub fn find() -> Result<Self, NoAssets> {
        if let Some(folder) = env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from) {
            return match absent(&folder) {
                Some(program) => Err(NoAssets::Incomplete { folder, program }),
                None => Ok(Self { folder }),
            };
        }
        let folder = Self::cache().ok_or(NoAssets::NoHome)?;
        match absent(&folder) {
            Some(_) => Err(NoAssets::NotMade { folder }),
            None => Ok(Self { folder }),
        }
    }

    /// Where the programs made from this very `go.mod` and `go.sum` lie, made or not. `None` without a home.
    #[must_use]
    pub fn cache() -> Option<PathBuf> {
        let home = || env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
        let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home)?;
        Some(cache.join("stentor").join(format!("kubernetes-{:016x}", key())))
    }

    /// The version of Kubernetes that `cargo xtask setup` makes, such as `v1.36.3`.
    #[must_use]
    pub fn version() -> &'static str {
        let mut lines = GO_MOD.lines().map(str::trim);
        lines
            .find_map(|line| line.strip_prefix("k8s.io/kubernetes "))
            .unwrap_or_default()
    }

    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

fn absent(folder: &Path) -> Option<&'static str> {
    PROGRAMS
        .into_iter()
        .find(|program| !folder.join(program).is_file())
}

/// FNV-1a: tells one set of versions from another, on every machine the same.
fn key() -> u64 {
    let octets = GO_MOD.bytes().chain(GO_SUM.bytes());
    octets.fold(0xcbf2_9ce4_8422_2325, |key, octet| {
        (key ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_stands_in_the_go_mod() {
        assert!(Assets::version().starts_with("v1."), "{}", Assets::version());
    }

    #[test]
    fn a_folder_that_lacks_a_program_is_no_assets() {
        let folder = env::temp_dir().join(format!("stentor-assets-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("etcd"), "").unwrap();
        assert_eq!(absent(&folder), Some("kube-apiserver"));
        std::fs::write(folder.join("kube-apiserver"), "").unwrap();
        assert_eq!(absent(&folder), None);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
