//! Load balancing where a program asks for a connection: the socket gets the address of a backend, and its packets cost
//! nothing more.
//!
//! ```text
//!  connect, sendmsg (VIP)                                    recvmsg, getpeername (backend)
//!    |                                                         |
//!  FILTER, FRONTENDS: a frontend? no: untouched              SOCKET_PEERS or DATAGRAMS has it? no: untouched
//!    |                                                         |
//!  may come? choose a backend as packets do,                 shows the VIP
//!  remember the VIP in SOCKET_PEERS (and DATAGRAMS)
//! ```
//!
//! What a connected socket was promised lies in the socket itself (`SOCKET_PEERS`, socket storage), and goes with it. A
//! socket without a connection may write to many addresses, so it has entries in `DATAGRAMS` for both ways, under its
//! cookie; the last one is remembered in the socket too, and goes with it. When a backend goes, the agent finds connected
//! sockets of it there, and ends them.
//!
//! A socket has no source address yet. Where one is needed (affinity, source ranges, Maglev), it is the address the socket
//! is bound to, else that of its network namespace (`NAMESPACES`, from the agent), so that sockets and packets of a pod
//! have one affinity. Where neither is known, affinity goes by the namespace, and a frontend with source ranges leaves the
//! socket alone: its packets are judged where they have a source.

mod family;
mod memory;

use crate::V6;
use crate::balance::{Tables, choose};
use crate::config::{Config, setting};
use crate::flow::{Tuple, Way};
use crate::id::{BackendId, FrontendId};
use crate::reason::DropReason;
use crate::service::{Backend, Frontend, FrontendKey, Selection, flag};
use family::fold;

pub use family::{Reached, mapped};
pub use memory::{Bond, Datagram, DatagramKey, Namespace, Peer, Sockets, choice, owner};

/// The socket that asks.
pub trait Socket<A> {
    /// The same for the socket's whole life, and never given twice.
    fn cookie(&self) -> u64;
    /// Cookie of its network namespace.
    fn namespace(&self) -> u64;
    /// The address and port it is bound to, the port in network order; zero where it is not.
    fn bound(&self) -> (A, u16);
    fn peer(&self) -> Option<Peer>;
    /// `None`: there is no memory for it.
    fn set_peer(&mut self, peer: &Peer) -> Option<()>;
    fn forget_peer(&mut self);
}

/// What decisions at sockets read and write beside the tables of packets.
pub trait SocketTables<A>: Tables<A> {
    fn sockets(&self) -> Option<Sockets>;
    fn namespace(&self, cookie: u64) -> Option<Namespace>;
    /// A value of [`owner`].
    fn node_address(&self, address: &V6) -> Option<u32>;
    fn datagram(&self, key: &DatagramKey) -> Option<Datagram>;
    /// `None`: there is no memory for it.
    fn set_datagram(&mut self, key: &DatagramKey, datagram: &Datagram) -> Option<()>;
    fn forget_datagram(&mut self, key: &DatagramKey);
}

/// What a program asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked<A> {
    pub address: A,
    /// In network order.
    pub port: u16,
    pub protocol: u8,
    pub bond: Bond,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer<A> {
    /// As it was asked for.
    Untouched(Untouched),
    /// This address and port instead.
    To(A, u16),
    Refused(Refusal),
}

/// Why what was asked for stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Untouched {
    /// Of no service.
    NoService,
    /// The agent has not written its settings yet.
    Disabled,
    /// Only for sockets of the host, and this is none.
    NotHost,
    /// An external IP that is no address of this node.
    ExternalIp,
    /// A proxy in user space takes it.
    Delegated,
    /// Source ranges, and nobody knows the source yet.
    SourceUnknown,
    /// A service without backend, and the settings say to let it pass.
    NoBackend,
}

/// Why a program gets an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    NoBackend,
    SourceRange,
    /// What was promised cannot be remembered, so answers would come from a stranger.
    NoMemory,
    /// The port is a frontend's.
    PortInUse,
}

impl Refusal {
    pub const ALL: [Self; 4] = [
        Self::NoBackend,
        Self::SourceRange,
        Self::NoMemory,
        Self::PortInUse,
    ];

    /// What the system call fails with; Linux' number.
    #[inline(always)]
    pub const fn errno(self) -> i32 {
        match self {
            // ECONNREFUSED, as a reset or an ICMP "port unreachable" would lead to.
            Self::NoBackend => 111,
            Self::SourceRange => 1,
            Self::NoMemory => 12,
            Self::PortInUse => 98,
        }
    }

    /// What it is counted as; a port that was refused is no packet.
    #[inline(always)]
    pub const fn reason(self) -> Option<DropReason> {
        match self {
            Self::NoBackend => Some(DropReason::NoService),
            Self::SourceRange => Some(DropReason::SourceRange),
            Self::NoMemory => Some(DropReason::FlowTableFull),
            Self::PortInUse => None,
        }
    }
}

/// A program connects, or sends a datagram to an address.
#[inline(always)]
pub fn forward<A, S, T>(asked: &Asked<A>, socket: &mut S, tables: &mut T) -> Answer<A>
where
    A: Reached,
    S: Socket<A>,
    T: SocketTables<A>,
{
    let answer = seek(asked, socket, tables);
    if let Answer::Untouched(_) = answer
        && asked.bond == Bond::Connection
        && socket
            .peer()
            .is_some_and(|peer| peer.bond == Bond::Connection.number())
    {
        // It was connected to a VIP before, perhaps with the backend that it now asks for by name.
        socket.forget_peer();
    }
    answer
}

#[inline(always)]
fn seek<A, S, T>(asked: &Asked<A>, socket: &mut S, tables: &mut T) -> Answer<A>
where
    A: Reached,
    S: Socket<A>,
    T: SocketTables<A>,
{
    let Some(sockets) = tables.sockets() else {
        return Answer::Untouched(Untouched::Disabled);
    };
    let frontend = match frontend(asked, socket, &sockets, tables) {
        Some(frontend) => frontend,
        None => return Answer::Untouched(Untouched::NoService),
    };
    let Some(config) = tables
        .config()
        .filter(|config| config.settings & setting::ENABLED != 0)
    else {
        return Answer::Untouched(Untouched::Disabled);
    };
    let only_host = sockets.choices & choice::HOST_ONLY != 0;
    if only_host && socket.namespace() != sockets.host {
        return Answer::Untouched(Untouched::NotHost);
    }
    if frontend.flags & flag::DELEGATE != 0 {
        return Answer::Untouched(Untouched::Delegated);
    }
    if frontend.flags & flag::EXTERNAL_IP != 0
        && sockets.choices & choice::EXTERNAL_IPS_OUTSIDE != 0
        && tables.node_address(&asked.address.wide()) != Some(owner::THIS_NODE)
    {
        return Answer::Untouched(Untouched::ExternalIp);
    }
    match asked.bond {
        Bond::Connection => connect(asked, &frontend, &config, socket, tables),
        Bond::Datagram => send(asked, &frontend, &config, socket, tables),
    }
}

/// The frontend that is asked for.
#[inline(always)]
fn frontend<A, S, T>(asked: &Asked<A>, socket: &S, sockets: &Sockets, tables: &T) -> Option<Frontend>
where
    A: Reached,
    S: Socket<A>,
    T: SocketTables<A>,
{
    if tables.may_be_ours(&asked.address)
        && let Some(frontend) = tables.frontend(&FrontendKey::new(asked.address, asked.port, asked.protocol))
    {
        let allowed = frontend.flags & flag::LOOPBACK == 0 || socket.namespace() == sockets.host;
        return allowed.then_some(frontend);
    }
    let port = u16::from_be(asked.port);
    let is_node_port = sockets.first_port <= port && port <= sockets.last_port;
    let mut unwanted = 0;
    let wanted = if asked.address.is_loopback() {
        if socket.namespace() != sockets.host {
            return None;
        }
        if is_node_port {
            flag::NODE_PORT
        } else {
            flag::HOST_PORT
        }
    } else if is_node_port {
        // Every node serves every node port: no need to go to the one that was named, unless only what runs there may answer.
        if tables.node_address(&asked.address.wide())? != owner::THIS_NODE {
            unwanted = flag::LOCAL_ONLY;
        }
        flag::NODE_PORT
    } else {
        return None;
    };
    let node = A::of_node(sockets);
    if node == A::default() {
        return None;
    }
    tables
        .frontend(&FrontendKey::new(node, asked.port, asked.protocol))
        .filter(|frontend| frontend.flags & wanted != 0 && frontend.flags & unwanted == 0)
}

#[inline(always)]
fn connect<A, S, T>(
    asked: &Asked<A>,
    frontend: &Frontend,
    config: &Config,
    socket: &mut S,
    tables: &mut T,
) -> Answer<A>
where
    A: Reached,
    S: Socket<A>,
    T: SocketTables<A>,
{
    let backend = match pick(asked, frontend, config, socket, tables) {
        Ok(backend) => backend,
        Err(answer) => return answer,
    };
    let peer = promise(asked, frontend, &backend);
    match socket.set_peer(&peer) {
        Some(()) => Answer::To(backend.address, peer.real_port),
        None => Answer::Refused(Refusal::NoMemory),
    }
}

#[inline(always)]
fn send<A, S, T>(
    asked: &Asked<A>,
    frontend: &Frontend,
    config: &Config,
    socket: &mut S,
    tables: &mut T,
) -> Answer<A>
where
    A: Reached,
    S: Socket<A>,
    T: SocketTables<A>,
{
    let cookie = socket.cookie();
    let there = DatagramKey::new(cookie, asked.address.wide(), asked.port, Way::Forward);
    // The other side may hold a conversation: it goes on with whom it began.
    if let Some(known) = tables.datagram(&there)
        && known.frontend == frontend.id
        && tables
            .backend(known.backend.index())
            .is_some_and(|backend| backend.id == known.backend)
    {
        return Answer::To(A::narrow(known.address), known.port);
    }
    let backend = match pick(asked, frontend, config, socket, tables) {
        Ok(backend) => backend,
        Err(answer) => return answer,
    };
    let peer = promise(asked, frontend, &backend);
    let back = DatagramKey::new(cookie, peer.real, peer.real_port, Way::Reply);
    let to = Datagram {
        address: peer.real,
        port: peer.real_port,
        pad: 0,
        frontend: frontend.id,
        backend: backend.id,
    };
    let from = Datagram {
        address: peer.asked,
        port: peer.asked_port,
        ..to
    };
    // Later the socket is asked for its peer first, so one without any costs nothing.
    let connected = socket
        .peer()
        .is_some_and(|peer| peer.bond == Bond::Connection.number());
    let remembered = if connected {
        Some(())
    } else {
        socket.set_peer(&peer)
    };
    let remembered = remembered
        .and_then(|()| tables.set_datagram(&back, &from))
        .and_then(|()| tables.set_datagram(&there, &to));
    match remembered {
        Some(()) => Answer::To(backend.address, peer.real_port),
        None => Answer::Refused(Refusal::NoMemory),
    }
}

#[inline(always)]
fn promise<A: Reached>(asked: &Asked<A>, frontend: &Frontend, backend: &Backend<A>) -> Peer {
    Peer {
        asked: asked.address.wide(),
        real: backend.address.wide(),
        asked_port: asked.port,
        real_port: if backend.port == 0 {
            asked.port
        } else {
            backend.port
        },
        frontend: frontend.id,
        backend: backend.id,
        bond: asked.bond.number(),
        protocol: asked.protocol,
        pad: 0,
    }
}

/// The backend of a socket, by the same choice as for packets.
#[inline(always)]
fn pick<A, S, T>(
    asked: &Asked<A>,
    frontend: &Frontend,
    config: &Config,
    socket: &S,
    tables: &mut T,
) -> Result<Backend<A>, Answer<A>>
where
    A: Reached,
    S: Socket<A>,
    T: SocketTables<A>,
{
    let mut tuple = Tuple {
        source: A::default(),
        destination: asked.address,
        source_port: 0,
        destination_port: asked.port,
        protocol: asked.protocol,
        pad: 0,
        pad_word: 0,
    };
    let by_hash = Selection::from_number(frontend.selection) == Selection::Maglev;
    if by_hash || frontend.affinity != 0 || frontend.ranges != 0 {
        let (address, port) = socket.bound();
        let known = client(address, socket, tables);
        let is_unknown = known == A::default();
        if frontend.ranges != 0 {
            if is_unknown {
                return Err(Answer::Untouched(Untouched::SourceUnknown));
            }
            let denies = frontend.flags & flag::DENY_RANGES != 0;
            if tables.in_range(frontend.ranges, &known) == denies {
                return Err(Answer::Refused(Refusal::SourceRange));
            }
        }
        tuple.source = if is_unknown {
            A::stand_in(socket.namespace())
        } else {
            known
        };
        // Without a port of its own, the socket's cookie spreads a client's connections over the table.
        tuple.source_port = if port == 0 {
            crate::low16(fold(socket.cookie()))
        } else {
            port
        };
    }
    // Only affinity asks for the time.
    let now = if frontend.affinity == 0 { 0 } else { tables.now() };
    if let Some(backend) = choose(now, &tuple, frontend, frontend.inner_set, config, tables) {
        return Ok(backend);
    }
    let passes = config.settings & setting::PASS_NO_BACKEND != 0 && frontend.flags & flag::LOCAL_ONLY == 0;
    Err(if passes {
        Answer::Untouched(Untouched::NoBackend)
    } else {
        Answer::Refused(Refusal::NoBackend)
    })
}

/// The source that packets of the socket will have; zero where nobody knows. An `Option` would be carried around empty, which
/// the kernel's verifier takes for reading what was never written.
#[inline(always)]
fn client<A, S, T>(bound: A, socket: &S, tables: &T) -> A
where
    A: Reached,
    S: Socket<A>,
    T: SocketTables<A>,
{
    if bound != A::default() && !bound.is_loopback() {
        return bound;
    }
    match tables.namespace(socket.namespace()) {
        Some(namespace) => A::of_namespace(&namespace),
        None => A::default(),
    }
}

/// Which of a socket's memories may know an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Only its connection.
    Connection,
    /// Datagrams too.
    All,
}

/// A program asks who the other side is, here `address` (as [`Reached::wide`] has it). `None`: who it says it is.
#[inline(always)]
pub fn reverse<A, S, T>(address: V6, port: u16, memory: Memory, socket: &S, tables: &T) -> Option<(V6, u16)>
where
    A: Reached,
    S: Socket<A>,
    T: SocketTables<A>,
{
    let peer = socket.peer()?;
    if peer.bond == Bond::Connection.number() && peer.real == address && peer.real_port == port {
        return Some((peer.asked, peer.asked_port));
    }
    if memory == Memory::Connection {
        return None;
    }
    let key = DatagramKey::new(socket.cookie(), address, port, Way::Reply);
    let known = tables.datagram(&key)?;
    Some((known.address, known.port))
}

/// What a socket asked for and was promised, for those who are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promise {
    /// As [`Reached::wide`] has it.
    pub asked: V6,
    pub port: u16,
    pub frontend: FrontendId,
    pub backend: BackendId,
}

/// After [`Answer::To`], where the address and port are those of the backend, the address as [`Reached::wide`] has it.
#[inline(always)]
pub fn promised<A, S, T>(address: V6, port: u16, bond: Bond, socket: &S, tables: &T) -> Option<Promise>
where
    A: Reached,
    S: Socket<A>,
    T: SocketTables<A>,
{
    match bond {
        Bond::Connection => socket.peer().map(|peer| Promise {
            asked: peer.asked,
            port: peer.asked_port,
            frontend: peer.frontend,
            backend: peer.backend,
        }),
        Bond::Datagram => {
            let key = DatagramKey::new(socket.cookie(), address, port, Way::Reply);
            tables.datagram(&key).map(|known| Promise {
                asked: known.address,
                port: known.port,
                frontend: known.frontend,
                backend: known.backend,
            })
        }
    }
}

/// A socket is no more.
#[inline(always)]
pub fn release<A, S, T>(socket: &S, tables: &mut T)
where
    A: Reached,
    S: Socket<A>,
    T: SocketTables<A>,
{
    let Some(peer) = socket.peer() else { return };
    if peer.bond != Bond::Datagram.number() {
        return;
    }
    let cookie = socket.cookie();
    tables.forget_datagram(&DatagramKey::new(
        cookie,
        peer.asked,
        peer.asked_port,
        Way::Forward,
    ));
    tables.forget_datagram(&DatagramKey::new(cookie, peer.real, peer.real_port, Way::Reply));
}

/// Kinds of frontends that nobody may bind: the kernel would give the socket packets that the programs take away, or the
/// other way round.
const TAKEN: u16 = flag::NODE_PORT | flag::EXTERNAL_IP | flag::LOAD_BALANCER;

/// A program has bound a socket to this address (all zero: to every one) and port.
#[inline(always)]
pub fn may_bind<A, T>(address: A, port: u16, protocol: u8, namespace: u64, tables: &T) -> Result<(), Refusal>
where
    A: Reached,
    T: SocketTables<A>,
{
    let Some(sockets) = tables
        .sockets()
        .filter(|sockets| sockets.choices & choice::PROTECT_PORTS != 0 && sockets.host == namespace)
    else {
        return Ok(());
    };
    let node = A::of_node(&sockets);
    let everywhere = address == A::default() || address.is_loopback();
    let address = if everywhere { node } else { address };
    let taken = tables
        .frontend(&FrontendKey::new(address, port, protocol))
        .is_some_and(|frontend| {
            let kinds = if everywhere { flag::NODE_PORT } else { TAKEN };
            frontend.flags & kinds != 0
        });
    if taken { Err(Refusal::PortInUse) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
