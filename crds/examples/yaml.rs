//! Writes the custom resource definitions as YAML, a file per kind, into the folder given. `cargo xtask crds` runs it.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from(std::env::args_os().nth(1).ok_or("give a folder")?);
    for definition in crds::definitions() {
        let text = serde_saphyr::to_string(&definition)?;
        let name = format!("{}.yaml", definition.spec.names.plural);
        std::fs::write(folder.join(name), text)?;
    }
    Ok(())
}
