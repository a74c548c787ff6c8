//! Programs made from Go modules that a `go.mod` of ours pins; what is in them is in its `go.sum`, to the last octet.
//!
//! Debian's Go is too old for them. It is new enough to fetch the Go they ask for, which is a module too and is held
//! against the same checksum database; a Go of 1.21 or later does that by itself.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{Part, package};
use crate::step;

pub(super) const PART: Part = Part {
    name: "go",
    needs: &[
        package(
            "golang-go",
            "go",
            "makes programs for Kubernetes, or fetches the Go that does",
        ),
        package("openssl", "openssl", "a key for the API server's tokens"),
    ],
};

/// What each `go.mod` of ours asks for at least.
const GO: &str = "1.26.8";

/// Programs of one `go.mod`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Module<'a> {
    /// In the repository.
    pub(super) folder: &'a str,
    /// Go's name of each package, and ours of the program.
    pub(super) programs: &'a [(&'a str, &'a str)],
    /// Of the build.
    pub(super) flags: &'a [&'a str],
    pub(super) linked: Linked,
    pub(super) kind: Kind,
}

/// What a package is made into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Program,
    /// A program that runs its tests.
    Tests,
}

/// What a program is linked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Linked {
    Static,
    /// With libraries of the machine.
    WithC,
}

/// Makes programs beside their place and puts them there at the end, so that a build that is interrupted leaves none.
pub(super) fn make(cache: &Path, modules: &[Module<'_>]) -> Result<()> {
    let unfinished = cache.with_extension(format!("unfinished-{}", std::process::id()));
    fs::create_dir_all(&unfinished).with_context(|| format!("make {}", unfinished.display()))?;
    let made = modules
        .iter()
        .try_for_each(|module| make_into(&unfinished, module));
    let moved = made.and_then(|()| {
        if cache.exists() {
            fs::remove_dir_all(cache)?;
        }
        Ok(fs::rename(&unfinished, cache)?)
    });
    if moved.is_err() {
        let _ = fs::remove_dir_all(&unfinished);
    }
    moved
}

fn make_into(folder: &Path, module: &Module<'_>) -> Result<()> {
    let go = go()?;
    for (package, program) in module.programs {
        let mut command = Command::new(&go);
        command
            .current_dir(step::root().join(module.folder))
            .args(match module.kind {
                Kind::Program => &["build"][..],
                Kind::Tests => &["test", "-c"],
            })
            .args(["-mod=readonly", "-trimpath", "-buildvcs=false"])
            .args(module.flags)
            .arg("-o")
            .arg(folder.join(program))
            .arg(package)
            .env(
                "CGO_ENABLED",
                match module.linked {
                    Linked::Static => "0",
                    Linked::WithC => "1",
                },
            )
            .env("GOFLAGS", "")
            .env("GOTOOLCHAIN", "auto");
        let verb = match module.kind {
            Kind::Program => "go build",
            Kind::Tests => "go test -c",
        };
        step::run_as(&mut command, &format!("{verb} {package}"))?;
    }
    Ok(())
}

/// Where programs made from these very modules lie, made or not. `None` without a home.
pub(crate) fn cache(name: &str, modules: &[&str]) -> Option<PathBuf> {
    let home = || env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home)?;
    let files = modules
        .iter()
        .flat_map(|module| ["go.mod", "go.sum"].map(|file| step::root().join(module).join(file)));
    let octets = files.flat_map(|file| fs::read(file).unwrap_or_default());
    // FNV-1a: tells one set of versions from another, on every machine the same.
    let key = octets.fold(0xcbf2_9ce4_8422_2325_u64, |key, octet| {
        (key ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3)
    });
    Some(cache.join("stentor").join(format!("{name}-{key:016x}")))
}

/// A Go that can build, or that fetches one by itself.
fn go() -> Result<PathBuf> {
    let go = step::find("go").context("there is no Go")?;
    let output = step::capture(Command::new(&go).args(["env", "GOVERSION"]))?;
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if fetches_by_itself(&version) {
        return Ok(go);
    }
    println!("setup: {version} is too old; fetching Go {GO}");
    fetch(&go)
}

/// Since 1.21 Go does what `GOTOOLCHAIN` says.
fn fetches_by_itself(version: &str) -> bool {
    let mut numbers = version.trim_start_matches("go").split('.');
    let mut number = || numbers.next().and_then(|number| number.parse::<u32>().ok());
    (number(), number()) >= (Some(1), Some(21))
}

/// Fetches the toolchain as a module, and returns its `go`.
fn fetch(go: &Path) -> Result<PathBuf> {
    let architecture = match env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => bail!("there is no Go {GO} for {other} here; install it, or set KUBEBUILDER_ASSETS"),
    };
    let module = format!("golang.org/toolchain@v0.0.1-go{GO}.linux-{architecture}");
    let mut command = Command::new(go);
    // Outside of any module: an old Go does not understand the go.mod of ours.
    command
        .current_dir("/")
        .args(["mod", "download", "-json", &module]);
    let output = step::capture(&mut command)?;
    let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let Some(folder) = told["Dir"].as_str().map(PathBuf::from) else {
        let why = told["Error"].as_str().map(str::to_owned);
        bail!(
            "fetch {module}: {}",
            why.unwrap_or_else(|| String::from_utf8_lossy(&output.stderr).into_owned())
        );
    };
    // A module's files are no programs until somebody says so; Go itself does the same.
    for programs in ["bin".to_owned(), format!("pkg/tool/linux_{architecture}")] {
        for entry in fs::read_dir(folder.join(programs))? {
            fs::set_permissions(entry?.path(), fs::Permissions::from_mode(0o755))?;
        }
    }
    Ok(folder.join("bin/go"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_go_since_1_21_fetches_the_one_it_needs() {
        assert!(fetches_by_itself("go1.26.8"));
        assert!(fetches_by_itself("go1.21"));
        assert!(!fetches_by_itself("go1.19.8"));
        assert!(!fetches_by_itself(""));
    }
}
