//! A wall clock that can be set while programs read it, and is nobody else's.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

/// The loader puts the folder of the machine's libraries for `$LIB`.
const LIBRARY: &str = "/usr/$LIB/faketime/libfaketimeMT.so.1";

/// What programs under it take for the time of the day. How long something lasts (`CLOCK_MONOTONIC`) stays true for them.
#[derive(Debug)]
pub struct Clock {
    folder: tempfile::TempDir,
}

impl Clock {
    /// One that is right.
    ///
    /// # Errors
    /// There is no room for its file.
    pub fn new() -> Result<Self> {
        let clock = Self {
            folder: tempfile::tempdir()?,
        };
        clock.set("+0")?;
        Ok(clock)
    }

    /// Sets it so far ahead (`+2h`) or behind (`-10m`).
    ///
    /// # Errors
    /// There is no room for its file.
    pub fn set(&self, off: &str) -> Result<()> {
        // Whole or not at all: it is read whenever somebody asks for the time.
        let next = self.folder.path().join("next");
        fs::write(&next, off)?;
        Ok(fs::rename(next, self.file())?)
    }

    /// A program that is started by this command reads this clock.
    pub fn rule(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", LIBRARY)
            .env("FAKETIME_TIMESTAMP_FILE", self.file())
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("NO_FAKE_STAT", "1");
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("off")
    }
}
