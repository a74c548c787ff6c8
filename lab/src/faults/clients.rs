//! Clients that ask again and again, each time over a connection of its own, and take note of what came of it.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::requests::{Pods, read};
use crate::{Error, Handle, until};

/// For each address.
const CLIENTS: usize = 4;
/// Who has no answer by then has failed. A connection that is not accepted at first is asked for again after 1, 3 and 7
/// seconds.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between a client's answer and its next question: what a busy person needs.
const BREATH: Duration = Duration::from_millis(10);
const PORT: u16 = 80;

/// Threads of this process, in the network of a node.
pub(super) struct Clients {
    threads: Vec<JoinHandle<()>>,
    shared: Arc<Shared>,
    /// All tallies so far.
    sum: Mutex<Tally>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// Answers to each client.
    answers: Vec<AtomicU64>,
    /// Since it was last asked for.
    tally: Mutex<Tally>,
}

/// What came of requests.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    by_pod: BTreeMap<String, u64>,
    failed: Vec<Failure>,
    slowest: Duration,
}

/// Which requests may fail.
#[derive(Clone, Debug)]
pub(super) enum Excuse {
    None,
    /// Those that were under way while a node died, and until the others knew.
    Dead(RangeInclusive<Instant>),
    /// Those that were reset while routes moved.
    Moved(RangeInclusive<Instant>),
}

#[derive(Clone, Debug)]
struct Failure {
    to: IpAddr,
    began: Instant,
    ended: Instant,
    why: Arc<io::Error>,
}

impl Clients {
    /// In a node, for each of the addresses.
    pub(super) fn start(node: &Handle, to: &[IpAddr], pods: Pods) -> Result<Self, Error> {
        let places: Vec<IpAddr> = to.iter().flat_map(|to| [*to; CLIENTS]).collect();
        let shared = Arc::new(Shared {
            answers: places.iter().map(|_| AtomicU64::new(0)).collect(),
            ..Shared::default()
        });
        let threads = node.run(|| {
            // A thread is in the network of the one that started it.
            let start = |(number, to): (usize, &IpAddr)| {
                let (shared, to) = (Arc::clone(&shared), *to);
                thread::spawn(move || shared.ask(number, to, pods))
            };
            places.iter().enumerate().map(start).collect()
        })?;
        Ok(Self {
            threads,
            shared,
            sum: Mutex::default(),
        })
    }

    pub(super) fn count(&self) -> usize {
        self.threads.len()
    }

    /// Until each client got so many more answers.
    pub(super) fn go_on(&self, enough: u64, limit: Duration) -> Result<(), Error> {
        let now = || -> Vec<u64> {
            self.shared
                .answers
                .iter()
                .map(|count| count.load(Ordering::Relaxed))
                .collect()
        };
        let before = now();
        let waited = until(limit, "all clients to be answered again and again", || {
            let missing = now()
                .iter()
                .zip(&before)
                .filter(|(now, before)| **now < **before + enough)
                .count();
            if missing == 0 {
                Ok(())
            } else {
                Err(format!("{missing} clients without; {:?}", self.shared.tally()))
            }
        });
        Ok(waited?)
    }

    /// What came of requests since the last look.
    pub(super) fn tally(&self) -> Tally {
        let tally = std::mem::take(&mut *self.shared.tally());
        self.sum
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .add(&tally);
        tally
    }

    /// Lets each client end what it is at; returns all there was.
    pub(super) fn stop(mut self) -> Tally {
        self.join();
        self.tally();
        self.sum.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn join(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                eprintln!("a client panicked");
            }
        }
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.join();
    }
}

impl Shared {
    fn tally(&self) -> std::sync::MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, number: usize, to: IpAddr, pods: Pods) {
        while !self.stop.load(Ordering::Relaxed) {
            let began = Instant::now();
            let got = get(to, pods);
            let ended = Instant::now();
            let mut tally = self.tally();
            tally.slowest = tally.slowest.max(ended - began);
            match got {
                Ok(pod) => {
                    *tally.by_pod.entry(pod).or_default() += 1;
                    if let Some(answers) = self.answers.get(number) {
                        answers.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Err(error) => tally.failed.push(Failure {
                    to,
                    began,
                    ended,
                    why: Arc::new(error),
                }),
            }
            drop(tally);
            thread::park_timeout(BREATH);
        }
    }
}

/// The pod that answered.
fn get(to: IpAddr, pods: Pods) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(to, PORT), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /hostname HTTP/1.1\r\nHost: vip\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let last = text.lines().last().filter(|_| text.starts_with("HTTP/1.1 200 "));
    let pod = match pods {
        Pods::Echo => last.and_then(read).map(|answer| answer.pod),
        Pods::Agnhost => last.filter(|name| !name.is_empty()).map(str::to_owned),
    };
    pod.ok_or_else(|| io::Error::other(format!("not a pod's answer: {text:?}")))
}

impl Tally {
    fn add(&mut self, other: &Self) {
        for (pod, count) in &other.by_pod {
            *self.by_pod.entry(pod.clone()).or_default() += count;
        }
        self.failed.extend(other.failed.iter().cloned());
        self.slowest = self.slowest.max(other.slowest);
    }

    fn answered(&self) -> u64 {
        self.by_pod.values().sum()
    }

    /// For people: those that failed while they were with `whom`, and the others.
    pub(super) fn with(&self, excuse: &Excuse, why: &str) -> String {
        let failed = self.failed.len();
        let excused = self
            .failed
            .iter()
            .filter(|failure| excuse.covers(failure))
            .count();
        let requests = self.answered() + u64::try_from(failed).unwrap_or(u64::MAX);
        format!(
            "{requests} requests, {} answered (slowest {:.2} s), {excused} failed that {why}, {} others failed",
            self.answered(),
            self.slowest.as_secs_f64(),
            failed - excused
        )
    }

    /// A line for each that has no excuse.
    pub(super) fn failed(&self, excuse: &Excuse) -> Vec<String> {
        let others = self.failed.iter().filter(|failure| !excuse.covers(failure));
        others
            .map(|failure| {
                let took = (failure.ended - failure.began).as_secs_f64();
                let Failure { to, why, .. } = failure;
                format!("a request to {to} failed after {took:.2} s: {why}")
            })
            .collect()
    }
}

impl Excuse {
    fn covers(&self, failure: &Failure) -> bool {
        let during =
            |time: &RangeInclusive<Instant>| failure.began <= *time.end() && *time.start() <= failure.ended;
        match self {
            Self::None => false,
            Self::Dead(time) => during(time),
            Self::Moved(time) => during(time) && failure.why.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answered = self.answered();
        let failed = u64::try_from(self.failed.len()).unwrap_or(u64::MAX);
        let pods: Vec<String> = self
            .by_pod
            .iter()
            .map(|(pod, count)| format!("{count} by {pod}"))
            .collect();
        write!(
            f,
            "{} requests, {answered} answered ({}; slowest {:.2} s), {failed} failed",
            answered + failed,
            pods.join(", "),
            self.slowest.as_secs_f64()
        )
    }
}
