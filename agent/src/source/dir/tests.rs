use std::os::unix::fs::symlink;

use super::*;
use crate::source::Change;

fn namespace(name: &str) -> String {
    format!("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n")
}

fn told(batch: &Batch) -> Vec<String> {
    let told = batch.changes.iter().map(|change| match change {
        Change::Applied(parsed) => format!("+{}", parsed.reference.name),
        Change::Deleted(reference) => format!("-{}", reference.name),
    });
    told.collect()
}

async fn next(batches: &mut mpsc::Receiver<Batch>) -> Batch {
    let batch = tokio::time::timeout(Duration::from_secs(20), batches.recv()).await;
    batch.expect("the kernel told nothing").expect("the source ended")
}

#[test]
fn a_folder_is_read_with_its_subfolders_and_without_what_editors_leave() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    fs::create_dir_all(root.join("a/b")).unwrap();
    for (file, name) in [
        ("a/b/deep.yml", "deep"),
        ("top.yaml", "top"),
        (".top.yaml.swp", "swap"),
        (".hidden.yaml", "hidden"),
        ("top.yaml~", "backup"),
        ("#top.yaml#", "autosave"),
        ("notes.txt", "notes"),
    ] {
        fs::write(root.join(file), namespace(name)).unwrap();
    }
    fs::write(
        root.join("one.json"),
        r#"{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "json"}}"#,
    )
    .unwrap();
    symlink("..", root.join("a/round")).unwrap();
    symlink("nowhere", root.join("dangling.yaml")).unwrap();
    let batch = read_once(root);
    assert_eq!(told(&batch), ["+deep", "+json", "+top"]);
    let reasons: Vec<&str> = batch.problems.iter().map(|p| p.reason).collect();
    assert_eq!(reasons, ["file-unreadable"], "{:?}", batch.problems);
}

/// One look after the other, with what each comes to.
struct Reader {
    eyes: Eyes,
    folder: Folder,
}

impl Reader {
    fn new(root: &Path) -> Self {
        Self {
            eyes: Eyes::new(root.to_owned(), None),
            folder: Folder::new(root.to_owned()),
        }
    }

    fn look(&mut self) -> (Vec<String>, Vec<&'static str>) {
        let batch = self.folder.take(now(), self.eyes.look());
        (told(&batch), batch.problems.iter().map(|p| p.reason).collect())
    }
}

#[test]
fn a_subfolder_that_can_not_be_read_keeps_what_it_held() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("manifests");
    let mount = dir.path().join("mount");
    fs::create_dir_all(mount.join("deep")).unwrap();
    fs::create_dir(&root).unwrap();
    fs::write(mount.join("deep/x.yaml"), namespace("x")).unwrap();
    fs::write(mount.join("y.yaml"), namespace("z")).unwrap();
    symlink(&mount, root.join("apps")).unwrap();
    let mut reader = Reader::new(&root);
    assert_eq!(reader.look().0, ["+x", "+z"]);

    // The mount is missing: the link leads nowhere, and what it led to stays in force.
    fs::rename(&mount, dir.path().join("away")).unwrap();
    let unreadable = vec!["file-unreadable"; 3];
    assert_eq!(reader.look(), (vec![], unreadable.clone()));
    assert_eq!(reader.look(), (vec![], unreadable));
    fs::rename(dir.path().join("away"), &mount).unwrap();
    assert_eq!(reader.look(), (vec![], vec![]));

    // The link itself is gone: so somebody wants it.
    fs::remove_file(root.join("apps")).unwrap();
    assert_eq!(reader.look(), (vec!["-x".to_owned(), "-z".to_owned()], vec![]));
}

#[test]
fn folders_too_deep_to_be_read_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let deep: PathBuf = (0..=DEEPEST_FOLDER).map(|_| "d").collect();
    let file = dir.path().join(deep).join("x.yaml");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, namespace("x")).unwrap();
    let (changes, problems) = Reader::new(dir.path()).look();
    assert_eq!((changes, problems), (vec![], vec!["file-unreadable"]));
}

#[tokio::test]
async fn what_an_earlier_run_kept_stays_as_long_as_its_file_does() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let kept = |name: &str| {
        let mut read = crds::read(&root.join(name), &namespace(name.trim_end_matches(".yaml")));
        Kept {
            parsed: read.objects.pop().unwrap().into(),
            since: 7,
        }
    };
    fs::write(root.join("broken.yaml"), "kind: [\n").unwrap();
    let (_rescan, mut batches, _task) = start(root.to_owned(), vec![kept("broken.yaml"), kept("gone.yaml")]);
    let batch = next(&mut batches).await;
    assert_eq!(told(&batch), ["+broken"]);
    assert_eq!(batch.kept.len(), 1);
    fs::remove_file(root.join("broken.yaml")).unwrap();
    assert_eq!(told(&next(&mut batches).await), ["-broken"]);
}

#[test]
fn a_folder_that_is_not_there_is_a_problem() {
    let batch = read_once(Path::new("/nonexistent/manifests"));
    assert_eq!(batch.problems.len(), 1);
    assert_eq!(batch.problems[0].reason, "folder-unreadable");
}

#[tokio::test]
async fn changes_are_told_as_they_happen() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("manifests");
    fs::create_dir(&root).unwrap();
    let (rescan, mut batches, task) = start(root.clone(), Vec::new());
    assert_eq!(next(&mut batches).await, Batch::default());

    fs::write(root.join("a.yaml"), namespace("a")).unwrap();
    assert_eq!(told(&next(&mut batches).await), ["+a"]);

    // As editors and `kubectl` save: written beside, renamed over.
    fs::write(root.join(".new"), namespace("b")).unwrap();
    fs::rename(root.join(".new"), root.join("a.yaml")).unwrap();
    assert_eq!(told(&next(&mut batches).await), ["-a", "+b"]);

    fs::create_dir(root.join("sub")).unwrap();
    fs::write(root.join("sub/c.yaml"), namespace("c")).unwrap();
    assert_eq!(told(&next(&mut batches).await), ["+c"]);

    // The folder as a whole goes and comes back.
    fs::rename(&root, dir.path().join("away")).unwrap();
    let batch = next(&mut batches).await;
    assert_eq!((told(&batch).len(), batch.problems.len()), (0, 1), "{batch:?}");
    fs::rename(dir.path().join("away"), &root).unwrap();
    assert_eq!(next(&mut batches).await, Batch::default());

    drop(rescan);
    task.await.unwrap();
}

#[tokio::test]
async fn a_mounted_config_map_is_replaced_in_one_step() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    for (version, name) in [("..v1", "one"), ("..v2", "two")] {
        fs::create_dir(root.join(version)).unwrap();
        fs::write(root.join(version).join("x.yaml"), namespace(name)).unwrap();
    }
    symlink("..v1", root.join("..data")).unwrap();
    symlink("..data/x.yaml", root.join("x.yaml")).unwrap();
    let (_rescan, mut batches, _task) = start(root.to_owned(), Vec::new());
    assert_eq!(told(&next(&mut batches).await), ["+one"]);
    symlink("..v2", root.join("..data_tmp")).unwrap();
    fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
    assert_eq!(told(&next(&mut batches).await), ["-one", "+two"]);
}
