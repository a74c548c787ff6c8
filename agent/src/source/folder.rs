//! The folder as a value: texts of files in, changes of objects out. No file is opened here.
//!
//! - A document that became bad keeps the object's last good version in force, and a problem says so and since when.
//!   If not even the object's name can be read, everything the file used to hold and no longer does is kept. What is
//!   kept can be told to a new folder ([`Folder::resume`]), so that a restart loses nothing of it.
//! - An object written twice is taken from the first file by path (the first document within a file); the
//!   problem names both places. A good version anywhere wins over one that is only kept.
//! - A file that can't be read keeps its objects. A file that is gone takes its objects with it. A folder that is
//!   gone keeps everything: it is more likely a mount that is missing than a wish to withdraw all.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crds::{ObjectRef, Parsed, Severity};

use super::kept::{self, Kept, Outlives, time};
use super::{Allotter, Batch, Change};
use crate::problem::Problem;

/// What was found at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    Text(Vec<u8>),
    /// It is there but can't be read; why.
    Unreadable(String),
    Gone,
}

/// What a look at the folder brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// The files that are new, changed or gone. Others are as they were.
    Files(Vec<(PathBuf, Found)>),
    /// The folder itself can't be read; why.
    FolderUnreadable(String),
}

/// The folder as last seen.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    files: BTreeMap<PathBuf, File>,
    /// What the objects of all files come to.
    in_force: BTreeMap<ObjectRef, Arc<Parsed>>,
    unreadable: Option<String>,
}

#[derive(Debug, Default)]
struct File {
    /// In document order.
    objects: Vec<Held>,
    problems: Vec<Problem>,
}

#[derive(Debug, Clone)]
struct Held {
    parsed: Arc<Parsed>,
    version: Version,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    /// What the file says now.
    Current,
    /// What it said before the document became bad.
    LastGood { since: u64 },
    /// What it said before the file could not be read.
    Unread { since: u64 },
}

impl Version {
    /// When it ceased to be what the file says.
    fn kept_since(self) -> Option<u64> {
        match self {
            Self::Current => None,
            Self::LastGood { since } | Self::Unread { since } => Some(since),
        }
    }
}

impl Folder {
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self {
            root,
            files: BTreeMap::new(),
            in_force: BTreeMap::new(),
            unreadable: None,
        }
    }

    /// Takes in what an earlier run kept, before the first look.
    pub fn resume(&mut self, kept: Vec<Kept>) {
        for Kept { parsed, since } in kept {
            let file = self.files.entry(parsed.file.to_path_buf()).or_default();
            file.objects.push(Held {
                parsed,
                version: Version::LastGood { since },
            });
        }
    }

    /// Takes in a look and tells what changed by it. `now` is in seconds since 1970.
    pub fn take(&mut self, now: u64, look: Look) -> Batch {
        match look {
            Look::FolderUnreadable(why) => self.unreadable = Some(why),
            Look::Files(files) => {
                self.unreadable = None;
                for (path, found) in files {
                    self.take_file(now, path, found);
                }
            }
        }
        let Settled {
            in_force,
            kept,
            mut problems,
        } = self.settle();
        let changes = difference(&self.in_force, &in_force);
        self.in_force = in_force;
        problems.extend(self.unreadable.iter().map(|why| {
            Problem::in_file(
                &self.root,
                Severity::Error,
                "folder-unreadable",
                format!("{why}; everything read from it before stays in force until it can be read again"),
            )
        }));
        problems.sort();
        Batch {
            changes,
            problems,
            kept,
            // Whatever stands in a folder can be read.
            refused: BTreeSet::new(),
            allotter: Allotter::Agents,
        }
    }

    fn take_file(&mut self, now: u64, path: PathBuf, found: Found) {
        let before = match found {
            Found::Gone => {
                self.files.remove(&path);
                return;
            }
            Found::Text(_) | Found::Unreadable(_) => self.files.remove(&path).unwrap_or_default(),
        };
        let file = match found {
            Found::Text(bytes) => read(now, &path, &bytes, before),
            Found::Unreadable(why) => unreadable(now, &path, &why, before),
            Found::Gone => return,
        };
        self.files.insert(path, file);
    }

    fn settle(&self) -> Settled {
        let mut problems: Vec<Problem> = self
            .files
            .values()
            .flat_map(|f| f.problems.iter().cloned())
            .collect();
        let mut chosen: BTreeMap<&ObjectRef, &Held> = BTreeMap::new();
        // Files come in the order of their paths and documents in theirs, so the first one seen wins.
        for held in self.files.values().flat_map(|f| &f.objects) {
            let first = chosen.entry(&held.parsed.reference).or_insert(held);
            if std::ptr::eq(*first, held) {
                continue;
            }
            match (first.version.kept_since(), held.version.kept_since()) {
                (None, None) => problems.push(duplicate(&first.parsed, &held.parsed)),
                (Some(_), None) => *first = held,
                (_, Some(_)) => {}
            }
        }
        let mut kept = Vec::new();
        for held in chosen.values() {
            if let Version::LastGood { since } = held.version {
                problems.push(kept_problem(&held.parsed, since));
            }
            let parsed = Arc::clone(&held.parsed);
            kept.extend(held.version.kept_since().map(|since| Kept { parsed, since }));
        }
        let in_force = chosen
            .into_iter()
            .map(|(reference, held)| (reference.clone(), Arc::clone(&held.parsed)))
            .collect();
        Settled {
            in_force,
            kept,
            problems,
        }
    }
}

/// What all files come to.
struct Settled {
    in_force: BTreeMap<ObjectRef, Arc<Parsed>>,
    /// Those of them that their files do not say any more.
    kept: Vec<Kept>,
    problems: Vec<Problem>,
}

fn read(now: u64, path: &Path, bytes: &[u8], before: File) -> File {
    let read = crds::read_bytes(path, bytes);
    let nameless = read.problems.iter().any(|p| p.is_error() && p.object.is_none());
    let problems: Vec<Problem> = read.problems.into_iter().map(Problem::from).collect();
    let mut objects: Vec<Held> = read
        .objects
        .into_iter()
        .map(|parsed| Held {
            parsed: Arc::new(parsed),
            version: Version::Current,
        })
        .collect();
    let mut kept = Vec::new();
    for held in before.objects {
        let reference = &held.parsed.reference;
        let still_there = objects.iter().any(|o| o.parsed.reference == *reference);
        let broken = nameless || read.bad.contains(reference);
        if broken && !still_there {
            let since = held.version.kept_since().unwrap_or(now);
            kept.push(Held {
                version: Version::LastGood { since },
                ..held
            });
        }
    }
    objects.extend(kept);
    File { objects, problems }
}

fn unreadable(now: u64, path: &Path, why: &str, before: File) -> File {
    let since = |held: &Held| held.version.kept_since().unwrap_or(now);
    let objects: Vec<Held> = before
        .objects
        .into_iter()
        .map(|held| Held {
            version: Version::Unread { since: since(&held) },
            ..held
        })
        .collect();
    let kept = match objects.first() {
        Some(held) => format!("what it said before stays in force since {}", time(since(held))),
        None => "nothing is known of what it says".to_owned(),
    };
    let problem = Problem::in_file(path, Severity::Error, "file-unreadable", format!("{why}; {kept}"));
    File {
        objects,
        problems: vec![problem],
    }
}

fn kept_problem(parsed: &Parsed, since: u64) -> Problem {
    let restart = match kept::outlives(parsed) {
        Outlives::Yes => "",
        Outlives::No => ", until a restart: Secrets are not written down",
    };
    Problem::at(
        parsed,
        "",
        Severity::Warning,
        "last-good-version-kept",
        format!(
            "the document is broken; its last good version stays in force since {}{restart}",
            time(since)
        ),
    )
}

fn duplicate(first: &Parsed, second: &Parsed) -> Problem {
    Problem::at(
        second,
        "",
        Severity::Error,
        crds::Reason::DuplicateObject.as_str(),
        format!(
            "the object stands in {}:{} too, and that one is used; remove one of them",
            first.file.display(),
            first.line
        ),
    )
}

fn difference(
    before: &BTreeMap<ObjectRef, Arc<Parsed>>,
    now: &BTreeMap<ObjectRef, Arc<Parsed>>,
) -> Vec<Change> {
    let applied = now
        .iter()
        .filter(|(reference, parsed)| {
            before
                .get(*reference)
                .is_none_or(|old| !Arc::ptr_eq(old, parsed) && old != *parsed)
        })
        .map(|(_, parsed)| Change::Applied(Arc::clone(parsed)));
    let deleted = before
        .keys()
        .filter(|reference| !now.contains_key(*reference))
        .map(|reference| Change::Deleted(reference.clone()));
    deleted.chain(applied).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "/m";
    const NOW: u64 = 1_700_000_000;

    fn namespace(name: &str) -> String {
        format!("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n---\n")
    }

    /// A Service whose one port is given as written, so that a test can break it.
    fn service(name: &str, port: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\n  namespace: ns\nspec:\n  ports:\n  - port: {port}\n---\n"
        )
    }

    fn folder() -> Folder {
        Folder::new(PathBuf::from(ROOT))
    }

    fn files(files: &[(&str, Option<&str>)]) -> Look {
        Look::Files(
            files
                .iter()
                .map(|(name, text)| {
                    let found = text.map_or(Found::Gone, |t| Found::Text(t.as_bytes().to_vec()));
                    (Path::new(ROOT).join(name), found)
                })
                .collect(),
        )
    }

    /// `+Kind/name` and `-Kind/name`, then the reasons of all problems.
    fn told(batch: &Batch) -> (Vec<String>, Vec<&'static str>) {
        let changes = batch
            .changes
            .iter()
            .map(|change| match change {
                Change::Applied(parsed) => format!("+{}", parsed.reference),
                Change::Deleted(reference) => format!("-{reference}"),
            })
            .collect();
        (changes, batch.problems.iter().map(|p| p.reason).collect())
    }

    #[test]
    fn only_what_changed_is_news() {
        let mut folder = folder();
        let both = namespace("a") + &service("s", "80");
        let (changes, problems) = told(&folder.take(NOW, files(&[("x.yaml", Some(&both))])));
        assert_eq!(changes, ["+Service/ns/s", "+Namespace/a"]);
        assert_eq!(problems, [""; 0]);
        assert_eq!(
            told(&folder.take(NOW, files(&[("x.yaml", Some(&both))]))).0,
            [""; 0]
        );
        let other_port = namespace("a") + &service("s", "81");
        let (changes, _) = told(&folder.take(NOW, files(&[("x.yaml", Some(&other_port))])));
        assert_eq!(changes, ["+Service/ns/s"]);
        let (changes, _) = told(&folder.take(NOW, files(&[("x.yaml", None)])));
        assert_eq!(changes, ["-Service/ns/s", "-Namespace/a"]);
    }

    #[test]
    fn a_document_that_became_bad_keeps_its_last_good_version() {
        let mut folder = folder();
        let good = namespace("a") + &service("s", "80");
        folder.take(NOW, files(&[("x.yaml", Some(&good))]));
        let bad = namespace("a") + &service("s", "[eighty]");
        let batch = folder.take(NOW, files(&[("x.yaml", Some(&bad))]));
        let (changes, problems) = told(&batch);
        assert_eq!(changes, [""; 0], "{batch:?}");
        assert!(problems.contains(&"last-good-version-kept"), "{problems:?}");
        // Broken in another way, it is still the last good one.
        let worse = namespace("a") + &service("s", "{}");
        assert_eq!(
            told(&folder.take(NOW, files(&[("x.yaml", Some(&worse))]))).0,
            [""; 0]
        );
        // Removed, it goes.
        let (changes, problems) = told(&folder.take(NOW, files(&[("x.yaml", Some(&namespace("a")))])));
        assert_eq!((changes, problems), (vec!["-Service/ns/s".to_owned()], vec![]));
    }

    #[test]
    fn text_that_is_no_yaml_keeps_everything_the_file_held() {
        let mut folder = folder();
        let good = namespace("a") + &service("s", "80");
        folder.take(NOW, files(&[("x.yaml", Some(&good))]));
        let broken = namespace("a") + "kind: [Service\n";
        let (changes, problems) = told(&folder.take(NOW, files(&[("x.yaml", Some(&broken))])));
        assert_eq!(changes, [""; 0]);
        assert!(problems.contains(&"last-good-version-kept"), "{problems:?}");
    }

    #[test]
    fn the_first_file_by_path_has_the_object_and_the_problem_names_both() {
        let mut folder = folder();
        let batch = folder.take(
            NOW,
            files(&[
                ("b.yaml", Some(&service("s", "81"))),
                ("a.yaml", Some(&service("s", "80"))),
            ]),
        );
        let [Change::Applied(parsed)] = &batch.changes[..] else {
            panic!("{batch:?}")
        };
        assert_eq!(parsed.file.to_str(), Some("/m/a.yaml"));
        let [problem] = &batch.problems[..] else {
            panic!("{batch:?}")
        };
        assert_eq!(problem.reason, "duplicate-object");
        assert!(problem.to_string().starts_with("/m/b.yaml:1: "), "{problem}");
        assert!(problem.message.contains("/m/a.yaml:1"), "{problem}");
        let (changes, problems) = told(&folder.take(NOW, files(&[("a.yaml", None)])));
        assert_eq!((changes, problems), (vec!["+Service/ns/s".to_owned()], vec![]));
    }

    #[test]
    fn a_good_version_elsewhere_wins_over_one_that_is_only_kept() {
        let mut folder = folder();
        folder.take(NOW, files(&[("a.yaml", Some(&service("s", "80")))]));
        folder.take(NOW, files(&[("a.yaml", Some("kind: [\n"))]));
        let batch = folder.take(NOW, files(&[("b.yaml", Some(&service("s", "81")))]));
        let [Change::Applied(parsed)] = &batch.changes[..] else {
            panic!("{batch:?}")
        };
        assert_eq!(parsed.file.to_str(), Some("/m/b.yaml"));
        assert!(
            batch.problems.iter().all(|p| p.reason != "duplicate-object"),
            "{batch:?}"
        );
    }

    #[test]
    fn what_can_not_be_read_keeps_its_objects() {
        let mut folder = folder();
        folder.take(NOW, files(&[("a.yaml", Some(&service("s", "80")))]));
        let path = Path::new(ROOT).join("a.yaml");
        let denied = Look::Files(vec![(path, Found::Unreadable("permission denied".to_owned()))]);
        let (changes, problems) = told(&folder.take(NOW, denied));
        assert_eq!((changes, problems), (vec![], vec!["file-unreadable"]));
        let batch = folder.take(NOW, Look::FolderUnreadable("no such folder".to_owned()));
        assert_eq!(batch.changes, []);
        assert!(batch.problems.iter().any(|p| p.reason == "folder-unreadable"));
        let (changes, problems) = told(&folder.take(NOW, files(&[("a.yaml", Some(&service("s", "80")))])));
        assert_eq!((changes, problems), (vec![], vec![]));
    }

    #[test]
    fn what_is_kept_is_told_with_its_first_moment_and_a_new_folder_goes_on_with_it() {
        let mut folder = folder();
        folder.take(
            NOW,
            files(&[("x.yaml", Some(&(service("s", "80") + &service("t", "80"))))]),
        );
        let bad = service("s", "[eighty]") + &service("t", "81");
        let batch = folder.take(NOW + 60, files(&[("x.yaml", Some(&bad))]));
        let kept: Vec<(String, u64)> = batch
            .kept
            .iter()
            .map(|k| (k.parsed.reference.to_string(), k.since))
            .collect();
        assert_eq!(kept, [("Service/ns/s".to_owned(), NOW + 60)]);
        let worse = service("s", "{}") + &service("t", "81");
        let batch = folder.take(NOW + 90, files(&[("x.yaml", Some(&worse))]));
        assert_eq!(batch.kept[0].since, NOW + 60);

        // A restart: everything is read anew.
        let written: Vec<_> = batch.kept.iter().filter_map(Kept::document).collect();
        let again = || -> Vec<Kept> { written.iter().filter_map(Kept::read).collect() };
        let mut next = self::folder();
        next.resume(again());
        let batch = next.take(NOW + 120, files(&[("x.yaml", Some(&worse))]));
        let (changes, problems) = told(&batch);
        assert_eq!(changes, ["+Service/ns/s", "+Service/ns/t"]);
        assert!(problems.contains(&"last-good-version-kept"), "{problems:?}");
        assert_eq!(batch.kept[0].since, NOW + 60);
        let since = "its last good version stays in force since 2023-11-14T22:14:20Z";
        assert!(
            batch.problems.iter().any(|p| p.message.contains(since)),
            "{batch:?}"
        );

        // Gone meanwhile, or sound: nothing is kept.
        for text in [None, Some(service("s", "82"))] {
            let mut next = self::folder();
            next.resume(again());
            let batch = next.take(NOW, files(&[("x.yaml", text.as_deref())]));
            assert_eq!(batch.kept, []);
            assert_eq!(told(&batch).0.len(), usize::from(text.is_some()));
        }
    }
}
