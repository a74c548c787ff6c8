//! The test's end of a speaker under test.

use std::io::{BufRead, BufReader, Write};
use std::net::IpAddr;
use std::path::Path;
use std::process::{ChildStdin, ChildStdout};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use lab::router::Seen;
use lab::{Netns, Process, until};
use nix::sys::signal::Signal;

use super::{Happening, Order, PeerState, Said, Wish};

/// How long an answer may take. The speaker answers from memory; this is for a machine under load.
const ANSWER_LIMIT: Duration = Duration::from_mins(1);

/// How long a speaker that was told to end may take.
const END_LIMIT: Duration = Duration::from_mins(1);

/// A speaker that runs (or ran) in a node. Dropping it kills it.
#[derive(Debug)]
pub struct Subject {
    process: Process,
    stdin: Option<ChildStdin>,
    answers: Receiver<Said>,
    past: Arc<Past>,
    reader: Option<JoinHandle<()>>,
}

/// Everything that happened, in order, with the time it was heard of.
#[derive(Debug, Default)]
struct Past {
    events: Mutex<Vec<(Instant, Happening)>>,
    grown: Condvar,
}

/// A position in what happened: [`Subject::happens`] looks from there on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(usize);

impl Moment {
    /// Before anything happened.
    pub const BEGINNING: Self = Self(0);
}

impl Subject {
    /// Starts the program `binary` in a node and gives it its first wish.
    ///
    /// # Errors
    /// It can't be started or refuses the wish.
    pub fn start(node: &Netns, binary: &Path, wish: &Wish) -> Result<Self> {
        Self::begin(node, binary, "cold", wish)
    }

    /// Starts it as one whose predecessor's routes the peers may still hold.
    ///
    /// # Errors
    /// As [`Subject::start`].
    pub fn start_again(node: &Netns, binary: &Path, wish: &Wish) -> Result<Self> {
        Self::begin(node, binary, "restarted", wish)
    }

    fn begin(node: &Netns, binary: &Path, start: &str, wish: &Wish) -> Result<Self> {
        let binary = binary.to_str().context("the path of the subject is no text")?;
        let (process, stdin, stdout) = node.converse(&[binary, start])?;
        let past = Arc::new(Past::default());
        let (sender, answers) = sync_channel(1);
        let reader = thread::spawn({
            let past = Arc::clone(&past);
            move || read(stdout, &past, &sender)
        });
        let mut subject = Self {
            process,
            stdin: Some(stdin),
            answers,
            past,
            reader: Some(reader),
        };
        subject.configure(wish)?;
        Ok(subject)
    }

    /// # Errors
    /// The wish is refused.
    pub fn configure(&mut self, wish: &Wish) -> Result<()> {
        self.done(&Order::Configure(wish.clone()))
    }

    /// Gives an order whose answer is [`Said::Done`].
    ///
    /// # Errors
    /// It is refused, or the speaker has ended.
    pub fn done(&mut self, order: &Order) -> Result<()> {
        match self.say(order)? {
            Said::Done => Ok(()),
            other => bail!("{order:?} was answered with {other:?}"),
        }
    }

    /// # Errors
    /// The speaker has ended.
    pub fn peers(&mut self) -> Result<Vec<PeerState>> {
        match self.say(&Order::Peers)? {
            Said::Peers(peers) => Ok(peers),
            other => bail!("a question for peers was answered with {other:?}"),
        }
    }

    /// # Errors
    /// The speaker has ended, or there is no such peer.
    pub fn peer(&mut self, address: IpAddr) -> Result<PeerState> {
        let peers = self.peers()?;
        let found = peers.iter().find(|peer| peer.address == address);
        found
            .cloned()
            .with_context(|| format!("no peer {address} in {peers:?}"))
    }

    /// Routes received from a neighbour and not refused, in order of prefix.
    ///
    /// # Errors
    /// The speaker has ended.
    pub fn received(&mut self, neighbor: IpAddr) -> Result<Vec<Seen>> {
        match self.say(&Order::Received(neighbor))? {
            Said::Routes(mut routes) => {
                routes.sort_by_key(|route| route.prefix);
                Ok(routes)
            }
            other => bail!("a question for routes was answered with {other:?}"),
        }
    }

    fn say(&mut self, order: &Order) -> Result<Said> {
        let mut line = serde_json::to_string(order)?;
        line.push('\n');
        let stdin = self.stdin.as_mut().context("the subject was told to end")?;
        let written = stdin.write_all(line.as_bytes());
        written.with_context(|| format!("the subject has ended:\n{}", self.process.log()))?;
        match self.answers.recv_timeout(ANSWER_LIMIT) {
            Ok(answer) => Ok(answer),
            Err(RecvTimeoutError::Timeout) => {
                bail!("no answer in {ANSWER_LIMIT:?}:\n{}", self.process.log())
            }
            Err(RecvTimeoutError::Disconnected) => {
                bail!("the subject ended instead of answering:\n{}", self.process.log())
            }
        }
    }

    /// The present: what happens after it can be waited for.
    #[must_use]
    pub fn now(&self) -> Moment {
        Moment(self.events(<[_]>::len))
    }

    fn events<T>(&self, read: impl FnOnce(&[(Instant, Happening)]) -> T) -> T {
        read(&self.past.events.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether something has happened after `since`.
    pub fn happened(&self, since: Moment, wanted: impl FnMut(&Happening) -> bool) -> bool {
        self.events(|events| {
            let later = events.get(since.0..).unwrap_or_default();
            later.iter().map(|(_, event)| event).any(wanted)
        })
    }

    /// Waits for something to happen after `since`. Returns when it was heard of, and the moment after it.
    ///
    /// # Errors
    /// It has not happened after `limit`; the error tells what did.
    pub fn happens(
        &self,
        what: &str,
        since: Moment,
        limit: Duration,
        mut wanted: impl FnMut(&Happening) -> bool,
    ) -> Result<(Instant, Moment)> {
        let deadline = Instant::now() + limit;
        let mut events = self.past.events.lock().unwrap_or_else(PoisonError::into_inner);
        let mut position = since.0;
        loop {
            while let Some((at, event)) = events.get(position) {
                position += 1;
                if wanted(event) {
                    return Ok((*at, Moment(position)));
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let seen = events.get(since.0..).unwrap_or_default();
                let seen: Vec<_> = seen.iter().map(|(_, event)| format!("{event:?}")).collect();
                bail!(
                    "waited {limit:?} for {what}; what happened: {}\n{}",
                    seen.join("\n  "),
                    self.process.log()
                );
            }
            let woken = self.past.grown.wait_timeout(events, left);
            events = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until the session with a neighbour is established: now, or after `since` when it went down then.
    ///
    /// # Errors
    /// It is not after `limit`.
    pub fn establishes(&self, neighbor: IpAddr, since: Moment, limit: Duration) -> Result<(Instant, Moment)> {
        self.happens("Established", since, limit, |event| {
            matches!(event, Happening::State { peer, to, .. } if *peer == neighbor && to == "Established")
        })
    }

    /// Waits until the session with a neighbour is lost. Returns when, why, and the moment after.
    ///
    /// # Errors
    /// It still stands after `limit`.
    pub fn loses(
        &self,
        neighbor: IpAddr,
        since: Moment,
        limit: Duration,
    ) -> Result<(Instant, String, Moment)> {
        let mut reason = String::new();
        let (at, after) = self.happens("the loss of the session", since, limit, |event| match event {
            Happening::State { peer, from, why, .. } if *peer == neighbor && from == "Established" => {
                reason = why.clone().unwrap_or_default();
                true
            }
            Happening::State { .. } | Happening::EndOfRib { .. } | Happening::Other(_) => false,
        })?;
        Ok((at, reason, after))
    }

    /// Waits until the routes received from a neighbour are as wanted, and returns them.
    ///
    /// # Errors
    /// They are not after `limit`.
    pub fn receives(
        &mut self,
        neighbor: IpAddr,
        what: &str,
        limit: Duration,
        mut wanted: impl FnMut(&[Seen]) -> bool,
    ) -> Result<Vec<Seen>> {
        let found = until(limit, format!("{what} from {neighbor}"), || {
            let routes = self.received(neighbor).map_err(|error| error.to_string())?;
            match wanted(&routes) {
                true => Ok(routes),
                false => Err(format!("{routes:?}")),
            }
        });
        Ok(found?)
    }

    /// # Errors
    /// It has ended.
    pub fn freeze(&mut self) -> Result<()> {
        Ok(self.process.signal(Signal::SIGSTOP)?)
    }

    /// # Errors
    /// It has ended.
    pub fn thaw(&mut self) -> Result<()> {
        Ok(self.process.signal(Signal::SIGCONT)?)
    }

    /// Kills it at once (SIGKILL). It says nothing to anybody.
    pub fn kill(mut self) {
        self.process.kill();
    }

    /// Tells it to end and waits until it has.
    ///
    /// # Errors
    /// It does not end, or not well.
    pub fn end(mut self, order: &Order) -> Result<()> {
        self.done(order)?;
        drop(self.stdin.take());
        let status = self.process.wait(END_LIMIT)?;
        if !status.success() {
            bail!("the subject ended with {status}:\n{}", self.process.log());
        }
        Ok(())
    }

    /// Resident memory in bytes, now.
    ///
    /// # Errors
    /// It has ended.
    pub fn resident(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.process.pid());
        let status = std::fs::read_to_string(&path).with_context(|| path.clone())?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes: u64 = line
            .and_then(|line| line.trim().strip_suffix(" kB"))
            .and_then(|number| number.parse().ok())
            .with_context(|| format!("no VmRSS in {path}"))?;
        Ok(kilobytes * 1024)
    }

    /// As the machine numbers it.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.process.pid().as_raw()
    }

    /// What it wrote to stderr.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        self.process.kill();
        drop(self.stdin.take());
        if let Some(reader) = self.reader.take() {
            // It ended with the pipe.
            let _ = reader.join();
        }
    }
}

/// Sorts what the speaker says into answers and happenings, until it ends.
fn read(stdout: ChildStdout, past: &Past, answers: &SyncSender<Said>) {
    for line in BufReader::new(stdout).lines() {
        let Ok(line) = line else { return };
        let said =
            serde_json::from_str(&line).unwrap_or_else(|error| Said::Refused(format!("{error} in {line}")));
        match said {
            Said::Happened(event) => {
                let mut events = past.events.lock().unwrap_or_else(PoisonError::into_inner);
                events.push((Instant::now(), event));
                past.grown.notify_all();
            }
            answer @ (Said::Done | Said::Peers(_) | Said::Routes(_) | Said::Refused(_)) => {
                if answers.send(answer).is_err() {
                    return;
                }
            }
        }
    }
}
