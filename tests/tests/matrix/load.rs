//! Clients that ask again and again, and take note of everything that is not as it should be.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use tokio::io::BufReader;
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::words::{Answer, Broken, Load, Progress, Style};
use crate::worker::{any, datagram, exchange};

/// Octets of an exchange: some packets.
const LENGTH: usize = 4000;
const DATAGRAM: usize = 100;

/// What runs, and what it came to.
#[derive(Default)]
pub(crate) struct Loads {
    clients: JoinSet<()>,
    notes: Vec<Arc<Mutex<Note>>>,
    stop: Arc<AtomicBool>,
}

/// What one client knows.
#[derive(Default)]
struct Note {
    exchanges: u64,
    last: String,
    fresh: BTreeSet<String>,
    broken: Vec<Broken>,
    wrong: Vec<String>,
}

impl Loads {
    pub(crate) fn start(&mut self, load: Load) {
        for number in 0..load.clients {
            let note = Arc::new(Mutex::new(Note::default()));
            self.notes.push(Arc::clone(&note));
            let (load, stop) = (load.clone(), Arc::clone(&self.stop));
            self.clients.spawn(async move {
                client(&load, number, &note, &stop).await;
            });
        }
    }

    pub(crate) fn progress(&self) -> Progress {
        let mut sum = Progress::default();
        for note in &self.notes {
            let note = &mut *note.lock().unwrap_or_else(PoisonError::into_inner);
            sum.exchanges.push(note.exchanges);
            sum.fresh.append(&mut note.fresh);
            sum.broken.extend(note.broken.iter().cloned());
            sum.wrong.extend(note.wrong.iter().cloned());
        }
        sum
    }

    /// Every client ends the exchange it is at.
    pub(crate) async fn end(&mut self) -> Progress {
        self.stop.store(true, Ordering::Relaxed);
        while self.clients.join_next().await.is_some() {}
        let progress = self.progress();
        *self = Self::default();
        progress
    }
}

async fn client(load: &Load, number: usize, note: &Mutex<Note>, stop: &AtomicBool) {
    let mut stream = None;
    let mut socket = None;
    let mut seed = number;
    while !stop.load(Ordering::Relaxed) && !note.lock().unwrap_or_else(PoisonError::into_inner).is_full() {
        seed += 1;
        let once = async {
            match load.manner {
                Style::Stay => {
                    let mut open = match stream.take() {
                        Some(open) => open,
                        None => connect(load.to).await?,
                    };
                    let answer = exchange(&mut open, LENGTH, seed).await?;
                    stream = Some(open);
                    Ok(answer)
                }
                Style::Anew => exchange(&mut connect(load.to).await?, LENGTH, seed).await,
                Style::Datagrams => {
                    let open = match socket.take() {
                        Some(open) => open,
                        None => connected(load.to).await?,
                    };
                    let answer = datagram(&open, load.to, DATAGRAM, seed).await?;
                    socket = Some(open);
                    Ok(answer)
                }
                Style::DatagramsAnew => {
                    let socket = connected(load.to).await?;
                    datagram(&socket, load.to, DATAGRAM, seed).await
                }
            }
        };
        let done = timeout(load.patience, once).await;
        let done = done.unwrap_or_else(|_| Err(anyhow::anyhow!(NO_ANSWER)));
        take_note(
            load,
            done,
            &mut note.lock().unwrap_or_else(PoisonError::into_inner),
        );
    }
}

async fn connect(to: SocketAddr) -> Result<BufReader<TcpStream>> {
    Ok(BufReader::new(TcpStream::connect(to).await?))
}

/// Hears only who was asked.
async fn connected(to: SocketAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind(any(to)).await?;
    socket.connect(to).await?;
    Ok(socket)
}

fn take_note(load: &Load, done: Result<Answer>, note: &mut Note) {
    match done {
        Ok(answer) if answer.service == load.service => {
            note.exchanges += 1;
            match load.manner {
                Style::Stay | Style::Datagrams => {}
                Style::Anew | Style::DatagramsAnew => {
                    note.fresh.insert(answer.pod.clone());
                }
            }
            note.last = answer.pod;
        }
        Ok(answer) => note.wrong.push(format!("{} got {answer:?}", load.to)),
        // Octets that are not what was sent, or answers from elsewhere.
        Err(error) if error.downcast_ref::<std::io::Error>().is_none() && error.to_string() != NO_ANSWER => {
            note.wrong.push(format!("{}: {error:#}", load.to));
        }
        Err(error) => note.broken.push(Broken {
            style: load.manner,
            last: note.last.clone(),
            error: format!("{error:#}"),
        }),
    }
}

impl Note {
    /// Who is refused at once, and again, has seen enough.
    fn is_full(&self) -> bool {
        self.broken.len() + self.wrong.len() >= FULL
    }
}

const NO_ANSWER: &str = "no answer";
const FULL: usize = 1000;
