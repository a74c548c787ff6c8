//! One TCP connection as a session sees it: octets in, octets out, and how many of these the kernel has not
//! taken yet.

use std::net::SocketAddr;

use bytes::Bytes;

use crate::session::agree::Opener;
use crate::session::fsm::Fsm;
use crate::speaker::{Close, Companions, ConnId, Output};
use crate::wire::update::Context;
use crate::wire::{Framer, Open};

/// How much may wait in the shell for one connection. Enough to keep a fast link busy, little enough that
/// a KEEPALIVE queued behind it still leaves on time and that a peer that takes nothing costs nothing.
pub(crate) const CREDIT: usize = 256 * 1024;

/// One session: its machine and its connection.
#[derive(Debug, Default)]
pub(crate) struct Session {
    pub(crate) fsm: Fsm,
    pub(crate) line: Line,
}

#[derive(Debug, Default)]
pub(crate) enum Line {
    #[default]
    None,
    Dialling(ConnId),
    Up(Box<Link>),
}

/// This end of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalEnd {
    pub(crate) address: SocketAddr,
    pub(crate) companions: Companions,
}

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) conn: ConnId,
    pub(crate) local: SocketAddr,
    pub(crate) companions: Companions,
    pub(crate) framer: Framer,
    /// Octets given to the shell and not yet reported as sent.
    pub(crate) in_flight: usize,
    pub(crate) ours: Option<Open>,
    /// How UPDATEs read; set when the session is established.
    pub(crate) context: Option<Context>,
    pub(crate) arrival: Arrival,
}

/// When a connection came, as seen from an established session on another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It was there when the session came up: one of two that collided.
    Before,
    /// There was no session yet, or it came after: the peer may have restarted.
    After,
}

impl Session {
    pub(crate) fn conn(&self) -> Option<ConnId> {
        match &self.line {
            Line::None => None,
            Line::Dialling(conn) => Some(*conn),
            Line::Up(link) => Some(link.conn),
        }
    }

    pub(crate) fn link(&self) -> Option<&Link> {
        match &self.line {
            Line::None | Line::Dialling(_) => None,
            Line::Up(link) => Some(link),
        }
    }

    pub(crate) fn link_mut(&mut self) -> Option<&mut Link> {
        match &mut self.line {
            Line::None | Line::Dialling(_) => None,
            Line::Up(link) => Some(link),
        }
    }

    pub(crate) fn close(&mut self, how: Close, out: &mut Vec<Output>) {
        match std::mem::take(&mut self.line) {
            Line::None => {}
            Line::Dialling(conn) => out.push(Output::Close {
                conn,
                how: Close::Abort,
            }),
            Line::Up(link) => out.push(Output::Close { conn: link.conn, how }),
        }
    }
}

impl Link {
    pub(crate) fn new(conn: ConnId, local: LocalEnd) -> Self {
        Self {
            conn,
            local: local.address,
            companions: local.companions,
            framer: Framer::new(),
            in_flight: 0,
            ours: None,
            context: None,
            arrival: Arrival::After,
        }
    }

    pub(crate) fn opener(&self) -> Opener {
        match self.conn {
            ConnId::Dialled(_) => Opener::Here,
            ConnId::Accepted(_) => Opener::Peer,
        }
    }

    /// Never refused: what is not a route is short. Routes ask for [`Link::credit`] first.
    pub(crate) fn send(&mut self, bytes: Bytes, out: &mut Vec<Output>) {
        self.in_flight += bytes.len();
        out.push(Output::Send {
            conn: self.conn,
            bytes,
        });
    }

    /// How many octets of routes may be given to the shell now.
    pub(crate) fn credit(&self) -> usize {
        CREDIT.saturating_sub(self.in_flight)
    }
}
