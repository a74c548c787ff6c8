//! `cargo xtask crds`: the custom resource definitions as YAML, made from the types of the crate `crds`.

use std::fs;

use anyhow::Result;

use crate::generated::{self, Files};
use crate::{step, test};

const FOLDER: &str = "crds/yaml";

/// Brings the folder in the repository up to date.
pub(crate) fn write() -> Result<()> {
    let generated = generated()?;
    generated::write("crds", FOLDER, &generated)?;
    println!(
        "crds: {} definitions in {}",
        generated.len(),
        step::root().join(FOLDER).display()
    );
    Ok(())
}

/// What of it differs from what the types say, for `cargo xtask check`.
pub(crate) fn stale() -> Result<Vec<String>> {
    let stale = generated::stale(FOLDER, &generated()?)?.into_iter();
    Ok(stale
        .map(|file| format!("{file}: not what the types say; run `cargo xtask crds`"))
        .collect())
}

/// The files as the types say they should be.
fn generated() -> Result<Files> {
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
    generated::files(&folder)
}
