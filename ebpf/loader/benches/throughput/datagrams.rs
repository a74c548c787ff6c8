//! Datagrams through the router: nanoseconds of the one processor for each.

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use ebpf_abi::checksum;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

use crate::bed::{Arrivals, Bed, CLIENT, Memory, mac};
use crate::figures::Figures;
use crate::peers;
use crate::raw::Sender;
use crate::way::Way;

/// What each of them says.
pub(crate) const PAYLOAD: [u8; 8] = *b"stentor!";
const LENGTH: usize = 64;
const FLOWS: usize = 32_768;
const FIRST_PORT: u16 = 16_384;
/// Packets of a round of flows that are known.
const PACKETS: usize = 65_536;
const ROUNDS: usize = 11;
const LIMIT: Duration = Duration::from_secs(10);

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Few,
    Many,
    New,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Few, Self::Many, Self::New];

    const fn title(self) -> &'static str {
        match self {
            Self::Few => "established, 64 flows",
            Self::Many => "established, 32768 flows",
            Self::New => "new flow each packet",
        }
    }

    /// By how many times plain routing may be exceeded: 850 and 1700 ns where it takes 680.
    const fn goal(self) -> Option<&'static str> {
        match self {
            Self::Few => Some("<= 1.25"),
            Self::Many => None,
            Self::New => Some("<= 2.50"),
        }
    }
}

/// Prints a table for each kind.
pub(crate) fn table(beds: &[Bed]) -> Result<()> {
    let mut lanes = beds.iter().map(Lane::new).collect::<Result<Vec<_>>>()?;
    for kind in Kind::ALL {
        let mut all = vec![Figures::default(); lanes.len()];
        // The first round is for caches.
        for round in 0..=ROUNDS {
            for (lane, figures) in lanes.iter_mut().zip(&mut all) {
                let took = lane.round(kind).with_context(|| lane.bed.way.title())?;
                if round > 0 {
                    figures.add(took);
                }
            }
        }
        print(kind, beds, &all);
    }
    lanes.iter_mut().try_for_each(Lane::check)
}

fn print(kind: Kind, beds: &[Bed], all: &[Figures]) {
    println!(
        "\n{:32} {:>8} {:>8} {:>8} {:>10} {:>9} {:>8}",
        format!("ns per datagram, {}", kind.title()),
        "median",
        "least",
        "most",
        "over plain",
        "of plain",
        "goal"
    );
    let Some(plain) = all.first() else { return };
    for (bed, figures) in beds.iter().zip(all) {
        let goal = match bed.way {
            Way::Stentor { .. } => kind.goal(),
            Way::Plain | Way::Map { .. } | Way::Linear { .. } | Way::Ipvs { .. } => None,
        };
        println!(
            "{:32} {:>8.0} {:>8.0} {:>8.0} {:>10.0} {:>9.2} {:>8}",
            bed.way.title(),
            figures.median(),
            figures.least(),
            figures.most(),
            figures.median() - plain.median(),
            figures.of(plain),
            goal.unwrap_or("-")
        );
    }
}

/// What is needed to send through a bed.
struct Lane<'a> {
    bed: &'a Bed,
    sender: Sender,
    frames: Vec<[u8; LENGTH]>,
    memory: Option<Memory>,
    arrivals: Arrivals,
    sent: u64,
}

impl<'a> Lane<'a> {
    fn new(bed: &'a Bed) -> Result<Self> {
        let (to, port) = bed.asked();
        Ok(Self {
            bed,
            sender: bed.client.run(|| Sender::open("eth0"))??,
            frames: (0..FLOWS as u16)
                .map(|n| frame(FIRST_PORT + n, to, port))
                .collect(),
            memory: bed.memory()?,
            arrivals: bed.arrivals()?,
            sent: 0,
        })
    }

    fn round(&mut self, kind: Kind) -> Result<f64> {
        let (flows, packets) = match kind {
            Kind::Few => (64, PACKETS),
            Kind::Many => (FLOWS, PACKETS),
            Kind::New => (FLOWS, FLOWS),
        };
        match (kind, &self.memory) {
            (Kind::New, Some(memory)) => memory.forget()?,
            (Kind::New | Kind::Few | Kind::Many, _) => {}
        }
        let before = self.arrivals.now()?;
        let begin = Instant::now();
        let frames = self.frames.get_mut(..flows).context("as many flows")?;
        self.sender.send(frames, packets)?;
        // All of it happens within the calls above, unless the kernel left some of it to a thread of its own.
        while self.arrivals.now()? < before + packets as u64 {
            if begin.elapsed() > LIMIT {
                let came = self.arrivals.now()? - before;
                bail!("of {packets} packets {came} came: {}", self.bed.log());
            }
        }
        let took = begin.elapsed();
        self.sent += packets as u64;
        Ok(took.as_nanos() as f64 / packets as f64)
    }

    /// All that was sent came where it should, and said what it should.
    fn check(&mut self) -> Result<()> {
        let came = peers::arrived(&self.bed.far)?;
        let title = self.bed.way.title();
        ensure!(
            came.iter().sum::<u64>() == self.sent,
            "{title}: of {} packets, {came:?} came as they should",
            self.sent
        );
        let [backends @ .., _] = came;
        let served = backends.iter().filter(|count| **count > 0).count();
        ensure!(
            served == 0 || served == self.bed.backends().len(),
            "{title}: backends had {backends:?} packets"
        );
        Ok(())
    }
}

/// A UDP datagram in its frame, checksums right.
fn frame(port: u16, to: Ipv4Addr, to_port: u16) -> [u8; LENGTH] {
    let mut frame = [mac(2), mac(1)].concat();
    frame.extend([8, 0]);
    let length = (LENGTH - 14) as u16;
    let mut header = vec![0x45, 0];
    header.extend(length.to_be_bytes());
    header.extend([0, 7, 0, 0, 64, 17, 0, 0]);
    header.extend(CLIENT.octets());
    header.extend(to.octets());
    let sum = checksum::of(&header, 0).to_ne_bytes();
    header[10..12].copy_from_slice(&sum);
    frame.extend(header);
    let length = length - 20;
    let mut datagram = [port, to_port, length, 0].map(u16::to_be_bytes).concat();
    datagram.extend(PAYLOAD);
    datagram.resize(length.into(), 0);
    let pseudo = [
        &CLIENT.octets()[..],
        &to.octets(),
        &[0, 17],
        &length.to_be_bytes(),
        &datagram,
    ]
    .concat();
    let sum = checksum::of(&pseudo, 0).to_ne_bytes();
    datagram[6..8].copy_from_slice(&sum);
    frame.extend(datagram);
    frame.try_into().expect("as long as it was made")
}

/// A way to connection tracking of the namespace it was opened in.
pub(crate) struct Tracked(OwnedFd);

impl Tracked {
    pub(crate) fn open() -> Result<Self> {
        let (family, kind) = (AddressFamily::Netlink, SockType::Raw);
        let opened = socket(
            family,
            kind,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkNetFilter,
        );
        Ok(Self(opened.context("connection tracking")?))
    }

    /// A deletion that names no flow deletes all of them.
    pub(crate) fn forget(&self) -> Result<()> {
        const LENGTH: u32 = 20;
        const CONNTRACK_DELETE: u16 = 1 << 8 | 2;
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
        let mut order = LENGTH.to_ne_bytes().to_vec();
        order.extend(CONNTRACK_DELETE.to_ne_bytes());
        order.extend(flags.to_ne_bytes());
        order.extend([0; 8]);
        // Of any family, version 0.
        order.extend([0; 4]);
        let fd = self.0.as_raw_fd();
        send(fd, &order, MsgFlags::empty())?;
        let mut answer = [0_u8; 1024];
        let length = recv(fd, &mut answer, MsgFlags::empty())?;
        // A header of 16 octets, then zero or a negative number.
        let error = answer
            .get(..length)
            .and_then(|answer| answer.as_chunks::<4>().0.get(4));
        let error = i32::from_ne_bytes(*error.context("an answer that is too short")?);
        ensure!(error == 0, "the kernel forgets no flows: error {error}");
        Ok(())
    }
}
