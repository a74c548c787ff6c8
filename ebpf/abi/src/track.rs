//! Connection tracking: what a packet does to the entry of its way, and what the entry of the other way must hear of it.
//!
//! ```text
//!              first            another without SYN,
//!              packet            of either way              FIN here and there, or RST
//!   (absent) -------> OPENING ----------------> OPEN -----------------------------------> CLOSED
//!      ^                 ^                        |                                          |
//!      |                 +--------- SYN ----------|--- only once closed: a new connection ---+
//!      +------ expires: the boot clock passes the lifetime of the state
//! ```
//!
//! A server answers every SYN, so its answer proves nothing: only what comes after it does, or else a flood of SYNs would
//! be a flood of open connections. No sequence numbers are watched, and a connection may be picked up in its middle: an
//! agent that lost its maps must not end every connection. Lifetimes are refreshed lazily: an entry is written, and its
//! twin told, only when an eighth of the lifetime has gone by. So most packets write nothing.

use crate::plain::plain;

/// TCP flags as in the header's 14th octet.
pub mod tcp {
    pub const FIN: u8 = 1;
    pub const SYN: u8 = 2;
    pub const RST: u8 = 4;
    pub const ACK: u8 = 16;
}

/// What an entry knows of its connection; bits.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct State(pub u8);

plain!(State, 1);

impl State {
    /// More than its first packet was seen, and than the answer to a SYN.
    pub const OPEN: u8 = 1;
    /// This way is finished.
    pub const CLOSED_HERE: u8 = 2;
    /// The other way is finished.
    pub const CLOSED_THERE: u8 = 4;
    const CLOSED: u8 = Self::CLOSED_HERE | Self::CLOSED_THERE;

    #[inline(always)]
    pub const fn is_closed(self) -> bool {
        self.0 & Self::CLOSED == Self::CLOSED
    }

    /// One way is finished, or both.
    #[inline(always)]
    pub const fn is_closing(self) -> bool {
        self.0 & Self::CLOSED != 0
    }

    #[inline(always)]
    pub const fn is_open(self) -> bool {
        self.0 & Self::OPEN != 0
    }
}

/// Seconds after the last packet, by state.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// TCP that is open.
    pub open: u32,
    /// TCP of which only the SYN was seen.
    pub opening: u32,
    /// TCP that is closed.
    pub closed: u32,
    /// Everything else.
    pub other: u32,
}

plain!(Lifetimes, 16, opening = 4, closed = 8, other = 12);

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            open: 8000,
            opening: 60,
            closed: 10,
            other: 60,
        }
    }
}

/// What a packet is to its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// TCP with these flags.
    Tcp(u8),
    /// A later fragment of TCP: no flags to see.
    TcpFragment,
    /// Not TCP.
    Other,
}

impl Seen {
    /// A SYN without ACK: wants a new connection.
    #[inline(always)]
    pub const fn opens(self) -> bool {
        matches!(self, Self::Tcp(flags) if flags & (tcp::SYN | tcp::ACK) == tcp::SYN)
    }

    /// A SYN, or the answer to one.
    #[inline(always)]
    const fn has_syn(self) -> bool {
        matches!(self, Self::Tcp(flags) if flags & tcp::SYN != 0)
    }
}

/// What the entry of the other way must hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tell {
    Nothing,
    /// The connection lives.
    Alive,
    /// The way of the teller is finished.
    Closed,
    /// Both ways are.
    Reset,
}

/// What becomes of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub state: State,
    pub expires: u32,
    pub tell: Tell,
}

/// The first packet of a connection, or the first that is seen of it.
#[inline(always)]
pub fn begin(now: u32, seen: Seen, lifetimes: &Lifetimes) -> Step {
    let state = match seen {
        Seen::Tcp(flags) if flags & tcp::RST != 0 => State(State::CLOSED),
        Seen::Tcp(flags) if flags & tcp::FIN != 0 => State(State::CLOSED_HERE),
        Seen::Tcp(_) | Seen::TcpFragment => State(0),
        Seen::Other => State(State::OPEN),
    };
    Step {
        state,
        expires: fresh(now, state, lifetime(state, seen, lifetimes)),
        tell: Tell::Nothing,
    }
}

/// A packet finds its entry. `None`: it opens a new connection where the old one was closing; forget the entry.
#[inline(always)]
pub fn step(now: u32, state: State, expires: u32, seen: Seen, lifetimes: &Lifetimes) -> Option<Step> {
    if seen.opens() && state.is_closing() {
        return None;
    }
    if state.is_closed() {
        // Never longer because of what still trickles in.
        return Some(Step {
            state,
            expires,
            tell: Tell::Nothing,
        });
    }
    let (bits, news) = match seen {
        Seen::Tcp(flags) if flags & tcp::RST != 0 => {
            if state.is_open() {
                // Perhaps forged: alone it must not end a connection that goes on.
                (State::CLOSED_HERE, Tell::Closed)
            } else {
                (State::CLOSED, Tell::Reset)
            }
        }
        Seen::Tcp(flags) if flags & tcp::FIN != 0 => (State::OPEN | State::CLOSED_HERE, Tell::Closed),
        Seen::Tcp(_) if seen.has_syn() => (0, Tell::Nothing),
        Seen::Tcp(_) | Seen::TcpFragment | Seen::Other => (State::OPEN, Tell::Nothing),
    };
    let next = State(state.0 | bits);
    let lifetime = lifetime(next, seen, lifetimes);
    if next == state && !is_stale(now, expires, lifetime) {
        return Some(Step {
            state,
            expires,
            tell: Tell::Nothing,
        });
    }
    let tell = match news {
        // A SYN sent again proves nothing about the connection.
        Tell::Nothing if seen.has_syn() => Tell::Nothing,
        Tell::Nothing => Tell::Alive,
        // Told already: this way was finished before.
        Tell::Closed if state.0 & State::CLOSED_HERE != 0 => Tell::Alive,
        Tell::Alive | Tell::Closed | Tell::Reset => news,
    };
    Some(Step {
        state: next,
        expires: fresh(now, next, lifetime),
        tell,
    })
}

/// The other way's entry hears what a step told.
#[inline(always)]
pub fn told(
    now: u32,
    state: State,
    expires: u32,
    tell: Tell,
    seen: Seen,
    lifetimes: &Lifetimes,
) -> (State, u32) {
    if state.is_closed() {
        return (state, expires);
    }
    let next = match tell {
        Tell::Nothing => return (state, expires),
        Tell::Alive => State(state.0 | State::OPEN),
        Tell::Closed => State(state.0 | State::OPEN | State::CLOSED_THERE),
        Tell::Reset => State(state.0 | State::CLOSED),
    };
    (next, fresh(now, next, lifetime(next, seen, lifetimes)))
}

/// Entries that expired count as absent.
#[inline(always)]
pub const fn is_expired(now: u32, expires: u32) -> bool {
    expires <= now
}

#[inline(always)]
fn lifetime(state: State, seen: Seen, lifetimes: &Lifetimes) -> u32 {
    match seen {
        Seen::Other => lifetimes.other,
        Seen::Tcp(_) | Seen::TcpFragment => {
            if state.is_closed() {
                lifetimes.closed
            } else if state.is_open() {
                lifetimes.open
            } else {
                lifetimes.opening
            }
        }
    }
}

/// An eighth more than the lifetime, which lazy refreshing takes back. What is closed is not refreshed.
#[inline(always)]
const fn fresh(now: u32, state: State, lifetime: u32) -> u32 {
    let slack = if state.is_closed() { 0 } else { lifetime / 8 };
    now.saturating_add(lifetime).saturating_add(slack)
}

/// At least an eighth of the lifetime has passed since the entry was fresh, or the lifetime has become another one.
#[inline(always)]
const fn is_stale(now: u32, expires: u32, lifetime: u32) -> bool {
    let left = expires.saturating_sub(now);
    left <= lifetime || left > lifetime.saturating_add(lifetime / 8)
}

#[cfg(test)]
mod tests;
