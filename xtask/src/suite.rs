//! Suites of tests: running them side by side and counting what they say.

use std::fmt;
use std::fs::{self, File};
use std::iter::Sum;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::step;

/// No suite needs nearly as long; one that does hangs.
const LIMIT: Duration = Duration::from_mins(15);

/// How tests went. Its text is the last line of `cargo xtask test`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
    pub(crate) skipped: u32,
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }
}

impl Sum for Count {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |a, b| Self {
            passed: a.passed + b.passed,
            failed: a.failed + b.failed,
            skipped: a.skipped + b.skipped,
        })
    }
}

/// One program that tests.
#[derive(Debug)]
pub(crate) struct Suite {
    pub(crate) name: String,
    pub(crate) command: Command,
}

/// Runs suites, as many at a time as there are processors, and says how each went.
pub(crate) fn run_all(suites: Vec<Suite>) -> Result<Count> {
    let width = thread::available_parallelism().map_or(1, usize::from);
    let total = suites.len();
    let queue = Mutex::new(suites.into_iter());
    let done = AtomicUsize::new(0);
    let work = || -> Result<Vec<Count>> {
        let mut counts = Vec::new();
        while let Some(suite) = { queue.lock().expect("no suite panics here").next() } {
            let name = suite.name.clone();
            let start = Instant::now();
            let (count, log) = run(suite)?;
            let number = done.fetch_add(1, Ordering::Relaxed) + 1;
            let verdict = if count.failed == 0 { "ok" } else { "FAILED" };
            println!(
                "[{number}/{total}] {verdict:6} {name}: {count} ({})",
                step::seconds(start)
            );
            if count.failed > 0 {
                println!(
                    "{}\n(all of it: {})",
                    tail(&fs::read_to_string(&log).unwrap_or_default()),
                    log.display()
                );
            }
            counts.push(count);
        }
        Ok(counts)
    };
    let counts: Result<Vec<Vec<Count>>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..width).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .map(|worker| worker.join().expect("a worker does not panic"))
            .collect()
    });
    Ok(counts?.into_iter().flatten().sum())
}

/// Runs one suite to its end. Its output is in the file returned.
fn run(mut suite: Suite) -> Result<(Count, PathBuf)> {
    let folder = step::root().join("target/suites");
    fs::create_dir_all(&folder)?;
    let name: String = suite
        .name
        .chars()
        .map(|c| if c.is_alphanumeric() { c } else { '-' })
        .collect();
    let path = folder.join(name + ".log");
    let log = File::create(&path).with_context(|| format!("create {}", path.display()))?;
    let mut child = suite
        .command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot start {}", step::show(&suite.command)))?;
    let ended = lab::until(LIMIT, "the suite", || match child.try_wait() {
        Ok(Some(status)) => Ok(Ok(status)),
        Ok(None) => Err("it runs".into()),
        Err(error) => Ok(Err(error)),
    });
    let succeeded = match ended {
        Ok(status) => status?.success(),
        Err(overdue) => {
            child.kill()?;
            child.wait()?;
            fs::write(
                &path,
                format!("{}\n{overdue}\n", fs::read_to_string(&path).unwrap_or_default()),
            )?;
            false
        }
    };
    let text = fs::read_to_string(&path).unwrap_or_default();
    Ok((count(&text, succeeded), path))
}

/// Reads the counts out of what a suite printed.
///
/// Known are libtest's `test result:` lines and our own `N passed, N failed, N skipped`. A test that cannot run
/// here says `skipped: why` on a line of its own and returns; it counts as skipped, not as passed. A suite that
/// prints no counts is one test, its exit status the result; a suite that dies has at least one failure.
pub(crate) fn count(text: &str, succeeded: bool) -> Count {
    let mut sum: Count = text.lines().filter_map(count_of_line).sum();
    let skips = u32::try_from(text.lines().filter(|line| line.starts_with("skipped: ")).count()).unwrap_or(0);
    let skips = skips.min(sum.passed);
    sum.passed -= skips;
    sum.skipped += skips;
    if sum == Count::default() && succeeded && !text.contains("test result:") {
        sum.passed = 1;
    }
    if sum.failed == 0 && !succeeded {
        sum.failed = 1;
    }
    sum
}

fn count_of_line(line: &str) -> Option<Count> {
    let number = |word: &str| {
        let before = line
            .split([',', ';', '.', ':'])
            .find_map(|part| part.trim().strip_suffix(word));
        before.and_then(|number| number.trim().parse::<u32>().ok())
    };
    if line.starts_with("test result: ") {
        return Some(Count {
            passed: number("passed")?,
            failed: number("failed")?,
            skipped: number("ignored")?,
        });
    }
    let ours =
        line.trim_end().ends_with(" skipped") && line.contains(" passed, ") && line.contains(" failed, ");
    if !ours {
        return None;
    }
    Some(Count {
        passed: number("passed")?,
        failed: number("failed")?,
        skipped: number("skipped")?,
    })
}

/// The end of a long text, where the reasons are.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(80)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtest_lines_are_summed() {
        let text = "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
                    test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(
            count(text, false),
            Count {
                passed: 4,
                failed: 2,
                skipped: 1
            }
        );
    }

    #[test]
    fn our_own_line_is_read_with_and_without_a_name() {
        let expected = Count {
            passed: 12,
            failed: 0,
            skipped: 1,
        };
        assert_eq!(count("fuzz: 12 passed, 0 failed, 1 skipped\n", true), expected);
        assert_eq!(count("12 passed, 0 failed, 1 skipped", true), expected);
    }

    #[test]
    fn a_test_that_says_it_skipped_is_not_counted_as_passed() {
        let text = "skipped: no FRR here\ntest result: ok. 2 passed; 0 failed; 0 ignored; 0 measured";
        assert_eq!(
            count(text, true),
            Count {
                passed: 1,
                failed: 0,
                skipped: 1
            }
        );
    }

    #[test]
    fn a_suite_that_dies_has_failed_whatever_it_printed() {
        assert_eq!(
            count("", false),
            Count {
                passed: 0,
                failed: 1,
                skipped: 0
            }
        );
        let text = "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured";
        assert_eq!(
            count(text, false),
            Count {
                passed: 2,
                failed: 1,
                skipped: 0
            }
        );
    }

    #[test]
    fn an_empty_suite_has_no_tests() {
        let text = "test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured";
        assert_eq!(count(text, true), Count::default());
    }
}
