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
    needs: &[package(
        "golang-go",
        "go",
        "makes programs for Kubernetes, or fetches the Go that does",
    )],
};

/// What each `go.mod` of ours asks for at least.
const GO: &str = "1.26.8";

/// Makes programs (Go's name of each package, and ours) out of the module in a folder of the repository. Beside their
/// place, and there at the end, so that a build that is interrupted leaves none.
pub(super) fn make(cache: &Path, module: &str, programs: &[(&str, &str)], linker: &str) -> Result<()> {
    let unfinished = cache.with_extension(format!("unfinished-{}", std::process::id()));
    fs::create_dir_all(&unfinished).with_context(|| format!("make {}", unfinished.display()))?;
    let made = make_into(&unfinished, module, programs, linker);
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

fn make_into(folder: &Path, module: &str, programs: &[(&str, &str)], linker: &str) -> Result<()> {
    let go = go()?;
    for (package, program) in programs {
        let mut command = Command::new(&go);
        command
            .current_dir(step::root().join(module))
            .args(["build", "-mod=readonly", "-trimpath", "-buildvcs=false"])
            .args(["-ldflags", linker, "-o"])
            .arg(folder.join(program))
            .arg(package)
            .env("CGO_ENABLED", "0")
            .env("GOFLAGS", "")
            .env("GOTOOLCHAIN", "auto");
        step::run_as(&mut command, &format!("go build {package}"))?;
    }
    Ok(())
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
