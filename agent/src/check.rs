//! `stentor check`: the reader and the planner of the agent, for a folder that nobody runs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::api::view;
use crate::plan::{Options, plan};
use crate::problem::Problem;
use crate::source::dir;
use crate::world::World;

/// Folders in folders in folders: links that go round end here.
const DEEPEST: usize = 32;

/// Every problem of the folder: of its documents, and of what they come to on each node they name (on `node`
/// alone when it is given).
#[must_use]
pub fn folder(root: &Path, node: Option<&str>) -> Vec<view::Problem> {
    let mut world = World::new(node.unwrap_or_default());
    world.take(dir::read_once(root));
    let mut problems: BTreeSet<Problem> = world.source_problems.iter().cloned().collect();
    let nodes: BTreeSet<Arc<str>> = match node {
        Some(node) => BTreeSet::from([Arc::from(node)]),
        None => nodes(&world),
    };
    for node in &nodes {
        world.node = node.clone();
        problems.extend(plan(&world, &Options::default()).problems);
    }
    // Without any node, what is wrong between the objects still counts; that there is no node does not.
    if nodes.is_empty() {
        let found = plan(&world, &Options::default()).problems;
        problems.extend(found.into_iter().filter(|p| p.reason != "node-unknown"));
    }
    problems.iter().map(view::Problem::from).collect()
}

fn nodes(world: &World) -> BTreeSet<Arc<str>> {
    let cilium = world.objects.cilium_nodes().map(|node| Arc::from(node.name()));
    let core = world.objects.nodes().map(|node| Arc::from(node.name()));
    cilium.chain(core).collect()
}

/// The texts of a folder's documents, by path, for an agent to plan with.
///
/// # Errors
/// Which file or folder can't be read, and why.
pub fn files(root: &Path) -> Result<Vec<(String, String)>, String> {
    let mut files = Vec::new();
    walk(root, 0, &mut files)?;
    files.sort();
    files
        .into_iter()
        .map(|path| {
            let text =
                std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            Ok((path.display().to_string(), text))
        })
        .collect()
}

fn walk(path: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), String> {
    let entries = std::fs::read_dir(path).map_err(|error| format!("{}: {error}", path.display()))?;
    for entry in entries {
        let entry = entry.map_err(|error| format!("{}: {error}", path.display()))?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        let is_document = path
            .extension()
            .is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known));
        if path.is_dir() && depth < DEEPEST {
            walk(&path, depth + 1, files)?;
        } else if is_document {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_found_in_subfolders_and_hidden_files_are_not() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        for (name, text) in [
            ("b.yaml", "b"),
            ("sub/a.yml", "a"),
            (".hidden.yaml", "h"),
            ("notes.txt", "n"),
        ] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let texts: Vec<String> = files(dir.path())
            .unwrap()
            .into_iter()
            .map(|(_, text)| text)
            .collect();
        assert_eq!(texts, ["b", "a"]);
        assert!(files(&dir.path().join("nowhere")).is_err());
    }

    #[test]
    fn a_folder_that_is_not_there_is_a_problem_with_its_name() {
        let problems = folder(Path::new("/nowhere/at/all"), None);
        assert!(
            problems
                .iter()
                .any(|p| p.file.as_deref().is_some_and(|f| f.contains("/nowhere"))),
            "{problems:?}"
        );
    }
}
