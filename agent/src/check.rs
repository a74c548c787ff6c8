//! `stentor check`: the reader and the planner of the agent, for a folder that nobody runs.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use crate::plan::{Options, plan};
use crate::problem::Problem;
use crate::source::dir;
use crate::source::folder::{Found, Look};
use crate::world::World;

/// Every problem of the folder: of its documents, and of what they come to on each node they name (on `node`
/// alone when it is given) in a cluster with these options.
#[must_use]
pub fn folder(root: &Path, node: Option<&str>, options: &Options) -> Vec<Problem> {
    let mut world = World::new(node.unwrap_or_default());
    world.take(dir::read_once(root));
    let mut problems: BTreeSet<Problem> = world.source_problems.iter().cloned().collect();
    let nodes: BTreeSet<Arc<str>> = match node {
        Some(node) => BTreeSet::from([Arc::from(node)]),
        None => nodes(&world),
    };
    for node in &nodes {
        world.node = node.clone();
        problems.extend(plan(&world, options).problems);
    }
    // Without any node, what is wrong between the objects still counts; that there is no node does not.
    if nodes.is_empty() {
        let found = plan(&world, options).problems;
        problems.extend(found.into_iter().filter(|p| p.reason != "node-unknown"));
    }
    problems.into_iter().collect()
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
    let found = match dir::look_once(root) {
        Look::Files(found) => found,
        Look::FolderUnreadable(why) => return Err(format!("{}: {why}", root.display())),
    };
    let mut files = Vec::new();
    for (path, found) in found {
        let path = path.display().to_string();
        match found {
            Found::Text(octets) => match String::from_utf8(octets) {
                Ok(text) => files.push((path, text)),
                Err(_) => return Err(format!("{path}: the file is not UTF-8; save it as UTF-8")),
            },
            Found::Unreadable(why) => return Err(format!("{path}: {why}")),
            Found::Gone => {}
        }
    }
    Ok(files)
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
        // A link that leads back: nothing is found twice.
        std::os::unix::fs::symlink("..", dir.path().join("sub/round")).unwrap();
        let texts: Vec<String> = files(dir.path())
            .unwrap()
            .into_iter()
            .map(|(_, text)| text)
            .collect();
        assert_eq!(texts, ["b", "a"]);
        assert!(files(&dir.path().join("nowhere")).is_err());
        std::fs::write(dir.path().join("c.yaml"), [0xff]).unwrap();
        assert!(
            files(dir.path())
                .unwrap_err()
                .contains("c.yaml: the file is not UTF-8")
        );
    }

    #[test]
    fn a_folder_that_is_not_there_is_a_problem_with_its_name() {
        let problems = folder(Path::new("/nowhere/at/all"), None, &Options::default());
        assert!(
            problems
                .iter()
                .any(|p| p.file.as_deref().is_some_and(|f| f.starts_with("/nowhere"))),
            "{problems:?}"
        );
    }
}
