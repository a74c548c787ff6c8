//! The program in each namespace: backends that say who they are and whom they saw, and clients that check every octet.
//!
//! ```text
//!   request   N '\n' then N octets
//!   answer    SERVICE ' ' POD ' ' CLIENT ' ' N '\n' then the same octets
//! ```
//!
//! A datagram is a request or an answer as a whole.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, setsockopt, socket, sockopt};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::load::Loads;
use crate::reversed;
use crate::words::{Answer, Door, Hope, Manner, Order, Outcome, Question, Report};

/// What is answered at all is answered in milliseconds; who waits this long has found a fault.
const LIMIT: Duration = Duration::from_secs(20);
/// A stream that needs many packets of any size.
const STREAM: usize = 64 * 1024;
/// Fills a packet of 1500 octets, headers of IPv6 and the answer's line included.
const DATAGRAM: usize = 1350;
/// Three fragments.
const LONG: usize = 4000;
/// How long to wait before what may be lost is sent again.
const AGAIN: Duration = Duration::from_secs(3);
/// Sockets at a time.
const AT_ONCE: usize = 64;

pub(crate) fn run() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut orders = BufReader::new(tokio::io::stdin()).lines();
        let mut out = tokio::io::stdout();
        let mut servers = JoinSet::new();
        let mut loads = Loads::default();
        while let Some(line) = orders.next_line().await? {
            let order: Order = serde_json::from_str(&line)?;
            let report = obey(order, &mut servers, &mut loads).await;
            let report = report.unwrap_or_else(|error| Report::Failed(format!("{error:#}")));
            let mut text = serde_json::to_string(&report)?;
            text.push('\n');
            out.write_all(text.as_bytes()).await?;
            out.flush().await?;
        }
        Ok(())
    })
}

async fn obey(order: Order, servers: &mut JoinSet<()>, loads: &mut Loads) -> Result<Report> {
    Ok(match order {
        Order::Serve(doors) => {
            for door in doors {
                serve(door, servers).await?;
            }
            Report::Done
        }
        Order::Ask(questions) => Report::Outcomes(ask(questions).await),
        Order::Load(load) => {
            loads.start(load);
            Report::Done
        }
        Order::Progress => Report::Progress(loads.progress()),
        Order::Rest => Report::Progress(loads.end().await),
    })
}

async fn serve(door: Door, servers: &mut JoinSet<()>) -> Result<()> {
    let at = SocketAddr::from((Ipv6Addr::UNSPECIFIED, door.port));
    let listener = TcpListener::bind(at)
        .await
        .with_context(|| format!("listen at {at}"))?;
    let socket = UdpSocket::bind(at)
        .await
        .with_context(|| format!("receive at {at}"))?;
    let door = Arc::new(door);
    let same = Arc::clone(&door);
    servers.spawn(async move {
        let mut streams = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    if let Ok((stream, client)) = accepted {
                        let door = Arc::clone(&same);
                        // A client that goes away is its own business.
                        streams.spawn(async move { drop(answer(stream, client, &door).await) });
                    }
                }
                Some(_) = streams.join_next() => {}
            }
        }
    });
    servers.spawn(async move {
        let mut buffer = vec![0; 65_536];
        loop {
            let Ok((length, client)) = socket.recv_from(&mut buffer).await else {
                continue;
            };
            let mut reply = head(&door, client, length).into_bytes();
            reply.extend_from_slice(buffer.get(..length).unwrap_or_default());
            // A client whose port is closed already makes this fail.
            drop(socket.send_to(&reply, client).await);
        }
    });
    Ok(())
}

async fn answer(stream: TcpStream, client: SocketAddr, door: &Door) -> Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let length: usize = line.trim().parse()?;
        let mut data = vec![0; length];
        stream.read_exact(&mut data).await?;
        let mut reply = head(door, client, length).into_bytes();
        reply.append(&mut data);
        stream.write_all(&reply).await?;
    }
}

fn head(door: &Door, client: SocketAddr, length: usize) -> String {
    let client = client.ip().to_canonical();
    format!("{} {} {client} {length}\n", door.service, door.pod)
}

async fn ask(questions: Vec<Question>) -> Vec<Outcome> {
    let mut outcomes = vec![Outcome::Silence; questions.len()];
    let mut doubtful = Vec::new();
    for (place, question) in questions.iter().enumerate() {
        if question.hope == Hope::Unanswered {
            doubtful.push((place, Doubtful::begin(question).await));
        }
    }
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut asked = JoinSet::new();
    for (place, question) in questions.into_iter().enumerate() {
        if question.hope == Hope::Unanswered {
            continue;
        }
        let room = Arc::clone(&room);
        asked.spawn(async move {
            let _room = room.acquire_owned().await;
            (place, put(&question).await)
        });
    }
    while let Some(Ok((place, outcome))) = asked.join_next().await {
        if let Some(found) = outcomes.get_mut(place) {
            *found = outcome;
        }
    }
    for (place, doubtful) in doubtful {
        if let Some(found) = outcomes.get_mut(place) {
            *found = doubtful.end();
        }
    }
    outcomes
}

async fn put(question: &Question) -> Outcome {
    if question.manner == Manner::Ping {
        return match timeout(LIMIT, echo(question.to.ip())).await {
            Err(_) => Outcome::Silence,
            Ok(Ok(())) => Outcome::Echoed,
            Ok(Err(error)) => Outcome::Refused(format!("{error:#}")),
        };
    }
    let work = async {
        match question.manner {
            Manner::Ping => bail!("an echo is no answer of a backend"),
            Manner::Tcp => {
                let mut stream = BufReader::new(TcpStream::connect(question.to).await?);
                exchange(&mut stream, STREAM, 1).await
            }
            Manner::Udp => {
                let socket = UdpSocket::bind(any(question.to)).await?;
                datagram(&socket, question.to, DATAGRAM, 2).await?;
                let socket = UdpSocket::bind(any(question.to)).await?;
                socket.connect(question.to).await?;
                datagram(&socket, question.to, 10, 3).await
            }
            Manner::Fragments => {
                let socket = UdpSocket::bind(any(question.to)).await?;
                // Headers of direct server return take room: the first one may only come to the news of what fits.
                loop {
                    let asked = datagram(&socket, question.to, LONG, 4);
                    if let Ok(answer) = timeout(AGAIN, asked).await {
                        break answer;
                    }
                }
            }
            Manner::Reversed => {
                let socket = UdpSocket::bind(any(question.to)).await?;
                socket.connect(question.to).await?;
                let sent = request(LONG, 6);
                reversed::send(&socket, &sent)?;
                answered(&socket, question.to, &sent).await
            }
            Manner::Probe(hops) => {
                let socket = UdpSocket::bind(any(question.to)).await?;
                match question.to {
                    SocketAddr::V4(_) => {
                        setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?;
                        setsockopt(&socket, sockopt::Ipv4Ttl, &i32::try_from(hops)?)?;
                    }
                    SocketAddr::V6(_) => {
                        setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?;
                        setsockopt(&socket, sockopt::Ipv6Ttl, &i32::try_from(hops)?)?;
                    }
                }
                socket.connect(question.to).await?;
                datagram(&socket, question.to, 10, 5).await
            }
        }
    };
    match timeout(LIMIT, work).await {
        Err(_) => Outcome::Silence,
        Ok(Ok(answer)) => Outcome::Answered(answer),
        Ok(Err(error)) => match error.downcast_ref::<io::Error>() {
            Some(error)
                if matches!(question.manner, Manner::Probe(_))
                    && error.kind() == io::ErrorKind::HostUnreachable =>
            {
                Outcome::Expired
            }
            Some(error) if error.kind() == io::ErrorKind::UnexpectedEof => Outcome::Wrong(error.to_string()),
            Some(error) => Outcome::Refused(error.to_string()),
            None => Outcome::Wrong(format!("{error:#}")),
        },
    }
}

/// Echo requests, one after the other. The second nearly fills a packet, the third comes in fragments.
async fn echo(to: IpAddr) -> Result<()> {
    let (family, protocol, request, reply) = match to {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp, 8, 0),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6, 128, 129),
    };
    // Sockets for echoes are there for groups of users, and at first for none.
    std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647").context("allow echoes")?;
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(family, SockType::Datagram, flags, protocol).context("a socket for echoes")?;
    let socket = UdpSocket::from_std(std::net::UdpSocket::from(socket))?;
    socket.connect((to, 0)).await.context("connect")?;
    for (number, length) in [(1, 56), (2, DATAGRAM), (3, LONG)] {
        // The kernel makes the checksum and the identifier.
        let mut sent = vec![request, 0, 0, 0, 0, 0, 0, number];
        sent.extend(
            self::request(length, usize::from(number))
                .into_iter()
                .take(length),
        );
        socket.send(&sent).await?;
        let mut buffer = vec![0; 65_536];
        let length = socket.recv(&mut buffer).await?;
        let came = buffer.get(..length).unwrap_or_default();
        ensure!(
            came.first() == Some(&reply) && came.get(6..) == sent.get(6..),
            "{length} octets that are not the echo"
        );
    }
    Ok(())
}

/// A question that nobody should answer.
enum Doubtful {
    /// A connection that should not come to be.
    Stream(tokio::task::JoinHandle<io::Result<TcpStream>>),
    Socket(UdpSocket),
    Over(Outcome),
}

impl Doubtful {
    async fn begin(question: &Question) -> Self {
        let to = question.to;
        if question.manner == Manner::Tcp {
            return Self::Stream(tokio::spawn(TcpStream::connect(to)));
        }
        let sent = async {
            let socket = UdpSocket::bind(any(to)).await?;
            socket.connect(to).await?;
            socket.send(&request(10, 2)).await?;
            Ok::<_, io::Error>(socket)
        };
        match sent.await {
            Ok(socket) => Self::Socket(socket),
            Err(error) => Self::Over(Outcome::Refused(error.to_string())),
        }
    }

    fn end(self) -> Outcome {
        let came = |what: &str| Outcome::Wrong(format!("{what}, though nobody should answer"));
        match self {
            Self::Stream(connecting) => {
                if !connecting.is_finished() {
                    connecting.abort();
                    return Outcome::Silence;
                }
                // It is over, so this does not wait.
                let done = futures_now(connecting);
                match done {
                    Some(Ok(Err(error))) => Outcome::Refused(error.to_string()),
                    Some(Ok(Ok(_))) => came("connected"),
                    Some(Err(_)) | None => Outcome::Silence,
                }
            }
            Self::Socket(socket) => {
                let mut buffer = [0; 2048];
                match socket.try_recv(&mut buffer) {
                    Ok(length) => came(&String::from_utf8_lossy(buffer.get(..length).unwrap_or_default())),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => Outcome::Silence,
                    Err(error) => Outcome::Refused(error.to_string()),
                }
            }
            Self::Over(outcome) => outcome,
        }
    }
}

/// The result of a task that is over.
fn futures_now<T>(task: tokio::task::JoinHandle<T>) -> Option<Result<T, tokio::task::JoinError>> {
    let mut task = std::pin::pin!(task);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match task.as_mut().poll(&mut context) {
        std::task::Poll::Ready(done) => Some(done),
        std::task::Poll::Pending => None,
    }
}

/// One exchange over a connection, all octets checked.
pub(crate) async fn exchange(
    stream: &mut BufReader<TcpStream>,
    length: usize,
    seed: usize,
) -> Result<Answer> {
    let sent = request(length, seed);
    let text = format!("{length}\n");
    let payload = sent.get(text.len()..).unwrap_or_default().to_vec();
    stream.write_all(&sent).await?;
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    let (answer, length) = parse(&line)?;
    let mut data = vec![0; length];
    stream.read_exact(&mut data).await?;
    ensure!(
        data == payload,
        "the octets of {answer:?} are not those that were sent"
    );
    Ok(answer)
}

/// One datagram and its answer, which comes from where the question went.
pub(crate) async fn datagram(
    socket: &UdpSocket,
    to: SocketAddr,
    length: usize,
    seed: usize,
) -> Result<Answer> {
    let sent = request(length, seed);
    if socket.peer_addr().is_ok() {
        socket.send(&sent).await?;
    } else {
        socket.send_to(&sent, to).await?;
    }
    answered(socket, to, &sent).await
}

/// The answer to a datagram.
async fn answered(socket: &UdpSocket, to: SocketAddr, sent: &[u8]) -> Result<Answer> {
    let mut buffer = vec![0; 65_536];
    let (length, from) = socket.recv_from(&mut buffer).await?;
    ensure!(
        (from.ip(), from.port()) == (to.ip(), to.port()),
        "{from} answers for {to}"
    );
    let data = buffer.get(..length).unwrap_or_default();
    let end = data.iter().position(|octet| *octet == b'\n').context("no line")?;
    let (line, data) = data.split_at(end + 1);
    let (answer, _) = parse(std::str::from_utf8(line)?)?;
    ensure!(
        data == sent,
        "the octets of {answer:?} are not those that were sent"
    );
    Ok(answer)
}

/// The length, and octets that no other request has.
fn request(length: usize, seed: usize) -> Vec<u8> {
    let mut request = format!("{length}\n").into_bytes();
    request.extend((0..length).map(|n| u8::try_from((n * 7 + seed) % 251).unwrap_or_default()));
    request
}

fn parse(line: &str) -> Result<(Answer, usize)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let &[service, pod, client, length] = words.as_slice() else {
        bail!("an answer of {line:?}");
    };
    let answer = Answer {
        service: service.to_owned(),
        pod: pod.to_owned(),
        client: client.parse()?,
    };
    Ok((answer, length.parse()?))
}

/// Any address of the family, any port.
pub(crate) fn any(to: SocketAddr) -> SocketAddr {
    let address = match to {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    SocketAddr::new(address, 0)
}
