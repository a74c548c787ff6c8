//! Builds and runs the fuzz targets of `tests/fuzz`: `fuzz --list`, `fuzz --seconds N NAME`.
//!
//! The targets are compiled with LLVM's coverage pass, on the stable toolchain, into a folder of their own.

mod seed;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};

/// Decoders first, then what is built from them.
const TARGETS: [&str; 9] = [
    "framer",
    "open",
    "capability",
    "update",
    "attribute",
    "notification",
    "packet",
    "speaker",
    "crds",
];

/// What libFuzzer needs to see where an input leads.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 --cfg fuzzing";

fn main() -> Result<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["--list"] => {
            println!("{}", TARGETS.join("\n"));
            Ok(ExitCode::SUCCESS)
        }
        ["--seconds", seconds, name] if TARGETS.contains(&name) => {
            let seconds = seconds.parse().context("--seconds takes a number")?;
            fuzz(name, seconds)
        }
        _ => {
            eprintln!("usage: fuzz --list | fuzz --seconds N NAME");
            Ok(ExitCode::from(2))
        }
    }
}

fn fuzz(name: &str, seconds: u32) -> Result<ExitCode> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("tests/ is in the workspace")?;
    let folder = target_folder(workspace)?;
    // With a target named, cargo keeps the flags away from build scripts and procedural macros.
    let triple = host()?;
    build(name, workspace, &folder, &triple)?;
    let corpus = folder.join("corpus");
    seed::seed(&corpus, workspace).context("the seeds could not be written")?;
    let findings = folder.join("findings").join(name);
    fs::create_dir_all(&findings)?;
    let status = Command::new(folder.join(&triple).join("release").join(name))
        .arg(corpus.join(name))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/", findings.display()))
        // A time-out is a finding (a decoder that is slow on purpose), and so is memory.
        .args([
            "-timeout=10",
            "-rss_limit_mb=2048",
            "-max_len=8192",
            "-print_final_stats=1",
            "-verbosity=0",
        ])
        .status()
        .with_context(|| format!("cannot start {name}"))?;
    if status.success() {
        println!("1 passed, 0 failed, 0 skipped");
        Ok(ExitCode::SUCCESS)
    } else {
        println!("found: see {}", findings.display());
        println!("0 passed, 1 failed, 0 skipped");
        Ok(ExitCode::FAILURE)
    }
}

fn build(name: &str, workspace: &Path, folder: &Path, triple: &str) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args([
            "build",
            "--release",
            "--quiet",
            "--locked",
            "--target",
            triple,
            "--bin",
            name,
            "--manifest-path",
        ])
        .arg(workspace.join("tests/fuzz/Cargo.toml"))
        // Only one target reads manifests.
        .args((name == "crds").then_some("--features=crds"))
        .env("CARGO_TARGET_DIR", folder)
        .env("RUSTFLAGS", COVERAGE)
        .status()
        .context("cannot start cargo")?;
    if !status.success() {
        bail!("tests/fuzz does not build: {status}");
    }
    Ok(())
}

/// The target this compiler builds for by itself.
fn host() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .arg("-vV")
        .output()
        .context("cannot start rustc")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc names no host")?.to_owned())
}

/// `fuzz/` in the workspace's target folder.
fn target_folder(workspace: &Path) -> Result<PathBuf> {
    // This program lies in TARGET/PROFILE.
    let program = std::env::current_exe()?;
    let target = program.parent().and_then(Path::parent);
    Ok(target
        .map_or_else(|| workspace.join("target"), Path::to_path_buf)
        .join("fuzz"))
}
