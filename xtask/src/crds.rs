//! `cargo xtask crds`: the custom resource definitions as YAML, made from the types of the crate `crds`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::{step, test};

/// Brings the folder in the repository up to date.
pub(crate) fn write() -> Result<()> {
    let folder = checked_in();
    let generated = generated()?;
    for name in files(&folder)?
        .keys()
        .filter(|name| !generated.contains_key(*name))
    {
        fs::remove_file(folder.join(name))?;
        println!("crds: {name} is gone");
    }
    for (name, text) in &generated {
        fs::write(folder.join(name), text)?;
    }
    println!("crds: {} definitions in {}", generated.len(), folder.display());
    Ok(())
}

/// What of it differs from what the types say, for `cargo xtask check`.
pub(crate) fn stale() -> Result<Vec<String>> {
    let there = files(&checked_in())?;
    let generated = generated()?;
    let names = there
        .keys()
        .chain(generated.keys().filter(|name| !there.contains_key(*name)));
    Ok(names
        .filter(|name| there.get(*name) != generated.get(*name))
        .map(|name| format!("crds/yaml/{name}: not what the types say; run `cargo xtask crds`"))
        .collect())
}

fn checked_in() -> PathBuf {
    step::root().join("crds/yaml")
}

/// The files as the types say they should be.
fn generated() -> Result<BTreeMap<String, String>> {
    let folder = test::target_folder()?.join("crds-yaml");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    step::run(
        step::cargo()
            .args(["run", "--quiet", "--package", "crds", "--example", "yaml", "--"])
            .arg(&folder),
    )?;
    files(&folder)
}

fn files(folder: &Path) -> Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        files.insert(name, fs::read_to_string(entry.path())?);
    }
    Ok(files)
}
