//! Real connections: how many requests and how much data the one processor carries. Every octet is checked.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lab::Handle;
use nix::sys::socket::{setsockopt, sockopt};

use crate::bed::{BACKENDS, Bed, TARGET};
use crate::figures::Figures;

const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_millis(400);
/// Who waits longer has found a fault.
const LIMIT: Duration = Duration::from_secs(10);
const REQUEST: usize = 64;
const BLOCK: usize = 256 * 1024;
/// What the kernel keeps of a stream that was not acknowledged yet; it takes twice as much with what it needs itself.
const WINDOW: usize = 128 * 1024;
/// Clients at a time.
const CLIENTS: usize = 8;
/// Datagrams of sockets, each from another port: whom they come to is chosen anew.
const DATAGRAMS: usize = 64;

/// What a connection is for; the first octet of each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// One request, one answer.
    Once = 1,
    /// Requests and answers in turn.
    Turns = 2,
    /// Data until the client ends, then one answer.
    Data = 3,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    Anew,
    Stay,
    One,
    Several,
}

impl Load {
    const ALL: [Self; 4] = [Self::Anew, Self::Stay, Self::One, Self::Several];

    const fn title(self) -> &'static str {
        match self {
            Self::Anew => "requests/s, a connection for each",
            Self::Stay => "requests/s, connections that stay",
            Self::One => "Gbit/s, one stream",
            Self::Several => "Gbit/s, 8 streams",
        }
    }
}

/// Prints a table for each load.
pub(crate) fn tables(beds: &[Bed]) -> Result<()> {
    for bed in beds {
        datagrams(bed).with_context(|| format!("{}: datagrams of sockets", bed.way.title()))?;
    }
    for load in Load::ALL {
        let mut all = vec![Figures::default(); beds.len()];
        for round in 0..=ROUNDS {
            for (bed, figures) in beds.iter().zip(&mut all) {
                let figure = measure(bed, load);
                let figure = figure
                    .with_context(|| format!("{}: {}\n{}", bed.way.title(), load.title(), bed.log()))?;
                if round > 0 {
                    figures.add(figure);
                }
            }
        }
        print(load, beds, &all);
    }
    Ok(())
}

fn print(load: Load, beds: &[Bed], all: &[Figures]) {
    println!(
        "\n{:34} {:>8} {:>8} {:>8} {:>9}",
        load.title(),
        "median",
        "least",
        "most",
        "of plain"
    );
    let Some(plain) = all.first() else { return };
    let places = match load {
        Load::Anew | Load::Stay => 0,
        Load::One | Load::Several => 2,
    };
    for (bed, figures) in beds.iter().zip(all) {
        println!(
            "{:34} {:>8.places$} {:>8.places$} {:>8.places$} {:>9.2}",
            bed.way.title(),
            figures.median(),
            figures.least(),
            figures.most(),
            figures.of(plain),
        );
    }
}

/// Requests, or gigabits, in a second.
fn measure(bed: &Bed, load: Load) -> Result<f64> {
    if let Some(memory) = bed.memory()? {
        memory.forget()?;
    }
    let (address, port) = bed.asked();
    let to = SocketAddr::new(address.into(), port);
    let clients = match load {
        Load::One => 1,
        Load::Anew | Load::Stay | Load::Several => CLIENTS,
    };
    let begin = Instant::now();
    let until = begin + ROUND;
    let done: Result<Vec<Done>> = thread::scope(|scope| {
        let all: Vec<_> = (0..clients)
            .map(|n| {
                let client = move || match load {
                    Load::Anew => anew(to, n, until),
                    Load::Stay => stay(to, n, until),
                    Load::One | Load::Several => data(to, until),
                };
                scope.spawn(move || bed.client.run(client)?)
            })
            .collect();
        all.into_iter()
            .map(|client| client.join().expect("clients do not panic"))
            .collect()
    });
    let took = begin.elapsed().as_secs_f64();
    let mut sum = 0;
    for done in done? {
        sum += done.count;
        for backend in done.backends {
            ensure!(bed.backends().contains(&backend), "{backend} answered");
        }
    }
    Ok(match load {
        Load::Anew | Load::Stay => sum as f64 / took,
        Load::One | Load::Several => 8.0 * sum as f64 / took / 1e9,
    })
}

#[derive(Default)]
struct Done {
    /// Requests, or octets.
    count: u64,
    backends: BTreeSet<Ipv4Addr>,
}

fn anew(to: SocketAddr, client: usize, until: Instant) -> Result<Done> {
    let mut done = Done::default();
    while Instant::now() < until {
        let mut stream = connect(to)?;
        ask(&mut stream, Use::Once, client, &mut done)?;
        // No port of this client stays behind in anybody's memory.
        setsockopt(
            &stream,
            sockopt::Linger,
            &libc::linger {
                l_onoff: 1,
                l_linger: 0,
            },
        )?;
    }
    Ok(done)
}

fn stay(to: SocketAddr, client: usize, until: Instant) -> Result<Done> {
    let mut done = Done::default();
    let mut stream = connect(to)?;
    while Instant::now() < until {
        ask(&mut stream, Use::Turns, client, &mut done)?;
    }
    Ok(done)
}

fn ask(stream: &mut TcpStream, purpose: Use, client: usize, done: &mut Done) -> Result<()> {
    let mut request = [purpose as u8; REQUEST];
    let (_, rest) = request.split_at_mut(8);
    rest.fill((done.count as u8).wrapping_mul(31) ^ client as u8);
    stream.write_all(&request)?;
    let mut answer = [0; REQUEST + 4];
    stream.read_exact(&mut answer).context("the answer")?;
    let (head, body) = answer.split_at(4);
    ensure!(body == request, "the answer is another one's");
    let head: [u8; 4] = head.try_into()?;
    done.backends.insert(head.into());
    done.count += 1;
    Ok(())
}

fn data(to: SocketAddr, until: Instant) -> Result<Done> {
    let mut stream = connect(to)?;
    // A cable between namespaces holds 256 packets, and what does not fit is lost: less than that is under way.
    setsockopt(&stream, sockopt::SndBuf, &WINDOW)?;
    stream.write_all(&[Use::Data as u8; REQUEST])?;
    let pattern = pattern();
    let mut count = 0;
    while Instant::now() < until {
        stream.write_all(&pattern)?;
        count += pattern.len() as u64;
    }
    stream.shutdown(Shutdown::Write)?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).context("the answer")?;
    let (head, total) = answer.split_at(4);
    let total = u64::from_be_bytes(total.try_into()?);
    ensure!(total == count, "of {count} octets {total} came as they were sent");
    let head: [u8; 4] = head.try_into()?;
    Ok(Done {
        count,
        backends: BTreeSet::from([head.into()]),
    })
}

fn connect(to: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, LIMIT).context("connect")?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    Ok(stream)
}

/// Not the same octet twice at the same place of a packet.
fn pattern() -> Vec<u8> {
    (0..BLOCK).map(|n| (n * 7 % 251) as u8).collect()
}

/// Datagrams of sockets come back as they were sent, and each backend has its part.
fn datagrams(bed: &Bed) -> Result<()> {
    let (address, port) = bed.asked();
    let backends = bed.client.run(|| -> Result<BTreeSet<Ipv4Addr>> {
        let mut backends = BTreeSet::new();
        for n in 0..DATAGRAMS {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            socket.set_read_timeout(Some(LIMIT))?;
            socket.connect((address, port))?;
            let request = vec![n as u8; 1200];
            // Again on the flow that is there then.
            for _ in 0..2 {
                socket.send(&request)?;
                let mut answer = [0; 2048];
                let length = socket.recv(&mut answer).context("the answer")?;
                let (head, body) = answer.get(..length).context("an answer")?.split_at(4);
                ensure!(body == request, "the answer is another one's");
                let head: [u8; 4] = head.try_into()?;
                backends.insert(Ipv4Addr::from(head));
            }
        }
        Ok(backends)
    })??;
    let all: BTreeSet<_> = bed.backends().iter().copied().collect();
    ensure!(backends == all, "{backends:?} answered, not {all:?}");
    Ok(())
}

/// Backends, until the end of the program.
pub(crate) fn serve(far: &Handle) -> Result<()> {
    for backend in BACKENDS {
        let (listener, socket) = far.run(|| -> Result<_> {
            Ok((
                TcpListener::bind((backend, TARGET))?,
                UdpSocket::bind((backend, TARGET))?,
            ))
        })??;
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that goes away is its own business.
                drop(accepted(stream, backend));
            }
        });
        thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let answer = [&backend.octets()[..], buffer.get(..length).unwrap_or_default()].concat();
                drop(socket.send_to(&answer, from));
            }
        });
    }
    Ok(())
}

/// What ends at once is served here, the rest on a thread of its own.
fn accepted(mut stream: TcpStream, backend: Ipv4Addr) -> Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LIMIT))?;
    let mut request = [0; REQUEST];
    stream.read_exact(&mut request)?;
    match request[0] {
        1 => answer(&mut stream, backend, &request)?,
        2 => drop(thread::spawn(move || turns(stream, backend, request))),
        _ => drop(thread::spawn(move || check(stream, backend))),
    }
    Ok(())
}

fn answer(stream: &mut TcpStream, backend: Ipv4Addr, request: &[u8; REQUEST]) -> Result<()> {
    let answer = [&backend.octets()[..], request].concat();
    Ok(stream.write_all(&answer)?)
}

fn turns(mut stream: TcpStream, backend: Ipv4Addr, mut request: [u8; REQUEST]) -> Result<()> {
    loop {
        answer(&mut stream, backend, &request)?;
        stream.read_exact(&mut request)?;
    }
}

/// Counts octets as long as they are right.
fn check(mut stream: TcpStream, backend: Ipv4Addr) -> Result<()> {
    let pattern = pattern();
    let mut buffer = vec![0; BLOCK];
    let mut total = 0_u64;
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        let mut came = buffer.get(..length).unwrap_or_default();
        while !came.is_empty() {
            let at = (total % BLOCK as u64) as usize;
            let expected = pattern.get(at..).unwrap_or_default();
            let part = came.len().min(expected.len());
            let (now, later) = came.split_at(part);
            ensure!(expected.starts_with(now), "octets were changed");
            total += part as u64;
            came = later;
        }
    }
    let answer = [&backend.octets()[..], &total.to_be_bytes()].concat();
    Ok(stream.write_all(&answer)?)
}
