//! Building the kernel programs: another target, another compiler, another linker, and a lock file of their own.
//!
//! The compiler is Debian's `rustc-web` with its ready core library for BPF, or else a nightly of rustup with `rust-src`.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{step, test};

const TARGET: &str = "bpfel-unknown-none";
const DEBIAN: &str = "/usr/bin/rustc";
/// What the programs are called in the target folder; tests look for it there.
const NAME: &str = "stentor-bpf";
/// The same, for the agent.
const EMBEDDED: &str = "stentor-bpf.embedded";
/// The wrapper and the floors that measure them.
const BENCH: &str = "stentor-bench";

/// Who compiles.
#[derive(Debug, PartialEq, Eq)]
enum Compiler {
    /// Has the core library, but is a stable compiler that must be told to allow what the target needs.
    Debian,
    /// Compiles the core library first.
    Nightly,
}

/// Builds the programs; returns when they are in the target folder, as `bpf/stentor-bpf`.
pub(crate) fn build() -> Result<PathBuf> {
    let Some(compiler) = compiler() else {
        bail!(
            "no compiler for kernel programs: install Debian's rustc-web and libstd-rust-web-dev-bpf, \
             or `rustup toolchain install nightly -c rust-src`"
        );
    };
    let linker = linker().context("no bpf-linker: `cargo xtask setup` installs it")?;
    let folder = test::target_folder()?.join("bpf");
    let mut flags = OsString::from("-Clinker=");
    flags.push(&linker);
    // Instructions of kernels since 5.1, and type information for maps and messages of the verifier.
    flags.push("\u{1f}-Ctarget-cpu=v3\u{1f}-Clink-arg=--btf");
    let mut command = match compiler {
        Compiler::Debian => {
            let mut command = step::cargo();
            command
                .env("RUSTC", DEBIAN)
                .env("RUSTC_BOOTSTRAP", "1")
                .arg("build");
            command
        }
        Compiler::Nightly => {
            let mut command = Command::new("rustup");
            command.args(["run", "nightly", "cargo", "build", "-Zbuild-std=core"]);
            command.current_dir(step::root()).env_remove("RUSTC");
            command
        }
    };
    command
        .args(["--quiet", "--release", "--locked", "--target", TARGET])
        .args(["--manifest-path", "ebpf/progs/Cargo.toml", "--target-dir"])
        .arg(&folder)
        .env("CARGO_ENCODED_RUSTFLAGS", flags);
    step::run(&mut command)?;
    for name in [NAME, BENCH] {
        let built = folder.join(TARGET).join("release").join(name);
        let place = folder.join(name);
        fs::copy(&built, &place)
            .with_context(|| format!("copy {} to {}", built.display(), place.display()))?;
    }
    embed(&folder)?;
    Ok(folder.join(NAME))
}

/// Leaves the programs where the build script of the agent finds them. The agent is built anew only for other programs.
fn embed(folder: &Path) -> Result<()> {
    let (built, place) = (folder.join(NAME), folder.join(EMBEDDED));
    let programs = fs::read(&built).with_context(|| format!("read {}", built.display()))?;
    if fs::read(&place).ok().as_ref() == Some(&programs) {
        return Ok(());
    }
    fs::write(&place, programs).with_context(|| format!("write {}", place.display()))
}

/// Whether there is a compiler for kernel programs.
pub(crate) fn has_compiler() -> bool {
    compiler().is_some()
}

/// Where the linker is, also when cargo's programs are not on the path.
pub(crate) fn linker() -> Option<PathBuf> {
    let homes = [
        env::var_os("CARGO_INSTALL_ROOT").map(PathBuf::from),
        env::var_os("CARGO_HOME").map(PathBuf::from),
        env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")),
    ];
    let installed = homes
        .into_iter()
        .flatten()
        .map(|home| home.join("bin/bpf-linker"));
    step::find("bpf-linker").or_else(|| installed.into_iter().find(|file| file.is_file()))
}

fn compiler() -> Option<Compiler> {
    if sysroot(&mut Command::new(DEBIAN)).is_some_and(|root| root.join("lib/rustlib").join(TARGET).exists()) {
        return Some(Compiler::Debian);
    }
    let nightly = sysroot(Command::new("rustup").args(["run", "nightly", "rustc"]))?;
    nightly
        .join("lib/rustlib/src/rust/library/core")
        .exists()
        .then_some(Compiler::Nightly)
}

/// Where a compiler keeps its libraries; `None` if it does not run.
fn sysroot(compiler: &mut Command) -> Option<PathBuf> {
    let asked = compiler.args(["--print", "sysroot"]).output().ok()?;
    let path = String::from_utf8(asked.stdout).ok()?;
    asked.status.success().then(|| PathBuf::from(path.trim()))
}
