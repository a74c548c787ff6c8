//! A BGP peer without manners: a socket, and bytes made by hand.
//!
//! It knows just enough to get a session established. What a real speaker would never do (send half a message,
//! never read, ignore what it is told) is up to the test. It shares no code with the speaker under test.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lab::Netns;

/// How long anything may take that must happen.
const LIMIT: Duration = Duration::from_mins(1);

pub const OPEN: u8 = 1;
pub const UPDATE: u8 = 2;
pub const NOTIFICATION: u8 = 3;
pub const KEEPALIVE: u8 = 4;

/// A connection to a speaker.
#[derive(Debug)]
pub struct RawPeer {
    stream: TcpStream,
}

/// A message as it came: its type and what follows the header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub kind: u8,
    pub body: Vec<u8>,
}

impl RawPeer {
    /// Connects from a node. No BGP is spoken yet.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn connect(node: &Netns, to: SocketAddr) -> Result<Self> {
        let stream = node.run(|| TcpStream::connect_timeout(&to, LIMIT))??;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream })
    }

    /// Connects and says and hears what it takes to be established.
    ///
    /// # Errors
    /// The speaker does not go along.
    pub fn establish(node: &Netns, to: SocketAddr, asn: u16, router_id: Ipv4Addr) -> Result<Self> {
        let mut peer = Self::connect(node, to)?;
        peer.send(&open(asn, router_id))?;
        peer.expect(OPEN)?;
        peer.send(&keepalive())?;
        peer.expect(KEEPALIVE)?;
        Ok(peer)
    }

    /// # Errors
    /// The connection is gone.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next message, or `None` when the speaker has closed the connection.
    ///
    /// # Errors
    /// Nothing comes in time, or no message.
    pub fn receive(&mut self) -> Result<Option<Message>> {
        let mut header = [0; 19];
        match self.stream.read_exact(&mut header) {
            Ok(()) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error).context("no message"),
        }
        let [marker @ .., high, low, kind] = header;
        ensure!(marker == [0xff; 16], "no marker: {header:?}");
        let length = usize::from(u16::from_be_bytes([high, low]));
        let length = length.checked_sub(header.len()).context("length below 19")?;
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(Some(Message { kind, body }))
    }

    /// The next message, which must be of this type.
    ///
    /// # Errors
    /// It is not.
    pub fn expect(&mut self, kind: u8) -> Result<Vec<u8>> {
        match self.receive()? {
            Some(message) if message.kind == kind => Ok(message.body),
            other => bail!("expected a message of type {kind}, not {other:?}"),
        }
    }

    /// Reads on until the speaker says goodbye, and returns the code and subcode it gave.
    ///
    /// # Errors
    /// It closes the connection without a word, or does not close it.
    pub fn farewell(&mut self) -> Result<(u8, u8)> {
        let mut last = None;
        while let Some(message) = self.receive()? {
            if let (NOTIFICATION, [code, subcode, ..]) = (message.kind, message.body.as_slice()) {
                last = Some((*code, *subcode));
            }
        }
        last.context("closed without NOTIFICATION")
    }

    /// Ends the connection in both directions.
    ///
    /// # Errors
    /// It has ended.
    pub fn shut(&self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Both)
    }

    /// Another handle of the same connection, for a second thread.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            stream: self.stream.try_clone()?,
        })
    }
}

/// A message of this type.
#[must_use]
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len() + 19).unwrap_or(u16::MAX);
    let mut bytes = vec![0xff; 16];
    bytes.extend(length.to_be_bytes());
    bytes.push(kind);
    bytes.extend(body);
    bytes
}

#[must_use]
pub fn keepalive() -> Vec<u8> {
    message(KEEPALIVE, &[])
}

/// An OPEN with a hold time of 90 s, that offers IPv4 unicast and 4-octet ASNs.
#[must_use]
pub fn open(asn: u16, router_id: Ipv4Addr) -> Vec<u8> {
    let [high, low] = asn.to_be_bytes();
    let [a, b, c, d] = router_id.octets();
    let body = [
        4, high, low, 0, 90, a, b, c, d, 14, // optional parameters
        2, 12, // capabilities
        1, 4, 0, 1, 0, 1, // IPv4 unicast
        65, 4, 0, 0, high, low, // 4-octet ASN
    ];
    message(OPEN, &body)
}

/// An UPDATE that announces so many /32 from `first` on.
#[must_use]
pub fn announce(asn: u16, next_hop: Ipv4Addr, first: Ipv4Addr, count: u32) -> Vec<u8> {
    let [high, low] = asn.to_be_bytes();
    let mut body = vec![0, 0, 0, 20];
    body.extend([0x40, 1, 1, 0]); // ORIGIN IGP
    body.extend([0x40, 2, 6, 2, 1, 0, 0, high, low]); // AS_PATH
    body.extend([0x40, 3, 4]); // NEXT_HOP
    body.extend(next_hop.octets());
    body.extend(nlri(first, count));
    message(UPDATE, &body)
}

/// An UPDATE that withdraws so many /32 from `first` on.
#[must_use]
pub fn withdraw(first: Ipv4Addr, count: u32) -> Vec<u8> {
    let prefixes = nlri(first, count);
    let length = u16::try_from(prefixes.len()).unwrap_or(u16::MAX);
    let mut body = length.to_be_bytes().to_vec();
    body.extend(prefixes);
    body.extend([0, 0]);
    message(UPDATE, &body)
}

fn nlri(first: Ipv4Addr, count: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for n in 0..count {
        bytes.push(32);
        bytes.extend(Ipv4Addr::from_bits(first.to_bits().wrapping_add(n)).octets());
    }
    bytes
}
