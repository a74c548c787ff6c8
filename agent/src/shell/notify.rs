//! Tells systemd how the service is (`sd_notify(3)`): one datagram to the socket it names.
//!
//! Without systemd (no `NOTIFY_SOCKET`) nothing is sent and nothing fails.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// What can be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Start-up is over; with the line `systemctl status` shows.
    Ready(String),
    /// Configuration is read again, since so many microseconds of the monotonic clock.
    Reloading,
    /// Only the line `systemctl status` shows.
    Status(String),
    Watchdog,
    Stopping,
}

/// The way to the service manager.
#[derive(Debug, Default)]
pub struct Notifier {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// How often the manager wants to hear [`State::Watchdog`]: half its limit.
    pub watchdog: Option<Duration>,
}

impl Notifier {
    /// Reads `NOTIFY_SOCKET` and `WATCHDOG_USEC`.
    #[must_use]
    pub fn from_environment() -> Self {
        let socket = std::env::var("NOTIFY_SOCKET").ok().and_then(|name| {
            let address = match name.strip_prefix('@') {
                Some(abstract_name) => SocketAddr::from_abstract_name(abstract_name),
                None => SocketAddr::from_pathname(&name),
            };
            Some((UnixDatagram::unbound().ok()?, address.ok()?))
        });
        let watchdog = std::env::var("WATCHDOG_USEC")
            .ok()
            .and_then(|text| text.parse().ok())
            .map(|limit: u64| Duration::from_micros(limit / 2));
        Self { socket, watchdog }
    }

    /// A manager that does not listen is not our problem.
    pub fn tell(&self, state: &State) {
        if let Some((socket, address)) = &self.socket {
            let _ = socket.send_to_addr(text(state).as_bytes(), address);
        }
    }
}

fn text(state: &State) -> String {
    match state {
        State::Ready(line) => format!("READY=1\nSTATUS={line}\n"),
        State::Reloading => format!("RELOADING=1\nMONOTONIC_USEC={}\n", monotonic()),
        State::Status(line) => format!("STATUS={line}\n"),
        State::Watchdog => "WATCHDOG=1\n".to_owned(),
        State::Stopping => "STOPPING=1\nSTATUS=stopping\n".to_owned(),
    }
}

/// Microseconds of CLOCK_MONOTONIC, as `Type=notify-reload` wants them.
fn monotonic() -> u128 {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)
        .map(|now| Duration::from(now).as_micros())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_reach_the_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier {
            socket: Some((
                UnixDatagram::unbound().unwrap(),
                SocketAddr::from_pathname(&path).unwrap(),
            )),
            watchdog: None,
        };
        notifier.tell(&State::Ready("2 of 2 peers established".into()));
        let mut octets = [0_u8; 128];
        let length = manager.recv(&mut octets).unwrap();
        assert_eq!(&octets[..length], b"READY=1\nSTATUS=2 of 2 peers established\n");
    }

    #[test]
    fn without_a_manager_nothing_happens() {
        Notifier::default().tell(&State::Watchdog);
    }
}
