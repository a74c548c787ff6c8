//! Folders of the repository whose files are made by something else, and must be what that makes of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::step;

/// Texts by name.
pub(crate) type Files = BTreeMap<String, String>;

/// Brings a folder of the repository up to date, and says which files went.
pub(crate) fn write(task: &str, folder: &str, generated: &Files) -> Result<()> {
    let place = step::root().join(folder);
    fs::create_dir_all(&place).with_context(|| format!("make {}", place.display()))?;
    let there = files(&place)?;
    for name in there.keys().filter(|name| !generated.contains_key(*name)) {
        fs::remove_file(place.join(name))?;
        println!("{task}: {name} is gone");
    }
    for (name, text) in generated {
        fs::write(place.join(name), text)?;
    }
    Ok(())
}

/// The files of a folder of the repository that are not what they are made of, or not there.
pub(crate) fn stale(folder: &str, generated: &Files) -> Result<Vec<String>> {
    let there = files(&step::root().join(folder))?;
    let names = there
        .keys()
        .chain(generated.keys().filter(|name| !there.contains_key(*name)));
    Ok(names
        .filter(|name| there.get(*name) != generated.get(*name))
        .map(|name| format!("{folder}/{name}"))
        .collect())
}

/// Names and texts of the files of a folder; none if it is not there.
pub(crate) fn files(folder: &Path) -> Result<Files> {
    let mut files = Files::new();
    if !folder.exists() {
        return Ok(files);
    }
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        files.insert(name, fs::read_to_string(entry.path())?);
    }
    Ok(files)
}
