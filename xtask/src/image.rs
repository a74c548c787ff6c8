//! `cargo xtask image`: the container image, without a container engine.
//!
//! ```text
//!   cargo build, static --+
//!   links, /etc/passwd ---+--> target/image/root --> one layer --> target/image/stentor.tar
//! ```
//!
//! The archive is what `docker save` writes, so `ctr images import`, `docker load` and `podman load` take it. Names, owners
//! and times in it are fixed: the same program makes the same octets.
//!
//! The program is linked statically, against the C library of the machine. `deploy/image/Containerfile` runs this too. Images for
//! labs hold the program of every other build instead, and the libraries that it loads: linking it once more takes minutes.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::setup::{self, Goal};
use crate::{ebpf, step, test};

/// As `image.repository` of the chart.
const REPOSITORY: &str = "ghcr.io/stentor-io/stentor";
/// As the chart's `appVersion`.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Other names of the program: those of the stock one, whose words it knows.
const NAMES: [&str; 2] = ["cilium", "cilium-dbg"];
/// What is mounted there is not made by the runtime where the root is read only.
const FOLDERS: [&str; 8] = [
    "etc/stentor/config",
    "host/cgroup",
    "proc",
    "run/netns",
    "run/stentor",
    "sys",
    "usr/bin",
    "var/lib/stentor",
];

/// How the program is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Build {
    Release,
    /// As for tests, for labs.
    Quick,
}

/// What containers run that are not told otherwise.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    pub(crate) program: &'static str,
    /// Its words; a container may have others in their place.
    pub(crate) words: &'static [&'static str],
}

impl Start {
    pub(crate) const fn of(program: &'static str) -> Self {
        Self { program, words: &[] }
    }
}

/// Builds the program and writes the archive, or only its root folder.
pub(crate) fn run(build: Build, output: Option<&Path>, root: Option<&Path>) -> Result<()> {
    setup::run(Goal::Balance)?;
    let program = program(build)?;
    if let Some(root) = root {
        fill(root, &program)?;
        println!("image: {}", root.display());
        return Ok(());
    }
    let default = test::target_folder()?.join("image/stentor.tar");
    archive(&program, output.unwrap_or(&default))
}

/// Writes the archive of the image with this program.
pub(crate) fn archive(program: &Path, archive: &Path) -> Result<()> {
    let root = archive.with_extension("root");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    fill(&root, program)?;
    save(
        &root,
        &[&format!("{REPOSITORY}:{VERSION}")],
        Start::of("stentor"),
        archive,
    )?;
    println!("image: {REPOSITORY}:{VERSION} in {}", archive.display());
    Ok(())
}

/// The program. One for release needs no library at run time.
pub(crate) fn program(build: Build) -> Result<PathBuf> {
    ebpf::build()?;
    if build == Build::Quick {
        test::build(false)?;
        return Ok(test::target_folder()?.join("debug/stentor"));
    }
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut cargo = step::cargo();
    cargo
        .args([
            "build",
            "--package",
            "stentor",
            "--bin",
            "stentor",
            "--target",
            &triple,
        ])
        .arg("--release")
        // With a target of its own these are not for build scripts.
        .env("RUSTFLAGS", "-Ctarget-feature=+crt-static -Cstrip=symbols");
    step::run(&mut cargo)?;
    Ok(test::target_folder()?.join(triple).join("release/stentor"))
}

/// Everything an image holds.
fn fill(root: &Path, program: &Path) -> Result<()> {
    for folder in FOLDERS {
        fs::create_dir_all(root.join(folder))
            .with_context(|| format!("make {folder} in {}", root.display()))?;
    }
    install(root, program, "usr/bin/stentor")?;
    for name in NAMES {
        symlink("stentor", root.join("usr/bin").join(name))?;
    }
    symlink("../run", root.join("var/run"))?;
    let users = "root:x:0:0:root:/:/nologin\nnonroot:x:65532:65532:nonroot:/:/nologin\n";
    fs::write(root.join("etc/passwd"), users)?;
    fs::write(root.join("etc/group"), "root:x:0:\nnonroot:x:65532:\n")?;
    Ok(())
}

/// Puts a program of this machine into a root folder, stripped, and the libraries that it loads where it looks for them.
pub(crate) fn install(root: &Path, program: &Path, place: &str) -> Result<()> {
    let place = root.join(place);
    let copied = format!("copy {}", program.display());
    fs::create_dir_all(place.parent().context("a program lies in a folder")?)?;
    fs::copy(program, &place).with_context(|| copied.clone())?;
    fs::set_permissions(&place, fs::Permissions::from_mode(0o755))?;
    // What is no program of this machine's format, such as a script, stays as it is.
    step::capture(Command::new("strip").arg(&place))?;
    for library in libraries(program)? {
        let place = root.join(library.strip_prefix("/").unwrap_or(&library));
        fs::create_dir_all(place.parent().context("a library lies in a folder")?)?;
        fs::copy(&library, &place).with_context(|| copied.clone())?;
    }
    Ok(())
}

/// What the loader finds for a program: none for one that is linked statically.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = step::capture(Command::new("ldd").arg(program))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let words = text.split_whitespace();
    Ok(words
        .filter(|word| word.starts_with('/') && !word.ends_with(':'))
        .map(PathBuf::from)
        .collect())
}

/// Writes a folder as an image of one layer.
pub(crate) fn save(root: &Path, tags: &[&str], start: Start, archive: &Path) -> Result<()> {
    let parts = archive.with_extension("parts");
    if parts.exists() {
        fs::remove_dir_all(&parts)?;
    }
    fs::create_dir_all(&parts).with_context(|| format!("make {}", parts.display()))?;
    let layer = parts.join("layer.tar");
    tar(root, &layer)?;
    let config = json!({
        "architecture": architecture()?,
        "os": "linux",
        "config": {
            "Entrypoint": [start.program],
            "Cmd": start.words,
            "Env": ["PATH=/usr/bin"],
            "WorkingDir": "/",
        },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", digest(&layer)?)] },
        "history": [{ "created_by": "cargo xtask image" }],
    });
    fs::write(parts.join("config.json"), config.to_string())?;
    let name = format!("{}.json", digest(&parts.join("config.json"))?);
    fs::rename(parts.join("config.json"), parts.join(&name))?;
    let manifest = json!([{
        "Config": name,
        "RepoTags": tags,
        "Layers": ["layer.tar"],
    }]);
    fs::write(parts.join("manifest.json"), manifest.to_string())?;
    tar(&parts, archive)?;
    fs::remove_dir_all(&parts)?;
    Ok(())
}

/// With nothing in it of this machine or this moment.
fn tar(folder: &Path, archive: &Path) -> Result<()> {
    let mut names = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.file_name()))
        .collect::<Result<Vec<_>>>()?;
    names.sort();
    let mut tar = Command::new("tar");
    tar.args(["--create", "--sort=name", "--format=gnu", "--mtime=@0"])
        .args(["--owner=0", "--group=0", "--numeric-owner", "--file"])
        .arg(archive)
        .arg("--directory")
        .arg(folder)
        .args(names);
    let output = step::capture(&mut tar)?;
    if !output.status.success() {
        bail!("tar: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// SHA-256 as everybody writes it.
fn digest(file: &Path) -> Result<String> {
    let mut sum = Command::new("sha256sum");
    let output = step::capture(sum.stdin(File::open(file)?))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    match text.split(' ').next() {
        Some(digest) if digest.len() == 64 => Ok(digest.to_owned()),
        _ => bail!("sha256sum {}: {text}", file.display()),
    }
}

/// As images name it.
fn architecture() -> Result<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => bail!("there are no images for {other}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn inside(archive: &Path, name: &str) -> Vec<u8> {
        let mut tar = Command::new("tar");
        let output = tar.args(["-xOf"]).arg(archive).arg(name).output().unwrap();
        assert!(output.status.success(), "{name}");
        output.stdout
    }

    #[test]
    fn an_image_is_the_same_each_time_and_says_what_is_in_it() {
        let folder = std::env::temp_dir().join(format!("stentor-image-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        let archives = ["one", "two"].map(|name| {
            let root = folder.join(name);
            fs::create_dir_all(&root).unwrap();
            fs::write(folder.join("program"), "a program").unwrap();
            fill(&root, &folder.join("program")).unwrap();
            let archive = folder.join(name).with_extension("tar");
            save(
                &root,
                &[&format!("{REPOSITORY}:{VERSION}")],
                Start::of("stentor"),
                &archive,
            )
            .unwrap();
            archive
        });
        let [one, two] = &archives;
        assert_eq!(fs::read(one).unwrap(), fs::read(two).unwrap());
        let manifest: Value = serde_json::from_slice(&inside(one, "manifest.json")).unwrap();
        assert_eq!(manifest[0]["RepoTags"][0], format!("{REPOSITORY}:{VERSION}"));
        let config = inside(one, manifest[0]["Config"].as_str().unwrap());
        let config: Value = serde_json::from_slice(&config).unwrap();
        let layer = folder.join("layer.tar");
        fs::write(&layer, inside(one, "layer.tar")).unwrap();
        let diff_id = format!("sha256:{}", digest(&layer).unwrap());
        assert_eq!(config["rootfs"]["diff_ids"][0], diff_id);
        assert_eq!(inside(&layer, "usr/bin/stentor"), b"a program");
        let listed = Command::new("tar").arg("-tvf").arg(&layer).output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        for name in NAMES {
            assert!(listed.contains(&format!("usr/bin/{name} -> stentor")), "{listed}");
        }
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn the_chart_asks_for_this_image() {
        let read =
            |name: &str| fs::read_to_string(step::root().join("deploy/helm/stentor").join(name)).unwrap();
        assert!(read("values.yaml").contains(&format!("repository: {REPOSITORY}\n")));
        assert!(read("Chart.yaml").contains(&format!("appVersion: {VERSION}\n")));
    }
}
