//! The txtar format: a text comment, then files, each after a line `-- name --`. One such archive is one
//! test case; [`run`] plays every archive of a folder and compares it with what the machine really did.
//!
//! ```text
//! what this case shows
//! -- config --
//! ...
//! -- dialogue --
//! ...
//! ```

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};

/// A comment and files in order. `parse` and `Display` are inverse for every text whose files end in a
/// newline.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Archive {
    pub comment: String,
    pub files: Vec<File>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub name: String,
    /// Empty, or ends in a newline.
    pub data: String,
}

impl Archive {
    /// Every text is an archive: lines before the first marker are the comment.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut archive = Self::default();
        for line in text.lines() {
            if let Some(name) = marker(line) {
                archive.files.push(File {
                    name: name.to_owned(),
                    data: String::new(),
                });
                continue;
            }
            let target = match archive.files.last_mut() {
                Some(file) => &mut file.data,
                None => &mut archive.comment,
            };
            target.push_str(line);
            target.push('\n');
        }
        archive
    }

    /// The data of the first file with this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.files
            .iter()
            .find(|f| f.name == name)
            .map(|f| f.data.as_str())
    }

    /// Replaces the file with this name, or appends it.
    pub fn set(&mut self, name: &str, data: &str) {
        let mut data = data.to_owned();
        if !data.is_empty() && !data.ends_with('\n') {
            data.push('\n');
        }
        match self.files.iter_mut().find(|f| f.name == name) {
            Some(file) => file.data = data,
            None => self.files.push(File {
                name: name.to_owned(),
                data,
            }),
        }
    }
}

impl fmt::Display for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.comment)?;
        for file in &self.files {
            writeln!(f, "-- {} --", file.name)?;
            f.write_str(&file.data)?;
        }
        Ok(())
    }
}

/// Plays every `*.txtar` directly under `dir`, in name order. `play` returns the archive with what really
/// happened written into it; where that differs from the file, the case fails with a diff. With the
/// environment variable `UPDATE=1` the files are rewritten instead. `ONLY=text` plays the cases whose
/// file name contains the text.
///
/// # Errors
/// Names every case that failed; also when there is no case at all, or a file can't be read or written.
pub fn run(dir: &Path, play: impl FnMut(&Archive) -> anyhow::Result<Archive>) -> anyhow::Result<()> {
    let found = if std::env::var_os("UPDATE").is_some_and(|v| v == "1") {
        Difference::Rewritten
    } else {
        Difference::Failure
    };
    let only = std::env::var("ONLY").unwrap_or_default();
    play_all(dir, found, &only, play)
}

/// What a difference leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Difference {
    Failure,
    Rewritten,
}

fn play_all(
    dir: &Path,
    difference: Difference,
    only: &str,
    mut play: impl FnMut(&Archive) -> anyhow::Result<Archive>,
) -> anyhow::Result<()> {
    let paths = cases(dir)?;
    ensure!(!paths.is_empty(), "no *.txtar in {}", dir.display());
    let mut failed = Vec::new();
    for path in paths {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if !name.contains(only) {
            continue;
        }
        let before = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        match play(&Archive::parse(&before)) {
            Err(error) => {
                eprintln!("{name}: {error:#}");
                failed.push(name);
            }
            Ok(after) => {
                let after = after.to_string();
                if after == before {
                    continue;
                }
                match difference {
                    Difference::Rewritten => {
                        fs::write(&path, &after).with_context(|| format!("writing {}", path.display()))?;
                        eprintln!("{name}: rewritten");
                    }
                    Difference::Failure => {
                        eprintln!(
                            "{name}: differs (- expected, + really)\n{}",
                            diff(&before, &after)
                        );
                        failed.push(name);
                    }
                }
            }
        }
    }
    if !failed.is_empty() {
        bail!(
            "{} failed: {}; UPDATE=1 rewrites expectations",
            failed.len(),
            failed.join(", ")
        );
    }
    Ok(())
}

/// A line diff with three lines of context: `-` only in `old`, `+` only in `new`.
#[must_use]
pub fn diff(old: &str, new: &str) -> String {
    let old: Vec<&str> = old.lines().collect();
    let new: Vec<&str> = new.lines().collect();
    // Longest common subsequence, from the ends: table[i][j] is that of old[i..] and new[j..].
    let mut table = vec![vec![0_u32; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            table[i][j] = if old[i] == new[j] {
                table[i + 1][j + 1] + 1
            } else {
                table[i + 1][j].max(table[i][j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut lines = Vec::new();
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            lines.push((' ', old[i]));
            i += 1;
            j += 1;
        } else if j == new.len() || (i < old.len() && table[i + 1][j] >= table[i][j + 1]) {
            lines.push(('-', old[i]));
            i += 1;
        } else {
            lines.push(('+', new[j]));
            j += 1;
        }
    }
    let mut shown = String::new();
    let mut gap = false;
    for (at, (sign, line)) in lines.iter().enumerate() {
        let near = lines[at.saturating_sub(3)..(at + 4).min(lines.len())]
            .iter()
            .any(|(sign, _)| *sign != ' ');
        if near {
            shown.push_str(&format!("{sign} {line}\n"));
        } else if !gap {
            shown.push_str("  ...\n");
        }
        gap = !near;
    }
    shown
}

fn marker(line: &str) -> Option<&str> {
    let name = line.strip_prefix("-- ")?.strip_suffix(" --")?.trim();
    (!name.is_empty()).then_some(name)
}

fn cases(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "txtar") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "a case\n\n-- config --\nasn 65001\n-- empty --\n-- dialogue --\n> x\n--not a marker--\n";

    #[test]
    fn archive_is_read_and_written_back_unchanged() {
        let archive = Archive::parse(TEXT);
        assert_eq!(archive.comment, "a case\n\n");
        assert_eq!(archive.get("config"), Some("asn 65001\n"));
        assert_eq!(archive.get("empty"), Some(""));
        assert_eq!(archive.get("dialogue"), Some("> x\n--not a marker--\n"));
        assert_eq!(archive.get("none"), None);
        assert_eq!(archive.to_string(), TEXT);
    }

    #[test]
    fn set_replaces_in_place_and_appends_what_is_new() {
        let mut archive = Archive::parse(TEXT);
        archive.set("config", "asn 2");
        archive.set("status", "up\n");
        assert_eq!(archive.get("config"), Some("asn 2\n"));
        assert_eq!(archive.files[0].name, "config");
        assert_eq!(archive.files[3].name, "status");
    }

    #[test]
    fn diff_shows_both_sides_and_leaves_out_what_is_far() {
        let old = "1\n2\n3\n4\n5\n6\n7\n8\n9\n";
        let new = "1\n2\n3\n4\n5\n6\n7\neight\n9\n";
        assert_eq!(diff(old, new), "  ...\n  5\n  6\n  7\n- 8\n+ eight\n  9\n");
        assert_eq!(diff(old, old), "  ...\n");
    }

    #[test]
    fn run_names_the_cases_that_differ() {
        let dir = std::env::temp_dir().join(format!("stentor-txtar-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("same.txtar"), "-- a --\n1\n").unwrap();
        fs::write(dir.join("other.txtar"), "-- a --\n2\n").unwrap();
        let error = run(&dir, |_| Ok(Archive::parse("-- a --\n1\n")))
            .unwrap_err()
            .to_string();
        fs::remove_dir_all(&dir).unwrap();
        // Under UPDATE=1 nothing fails, so this claim is only about the plain run.
        assert!(error.contains("1 failed: other.txtar"), "{error}");
    }
}
