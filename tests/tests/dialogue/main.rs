//! Dialogues: what a speaker says to what it is told, in virtual time. One archive of `tests/dialogue` is one
//! case; `UPDATE=1` writes down what really happens, `ONLY=text` plays the cases with this text in their name.
//!
//! ```text
//! -- config --
//! instance main as=65000 id=10.0.0.1 listen=179
//! peer tor address=10.0.0.2 as=65001
//! -- dialogue --
//! > configure config
//! < listen main 179
//! < dial d0 to 10.0.0.2:179 ...
//! > connected d0
//! > +30s
//! ```
//!
//! `>` is what happens to the speaker (see [`say`]), `<` what it does then (see [`show`]), `#` a remark.
//! What happens while time passes carries the time since the beginning.
#![allow(clippy::unwrap_used, reason = "a test says what it expects")]

mod config;
mod say;
mod show;
mod words;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bgp_speaker::speaker::{ConnId, Input, Output, Speaker, Start};
use bgp_speaker::wire::Framer;
use stentor_tests::txtar::{self, Archive};

use words::Words;

#[test]
fn dialogues_go_as_written() -> anyhow::Result<()> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("dialogue");
    txtar::run(&dir, play)
}

fn play(archive: &Archive) -> anyhow::Result<Archive> {
    let script = archive.get("dialogue").context("no file named dialogue")?;
    let mut stage = Stage::new(archive);
    let mut written = String::new();
    for (number, line) in script.lines().enumerate() {
        if line.starts_with('<') {
            continue;
        }
        written.push_str(line);
        written.push('\n');
        if let Some(said) = line.strip_prefix('>') {
            stage
                .say(said)
                .with_context(|| format!("line {}: {line}", number + 1))?;
            for shown in stage.shown.drain(..) {
                written.push_str("< ");
                written.push_str(shown.trim_end());
                written.push('\n');
            }
        }
    }
    let mut after = archive.clone();
    after.set("dialogue", &written);
    Ok(after)
}

/// A speaker and the world around it.
pub(crate) struct Stage<'a> {
    archive: &'a Archive,
    speaker: Speaker,
    began: Instant,
    now: Instant,
    lines: BTreeMap<ConnId, Line>,
    /// What the speaker did since the last thing it was told.
    shown: Vec<String>,
}

/// One connection, from its first mention on.
pub(crate) struct Line {
    remote: SocketAddr,
    /// Cuts what the speaker sends into messages.
    framer: Framer,
    acks: Acks,
    /// ASNs of both OPENs, and whether both had the 4-octet capability.
    ours: Option<(u32, bool)>,
    theirs: Option<(u32, bool)>,
}

/// Whether the kernel takes what is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acks {
    AtOnce,
    Stalled,
}

impl Line {
    pub(crate) fn new(remote: SocketAddr) -> Self {
        let mut framer = Framer::new();
        framer.set_limit(65535);
        Self {
            remote,
            framer,
            acks: Acks::AtOnce,
            ours: None,
            theirs: None,
        }
    }
}

impl<'a> Stage<'a> {
    fn new(archive: &'a Archive) -> Self {
        let now = Instant::now();
        Self {
            archive,
            speaker: Speaker::new(1, Start::Cold),
            began: now,
            now,
            lines: BTreeMap::new(),
            shown: Vec::new(),
        }
    }

    fn say(&mut self, text: &str) -> anyhow::Result<()> {
        let words = Words::new(text)?;
        if let Some(time) = words.first().strip_prefix('+') {
            self.pass(parse_duration(time)?);
            return Ok(());
        }
        say::say(self, &words)
    }

    /// One input, and the acknowledgements of what it made the speaker send.
    fn give(&mut self, input: Input) {
        self.give_at("", input);
    }

    fn give_at(&mut self, at: &str, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let mut out = Vec::new();
            self.speaker.handle(self.now, input, &mut out);
            for output in out {
                if let Output::Send { conn, bytes } = &output
                    && self.lines.get(conn).is_some_and(|l| l.acks == Acks::AtOnce)
                {
                    inputs.push(Input::Sent {
                        conn: *conn,
                        bytes: bytes.len(),
                    });
                }
                for line in show::output(&output, &mut self.lines) {
                    self.shown.push(format!("{at}{line}"));
                }
                if let Output::Close { conn, .. } = output {
                    self.lines.remove(&conn);
                }
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        let mut same_instant = 0;
        while let Some(at) = self.speaker.next_timeout().filter(|at| *at <= end) {
            same_instant = if at <= self.now { same_instant + 1 } else { 0 };
            assert!(same_instant < 100, "time does not pass: a timer stays due");
            self.now = self.now.max(at);
            let at = format!("{:>9.3}s  ", (self.now - self.began).as_secs_f64());
            self.give_at(&at, Input::TimedOut);
        }
        self.now = end;
    }

    fn line(&mut self, conn: ConnId) -> anyhow::Result<&mut Line> {
        self.lines
            .get_mut(&conn)
            .with_context(|| format!("{} is not open", show::conn(conn)))
    }
}

/// `d0` is the first the speaker dialled, `a0` the first it accepted.
fn parse_conn(text: &str) -> anyhow::Result<ConnId> {
    if let Some(number) = text.strip_prefix('d') {
        return Ok(ConnId::Dialled(number.parse()?));
    }
    if let Some(number) = text.strip_prefix('a') {
        return Ok(ConnId::Accepted(number.parse()?));
    }
    bail!("{text} is no connection")
}

fn parse_duration(text: &str) -> anyhow::Result<Duration> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let number: u64 = number.parse()?;
    Ok(match unit {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(60 * number),
        "h" => Duration::from_secs(3600 * number),
        _ => bail!("{text} is no time"),
    })
}

fn address(text: &str) -> anyhow::Result<IpAddr> {
    text.parse().with_context(|| format!("{text} is no address"))
}
