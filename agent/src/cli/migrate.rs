//! `stentor migrate`: reads what another program was told, and prints what we would have to be told.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::commands::{Done, Exit, Failure, write};
use crate::migrate;
use crate::render::yaml;

pub(super) fn metallb(files: &[PathBuf]) -> Done {
    let mut documents = Vec::new();
    for file in files {
        documents.extend(read(file).map_err(Failure::problem)?);
    }
    let migrated = migrate::metallb(&documents);
    let texts = migrated
        .objects
        .iter()
        .map(|object| format!("---\n{}", yaml::text(object)));
    write(&texts.collect::<String>())?;
    for left in &migrated.left_out {
        eprintln!("{}: {}", left.object, left.what);
    }
    eprintln!(
        "{} objects written, {} points left out",
        migrated.objects.len(),
        migrated.left_out.len()
    );
    Ok(if migrated.left_out.is_empty() {
        Exit::Good
    } else {
        Exit::Problems
    })
}

fn read(file: &Path) -> Result<Vec<Value>, String> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).map(drop)
    } else {
        fs::read_to_string(file).map(|found| text = found)
    };
    read.map_err(|error| format!("{}: {error}", file.display()))?;
    let documents = crds::documents(&text).into_iter();
    documents
        .collect::<Result<_, _>>()
        .map_err(|error| format!("{}, {error}", file.display()))
}
