//! Sockets whose backend is no more. They would wait for it: those of UDP for ever, those of TCP until they have sent often
//! enough in vain. So they are ended, and who uses them can connect anew.
//!
//! ```text
//!   SOCKET_PEERS of all sockets: connected to a backend that BACKENDS does not have any more?
//!     none: done         some: each network namespace --sock_diag--> which of its sockets are these? --> SOCK_DESTROY
//! ```
//!
//! What a socket was promised lies in the socket itself, so none is forgotten and none is taken for another. Whoever
//! connected to a backend by its own name was promised nothing and stays, and so does a socket that sends each datagram to
//! an address: its next one goes to another backend.
//!
//! Not here: Multipath TCP. The kernel can not end such sockets from outside.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::path::Path;

use ebpf_abi::service::Backend;
use ebpf_abi::socket::{Bond, Peer, mapped};
use ebpf_abi::{BackendId, V4, V6, maps};

use crate::diag::{Diag, Ended, Shown};
use crate::netns::{inside, places};
use crate::peers::Peers;
use crate::{Datapath, Error, MapFd};

/// A socket that was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aborted {
    /// A protocol's number.
    pub protocol: u8,
    /// What it had asked for.
    pub asked: SocketAddr,
    /// The backend that is no more.
    pub real: SocketAddr,
}

/// What says which sockets are orphans.
#[derive(Debug)]
pub struct Orphans {
    peers: Peers,
    backends4: MapFd,
    backends6: MapFd,
}

impl Orphans {
    /// Over the maps of these programs.
    pub fn open(datapath: &Datapath) -> Result<Self, Error> {
        let peers = datapath.map(maps::SOCKET_PEERS)?;
        Ok(Self {
            peers: Peers::open(peers.fd().as_fd()).map_err(Error::Diag)?,
            backends4: datapath.map(maps::BACKENDS4)?,
            backends6: datapath.map(maps::BACKENDS6)?,
        })
    }

    /// Ends connected sockets whose backend is gone from the maps, in all network namespaces of processes at the cgroup. Does
    /// nothing to others, so it may be called at any time. A socket that connects meanwhile may be missed: whoever calls
    /// because a backend went, calls once more later.
    pub fn abort(&self, cgroup: &Path) -> Result<Vec<Aborted>, Error> {
        let mut orphans = self.orphans()?;
        let mut aborted = Vec::new();
        if orphans.is_empty() {
            return Ok(aborted);
        }
        for place in places(cgroup).map_err(Error::Namespace)? {
            let ended = inside(&place, || end_all(&orphans));
            for (cookie, one) in ended.map_err(Error::Diag)? {
                orphans.remove(&cookie);
                aborted.push(one);
            }
            if orphans.is_empty() {
                break;
            }
        }
        Ok(aborted)
    }

    /// By cookie, what they were promised by a backend that is no more.
    fn orphans(&self) -> Result<HashMap<u64, Peer>, Error> {
        let mut orphans = HashMap::new();
        // Of both families; a backend is asked for once.
        let mut known = HashMap::new();
        for (cookie, peer) in self.peers.all().map_err(Error::Diag)? {
            if peer.bond != Bond::Connection.number() {
                continue;
            }
            let backend = (mapped(peer.real).is_some(), peer.backend);
            let lives = match known.get(&backend) {
                Some(lives) => *lives,
                None => {
                    let lives = self.lives(&peer)?;
                    known.insert(backend, lives);
                    lives
                }
            };
            if !lives {
                orphans.insert(cookie, peer);
            }
        }
        Ok(orphans)
    }

    fn lives(&self, peer: &Peer) -> Result<bool, Error> {
        let index = peer.backend.index();
        let now: Option<BackendId> = match mapped(peer.real) {
            Some(_) => self
                .backends4
                .get::<u32, Backend<V4>>(&index)?
                .map(|backend| backend.id),
            None => self
                .backends6
                .get::<u32, Backend<V6>>(&index)?
                .map(|backend| backend.id),
        };
        Ok(now == Some(peer.backend))
    }
}

/// Those of the thread's namespace.
fn end_all(orphans: &HashMap<u64, Peer>) -> io::Result<Vec<(u64, Aborted)>> {
    let diag = Diag::new()?;
    let mut ended = Vec::new();
    for shown in diag.connected()? {
        let Some(one) = orphans.get(&shown.cookie).and_then(|peer| orphan(peer, &shown)) else {
            continue;
        };
        if diag.destroy(&shown)? == Ended::Now {
            ended.push((shown.cookie, one));
        }
    }
    Ok(ended)
}

/// `None`: it is connected to somebody else since.
fn orphan(peer: &Peer, shown: &Shown) -> Option<Aborted> {
    let real = end(peer.real, peer.real_port);
    let remote = SocketAddr::new(shown.remote.ip().to_canonical(), shown.remote.port());
    (real == remote).then(|| Aborted {
        protocol: shown.protocol,
        asked: end(peer.asked, peer.asked_port),
        real,
    })
}

fn end(address: V6, port: u16) -> SocketAddr {
    let address = Ipv6Addr::from(address).to_canonical();
    SocketAddr::new(address, u16::from_be(port))
}
