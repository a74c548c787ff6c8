//! The control plane that tests run: etcd and kube-apiserver, made from the modules that `lab/kubernetes/go.mod` pins.
//!
//! Debian's Go is too old for them. It is new enough to fetch the Go they ask for, which is a module too and is held
//! against the same checksum database; a Go of 1.21 or later does that by itself.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use lab::kubernetes::Assets;
use serde_json::Value;

use super::{Found, From, Need, Part, package};
use crate::step;

/// What `lab/kubernetes/go.mod` asks for at least.
const GO: &str = "1.26.8";

/// Go's name of each package, and ours of the program.
const PROGRAMS: [(&str, &str); 2] = [
    ("go.etcd.io/etcd/server/v3", "etcd"),
    ("k8s.io/kubernetes/cmd/kube-apiserver", "kube-apiserver"),
];

pub(super) const PART: Part = Part {
    name: "kubernetes",
    needs: &[
        package("openssl", "openssl", "a key for the API server's tokens"),
        Need {
            what: "golang-go",
            why: "makes the programs below, or fetches the Go that does",
            found: Found::Asked(|| has_programs() || step::find("go").is_some()),
            from: From::Debian,
        },
        Need {
            what: "etcd and kube-apiserver",
            why: "a real control plane for the tests; from source, some minutes; KUBEBUILDER_ASSETS saves them",
            found: Found::Asked(has_programs),
            from: From::Tried(make),
        },
    ],
};

fn has_programs() -> bool {
    Assets::find().is_ok()
}

/// Makes them beside their place and puts them there at the end, so that a build that is interrupted leaves none.
fn make() -> Result<()> {
    if let Some(folder) = env::var_os("KUBEBUILDER_ASSETS") {
        bail!(
            "KUBEBUILDER_ASSETS is {}, which lacks programs: unset it, or complete it",
            Path::new(&folder).display()
        );
    }
    let cache = Assets::cache().context("neither HOME nor XDG_CACHE_HOME is set")?;
    let unfinished = cache.with_extension(format!("unfinished-{}", std::process::id()));
    fs::create_dir_all(&unfinished).with_context(|| format!("make {}", unfinished.display()))?;
    let made = make_into(&unfinished);
    let moved = made.and_then(|()| {
        if cache.exists() {
            fs::remove_dir_all(&cache)?;
        }
        Ok(fs::rename(&unfinished, &cache)?)
    });
    if moved.is_err() {
        let _ = fs::remove_dir_all(&unfinished);
    }
    moved
}

fn make_into(folder: &Path) -> Result<()> {
    let go = go()?;
    for (package, program) in PROGRAMS {
        let mut command = Command::new(&go);
        command
            .current_dir(step::root().join("lab/kubernetes"))
            .args(["build", "-mod=readonly", "-trimpath", "-buildvcs=false"])
            .args(["-ldflags", &stamp(), "-o"])
            .arg(folder.join(program))
            .arg(package)
            .env("CGO_ENABLED", "0")
            .env("GOFLAGS", "")
            .env("GOTOOLCHAIN", "auto");
        step::run_as(&mut command, &format!("go build {package}"))?;
    }
    Ok(())
}

/// Without it the programs call themselves v0.0.0. No symbol table: nobody debugs them.
fn stamp() -> String {
    let version = Assets::version();
    let mut numbers = version.trim_start_matches('v').split('.');
    let (major, minor) = (
        numbers.next().unwrap_or_default(),
        numbers.next().unwrap_or_default(),
    );
    let set = |name: &str, value: &str| format!("-X k8s.io/component-base/version.{name}={value}");
    [
        "-s -w".to_owned(),
        set("gitVersion", version),
        set("gitMajor", major),
        set("gitMinor", minor),
    ]
    .join(" ")
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

    #[test]
    fn programs_carry_the_version_they_are_made_from() {
        let version = Assets::version();
        assert!(stamp().contains(&format!("gitVersion={version} ")), "{}", stamp());
        assert!(stamp().contains("gitMajor=1 "), "{}", stamp());
    }

    #[test]
    fn everything_the_lab_looks_for_is_made() {
        let made = PROGRAMS.map(|(_, program)| program);
        assert_eq!(made, lab::kubernetes::PROGRAMS);
    }
}
